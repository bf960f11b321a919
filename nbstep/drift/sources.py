"""Where a step's inputs are found: the closure cells and globals that its thunk, and the user's functions it follows, name.

Found once for each piece of code, and good as long as its watch holds; what they hold is read anew each time.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from nbstep.deps import Deps
from nbstep.drift.encoding import record_fields
from nbstep.drift.parts import default_values, dotted_names, is_users_module, set_attributes
from nbstep.drift.scalars import counts_for_nothing, is_code
from nbstep.drift.watch import content_of
from nbstep.freezing import written_cells, written_globals

_MAX_SOURCES: Final = 200
_MAX_PATHS: Final = 16
GLOBAL: Final = -1
_DEFAULT: Final = -2
_OF_A_CLASS: Final = -3
_CHANGEABLE: Final = (list, dict, set)
_HISTORY: Final = frozenset({"In", "Out"})  # IPython's own
_FILE_NAME: Final = re.compile(r"[^\s/\\][^\n\t:*?\"<>|]*\.\w{1,10}|[./~]?[^\n\t:*?\"<>|]*/[^\n\t:*?\"<>|]*[^\s/]")


class Source(NamedTuple):
    """One input.

    Attributes:
        label: Its name as people know it.
        function: Gives the function that names it, or the class that it is an attribute of; None where that is the thunk.
        cell: The place of its closure cell; below 0 for a global, a default of a function, an attribute of a class.
        path: The name, and what is read from it.
    """

    label: str
    function: Callable[[], Any] | None
    cell: int
    path: tuple[str, ...]


class Sources(NamedTuple):
    """What a thunk's code leads to.

    Attributes:
        inputs: Where its inputs are found.
        paths: Texts in the code that may name a file.
        written: The names that the code writes: what they hold is state.
        agreed: By the id of a key what was found when they last were what an entry knows: mostly they still are.
        callables: Where objects are found that can be called, as models can: they are no inputs, and may come from another step.
    """

    inputs: tuple[Source, ...] = ()
    paths: tuple[str, ...] = ()
    written: frozenset[str] = frozenset()
    agreed: dict[str, Any] = {}  # noqa: RUF012 - that of no inputs says nothing of any
    callables: tuple[Source, ...] = ()


class _Unbound:
    """What a name that is not bound, or an empty cell, holds."""


UNBOUND: Final = _Unbound()


def sources_of(
    functions: Iterable[tuple[Callable[[], Any] | None, types.FunctionType]],
    classes: Iterable[tuple[Callable[[], Any], type]] = (),
) -> Sources:
    """The sources of some functions, the thunk's own first, and of classes, each with what gives it again later."""
    found: list[Source] = []
    callables: list[Source] = []
    paths: dict[str, None] = {}
    known: dict[tuple[object, ...], None] = {}
    labels: set[str] = set()
    written = frozenset[str]()
    for reference, function in functions:
        code, scope = function.__code__, function.__globals__
        paths.update(dict.fromkeys(named_files(code)))
        written |= written_globals(code) | written_cells(code)
        for path in dotted_names(code):
            cell = code.co_freevars.index(path[0]) if path[0] in code.co_freevars else GLOBAL
            place = (id(function.__closure__[cell]) if cell >= 0 and function.__closure__ else id(_live(scope)), *path)
            if len(found) >= _MAX_SOURCES or path[0] in _HISTORY or place in known:
                continue
            taken, value = _followed(_root(function, cell, path[0]), path)
            if (
                value is UNBOUND
                or is_code(value)
                or any(map(counts_for_nothing, taken))
                or _is_foreign(function, cell, taken)
            ):
                continue
            known[place] = None
            label = ".".join(taken)
            if not _is_input(value):
                callables.append(Source(label, reference, cell, taken))
                continue
            if label in labels:
                label = f"{label} in {function.__qualname__.rpartition('<locals>.')[2]}"
            if label not in labels:
                labels.add(label)
                found.append(Source(label, reference, cell, taken))
        if reference is not None:  # of the thunk itself they are arguments
            found += _changeable_defaults(reference, function, labels)
    for reference, cls in classes:
        found += _changeable_attributes(reference, cls, labels)
    return Sources(tuple(found), tuple(paths)[:_MAX_PATHS], written, {}, tuple(callables[:_MAX_SOURCES]))


def _changeable_defaults(
    reference: Callable[[], Any], function: types.FunctionType, labels: set[str]
) -> Iterator[Source]:
    """The lists, dicts and sets that are defaults of a function: their content is no part of its code."""
    for name, value in default_values(function):
        label = f"{name} in {function.__qualname__.rpartition('<locals>.')[2]}"
        if isinstance(value, _CHANGEABLE) and not counts_for_nothing(name) and label not in labels:
            labels.add(label)
            yield Source(label, reference, _DEFAULT, (name,))


def _changeable_attributes(reference: Callable[[], Any], cls: type, labels: set[str]) -> Iterator[Source]:
    """The same of those that stand in the body of a class."""
    for name, value in vars(cls).items():
        label = f"{cls.__qualname__.rpartition('<locals>.')[2]}.{name}"
        if (
            isinstance(value, _CHANGEABLE)
            and not counts_for_nothing(name)
            and label not in labels
            and name not in set_attributes(cls)
        ):
            labels.add(label)
            yield Source(label, reference, _OF_A_CLASS, (name,))


def read_source(source: Source, thunk: types.FunctionType | None) -> Any:
    """What a source holds now; `UNBOUND` where it holds nothing."""
    _, reference, cell, path = source
    function: Any = thunk if reference is None else reference()
    if function is None:
        return UNBOUND
    if cell >= 0:
        try:
            value = function.__closure__[cell].cell_contents
        except (ValueError, IndexError, TypeError):
            return UNBOUND
    elif cell == _OF_A_CLASS:
        return vars(function).get(path[0], UNBOUND)
    elif cell == _DEFAULT:
        return dict(default_values(function)).get(path[0], UNBOUND)
    else:
        value = function.__globals__.get(path[0], UNBOUND)
    return value if len(path) == 1 else _followed(value, path)[1]


def _live(scope: dict[str, Any]) -> dict[str, Any]:
    return getattr(scope, "live", scope)  # a frozen thunk has a copy of its namespace


def _root(function: types.FunctionType, cell: int, name: str) -> Any:
    if cell < 0:
        return function.__globals__.get(name, UNBOUND)
    try:
        return function.__closure__[cell].cell_contents if function.__closure__ else UNBOUND
    except ValueError:
        return UNBOUND


def _followed(value: Any, path: Sequence[str]) -> tuple[tuple[str, ...], Any]:
    """How far a dotted name leads through namespaces, and to what."""
    for at, name in enumerate(path[1:], 1):
        if type(value) not in (types.ModuleType, types.SimpleNamespace, Deps):
            return tuple(path[:at]), value
        value = content_of(value).get(name, UNBOUND)
    return tuple(path), value


def _is_input(value: object) -> bool:
    return not callable(value) or type(value) is functools.partial or record_fields(value) is not None


def _is_foreign(function: types.FunctionType, cell: int, path: Sequence[str]) -> bool:
    """Whether it stands in an installed package, as `np.pi` does: packages count by name."""
    root = _root(function, cell, path[0])
    return type(root) is types.ModuleType and not is_users_module(root.__name__)


@functools.lru_cache(maxsize=4096)
def named_files(code: types.CodeType) -> tuple[str, ...]:
    """The constant texts in code, and in the code nested in it, that have the looks of a file's name."""
    found: list[str] = []
    for constant in code.co_consts[_has_docstring(code) :]:
        if isinstance(constant, types.CodeType):
            found += named_files(constant)
        elif type(constant) is str and len(constant) < 256 and "://" not in constant and _FILE_NAME.fullmatch(constant):
            found.append(constant)
    return tuple(found)


def _has_docstring(code: types.CodeType) -> bool:
    if sys.version_info >= (3, 14):  # the first constant may be any text there
        return bool(code.co_flags & inspect.CO_HAS_DOCSTRING)
    return code.co_name != "<lambda>" and bool(code.co_consts) and type(code.co_consts[0]) is str
