"""Which steps a cell will ask, worked out from its text and from plain values of the notebook; nothing of the user's runs.

Loops over what is known are gone through, names that the cell binds are followed; whatever only a run tells makes unknown what
depends on it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Literal, TypeAlias

from nbstep.notebook.planning.asked import Found
from nbstep.notebook.planning.bindings import bound_in, without_magics
from nbstep.notebook.planning.plainvalues import NotPlain, items_of
from nbstep.notebook.planning.scopes import UNKNOWN, Names, Scope
from nbstep.notebook.planning.sites import Site, takes_steps

# How a block goes on: to what stands below, to the next turn of its loop, out of the loop, out of the function; "maybe" says that
# a turn or a loop may have ended, as only a run tells.
_Flow: TypeAlias = Literal["on", "next", "out", "end", "maybe"]

_OWN_CODE: Final[Mapping[type[ast.expr], str]] = {
    ast.ListComp: "<listcomp>", ast.SetComp: "<setcomp>", ast.DictComp: "<dictcomp>", ast.GeneratorExp: "<genexpr>",
}  # fmt: skip


def foresee(body: str, names: Mapping[str, Any], above: int = 0) -> tuple[Site, ...]:
    """The calls of `step` and `step.map` in a cell, in the order of its text.

    Args:
        body: The cell's text, without its first line.
        names: What the names of the notebook hold now.
        above: How many lines stand above the body.
    """
    try:
        tree = without_magics(ast.parse(body))
        return _Reader(tree, names).sites(above)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()


class _Reader:
    def __init__(self, tree: ast.Module, held: Mapping[str, Any]) -> None:
        self._tree, self._names = tree, Names(tree, held)
        self._bound = frozenset(bound_in(tree.body))
        self._mentioned = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        self._asking: dict[int, bool] = {}
        self._found: dict[tuple[int, int], Found] = {}

    def sites(self, above: int) -> tuple[Site, ...]:
        """The calls that were found, in the order of the text."""
        self._block(self._tree.body, Scope({}))
        lines = max((node.end_lineno or 1 for node in self._tree.body), default=0)
        return tuple(found.site(above, lines) for _, found in sorted(self._found.items()))

    def _asks(self, nodes: Iterable[ast.AST]) -> bool:
        """Whether a step is asked in some text."""
        return any(self._asks_one(node) for node in nodes)

    def _asks_one(self, node: ast.AST) -> bool:
        known = self._asking.get(id(node))
        if known is None:
            known = any(isinstance(one, ast.Call) and takes_steps(one.func) for one in ast.walk(node))
            self._asking[id(node)] = known
        return known

    # statements

    def _block(self, statements: Sequence[ast.stmt], scope: Scope) -> _Flow:
        ended: _Flow = "on"
        for statement in statements:
            flow = self._statement(statement, scope)
            if flow == "maybe":
                scope.sure, ended = False, flow
            elif flow != "on":
                return flow
        return ended

    def _statement(self, node: ast.stmt, scope: Scope) -> _Flow:
        match node:
            case ast.For() | ast.AsyncFor():
                return self._for(node, scope)
            case ast.If():
                return self._if(node, scope)
            case ast.While():
                scope.forget(bound_in(node.body))
                self._expression(node.test, scope)
                self._block(node.body, scope.unsure())
                return self._block(node.orelse, scope)
            case ast.Try() | ast.TryStar():
                return self._try(node, scope)
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    self._expression(item.context_expr, scope)
                    scope.forget(bound_in([item]))
                return self._block(node.body, scope)
            case ast.Match():
                self._expression(node.subject, scope)
                for case in node.cases:
                    self._block(case.body, scope.unsure())
                scope.forget(bound_in(node.cases))
                return "on"
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self._definition(node, scope)
            case ast.Assign(targets=targets, value=value):
                self._expression(value, scope)
                for target in targets:
                    self._bind(target, self._value_or_unknown(value, scope), scope)
            case ast.AnnAssign(target=target, value=value) if value is not None:
                self._expression(value, scope)
                self._bind(target, self._value_or_unknown(value, scope), scope)
            case ast.Break():
                return "out"
            case ast.Continue():
                return "next"
            case ast.Return() | ast.Raise():
                self._parts(node, scope)
                return "end"
            case _:
                self._parts(node, scope)
                scope.forget(bound_in([node]))
        return "on"

    def _for(self, node: ast.For | ast.AsyncFor, scope: Scope) -> _Flow:
        self._expression(node.iter, scope)
        changed = [*bound_in([node.target]), *bound_in(node.body)]
        if not self._asks(node.body):
            scope.forget(changed)
            return self._block(node.orelse, scope)
        turns = self._names.turns(node.iter, scope) if isinstance(node, ast.For) else None
        if turns is None:
            scope.forget(changed)
            self._block(node.body, scope.unsure())
            return self._block(node.orelse, scope)
        sure, flow = scope.sure, "on"
        for item in turns:
            self._bind(node.target, item, scope)
            flow = self._block(node.body, scope)
            if flow in ("out", "end"):
                break
        may_return = sure and not scope.sure and any(isinstance(n, ast.Return) for s in node.body for n in ast.walk(s))
        scope.sure = sure
        if flow in ("out", "end"):
            return "end" if flow == "end" else "on"
        after = self._block(node.orelse, scope)
        return "maybe" if may_return and after == "on" else after

    def _if(self, node: ast.If, scope: Scope) -> _Flow:
        self._expression(node.test, scope)
        holds = self._names.truth(node.test, scope)
        if holds is not None:
            return self._block(node.body if holds else node.orelse, scope)
        flows = [self._block(part, scope.unsure()) for part in (node.body, node.orelse)]
        scope.forget([*bound_in(node.body), *bound_in(node.orelse)])
        if all(flow == "on" for flow in flows) or _only_raises(node):
            return "on"
        return "maybe"

    def _try(self, node: ast.Try | ast.TryStar, scope: Scope) -> _Flow:
        flow = self._block(node.body, scope)
        for handler in node.handlers:
            self._block(handler.body, scope.unsure())
        scope.forget([*bound_in(node.body), *bound_in(node.handlers)])
        after = self._block(node.orelse, scope) if flow in ("on", "maybe") else flow
        after = flow if after == "on" else after
        last = self._block(node.finalbody, scope)
        return after if last == "on" else last

    def _definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, scope: Scope) -> None:
        for decorator in node.decorator_list:
            self._expression(decorator, scope)
        if isinstance(node, ast.ClassDef):
            self._block(node.body, Scope(dict(scope.bound), scope.sure, node.name))
        else:
            self._parts(node.args, scope)
            self._inside(node, node.body, scope, scope.sure and node.name in self._mentioned, node.name)
        scope.forget([node.name])

    def _inside(
        self,
        node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda,
        body: Sequence[ast.stmt],
        scope: Scope,
        sure: bool,
        name: str,
    ) -> None:
        """The body of a function: it runs later, when each name that the cell binds may hold something else."""
        parameters = [one.arg for one in ast.walk(node.args) if isinstance(one, ast.arg)]
        inner = Scope(dict(scope.bound), sure, name)
        inner.forget([*self._bound, *bound_in(body), *parameters])
        self._block(body, inner)

    def _bind(self, target: ast.expr, value: Any, scope: Scope) -> None:
        if isinstance(target, ast.Name):
            scope.bound[target.id] = value
            return
        scope.forget(bound_in([target]))
        if isinstance(target, ast.Tuple | ast.List) and value is not UNKNOWN:
            with suppress(TypeError, NotPlain):
                parts = items_of(value)
                if len(parts) == len(target.elts):
                    for one, part in zip(target.elts, parts, strict=True):
                        self._bind(one, part, scope)

    def _value_or_unknown(self, node: ast.expr, scope: Scope) -> Any:
        try:
            return self._names.value(node, scope)
        except NotPlain:
            return UNKNOWN

    # expressions

    def _parts(self, node: ast.AST, scope: Scope) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self._expression(child, scope)
            else:
                self._parts(child, scope)

    def _expression(self, node: ast.expr, scope: Scope) -> None:
        """Finds the steps that an expression asks, and what it binds."""
        if not self._asks_one(node):
            scope.forget(bound_in([node]))
            return
        match node:
            case ast.ListComp(elt=made) | ast.SetComp(elt=made) | ast.GeneratorExp(elt=made):
                self._comprehension(node.generators, [made], self._own(scope, node))
            case ast.DictComp(key=key, value=value):
                self._comprehension(node.generators, [key, value], self._own(scope, node))
            case ast.Lambda():
                self._parts(node.args, scope)
                body = ast.copy_location(ast.Expr(node.body), node.body)
                self._inside(node, [body], scope, False, "<lambda>")
            case ast.IfExp(test=test, body=body, orelse=other):
                self._expression(test, scope)
                holds = self._names.truth(test, scope)
                for part, unless in ((body, False), (other, True)):
                    if holds is not unless:
                        self._expression(part, scope if holds is not None else scope.unsure())
            case ast.BoolOp(values=[first, *others]):
                self._expression(first, scope)
                for other in others:
                    self._expression(other, scope.unsure())
            case ast.Call():
                self._parts(node, scope)
                if takes_steps(node.func):
                    place = node.lineno, node.col_offset
                    self._found.setdefault(place, Found(node, scope.code_name)).add(self._names, scope)
            case _:
                self._parts(node, scope)
        scope.forget(bound_in([node]))

    def _own(self, scope: Scope, node: ast.expr) -> Scope:
        return Scope(dict(scope.bound), scope.sure, f"{scope.code_name} {_OWN_CODE.get(type(node), '')}")

    def _comprehension(self, generators: Sequence[ast.comprehension], made: Sequence[ast.expr], scope: Scope) -> None:
        if not generators:
            for part in made:
                self._expression(part, scope)
            return
        first, *rest = generators
        self._expression(first.iter, scope)
        turns = None if first.is_async else self._names.turns(first.iter, scope)
        if turns is None:
            scope = scope.unsure()
            scope.forget(bound_in([first.target]))
            self._parts(first, scope)
            self._comprehension(rest, made, scope)
            return
        for item in turns:
            inner = Scope(scope.bound, scope.sure, scope.code_name)  # its names are its own, each turn binds them anew
            self._bind(first.target, item, inner)
            holds = [self._names.truth(test, inner) for test in first.ifs]
            if False in holds:
                continue
            inner.sure &= None not in holds
            self._comprehension(rest, made, inner)


def _only_raises(node: ast.If) -> bool:
    """Whether all that an `if` may end is the cell itself, as an assertion does."""
    ends = (ast.Break, ast.Continue, ast.Return)
    return not any(isinstance(one, ends) for part in (*node.body, *node.orelse) for one in ast.walk(part))
