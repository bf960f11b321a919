"""Entries as objects, in a bucket or wherever else fsspec reaches: `cache="s3://bucket/team"`."""

from __future__ import annotations

import bisect
import functools
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nbstep.forks import ThreadLock
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
from nbstep.stores.disktrash import batch_digest
from nbstep.stores.files import key_digest
from nbstep.stores.objectnames import FOLDER, Trashed, is_address, object_name, oldest_of_each, sorted_out
from nbstep.stores.objects import Found, Objects, shown_url
from nbstep.stores.ranged import RangedDocument

if TYPE_CHECKING:
    from nbstep.stores.locks import KeyLocks

FIRST_BYTES: Final = 256 * 1024  # one request gives all of a small entry
TRASH_KEPT_NS: Final = 24 * 3600 * 1_000_000_000
_BEGINNING_BYTES: Final = 16 * 1024  # nearly always the whole header
_READ_AT_ONCE: Final = 256
_REMOVED_AT_ONCE: Final = 100


class FsspecStore:
    """One object an entry, `v1/e/<sha256 of the key>/<signer>`; what is replaced or deleted is copied beside it for 24 hours.

    Nothing is moved through this machine for that. An object is whole or not there, so readers and writers need no lock;
    of two who replace an entry in the same moment the last one stands.

    Args:
        url: `s3://bucket/prefix`, or of any other scheme that fsspec knows. Credentials and endpoint come from where its
            package looks for them: the environment, its profiles, fsspec's own configuration.
        clock: Gives nanoseconds since the epoch.

    Raises:
        ValueError: fsspec, or the package behind the scheme, is missing; or nobody knows the scheme.
    """

    is_async: bool = False
    is_far: bool = True
    directory: Path | None = None
    locks: KeyLocks | None = None

    def __init__(self, url: str, *, clock: Callable[[], int] = time.time_ns) -> None:
        self.place = shown_url(url)
        self.breaker = Breaker(self.place)
        self._objects = Objects(url, self.breaker)
        self._clock = clock
        self._lock = ThreadLock()
        self._batches: dict[str, None] = {}  # of this process, the newest last
        self._stamps: dict[str, tuple[Stamp, int]] = {}  # of the last listing
        self._order: list[str] = []
        self._ahead: dict[str, bytes | None] = {}
        self._read_to = ""
        self._at_once = 1

    @property
    def opens_by_place(self) -> bool:
        """Whether its URL as shown is all of it: no password, no options, and not in this process's memory."""
        return self._objects.url == self.place and not self.place.startswith("memory:")

    @property
    def url(self) -> str:
        """Its URL; "" where it is in this process's memory."""
        return "" if self.place.startswith("memory:") else self._objects.url

    async def conditions(self) -> list[tuple[str, str]]:
        """What it stands on."""
        return [("server", self._objects.stands_on()), ("locks", "none: two kernels may both compute a key")]

    async def end_after(self, key: str, signer: str, seconds: float) -> None:
        """Nothing: an object has no time of its own; a rule of the bucket may end old ones."""

    def address(self, key: str, signer: str) -> str | None:  # noqa: ARG002 - a look-up asks the server in any case
        """None: whether an entry changed is not known without asking."""
        return None

    def stamp(self, address: str) -> Stamp | None:
        """The stamp by the last listing."""
        known = self._stamps.get(address)
        return None if known is None else known[0]

    def spot(self, address: str, stamp: Stamp | None) -> Spot:
        """An address tells the signer, a listing the size."""
        known = self._stamps.get(address)
        return Spot(address, address[65:], stamp or self.stamp(address), 0 if known is None else known[1])

    async def open(self, key: str, signer: str) -> Document | None:
        """What `signer` kept under `key`."""
        return self._document(object_name(f"{key_digest(key)}.{signer}"))

    async def open_spot(self, spot: Spot) -> Document | None:
        """The entry that stands at `spot`."""
        self._check_answers()
        return self._document(object_name(spot.address)) if is_address(spot.address) else None

    async def beginning(self, address: str, count: int) -> Document | None:  # noqa: ARG002 - more than anybody asks is read
        """The first bytes of an entry; those of the entries that a listing names next are read with them."""
        with self._lock:
            stamp, size = self._stamps.get(address, (None, 0))
            is_read = address in self._ahead
            ahead = self._ahead.pop(address, None)
            wanted = [] if is_read else self._next(address)
        if not is_read:
            self._check_answers()
            ahead, *others = self._objects.at_once(self._first_bytes, wanted)
            with self._lock:
                self._ahead = dict(zip(wanted[1:], others, strict=True))
        return None if ahead is None else BytesDocument(ahead, max(size, len(ahead)), stamp)

    async def traces(self, key: str, signer: str) -> Traces:
        """What there is of `key` beside an entry of `signer`: one listing of one folder."""
        standing, trashed = sorted_out(self._objects.listed(f"{FOLDER}/{key_digest(key)}"))
        strangers = sorted({address[65:] for address in standing} - {signer})
        return Traces(tuple(strangers), trashed=any(self._is_kept(one) for one in trashed))

    async def publish(self, key: str, signer: str, parts: Sequence[Part], *, durable: bool, batch: str | None) -> None:  # noqa: ARG002
        """Puts one object: where nothing stands, one request; else what stands there is copied to the trash first."""
        address, content = f"{key_digest(key)}.{signer}", b"".join(parts)
        name = object_name(address)
        if self._objects.put_new(name, content):
            return
        if self._objects.get(name, 0, FIRST_BYTES) == content[:FIRST_BYTES]:
            return  # this very entry, signed in this moment: the request came twice on its way
        if batch is not None:
            self._to_trash(address, batch)
        self._objects.put(name, content)

    async def remove(self, keys: Sequence[str], batch: str) -> list[str]:
        """Moves all entries under `keys` to the trash, whoever signed them; returns the keys that had any."""

        def remove(key: str) -> bool:
            standing, _ = sorted_out(self._objects.listed(f"{FOLDER}/{key_digest(key)}"))
            taken = [self._take(address, batch) for address in standing]  # all of them, whatever the first gives
            return any(taken)

        had = self._objects.at_once(remove, keys)
        return [key for key, one in zip(keys, had, strict=True) if one]

    async def remove_spots(self, spots: Sequence[Spot], batch: str) -> list[Spot]:
        """Moves the entries that stand at `spots` to the trash; returns where there was one."""
        own = [spot for spot in spots if is_address(spot.address)]
        had = self._objects.at_once(lambda spot: self._take(spot.address, batch), own)
        return [spot for spot, one in zip(own, had, strict=True) if one]

    async def remove_all(self, batch: str) -> int:
        """Moves every entry to the trash; returns how many."""
        standing, _ = self._all()
        return sum(self._objects.at_once(lambda address: self._take(address, batch), standing))

    def lost(self, batch: str) -> int:  # noqa: ARG002 - a bucket is never full
        """None."""
        return 0

    async def spots(self) -> list[Spot]:
        """Where entries stand."""
        self._list()
        return [self.spot(address, None) for address in self._order]

    async def groups(self) -> list[Group]:
        """One, of everything; a bucket does not tell whether anything in it changed."""
        return [Group("")]

    async def addresses(self, group: str) -> list[str]:  # noqa: ARG002 - there is one group only
        """Where entries stand."""
        self._list()
        return self._order

    async def catalog(self, group: Group) -> bytes | None:  # noqa: ARG002 - nothing is kept in a bucket but entries
        """None."""
        return None

    async def keep_catalog(self, group: Group, content: bytes | None) -> None:
        """Keeps nothing."""

    async def evict(self, spots: Sequence[Spot], keys: Sequence[str]) -> int:  # noqa: ARG002 - others would not know
        """Removes the entries that stand at `spots` for good."""
        names = [object_name(spot.address) for spot in spots if is_address(spot.address)]
        return sum(self._objects.at_once(self._objects.delete, names))

    async def restore(self, key: str | None, batch: str, back: int = 1) -> list[Spot]:
        """Brings back the last batch of this process, else of anybody, or an entry of `key`."""
        found = self._trashed(key)
        if key is not None:
            newest = sorted(found, key=lambda one: one.at_ns, reverse=True)
            return self._bring_back(newest[back - 1 : back], batch)
        with self._lock:
            own = [
                name for name in reversed(self._batches) if any(one.batch == name for one in found)
            ]  # the newest first
        last = own[0] if own else max(found, key=lambda one: one.at_ns).batch if found else ""
        return self._bring_back(oldest_of_each(one for one in found if one.batch == last), batch)

    async def restore_batch(self, name: str, batch: str) -> list[Spot]:
        """Brings back what went to the trash under a batch, named by its digest."""
        return self._bring_back(oldest_of_each(one for one in self._trashed(None) if one.batch == name), batch)

    async def exchange_back(self, spots: Sequence[Spot], batch: str) -> None:
        """Undoes `restore` at `spots`."""
        moved = {
            one.address: one for one in sorted(self._trashed(None), key=lambda one: one.at_ns) if one.batch == batch
        }
        for spot in spots:
            if spot.address in moved:
                self._bring_back([moved[spot.address]], batch)
            else:
                self._take(spot.address, batch)

    async def waiting(self, batch: str | None = None) -> list[Waiting]:
        """The entries in the trash, with `batch` those of one batch."""
        of_batch = None if batch is None else batch_digest(batch)
        seen: dict[str, int] = {}
        found: list[Waiting] = []
        for one in sorted(self._trashed(None), key=lambda one: one.at_ns, reverse=True):
            digest = one.address[:64]
            seen[digest] = seen.get(digest, 0) + 1
            if of_batch in (None, one.batch):
                opened = functools.partial(self._document, one.found.name)
                found.append(Waiting(one.at_ns / 1e9, seen[digest], opened))
        return found

    async def trash(self) -> TrashTotals:
        """What waits in the trash."""
        found = self._trashed(None)
        return TrashTotals(len(found), sum(one.found.size_bytes for one in found))

    async def empty_trash(self) -> int:
        """Removes what waits in the trash for good; returns how many entries."""
        _, trashed = self._all()
        self._objects.at_once(self._objects.delete, [one.found.name for one in trashed])
        return len(trashed)

    async def collect(self, *, dry_run: bool) -> Litter:
        """Removes for good what the trash held for 24 hours; with `dry_run` only says what."""
        _, trashed = self._all()
        old = [one for one in trashed if not self._is_kept(one)]
        if not dry_run:
            self._objects.at_once(self._objects.delete, [one.found.name for one in old])
        return Litter(Totals(0, 0), Totals(len(old), sum(one.found.size_bytes for one in old)))

    def _document(self, name: str) -> Document | None:
        first = self._objects.get(name, 0, FIRST_BYTES)
        if first is None or len(first) < FIRST_BYTES:
            return None if first is None else BytesDocument(first)
        size = self._objects.size(name)
        return None if size is None else RangedDocument(first, size, functools.partial(self._objects.fetch, name, size))

    def _check_answers(self) -> None:
        """Of many that are read one after the other only the first waits for a server that does not answer."""
        if (resting := self.breaker.why_resting()) is not None:
            raise ConnectionError(resting)

    def _all(self) -> tuple[dict[str, Found], list[Trashed]]:
        return sorted_out(self._objects.listed(FOLDER))

    def _list(self) -> None:
        standing, trashed = self._all()
        old = [one.found.name for one in trashed if not self._is_kept(one)][:_REMOVED_AT_ONCE]
        with suppress(OSError):  # whoever may only read leaves it to others
            self._objects.at_once(self._objects.delete, old)
        with self._lock:
            self._stamps = {address: (found.stamp, found.size_bytes) for address, found in standing.items()}
            self._order = sorted(standing)
            self._ahead, self._read_to, self._at_once = {}, "", 1

    def _next(self, address: str) -> list[str]:
        """What to read: an entry, and the more of those that follow it, the longer one after the other was asked for."""
        at = bisect.bisect_left(self._order, address)
        if at == len(self._order) or self._order[at] != address:
            return [address]
        follows = at > 0 and self._order[at - 1] == self._read_to
        self._at_once = min(self._at_once * 4, _READ_AT_ONCE) if follows else 1
        wanted = self._order[at : at + self._at_once]
        self._read_to = wanted[-1]
        return wanted

    def _first_bytes(self, address: str) -> bytes | None:
        return self._objects.get(object_name(address), 0, _BEGINNING_BYTES)

    def _trashed(self, key: str | None) -> list[Trashed]:
        """What `undo` may bring back."""
        folder = FOLDER if key is None else f"{FOLDER}/{key_digest(key)}"
        return [one for one in sorted_out(self._objects.listed(folder))[1] if self._is_kept(one)]

    def _is_kept(self, trashed: Trashed) -> bool:
        return trashed.at_ns >= self._clock() - TRASH_KEPT_NS

    def _take(self, address: str, batch: str) -> bool:
        """Moves an entry to the trash; False where there is none."""
        return self._to_trash(address, batch) and (self._objects.delete(object_name(address)) or True)

    def _to_trash(self, address: str, batch: str) -> bool:
        digest = batch_digest(batch)
        with self._lock:
            self._batches[digest] = self._batches.pop(digest, None)
        return self._objects.copy(object_name(address), f"{object_name(address)}.{self._clock():019d}.{digest}")

    def _bring_back(self, chosen: Sequence[Trashed], batch: str) -> list[Spot]:
        restored: list[Spot] = []
        for one in chosen:
            self._to_trash(one.address, batch)
            if self._objects.copy(one.found.name, object_name(one.address)):
                self._objects.delete(one.found.name)
                restored.append(Spot(one.address, one.address[65:], None, one.found.size_bytes))
        return restored
