"""Locks on parts of one file: who computes a key where a process would hold too many files of locks (C4).

The system gives a part to a process, whatever its thread, and takes all of them back as soon as the process closes any copy
of the open file. So each such file is opened once and stays open. A forked child has no part of its parent's.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Final

from nbstep.forks import ThreadLock
from nbstep.stores import files

_OPEN: Final[int] = os.O_RDWR | files.PLAIN | getattr(os, "O_NONBLOCK", 0)
_DIGITS: Final = 15  # of a key's digest: the parts of a file are numbered with 63 bits


class Parts:
    """The parts of one file; nothing is ever written to it. There is one object a file, from `parts_of`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd: int | None = None
        self._held: set[int] = set()
        self._guard = ThreadLock()

    def lock(self, digest: str) -> bool:
        """Locks a key's part; whether nobody has it. Raises `OSError` where that does not work."""
        with self._guard:
            return self._lock(_part(digest), os.O_CREAT)

    def unlock(self, digest: str) -> None:
        """Lets the next one have it."""
        with self._guard:
            if _part(digest) in self._held:
                self._unlock(_part(digest))

    def is_locked(self, digest: str) -> bool:
        """Whether somebody has a key's part, as far as the system tells."""
        if self._fd is None and not os.access(self._path, os.F_OK):
            return False  # nobody ever had so many
        part = _part(digest)
        with self._guard, suppress(OSError):
            if not self._lock(part, 0):
                return True
            self._unlock(part)
        return False

    def forget(self) -> None:
        """Forgets what a forked child does not have."""
        self._held.clear()

    def _lock(self, part: int, create: int) -> bool:
        from fcntl import LOCK_EX, LOCK_NB, lockf

        if part in self._held:
            return False
        try:
            lockf(self._opened(create), LOCK_EX | LOCK_NB, 1, part)
        except (BlockingIOError, PermissionError):
            return False
        self._held.add(part)
        return True

    def _unlock(self, part: int) -> None:
        from fcntl import LOCK_UN, lockf

        self._held.discard(part)
        if self._fd is not None:
            with suppress(OSError):
                lockf(self._fd, LOCK_UN, 1, part)

    def _opened(self, create: int) -> int:
        if self._fd is not None and not self._held and not self._stands(self._fd):
            os.close(self._fd)  # somebody tidied up
            self._fd = None
        if self._fd is None:
            fd = os.open(self._path, _OPEN | create, 0o600)
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                os.close(fd)
                raise OSError(f"{self._path} is no regular file")
            self._fd = fd
        return self._fd

    def _stands(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.lstat(self._path))
        except OSError:
            return False


_all: Final[dict[str, Parts]] = {}


def parts_of(path: str) -> Parts:
    """The parts of the file at a path: the same object for everybody in this process."""
    return _all.setdefault(os.path.realpath(path), Parts(path))


def _part(digest: str) -> int:
    return int(digest[:_DIGITS], 16)


def _after_fork_in_child() -> None:
    for parts in list(_all.values()):
        parts.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
