"""What the headers of one group of entries said, as one signed text: so that the next process need not read them again.

Only ever a cache of the cache: it is used while the group's stamp stands, and losing it costs time only. It is signed under a
purpose of its own, as what it says would else be taken from anybody who can write there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from nbstep.cache.records import ErrorText, Facts, Meta
from nbstep.cache.trust import SigningKey
from nbstep.events import Place
from nbstep.stores.base import Group, Stamp

_MAGIC: Final = b"NBSTEPC1\n"
_MAC_BYTES: Final = 32
_PURPOSE: Final = "catalog:v1"
_JSON: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))


Row: TypeAlias = tuple[Stamp | None, Meta | None]  # of an entry; no metadata where its header cannot be read


@dataclass(frozen=True, slots=True)
class Listed:
    """The entries of a group as they stood when its stamp was taken.

    Attributes:
        name: The group's.
        signer: Id of the key by which `trusted` was told.
        stamp: The group's; None where it had none, or not every entry could be read.
        rows: By address, in its order.
    """

    name: str
    signer: str
    stamp: Stamp | None
    rows: dict[str, Row]


def encode(group: Group, rows: Mapping[str, Row], key: SigningKey) -> bytes | None:
    """The signed text; None where a header could not be read: why may be over by the next time."""
    numbers: dict[Any, int] = {}
    written: list[tuple[Any, ...]] = []
    for address, (stamp, meta) in rows.items():
        if meta is None or stamp is None:
            return None
        facts = meta.facts
        shared = (
            meta.outcome, meta.type, meta.shape, meta.error, meta.signer, meta.trusted, meta.python,
            tuple(meta.packages.items()), facts.awaitable, facts.returned, facts.ttl_s, facts.workflow, facts.place,
            tuple(facts.code.items()), facts.source, facts.names,
        )  # fmt: skip
        number = numbers.setdefault(shared, len(numbers))
        own = facts.took_s, dict(facts.inputs), facts.accepted, facts.uses, facts.uses_beyond
        written.append((address, *stamp, meta.key, meta.created, meta.preview, *own, number))
    told = [
        [*one[:3], _error_fields(one[3]), *one[4:7], dict(one[7]), *one[8:12], _place_fields(one[12]), dict(one[13]), *one[14:]]
        for one in numbers
    ]  # fmt: skip
    # By columns: reading them makes a few long lists instead of many short ones.
    text = _JSON.encode([group.name, group.stamp, told, list(zip(*written, strict=True))]).encode("ascii")
    return _MAGIC + key.sign(_PURPOSE, text) + text


def decode(content: bytes, group: str, key: SigningKey, now: float) -> Listed | None:
    """What a text says of a group; None where it is not ours, or says nothing that can be read."""
    mac, text = content[len(_MAGIC) : len(_MAGIC) + _MAC_BYTES], content[len(_MAGIC) + _MAC_BYTES :]
    if not content.startswith(_MAGIC) or not key.verifies(_PURPOSE, text, mac):
        return None
    try:
        name, stamp, told, columns = json.loads(text.decode("ascii"))
        return (
            Listed(name, key.id, tuple(stamp), _rows(told, zip(*columns, strict=True), now)) if name == group else None
        )
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        return None  # another version of nbstep wrote it


def _rows(told: list[list[Any]], written: Iterable[tuple[Any, ...]], now: float) -> dict[str, Row]:
    shared = [_told(one) for one in told]
    found: dict[str, Row] = {}
    for address, time_ns, size, inode, key, created, preview, took_s, inputs, accepted, uses, beyond, number in written:
        (outcome, type_, shape, error, signer, trusted, python, packages), facts, further = shared[number]
        if inputs or uses or facts.took_s != took_s or accepted is not None:
            own = tuple(uses), facts.names, inputs, {}, accepted, beyond
            facts = Facts(took_s, *further, *own)  # pyright: ignore[reportCallIssue]
        found[address] = (time_ns, size, inode), Meta(
            key, outcome, created if created < now else now, size, type_, shape, preview, error, signer, trusted, python,
            packages, facts, created - now if created > now else 0.0,
        )  # fmt: skip
    return found


def _told(fields: list[Any]) -> tuple[tuple[Any, ...], Facts, tuple[Any, ...]]:
    """What entries have in common: of their metadata, of their facts as a whole, and those one by one."""
    outcome, type_, shape, error, signer, trusted, python, packages, *facts = fields
    awaitable, returned, ttl_s, workflow, place, code, source, names = facts
    further = (awaitable, returned, ttl_s, workflow, Place(*place), code, source)
    failure = None if error is None else ErrorText(*error)
    return (
        (outcome, type_, shape, failure, signer, trusted, python, packages),
        Facts(0.0, *further, names=None if names is None else tuple(names)),
        further,
    )


def _error_fields(error: ErrorText | None) -> list[Any] | None:
    return None if error is None else [error.type, error.message, error.traceback, error.transient]


def _place_fields(place: Place) -> list[Any]:
    return [place.notebook, place.cell, place.line]
