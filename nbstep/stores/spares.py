"""Locked files that go from one key to the next, while very many keys are computed one after the other (`step.map`).

A file that is made and removed for each key costs more than its lock: a file system without a journal looks past every file
that went within the last minutes before it makes another one. So a file is made and locked once, among the temporary ones, and
stands under a second name, a link, where the lock of its key is looked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

from nbstep.forks import ThreadLock
from nbstep.stores import files

_AT_MOST: Final = 64


class Spare(Protocol):
    """A locked file under its first name."""

    @property
    def path(self) -> str:
        """Its first name."""
        ...

    def fileno(self) -> int:
        """Its open file; -1 where it is closed."""
        ...

    def release(self) -> None:
        """Removes its first name and closes it."""
        ...


S = TypeVar("S", bound=Spare)


class Spares(Generic[S]):
    """The spare files of one cache directory; there are some only while somebody wants them.

    Args:
        directory: The `.nbstep` folder.
        make: Makes a locked file at a path; raises `OSError` where that does not work.
    """

    def __init__(self, directory: Path, make: Callable[[str], S]) -> None:
        self._directory = directory
        self._folder = str(directory / "v1" / "tmp")
        self._make = make
        self._free: list[S] = []
        self._wanted = 0
        self._owner = os.getpid()
        self._guard = ThreadLock()

    @contextmanager
    def wanted(self) -> Generator[None]:
        """Until its end files go from key to key; then they are removed."""
        with self._guard:
            if self._owner != os.getpid():  # a forked child: what its parent had is closed here
                self._owner, self._wanted, self._free = os.getpid(), 0, []
            self._wanted += 1
        try:
            yield
        finally:
            with self._guard:
                self._wanted -= 1
                left, self._free = ([], self._free) if self.are_wanted else (self._free, [])
            for spare in left:
                spare.release()

    @property
    def are_wanted(self) -> bool:
        """Whether very many locks are taken just now, in this process."""
        return self._wanted > 0 and self._owner == os.getpid()

    def stand_at(self, path: str) -> S | None:
        """A spare file that stands at `path` too; None where something stands there, or it does not work.

        A file system without links, or a folder that somebody removed, costs the spare only.
        """
        if not self.are_wanted:
            return None
        with self._guard:
            spare = self._free.pop() if self._free else None
        try:
            spare = spare or self._new()
        except OSError:
            return None
        try:
            os.link(spare.path, path, follow_symlinks=False)
        except FileExistsError:
            self.give_back(spare)
        except (OSError, NotImplementedError):
            spare.release()
        else:
            return spare
        return None

    def give_back(self, spare: S) -> None:
        """Takes a file that stands at no key's place any more."""
        with self._guard:
            kept = self.are_wanted and len(self._free) < _AT_MOST
            if kept:
                self._free.append(spare)
        if not kept:
            spare.release()

    def _new(self) -> S:
        files.make_own_folder(self._folder, self._directory)
        return self._make(f"{self._folder}/{files.temp_name()}")
