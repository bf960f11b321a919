"""Entries as files under `.nbstep`: one immutable file an entry, published by one rename, deleted into a trash."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from nbstep.durations import size_text
from nbstep.errors import CacheDirectoryError
from nbstep.project import place_text
from nbstep.stores import files
from nbstep.stores.base import Document, Part, Spot, TrashTotals
from nbstep.stores.disktrash import DiskTrash
from nbstep.stores.files import key_digest
from nbstep.stores.locks import KeyLocks, system_flock

KEEP_FREE_BYTES: Final = 2_000_000_000
_ENTRY: Final = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{8}")
_SHARD: Final = re.compile(r"[0-9a-f]{2}")
_TAG: Final = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# This file marks a cache directory of nbstep; backup tools skip it. See https://bford.info/cachedir/\n"
)
_COLLECT_EVERY_S: Final = 3600.0


class NoRoom(OSError):  # noqa: N818 - the name says what happened
    """Writing would fill the last free bytes of the disk."""


class DiskStore:
    """A cache directory.

    Args:
        directory: The `.nbstep` folder itself; it is created, readable by its owner only.
        clock: Gives nanoseconds since the epoch.
        keep_free_bytes: What must stay free on the disk.

    Raises:
        CacheDirectoryError: The folder cannot be created or written.
    """

    is_async: bool = False

    def __init__(
        self,
        directory: Path,
        *,
        clock: Callable[[], int] = time.time_ns,
        keep_free_bytes: int = KEEP_FREE_BYTES,
    ) -> None:
        self._clock = clock
        self._keep_free_bytes = keep_free_bytes
        self._lock = threading.RLock()
        self._collected_at: float = 0.0
        _create(directory)
        self.directory: Path = directory.resolve()
        self.place = place_text(self.directory)
        self._entries = self.directory / "v1" / "e"
        self._temps = self.directory / "v1" / "tmp"
        self._trash = DiskTrash(self.directory / "v1" / "trash", clock)
        self.locks = KeyLocks(self.directory, system_flock())
        self._mappable = files.may_map(self.directory)

    async def open(self, key: str, signer: str) -> Document | None:
        """What `signer` kept under `key`."""
        return files.open_document(self._path(f"{key_digest(key)}.{signer}"), self._mappable)

    async def open_spot(self, spot: Spot) -> Document | None:
        """The entry that stands at `spot`."""
        if not _ENTRY.fullmatch(spot.address):
            return None
        return files.open_document(self._path(spot.address), self._mappable)

    async def strangers(self, key: str, signer: str) -> tuple[str, ...]:
        """Who else kept an entry under `key`."""
        digest = key_digest(key)
        names = (name for name, _ in self._shard(digest[:2]) if name.startswith(digest))
        return tuple(sorted(name[65:] for name in names if name[65:] != signer))

    async def publish(self, key: str, signer: str, parts: Sequence[Part], *, durable: bool, batch: str) -> None:
        """Writes a temporary file and renames it into place; what stood there goes to the trash.

        Raises:
            NoRoom: The disk would be full.
            OSError: The file cannot be written.
        """
        self._collect()
        self._make_room(sum(len(part) for part in parts))
        target = self._path(f"{key_digest(key)}.{signer}")
        files.make_own_folder(self._temps, self.directory)
        files.make_own_folder(target.parent, self.directory)
        temp = self._temps / files.temp_name()
        files.write_file(temp, parts, durable=durable)
        try:
            self._trash.save_copy(target, batch)
            files.move(temp, target)
            if durable:
                files.sync_folder(target.parent)
        except BaseException:
            temp.unlink(missing_ok=True)
            raise

    async def remove(self, keys: Sequence[str], batch: str) -> list[str]:
        """Moves all entries under `keys` to the trash, whoever signed them; returns the keys that had any."""
        by_digest = {key_digest(key): key for key in keys}
        removed: dict[str, None] = {}
        for shard in sorted({digest[:2] for digest in by_digest}):
            for name, path in self._shard(shard):
                key = by_digest.get(name[:64])
                if key is not None and self._trash.take(path, batch):
                    removed[key] = None
        return [key for key in keys if key in removed]

    async def remove_all(self, batch: str) -> int:
        """Moves every entry to the trash; returns how many."""
        return sum(self._trash.take(path, batch) for _, path in self._all())

    async def spots(self) -> list[Spot]:
        """Where entries stand."""
        found: list[Spot] = []
        for name, path in self._all():
            try:
                status = os.lstat(path)
            except OSError:
                continue  # deleted meanwhile
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            found.append(Spot(name, signer=name[65:], stamp=stamp))
        return found

    async def trashed(self, key: str) -> bool:
        """Whether an entry of `key` waits in the trash."""
        return self._trash.holds(key_digest(key))

    async def restore(self, key: str | None, batch: str) -> list[Spot]:
        """Brings back the trash's last batch, or the last entry of `key`."""
        with self._lock:
            names = self._trash.last_batch() if key is None else self._trash.last_of(key_digest(key))
            restored: list[Spot] = []
            for name, trashed in names:
                target = self._path(name)
                files.make_own_folder(target.parent, self.directory)
                self._trash.save_copy(target, batch)
                if self._trash.bring_back(trashed, target):
                    restored.append(Spot(name, signer=name[65:]))
            return restored

    async def trash(self) -> TrashTotals:
        """What waits in the trash."""
        return self._trash.totals()

    async def empty_trash(self) -> int:
        """Removes what waits in the trash for good; returns how many entries."""
        return self._trash.empty()

    def _path(self, name: str) -> Path:
        return self._entries / name[:2] / name

    def _shard(self, shard: str) -> Iterator[tuple[str, Path]]:
        folder = self._entries / shard
        if not files.is_own_folder(folder, self.directory):
            return
        with os.scandir(folder) as found:
            names = [item.name for item in found]
        for name in names:
            if _ENTRY.fullmatch(name) and name[:2] == shard:
                yield name, folder / name

    def _all(self) -> Iterator[tuple[str, Path]]:
        if not files.is_own_folder(self._entries, self.directory):
            return
        with os.scandir(self._entries) as found:
            shards = sorted(item.name for item in found if _SHARD.fullmatch(item.name))
        for shard in shards:
            yield from self._shard(shard)

    def _make_room(self, size: int) -> None:
        free = files.free_bytes(self.directory)
        if free is None or free - size >= self._keep_free_bytes:
            return
        self._trash.empty()
        free = files.free_bytes(self.directory) or 0
        if free - size < self._keep_free_bytes:
            raise NoRoom(
                f"the disk of {self.place} has {size_text(free)} free and this entry needs {size_text(size)}; "
                f"nbstep leaves {size_text(self._keep_free_bytes)} free: remove entries or other files"
            )

    def _collect(self) -> None:
        now_s = self._clock() / 1e9
        if abs(now_s - self._collected_at) < _COLLECT_EVERY_S:
            return
        self._collected_at = now_s
        files.collect_temps(self._temps, now_s)
        self._trash.collect()
        self.locks.collect()


def _create(directory: Path) -> None:
    try:
        files.make_private(directory)
        if not directory.is_dir():
            raise NotADirectoryError("it is a file")
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError("it is not writable for you")
        # The tag first: by it another kernel, which opens the folder in this moment, knows it for a cache.
        for name, text in (("CACHEDIR.TAG", _TAG), (".gitignore", "*\n")):
            if not os.path.lexists(directory / name):
                files.write_file(directory / name, [text.encode()], durable=False)
    except FileExistsError:
        return  # another kernel wrote the same file in this moment
    except OSError as error:
        why = error.strerror or str(error)
        raise CacheDirectoryError(
            f"the cache directory {place_text(directory)} cannot be used: {why}. "
            f"Choose another one: cache={str(Path.home() / 'nbstep-cache')!r}, or set NBSTEP_DIR"
        ) from error
