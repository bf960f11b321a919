"""A look at a step: what can be told of it for certain, read in a microsecond and without holding on to its data.

That is the code of its thunk, and what each name and argument is: a small scalar by its value, a long text by its digest, a
function by its code, all else by its type and identity.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import functools
import types
import uuid
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, Final, NamedTuple, TypeAlias

from nbstep.keys import python_scalar
from nbstep.operations import names_in
from nbstep.thunks import Thunk

# What a value is: itself where it is a small scalar, else a tuple whose first item says how to read it.
Sight: TypeAlias = Any

UNBOUND: Final = ("unbound",)
_SMALL: Final = frozenset({type(None), bool, int, float, complex})
_DATED: Final = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID, PurePath)
_BUILTINS: Final = (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType)
# Asked once for all of them, as most values are none of these.
_TOLD: Final = (types.MethodType, functools.partial, type, *_BUILTINS, types.ModuleType, enum.Enum, *_DATED)
_CONTAINERS: Final = frozenset({list, tuple, dict, set, frozenset})
_SHORT: Final = 200
_LARGE: Final = 1 << 512
_SCALAR_TAGS: Final = frozenset({"text", "member"})


class Look(NamedTuple):
    """One step as it was asked; a tuple, as one is made for each call of `step`.

    Attributes:
        callee: What the thunk is, under partials and methods.
        code: Its code, None where it is no function.
        labels: The names that its own code reads and the names of its parameters; then a number for each further argument.
        sights: What they hold, in the same order.
        ids: The identities of what they hold; compared only, never followed.
        read: How many of them are names that the code reads; the others are arguments.
        bound: It is a method whose object comes first among the arguments.
    """

    callee: Sight
    callee_id: int
    code: types.CodeType | None
    labels: tuple[str, ...]
    sights: tuple[Sight, ...]
    ids: tuple[int, ...]
    read: int
    bound: bool


class _Plan(NamedTuple):
    code: types.CodeType  # held, so that its id stays its own
    names: tuple[str, ...]
    cells: tuple[int, ...]
    labels: tuple[str, ...]
    parameters: tuple[str, ...]
    named_only: tuple[str, ...]
    all_labels: tuple[str, ...]
    has_others: bool  # a parameter whose name begins with `_`


_plans: dict[int, _Plan] = {}
_functions: dict[int, tuple[str, types.CodeType, str]] = {}
_MAX_PLANS: Final = 4096


def look_at(thunk: Thunk, args: tuple[Any, ...], like: Look | None = None) -> Look:
    """What a step is, as far as its thunk's own code and arguments tell; `like` is an earlier look, mostly of the same code."""
    callee, code, labels, values, read, bound = _held(thunk, args)
    sights: list[Sight] = []
    if like is not None and code is not None and like.code is code:
        seen = like.callee if like.callee[2] is callee.__qualname__ else _function(callee)
        if read:
            pairs = zip(values[:read], like.sights)  # noqa: B905 - these are the names, of which both have as many
            sights = [known if value is known or _is_still(value, known) else sight(value) for value, known in pairs]
    else:
        seen = sight(callee) if code is None else _function(callee)
    for value in values[len(sights) :] if sights else values:  # mostly a short text or a number, which are told here
        kind = type(value)
        if (kind is str and len(value) <= _SHORT) or (kind is int and -_LARGE < value < _LARGE):
            sights.append(value)
        else:
            sights.append(sight(value))
    fields = (seen, id(callee), code, labels, tuple(sights), tuple(map(id, values)), read, bound)
    return tuple.__new__(Look, fields)  # half the time of Look(…)


def look_like(known: Look, value: Any) -> Look | None:
    """A look at a call with another argument, all names of which mean what they did; None where it had none, or more."""
    read = known.read
    if len(known.sights) != read + 1 or known.code is None or known.bound:
        return None
    seen = value if type(value) is str and len(value) <= _SHORT else sight(value)
    sights, ids = (*known.sights[:read], seen), (*known.ids[:read], id(value))
    return tuple.__new__(Look, (known.callee, known.callee_id, known.code, known.labels, sights, ids, read, False))


def seen_in_place(look: Look, thunk: Thunk, args: tuple[Any, ...]) -> Sequence[tuple[Any, Sight]]:
    """What its names mean that may be seen as something else one day, though it is the same object; each with its sight."""
    values = _held(thunk, args)[3][: look.read]
    named = zip(values, look.sights)  # noqa: B905 - of what is no argument
    return [(value, seen) for value, seen in named if type(seen) is tuple and value is not UNBOUND]


def are_still(seen: Sequence[tuple[Any, Sight]]) -> bool:
    """Whether objects would be seen as they were."""
    return all(_is_still(value, then) or sight(value) == then for value, then in seen)


def changed_since(first: Look, thunk: Thunk, args: tuple[Any, ...]) -> list[str]:
    """The names that hold something else now than at a first look of the same code; without making another look."""
    _, code, labels, values, _, _ = _held(thunk, args)
    if code is not first.code or labels != first.labels:
        return []
    rows = zip(labels, values, first.sights)  # noqa: B905 - they are of one length
    return [
        label
        for label, value, seen in rows
        if value is not seen and not _is_still(value, seen) and sight(value) != seen
    ]


def _is_still(value: Any, seen: Sight) -> bool:
    """Whether the sight of a value is `seen`, told without making it; "no" says nothing."""
    kind = type(value)
    if type(seen) is not tuple or value is UNBOUND:
        return False
    if kind is types.FunctionType:
        return seen[0] == "function" and value.__code__ is seen[1] and value.__qualname__ is seen[2]
    if kind is types.ModuleType:
        return seen[0] == "named" and seen[1] is kind and seen[2] == value.__name__
    if seen[0] != "other" or seen[1] is not kind or kind is types.MethodType:
        return False
    if getattr(value, "__class__", kind) is not kind:  # it says that it is another one, or nothing
        return False
    own = getattr(value, "__dict__", None)
    return type(own) is not dict or "__wrapped__" not in own


def _held(
    thunk: Thunk, args: tuple[Any, ...]
) -> tuple[Thunk, types.CodeType | None, tuple[str, ...], list[Any], int, bool]:
    """What a step calls, its code, then labels, what these hold, how many are read, and whether it is bound, as in a `Look`."""
    keywords: dict[str, Any] = {}
    bound = False
    while type(thunk) is not types.FunctionType:
        if isinstance(thunk, functools.partial):
            args, keywords = thunk.args + args, {**thunk.keywords, **keywords} if thunk.keywords else keywords
            thunk = thunk.func
        elif isinstance(thunk, types.MethodType):
            args, thunk, bound = (thunk.__self__, *args), thunk.__func__, True
        else:
            break
    if type(thunk) is not types.FunctionType:
        owner = getattr(thunk, "__self__", None) if isinstance(thunk, types.BuiltinFunctionType) else None
        if owner is not None and not isinstance(owner, types.ModuleType):
            args, bound = (owner, *args), True
        values: list[Any] = [*args, *keywords.values()]
        labels = (*(["self"] if bound else []), *map(str, range(len(args) - bound)), *keywords)
        return thunk, None, labels, values, 0, bound
    code = thunk.__code__
    plan = _plans.get(id(code)) or _plan(code)
    get = thunk.__globals__.get
    values = [get(name, UNBOUND) for name in plan.names] if plan.names else []
    if plan.cells:
        closure = thunk.__closure__ or ()
        try:
            values += [closure[at].cell_contents for at in plan.cells]
        except ValueError:
            values += [_content(closure[at]) for at in plan.cells]
    labels, read = plan.labels, len(values)
    defaults = thunk.__defaults__ or ()
    count, given = len(plan.parameters), len(args)
    if given == count and not (keywords or thunk.__kwdefaults__ or plan.has_others):  # most
        return thunk, code, plan.all_labels, [*values, *args], read, bound
    if keywords or thunk.__kwdefaults__ or not count - len(defaults) <= given <= count or plan.has_others:
        arguments = _arguments(thunk, plan, args, keywords)
        labels += tuple(arguments)
        values += arguments.values()
    elif count:
        labels = plan.all_labels
        values += args
        values += defaults[given - count :] if given < count else ()
    return thunk, code, labels, values, read, bound


def sight(value: Any) -> Sight:
    """What is remembered of a value."""
    kind = type(value)
    try:
        is_small = kind in _SMALL
    except TypeError:  # a class whose own class has no hash
        return ("other", kind)
    if is_small:
        return (
            value if kind is not int or -_LARGE < value < _LARGE else ("text", kind, 0, hash(value), "a large number")
        )
    if kind is str or kind is bytes:
        return value if len(value) <= _SHORT else ("text", kind, len(value), hash(value), repr(value[:40]))
    if kind is types.FunctionType:
        return _function(value)
    if kind is types.ModuleType:
        return ("named", kind, value.__name__)
    if value is UNBOUND:
        return UNBOUND
    return _rarer(value, kind)


def _function(function: types.FunctionType) -> Sight:
    """Of a function its code and name: the same tuple each time, as a run holds one for each of its steps."""
    code = function.__code__
    known = _functions.get(id(code))
    if known is None or known[1] is not code or known[2] is not function.__qualname__:
        if len(_functions) >= _MAX_PLANS:
            _functions.clear()
        known = _functions[id(code)] = ("function", code, function.__qualname__)
    return known


def _rarer(value: Any, kind: type) -> Sight:
    if kind in _CONTAINERS:
        return ("other", kind)
    if isinstance(value, _TOLD):
        return _told(value, kind)
    if fractions.Fraction in kind.__mro__:  # asking for an instance of it takes ten times as long
        return value
    given = python_scalar(value)
    if given is not value:
        return sight(given)
    own = getattr(value, "__dict__", None)
    wrapped = own.get("__qualname__") if type(own) is dict and "__wrapped__" in own else None
    return ("named", kind, wrapped) if isinstance(wrapped, str) else ("other", kind)


def _told(value: Any, kind: type) -> Sight:
    """Of what is code, a module, a member of an enum, or a scalar by its value."""
    if isinstance(value, types.MethodType):
        function: Any = value.__func__
        if isinstance(function, types.FunctionType):
            return ("method", function.__code__, function.__qualname__)
        return ("other", kind)
    if isinstance(value, functools.partial):
        return sight(value.func)
    if isinstance(value, (type, *_BUILTINS)):
        return ("named", kind, value.__qualname__)
    if isinstance(value, types.ModuleType):
        return ("named", kind, value.__name__)
    return ("member", f"{kind.__qualname__}.{value.name}") if isinstance(value, enum.Enum) else value


def is_scalar(seen: Sight) -> bool:
    """Whether a sight stands for an immutable scalar, so that another one certainly is another value."""
    return type(seen) is not tuple or seen[0] in _SCALAR_TAGS


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return UNBOUND


def _arguments(
    function: types.FunctionType, plan: _Plan, args: tuple[Any, ...], keywords: dict[str, Any]
) -> dict[str, Any]:
    """The arguments by the names of their parameters, defaults applied; those of `*args` by their number."""
    given: dict[str, Any] = dict(zip(plan.parameters, args, strict=False))
    given.update((str(at), value) for at, value in enumerate(args[len(plan.parameters) :], len(plan.parameters)))
    given.update(sorted(keywords.items()) if len(keywords) > 1 else keywords)
    defaults = function.__defaults__ or ()
    for name, value in zip(plan.parameters[len(plan.parameters) - len(defaults) :], defaults, strict=True):
        given.setdefault(name, value)
    for name, value in (function.__kwdefaults__ or {}).items():
        if name in plan.named_only:
            given.setdefault(name, value)
    return {name: value for name, value in given.items() if not name.startswith("_")}


def _plan(code: types.CodeType) -> _Plan:
    """What to read for a thunk of this code: not what it writes, which is state, nor names that begin with `_`."""
    told = names_in(code)
    names = tuple(name for name in told.globals if name not in told.written_globals and not name.startswith("_"))
    cells = tuple(
        at for at, name in enumerate(code.co_freevars) if name not in told.written_cells and not name.startswith("_")
    )
    count, named_only = code.co_argcount, code.co_kwonlyargcount
    labels, parameters = names + tuple(code.co_freevars[at] for at in cells), code.co_varnames[:count]
    plan = _Plan(
        code, names, cells, labels, parameters, code.co_varnames[count : count + named_only], labels + parameters,
        any(name.startswith("_") for name in parameters),
    )  # fmt: skip
    if len(_plans) >= _MAX_PLANS:
        _plans.clear()
    _plans[id(code)] = plan
    return plan
