"""What code names, read without `dis`: it must say the same on every Python."""

from __future__ import annotations

import dis
import importlib
import inspect
import types
from collections.abc import Iterator

import pytest

from nbstep.operations import (
    ANNOTATED,
    ATTRIBUTES,
    GLOBALS,
    NAMES,
    Names,
    attributes_set,
    class_attributes_set,
    mentioned,
    names_in,
    operations,
)

NAMED = {*dis.hasname, *dis.hasconst, *dis.haslocal, *dis.hasfree}
MODULES = (
    "argparse", "asyncio.base_events", "dataclasses", "decimal", "enum", "functools", "json.decoder", "statistics", "typing",
    "test.support", "unittest.mock", "zipfile",
)  # fmt: skip


def _all_code(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _all_code(constant)


def _by_dis(code: types.CodeType) -> list[tuple[str, object]]:
    told = [one for one in dis.get_instructions(code) if one.opname not in {"CACHE", "EXTENDED_ARG"}]
    return [(one.opname, one.argval if one.opcode in NAMED and one.opname != "KW_NAMES" else None) for one in told]


def _source(module: str) -> str:
    return inspect.getsource(importlib.import_module(module))


MANY = "".join(f"v{n} = name{n}.part{n}, {n}.5\n" for n in range(300))


@pytest.mark.parametrize("source", [*map(_source, MODULES), MANY], ids=[*MODULES, "more names than fit into a byte"])
def test_operations_are_those_that_dis_tells(source: str) -> None:
    for code in _all_code(compile(source, "<code>", "exec")):
        told = _by_dis(code)
        found = operations(code)
        assert [name for name, _ in found] == [name for name, _ in told]
        pairs = zip(found, told, strict=True)
        assert [(one, other) for one, other in pairs if other[1] is not None and repr(one) != repr(other)] == []


def _names_by_operations(code: types.CodeType) -> Names:
    """What `names_in` says, told one operation after the other."""
    read: list[str] = []
    written: list[str] = []
    cells: list[str] = []
    paths: list[list[str]] = []
    path, key, annotated = list[str](), None, "__annotations__" in code.co_names
    for name, value in operations(code):
        if name == "PUSH_NULL":
            continue
        if name in NAMES:
            path, key = [value], None
            paths.append(path)
            read += [value] if name in GLOBALS else []
        elif name in ATTRIBUTES and path and key is None:
            path.append(value)
        elif name == "LOAD_CONST" and path and key is None and type(value) is str:
            key = value
        elif (name, value) == SUBSCRIPT and path and key is not None:
            path.append(key)
            key = None
        else:
            path = []
            written += [value] if name in ("STORE_GLOBAL", "DELETE_GLOBAL") else []
            cells += [value] if name in ("STORE_DEREF", "DELETE_DEREF") else []
            annotated |= name in ("MAKE_FUNCTION", "SET_FUNCTION_ATTRIBUTE") and bool(value & ANNOTATED)
    for nested in (one for one in code.co_consts if isinstance(one, types.CodeType)):
        told = _names_by_operations(nested)
        read += told.globals
        paths += [list(one) for one in told.paths]
        written += told.written_globals
        cells += [one for one in told.written_cells if one in nested.co_freevars]
        annotated |= told.annotated
    distinct = tuple(dict.fromkeys(map(tuple, paths)))
    return Names(tuple(dict.fromkeys(read)), frozenset(written), frozenset(cells), distinct, annotated)


SUBSCRIPT = operations(compile("a[b]", "<code>", "eval"))[-2]
KEYS = """
def f(deps, uid: int, *rest):
    global made
    made = deps["a"]["b"].c, other["x"].y["z"][0]["w"], other["x"][uid]["y"], (other, "x"), other["x", "y"]
    def g(row: 'text') -> more.kind: return lambda: (deps, uid["k"], row["l"].m)
    class Inner(base.Base):
        kind: str = thing.name["n"]
    try:
        del made
    except errors["odd"].Error as error:
        return error.args
    finally:
        last["one"]()
"""


@pytest.mark.parametrize("source", [*map(_source, MODULES), MANY, KEYS], ids=[*MODULES, "many", "keys"])
def test_names_are_those_that_the_operations_tell(source: str) -> None:
    for code in _all_code(compile(source, "<code>", "exec")):
        told = names_in(code)
        assert told == _names_by_operations(code)
        assert {*told.globals, *told.written_globals} <= {*mentioned(code)}
        assert attributes_set(code) == {
            value for one in _all_code(code) for name, value in operations(one) if name == "STORE_ATTR"
        }


def test_a_class_in_a_function_reads_the_cells_of_that_function() -> None:
    def make(helper: object) -> object:
        def work() -> type:
            class Made:
                value = helper

            return Made

        return work

    work = make(1)
    assert isinstance(work, types.FunctionType)
    assert ("helper",) in names_in(work.__code__).paths


def test_what_methods_set_on_their_object_leaves_the_class_as_it_is() -> None:
    class Api:
        def __init__(self, rate: int) -> None:
            self.rate, self.size = rate, 2

        def count(self) -> None:
            self.n: int = getattr(self, "n", 0) + 1
            type(self).asked += 1  # pyright: ignore

        def reset(self, other: Api) -> None:
            other.kept = 1  # pyright: ignore

    codes = [Api.__init__.__code__, Api.count.__code__, Api.reset.__code__]
    assert [sorted(class_attributes_set(code)) for code in codes] == [[], ["asked"], ["kept"]]
    assert [sorted(attributes_set(code)) for code in codes] == [["rate", "size"], ["asked", "n"], ["kept"]]
