"""Locks between processes: who of several kernels computes a key (C4). One file a key, only while it is computed.

The lock is the system's own (`flock`), so it ends with its holder however that ends; no file says "in progress". It saves
work and is never needed for a right result: where it does not work, everything goes on without. A process that has many of
these files open closes further ones and holds their keys as parts of a single file (`parts.py`); one that computes very many
keys takes the same files again (`spares.py`).
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
import threading
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from nbstep.jsontext import number, or_null
from nbstep.stores import files
from nbstep.stores.parts import Parts, parts_of
from nbstep.stores.spares import Spares

# Opened for writing because NFS wants that for a lock. Not blocking, should it be a pipe.
_OPEN: Final[int] = os.O_RDWR | files.PLAIN | getattr(os, "O_NONBLOCK", 0)
_NOTE_AT_MOST_BYTES: Final = 4096
_NAME_AT_MOST: Final = 200
_OPEN_ATTEMPTS: Final = 100
_LOCK: Final = re.compile(r"([0-9a-f]{64})(\.json)?")  # an older nbstep noted in a second file who computes

Flock: TypeAlias = Callable[[int], None]  # locks an open file at once, or raises `BlockingIOError`


@dataclass(frozen=True, slots=True)
class Holder:
    """Who computes, as their note says it: untrusted text, for people; `since` is seconds since the epoch."""

    name: str | None = None
    pid: int | None = None
    since: float | None = None


class KeyLock:
    """The right to compute one key; released when it is dropped, too."""

    _fd: int | None = None  # also of one that was not made to its end
    _path: str | None = None
    _parts: Parts | None = None
    _spares: Spares[KeyLock] | None = None
    _lent: KeyLock | None = None
    _status: os.stat_result | None = None
    _noted = b""  # what its file says
    created = False

    def __init__(self, fd: int | None = None, path: str | None = None, *, created: bool = False) -> None:
        self._fd = fd
        self._path = path
        self.created = created
        if fd is not None:
            self._status = os.fstat(fd)

    @classmethod
    def on_spare(cls, spare: KeyLock, path: str, spares: Spares[KeyLock]) -> KeyLock:
        """On a locked file that stands at `path` too; it goes back when the lock is released."""
        lock = cls()
        lock._path, lock._spares, lock.created = path, spares, True
        with _changing:
            lock._fd, lock._lent, lock._status = spare._fd, spare, spare._status
            _open_locks.add(lock)
        return lock

    @property
    def path(self) -> str:
        """Where its file stands; "" where it has none."""
        return self._path or ""

    def is_regular(self) -> bool:
        """Whether its file is one, no pipe or folder that somebody put in its place."""
        return self._status is not None and stat.S_ISREG(self._status.st_mode)

    def fileno(self) -> int:
        """Its open file; -1 where it has none: it is held as a part, or keeps nobody out because locks do not work here."""
        return -1 if self._fd is None else self._fd

    def excludes(self) -> bool:
        """Whether it keeps others out."""
        return self._fd is not None or self._parts is not None

    def is_current(self) -> bool:
        """Whether its file still stands at its path: a holder removes the file when it is done."""
        return self.excludes() and self._path is not None and _stands(self._status, self._path)

    def sign(self, name: str | None, since: float, pid: int | None = None) -> None:
        """Notes in its file who computes, for those who wait; where that does not work they learn less.

        `pid` is that of the process, where it is not this one.

        Only a file that this lock has made is written to: one that stood there before may be a link to something else.
        """
        if not self.excludes() or not self.created or self._path is None:
            return
        holder = or_null(name and name[:_NAME_AT_MOST])
        note = f'{{"holder":{holder},"pid":{pid or os.getpid()},"since":{number(since)}}}'.encode()
        try:
            if self._fd is not None:
                self._note(self._fd, note)
                return
            fd = os.open(self._path, _OPEN)
            try:
                if self._status is not None and os.path.samestat(self._status, os.fstat(fd)):
                    self._note(fd, note)
            finally:
                os.close(fd)
        except OSError:
            return

    def _note(self, fd: int, note: bytes) -> None:
        file = self._lent or self
        note = note.ljust(len(file._noted))  # blanks end what a longer one left
        if note != file._noted:
            os.pwrite(fd, note, 0)  # who reads half of it learns nothing, and looks again
            file._noted = note

    def become_part(self, parts: Parts) -> None:
        """Holds its key as a part of a file, and closes its own, which stays.

        Raises:
            OSError: The system cannot lock parts of this file.
        """
        if self._path is None or not parts.lock(os.path.basename(self._path)):
            return  # it holds its file, as before
        with _changing:
            self._close()
            self._parts = parts
            _parts_held.add(self)

    def release(self) -> None:
        """Lets the next one go on; removes the lock's file, which is safe only while it is held. Twice is once."""
        if self._path is None and self._fd is None:
            return  # it holds nothing
        with _changing:
            lent, self._lent = self._lent, None
            if lent is not None:  # from here on nobody else has it
                self._fd = None
                _open_locks.discard(self)
        if lent is not None:
            self._give_back(lent)
            return
        try:
            if self._path is not None and self.is_current():
                files.remove(self._path)
        finally:
            self.abandon()

    def _give_back(self, spare: KeyLock) -> None:
        """Only what stands at the key's place no more may go to another."""
        if self._path is not None and _stands(self._status, self._path) and not files.remove(self._path):
            spare.release()
        elif self._spares is not None:
            self._spares.give_back(spare)

    def abandon(self) -> None:
        """Closes it and leaves its file, as a forked child must: the lock is its parent's."""
        if self._fd is None and self._lent is None and self._parts is None:
            return  # released, or it never held anything; once that is so it stays so
        with _changing:
            self._close()
            parts, self._parts = self._parts, None
        if parts is not None and self._path is not None:
            parts.unlock(os.path.basename(self._path))

    def _close(self) -> None:
        fd, self._fd = self._fd, None
        lent, self._lent = self._lent, None
        if fd is None:
            return
        _open_locks.discard(self)
        if lent is not None:
            lent.release()
            return
        with suppress(OSError):
            os.close(fd)

    def part_from_spare(self) -> None:
        """Leaves a file that goes from key to key to whoever closes it: it has an entry of its own among the open ones."""
        if self._lent is not None:
            self._fd = self._lent = None

    def __del__(self) -> None:
        self.abandon()


class KeyLocks:
    """The locks of one cache directory.

    Args:
        directory: The `.nbstep` folder.
        flock: The system's call; None where it has none.
        open_at_most: So many files of locks are open in the process; None is an eighth of what it may open.
    """

    def __init__(self, directory: Path, flock: Flock | None, open_at_most: int | None = None) -> None:
        self._directory = directory
        self._folder = str(directory / "v1" / "lock")
        self._flock = flock
        self._parts = parts_of(f"{self._folder}/many")
        self.spares: Spares[KeyLock] = Spares(directory, self._new_spare)
        self._at_most = _open_files_allowed() // 8 if open_at_most is None else open_at_most
        self.ahead: Callable[[str], KeyLock | None] = lambda _: None  # what a clerk locked for this process

    def take(self, key: str) -> KeyLock | None:
        """The right to compute `key`; None while another process has it. Never raises `OSError`.

        Where locks do not work the right is given to everybody: two computations are better than none.
        """
        if self._flock is None:
            return KeyLock()
        lock = self.ahead(key)
        if lock is not None:
            return lock
        try:
            return self._taken(key, self._flock)
        except OSError:
            return KeyLock()
        except BaseException as stop:  # an interrupt, whose traceback is kept: not so the lock in one of its frames
            from traceback import clear_frames

            clear_frames(stop.__traceback__)
            raise

    def take_new(self, keys: Iterable[str]) -> dict[str, KeyLock]:
        """The rights to compute those of `keys` that nobody has, where they keep others out: one look at the folder for all."""
        taken: dict[str, KeyLock] = {}
        try:
            files.make_own_folder(self._folder, self._directory)
        except OSError:
            return taken
        for key in keys:
            lock = self._on_spare(self._path(key)) or self.take(key)
            if lock is not None and lock.excludes():
                taken[key] = lock
        return taken

    def _taken(self, key: str, flock: Flock) -> KeyLock | None:
        files.make_own_folder(self._folder, self._directory)
        lock = self._take(self._path(key), flock)
        if lock is not None and len(_open_locks) > self._at_most:
            try:
                lock.become_part(self._parts)
            except OSError:
                lock.release()
        return lock

    def holder(self, key: str) -> Holder:
        """Who has the right to compute `key`, as far as they say."""
        try:
            return _read_note(self._path(key))
        except (OSError, ValueError, TypeError, RecursionError, OverflowError, AttributeError):
            return Holder()

    def collect(self) -> None:
        """Removes what killed holders left; whoever holds a lock keeps it."""
        if self._flock is None:
            return
        try:
            names = files.names_in(self._folder, self._directory)
        except OSError:
            return
        for match in filter(None, map(_LOCK.fullmatch, names)):
            with suppress(OSError):
                lock = self._take(f"{self._folder}/{match[1]}", self._flock)
                if lock is None:
                    continue
                if match[2]:
                    files.remove(f"{self._folder}/{match[0]}")
                lock.release()

    def _take(self, path: str, flock: Flock) -> KeyLock | None:
        lock = self._on_spare(path)
        if lock is not None:
            return lock
        for _ in range(_OPEN_ATTEMPTS):
            lock = open_lock(path)
            if lock is None:
                continue  # removed by its holder before we opened it
            try:
                flock(lock.fileno())
            except BlockingIOError:
                lock.abandon()
                return None
            except OSError:
                if lock.created:
                    files.remove(path)
                raise
            if self._parts.is_locked(os.path.basename(path)):
                if lock.created:  # its holder has just removed its own, and lets go in a moment
                    lock.release()
                lock.abandon()
                return None
            if lock.created and lock.is_current():
                return lock
            # A dead holder's, which goes: ours is a file that we made. Or one that its holder removed before we had it: then the
            # path is another lock now, or none.
            lock.release()
        return None

    def _on_spare(self, path: str) -> KeyLock | None:
        """The lock at `path` on a file that was locked before; None where that is taken, or there is no such file."""
        if not self.spares.are_wanted or len(_open_locks) >= self._at_most:
            return None
        spare = self.spares.stand_at(path)
        if spare is None:
            return None
        return KeyLock.on_spare(
            spare, path, self.spares
        )  # nothing stood there, so no part of `many` is held for it either

    def _new_spare(self, path: str) -> KeyLock:
        lock = open_lock(path)
        if lock is None or self._flock is None:
            raise OSError(f"{path} cannot be locked")
        try:
            self._flock(lock.fileno())
        except BaseException:
            files.remove(path)
            lock.abandon()
            raise
        return lock

    def _path(self, key: str) -> str:
        return f"{self._folder}/{files.key_digest(key)}"


def system_flock() -> Flock | None:
    """The system's `flock`; None on Windows, where it is one computation a key within each kernel."""
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock
    except ImportError:
        return None
    return lambda fd: flock(fd, LOCK_EX | LOCK_NB)


def _open_files_allowed() -> int:
    """A held lock is an open file, and a thousand tasks at once must not take from the user's code what it may open."""
    try:
        from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit
    except ImportError:
        return 0
    allowed = getrlimit(RLIMIT_NOFILE)[0]
    return 1 << 20 if allowed == RLIM_INFINITY else allowed


def open_lock(path: str) -> KeyLock | None:
    """A lock's file, open but not locked; None where it vanished meanwhile."""
    created = True
    with _changing:
        try:
            fd = os.open(path, _OPEN | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            created = False
            try:
                fd = os.open(path, _OPEN)
            except FileNotFoundError:
                return None
        lock = KeyLock(fd, path, created=created)
        _open_locks.add(lock)
    if not lock.is_regular():
        raise OSError(f"{path} is no regular file")
    return lock


def _stands(status: os.stat_result | None, path: str) -> bool:
    """Whether the file of a status stands at a path: no other one has its number while it is open."""
    try:
        return status is not None and os.path.samestat(status, os.lstat(path))
    except OSError:
        return False


def _read_note(path: str) -> Holder:
    fd = os.open(path, os.O_RDONLY | files.PLAIN | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("no regular file")
        note: Any = json.loads(file.read(_NOTE_AT_MOST_BYTES))
    name, pid, since = note.get("holder"), note.get("pid"), note.get("since")
    return Holder(
        name=name[:_NAME_AT_MOST] if isinstance(name, str) and name.strip() else None,
        pid=pid if type(pid) is int and 0 < pid < 1 << 31 else None,
        since=float(since) if type(since) in {int, float} and math.isfinite(since) else None,
    )


_changing = threading.RLock()
_open_locks: Final[weakref.WeakSet[KeyLock]] = weakref.WeakSet()
_parts_held: Final[weakref.WeakSet[KeyLock]] = weakref.WeakSet()


def _before_fork() -> None:
    _changing.acquire()  # no child may come between opening or closing a lock's file and the note of it


def _after_fork_in_parent() -> None:
    _changing.release()


def _after_fork_in_child() -> None:
    """A lock lives as long as any copy of its open file: a child must not keep what its parent held when it is killed."""
    global _changing
    _changing = threading.RLock()
    for lock in list(_open_locks):
        lock.part_from_spare()
    for lock in [*_open_locks, *_parts_held]:
        lock.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
