"""Which names a piece of text binds, and which it hands to code that may change what they hold. Pure."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import Final

from nbstep.notebook.planning.plainvalues import FUNCTIONS
from nbstep.notebook.planning.sites import takes_steps

_READING: Final = ("items", "keys", "values", "get")
_SAFE: Final = (
    ast.Compare,
    ast.BinOp,
    ast.BoolOp,
    ast.UnaryOp,
    ast.Starred,
    ast.FormattedValue,
    ast.Expr,
    ast.If,
    ast.IfExp,
)


# Magics that bind no names of the user's; those that run the cell below them as it stands.
_HARMLESS: Final = frozenset({"matplotlib", "config", "load_ext", "reload_ext", "autoreload", "nbstep", "precision"})
_AROUND: Final = frozenset({"time", "capture"})


def without_magics(tree: ast.Module) -> ast.Module:
    """A cell without the magics that bind nothing, and with the text that stands below `%%time` in its place."""
    statements: list[ast.stmt] = []
    for statement in tree.body:
        match statement:
            case ast.Expr(
                value=ast.Call(
                    func=ast.Attribute(value=ast.Call(func=ast.Name(id="get_ipython")), attr=kind),
                    args=[ast.Constant(value=magic), *rest],
                )
            ):
                if kind == "run_cell_magic" and magic in _AROUND and isinstance(rest[-1], ast.Constant):
                    inner = ast.parse(str(rest[-1].value))
                    statements += ast.increment_lineno(inner, statement.lineno).body
                elif kind != "run_line_magic" or magic not in _HARMLESS:
                    statements.append(statement)
            case _:
                statements.append(statement)
    return ast.Module(statements, tree.type_ignores)


def binds_anything(tree: ast.Module) -> bool:
    """Whether something in a cell may bind names that do not stand in it: a magic, `exec`, `from … import *`, `global`."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id="exec" | "eval" | "get_ipython" | "globals") | ast.alias(name="*") | ast.Global():
                return True
            case _:
                continue
    return False


def bound_in(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The names that some text binds, not those that functions and comprehensions in it keep to themselves."""
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                yield name
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name
            case ast.MatchMapping(rest=str(name)):
                yield name
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from (alias.asname or alias.name.partition(".")[0] for alias in aliases)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
                continue
            case ast.Lambda():
                continue
            case ast.comprehension(iter=iterated, ifs=tests):
                yield from bound_in([iterated, *tests])
                continue
            case _:
                pass
        yield from bound_in(ast.iter_child_nodes(node))


def handed_out(tree: ast.AST) -> frozenset[str]:
    """The names whose lists and dicts the text changes, or hands to what may change them.

    Not those that it only goes through, looks into, or gives to steps and to functions of Python's own.
    """
    found = set[str]()
    for parent in ast.walk(tree):
        for child in ast.iter_child_nodes(parent):
            if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load) and not _only_reads(parent, child):
                found.add(child.id)
            elif isinstance(child, ast.Subscript | ast.Attribute) and not isinstance(child.ctx, ast.Load):
                found.update(one.id for one in ast.walk(child) if isinstance(one, ast.Name))
            elif isinstance(child, ast.AugAssign):
                found.update(bound_in([child.target]))
    return frozenset(found)


def _only_reads(parent: ast.AST, name: ast.Name) -> bool:
    match parent:
        case ast.For(iter=read) | ast.comprehension(iter=read) | ast.Subscript(value=read, ctx=ast.Load()) if (
            read is name
        ):
            return True
        case ast.Subscript(slice=at) if at is name:
            return True
        case ast.Call(func=function) if function is name:
            return True
        case ast.Call(func=function):
            return takes_steps(function) or _is_pythons_own(function)
        case ast.Attribute(attr=attribute):
            return attribute in _READING
        case _:
            return isinstance(parent, _SAFE)


def _is_pythons_own(function: ast.expr) -> bool:
    match function:
        case ast.Name(id=name):
            return name in FUNCTIONS or name in ("print", "display", "set")
        case ast.Attribute(value=ast.Name(id="step"), attr="key"):
            return True
        case _:
            return False
