"""Frozen thunks: what they name is what it was, what they write is written (K10)."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from test_thunks import Client, Model, fetch, plain

from nbstep import Ok, create_workflow
from nbstep.freezing import as_it_was, freeze
from nbstep.testing import AsyncMemoryStore


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


def test_k10_twice_frozen_is_once() -> None:
    frozen = freeze(lambda: 1)
    assert freeze(frozen) is frozen


# What writes globals


def take(namespace: dict[str, Any]) -> Any:
    """Awaits one step for each of the thunks that `make()` of the namespace gives, over an async store."""

    async def body(step: Any) -> list[Any]:
        waiting = [step(thunk, key=f"k:{n}") for n, thunk in enumerate(namespace["make"]())]
        return [await one for one in waiting]

    return asyncio.run(create_workflow(cache=AsyncMemoryStore())(body))


WRITERS = {
    "a method that reads what was written": (
        "total = 0\nclass Acc:\n    def go(self):\n        global total\n        total = 5\n        return self.out()\n"
        "    def out(self): return total\ndef make(): return [Acc().go]",
        [5],
    ),
    "a callback in a default": (
        "lv = 3\ndef read(): return lv\ndef w(cb=read):\n    global lv\n    lv = 9\n    return cb()\ndef make(): return [w]",
        [9],
    ),
    "a class body, eval and globals()": (
        "def w():\n    global n\n    n = 5\n    class A: y = n\n    return A.y, eval('n + 1'), globals()['n']\n"
        "def make(): return [w]",
        [(5, 6, 5)],
    ),
    "loop variables beside a counter": (
        "count = 0\ndef make():\n    global city\n    for city in 'abc':\n        def w():\n            global count\n"
        "            count += 1\n            return city, count\n        yield w",
        [("a", 1), ("b", 2), ("c", 3)],
    ),
    "globals() alone": ("def w():\n    globals()['conn'] = 1\n    return conn\ndef make(): return [w]", [1]),
    "exec": ("def w():\n    exec('q = 2', globals())\n    return q\ndef make(): return [w]", [2]),
    "del": (
        "tmp = 1\ndef w():\n    global tmp\n    del tmp\n    return 'tmp' in globals()\ndef make(): return [w]",
        [False],
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_k10_a_thunk_that_writes_globals_sees_and_leaves_them_as_it_would_when_called_at_once(name: str) -> None:
    code, expected = WRITERS[name]
    namespace: dict[str, Any] = {"__name__": "notebook"}
    exec(code, namespace)
    assert take(namespace) == Ok(expected)


def test_k10_names_that_were_put_back_for_a_stretch_have_their_newer_meaning_after_it() -> None:
    scope: dict[str, Any] = {"freeze": freeze}
    exec(
        "n = 0\na = 1\nlater = 1\ndef w():\n    global n\n    n += 1\n    return a\nfrozen = freeze(w)\na = 9\ndel later",
        scope,
    )
    with as_it_was(scope["frozen"]):
        assert scope["frozen"]() == 1
    assert (scope["a"], scope["n"], scope["frozen"](), "later" in scope) == (9, 1, 9, False)


def test_k10_on_another_thread_nobody_s_globals_are_changed() -> None:
    scope: dict[str, Any] = {"freeze": freeze}
    exec("n = 0\na = 1\ndef w():\n    global n\n    n += 1\n    return a\nfrozen = freeze(w)\na = 9", scope)
    seen: list[int] = []

    def work() -> None:
        with as_it_was(scope["frozen"]):
            seen.append(scope["a"])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [9]


def test_k10_what_a_thunk_writes_survives_a_wait_for_another() -> None:
    namespace: dict[str, Any] = {"asyncio": asyncio}
    exec(
        "count = 0\nasync def slow():\n    global count\n    await asyncio.sleep(0.05)\n    count = 42\n    return count",
        namespace,
    )

    async def body(step: Any) -> Any:
        first = asyncio.create_task(step(namespace["slow"], key="k"))
        await asyncio.sleep(0)
        second = asyncio.create_task(step(namespace["slow"], key="k"))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert asyncio.run(create_workflow(cache=AsyncMemoryStore())(body)) == Ok(42)
    assert namespace["count"] == 42
