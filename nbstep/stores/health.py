"""The folder of a disk cache, examined: its file system, who may read and write it, whether locks work."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from nbstep.stores import files, system

if sys.platform != "win32":
    import fcntl
    import pwd


@dataclass(frozen=True, slots=True)
class DiskHealth:
    """What the folder of a cache stands on.

    Attributes:
        file_system: "ext4", "nfs4"; None where the system does not say.
        mapped: Large buffers are memory maps of the files, else they are read.
        owner: The owner's name or number; None where there are no owners.
        is_mine: The folder belongs to the user of this process.
        mode: The permissions.
        lock_problem: Why `flock` does not work there; None where it does.
        room: Of the disk; None where the system does not say.
    """

    file_system: str | None
    mapped: bool
    owner: str | None
    is_mine: bool
    mode: int
    lock_problem: str | None
    room: system.DiskRoom | None


def examine(directory: Path) -> DiskHealth:
    """Looks at a cache's folder; the lock is tried on a temporary file."""
    status = os.stat(directory)
    return DiskHealth(
        file_system=system.file_system(status.st_dev),
        mapped=system.may_map(directory),
        owner=_owner(status.st_uid),
        is_mine=not hasattr(os, "geteuid") or status.st_uid == os.geteuid(),
        mode=status.st_mode & 0o7777,
        lock_problem=_lock_problem(directory),
        room=system.disk_room(directory),
    )


def _owner(number: int) -> str | None:
    if sys.platform == "win32":
        return None
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _lock_problem(directory: Path) -> str | None:
    if sys.platform == "win32":
        return "this system has no flock"
    temps = directory / "v1" / "tmp"
    temp = temps / files.temp_name()
    try:
        files.make_own_folder(temps, directory)
        files.write_file(temp, [], durable=False)
        fd = os.open(temp, os.O_RDWR)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(fd)
    except OSError as error:
        return error.strerror or str(error)
    finally:
        files.remove(temp)
    return None
