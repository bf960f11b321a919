"""Where a project's cache lives: one answer for the kernel, the shell command and the sidebar."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDER: Final = ".nbstep"
_PROJECT_MARKS: Final = (".git", "pyproject.toml")


@dataclass(frozen=True, slots=True)
class CachePlace:
    """Where the cache of a project is, or is to be.

    Attributes:
        directory: The cache directory; it need not exist yet.
        explicit: `NBSTEP_DIR` named it.
        fallback: A directory of the user's own, for a project that cannot be written.
        why: Why it is this one, for people.
    """

    directory: Path
    explicit: bool
    fallback: Path
    why: str = ""


def find_cache(cwd: Path, home: Path | None, environ: Mapping[str, str]) -> CachePlace:
    """Finds the cache directory for work in `cwd`; reads the file system, creates nothing.

    `NBSTEP_DIR` if set; else the nearest `.nbstep` upwards; else one beside the nearest `.git` or `pyproject.toml` upwards;
    else in `cwd`. The walk ends before the home directory, the root, another file system and another owner's directory.

    Args:
        cwd: The working directory, or that of a notebook.
        home: The user's home directory, where known.
        environ: The environment.
    """
    cwd = Path(os.path.realpath(cwd))
    home = None if home is None else Path(os.path.realpath(home))
    named = environ.get("NBSTEP_DIR", "").strip()
    if named:
        directory = cwd / _expand(named, home)
        return CachePlace(directory, True, _user_cache(directory, home, environ), "NBSTEP_DIR names it")
    folders = list(_upwards(cwd, home))
    for folder in folders:
        if (folder / FOLDER).is_dir():
            why = f"the nearest {FOLDER} from the working directory upwards"
            return CachePlace(folder / FOLDER, False, _user_cache(folder, home, environ), why)
    for folder in folders:
        if mark := _project_mark(folder):
            why = f"beside the nearest {mark} from the working directory upwards"
            return CachePlace(folder / FOLDER, False, _user_cache(folder, home, environ), why)
    why = "in the working directory, which is in no project"
    return CachePlace(cwd / FOLDER, False, _user_cache(cwd, home, environ), why)


def place_text(path: Path, home: Path | None = None) -> str:
    """A path as shown to people: `~/proj/.nbstep`.

    >>> place_text(Path("/home/ada/proj/.nbstep"), Path("/home/ada"))
    '~/proj/.nbstep'
    """
    if home is None:
        try:
            home = Path.home()
        except RuntimeError:
            return str(path)
    for start in (home, Path(os.path.realpath(home))):
        if path != start and path.is_relative_to(start) and start != Path(start.anchor):
            return "~/" + path.relative_to(start).as_posix()
    return str(path)


def file_in_the_way(folder: Path) -> Path | None:
    """The file that stands where `folder`, or a folder above it, would have to be."""
    nearest = next((path for path in (folder, *folder.parents) if os.path.exists(path)), None)
    return None if nearest is None or os.path.isdir(nearest) else nearest


def _upwards(cwd: Path, home: Path | None) -> Iterator[Path]:
    """`cwd`, then its parents as far as they may belong to the same project."""
    try:
        start = os.stat(cwd)
    except OSError:
        return
    owners = {start.st_uid, os.geteuid()} if hasattr(os, "geteuid") else {start.st_uid}
    for folder in (cwd, *cwd.parents):
        if folder in (home, Path(folder.anchor)):
            return
        try:
            status = os.stat(folder)
        except OSError:
            return
        if status.st_dev != start.st_dev or status.st_uid not in owners:
            return
        yield folder


def _project_mark(folder: Path) -> str | None:
    return next((mark for mark in _PROJECT_MARKS if (folder / mark).exists()), None)


def _expand(named: str, home: Path | None) -> Path:
    if home is not None and (named == "~" or named.startswith(("~/", "~\\"))):
        return home / named[2:]
    return Path(named)


def _user_cache(project: Path, home: Path | None, environ: Mapping[str, str]) -> Path:
    digest = hashlib.sha256(os.fsencode(project)).hexdigest()[:16]
    base = home or Path(os.path.sep)
    if sys.platform == "darwin":
        root = base / "Library" / "Caches"
    elif sys.platform == "win32":
        root = Path(environ.get("LOCALAPPDATA") or base / "AppData" / "Local")
    else:
        named = environ.get("XDG_CACHE_HOME", "")
        root = Path(named) if os.path.isabs(named) else base / ".cache"
    return root / "nbstep" / digest
