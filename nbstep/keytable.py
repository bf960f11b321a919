"""A table of keys that says whether it has met one, in some 12 to 24 bytes a key however long they are."""

from __future__ import annotations

from array import array
from typing import Final

_FIRST_SLOTS: Final = 1024
_DIGEST: Final = (1 << 64) - 1
_NUMBER: Final = (1 << 32) - 1


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
        self._digests = _zeros("Q", _FIRST_SLOTS)  # none is 0
        self._numbers: array[int] | None = None  # of the same slots, once there is one that is not 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: str) -> bool:
        return self._digests[_slot(self._digests, hash(key) & _DIGEST or 1)] != 0

    def add(self, key: str, number: int = 0) -> int | None:
        """Remembers a key that is new, with a number of 32 bits; of one that is known gives the number it has."""
        digest = hash(key) & _DIGEST or 1
        slot = _slot(self._digests, digest)
        if self._digests[slot]:
            return 0 if self._numbers is None else self._numbers[slot]
        if number and self._numbers is None:
            self._numbers = _zeros("I", len(self._digests))
        self._digests[slot] = digest
        if self._numbers is not None:
            self._numbers[slot] = number & _NUMBER
        self._count += 1
        if 3 * self._count > 2 * len(self._digests):
            self._grow()
        return None

    def _grow(self) -> None:
        digests, numbers = self._digests, self._numbers
        self._digests = _zeros("Q", 2 * len(digests))
        self._numbers = None if numbers is None else _zeros("I", 2 * len(digests))
        for at, digest in enumerate(digests):
            if digest:
                slot = _slot(self._digests, digest)
                self._digests[slot] = digest
                if numbers is not None and self._numbers is not None:
                    self._numbers[slot] = numbers[at]


def _zeros(kind: str, count: int) -> array[int]:
    return array(kind, [0]) * count  # not from bytes, which would be held as well for a moment


def _slot(digests: array[int], digest: int) -> int:
    """Where a digest stands, or would stand."""
    mask = len(digests) - 1
    slot = digest & mask
    while digests[slot] not in (0, digest):
        slot = (slot + 1) & mask
    return slot
