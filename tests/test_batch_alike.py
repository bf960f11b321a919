"""What the items of a map share is found once for all of them, and what changes while it runs is seen all the same (D1, D2)."""

from __future__ import annotations

import linecache
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbstep import Cache, create_workflow
from nbstep import step as inner
from nbstep.cache.records import Facts
from nbstep.cache.trust import SigningKey
from nbstep.drift.code import look_behind
from nbstep.drift.inputs import are_lasting, named_in
from nbstep.drift.reading import read_inputs
from nbstep.drift.values import Texts
from nbstep.steps import turns
from nbstep.steps.calls import Call
from nbstep.testing import MemoryStore


class _Model:
    def predict(self, n: int) -> int:
        return n


_TOLD = ("code", "exact", "inputs", "source", "sources", "names", "workflow", "uses", "uses_beyond", "accepted")
_WORK = """
import json
from dataclasses import dataclass

@dataclass
class Conf:
    size: int = 1

class Client:
    def get(self, n): return n

def tidy(n): return n + 1

def other(n): return n + 2

def make(base, client):
    def fetch(n):
        if n == 3:
            change()
        if n < 0:
            json, conf, rows, unset, base, LONG
        return client.get(tidy(n))
    return fetch

def make_quick(base, client):
    def fetch(n):
        if n == 3:
            change()
        if n < 0:
            json, unset, base, SIZE
        return client.get(tidy(n))
    return fetch

def make_boxed(base, client):
    def fetch(n):
        if n == 3:
            change()
        if n < 0:
            rows, HEAD, PAIR, KINDS, SPAN, TAGS, base
        return client.get(tidy(n))
    return fetch

class Source:
    def __init__(self, base): self.base = base
    def fetch(self, n):
        if n == 3:
            change()
        if n < 0:
            rows, json, SIZE
        return tidy(n)

class Mirror(Source): pass

def make_bare():
    def fetch(n):
        if n == 3:
            change()
        return n
    return fetch

def change():
    for fetch in functions.values():
        owner, fetch = getattr(fetch, "__self__", None), getattr(fetch, "__func__", fetch)
        cells = fetch.__closure__
        CHANGE

conf, rows, LONG, SIZE = Conf(), [1], "x" * 5000, 1.5
HEAD, PAIR, KINDS = {"accept": "json", "tries": [1, 2.5, None], 3: b"x"}, ("a", ["b"]), {"a"}
SPAN, TAGS = (0, "a", (2.5, None)), frozenset({"x"})
functions = {"rich": make("http://localhost/", Client()), "quick": make_quick("http://localhost/", Client()), "bare": make_bare(),
    "boxed": make_boxed("http://localhost/", Client()), "method": Source("http://localhost/").fetch}
"""
CHANGES = {
    "nothing": "pass",
    "an int for a text": "if cells: cells[0].cell_contents = 5",
    "another text": "if cells: cells[0].cell_contents = 'ftp://localhost/'",
    "a file": "if cells: cells[0].cell_contents = __file__",
    "an equal text": "if cells: cells[0].cell_contents = ''.join(['http://', 'localhost/'])",
    "another object": "if cells: cells[1].cell_contents = Client()",
    "an object of another class": "if cells: cells[1].cell_contents = type('Client', (), {'get': lambda self, n: n})()",
    "an object that wraps": "if cells: cells[1].cell_contents.__dict__.update(__wrapped__=tidy, __qualname__='tidy')",
    "another helper": "globals().update(tidy=other)",
    "the helper's code": "tidy.__code__ = other.__code__",
    "the helper's name": "tidy.__qualname__ = 'neat'",
    "its own code": "fetch.__code__ = fetch.__code__.replace(co_name='get')",
    "its own name": "fetch.__qualname__ = 'get'",
    "its defaults": "fetch.__defaults__ = (3,)",
    "a record": "conf.size = 2",
    "a list": "rows.append(1)",
    "a long text": "globals().update(LONG='y' * 5000)",
    "a name that was not bound": "globals().update(unset=3)",
    "a name that is bound no more": "globals().pop('conf', None), globals().pop('SIZE', None)",
    "a number": "globals().update(SIZE=2.5)",
    "an equal number": "globals().update(SIZE=float('1.5'))",
    "a module": "globals().update(json=__import__('math'))",
    "a module's name": "globals().update(json=__import__('types').ModuleType('json'))",
    "a scalar for a list": "globals().update(rows=None)",
    "true for one": "rows[0] = True",
    "an equal list": "globals().update(rows=[1])",
    "a long list": "rows.extend(range(1000))",
    "a list in itself": "rows.append(rows)",
    "an object in a list": "rows.append(Client())",
    "a dict": "HEAD.update(accept='csv')",
    "a dict's order": "HEAD.update(accept=HEAD.pop('accept'))",
    "a list in a dict": "HEAD['tries'].append(1)",
    "a list in a tuple": "PAIR[1].clear()",
    "a set": "KINDS.add('b')",
    "another tuple": "globals().update(SPAN=(1, *SPAN[1:]))",
    "an equal tuple": "globals().update(SPAN=tuple(list(SPAN)))",
    "a file in a tuple": "globals().update(SPAN=(0, __file__))",
    "another frozenset": "globals().update(TAGS=TAGS | {'y'})",
    "an equal frozenset": "globals().update(TAGS=frozenset({'x', 'y'}) - {'y'})",
    "another kind": "globals().update(KINDS=frozenset(KINDS))",
    "its object": "if owner: owner.base = 'ftp://localhost/'",
    "its object's class": "if owner: owner.__class__ = Mirror",
    "its class": "Source.size = 3",
    "a method of its class": "Source.fetch = lambda self, n: n",
    "a file in a dict": "HEAD.update(path=__file__)",
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_input_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the time for large inputs may be over before the last one, of one item or another."""
    monkeypatch.setattr(time, "thread_time_ns", lambda: 0)


def _scope(change: str) -> dict[str, Any]:
    text = _WORK.replace("CHANGE", change)
    linecache.cache["<alike>"] = len(text), None, text.splitlines(keepends=True), "<alike>"
    scope: dict[str, Any] = {"__name__": "__main__", "__file__": __file__}
    exec(compile(text, "<alike>", "exec"), scope)
    return scope


def _facts(run: Callable[[Any], Any], store: Any = None) -> dict[str, dict[str, Any]]:
    cache = Cache(MemoryStore() if store is None else store)
    create_workflow(cache=cache, on_drift="ignore")(run).unwrap()
    return {meta.key: {name: getattr(meta.facts, name) for name in _TOLD} for meta in cache.entries()}


def _alone(step: Any, function: Any, monkeypatch: pytest.MonkeyPatch, items: int = 6) -> None:
    """As a map does, with nothing remembered from one item to the next."""
    for n in range(items):
        with monkeypatch.context() as patch:
            patch.setattr(Call, "told", Call.told_anew)
            step(function, n, key=f"n:{n}")


@pytest.mark.parametrize("store", [MemoryStore, dict])  # over a dict most go the quick way
@pytest.mark.parametrize("function", ["rich", "quick", "boxed", "method", "bare"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_d1_d2_an_entry_of_a_map_says_what_that_of_its_item_alone_would(
    change: str, function: str, store: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_map = _facts(
        lambda step: step.map(_scope(change)["functions"][function], range(6), key="n:{}", n_jobs=1), store()
    )
    alone = _facts(lambda step: _alone(step, _scope(change)["functions"][function], monkeypatch))
    assert of_map == alone
    assert len(of_map) == 6
    assert Facts.__dataclass_fields__.keys() - _TOLD == {"took_s", "awaitable", "returned", "ttl_s", "place"}


def test_d6_each_item_of_a_map_is_linked_to_the_steps_that_handed_out_what_it_names() -> None:
    def run(step: Any) -> Any:
        model, base = step(_Model, key="model"), "http://localhost/"

        def predict(n: int) -> Any:
            nonlocal model
            if n == 2:
                model = step(_Model, key="other")
            return (base, model.predict(n))[1]

        return step.map(predict, range(5), key="n:{}", n_jobs=1)

    uses = {key: facts["uses"] for key, facts in _facts(run).items() if key.startswith("n:")}
    assert uses == {
        "n:0": ("model",),
        "n:1": ("model",),
        "n:2": ("model", "other"),
        "n:3": ("other",),
        "n:4": ("other",),
    }


def test_d2_what_was_read_of_names_is_read_anew_for_another_key_and_where_an_argument_has_the_name() -> None:
    scope: dict[str, Any] = {"__name__": "__main__", "base": "http://localhost/", "model": _Model(), "size": 1}
    exec("def fetch(n): return base, model, size", scope)
    thunk, key, other = scope["fetch"], SigningKey(b"k" * 32), SigningKey(b"o" * 32)
    seen = look_behind(thunk)
    like = named_in(read_inputs(thunk, (1,), seen, key), seen)
    assert like is not None
    for who, args in ((key, (2,)), (key, ("a",)), (other, (2,)), (key, ([1],)), (key, (_Model(),)), (key, (__file__,))):
        objects, expected = list[Any](), list[Any]()
        read = read_inputs(thunk, args, seen, who, objects=objects, like=like)
        anew = read_inputs(thunk, args, seen, who, objects=expected)
        assert (list(read.texts.items()), *read[1:4]) == (list(anew.texts.items()), *anew[1:4])
        assert [one for one in objects if one != scope["base"]] == [one for one in expected if one != scope["base"]]
        assert are_lasting(read, thunk, args, seen, who) is are_lasting(anew, thunk, args, seen, who)
    renamed = like._replace(others={**like.others, "n": "#"})
    assert read_inputs(thunk, (2,), seen, key, like=renamed).texts["n"] == "2"


def test_d2_what_items_change_again_and_again_is_read_of_the_first_ones_only(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, counts, total, looked = list[int](), dict[int, int](), 0, list[object]()
    read = Texts.read

    def counted(self: Texts, value: object, paths: list[str] | None = None) -> tuple[str, bool]:
        looked.extend(name for name, held in (("calls", calls), ("counts", counts)) if value is held)
        return read(self, value, paths)

    def fetch(n: int) -> int:
        nonlocal total
        calls.append(n)
        counts[n] = counts.get(n, 0) + 1
        total += 1
        return n

    monkeypatch.setattr(Texts, "read", counted)

    facts = _facts(lambda step: step.map(fetch, range(200), key="n:{}", n_jobs=1), {})
    assert (len(calls), total) == (200, 200)
    assert 0 < looked.count("calls") <= 8
    assert 0 < looked.count("counts") <= 8
    assert all(facts[f"n:{n}"]["inputs"].keys() == {"", "n"} for n in range(200))


def test_d2_what_other_items_change_while_it_is_read_is_not_read_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen, looked = set[int](), list[object]()
    read = Texts.read

    def moved(self: Texts, value: object, paths: list[str] | None = None) -> tuple[str, bool]:
        if value is seen:
            looked.append(value)
            raise RuntimeError("Set changed size during iteration")
        return read(self, value, paths)

    def fetch(n: int) -> int:
        seen.add(n)
        return n

    monkeypatch.setattr(Texts, "read", moved)
    facts = _facts(lambda step: step.map(fetch, range(100), key="n:{}", n_jobs=1), {})
    assert len(looked) == 3
    assert all(facts[f"n:{n}"]["inputs"].keys() == {"", "n"} for n in range(100))


def test_d2_a_setting_that_was_replaced_once_while_many_items_ran_stays_an_input() -> None:
    rows, together = [1], threading.Barrier(8)

    def fetch(n: int) -> int:
        if n < 8:
            together.wait(timeout=30)
            if n == 0:
                rows.append(2)
            together.wait(timeout=30)
        return len(rows)

    facts = _facts(lambda step: step.map(fetch, range(24), key="n:{}", n_jobs=8), {})
    assert all("rows" not in facts[f"n:{n}"]["inputs"] for n in range(8))
    assert all("rows" in facts[f"n:{n}"]["inputs"] for n in range(8, 24))


def test_d6_an_item_is_linked_to_the_step_that_made_what_its_items_change() -> None:
    def run(step: Any) -> Any:
        rows = step(lambda: [_Model()], key="rows")

        def fetch(n: int) -> int:
            rows.append(n)
            return n

        return step.map(fetch, range(12), key="n:{}", n_jobs=1)

    facts = _facts(run, {})
    assert {facts[f"n:{n}"]["uses"] for n in range(12)} == {("rows",)}


@pytest.mark.parametrize("kind", ["dict", "list", "array", "inner"])
@pytest.mark.parametrize("cache", ["dict", "disk"])
def test_d2_d6_what_items_put_into_a_container_is_no_input_of_the_others(
    kind: str, cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`rows.append(row); return row`: neither is what they made linked, nor is it read again and again, as it grows."""
    rows: Any = {} if kind == "dict" else []
    large: list[Any] = []
    read = Texts.read

    def counted(self: Texts, value: Any, paths: list[str]) -> Any:
        if value is rows:
            large.append(len(value))
        return read(self, value, paths)

    monkeypatch.setattr(Texts, "read", counted)

    def fetch(n: int) -> Any:
        row: Any = np.arange(n + 3) if kind == "array" else {"id": n, "name": "x"}
        if kind == "dict":
            rows[n] = row
        elif kind == "inner":
            rows.append(inner(lambda: [n, n], key=f"raw:{n}"))
        else:
            rows.append(row)
        return row

    facts = _facts(lambda step: step.map(fetch, range(200), key="n:{}", n_jobs=2), {} if cache == "dict" else tmp_path)
    own = {f"n:{n}": ((f"raw:{n}",) if kind == "inner" else ()) for n in range(200)}
    assert {key: facts[key]["uses"] for key in own} == own
    assert len(large) < 40, "state from the third change on"


def test_d6_what_few_items_put_into_a_container_links_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two changes do not make it state; it is read once after each, and then told by what it is."""
    odd: list[Any] = []
    reads = list[int]()
    read = Texts.read

    def counted(self: Texts, value: Any, paths: list[str]) -> Any:
        reads.extend([1] * (value is odd))
        return read(self, value, paths)

    monkeypatch.setattr(Texts, "read", counted)

    def fetch(n: int) -> Any:
        row = {"id": n, "name": "x"}
        if n in {0, 70}:
            odd.append(row)
        return row

    facts = _facts(lambda step: step.map(fetch, range(200), key="n:{}", n_jobs=1), {})
    assert {one["uses"] for one in facts.values()} == {()}
    assert len(reads) < 40


def test_d6_what_many_items_give_stays_linked_to_the_step_that_made_it() -> None:
    def run(step: Any) -> Any:
        default = step(lambda: {"plan": "free"}, key="default")
        plans = step.map(lambda n: [n] if n == 3 else default, range(30), key="plan:{}", n_jobs=1)
        step(lambda: default["plan"].upper(), key="title")
        return plans

    facts = _facts(run, {})
    assert all("default" in facts[key]["uses"] for key in [*(f"plan:{n}" for n in range(30)), "title"])


def test_d6_an_item_that_holds_what_an_earlier_one_gave_is_linked_to_it() -> None:
    def run(step: Any) -> Any:
        given: list[Any] = [{"n": 0}]

        def items() -> Any:
            yield from ({"n": n, "before": given[-1]} for n in range(4))

        def fetch(item: dict[str, Any]) -> list[int]:
            given.append([item["n"], item["n"]])
            return given[-1]

        return step.map(fetch, items(), key="a:{0[n]}", n_jobs=1)

    facts = _facts(run, {})
    assert "a:0" in facts["a:1"]["uses"]


def test_d6_what_one_map_made_is_linked_to_the_items_of_another() -> None:
    def run(step: Any) -> Any:
        pages = step.map(lambda n: [n], range(12), key="page:{}", n_jobs=1)
        seen: list[Any] = []

        def size(n: int) -> int:
            seen.append(pages[n])
            return len(pages[n])

        return step.map(size, range(12), key="size:{}", n_jobs=1)

    facts = _facts(run, {})
    assert {facts[f"size:{n}"]["uses"] for n in range(12)} == {tuple(f"page:{n}" for n in range(12))}


def test_d6_inner_maps_and_steps_of_one_item_are_linked_to_each_other() -> None:
    def item(n: int) -> int:
        step = inner
        pages = step.map(lambda m: [n, m], range(3), key=f"page:{n}:{{}}", n_jobs=1)
        sizes = step.map(lambda m: len(pages[m]), range(3), key=f"size:{n}:{{}}", n_jobs=1)
        return sum(sizes) + step(lambda: sum(map(len, pages)), key=f"total:{n}")

    facts = _facts(lambda step: step.map(item, range(3), key="n:{}", n_jobs=1), {})
    assert facts["size:1:2"]["uses"] == facts["total:1"]["uses"] == ("page:1:0", "page:1:1", "page:1:2")
    assert "size:1:2" in facts["n:1"]["uses"]


def test_d6_also_where_that_stands_behind_much_else() -> None:
    def run(step: Any) -> Any:
        context: dict[str, Any] = {"calls": 0, **{f"option {n}": n for n in range(40)}}
        context["model"] = step(_Model, key="model")

        def fetch(n: int) -> int:
            context["calls"] += 1
            return n

        return step.map(fetch, range(12), key="n:{}", n_jobs=1)

    facts = _facts(run, {})
    assert {facts[f"n:{n}"]["uses"] for n in range(12)} == {("model",)}


def test_d1_what_others_of_the_same_code_changed_is_an_input_of_those_that_do_not() -> None:
    def sorted_rows(step: Any, key: str, rows: list[int]) -> int:
        def total() -> int:
            rows.sort()
            return sum(rows)

        return step(total, key=key)

    def of_maps(step: Any, name: str, rows: list[int]) -> Any:
        def total(n: int) -> int:
            rows.sort()
            return sum(rows) + n

        return step.map(total, range(3), key=name + ":{}", n_jobs=1)

    def run(step: Any) -> None:
        for at, rows in enumerate(([3, 1], [5, 2], [9, 4], [1, 2, 3])):
            sorted_rows(step, f"loop:{at}", rows)
            of_maps(step, f"map:{at}", list(reversed(rows)) if at < 3 else rows)

    facts = _facts(run, {})
    assert "rows" not in facts["loop:0"]["inputs"]
    assert "rows" in facts["loop:3"]["inputs"]
    assert "rows" in facts["map:3:0"]["inputs"]


@pytest.mark.parametrize("store", [MemoryStore, dict])
def test_d2_an_object_that_becomes_one_of_another_class_is_state(store: type) -> None:
    class Client:
        def fetch(self, n: int) -> int:
            if n == 5:
                self.__class__ = Ready
            return n

    class Ready(Client):
        pass

    facts = _facts(lambda step: step.map(Client().fetch, range(8), key="n:{}", n_jobs=1), store())
    assert facts["n:4"]["inputs"].keys() == {"", "n", "self"}
    assert facts["n:5"]["inputs"].keys() == {"", "n"}
    assert facts["n:6"]["inputs"].keys() == {"", "n", "self"}


def test_d1_what_another_thread_changes_while_it_is_read_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, others, read, looks = [1], [2], Texts.read, list[int]()

    def changed(self: Texts, value: object, paths: list[str] | None = None) -> tuple[str, bool]:
        text = read(self, value, paths)
        if value is rows:
            looks.append(1)
            if len(looks) == 1:
                rows.append(2)
        return text

    def fetch(n: int) -> int:
        return len(rows) + len(others) + n

    with monkeypatch.context() as patch:
        patch.setattr(Texts, "read", changed)
        facts = _facts(lambda step: step.map(fetch, range(6), key="n:{}", n_jobs=1), {})
    alone = _facts(lambda step: step(fetch, 9, key="alone"), {})
    assert {facts[f"n:{n}"]["inputs"]["rows"] for n in range(1, 6)} == {alone["alone"]["inputs"]["rows"]}


@pytest.mark.parametrize("store", [MemoryStore, dict])
def test_d1_an_object_whose_class_has_no_hash_hides_no_other_input(store: type) -> None:
    class Meta(type):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(cls, other: object) -> bool:
            return cls is other

    class Odd(metaclass=Meta):
        pass

    size = 5

    def fetch(item: Any) -> int:
        return size

    for items in ([[Odd()]] * 3, [1, [Odd()], 3]):
        keys = iter(range(3))
        facts = _facts(lambda step: step.map(fetch, items, key=lambda _: f"n:{next(keys)}", n_jobs=1), store())
        assert all("size" in facts[f"n:{n}"]["inputs"] for n in range(3))


@pytest.mark.parametrize("held", ["a name", "the code"])
def test_d2_a_file_that_an_item_makes_is_an_input_of_the_items_after_it(
    held: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = "made.csv"

    def of_a_name(n: int) -> bool:
        make(n)
        return os.path.exists(path)

    def of_the_code(n: int) -> bool:
        make(n)
        return os.path.exists("made.csv")

    def make(n: int) -> None:
        if n == 5:
            with open("".join(["made", ".csv"]), "w") as file:
                file.write("1")
            os.utime("".join(["made", ".csv"]), (1, 1))

    fetch = of_a_name if held == "a name" else of_the_code
    of_map = _facts(lambda step: step.map(fetch, range(9), key="n:{}", n_jobs=1), {})
    Path(path).unlink()
    alone = _facts(lambda step: _alone(step, fetch, monkeypatch, 9))
    assert of_map == alone
    told = [len(of_map[f"n:{n}"]["inputs"]) for n in range(9)]
    assert told == [told[0]] * 6 + [told[0] + 1] * 3


scale = 1


def _helper() -> int:
    return 1


def _other() -> int:
    return 2


@pytest.mark.parametrize("what", ["a file", "a name", "the code"])
def test_d2_what_changes_before_an_items_function_begins_is_its_input_as_it_is_then(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where another thread claimed its key before the change, as `hub.py` does."""
    monkeypatch.setattr(turns, "may_pay", lambda _: True)
    monkeypatch.setattr(sys.modules[__name__], "scale", 1)
    monkeypatch.setattr(_helper, "__code__", _helper.__code__)
    monkeypatch.chdir(tmp_path)
    run, changed, late = turns._Begun.run, threading.Event(), list[str]()

    def change() -> None:
        globals()["scale"] = 2
        _helper.__code__ = _other.__code__
        Path("".join(["made", ".csv"])).touch()
        changed.set()

    def of_a_file(n: int) -> tuple[bool, str]:
        time.sleep(0.0005)
        return os.path.exists("made.csv"), ""

    def of_a_name(n: int) -> int:
        time.sleep(0.0005)
        return scale

    def of_the_code(n: int) -> int:
        time.sleep(0.0005)
        return _helper()

    def held(self: Any) -> Any:
        if self._taken._key == "n:205":
            change()
        if self._taken._key in ("n:200", "n:201") and threading.current_thread() is not threading.main_thread():
            late.append(self._taken._key)
            assert changed.wait(20)
        return run(self)

    monkeypatch.setattr(turns._Begun, "run", held)
    fetch = {"a file": of_a_file, "a name": of_a_name, "the code": of_the_code}[what]
    facts = _facts(lambda step: step.map(fetch, range(400), key="n:{}", n_jobs=8), {})
    assert len(late) == 2
    told = {n: {**facts[f"n:{n}"]["inputs"], "code": facts[f"n:{n}"]["code"]} for n in (0, 200, 201, 399)}
    del told[0]["n"], told[200]["n"], told[201]["n"], told[399]["n"]
    assert told[0] != told[200] == told[201] == told[399]


def test_d2_the_system_is_not_asked_about_a_text_that_names_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, stat, host, root, base = list[object](), os.stat, "127.0.0.1:8080", "/", "http://127.0.0.1/"

    def counted(path: Any, **options: Any) -> os.stat_result:
        asked.append(path)
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", counted)
    create_workflow(cache={})(lambda step: step.map(lambda n: (host, root, base, n), range(9), key="n:{}", n_jobs=1))
    assert host in asked
    assert not {root, base}.intersection(asked)
