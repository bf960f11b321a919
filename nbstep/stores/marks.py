"""Marks: a name that stands in a store for a while, by which another process finds out that it looks at the same store."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from nbstep.stores import files

MARKED_FOR_S: Final = 3600.0  # or until it is renewed
_NAME: Final = re.compile(r"[0-9a-f]{24}\.\d{1,10}\.[0-9A-Za-z-]{1,64}")


@runtime_checkable
class Marked(Protocol):
    """What a store can do whose address may mean another one on another machine, as `redis://localhost` does."""

    async def mark(self, name: str) -> None:
        """Lets a mark stand for an hour from now."""
        ...

    async def is_marked(self, name: str) -> bool:
        """Whether it stands."""
        ...


def new_mark() -> str:
    """A name for a mark, which nobody can guess: that of a temporary file, so that it goes as those do."""
    return files.temp_name()


def mark_folder(directory: Path, name: str) -> bool:
    """Lets a mark stand in a cache's folder, as new; False where it cannot be written."""
    path = _path(directory, name)
    try:
        if os.path.isfile(path):
            os.utime(path)
        else:
            files.make_own_folder(os.path.dirname(path), directory)
            files.write_file(path, [], durable=False)
    except OSError:
        return False
    return True


def is_marked_folder(directory: Path, name: str) -> bool:
    """Whether a mark stands in a folder."""
    return _NAME.fullmatch(name) is not None and os.path.isfile(_path(directory, name))


def unmark_folder(directory: Path, name: str) -> None:
    """Takes a mark away."""
    with suppress(OSError):
        files.remove(_path(directory, name))


def _path(directory: Path, name: str) -> str:
    return str(directory / "v1" / "tmp" / name)
