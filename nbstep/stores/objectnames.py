"""What the objects of a cache are called, and what their names say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from nbstep.stores.objects import Found

FOLDER: Final = "v1/e"
_ENTRY: Final = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{8}")
_NAME: Final = re.compile(r"v1/e/([0-9a-f]{64})/([0-9a-f]{8})(?:\.([0-9]{19})\.([0-9a-f]{16}))?")


@dataclass(frozen=True, slots=True)
class Trashed:
    """An object in the trash: the entry's address, when it went there, with which batch, and the object."""

    address: str
    at_ns: int
    batch: str
    found: Found


def is_address(text: str) -> bool:
    """Whether a text is `<sha256 of the key>.<signer>`."""
    return _ENTRY.fullmatch(text) is not None


def object_name(address: str) -> str:
    """The name of the object that is the entry at an address."""
    return f"{FOLDER}/{address[:64]}/{address[65:]}"


def sorted_out(found: Sequence[Found]) -> tuple[dict[str, Found], list[Trashed]]:
    """The entries that stand, by address, and those in the trash; any other object is none of ours."""
    standing: dict[str, Found] = {}
    trashed: list[Trashed] = []
    for one in found:
        named = _NAME.fullmatch(one.name)
        if named is None:
            continue
        address = f"{named[1]}.{named[2]}"
        if named[3] is None:
            standing[address] = one
        else:
            trashed.append(Trashed(address, int(named[3]), named[4], one))
    return standing, trashed


def oldest_of_each(trashed: Iterable[Trashed]) -> list[Trashed]:
    """Of several entries of one address in a batch the oldest: it was there before the batch."""
    oldest: dict[str, Trashed] = {}
    for one in sorted(trashed, key=lambda one: one.at_ns):
        oldest.setdefault(one.address, one)
    return list(oldest.values())
