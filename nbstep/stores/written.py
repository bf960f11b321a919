"""What all processes with a limit wrote to a cache directory: eight bytes an entry, appended to one small file.

So each knows without looking at the folder how much the others added since it counted. It is a help only: where the file
cannot be used, or another one stands there, nothing is known.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from nbstep.stores import files

_RECORD_BYTES: Final = 8
_FILE_BYTES_AT_MOST: Final = 1 << 16
_OPEN: Final[int] = os.O_RDWR | os.O_APPEND | os.O_CREAT | files.PLAIN | getattr(os, "O_NONBLOCK", 0)


class Written:
    """The file of one cache directory, as one process reads it. Its caller sees to it that one thread at a time does."""

    def __init__(self, directory: Path) -> None:
        self._root = directory
        self._folder = str(directory / "v1")
        self._path = str(directory / "v1" / "written")
        self._inode: int | None = None
        self._read_to = 0
        self._others = 0

    def note(self, size: int) -> int | None:
        """Says that `size` bytes are about to be written; how many others noted since `mark`, None where that is not known."""
        try:
            files.make_own_folder(self._folder, self._root)
            fd = os.open(self._path, _OPEN, 0o600)
            try:
                return self._note(fd, size)
            finally:
                os.close(fd)
        except OSError:
            return None

    def mark(self) -> None:
        """From now on others are counted anew."""
        self._inode, self._others = None, 0
        try:
            status = os.lstat(self._path)
            if status.st_size > _FILE_BYTES_AT_MOST:
                files.remove(self._path)  # whoever finds another file counts as well
                return
        except OSError:
            return
        self._inode, self._read_to = status.st_ino, status.st_size

    def _note(self, fd: int, size: int) -> int | None:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:  # a second name: it may be a file of the user's
            return None
        os.write(fd, size.to_bytes(_RECORD_BYTES, "big"))
        end = os.fstat(fd).st_size
        first = self._inode is None and status.st_size == 0
        if first:
            self._inode, self._read_to = status.st_ino, 0
        unread = end - self._read_to
        if self._inode != status.st_ino or not 0 < unread <= 2 * _FILE_BYTES_AT_MOST:
            return None
        new = os.pread(fd, unread, self._read_to)
        self._read_to = end
        noted = sum(int.from_bytes(new[at : at + _RECORD_BYTES], "big") for at in range(0, len(new), _RECORD_BYTES))
        self._others += max(0, noted - size)
        return self._others
