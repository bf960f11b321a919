"""The user's own store: a dict, a shelf, sync and async classes, a JSON adapter, a real Redis (C1)."""

from __future__ import annotations

import asyncio
import inspect
import json
import shelve
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbstep.cache.cache import Cache
from nbstep.cache.records import Facts, Hit, Miss
from nbstep.events import Finding
from nbstep.result import Err, Ok
from nbstep.stores.mapping import MappingStore
from nbstep.workflows import create_workflow

pytestmark = pytest.mark.filterwarnings("error")


class Plain:
    """The four methods, and what was asked of them."""

    def __init__(self) -> None:
        self.entries: dict[str, Any] = {}
        self.calls: list[str] = []

    def get(self, key: str) -> Any:
        self.calls.append(f"get {key}")
        return self.entries.get(key)

    def set(self, key: str, value: Any) -> None:
        self.calls.append(f"set {key}")
        self.entries[key] = value

    def has(self, key: str) -> bool:
        return key in self.entries

    def delete(self, key: str) -> bool:
        return self.entries.pop(key, None) is not None


class Json(Plain):
    """As people write it: everything through json.dumps and json.loads."""

    def get(self, key: str) -> Any:
        raw = self.entries.get(key)
        return None if raw is None else json.loads(raw)

    def set(self, key: str, value: Any) -> None:
        self.entries[key] = json.dumps(value)


class LossyJson(Json):
    def set(self, key: str, value: Any) -> None:
        self.entries[key] = json.dumps(value, default=str)


class Async:
    def __init__(self) -> None:
        self.entries: dict[str, Any] = {}

    async def get(self, key: str) -> Any:
        await asyncio.sleep(0)
        return self.entries.get(key)

    async def set(self, key: str, value: Any) -> None:
        await asyncio.sleep(0)
        self.entries[key] = value

    async def has(self, key: str) -> bool:
        return key in self.entries

    async def delete(self, key: str) -> None:
        del self.entries[key]

    async def keys(self) -> Any:
        for key in list(self.entries):
            yield key


class AsyncJson(Async):
    async def get(self, key: str) -> Any:
        raw = self.entries.get(key)
        return None if raw is None else json.loads(raw)

    async def set(self, key: str, value: Any) -> None:
        self.entries[key] = json.dumps(value)


class Raising(Plain):
    """A store that raises KeyError where others give None."""

    def get(self, key: str) -> Any:
        return self.entries[key]

    def delete(self, key: str) -> Any:
        del self.entries[key]


class RedisStore:
    """A thin class around a Redis client, as the README shows it."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def get(self, key: str) -> Any:
        return self.client.get(f"app:{key}")

    def set(self, key: str, value: Any) -> None:
        self.client.set(f"app:{key}", value)

    def has(self, key: str) -> bool:
        return bool(self.client.exists(f"app:{key}"))

    def delete(self, key: str) -> None:
        self.client.delete(f"app:{key}")


class RedisJsonStore(RedisStore):
    def get(self, key: str) -> Any:
        raw = self.client.get(f"app:{key}")
        return None if raw is None else json.loads(raw)

    def set(self, key: str, value: Any) -> None:
        self.client.set(f"app:{key}", json.dumps(value))


class AsyncRedisStore:
    def __init__(self, client: Any) -> None:
        self.client = client

    async def get(self, key: str) -> Any:
        return await self.client.get(key)

    async def set(self, key: str, value: Any) -> None:
        await self.client.set(key, value)

    async def has(self, key: str) -> bool:
        return bool(await self.client.exists(key))

    async def delete(self, key: str) -> None:
        await self.client.delete(key)

    async def keys(self) -> Any:
        return await self.client.keys("*")


STORES = ["dict", "shelf", "plain", "json", "lossy json", "raising", "async", "async json",
          "redis", "redis text", "redis json", "redis json text", "async redis", "async redis text"]  # fmt: skip


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    simple = {
        "dict": dict,
        "plain": Plain,
        "json": Json,
        "lossy json": LossyJson,
        "raising": Raising,
        "async": Async,
        "async json": AsyncJson,
    }
    name: str = request.param
    if name in simple:
        yield simple[name]()
    elif name == "shelf":
        with shelve.open(str(tmp_path / "shelf")) as shelf:
            yield shelf
    else:
        redis = pytest.importorskip("redis")
        url = request.getfixturevalue("redis_url")
        with redis.Redis.from_url(url) as flusher:
            flusher.flushdb()
        text = name.endswith("text")
        if name.startswith("async"):
            import redis.asyncio

            yield AsyncRedisStore(redis.asyncio.Redis.from_url(url, decode_responses=text))
        else:
            with redis.Redis.from_url(url, decode_responses=text) as client:
                yield (RedisJsonStore if "json" in name else RedisStore)(client)


async def settled(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


async def close(store: Any) -> None:
    if isinstance(store, AsyncRedisStore):
        await store.client.aclose()


VALUES: list[Any] = [None, 0, "", {"a": [1, "x"]}, b"\xff\x00", "é"]


def test_c1_any_store_keeps_values_and_errors(store: Any) -> None:
    async def main() -> None:
        cache = Cache(store)
        assert cache.is_async is isinstance(store, Async | AsyncRedisStore)
        assert cache.directory is None
        for number, value in enumerate(VALUES):
            await settled(cache.set(f"v:{number}", value))
        await settled(cache.set("array", np.arange(50_000)))
        for number, value in enumerate(VALUES):
            assert await settled(cache.get(f"v:{number}", "default")) == value
        (await settled(cache.get("array")))[0] = 7
        assert (await settled(cache.get("array")))[0] == 0
        assert await settled(cache.get("nothing", "default")) == "default"
        await cache.keep("error", Err(KeyError("x")), Facts(took_s=1))
        with pytest.raises(KeyError):
            await settled(cache.get("error"))
        assert [meta.key for meta in await settled(cache.errors())] == ["error"]
        assert set(await settled(cache.keys())) == {*(f"v:{n}" for n in range(len(VALUES))), "array", "error"}
        await close(store)

    asyncio.run(main())


def test_c2_deleting_clearing_and_undo_work_on_any_store(store: Any) -> None:
    async def main() -> None:
        cache = Cache(store)
        for key in ("a:1", "a:2", "b:1"):
            await settled(cache.set(key, key))
        assert await settled(cache.delete("a:1")) is True
        assert await settled(cache.delete("a:1")) is False
        assert await cache.look_up("a:1") == Miss("deleted")
        assert await cache.look_up("c") == Miss("new")
        assert await settled(cache.undo()) == ["a:1"]
        assert await settled(cache.delete_matching("a:*")) == 2
        assert (await settled(cache.trash())).entries == 2
        assert set(await settled(cache.undo())) == {"a:1", "a:2"}
        await settled(cache.set("b:1", "new"))
        assert await settled(cache.undo("b:1")) == ["b:1"]
        assert await settled(cache.get("b:1")) == "b:1"
        await settled(cache.undo("b:1"))
        assert await settled(cache.get("b:1")) == "new"
        assert await settled(cache.clear()) == 3
        assert await settled(cache.keys()) == []
        assert await settled(cache.has("b:1")) is False
        assert len(await settled(cache.undo())) == 3
        assert await settled(cache.empty_trash()) >= 1
        await close(store)

    asyncio.run(main())


def test_c1_another_kernel_reads_what_this_one_kept(store: Any) -> None:
    async def main() -> None:
        await settled(Cache(store).set("k", {"x": 1}))
        assert await settled(Cache(store).get("k")) == {"x": 1}
        await settled(Cache(store).set("k", {"x": 2}))
        assert await settled(Cache(store).get("k")) == {"x": 2}
        await close(store)

    asyncio.run(main())


def test_c1_the_store_is_given_bytes_under_the_users_own_key() -> None:
    store = Plain()
    Cache(store).set("user:1", 1)
    assert isinstance(store.entries["user:1"], bytes)
    assert store.entries["user:1"].startswith(b"NBSTEP1\n")


def test_c1_a_store_that_refuses_bytes_is_given_ascii_text_from_then_on() -> None:
    store = Json()
    cache = Cache(store)
    cache.set("a", 1)
    cache.set("b", 2)
    texts = [json.loads(raw) for raw in store.entries.values()]
    assert [text[:14] for text in texts] == ["nbstep-base64:"] * 2
    assert all(text.isascii() for text in texts)


def test_c1_a_hit_asks_the_store_once() -> None:
    store = Plain()
    cache = Cache(store)
    cache.set("k", 1)
    store.calls.clear()
    assert cache.get("k") == 1
    assert store.calls == ["get k"]


def test_c1_what_else_is_in_a_mapping_is_left_alone() -> None:
    mapping: dict[Any, Any] = {"mine": {"a": 1}, "text": "x", 5: "number", "bytes": b"abc"}
    cache = Cache(mapping)
    cache.set("k", 1)
    assert cache.keys() == ["k"]
    assert isinstance(miss := asyncio.run(cache.look_up("mine")), Miss)
    assert miss.reason == "unreadable"
    assert "holds a dict" in (miss.detail or "")
    assert cache.clear() == 1
    assert mapping == {"mine": {"a": 1}, "text": "x", 5: "number", "bytes": b"abc"}


def test_c1_clear_is_used_where_the_store_has_one() -> None:
    class Clearing(Plain):
        def clear(self) -> None:
            self.calls.append("clear")
            self.entries.clear()

        def keys(self) -> list[str]:
            return list(self.entries)

    store = Clearing()
    cache = Cache(store)
    cache.set("a", 1)
    assert cache.clear() == 1
    assert store.calls[-1] == "clear"
    assert cache.undo() == ["a"]


def test_c1_an_entry_moved_to_another_key_is_a_miss() -> None:
    mapping: dict[str, Any] = {}
    cache = Cache(mapping)
    cache.set("a", 1)
    mapping["b"] = mapping["a"]
    miss = asyncio.run(cache.look_up("b"))
    assert isinstance(miss, Miss)
    assert miss.reason == "unreadable"
    assert "another key, 'a'" in (miss.detail or "")


def test_c1_a_store_that_lacks_a_method_is_an_error_that_names_it() -> None:
    class NoDelete:
        def get(self, key: str) -> Any: ...
        def set(self, key: str, value: Any) -> None: ...
        def has(self, key: str) -> bool: ...

    with pytest.raises(
        TypeError, match=r"cache=NoDelete lacks delete: .*get\(key\), set\(key, value\), has\(key\) and delete\(key\)"
    ):
        Cache(NoDelete())

    class Client(NoDelete):
        has = None

        def exists(self, key: str) -> Any: ...
        def delete(self, key: str) -> Any: ...

    with pytest.raises(TypeError, match=r"lacks has.*exists"):
        Cache(Client())


@pytest.mark.parametrize("where", [5, True, b"x", ["a"], ("a",), 1.5, "", "  "])
def test_c1_what_is_no_store_is_an_error(where: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="cache="):
        Cache(where)
    with pytest.raises(TypeError, match=r"Plain\(\)"):
        Cache(Plain)


def test_c1_urls_of_known_and_unknown_schemes(tmp_path: Path) -> None:
    assert Cache("memory:").place == "memory:"
    assert Cache(f"file://{tmp_path}/c").directory == tmp_path / "c"
    assert Cache("redis://localhost:6379/0").place == "redis://localhost:6379/0"
    assert Cache("s3://bucket/prefix").place == "s3://bucket/prefix"
    with pytest.raises(
        ValueError, match=r"unknown scheme 'nosuch'; known are memory:, file:, redis://, .* and plain paths"
    ):
        Cache("nosuch://host/x")


def test_c1_a_plain_method_that_gives_an_awaitable_is_an_error_that_says_what_to_write() -> None:
    class Disguised(Plain):
        def get(self, key: str) -> Any:
            async def later() -> None: ...

            return later()

    miss = asyncio.run(Cache(Disguised()).look_up("k"))
    assert isinstance(miss, Miss)
    assert "async def get" in (miss.detail or "")
    with pytest.raises(TypeError, match="async def get"):
        MappingStore(Disguised()).open("k", "").send(None)

    class Declared(Disguised):
        is_async = True

    assert Cache(Declared()).is_async is True


def test_c3_a_broken_store_costs_no_value_and_raises_for_people() -> None:
    class Down(Plain):
        def get(self, key: str) -> Any:
            raise ConnectionError("redis is down")

        set = has = delete = get  # type: ignore[assignment]

    cache = Cache(Down())
    miss = asyncio.run(cache.look_up("k"))
    assert isinstance(miss, Miss)
    assert (miss.reason, "redis is down" in (miss.detail or "")) == ("unreadable", True)
    not_kept = asyncio.run(cache.keep("k", Ok(1), Facts(took_s=1)))
    assert "redis is down" in not_kept.why  # type: ignore[union-attr]
    with pytest.raises(ConnectionError):
        cache.delete("k")


def test_c3_a_store_that_loses_what_it_is_given_is_found_out() -> None:
    class Forgetful(Plain):
        def set(self, key: str, value: Any) -> None:
            self.entries[key] = value[:20]

    not_kept = asyncio.run(Cache(Forgetful()).keep("k", Ok(1), Facts(took_s=1)))
    assert "does not hand back" in not_kept.why  # type: ignore[union-attr]


def test_c1_async_caches_refuse_what_cannot_wait() -> None:
    cache = Cache(Async())
    for act in (lambda: "k" in cache, lambda: len(cache), lambda: iter(cache)):
        with pytest.raises(TypeError, match="async store Async"):
            act()


@pytest.mark.redis
def test_c1_entries_in_redis_survive_the_client(redis_url: str) -> None:
    redis = pytest.importorskip("redis")
    with redis.Redis.from_url(redis_url) as client:
        Cache(RedisStore(client)).set("kept", {"at": time.time})
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        # Bytes that this client cannot decode are a miss with its reason; what is kept anew is text.
        cache = Cache(RedisStore(client))
        miss = asyncio.run(cache.look_up("kept"))
        assert isinstance(miss, Miss)
        assert "cannot decode" in (miss.detail or "")
        cache.set("kept", 5)
        assert cache.get("kept") == 5
        assert cache.trash().entries == 1
    with redis.Redis.from_url(redis_url) as client:
        assert isinstance(asyncio.run(Cache(RedisStore(client)).look_up("kept")), Hit)


class Failing(Plain):
    """A store whose connection breaks: `set` raises from the n-th call on."""

    def __init__(self) -> None:
        super().__init__()
        self.sets_left: int | None = None

    def set(self, key: str, value: Any) -> None:
        if self.sets_left is not None:
            if self.sets_left == 0:
                raise ConnectionError("down")
            self.sets_left -= 1
        super().set(key, value)

    def keys(self) -> list[str]:
        return list(self.entries)


@pytest.mark.parametrize("one", [False, True], ids=["batch", "key"])
def test_c2_an_undo_that_the_store_breaks_off_loses_nothing(one: bool) -> None:
    target = Failing()
    cache = Cache(target)
    for n in range(4):
        cache.set(f"k{n}", n)
    cache.clear()
    target.sets_left = 0 if one else 1
    with pytest.raises(ConnectionError):
        cache.undo("k0" if one else None)
    assert len(cache.keys()) + cache.trash().entries == 4
    target.sets_left = None
    cache.undo()
    assert sorted(cache.keys()) == ["k0", "k1", "k2", "k3"]
    assert [cache.get(f"k{n}") for n in range(4)] == [0, 1, 2, 3]
    assert cache.trash().entries == 0


def test_e6_a_replacement_that_the_store_refuses_leaves_the_old_value_and_no_copy() -> None:
    target = Failing()
    cache = Cache(target)
    cache.set("k", "old")
    target.sets_left = 0
    with pytest.raises(ValueError, match="down"):
        cache.set("k", "new")
    assert cache.get("k") == "old"
    assert cache.trash().entries == 0


@pytest.mark.parametrize("theirs", [{"a": 1}, 5, "text", b"bytes", b""], ids=repr)
def test_c2_what_is_no_entry_is_never_deleted_replaced_or_evicted(theirs: Any) -> None:
    mapping: dict[str, Any] = {}
    cache = Cache(mapping)
    cache.set("mine", 1)
    assert cache.delete("mine")
    mapping["mine"] = theirs
    assert cache.delete("mine") is False
    with pytest.raises(ValueError, match=r"not kept: dict holds a .* that is not nbstep's"):
        cache.set("mine", 2)
    with pytest.raises(ValueError, match="that is not nbstep's"):
        cache.undo()
    assert cache.trash().entries == 1
    assert cache.gc(unused="1s").unused_keys == ()
    del mapping["mine"]
    assert cache.undo("mine") == ["mine"]
    assert cache.get("mine") == 1
    mapping["mine"] = theirs
    limited = Cache(mapping, max_bytes=3000)
    for n in range(6):
        limited.set(f"k{n}", "x" * 200)
    assert len(limited.keys()) < 6
    assert mapping["mine"] is theirs


def test_c3_a_step_whose_key_holds_something_else_gives_its_value_and_one_finding() -> None:
    mapping: dict[str, Any] = {"mine": {"a": 1}}
    found: list[str] = []
    workflow = create_workflow(
        cache=Cache(mapping), on_event=lambda event: found.append(event.text) if isinstance(event, Finding) else None
    )
    assert workflow(lambda step: step(lambda: 1, key="mine")) == Ok(1)
    assert found == ["mine: dict holds a dict under this key that is not nbstep's, so nothing is kept there"]
    assert mapping == {"mine": {"a": 1}}


def test_c2_clear_leaves_what_is_no_entry_where_the_store_has_a_clear_of_its_own() -> None:
    class Clearing(Plain):
        def clear(self) -> None:
            self.entries.clear()

        def keys(self) -> list[Any]:
            return list(self.entries)

    target = Clearing()
    cache = Cache(target)
    for theirs in ("theirs", 5):
        target.entries = {theirs: b"xyz"}
        cache.set("a", 1)
        assert cache.clear() == 1
        assert target.entries == {theirs: b"xyz"}
    assert cache.undo() == ["a"]
