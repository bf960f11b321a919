"""A remembered fingerprint (D1, D3): the same object while nothing changed, never one that a fresh look would not give."""

from __future__ import annotations

import ast
import contextlib
import enum
import functools
import gc
import importlib
import sys
import textwrap
import types
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbstep import create_workflow
from nbstep.drift import code as drift_code
from nbstep.drift.code import look_anew, look_behind
from nbstep.drift.explain import code_changes
from nbstep.drift.handed import look_behind_call
from nbstep.events import StepHit
from nbstep.freezing import freeze
from nbstep.testing import RecordingListener

Scope = dict[str, Any]

NOTEBOOK = """
import enum, functools
from decimal import Decimal

RATE = 2
def wrapping(function):
    @functools.wraps(function)
    def wrapper(*args): return function(*args)
    return wrapper
def loud(function):
    @functools.wraps(function)
    def wrapper(*args): return function(*args) + 1
    return wrapper
def tidy(row, scale=1, *, strict=True): return row * scale * RATE
def other(row): return row - 1
def spare(row): return row - 2
def in_cell(row): return row - 3
def in_partial(n, row=0): return row - 4
def closed(function):
    def inside(row): return function(row)
    return inside
through_cell = closed(in_cell)
partly = functools.partial(in_partial, 1)
@functools.lru_cache
def kept(row): return row * 2
@wrapping
def wrapped(row): return row
class Base:
    def shared(self): return 1
class Kind(enum.Enum):
    A = 1
class Shape(Base):
    SIDES = 4
    kinds = [1]
    origin = functools.partial(other, 1)
    def area(self, n=1): return n
    @property
    def name(self): return other(1)
    @functools.cached_property
    def slow(self): return 1
    @staticmethod
    def make(): return Shape()
    @functools.lru_cache
    def counted(self): return 1
Shape.thing, Shape.last = Base(), 5
def staged(row): return row - 5
def tabled(row): return row - 6
def given(row): return row - 7
def named(row): return row - 8
STAGES, TABLE = [staged], {"first": tabled, "n": 1}
@functools.singledispatch
def general(row): return row
def chosen(row, how=given, *, then=named): return how(row)
class Model:
    def __call__(self, x): return x
class Point: pass
model, shape, point = Model(), Shape(), Point()
def fetch(uid):
    later
    found = tidy(uid), through_cell(uid), partly(), kept(uid), wrapped(uid)
    held = STAGES, TABLE, general(uid), chosen(uid)
    return found, held, Shape, Kind.A, model(uid), shape.area(), point, Decimal(1)
thunk = lambda: fetch("1")
"""


def run(source: str, scope: Scope) -> Scope:
    """Runs a cell of the notebook whose names are `scope`."""
    exec(compile(textwrap.dedent(source), "<cell>", "exec"), scope)
    return scope


def notebook(source: str = NOTEBOOK) -> Scope:
    return run(source, {"__name__": "__main__"})


def is_true(thunk: Any) -> bool:
    """Whether what is remembered is what a fresh look gives, in the order of its names too."""
    seen, anew = look_behind(thunk), look_anew(thunk)
    return seen.fingerprint.exact == anew.fingerprint.exact and list(seen.code.items()) == list(anew.code.items())


def code_fingerprint(thunk: object) -> Mapping[str, str]:
    return look_behind(thunk).code


def _replaced_code(scope: Scope) -> None:
    scope["tidy"].__code__ = scope["spare"].__code__


def _member_in_place(scope: Scope) -> None:
    scope["Kind"].A._value_ = 2


def _lru_unwrapped(scope: Scope) -> None:
    scope["kept"].__wrapped__ = scope["spare"]


def _descriptor_in_place(scope: Scope) -> None:
    vars(scope["Shape"])["slow"].func = scope["spare"]


def _partial_in_place(scope: Scope) -> None:
    scope["partly"].__setstate__((scope["spare"], (1,), {}, {}))


def _cell(scope: Scope) -> None:
    scope["through_cell"].__closure__[0].cell_contents = scope["spare"]


def _emptied_cell(scope: Scope) -> None:
    del scope["through_cell"].__closure__[0].cell_contents


def _type_of_a_model(scope: Scope) -> None:
    run("class Model2(Model):\n    def __call__(self, x): return x + 2", scope)
    scope["model"].__class__ = scope["Model2"]


CHANGES: dict[str, str | Callable[[Scope], None]] = {
    "a function redefined": "def tidy(row): return row * 3",
    "the function called redefined": "def fetch(uid): return uid",
    "its code replaced": _replaced_code,
    "its defaults replaced": "tidy.__defaults__ = (2,)",
    "its default of another type": "tidy.__defaults__ = (True,)",
    "its defaults removed": "tidy.__defaults__ = None",
    "its named defaults replaced": "tidy.__kwdefaults__ = {'strict': False}",
    "its named defaults changed in place": "tidy.__kwdefaults__['strict'] = False",
    "its named defaults removed": "tidy.__kwdefaults__ = None",
    "its name for people changed": "tidy.__qualname__ = 'neat'",
    "rebound to another function": "tidy = spare",
    "rebound to a value": "tidy = 3",
    "rebound to None": "tidy = None",
    "deleted": "del tidy",
    "a value becomes a function": "RATE = spare",
    "a value becomes an object of the user's": "class New: pass\nRATE = New()",
    "a name appears": "def later(): return 1",
    "rebound in a cell": _cell,
    "a cell emptied": _emptied_cell,
    "a partial of another function": "partly = functools.partial(spare, 1)",
    "a partial set to another function": _partial_in_place,
    "a decorator swapped": "@loud\ndef wrapped(row): return row",
    "a decorator gone": "def wrapped(row): return row",
    "a decorator added": "tidy = loud(tidy)",
    "a foreign decorator of another function": "@functools.lru_cache\ndef kept(row): return row",
    "a foreign decorator set to another function": _lru_unwrapped,
    "a class redefined": "class Shape: pass",
    "the only object of a class deleted": "del point",
    "a method patched": "Shape.area = lambda self, n=1: n + 9",
    "a method replaced by its like": "Shape.area = spare",
    "a method's code replaced": "Shape.area.__code__ = spare.__code__",
    "a method's default replaced": "Shape.area.__defaults__ = (2,)",
    "a method added": "Shape.more = lambda self: 1",
    "a method deleted": "del Shape.area",
    "a method renamed": "Shape.AREA = Shape.area; del Shape.area",
    "an attribute renamed": "del Shape.last; Shape.end = 5",
    "an object in a class becomes None": "Shape.thing = None",
    "a class's name for people changed": "Shape.__qualname__ = 'Form'",
    "a cached property replaced that lives on": "old = vars(Shape)['slow']; Shape.slow = functools.cached_property(spare)",
    "a property replaced": "Shape.name = property(lambda self: 2)",
    "a property gets a setter": "Shape.name = Shape.name.setter(lambda self, value: None)",
    "a static method replaced": "Shape.make = staticmethod(lambda: 1)",
    "a cached property replaced": "Shape.slow = functools.cached_property(lambda self: 2)",
    "a cached property changed in place": _descriptor_in_place,
    "a decorated method replaced": "Shape.counted = functools.lru_cache(lambda self: 2)",
    "a partial in a class replaced": "Shape.origin = functools.partial(spare, 1)",
    "a class attribute changed": "Shape.SIDES = 3",
    "a class attribute of another type": "Shape.SIDES = 4.0",
    "a class attribute None": "Shape.SIDES = None",
    "a class attribute added": "Shape.COLOUR = 'red'",
    "a class attribute that begins to count": "Shape.kinds = 'ab'",
    "a method of a base patched": "Base.shared = lambda self: 2",
    "another base": "class Base2:\n    def shared(self): return 3\nShape.__bases__ = (Base2,)",
    "an enum redefined": "class Kind(enum.Enum):\n    A = 2",
    "a member changed in place": _member_in_place,
    "an object of another class": "class Model2:\n    def __call__(self, x): return x + 2\nmodel = Model2()",
    "an object given another class": _type_of_a_model,
    "a plain object of another class": "point = shape",
    "an object wraps a function": "model.__wrapped__ = spare",
    "an installed class swapped for one's own": "class Decimal:\n    def __init__(self, n): pass",
    "a function in a dict replaced": "TABLE['first'] = spare",
    "a function in a dict under another name": "TABLE['first'] = lambda row: 1; TABLE['second'] = TABLE.pop('first')",
    "a function in a list replaced": "STAGES[0] = spare",
    "a function put into a list": "STAGES.append(spare)",
    "a list of other functions": "STAGES = [spare]",
    "a list of functions that ends to be one": "STAGES = [1]",
    "a case of a generic function added": "general.register(int, spare)",
    "a function that is a default replaced": "chosen.__defaults__ = (spare,)",
    "a function that is a named default replaced": "chosen.__kwdefaults__['then'] = spare",
    "a class put into a class": "class Inner: pass\nShape.Inner = Inner",
    "another module": "__name__ = 'json'",
}  # fmt: skip

AS_BEFORE = {
    "a value changed": "RATE = 3",
    "another object of the class": "shape = Shape()",
    "a value becomes an installed module": "import json as RATE",
    "a name nobody reads": "unread = 1",
    "a list in a class": "Shape.kinds = [2]",
    "a class's docstring": "Shape.__doc__ = 'A shape.'",
}


@pytest.mark.parametrize("name", CHANGES)
def test_d3_a_change_is_seen_at_once_and_so_is_its_end(name: str) -> None:
    scope, change = notebook(), CHANGES[name]
    thunk = scope["thunk"]
    before = code_fingerprint(thunk)
    assert code_fingerprint(thunk) is before
    run(change, scope) if isinstance(change, str) else change(scope)
    after = code_fingerprint(thunk)
    assert after == look_anew(thunk).code != before
    assert code_fingerprint(thunk) is after
    run(NOTEBOOK.replace("__name__", ""), scope)
    assert is_true(scope["thunk"])
    assert is_true(thunk)


@pytest.mark.parametrize("name", AS_BEFORE)
def test_d3_what_does_not_count_leaves_the_fingerprint_as_it_was(name: str) -> None:
    scope = notebook()
    before = code_fingerprint(scope["thunk"])
    run(AS_BEFORE[name], scope)
    assert code_fingerprint(scope["thunk"]) == look_anew(scope["thunk"]).code == before


def test_d3_values_that_vary_do_not_make_it_look_again() -> None:
    scope = notebook()
    run("loop = [lambda: fetch(uid) for uid in 'abc']; turns = [(lambda: uid and fetch) for uid in 'abc']", scope)
    assert code_fingerprint(scope["loop"][0]) is code_fingerprint(scope["loop"][1])
    made = run("def make(uid): return lambda: fetch(uid)", scope)["make"]
    assert code_fingerprint(made("a")) is code_fingerprint(made("b"))
    assert code_fingerprint(freeze(made("a"))) is code_fingerprint(made("b"))


def test_d3_the_code_of_one_lambda_with_other_functions_in_its_cell() -> None:
    scope = run("def make(f): return lambda: f(1)", notebook())
    for _ in range(2):
        for name in ("tidy", "other", "kept", "Shape", "model", "len", "RATE"):
            assert is_true(scope["make"](scope.get(name, len)))


def test_d3_the_code_of_one_lambda_with_other_defaults() -> None:
    scope = run("def make(*ns): return lambda n=ns, *, m=ns: fetch(n)", notebook())
    prints = {n: code_fingerprint(scope["make"](n)) for n in (1, True, 1.0, -0.0, 0.0, "1", None)}
    assert all(is_true(scope["make"](n)) for n in (1, True, 1.0, -0.0, 0.0, "1", None))
    assert len({p[""] for p in prints.values()}) == len(prints)
    assert code_fingerprint(scope["make"]("a")) is code_fingerprint(scope["make"]("a"))


@pytest.mark.parametrize("default", ["low", "[low]", "functools.partial(low, 1)", "Model()", "Model"])
@pytest.mark.parametrize("named", ["", "*, "])
def test_d3_a_default_of_the_thunk_that_was_redefined_while_the_old_one_lives(default: str, named: str) -> None:
    before, ask = (
        "def low(n): return n\nclass Model:\n    def get(self): return 1",
        f"thunk = lambda {named}x={default}: x",
    )
    scope = run(ask, notebook("import functools\n" + before))
    old = scope["low"], scope["Model"], scope["thunk"]
    code = look_behind_call(scope["thunk"], ()).code
    run(ask, run(before.replace("return n", "return n + 1").replace("return 1", "return 2"), scope))
    assert code_changes(code, look_behind_call(scope["thunk"], ()).code)
    assert is_true(scope["thunk"])
    assert look_behind_call(old[2], ()).code == code


def test_d3_one_code_object_in_two_namespaces() -> None:
    program = compile("thunk = lambda: part()", "<cell>", "exec")
    for body in ("return 1", "return 2", "return 1"):
        scope = notebook(f"def part(): {body}")
        exec(program, scope)
        assert is_true(scope["thunk"])
    home, away = notebook("def part(): return 4"), notebook("")
    away["part"] = home["part"]
    for scope in (home, away):
        exec(program, scope)
        assert is_true(scope["thunk"])
    home["__name__"] = "json"
    assert is_true(away["thunk"])
    foreign: Scope = {"__name__": "json"}
    exec(program, foreign)
    assert is_true(foreign["thunk"])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_d3_a_function_that_leads_back_to_its_own_code(order: tuple[int, int]) -> None:
    scope = notebook(
        "def make():\n    def step(n): return back(n)\n    return step\n"
        "steps = [make(), make()]\ndef back(n): return steps0(n)\nsteps0 = steps[0]"
    )
    first, second = (scope["steps"][at] for at in order)
    assert [is_true(first), is_true(second), is_true(first)] == [True, True, True]


def test_d3_a_method_of_another_class_or_of_a_class_that_changed() -> None:
    scope = notebook("class A:\n    def f(self): return self.g()\n    def g(self): return 1\nclass B(A):\n    N = 1")
    methods = [scope[name]().f for name in "ABA"]
    assert [sorted(code_fingerprint(method)) for method in methods] == [["", "A"], ["", "A", "B"], ["", "A"]]
    assert all(is_true(method) for method in methods)
    for change in ("B.N = 2", "A.g = lambda self: 2", "A.f.__defaults__ = (1,)", "B.f = lambda self: 1"):
        run(change, scope)
        assert all(is_true(scope[name]().f) for name in "ABA")
        assert all(is_true(method) for method in methods)


def test_d3_names_of_attributes_and_of_what_is_built_in_that_come_to_mean_something() -> None:
    """Of a function that names nothing of the notebook's only the names in its code are watched, attributes among them."""
    scope = notebook(
        "class Row:\n    def title(self): return [len(part) for part in self.parts]\n"
        "def part(row): return row.title(), sorted(row.rest)\nthunk = lambda: (part, Row)"
    )
    thunk = scope["thunk"]
    before = code_fingerprint(thunk)
    for change in ("title = lambda: 1", "rest = Row()", "parts = 3", "parts = None", "del parts", "unread = 1"):
        run(change, scope)
        assert is_true(thunk)
        assert code_fingerprint(thunk) == before
    for change in (
        "sorted = lambda row: 1",
        "len = lambda row: 1",
        "def sorted(row): return 2",
        "del sorted",
        "del len",
    ):
        run(change, scope)
        assert is_true(thunk)
        assert (code_fingerprint(thunk) == before) is (change == "del len")


def test_d3_thunks_that_are_no_lambda() -> None:
    scope = notebook()
    for _ in range(2):
        for thunk in (
            functools.partial(scope["fetch"], "1"), scope["fetch"], scope["kept"], scope["wrapped"], scope["Shape"],
            scope["model"], scope["Kind"], len, functools.partial(len, "a"), textwrap.dedent, dict, "abc".upper,
        ):  # fmt: skip
            assert is_true(thunk)
            assert code_fingerprint(thunk) is code_fingerprint(thunk)
    run("Shape.area = lambda self: 2; Model.__call__ = lambda self, x: 3", scope)
    assert is_true(scope["Shape"])
    assert is_true(scope["model"])


@pytest.fixture
def etl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    file = tmp_path / "watched_etl.py"
    file.write_text("def helper(): return 1\ndef fetch(): return helper()\n")
    yield file
    sys.modules.pop("watched_etl", None)


def test_d1_a_module_loaded_anew_or_patched(etl: Path) -> None:
    scope = notebook("import watched_etl as etl\nthunk = lambda: (etl.fetch(), etl.later)")
    before = code_fingerprint(scope["thunk"])
    assert sorted(before) == ["", "fetch", "helper"]
    assert code_fingerprint(scope["thunk"]) is before
    etl.write_text("def helper(): return 2\ndef fetch(): return helper()\n")
    importlib.reload(scope["etl"])
    after = code_fingerprint(scope["thunk"])
    assert code_changes(before, after) == ["helper() was edited"]
    scope["twin"] = types.ModuleType("twin")
    for change in (
        "etl.later = lambda: 1", "etl.fetch = etl.later", "etl.fetch = 3", "del etl.fetch", "twin.fetch = lambda: 2",
        "etl, old = twin, etl", "etl = None",
    ):  # fmt: skip
        run(change, scope)
        assert is_true(scope["thunk"])


def test_d3_a_remembered_fingerprint_keeps_no_work_of_the_user_s_alive() -> None:
    scope = notebook(
        "class Big:\n    def __call__(self): return 1\n"
        "def hold(big):\n    def inner(): return big\n    return inner\n"
        "model, data = Big(), Big()\nheld = hold(data)\nclass Config: value = Big()\n"
        "def work(x=Big(), *, y=Big()): return x\n"
        "thunk = lambda z=Big(): (model(), held(), Config, work())"
    )
    thunk = scope["thunk"]
    values = [
        scope["model"], scope["data"], scope["Config"].value, *scope["work"].__defaults__,
        *scope["work"].__kwdefaults__.values(), *thunk.__defaults__,
    ]  # fmt: skip
    kept = [weakref.ref(value) for value in values]
    assert is_true(thunk)
    code = thunk.__code__
    del thunk, values
    scope.clear()
    gc.collect()
    assert code in drift_code._known
    assert [ref() for ref in kept] == [None] * 6


@pytest.mark.parametrize(
    "names",
    [
        "held = [1]\nthunk = lambda: held",
        "held = {0: 1}\nthunk = lambda: held",
        "held = [1]\ndef part(): return held\nthunk = lambda: part()",
        "def make(held): return lambda: held\nheld = [1]\nthunk = make(held)",
        "held = [1]\ndef part(given=held): return given\nthunk = lambda: part()",
        "held = [1]\ndef part(*, given=held): return given\nthunk = lambda: part()",
        "import types\nheld = [1]\nspace = types.SimpleNamespace(held=held)\nthunk = lambda: space.held",
    ],
)
def test_d3_a_function_put_where_a_plain_value_was_is_seen(names: str) -> None:
    scope = notebook(f"def spare(): return 2\n{names}")
    assert is_true(scope["thunk"])
    scope["held"][0] = scope["spare"]
    assert is_true(scope["thunk"])


@pytest.mark.parametrize(
    ("names", "edit"),
    [
        ("held = ()\nthunk = lambda: held", "held = (spare,)"),
        ("held = (1,)\ndef part(): return held\nthunk = lambda: part()", "held = (spare,)"),
        ("def make(held): return lambda: held\nthunk = make(())", "thunk.__closure__[0].cell_contents = (spare,)"),
        ("import types\nspace = types.SimpleNamespace(held=())\nthunk = lambda: space.held", "space.held = (spare,)"),
        ("thunk = lambda held=(): held", "thunk.__defaults__ = ((spare,),)"),
        ("def part(z=int): return z()\np = functools.partial(part)\nthunk = lambda: p()", "p.keywords['z'] = spare"),
    ],
)
def test_d3_a_tuple_or_a_partial_with_code_in_place_of_one_without_is_seen(names: str, edit: str) -> None:
    scope = notebook(f"import functools\ndef spare(): return 2\n{names}")
    assert is_true(scope["thunk"])
    run(edit, scope)
    assert is_true(scope["thunk"])
    run("def spare(): return 3", scope)
    run(edit, scope)
    assert is_true(scope["thunk"])


def test_d3_a_step_that_was_first_given_no_functions_tells_of_an_edited_one() -> None:
    workflow = create_workflow(cache={}, on_event=(told := RecordingListener()))
    scope = notebook("def b(): return 1\ndef make(fs): return lambda: [f() for f in fs]")

    def asked(key: str, names: str) -> Any:
        thunk = run(f"thunk = make(({names}))", scope)["thunk"]
        return workflow(lambda step: step(thunk, key=key)).value

    assert (asked("k1", ""), asked("k2", "b,")) == ([], [1])
    run("def b(): return 2", scope)
    assert asked("k2", "b,") == [1]
    assert [event.drift for event in told.of(StepHit)] == ["b() was edited"]


def test_d3_what_is_gone_is_not_taken_for_none() -> None:
    scope = notebook("def part(): return 1\nclass C:\n    f = part\nthunk = lambda: (part, C)")
    before = code_fingerprint(scope["thunk"])
    run("part = None; C.f = None", scope)
    gc.collect()
    assert code_fingerprint(scope["thunk"]) == look_anew(scope["thunk"]).code != before


def test_d3_what_is_remembered_is_bounded() -> None:
    scope = notebook("")
    for n in range(drift_code._MAX_KNOWN + 10):
        code_fingerprint(eval(f"lambda: {n}", scope))
    assert 0 < len(drift_code._known) <= drift_code._MAX_KNOWN
    make = run("def make(f): return lambda: f()", scope)["make"]
    thunks = [make(types.FunctionType((lambda: 1).__code__, scope)) for _ in range(10)]
    assert all(is_true(thunk) for thunk in thunks)
    assert len(drift_code._known[thunks[0].__code__]) == drift_code._MAX_WATCHES


def test_d3_threads_that_look_while_a_function_changes_end_with_the_truth() -> None:
    scope = notebook()

    def look(n: int) -> bool:
        if n % 5 == 0:
            run(f"def tidy(row): return row + {n}", scope)
        return set(code_fingerprint(scope["thunk"])) >= {"", "fetch", "tidy"}

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(look, range(400)))
    assert is_true(scope["thunk"])


EDITS = [*(change for change in CHANGES.values() if isinstance(change, str)), *AS_BEFORE.values()]
DEFINITIONS = [ast.unparse(node) for node in ast.parse(NOTEBOOK).body]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(EDITS + DEFINITIONS), min_size=1, max_size=12))
def test_d3_whatever_is_redefined_in_whatever_order(cells: list[str]) -> None:
    scope = notebook()
    run("def make(f): return lambda: f(1)", scope)
    for cell in cells:
        with contextlib.suppress(
            NameError, AttributeError, TypeError, KeyError
        ):  # an edit of what an earlier one took away
            run(cell, scope)
        assert is_true(scope["thunk"])
        for name in ("fetch", "tidy", "Shape", "model", "kept"):
            if name in scope:
                assert is_true(scope["make"](scope[name]))
                assert is_true(scope[name])


def test_d3_a_member_s_value_is_read_without_running_the_user_s_code() -> None:
    class Trap(enum.Enum):
        A = 1

        @property
        def value(self) -> int:
            raise AssertionError

    scope = notebook("thunk = lambda: Trap")
    Trap.__module__ = "__main__"
    scope["Trap"] = Trap
    assert sorted(code_fingerprint(scope["thunk"])) == ["", "Trap"]
