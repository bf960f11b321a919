"""Entries' files, read: at once or piece by piece, large buffers as maps of the file."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
import sys
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from nbstep.stores.base import BytesDocument, Stamp
from nbstep.stores.files import PLAIN, stamp_of

MAP_FROM_BYTES: Final = 64 * 1024
_AT_ONCE: Final[int] = getattr(os, "O_NONBLOCK", 0)  # a pipe that somebody put there must not hold up the reader
_JOINED_BYTES_AT_MOST: Final = 1 << 16  # up to here one `pread` is cheaper than a buffer to read into
_WINDOWS: Final = sys.platform == "win32"

# Before Python 3.13 every map holds a file descriptor, and systems allow a thousand or so.
_MAPS_AT_MOST: Final = 256
_maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


class FileDocument:
    """An entry's file, held open; large buffers are copy-on-write maps of it where that is safe."""

    __slots__ = ("_fd", "_may_map", "size_bytes", "stamp")

    def __init__(self, fd: int, status: os.stat_result, may_map: Callable[[], bool]) -> None:
        self._fd = fd
        self._may_map = may_map
        self.size_bytes = status.st_size
        self.stamp: Stamp | None = stamp_of(status)

    def read(self, at: int, count: int) -> bytes:
        """A private copy of `count` bytes from `at`; fewer where the file ends."""
        if not _WINDOWS and count <= _JOINED_BYTES_AT_MOST:
            content = os.pread(self._fd, count, at)
            if len(content) == min(count, self.size_bytes - at):
                return content
        return bytes(self._copy(at, count))

    def buffers(self, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        """Writable bytes for each (at, count); they belong to the caller alone.

        Raises:
            EOFError: The file became shorter meanwhile.
        """
        mapped = self._map_for(ranges)
        views: list[memoryview] = []
        for at, count in ranges:
            if mapped is not None and count >= MAP_FROM_BYTES:
                views.append(mapped[at : at + count])
                continue
            copy = self._copy(at, count)
            if len(copy) < count:
                raise EOFError("the file became shorter")
            views.append(memoryview(copy))
        return views

    def _map_for(self, ranges: Sequence[tuple[int, int]]) -> memoryview | None:
        """One map for one caller: what one writes must not show in what the next is given."""
        ends = [at + count for at, count in ranges if count >= MAP_FROM_BYTES]
        if not ends or not self._may_map() or os.fstat(self._fd).st_size < max(ends):
            return None
        if sys.version_info >= (3, 13):
            mapped = mmap.mmap(self._fd, max(ends), access=mmap.ACCESS_COPY, trackfd=False)
        elif len(_maps) < _MAPS_AT_MOST:
            mapped = mmap.mmap(self._fd, max(ends), access=mmap.ACCESS_COPY)
            _maps.add(mapped)
        else:
            return None
        return memoryview(mapped)

    def _copy(self, at: int, count: int) -> bytearray:
        content = bytearray(max(0, min(count, self.size_bytes - at)))
        view, done = memoryview(content), 0
        while done < len(content):
            if _WINDOWS:
                os.lseek(self._fd, at + done, os.SEEK_SET)
                piece = os.read(self._fd, len(content) - done)
                view[done : done + len(piece)] = piece
                got = len(piece)
            else:
                got = os.preadv(self._fd, [view[done:]], at + done)
            if got == 0:
                break
            done += got
        view.release()
        del content[done:]
        return content

    def __del__(self) -> None:
        with contextlib.suppress(OSError):  # what was read from it stays as it is
            os.close(self._fd)


def open_document(path: str | Path, may_map: Callable[[], bool]) -> FileDocument | None:
    """Opens an entry's file; None where there is none.

    Raises:
        OSError: It is a link or no regular file, or cannot be read.
    """
    opened = _open_regular(path)
    return None if opened is None else FileDocument(*opened, may_map)


def read_beginning(path: str | Path, count: int) -> BytesDocument | None:
    """Reads the first `count` bytes of an entry's file, as one look at it; None where there is none.

    Raises:
        OSError: It is a link or no regular file, or cannot be read.
    """
    opened = _open_regular(path)
    if opened is None:
        return None
    fd, status = opened
    try:
        return BytesDocument(os.read(fd, count), status.st_size, stamp_of(status))
    finally:
        os.close(fd)


def _open_regular(path: str | Path) -> tuple[int, os.stat_result] | None:
    for attempt in (1, 2):
        try:
            fd = os.open(path, os.O_RDONLY | PLAIN | _AT_ONCE)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise OSError(errno.ELOOP, "is a link, not an entry") from None
            if error.errno == errno.ESTALE and attempt == 1:
                continue
            raise
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "is no regular file")
        except BaseException:
            os.close(fd)
            raise
        return fd, status
    return None
