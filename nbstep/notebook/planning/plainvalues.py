"""Works out expressions of literals and plain values, as `range(1, n)` or `f"user:{uid}"`; nothing of the user's runs. Pure.

Plain are texts, numbers, dates and the like, and lists, tuples, dicts and ranges of them, of these very types: whatever works on
them is Python's own.
"""

from __future__ import annotations

import ast
import datetime
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from nbstep.drift.scalars import SCALARS
from nbstep.keys import make_key

MOST_ITEMS: Final = 10_000
_MOST_CHARS: Final = 10_000
_DEEPEST: Final = 4
_LARGEST: Final = 1 << 64
_LONG_NUMBER: Final = re.compile(r"\d{4}")  # in a format: so wide is no key


class NotPlain(Exception):  # noqa: N818 - the name says what happened
    """An expression holds something that only a run tells."""


def _numbered(items: Any, start: int = 0) -> list[Any]:
    return list(enumerate(items, start))


def _together(*several: Any, strict: bool = False) -> list[Any]:
    return list(zip(*several, strict=strict))


def _turned(items: Any) -> list[Any]:
    return list(reversed(items))


_OPERATORS: Final[Mapping[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
_SIGNS: Final[Mapping[type[ast.unaryop], Callable[[Any], Any]]] = {
    ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_,
}  # fmt: skip
_COMPARISONS: Final[Mapping[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not,
    ast.In: lambda item, items: item in items, ast.NotIn: lambda item, items: item not in items,
}  # fmt: skip
FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "range": range, "len": len, "list": list, "tuple": tuple, "dict": dict, "str": str, "int": int, "float": float,
    "sorted": sorted, "min": min, "max": max, "sum": sum, "abs": abs, "round": round,
    "reversed": _turned, "enumerate": _numbered, "zip": _together,
}  # fmt: skip
_METHODS: Final[Mapping[type, frozenset[str]]] = {
    str: frozenset(
        [
            "lower",
            "upper",
            "title",
            "capitalize",
            "casefold",
            "strip",
            "lstrip",
            "rstrip",
            "removeprefix",
            "removesuffix",
            "replace",
            "split",
            "startswith",
            "endswith",
            "join",
            "zfill",
        ]
    ),
    dict: frozenset({"items", "keys", "values", "get"}),
    datetime.date: frozenset({"isoformat", "strftime"}),
    datetime.datetime: frozenset({"isoformat", "strftime", "date"}),
}


def is_plain_value(value: object, depth: int = 0) -> bool:
    """Whether a value is plain, and small enough to work with."""
    kind = type(value)
    if kind is str or kind is bytes:
        return len(cast("str", value)) <= _MOST_CHARS
    if kind is range:
        return True
    if kind in (list, tuple, dict):
        items = cast("list[Any] | dict[Any, Any]", value)
        if depth >= _DEEPEST or len(items) > MOST_ITEMS:
            return False
        parts = [*items, *items.values()] if isinstance(items, dict) else items
        return all(is_plain_value(part, depth + 1) for part in parts)
    text_of = SCALARS.get(kind)
    return text_of is not None and text_of(value) is not None


def work_out(node: ast.expr, names: Callable[[str], Any]) -> Any:
    """The value of an expression.

    Args:
        node: The expression.
        names: Gives the plain value that a name holds; raises `NotPlain`, or KeyError where nothing bound it.

    Raises:
        NotPlain: Only a run tells it.
    """
    try:
        value = _value(node, names)
    except NotPlain:
        raise
    except Exception as error:  # a run would fail here too
        raise NotPlain from error
    if not isinstance(node, ast.Name) and not is_plain_value(value):
        raise NotPlain
    return value


def _value(node: ast.expr, names: Callable[[str], Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return names(name)
        case ast.JoinedStr(values=parts):
            return "".join(_piece(part, names) for part in parts)
        case ast.Tuple(elts=items):
            return tuple(_items(items, names))
        case ast.List(elts=items):
            return _items(items, names)
        case ast.Dict(keys=keys, values=values) if all(keys):
            return {work_out(cast("ast.expr", k), names): work_out(v, names) for k, v in zip(keys, values, strict=True)}
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _SIGNS:
            return _SIGNS[type(sign)](work_out(operand, names))
        case ast.BinOp(left=left, op=operation, right=right) if type(operation) in _OPERATORS:
            return _combined(type(operation), work_out(left, names), work_out(right, names))
        case ast.Compare(left=left, ops=comparisons, comparators=others):
            values = [work_out(one, names) for one in (left, *others)]
            pairs = zip(comparisons, values, values[1:], strict=False)
            return all(_COMPARISONS[type(one)](before, after) for one, before, after in pairs)
        case ast.BoolOp(op=operation, values=values):
            return _first_that_decides(isinstance(operation, ast.Or), values, names)
        case ast.IfExp(test=test, body=body, orelse=other):
            return work_out(body if work_out(test, names) else other, names)
        case ast.Subscript(value=whole, slice=at):
            return work_out(whole, names)[_index(at, names)]
        case ast.Call(func=function, args=args, keywords=keywords) if all(k.arg for k in keywords):
            given = _items(args, names)
            return _called(function, given, {str(k.arg): work_out(k.value, names) for k in keywords}, names)
        case _:
            raise NotPlain


def _items(nodes: list[ast.expr], names: Callable[[str], Any]) -> list[Any]:
    found: list[Any] = []
    for node in nodes:
        if isinstance(node, ast.Starred):
            found += items_of(work_out(node.value, names))
        else:
            found.append(work_out(node, names))
    return found


def items_of(value: object) -> list[Any]:
    """What a loop over a plain value goes through.

    Raises:
        NotPlain: They are too many.
    """
    if len(cast("list[Any]", value)) > MOST_ITEMS:
        raise NotPlain
    return list(cast("list[Any]", value))


def _piece(node: ast.expr, names: Callable[[str], Any]) -> str:
    """One part of an f-string."""
    if not isinstance(node, ast.FormattedValue):
        return str(work_out(node, names))
    value = work_out(node.value, names)
    form = work_out(node.format_spec, names) if node.format_spec is not None else ""
    if _LONG_NUMBER.search(form):
        raise NotPlain
    convert = {ord("r"): repr, ord("a"): ascii, ord("s"): str}.get(node.conversion)
    return format(value if convert is None else convert(value), form)


def _combined(operation: type[ast.operator], left: Any, right: Any) -> Any:
    if operation is ast.Mult and not all(isinstance(one, int | float) and abs(one) < _LARGEST for one in (left, right)):
        size, count = (len(left), right) if hasattr(left, "__len__") else (len(right), left)
        if size * count > MOST_ITEMS:
            raise NotPlain
    if operation is ast.Mod and isinstance(left, str) and (_LONG_NUMBER.search(left) or "*" in left):
        raise NotPlain
    return _OPERATORS[operation](left, right)


def _first_that_decides(decides: bool, nodes: list[ast.expr], names: Callable[[str], Any]) -> Any:
    value: Any = None
    for node in nodes:
        value = work_out(node, names)
        if bool(value) is decides:
            break
    return value


def _index(node: ast.expr, names: Callable[[str], Any]) -> Any:
    if isinstance(node, ast.Slice):
        return slice(*(None if at is None else work_out(at, names) for at in (node.lower, node.upper, node.step)))
    return work_out(node, names)


def _called(function: ast.expr, args: list[Any], named: dict[str, Any], names: Callable[[str], Any]) -> Any:
    """What a call gives of Python's own functions and methods that are known to run nothing else, and of `step.key`."""
    if any(isinstance(value, range) and len(value) > MOST_ITEMS for value in args):
        raise NotPlain
    match function:
        case ast.Name(id=name) if name in FUNCTIONS and not _is_bound(name, names):
            return FUNCTIONS[name](*args, **named)
        case ast.Attribute(value=ast.Name(id="step"), attr="key"):
            return make_key(*args, **named)
        case ast.Attribute(value=owner, attr=name):
            value = work_out(owner, names)
            if name not in _METHODS.get(type(value), ()) or (name == "zfill" and args[0] > _MOST_CHARS):
                raise NotPlain
            given = getattr(value, name)(*args, **named)
            return list(given) if isinstance(value, dict) and name != "get" else given
        case _:
            raise NotPlain


def _is_bound(name: str, names: Callable[[str], Any]) -> bool:
    try:
        names(name)
    except KeyError:
        return False
    except NotPlain:
        pass
    return True
