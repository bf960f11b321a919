"""Thunks: which are accepted (K5), which give an awaitable (K4), and how one is frozen (K10)."""

from __future__ import annotations

import asyncio
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nbstep.thunks import called_object, check_thunk, freeze, surely_awaitable


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


def test_k10_closure_cells_are_copied() -> None:
    thunks = []
    for a in range(3):
        thunks.append(freeze(lambda: a))
    assert [thunk() for thunk in thunks] == [0, 1, 2]


def test_k10_so_are_those_of_a_comprehension() -> None:
    assert [thunk() for thunk in [freeze(lambda: a) for a in range(3)]] == [0, 1, 2]


def test_k10_and_globals() -> None:
    scope: dict[str, Any] = {"freeze": freeze}
    exec("thunks = []\nfor a in range(3):\n    thunks.append(freeze(lambda: a))\na = 9", scope)
    assert [thunk() for thunk in scope["thunks"]] == [0, 1, 2]


def test_k10_names_of_nested_lambdas_and_comprehensions_are_bound() -> None:
    scope: dict[str, Any] = {"freeze": freeze, "a": 1, "rows": [1, 2]}
    exec("thunk = freeze(lambda: [(lambda: (r, a))() for r in rows])\na, rows = 9, []", scope)
    assert scope["thunk"]() == [(1, 1), (2, 1)]


def test_k10_a_cell_used_by_a_nested_function_is_copied() -> None:
    a = 1
    frozen = freeze(lambda: (lambda: a)())
    a = 2
    assert (frozen(), a) == (1, 2)


def test_k10_nonlocal_still_writes_to_its_owner() -> None:
    count = 0

    def thunk() -> int:
        nonlocal count
        count += 1
        return count

    def through_a_nested_function() -> None:
        def add() -> None:
            nonlocal count
            count += 10

        add()

    assert freeze(thunk)() == 1
    freeze(through_a_nested_function)()
    assert count == 11


def test_k10_global_writes_reach_the_module() -> None:
    scope: dict[str, Any] = {"freeze": freeze}
    exec(
        "total = 0\ndef add():\n    global total\n    total += 1\n    return total\n"
        "frozen = freeze(add)\nfirst = frozen()\nsecond = frozen()",
        scope,
    )
    assert (scope["first"], scope["second"], scope["total"]) == (1, 2, 2)


def test_k10_a_missing_name_is_a_name_error() -> None:
    with pytest.raises(NameError, match="no_such_name"):
        freeze(lambda: no_such_name)()  # type: ignore[name-defined]  # noqa: F821


def test_k10_a_name_that_comes_later_is_found_then() -> None:
    scope: dict[str, Any] = {"freeze": freeze}
    exec("thunk = freeze(lambda: later)\nlater = 5", scope)
    assert scope["thunk"]() == 5


def test_k10_an_unbound_cell_is_looked_up_when_called() -> None:
    frozen = freeze(lambda: late)
    late = 7
    assert frozen() == 7


def test_k10_builtins_stay() -> None:
    assert freeze(lambda: len([1, 2]))() == 2


def test_k10_imports_inside_work() -> None:
    def thunk() -> str:
        import json

        return json.dumps([1])

    assert freeze(thunk)() == "[1]"


def test_k10_partials_are_frozen_inside() -> None:
    scope: dict[str, Any] = {"freeze": freeze, "partial": functools.partial}
    exec("a = 1\nthunk = freeze(partial(lambda x, y: (a, x, y), 2, y=3))\na = 9", scope)
    assert scope["thunk"]() == (1, 2, 3)


def test_k10_methods_are_frozen_and_keep_their_object() -> None:
    scope: dict[str, Any] = {"freeze": freeze, "__name__": "cell"}
    exec("a = 1\nclass C:\n    def m(self):\n        return self, a\nc = C()\nthunk = freeze(c.m)\na = 9", scope)
    assert scope["thunk"]() == (scope["c"], 1)


def test_k10_defaults_and_identity_stay() -> None:
    def thunk(x: int, y: int = 2, *, z: int = 3) -> tuple[int, int, int]:
        """Says so."""
        return x, y, z

    thunk.mark = "m"  # type: ignore[attr-defined]
    frozen = freeze(thunk)
    assert frozen(1) == (1, 2, 3)
    assert (frozen.__name__, frozen.__qualname__, frozen.__module__, frozen.__doc__, frozen.mark) == (  # type: ignore[attr-defined]
        "thunk", thunk.__qualname__, __name__, "Says so.", "m",
    )  # fmt: skip


def test_k10_a_recursive_function_still_finds_itself() -> None:
    def factorial(n: int) -> int:
        return 1 if n < 2 else n * factorial(n - 1)

    assert freeze(factorial)(5) == 120


def test_k10_super_and_class_cells_work() -> None:
    class Child(Client):
        def read(self, uid: int) -> int:
            return super().read(uid) + 1

    assert freeze(Child().read)(1) == 2


def test_k10_async_functions_and_generators_stay_what_they_are() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    assert asyncio.run(freeze(fetch)(3)) == 3
    assert list(freeze(numbers)()) == [1]


@pytest.mark.parametrize("thunk", [len, Model(), Client, functools.lru_cache(plain)])
def test_k10_what_has_no_code_of_its_own_is_as_it_was(thunk: Callable[..., Any]) -> None:
    assert freeze(thunk) is thunk


def test_k10_contents_are_not_copied() -> None:
    rows = [1]
    frozen = freeze(lambda: rows)
    rows.append(2)
    assert frozen() is rows
