"""Which cache belongs to an open notebook: found as its kernel finds it, and only where the server may show it.

A client names the notebook, as the server's contents API knows it, never a folder of entries.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from nbstep.cache.where import project_place
from nbstep.errors import CacheDirectoryError
from nbstep.stores.folder import is_cache

NO_FOLDER: Final = "The notebook's folder is not in the folder that Jupyter serves."
CACHE_OUTSIDE: Final = (
    "This notebook's cache lies outside the folder that Jupyter serves, so it is not shown here. "
    "%nbstep panel shows it in the notebook; or start Jupyter in the project's folder."
)


# What may lead elsewhere; a colon does so on Windows alone, where it ends a drive.
_NO_NAMES: Final = frozenset("\0\\:" if os.name == "nt" else "\0\\")


class NotServedError(ValueError):
    """The client named nothing that may be shown; the text says why, without any path."""


@dataclass(frozen=True, slots=True)
class ServedPlace:
    """Where the cache of a notebook is, or is to be: a folder below the server's root, free of links.

    `notebook` is the notebook's file name.
    """

    directory: Path
    exists: bool
    notebook: str | None = None


def served_place(notebook: str, root: Path, environ: Mapping[str, str], *, hidden: bool = False) -> ServedPlace:
    """The cache of a notebook's project, where it lies below the server's root.

    Args:
        notebook: The notebook's path from the root, as the client knows it.
        root: The folder that the server serves.
        environ: The environment, which kernels of this server inherit.
        hidden: Whether the server shows hidden folders.

    Raises:
        NotServedError: The path leads out of the root, by itself or by a link, or to no folder; or the cache lies elsewhere.
    """
    root = Path(os.path.realpath(root))
    folder = Path(os.path.realpath(root.joinpath(*_folders(notebook, hidden=hidden))))
    if not folder.is_relative_to(root) or not os.path.isdir(folder):  # False, too, for a name too long
        raise NotServedError(NO_FOLDER)
    try:
        place = project_place(folder, environ)
    except CacheDirectoryError as error:
        raise NotServedError(str(error)) from None
    directory = Path(os.path.realpath(place.directory))
    if not directory.is_relative_to(root):
        raise NotServedError(CACHE_OUTSIDE)
    exists = is_cache(directory)
    if not exists and not place.explicit and is_cache(place.fallback):  # the project's folder cannot be written
        raise NotServedError(CACHE_OUTSIDE)
    return ServedPlace(directory, exists, PurePosixPath(notebook).name or None)


def _folders(notebook: str, *, hidden: bool) -> tuple[str, ...]:
    """The names of the folders that a notebook's path leads through."""
    path = PurePosixPath(notebook)
    outside = path.is_absolute() or ".." in path.parts or not _NO_NAMES.isdisjoint(notebook)
    if outside or (not hidden and any(name.startswith(".") for name in path.parts)):
        raise NotServedError(NO_FOLDER)
    return path.parts[:-1]
