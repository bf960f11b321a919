"""The disk store's trash: whole entries, moved here by rename, for 24 hours."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nbstep.forks import ThreadLock
from nbstep.stores import files
from nbstep.stores.base import Totals, TrashTotals

KEPT_FOR_NS: Final = 24 * 3600 * 1_000_000_000
_AHEAD_NS: Final = 3600 * 1_000_000_000
_BATCH: Final = re.compile(r"[0-9a-f]{16}")
_TRASHED: Final = re.compile(r"([0-9a-f]{64}\.[0-9a-f]{8})\.([0-9a-f]{16})")


@dataclass(frozen=True, slots=True)
class _Trashed:
    name: str
    at_ns: int
    batch: str
    path: str


class DiskTrash:
    """A folder of batches; each holds entries under their own names, with the time they came here."""

    def __init__(self, folder: Path, clock: Callable[[], int]) -> None:
        self._folder = str(folder)
        self._root = folder.parent.parent
        self._clock = clock
        self._lock = ThreadLock()
        self._listed: dict[str, tuple[int, list[_Trashed]]] = {}
        self._last_ns = 0

    def take(self, entry: str, batch: str) -> bool:
        """Moves an entry here; False where it is gone already."""
        return self._move(entry, self._target(os.path.basename(entry), batch))

    def save_copy(self, entry: str, batch: str) -> str | None:
        """Keeps what stands at `entry` here as well: its place is about to be taken. None where nothing stands there."""
        try:
            os.lstat(entry)
        except FileNotFoundError:
            return None
        target = self._target(os.path.basename(entry), batch)
        try:
            os.link(entry, target, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except (OSError, NotImplementedError):  # a file system without links; the key has no entry for a moment
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
        self._drop_if_empty(os.path.dirname(trashed))
        return True

    def bring_back(self, trashed: str, target: str) -> bool:
        """Moves an entry back to `target`; False where it is gone already."""
        try:
            files.move(trashed, target)
        except FileNotFoundError:
            return False
        self._forget(trashed)
        self._drop_if_empty(os.path.dirname(trashed))
        return True

    def holds(self, digest: str) -> bool:
        """Whether an entry of the key with this digest is here."""
        return any(item.name.startswith(digest) for item in self._items())

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

    def last_of(self, digest: str) -> list[tuple[str, str]]:
        """The entries of one key that came here last."""
        items = [item for item in self._items() if item.name.startswith(digest)]
        if not items:
            return []
        batch = max(items, key=lambda item: item.at_ns).batch
        newest = {item.name: item for item in sorted(items, key=lambda item: item.at_ns) if item.batch == batch}
        return [(item.name, item.path) for item in newest.values()]

    def totals(self) -> TrashTotals:
        """What waits here."""
        sizes: list[int] = []
        for item in self._items():
            try:
                sizes.append(os.lstat(item.path).st_size)
            except OSError:
                continue
        return TrashTotals(len(sizes), sum(sizes))

    def empty(self) -> int:
        """Removes everything here for good; returns how many entries."""
        return self._remove(list(self._items())).count

    def collect(self, *, dry_run: bool = False) -> Totals:
        """Removes what has been here for 24 hours; with `dry_run` only says what."""
        if not dry_run:
            self._clamp()
        before = self._clock() - KEPT_FOR_NS
        return self._remove([item for item in self._items() if item.at_ns < before], dry_run=dry_run)

    def _clamp(self) -> None:
        """What came here by a clock that was ahead counts from now on, in the order it came."""
        now_ns = self._clock()
        ahead = [item for item in self._items() if item.at_ns > now_ns + _AHEAD_NS]
        for n, item in enumerate(sorted(ahead, key=lambda item: item.at_ns)):
            with suppress(OSError):
                files.move(item.path, f"{os.path.dirname(item.path)}/{item.name}.{now_ns + n:016x}")
            self._forget(item.path)
        if ahead:
            with self._lock:
                self._last_ns = now_ns + len(ahead)

    def _remove(self, items: Sequence[_Trashed], *, dry_run: bool = False) -> Totals:
        sizes: list[int] = []
        for item in items:
            try:
                size = os.lstat(item.path).st_size
            except OSError:
                continue
            if dry_run or files.remove(item.path):
                sizes.append(size)
        for folder in {os.path.dirname(item.path) for item in items} if not dry_run else ():
            self._drop_if_empty(folder)
        return Totals(len(sizes), sum(sizes))

    def _move(self, entry: str, target: str) -> bool:
        try:
            files.move(entry, target)
        except FileNotFoundError:
            return False
        self._forget(target)
        return True

    def _target(self, name: str, batch: str) -> str:
        folder = f"{self._folder}/{hashlib.sha256(batch.encode()).hexdigest()[:16]}"
        files.make_own_folder(folder, self._root)
        with self._lock:
            # Times of this process never repeat, so that no two entries of one key meet under one name.
            self._last_ns = max(self._clock(), self._last_ns + 1)
            return f"{folder}/{name}.{self._last_ns:016x}"

    def _items(self) -> Iterator[_Trashed]:
        if not files.is_own_folder(self._folder, self._root):
            return
        with os.scandir(self._folder) as found:
            batches = [item.name for item in found if _BATCH.fullmatch(item.name)]
        for batch in batches:
            yield from self._batch(batch)

    def _batch(self, batch: str) -> list[_Trashed]:
        folder = f"{self._folder}/{batch}"
        try:
            stamp = os.lstat(folder).st_mtime_ns
            with self._lock:
                known = self._listed.get(batch)
            if known is not None and known[0] == stamp:
                return known[1]
            if not files.is_real_folder(folder):
                return []
            with os.scandir(folder) as found:
                names = [item.name for item in found]
        except (FileNotFoundError, NotADirectoryError):
            return []
        matches = [match for name in names if (match := _TRASHED.fullmatch(name))]
        items = [_Trashed(match[1], int(match[2], 16), batch, f"{folder}/{match[0]}") for match in matches]
        if stamp < self._clock() - 1_000_000_000:  # a folder changed in this very moment may change again unseen
            with self._lock:
                self._listed[batch] = (stamp, items)
        return items

    def _forget(self, path: str) -> None:
        with self._lock:
            self._listed.pop(os.path.basename(os.path.dirname(path)), None)

    def _drop_if_empty(self, folder: str) -> None:
        with self._lock:
            self._listed.pop(os.path.basename(folder), None)
        with suppress(OSError):
            os.rmdir(folder)
