"""Files of the disk store: private folders, all-or-nothing writes, moves; nothing here follows a link."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import platform
import re
import stat
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from nbstep.stores.base import Part, Stamp

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
# A file itself, never what a link leads to; no program that is started inherits it.
PLAIN: Final[int] = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_FOLDER: Final[int | None] = getattr(os, "O_DIRECTORY", None)
_OPENS_FOLDERS: Final = None if _FOLDER is None else os.O_RDONLY | _FOLDER | PLAIN
_JOINED_BYTES_AT_MOST: Final = 1 << 16  # copying so little takes less time than a second write
_WINDOWS: Final = sys.platform == "win32"


@functools.lru_cache(maxsize=256)  # each step that computes asks five times, and many do at once
def key_digest(key: str) -> str:
    """The part of a file's name that stands for its key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def stamp_of(status: os.stat_result) -> Stamp:
    """What changes with an entry: a new one is always another file."""
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def make_private(directory: Path) -> None:
    """Creates a folder and its missing parents, each one readable by its owner only.

    Raises:
        OSError: One of them cannot be created, or is a link or a file.
    """
    missing: list[Path] = []
    for folder in (directory, *directory.parents):
        if folder.is_dir():
            break
        missing.append(folder)
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another thread or kernel was faster
            os.mkdir(folder, 0o700)


def is_real_folder(path: str | Path) -> bool:
    """Whether `path` is a folder itself, not a link to one.

    Raises:
        OSError: The system does not say; that is not the same as no.
    """
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def is_own_folder(path: str | Path, root: Path) -> bool:
    """Whether `path` and all folders between it and `root` are folders themselves, so that nothing leads out of `root`.

    Asked at each store, and not remembered: a link may be put there at any time. So it must be cheap, and texts are
    cheaper than paths.

    Raises:
        OSError: The system does not say.
    """
    folder, end = str(path), str(root)
    if not folder.startswith(end + os.sep):
        return folder == end
    try:
        while folder != end:
            if not stat.S_ISDIR(os.lstat(folder).st_mode):
                return False
            folder = folder[: max(folder.rfind("/"), folder.rfind(os.sep))]
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def folder_status(path: str | Path) -> os.stat_result:
    """The status of a folder as whoever serves it has it: a network file system asks anew only where a folder is opened.

    Raises:
        OSError: There is none, or a link.
    """
    if _OPENS_FOLDERS is None:
        return os.lstat(path)
    fd = os.open(path, _OPENS_FOLDERS)
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def names_in(path: str | Path, root: Path) -> list[str]:
    """What stands in a folder inside `root`, whatever its name; nothing where there is no such folder, or not any more.

    Raises:
        OSError: The system does not say.
    """
    try:
        return os.listdir(path) if is_own_folder(path, root) else []
    except (FileNotFoundError, NotADirectoryError):  # another process took it away in this moment
        return []


def make_own_folder(path: str | Path, root: Path) -> None:
    """Creates a folder inside `root`.

    Raises:
        OSError: It cannot be created, or it or one between it and `root` is a link or a file.
    """
    if is_own_folder(path, root):
        return
    inside = Path(path).relative_to(root)
    for folder in (*reversed(inside.parents), inside):
        if folder.name:
            make_private(root / folder)
            if not is_real_folder(root / folder):  # before anything is made behind a link
                os.lstat(root / folder)  # raises `FileNotFoundError` where another process took it away in this moment
                raise OSError(
                    errno.ENOTDIR, f"{root / folder} is a link or a file, where nbstep needs a folder of its own"
                )


_numbers: Final[list[str]] = []


def temp_name() -> str:
    """A new name for a temporary file; it tells which process made it."""
    try:
        number = _numbers.pop()
    except IndexError:
        drawn = os.urandom(12 * 64)  # at once: each call of the system has other threads go first
        _numbers.extend(drawn[at : at + 12].hex() for at in range(12, len(drawn), 12))
        number = drawn[:12].hex()
    return f"{number}.{os.getpid()}.{_host()}"  # a forked child has the same numbers, and another process number


@functools.cache
def _host() -> str:
    return re.sub(r"[^0-9A-Za-z-]", "-", platform.node())[:64] or "host"


def write_file(path: str | Path, parts: Sequence[Part], *, durable: bool) -> None:
    """Writes a new file, readable by its owner only; an error leaves none behind.

    Raises:
        OSError: It exists already, or the disk is full, or worse.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | PLAIN, 0o600)
    try:
        try:
            total = sum(map(len, parts))
            if total > 1 << 20 and hasattr(os, "posix_fallocate"):
                _reserve(fd, total)
            for part in parts if total > _JOINED_BYTES_AT_MOST else [b"".join(parts)]:
                view = memoryview(part).cast("B")
                while view:
                    view = view[os.write(fd, view) :]
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)  # an error here counts: network file systems report a full disk only now
    except BaseException:
        remove(path)
        raise


def _reserve(fd: int, size: int) -> None:
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno in {*FULL, errno.EFBIG}:
            raise


def sync_folder(directory: str | Path) -> None:
    """Makes a rename in `directory` survive a power failure, where the system can."""
    if _WINDOWS:
        return
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def move(source: str | Path, target: str | Path) -> None:
    """Renames over `target`; on Windows waits up to a second for readers that hold it open.

    Raises:
        OSError: It did not work.
    """
    for wait_s in (0.01, 0.04, 0.15, 0.3, 0.5, None):
        try:
            os.replace(source, target)
        except PermissionError:
            if not _WINDOWS or wait_s is None:
                raise
            time.sleep(wait_s)
        else:
            return


def move_first(source: str, target: str) -> bool | None:
    """Moves a file to a place where nothing stands; False where something does, None where that cannot be done so.

    Unlike a rename, this cannot take the place of what another writer puts there in the same moment; not every file system has
    the links it needs.
    """
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        return False
    except (OSError, NotImplementedError):
        return None
    remove(source)
    return True


def remove(path: str | Path) -> bool:
    """Removes a file for good; False where it is gone already, or is in use on Windows."""
    try:
        os.unlink(path)
    except OSError:
        return False
    return True
