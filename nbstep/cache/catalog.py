"""What the headers of one group of entries said, as one signed text: so that the next process need not read them again.

Only ever a cache of the cache: it is used while the group's stamp stands, and losing it costs time only. It is signed under a
purpose of its own, as what it says would else be taken from anybody who can write there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from nbstep.cache.records import ErrorText, Facts, Meta
from nbstep.cache.trust import SigningKey
from nbstep.events import Place
from nbstep.stores.base import Group, Spot, Stamp

_MAGIC: Final = b"NBSTEPC1\n"
_MAC_BYTES: Final = 32
_PURPOSE: Final = "catalog:v1"
_JSON: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Listed:
    """The entries of a group as they stood when its stamp was taken, by address.

    Attributes:
        signer: Id of the key by which `trusted` was told.
        stamp: The group's; None where it had none.
        rows: Each entry with its metadata, None where its header cannot be read.
    """

    signer: str
    stamp: Stamp | None
    rows: dict[str, tuple[Spot, Meta | None]]


def encode(group: Group, rows: Sequence[tuple[Spot, Meta | None]], key: SigningKey) -> bytes | None:
    """The signed text; None where a header could not be read: why may be over by the next time."""
    numbers: dict[Any, int] = {}
    written: list[list[Any]] = []
    for spot, meta in rows:
        if meta is None or spot.stamp is None:
            return None
        facts = meta.facts
        shared = (
            meta.outcome, meta.type, meta.shape, meta.error, meta.signer, meta.trusted, meta.python,
            tuple(meta.packages.items()), facts.awaitable, facts.returned, facts.ttl_s, facts.workflow, facts.place,
            tuple(facts.code.items()), facts.source, facts.uses,
        )  # fmt: skip
        number = numbers.setdefault(shared, len(numbers))
        written.append([spot.address, *spot.stamp, meta.key, meta.created, meta.preview, facts.took_s, number])
    told = [
        [*one[:3], _error_fields(one[3]), *one[4:7], dict(one[7]), *one[8:12], _place_fields(one[12]), dict(one[13]), *one[14:]]
        for one in numbers
    ]  # fmt: skip
    text = _JSON.encode([group.name, group.stamp, told, written]).encode("ascii")
    return _MAGIC + key.sign(_PURPOSE, text) + text


def decode(content: bytes, group: str, key: SigningKey, now: float) -> Listed | None:
    """What a text says of a group; None where it is not ours, or says nothing that can be read."""
    mac, text = content[len(_MAGIC) : len(_MAGIC) + _MAC_BYTES], content[len(_MAGIC) + _MAC_BYTES :]
    if not content.startswith(_MAGIC) or not key.verifies(_PURPOSE, text, mac):
        return None
    try:
        name, stamp, told, written = json.loads(text.decode("ascii"))
        if name != group:
            return None
        return Listed(key.id, tuple(stamp), _rows(told, written, now))
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        return None  # another version of nbstep wrote it


def _rows(told: list[list[Any]], written: list[list[Any]], now: float) -> dict[str, tuple[Spot, Meta | None]]:
    shared = [(one[:7], one[7], _facts(one[8:])) for one in told]
    found: dict[str, tuple[Spot, Meta | None]] = {}
    for address, time_ns, size, inode, key, created, preview, took_s, number in written:
        (outcome, type_, shape, error, signer, trusted, python), packages, facts = shared[number]
        if facts.took_s != took_s:
            facts = replace(facts, took_s=took_s)
        spot = Spot(address, address[65:], (time_ns, size, inode), size)
        meta = Meta(
            key, outcome, min(created, now), size, type_, shape, preview,
            None if error is None else ErrorText(*error), signer, trusted, python, packages, facts,
        )  # fmt: skip
        found[address] = (spot, meta)
    return found


def _facts(fields: list[Any]) -> Facts:
    awaitable, returned, ttl_s, workflow, place, code, source, uses = fields
    return Facts(0.0, awaitable, returned, ttl_s, workflow, Place(*place), code, source, tuple(uses))


def _error_fields(error: ErrorText | None) -> list[Any] | None:
    return None if error is None else [error.type, error.message, error.traceback, error.transient]


def _place_fields(place: Place) -> list[Any]:
    return [place.notebook, place.cell, place.line]
