"""The public testing seams: what they do for tests, and that the contract finds broken stores."""

from __future__ import annotations

import asyncio
import configparser
import json
import posixpath
import shelve
import threading
import time
import unicodedata
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_plus

import pytest

from nbstep import Cache, create_workflow
from nbstep.events import RunFinished, StepHit, StepStarted
from nbstep.testing import (
    NBVAL_SANITIZE,
    STEP_LIST_HTML,
    AsyncMemoryStore,
    MemoryStore,
    RecordingListener,
    SettableClock,
    check_store,
    workflow_shell,
)


class Json(MemoryStore):
    def get(self, key: str) -> Any:
        text = super().get(key)
        return None if text is None else json.loads(text)

    def set(self, key: str, value: Any) -> None:
        super().set(key, json.dumps(value))  # type: ignore[arg-type]


class AsyncScan(AsyncMemoryStore):
    """Lists its keys as redis.asyncio's `scan_iter` does; deleting what is not there is a KeyError."""

    def keys(self) -> AsyncIterator[bytes]:  # type: ignore[override]
        async def scan() -> AsyncIterator[bytes]:
            for key in list(self._store.keys()):
                yield key.encode()

        return scan()

    async def delete(self, key: str) -> bool:
        if not await super().delete(key):
            raise KeyError(key)
        return True


class Cleared(MemoryStore):
    def clear(self) -> None:
        self._entries.clear()


@pytest.mark.parametrize("store", [MemoryStore(), Json(), Cleared(), {}, "memory:", Cache("memory:"), Cache({})])
def test_c1_sync_stores_keep_the_contract(store: Any) -> None:
    assert check_store(store) is None


@pytest.mark.parametrize("as_what", [Path, str, Cache])
def test_c1_a_folder_keeps_the_contract(as_what: Callable[[Path], Any], tmp_path: Path) -> None:
    assert check_store(as_what(tmp_path / "cache")) is None
    assert Cache(tmp_path / "cache").keys() == []


def test_c1_a_shelf_keeps_the_contract(tmp_path: Path) -> None:
    with shelve.open(str(tmp_path / "shelf")) as shelf:
        assert check_store(shelf) is None
        assert list(shelf) == []


class Redis:
    """A thin class around a client, as the README shows it."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def get(self, key: str) -> Any:
        return self.client.get(f"app:{key}")

    def set(self, key: str, value: Any) -> Any:
        return self.client.set(f"app:{key}", value)

    def has(self, key: str) -> Any:
        return self.client.exists(f"app:{key}")

    def delete(self, key: str) -> Any:
        return self.client.delete(f"app:{key}")


class ListedRedis(Redis):
    def keys(self) -> list[Any]:
        return [key[4:] for key in self.client.scan_iter("app:*")]

    def clear(self) -> None:
        for key in list(self.client.scan_iter("app:*")):
            self.client.delete(key)


class AsyncRedis(Redis):
    is_async = True


@pytest.mark.redis
@pytest.mark.parametrize("decode", [False, True], ids=["bytes", "decode_responses"])
@pytest.mark.parametrize("kind", [Redis, ListedRedis])
def test_c1_a_real_redis_keeps_the_contract(redis_url: str, kind: type[Redis], decode: bool) -> None:
    redis = pytest.importorskip("redis")
    with redis.Redis.from_url(redis_url, decode_responses=decode) as client:
        client.flushdb()
        assert check_store(kind(client)) is None
        assert client.dbsize() == 0


@pytest.mark.redis
@pytest.mark.parametrize("decode", [False, True], ids=["bytes", "decode_responses"])
def test_c1_a_real_async_redis_keeps_the_contract(redis_url: str, decode: bool) -> None:
    asyncio_redis = pytest.importorskip("redis.asyncio")

    async def check() -> int:
        client = asyncio_redis.Redis.from_url(redis_url, decode_responses=decode)
        await client.flushdb()
        await check_store(AsyncRedis(client))
        left = await client.dbsize()
        await client.aclose()
        return left

    assert asyncio.run(check()) == 0


@pytest.mark.parametrize("store", [AsyncMemoryStore(), AsyncScan()])
def test_c1_async_stores_keep_the_contract(store: Any) -> None:
    assert asyncio.run(check_store(store)) is None


class Lossy(MemoryStore):
    def get(self, key: str) -> Any:
        found = super().get(key)
        return None if found is None else found[:100]


class Forgetful(MemoryStore):
    def delete(self, key: str) -> bool:
        return self.has(key)


class FirstWins(MemoryStore):
    def set(self, key: str, value: Any) -> None:
        if not self.has(key):
            super().set(key, value)


class Greedy(MemoryStore):
    def delete(self, key: str) -> bool:
        gone = self.has(key)
        self._entries = {k: v for k, v in self._entries.items() if not k.startswith(key)}
        return gone


class ClearsAtBlank(MemoryStore):
    """Takes a key that is blank when trimmed for no key: everything goes."""

    def delete(self, key: str) -> bool:
        if not key.strip():
            self._entries.clear()
        return super().delete(key)


class Boastful(MemoryStore):
    def has(self, key: str) -> bool:
        return True


class HidesKeys(MemoryStore):
    def keys(self) -> list[str]:
        return []


class OnePage(MemoryStore):
    def keys(self) -> list[str]:
        return super().keys()[:100]


class Lru(MemoryStore):
    def set(self, key: str, value: Any) -> None:
        super().set(key, value)
        for old in self.keys()[:-200]:
            self.delete(old)


class Full(MemoryStore):
    """Says nothing when it takes no more."""

    def set(self, key: str, value: Any) -> None:
        if self.has(key) or len(self.keys()) < 21:
            super().set(key, value)


class HalfCleared(MemoryStore):
    def clear(self) -> None:
        self._entries = {key: value for key, value in self._entries.items() if ":" not in key}


class NamesDeleted(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self._ever: dict[str, None] = {}

    def set(self, key: str, value: Any) -> None:
        self._ever[key] = None
        super().set(key, value)

    def keys(self) -> list[str]:
        return list(self._ever)


class EmptyIsFalse(MemoryStore):
    def get(self, key: str) -> Any:
        return super().get(key) or False


class CachedReads(MemoryStore):
    """A cache of what was read in front, which `set` does not clear."""

    def __init__(self) -> None:
        super().__init__()
        self._read: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        if self._read.get(key) is None:
            self._read[key] = super().get(key)
        return self._read[key]

    def delete(self, key: str) -> bool:
        self._read.pop(key, None)
        return super().delete(key)


class OneHand(MemoryStore):
    """Remembers between two lines which key it is at: two threads mix their values up."""

    _at = ""

    def set(self, key: str, value: Any) -> None:
        self._at = key
        time.sleep(0.001)
        super().set(self._at, value)


class AsyncOneHand(AsyncMemoryStore):
    _at = ""

    async def set(self, key: str, value: Any) -> None:
        self._at = key
        await asyncio.sleep(0.001)
        await super().set(self._at, value)


class OfEachThread(MemoryStore):
    """As a connection to a database in memory that each thread opens for itself."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    @property
    def _entries(self) -> Any:
        return self._of_thread.__dict__.setdefault("entries", {})


class OfEachTask(AsyncMemoryStore):
    def __init__(self) -> None:
        self._of_task: dict[Any, MemoryStore] = {}

    @property
    def _store(self) -> Any:
        return self._of_task.setdefault(asyncio.current_task(), MemoryStore())


class OverwritesOthers(MemoryStore):
    """Reads everything and writes everything, as a store of one JSON file does."""

    def set(self, key: str, value: Any) -> None:
        entries = dict(self._entries)
        time.sleep(0.001)
        self._entries = {**entries, key: value}


class WrittenInPlace(MemoryStore):
    """As a file that is opened to be written: at first it is empty, then it has a part."""

    def set(self, key: str, value: Any) -> None:
        for end in (0, len(value) // 2, len(value)):
            super().set(key, value[:end])
            time.sleep(0.001)


class AsyncGoneWhileReplaced(AsyncMemoryStore):
    async def set(self, key: str, value: Any) -> None:
        await self.delete(key)
        await asyncio.sleep(0)
        await super().set(key, value)


class OneBuffer(MemoryStore):
    """What `get` gave is what the next call works with."""

    _buffer = bytearray()

    def get(self, key: str) -> Any:
        found = super().get(key)
        if found is None:
            return None
        self._buffer[:] = found
        return self._buffer


class DeletesBelow(MemoryStore):
    def delete(self, key: str) -> bool:
        for other in self.keys():
            if other.startswith(f"{key}:"):
                super().delete(other)
        return super().delete(key)


class PickyDelete(MemoryStore):
    def delete(self, key: str) -> bool:
        if not super().delete(key):
            raise ValueError("no such key")
        return True


class NoKeys(MemoryStore):
    def keys(self) -> list[str]:
        raise NotImplementedError


class HalfAsync(MemoryStore):
    def get(self, key: str) -> Any:
        async def found() -> Any:
            return self._entries.get(key)

        return found()


class AwaitedKeys(MemoryStore):
    async def keys(self) -> list[str]:  # type: ignore[override]
        return super().keys()


class Down(MemoryStore):
    def has(self, key: str) -> bool:
        raise ConnectionError("connection refused")


@pytest.mark.parametrize(
    ("store", "said"),
    [
        (Lossy(), "hands back"), (Forgetful(), "after delete"), (FirstWins(), "hands back"), (Greedy(), "one key only"),
        (ClearsAtBlank(), r"get\('user:1'\): .*delete\(' '\) removes one key only"), (Boastful(), "has is false"),
        (HidesKeys(), "lists every key"), (OnePage(), "lists every key; it left out 200"), (Lru(), "holds 300 small entries"),
        (Full(), "gives what was set last"), (EmptyIsFalse(), "gives None"), (HalfCleared(), "all is gone"),
        (NamesDeleted(), "no key that was deleted"), (CachedReads(), r"CachedReads.get\('user:1'\): CachedReads.get hands back"),
        (OneHand(), r"OneHand.get\('worker:\d'\): OneHand serves 8 threads at once"),
        (OfEachThread(), r"OfEachThread.get\('worker:0'\): .*8 threads at once.* all see what each of them set; it gave None"),
        (OverwritesOthers(), r"OverwritesOthers serves 8 threads at once"),
        (WrittenInPlace(), r"WrittenInPlace serves 8 threads at once under one key: while it is replaced"),
        (OneBuffer(), "gives what stays as it is; after another call it is"), (DeletesBelow(), "one key only"),
        (PickyDelete(), r"PickyDelete.delete\('user:1'\): .*raises KeyError; it raised ValueError: no such key"),
        (NoKeys(), r"NoKeys.keys\(\): NoKeys.keys lists every key; it raised NotImplementedError"),
        (HalfAsync(), r"HalfAsync.get\('user:1'\): .*gave an awaitable; write all as `async def`"),
        (AwaitedKeys(), r"AwaitedKeys.keys\(\): .*gave an awaitable; write all as `async def`"),
        (Down(), r"Down.has\('user:1'\): .* it raised ConnectionError: connection refused"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_c1_the_contract_finds_a_broken_store(store: Any, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_store(store)


@pytest.mark.parametrize(
    ("store", "said"),
    [
        (AsyncOneHand(), "AsyncOneHand serves 8 tasks at once"),
        (OfEachTask(), "8 tasks at once.* all see what each of them set"),
        (AsyncGoneWhileReplaced(), "8 tasks at once under one key: while it is replaced, .*; it gave None"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_c1_the_contract_finds_an_async_store_that_mixes_up_two_tasks(store: Any, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        asyncio.run(check_store(store))


class Rewritten(MemoryStore):
    """Keeps under a key, or as a value, not quite what it was given."""

    def __init__(self, key: Callable[[str], str] = str, value: Callable[[bytes], bytes] = bytes) -> None:
        super().__init__()
        self._key, self._value = key, value

    def get(self, key: str) -> Any:
        return super().get(self._key(key))

    def set(self, key: str, value: Any) -> None:
        super().set(self._key(key), self._value(value))

    def has(self, key: str) -> bool:
        return super().has(self._key(key))

    def delete(self, key: str) -> bool:
        return super().delete(self._key(key))

    keys = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    "key",
    [
        lambda key: key.replace(":", "_"), str.lower, str.casefold, str.strip, lambda key: key.rstrip("\n"), unquote, unquote_plus,
        lambda key: key[:255], lambda key: key[:4095], lambda key: key.partition("\x00")[0], posixpath.normpath,
        lambda key: key.replace("\\", "/"), partial(unicodedata.normalize, "NFC"), partial(unicodedata.normalize, "NFD"),
        partial(unicodedata.normalize, "NFKC"),
    ],
    ids=["safe_names", "any_case", "casefold", "trimmed", "no_newline", "unquoted", "plus", "255", "4095", "c_string", "path",
         "slashes", "nfc", "nfd", "nfkc"],
)  # fmt: skip
def test_c1_the_contract_finds_a_store_that_takes_two_keys_for_one(key: Callable[[str], str]) -> None:
    with pytest.raises(
        AssertionError, match=r"Rewritten.get\(.*: Rewritten.get gives what was set last under this very key"
    ):
        check_store(Rewritten(key=key))


@pytest.mark.parametrize(
    "value",
    [
        lambda value: value.rstrip(b"\x00"), bytes.rstrip, bytes.lstrip, lambda value: value.replace(b"\r\n", b"\n"),
        lambda value: value.replace(b"\r", b"\n"), lambda value: value.replace(b"\n", b"\r\n"), lambda value: value[: 16 << 20],
        lambda value: value.removeprefix(b"\xef\xbb\xbf"),
    ],
    ids=["nul", "rstrip", "lstrip", "crlf_to_lf", "cr_to_lf", "lf_to_crlf", "16_mib", "bom"],
)  # fmt: skip
def test_c1_the_contract_finds_a_store_that_alters_values(value: Callable[[bytes], bytes]) -> None:
    with pytest.raises(AssertionError, match=r"Rewritten.get\('user:1'\): Rewritten.get hands back"):
        check_store(Rewritten(value=value))


def test_a_store_that_lacks_a_method_is_a_type_error() -> None:
    class NoDelete:
        get = set = has = print

    with pytest.raises(TypeError, match="NoDelete lacks delete"):
        check_store(NoDelete())


def test_the_listener_sorts_what_it_was_told() -> None:
    listener = RecordingListener()
    workflow = create_workflow(cache=MemoryStore(), on_event=listener)
    for _ in range(2):
        workflow(lambda step: step(lambda: 1, key="a"))
    assert listener.kinds("a") == [
        "StepAsked", "StepMissed", "StepStarted", "StepFinished", "StepAsked", "StepHit",
    ]  # fmt: skip
    assert (listener.hits(), listener.reasons("a"), listener.findings()) == (["a"], ["new"], [])
    assert [len(listener.of(kind)) for kind in (StepHit, StepStarted, RunFinished)] == [1, 1, 2]
    listener.clear()
    assert listener.events == []


def test_the_clock_stands_still_until_it_is_moved() -> None:
    clock = SettableClock(at=10.0)
    cache = clock.drive(Cache("memory:"))
    cache.set("a", 1)
    clock.advance("1h")
    cache.set("b", 2)
    assert [meta.created for meta in cache.entries()] == [10.0, 3610.0]


def test_the_shell_is_real_and_leaves_nothing_behind() -> None:
    from IPython.core.interactiveshell import InteractiveShell

    with workflow_shell() as shell:
        assert shell.run_cell("%%workflow\nx = step(lambda: 6 * 7, key='answer')").success
        assert shell.user_ns["x"] == 42
        with pytest.raises(RuntimeError, match="runs in this process already"), workflow_shell():
            pass
    assert not InteractiveShell.initialized()
    with workflow_shell() as again:
        assert "x" not in again.user_ns


def test_n3_the_sanitizer_is_one_pattern_for_nbval_and_for_python() -> None:
    config = configparser.ConfigParser()
    config.read(NBVAL_SANITIZE)
    assert config["nbstep"]["regex"] == STEP_LIST_HTML.pattern
    html = "a<!--nbstep steps-->3.2 s\n<b>x</b><!--end of nbstep-->b<!--nbstep steps-->4 s<!--end of nbstep-->c"
    assert STEP_LIST_HTML.sub("", html) == "abc"
