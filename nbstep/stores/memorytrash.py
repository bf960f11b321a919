"""The trash of stores that have none of their own: removed entries, in this kernel's memory, for 24 hours."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from nbstep.forks import ThreadLock
from nbstep.stores.base import Totals, TrashTotals

KEPT_FOR_NS: Final = 24 * 3600 * 1_000_000_000
HELD_BYTES_AT_MOST: Final = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Removed:
    """An entry that was removed, with the batch it belongs to."""

    key: str
    content: bytes
    batch: str
    at_ns: int


class MemoryTrash:
    """Removed entries, oldest first; the oldest go for good when they are too many for memory."""

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._lock = ThreadLock()
        self._items: list[Removed] = []

    def add(self, key: str, content: bytes, batch: str) -> Removed:
        """Takes an entry in."""
        with self._lock:
            added = Removed(key, content, batch, self._clock())
            self._items.append(added)
            before = self._clock() - KEPT_FOR_NS
            held = sum(len(item.content) for item in self._items)
            while self._items and (self._items[0].at_ns < before or held > HELD_BYTES_AT_MOST):
                held -= len(self._items.pop(0).content)
            return added

    def take_back(self, key: str | None, back: int = 1) -> list[Removed]:
        """Hands out the last batch, or the last entry of `key`; with `back` 2 the one before it.

        Of two entries of one key in a batch the older is handed out: it was there before the batch. The other stays.
        """
        with self._lock:
            of_key = [item for item in self._items if key is None or item.key == key]
            if len(of_key) < back:
                return []
            if key is not None:
                chosen = [of_key[-back]]
            else:
                oldest: dict[str, Removed] = {}
                for item in of_key:
                    if item.batch == of_key[-1].batch:
                        oldest.setdefault(item.key, item)
                chosen = list(oldest.values())
            taken = {id(item) for item in chosen}
            self._items = [item for item in self._items if id(item) not in taken]
            return chosen

    def take_last(self, key: str, batch: str) -> Removed | None:
        """Hands out the last entry of `key` in a batch; None where there is none."""
        with self._lock:
            found = next((item for item in reversed(self._items) if (item.key, item.batch) == (key, batch)), None)
            self._items = [item for item in self._items if item is not found]
            return found

    def waiting(self, batch: str | None) -> list[tuple[Removed, int]]:
        """Each entry with which of its key it is, 1 the last one; with `batch` those of one batch."""
        with self._lock:
            seen = Counter[str]()
            found: list[tuple[Removed, int]] = []
            for item in reversed(self._items):
                seen[item.key] += 1
                if batch in (None, item.batch):
                    found.append((item, seen[item.key]))
            return found

    def put_back(self, items: Sequence[Removed]) -> None:
        """Takes in again what was handed out and did not come to its place; each keeps its time, and so its turn."""
        with self._lock:
            self._items = sorted([*items, *self._items], key=lambda item: item.at_ns)

    def drop(self, item: Removed) -> None:
        """Removes one entry for good: what it is a copy of still stands in its place."""
        with self._lock:
            self._items = [one for one in self._items if one is not item]

    def holds(self, key: str) -> bool:
        """Whether an entry of `key` is here."""
        with self._lock:
            return bool(self._items) and any(item.key == key for item in self._items)

    def totals(self) -> TrashTotals:
        """What waits here."""
        with self._lock:
            return TrashTotals(len(self._items), sum(len(item.content) for item in self._items))

    def collect(self, *, dry_run: bool) -> Totals:
        """Removes what has been here for 24 hours; with `dry_run` only says what."""
        with self._lock:
            before = self._clock() - KEPT_FOR_NS
            old = [len(item.content) for item in self._items if item.at_ns < before]
            if not dry_run:
                self._items = [item for item in self._items if item.at_ns >= before]
            return Totals(len(old), sum(old))

    def empty(self) -> int:
        """Removes everything here for good; returns how many entries."""
        with self._lock:
            count = len(self._items)
            self._items = []
            return count
