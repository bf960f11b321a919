"""A watch: all that was read to make a fingerprint, so that it can be told later whether the same would be read again.

What counts only by its type is watched by its type. What may hold much memory, a function's closure or a model, is watched
through weak references: a remembered fingerprint keeps alive only code, classes and plain values.
"""

from __future__ import annotations

import enum
import itertools
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from nbstep.deps import Deps, given
from nbstep.drift.held import held_code
from nbstep.drift.plain import PLAIN
from nbstep.operations import names_in

Part: TypeAlias = types.FunctionType | type
_Reference: TypeAlias = Callable[[], Any]
# The type of a value, and the value itself where not any of that type will do.
_Seen: TypeAlias = tuple[type, _Reference | None]

_Named: TypeAlias = tuple[str, type, _Reference | None]

_CAN_BE_ASSIGNED: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: `__class__` of all other objects is fixed
_NAMESPACES: Final = (types.ModuleType, types.SimpleNamespace, Deps)


class _Unbound:
    """What a name that is not bound, or an empty cell, holds."""


_UNBOUND: Final = _Unbound()
_none: Final = itertools.repeat(None).__next__


class _Function(NamedTuple):
    function: _Reference | None  # None for the thunk: another function of its code will do
    code: types.CodeType
    qualname: str
    defaults: tuple[_Seen, ...] | None
    named_defaults: tuple[_Named, ...] | None
    names: tuple[_Named, ...]
    cells: tuple[_Seen, ...]


class _Check(NamedTuple):
    """What `holds` asks of a function: what is read there by names is asked once for all functions of one namespace."""

    function: _Reference | None
    code: types.CodeType
    qualname: str
    defaults: tuple[_Seen, ...] | None
    named_defaults: tuple[_Named, ...] | None
    objects: tuple[tuple[str, _Reference], ...]  # names that should mean these very objects
    kinds: tuple[tuple[str, type], ...]  # names that should mean something of these types
    cells: tuple[_Seen, ...]


class _Class(NamedTuple):
    cls: _Reference
    qualname: str
    bases: tuple[type, ...]
    variables: tuple[_Named, ...]


class Watch:
    """What can change a fingerprint, but for the thunk's own code and defaults, is read through here, and remembered.

    Installed packages count by name only: their functions and classes are watched as objects, not for what is patched onto them.

    Attributes:
        met_again: The thunk's own function was met again behind what it names, so that no other function can stand in for it.
    """

    __slots__ = (
        "_attributes",
        "_checks",
        "_classes",
        "_first",
        "_functions",
        "_held",
        "_owner",
        "_reads",
        "_scopes",
        "met_again",
    )

    def __init__(self, first: Part | None = None, owner: type | None = None) -> None:
        """Of a thunk that `first` stands for, which is read first; `owner` is the class of its `self`, where it has one.

        Without a thunk it is of a part alone, to be included in others.
        """
        self.met_again = isinstance(first, type)
        self._first = _none if first is None else _reference(first)
        self._owner = _none if owner is None else _reference(owner)
        self._scopes: set[int] = set()
        self._functions: list[_Function] = []
        self._checks: tuple[_Check, ...] | None = None
        self._classes: list[_Class] = []
        self._held: list[tuple[_Reference, tuple[_Reference, ...]]] = []
        self._attributes: list[tuple[_Reference, str, type, _Reference | None]] = []
        self._reads: list[tuple[Callable[[Any], Any], _Reference, type, _Reference | None]] = []

    def values(self, function: types.FunctionType) -> dict[str, Any]:
        """What the globals and closure cells that a function names hold."""
        code, defaults = function.__code__, function.__defaults__
        scope, closure = function.__globals__, function.__closure__
        is_first = not self._functions and function is self._first()
        values: dict[str, Any] = {}
        watched: list[_Named] = []
        for name in names_in(code).globals:
            value = scope.get(name, _UNBOUND)
            watched.append((name, type(value), _reference(value) if _leads_on(value) else None))
            if value is not _UNBOUND:
                values[name] = value
        if id(scope) not in self._scopes:  # it says whose the function is
            watched.append(("__name__", *_sight(scope.get("__name__", _UNBOUND), by_itself=True)))
            if not is_first:  # the thunk may be another time one of other globals
                self._scopes.add(id(scope))
        cells: tuple[_Seen, ...] = ()
        if closure:
            held = [*map(_content, closure)]
            cells = _seen(held, _leads_on)
            values.update((name, one) for name, one in zip(code.co_freevars, held, strict=True) if one is not _UNBOUND)
        self._functions.append(
            _Function(
                None if is_first else _reference(function),
                code,
                function.__qualname__,
                None if defaults is None else _seen(defaults, _counts_or_leads_on),
                _scope(function.__kwdefaults__ or {}, _counts_or_leads_on) if code.co_kwonlyargcount else None,
                tuple(watched),
                cells,
            )
        )
        return values

    def variables(self, cls: type) -> dict[str, Any]:
        """What stands in a class's body; of the members of an enum their values."""
        bases, found = cls.__bases__, dict(vars(cls))
        self._classes.append(_Class(_reference(cls), cls.__qualname__, bases, _scope(found, _stands_for_itself)))
        return {name: self.read(member_value, v) if isinstance(v, enum.Enum) else v for name, v in found.items()}

    def attribute(self, space: object, name: str) -> Any:
        """What a name means in a module, or in another namespace; None where it means nothing."""
        value = content_of(space).get(name, _UNBOUND)
        self._attributes.append((_reference(space), name, *_sight(value, _leads_on(value))))
        return None if value is _UNBOUND else value

    def read(self, how: Callable[[Any], Any], value: Any) -> Any:
        """What `how` gives for a value."""
        found = how(value)
        if how is type and not found.__flags__ & _CAN_BE_ASSIGNED:
            return found
        self._reads.append((how, _reference(value), *_sight(found, by_itself=True)))
        return found

    def held(self, value: Any) -> tuple[tuple[str, Any], ...]:
        """The functions and classes that a value holds, each with where."""
        found = held_code(value)
        if found:
            self._held.append((_reference(value), tuple([_reference(item) for _, item in found])))
        return found

    def include(self, other: Watch) -> None:
        """Watches what the watch of a part does as well."""
        if other._classes:  # one of its methods may be the thunk's own
            first = self._first()
            self.met_again |= any(read.function is not None and read.function() is first for read in other._functions)
        self._functions += other._functions
        self._classes += other._classes
        self._held += other._held
        self._attributes += other._attributes
        self._reads += other._reads

    def functions(self, first: Part) -> Iterator[tuple[_Reference | None, types.FunctionType]]:
        """The functions that were read, the thunk's own first, each with what gives it later; None for the thunk's own."""
        for read in self._functions:
            function = first if read.function is None else read.function()
            if isinstance(function, types.FunctionType):
                yield read.function, function

    def classes(self) -> Iterator[tuple[_Reference, type]]:
        """The classes that were read, each with what gives it later."""
        for read in self._classes:
            cls = read.cls()
            if isinstance(cls, type):
                yield read.cls, cls

    def holds(self, first: Part | None = None, owner: type | None = None) -> bool:
        """Whether the same would be read again of a thunk that `first` stands for, given that it has the code of the watch's.

        Of a watch without a thunk: of its part.
        """
        if self._owner() is not owner or (self.met_again and self._first() is not first):
            return False
        for reference, code, qualname, defaults, named_defaults, objects, kinds, cells in (
            self._checks or self._compiled()
        ):
            function: Any = first if reference is None else reference()
            if reference is not None:
                if function is None or function.__code__ is not code or function.__qualname__ is not qualname:
                    return False
                if function is first and not self.met_again:
                    return False
                now = function.__defaults__
                if now is not defaults and not _same(now, defaults):
                    return False
                if named_defaults is not None and not _same_names(function.__kwdefaults__ or {}, named_defaults):
                    return False
            if objects or kinds:
                get = function.__globals__.get
                for name, itself in objects:
                    value = get(name)
                    if itself() is not value or value is None:
                        return False
                for name, kind in kinds:
                    if type(get(name, _UNBOUND)) is not kind:
                        return False
            if cells and not _same([*map(_content, function.__closure__ or ())], cells):
                return False
        for reference, qualname, bases, variables in self._classes:
            cls = reference()
            if cls is None or cls.__qualname__ is not qualname or cls.__bases__ is not bases:
                return False
            if not _same_names(vars(cls), variables):
                return False
        for reference, items in self._held:
            now = held_code(reference())
            if len(now) != len(items) or any(item() is not value for item, (_, value) in zip(items, now, strict=True)):
                return False
        for reference, name, kind, itself in self._attributes:
            space = reference()
            content = space.__dict__ if type(space) is types.ModuleType else content_of(space)
            value = content.get(name, _UNBOUND)
            if (type(value) is not kind) if itself is None else (itself() is not value or value is None):
                return False
        for how, reference, kind, itself in self._reads:
            value = how(reference())
            if (type(value) is not kind) if itself is None else (itself() is not value or value is None):
                return False
        return True

    def _compiled(self) -> tuple[_Check, ...]:
        """What `holds` asks, once all was read; of names that several functions of one namespace have, once."""
        asked: dict[tuple[int | None, str, int], None] = {}
        checks: list[_Check] = []
        for reference, code, qualname, defaults, named_defaults, names, cells in self._functions:
            function: Any = None if reference is None else reference()
            scope = None if function is None else id(function.__globals__)
            objects: list[tuple[str, _Reference]] = []
            kinds: list[tuple[str, type]] = []
            for name, kind, itself in names:
                at = scope, name, id(kind) if itself is None else id(itself())
                if at in asked:
                    continue
                asked[at] = None
                if itself is None:
                    kinds.append((name, kind))
                else:
                    objects.append((name, itself))
            checks.append(_Check(reference, code, qualname, defaults, named_defaults, (*objects,), (*kinds,), cells))
        self._checks = (*checks,)
        return self._checks


def _reference(value: object) -> _Reference:
    """What gives the value when called: weakly where that can be, then None once it is gone."""
    return weakref.ref(value) if type(value).__weakrefoffset__ else itertools.repeat(value).__next__


def _sight(value: object, by_itself: bool) -> _Seen:
    return type(value), _reference(value) if by_itself and value is not None else None


def _seen(values: Iterable[object], by_itself: Callable[[object], bool]) -> tuple[_Seen, ...]:
    return tuple([_sight(value, by_itself(value)) for value in values])


def _scope(scope: Mapping[str, object], by_itself: Callable[[object], bool]) -> tuple[_Named, ...]:
    return tuple([(name, *_sight(value, by_itself(value))) for name, value in scope.items()])


def _counts(value: object) -> bool:
    """Whether the value itself may count, or whether something in it does."""
    return type(value) in PLAIN or isinstance(value, (tuple, frozenset))


def _leads_on(value: object) -> bool:
    """Whether there may be code behind the value."""
    return callable(value) or isinstance(value, _NAMESPACES) or bool(held_code(value))


def _counts_or_leads_on(value: object) -> bool:
    return _counts(value) or _leads_on(value)


def is_namespace(value: object) -> bool:
    """Whether a dotted name is followed through the value: its attributes are read without running the user's code."""
    return isinstance(value, _NAMESPACES)


def content_of(space: object) -> Mapping[str, Any]:
    """What the names of a namespace mean."""
    if type(space) is types.ModuleType:  # most are
        return space.__dict__
    if isinstance(space, Deps):
        return given(space)
    return vars(space) if isinstance(space, _NAMESPACES) else {}


def _stands_for_itself(value: object) -> bool:
    """Whether what stands in a class's body counts for more than its type."""
    return (
        _counts(value)
        or _leads_on(value)
        or isinstance(value, (property, classmethod))
        or type(value).__dictoffset__ != 0
    )


def _same(values: Sequence[object] | None, seen: tuple[_Seen, ...] | None) -> bool:
    if values is None or seen is None or len(values) != len(seen):
        return False
    for value, (kind, itself) in zip(values, seen):  # noqa: B905 - they are of one length
        if (type(value) is not kind) if itself is None else (itself() is not value or value is None):
            return False
    return True


def _same_names(scope: Mapping[str, object], seen: tuple[_Named, ...]) -> bool:
    if len(scope) != len(seen):
        return False
    for (name, value), (kept, kind, itself) in zip(scope.items(), seen):  # noqa: B905 - they are of one length
        if name is not kept or (
            (type(value) is not kind) if itself is None else (itself() is not value or value is None)
        ):
            return False
    return True


def _content(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        return _UNBOUND


def member_value(member: enum.Enum) -> object:
    """What a member of an enum stands for, without running the user's code."""
    return vars(member).get("_value_")
