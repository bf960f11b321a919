"""A glance: the exact digest of what is new to this process, and a watch of it, in 40% of the time that a look takes.

Most steps are looked up once in a process, and all that is asked then is whether their code is what an entry knows. A look
(`code.py`) takes the parts one by one, as other steps may lead to them too, and tells what they are called and what they read. A
glance takes all at once. Functions that name functions, classes and plain values of their own module are read by the names in
them, all others as a look does.
"""

from __future__ import annotations

import itertools
import types
import weakref
from collections.abc import Callable, Collection
from typing import Any, Final, TypeAlias

from nbstep.drift.fields import DECLARES
from nbstep.drift.parts import globals_named, is_users, named_parts, only_called, own_label
from nbstep.drift.pieces import (
    exact_of,
    exact_of_class,
    exact_of_function,
    exact_rest,
    exact_text,
    without_state,
)
from nbstep.drift.plain import PLAIN, is_plain
from nbstep.drift.sights import UNBOUND, NamedSight, Reference, content_of_cell, leads_on, reference_to, sights
from nbstep.drift.sources import Sources, named_in, named_in_class, sources_of
from nbstep.drift.watch import Part, Watch
from nbstep.operations import globals_alone, mentioned

_MOST: Final = 8  # parts: of more, what is remembered of each saves more time than this does
_FIXED: Final = frozenset({types.GetSetDescriptorType, types.MemberDescriptorType})
_Body: TypeAlias = tuple[dict[str, types.FunctionType], list[tuple[str, Any]]]
_OBJECT: Final = (object,)


class Glance:
    """What was found, good as long as the watch holds."""

    __slots__ = ("_sources", "exact", "watch")

    def __init__(self, exact: str, watch: Watch) -> None:
        self.exact = exact
        self.watch = watch
        self._sources: Sources | None = None

    def sources(self, first: Any) -> Sources | None:
        """Where the inputs are; None where two have one name, which a look tells apart."""
        if self._sources is None:
            named = [named_in(*one) for one in self.watch.functions(first)]
            named += [named_in_class(*one) for one in self.watch.classes()]
            code = first.__code__
            labels: dict[str, object] = {}
            labels.update(dict.fromkeys(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]))
            for place, source, _ in [one for found in named for one in found.inputs]:
                if source.label in labels and (place is None or labels[source.label] != place):
                    return None
                labels[source.label] = place
            self._sources = sources_of(named, self.watch.codes())
        return self._sources


def glance(first: Part, is_known: Callable[[object], bool]) -> Glance | None:
    """What is behind a thunk that `first` stands for; None where only a look can tell, or is as fast.

    Args:
        first: The function.
        is_known: Whether a look remembers what is behind a function or class.
    """
    if not isinstance(first, types.FunctionType) or first.__defaults__ or first.__kwdefaults__:
        return None
    scope = first.__globals__
    if any(map(is_known, map(scope.get, first.__code__.co_names))):
        return None
    watch = Watch(first)
    functions: list[Any] = [first]
    bare: list[Any] = []
    codes: list[types.CodeType] = []
    leads_further = False
    beside: types.FunctionType | None = None
    parts: dict[str, Part] = {}
    bodies: dict[str, _Body] = {}
    unbound: list[str] = []
    objects: dict[str, Reference] = {"__name__": reference_to(scope.get("__name__"))}
    kinds: dict[str, type] = {}
    for function in functions:  # it grows
        code, closure = function.__code__, function.__closure__
        names = mentioned(code) if types.CodeType in map(type, code.co_consts) else code.co_names
        is_bare = closure is None and function.__defaults__ is None and not code.co_kwonlyargcount
        named: list[Part] | None = []
        if function.__globals__ is not scope or not (is_bare or _holds_plain(function, names)):
            named = None
        elif scope.keys().isdisjoint(names):
            unbound += names
        else:
            named = _meant(names, code, scope, objects, kinds, unbound)
        if named is None:
            named = [part for _, part in named_parts(function, watch)]
        elif function is first or not is_bare:
            watch.note(function, code, (), (), sights(map(content_of_cell, closure), leads_on) if closure else ())
            if function is not first:
                beside = function
        else:
            bare.append(function)
            codes.append(code)
        for part in named:  # it may grow
            label = part.__qualname__
            if "<" in label or label == "_":
                label = own_label(part)
            known = parts.get(label)
            if known is None:
                if not label or len(parts) == _MOST:
                    return None
                parts[label] = part
                if type(part) is types.FunctionType:
                    functions.append(part)
                else:
                    body = _body_of(part, scope, watch)
                    if body is None:
                        leads_further = True
                        named += [one for _, one in named_parts(part, watch)]
                    else:
                        bodies[label] = body
                        functions += body[0].values()
                        if part.__bases__ != _OBJECT:
                            named += [base for base in part.__bases__ if is_users(base)]
            elif known is not part:
                return None
    watch.note_bare(bare, codes)
    watch.note_scope(bare[-1] if bare else beside, objects, kinds, unbound)
    if functions.count(first) > 1 or (leads_further and watch.leads_back()):
        return None
    # now that all is watched: what changes in between is noticed later
    exact = {
        label: exact_of_function(part)
        if type(part) is types.FunctionType
        else exact_of_class(part, *bodies[label])
        if label in bodies
        else exact_of(part)
        for label, part in parts.items()
    }
    called = only_called(first)
    rest = exact_rest(None if called is None else exact.get(own_label(called)), exact.items())
    return Glance(exact_text(exact_of_function(first), rest), watch)


def _meant(
    names: tuple[str, ...],
    code: types.CodeType,
    scope: dict[str, Any],
    objects: dict[str, Reference],
    kinds: dict[str, type],
    unbound: list[str],
) -> list[Part] | None:
    """The user's functions and classes that names mean to some code; None where they mean more than these and plain values."""
    found: list[Part] = []
    read: Collection[str] = ()
    for name in names:
        value = scope.get(name, UNBOUND)
        kind = type(value)
        if kind is types.FunctionType or kind is type:
            if not (is_users(value) if kind is type else value.__globals__ is scope and value.__closure__ is None):
                return None
            objects[name] = weakref.ref(value)
            if not read:
                read = names if globals_alone(code, names) and "__annotations__" not in names else globals_named(code)
            if name in read:  # else it is an attribute's, or an annotation's
                found.append(value)
        elif value is UNBOUND:
            unbound.append(name)
        elif kind in PLAIN:
            kinds[name] = kind
        else:
            return None
    return found


def _holds_plain(function: types.FunctionType, names: tuple[str, ...]) -> bool:
    """Whether a function's defaults and closure cells are plain, and the cells bear none of these names."""
    defaults, named_defaults, closure = function.__defaults__, function.__kwdefaults__, function.__closure__
    return (
        PLAIN.issuperset(map(type, defaults or ()))
        and PLAIN.issuperset(map(type, (named_defaults or {}).values()))
        and PLAIN.issuperset(map(type, map(content_of_cell, closure or ())))
        and {*function.__code__.co_freevars}.isdisjoint(names)
    )


def _body_of(cls: Any, scope: object, watch: Watch) -> _Body | None:
    """The functions and the plain values in a class's body, which is watched; None where there is more."""
    methods: dict[str, types.FunctionType] = {}
    plain: list[tuple[str, Any]] = []
    body: list[NamedSight] = []
    for name, value in vars(cls).items():
        kind = type(value)
        if kind is types.FunctionType and value.__globals__ is scope:
            methods[name] = value
            body.append((name, kind, weakref.ref(value)))
        elif kind in PLAIN or (kind is tuple and is_plain(value)):
            body.append((name, kind, None if value is None else itertools.repeat(value).__next__))
            if not name[:2] == "__" == name[-2:]:
                plain.append((name, value))
        elif kind in _FIXED:
            body.append((name, kind, None))
        else:
            return None
    if type(cls) is not type or not DECLARES.isdisjoint(vars(cls)):
        return None
    watch.note_class(cls, tuple(body))
    return methods, without_state(plain, methods.values()) if plain else plain
