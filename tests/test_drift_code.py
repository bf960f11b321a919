"""The code fingerprint (E1, D1, D5): what counts as an edit, and what does not."""

from __future__ import annotations

import ast
import datetime
import functools
import importlib
import inspect
import os
import shutil
import subprocess
import sys
import textwrap
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from nbstep.deps import Deps
from nbstep.drift.bytecode import code_digest, compiled, constant_text, exact_bytes
from nbstep.drift.code import look_behind
from nbstep.drift.explain import code_changes
from nbstep.drift.handed import look_behind_call
from nbstep.drift.sourcetext import source_text
from nbstep.freezing import freeze


def code_fingerprint(thunk: object) -> Mapping[str, str]:
    return look_behind(thunk).code


def _thunk(source: str) -> Any:
    """`thunk` as a cell that holds `source` defines it."""
    scope: dict[str, Any] = {"__name__": "__main__", "functools": functools}
    exec(compile(textwrap.dedent(source), "<cell>", "exec"), scope)
    return scope["thunk"]


def _changes(before: str, after: str) -> list[str]:
    kept, now = look_behind(_thunk(before)), look_behind(_thunk(after))
    changes = code_changes(kept.code, now.code)
    assert not changes or kept.fingerprint.exact != now.fingerprint.exact
    return changes


BASE = '''
RATE = 2

def tidy(rows):
    """Tidies."""
    return [row * RATE for row in rows if row]

def load(n, scale=1):
    total = 0
    for i in range(n):
        try:
            total += i * scale
        except ValueError:
            total -= 1
    return tidy([total])

thunk = lambda: load(3)
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return tidy", "# a comment\n    return tidy"),
        ('"""Tidies."""', '"""Tidies the rows."""'),
        ('    """Tidies."""\n', ""),
        ("\nRATE", "\n\n\n\n\nRATE"),
        (
            "[row * RATE for row in rows if row]",
            "[\n        row * RATE\n        for row in rows\n        if row\n    ]",
        ),
        ("(n, scale=1)", "(n: int, scale: int = 1) -> list"),
        ("total = 0", "total: int = 0"),
        ("total += i * scale", "total += (i * scale)"),
        ("thunk = lambda: load(3)", "thunk = lambda: load(\n    3,\n)"),
        ("range(n):\n", "range(\n        n\n    ):\n\n"),
    ],
)
def test_e1_comments_layout_docstrings_and_annotations_do_not_count(old: str, new: str) -> None:
    assert old in BASE
    assert _changes(BASE, BASE.replace(old, new)) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("load(3)", "load(4)", ["the step was edited"]),
        ("i * scale", "i + scale", ["load() was edited"]),
        ("total = 0", "total = 1", ["load() was edited"]),
        ("scale=1", "scale=2", ["load() was edited"]),
        ("ValueError", "KeyError", ["load() was edited"]),
        ("if row]", "if not row]", ["tidy() was edited"]),
        ("row * RATE", "row * RATE * 1.5", ["tidy() was edited"]),
        ("            total += i * scale\n        except ValueError:\n            total -= 1",
         "            pass\n        except ValueError:\n            total -= 1\n        total += i * scale", ["load() was edited"]),
        ("return tidy([total])", "return [total]", ["load() was edited"]),
    ],
)  # fmt: skip
def test_e1_what_the_code_does_counts_wherever_it_stands(old: str, new: str, said: list[str]) -> None:
    assert old in BASE
    assert _changes(BASE, BASE.replace(old, new)) == said


def test_e1_the_value_of_a_global_is_an_input_not_code() -> None:
    assert _changes(BASE, BASE.replace("RATE = 2", "RATE = 3")) == []


def test_e1_a_guard_that_moves_counts_even_where_the_instructions_stay() -> None:
    inside = "def thunk():\n    try:\n        a()\n        b()\n    except ValueError:\n        c()"
    outside = "def thunk():\n    try:\n        a()\n    except ValueError:\n        c()\n    else:\n        b()"
    assert _changes(inside, outside) == ["the step was edited"]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            "class C:\n    RATE = 1\n    def f(self): return 1\nthunk = lambda: C().f()",
            "class C:\n    RATE = 2\n    def f(self): return 1\nthunk = lambda: C().f()",
            ["C() was edited"],
        ),
        (
            "class C:\n    @property\n    def f(self): return 1\nthunk = lambda: C().f",
            "class C:\n    @property\n    def f(self): return 2\nthunk = lambda: C().f",
            ["C() was edited"],
        ),
        (
            "class B:\n    def f(self): return 1\nclass C(B): pass\nthunk = lambda: C().f()",
            "class B:\n    def f(self): return 2\nclass C(B): pass\nthunk = lambda: C().f()",
            ["B() was edited"],
        ),
        (
            "class C:\n    def f(self): return self.g()\n    def g(self): return 1\nc = C()\nthunk = c.f",
            "class C:\n    def f(self): return self.g()\n    def g(self): return 2\nc = C()\nthunk = c.f",
            ["C() was edited"],
        ),
        (
            "class C:\n    def f(self): return 1\nc = C()\nthunk = lambda: c.f()",
            "class C:\n    def f(self): return 2\nc = C()\nthunk = lambda: c.f()",
            ["C() was edited"],
        ),
        (
            "class C:\n    def __call__(self): return 1\nthunk = C()",
            "class C:\n    def __call__(self): return 2\nthunk = C()",
            ["the step was edited"],
        ),
        (
            "import enum\nclass E(enum.Enum):\n    A = 1\nthunk = lambda: E.A",
            "import enum\nclass E(enum.Enum):\n    A = 2\nthunk = lambda: E.A",
            ["E() was edited"],
        ),
        (
            "def deco(f):\n    @functools.wraps(f)\n    def wrapper(): return f() + 1\n    return wrapper\n"
            "@deco\ndef g(): return 1\nthunk = lambda: g()",
            "def deco(f):\n    @functools.wraps(f)\n    def wrapper(): return f() + 2\n    return wrapper\n"
            "@deco\ndef g(): return 1\nthunk = lambda: g()",
            ["g() was edited"],
        ),
        (
            "@functools.lru_cache\ndef g(): return 1\nthunk = lambda: g()",
            "@functools.lru_cache\ndef g(): return 2\nthunk = lambda: g()",
            ["g() was edited"],
        ),
        (
            "class C:\n    @functools.lru_cache\n    def f(self): return 1\nthunk = lambda: C().f()",
            "class C:\n    @functools.lru_cache\n    def f(self): return 2\nthunk = lambda: C().f()",
            ["C() was edited"],
        ),
        (
            "def deco(f):\n    @functools.wraps(f)\n    def wrapper(): return f() + 1\n    return wrapper\n"
            "@functools.lru_cache\n@deco\ndef g(): return 1\nthunk = lambda: g()",
            "def deco(f):\n    @functools.wraps(f)\n    def wrapper(): return f() + 2\n    return wrapper\n"
            "@functools.lru_cache\n@deco\ndef g(): return 1\nthunk = lambda: g()",
            ["g() was edited"],
        ),
        ("g = lambda: 1\nthunk = lambda: g()", "g = lambda: 2\nthunk = lambda: g()", ["g() was edited"]),
        (
            "def g(x): return 1\nh = functools.partial(g, 1)\nthunk = lambda: h()",
            "def g(x): return 2\nh = functools.partial(g, 1)\nthunk = lambda: h()",
            ["g() was edited"],
        ),
        ("def g(): return 1\nthunk = lambda: g()", "def g(): return 1\nthunk = lambda: g() + 1", ["the step was edited"]),
        ("import json\nthunk = json.dumps", "import json\nthunk = json.loads", ["the step was edited"]),
        ("thunk = len", "thunk = sum", ["the step was edited"]),
        ("thunk = lambda: {'a', 'b', 1}", "thunk = lambda: {'a', 'b', 2}", ["the step was edited"]),
        ("thunk = lambda: (1, True)", "thunk = lambda: (1, 1)", ["the step was edited"]),
    ],
)  # fmt: skip
def test_e1_edits_of_classes_decorators_and_lambdas_are_named(before: str, after: str, said: list[str]) -> None:
    assert _changes(before, after) == said
    assert _changes(before, before) == []


def test_e1_two_functions_of_one_name_both_count() -> None:
    first = "def make(n):\n    def part(): return n\n    return part\nclass A:\n    def f(self): return 1\na, b = make(1), A()\n"
    source = first + "class A:\n    def f(self): return 2\nc = A()\nthunk = lambda: (a(), b.f(), c.f())"
    assert _changes(source, source.replace("return 1\n", "return 3\n")) == ["A() was edited"]
    assert _changes(source, source.replace("return 2\n", "return 3\n")) == ["A() was edited"]


def test_e1_a_helper_that_comes_or_goes_is_named() -> None:
    now = {"": "3.11:a", "tidy": "3.11:b"}
    assert code_changes({"": "3.11:a"}, now) == ["tidy() is used now"]
    assert code_changes(now, {"": "3.11:a"}) == ["tidy() is no longer used"]


def test_d5_another_python_is_no_drift() -> None:
    assert code_changes({"": "3.11:a"}, {"": "3.12:b"}) == []


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert code_changes({}, {"": "3.11:a"}) == []
    assert code_changes({"": "3.11:a"}, {}) == []


def test_d1_a_function_of_a_users_module_is_followed_through_dots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    prints = []
    for n in (1, 2):
        package = tmp_path / f"etl{n}"
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "load.py").write_text(f"def helper():\n    return {n}\ndef fetch():\n    return helper()\n")
        prints.append(code_fingerprint(_thunk(f"import etl{n}.load\netl = etl{n}\nthunk = lambda: etl.load.fetch()")))
    assert sorted(prints[0]) == ["", "fetch", "helper"]
    assert code_changes(*prints) == ["helper() was edited"]


def test_d5_moving_a_function_to_a_module_is_no_drift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "moved_helpers.py").write_text("\n\ndef tidy(x):\n    return x + 1\n")
    before = "def tidy(x):\n    return x + 1\nthunk = lambda: tidy(1)"
    assert _changes(before, "from moved_helpers import tidy\nthunk = lambda: tidy(1)") == []


def test_d5_moving_the_step_into_a_function_is_no_drift() -> None:
    in_a_cell = "def fetch(uid): return uid\nuid = 1\nthunk = lambda: fetch(uid)"
    in_a_function = (
        "def fetch(uid): return uid\ndef main():\n    uid = 1\n    return lambda: fetch(uid)\nthunk = main()"
    )
    assert _changes(in_a_cell, in_a_function) == []


def test_installed_packages_count_by_name_only() -> None:
    assert list(code_fingerprint(_thunk("import json\nthunk = lambda: json.dumps([1])"))) == [""]


def test_a_frozen_thunk_has_the_fingerprint_of_its_original() -> None:
    thunk = _thunk(BASE)
    assert code_fingerprint(freeze(thunk)) == code_fingerprint(thunk)


def test_recursion_ends() -> None:
    thunk = _thunk("def even(n): return n == 0 or odd(n - 1)\ndef odd(n): return even(n)\nthunk = lambda: even(4)")
    assert sorted(code_fingerprint(thunk)) == ["", "even", "odd"]


def test_no_code_of_the_users_runs() -> None:
    thunk = _thunk(
        "class Trap:\n    def __getattr__(self, name): raise AssertionError(name)\n"
        "trap = Trap()\nthunk = lambda: trap.fetch()"
    )
    assert sorted(code_fingerprint(thunk)) == ["", "Trap"]


def test_d5_fingerprints_are_stable_across_processes_and_hash_seeds() -> None:
    program = textwrap.dedent(
        """
        import json
        from nbstep.drift.code import look_behind
        class Shape:
            KINDS = frozenset({"a", "b", "c"})
            def area(self, kind="x", *, mark=("p", "q")):
                return kind in {"square", "circle", "line", 1, None}
        def fetch(uid, client=object()):
            return [Shape().area() for _ in {"x", "y", "z"}]
        seen = look_behind(lambda: fetch({"k": 1}))
        print(json.dumps([seen.fingerprint.exact, *seen.code.items()]))
        """
    )
    prints = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "77")
    }  # fmt: skip
    assert len(prints) == 1
    assert '"fetch"' in prints.pop()


def test_the_source_is_shown_where_there_is_one() -> None:
    assert source_text(test_recursion_ends) is not None
    assert str(source_text(_changes)).startswith("def _changes(")
    assert source_text(_thunk(BASE)) is None
    assert source_text(len) == "builtins.len"
    assert source_text(shutil.copyfile) == source_text(functools.partial(shutil.copyfile, "a")) == "shutil.copyfile"
    assert len(str(source_text(test_e1_edits_of_classes_decorators_and_lambdas_are_named, limit=20))) <= 20


def test_a_digest_is_of_one_code_object() -> None:
    first, second = (compile("x = 1", f"<{n}>", "exec") for n in "ab")
    assert code_digest(first) == code_digest(second)
    assert code_digest(first) != code_digest(compile("x = 2", "<a>", "exec"))


def test_d1_code_that_only_moved_is_told_by_what_python_compiled() -> None:
    moved = "\n\n" + BASE.replace("total = 0", "total = (  # a comment\n        0\n    )")
    seen = [look_behind(_thunk(source)) for source in (BASE, moved)]
    assert seen[0].code == seen[1].code
    assert seen[0].fingerprint.exact == seen[1].fingerprint.exact


LIKE_ONE = (
    "1",
    "True",
    "1.0",
    "1 + 0j",
    "'1'",
    "b'1'",
    "(1,)",
    "(True,)",
    "(1.0,)",
    "x in {1}",
    "x in {True}",
    "x in {1, 2}",
)
LIKE_ZERO = (
    "0.0",
    "-0.0",
    "(0.0,)",
    "(-0.0,)",
    "lambda: 0.0",
    "lambda: -0.0",
    "None",
    "[]",
    "()",
    "...",
    "lambda: None",
)


@pytest.mark.parametrize("place", ["thunk = lambda x=0: {0}", "part = lambda x: {0}\nthunk = lambda: part(1)"])
@pytest.mark.parametrize("values", [LIKE_ONE, LIKE_ZERO])
def test_d1_constants_that_are_equal_but_not_the_same_count(place: str, values: tuple[str, ...]) -> None:
    seen = [look_behind(_thunk(place.format(value))) for value in values]
    assert len({one.fingerprint.exact for one in seen}) == len(values)
    assert len({str(one.code) for one in seen}) == len(values)


def test_d1_which_of_two_constants_is_code_counts() -> None:
    first, second = (_thunk(f"thunk = lambda: {text}") for text in ("(lambda: 1, 'a')", "('a', lambda: 1)"))
    assert look_behind(first).fingerprint.exact != look_behind(second).fingerprint.exact


def test_d5_who_else_holds_a_constant_does_not_count() -> None:
    code = _thunk("thunk = lambda: ('a text', 123456.5, b'bytes', 1 << 40, thunk.part)").__code__
    before = exact_bytes(compiled(code))
    held = [*code.co_consts]
    assert [sys.intern(text) for text in held if isinstance(text, str)] == ["a text"]
    assert exact_bytes(compiled(code)) == before


def test_a_constant_that_python_does_not_write_counts_by_its_text() -> None:
    codes = [_thunk("thunk = lambda: 1").__code__.replace(co_consts=(None, datetime.date(2026, 1, n))) for n in (1, 2)]
    told = [exact_bytes([compiled(code)]) for code in codes]
    assert told[0] != told[1]
    assert all(constant_text(code.co_consts[1]).encode() in one for code, one in zip(codes, told, strict=True))


MODULES = (
    "argparse",
    "configparser",
    "csv",
    "dataclasses",
    "difflib",
    "json.decoder",
    "json.encoder",
    "textwrap",
    "zipfile",
)


def _functions(code: types.CodeType, path: str = "") -> Iterator[tuple[str, types.CodeType]]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield f"{path}{constant.co_name}", constant
            yield from _functions(constant, f"{path}{constant.co_name}.")


def _source(module: str) -> str:
    return inspect.getsource(importlib.import_module(module))


@pytest.mark.parametrize("module", MODULES)
def test_e1_real_code_laid_out_anew_keeps_its_digests(module: str) -> None:
    source = _source(module)
    before = dict(_functions(compile(source, "before", "exec")))
    after = dict(_functions(compile(ast.unparse(ast.parse(source)), "after", "exec")))
    assert before.keys() == after.keys()
    assert [name for name in before if code_digest(before[name]) != code_digest(after[name])] == []


def test_e1_real_code_that_was_compiled_alike_has_one_digest() -> None:
    digests: dict[bytes, set[bytes]] = {}
    for module in MODULES:
        for source in (_source(module), ast.unparse(ast.parse(_source(module)))):
            for _, code in _functions(compile(source, module, "exec")):
                digests.setdefault(exact_bytes(compiled(code)), set()).add(code_digest(code))
    assert len(digests) > 500
    assert all(len(found) == 1 for found in digests.values())


@pytest.mark.parametrize("module", MODULES)
def test_e1_functions_that_share_a_digest_are_the_same_but_for_name_and_docstring(module: str) -> None:
    tree = ast.parse(_source(module))
    texts: dict[bytes, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and not node.decorator_list and "nonlocal" not in ast.unparse(node):
            scope: dict[str, Any] = {}
            for argument in ast.walk(node.args):
                if isinstance(argument, ast.arg):
                    argument.annotation = None
            node.returns = None
            node.args.defaults, node.args.kw_defaults = [], [None] * len(node.args.kwonlyargs)
            if ast.get_docstring(node) is not None:
                node.body = node.body[1:] or [ast.Pass()]
            node.name = "f"
            exec(compile(ast.Module([node], []), module, "exec"), scope)
            texts.setdefault(code_digest(scope["f"].__code__), set()).add(ast.unparse(node))
    assert len(texts) > 3
    assert [same for same in texts.values() if len(same) > 1 and len({_plainer(text) for text in same}) > 1] == []


def _plainer(text: str) -> str:
    """Two spellings of one program: `pass` alone, `return None` and nothing at the end."""
    return text.replace("return None", "return").removesuffix("\n    return").removesuffix("pass").rstrip()


@pytest.mark.parametrize("thunk", ["lambda: deps.fetch('1')", "lambda: deps['fetch']('1')", "lambda: space.fetch('1')"])
def test_e1_a_function_reached_through_deps_counts(thunk: str) -> None:
    def found(body: str) -> Any:
        scope: dict[str, Any] = {"__name__": "__main__", "Deps": Deps, "SimpleNamespace": types.SimpleNamespace}
        exec(
            f"def fetch(uid):\n    return {body}\ndeps = Deps({{'fetch': fetch}})\nspace = SimpleNamespace(fetch=fetch)",
            scope,
        )
        thunks.append(eval(thunk, scope))
        return code_fingerprint(thunks[-1])

    thunks: list[Any] = []
    first, same, other = found("uid"), found("uid"), found("uid + 'x'")
    assert first == same
    assert code_changes(first, other) == ["fetch() was edited"]


def test_e1_a_function_put_into_deps_later_is_seen() -> None:
    scope: dict[str, Any] = {"__name__": "__main__", "deps": Deps({})}
    exec("def one(): return 1\ndef two(): return 2\ndeps['f'] = one\nthunk = lambda: deps.f()", scope)
    before = code_fingerprint(scope["thunk"])
    scope["deps"]["f"] = scope["two"]
    assert code_fingerprint(scope["thunk"]) != before


def test_e1_what_methods_set_on_their_class_is_state_not_code() -> None:
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(
        "class Api:\n    _client = None\n    calls = 0\n    limit = 3\n    def get(self):\n        Api.calls += 1\n"
        "        if Api._client is None:\n            Api._client = 'made'\n        return self.limit\napi = Api()\n"
        "thunk = lambda: api.get()",
        scope,
    )
    before = code_fingerprint(scope["thunk"])
    scope["thunk"]()
    assert code_fingerprint(scope["thunk"]) == before
    scope["Api"].limit = 4
    assert code_changes(before, code_fingerprint(scope["thunk"])) == ["Api() was edited"]


MODELS = {
    "a default of a pydantic model": "class Settings(pydantic.BaseModel):\n    pages: int = {}",
    "a default in a field of one": "class Settings(pydantic.BaseModel):\n    pages: int = pydantic.Field({}, ge=0)",
    "what makes a default of one": (
        "class Settings(pydantic.BaseModel):\n    pages: int = pydantic.Field(default_factory=lambda: {})"
    ),
    "a default of an attrs class": "@attrs.define\nclass Settings:\n    pages: int = {}",
    "what makes a default of one of those": "@attrs.define\nclass Settings:\n    pages: int = attrs.Factory(lambda: {})",
}


@pytest.mark.parametrize("text", MODELS.values(), ids=MODELS)
def test_d1_the_default_of_a_declared_field_counts(text: str) -> None:
    pytest.importorskip("attrs")
    pytest.importorskip("pydantic")
    cell = f"import attrs, pydantic\n{text}\nthunk = lambda: Settings().pages"
    assert _changes(cell.format(1), cell.format(1)) == []
    assert _changes(cell.format(1), cell.format(2)) == ["Settings() was edited"]


def test_d1_a_function_that_is_handed_over_counts_as_python_compiled_it() -> None:
    apply, one, two = (_thunk(f"def thunk(x): return {text}") for text in ("x(1)", "x + 1", "x + 2"))
    alone, first, again, other = (look_behind_call(apply, args) for args in ((), (one,), (one,), (two,)))
    assert first.fingerprint.exact == again.fingerprint.exact
    assert len({seen.fingerprint.exact for seen in (alone, first, other)}) == 3
    assert len({str(seen.code) for seen in (alone, first, other)}) == 3
