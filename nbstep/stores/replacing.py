"""Entries change places one at a time, among threads and processes: whatever is replaced was saved in the trash before.

Else two writers would save the same old entry and then both rename, and the value of the first would be gone. The turn is
short and never needed for a right entry: where locks do not work, or somebody stopped has it, everything goes on without.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from nbstep.forks import ThreadLock
from nbstep.stores import files
from nbstep.stores.disktrash import DiskTrash
from nbstep.stores.locks import Flock, KeyLock, open_lock

_FILE: Final = "turn"  # beside the locks of keys; no key's digest, so that nobody collects it
_WAIT_AT_MOST_S: Final = 2.0
_LOOK_AGAIN_S: Final = 0.0005
_AT_ONCE: Final = 100
_AT_MOST: Final = 100

_threads: Final = ThreadLock()  # of all stores: two of one process may have the same folder


class Replacing:
    """Puts entries in their places, and takes them away.

    Args:
        directory: The `.nbstep` folder.
        trash: Where what is replaced or taken away goes.
        flock: The system's call; None where it has none.
    """

    def __init__(self, directory: Path, trash: DiskTrash, flock: Flock | None) -> None:
        self._directory = directory
        self._folder = str(directory / "v1" / "lock")
        self._trash = trash
        self._flock = flock

    def put(self, source: str, target: str, batch: str | None) -> None:
        """Moves a file to an entry's place; what stands there goes to the trash, for good without a batch, or stays if that fails.

        Raises:
            OSError: It did not work.
        """
        if files.move_first(source, target):
            return
        with self._turn():
            self._put(source, target, batch)

    def _put(self, source: str, target: str, batch: str | None) -> None:
        """Once more where nothing stands any more: somebody who needs no turn for that may come between."""
        for _ in range(_AT_MOST if batch is not None else 0):
            saved = self._trash.save_copy(target, batch or "")
            if saved is None and (first := files.move_first(source, target)) is not None:
                if first:
                    return
                continue
            try:
                files.move(source, target)
            except BaseException:
                if saved is not None:
                    self._trash.put_back(saved, target)
                raise
            return
        files.move(source, target)

    def bring_back(self, trashed: str, target: str, batch: str) -> bool | None:
        """Moves an entry of the trash back to its place, as `put` does; False where it is gone already.

        None where it was the very file that stands there, and so was removed only.

        Raises:
            OSError: It did not work.
        """
        with self._turn():
            if self._trash.drop_twin(trashed, target):
                return None
            try:
                os.lstat(trashed)  # not os.path.lexists, for which what cannot be looked at is gone
            except FileNotFoundError:
                return False
            return self._bring_back(trashed, target, batch)

    def _bring_back(self, trashed: str, target: str, batch: str) -> bool:
        for _ in range(_AT_MOST):
            saved = self._trash.save_copy(target, batch)
            if saved is None and (first := self._trash.bring_back_first(trashed, target)) is not None:
                if first:
                    return True
                continue
            moved = False
            try:
                moved = self._trash.bring_back(trashed, target)
            finally:
                if saved is not None and not moved:
                    self._trash.put_back(saved, target)
            return moved
        return self._trash.bring_back(trashed, target)

    def take(self, entries: Sequence[str], batch: str) -> list[str]:
        """Moves entries to the trash; returns those that were there."""
        taken: list[str] = []
        for at in range(0, len(entries), _AT_ONCE):
            with self._turn():
                taken += [entry for entry in entries[at : at + _AT_ONCE] if self._trash.take(entry, batch)]
        return taken

    @contextmanager
    def _turn(self) -> Generator[None]:
        with _threads:
            lock = self._wait()
            try:
                yield
            finally:
                if lock is not None:
                    lock.abandon()  # its file stays: the next turn is on the same one

    def _wait(self) -> KeyLock | None:
        """The lock; None where there is none to be had."""
        if self._flock is None:
            return None
        try:
            files.make_own_folder(self._folder, self._directory)
            lock = open_lock(f"{self._folder}/{_FILE}")
        except OSError:
            return None
        until = time.monotonic() + _WAIT_AT_MOST_S
        while lock is not None:
            try:
                self._flock(lock.fileno())
            except BlockingIOError:
                if time.monotonic() < until:
                    time.sleep(_LOOK_AGAIN_S)
                    continue
            except OSError:
                pass
            else:
                return lock
            lock.abandon()
            return None
        return None
