"""What a store has to do, tried out: `nbstep.testing.check_store`."""

from __future__ import annotations

import asyncio
import base64
import functools
import inspect
import os
import threading
from collections.abc import AsyncIterable, Callable, Collection, Coroutine, Iterable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NoReturn, TypeAlias, cast

from nbstep.cache.cache import Cache
from nbstep.cache.records import Facts, Kept
from nbstep.result import Err
from nbstep.stores.base import run_now
from nbstep.stores.given import MappingMethods
from nbstep.stores.redis.place import client_is_async

Writer: TypeAlias = Callable[[bytes], bytes | str]

# Each beside another that a store might take for the same: by case, spelling, decoding, trimming, cutting or as a pattern.
_KEYS: Final = (
    "user:1", "user:1/special", "user:1:special", "user_1/special", "User:1", "user:1 ", " user:1", "user:1\n", " ", "*", "%",
    "a*b?[c]",
    "a b", "a+b", "a/b", "a%2Fb", "a//b", "a/b/", "a\\b", "a\nb", "100%", "100%25", "..", "/", "../../x", "C:\\x",
    "ключ", "🙂", "\u00e9", "e\u0301", "fi", "\ufb01", "strasse", "straße", "nul", "nul\x00",
    "y" * 300 + "a", "y" * 300 + "b", "x" * 4095 + "a", "x" * 4095 + "b",
)  # fmt: skip
_EVERY_BYTE: Final = bytes(range(256))
_EDGES: Final = (b"\x00", b"\n", b"\r", b"\r\n", b" ", b"\t", b"\x1a", b"\xef\xbb\xbf", b"\xff")
_LARGE_BYTES: Final = 20_000_000
_MANY: Final = 300
_AT_ONCE, _TURNS, _LONG = 8, 12, 50_000


def check_store(store: Any) -> Any:
    """Checks that an object can serve as `cache=`: everything that `Cache` takes, or a `Cache`.

    That is a path or URL, a mapping, a client of redis-py, or an object with `get`, `set`, `has`, `delete`, perhaps `keys`,
    `clear`. Give it an empty store; it is empty afterwards. Tried are: keys that are easily taken for one another, values with
    every byte and one of 20 MB, values that replace others, 300 entries, deleting, calls from eight threads (eight tasks for an
    async store) at once, each with a key of its own and all with one, and a `Cache` on top. A store that refuses another thread
    by raising is not tried with threads.

    Args:
        store: The object, sync or async.

    Returns:
        None; for an async store an awaitable of it.

    Raises:
        TypeError: It lacks a method.
        AssertionError: It does not keep the contract; the message says which call, and what was to come of it.

    >>> check_store({})
    >>> check_store("memory:")
    """
    cache = Cache(store)
    name = type(store).__name__
    if isinstance(store, str | os.PathLike | Cache) or client_is_async(store) is not None:
        target, name = cache, "Cache"
        store = store if cache.directory is not None else cache  # memory cannot be opened twice
    elif isinstance(store, MutableMapping):
        target = MappingMethods(cast("MutableMapping[str, Any]", store))
    else:
        target = store
    checks = _checks(_Calls(target, name, cache.is_async), store)
    return checks if cache.is_async else run_now(checks)


async def _checks(calls: _Calls, given: Any) -> None:
    write = await _writer(calls)
    await _check_values(calls, write)
    await _check_missing(calls)
    await _check_replacing(calls, write)
    await _check_deleting(calls, write)
    await _check_clear(calls)
    await _check_many(calls, write)
    await _check_at_once(calls, write)
    await _check_through_cache(_Calls(Cache(given), f"Cache({calls.name})", calls.is_async), given)


class _Calls:
    """A store's methods; whatever goes wrong in one is an AssertionError that names the call and the clause."""

    def __init__(self, target: Any, name: str, is_async: bool) -> None:
        self.target = target
        self.name = name
        self.is_async = is_async

    async def call(self, clause: str, method: str, *args: Any, allowed: tuple[type[Exception], ...] = ()) -> Any:
        """What the method gives; an error that is not `allowed` breaks the clause."""
        try:
            result = getattr(self.target, method)(*args)
            if inspect.isawaitable(result) and self.is_async:
                result = await result
            if isinstance(result, AsyncIterable) and self.is_async:
                result = [item async for item in cast("AsyncIterable[Any]", result)]
            if method == "keys" and isinstance(result, Iterable):
                result = list(cast("Iterable[Any]", result))
        except allowed:
            raise
        except Exception as error:
            said = f"it raised {type(error).__name__}: {error!s:.200}".rstrip(": ")
            raise AssertionError(f"{self._shown(method, args)}: {clause}; {said}") from error
        if inspect.isawaitable(result) or isinstance(result, AsyncIterable):
            if inspect.iscoroutine(result):
                result.close()
            said = f"{self.name} has plain methods and this one gave an awaitable; write all as `async def`"
            raise AssertionError(f"{self._shown(method, args)}: {clause}; {said}, or set `is_async = True`")
        return result

    async def get(self, clause: str, key: str) -> Any:
        """What stands under `key`; None, or KeyError, where nothing does."""
        try:
            return await self.call(clause, "get", key, allowed=(KeyError,))
        except KeyError:
            return None

    async def set(self, key: str, value: bytes | str) -> None:
        """Keeps a value."""
        await self.call(f"{self.name}.set keeps a value", "set", key, value)

    async def delete(self, key: str) -> Any:
        """Removes a key; None where that raised KeyError."""
        clause = f"{self.name}.delete removes a key, or where there is none gives something false or raises KeyError"
        try:
            return await self.call(clause, "delete", key, allowed=(KeyError,))
        except KeyError:
            return None

    async def holds(self, clause: str, key: str, value: bytes | str) -> None:
        """Breaks the clause unless `value` stands under `key`."""
        gave = await self.get(clause, key)
        if not _same(gave, value):
            said = f"it gave {_shown(gave)}"
            if isinstance(gave, bytes | str) and len(gave) != len(value):
                said += f", of length {len(gave)} instead of {len(value)}"
            self.broken(f"{clause}; {said}", "get", key)
        if not await self.call(f"{self.name}.has is true", "has", key):
            self.broken(f"{self.name}.has is true where {self.name}.get gives a value", "has", key)

    async def lacks(self, when: str, key: str) -> None:
        """Breaks the clause if anything stands under `key`."""
        clause = f"{self.name}.get gives None {when}"
        gave = await self.get(clause, key)
        if gave is not None:
            self.broken(f"{clause}; it gave {_shown(gave)}", "get", key)
        clause = f"{self.name}.has is false {when}"
        if await self.call(clause, "has", key):
            self.broken(clause, "has", key)

    async def lists(self, expected: Collection[str], gone: Collection[str] = ()) -> None:
        """Breaks the clause unless `keys`, where there is one, names all `expected` and none of `gone`."""
        if not callable(getattr(self.target, "keys", None)):
            return
        clause = f"{self.name}.keys lists every key"
        found = await self.call(clause, "keys")
        if not isinstance(found, list):
            self.broken(f"{clause}; it gave {_shown(found)}", "keys")
        listed = cast("list[Any]", found)
        names = {key.decode("utf-8", "replace") if isinstance(key, bytes) else key for key in listed}
        if left_out := [key for key in expected if key not in names]:
            self.broken(f"{clause}; it left out {len(left_out)}, such as {_shown(left_out[0])}", "keys")
        if named := [key for key in gone if key in names]:
            self.broken(f"{self.name}.keys lists no key that was deleted; it named {_shown(named[0])}", "keys")

    def broken(self, clause: str, method: str, *args: Any) -> NoReturn:
        """Says that a clause is broken, and by which call."""
        raise AssertionError(f"{self._shown(method, args)}: {clause}")

    def _shown(self, method: str, args: tuple[Any, ...]) -> str:
        return f"{self.name}.{method}({', '.join(_shown(arg) for arg in args)})"


async def _writer(calls: _Calls) -> Writer:
    """What turns bytes into what the store takes: bytes, or text where it refuses them."""
    refused = (TypeError, ValueError, AttributeError)
    clause = f"{calls.name}.get hands back the bytes, or at least the ASCII text, that {calls.name}.set was given"
    said = ""
    for write in (bytes, _as_text):
        try:
            await calls.call(clause, "set", "user:1", write(_EVERY_BYTE), allowed=refused)
            gave = await calls.call(clause, "get", "user:1", allowed=(KeyError, *refused))
        except (KeyError, *refused) as error:
            said = f"it raised {type(error).__name__}: {error!s:.200}"
            continue
        taken = _same(gave, write(_EVERY_BYTE))
        await calls.delete("user:1")
        await calls.lacks("after delete", "user:1")
        if taken:
            return write
        if (
            isinstance(gave, bytes) and write is bytes
        ):  # another value may come back unchanged, and bytes be taken for safe
            calls.broken(f"{clause}, unchanged; it gave {_shown(gave)}", "get", "user:1")
        said = f"it gave {_shown(gave)}"
    return calls.broken(f"{clause}; {said}", "get", "user:1")


async def _check_values(calls: _Calls, write: Writer) -> None:
    clause = f"{calls.name}.get hands back what {calls.name}.set was given"
    for edge in _EDGES:
        value = write(edge + b"a" + edge + b"b" + edge)
        await calls.set("user:1", value)
        await calls.holds(f"{clause}, {edge!r} at both ends and within", "user:1", value)
    value = write(_EVERY_BYTE * (_LARGE_BYTES // 256))
    await calls.set("user:1", value)
    await calls.holds(f"{clause}, 20 MB of it", "user:1", value)
    await calls.delete("user:1")


async def _check_missing(calls: _Calls) -> None:
    for key in _KEYS:
        await calls.lacks("for a missing key", key)
    gave = await calls.delete("user:1")
    if gave:
        clause = f"{calls.name}.delete of a missing key gives something false, or raises KeyError"
        calls.broken(f"{clause}; it gave {_shown(gave)}", "delete", "user:1")


async def _check_replacing(calls: _Calls, write: Writer) -> None:
    """Read in between: what a store remembers of the old value must not outlive it."""
    clause = f"{calls.name}.get gives what was set last"
    for turn in range(2):
        for number, key in enumerate(_KEYS):
            value = write(f"{number} {turn}".encode())
            await calls.set(key, value)
            await calls.holds(clause, key, value)
    for number, key in enumerate(_KEYS):
        await calls.holds(f"{clause} under this very key", key, write(f"{number} 1".encode()))
    old = write(b"0 1")
    gave = await calls.get(clause, _KEYS[0])
    await calls.set(_KEYS[0], write(b"0 2"))
    await calls.get(clause, _KEYS[1])
    if not _same(gave, old):
        calls.broken(
            f"{calls.name}.get gives what stays as it is; after another call it is {_shown(gave)}", "get", _KEYS[0]
        )
    await calls.set(_KEYS[0], old)
    await calls.lists(_KEYS)


async def _check_deleting(calls: _Calls, write: Writer) -> None:
    for key in _KEYS:
        await calls.delete(key)
        await calls.lacks("after delete", key)
        clause = f"{calls.name}.delete({_shown(key)}) removes one key only"
        for number, other in enumerate(_KEYS):
            if other != key and not _same(await calls.get(clause, other), write(f"{number} 1".encode())):
                calls.broken(clause, "get", other)
        if key == "user:1":
            await calls.lists(_KEYS[1:], gone=[key])
        await calls.set(key, write(f"{_KEYS.index(key)} 1".encode()))


async def _check_clear(calls: _Calls) -> None:
    """With or without a `clear`, all is gone afterwards."""
    if callable(getattr(calls.target, "clear", None)):
        await calls.call(f"{calls.name}.clear removes everything", "clear")
    else:
        for key in _KEYS:
            await calls.delete(key)
    for key in _KEYS:
        await calls.lacks("when all is gone", key)
    await calls.lists((), gone=_KEYS)


async def _check_many(calls: _Calls, write: Writer) -> None:
    names = [f"entry:{number}" for number in range(_MANY)]
    for key in names:
        await calls.set(key, write(key.encode()))
    for key in names:
        await calls.holds(f"{calls.name} holds {_MANY} small entries", key, write(key.encode()))
    await calls.lists(names)
    for key in names:
        await calls.delete(key)
    await calls.lists((), gone=names)


async def _check_at_once(calls: _Calls, write: Writer) -> None:
    keys = [f"worker:{number}" for number in range(_AT_ONCE)]
    workers = f"{_AT_ONCE} {'tasks' if calls.is_async else 'threads'} at once"
    clause = f"{calls.name} serves {workers}, each with a key of its own"
    if await _all_at_once(calls, [functools.partial(_take_turns, calls, write, key, clause) for key in keys]):
        for key in keys:
            await calls.holds(f"{clause}, and all see what each of them set", key, _of_turn(write, key, _TURNS - 1))
        await calls.lists(keys)
        values = [write(f"{number} ".encode() * _LONG) for number in range(_AT_ONCE)]
        await calls.set(keys[0], values[0])
        clause = (
            f"{calls.name} serves {workers} under one key: while it is replaced, the old value is there, or the new one"
        )
        await _all_at_once(
            calls, [functools.partial(_share, calls, keys[0], values, n, clause) for n in range(_AT_ONCE)]
        )
    for key in keys:
        await calls.delete(key)


async def _all_at_once(calls: _Calls, works: Sequence[Callable[[], Coroutine[Any, Any, None]]]) -> bool:
    """Does all of it at once, in tasks or threads; false where the store serves one thread only."""
    if calls.is_async:
        await asyncio.gather(*(work() for work in works))
        return True
    if not _serves_threads(calls):
        return False
    start = threading.Barrier(len(works))

    def act(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        start.wait()
        run_now(work())

    with ThreadPoolExecutor(len(works)) as pool:
        list(pool.map(act, works))
    return True


async def _take_turns(calls: _Calls, write: Writer, key: str, clause: str) -> None:
    for turn in range(_TURNS):
        value = _of_turn(write, key, turn)
        await calls.call(clause, "set", key, value)
        await calls.holds(clause, key, value)


def _of_turn(write: Writer, key: str, turn: int) -> bytes | str:
    return write(f"{key} {turn}".encode())


async def _share(calls: _Calls, key: str, values: Sequence[bytes | str], number: int, clause: str) -> None:
    """Half of them replace what the others read."""
    for _ in range(_TURNS):
        if number % 2:
            await calls.call(clause, "set", key, values[number])
            continue
        gave = await calls.get(clause, key)
        if not any(_same(gave, value) for value in values):
            calls.broken(f"{clause}; it gave {_shown(gave)}", "get", key)


def _serves_threads(calls: _Calls) -> bool:
    """Whether another thread may call at all: a connection of sqlite3 says no, loudly, and then no value is lost."""
    with ThreadPoolExecutor(1) as other:
        error = other.submit(calls.target.has, "user:1").exception()
    return error is None


async def _check_through_cache(calls: _Calls, given: Any) -> None:
    """As a cache: None and large values, errors, undo, and another `Cache` on the same store."""
    cache, name = calls.target, calls.name
    another = _Calls(Cache(given), f"another {name}", calls.is_async)
    values = {
        "user:1": {"rows": list(range(1000)), "name": "Ada"},
        "none": None,
        "large": _EVERY_BYTE * 20_000,
        "../é\x00": "",
    }
    for key, value in values.items():
        await calls.call("keeps a value", "set", key, value)
    for key, value in values.items():
        for one in (calls, another):
            await _gives(one, value, "gives back a value", "get", key, "miss")
    kept = await cache.keep("error", Err(LookupError("kept")), Facts(took_s=0.0))
    if not isinstance(kept, Kept):
        calls.broken(f"keeps an error; it said {kept!r:.200}", "keep", "error")
    try:
        raised: Any = await calls.call("raises a kept error again", "get", "error", allowed=(LookupError,))
    except LookupError as error:
        raised = error
    if not isinstance(raised, LookupError) or raised.args != ("kept",):
        calls.broken(f"raises a kept error again; it gave {_shown(raised)}", "get", "error")
    await calls.lists([*values, "error"])
    await _gives(calls, True, "says that it deleted", "delete", "user:1")
    await _gives(calls, False, "says that there was nothing", "delete", "user:1")
    await _gives(calls, "gone", "has nothing after delete", "get", "user:1", "gone")
    await _gives(calls, ["user:1"], "brings back what was deleted", "undo")
    await _gives(calls, values["user:1"], "has it again after undo", "get", "user:1")
    await _gives(calls, len(values) + 1, "says how many there were", "clear")
    for key in (*values, "error"):
        await _gives(calls, False, "clear leaves nothing", "has", key)
    await calls.call("empties its trash", "empty_trash")


async def _gives(calls: _Calls, expected: Any, clause: str, method: str, *args: Any) -> None:
    gave = await calls.call(clause, method, *args)
    if gave != expected:
        calls.broken(f"{clause}; it gave {_shown(gave)}", method, *args)


def _as_text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _same(gave: Any, given: bytes | str) -> bool:
    if isinstance(given, str):
        return gave == given if isinstance(gave, str) else isinstance(gave, bytes) and gave == given.encode()
    return isinstance(gave, bytes | bytearray | memoryview) and bytes(cast("bytes", gave)) == given


def _shown(value: Any) -> str:
    text = f"{value[:200]!r}…" if isinstance(value, bytes | str) and len(value) > 4200 else repr(value)
    return text if len(text) <= 60 else f"{text[:40]}…{text[-8:]} ({len(text)} characters)"
