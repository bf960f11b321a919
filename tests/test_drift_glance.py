"""A glance (D1, D3): the digest that a look gives, each change seen at the next check; or it says nothing."""

from __future__ import annotations

import ast
import contextlib
import gc
import sys
import types
import weakref
from pathlib import Path
from typing import Any

import pytest

from nbstep.drift import code as drift_code
from nbstep.drift.code import look_anew, look_behind
from nbstep.drift.glance import Glance, glance
from tests.drift.corpus import read_pairs, write_side
from tests.test_drift_watch import Scope, notebook, run

PAIRS = read_pairs()


def _anew(_part: object) -> bool:
    return False


class _Step:
    """Stands for the step function of a cell: notes each thunk, and runs it."""

    def __init__(self) -> None:
        self.thunks: list[Any] = []

    def __call__(self, thunk: Any, *args: Any, **options: Any) -> Any:
        self.thunks.append(thunk)
        return thunk(*args)

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **options: self(*args)


def _thunks(cell: str) -> list[Any]:
    step = _Step()
    scope: Scope = {"__name__": "__main__", "step": step}
    for statement in ast.parse(cell).body:
        with contextlib.suppress(Exception):
            exec(compile(ast.Module([statement], []), "<cell>", "exec"), scope)
    return step.thunks


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_d1_a_glance_at_each_cell_of_the_corpus_gives_the_digest_of_a_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = 0
    for number, pair in PAIRS.items():
        folder = tmp_path / number
        for files in (pair.before, pair.after):
            write_side(folder, files)
            monkeypatch.chdir(folder)
            known = set(sys.modules)
            sys.path.insert(0, str(folder))
            for thunk in _thunks((folder / "cell.py").read_text(encoding="utf-8")):
                found = glance(thunk, _anew) if isinstance(thunk, types.FunctionType) else None
                if found is not None:
                    told += 1
                    assert found.exact == look_anew(thunk).fingerprint.exact, (pair.name, files)
                    assert found.watch.holds(thunk), pair.name
            sys.path.remove(str(folder))
            for name in set(sys.modules) - known:
                if str(folder) in (getattr(sys.modules[name], "__file__", None) or ""):
                    del sys.modules[name]
    assert told > len(PAIRS)


def _forget() -> None:
    for kept in (drift_code._known, drift_code._parts, drift_code._behind):
        kept.clear()


def _is_glanced(thunk: Any) -> bool:
    _forget()
    exact = look_behind(thunk).fingerprint.exact
    glanced = any(isinstance(one, Glance) for one in drift_code._known.get(thunk.__code__, ()))
    assert exact == look_anew(thunk).fingerprint.exact
    return glanced


SMALL = """
class Base: pass
class User(Base):
    KIND, N, NONE = "user", (1, 2), None
    def __init__(self, row): self.row = row
    def name(self): return self.row["name"].title()
def tidy(row, cut=1, *, deep=True): return [x for x in row if x != LIMIT and x != cut]
def make(n):
    def inside(row): return row * n
    return inside
inside = make(2)
LIMIT, UNSET = 3, None
def more(): return inside(1)
def fetch(uid): return User(tidy([uid])), more(), UNSET
thunk = lambda: fetch(1)
"""
EDITS = {
    "a helper redefined": "def tidy(row, cut=1, *, deep=True): return row",
    "a helper redefined while the old one lives": "old = tidy\ndef tidy(row): return row",
    "a class redefined while the old one lives": "old = User\nclass User: pass",
    "the function called redefined": "def fetch(uid): return 1",
    "a helper's code replaced": "tidy.__code__ = (lambda row, cut, *, deep: row).__code__",
    "a helper without defaults given other code": "fetch.__code__ = (lambda uid: uid).__code__",
    "a default changed": "tidy.__defaults__ = (2,)",
    "a default of another type": "tidy.__defaults__ = (True,)",
    "defaults given to a function that had none": "fetch.__defaults__ = (2,)",
    "a named default changed": "tidy.__kwdefaults__['deep'] = False",
    "a helper renamed": "tidy.__qualname__ = 'clean'",
    "a function without defaults renamed": "fetch.__qualname__ = 'get'",
    "a class attribute changed": "User.KIND = 'admin'",
    "a class attribute that is None": "User.NONE = 1",
    "a class attribute in a tuple": "User.N = (1, 3)",
    "a class attribute added": "User.more = 1",
    "a method replaced": "User.name = lambda self: 1",
    "a method's code replaced": "User.name.__code__ = (lambda self: 1).__code__",
    "a method given a default": "User.name.__defaults__ = (1,)",
    "a method becomes a property": "User.name = property(User.name)",
    "a class renamed": "User.__qualname__ = 'Person'",
    "another base": "class Other: pass\nUser.__bases__ = (Other,)",
    "a base's method": "Base.more = lambda self: 1",
    "a global becomes a function": "def LIMIT(): return 1",
    "a global becomes a class": "class LIMIT: pass",
    "a global becomes a list of functions": "LIMIT = [make]",
    "None becomes a function": "UNSET = make",
    "a name becomes bound": "def title(): return 1\ndef later(): return 1\ndef row(): return 1",
    "a name of attributes becomes bound": "def title(): return 1",
    "a name is no longer bound": "del tidy",
    "a function becomes a value": "tidy = 3",
    "a function swapped for another": "tidy = fetch",
    "a cell of another value": "inside.__closure__[0].cell_contents = make",
    "the namespace becomes another's": "__name__ = 'json'",
}


@pytest.mark.parametrize("name", EDITS)
def test_d3_after_a_glance_an_edit_is_seen_at_the_next_check(name: str) -> None:
    scope = notebook(SMALL)
    thunk = scope["thunk"]
    assert _is_glanced(thunk)
    before = look_behind(thunk).fingerprint.exact
    run(EDITS[name], scope)
    now = look_behind(thunk).fingerprint.exact
    assert now == look_anew(thunk).fingerprint.exact
    assert (now == before) == (name in ("a name becomes bound", "a name of attributes becomes bound"))
    scope = notebook(SMALL.replace("UNSET\nthunk", "UNSET, later, title\nthunk"))
    assert _is_glanced(scope["thunk"])
    run(EDITS[name], scope)
    assert look_behind(scope["thunk"]).fingerprint.exact == look_anew(scope["thunk"]).fingerprint.exact


def test_d3_a_glance_holds_while_nothing_changes_also_for_the_lambda_of_a_loop() -> None:
    scope = notebook(SMALL)
    run("loop = [(lambda: fetch(1)) for _ in range(2)]", scope)
    first, second = scope["loop"]
    assert _is_glanced(first)
    known = drift_code._known[first.__code__]
    exact = look_behind(first).fingerprint.exact
    run("LIMIT, unread = 4, 1", scope)
    assert look_behind(second).fingerprint.exact == look_behind(first).fingerprint.exact == exact
    assert drift_code._known[first.__code__] is known


def test_d3_after_a_glance_a_namespace_that_is_no_longer_the_user_s_is_seen() -> None:
    scope = notebook("def f(): return 1\nthunk = lambda: f()")
    assert _is_glanced(scope["thunk"])
    scope["__name__"] = "json"
    assert look_behind(scope["thunk"]).fingerprint.exact == look_anew(scope["thunk"]).fingerprint.exact


def test_d3_a_glance_at_one_code_object_in_two_namespaces() -> None:
    one, other = notebook(SMALL), notebook(SMALL)
    run("def tidy(row): return 1", other)
    thunk = types.FunctionType(one["thunk"].__code__, other)
    assert _is_glanced(one["thunk"])
    for _ in range(2):
        assert look_behind(thunk).fingerprint.exact == look_anew(thunk).fingerprint.exact
        assert look_behind(thunk).fingerprint.exact != look_behind(one["thunk"]).fingerprint.exact
    shared = types.FunctionType(one["thunk"].__code__, {"__name__": "__main__", "fetch": one["fetch"]})
    assert look_behind(shared).fingerprint.exact == look_anew(shared).fingerprint.exact
    run("def tidy(row): return 2", one)
    assert look_behind(shared).fingerprint.exact == look_anew(shared).fingerprint.exact


AS_IN_A_LOOK = {
    "a global of an attribute's name": "def title(): return 1\ndef f(x): return x.title()\nthunk = lambda: f('a')",
    "a class in an annotation": "class A: pass\ndef f():\n    def g(x: A): return x\n    return g\nthunk = lambda: f()",
    "annotations that a function sets": "def A(): return 1\ndef f():\n    __annotations__['x'] = A\nthunk = lambda: f()",
    "a cell and a global of one name": "def make(t):\n    def f():\n        def g():\n            global t\n"
    "            return t()\n        return t, g\n    return f\nf = make(1)\ndef t(): return 2\nthunk = lambda: f()",
    "a class that seems to declare fields": "class C: __attrs_attrs__ = ('a',)\nthunk = lambda: C",
    "a function with cases": "import types\ndef make(n):\n    def g(): return n\n    return g\ndef case(): return 1\ng = make(1)\n"
    "g.registry = types.MappingProxyType({1: case})\nthunk = lambda: g()",
    "an installed function": "from textwrap import dedent\nthunk = lambda: dedent('a')",
    "a lambda that only calls": "def f(x): return x\ndef g(): return 2\nx = 1\nthunk = lambda: f(x)",
    "a counter of a class": "class C:\n    n = 0\n    def f(self): C.n += 1\nthunk = lambda: C",
    "no name at all": "thunk = lambda: 1",
}


@pytest.mark.parametrize("name", AS_IN_A_LOOK)
def test_d1_a_glance_takes_names_for_what_a_look_takes_them_for(name: str) -> None:
    assert _is_glanced(notebook(AS_IN_A_LOOK[name])["thunk"])


ODD = {
    "a function leads back to itself": "def thunk(): return thunk",
    "the thunk is a method of a class of more than functions": "class C: x = [1]\nthunk = lambda: C\nC.f = thunk",
    "the thunk leads back to itself": "thunk = lambda: thunk",
    "the thunk is a method of a class that it names": "class C: pass\nthunk = lambda: C\nC.f = thunk",
    "two functions of one name": "def a():\n    def f(): return 1\n    return f\ndef b():\n    def f(): return 2\n    return f\n"
    "f, g = a(), b()\nthunk = lambda: (f, g)",
    "a function without a name": "f = lambda: 1\nthunk = lambda: f()",
    "a default of the thunk": "thunk = lambda x=1: x",
    "many functions": "".join(f"def f{n}(): return {n}\n" for n in range(9))
    + f"thunk = lambda: ({'f%d, ' * 9})" % tuple(range(9)),
}


@pytest.mark.parametrize("name", ODD)
def test_d1_where_a_glance_cannot_tell_it_says_nothing(name: str) -> None:
    assert not _is_glanced(notebook(ODD[name])["thunk"])


def test_d3_the_inputs_of_a_glance_are_those_of_a_look() -> None:
    scope = notebook(
        SMALL + "rows, text = [1], 'a'\ndef more(): return rows, text, LIMIT\nthunk = lambda: (more(), fetch(text))\n"
    )
    assert _is_glanced(scope["thunk"])
    seen = look_behind(scope["thunk"])
    compared = {source.label for source in seen.found.compared.inputs}
    assert compared == {source.label for source in seen.settled().sources.inputs} == {"LIMIT", "UNSET", "rows", "text"}


def test_d3_a_glance_keeps_no_work_of_the_user_s_alive() -> None:
    scope = notebook(
        SMALL
        + "class Big:\n    def __call__(self): return 1\nbig, data = Big(), [Big()]\nthunk = lambda: (fetch(1), big())"
    )
    kept = [weakref.ref(scope["big"]), weakref.ref(scope["data"][0]), weakref.ref(scope["fetch"])]
    thunk = scope["thunk"]
    code = thunk.__code__
    assert _is_glanced(thunk)
    del thunk
    drift_code._parts.clear()
    drift_code._behind.clear()
    scope.clear()
    gc.collect()
    assert code in drift_code._known
    assert [one() for one in kept] == [None] * 3


def test_d3_inputs_of_one_name_are_told_apart_as_a_look_does() -> None:
    scope = notebook(
        "x = 1\ndef f(): return x\ndef make(x):\n    def g(): return x\n    return g\ng = make(2)\nthunk = lambda: (f(), g())"
    )
    assert _is_glanced(scope["thunk"])
    seen = look_behind(scope["thunk"])
    compared = [(source.label, source.cell) for source in seen.found.compared.inputs]
    assert compared == [(source.label, source.cell) for source in seen.settled().sources.inputs]
