"""Thunks: which are accepted (K5), which give an awaitable (K4), and how one is frozen (K10)."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nbstep.thunks import called_object, check_thunk, surely_awaitable


async def fetch(uid: int = 0) -> int:
    return uid


def plain(uid: int = 0) -> int:
    return uid


class Client:
    async def get(self, uid: int) -> int:
        return uid

    def read(self, uid: int) -> int:
        return uid

    @classmethod
    async def make(cls) -> Client:
        return cls()

    @staticmethod
    async def ping() -> None:
        pass

    @property
    def trap(self) -> Any:
        raise AssertionError("no code of the user's runs")


class Caller:
    async def __call__(self) -> int:
        return 1


class Model:
    def __call__(self) -> int:
        return 1


client = Client()
api = types.SimpleNamespace(get=fetch, inner=types.SimpleNamespace(get=fetch), read=plain)
bound = functools.partial(fetch, 1)


# K5: what is no thunk


@pytest.mark.parametrize("value", [42, "text", None, [1], {"a": 1}], ids=repr)
@pytest.mark.parametrize("key", ["user:1", None])
def test_k5_a_value_is_a_type_error_that_shows_the_lambda(value: object, key: str | None) -> None:
    with pytest.raises(TypeError) as caught:
        check_thunk(value, key)
    where = ", key='user:1'" if key else ""
    assert str(caught.value).startswith(f"step got a value ({type(value).__name__})")
    assert str(caught.value).endswith(f"step(lambda: …{where})")


def test_k5_a_coroutine_is_closed_and_named() -> None:
    coroutine = fetch(1)
    with pytest.raises(TypeError, match=r"await step\(lambda: fetch\(…\), key='user:1'\)"):
        check_thunk(coroutine, "user:1")
    assert coroutine.cr_frame is None


def test_k5_a_task_and_a_future_are_told_apart() -> None:
    async def main() -> list[str]:
        task = asyncio.create_task(fetch(1))
        future = asyncio.get_running_loop().create_future()
        texts: list[str] = []
        for started in (task, future):
            with pytest.raises(TypeError) as caught:
                check_thunk(started, "k")
            texts.append(str(caught.value).partition(" that")[0])
        await task
        return texts

    assert asyncio.run(main()) == ["step got a Task", "step got a Future"]


def test_k5_so_is_a_future_of_a_pool() -> None:
    with pytest.raises(TypeError, match="step got a Future that is already under way; pass a function that starts it"):
        check_thunk(concurrent.futures.Future[int](), "k")


def test_k5_any_other_awaitable_is_one_too() -> None:
    class Deferred:
        def __await__(self) -> Iterator[None]:
            yield

    with pytest.raises(TypeError, match="step got an awaitable"):
        check_thunk(Deferred(), "k")


@pytest.mark.parametrize(
    "thunk", [plain, fetch, client.get, bound, len, Client, Model(), lambda: 1, Client.read, [].append]
)
def test_k5_whatever_can_be_called_is_a_thunk(thunk: Callable[..., Any]) -> None:
    assert check_thunk(thunk, "k") is thunk


def test_k5_a_called_object_is_told_from_a_function() -> None:
    functions = [plain, client.read, bound, len, Client, lambda: 1, [].append, functools.lru_cache(plain), str.upper]
    assert [called_object(thunk) for thunk in functions] == [False] * len(functions)
    assert called_object(Model())


# K4: awaitable, read from code


@pytest.mark.parametrize(
    "thunk",
    [
        fetch, client.get, bound, Caller(), Client.make, functools.partial(bound), lambda: fetch(1), lambda: client.get(1),
        lambda: api.inner.get(uid=1), lambda: api.get(*[1]), lambda: bound(), lambda: Client.make(), lambda: client.ping(),
        lambda: asyncio.sleep(0), lambda uid=3: fetch(uid), lambda: caller(), functools.partial(lambda uid: fetch(uid), 1),
    ],
)  # fmt: skip
def test_k4_certain_to_be_awaitable(thunk: Callable[..., Any]) -> None:
    assert surely_awaitable(thunk)


caller = Caller()


def _through_a_closure(target: Any) -> Callable[[], Any]:
    return lambda: target.get(1)


def test_k4_closure_cells_resolve_too() -> None:
    assert surely_awaitable(_through_a_closure(client))
    assert not surely_awaitable(_through_a_closure(Model()))


@pytest.mark.parametrize(
    "thunk",
    [
        plain, client.read, Model(), len, lambda: plain(1), lambda: api.read(1), lambda: asyncio.run(fetch(1)), lambda: fetch,
        lambda: [fetch(1)], lambda: fetch(1) if client else None, lambda: client.trap, lambda: client.trap(),
        lambda: no_such_name(),  # noqa: F821
        lambda: client.no_such_method(), lambda: (fetch(1), 1), lambda: str(fetch), lambda: None,
        lambda: asyncio.gather(*[fetch(i) for i in range(2)]), lambda client: client.get(1),
    ],
)  # fmt: skip
def test_k4_not_certain(thunk: Callable[..., Any]) -> None:
    assert not surely_awaitable(thunk)


def test_k4_lambdas_that_call_each_other_end() -> None:
    scope: dict[str, Any] = {}
    exec("a = lambda: b()\nb = lambda: a()", scope)
    assert not surely_awaitable(scope["a"])


# K10: frozen
