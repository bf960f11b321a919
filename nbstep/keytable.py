"""A table of keys that says whether it has met one, in some 30 bytes a key however long they are."""

from __future__ import annotations

from array import array
from typing import Final

_FIRST_SLOTS: Final = 1024
_DIGEST: Final = (1 << 64) - 1


class KeyTable:
    """Numbers by key, without the keys: of each it holds a digest of 64 bits.

    A key that was never put in is told for certain but for one chance in ten million, where there are a million keys. It takes no
    lock.

    >>> table = KeyTable()
    >>> table.add("a", 1), table.add("b", 2), table.add("a", 3), len(table)
    (None, None, 1, 2)
    >>> "b" in table, "c" in table
    (True, False)
    """

    def __init__(self) -> None:
        self._slots = array("Q", bytes(16 * _FIRST_SLOTS))  # digest, number, digest, number …; no digest is 0
        self._mask = _FIRST_SLOTS - 1
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: str) -> bool:
        return self._slots[self._place(hash(key) & _DIGEST or 1)] != 0

    def add(self, key: str, number: int = 0) -> int | None:
        """Remembers a key that is new, with a number of 64 bits; of one that is known gives the number it has."""
        digest = hash(key) & _DIGEST or 1
        at = self._place(digest)
        if self._slots[at]:
            return self._slots[at + 1]
        self._slots[at], self._slots[at + 1] = digest, number & _DIGEST
        self._count += 1
        if 3 * self._count > 2 * self._mask:
            self._grow()
        return None

    def _place(self, digest: int) -> int:
        """Where a digest stands, or would stand."""
        slots, mask = self._slots, self._mask
        slot = digest & mask
        while slots[2 * slot] not in (0, digest):
            slot = (slot + 1) & mask
        return 2 * slot

    def _grow(self) -> None:
        before, self._mask = self._slots, 2 * self._mask + 1
        self._slots = array("Q", bytes(16 * (self._mask + 1)))
        for at in range(0, len(before), 2):
            if before[at]:
                place = self._place(before[at])
                self._slots[place], self._slots[place + 1] = before[at], before[at + 1]
