"""An entry that stands far away: its beginning is here, the rest is fetched when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nbstep.stores.base import Document, Stamp


class RangedDocument:
    """An entry's bytes, of which the first are here.

    Args:
        first: The beginning.
        size_bytes: Of the whole entry.
        fetch: Gives the whole entry; the bytes belong to this document.
    """

    __slots__ = ("_fetch", "_first", "_given", "_whole", "size_bytes", "stamp")

    def __init__(self, first: bytes, size_bytes: int, fetch: Callable[[], bytearray]) -> None:
        self._first = first
        self._fetch = fetch
        self._whole: bytearray | None = None
        self._given = False
        self.size_bytes = size_bytes
        self.stamp: Stamp | None = None

    def read(self, at: int, count: int) -> bytes:
        """A private copy of `count` bytes from `at`; fewer where the document ends."""
        end = min(at + count, self.size_bytes)
        return self._first[at:end] if end <= len(self._first) else bytes(self._content()[at:end])

    def buffers(self, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        """Writable bytes for each (at, count); they belong to the caller alone."""
        if self._given:
            self._whole = None  # the bytes that are here belong to somebody else
        self._given = self._given or bool(ranges)
        return [self._content()[at : at + count] for at, count in ranges]

    def _content(self) -> memoryview:
        """The whole entry.

        Raises:
            EOFError: Another one stands there by now: the beginning, which holds its signature, is not the same.
        """
        if self._whole is None:
            whole = self._fetch()
            if not whole.startswith(self._first):
                raise EOFError("another one took its place meanwhile")
            self._whole = whole
        return memoryview(self._whole)


class FarDocument:
    """An entry that stands far; whoever reads more than its header gets it from the copy that is then kept near."""

    __slots__ = ("_copy", "_far", "_head_to", "_kept", "size_bytes")

    def __init__(self, far: Document, keep: Callable[[], Document]) -> None:
        self._far = far
        self._copy = keep
        self._head_to = 0
        self._kept: Document | None = None
        self.size_bytes = far.size_bytes

    @property
    def stamp(self) -> Stamp | None:
        """The stamp of the near copy, once there is one."""
        return None if self._kept is None else self._kept.stamp

    def read(self, at: int, count: int) -> bytes:
        """A private copy of `count` bytes from `at`; a header is read from its beginning on."""
        if self._kept is None and at == self._head_to:
            content = self._far.read(at, count)
            self._head_to = at + len(content)
            return content
        return self._content().read(at, count)

    def buffers(self, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        """Writable bytes for each (at, count); they belong to the caller alone."""
        return self._content().buffers(ranges)

    def _content(self) -> Document:
        if self._kept is None:
            self._kept = self._copy()
        return self._kept
