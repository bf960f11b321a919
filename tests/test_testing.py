"""The public testing seams: what they do for tests, and that the contract finds broken stores."""

from __future__ import annotations

import asyncio
import configparser
import json
import shelve
import unicodedata
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

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


class SafeNames(MemoryStore):
    """As a store that makes file names of keys: two keys become one."""

    def get(self, key: str) -> Any:
        return super().get(key.replace(":", "_"))

    def set(self, key: str, value: Any) -> None:
        super().set(key.replace(":", "_"), value)

    def has(self, key: str) -> bool:
        return super().has(key.replace(":", "_"))

    def delete(self, key: str) -> bool:
        return super().delete(key.replace(":", "_"))


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


class Boastful(MemoryStore):
    def has(self, key: str) -> bool:
        return True


class HidesKeys(MemoryStore):
    def keys(self) -> list[str]:
        return []


class Short(MemoryStore):
    """Takes at most a megabyte, and cuts the rest off."""

    def set(self, key: str, value: Any) -> None:
        super().set(key, value[: 1 << 20])


class Composed(MemoryStore):
    """As a file system that takes two spellings of one text for one name."""

    def get(self, key: str) -> Any:
        return super().get(unicodedata.normalize("NFC", key))

    def set(self, key: str, value: Any) -> None:
        super().set(unicodedata.normalize("NFC", key), value)


class AnyCase(MemoryStore):
    def get(self, key: str) -> Any:
        return super().get(key.lower())

    def set(self, key: str, value: Any) -> None:
        super().set(key.lower(), value)

    def has(self, key: str) -> bool:
        return super().has(key.lower())

    def delete(self, key: str) -> bool:
        return super().delete(key.lower())


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


class CStrings(MemoryStore):
    """Ends a key at its first NUL."""

    def get(self, key: str) -> Any:
        return super().get(key.partition("\x00")[0])

    def set(self, key: str, value: Any) -> None:
        super().set(key.partition("\x00")[0], value)


class EmptyIsFalse(MemoryStore):
    def get(self, key: str) -> Any:
        return super().get(key) or False


@pytest.mark.parametrize(
    ("store", "said"),
    [
        (Lossy(), "hands back"), (SafeNames(), "gives what was set last"), (Forgetful(), "after delete"),
        (FirstWins(), "set last"), (Greedy(), "one key only"), (Boastful(), "has is false"), (HidesKeys(), "lists every key"),
        (EmptyIsFalse(), "gives None"), (Short(), "hands back"), (Composed(), "set last|is true"), (AnyCase(), "set last"),
        (HalfCleared(), "all is gone"), (NamesDeleted(), "no key that was deleted"), (CStrings(), "is true|every key"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_the_contract_finds_a_broken_store(store: Any, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_store(store)


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
