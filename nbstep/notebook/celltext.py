"""What `%%workflow` and `%%step` do to a cell's text: its first line becomes a call, the body stays as it was written. Pure."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

from nbstep.errors import CellStopped
from nbstep.notebook import late

_HEAD: Final = re.compile(r"(?:#[ \t]*)?%%(?P<magic>workflow|step)(?=\s|\Z)[ \t]*(?P<line>[^\n]*)\n?\Z")
_COMMENT: Final = re.compile(r"\s*(?:#.*)?$")
_RUNNER: Final = "nbstep.notebook.calls"
_CALL: Final = f"__import__({_RUNNER!r}, fromlist=['begin'])"
_BEGINS: Final = {"workflow": "begin", "step": "begin_step"}


def transform(lines: list[str]) -> list[str]:
    """Replaces a first line `%%workflow …` or `# %%workflow …` by the call that opens the run; comments may stand before it.

    Likewise `%%step …`.

    The number of lines stays, so every line keeps its number. IPython calls this up to three times a cell.
    """
    at = next((at for at, line in enumerate(lines) if not _COMMENT.match(line) or _HEAD.match(line)), len(lines))
    head = _HEAD.match(lines[at]) if at < len(lines) else None
    if head is None or head["line"].rstrip().endswith("?"):
        return lines
    body = lines[at + 1 :]
    first = next((at for at, line in enumerate(body) if not line.isspace()), None)
    if first is not None and body[first].startswith("%%"):
        # %%workflow above %%time, %%capture: IPython only looks for a cell magic in the first line.
        from IPython.core.inputtransformer2 import cell_magic

        body = body[:first] + cell_magic(transform(body[first:]))
    said = lines[at].strip()
    return [*lines[:at], f"{_CALL}.{_BEGINS[head['magic']]}({head['line'].strip()!r})  # {said}\n", *body]


# Else a terminal would run the first line the moment Enter is pressed.
transform.has_side_effects = True  # type: ignore[attr-defined]


class WorkflowCells(ast.NodeTransformer):
    """Rewrites the tree of a `%%workflow` or `%%step` cell, and of no other: what stands around its body.

    That is for `--result`, for a body that a hit skips, and for what the cell does to the name `step`.

    IPython drops a transformer that raises; what cannot be read is left to `begin`, which says why.
    """

    def visit(self, node: ast.AST) -> Any:
        """The tree to run instead of `node`."""
        if not isinstance(node, ast.Module) or not node.body:
            return node
        call = _begin_call(node.body[0])
        if call is None:
            return node
        taken = next(_bindings_of_step(node.body[1:]), None)
        if taken is not None:
            call.keywords.append(ast.keyword(arg="taken_at", value=ast.Constant(taken)))
        if "--plan" in _text_of(call) and late("nbstep.notebook.flags").wants_plan(_text_of(call)):
            call.keywords.append(ast.keyword(arg="planned", value=ast.Constant(True)))
            del node.body[1:]
            return ast.fix_missing_locations(node)
        if cast("ast.Attribute", call.func).attr == "begin_step":
            node.body = late("nbstep.notebook.stepbody").rewrite(node.body, call)
            return ast.fix_missing_locations(node)
        try:
            name = late("nbstep.notebook.flags").parse_workflow_line(_text_of(call)).result
        except (CellStopped, TypeError, ValueError):
            name = None
        if name is not None:
            node.body = _catching(node.body, name)
        return ast.fix_missing_locations(node)


def _begin_call(statement: ast.stmt) -> ast.Call | None:
    match statement:
        case ast.Expr(
            value=ast.Call(
                func=ast.Attribute(
                    attr="begin" | "begin_step",
                    value=ast.Call(func=ast.Name(id="__import__"), args=[ast.Constant(value=name)]),
                ),
                args=[ast.Constant(value=str())],
            ) as call
        ) if name == _RUNNER:
            return call
        case _:
            return None


def _text_of(call: ast.Call) -> str:
    return str(cast("ast.Constant", call.args[0]).value)


def _bindings_of_step(body: Sequence[ast.AST]) -> Iterator[int]:
    """The lines in which the cell itself, not a function in it, gives the name `step` to something else."""
    for node in body:
        match node:
            case (
                ast.Name(id="step", ctx=ast.Store() | ast.Del())
                | ast.ExceptHandler(name="step")
                | ast.MatchAs(name="step")
                | ast.MatchStar(name="step")
                | ast.MatchMapping(rest="step")
            ):
                yield node.lineno
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                ours = isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "nbstep"
                if not ours and any((alias.asname or alias.name) == "step" for alias in names):
                    yield node.lineno
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                if name == "step":
                    yield node.lineno
                continue
            case ast.Lambda():
                continue
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                continue  # names of a comprehension are its own
            case _:
                pass
        yield from _bindings_of_step(list(ast.iter_child_nodes(node)))


def _catching(body: list[ast.stmt], name: str) -> list[ast.stmt]:
    """`begin(…)`, the body inside `with catching(name):`, and the last value as the cell's last expression."""
    first = next((at for at, s in enumerate(body) if at and not stays_first(s, at)), len(body))
    rest: list[ast.stmt] = body[first:] or [ast.Pass()]
    last = rest[-1]
    if isinstance(last, ast.Expr):
        rest[-1] = ast.copy_location(ast.Expr(call_of("last_value", last.value)), last)
    block = ast.With(items=[ast.withitem(context_expr=call_of("catching", ast.Constant(name)))], body=rest)
    shown = ast.Expr(call_of("result_to_show"))
    for made in (block, shown):
        ast.copy_location(made, rest[0] if hasattr(rest[0], "lineno") else body[0])
    return [*body[:first], block, shown]


def stays_first(statement: ast.stmt, at: int) -> bool:
    """An import from the future, or the docstring before it, right after the call."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    docstring = isinstance(value, ast.Constant) and isinstance(value.value, str)
    return (docstring and at == 1) or (isinstance(statement, ast.ImportFrom) and statement.module == "__future__")


def call_of(function: str, *args: ast.expr) -> ast.Call:
    """A call of a function of the cell runner, to stand in a cell; it has no place yet."""
    source = ast.parse(f"{_CALL}.{function}", mode="eval").body
    for node in ast.walk(source):
        for attribute in ("lineno", "col_offset", "end_lineno", "end_col_offset"):
            if hasattr(node, attribute):
                delattr(node, attribute)
    return ast.Call(func=source, args=list(args), keywords=[])
