"""Rewrites the tree of a `%%step` cell, so that a hit skips its body: what runs always, and which names the body gives. Pure.

What a cell becomes:

    begin_step("model", code=…, bound=…)      # in the place of the line
    if defines():                             # something is kept: imports and definitions run before it is loaded
        import numpy as np
    if runs():                                # nothing usable is kept
        with body():
            import numpy as np
            model = fit(np.array(rows))
            last_value(model)
    step_to_show()                            # the cell's last expression
"""

from __future__ import annotations

import ast
import copy
import inspect
import marshal
import types
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

from nbstep.notebook.celltext import call_of, stays_first

_Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_IMPORTS: Final = (ast.Import, ast.ImportFrom)
_COMPREHENSIONS: Final = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True, slots=True)
class BodyFacts:
    """What the text of a body says.

    Attributes:
        code: Its code, as one module.
        bound: The names it gives a value, in order; without those whose statements run on every hit.
        changed: Those of which it sets a part (`df["x"] = 1`).
        closed: Those that only `with … as` binds: most are closed when the cell ends.
        defined: The names of the imports and definitions that run on a hit too.
        awaits: It awaits at its top level.
    """

    code: types.CodeType
    bound: tuple[str, ...]
    changed: tuple[str, ...]
    closed: tuple[str, ...]
    defined: tuple[str, ...]
    awaits: bool


def rewrite(body: list[ast.stmt], call: ast.Call) -> list[ast.stmt]:
    """The cell to run instead of `body`, whose first statement is `call`."""
    first = next((at for at, s in enumerate(body) if at and not stays_first(s, at)), len(body))
    rest: list[ast.stmt] = body[first:] or [ast.copy_location(ast.Pass(), body[0])]
    always = _always(rest)
    awaits = _awaits(rest)
    skipped = [s for s in rest if s not in always]
    closed = [name for name in _in_with(rest) if list(_stores(rest)).count(name) == 1]
    call.keywords += [
        ast.keyword(arg=name, value=ast.Constant(cast("Any", value)))
        for name, value in (
            ("code", marshal.dumps(_compiled(body[1:]))),
            ("bound", tuple(dict.fromkeys(_stores(skipped)))),
            ("changed", tuple(dict.fromkeys(_parts_set(skipped)))),
            ("closed", tuple(closed)),
            ("defined", tuple(_stores(always))),
            ("awaits", awaits),
        )
    ]
    # copies: a compiler that sees a node twice may change it twice
    made: list[ast.stmt] = []
    if always:
        made.append(ast.If(test=_asking("defines", awaits), body=copy.deepcopy(always), orelse=[]))
    last = rest[-1]
    if isinstance(last, ast.Expr):
        rest[-1] = ast.copy_location(ast.Expr(call_of("last_value", last.value)), last)
    block = ast.With(items=[ast.withitem(context_expr=call_of("body"))], body=rest)
    made += [ast.If(test=_asking("runs", awaits), body=[block], orelse=[]), ast.Expr(call_of("step_to_show"))]
    for statement in (*made, block):
        ast.copy_location(statement, body[0])
    return [*body[:first], *made]


def facts_of(
    code: bytes,
    bound: Sequence[str],
    changed: Sequence[str],
    closed: Sequence[str],
    defined: Sequence[str],
    awaits: bool,
) -> BodyFacts:
    """The facts that `rewrite` wrote into the call; names that nested functions make global are added."""
    module: types.CodeType = marshal.loads(code)
    names = dict.fromkeys((*bound, *(name for name in _written_globals(module) if name not in defined)))
    return BodyFacts(module, tuple(names), tuple(changed), tuple(closed), tuple(defined), awaits)


def _asking(function: str, awaits: bool) -> ast.expr:
    return ast.Await(call_of(f"{function}_awaiting")) if awaits else call_of(function)


def _compiled(body: list[ast.stmt]) -> types.CodeType:
    module = ast.Module(body=copy.deepcopy(body) or [ast.Pass(lineno=1, col_offset=0)], type_ignores=[])
    return compile(
        ast.fix_missing_locations(module), "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
    )


def _written_globals(code: types.CodeType) -> Iterator[str]:
    from nbstep.thunks import instructions

    for nested in code.co_consts:
        if isinstance(nested, types.CodeType):
            yield from (str(i.argval) for i in instructions(nested) if i.opname == "STORE_GLOBAL")
            yield from _written_globals(nested)


# What runs always


def _always(body: Sequence[ast.stmt]) -> list[ast.stmt]:
    """The imports, and the definitions that need no value of the skipped rest when they run."""
    definitions = [s for s in body if isinstance(s, _Definition)]
    while True:
        always = [s for s in body if isinstance(s, _IMPORTS) or s in definitions]
        skipped = set(_stores(s for s in body if s not in always))
        ready = [d for d in definitions if not skipped.intersection((*_needed(d), d.name))]
        if len(ready) == len(definitions):
            return always
        definitions = ready


def _needed(definition: _Definition) -> Iterator[str]:
    """The names that a definition reads when it runs, not when what it defines is called."""
    parts: list[ast.AST | None] = [*definition.decorator_list]
    if isinstance(definition, ast.ClassDef):
        parts += [*definition.bases, *definition.keywords]
        for statement in definition.body:
            if isinstance(statement, _Definition):
                yield from _needed(statement)
            else:
                parts.append(statement)
    else:
        given = definition.args
        parts += [*given.defaults, *given.kw_defaults, definition.returns]
        parts += [
            a.annotation for a in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg) if a
        ]
    for part in parts:
        yield from (node.id for node in ast.walk(part) if isinstance(node, ast.Name)) if part is not None else ()


# Names


def _parts_set(body: Iterable[ast.AST]) -> Iterator[str]:
    for node in _at_top_level(body):
        if isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            owner: ast.expr = node
            while isinstance(owner, ast.Subscript | ast.Attribute):
                owner = owner.value
            if isinstance(owner, ast.Name):
                yield owner.id


def _stores(body: Iterable[ast.AST]) -> Iterator[str]:
    """The names of the notebook that statements give a value."""
    for node in _at_top_level(body):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name
            case ast.MatchMapping(rest=str(name)):
                yield name
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from (alias.asname or alias.name.partition(".")[0] for alias in names if alias.name != "*")
            case _:
                pass


def _in_with(body: Iterable[ast.AST]) -> Iterator[str]:
    for node in _at_top_level(body):
        if isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                yield from _stores([item.optional_vars]) if item.optional_vars is not None else ()


def _at_top_level(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """The nodes that run in the notebook's own namespace; of a comprehension only its `:=`."""
    for node in nodes:
        yield node
        if isinstance(node, _Definition):
            yield from _at_top_level(node.decorator_list)
        elif isinstance(node, _COMPREHENSIONS):
            yield from (inner.target for inner in ast.walk(node) if isinstance(inner, ast.NamedExpr))
        elif not isinstance(node, ast.Lambda):
            yield from _at_top_level(ast.iter_child_nodes(node))


def _awaits(body: Iterable[ast.AST]) -> bool:
    code = _compiled([s for s in body if isinstance(s, ast.stmt)])
    return bool(code.co_flags & inspect.CO_COROUTINE)
