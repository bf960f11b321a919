"""What code names, read without `dis`: it must say the same on every Python."""

from __future__ import annotations

import dis
import importlib
import inspect
import types
from collections.abc import Iterator

import pytest

from nbstep.operations import operations

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
