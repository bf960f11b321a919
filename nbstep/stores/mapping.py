"""The user's own store: any `MutableMapping`, or any object with get, set, has and delete, sync or async."""

from __future__ import annotations

import base64
import binascii
import contextlib
import functools
import inspect
from collections.abc import AsyncIterable, Callable, Iterable, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from nbstep.forks import ThreadLock
from nbstep.stores.base import (
    FAMILY,
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
)
from nbstep.stores.breaker import Breaker
from nbstep.stores.memorytrash import MemoryTrash

if TYPE_CHECKING:
    from nbstep.stores.locks import KeyLocks

METHODS: Final = ("get", "set", "has", "delete")
_TEXT_MARK: Final = "nbstep-base64:"


class MappingMethods:
    """A `MutableMapping` as an object with get, set, has, delete and keys; one caller at a time."""

    def __init__(self, mapping: MutableMapping[str, Any]) -> None:
        self._mapping = mapping
        self._lock = ThreadLock()

    def get(self, key: str) -> Any:
        """What stands under `key`, None where nothing does."""
        with self._lock:
            return self._mapping.get(key)

    def set(self, key: str, value: bytes | str) -> None:
        """Puts an entry under `key`."""
        with self._lock:
            self._mapping[key] = value

    def has(self, key: str) -> bool:
        """Whether there is anything under `key`."""
        with self._lock:
            return key in self._mapping

    def delete(self, key: str) -> None:
        """Removes what stands under `key`."""
        with self._lock:
            self._mapping.pop(key, None)

    def keys(self) -> list[Any]:
        """All keys of the mapping, the user's own included."""
        with self._lock:
            return list(self._mapping)


class ForeignValue(ValueError):  # noqa: N818 - says what was found
    """Something under a key that is no entry of nbstep."""


class MappingStore:
    """The user's store as the cache sees it: bytes under the user's own keys, with a trash in memory.

    A store that refuses bytes, or does not hand them back as they were, is given ASCII text from then on.

    Args:
        target: The user's object.
        place: Its name as shown; None takes the class's.

    Attributes:
        given: The user's object, as it was given.

    Raises:
        TypeError: It lacks a method.
    """

    directory: Path | None = None
    locks: KeyLocks | None = None

    def __init__(self, target: Any, place: str | None = None) -> None:
        self.given = target
        if isinstance(target, MutableMapping):
            self._target: Any = MappingMethods(cast("MutableMapping[str, Any]", target))
        else:
            _check_methods(target)
            self._target = target
        self.place = place or type(target).__name__
        self.breaker = Breaker(self.place)
        self._name = type(target).__name__
        self.is_async = _is_async(self._target)
        self._mode: str | None = None
        self._seen: dict[str, None] = {}
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
        content = await self._get(key)
        return None if content is None else BytesDocument(content)

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
        if batch is not None:
            await self._save_copy(key, batch)
        await self._set(key, content)
        self._seen[key] = None
        self._evicted.discard(key)

    async def remove(self, keys: Sequence[str], batch: str) -> list[str]:
        """Moves the entries under `keys` to the trash; returns the keys that had one."""
        removed: list[str] = []
        for key in keys:
            if not await self._call("has", key):
                continue
            await self._save_copy(key, batch)
            await self._delete(key)
            removed.append(key)
        return removed

    async def remove_spots(self, spots: Sequence[Spot], batch: str) -> list[Spot]:
        """Moves the entries that stand at `spots` to the trash; returns where there was one."""
        removed = set(await self.remove([spot.address for spot in spots], batch))
        return [spot for spot in spots if spot.address in removed]

    async def remove_all(self, batch: str) -> int:
        """Moves every entry to the trash; then calls the user's `clear`, where there is one. Returns how many there were."""
        keys = [spot.address for spot in await self.spots()]
        removed = 0
        clear = getattr(self._target, "clear", None)
        for key in keys:
            if not await self._save_copy(key, batch):
                continue
            removed += 1
            if not callable(clear):
                await self._delete(key)
        if callable(clear):
            await self._call("clear")
            self._seen.clear()
        return removed

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
        return [Spot(key) for key in await self._keys()]

    async def addresses(self, group: str) -> list[str]:  # noqa: ARG002 - there is one group only
        """The same keys."""
        return await self._keys()

    async def _keys(self) -> list[str]:
        keys: dict[str, None] = {}
        if callable(getattr(self._target, "keys", None)):
            found: Any = self._target.keys()
            if inspect.isawaitable(found):
                found = await found
            if isinstance(found, AsyncIterable):
                found = [key async for key in cast("AsyncIterable[Any]", found)]
            for key in cast("Iterable[Any]", found):
                text = key.decode("utf-8", "replace") if isinstance(key, bytes) else key
                if isinstance(text, str):
                    keys[text] = None
        keys.update(dict(self._seen))
        return list(keys)

    async def evict(self, spots: Sequence[Spot], keys: Sequence[str]) -> int:
        """Deletes the entries that stand at `spots` for good; remembers `keys` as long as this object lives."""
        for spot in spots:
            await self._delete(spot.address)
        self._evicted.update(keys)
        return len(spots)

    async def restore(self, key: str | None, batch: str) -> list[Spot]:
        """Brings back the trash's last batch, or the last entry of `key`."""
        restored: list[Spot] = []
        for item in self._trash.take_back(key):
            await self._save_copy(item.key, batch)
            await self._set(item.key, item.content)
            self._seen[item.key] = None
            restored.append(Spot(item.key))
        return restored

    async def trash(self) -> TrashTotals:
        """What waits in the trash."""
        return self._trash.totals()

    async def empty_trash(self) -> int:
        """Removes what waits in the trash for good; returns how many entries."""
        return self._trash.empty()

    async def collect(self, *, dry_run: bool) -> Litter:
        """Removes for good what the trash held for 24 hours; with `dry_run` only says what."""
        return Litter(Totals(0, 0), self._trash.collect(dry_run=dry_run))

    async def _call(self, method: str, *args: Any) -> Any:
        try:
            result = getattr(self._target, method)(*args)
            if self.is_async and inspect.isawaitable(result):
                result = await result
        except Exception as error:
            self.breaker.failed(error)
            raise
        self.breaker.answered()
        if self.is_async or not inspect.isawaitable(result):
            return result
        if inspect.iscoroutine(result):
            result.close()
        raise TypeError(
            f"{self._name}.{method} is no `async def` and gave an awaitable: write `async def {method}(…)`, "
            f"or set `is_async = True` on {self._name}"
        )

    async def _get(self, key: str) -> bytes | None:
        try:
            found = await self._call("get", key)
        except KeyError:
            found = None
        except UnicodeDecodeError:
            raise ForeignValue(f"{self._name}.get cannot decode what stands under this key") from None
        if found is None:
            self._seen.pop(key, None)
            return None
        content = _as_bytes(found)
        if content is None:
            raise ForeignValue(f"{self._name} holds a {type(found).__name__} under this key, no entry of nbstep")
        self._seen[key] = None
        return content

    async def _set(self, key: str, content: bytes) -> None:
        if self._mode is None:
            await self._try_out(key, content)
        elif self._mode == "text":
            await self._call("set", key, _as_text(content))
        else:
            await self._call("set", key, content)

    async def _try_out(self, key: str, content: bytes) -> None:
        """The first write finds out what the store takes: it must hand back what it was given."""
        refused: Exception | None = None
        for mode, value in (("bytes", content), ("text", _as_text(content))):
            try:
                await self._call("set", key, value)
            except (TypeError, ValueError, AttributeError) as error:  # json.dumps(value), value.encode()
                refused = refused or error
                continue
            try:
                back = await self._call("get", key)
            except (ValueError, TypeError):  # decode_responses=True cannot decode bytes
                continue
            if back is not None and _as_bytes(back) == content:
                self._mode = mode
                return
        if refused is not None:
            raise refused
        await self._delete(key)
        raise ValueError(f"{self._name}.get does not hand back what {self._name}.set was given, neither bytes nor text")

    async def _delete(self, key: str) -> None:
        with contextlib.suppress(KeyError):
            await self._call("delete", key)
        self._seen.pop(key, None)

    async def _save_copy(self, key: str, batch: str) -> bool:
        try:
            content = await self._get(key)
        except ForeignValue:
            return False
        if content is None or not content.startswith(FAMILY):
            return False
        self._trash.add(key, content, batch)
        return True


def _check_methods(target: Any) -> None:
    missing = [name for name in METHODS if not callable(getattr(target, name, None))]
    if not missing:
        return
    name = type(target).__name__
    hint = ""
    if callable(getattr(target, "exists", None)):
        hint = f"; wrap it in a class whose has(key) returns bool({name.lower()}.exists(key))"
    raise TypeError(
        f"cache={name} lacks {', '.join(missing)}: a store is a MutableMapping, or has get(key), set(key, value), "
        f"has(key) and delete(key){hint}"
    )


def _is_async(target: Any) -> bool:
    declared = getattr(target, "is_async", None)
    if isinstance(declared, bool):
        return declared
    return any(_is_coroutine_function(getattr(target, name)) for name in METHODS)


def _is_coroutine_function(method: Callable[..., Any]) -> bool:
    while isinstance(method, functools.partial):
        method = method.func
    call = getattr(type(method), "__call__", None)  # noqa: B004 - its type is looked at, not whether it is callable
    return inspect.iscoroutinefunction(inspect.unwrap(method)) or inspect.iscoroutinefunction(call)


def _as_text(content: bytes) -> str:
    return _TEXT_MARK + base64.b64encode(content).decode("ascii")


def _as_bytes(found: Any) -> bytes | None:
    """An entry's bytes out of what a store handed back, None where it cannot be one."""
    if isinstance(found, str):
        try:
            content = found.encode("ascii")
        except UnicodeEncodeError:
            return None
    elif isinstance(found, bytes | bytearray | memoryview):
        content = bytes(cast("bytes", found))
    else:
        return None
    mark = _TEXT_MARK.encode("ascii")
    if content.startswith(mark):
        try:
            return base64.b64decode(content[len(mark) :], validate=True)
        except binascii.Error:
            return None
    return None if isinstance(found, str) else content
