"""What the cache needs of a store, and how one set of coroutines serves sync and async stores alike."""

from __future__ import annotations

import errno
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from nbstep.stores.breaker import Breaker
    from nbstep.stores.locks import KeyLocks

T = TypeVar("T")

Part: TypeAlias = bytes | bytearray | memoryview
Stamp: TypeAlias = tuple[int, ...]  # changes whenever what it was taken of does

FAMILY: Final = b"NBSTEP"  # how entries of every version of the format begin


class NoRoom(OSError):  # noqa: N818 - the name says what happened
    """An entry does not fit: the disk, or the cache by its own limit, would be full."""


class NotEverywhere(OSError):  # noqa: N818 - the name says what happened
    """What was asked of two stores was done in one of them; its text says what is missing."""


class ReadOnly(OSError):  # noqa: N818
    """The store can only be read.

    Args:
        reason: Which store, and why: "… is read-only for you".
        fix: What to do about it, a sentence.

    Attributes:
        told: Both, without what that means for who keeps something.

    >>> error = ReadOnly("/data is read-only for you", "Name another folder")
    >>> error.strerror
    '/data is read-only for you: what it holds is used, nothing new is kept there. Name another folder'
    >>> error.told
    '/data is read-only for you. Name another folder'
    """

    def __init__(self, reason: str, fix: str = "") -> None:
        said = f". {fix}" if fix else ""
        super().__init__(errno.EROFS, f"{reason}: what it holds is used, nothing new is kept there{said}")
        self.told: Final = f"{reason}{said}"
        self._given: Final = (reason, fix)

    def __reduce__(self) -> tuple[type[ReadOnly], tuple[str, str], dict[str, Any]]:
        return type(self), self._given, vars(self)  # which holds notes, too


class Document(Protocol):
    """One entry's bytes, open for reading: what was found stays readable even if the entry is deleted meanwhile."""

    @property
    def size_bytes(self) -> int:
        """The size of the whole document."""
        ...

    @property
    def stamp(self) -> Stamp | None:
        """The stamp of the entry that was opened; None where the store has none."""
        ...

    def read(self, at: int, count: int) -> bytes:
        """A private copy of `count` bytes from `at`; fewer where the document ends."""
        ...

    def buffers(self, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        """Writable bytes for each (at, count); they belong to the caller alone."""
        ...


@dataclass(frozen=True, slots=True)
class Spot:
    """Where one entry stands in a store.

    Attributes:
        address: The store's own name for it; no two entries share one.
        signer: Short id of the signer, where the address tells it.
        stamp: Changes whenever the entry does; None where the store cannot tell.
        size_bytes: Of the whole entry; 0 where the store cannot tell without reading it.
    """

    address: str
    signer: str | None = None
    stamp: Stamp | None = None
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """A part of a store that is listed at once.

    Attributes:
        name: The store's own name for it.
        stamp: Changes whenever an entry comes, goes or is replaced; None where the store cannot tell, or not yet.
    """

    name: str
    stamp: Stamp | None = None


@dataclass(frozen=True, slots=True)
class Traces:
    """What a key that has no entry left behind.

    Attributes:
        strangers: Short ids of others who signed an entry under it.
        trashed: An entry of it waits in the trash.
        evicted: Its last entry was evicted.
    """

    strangers: tuple[str, ...] = ()
    trashed: bool = False
    evicted: bool = False


NO_TRACES: Final = Traces()


@dataclass(frozen=True, slots=True)
class TrashTotals:
    """What waits in a cache's trash; `lost` says that a full disk had no room for all that went there within 24 hours."""

    entries: int
    size_bytes: int
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """An entry in the trash.

    Attributes:
        at: When it went there; seconds since the epoch.
        back: Which of its key it is: 1 went last.
        open: Gives its bytes; None where it is gone.
    """

    at: float
    back: int
    open: Callable[[], Document | None]


@dataclass(frozen=True, slots=True)
class Totals:
    """How many files, and their size."""

    count: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Litter:
    """What a store removes for good: unfinished files of processes that are gone, and what its trash held too long."""

    unfinished: Totals
    trashed: Totals


class Store(Protocol):
    """Entries as bytes under keys. All methods are coroutines; those of a sync store never suspend."""

    @property
    def place(self) -> str:
        """The store as people know it: "~/proj/.nbstep", "memory:", "RedisStore"."""
        ...

    @property
    def is_async(self) -> bool:
        """Whether its coroutines may suspend."""
        ...

    @property
    def is_far(self) -> bool:
        """Whether its calls may wait for a network though none suspends, and may come from several threads at once."""
        ...

    @property
    def directory(self) -> Path | None:
        """The folder of a disk store."""
        ...

    def address(self, key: str, signer: str) -> str | None:
        """Where `signer` keeps `key`; None for a store without stamps."""
        ...

    def stamp(self, address: str) -> Stamp | None:
        """The stamp of the entry that stands there now; None where there is none."""
        ...

    def spot(self, address: str, stamp: Stamp | None) -> Spot:
        """An address as a spot; where its stamp is not known, it is looked up."""
        ...

    @property
    def locks(self) -> KeyLocks | None:
        """What lets one kernel at a time compute a key; None where nothing does."""
        ...

    @property
    def breaker(self) -> Breaker | None:
        """What remembers that it did not answer; None where it always does."""
        ...

    async def open(self, key: str, signer: str) -> Document | None:
        """What `signer` kept under `key`."""
        ...

    async def open_spot(self, spot: Spot) -> Document | None:
        """The entry that stands at `spot`."""
        ...

    async def beginning(self, address: str, count: int) -> Document | None:
        """The entry that stands at an address, with at least its first `count` bytes; it holds nothing open."""
        ...

    async def traces(self, key: str, signer: str) -> Traces:
        """What there is of `key` where `signer` keeps nothing under it."""
        ...

    async def publish(self, key: str, signer: str, parts: Sequence[Part], *, durable: bool, batch: str | None) -> None:
        """Stores the concatenated `parts`, all or nothing; what stood there goes to the trash under `batch`, for good without."""
        ...

    async def remove(self, keys: Sequence[str], batch: str) -> list[str]:
        """Moves all entries under `keys` to the trash; returns the keys that had any."""
        ...

    async def remove_spots(self, spots: Sequence[Spot], batch: str) -> list[Spot]:
        """Moves the entries that stand at `spots` to the trash; returns where there was one."""
        ...

    async def remove_all(self, batch: str) -> int:
        """Moves every entry to the trash; returns how many."""
        ...

    def lost(self, batch: str) -> int:
        """How many entries of a batch of this process went for good, as a full disk had no room to keep them."""
        ...

    async def spots(self) -> list[Spot]:
        """Where entries stand."""
        ...

    async def addresses(self, group: str) -> list[str]:
        """The addresses of a group's entries."""
        ...

    async def groups(self) -> list[Group]:
        """The groups that entries stand in."""
        ...

    async def catalog(self, group: Group) -> bytes | None:
        """The text that was kept about a group; anybody may have written it."""
        ...

    async def keep_catalog(self, group: Group, content: bytes | None) -> None:
        """Keeps a text about a group, or None any more; whether it worked does not matter."""
        ...

    async def evict(self, spots: Sequence[Spot], keys: Sequence[str]) -> int:
        """Removes the entries that stand at `spots` for good; remembers that the entries of `keys` went this way."""
        ...

    async def restore(self, key: str | None, batch: str, back: int = 1) -> list[Spot]:
        """Brings back the trash's last batch, or an entry of `key`; what stands there now takes its place under `batch`.

        Of several entries of `key` the one that went last, with `back` 2 the one before it.
        """
        ...

    async def waiting(self, batch: str | None = None) -> list[Waiting]:
        """The entries in the trash, with `batch` those of one batch."""
        ...

    async def exchange_back(self, spots: Sequence[Spot], batch: str) -> None:
        """Undoes `restore` at `spots`: what it moved to `batch` from there stands there again, what it brought is in `batch`."""
        ...

    async def trash(self) -> TrashTotals:
        """What waits in the trash."""
        ...

    async def empty_trash(self) -> int:
        """Removes what waits in the trash for good; returns how many entries."""
        ...

    async def collect(self, *, dry_run: bool) -> Litter:
        """Removes for good what nobody can want any more; with `dry_run` only says what."""
        ...


@runtime_checkable
class Server(Protocol):
    """What a store in a server that others use too can do besides."""

    @property
    def opens_by_place(self) -> bool:
        """Whether `cache=` with its `place` finds it: nothing else is needed, no password."""
        ...

    @property
    def url(self) -> str:
        """What `cache=` takes for it in another process; it may hold a password. "" where no other process finds it."""
        ...

    async def conditions(self) -> list[tuple[str, str]]:
        """What the server says of itself, as names and texts."""
        ...

    async def end_after(self, key: str, signer: str, seconds: float) -> None:
        """Has the server end what `signer` keeps under `key`; not before `seconds` are over."""
        ...


class BytesDocument:
    """A document that is in memory already, or its beginning."""

    __slots__ = ("_content", "size_bytes", "stamp")

    def __init__(self, content: bytes, size_bytes: int | None = None, stamp: Stamp | None = None) -> None:
        self._content = content
        self.size_bytes = len(content) if size_bytes is None else size_bytes
        self.stamp = stamp

    def read(self, at: int, count: int) -> bytes:
        """A private copy of `count` bytes from `at`; fewer where the document ends."""
        return self._content[at : at + count]

    def buffers(self, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        """Writable bytes for each (at, count); they belong to the caller alone."""
        return [memoryview(bytearray(self._content[at : at + count])) for at, count in ranges]


def run_now(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine that never suspends, without an event loop.

    The cache and the steps are written once, as coroutines. Over a sync store nothing in them ever waits, so one `send`
    runs them to their end; this works inside a running loop too.

    >>> async def answer():
    ...     return 42
    >>> run_now(answer())
    42
    """
    __tracebackhide__ = True
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise RuntimeError("a sync store's coroutine suspended: the store is async, its step must be awaited")
