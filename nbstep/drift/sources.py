"""Where a step's inputs are found: the closure cells and globals that its thunk, and the user's functions it follows, name.

Found once for each piece of code, and good as long as its watch holds; what they hold is read anew each time.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import re
import sys
import types
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, cast

from nbstep.deps import Deps
from nbstep.drift.encoding import record_fields
from nbstep.drift.parts import (
    default_values,
    dotted_names,
    is_users,
    is_users_module,
    methods_in,
    part_of,
    set_attributes,
)
from nbstep.drift.plain import PLAIN, is_plain
from nbstep.drift.scalars import counts_for_nothing, is_code
from nbstep.drift.sights import content_of
from nbstep.drift.wanted import is_ignored
from nbstep.drift.watch import is_member, member_value
from nbstep.operations import mentioned, names_in

_MAX_SOURCES: Final = 200
_MAX_PATHS: Final = 16
_TEXTS_AT_MOST: Final = 64  # of a collection
GLOBAL: Final = -1
_DEFAULT: Final = -2
_OF_A_CLASS: Final = -3
_NAMED: Final = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, type)
_HISTORY: Final = frozenset({"In", "Out"})  # IPython's own
_FILE_NAME: Final = re.compile(r"[^\s/\\][^\n\t:*?\"<>|]*\.\w{1,10}|[./~]?[^\n\t:*?\"<>|]*/[^\n\t:*?\"<>|]*[^\s/]")


NamedText: TypeAlias = tuple[str, str]  # what it is called, and the text
_Place: TypeAlias = tuple[int, tuple[str, ...]]  # the id of a closure cell or a namespace, and the name there


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


class Sources:
    """What a thunk's code leads to.

    Attributes:
        inputs: Where its inputs are found.
        callables: Where objects are found that can be called, as models can: they are no inputs, and may come from another step.
        codes: The code of all functions, the thunk's own first.
        files: The texts among defaults, but for those of the thunk, and among the attributes of classes that have the looks of a
            file's name, each with what it is called.
        agreed: By the id of a key what was found when they last were what an entry knows: mostly they still are.
    """

    def __init__(
        self,
        inputs: tuple[Source, ...] = (),
        callables: tuple[Source, ...] = (),
        codes: Sequence[types.CodeType] = (),
        files: Sequence[NamedText] = (),
    ) -> None:
        self.inputs = inputs
        self.callables = callables
        self.codes = codes
        self.files = files
        self.agreed: dict[str, Any] = {}

    @functools.cached_property
    def paths(self) -> tuple[str, ...]:
        """Texts in the code that may name a file."""
        return self.paths_but(frozenset())

    def paths_but(self, ignore: frozenset[str]) -> tuple[str, ...]:
        """The same without those that are called so."""
        in_code = (path for code in self.codes for path in named_files(code))
        called = (path for name, path in self.files if not is_ignored(name, ignore))
        return (*dict.fromkeys(itertools.chain(in_code, called)),)[:_MAX_PATHS]

    @functools.cached_property
    def written(self) -> frozenset[str]:
        """The names that the code writes: what they hold is state."""
        written = set[str]()
        for code in self.codes:
            told = names_in(code)
            written |= told.written_globals | told.written_cells
        return frozenset(written)


NO_SOURCES: Final = Sources()


class _Unbound:
    """What a name that is not bound, or an empty cell, holds."""


UNBOUND: Final = _Unbound()


class Named(NamedTuple):
    """What one function or class names, good as long as its watch holds.

    Attributes:
        inputs: Each with the place that it is read from, where others may read it too, and a longer label where its own is taken.
        callables: The objects that can be called, each with its place.
        files: The texts among its defaults or attributes that have the looks of a file's name, each with what it is called.
    """

    inputs: tuple[tuple[_Place | None, Source, str], ...] = ()
    callables: tuple[tuple[_Place, Source], ...] = ()
    files: tuple[NamedText, ...] = ()


_NOTHING: Final = Named()


def named_in(reference: Callable[[], Any] | None, function: types.FunctionType) -> Named:
    """What a function names; `reference` gives it again later, None where it is the thunk's own."""
    inputs: list[tuple[_Place | None, Source, str]] = []
    callables: list[tuple[_Place, Source]] = []
    code, scope = function.__code__, function.__globals__
    cells = code.co_freevars
    is_closed = not cells and scope.keys().isdisjoint(
        mentioned(code)
    )  # most are: they name nothing but what is built in
    others = () if is_closed else names_in(code).globals
    for path in () if is_closed else dotted_names(code):
        name = path[0]
        if name not in cells and name not in others:
            continue  # its own variable, which code nested in it reads
        if name in _HISTORY or (len(path) == 1 and name not in cells and _is_told(name, scope.get(name))):
            continue
        cell = cells.index(name) if name in cells else GLOBAL
        taken, value = _followed(_root(function, cell, path[0]), path)
        if (
            value is UNBOUND
            or _is_told(taken[-1], value)
            or any(map(counts_for_nothing, taken))
            or _is_foreign(function, cell, taken)
        ):
            continue
        place = (id(function.__closure__[cell]) if cell >= 0 and function.__closure__ else id(_live(scope)), taken)
        source = Source(".".join(taken), reference, cell, taken)
        if is_code(value) or _is_input(value):
            inputs.append((place, source, f"{source.label} in {function.__qualname__.rpartition('<locals>.')[2]}"))
        else:
            callables.append((place, source))
    files: tuple[NamedText, ...] = ()
    if reference is not None and (function.__defaults__ or function.__kwdefaults__):  # of the thunk they are arguments
        inputs += [(None, source, source.label) for source in _changeable_defaults(reference, function)]
        files = default_files(function)
    return Named(tuple(inputs), tuple(callables), files) if inputs or callables or files else _NOTHING


def default_files(function: types.FunctionType, given: Container[str] = ()) -> tuple[NamedText, ...]:
    """The texts among the defaults of a function that have the looks of a file's name, but for those of what it is given."""
    return _files_in("", (one for one in default_values(function) if one[0] not in given))


def named_in_class(reference: Callable[[], Any], cls: type) -> Named:
    """The same of the body of a class."""
    inputs = tuple([(None, source, source.label) for source in _changeable_attributes(reference, cls)])
    owner = f"{cls.__qualname__.rpartition('<locals>.')[2]}."
    files = _files_in(owner, ((name, _of_a_member(value)) for name, value in vars(cls).items()))
    return Named(inputs, files=files) if inputs or files else _NOTHING


def sources_of(
    found_in: Sequence[Named], codes: Sequence[types.CodeType], arguments: frozenset[str] = frozenset()
) -> Sources:
    """The sources of some functions and classes, the thunk's own first, whose code is `codes`; `arguments` are its parameters."""
    found: dict[str, Source] = {}
    callables: dict[_Place, Source] = {}
    known: set[_Place] = set()
    for named in found_in:
        for place, source, longer in named.inputs:
            if place is not None:
                if place in known or len(found) >= _MAX_SOURCES:
                    continue
                known.add(place)
            if source.label in found or source.label in arguments:
                source = source._replace(label=_free(longer, found))
            found.setdefault(source.label, source)
        for place, source in named.callables:
            callables.setdefault(place, source)
    files = [file for named in found_in for file in named.files]
    return Sources((*found.values(),), (*callables.values(),)[:_MAX_SOURCES], codes, files)


def _files_in(owner: str, values: Iterable[tuple[str, object]]) -> tuple[NamedText, ...]:
    counting = [(owner + name, value) for name, value in values if not counts_for_nothing(name)]
    return tuple([(label, text) for label, value in counting for text in _file_names_in(value)])


def _file_names_in(value: Any) -> Iterator[str]:
    """Those in a text, or in the first texts of a tuple or of a set that does not change."""
    if type(value) is str and _is_file_name(value):
        yield value
    elif type(value) is tuple:
        for one in value[:_TEXTS_AT_MOST]:
            yield from _file_names_in(one)
    elif type(value) is frozenset and len(value) <= _TEXTS_AT_MOST:
        yield from filter(_is_file_name, sorted(one for one in value if type(one) is str))


def _free(label: str, taken: Container[str]) -> str:
    """The label, with a number where others of that name stand in other modules."""
    return next(
        one for number in itertools.count(1) if (one := label if number == 1 else f"{label} ({number})") not in taken
    )


def _changeable_defaults(reference: Callable[[], Any], function: types.FunctionType) -> Iterator[Source]:
    """The defaults of a function that are no part of its code: lists and dates, say."""
    for name, value in default_values(function):
        if _counts_by_content(value) and not counts_for_nothing(name):
            label = f"{name} in {function.__qualname__.rpartition('<locals>.')[2]}"
            yield Source(label, reference, _DEFAULT, (name,))


def _changeable_attributes(reference: Callable[[], Any], cls: type) -> Iterator[Source]:
    """The same of those that stand in the body of a class."""
    for name, value in vars(cls).items():
        if counts_for_nothing(name) or not _counts_by_content(_of_a_member(value)) or _is_descriptor(value):
            continue
        if name not in set_attributes(methods_in(vars(cls)).values()):
            label = f"{cls.__qualname__.rpartition('<locals>.')[2]}.{name}"
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
        return _of_a_member(vars(function).get(path[0], UNBOUND))
    elif cell == _DEFAULT:
        return dict(default_values(function)).get(path[0], UNBOUND)
    else:
        value = function.__globals__.get(path[0], UNBOUND)
    return value if len(path) == 1 else _followed(value, path)[1]


def _counts_by_content(value: object) -> bool:
    return type(value) not in PLAIN and not is_plain(value) and not is_code(value) and _is_input(value)


def _of_a_member(value: Any) -> object:
    """Of a member of an enum what it stands for."""
    return member_value(value) if is_member(value) else value


def _is_descriptor(value: object) -> bool:
    return any("__get__" in cls.__dict__ for cls in type(value).__mro__)


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


def _is_told(name: str, value: object) -> bool:
    """Whether a value is the code fingerprint's business alone, which tells of what is installed only the name it has in the code.

    What goes by another name there, as in `import Ridge as Model` or `DTYPE = np.float32`, is not.
    """
    if not is_code(value):
        return False
    own = getattr(value, "__name__", name) if issubclass(type(value), _NAMED) else name
    return own == name or is_users(part_of(value))


def _is_foreign(function: types.FunctionType, cell: int, path: Sequence[str]) -> bool:
    """Whether it stands in an installed package, as `np.pi` does: packages count by name."""
    root = _root(function, cell, path[0])
    return type(root) is types.ModuleType and not is_users_module(root.__name__)


@functools.lru_cache(maxsize=4096)
def named_files(code: types.CodeType) -> tuple[str, ...]:
    """The constant texts in code, and in the code nested in it, that have the looks of a file's name."""
    return tuple(_named_in(code.co_consts[_has_docstring(code) :]))


def _named_in(constants: Iterable[object]) -> Iterator[str]:
    for constant in constants:
        if isinstance(constant, types.CodeType):
            yield from named_files(constant)
        elif isinstance(constant, tuple | frozenset):  # a list or a set that is only read is one of these
            yield from _named_in(sorted(cast("Iterable[object]", constant), key=repr))
        elif type(constant) is str and _is_file_name(constant):
            yield constant


def _is_file_name(text: str) -> bool:
    return len(text) < 256 and "://" not in text and _FILE_NAME.fullmatch(text) is not None


def _has_docstring(code: types.CodeType) -> bool:
    if sys.version_info >= (3, 14):  # the first constant may be any text there
        return bool(code.co_flags & inspect.CO_HAS_DOCSTRING)
    is_def = code.co_flags & inspect.CO_OPTIMIZED and not code.co_name.startswith(
        "<"
    )  # not a cell, a lambda, a comprehension
    return bool(is_def) and bool(code.co_consts) and type(code.co_consts[0]) is str
