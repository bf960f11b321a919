"""The caching page of awaitly (its guide "Caching", release 1.12.0) in Python, example by example.

`new Map()` is a `dict`, `undefined` is `None`, `err('NOT_FOUND')` is `Err("NOT_FOUND")`, `cache.delete(key)` is `del cache[key]`.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from typing import Any

import pytest

from nbstep import Cache, Err, create_workflow

fetched: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_fetched() -> None:
    fetched.clear()


async def fetch_user(uid: str) -> Any:
    fetched.append(uid)
    if uid == "999":
        return Err("NOT_FOUND")
    return {"id": uid, "name": f"User {uid}"}


deps = {"fetch_user": fetch_user}
USER = {"id": "1", "name": "User 1"}


def test_enable_caching_and_use_keys() -> None:
    workflow = create_workflow(deps, cache={})

    async def body(step: Any) -> Any:
        user = await step(lambda: fetch_user("1"), key="user:1")
        same_user = await step(lambda: fetch_user("1"), key="user:1")
        assert same_user == user
        return user

    result = asyncio.run(workflow(body))
    assert result.value == USER
    assert fetched == ["1"]


def test_deps_reach_a_body_that_takes_them() -> None:
    workflow = create_workflow(deps, cache={})

    async def body(step: Any, deps: Any) -> Any:
        return await step(lambda: deps.fetch_user("1"), key="user:1")

    assert asyncio.run(workflow(body)).value == USER


def test_options_go_to_create_workflow_where_the_page_warns_we_raise() -> None:
    with pytest.raises(TypeError, match=r"create_workflow\(…, cache=…\)"):
        create_workflow(deps)(lambda step: 1, cache={})


def test_good_keys_are_taken() -> None:
    uid = "7"
    workflow = create_workflow(cache={})
    for key in ("user:123", f"posts:{uid}", f"order:{uid}:validate"):
        assert workflow(lambda step, key=key: step(lambda: key, key=key)).value == key


def test_bad_keys_change_with_every_call_so_nothing_is_ever_reused() -> None:
    workflow = create_workflow(cache={})

    async def body(step: Any) -> None:
        await step(lambda: fetch_user("1"), key=f"user:{time.time_ns()}")
        await step(lambda: fetch_user("1"), key=f"user:{uuid.uuid4()}")

    asyncio.run(workflow(body))
    asyncio.run(workflow(body))
    assert fetched == ["1"] * 4


def test_thunks_are_required_where_the_page_ignores_caching_we_raise() -> None:
    workflow = create_workflow(cache={})

    async def without_thunk(step: Any) -> Any:
        return await step(fetch_user("1"), key="user:1")

    async def with_thunk(step: Any) -> Any:
        return await step(lambda: fetch_user("1"), key="user:1")

    with pytest.raises(TypeError, match=r"step\(lambda: fetch_user\(…\), key='user:1'\)"):
        asyncio.run(workflow(without_thunk))
    assert fetched == []
    assert asyncio.run(workflow(with_thunk)).value == USER


def test_the_cache_persists_across_runs() -> None:
    cache: dict[str, Any] = {}
    workflow = create_workflow(deps, cache=cache)

    async def body(step: Any) -> Any:
        return await step(lambda: fetch_user("1"), key="user:1")

    first = asyncio.run(workflow(body))
    second = asyncio.run(workflow(body))
    assert (first.value, second.value, fetched) == (USER, USER, ["1"])
    assert list(cache) == ["user:1"]


def test_one_key_or_everything_is_cleared() -> None:
    cache: dict[str, Any] = {}
    workflow = create_workflow(deps, cache=cache)

    async def body(step: Any) -> None:
        await step(lambda: fetch_user("1"), key="user:1")
        await step(lambda: fetch_user("2"), key="user:2")

    asyncio.run(workflow(body))
    del cache["user:1"]
    asyncio.run(workflow(body))
    assert fetched == ["1", "2", "1"]
    cache.clear()
    asyncio.run(workflow(body))
    assert fetched == ["1", "2", "1", "1", "2"]
    assert Cache(cache).delete("user:1") is True
    assert Cache(cache).delete("user:1") is False


class RedisCache:
    """The page's custom cache: four async methods, JSON inside, around a Redis client."""

    def __init__(self, redis: Any) -> None:
        self.redis = redis

    async def get(self, key: str) -> Any:
        value = await self.redis.get(key)
        return json.loads(value) if value else None

    async def set(self, key: str, value: Any) -> None:
        await self.redis.set(key, json.dumps(value))

    async def has(self, key: str) -> bool:
        return await self.redis.exists(key) > 0

    async def delete(self, key: str) -> bool:
        return await self.redis.delete(key) > 0


@pytest.mark.redis
@pytest.mark.parametrize("decode_responses", [False, True])
def test_a_custom_cache_around_a_real_redis(redis_url: str, decode_responses: bool) -> None:
    from redis.asyncio import Redis

    key = f"user:1:{decode_responses}"

    async def run_once() -> Any:
        async with Redis.from_url(redis_url, decode_responses=decode_responses) as redis:
            store = RedisCache(redis)
            workflow = create_workflow(deps, cache=store)

            async def body(step: Any) -> Any:
                user = await step(lambda: fetch_user("1"), key=key)
                with pytest.raises(Exception, match="NOT_FOUND"):
                    await step(lambda: fetch_user("999"), key=f"{key}:error")
                return user

            result = await workflow(body)
            assert await store.has(key)
            return result

    first = asyncio.run(run_once())
    second = asyncio.run(run_once())  # a new client, a new store: what Redis has is what counts
    assert (first.value, second.value) == (USER, USER)
    assert fetched == ["1", "999"]


def test_errors_are_kept_until_their_key_is_cleared() -> None:
    cache: dict[str, Any] = {}
    workflow = create_workflow(deps, cache=cache)

    async def body(step: Any) -> Any:
        return await step(lambda: fetch_user("999"), key="user:999")

    first = asyncio.run(workflow(body))
    assert first.error == "NOT_FOUND"
    second = asyncio.run(workflow(body))
    assert second.error == "NOT_FOUND"  # from the cache, no fetch
    assert fetched == ["999"]

    del cache["user:999"]
    assert asyncio.run(workflow(body)).error == "NOT_FOUND"
    assert fetched == ["999", "999"]


class MapOfTexts:
    """The page's custom cache once more, around a `dict` of JSON texts instead of a Redis."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    async def get(self, key: str) -> Any:
        value = self.texts.get(key)
        return json.loads(value) if value else None

    async def set(self, key: str, value: Any) -> None:
        self.texts[key] = json.dumps(value)

    async def has(self, key: str) -> bool:
        return key in self.texts

    async def delete(self, key: str) -> bool:
        return self.texts.pop(key, None) is not None


def test_a_custom_cache_around_a_map_of_json_texts_with_errors_kept_then_cleared() -> None:
    store = MapOfTexts()
    workflow = create_workflow(deps, cache=store)

    async def body(step: Any) -> Any:
        user = await step(lambda: fetch_user("1"), key="user:1")
        assert user == USER
        return await step(lambda: fetch_user("999"), key="user:999")

    assert [asyncio.run(workflow(body)).error for _ in range(2)] == ["NOT_FOUND"] * 2
    assert (fetched, sorted(store.texts)) == (["1", "999"], ["user:1", "user:999"])
    assert asyncio.run(store.delete("user:999")) is True
    assert asyncio.run(workflow(body)).error == "NOT_FOUND"
    assert fetched == ["1", "999", "999"]
    store.texts.clear()
    asyncio.run(workflow(body)).error
    assert fetched == ["1", "999", "999", "1", "999"]


def test_many_items_each_under_its_own_key() -> None:
    cache: dict[str, Any] = {}
    workflow = create_workflow(cache=cache)
    body = lambda step: step.map(lambda uid: fetched.append(uid) or f"User {uid}", ["1", "2", "3"], key="user:{}")
    assert workflow(body).value == ["User 1", "User 2", "User 3"]
    del cache["user:2"]
    assert workflow(body).value == ["User 1", "User 2", "User 3"]
    assert sorted(fetched) == ["1", "2", "2", "3"]
