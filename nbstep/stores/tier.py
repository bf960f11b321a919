"""A disk cache in front of a shared one: `cache=[".", "s3://bucket/team"]`."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from nbstep.forks import ThreadLock
from nbstep.notes import error_line
from nbstep.stores.base import (
    Document,
    Group,
    Litter,
    NotEverywhere,
    Part,
    ReadOnly,
    Server,
    Spot,
    Stamp,
    Store,
    Traces,
    TrashTotals,
    Waiting,
    run_now,
)
from nbstep.stores.breaker import Breaker
from nbstep.stores.disk import DiskStore
from nbstep.stores.files import key_digest
from nbstep.stores.ranged import FarDocument

if TYPE_CHECKING:
    from nbstep.stores.locks import KeyLocks

T = TypeVar("T")

_ADDRESS: Final = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{8}")
_FAR: Final = "far/"  # before the names of the far store's groups


class Resting(ConnectionError):  # noqa: N818 - says what it does
    """The far store did not answer a moment ago, and is not asked."""


class TierStore:
    """What is asked of the near store first; what only the far one has is kept near when it is loaded.

    Entries never change, and a key means one result, so a near one is used without asking whether it stands far as well.
    Whatever is kept or deleted goes to both. The far store may fail at any time: that costs its time-out, once a while.

    Args:
        near: On this machine's disk; what belongs to a folder (locks, run log, catalog, limit) is its.
        far: The shared one.
        key_of: Gives the key of an entry that is one's own and whole, None of any other.
    """

    breaker: Breaker | None = None  # the near store always answers

    def __init__(self, near: DiskStore, far: Store, key_of: Callable[[Document], str | None]) -> None:
        self.near = near
        self.far = far
        self.is_async: bool = far.is_async
        self.is_far: bool = far.is_far
        self.directory: Path | None = near.directory
        self.locks: KeyLocks | None = near.locks
        self._key_of = key_of
        self._lock = ThreadLock()
        self._gone: set[str] = set()  # deleted here, while the far store did not answer
        self._only_far: set[str] = set()  # as listed or restored last
        self._near_digests: set[str] = set()
        self._near_addresses: set[str] = set()
        self._last: tuple[str, bool] | None = None  # the last batch, and whether the near store has any of it

    @property
    def place(self) -> str:
        """Both, the near one first."""
        return f"{self.near.place} + {self.far.place}"

    @property
    def opens_by_place(self) -> bool:
        """Whether the far store is found by its place; a folder always is."""
        return isinstance(self.far, Server) and self.far.opens_by_place

    @property
    def url(self) -> str:
        """The far store's."""
        return self.far.url if isinstance(self.far, Server) else ""

    async def conditions(self) -> list[tuple[str, str]]:
        """What the far store says of itself; the folder's own is told where folders are."""
        if (resting := self.why_far_rests()) is not None:
            return [("behind", resting)]
        far = await self.far.conditions() if isinstance(self.far, Server) else []
        return [("behind", f"{self.far.place}, {text}") for name, text in far if name == "server"]

    async def end_after(self, key: str, signer: str, seconds: float) -> None:
        """Has the far store end an entry, where it can and answers; the folder's own stays."""
        if isinstance(self.far, Server) and self.why_far_rests() is None:
            with suppress(Exception):  # it then stays longer
                await self.far.end_after(key, signer, seconds)

    def why_far_rests(self) -> str | None:
        """One line where the far store did not answer a moment ago; else None."""
        line = None if self.far.breaker is None else self.far.breaker.why_resting()
        return None if line is None else f"{line}; until then only {self.near.place} is used"

    def address(self, key: str, signer: str) -> str | None:
        """That in the near store."""
        return self.near.address(key, signer)

    def stamp(self, address: str) -> Stamp | None:
        """The stamp of the near entry, else that of the far one as it was listed."""
        return self._of(address).stamp(address)

    def spot(self, address: str, stamp: Stamp | None) -> Spot:
        """As the store tells it in which the entry stands."""
        return self._of(address).spot(address, stamp)

    async def open(self, key: str, signer: str) -> Document | None:
        """What stands near, else what stands far.

        Raises:
            Resting: Nothing stands near, and the far store did not answer a moment ago.
        """
        found = await self.near.open(key, signer)
        if found is not None or key_digest(key) in self._gone:
            return found
        if (resting := self.why_far_rests()) is not None:
            raise Resting(resting)
        far = await self.far.open(key, signer)
        return None if far is None else FarDocument(far, lambda: self._kept_near(key, signer, far))

    async def open_spot(self, spot: Spot) -> Document | None:
        """The entry that stands at `spot`."""
        return await self._of(spot.address).open_spot(spot)

    async def beginning(self, address: str, count: int) -> Document | None:
        """The beginning of the entry at an address."""
        return await self._of(address).beginning(address, count)

    async def traces(self, key: str, signer: str) -> Traces:
        """What there is of `key` in either."""
        near = await self.near.traces(key, signer)
        if key_digest(key) in self._gone or self.why_far_rests() is not None:
            return near
        far = await self.far.traces(key, signer)
        strangers = tuple(dict.fromkeys((*near.strangers, *far.strangers)))
        return Traces(strangers, near.trashed or far.trashed, near.evicted or far.evicted)

    async def publish(self, key: str, signer: str, parts: Sequence[Part], *, durable: bool, batch: str | None) -> None:
        """Keeps an entry in both.

        Raises:
            NotEverywhere: One of them did not take it.
            OSError: Neither did.
        """
        not_near: OSError | None = None
        try:
            await self.near.publish(key, signer, parts, durable=durable, batch=batch)
        except OSError as error:
            not_near = error
        not_far = self.why_far_rests()
        if not_far is None:
            try:
                await self.far.publish(key, signer, parts, durable=durable, batch=batch)
            except Exception as error:  # noqa: BLE001 - the user's own store may raise anything
                not_far = f"{self.far.place} did not take it ({_said(error)}): it is kept in {self.near.place} only"
        self._gone.discard(key_digest(key))
        self._note(batch, near=True)
        if not_near is not None and not_far is not None:
            raise not_near
        if not_near is not None:
            why = not_near.told if isinstance(not_near, ReadOnly) else not_near.strerror or not_near
            raise NotEverywhere(f"{why}: it is kept in {self.far.place} only") from not_near
        if not_far is not None:
            raise NotEverywhere(not_far)

    async def remove(self, keys: Sequence[str], batch: str) -> list[str]:
        """Moves all entries under `keys` to the trash of each store; returns the keys that had any.

        Raises:
            NotEverywhere: They are gone here, and the far store did not answer. Until it is asked again, they stay gone here.
        """
        near = await self.near.remove(keys, batch)
        self._note(batch, near=bool(near))
        digests = {key_digest(key) for key in keys}
        self._gone |= digests
        far = await self._from_far(self.far.remove(keys, batch), "deleted")
        self._gone -= digests
        return [key for key in keys if key in {*near, *far}]

    async def remove_spots(self, spots: Sequence[Spot], batch: str) -> list[Spot]:
        """Moves the entries that stand at `spots`, in either store, to the trash; returns where there was one."""
        near = await self.near.remove_spots(spots, batch)
        self._note(batch, near=bool(near))
        far = await self._from_far(
            self.far.remove_spots([replace(spot, stamp=None) for spot in spots], batch), "deleted"
        )
        had = {spot.address for spot in (*near, *far)}
        return [spot for spot in spots if spot.address in had]

    async def remove_all(self, batch: str) -> int:
        """Moves every entry of both to the trash; returns how many there were, each counted once."""
        listed = [spot.address for spot in await self.spots()]
        near = await self.near.remove_all(batch)
        self._note(batch, near=bool(near))
        await self._from_far(self.far.remove_all(batch), "deleted")
        return len(listed)

    def lost(self, batch: str) -> int:
        """How many entries of a batch went for good, as the near store's disk had no room."""
        return self.near.lost(batch)

    async def spots(self) -> list[Spot]:
        """Where entries stand, each of those that stand in both once."""
        near = await self.near.spots()
        self._list_near([spot.address for spot in near])
        far: list[Spot] = []
        if self.why_far_rests() is None:
            with suppress(OSError):
                far = [spot for spot in await self.far.spots() if self._is_only_far(spot.address)]
        self._only_far = {spot.address for spot in far}
        return [*near, *far]

    async def groups(self) -> list[Group]:
        """The near store's, and, where it answers, the far one's."""
        near = await self.near.groups()
        self._list_near([address for group in near for address in await self.near.addresses(group.name)])
        far: list[Group] = []
        if self.why_far_rests() is None:
            with suppress(OSError):
                far = await self.far.groups()
        self._only_far = set()
        return [*near, *(Group(f"{_FAR}{group.name}") for group in far)]

    async def addresses(self, group: str) -> list[str]:
        """Where entries of a group stand; of a far one without what stands near, too."""
        if not group.startswith(_FAR):
            return await self.near.addresses(group)
        found: list[str] = []
        with suppress(OSError):  # else only what is near is listed
            found = list(filter(self._is_only_far, await self.far.addresses(group.removeprefix(_FAR))))
        self._only_far.update(found)
        return found

    async def catalog(self, group: Group) -> bytes | None:
        """The text that the near store keeps about a group of its own."""
        return None if group.name.startswith(_FAR) else await self.near.catalog(group)

    async def keep_catalog(self, group: Group, content: bytes | None) -> None:
        """Keeps a text about a group of the near store."""
        if not group.name.startswith(_FAR):
            await self.near.keep_catalog(group, content)

    async def evict(self, spots: Sequence[Spot], keys: Sequence[str]) -> int:
        """Removes the entries that stand at `spots` for good; to make room in the near store, that one is asked itself."""
        near = await self.near.evict(spots, keys)
        return max(near, await self.far.evict(spots, ()))

    async def restore(self, key: str | None, batch: str, back: int = 1) -> list[Spot]:
        """Brings back the last batch, or an entry of `key`, in both stores: the far one gets what the near one has again.

        What only the far store had comes back there.
        """
        spots: list[Spot] = []
        near_has_it = self._last is None or self._last[1]
        if key is not None or near_has_it:
            spots = await self.near.restore(key, batch, back)
        self._note(batch, near=bool(spots))
        back_near = {spot.address for spot in spots}
        far: list[Spot] = []
        if not spots:
            far = await self._from_far(self.far.restore(key, batch, back), "brought back")
        elif key is None:
            far = await self._batch_of(spots, batch)
        self._gone -= {spot.address[:64] for spot in (*spots, *far)}
        for spot in spots:
            if spot.address not in {one.address for one in far}:
                await self._push(spot, batch)
        only_far = [spot for spot in far if spot.address not in back_near]
        self._only_far.update(spot.address for spot in only_far)
        return [*spots, *only_far]

    async def exchange_back(self, spots: Sequence[Spot], batch: str) -> None:
        """Undoes `restore` at `spots`."""
        await self.near.exchange_back([spot for spot in spots if spot.address not in self._only_far], batch)
        only_far = [spot for spot in spots if spot.address in self._only_far]
        if only_far:
            await self._from_far(self.far.exchange_back(only_far, batch), "brought back")

    async def waiting(self, batch: str | None = None) -> list[Waiting]:
        """The entries in the near store's trash, with `batch` those of one batch."""
        return await self.near.waiting(batch)

    async def trash(self) -> TrashTotals:
        """What waits in the near store's trash."""
        return await self.near.trash()

    async def empty_trash(self) -> int:
        """Empties the near store's trash; the far one's is there for others, too, and ends after its time."""
        return await self.near.empty_trash()

    async def collect(self, *, dry_run: bool) -> Litter:
        """What nobody can want any more in the near store."""
        return await self.near.collect(dry_run=dry_run)

    def _of(self, address: str) -> Store:
        return self.far if address in self._only_far else self.near

    def _list_near(self, addresses: Sequence[str]) -> None:
        self._near_addresses = set(addresses)
        self._near_digests = {address[:64] for address in addresses}

    def _is_only_far(self, address: str) -> bool:
        """Whether a far entry stands far only; one whose address is a key, in a store of the user's, by its key."""
        if _ADDRESS.fullmatch(address):
            return address not in self._near_addresses and address[:64] not in self._gone
        return not {key_digest(address)} & (self._near_digests | self._gone)

    def _note(self, batch: str | None, *, near: bool) -> None:
        if batch is not None:
            had = self._last is not None and self._last[0] == batch and self._last[1]
            self._last = (batch, near or had)

    async def _from_far(self, coroutine: Coroutine[Any, Any, T], done: str) -> T:
        """What the far store gives, asked for by a person.

        Raises:
            NotEverywhere: It fails; the near store did its part.
        """
        try:
            return await coroutine
        except Exception as error:
            why = f"{done} in {self.near.place}, but not in {self.far.place} ({_said(error)})"
            raise NotEverywhere(f"{why}: delete it again later" if done == "deleted" else why) from error

    async def _batch_of(self, spots: Sequence[Spot], batch: str) -> list[Spot]:
        """Brings back in the far store what went there with the batch that came back here; nothing where it cannot tell."""
        name = self.near.batch_brought_back(batch)
        restore: Callable[[str, str], Coroutine[Any, Any, list[Spot]]] | None = getattr(self.far, "restore_batch", None)
        if name is None or restore is None or not spots:
            return []
        return await self._from_far(restore(name, batch), "brought back")

    async def _push(self, spot: Spot, batch: str) -> None:
        document = await self.near.open_spot(spot)
        key = None if document is None else self._key_of(document)
        if document is not None and key is not None:
            content = document.buffers([(0, document.size_bytes)])
            signer = spot.address[65:]
            await self._from_far(self.far.publish(key, signer, content, durable=False, batch=batch), "brought back")

    def _kept_near(self, key: str, signer: str, far: Document) -> Document:
        """A copy of a far entry in the near store; the far one itself where it is not whole, or the disk does not take it."""
        with suppress(OSError, EOFError):
            content = far.buffers([(0, far.size_bytes)])
            run_now(self.near.publish(key, signer, content, durable=False, batch=None))
            document = run_now(self.near.open(key, signer))
            if document is not None:
                if self._key_of(document) == key:
                    return document
                spot = self.near.spot(self.near.address(key, signer) or "", None)
                run_now(self.near.evict([spot], ()))
        return far


def _said(error: BaseException) -> str:
    """An error in one line, without what it means for a store that stands alone."""
    return error.told if isinstance(error, ReadOnly) else error_line(error)
