"""Entries in a Redis server: one hash an entry, published, replaced, deleted and brought back in one moment each."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nbstep.durations import size_text
from nbstep.stores.base import (
    Document,
    Group,
    Litter,
    NoRoom,
    Part,
    Spot,
    Stamp,
    Totals,
    Traces,
    TrashTotals,
    Waiting,
)
from nbstep.stores.files import key_digest
from nbstep.stores.marks import MARKED_FOR_S
from nbstep.stores.redis.link import Link, connected, of_client
from nbstep.stores.redis.names import Names, is_address
from nbstep.stores.redis.place import RedisPlace
from nbstep.stores.redis.reading import Reader, size_of
from nbstep.stores.redis.trash import KEPT_FOR_MS, RedisTrash
from nbstep.stores.redis.writing import Writer

if TYPE_CHECKING:
    from nbstep.stores.locks import KeyLocks

_EVICTED_MS: Final = 30 * KEPT_FOR_MS
_ENDS_AT_MOST_S: Final = 100 * 365 * 86400.0
_OVERHEAD_BYTES: Final = 8192  # of an entry in a server's memory, much rather too many than too few
_STRANGERS_AT_MOST: Final = 50
_MOVED_AT_ONCE: Final = 200
_SIGNER: Final = re.compile(rb"[0-9a-f]{8}")


def open_server(place: RedisPlace, client: Any = None) -> RedisStore:
    """The store of a URL's server, or of a client's: under names of our own, so that nothing else of the client is touched.

    Raises:
        ModuleNotFoundError: redis-py is missing.
        ValueError: redis-py does not know an option of the URL.
    """
    return RedisStore(connected(place) if client is None else of_client(client, place), place, client)


class RedisStore:
    """Entries in a Redis server, all names under one prefix; a hash each, as `writing.py` says.

    Args:
        link: The way to the server.
        place: The server.
        given: The client that this store is for, if it is for one; held, so that no other can have its `id`.
    """

    directory: Path | None = None
    locks: KeyLocks | None = None

    def __init__(self, link: Link, place: RedisPlace, given: Any = None) -> None:
        self.given = given
        self.place = place.shown
        self.opens_by_place = place.opens
        self.url = place.given
        self.is_async = link.is_async
        self.is_far = not link.is_async
        self.breaker = link.breaker
        self._link = link
        self._names = Names(place.prefix)
        self._trash = RedisTrash(link, self._names)
        self._reader = Reader(link, self._names)
        self._writer = Writer(link, self._names, self.place)
        self._stamps: dict[str, Stamp] = {}
        self._begun: dict[str, Document] = {}
        self._grouped: dict[str, list[str]] = {}

    def address(self, key: str, signer: str) -> str | None:  # noqa: ARG002 - an entry's stamp is known from lists only
        """None: whether an entry changed is not seen without asking the server."""
        return None

    def stamp(self, address: str) -> Stamp | None:
        """The stamp of the entry as it was listed last."""
        return self._stamps.get(address)

    def spot(self, address: str, stamp: Stamp | None) -> Spot:
        """An address tells the signer, a stamp the size."""
        stamp = stamp or self.stamp(address)
        return Spot(address, address[65:], stamp, 0 if stamp is None else stamp[1])

    async def open(self, key: str, signer: str) -> Document | None:
        """What `signer` kept under `key`: one command, and one more for each piece that is read of a large entry."""
        return await self._reader.open(self._names.entry(f"{key_digest(key)}.{signer}"))

    async def open_spot(self, spot: Spot) -> Document | None:
        """The entry that stands at `spot`."""
        return await self._reader.open(self._names.entry(spot.address)) if is_address(spot.address) else None

    async def beginning(self, address: str, count: int) -> Document | None:  # noqa: ARG002 - it is as much as lists ask for
        """The first bytes of an entry; those of a group that was just listed are here already."""
        if (begun := self._begun.pop(address, None)) is not None:
            return begun
        return (await self._reader.beginnings([self._names.entry(address)]))[0]

    async def traces(self, key: str, signer: str) -> Traces:
        """What there is of `key` beside an entry of `signer`, of those who kept something here lately."""
        digest = key_digest(key)
        signers, gone = await self._link.ask_all(
            [("SRANDMEMBER", self._names.signers, _STRANGERS_AT_MOST), ("GET", self._names.gone(digest))]
        )
        others = sorted({one.decode() for one in signers or () if _SIGNER.fullmatch(one)} - {signer})
        there = await self._link.ask_all([("EXISTS", self._names.entry(f"{digest}.{other}")) for other in others])
        strangers = tuple(other for other, stands in zip(others, there, strict=True) if stands)
        return Traces(strangers, trashed=gone == b"deleted", evicted=gone == b"evicted")

    async def publish(self, key: str, signer: str, parts: Sequence[Part], *, durable: bool, batch: str | None) -> None:  # noqa: ARG002
        """Writes an entry; what stood there goes to the trash, for good without a batch.

        Raises:
            NoRoom: The server has no memory left, though the trash was emptied.
            OSError: The server did not answer, or refused it.
        """
        digest = key_digest(key)
        address = f"{digest}.{signer}"
        size = sum(map(len, parts))
        await self._writer.check_room(size)
        for attempt in (1, 2):
            moving = self._trash.moving(address, batch)
            noting = [("SADD", self._names.signers, signer), ("UNLINK", self._names.gone(digest))]
            try:
                await self._writer.write(self._names.entry(address), parts, moving, noting)
            except NoRoom:
                if attempt == 2 or not await self._trash_is_room(size) or not await self._trash.empty():
                    raise
            else:
                return

    async def _trash_is_room(self, size: int) -> bool:
        """Whether an entry may fit in place of the trash, as far as the server tells: else that is not given away for nothing."""
        memory = await self._writer.memory()
        trash = await self.trash()
        freed = 2 * trash.size_bytes + _OVERHEAD_BYTES * trash.entries  # at most: the server's own account is not ours
        return memory is None or memory.used - freed + size <= memory.most

    async def remove(self, keys: Sequence[str], batch: str) -> list[str]:
        """Moves all entries under `keys` to the trash, whoever signed them; returns the keys that had any."""
        by_digest = {key_digest(key): key for key in keys}
        chosen = [address for address in await self._all() if address.partition(".")[0] in by_digest]
        removed = {by_digest[address.partition(".")[0]] for address in await self._move(chosen, batch)}
        return [key for key in keys if key in removed]

    async def remove_spots(self, spots: Sequence[Spot], batch: str) -> list[Spot]:
        """Moves the entries that stand at `spots` to the trash; returns where there was one."""
        removed = set(await self._move([spot.address for spot in spots if is_address(spot.address)], batch))
        return [spot for spot in spots if spot.address in removed]

    async def remove_all(self, batch: str) -> int:
        """Moves every entry to the trash; returns how many. What is not ours is not touched."""
        return len(await self._move(await self._all(), batch))

    async def _move(self, addresses: Sequence[str], batch: str) -> list[str]:
        """Moves entries to the trash, each in one moment; returns the addresses where one stood."""
        moved: list[str] = []
        for at in range(0, len(addresses), _MOVED_AT_ONCE):
            some = addresses[at : at + _MOVED_AT_ONCE]
            replies = await self._link.change(*itertools.chain(*(self._trash.moving(one, batch) for one in some)))
            moved += [address for address, renamed in zip(some, replies[::2], strict=True) if renamed is not None]
        await self._note_gone([address.partition(".")[0] for address in moved], "deleted", KEPT_FOR_MS)
        return moved

    def lost(self, batch: str) -> int:  # noqa: ARG002 - the server renames what goes to the trash, which takes no room
        """None."""
        return 0

    async def spots(self) -> list[Spot]:
        """Where entries stand."""
        addresses = await self._all()
        stamps = await self._stamps_of(addresses)
        return [self.spot(address, stamps[address]) for address in addresses if address in stamps]

    async def addresses(self, group: str) -> list[str]:
        """Where entries of a group stand. What changed since the last list is read too, all at once, for `beginning`."""
        found = self._grouped.pop(group, None)
        if found is None:
            found = [address for address in await self._all() if address[0] == group]
        stamps = await self._stamps_of(found)
        news = [address for address, stamp in stamps.items() if self._stamps.get(address) != stamp]
        begun = zip(news, await self._reader.beginnings([self._names.entry(one) for one in news]), strict=True)
        self._begun = {address: document for address, document in begun if document is not None}
        self._stamps = {one: was for one, was in self._stamps.items() if one[0] != group} | stamps
        return list(stamps)

    async def groups(self) -> list[Group]:
        """Sixteen, by the first digit of an address: one look at the server finds the names of all."""
        grouped: dict[str, list[str]] = {}
        for address in await self._all():
            grouped.setdefault(address[0], []).append(address)
        self._grouped = dict(grouped)
        return [Group(name) for name in sorted(grouped)]

    async def catalog(self, group: Group) -> bytes | None:  # noqa: ARG002 - the beginnings of entries are read as fast
        """None."""
        return None

    async def keep_catalog(self, group: Group, content: bytes | None) -> None:
        """Keeps nothing."""

    async def evict(self, spots: Sequence[Spot], keys: Sequence[str]) -> int:
        """Removes the entries that stand at `spots` for good; remembers that the entries of `keys` went this way."""
        names = [self._names.entry(spot.address) for spot in spots if is_address(spot.address)]
        removed = await self._link.ask_all([("UNLINK", name) for name in names])
        await self._note_gone([key_digest(key) for key in keys], "evicted", _EVICTED_MS)
        return sum(removed)

    async def restore(self, key: str | None, batch: str, back: int = 1) -> list[Spot]:
        """Brings back the trash's last batch, or an entry of `key`; what stood there takes its place, in the same moment."""
        items = await (self._trash.of_batch() if key is None else self._trash.last_of(key_digest(key), back))
        return [self.spot(one.address, None) for one in items if await self._trash.bring_back(one, batch)]

    async def restore_batch(self, name: str, batch: str) -> list[Spot]:
        """Brings back what went to the trash under a batch, named by its digest."""
        items = await self._trash.of_batch(name)
        return [self.spot(one.address, None) for one in items if await self._trash.bring_back(one, batch)]

    async def exchange_back(self, spots: Sequence[Spot], batch: str) -> None:
        """Undoes `restore` at `spots`."""
        for spot in spots:
            trashed = await self._trash.last_in(spot.address, batch)
            if trashed is None or not await self._trash.bring_back(trashed, batch):
                await self._move([spot.address], batch)

    async def waiting(self, batch: str | None = None) -> list[Waiting]:
        """The entries in the trash, with `batch` those of one batch."""
        found = await self._trash.waiting(batch)
        documents = await self._reader.beginnings([item.name for item, _ in found])
        return [
            Waiting(item.at_ns / 1e9, back, functools.partial(_given, document))
            for (item, back), document in zip(found, documents, strict=True)
        ]

    async def trash(self) -> TrashTotals:
        """What waits in the trash."""
        items = await self._trash.items()
        sizes = await self._link.ask_all([("HGET", item.name, "s") for item in items])
        return TrashTotals(len(items), sum(map(size_of, sizes)))

    async def empty_trash(self) -> int:
        """Removes what waits in the trash for good; returns how many entries."""
        return await self._trash.empty()

    async def collect(self, *, dry_run: bool) -> Litter:  # noqa: ARG002 - the server ends by itself what nobody wants any more
        """None: what is unfinished, and what waited for 24 hours, the server removes by itself."""
        return Litter(Totals(0, 0), Totals(0, 0))

    async def end_after(self, key: str, signer: str, seconds: float) -> None:
        """Has the server end an entry, and so never holds what has been of no use for long."""
        name = self._names.entry(f"{key_digest(key)}.{signer}")
        await self._link.ask("PEXPIRE", name, max(1, int(min(seconds, _ENDS_AT_MOST_S) * 1000)))

    async def mark(self, name: str) -> None:
        """Lets a mark stand for an hour from now."""
        await self._link.ask("SET", self._names.mark(name), "1", "PX", int(MARKED_FOR_S * 1000))

    async def is_marked(self, name: str) -> bool:
        """Whether it stands."""
        return bool(await self._link.ask("EXISTS", self._names.mark(name)))

    async def conditions(self) -> list[tuple[str, str]]:
        """What the server says of itself."""
        try:
            found: dict[str, Any] = await self._link.ask("INFO")
        except PermissionError:
            found = {}
        memory = f"{size_text(int(found.get('used_memory', 0)))} used"
        if most := int(found.get("maxmemory", 0)):
            memory += f" of {size_text(most)}, when full: {found.get('maxmemory_policy', 'noeviction')}"
        return [
            ("server", f"Redis {found.get('redis_version', 'of an unknown version')}, {memory}"),
            ("names", self._names.pattern("")),
            ("locks", "none: two kernels may both compute a key"),
        ]

    async def _all(self) -> list[str]:
        """The addresses of all entries under our prefix."""
        names = await self._link.names(self._names.pattern("e:"))
        return [address for name in names if (address := self._names.address_of(name)) is not None]

    async def _note_gone(self, digests: Sequence[str], why: str, for_ms: int) -> None:
        """Lets the next miss of a key say why its entry went; where the server has no memory for that, it says "new"."""
        with suppress(NoRoom):
            await self._link.ask_all([("SET", self._names.gone(digest), why, "PX", for_ms) for digest in digests])

    async def _stamps_of(self, addresses: Sequence[str]) -> dict[str, Stamp]:
        """The stamps of the entries that stand at these addresses now."""
        stamps = await self._reader.stamps([self._names.entry(address) for address in addresses])
        return {address: stamp for address, stamp in zip(addresses, stamps, strict=True) if stamp is not None}


def _given(document: Document | None) -> Document | None:
    return document
