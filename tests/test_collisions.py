"""One key, two certainly different steps (K8): what raises before anything runs, and what is one step however it is written."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import re
import textwrap
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from shells import open_shell

from nbstep import Cache, Err, KeyCollision, Ok, create_workflow, step
from nbstep.cache.records import Facts
from nbstep.collisions.kept import is_other_work
from nbstep.events import Finding, StepFinished
from nbstep.testing import AsyncMemoryStore, RecordingListener

ran: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


def fetch(uid: Any = None, *rest: Any, lang: str = "en") -> Any:
    ran.append(uid)
    return uid


def load(path: Any = None) -> Any:
    ran.append(path)
    return path


async def afetch(uid: Any) -> Any:
    ran.append(uid)
    return uid


class Client:
    def __init__(self, base: str = "a") -> None:
        self.base = base

    def get(self, uid: Any, retries: int = 0) -> Any:
        ran.append(uid)
        return uid

    def post(self, uid: Any) -> Any:
        return uid


def timed(fn: Any) -> Any:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return wrapper


mk = lambda x: lambda: x * 10


def run_cell(source: str, **names: Any) -> dict[str, Any]:
    """Runs source as the cell of one run: its names are globals, as in a notebook."""
    scope: dict[str, Any] = {
        "__name__": "__main__", "step": step, "fetch": fetch, "afetch": afetch, "load": load, "Client": Client, "timed": timed,
        "functools": functools, "ran": ran, **names,
    }  # fmt: skip
    code = compile(textwrap.dedent(source), "<cell>", "exec")
    create_workflow(cache={})(lambda _: exec(code, scope))
    return scope


DIFFERENT = {
    "the closure trap": "mk = lambda x: (lambda: x * 10)\nstep(mk(1), key='k')\nstep(mk(2), key='k')",
    "a loop that leaves the variable out": "for uid in (1, 2):\n    step(lambda: fetch(uid), key='k')",
    "a default that keeps the variable": "for uid in (1, 2):\n    step(lambda uid=uid: fetch(uid), key='k')",
    "a keyword-only default": "for uid in (1, 2):\n    step(lambda *, uid=uid: fetch(uid), key='k')",
    "another argument": "step(fetch, 1, key='k')\nstep(fetch, 2, key='k')",
    "another argument of a partial": "step(functools.partial(fetch, 1), key='k')\nstep(functools.partial(fetch, 2), key='k')",
    "another keyword of a partial": (
        "step(functools.partial(fetch, 1, lang='en'), key='k')\nstep(functools.partial(fetch, 1, lang='de'), key='k')"
    ),
    "a default against a given value": "step(fetch, 1, key='k')\nstep(functools.partial(fetch, 1, lang='de'), key='k')",
    "another function": "step(fetch, 1, key='k')\nstep(load, 1, key='k')",
    "another function in a lambda": "step(lambda: fetch(1), key='k')\nstep(lambda: load(1), key='k')",
    "a lambda and another function": "step(lambda: fetch(1), key='k')\nstep(load, 1, key='k')",
    "another constant": "step(lambda: fetch(1), key='k')\nstep(lambda: fetch(2), key='k')",
    "arguments the other way round": "step(lambda: fetch(1, 2), key='k')\nstep(lambda: fetch(2, 1), key='k')",
    "a lambda and another argument": "step(lambda: fetch(1), key='k')\nstep(fetch, 2, key='k')",
    "another text": "step(lambda: 'a', key='k')\nstep(lambda: 'b', key='k')",
    "a literal list": "step(lambda: [1, 2], key='k')\nstep(lambda: [3, 4], key='k')",
    "another method": "c = Client()\nstep(c.get, 1, key='k')\nstep(c.post, 1, key='k')",
    "another method in a lambda": "c = Client()\nstep(lambda: c.get(1), key='k')\nstep(lambda: c.post(1), key='k')",
    "one more call": "step(lambda: fetch(1), key='k')\nstep(lambda: load(fetch(1)), key='k')",
    "a function in a loop": "for f in (fetch, load):\n    step(lambda: f(1), key='k')",
    "another frame": "a, b = [1], [2]\nstep(lambda: load(a), key='k')\nstep(lambda: load(b), key='k')",
    "two functions written here": "def a():\n    return 1\ndef b():\n    return 2\nstep(a, key='k')\nstep(b, key='k')",
    "a function written anew": "def a():\n    return 1\nstep(a, key='k')\ndef a():\n    return 2\nstep(a, key='k')",
    "a number and a text": "step(fetch, 1, key='k')\nstep(fetch, '1', key='k')",
    "a value and None": "step(fetch, 1, key='k')\nstep(fetch, None, key='k')",
    "a nested lambda": "step(lambda: [(lambda: 1)() for _ in 'a'], key='k')\nstep(lambda: [(lambda: 2)() for _ in 'a'], key='k')",
    "a long text": "for t in ('x' * 5000, 'x' * 4999 + 'y'):\n    step(lambda: load(t), key='k')",
    "a method of another text": "step('a'.upper, key='k')\nstep('b'.upper, key='k')",
    "a global of the function": "RATE = 1\ndef a():\n    return RATE\nstep(a, key='k')\nRATE = 2\nstep(a, key='k')",
    "two functions of one wrapper": "step(timed(fetch), 1, key='k')\nstep(timed(load), 1, key='k')",
    "a builtin and another": "step(len, 'ab', key='k')\nstep(sorted, 'ab', key='k')",
    "a class and another": "step(dict, key='k')\nstep(list, key='k')",
    "in step.map after step": "step(fetch, 1, key='u:2')\nstep.map(fetch, [1, 2], key='u:{}')",
    "step.map with one key for all": "step.map(fetch, [1, 2], key=lambda item: 'k')",
}  # fmt: skip


@pytest.mark.parametrize("source", DIFFERENT.values(), ids=DIFFERENT)
def test_k8_certainly_different_steps_raise(source: str) -> None:
    with pytest.raises(KeyCollision):
        run_cell(source)


SAME = {
    "the same lambda again": "for _ in 'ab':\n    step(lambda: fetch(1), key='k')",
    "written twice": "step(lambda: fetch(1), key='k')\nstep(lambda: fetch(1), key='k')",
    "written twice on other lines": "step(lambda: fetch(\n    1,\n), key='k')\nstep(lambda: fetch(1), key='k')",
    "a lambda, a call, a partial": (
        "x = 1\nstep(lambda: fetch(x), key='k')\nstep(fetch, x, key='k')\nstep(functools.partial(fetch, x), key='k')"
    ),
    "the same in the other order": "x = 1\nstep(functools.partial(fetch, x), key='k')\nstep(lambda: fetch(x), key='k')",
    "a constant and a variable": "x = 1\nstep(lambda: fetch(x), key='k')\nstep(lambda: fetch(1), key='k')",
    "variables of one value": "x = y = 'a'\nstep(lambda: fetch(x), key='k')\nstep(lambda: fetch(y), key='k')",
    "a variable and a default": "x = 1\nstep(lambda: fetch(x), key='k')\nstep(lambda u=x: fetch(u), key='k')",
    "by position and by name": "step(lambda: fetch(1), key='k')\nstep(lambda: fetch(uid=1), key='k')",
    "a default given": "step(fetch, 1, key='k')\nstep(functools.partial(fetch, 1, lang='en'), key='k')",
    "a def around the call": "def work():\n    return fetch(1)\nstep(work, key='k')\nstep(lambda: fetch(1), key='k')",
    "a lambda around the def": "def work():\n    return fetch(1)\nstep(work, key='k')\nstep(lambda: work(), key='k')",
    "an async def around the call": (
        "async def work():\n    return await afetch(1)\na = step(work, key='k')\nb = step(afetch, 1, key='k')\na.close(), b.close()"
    ),
    "a method, bound or in a lambda": "c = Client()\nstep(c.get, 1, key='k')\nstep(lambda: c.get(1), key='k')",
    "two clients": "a, b = Client('a'), Client('a')\nstep(a.get, 1, key='k')\nstep(b.get, 1, key='k')",
    "a decorated function twice": "step(timed(fetch), 1, key='k')\nstep(timed(fetch), 1, key='k')",
    "decorated and bare": "step(timed(fetch), 1, key='k')\nstep(fetch, 1, key='k')",
    "lru_cache and bare": "step(functools.lru_cache(fetch), 1, key='k')\nstep(fetch, 1, key='k')",
    "a partial, or a lambda around it": "g = functools.partial(fetch, 1)\nstep(g, key='k')\nstep(lambda: g(), key='k')",
    "a lambda, or a lambda around it": "g = lambda: fetch(1)\nstep(g, key='k')\nstep(lambda: g(), key='k')",
    "a lambda of more, or a lambda around it": "g = lambda: [fetch(1)]\nstep(lambda: g(), key='k')\nstep(g, key='k')",
    "an alias": "g = fetch\nstep(lambda: g(1), key='k')\nstep(lambda: fetch(1), key='k')",
    "one frame under two names": "a = b = [1]\nstep(lambda: load(a), key='k')\nstep(lambda: load(b), key='k')",
    "a frame made anew": "df = [1]\nstep(lambda: load(df), key='k')\ndf = [2]\nstep(lambda: load(df), key='k')",
    "a frame passed anew": "step(load, [1], key='k')\nstep(load, [2], key='k')",
    "done inside or before": "step(lambda: load(fetch(1)), key='k')\nstep(load, fetch(1), key='k')",
    "a counter the step writes": "n = 0\ndef a():\n    global n\n    n += 1\n    return 5\nstep(a, key='k')\nstep(a, key='k')",
    "a counter a callee writes": (
        "n = 0\ndef bump():\n    global n\n    n += 1\n"
        "for _ in 'abc':\n    step(lambda: (bump(), n)[0], key='k')"
    ),
    "a nonlocal counter": (
        "def make():\n    n = 0\n    def a():\n        nonlocal n\n        n += 1\n        return n\n    return a\n"
        "a = make()\nstep(a, key='k')\nstep(a, key='k')"
    ),
    "calls in a list": (
        "calls = []\ndef f(u):\n    calls.append(u)\n    return u\nfor _ in range(3):\n    step(lambda: f('1'), key='k')"
    ),
    "a name that says it is none": "for _try in (1, 2):\n    step(lambda: fetch(_try), key='k')",
    "not a number": "for x in (float('nan'), float('nan')):\n    step(lambda: fetch(x), key='k')",
    "1 and 1.0": "step(fetch, 1, key='k')\nstep(fetch, 1.0, key='k')",
    "a client made meanwhile": "c = None\nstep(lambda: load(c), key='k')\nc = Client()\nstep(lambda: load(c), key='k')",
    "step.map after step": "step(lambda: fetch('1'), key='u:1')\nstep.map(fetch, ['1', '2'], key='u:{}')",
    "step.map twice": "step.map(fetch, [1, 2, 1], key='u:{}')\nstep.map(fetch, [1, 2], key='u:{}')",
    "other keys": "for uid in (1, 2):\n    step(lambda: fetch(uid), key=f'u:{uid}')",
    "no key": "for uid in (1, 2):\n    step(lambda: fetch(uid))",
    "an operator": "x = 2\nstep(lambda: x + 1, key='k')\nstep(lambda: x * 1, key='k')",
}  # fmt: skip


OTHER_INPUTS = {SAME[name] for name in ("a frame made anew", "a frame passed anew", "a client made meanwhile")}


@pytest.mark.parametrize("source", SAME.values(), ids=SAME)
def test_k8_one_step_asked_twice_is_a_plain_hit(source: str) -> None:
    told = RecordingListener()
    workflow = create_workflow(cache={}, on_event=told)
    names = {
        "__name__": "__main__", "step": step, "fetch": fetch, "afetch": afetch, "load": load, "Client": Client, "timed": timed,
        "functools": functools,
    }  # fmt: skip
    code = compile(textwrap.dedent(source), "<cell>", "exec")
    workflow(lambda _: exec(code, names))
    said = [finding.kind for finding in told.of(Finding)]
    assert said == (["mixed-inputs"] if source in OTHER_INPUTS else [])  # no collision, yet one key for two inputs (D3)


def test_k8_call_counting_runs_once_in_ten_runs_and_says_nothing() -> None:
    told = RecordingListener()
    workflow = create_workflow(cache={}, on_event=told)
    calls: list[str] = []

    def fetch_counted(u: str) -> str:
        calls.append(u)
        return u

    for _ in range(10):
        assert workflow(
            lambda step: [step(lambda: fetch_counted("1"), key="u:1"), step(lambda: fetch_counted("1"), key="u:1")]
        ) == Ok(["1", "1"])
    assert (calls, told.of(Finding)) == (["1"], [])


def test_k8_a_counter_that_its_work_counts_up_says_nothing() -> None:
    """Also where the number it holds at last stands where the first one stood in memory."""
    told = RecordingListener()
    workflow = create_workflow(cache=None, on_event=told)
    names: dict[str, Any] = {"__name__": "__main__", "count": 10_000}
    exec("def bump():\n    global count\n    count += 1", names)
    exec("thunk = lambda: (bump(), bump(), bump(), count)[-1]", names)
    for _ in range(3):
        assert workflow(lambda step: [step(names["thunk"], key="k") for _ in range(3)]).ok
    assert told.of(Finding) == []


def test_k8_the_closure_trap_with_distinct_keys_gives_both_values() -> None:
    workflow = create_workflow(cache={})
    for _ in range(2):
        assert workflow(lambda step: [step(mk(1), key="a"), step(mk(2), key="b")]) == Ok([10, 20])


def test_k8_the_message_names_both_values_both_places_and_the_fix() -> None:
    def body(step: Any) -> None:
        step(mk(1), key="k")
        step(mk(2), key="k")

    with pytest.raises(KeyCollision) as caught:
        create_workflow(cache={})(body)
    first, line = Path(__file__).name, body.__code__.co_firstlineno
    assert str(caught.value).splitlines() == [
        "'k' is already another step's key in this run",
        f"  first: {first}, line {line + 1}   x * 10   x = 1",
        f"  here:  {first}, line {line + 2}   x * 10   x = 2",
        '  Put what tells them apart, `x`, into the key, as in key="k:2"',
    ]


def collision_in_cell(tmp_path: Path, cell: str) -> KeyCollision:
    """What the second cell of a notebook raises, after one that defines functions."""
    setup = """
    import functools
    def orders(region, month=1, *rest, lang="en"): return [region, month]
    def by_default(): return RATE
    class Shop:
        def orders(self, region, month): return [region, month]
    shop, rows, year, RATE = Shop(), {"m": 1}, 2026, 1
    """
    with pytest.MonkeyPatch.context() as environment, open_shell(tmp_path) as shell:
        environment.chdir(tmp_path)
        shell.good(textwrap.dedent(setup))
        ran = shell.run(textwrap.dedent(cell))
        assert isinstance(ran.error, KeyCollision), ran.text
        return ran.error


FIXES = {
    # a forgotten f
    'for m in (1, 2):\n    step(orders, "north", m, key="orders:north:{m}")': 'Write f before the quotes: key=f"orders:north:{m}"',
    'for m in (1, 2):\n    step(orders, "north", m, key="orders:north:{m}")  # nbstep: ok': 'quotes: key=f"orders:north:{m}"',
    'for m in (1, 2):\n    step(lambda: orders("north", m), key="orders:north:{m}")': 'quotes: key=f"orders:north:{m}"',
    'step.map(orders, ["n", "s"], key=lambda r: "orders:{r}")': 'write f before the quotes: key=lambda …: f"orders:{r}"',
    # what was passed, as it was written
    'step(orders, "n", 1, key="o")\nstep(orders, "n", 2, key="o")': 'into the key: key="o:2"',
    'm = 1\nstep(orders, "n", m, key="o")\nm = 2\nstep(orders, "n", m, key="o")': 'into the key: key=f"o:{m}"',
    'for m in (1, 2):\n  for r in "ns":\n    step(orders, r, m, key=f"o:{r}")': 'into the key: key=f"o:{r}:{m}"',
    'for rows["m"] in (1, 2):\n  step(orders, "n", rows["m"], key="o")': "into the key: key=f\"o:{rows['m']}\"",
    'for m in (1, 2):\n  step(orders, "n", m + 1, key="o")': 'into the key: key=f"o:{m + 1}"',
    'k = "o"\nfor m in (1, 2):\n  step(orders, "n", m, key=k)': 'into the key: key=f"{k}:{m}"',
    'step(orders, "n", 1, key="{o}")\nm = 2\nstep(orders, "n", m, key="{o}")': 'into the key: key=f"{{o}}:{m}"',
    'for m in (1, 2):\n  step(functools.partial(orders, "n"), m, key="o")': 'into the key: key=f"o:{m}"',
    'for m in ("de", "en"):\n  step(functools.partial(orders, "n", lang=m), key="o")': 'into the key: key=f"o:{m}"',
    'for m in (1, 2):\n  step(shop.orders, "n", m, key="o")': 'into the key: key=f"o:{m}"',
    'for m in (1, 2):\n  step(round, m, key="o")': 'into the key: key=f"o:{m}"',
    'for m in (1, 2):\n  step(lambda: orders("n", m), key="o")': 'into the key: key=f"o:{m}"',
    'for m in (1, 2):\n  step(lambda n=m: orders("n", n), key="o")': 'into the key: key=f"o:{m}"',
    'for m in (1, 2):\n  step(lambda n: orders("n", n), m, key="o")': 'into the key: key=f"o:{m}"',
    'step(lambda: orders("n", 1), key="o")\nstep(lambda: orders("n", 2), key="o")': 'into the key: key="o:2"',
    'step(lambda: orders("n", month=1), key="o")\nstep(lambda: orders("n", month=2), key="o")': 'into the key: key="o:2"',
    # nothing at the call says it: the name is told, with an example
    'step(orders, "n", key="o")\nfor a in (["n", 2],):\n  step(orders, *a, key="o")': 'apart, `month`, into the key, as in key="o',
    'step(by_default, key="o")\nRATE = 2\nstep(by_default, key="o")': 'apart, `RATE`, into the key, as in key="o:2"',
    'def two(): return 2\nstep(orders, "n", 1, key="o")\nstep(orders, "n", two(), key="o")': 'apart, `month`, into the key, as in',
    # never a secret
    'token = "hunter2abc"\nstep(orders, "n", "a", key="o")\nstep(orders, "n", token, key="o")': "apart, `month`, into the key",
}  # fmt: skip


@pytest.mark.parametrize(("cell", "fix"), FIXES.items())
def test_k8_the_fix_names_what_exists_at_the_call(tmp_path: Path, cell: str, fix: str) -> None:
    told = str(collision_in_cell(tmp_path, cell))
    assert fix in told.splitlines()[-1]
    assert "{month}" not in told


def test_k7_k8_in_a_cell_that_tells_of_a_forgotten_f_the_fix_runs(tmp_path: Path) -> None:
    cell = 'for m in (1, 2, 3):\n    step(orders, "north", m, key=KEY)'
    told = str(collision_in_cell(tmp_path, cell.replace("KEY", '"orders:north:{m}"')))
    fixed = cell.replace("KEY", told.splitlines()[-1].partition("key=")[2])
    with open_shell(tmp_path) as shell:
        shell.good("def orders(region, month): return [region, month]")
        shell.good(fixed)


def test_k8_the_fix_for_other_work_in_a_loop_or_a_map_runs(tmp_path: Path) -> None:
    cells = {
        "for m in (1, 2):\n  step(one, m, key=f'k:{m}')\nfor m in (1, 2):\n  step(two, m, key=KEY)": "f'k:{m}'",
        "step.map(one, (1, 2), key='m:{}')\nstep.map(two, (1, 2), key=KEY)": "'m:{}'",
        "for n in (1, 2):\n  step.map(lambda m: m * n, (1, 2), key=KEY)": "'n:{}'",
    }
    helpers = "def one(m): return m\ndef two(m): return -m\n"
    for cell, key in cells.items():
        told = str(collision_in_cell(tmp_path, helpers + cell.replace("KEY", key)))
        with open_shell(tmp_path) as shell:
            shell.good("%nbstep clear")
            shell.good("%%workflow\n" + helpers + cell.replace("KEY", told.splitlines()[-1].partition("key=")[2]))


def test_k8_the_message_names_both_works() -> None:
    def body(step: Any) -> None:
        step(lambda: fetch(1), key="k")
        step(load, "a", key="k")

    with pytest.raises(KeyCollision) as caught:
        create_workflow(cache={})(body)
    _, first, here, fix = str(caught.value).splitlines()
    assert first.endswith("fetch(1)")
    assert here.endswith("load('a')")
    assert fix == '  Use another key: key="k:load"'


def test_k8_secrets_are_compared_and_not_shown() -> None:
    def body(step: Any) -> None:
        for token in ("hunter2abc", "swordfish99"):
            step(lambda token=token: load(token), key="k")

    with pytest.raises(KeyCollision) as caught:
        create_workflow(cache={})(body)
    assert "token = <not shown>" in str(caught.value)
    assert "hunter2abc" not in str(caught.value)
    assert 'key="k:load"' in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other", "shown"),
    [
        (date(2026, 1, 1), date(2026, 1, 2), "2026-01-02"), (Decimal("1.0"), Decimal("1.5"), "1.5"),
        (b"a", b"b", "b'b'"), (True, False, "False"), (None, "x", "'x'"), (Path("a"), Path("b"), "b"), (1e9, 2e9, "2000000000.0"),
        ("x" * 300, "x" * 300 + "y", "301 characters"), (10**400, 10**400 + 1, "a large number"),
    ],
)  # fmt: skip
def test_k8_any_immutable_scalar_counts(one: Any, other: Any, shown: str) -> None:
    def body(step: Any) -> None:
        for value in (one, other):
            step(lambda value=value: load(value), key="k")

    with pytest.raises(KeyCollision) as caught:
        create_workflow(cache={})(body)
    assert f"value = {shown}" in str(caught.value) or shown in str(caught.value)


def test_k8_numpy_scalars_count_as_python_s() -> None:
    numpy = pytest.importorskip("numpy")
    workflow = create_workflow(cache={})
    assert workflow(lambda step: [step(load, 1, key="k"), step(load, numpy.int64(1), key="k")]).ok
    with pytest.raises(KeyCollision):
        workflow(lambda step: [step(load, 1, key="k"), step(load, numpy.int64(2), key="k")])


def test_k8_nothing_runs_and_nothing_is_kept_for_the_second_asker() -> None:
    cache: dict[str, bytes] = {}
    with pytest.raises(KeyCollision):
        create_workflow(cache=cache)(lambda step: [step(fetch, 1, key="k"), step(fetch, 2, key="k")])
    assert (ran, list(cache)) == ([1], ["k"])


def test_k8_a_second_run_may_capture_another_value_that_is_drift() -> None:
    workflow = create_workflow(cache={})
    for uid in (1, 2):
        assert workflow(lambda step, uid=uid: step(lambda: fetch(uid), key="k")) == Ok(1)


def test_k8_a_run_inside_a_run_counts_with_it() -> None:
    cache: dict[str, bytes] = {}
    inner = create_workflow(cache=cache)

    def body(step: Any) -> None:
        step(fetch, 1, key="k")
        inner(lambda step: step(fetch, 2, key="k"))

    with pytest.raises(KeyCollision):
        create_workflow(cache=cache)(body)


def test_k8_the_same_key_of_another_cache_is_another_key() -> None:
    inner = create_workflow(cache={})

    def body(step: Any) -> Any:
        return step(fetch, 1, key="k"), inner(lambda step: step(fetch, 2, key="k")).value

    assert create_workflow(cache={})(body) == Ok((1, 2))


def test_k8_an_awaitable_step_raises_at_its_await() -> None:
    async def body(step: Any) -> None:
        await step(afetch, 1, key="k")
        second = step(afetch, 2, key="k")
        with pytest.raises(KeyCollision, match="uid = 2"):
            await second

    assert asyncio.run(create_workflow(cache={})(body)).ok


def test_k8_over_an_async_store_too_and_a_loop_variable_counts_as_it_was() -> None:
    async def body(step: Any) -> None:
        await asyncio.gather(*[step(lambda: fetch(uid), key="k") for uid in (1, 2)])

    with pytest.raises(KeyCollision, match="uid = 2"):
        asyncio.run(create_workflow(cache=AsyncMemoryStore())(body))
    assert ran == [1]


def test_k8_of_two_threads_one_raises_while_the_other_computes() -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(uid: int) -> int:
        begun.set()
        assert go.wait(60)
        return uid

    def body(step: Any) -> int:
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(contextvars.copy_context().run, lambda: step(slow, 1, key="k"))
            assert begun.wait(60)
            with pytest.raises(KeyCollision):
                step(slow, 2, key="k")
            go.set()
            return first.result()

    assert create_workflow(cache={})(body) == Ok(1)


def test_k8_holds_on_to_no_data() -> None:
    class Frame:
        pass

    def body(step: Any) -> bool:
        df = Frame()
        step(lambda df=df: len(str(df)), key="k")
        step(len, [df], key="n")
        gone = weakref.ref(df)
        del df
        gc.collect()
        return gone() is None

    assert create_workflow(cache={})(body) == Ok(True)


def test_k8_odd_objects_never_cost_the_value() -> None:
    class Odd:
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(name)

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("eq")

        __hash__ = None  # type: ignore[assignment]

    odd = Odd()
    workflow = create_workflow(cache={})
    assert workflow(lambda step: [step(lambda: (odd, 5)[1], key="k"), step(lambda: (odd, 5)[1], key="k")]) == Ok([5, 5])
    assert workflow(lambda step: [step(lambda o: 6, odd, key="o"), step(lambda o: 6, odd, key="o")]) == Ok([6, 6])


def test_k8_a_class_without_a_hash_never_costs_the_value(tmp_path: Path) -> None:
    class Unhashable(type):
        def __eq__(cls, other: object) -> bool:
            return cls is other

        __hash__ = None  # type: ignore[assignment]

    class Odd(metaclass=Unhashable):
        pass

    first, second = Odd(), Odd()
    workflow = create_workflow(cache=tmp_path)
    numbers: Any = {id(first): 1, id(second): 2}
    for _ in range(2):  # computed, then kept
        assert workflow(
            lambda step: step.map(
                lambda odd: numbers[id(odd)], [first, second], key=lambda odd: f"m:{numbers[id(odd)]}"
            )
        ) == Ok([1, 2])
        assert workflow(
            lambda step: [step(lambda: (first, 5)[1], key="k"), step(lambda odd: 6, second, key="o")]
        ) == Ok([5, 6])
        assert workflow(lambda step: step.map(lambda n: (first, n)[1], range(40), key="n:{}")) == Ok(list(range(40)))


def test_k8_on_error_keep_hands_it_back_as_other_complaints_of_nbstep() -> None:
    result = create_workflow(cache={})(
        lambda step: [step(fetch, 1, key="k"), step(fetch, 2, key="k", on_error="keep")][1]
    )
    assert isinstance(result, Err)
    assert isinstance(result.error, KeyCollision)


def test_k8_in_a_script_a_function_loaded_again_is_an_edit(nbstep_cache: Cache) -> None:
    def version(text: str) -> Any:
        scope: dict[str, Any] = {"__name__": "etl"}
        exec(compile(f"def tidy():\n    return {text}\n", "etl.py", "exec"), scope)
        return scope["tidy"]

    assert step(version("1"), key="k") == 1
    assert step(version("2"), key="k") == 1
    with pytest.raises(KeyCollision):
        step(lambda: 3, key="k")


# What another workflow kept


def drop_churned(rows: Any) -> Any:
    return [row for row in rows if row]


def tidy(rows: Any) -> Any:
    return sorted(rows)


def test_k8_a_hit_of_another_workflow_s_other_work_stops_before_anything_runs(tmp_path: Path) -> None:
    cache, df, raw = Cache(tmp_path), [1, 0], [2, 1]
    create_workflow(cache=cache, name="churn")(lambda step: step(lambda: drop_churned(df), key="clean"))
    with pytest.raises(KeyCollision) as caught:
        create_workflow(cache=cache, name="sales")(lambda step: step(lambda: tidy(raw), key="clean"))
    head, kept, here, fix = str(caught.value).splitlines()
    assert head == "'clean' is already another step's key in this project"
    assert kept.startswith(f"  kept:  {Path(__file__).name}, workflow churn   drop_churned(df)   list 1 item")
    assert here.startswith(f"  here:  {Path(__file__).name}, line ")
    assert here.endswith("tidy(raw)")
    assert fix.startswith('  Use another key: key="sales:clean".  If the old one is obsolete: nbstep rm ')
    assert fix.endswith(" clean   (undo for 24 h)")
    assert cache.get("clean") == [1]


def test_k8_an_entry_names_what_its_own_work_calls(tmp_path: Path) -> None:
    """Also where lambdas of one code call other functions, or names come to mean something else between two items."""
    names: dict[str, Any] = {"__name__": "__main__", "tidy": tidy, "step": step, "drop_churned": drop_churned}
    exec("def made(work):\n    return lambda: work([1])\ndef wrapped(work):\n    return lambda: LATER([1])", names)
    cache = Cache(tmp_path)

    def body(step: Any) -> None:
        for number in range(2):
            step(names["made"](tidy), key=f"tidy:{number}")
            step(names["made"](drop_churned), key=f"drop:{number}")
        for number, later in enumerate((tidy, 7, drop_churned)):
            names["LATER"] = later if callable(later) else functools.partial(sorted)
            step(names["wrapped"](tidy), key=f"later:{number}")
        renamed = names["made"](tidy)
        renamed.__qualname__ = "renamed"
        step(renamed, key="renamed")

    create_workflow(cache=cache)(body)
    named = {meta.key: meta.facts.names for meta in cache.entries()}
    assert named["tidy:0"] == named["tidy:1"] == ("tidy", "work")
    assert named["drop:0"] == named["drop:1"] == ("drop_churned", "work")
    assert named["later:0"] == ("LATER", "tidy")
    assert named["later:1"] == ("LATER", "sorted")
    assert named["later:2"] == ("LATER", "drop_churned")
    assert named["renamed"] == ("renamed", "tidy", "work")


NOT_OTHERS: dict[str, Callable[[Any, Any], Any]] = {
    "the same work": lambda one, other: (one("churn", lambda: tidy([1])), other("sales", lambda: tidy([1]))),
    "handed instead of called": lambda one, other: (one("churn", lambda: tidy([1])), other("sales", tidy, [1])),
    "a function behind it in common": lambda one, other: (
        one("churn", lambda: [tidy([1])]), other("sales", lambda: {1: tidy([1])})
    ),
    "an attribute in common": lambda one, other: (one("churn", lambda: "a".upper()), other("sales", lambda: ["b".upper()])),
    "no name": lambda one, other: (one(None, lambda: drop_churned([1])), other("sales", lambda: tidy([1]))),
    "no name here": lambda one, other: (one("churn", lambda: drop_churned([1])), other(None, lambda: tidy([1]))),
    "one name": lambda one, other: (one("churn", lambda: drop_churned([1])), other("churn", lambda: tidy([1]))),
    "nothing to tell by": lambda one, other: (one("churn", lambda: 1), other("sales", lambda: 2)),
    "asked to run again": lambda one, other: (
        one("churn", lambda: drop_churned([1])), other("sales", lambda: tidy([1]), refresh=True)
    ),
    "too old": lambda one, other: (one("churn", lambda: drop_churned([1])), other("sales", lambda: tidy([1]), ttl=0)),
}  # fmt: skip


@pytest.mark.parametrize("ask", NOT_OTHERS.values(), ids=NOT_OTHERS)
def test_k8_what_may_be_the_same_work_is_a_hit_or_runs(tmp_path: Path, ask: Callable[[Any, Any], Any]) -> None:
    def run(name: str | None, thunk: Any, *args: Any, **options: Any) -> Any:
        workflow = create_workflow(cache=Cache(tmp_path), name=name)
        return workflow(lambda step: step(thunk, *args, key="clean", **options)).unwrap()

    ask(run, run)


@pytest.mark.parametrize("on_drift", ["warn", "rerun", "ignore"])
def test_k8_whatever_happens_on_drift_a_stranger_s_entry_stays(tmp_path: Path, on_drift: Any) -> None:
    cache = Cache(tmp_path)
    create_workflow(cache=cache, name="churn")(lambda step: step(lambda: drop_churned([1]), key="clean"))
    with pytest.raises(KeyCollision):
        create_workflow(cache=cache, name="sales", on_drift=on_drift)(lambda s: s(lambda: tidy([2]), key="clean"))
    assert cache.get("clean") == [1]


def test_k8_an_entry_that_does_not_say_what_it_names_is_nobody_s() -> None:
    facts = Facts(0.1, workflow="churn")
    assert not is_other_work(facts, "sales", ("tidy",))
    assert is_other_work(replace(facts, names=("drop_churned",)), "sales", ("tidy",))


def test_k8_in_a_notebook_the_message_spells_the_magic(tmp_path: Path) -> None:
    with open_shell(tmp_path) as shell:
        shell.good("def drop_churned(rows): return rows\ndef tidy(rows): return rows\ndf = raw = [1]")
        shell.good('%%workflow churn\nstep(lambda: drop_churned(df), key="clean")')
        failed = shell.run('%%workflow sales\n\nstep(lambda: tidy(raw), key="clean")')
        assert isinstance(failed.error, KeyCollision)
        _, kept, here, fix = str(failed.error).splitlines()
        assert re.search(r"workflow churn +drop_churned\(df\) +list 1 item", kept)
        assert re.search(r"In \[3\], line 3 +tidy\(raw\)$", here)
        assert fix.endswith("If the old one is obsolete: %nbstep rm clean   (undo for 24 h)")
        failed = shell.run('%%workflow sales\nstep(tidy, raw, key="clean")')
        assert re.search(r"In \[4\], line 2 +tidy\(rows\)$", str(failed.error).splitlines()[2])
        assert "KeyCollision: 'clean'" in failed.text
        shell.good("%nbstep rm clean")
        shell.good('%%workflow sales\nstep(lambda: tidy(raw), key="clean")')


def test_k8_a_row_says_what_is_wrong_and_the_fix_not_the_whole_table() -> None:
    told = RecordingListener()

    def body(step: Any) -> None:
        for uid in (1, 2):
            step(fetch, uid, key="user")

    with pytest.raises(KeyCollision):
        create_workflow(cache={}, on_event=told)(body)
    assert [event.error for event in told.of(StepFinished) if event.error] == [
        "KeyCollision: 'user' is already another step's key in this run. "
        'Put what tells them apart into the key: key=f"user:{uid}"'
    ]


def test_k8_the_row_of_the_step_that_ran_stays_as_it_was(tmp_path: Path) -> None:
    """N3: the step that is refused has a row of its own; the first one ran, and is kept."""
    with open_shell(tmp_path) as shell:
        shell.good("def drop_churned(rows): return rows\ndef tidy(rows): return rows\nrows = [1]")
        failed = shell.run(
            "%%workflow\nstep(lambda: drop_churned(rows), key='same')\nstep(lambda: tidy(rows), key='same')"
        )
        assert isinstance(failed.error, KeyCollision)
        assert re.search(r"^2 steps: 1 ran \(.+\), 1 failed$", failed.text, re.MULTILINE)
        assert re.search(r"^  ✓ same +ran .* new$", failed.text, re.MULTILINE)
        assert re.search(r"^  ✕ same +failed +KeyCollision: [^×]*$", failed.text, re.MULTILINE)
        assert "not kept" not in failed.text


def test_k8_a_cell_run_again_with_an_edit_is_a_new_run(tmp_path: Path) -> None:
    with open_shell(tmp_path) as shell:
        shell.good('%%workflow\nuid = 1\nstep(lambda: uid * 2, key="k")')
        assert shell.good('%%workflow\nuid = 2\nstep(lambda: uid * 3, key="k")').value == 2
        failed = shell.run('%%workflow\nfor uid in (1, 2):\n    step(lambda: uid * 2, key="k")')
        assert "uid = 2" in str(failed.error)
