"""The user's own store: any `MutableMapping`, or any object with get, set, has and delete, sync or async."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from nbstep.stores.base import (
    BytesDocument,
    Document,
    Group,
    Litter,
    Part,
    Spot,
    Stamp,
    Totals,
    Traces,
    TrashTotals,
    Waiting,
)
from nbstep.stores.breaker import Breaker
from nbstep.stores.given import ForeignValue, GivenObject
from nbstep.stores.locks import KeyLock, KeyLocks
from nbstep.stores.memorytrash import MemoryTrash, Removed

_UNLOCKED: Final = KeyLock()


class MappingStore:
    """The user's store as the cache sees it: bytes under the user's own keys, with a trash in memory.

    Args:
        target: The user's object.
        place: Its name as shown; None takes the class's.

    Attributes:
        given: The user's object, as it was given.

    Raises:
        TypeError: It lacks a method.
    """

    directory: Path | None = None
    is_far: bool = False  # who knows whether it may be used in several threads
    locks: KeyLocks | None = None

    def __init__(self, target: Any, place: str | None = None) -> None:
        self.given = target
        self.place = place or type(target).__name__
        self.breaker = Breaker(self.place)
        self._object = GivenObject(target, self.breaker)
        self.is_async = self._object.is_async
        self._trash = MemoryTrash()
        self._evicted: set[str] = set()

    def address(self, key: str, signer: str) -> str | None:  # noqa: ARG002 - the user's store has no stamps
        """None: whether an entry changed is not seen without reading it."""
        return None

    def stamp(self, address: str) -> Stamp | None:  # noqa: ARG002 - as above
        """None."""
        return None

    def spot(self, address: str, stamp: Stamp | None) -> Spot:
        """A key tells neither signer nor size."""
        return Spot(address, stamp=stamp)

    async def open(self, key: str, signer: str) -> Document | None:  # noqa: ARG002 - one entry a key, whoever signed it
        """What stands under `key`.

        Raises:
            ForeignValue: It is no entry of nbstep.
        """
        content = await self._object.get(key)
        return None if content is None else BytesDocument(content)

    def take_new(self, key: str, signer: str) -> KeyLock | None:  # noqa: ARG002 - as open()
        """A lock that locks nothing, on a key of which a `dict` holds nothing; None says nothing, as of the user's own store."""
        if type(self.given) is not dict or key in self.given or key in self._evicted or self._trash.holds(key):
            return None
        return _UNLOCKED

    async def open_spot(self, spot: Spot) -> Document | None:
        """The entry that stands at `spot`."""
        return await self.open(spot.address, "")

    async def beginning(self, address: str, count: int) -> Document | None:  # noqa: ARG002 - `get` gives all there is
        """The whole entry."""
        return await self.open(address, "")

    async def traces(self, key: str, signer: str) -> Traces:  # noqa: ARG002 - as open()
        """What became of `key`, as far as this object saw."""
        return Traces(trashed=self._trash.holds(key), evicted=key in self._evicted)

    async def publish(self, key: str, signer: str, parts: Sequence[Part], *, durable: bool, batch: str | None) -> None:  # noqa: ARG002
        """Hands the whole entry to the user's `set`; what stood there goes to the trash, for good without a batch."""
        content = b"".join(parts)
        if not self._object.add(key, content):
            await self._replace(key, content, batch)
        self._evicted.discard(key)

    async def remove(self, keys: Sequence[str], batch: str) -> list[str]:
        """Moves the entries under `keys` to the trash; returns the keys that had one."""
        removed: list[str] = []
        for key in keys:
            if await self._object.has(key) and await self._saved(key, batch):
                await self._object.delete(key)
                removed.append(key)
        return removed

    async def remove_spots(self, spots: Sequence[Spot], batch: str) -> list[Spot]:
        """Moves the entries that stand at `spots` to the trash; returns where there was one."""
        removed = set(await self.remove([spot.address for spot in spots], batch))
        return [spot for spot in spots if spot.address in removed]

    async def remove_all(self, batch: str) -> int:
        """Moves every entry to the trash; returns how many there were."""
        saved = [key for key in await self._object.keys() if await self._saved(key, batch)]
        await self._object.clear(saved)
        return len(saved)

    def lost(self, batch: str) -> int:  # noqa: ARG002 - the trash is in memory
        """None."""
        return 0

    async def groups(self) -> list[Group]:
        """One, of everything."""
        return [Group("")]

    async def catalog(self, group: Group) -> bytes | None:  # noqa: ARG002 - nothing is kept in a user's own store but entries
        """None."""
        return None

    async def keep_catalog(self, group: Group, content: bytes | None) -> None:
        """Keeps nothing."""

    async def spots(self) -> list[Spot]:
        """The keys that `keys()` names and those that were used here."""
        return [Spot(key) for key in await self._object.keys()]

    async def addresses(self, group: str) -> list[str]:  # noqa: ARG002 - there is one group only
        """The same keys."""
        return await self._object.keys()

    async def evict(self, spots: Sequence[Spot], keys: Sequence[str]) -> int:
        """Deletes the entries that stand at `spots` for good; remembers `keys` as long as this object lives."""
        evicted = 0
        for spot in spots:
            if await self._is_entry(spot.address):
                await self._object.delete(spot.address)
                evicted += 1
        self._evicted.update(keys)
        return evicted

    async def restore(self, key: str | None, batch: str, back: int = 1) -> list[Spot]:
        """Brings back the trash's last batch, or an entry of `key`.

        Raises:
            ForeignValue: Something of the user's stands in the place of each of them. They stay in the trash.
        """
        restored: list[Spot] = []
        refused: dict[str, ForeignValue] = {}
        waiting = self._trash.take_back(key, back)
        try:
            for item in list(waiting):
                try:
                    await self._replace(item.key, item.content, batch)
                except ForeignValue as foreign:
                    refused[item.key] = foreign
                    continue
                waiting.remove(item)
                restored.append(Spot(item.key))
        finally:
            self._trash.put_back(waiting)  # what the store did not take can be brought back later
        if refused and not restored:
            raise next(iter(refused.values()))
        return restored

    async def exchange_back(self, spots: Sequence[Spot], batch: str) -> None:
        """Undoes `restore` at `spots`."""
        for spot in spots:
            taken = self._trash.take_last(spot.address, batch)
            if taken is None:
                await self.remove_spots([spot], batch)
                continue
            try:
                await self._replace(taken.key, taken.content, batch)
            except BaseException:
                self._trash.put_back([taken])
                raise

    async def waiting(self, batch: str | None = None) -> list[Waiting]:
        """The entries in the trash, with `batch` those of one batch."""
        return [
            Waiting(item.at_ns / 1e9, back, functools.partial(BytesDocument, item.content))
            for item, back in self._trash.waiting(batch)
        ]

    async def trash(self) -> TrashTotals:
        """What waits in the trash."""
        return self._trash.totals()

    async def empty_trash(self) -> int:
        """Removes what waits in the trash for good; returns how many entries."""
        return self._trash.empty()

    async def collect(self, *, dry_run: bool) -> Litter:
        """Removes for good what the trash held for 24 hours; with `dry_run` only says what."""
        return Litter(Totals(0, 0), self._trash.collect(dry_run=dry_run))

    async def _replace(self, key: str, content: bytes, batch: str | None) -> None:
        """Puts an entry under `key`; what stood there goes to the trash, or stays where it is if that fails."""
        saved = await self._save_copy(key, batch)
        try:
            await self._object.set(key, content)
        except Exception:
            if saved is not None and await self._still_holds(saved):
                self._trash.drop(saved)
            raise

    async def _still_holds(self, saved: Removed) -> bool:
        try:
            return await self._object.get(saved.key) == saved.content
        except Exception:  # noqa: BLE001 - a store that fails may have lost it
            return False

    async def _save_copy(self, key: str, batch: str | None) -> Removed | None:
        """Puts a copy of the entry under `key` into the trash; None where nothing stands there, or without a batch.

        Raises:
            ForeignValue: Something else stands there, which must be neither replaced nor deleted.
        """
        content = await self._entry(key)
        return None if content is None or batch is None else self._trash.add(key, content, batch)

    async def _entry(self, key: str) -> bytes | None:
        try:
            return await self._object.get(key)
        except ForeignValue as foreign:
            if foreign.entry is None:
                raise
            return foreign.entry

    async def _saved(self, key: str, batch: str) -> bool:
        try:
            return await self._save_copy(key, batch) is not None
        except ForeignValue:
            return False

    async def _is_entry(self, key: str) -> bool:
        try:
            return await self._entry(key) is not None
        except ForeignValue:
            return False
