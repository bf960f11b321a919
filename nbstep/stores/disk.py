"""Entries as files under `.nbstep`: one immutable file an entry, published by one rename, deleted into a trash."""

from __future__ import annotations

import errno
import functools
import os
import re
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nbstep.durations import size_text
from nbstep.forks import ThreadLock
from nbstep.project import place_text
from nbstep.stores import documents, files, system
from nbstep.stores.base import (
    NO_TRACES,
    BytesDocument,
    Document,
    Group,
    Litter,
    NoRoom,
    Part,
    ReadOnly,
    Spot,
    Stamp,
    Traces,
    TrashTotals,
    Waiting,
)
from nbstep.stores.breaker import Breaker
from nbstep.stores.bulk import Bulk
from nbstep.stores.catalog import SETTLED_NS, DiskCatalog
from nbstep.stores.clerk.hiring import Clerks, Lost
from nbstep.stores.disktrash import DiskTrash, is_trashed
from nbstep.stores.evictions import Evictions
from nbstep.stores.files import key_digest
from nbstep.stores.folder import create_folder, is_read_only
from nbstep.stores.lately import Lately
from nbstep.stores.litter import collect_temps
from nbstep.stores.locks import KeyLock, KeyLocks, system_flock
from nbstep.stores.replacing import Replacing

if TYPE_CHECKING:
    from nbstep.stores.clerk.client import Handed

_ENTRY: Final = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{8}")
_SHARD: Final = re.compile(r"[0-9a-f]{2}")
_COLLECT_EVERY_S: Final = 3600.0
_ATTEMPTS: Final = 3
_LATELY_S: Final = 10.0
_ROOM_LATELY_S: Final = 0.2
_SMALL_BYTES: Final = 1 << 20
_AMPLE_BYTES: Final = 1 << 28  # small entries do not fill that in the moment that a look at the disk holds


class DiskStore:
    """A cache directory.

    Args:
        directory: The `.nbstep` folder itself; it is created, readable by its owner only. A cache that can only be read
            stays as it is, and keeps nothing.
        clock: Gives nanoseconds since the epoch.
        keep_free_bytes: What must stay free on the disk; None is 2 GB, on a small disk a tenth of it.

    Raises:
        CacheDirectoryError: The folder cannot be created or written.
    """

    is_async: bool = False
    is_far: bool = False
    breaker: Breaker | None = None

    def __init__(
        self,
        directory: Path,
        *,
        clock: Callable[[], int] = time.time_ns,
        keep_free_bytes: int | None = None,
    ) -> None:
        self._clock = clock
        self._keep_free_bytes = keep_free_bytes
        self._lock = ThreadLock()
        self._collected_at: float = 0.0
        self._place: str | None = None
        self._mappable: bool | None = None
        self._brought_back: tuple[str, str] | None = None
        self._read_only = is_read_only(directory)
        if not self._read_only:
            create_folder(directory)
        self.directory: Path = directory.resolve()
        # As texts: joining paths costs more than looking at the file.
        self._entries = str(self.directory / "v1" / "e")
        self._temps = str(self.directory / "v1" / "tmp")
        self._catalog = DiskCatalog(self.directory / "v1" / "catalog", self.directory)
        self._trash = DiskTrash(self.directory / "v1" / "e", self.directory, clock)
        self._evictions = Evictions(self.directory / "v1" / "evicted", self.directory)
        flock = system_flock()
        self._replacing = Replacing(self.directory, self._trash, flock)
        self.locks = KeyLocks(self.directory, flock)
        self._clerks = Clerks(self.directory, keep_free_bytes, self._publish_after_all, self._may_map)
        self.locks.ahead = self._clerks.take
        # While very many steps are taken. There is mostly nothing to remember: no stranger, no trash, no mark.
        self._beside_lately = Lately(self._beside, _LATELY_S)
        self._evicted_lately = Lately(self._evictions.all_of, _LATELY_S)
        self._room_lately = Lately(system.disk_room, _ROOM_LATELY_S)

    @property
    def place(self) -> str:
        """The folder as people know it."""
        if self._place is None:  # found out when it is first shown: the first hit of a process need not wait for it
            self._place = place_text(self.directory)
        return self._place

    def _may_map(self) -> bool:
        if self._mappable is None:
            self._mappable = system.may_map(self.directory)
        return self._mappable

    def address(self, key: str, signer: str) -> str | None:
        """The name of the entry's file."""
        return f"{key_digest(key)}.{signer}"

    def stamp(self, address: str) -> Stamp | None:
        """Time of change, size and inode; a link is no entry."""
        try:
            status = os.lstat(self._path(address))
        except OSError:
            return None
        return files.stamp_of(status)

    def spot(self, address: str, stamp: Stamp | None) -> Spot:
        """A file's name tells the signer, its stamp the size."""
        stamp = stamp or self.stamp(address)
        return Spot(address, address[65:], stamp, 0 if stamp is None else stamp[1])

    async def open(self, key: str, signer: str) -> Document | None:
        """What `signer` kept under `key`."""
        clerk = self._clerks.clerk
        if clerk is not None:
            if (content := clerk.content(key, signer)) is not None:
                return BytesDocument(content)
            if clerk.has_begun(key) or clerk.missing(key, signer) is not None:
                return None
        return documents.open_document(self._path(f"{key_digest(key)}.{signer}"), self._may_map)

    def take_new(self, key: str, signer: str) -> KeyLock | None:
        """The lock that the clerk holds on a key of which there is nothing, entry or trace; None says nothing."""
        clerk = self._clerks.clerk
        if clerk is None:
            return None
        traces = clerk.missing(key, signer)
        if traces is None or traces.strangers or traces.trashed or traces.evicted:
            return None
        return clerk.take(key)

    async def open_spot(self, spot: Spot) -> Document | None:
        """The entry that stands at `spot`."""
        if not _ENTRY.fullmatch(spot.address):
            return None
        return documents.open_document(self._path(spot.address), self._may_map)

    async def beginning(self, address: str, count: int) -> Document | None:
        """The first bytes of a file in the entries' folder, and what was its size and stamp then."""
        return documents.read_beginning(self._path(address), count)

    async def traces(self, key: str, signer: str) -> Traces:
        """What there is of `key` beside an entry of `signer`: one look into one folder, however much is kept or deleted."""
        clerk = self._clerks.clerk
        if clerk is not None and (found := clerk.missing(key, signer)) is not None:
            return found
        return self.traces_here(key, signer)

    def traces_here(self, key: str, signer: str) -> Traces:
        """The same, as this process sees it."""
        digest = key_digest(key)
        if self.locks.spares.are_wanted:
            beside, evicted = self._beside_lately.get((digest[:2], signer)), digest in self._evicted_lately.get(None)
        else:
            beside, evicted = self._beside((digest[:2], signer)), self._evictions.holds(digest)
        if not beside and not evicted:
            return NO_TRACES
        names = [name for name in beside if name.startswith(digest)]
        return Traces(
            strangers=tuple(sorted(name[65:] for name in names if _ENTRY.fullmatch(name))),
            trashed=any(map(is_trashed, names)),
            evicted=evicted,
        )

    def _beside(self, asked: tuple[str, str]) -> list[str]:
        """The names in a shard that are no entries of a signer."""
        shard, signer = asked
        return [name for name in self._listed(shard) if name[65:] != signer]

    async def publish(self, key: str, signer: str, parts: Sequence[Part], *, durable: bool, batch: str | None) -> None:
        """Writes a temporary file and renames it into place; what stood there goes to the trash, for good without a batch.

        Raises:
            NoRoom: The disk would be full.
            ReadOnly: The folder can only be read, as when it was opened.
            OSError: The file cannot be written.
        """
        if self._read_only:
            self._read_only = is_read_only(self.directory)
        if self._read_only:
            raise ReadOnly(f"{self.place} is read-only for you", "Let NBSTEP_DIR, or cache=, name a folder of your own")
        self._collect()
        if not self._clerks.keep(key, signer, parts, batch, durable=durable):
            self._publish_here(key, signer, parts, durable=durable, batch=batch)

    def publish_new(self, key: str, signer: str, parts: Sequence[Part], batch: str) -> bool:
        """Lets the clerk publish an entry under a key that `take_new` gave the lock of; whether it will."""
        return self._clerks.keep(key, signer, parts, batch, durable=False)

    def _publish_here(self, key: str, signer: str, parts: Sequence[Part], *, durable: bool, batch: str | None) -> None:
        digest = key_digest(key)
        for attempt in range(_ATTEMPTS, 0, -1):
            try:
                self._publish(digest, signer, parts, durable=durable, batch=batch)
            except FileNotFoundError:  # another process took a folder away in this moment
                if attempt == 1:
                    raise
            else:
                break
        self._forget_eviction(digest)

    def _forget_eviction(self, digest: str) -> None:
        if not self.locks.spares.are_wanted or digest in self._evicted_lately.get(None):
            self._evictions.forget(digest)

    def bulk(self) -> Bulk:
        """How a clerk works here."""

        def publish(key: str, signer: str, content: bytes, batch: str | None) -> None:
            self._publish_here(key, signer, [content], durable=False, batch=batch)

        return Bulk(self.directory, self._entries, self._temps, self._fits, self._forget_eviction, publish)

    def _publish_after_all(self, entry: Handed) -> None:
        self._publish_here(entry.key, entry.signer, [entry.content], durable=False, batch=entry.batch)

    def _publish(self, digest: str, signer: str, parts: Sequence[Part], *, durable: bool, batch: str | None) -> None:
        target, shard = self._path(f"{digest}.{signer}"), f"{self._entries}/{digest[:2]}"
        stands = files.is_own_folder(shard, self.directory)
        if not stands and not os.path.isdir(self._entries):
            create_folder(self.directory)  # the first entry, or somebody removed the folder under a living kernel
        size = sum(len(part) for part in parts)
        self._make_room(size)
        temp = self._write(parts, size, None if stands else shard, durable=durable)
        try:
            self._trash.in_room(lambda: self._replacing.put(temp, target, batch), batch)
        except BaseException as error:
            files.remove(temp)
            if isinstance(error, OSError) and error.errno in files.FULL:
                raise self._no_room(size) from error
            raise
        if durable:
            files.sync_folder(shard)

    async def remove(self, keys: Sequence[str], batch: str) -> list[str]:
        """Moves all entries under `keys` to the trash, whoever signed them; returns the keys that had any."""
        self._clerks.settle()
        by_digest = {key_digest(key): key for key in keys}
        removed: dict[str, None] = {}
        for shard in sorted({digest[:2] for digest in by_digest}):
            for name in self._listed(shard):
                key = by_digest.get(name[:64])
                if key is not None and _ENTRY.fullmatch(name) and self._take([self._path(name)], batch):
                    removed[key] = None
        return [key for key in keys if key in removed]

    async def remove_spots(self, spots: Sequence[Spot], batch: str) -> list[Spot]:
        """Moves the entries that stand at `spots` to the trash; returns where there was one."""
        self._clerks.settle()
        paths = {path: spot for spot in spots if (path := self._own(spot)) is not None}
        return [paths[path] for path in self._take(list(paths), batch)]

    async def remove_all(self, batch: str) -> int:
        """Moves every entry to the trash; returns how many."""
        self._clerks.settle()
        self._catalog.clear()
        return len(self._take([self._path(name) for name in self._all()], batch))

    @contextmanager
    def many_steps(self, lost: Lost) -> Generator[None]:
        """While very many steps are taken: files of locks go from key to key, and a process of its own may work here.

        Args:
            lost: Is told the keys of entries that could not be published after all, and why.
        """
        with self.locks.spares.wanted(), self._clerks.wanted(lost):
            yield
        if not self._read_only:
            self._collect()

    def expect(self, keys: Sequence[str], signer: str, holder: str | None, count: int) -> None:
        """Says that `holder`, in this process, asks these keys within a moment, of `count` in all."""

        def is_new(key: str) -> bool:
            return self.stamp(f"{key_digest(key)}.{signer}") is None

        if not self._read_only:
            self._clerks.expect(keys, signer, holder, count, is_new)

    def _take(self, paths: Sequence[str], batch: str) -> list[str]:
        taken = self._replacing.take(paths, batch)
        self._beside_lately.forget()
        return taken

    def lost(self, batch: str) -> int:
        """How many entries of a batch of this process went for good, as a full disk had no room to keep them."""
        return self._trash.lost(batch)

    async def spots(self) -> list[Spot]:
        """Where entries stand; what is deleted meanwhile stands nowhere, what the system does not tell of has no stamp."""
        self._clerks.settle()
        found: list[Spot] = []
        for name in self._all():
            try:
                stamp = files.stamp_of(os.lstat(self._path(name)))
            except FileNotFoundError:
                continue
            except OSError:
                found.append(Spot(name, name[65:]))
            else:
                found.append(self.spot(name, stamp))
        return found

    async def addresses(self, group: str) -> list[str]:
        """The names of the files in a shard."""
        self._clerks.settle()
        return list(self._names(group))

    async def groups(self) -> list[Group]:
        """The shards; one that changed within the last seconds has no stamp, as it may change again unseen."""
        self._clerks.settle()
        settled = self._clock() - SETTLED_NS
        found: list[Group] = []
        for shard in self._shards():
            with suppress(OSError):
                status = files.folder_status(f"{self._entries}/{shard}")
                stamp = (status.st_mtime_ns, status.st_ino)
                found.append(Group(shard, stamp if status.st_mtime_ns < settled else None))
        return found

    async def catalog(self, group: Group) -> bytes | None:
        """The text that was kept about a shard."""
        return self._catalog.read(group)

    async def keep_catalog(self, group: Group, content: bytes | None) -> None:
        """Keeps a text about a shard, where there is room for it."""
        with suppress(OSError):
            if not self._read_only and (content is None or self._fits(len(content))):
                self._catalog.write(group, content, f"{self._temps}/{files.temp_name()}")

    async def evict(self, spots: Sequence[Spot], keys: Sequence[str]) -> int:
        """Removes the entries that stand at `spots` for good; remembers that the entries of `keys` went this way."""
        self._clerks.settle()
        removed = sum(files.remove(path) for spot in spots if (path := self._own(spot)) is not None)
        self._evictions.remember([key_digest(key) for key in keys])
        self._evicted_lately.forget()
        return removed

    async def restore(self, key: str | None, batch: str, back: int = 1) -> list[Spot]:
        """Brings back the trash's last batch, or an entry of `key`."""
        self._clerks.settle()
        with self._lock:
            restored: list[Spot] = []
            dropped = True
            while dropped and not restored:
                dropped = False
                names = self._trash.last_batch() if key is None else self._trash.last_of(key_digest(key), back)
                self._brought_back = (batch, names[0][1].rpartition(".")[2]) if names else None
                for name, trashed in names:
                    target = self._path(name)
                    files.make_own_folder(os.path.dirname(target), self.directory)
                    moved = self._bring_back(trashed, target, batch)
                    dropped = dropped or moved is None
                    if moved:
                        restored.append(Spot(name, signer=name[65:]))
            return restored

    def batch_brought_back(self, batch: str) -> str | None:
        """The digest of the batch that `restore` brought back under `batch`, if that was the last one."""
        return self._brought_back[1] if self._brought_back is not None and self._brought_back[0] == batch else None

    async def exchange_back(self, spots: Sequence[Spot], batch: str) -> None:
        """Undoes `restore` at `spots`."""
        self._clerks.settle()
        with self._lock:
            for spot in spots:
                target, trashed = self._own(spot), self._trash.last_in(spot.address, batch)
                if target is not None and (trashed is None or self._bring_back(trashed, target, batch) is False):
                    self._replacing.take([target], batch)

    async def waiting(self, batch: str | None = None) -> list[Waiting]:
        """The entries in the trash, with `batch` those of one batch."""
        return [
            Waiting(at_ns / 1e9, back, functools.partial(documents.open_document, path, self._may_map))
            for at_ns, back, path in self._trash.waiting(batch)
        ]

    async def trash(self) -> TrashTotals:
        """What waits in the trash."""
        return self._trash.totals()

    async def empty_trash(self) -> int:
        """Removes what waits in the trash for good; returns how many entries."""
        return self._trash.empty()

    async def collect(self, *, dry_run: bool) -> Litter:
        """Removes unfinished files of dead processes and what the trash held for 24 hours; with `dry_run` only says what."""
        now_s = self._clock() / 1e9
        if not dry_run:
            self._evictions.collect(now_s)
            self.locks.collect()
        unfinished = collect_temps(Path(self._temps), self.directory, now_s, dry_run=dry_run)
        return Litter(unfinished, self._trash.collect(dry_run=dry_run))

    def _bring_back(self, trashed: str, target: str, batch: str) -> bool | None:
        try:
            return self._replacing.bring_back(trashed, target, batch)
        except OSError as error:
            if error.errno not in files.FULL:
                raise
            raise self._no_room(1) from error

    def _path(self, name: str) -> str:
        return f"{self._entries}/{name[:2]}/{name}"

    def _own(self, spot: Spot) -> str | None:
        """The file at a spot; None for a name that is not ours, or behind a link."""
        if not _ENTRY.fullmatch(spot.address):
            return None
        path = self._path(spot.address)
        return path if files.is_own_folder(os.path.dirname(path), self.directory) else None

    def _listed(self, shard: str) -> list[str]:
        """What stands in a shard, whatever its name."""
        return files.names_in(f"{self._entries}/{shard}", self.directory)

    def _names(self, shard: str) -> Iterator[str]:
        return (name for name in self._listed(shard) if _ENTRY.fullmatch(name) and name[:2] == shard)

    def _shards(self) -> list[str]:
        return sorted(filter(_SHARD.fullmatch, files.names_in(self._entries, self.directory)))

    def _all(self) -> Iterator[str]:
        for shard in self._shards():
            yield from self._names(shard)

    def keep_free_bytes(self) -> int:
        """What nbstep leaves free on this disk."""
        return self._kept_free(system.disk_room(self.directory))

    def _kept_free(self, room: system.DiskRoom | None) -> int:
        if self._keep_free_bytes is not None:
            return self._keep_free_bytes
        return system.KEEP_FREE_BYTES if room is None else room.kept_free_bytes

    def _make_room(self, size: int) -> None:
        if self._fits(size):
            return
        self._trash.empty()
        if not self._fits(size):
            raise self._no_room(size)

    def _fits(self, size: int) -> bool:
        if size <= _SMALL_BYTES and self.locks.spares.are_wanted:
            room = self._room_lately.get(self.directory)
            if room is not None and room.free_bytes - self._kept_free(room) > _AMPLE_BYTES:
                return True
        room = system.disk_room(self.directory)
        return room is None or room.free_bytes - size >= self._kept_free(room)

    def _no_room(self, size: int) -> NoRoom:
        room = system.disk_room(self.directory)
        free = "" if room is None else f" has {size_text(room.free_bytes)} free,"
        if self._fits(size):
            why = f"{free} and takes nothing more: a quota, or too many files"
        else:
            why = (
                f"{free} this entry needs {size_text(size)}, and nbstep leaves {size_text(self.keep_free_bytes())} free"
            )
        fix = "make room with `nbstep rm KEY` (what is kept: `nbstep ls`), "
        fix += "or let NBSTEP_DIR, or cache=, name a folder on a larger disk"
        return NoRoom(errno.ENOSPC, f"the disk of {self.place}{why}: {fix}")

    def _write(self, parts: Sequence[Part], size: int, folder: str | None, *, durable: bool) -> str:
        """Writes a temporary file for `folder`, which is made where it is given.

        Where that fails for want of room that `_fits` cannot see, as at the end of a quota, the trash is emptied and it is
        tried once more.
        """
        for attempt in (1, 2):
            temp = f"{self._temps}/{files.temp_name()}"
            try:
                if folder is not None or not files.is_real_folder(self._temps):  # where it stands, `v1` was looked at
                    files.make_own_folder(self._temps, self.directory)
                if folder is not None:
                    files.make_own_folder(folder, self.directory)
                files.write_file(temp, parts, durable=durable)
            except OSError as error:
                if error.errno not in files.FULL:
                    raise
                if attempt == 2 or not self._trash.empty():
                    raise self._no_room(size) from error
            else:
                return temp
        raise AssertionError("unreachable")

    def _collect(self) -> None:
        now_s = self._clock() / 1e9
        if abs(now_s - self._collected_at) < _COLLECT_EVERY_S:
            return
        self._collected_at = now_s
        with suppress(OSError):  # tidying up can wait; what is to be kept cannot
            collect_temps(Path(self._temps), self.directory, now_s)
            self._trash.collect()
            self._evictions.collect(now_s)
            self.locks.collect()
