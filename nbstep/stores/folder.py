"""The folder of a disk cache: how it is made, and how it is told from folders of the user's own."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from nbstep.errors import CacheDirectoryError
from nbstep.project import FOLDER, place_text
from nbstep.stores import files

_OWN_NAMES: Final = {".gitignore", "CACHEDIR.TAG", "v1"}
_TAG: Final = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# This file marks a cache directory of nbstep; backup tools skip it. See https://bford.info/cachedir/\n"
)


def may_be_cache(directory: Path) -> bool:
    """Whether a folder is a cache of nbstep, or can become one without mixing with what is somebody else's."""
    try:
        names = set(os.listdir(directory))
    except OSError:
        return True  # it does not exist, or cannot be used: that is found out later, with its reason
    return directory.name == FOLDER or names <= _OWN_NAMES or _is_tagged(directory)


def is_cache(folder: Path) -> bool:
    """Whether something was kept in a folder, or a step made a cache of it; a look at it then writes nothing."""
    return (folder / "v1").is_dir() or (folder / "CACHEDIR.TAG").is_file()


def is_read_only(folder: Path) -> bool:
    """Whether a folder is a cache that this process may read and not write: an archive, somebody else's share."""
    return (
        not os.access(folder, os.W_OK | os.X_OK)
        and is_cache(folder)
        and os.access(folder / "v1" / "e", os.R_OK | os.X_OK)
    )


def _is_tagged(directory: Path) -> bool:
    try:
        fd = os.open(
            directory / "CACHEDIR.TAG", os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        )
    except OSError:
        return False
    with os.fdopen(fd, "rb") as file:
        return b"nbstep" in file.read(1000)


def create_folder(directory: Path) -> None:
    """Makes a cache's own folder, marked as one.

    Raises:
        CacheDirectoryError: It cannot be created or written, or holds other files.
    """
    try:
        files.make_private(directory)
        if not directory.is_dir():
            raise NotADirectoryError("it is a file")
        if not may_be_cache(directory):
            raise FileExistsError("it holds other files and is no cache of nbstep")
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError("it is not writable for you")
        # The tag first: by it another kernel, which opens the folder in this moment, knows it for a cache.
        for name, text in (("CACHEDIR.TAG", _TAG), (".gitignore", "*\n")):
            with suppress(FileExistsError):  # it is there, or another kernel wrote it in this moment
                files.write_file(directory / name, [text.encode()], durable=False)
    except OSError as error:
        why = error.strerror or str(error)
        raise CacheDirectoryError(
            f"the cache directory {place_text(directory)} cannot be used: {why}. "
            "Let NBSTEP_DIR, or cache=, name another folder"
        ) from error
