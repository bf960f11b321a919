"""Bytes from one process to another through memory that both have, in order, without a call of the system."""

from __future__ import annotations

import threading
from typing import Final

_LINE: Final = 64  # bytes: what one side writes and the other reads stands apart, or they wait for each other's cache
_BEGIN: Final = 2 * _LINE


class Ring:
    """One direction between two processes: one puts, one takes; a side with more threads lets one at a time.

    In the memory stand two counts of bytes, put and taken since the beginning, then the bytes in a circle. Each side writes its
    own count only, and last: whoever is killed has put something wholly or not at all.

    Args:
        memory: Zeros at first, the same for both, aligned to 8 bytes.

    >>> memory = memoryview(bytearray(Ring.bytes_for(8)))
    >>> here, there = Ring(memory), Ring(memory)
    >>> here.put(memoryview(b"six in, eight at most")), there.take()
    (8, b'six in, ')
    >>> here.put(memoryview(b"more")), there.take(), there.take()
    (4, b'more', b'')
    """

    @staticmethod
    def bytes_for(capacity: int) -> int:
        """How much memory a ring takes that holds so many bytes."""
        return _BEGIN + capacity

    def __init__(self, memory: memoryview) -> None:
        self._put = memory[:8].cast("Q")
        self._taken = memory[_LINE : _LINE + 8].cast("Q")
        self._bytes = memory[_BEGIN:]
        self._capacity = len(self._bytes)
        self._fence = threading.Lock()

    def put(self, content: memoryview) -> int:
        """Puts as much as there is room for; how many bytes that was."""
        put = self._put[0]
        count = min(len(content), self._capacity - (put - self._taken[0]))
        at = put % self._capacity
        if count == len(content) <= self._capacity - at:  # most
            self._bytes[at : at + count] = content
            self._order()
            self._put[0] = put + count
        elif count:
            before_end = min(count, self._capacity - at)
            self._bytes[at : at + before_end] = content[:before_end]
            self._bytes[: count - before_end] = content[before_end:count]
            self._order()
            self._put[0] = put + count
        return count

    def take(self) -> bytes:
        """All that is there by now."""
        taken = self._taken[0]
        count = self._put[0] - taken
        if not count:
            return b""
        self._order()
        at = taken % self._capacity
        before_end = min(count, self._capacity - at)
        content = bytes(self._bytes[at : at + before_end]) + bytes(self._bytes[: count - before_end])
        self._order()
        self._taken[0] = taken + count
        return content

    def close(self) -> None:
        """Lets go of the memory."""
        for part in (self._put, self._taken, self._bytes):
            part.release()

    def _order(self) -> None:
        """Has the bytes and the count of them seen in this order by processors that may write in another.

        Memory is written before a lock is let go, read after it is taken, and one is taken after another is let go.
        """
        with self._fence:
            pass
        with self._fence:
            pass
