"""A cell of the drift corpus as a user of joblib or marimo would write it, each as its documentation says.

joblib ("On demand recomputing: the Memory class"): a step that calls one function caches that function, `memory.cache(f)(…)`, as
nbstep takes `lambda: f(x)`, `step(f, x)` and `partial(f, x)` for one step. Any other step becomes a function of its own under
`@memory.cache`, whose arguments are the variables it reads, as joblib asks again when these change; so does a step that calls a
function behind `lru_cache`, whose code joblib cannot read. What does not matter is named in `ignore=`. The cell is a file at one
path, with all else untouched: in a notebook joblib keeps a function under a digest of its whole cell, and would run again for more.

marimo ("Caching"): each import, definition and variable stands in a cell of its own, where it belongs by the docs, and a step in a
block `with mo.persistent_cache(name):`; in a loop or a function, where marimo takes no block, in a function under
`@mo.persistent_cache`. Names that begin with `_` belong to one cell there, so they stand in the step's.

Neither knows a step's files; marimo's way to name one is `mo.watch.file`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final


class CannotExpress(Exception):
    """A peer has no way to say what a cell says."""


LEFT_OUT: Final[Mapping[str, tuple[str, ...] | None]] = {
    "a private name": ("_verbose",),
    "a password": ("password", "api_token"),
    "what ignore= names": ("threads", "verbose"),
    "IPython's own history": ("In", "Out"),
    "a secret in a dict, a private field": None,
    "one attribute that ignore= names": None,
}
"""Pairs about inputs that must not count, and the variables to leave out; None where it is a part of one."""


@dataclass(frozen=True)
class Work:
    """What one step of a cell does.

    Attributes:
        at: Where its call stands in the source, from and to.
        body: An expression that does it.
        callee: The function that it calls and does nothing else, if it does so.
        arguments: Of that call.
        items: What a `step.map` maps over.
        reads: The variables that the body names.
        file: What `files=` names.
    """

    at: tuple[int, int]
    body: str
    callee: str | None
    arguments: str
    items: str | None
    reads: tuple[str, ...]
    file: str | None


def for_joblib(source: str, left_out: tuple[str, ...] | None = ()) -> str:
    """The cell with `memory`, a `joblib.Memory`, in the place of `step`.

    Raises:
        CannotExpress: There is no way to say it.
    """
    if left_out is None:
        raise CannotExpress("ignore= takes whole arguments only")
    cell = _Cell(source)
    edits: list[tuple[int, int, str]] = []
    for statement, work in cell.works():
        if work.file is not None:
            raise CannotExpress("no way to name a file that counts")
        if work.callee is not None and not left_out:
            call = f"memory.cache({work.callee})"
            new = f"[{call}(item) for item in {work.items}]" if work.items else f"{call}({work.arguments})"
        else:
            reads = [name for name in work.reads if name not in cell.fixed]
            name = f"step_{len(edits)}"
            ignored = [read for read in reads if read in left_out]
            options = f"(ignore={ignored!r})" if ignored else ""
            define = f"@memory.cache{options}\ndef {name}({', '.join(reads)}):\n    return ({work.body})\n"
            start = cell.offset(_first_line(statement), 0)
            edits.append((start, start, define))
            new = f"{name}({', '.join(reads)})"
        edits.append((*work.at, new))
    return _edited(source, edits)


def for_marimo(source: str, left_out: tuple[str, ...] | None = ()) -> list[str]:
    """The cells of a marimo notebook.

    Raises:
        CannotExpress: There is no way to say it.
    """
    if left_out != ():
        raise CannotExpress("no way to leave an input out")
    cell = _Cell(source)
    groups: list[_Group] = [_Group({"mo"}, ["import marimo as mo"])]
    private: list[str] = []
    number = 0
    for statement in cell.tree.body:
        text = cell.text_of(statement)
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            continue  # a directive for a whole file; it changes annotations only
        works = [work for owner, work in cell.works() if owner is statement]
        if works:
            lines = _marimo_step(cell, statement, works, number)
            groups.append(_Group(_bound(statement), [*private, *lines]))
            number += len(works)
        elif any(name.startswith("_") for name in _bound(statement)):
            private.append(text)
        else:
            _add(groups, statement, text)
    return ["\n".join(group.lines) for group in groups]


def _marimo_step(cell: _Cell, statement: ast.stmt, works: list[Work], number: int) -> list[str]:
    lines: list[str] = []
    only = works[0]
    value = statement.value if isinstance(statement, ast.Expr | ast.Assign) else None
    if only.file is not None:
        lines.append(f"watched = mo.watch.file({only.file})")
    if len(works) == 1 and value is not None and only.items is None and cell.span(value) == only.at:
        target = ast.unparse(statement.targets[0]) if isinstance(statement, ast.Assign) else f"result_{number}"
        seen = ["    watched.name"] if only.file is not None else []
        return [*lines, f'with mo.persistent_cache("step_{number}"):', *seen, f"    {target} = ({only.body})"]
    start, end = cell.offset(_first_line(statement), 0), cell.span(statement)[1]
    text = cell.source[start:end]
    edits: list[tuple[int, int, str]] = []
    for at, work in enumerate(works, number):
        reads = [name for name in work.reads if name in _bound(statement)]
        parameters = ", ".join(["item"] if work.items else reads)
        body = f"{work.callee}(item)" if work.items else work.body
        lines += ["@mo.persistent_cache", f"def step_{at}({parameters}):", f"    return ({body})"]
        new = f"[step_{at}(item) for item in {work.items}]" if work.items else f"step_{at}({parameters})"
        edits.append((work.at[0] - start, work.at[1] - start, new))
    return [*lines, _edited(text, edits)]


@dataclass(frozen=True)
class _Group:
    names: set[str]
    lines: list[str]
    reads: set[str] = field(default_factory=set)


def _names(statement: ast.stmt) -> set[str]:
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}


def _add(groups: list[_Group], statement: ast.stmt, text: str) -> None:
    """Into a cell of its own, or, where it binds or changes what a cell holds, or the two need each other, into that."""
    bound = _bound(statement)
    changed = {name for node in ast.walk(statement) if isinstance(node, ast.Global) for name in node.names}
    named = _names(statement) | bound | changed
    again = [one for one in groups if one.names & (bound | changed) or (one.reads & bound and one.names & named)]
    if not again and bound:
        groups.append(_Group(bound, [text], _names(statement)))
        return
    group = next((group for group in reversed(groups) if group.names & named), groups[-1])
    group.names.update(bound)
    group.reads.update(_names(statement))
    group.lines.append(text)


class _Cell:
    """The source of a cell and its tree."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.tree = ast.parse(source)
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        # Functions, classes and modules are reached as globals by all three; variables are a function's arguments.
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom
        self.fixed = {name for node in self.tree.body if isinstance(node, kinds) for name in _bound(node)}
        self.wrapped = {
            node.name
            for node in self.tree.body
            if isinstance(node, ast.FunctionDef) and "lru_cache" in "".join(map(ast.unparse, node.decorator_list))
        }

    def offset(self, line: int, column: int) -> int:
        return self.starts[line - 1] + column

    def span(self, node: ast.AST) -> tuple[int, int]:
        first, last = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)  # pyright: ignore
        return self.offset(*first), self.offset(*last)

    def segment(self, node: ast.AST) -> str:
        start, end = self.span(node)
        return self.source[start:end]

    def text_of(self, statement: ast.stmt) -> str:
        """A statement with the comments above it."""
        at = self.tree.body.index(statement)
        first = self.tree.body[at - 1].end_lineno if at else 0
        return self.source[self.starts[first or 0] : self.starts[statement.end_lineno or 0]].rstrip("\n")

    def works(self) -> Iterator[tuple[ast.stmt, Work]]:
        """Each step of the cell, with the statement that it stands in."""
        for statement in self.tree.body:
            for node in ast.walk(statement):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in {"step", "step.map"}:
                    yield statement, self._work(node)

    def _work(self, call: ast.Call) -> Work:
        thunk, *rest = call.args
        files = next((option.value for option in call.keywords if option.arg == "files"), None)
        file = self.segment(files) if isinstance(files, ast.Constant) else None
        items = None
        if isinstance(call.func, ast.Attribute):
            items, rest = self.segment(rest[0]), []
        callee: str | None = None
        arguments = ", ".join(map(self.segment, rest))
        if isinstance(thunk, ast.Lambda):
            body = self.segment(thunk.body)
            if isinstance(thunk.body, ast.Call) and _root(thunk.body.func) in self.fixed - self.wrapped:
                callee = self.segment(thunk.body.func)
                arguments = self._arguments(thunk.body)
            reads = thunk.body
        elif isinstance(thunk, ast.Call) and ast.unparse(thunk.func) == "functools.partial":
            callee = self.segment(thunk.args[0])
            arguments = self._arguments(thunk, skip=1, more=rest)
            body, reads = f"{callee}({arguments})", call
        else:
            callee = self.segment(thunk)
            body, reads = f"{callee}({arguments})", call
        return Work(self.span(call), body, callee, arguments, items, _read(reads, self.tree), file)

    def _arguments(self, call: ast.Call, skip: int = 0, more: list[ast.expr] | None = None) -> str:
        texts = [*map(self.segment, [*call.args[skip:], *(more or [])])]
        texts += [f"{option.arg}={self.segment(option.value)}" for option in call.keywords]
        return ", ".join(texts)


def _read(node: ast.AST, tree: ast.Module) -> tuple[str, ...]:
    """The names that an expression reads and the cell binds outside of it."""
    inner = {name.id for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)}
    bound = {name for statement in tree.body for name in _bound(statement)}
    read = {name.id: None for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Load)}
    return tuple(name for name in read if name in bound and name not in inner)


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement of the cell binds in the cell."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in statement.names}
    found: set[str] = set()
    nodes: list[ast.AST] = [statement]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        if not isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            nodes += ast.iter_child_nodes(node)
    return found


def _root(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _first_line(statement: ast.stmt) -> int:
    decorators = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(one.lineno for one in decorators)])


def _edited(text: str, edits: list[tuple[int, int, str]]) -> str:
    by_place: Callable[[tuple[int, int, str]], tuple[int, int]] = lambda edit: edit[:2]  # noqa: E731
    for start, end, new in sorted(edits, key=by_place, reverse=True):
        text = text[:start] + new + text[end:]
    return text
