"""`max_bytes`: what is evicted to make room, and when the cache is counted anew."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from nbstep.cache.records import Meta
from nbstep.durations import size_text
from nbstep.forks import ThreadLock
from nbstep.stores.base import NoRoom, Spot
from nbstep.stores.written import Written

_AHEAD_S: Final = 3600.0  # clocks of two machines differ by less
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


def use_of(spot: Spot, meta: Meta | None, now: float, *used: float) -> Use:
    """The use of one entry; to be kept was its first use.

    Times that a clock far ahead wrote say nothing: an entry that has no others counts as used least recently. Else it would
    stay, and each new one go, until the clock has come so far.
    """
    if meta is None:
        return Use(spot, None, spot.size_bytes, spot.stamp[0] / 1e9 if spot.stamp else 0.0, 0.0)
    times = [at for at in (meta.created + meta.ahead_s, *used) if at <= now + _AHEAD_S]
    return Use(spot, meta.key, meta.size_bytes, meta.created, max(times, default=0.0))


def choose(entries: Sequence[Use], excess: int, wish: int, replaced: str | None = None) -> list[Use] | None:
    """The least recently used entries that free `wish` bytes, or at least `excess`; None where even that cannot be had.

    However young they are: the one that is about to be kept is the most recently used of all, and the next run asks in the
    order of this one. Evicting harms no step that runs, since what it has read or mapped stays as it is.

    Args:
        entries: All there are.
        excess: Bytes that must go.
        wish: Bytes to free where that is possible, so that the next entries need nothing.
        replaced: The key that is about to be kept: its old entry goes last, since `undo` is to bring it back (E6).

    >>> old, used = Use(Spot("a"), "a", 10, 0.0, 50.0), Use(Spot("b"), "b", 10, 0.0, 90.0)
    >>> [one.key for one in choose([used, old], 5, 5)], choose([used, old], 50, 50)
    (['a'], None)
    """
    chosen: list[Use] = []
    freed = 0
    for one in sorted(entries, key=lambda one: (one.key == replaced is not None, one.last_used, one.spot.stamp or ())):
        if freed >= wish or (freed >= excess and one.key == replaced is not None):
            break
        chosen.append(one)
        freed += one.size_bytes
    return chosen if freed >= excess else None


class Counted(Protocol):
    """What can say how much it holds."""

    async def held_bytes(self) -> int:
        """Entries and trash."""
        ...


class Limit:
    """How much a cache holds, as far as is known without looking, and how much it may.

    It holds for all processes that have a limit on one cache directory: each knows what the others wrote since it counted. For
    a moment there may be more by the entries that others are writing just then. What processes without a limit write is found
    when this one counts anew, after a minute at most while entries are not very many.

    Args:
        max_bytes: What entries and trash may take.
        directory: The `.nbstep` folder; None for a store that is no folder, where only this process's entries are known.
    """

    def __init__(self, max_bytes: int, directory: Path | None = None) -> None:
        self.max_bytes = max_bytes
        self._written = None if directory is None else Written(directory)
        self.uses: dict[str, float] = {}
        self._lock = ThreadLock()
        self._held = 0
        self._blind = False
        self._counted_at: float | None = None
        self._counting_took_s = 0.0

    def used(self, key: str, now: float) -> None:
        """Notes a hit; the run log has it only when the run ends."""
        self.uses[key] = now

    def check(self, size: int) -> None:
        """Raises `NoRoom` for an entry that would push out half of all others."""
        if size > self.max_bytes // 2:
            raise NoRoom(
                f"it takes {size_text(size)}, more than half of max_bytes={size_text(self.max_bytes)}: raise max_bytes"
            )

    def surely_holds(self, size: int) -> bool:
        """Whether one entry more fits, by a count that is recent enough."""
        with self._lock:
            others = 0 if self._written is None else self._written.note(size)
            if self._counted_at is None or (others is None and not self._blind):
                self._blind = others is None  # if it stays unknown after counting, there is nothing to know here
                return False
            self._blind = others is None
            recount_after_s = max(_RECOUNT_AFTER_S, self._counting_took_s / _RECOUNT_SHARE)
            recent = time.monotonic() - self._counted_at < recount_after_s
            return recent and self._held + (others or 0) + size <= self.max_bytes

    def add(self, size: int) -> None:
        """An entry was published."""
        with self._lock:
            self._held += size

    async def excess(self, counted: Counted, size: int) -> int:
        """Counts anew; how many bytes must go before `size` more fit, 0 or less where they do."""
        began = time.monotonic()
        with self._lock:
            if self._written is not None:
                self._written.mark()  # before looking: what comes meanwhile counts twice rather than never
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
        """The error where not enough can go."""
        return NoRoom(
            f"max_bytes={size_text(self.max_bytes)} is taken by what cannot be removed, and this one needs "
            f"{size_text(size)}: raise max_bytes"
        )
