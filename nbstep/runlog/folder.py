"""The folder of the run log: which of its files are runs, which of them count, how one is published and which ones go."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from nbstep.stores import files
from nbstep.stores.base import Stamp

KEPT_RUNS: Final = 200
MAX_FILE_BYTES: Final = 16 << 20
_MAX_READ_BYTES: Final = 64 << 20  # about a second; 200 runs of 2,000 steps are half of it
_AHEAD_S: Final = 3600.0  # other machines' clocks may differ
_REMOVED_AT_ONCE: Final = 1000
_NAME: Final = re.compile(r"\d{16}-[0-9A-Za-z-]{1,64}\.json")


@dataclass(frozen=True, slots=True)
class LogFile:
    """A run's file; while its stamp stands it says the same."""

    path: str
    stamp: Stamp


def runs_directory(cache_directory: Path) -> Path:
    """Where a disk cache's run log stands."""
    return cache_directory / "v1" / "runs"


def log_stamp(cache_directory: Path) -> Stamp | None:
    """What changes with every run that is written, as that moves a file into the folder; None where there is no log."""
    try:
        return files.stamp_of(files.folder_status(runs_directory(cache_directory)))
    except OSError:
        return None


def file_name(run: str, at: float) -> str:
    """The name of a run's file, which begins with the run's start."""
    microseconds = int(at * 1e6) if math.isfinite(at) else 0
    return f"{min(max(microseconds, 0), 10**16 - 1):016d}-{run}.json"


def is_of(path: str, run: str) -> bool:
    """Whether it is a run's file, by its name."""
    return path.endswith(f"-{run}.json")


def newest_files(cache_directory: Path) -> list[LogFile]:
    """The runs that count, newest first: at most 200, of which none is too long, nor are all together."""
    directory = runs_directory(cache_directory)
    found: list[LogFile] = []
    left = _MAX_READ_BYTES
    for name in _names(directory, time.time())[:KEPT_RUNS]:
        path = f"{directory}{os.sep}{name}"
        with suppress(OSError):
            status = os.lstat(path)
            if status.st_size > MAX_FILE_BYTES:
                continue
            left -= status.st_size
            if left < 0:
                break
            found.append(LogFile(path, files.stamp_of(status)))
    return found


def publish(directory: Path, name: str, parts: Sequence[bytes]) -> None:
    """Writes a run's file, all or nothing, and removes what is older than the newest 200.

    Nothing is written where nothing was ever kept, or where the cache was taken away.

    Raises:
        OSError: It cannot be written, or a link stands in the way.
    """
    version = directory.parent
    if not files.is_real_folder(version):
        return
    temporary = version / "tmp" / files.temp_name()
    for folder in (directory, temporary.parent):
        files.make_own_folder(folder, version.parent)
    files.write_file(temporary, parts, durable=False)
    try:
        files.move(temporary, directory / name)
    except BaseException:
        files.remove(temporary)
        raise
    # A step waits for this: the rest of many goes with the runs that follow.
    for path in islice(_superfluous(directory, time.time()), _REMOVED_AT_ONCE):
        files.remove(path)


def collect(cache_directory: Path, now: float, *, dry_run: bool = False) -> tuple[int, int]:
    """Removes runs beyond the newest 200; returns how many files and their size."""
    sizes: list[int] = []
    for path in _superfluous(runs_directory(cache_directory), now):
        with suppress(OSError):
            size = os.lstat(path).st_size
            if dry_run or files.remove(path):
                sizes.append(size)
    return len(sizes), sum(sizes)


def _superfluous(directory: Path, now: float) -> Iterator[str]:
    """The runs beyond the newest ones; only files with names that a run gave."""
    return (f"{directory}{os.sep}{name}" for name in _names(directory, now)[KEPT_RUNS:])


def _names(directory: Path, now: float) -> list[str]:
    """The names of the log's files, newest first.

    Those of the future come last: the clock was set back since, or somebody wants them to outlive all others.
    """
    try:
        if not files.is_own_folder(directory, directory.parent.parent):
            return []
        with os.scandir(directory) as found:
            names = [item.name for item in found if _NAME.fullmatch(item.name) and item.is_file(follow_symlinks=False)]
    except OSError:
        return []
    latest = file_name("~", now + _AHEAD_S)
    return sorted(names, key=lambda name: (name <= latest, name), reverse=True)
