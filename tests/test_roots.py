"""While a function's names mean the very objects that they meant, nothing read of them is read again; else it is (D1, D2)."""

from __future__ import annotations

import gc
import json
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nbstep import Cache, Err, Ok, create_workflow
from nbstep.collisions.look import look_at, look_like
from nbstep.drift.alike import Anchored, Like
from nbstep.drift.code import beside_names, look_behind
from nbstep.drift.roots import roots_of
from nbstep.drift.seen import Seen

_WORK = """
import json

class Client: pass
class Other: pass

def tidy(n): return n

def make(base, client):
    def fetch(n): return json.dumps([base, str(client), SIZE, n]), len(HEAD)
    return fetch

def make_helped():
    def fetch(n): return tidy(n)
    return fetch

SIZE, HEAD = 1, {}
"""
CHANGES: dict[str, Callable[[dict[str, Any], Any], object]] = {
    "a number": lambda scope, fetch: scope.update(SIZE=2),
    "an equal number": lambda scope, fetch: scope.update(SIZE=float("1")),
    "a name that is bound no more": lambda scope, fetch: scope.pop("SIZE"),
    "a built-in name": lambda scope, fetch: scope.update(len=len),
    "whose it is": lambda scope, fetch: scope.update(__name__="elsewhere"),
    "a module": lambda scope, fetch: scope.update(json=types.ModuleType("json")),
    "another text": lambda scope, fetch: setattr(_cell(fetch, "base"), "cell_contents", "ftp://"),
    "an empty cell": lambda scope, fetch: delattr(_cell(fetch, "base"), "cell_contents"),
    "another object": lambda scope, fetch: setattr(_cell(fetch, "client"), "cell_contents", scope["Client"]()),
    "its class": lambda scope, fetch: setattr(_cell(fetch, "client").cell_contents, "__class__", scope["Other"]),
}


def _cell(fetch: Any, name: str) -> types.CellType:
    return fetch.__closure__[fetch.__code__.co_freevars.index(name)]


def _seen(fetch: Any) -> Seen:
    look_behind(fetch).settled()  # the first time a glance, which does not say all
    return look_behind(fetch)


def _scope() -> dict[str, Any]:
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(_WORK, scope)
    return scope


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_d1_d2_they_are_the_same_until_one_name_means_something_else(change: Any) -> None:
    scope = _scope()
    fetch = scope["make"]("http://", scope["Client"]())
    beside = beside_names(_seen(fetch))
    roots = roots_of(fetch) if beside is None else roots_of(fetch, *beside)
    assert roots is not None
    assert roots.are_same()
    change(scope, fetch)
    assert not roots.are_same()


def test_d1_an_attribute_of_a_module_is_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec("import json\ndef fetch(n): return json.dumps(n)", scope)
    beside = beside_names(_seen(scope["fetch"]))
    assert beside is not None
    roots = roots_of(scope["fetch"], *beside)
    assert roots is not None
    assert roots.are_same()
    with monkeypatch.context() as patch:
        patch.setattr(json.dumps, "__wrapped__", scope["fetch"], raising=False)
        assert not roots.are_same()
    assert roots.are_same()
    monkeypatch.setattr(json, "dumps", lambda _: "")
    assert not roots.are_same()


def test_d1_a_helper_or_a_class_of_the_users_is_looked_at_too() -> None:
    scope = _scope()
    assert beside_names(_seen(scope["make_helped"]())) is None
    assert beside_names(_seen(scope["make"]("", scope["Client"]()))) is None


@pytest.mark.parametrize("item", [5, "a", None, 2.5, True, [1], "x" * 500, 1 << 600])
def test_k8_a_look_like_another_is_the_one_that_would_be_taken(item: Any) -> None:
    scope = _scope()
    fetch = scope["make"]("http://", scope["Client"]())
    assert look_like(look_at(fetch, (1,)), item) == look_at(fetch, (item,))
    exec("def two(a, b=2): return a", scope)
    assert look_like(look_at(scope["two"], (1,)), item) is None
    assert look_like(look_at(len, (1,)), item) is None


@pytest.mark.parametrize("make", ["plain", "helped", "counting"])
def test_most_items_of_a_map_are_told_by_them(make: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looked, anchored = list[bool](), Like.anchored
    tried = list[Anchored | None]()
    holds = Anchored.holds_before

    def told(self: Anchored, function: types.FunctionType, own_map: object) -> bool:
        looked.append(holds(self, function, own_map))
        return looked[-1]

    def noted(self: Like) -> Anchored | None:
        tried.append(anchored(self))
        return tried[-1]

    monkeypatch.setattr(Anchored, "holds_before", told)
    monkeypatch.setattr(Like, "anchored", noted)
    scope = _scope()
    exec("calls = []\ndef log(n): calls.append(n)", scope)
    functions = {
        "plain": scope["make"]("http://", object()),
        "helped": scope["make_helped"](),
        "counting": scope["log"],
    }
    create_workflow(cache={})(lambda step: step.map(functions[make], range(100), key="n:{}", n_jobs=1)).unwrap()
    assert sum(looked) >= 90
    assert len(tried) <= 8


def test_what_never_is_the_same_is_not_tried_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried, anchored = list[object](), Like.anchored

    def noted(self: Like) -> Anchored | None:
        tried.append(self)
        return anchored(self)

    monkeypatch.setattr(Like, "anchored", noted)
    scope: dict[str, Any] = {"__name__": "__main__", "total": 0}
    exec("def fetch(n):\n    global total\n    total += 1\n    return n", scope)
    create_workflow(cache={})(lambda step: step.map(scope["fetch"], range(100), key="n:{}", n_jobs=1)).unwrap()
    assert 0 < len(tried) <= 8


CHANGED = {
    "a helper's name": "tidy.__qualname__ = 'neat'",
    "a helper's code": "tidy.__code__ = tidy.__code__.replace(co_consts=tidy.__code__.co_consts + (5,))",
    "a module's name": "json.__name__ = 'jason' + str(calls)",
    "an object that wraps": "client.__wrapped__, client.__qualname__ = tidy, 'tidy'",
}


@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED)
def test_k8_what_is_seen_as_something_else_after_it_ran_is_state_of_its_step(change: str) -> None:
    scope: dict[str, Any] = {"__name__": "__main__", "calls": 0}
    exec(
        "import types\njson = types.ModuleType('json')\nclass Client: pass\nclient = Client()\n"
        "def tidy(n): return n\n"
        f"def change():\n    {change}\n"
        "def fetch(n):\n    if n == 6:\n        change()\n    return tidy(n), client is json",
        scope,
    )
    given = create_workflow(cache={})(
        lambda step: step.map(scope["fetch"], [0, 1, 2, 3, 4, 5, 6, 6, 7], key="n:{}", n_jobs=1)
    ).unwrap()
    assert given == [(n, False) for n in (0, 1, 2, 3, 4, 5, 6, 6, 7)]


def test_d6_what_another_step_hands_out_of_a_box_in_the_middle_of_a_map_is_linked() -> None:
    scope: dict[str, Any] = {"__name__": "__main__", "found": Ok(_Model()), "failed": Err(_Model())}
    exec("def fetch(n): return n, found is failed", scope)
    cache = Cache({})

    def body(step: Any) -> Any:
        def items() -> Iterator[int]:
            for n in range(10):
                if n == 6:
                    step(lambda: scope["found"].value, key="model")
                if n == 8:
                    step(lambda: scope["failed"].error, key="error")
                yield n

        return step.map(scope["fetch"], items(), key="n:{}", n_jobs=1)

    create_workflow(cache=cache)(body).unwrap()
    uses = {meta.key: meta.facts.uses for meta in cache.entries()}
    assert [uses[f"n:{n}"] for n in range(10)] == [()] * 6 + [("model",)] * 2 + [("model", "error")] * 2


class _Model:
    pass


def test_what_a_name_does_not_mean_any_more_is_let_go_while_the_map_goes_on() -> None:
    scope: dict[str, Any] = {"__name__": "__main__", "model": _Model()}
    exec("def fetch(n): return n, model is None", scope)
    made = list[weakref.ref[Any]]()
    alive = list[int]()

    def keyed(n: int) -> str:
        if n % 5 == 0:
            scope["model"] = _Model()
            made.append(weakref.ref(scope["model"]))
        gc.collect()
        alive.append(sum(one() is not None for one in made))
        return f"n:{n}"

    create_workflow(cache={})(lambda step: step.map(scope["fetch"], iter(range(100)), key=keyed, n_jobs=1)).unwrap()
    assert len(made) == 20
    assert alive[-1] == 1
