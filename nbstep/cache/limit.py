"""`max_bytes`: what is evicted to make room, and when the cache is counted anew."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from nbstep.cache.records import Meta
from nbstep.durations import size_text
from nbstep.forks import ThreadLock
from nbstep.stores.base import NoRoom, Spot

YOUNG_S: Final = 60.0
_DOWN_TO: Final = 0.9
_RECOUNT_AFTER_S: Final = 60.0
_RECOUNT_SHARE: Final = 0.01  # other kernels write too; looking takes at most this part of the time


@dataclass(frozen=True, slots=True)
class Use:
    """An entry and its use; times are seconds since the epoch. One whose header cannot be read has no key, and no use."""

    spot: Spot
    key: str | None
    size_bytes: int
    created: float
    last_used: float


def use_of(spot: Spot, meta: Meta | None, now: float, last_used: float) -> Use:
    """The use of one entry; to be kept was its first use, and a time in the future counts as now."""
    if meta is None:
        written = min(spot.stamp[0] / 1e9, now) if spot.stamp else 0.0
        return Use(spot, None, spot.size_bytes, written, 0.0)
    return Use(spot, meta.key, meta.size_bytes, meta.created, max(meta.created, min(last_used, now)))


def choose(entries: Sequence[Use], excess: int, wish: int, now: float) -> list[Use] | None:
    """The least recently used entries that free `wish` bytes, or at least `excess`; None where even that cannot be had.

    Entries of the last minute stay: a run that does not fit keeps its first steps rather than none.

    >>> old, used = Use(Spot("a"), "a", 10, 0.0, 50.0), Use(Spot("b"), "b", 10, 0.0, 90.0)
    >>> [one.key for one in choose([used, old], 5, 5, now=100.0)], choose([used, old], 50, 50, now=100.0)
    (['a'], None)
    """
    chosen: list[Use] = []
    freed = 0
    for one in sorted(entries, key=lambda one: one.last_used):
        if freed >= wish:
            break
        if one.key is None or now - one.created >= YOUNG_S:
            chosen.append(one)
            freed += one.size_bytes
    return chosen if freed >= excess else None


class Counted(Protocol):
    """What can say how much it holds."""

    async def held_bytes(self) -> int:
        """Entries and trash."""
        ...


class Limit:
    """How much a cache holds, as far as is known without looking, and how much it may."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.uses: dict[str, float] = {}
        self._lock = ThreadLock()
        self._held = 0
        self._counted_at: float | None = None
        self._counting_took_s = 0.0

    def used(self, key: str, now: float) -> None:
        """Notes a hit; the run log has it only when the run ends."""
        self.uses[key] = now

    def check(self, size: int) -> None:
        """Raises `NoRoom` for an entry that would push out half of all others."""
        if size > self.max_bytes // 2:
            raise NoRoom(f"it takes {size_text(size)}, more than half of max_bytes={size_text(self.max_bytes)}")

    def surely_holds(self, size: int) -> bool:
        """Whether one entry more fits, by a count that is recent enough."""
        with self._lock:
            if self._counted_at is None:
                return False
            recount_after_s = max(_RECOUNT_AFTER_S, self._counting_took_s / _RECOUNT_SHARE)
            recent = time.monotonic() - self._counted_at < recount_after_s
            return recent and self._held + size <= self.max_bytes

    def add(self, size: int) -> None:
        """An entry was published."""
        with self._lock:
            self._held += size

    async def excess(self, counted: Counted, size: int) -> int:
        """Counts anew; how many bytes must go before `size` more fit, 0 or less where they do."""
        began = time.monotonic()
        held = await counted.held_bytes()
        with self._lock:
            self._held = held
            self._counted_at = time.monotonic()
            self._counting_took_s = self._counted_at - began
        return held + size - self.max_bytes

    def wish(self, excess: int) -> int:
        """How much to free at once, so that the next entries need nothing."""
        return excess + int(self.max_bytes * (1 - _DOWN_TO))

    def full(self, size: int) -> NoRoom:
        """The error where nothing may go."""
        return NoRoom(
            f"max_bytes={size_text(self.max_bytes)} is taken by entries of the last minute, and this one needs "
            f"{size_text(size)}: raise max_bytes"
        )
