"""The user's object behind a store: what it is given and hands back, as bytes by key."""

from __future__ import annotations

import base64
import binascii
import contextlib
import functools
import inspect
import time
from collections.abc import AsyncIterable, Callable, Collection, Iterable, MutableMapping
from typing import Any, Final, cast

from nbstep.foreign import is_awaitable
from nbstep.forks import ThreadLock
from nbstep.stores.base import FAMILY
from nbstep.stores.breaker import Breaker

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

    def add(self, key: str, value: bytes) -> bool:
        """Puts an entry under `key` where nothing stands; whether it did."""
        with self._lock:
            if key in self._mapping:
                return False
            self._mapping[key] = value
            return True

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


class GivenObject:
    """A mapping, or an object with get, set, has and delete, that keeps entries under the user's own keys.

    One that refuses bytes, or does not hand them back as they were, is given ASCII text from then on.

    Args:
        target: The user's object.
        breaker: Told of each call that failed, and of each that was answered.

    Attributes:
        name: Its class's, for messages.
        is_async: Whether its methods are to be awaited.

    Raises:
        TypeError: It lacks a method.
    """

    def __init__(self, target: Any, breaker: Breaker) -> None:
        if isinstance(target, MutableMapping):
            self._target: Any = MappingMethods(cast("MutableMapping[str, Any]", target))
        else:
            _check_methods(target)
            self._target = target
        self.name = type(target).__name__
        self.is_async = _is_async(self._target)
        self._breaker = breaker
        self._mode: str | None = None
        self._names_all = isinstance(target, dict)
        self._is_dict = type(target) is dict
        self._seen: dict[str, None] = {}

    async def has(self, key: str) -> bool:
        """Whether anything stands under `key`, an entry or not."""
        return bool(await self._call("has", key))

    async def get(self, key: str) -> bytes | None:
        """The entry under `key`, None where nothing stands there.

        Raises:
            ForeignValue: Something else does.
        """
        try:
            found = await self._call("get", key)
        except KeyError:
            found = None
        except UnicodeDecodeError as error:
            entry = bytes(error.object) if bytes(error.object).startswith(FAMILY) else None
            raise ForeignValue(f"{self.name}.get cannot decode what stands under this key", entry) from None
        if found is None:
            self._seen.pop(key, None)
            return None
        content = _as_bytes(found)
        if content is None or not content.startswith(_BEGINNINGS):
            raise ForeignValue(f"{self.name} holds a {type(found).__name__} under this key that is not nbstep's")
        self._note(key)
        return content

    async def set(self, key: str, content: bytes) -> None:
        """Puts an entry under `key`.

        Raises:
            ValueError: The object does not hand back what it was given.
        """
        if self._mode is None:
            await self._try_out(key, content)
        else:
            await self._call("set", key, _as_text(content) if self._mode == "text" else content)
        self._note(key)

    def add(self, key: str, content: bytes) -> bool:
        """Puts an entry under a key of a `dict` where nothing stands; whether it did. "No" says nothing."""
        if self._mode != "bytes" or not self._is_dict or self._breaker.failure is not None:
            return False
        return self._target.add(key, content)

    async def delete(self, key: str) -> None:
        """Removes what stands under `key`, if anything."""
        with contextlib.suppress(KeyError):
            await self._call("delete", key)
        self._seen.pop(key, None)

    async def clear(self, keys: Collection[str]) -> None:
        """Deletes `keys`; by the object's own `clear` where it names nothing else, since that takes all there is."""
        names = await self._names()
        if callable(getattr(self._target, "clear", None)) and names and {_as_key(name) for name in names} <= set(keys):
            await self._call("clear")
            self._seen.clear()
        else:
            for key in keys:
                await self.delete(key)

    async def keys(self) -> list[str]:
        """The keys that the object names, the user's own included, and those that were used here."""
        keys = {key: None for name in await self._names() if (key := _as_key(name)) is not None}
        return list(keys | self._seen)

    def _note(self, key: str) -> None:
        """Remembers a key that was used; a dict names all of its own."""
        if not self._names_all:
            self._seen[key] = None

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

    async def _call(self, method: str, *args: Any) -> Any:
        began = time.monotonic()
        try:
            result = getattr(self._target, method)(*args)
            if self.is_async and inspect.isawaitable(result):
                result = await result
        except Exception as error:
            self._breaker.failed(error, time.monotonic() - began)
            raise
        if self._breaker.failure is not None:
            self._breaker.answered()
        if self.is_async or result is None or type(result) is bytes or not is_awaitable(result):
            return result
        if inspect.iscoroutine(result):
            result.close()
        raise TypeError(
            f"{self.name}.{method} is no `async def` and gave an awaitable: write `async def {method}(…)`, "
            f"or set `is_async = True` on {self.name}"
        )

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
        await self.delete(key)
        raise ValueError(f"{self.name}.get does not hand back what {self.name}.set was given, neither bytes nor text")


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
