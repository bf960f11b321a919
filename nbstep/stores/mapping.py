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
    Waiting,
)
from nbstep.stores.breaker import Breaker
from nbstep.stores.memorytrash import MemoryTrash, Removed

if TYPE_CHECKING:
    from nbstep.stores.locks import KeyLocks

METHODS: Final = ("get", "set", "has", "delete")
_TEXT_MARK: Final = "nbstep-base64:"
_BEGINNINGS: Final = (FAMILY, _TEXT_MARK.encode("ascii"))  # the second of an entry whose text is damaged


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
    """Something under a key that is no entry of nbstep, or that the store cannot hand back.

    Attributes:
        entry: The entry, where it is one after all: the store cannot decode the bytes that another client put there.
    """

    def __init__(self, text: str, entry: bytes | None = None) -> None:
        super().__init__(f"{text}, so nothing is kept there" if entry is None else text)
        self.entry = entry


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
        await self._replace(key, b"".join(parts), batch)
        self._evicted.discard(key)

    async def remove(self, keys: Sequence[str], batch: str) -> list[str]:
        """Moves the entries under `keys` to the trash; returns the keys that had one."""
        removed: list[str] = []
        for key in keys:
            if await self._call("has", key) and await self._saved(key, batch):
                await self._delete(key)
                removed.append(key)
        return removed

    async def remove_spots(self, spots: Sequence[Spot], batch: str) -> list[Spot]:
        """Moves the entries that stand at `spots` to the trash; returns where there was one."""
        removed = set(await self.remove([spot.address for spot in spots], batch))
        return [spot for spot in spots if spot.address in removed]

    async def remove_all(self, batch: str) -> int:
        """Moves every entry to the trash; returns how many there were.

        The user's `clear` is called only where `keys` names nothing but entries, since it would take all else as well.
        """
        names = await self._names()
        saved = [key for key in await self._keys() if await self._saved(key, batch)]
        clear = getattr(self._target, "clear", None)
        if callable(clear) and names and {_as_key(name) for name in names} <= set(saved):
            await self._call("clear")
            self._seen.clear()
        else:
            for key in saved:
                await self._delete(key)
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
        return [Spot(key) for key in await self._keys()]

    async def addresses(self, group: str) -> list[str]:  # noqa: ARG002 - there is one group only
        """The same keys."""
        return await self._keys()

    async def _keys(self) -> list[str]:
        keys = {key: None for name in await self._names() if (key := _as_key(name)) is not None}
        return list(keys | self._seen)

    async def _names(self) -> list[Any]:
        """What the user's `keys` gives, whatever it is; nothing where there is none."""
        if not callable(getattr(self._target, "keys", None)):
            return []
        found: Any = self._target.keys()
        if inspect.isawaitable(found):
            found = await found
        if isinstance(found, AsyncIterable):
            return [name async for name in cast("AsyncIterable[Any]", found)]
        return list(cast("Iterable[Any]", found))

    async def evict(self, spots: Sequence[Spot], keys: Sequence[str]) -> int:
        """Deletes the entries that stand at `spots` for good; remembers `keys` as long as this object lives."""
        evicted = 0
        for spot in spots:
            if await self._is_entry(spot.address):
                await self._delete(spot.address)
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
        except UnicodeDecodeError as error:
            entry = bytes(error.object) if bytes(error.object).startswith(FAMILY) else None
            raise ForeignValue(f"{self._name}.get cannot decode what stands under this key", entry) from None
        if found is None:
            self._seen.pop(key, None)
            return None
        content = _as_bytes(found)
        if content is None or not content.startswith(_BEGINNINGS):
            raise ForeignValue(f"{self._name} holds a {type(found).__name__} under this key that is not nbstep's")
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

    async def _replace(self, key: str, content: bytes, batch: str | None) -> None:
        """Puts an entry under `key`; what stood there goes to the trash, or stays where it is if that fails."""
        saved = await self._save_copy(key, batch)
        try:
            await self._set(key, content)
        except Exception:
            if saved is not None and await self._still_holds(saved):
                self._trash.drop(saved)
            raise
        self._seen[key] = None

    async def _still_holds(self, saved: Removed) -> bool:
        try:
            return await self._get(saved.key) == saved.content
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
            return await self._get(key)
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


def _as_key(name: Any) -> str | None:
    """What the user's `keys` gives, as a key; None where it cannot be one of ours."""
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
    return text if isinstance(text, str) else None


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
            return content
    return None if isinstance(found, str) else content
