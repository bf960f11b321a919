"""An entry in a Redis server, read piece by piece: what is not asked for is not sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from nbstep.stores.base import Part, Stamp

BEGIN_BYTES: Final = 4096  # listing reads so much of each entry: nearly always the whole header
WHOLE_BYTES: Final = 64 * 1024  # an entry up to this size comes with one command
PIECE_BYTES: Final = 1 << 20  # is sent within the time-out over a slow line too, and all that is held beside the value
_PAD_BYTES: Final = 4096


class RedisDocument:
    """An entry whose beginning is here, and whose rest is fetched when it is read.

    Args:
        begin: Its first `BEGIN_BYTES`; fewer where it ends before.
        size_bytes: Of all of it, as the server says.
        stamp: Another one for each entry.
        fetch: Gives a piece of the rest, by its number; raises `OSError` where that is gone.
    """

    __slots__ = ("_begin", "_fetch", "_last", "_pads", "size_bytes", "stamp")

    def __init__(self, begin: bytes, size_bytes: int, stamp: Stamp | None, fetch: Callable[[int], bytes]) -> None:
        self.size_bytes = size_bytes
        self.stamp = stamp
        self._begin = begin
        self._fetch = fetch
        self._last: tuple[int, bytes] = (-1, b"")
        self._pads: dict[int, bytes] = {}

    def read(self, at: int, count: int) -> bytes:
        """A private copy of `count` bytes from `at`; fewer where the document ends."""
        end = min(at + count, self.size_bytes)
        pad = self._pads.get(end, b"")
        if 0 < end - at <= len(pad):
            return pad[at - end :]
        return b"".join(self._spans(at, end))

    def buffers(self, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        """Writable bytes for each (at, count); they belong to the caller alone.

        The zeros before each are read soon after: they are kept, so that no piece has to come twice.
        """
        found: list[memoryview] = []
        for at, count in ranges:
            before = max(at - _PAD_BYTES, 0)
            self._pads[at] = b"".join(self._spans(before, at))
            target = memoryview(bytearray(count))
            filled = 0
            for span in self._spans(at, min(at + count, self.size_bytes)):
                target[filled : filled + len(span)] = span
                filled += len(span)
            found.append(target)
        self._last = (-1, b"")
        return found

    def _spans(self, at: int, end: int) -> Iterator[memoryview]:
        """What stands between two places, piece by piece."""
        if at < len(self._begin):
            yield memoryview(self._begin)[at:end]
            at = len(self._begin)
        while at < end:
            number, skipped = divmod(at - len(self._begin), PIECE_BYTES)
            piece = memoryview(self._piece(number))[skipped : skipped + end - at]
            if not piece:
                raise EOFError(f"its piece {number} is too short")
            yield piece
            at += len(piece)

    def _piece(self, number: int) -> bytes:
        if self._last[0] != number:
            self._last = (-1, b"")
            self._last = (number, self._fetch(number))
        return self._last[1]


def pieces_of(parts: Sequence[Part]) -> Iterator[bytes]:
    """The concatenated `parts`: first `BEGIN_BYTES` of them, then pieces of `PIECE_BYTES`, the last one shorter."""
    held: list[memoryview] = []
    held_bytes, wanted = 0, BEGIN_BYTES
    for part in parts:
        view = memoryview(part).cast("B")
        while view:
            taken, view = view[: wanted - held_bytes], view[wanted - held_bytes :]
            held.append(taken)
            held_bytes += len(taken)
            if held_bytes == wanted:
                yield b"".join(held)
                held, held_bytes, wanted = [], 0, PIECE_BYTES
    if held:
        yield b"".join(held)
