"""Layout, docstrings and annotations do not change a digest: tried on Python's own modules (D1)."""

from __future__ import annotations

import ast
import importlib
import types
from pathlib import Path
from typing import Any

import pytest

from nbstep.drift.bytecode import code_digest

MODULES = (
    "_pyio", "asyncio.base_events", "asyncio.selector_events", "dataclasses", "difflib", "dis", "enum", "getopt", "inspect",
    "platform", "shutil", "signal", "statistics", "subprocess", "tokenize", "tomllib._parser", "typing", "unittest.mock",
)  # fmt: skip


class _Plain(ast.NodeTransformer):
    """Takes docstrings and annotations out."""

    def _function(self, node: Any) -> Any:
        self.generic_visit(node)
        node.returns = None
        every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
        for argument in filter(None, every):
            argument.annotation = None
        return self._undocumented(node)

    visit_FunctionDef = visit_AsyncFunctionDef = _function

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        self.generic_visit(node)
        return self._undocumented(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        self.generic_visit(node)
        return ast.Pass() if node.value is None else ast.Assign([node.target], node.value)

    def _undocumented(self, node: Any) -> Any:
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return node


def _functions(code: types.CodeType, inside: str = "") -> dict[str, types.CodeType]:
    """All code in a module, by where it stands; that of type parameters is made of annotations."""
    found: dict[str, types.CodeType] = {}
    for at, constant in enumerate(c for c in code.co_consts if isinstance(c, types.CodeType)):
        name = f"{inside}{constant.co_name} {at}"
        if "<generic" not in name:
            found[name] = constant
            found |= _functions(constant, f"{name}/")
    return found


@pytest.mark.parametrize("name", MODULES)
def test_d1_laying_code_out_anew_does_not_count(name: str) -> None:
    text = Path(str(importlib.import_module(name).__file__)).read_text(encoding="utf-8")
    plain = ast.fix_missing_locations(_Plain().visit(ast.parse(text)))
    ours, anew = (_functions(compile(code, name, "exec")) for code in (text, ast.unparse(plain)))
    assert len(ours) > 5
    assert ours.keys() == anew.keys()
    assert [where for where in ours if code_digest(ours[where]) != code_digest(anew[where])] == []
