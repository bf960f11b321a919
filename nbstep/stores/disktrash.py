"""The disk store's trash: entries that stay in their folder, under a name that is no entry's, for 24 hours.

So whatever was deleted needs no room anywhere else, and a look into one folder tells what became of a key.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from nbstep.forks import ThreadLock
from nbstep.stores import files
from nbstep.stores.base import Totals, TrashTotals

T = TypeVar("T")

KEPT_FOR_NS: Final = 24 * 3600 * 1_000_000_000
_AHEAD_NS: Final = 3600 * 1_000_000_000
_SHARD: Final = re.compile(r"[0-9a-f]{2}")
_TRASHED: Final = re.compile(r"([0-9a-f]{64}\.[0-9a-f]{8})\.([0-9a-f]{16})\.([0-9a-f]{16})")
_OLD_BATCH: Final = re.compile(r"[0-9a-f]{16}")
_OLD_TRASHED: Final = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{8}\.[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class _Trashed:
    name: str
    at_ns: int
    batch: str
    path: str
    size_bytes: int


def is_trashed(name: str) -> bool:
    """Whether a file of this name is in the trash."""
    return _TRASHED.fullmatch(name) is not None


def batch_digest(batch: str) -> str:
    """A batch as it stands in names."""
    return hashlib.sha256(batch.encode()).hexdigest()[:16]


def _newest_first(items: Sequence[_Trashed]) -> list[list[_Trashed]]:
    """The entries of one key; those of several signers that were moved together stay together."""
    units: list[dict[str, _Trashed]] = []
    for item in sorted(items, key=lambda item: item.at_ns, reverse=True):
        if not units or item.name in units[-1] or next(iter(units[-1].values())).batch != item.batch:
            units.append({})
        units[-1][item.name] = item
    return [list(unit.values()) for unit in units]


class DiskTrash:
    """What waits beside the entries: each under its own name, with the time it was moved and its batch."""

    def __init__(self, entries: Path, root: Path, clock: Callable[[], int]) -> None:
        self._folder = str(entries)
        self._lost_mark = str(root / "v1" / "lost")
        self._old = str(root / "v1" / "trash")
        self._root = root
        self._clock = clock
        self._lock = ThreadLock()
        self._listed: dict[str, tuple[int, list[_Trashed]]] = {}
        self._last_ns = 0
        self._lost: dict[str, int] = {}
        self._adopt()

    def take(self, entry: str, batch: str) -> bool:
        """Moves an entry to the trash; False where it is gone already.

        Where a full disk has no room even for its longer name it goes for good, as whoever deletes there needs the room.
        """
        try:
            return self.in_room(lambda: self._move(entry, self._target(entry, batch)), batch)
        except OSError as error:
            if error.errno not in files.FULL:
                raise
        return self._lose(entry, batch)

    def lost(self, batch: str) -> int:
        """How many entries of a batch of this process went for good."""
        return self._lost.get(batch, 0)

    def save_copy(self, entry: str, batch: str) -> str | None:
        """Keeps what stands at `entry` in the trash as well: its place is about to be taken. None where nothing stands there."""
        try:
            os.lstat(entry)
        except FileNotFoundError:
            return None
        target = self._target(entry, batch)
        try:
            os.link(entry, target, follow_symlinks=False)
        except (OSError, NotImplementedError):  # no links here: the key has no entry for a moment; or it is gone
            return target if self._move(entry, target) else None
        self._forget(target)
        return target

    def put_back(self, trashed: str, entry: str) -> None:
        """Undoes `save_copy`, as far as that works: nothing took the entry's place."""
        with suppress(OSError):
            if not self.drop_twin(trashed, entry) and not os.path.lexists(entry):
                self.bring_back(trashed, entry)

    def drop_twin(self, trashed: str, entry: str) -> bool:
        """Removes what is the very file that stands at `entry`: whoever was about to replace it did not come to it."""
        try:
            twins = os.path.samestat(os.lstat(trashed), os.lstat(entry))
        except FileNotFoundError:
            return False
        if not twins or not files.remove(trashed):
            return False
        self._forget(trashed)
        return True

    def bring_back(self, trashed: str, target: str) -> bool:
        """Moves an entry back to `target`; False where it is gone already."""
        try:
            files.move(trashed, target)
        except FileNotFoundError:
            return False
        self._forget(trashed)
        return True

    def bring_back_first(self, trashed: str, target: str) -> bool | None:
        """As `bring_back`, to a place where nothing stands; see `files.move_first`."""
        moved = files.move_first(trashed, target)
        if moved:
            self._forget(trashed)
        return moved

    def last_batch(self) -> list[tuple[str, str]]:
        """The entries of the batch that was added to last; of two with one name the older, which was there before it."""
        items = list(self._items())
        if not items:
            return []
        batch = max(items, key=lambda item: item.at_ns).batch
        oldest: dict[str, _Trashed] = {}
        for item in sorted(items, key=lambda item: item.at_ns):
            if item.batch == batch:
                oldest.setdefault(item.name, item)
        return [(item.name, item.path) for item in oldest.values()]

    def last_of(self, digest: str, back: int = 1) -> list[tuple[str, str]]:
        """The entries of one key that were moved last; with `back` 2 those before them."""
        self._adopt()
        own = files.is_own_folder(self._folder, self._root)
        items = [item for item in self._shard(digest[:2]) if item.name.startswith(digest)] if own else []
        return [(item.name, item.path) for unit in _newest_first(items)[back - 1 : back] for item in unit]

    def waiting(self, batch: str | None) -> list[tuple[int, int, str]]:
        """When each entry was moved, which of its key it is, and where it is; with `batch` those of one batch."""
        of_batch = None if batch is None else batch_digest(batch)
        by_key: dict[str, list[_Trashed]] = {}
        for item in self._items():
            by_key.setdefault(item.name.partition(".")[0], []).append(item)
        return [
            (item.at_ns, back, item.path)
            for items in by_key.values()
            for back, unit in enumerate(_newest_first(items), 1)
            for item in unit
            if of_batch in (None, item.batch)
        ]

    def last_in(self, name: str, batch: str) -> str | None:
        """Where the file of this name is that went to the trash last under a batch; None where none did."""
        if not files.is_own_folder(self._folder, self._root):
            return None
        items = [item for item in self._shard(name[:2]) if (item.name, item.batch) == (name, batch_digest(batch))]
        return max(items, key=lambda item: item.at_ns).path if items else None

    def totals(self) -> TrashTotals:
        """What waits there."""
        sizes = [item.size_bytes for item in self._items()]
        return TrashTotals(len(sizes), sum(sizes), lost=self._lost_lately())

    def empty(self) -> int:
        """Removes all of it for good; returns how many entries."""
        return self._remove(list(self._items())).count

    def in_room(self, put: Callable[[], T], batch: str | None) -> T:
        """Does what a full disk may refuse: then all other batches go, and it is tried once more."""
        try:
            return put()
        except OSError as error:
            if error.errno not in files.FULL:
                raise
            own = None if batch is None else batch_digest(batch)
            if not self._remove([item for item in self._items() if item.batch != own]).count:
                raise
        return put()

    def _lose(self, entry: str, batch: str) -> bool:
        try:
            os.unlink(entry)
        except FileNotFoundError:
            return False
        self._lost[batch] = self._lost.get(batch, 0) + 1
        with suppress(OSError):  # one mark for all; without room for it `undo` finds nothing and does not say why
            if files.is_own_folder(os.path.dirname(self._lost_mark), self._root):
                files.remove(self._lost_mark)
                files.write_file(self._lost_mark, [], durable=False)
        return True

    def _lost_lately(self) -> bool:
        try:
            at_ns = os.lstat(self._lost_mark).st_mtime_ns
        except OSError:
            return bool(self._lost)
        return abs(self._clock() - at_ns) < KEPT_FOR_NS

    def collect(self, *, dry_run: bool = False) -> Totals:
        """Removes what has been there for 24 hours; with `dry_run` only says what."""
        if not dry_run:
            self._clamp()
        before = self._clock() - KEPT_FOR_NS
        return self._remove([item for item in self._items() if item.at_ns < before], dry_run=dry_run)

    def _clamp(self) -> None:
        """What was moved by a clock that was ahead counts from now on, in the order it was."""
        now_ns = self._clock()
        ahead = [item for item in self._items() if item.at_ns > now_ns + _AHEAD_NS]
        for n, item in enumerate(sorted(ahead, key=lambda item: item.at_ns)):
            with suppress(OSError):
                files.move(item.path, f"{os.path.dirname(item.path)}/{item.name}.{now_ns + n:016x}.{item.batch}")
            self._forget(item.path)
        if ahead:
            with self._lock:
                self._last_ns = now_ns + len(ahead)

    def _remove(self, items: Sequence[_Trashed], *, dry_run: bool = False) -> Totals:
        sizes: list[int] = []
        for item in items:
            if os.path.lexists(item.path) if dry_run else files.remove(item.path):
                sizes.append(item.size_bytes)
                self._forget(item.path)
        return Totals(len(sizes), sum(sizes))

    def _move(self, entry: str, target: str) -> bool:
        try:
            files.move(entry, target)
        except FileNotFoundError:
            return False
        self._forget(target)
        return True

    def _target(self, entry: str, batch: str) -> str:
        with self._lock:
            # Times of this process never repeat, so that no two entries of one key meet under one name.
            self._last_ns = max(self._clock(), self._last_ns + 1)
            return f"{entry}.{self._last_ns:016x}.{batch_digest(batch)}"

    def _items(self) -> Iterator[_Trashed]:
        self._adopt()
        for shard in filter(_SHARD.fullmatch, files.names_in(self._folder, self._root)):
            yield from self._shard(shard)

    def _shard(self, shard: str) -> list[_Trashed]:
        folder = f"{self._folder}/{shard}"
        try:
            status = os.lstat(folder)
            with self._lock:
                known = self._listed.get(shard)
            if known is not None and known[0] == status.st_mtime_ns:
                return known[1]
            if not stat.S_ISDIR(status.st_mode):
                return []
            names = os.listdir(folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        items: list[_Trashed] = []
        for match in filter(None, map(_TRASHED.fullmatch, names)):
            path = f"{folder}/{match[0]}"
            with suppress(FileNotFoundError):  # another kernel was faster
                items.append(_Trashed(match[1], int(match[2], 16), match[3], path, os.lstat(path).st_size))
        if status.st_mtime_ns < self._clock() - 1_000_000_000:  # one that changed just now may change again unseen
            with self._lock:
                self._listed[shard] = (status.st_mtime_ns, items)
        return items

    def _forget(self, path: str) -> None:
        with self._lock:
            self._listed.pop(os.path.basename(os.path.dirname(path)), None)

    def _adopt(self) -> None:
        """Takes over what waits in `v1/trash`, a folder a batch: so it was before the trash stood beside the entries."""
        with suppress(OSError):  # what cannot be moved waits there
            if not os.path.lexists(self._old) or not files.is_own_folder(self._old, self._root):
                return
            for batch in filter(_OLD_BATCH.fullmatch, os.listdir(self._old)):
                with suppress(OSError):
                    self._adopt_batch(batch)
            os.rmdir(self._old)

    def _adopt_batch(self, batch: str) -> None:
        folder = f"{self._old}/{batch}"
        if not files.is_real_folder(folder):
            return
        for name in filter(_OLD_TRASHED.fullmatch, os.listdir(folder)):
            shard = f"{self._folder}/{name[:2]}"
            with suppress(OSError):
                files.make_own_folder(shard, self._root)
                files.move(f"{folder}/{name}", f"{shard}/{name}.{batch}")
                self._forget(f"{shard}/{name}")
        os.rmdir(folder)
