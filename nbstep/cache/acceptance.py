"""Entries of other signers, accepted: what is there, and how it becomes one's own, without unpickling anything."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from nbstep.cache import entry
from nbstep.cache.records import SYNC_FROM_S, Meta, Unreadable
from nbstep.cache.secrets.redaction import key_text
from nbstep.cache.trust import SigningKey
from nbstep.stores.base import Document, Spot, Store
from nbstep.stores.files import key_digest


@dataclass(frozen=True, slots=True)
class Offered:
    """One entry that somebody else signed: where it stands, what it says, and the digest of its very header."""

    spot: Spot
    meta: Meta
    digest: bytes


@dataclass(frozen=True, slots=True)
class Offer:
    """What `trust` would accept.

    Attributes:
        entries: One for each key, oldest first.
        passed_over: How many more there are of the same signers whose key one's own entry has, or a newer one.
        of_other_signers: How many more there are that another key than `signed_by` signed.
        signed_by: The key whose signature each one must carry; None where any signer is accepted.
    """

    entries: tuple[Offered, ...]
    passed_over: int
    of_other_signers: int
    signed_by: SigningKey | None

    @property
    def size_bytes(self) -> int:
        """Of all of them."""
        return sum(offered.meta.size_bytes for offered in self.entries)

    @property
    def signers(self) -> dict[str, int]:
        """How many entries each signer has."""
        counts: dict[str, int] = {}
        for offered in self.entries:
            counts[offered.meta.signer] = counts.get(offered.meta.signer, 0) + 1
        return counts


@dataclass(frozen=True, slots=True)
class Accepted:
    """What `trust` did: the keys accepted, and each one refused with the reason."""

    keys: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]


async def offer(store: Store, pattern: str, own: SigningKey, signed_by: SigningKey | None, now: float) -> Offer:
    """Looks for entries of other signers whose keys match a glob; reads headers only."""
    mine: set[str] = set()
    theirs: list[Offered] = []
    for spot in await store.spots():
        found = await _read(store, spot, own, now)
        if found is None:
            continue
        if found.meta.trusted:
            mine.add(found.meta.key)
        elif names(pattern, found.meta.key):
            theirs.append(found)
    fitting = [one for one in theirs if signed_by is None or one.meta.signer == signed_by.id]
    newest: dict[str, Offered] = {}
    for offered in sorted(fitting, key=lambda offered: offered.meta.created):
        if offered.meta.key not in mine:
            newest.pop(offered.meta.key, None)
            newest[offered.meta.key] = offered
    return Offer(tuple(newest.values()), len(fitting) - len(newest), len(theirs) - len(fitting), signed_by)


async def accept(
    store: Store, offered: Offer, own: SigningKey, now: float, tell: Callable[[int, int], None]
) -> Accepted:
    """Publishes each entry anew under one's own signature; what the other signer wrote goes for good once that was read back.

    It was the same value under another signature: an undo would only put it beside the new entry, or give back what a key
    that leaked had signed. Every digest is checked first, and the key that the header names against the place where the
    entry stands. An entry that is no longer what was offered is refused.
    """
    keys: list[str] = []
    refused: list[tuple[str, str]] = []
    done_bytes = 0
    for one in offered.entries:
        tell(done_bytes, offered.size_bytes)
        done_bytes += one.meta.size_bytes
        try:
            document = await store.open_spot(one.spot)
            if document is None:
                raise Unreadable("unreadable", "it is gone")
            parts = _signed_anew(document, one, offered.signed_by, own, now)
            durable = one.meta.facts.took_s > SYNC_FROM_S
            await store.publish(one.meta.key, own.id, parts, durable=durable, batch=None)
            await _read_back(store, one.meta.key, own, now)
            if one.spot.signer is not None:  # else the new one took its place
                await store.evict([one.spot], ())
        except (Unreadable, OSError, ValueError) as problem:
            refused.append((one.meta.key, str(getattr(problem, "strerror", None) or problem)))
        else:
            keys.append(one.meta.key)
    tell(offered.size_bytes, offered.size_bytes)
    return Accepted(tuple(keys), tuple(refused))


def names(pattern: str, key: str) -> bool:
    """Whether `pattern` is this key, the key as shown, or a glob for it."""
    return pattern in (key, key_text(key)) or fnmatch.fnmatchcase(key, pattern)


def check_binding(spot: Spot, meta: Meta) -> None:
    """Raises `Unreadable` where an entry stands under another key or signer than its header names (T5)."""
    expected = meta.key if spot.signer is None else f"{key_digest(meta.key)}.{meta.signer}"
    if spot.address != expected:
        raise Unreadable("unreadable", f"it is the entry of another key, {meta.key!r:.100}, or of another signer")


def _signed_anew(
    document: Document, one: Offered, signed_by: SigningKey | None, own: SigningKey, now: float
) -> list[entry.Part]:
    header = entry.read_header(document)
    head = entry.head_of(header, signed_by or own, document.size_bytes, now)
    if signed_by is not None and not head.meta.trusted:
        raise Unreadable("untrusted", "the given key did not sign it")
    check_binding(one.spot, head.meta)
    if _digest(header) != one.digest:
        raise Unreadable("unreadable", "it changed meanwhile")
    stream, buffers = entry.read_payload(document, head)
    return entry.lay_out(entry.sign_header(header.fields, own), stream, buffers)


async def _read_back(store: Store, key: str, own: SigningKey, now: float) -> None:
    """Raises `Unreadable` where what was just published cannot be used: then the other signer's file stays."""
    document = await store.open(key, own.id)
    if document is None:
        raise Unreadable("unreadable", "it was not there any more when it was read back")
    head = entry.read_head(document, own, now)
    if not head.meta.trusted or head.meta.key != key:
        raise Unreadable("unreadable", "what was read back is another entry")
    entry.read_payload(document, head)


async def _read(store: Store, spot: Spot, own: SigningKey, now: float) -> Offered | None:
    try:
        document = await store.open_spot(spot)
        if document is None:
            return None
        header = entry.read_header(document)
        return Offered(spot, entry.head_of(header, own, document.size_bytes, now).meta, _digest(header))
    except (Unreadable, OSError, ValueError):
        return None


def _digest(header: entry.SignedHeader) -> bytes:
    return hashlib.sha256(header.signed + header.mac).digest()
