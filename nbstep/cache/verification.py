"""Every byte of every entry, read and checked, without unpickling anything."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from nbstep.cache import entry
from nbstep.cache.acceptance import check_binding, names
from nbstep.cache.records import Meta, Unreadable
from nbstep.cache.trust import SigningKey
from nbstep.stores.base import FAMILY, Document, Spot, Store
from nbstep.stores.files import key_digest

Verdict: TypeAlias = Literal["good", "corrupt", "untrusted", "unreadable"]

BITS: Final[dict[Verdict, int]] = {"good": 0, "corrupt": 1, "untrusted": 2, "unreadable": 4}


@dataclass(frozen=True, slots=True)
class Checked:
    """One entry after every byte of it was read.

    Attributes:
        address: The store's own name for it.
        key: The user's key; None where its header cannot be read.
        verdict: What it is.
        why: What is wrong with it, "" where nothing is.
        size_bytes: The whole entry, as far as known.
        beside_own: It is untrusted, and a good entry of the user's own has its key.
    """

    address: str
    key: str | None
    verdict: Verdict
    why: str
    size_bytes: int
    beside_own: bool = False


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify()` found: how many entries it read, how many bytes they are, and those that are not good."""

    checked: int
    size_bytes: int
    bad: tuple[Checked, ...]

    @property
    def bits(self) -> int:
        """1 where an entry is corrupt, 2 where one is untrusted, 4 where one is unreadable, added up."""
        bits = 0
        for found in self.bad:
            bits |= BITS[found.verdict]
        return bits

    def count(self, verdict: Verdict) -> int:
        """How many entries got this verdict."""
        if verdict == "good":
            return self.checked - len(self.bad)
        return sum(found.verdict == verdict for found in self.bad)


async def verify(
    store: Store, pattern: str, own: SigningKey, now: float, tell: Callable[[int, int], None]
) -> Verification:
    """Reads the entries under the keys that match a glob; one whose key cannot be read counts where it may be meant."""
    spots = await store.spots()
    total = sum(spot.size_bytes for spot in spots)
    read_bytes = 0
    found: list[Checked] = []
    for spot in spots:
        tell(read_bytes, total)
        read_bytes += spot.size_bytes
        checked = await check(store, spot, pattern, own, now)
        if checked is not None:
            found.append(checked)
    tell(total, total)
    own_keys = {one.key for one in found if one.verdict == "good"}
    bad = sorted((one for one in found if one.verdict != "good"), key=lambda one: (one.key or "", one.address))
    marked = (replace(one, beside_own=one.verdict == "untrusted" and one.key in own_keys) for one in bad)
    return Verification(len(found), sum(one.size_bytes for one in found), tuple(marked))


async def check(
    store: Store, spot: Spot, pattern: str, own: SigningKey, now: float, *, content: bool = True
) -> Checked | None:
    """The verdict on one entry, without its content on its header alone.

    None where it is gone meanwhile, is not asked for, or is the user's own and no entry.
    """
    meta: Meta | None = None
    size_bytes = spot.size_bytes
    try:
        document = await store.open_spot(spot)
        if document is None or _is_no_entry(document, spot):
            return None
        size_bytes = document.size_bytes
        head = entry.read_head(document, own, now)
        meta = head.meta
        if not names(pattern, meta.key):
            return None
        check_binding(spot, meta)
        if content:
            entry.read_payload(document, head)
    except Unreadable as problem:
        cannot_say = problem.reason == "incompatible" or isinstance(problem.__cause__, OSError)
        verdict: Verdict = "unreadable" if cannot_say else "corrupt"
        why = problem.detail
    except (OSError, ValueError) as problem:
        if isinstance(problem, ValueError) and spot.signer is None:
            return None  # what the user's own store holds there is no entry
        verdict, why = "unreadable", str(getattr(problem, "strerror", None) or problem)
    else:
        verdict, why = ("good", "") if meta.trusted else ("untrusted", f"signed by key {_known(meta.signer)}")
    if meta is None and pattern != "*" and not _may_be(spot, pattern):
        return None
    return Checked(spot.address, None if meta is None else meta.key, verdict, why, size_bytes)


def _may_be(spot: Spot, key: str) -> bool:
    return spot.address in (key, f"{key_digest(key)}.{spot.signer}")


def _is_no_entry(document: Document, spot: Spot) -> bool:
    return spot.signer is None and document.read(0, len(FAMILY)) != FAMILY


def _known(signer: str) -> str:
    return signer if re.fullmatch(r"[0-9a-f]{8}", signer) else "of an unknown form"
