"""Compares two looks: what makes two steps certainly different ones. Whatever may be an edit or new data is left to drift."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

from nbstep.collisions.look import UNBOUND, Look, Sight, is_scalar, sight
from nbstep.collisions.words import call_in, said_by

_LAMBDA: Final = "<lambda>"


@dataclass(frozen=True, slots=True)
class Difference:
    """What certainly differs: a value, by the name it has; without a name the work itself."""

    name: str | None = None
    first: Sight = None
    now: Sight = None


OTHER_WORK: Final = Difference()


@dataclass(frozen=True, slots=True)
class _Seen:
    """A value in a look: what it is, and the name by which the code reads it, where it does."""

    sight: Sight
    id: int
    name: str | None = None


@dataclass(frozen=True, slots=True)
class _Call:
    """A step as one call: what it calls, the attributes on the way there, and the arguments by position or name."""

    base: _Seen
    attributes: tuple[str, ...]
    arguments: tuple[tuple[str, _Seen], ...]
    bound: bool

    def name(self) -> str | None:
        """The last name of what is called."""
        return self.attributes[-1] if self.attributes else _own_name(self.base.sight)


def difference(first: Look, now: Look, state: frozenset[str] = frozenset()) -> Difference | None:
    """What makes two steps certainly different ones; None where they may be one.

    Names in `state` changed while their thunk ran: a log or a counter, nothing that the step depends on.
    """
    one, other = _values(first, state), _values(now, state)
    if first.code is not None and first.code == now.code:
        if one.keys() != other.keys():
            return OTHER_WORK
        return _in_values(one, other)
    calls, others = list(_calls(first, one)), list(_calls(now, other))
    if _is_called(first, others) or _is_called(now, calls):
        return None
    found = [_between_calls(*pair) for pair in product(calls, others)]
    if None in found or _begins_with(first, now, other) or _begins_with(now, first, one):
        return None
    if found:
        return next((one for one in found if one is not None and one.name is not None), OTHER_WORK)
    return _between_bodies(first, now, one, other)


def _values(look: Look, state: frozenset[str]) -> dict[str, _Seen]:
    rows = zip(look.labels, look.sights, look.ids, strict=True)
    return {name: _Seen(seen, ident, name) for name, seen, ident in rows if name not in state}


def _in_values(first: Mapping[str, _Seen], now: Mapping[str, _Seen]) -> Difference | None:
    """Under one name: a scalar that is another one, or a function that does other work."""
    for name in [name for name in first if name in now]:
        one, other = first[name], now[name]
        if scalars_differ(one.sight, other.sight):
            return Difference(name, one.sight, other.sight)
        if _functions_differ(one.sight, other.sight):
            return OTHER_WORK
    return None


def scalars_differ(one: Sight, other: Sight) -> bool:
    """Whether two values are scalars, and not the same; NaN is no other value than NaN, 1.0 none than 1."""
    if not (is_scalar(one) and is_scalar(other)):
        return False
    return bool(one != other) and not (one != one and other != other)


# Calls


def _calls(look: Look, values: Mapping[str, _Seen]) -> Iterator[_Call]:
    """The step as a call of what was handed to `step`; and where that does nothing but call something, as that call."""
    if look.code is None or look.code.co_name != _LAMBDA:
        arguments = tuple((label, values[label]) for label in look.labels[look.read :] if label in values)
        yield _Call(_Seen(look.callee, look.callee_id), (), arguments, look.bound)
    call = call_in(look.code) if look.code is not None else None
    if call is not None:
        base = values.get(call.path[0], _Seen(UNBOUND, 0, call.path[0]))
        seen = [
            (a.label, _Seen(sight(a.constant), 0) if a.name is None else values.get(a.name, _Seen(UNBOUND, 0, a.name)))
            for a in call.arguments
        ]
        on_object = len(call.path) > 1 and base.sight[:1] != ("named",) if type(base.sight) is tuple else True
        yield _Call(base, call.path[1:], tuple(seen), on_object or base.sight[0] == "method")


def _is_called(look: Look, calls: list[_Call]) -> bool:
    """Whether a step is handed the very thing that another one calls, without arguments: `f`, and `lambda: f()`."""
    return any(
        not call.attributes
        and not call.arguments
        and (call.base.id == look.callee_id or call.base.sight == look.callee)
        for call in calls
    )


def _between_calls(first: _Call, now: _Call) -> Difference | None:
    if _callees_differ(first, now):
        return OTHER_WORK
    one, other = dict(_labelled(first, now)), dict(_labelled(now, first))
    named = _in_values(one, other)
    if named is not None:
        return named
    for label in one.keys() & other.keys():
        if _names_differ(one[label], other[label]):
            return OTHER_WORK
    return None


def _labelled(call: _Call, other: _Call) -> Iterator[tuple[str, _Seen]]:
    """The arguments by the names of their parameters, where the code of what is called is known."""
    code = _code(call.base.sight) if not call.attributes else _code(other.base.sight)
    parameters = code.co_varnames[call.bound : code.co_argcount] if code is not None else ()
    for label, seen in call.arguments:
        at = int(label) if label.isdigit() else -1
        yield parameters[at] if 0 <= at < len(parameters) else label, seen


def _callees_differ(first: _Call, now: _Call) -> bool:
    if first.attributes or now.attributes:
        if not (first.attributes and now.attributes):
            return first.name() != now.name()
        if first.attributes != now.attributes:
            return True
        return scalars_differ(first.base.sight, now.base.sight) or _names_differ(first.base, now.base)
    one, other = first.base, now.base
    if one.id == other.id != 0:
        return False
    if one.sight == other.sight:
        return _names_differ(one, other)
    if _own_name(one.sight) is None and _own_name(other.sight) is None and one.name == other.name:
        return one.name is None
    return _functions_differ(one.sight, other.sight) or _kinds_differ(one.sight, other.sight)


def _names_differ(one: _Seen, other: _Seen) -> bool:
    """Whether two names are no two names of one thing."""
    if one.name is None or other.name is None or one.name == other.name or one.id == other.id:
        return False
    return not is_scalar(one.sight) and not is_scalar(other.sight)  # those are told by their values


def _functions_differ(one: Sight, other: Sight) -> bool:
    """Whether two functions are certainly not one: not two closures of one, nor one with and without a decorator."""
    code, another = _code(one), _code(other)
    if code is None or another is None or code == another:
        return code is not None and another is not None and _own_name(one) != _own_name(other)
    name, named = _own_name(one), _own_name(other)
    if name != named:
        return True
    if _LAMBDA not in (code.co_name, another.co_name) and (code.co_name != name or another.co_name != named):
        return False  # a wrapper that took the name of what it wraps
    said, says = said_by(code), said_by(another)
    return (said.names, said.attributes, said.constants) != (says.names, says.attributes, says.constants)


def _kinds_differ(one: Sight, other: Sight) -> bool:
    """Whether two callables, not both of them functions, are certainly not one."""
    if _code(one) is not None and _code(other) is not None:
        return False
    return _own_name(one) != _own_name(other) and UNBOUND not in (one, other)


def _code(seen: Sight) -> types.CodeType | None:
    return seen[1] if type(seen) is tuple and seen[0] in {"function", "method"} else None


def _own_name(seen: Sight) -> str | None:
    named = type(seen) is tuple and seen[0] in {"function", "method", "named"}
    return seen[2].rpartition(".")[2] if named else None


# Bodies


def _begins_with(look: Look, other: Look, values: Mapping[str, _Seen]) -> bool:
    """Whether the code of one begins with what the other calls: its arguments may be made inside or before."""
    if look.code is None or call_in(look.code) is not None:
        return False
    path = said_by(look.code).first
    return bool(path) and any(path[-1] in {call.name(), call.base.name} for call in _calls(other, values))


def _between_bodies(first: Look, now: Look, one: Mapping[str, _Seen], other: Mapping[str, _Seen]) -> Difference | None:
    if first.code is None or now.code is None:
        return OTHER_WORK
    said, says = said_by(first.code), said_by(now.code)
    named = _in_values(one, other)
    if named is not None and named.name is not None:
        return named
    constants, others = _constants(said.constants, one), _constants(says.constants, other)
    if named is not None or said.attributes != says.attributes or constants != others:
        return OTHER_WORK
    things, differing = _things(said.names, one), _things(says.names, other)
    missing = [t for t in things if not _has(differing, t)] + [t for t in differing if not _has(things, t)]
    return OTHER_WORK if missing else None


def _constants(constants: frozenset[Any], values: Mapping[str, _Seen]) -> set[Any]:
    held = [seen.sight for seen in values.values() if is_scalar(seen.sight) and seen.sight is not None]
    return {*constants, *(one if one == one else repr(one) for one in held)}


def _things(names: frozenset[str], values: Mapping[str, _Seen]) -> list[_Seen]:
    known = [values.get(name, _Seen(UNBOUND, 0, name)) for name in names if not name.startswith("_")]
    return [seen for seen in known if not is_scalar(seen.sight)]


def _has(things: list[_Seen], wanted: _Seen) -> bool:
    return any(one.name == wanted.name or (one.id == wanted.id and one.id != 0) for one in things)
