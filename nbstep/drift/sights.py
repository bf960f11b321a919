"""Sights: what is remembered of a value to tell later whether it is still the same; and which values count for more than a type."""

from __future__ import annotations

import itertools
import types
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from nbstep.deps import Deps, given
from nbstep.drift.held import held_code
from nbstep.drift.plain import PLAIN

Reference: TypeAlias = Callable[[], Any]
# The type of a value, and the value itself where not any of that type will do.
Sight: TypeAlias = tuple[type, Reference | None]
NamedSight: TypeAlias = tuple[str, type, Reference | None]

_NAMESPACES: Final = (types.ModuleType, types.SimpleNamespace, Deps)


class Unbound:
    """What a name that is not bound, or an empty cell, holds."""


UNBOUND: Final = Unbound()

# Known by their types alone, as most values are.
_LEADING_ON: Final[Mapping[type, bool]] = {
    **dict.fromkeys(PLAIN, False),
    **dict.fromkeys((types.FunctionType, types.BuiltinFunctionType, types.MethodType, type, types.ModuleType), True),
}
_STANDING_FOR_ITSELF: Final[Mapping[type, bool]] = {
    **dict.fromkeys((*PLAIN, types.FunctionType, property, classmethod, type), True),
    **dict.fromkeys((types.GetSetDescriptorType, types.MemberDescriptorType), False),
}


MAY_HOLD: Final = frozenset(
    {list, dict, tuple}
)  # code may be put into them, and a tuple with some in the place of one without


def reference_to(value: object) -> Reference:
    """What gives the value when called: weakly where that can be, then None once it is gone."""
    return weakref.ref(value) if type(value).__weakrefoffset__ else itertools.repeat(value).__next__


def sight(value: object, by_itself: bool) -> Sight:
    """What is remembered of a value; `by_itself` says that no other of its type will do."""
    return type(value), reference_to(value) if by_itself and value is not None else None


def sights(values: Iterable[object], by_itself: Callable[[object], bool]) -> tuple[Sight, ...]:
    """The same of several values."""
    return tuple(
        [(type(value), reference_to(value) if value is not None and by_itself(value) else None) for value in values]
    )


def named_sights(scope: Mapping[str, object], by_itself: Callable[[object], bool]) -> tuple[NamedSight, ...]:
    """The same of what names hold."""
    return tuple(
        [
            (name, type(value), reference_to(value) if value is not None and by_itself(value) else None)
            for name, value in scope.items()
        ]
    )


def same(values: Sequence[object] | None, seen: tuple[Sight, ...] | None) -> bool:
    """Whether values are as they were seen."""
    if values is None or seen is None or len(values) != len(seen):
        return False
    for value, (kind, itself) in zip(values, seen):  # noqa: B905 - they are of one length
        if (
            (type(value) is not kind or (kind in MAY_HOLD and held_code(value)))
            if itself is None
            else (itself() is not value or value is None)
        ):
            return False
    return True


def same_names(scope: Mapping[str, object], seen: tuple[NamedSight, ...]) -> bool:
    """Whether names, in their order, hold what they were seen to hold."""
    if len(scope) != len(seen):
        return False
    for (name, value), (kept, kind, itself) in zip(scope.items(), seen):  # noqa: B905 - they are of one length
        if name is not kept or (
            (type(value) is not kind or (kind in MAY_HOLD and held_code(value)))
            if itself is None
            else (itself() is not value or value is None)
        ):
            return False
    return True


def leads_on(value: object) -> bool:
    """Whether there may be code behind the value."""
    known = _LEADING_ON.get(type(value))
    if known is not None:
        return known
    return callable(value) or isinstance(value, _NAMESPACES) or bool(held_code(value))


def counts_or_leads_on(value: object) -> bool:
    """Whether the value itself may count, or something in it, or there may be code behind it."""
    return type(value) in PLAIN or _counts(value) or leads_on(value)


def stands_for_itself(value: object) -> bool:
    """Whether what stands in a class's body counts for more than its type."""
    known = _STANDING_FOR_ITSELF.get(type(value))
    if known is not None:
        return known
    return (
        _counts(value)
        or leads_on(value)
        or isinstance(value, (property, classmethod))
        or type(value).__dictoffset__ != 0
    )


def _counts(value: object) -> bool:
    return type(value) in PLAIN or isinstance(value, (tuple, frozenset))


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


def content_of_cell(cell: types.CellType) -> object:
    """What a closure cell holds; `UNBOUND` where it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return UNBOUND
