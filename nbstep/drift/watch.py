"""A watch: all that was read to make a fingerprint, so that it can be told later whether the same would be read again.

What counts only by its type is watched by its type. What may hold much memory, a function's closure or a model, is watched
through weak references: a remembered fingerprint keeps alive only code, classes and plain values.
"""

from __future__ import annotations

import enum
import functools
import itertools
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from nbstep.drift.held import held_code
from nbstep.drift.sights import (
    MAY_HOLD,
    UNBOUND,
    NamedSight,
    Reference,
    Sight,
    content_of,
    content_of_cell,
    counts_or_leads_on,
    leads_on,
    named_sights,
    reference_to,
    same,
    same_names,
    sight,
    sights,
    stands_for_itself,
)
from nbstep.drift.watched import WatchedClass, WatchedFunction, WatchedScope
from nbstep.operations import mentioned, names_in

Part: TypeAlias = types.FunctionType | type

_CAN_BE_ASSIGNED: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: `__class__` of all other objects is fixed

_none: Final = itertools.repeat(None).__next__
_MAIN: Final = sys.intern("__main__")
_IN_MAIN: Final[NamedSight] = ("__name__", *sight(_MAIN, by_itself=True))


class Beside(NamedTuple):
    """Of which modules which attributes are watched, and how of which objects something is read."""

    attributes: Sequence[tuple[types.ModuleType, str]]
    reads: Sequence[tuple[Callable[[Any], Any], Any]]


class Watch:
    """What can change a fingerprint, but for the thunk's own code and defaults, is read through here, and remembered.

    Installed packages count by name only: their functions and classes are watched as objects, not for what is patched onto them.

    Attributes:
        met_again: The thunk's own function was met again behind what it names, so that no other function can stand in for it.
    """

    __slots__ = (
        "_attributes",
        "_bare",
        "_beside",
        "_by_scope",
        "_classes",
        "_first",
        "_functions",
        "_held",
        "_is_told",
        "_owner",
        "_reads",
        "_scopes",
        "_told",
        "met_again",
    )

    def __init__(self, first: Part | None = None, owner: type | None = None) -> None:
        """Of a thunk that `first` stands for, which is read first; `owner` is the class of its `self`, where it has one.

        Without a thunk it is of a part alone, to be included in others.
        """
        self.met_again = isinstance(first, type)
        self._first = _none if first is None else weakref.ref(first)
        self._owner = _none if owner is None else reference_to(owner)
        self._scopes: set[int] = set()
        self._functions: list[WatchedFunction] = []
        self._by_scope: tuple[WatchedScope, ...] | None = None
        self._is_told = True  # all that names mean is in these
        self._bare: tuple[tuple[Reference, types.CodeType, str], ...] = ()
        self._told: tuple[WatchedScope, ...] = ()
        self._beside: Reference | None = (
            None  # gives a function of the thunk's namespace, where the thunk has to be of that
        )
        self._classes: list[WatchedClass] = []
        self._held: list[tuple[Reference, tuple[Reference, ...]]] = []
        self._attributes: list[tuple[Reference, str, type, Reference | None]] = []
        self._reads: list[tuple[Callable[[Any], Any], Reference, type, Reference | None]] = []

    def values(self, function: types.FunctionType) -> dict[str, Any]:
        """What the globals and closure cells that a function names hold."""
        self._is_told = False
        code, scope, closure = function.__code__, function.__globals__, function.__closure__
        is_first = not self._functions and function is self._first()
        values: dict[str, Any] = {}
        watched: list[NamedSight] = []
        unbound: Sequence[str] = mentioned(code)
        if not scope.keys().isdisjoint(
            unbound
        ):  # else it names nothing but what is built in, whatever of that are attributes
            unbound = []
            for name in names_in(code).globals:
                value = scope.get(name, UNBOUND)
                if value is UNBOUND:
                    unbound.append(name)
                else:
                    values[name] = value
                    watched.append((name, type(value), reference_to(value) if leads_on(value) else None))
        if id(scope) not in self._scopes:  # it says whose the function is
            name = scope.get("__name__", UNBOUND)
            watched.append(_IN_MAIN if name is _MAIN else ("__name__", *sight(name, by_itself=True)))
            if not is_first:  # the thunk may be another time one of other globals
                self._scopes.add(id(scope))
        cells: tuple[Sight, ...] = ()
        if closure:
            held = [*map(content_of_cell, closure)]
            cells = sights(held, leads_on)
            values.update([(name, one) for name, one in zip(code.co_freevars, held, strict=True) if one is not UNBOUND])
        self.note(function, code, watched, unbound, cells)
        return values

    def note(
        self,
        function: types.FunctionType,
        code: types.CodeType,
        names: Sequence[NamedSight] = (),
        unbound: Sequence[str] = (),
        cells: tuple[Sight, ...] = (),
    ) -> None:
        """Watches a function, of whose code the names were read."""
        defaults = function.__defaults__
        is_first = not self._functions and function is self._first()
        # of the thunk's own what is plain is told each time: `lambda uid=uid: …` has other defaults each time round a loop
        by_itself = leads_on if is_first else counts_or_leads_on
        read = (
            None if is_first else weakref.ref(function),
            code,
            function.__qualname__,
            None if defaults is None else sights(defaults, by_itself),
            named_sights(function.__kwdefaults__ or {}, by_itself) if code.co_kwonlyargcount else None,
            names,
            unbound,
            cells,
        )
        self._functions.append(tuple.__new__(WatchedFunction, read))  # in half the time

    def note_bare(self, functions: Iterable[types.FunctionType], codes: Iterable[types.CodeType]) -> None:
        """The same of functions without defaults and closures, other than the thunk, in a third of the time."""
        names = [function.__qualname__ for function in functions]
        self._bare = (*zip(map(weakref.ref, functions), codes, names),)  # noqa: B905 - they are as many

    def note_scope(
        self,
        function: types.FunctionType | None,
        objects: Mapping[str, Reference],
        kinds: Mapping[str, type],
        unbound: Iterable[str],
    ) -> None:
        """Watches what names mean to the functions of the thunk's namespace, of which `function` is one; None is the thunk."""
        self._beside = reference = None if function is None else weakref.ref(function)
        self._told = (WatchedScope(reference, (*objects.items(),), (*kinds.items(),), (*unbound,)),)

    def variables(self, cls: type) -> dict[str, Any]:
        """What stands in a class's body; of the members of an enum their values."""
        found = dict(vars(cls))
        self.note_class(cls, named_sights(found, stands_for_itself))
        for name, value in found.items():
            if is_member(value):
                found[name] = self.read(member_value, value)
        return found

    def note_class(self, cls: type, body: tuple[NamedSight, ...]) -> None:
        """Watches a class, of which the body was read."""
        self._classes.append(tuple.__new__(WatchedClass, (weakref.ref(cls), cls.__qualname__, cls.__bases__, body)))

    def attribute(self, space: object, name: str) -> Any:
        """What a name means in a module, or in another namespace; None where it means nothing."""
        value = content_of(space).get(name, UNBOUND)
        self._attributes.append((reference_to(space), name, *sight(value, leads_on(value))))
        return None if value is UNBOUND else value

    def read(self, how: Callable[[Any], Any], value: Any) -> Any:
        """What `how` gives for a value."""
        found = how(value)
        if how is type and not found.__flags__ & _CAN_BE_ASSIGNED:
            return found
        self._reads.append((how, reference_to(value), *sight(found, by_itself=True)))
        return found

    def held(self, value: Any) -> tuple[tuple[str, Any], ...]:
        """The functions and classes that a value holds, each with where."""
        found = held_code(value)
        if found or type(value) is functools.partial:  # which may be given some at any time
            self._held.append((reference_to(value), tuple([reference_to(item) for _, item in found])))
        return found

    def include(self, other: Watch) -> None:
        """Watches what the watch of a part does as well."""
        if other._classes:  # one of its methods may be the thunk's own
            first = self._first()
            self.met_again |= any(read.function is not None and read.function() is first for read in other._functions)
        self._is_told &= other._is_told
        self._functions += other._functions
        self._classes += other._classes
        self._held += other._held
        self._attributes += other._attributes
        self._reads += other._reads

    def leads_back(self) -> bool:
        """Whether the thunk's own function was met again."""
        first = self._first()
        return any(read.function is not None and read.function() is first for read in self._functions)

    def beside_names(self) -> Beside | None:
        """What is watched beside what the thunk's own function names, where that is of installed packages alone; None where not."""
        others = self._bare or self._classes or self._held or self._beside or self._owner()
        if others or self.met_again or len(self._functions) > 1:
            return None
        attributes = [(reference(), name) for reference, name, _, _ in self._attributes]
        modules = [(space, name) for space, name in attributes if isinstance(space, types.ModuleType)]
        reads = [(how, reference()) for how, reference, _, _ in self._reads]
        return Beside(modules, reads) if len(modules) == len(attributes) else None

    def codes(self) -> tuple[types.CodeType, ...]:
        """The code of the functions that were read, the thunk's own first."""
        return (*[read.code for read in self._functions], *[code for _, code, _ in self._bare])

    def functions(self, first: Part) -> Iterator[tuple[Reference | None, types.FunctionType]]:
        """The functions that were read, the thunk's own first, each with what gives it later; None for the thunk's own."""
        for reference in (*[read.function for read in self._functions], *[reference for reference, _, _ in self._bare]):
            function = first if reference is None else reference()
            if isinstance(function, types.FunctionType):
                yield reference, function

    def classes(self) -> Iterator[tuple[Reference, type]]:
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
        if self._beside is not None and not _is_beside(self._beside(), first):
            return False
        return (
            self._bare_hold(first)
            and self._functions_hold(first)
            and self._names_hold(first)
            and self._classes_hold()
            and self._objects_hold()
        )

    def _bare_hold(self, first: Any) -> bool:
        """Whether the functions without defaults and closures are what they were."""
        for reference, code, qualname in self._bare:
            function: Any = reference()
            if function is None or function.__code__ is not code or function.__qualname__ is not qualname:
                return False
            if function.__defaults__ is not None or function is first:
                return False
        return True

    def _functions_hold(self, first: Any) -> bool:
        """The same of the others, their defaults and what their closures hold."""
        for reference, code, qualname, defaults, named_defaults, _, _, cells in self._functions:
            function = first if reference is None else reference()
            if reference is not None:
                if function is None or function.__code__ is not code or function.__qualname__ is not qualname:
                    return False
                if function is first and not self.met_again:
                    return False
            now = function.__defaults__
            if now is not defaults and not same(now, defaults):
                return False
            if named_defaults is not None and not same_names(function.__kwdefaults__ or {}, named_defaults):
                return False
            if cells and not same(_contents(function.__closure__ or ()), cells):
                return False
        return True

    def _names_hold(self, first: Any) -> bool:
        """Whether the names that the functions read mean what they did."""
        for reference, objects, kinds, unbound in self._by_scope or self._compiled():
            function = first if reference is None else reference()
            get = function.__globals__.get
            for name, itself in objects:
                value = get(name)
                if itself() is not value or value is None:
                    return False
            for name, kind in kinds:
                value = get(name, UNBOUND)
                if type(value) is not kind or (kind in MAY_HOLD and held_code(value)):
                    return False
            if unbound and not function.__globals__.keys().isdisjoint(unbound):
                return False
        return True

    def _classes_hold(self) -> bool:
        """Whether the classes and what stands in their bodies are what they were."""
        for reference, qualname, bases, variables in self._classes:
            cls = reference()
            if cls is None or cls.__qualname__ is not qualname or cls.__bases__ is not bases:
                return False
            if not same_names(vars(cls), variables):
                return False
        return True

    def _objects_hold(self) -> bool:
        """Whether objects hold the code that they did, and what is read of them, or stands in them under a name, is the same."""
        for reference, items in self._held:
            now = held_code(reference())
            if len(now) != len(items) or any(item() is not value for item, (_, value) in zip(items, now, strict=True)):
                return False
        for reference, name, kind, itself in self._attributes:
            space = reference()
            content = space.__dict__ if type(space) is types.ModuleType else content_of(space)
            if not _is_as_seen(content.get(name, UNBOUND), kind, itself):
                return False
        return all(_is_as_seen(how(reference()), kind, itself) for how, reference, kind, itself in self._reads)

    def _compiled(self) -> tuple[WatchedScope, ...]:
        """What all functions name, by their namespaces: asked once for all of them, and gathered when it is first asked."""
        if self._is_told:
            self._by_scope = self._told
            return self._told
        scopes: dict[int | None, tuple[Reference | None, dict[Any, NamedSight], dict[str, None]]] = {}
        for read in self._functions:
            function: Any = None if read.function is None else read.function()
            at = None if function is None else id(function.__globals__)
            if at not in scopes:
                scopes[at] = read.function, {}, {}
            _, names, unbound = scopes[at]
            for one in read.names:
                names[one if one[2] is None else (one[0], id(one[2]()))] = one
            for name in read.unbound:
                unbound[name] = None
        self._by_scope = (
            *self._told,
            *[
                WatchedScope(
                    function,
                    tuple([(name, itself) for name, _, itself in names.values() if itself is not None]),
                    tuple([(name, kind) for name, kind, itself in names.values() if itself is None]),
                    (*unbound,),
                )
                for function, names, unbound in scopes.values()
            ],
        )
        return self._by_scope


def _is_beside(beside: Any, first: Part | None) -> bool:
    """Whether the thunk's function is of the namespace of another one; that may be gone."""
    return beside is not None and isinstance(first, types.FunctionType) and beside.__globals__ is first.__globals__


def _contents(closure: Sequence[types.CellType]) -> Sequence[Any]:
    try:
        return [cell.cell_contents for cell in closure]
    except ValueError:  # some are empty
        return [content_of_cell(cell) for cell in closure]


def _is_as_seen(value: Any, kind: type, itself: Reference | None) -> bool:
    """Whether a value is the object that was seen, or where only its type counts, of that type."""
    if itself is None:
        return type(value) is kind and not (kind in MAY_HOLD and held_code(value))
    return itself() is value and value is not None


def is_member(value: object) -> bool:
    """Whether a value is a member of an enum: asked of its class, in a third of the time."""
    return isinstance(type(value), enum.EnumMeta)


def member_value(member: enum.Enum) -> object:
    """What a member of an enum stands for, without running the user's code."""
    return vars(member).get("_value_")
