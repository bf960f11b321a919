"""Files of the disk store: private folders, all-or-nothing writes, reads that follow no link."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import mmap
import os
import platform
import re
import stat
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nbstep.stores.base import BytesDocument, Part, Stamp

KEEP_FREE_BYTES: Final = 2_000_000_000
MAP_FROM_BYTES: Final = 64 * 1024
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_FOLLOW: Final[int] = getattr(os, "O_NOFOLLOW", 0)
_AT_ONCE: Final[int] = getattr(os, "O_NONBLOCK", 0)  # a pipe that somebody put there must not hold up the reader
# A file itself, never what a link leads to; no program that is started inherits it.
PLAIN: Final[int] = _NO_FOLLOW | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_JOINED_BYTES_AT_MOST: Final = 1 << 16  # copying so little takes less time than a second write
_WINDOWS: Final = sys.platform == "win32"
_NETWORK: Final = re.compile(
    r"nfs\d?|cifs|smb\w*|9p|afs|ceph|lustre|gpfs|beegfs|glusterfs|virtiofs|fuse.*|prl_fs|vboxsf|drvfs"
)

# Before Python 3.13 every map holds a file descriptor, and systems allow a thousand or so.
_MAPS_AT_MOST: Final = 256
_maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


class FileDocument:
    """An entry's file, held open; large buffers are copy-on-write maps of it where that is safe."""

    __slots__ = ("_fd", "_may_map", "size_bytes", "stamp")

    def __init__(self, fd: int, status: os.stat_result, may_map: Callable[[], bool]) -> None:
        self._fd = fd
        self._may_map = may_map
        self.size_bytes = status.st_size
        self.stamp: Stamp | None = stamp_of(status)

    def read(self, at: int, count: int) -> bytes:
        """A private copy of `count` bytes from `at`; fewer where the file ends."""
        if not _WINDOWS and count <= _JOINED_BYTES_AT_MOST:
            content = os.pread(self._fd, count, at)
            if len(content) == min(count, self.size_bytes - at):
                return content
        return bytes(self._copy(at, count))

    def buffers(self, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        """Writable bytes for each (at, count); they belong to the caller alone.

        Raises:
            EOFError: The file became shorter meanwhile.
        """
        mapped = self._map_for(ranges)
        views: list[memoryview] = []
        for at, count in ranges:
            if mapped is not None and count >= MAP_FROM_BYTES:
                views.append(mapped[at : at + count])
                continue
            copy = self._copy(at, count)
            if len(copy) < count:
                raise EOFError("the file became shorter")
            views.append(memoryview(copy))
        return views

    def _map_for(self, ranges: Sequence[tuple[int, int]]) -> memoryview | None:
        """One map for one caller: what one writes must not show in what the next is given."""
        ends = [at + count for at, count in ranges if count >= MAP_FROM_BYTES]
        if not ends or not self._may_map() or os.fstat(self._fd).st_size < max(ends):
            return None
        if sys.version_info >= (3, 13):
            mapped = mmap.mmap(self._fd, max(ends), access=mmap.ACCESS_COPY, trackfd=False)
        elif len(_maps) < _MAPS_AT_MOST:
            mapped = mmap.mmap(self._fd, max(ends), access=mmap.ACCESS_COPY)
            _maps.add(mapped)
        else:
            return None
        return memoryview(mapped)

    def _copy(self, at: int, count: int) -> bytearray:
        content = bytearray(max(0, min(count, self.size_bytes - at)))
        view, done = memoryview(content), 0
        while done < len(content):
            if _WINDOWS:
                os.lseek(self._fd, at + done, os.SEEK_SET)
                piece = os.read(self._fd, len(content) - done)
                view[done : done + len(piece)] = piece
                got = len(piece)
            else:
                got = os.preadv(self._fd, [view[done:]], at + done)
            if got == 0:
                break
            done += got
        view.release()
        del content[done:]
        return content

    def __del__(self) -> None:
        with contextlib.suppress(OSError):  # what was read from it stays as it is
            os.close(self._fd)


def open_document(path: str | Path, may_map: Callable[[], bool]) -> FileDocument | None:
    """Opens an entry's file; None where there is none.

    Raises:
        OSError: It is a link or no regular file, or cannot be read.
    """
    opened = _open_regular(path)
    return None if opened is None else FileDocument(*opened, may_map)


def read_beginning(path: str | Path, count: int) -> BytesDocument | None:
    """Reads the first `count` bytes of an entry's file, as one look at it; None where there is none.

    Raises:
        OSError: It is a link or no regular file, or cannot be read.
    """
    opened = _open_regular(path)
    if opened is None:
        return None
    fd, status = opened
    try:
        return BytesDocument(os.read(fd, count), status.st_size, stamp_of(status))
    finally:
        os.close(fd)


def _open_regular(path: str | Path) -> tuple[int, os.stat_result] | None:
    for attempt in (1, 2):
        try:
            fd = os.open(path, os.O_RDONLY | PLAIN | _AT_ONCE)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise OSError(errno.ELOOP, "is a link, not an entry") from None
            if error.errno == errno.ESTALE and attempt == 1:
                continue
            raise
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "is no regular file")
        except BaseException:
            os.close(fd)
            raise
        return fd, status
    return None


def stamp_of(status: os.stat_result) -> Stamp:
    """What changes with an entry: a new one is always another file."""
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def key_digest(key: str) -> str:
    """The part of a file's name that stands for its key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


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


def temp_name() -> str:
    """A new name for a temporary file; it tells which process made it."""
    return f"{os.urandom(12).hex()}.{os.getpid()}.{_host()}"


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
            total = sum(len(part) for part in parts)
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


def may_map(directory: Path) -> bool:
    """Whether files in `directory` may be mapped: a map of a file that somebody truncates ends the whole kernel."""
    if _WINDOWS:
        return False
    status = os.stat(directory)
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022 and not _on_network(status.st_dev)


def _on_network(device: int) -> bool:
    kind = file_system(device)
    return kind is not None and _NETWORK.fullmatch(kind) is not None


def file_system(device: int) -> str | None:
    """The type of the file system on a device: "ext4", "nfs4"; None where the system does not say."""
    if _WINDOWS:
        return None
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        if len(fields.split()) > 2 and fields.split()[2] == wanted:
            return rest.split(" ")[0]
    return None


@dataclass(frozen=True, slots=True)
class DiskRoom:
    """A disk: what a user may still write on it, and all of it."""

    free_bytes: int
    total_bytes: int

    @property
    def kept_free_bytes(self) -> int:
        """What nbstep leaves free: 2 GB, on a small disk a tenth of it."""
        return min(KEEP_FREE_BYTES, self.total_bytes // 10)


def disk_room(directory: Path) -> DiskRoom | None:
    """The room on the disk of `directory`; None where the system does not say."""
    if not hasattr(os, "statvfs"):
        import shutil

        usage = shutil.disk_usage(directory)
        return DiskRoom(usage.free, usage.total)
    status = os.statvfs(directory)
    return DiskRoom(status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize) if status.f_blocks else None
