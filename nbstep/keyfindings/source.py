"""The text of one call, from where its instruction stands in the code, and what the names around it were given."""

from __future__ import annotations

import ast
import functools
import itertools
import linecache
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

_SILENCED: Final = re.compile(r"#\s*nbstep:\s*ok\b")
# Only text in which one of these is called is worth reading as a whole.
_WORTH_READING: Final = re.compile(
    r"\b(?:\w*now|today|\w*time\w*|monotonic\w*|perf_counter\w*|Timestamp|datetime64|\w*rand\w*|choice|uuid\w*|uniform|sample"
    r"|token_\w+|getpid|get_ident|id|hash)\s*\("
)
_LINES_AT_MOST: Final = 200
_SOURCE_AT_MOST: Final = 1_000_000

Given: TypeAlias = ast.expr | None  # None: in a way that says nothing, as by a loop or a parameter


@dataclass(frozen=True, slots=True)
class CallText:
    """A call as it is written: `line` counts from 1 in `filename`; `silenced` says that a comment wants no findings."""

    call: ast.Call
    filename: str
    line: int
    silenced: bool


def call_text(code: types.CodeType, last_instruction: int) -> CallText | None:
    """The call that an instruction makes; None where its text is not to be had, or is not what the code was made of."""
    spots = itertools.islice(code.co_positions(), last_instruction // 2, None)
    line, end_line, column, end_column = next(spots, (None, None, None, None))
    if line is None or end_line is None or column is None or end_column is None or end_line - line > _LINES_AT_MOST:
        return None
    lines = [linecache.getline(code.co_filename, at) for at in range(line, end_line + 1)]
    raw = [text.encode() for text in lines]
    raw[-1] = raw[-1][:end_column]
    raw[0] = raw[0][column:]
    try:
        expression = ast.parse(b"(" + b"".join(raw) + b"\n)", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if isinstance(expression, ast.Await):
        expression = expression.value
    if not isinstance(expression, ast.Call):
        return None
    return CallText(expression, code.co_filename, line, any(map(_SILENCED.search, lines)))


@dataclass(slots=True)
class _Scope:
    first: int
    last: int
    given: dict[str, list[Given]] = field(default_factory=dict[str, list["ast.expr | None"]])


def given_to(name: str, filename: str, line: int, *, anything: bool = False) -> ast.expr | None:
    """What a name was given around a line of a cell or file, where that is one expression, or several alike; else None.

    Without `anything`, text that calls nothing of interest is not read.
    """
    source = "".join(linecache.getlines(filename))
    if len(source) > _SOURCE_AT_MOST or not (anything or _WORTH_READING.search(source)):
        return None
    inner = [scope for scope in _scopes(source) if scope.first <= line <= scope.last and name in scope.given]
    if not inner:
        return None
    found = min(inner, key=lambda scope: scope.last - scope.first).given[name]
    texts = {None if one is None else ast.dump(one) for one in found}
    return found[0] if len(texts) == 1 else None


def is_seeded(filename: str) -> bool:
    """Whether a cell or file sets the seed of a random generator, so that what it gives is the same each time."""
    return any(re.search(r"\bseed\s*\(", text) for text in linecache.getlines(filename))


@functools.lru_cache(maxsize=8)
def _scopes(source: str) -> tuple[_Scope, ...]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    return tuple(_read(tree, 1, source.count("\n") + 1))


def _read(node: ast.AST, first: int, last: int) -> Iterator[_Scope]:
    """The scope of a module or function, then those of the functions in it."""
    scope = _Scope(first, last)
    waiting: list[ast.AST] = [node]
    functions: list[Any] = []
    while waiting:
        at = waiting.pop()
        for child in ast.iter_child_nodes(at):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                functions.append(child)
            elif not isinstance(child, ast.ClassDef):
                waiting.append(child)
            for name, value in _bindings(child):
                scope.given.setdefault(name, []).append(value)
    yield scope
    for function in functions:
        yield from _read(function, function.lineno, function.end_lineno or function.lineno)


def _bindings(node: ast.AST) -> Iterator[tuple[str, Given]]:
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            yield name, value
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            yield name, value
        case ast.NamedExpr(target=ast.Name(id=name), value=value):
            yield name, value
        case ast.Assign(targets=targets):
            yield from ((name, None) for target in targets for name in _stored(target))
        case ast.AugAssign(target=target) | ast.For(target=target) | ast.AsyncFor(target=target):
            yield from ((name, None) for name in _stored(target))
        case ast.comprehension(target=target) | ast.withitem(optional_vars=ast.expr() as target):
            yield from ((name, None) for name in _stored(target))
        case ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name, None
        case ast.alias(name=name, asname=other):
            yield other or name.partition(".")[0], None
        case _:
            return


def _stored(target: ast.AST) -> Iterator[str]:
    return (node.id for node in ast.walk(target) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
