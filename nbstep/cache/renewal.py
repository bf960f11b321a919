"""Old values, accepted: each entry published anew with the fingerprints that its last look-up found. Nothing is run or loaded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from nbstep.cache import acceptance, drifted, entry
from nbstep.cache.acceptance import Accepted
from nbstep.cache.drifted import Drifted
from nbstep.cache.records import SYNC_FROM_S, Meta, Unreadable
from nbstep.cache.secrets.redaction import key_text
from nbstep.cache.trust import SigningKey
from nbstep.foreign import interrupts
from nbstep.runlog import Usage
from nbstep.stores.base import Part, Store
from nbstep.stores.locks import KeyLock

NOTHING_CHANGED: Final = (
    "no look-up since it was kept found anything changed. Did its code change just now? "
    "Run its cell once (it uses what is kept), then accept"
)
_NOT_RECORDED: Final = "what its code is today was not noted: run its cell here (it uses what is kept), then accept"
_IS_COMPUTED: Final = "its step is running right now"


def wanted_by(patterns: Sequence[str], metas: Iterable[Meta]) -> dict[str, bool]:
    """The keys that keys and globs name, each with whether that is by name."""
    found = {meta.key: [one for one in patterns if acceptance.names(one, meta.key)] for meta in metas}
    return {key: any(one in (key, key_text(key)) for one in names) for key, names in found.items() if names}


def last_drift(store: Store, key: str, usage: Usage | None, own: SigningKey) -> Drifted | None:
    """What the last look-up of a key found changed: in this process, else by the run log."""
    found = drifted.known_of(store).get(key)
    if found is not None or usage is None or usage.seen is None:
        return found
    return drifted.from_log(usage.seen, key, usage.drift or "", usage.drift_at, own)


async def renew(
    store: Store,
    metas: Iterable[Meta],
    wanted: Mapping[str, bool],
    usage: Mapping[str, Usage],
    own: SigningKey,
    now: float,
    note_size: Callable[[int], Awaitable[None]],
    why_not: Callable[[BaseException], str],
    batch: str,
) -> Accepted:
    """Accepts the old values under some keys.

    Args:
        store: Where they are.
        metas: What is kept there.
        wanted: The keys, each with whether it was asked for by name: then it is said why it cannot be accepted.
        usage: What the run log says of each key.
        own: The user's key.
        now: Seconds since the epoch.
        note_size: Told of each entry's bytes once it is published.
        why_not: One line for what went wrong.
        batch: Groups what is replaced, so that one `undo()` brings all of it back.
    """
    keys: list[str] = []
    refused: list[tuple[str, str]] = []
    for meta in metas:
        if not meta.trusted or meta.key not in wanted:
            continue
        found = last_drift(store, meta.key, usage.get(meta.key), own)
        if found is None or not found.is_news(meta.created, meta.facts):
            why = _why_unknown(meta, usage.get(meta.key), by_name=wanted[meta.key])
            refused += [(meta.key, why)] if why else []
            continue
        try:
            await _renew_one(store, meta, found, own, now, note_size, batch)
        except Unreadable as problem:
            refused.append((meta.key, problem.detail))
        except interrupts():
            raise
        except BaseException as error:  # noqa: BLE001 - a store of the user's may fail in any way: the others go on
            refused.append((meta.key, why_not(error)))
        else:
            keys.append(meta.key)
    return Accepted(tuple(keys), tuple(refused))


def _why_unknown(meta: Meta, usage: Usage | None, *, by_name: bool) -> str:
    if usage is not None and usage.drift_since(meta.created, meta.facts.accepted):
        return _NOT_RECORDED
    return NOTHING_CHANGED if by_name else ""


async def _renew_one(
    store: Store,
    meta: Meta,
    found: Drifted,
    own: SigningKey,
    now: float,
    note_size: Callable[[int], Awaitable[None]],
    batch: str,
) -> None:
    lock = KeyLock() if store.locks is None else store.locks.take(meta.key)
    if lock is None:
        raise Unreadable("unreadable", _IS_COMPUTED)
    try:
        parts = await _signed_anew(store, meta.key, found, own, now)
        durable = meta.facts.took_s > SYNC_FROM_S
        await store.publish(meta.key, own.id, parts, durable=durable, batch=batch)
    finally:
        lock.release()
    await note_size(sum(len(part) for part in parts))


async def _signed_anew(store: Store, key: str, found: Drifted, own: SigningKey, now: float) -> list[Part]:
    document = await store.open(key, own.id)
    if document is None:
        raise Unreadable("unreadable", "it is gone")
    header = entry.read_header(document)
    head = entry.head_of(header, own, document.size_bytes, now)
    if not head.meta.trusted or head.meta.key != key:
        raise Unreadable("untrusted", "it is not an entry of your own under this key")
    if not found.is_of(head.mark):
        raise Unreadable("unreadable", "another value was kept since its last look-up: run its cell again")
    stream, buffers = entry.read_payload(document, head)
    facts = replace(found.today(head.meta.facts), accepted=now)
    return entry.lay_out(entry.sign_header(entry.with_facts(header.fields, facts), own), stream, buffers)
