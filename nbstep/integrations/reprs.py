"""Plain values out of their `repr`, which is other people's text: read, never evaluated."""

from __future__ import annotations

import ast
import datetime
import decimal
import fractions
import math
import uuid
import warnings
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Final

ODD: Final = object()
"""Stands for a value that a text does not tell."""

_CHARS_AT_MOST: Final = 65_536
_PLAIN: Final = (str, bytes, bool, int, float, complex, type(None))
# numpy's float32 is not here: its text is that of another number.
_MADE: Final[Mapping[str, Callable[..., Any]]] = {
    "datetime.date": datetime.date,
    "datetime.datetime": datetime.datetime,
    "datetime.time": datetime.time,
    "datetime.timedelta": datetime.timedelta,
    "Decimal": decimal.Decimal,
    "Fraction": fractions.Fraction,
    "UUID": uuid.UUID,
    "PosixPath": PurePosixPath,
    "PurePosixPath": PurePosixPath,
    "WindowsPath": PureWindowsPath,
    "PureWindowsPath": PureWindowsPath,
    "np.float64": float,
    "np.str_": str,
    **{f"np.{sign}int{bits}": int for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_NAMED: Final[Mapping[str, object]] = {"nan": math.nan, "inf": math.inf, "np.True_": True, "np.False_": False}


def plain_value(text: str) -> object:
    """The number, text, date, path or the like whose `repr` a text is; `ODD` where it is that of something else.

    >>> plain_value("'a'"), plain_value("np.int64(5)"), plain_value("datetime.date(2024, 1, 2)"), plain_value("[1]") is ODD
    ('a', 5, datetime.date(2024, 1, 2), True)
    """
    tree = _parsed(text)
    return ODD if tree is None else _value(tree)


def plain_list(text: str) -> list[object]:
    """As `plain_value`, for each element of a list; a text that is no list counts as one odd element.

    >>> plain_list("[1, 'a']")
    [1, 'a']
    """
    tree = _parsed(text)
    return [_value(node) for node in tree.elts] if isinstance(tree, ast.List) else [ODD]


def plain_dict(text: str) -> dict[str, object]:
    """As `plain_value`, for each value of a dict by its name; a text that is no such dict counts as one odd value.

    >>> plain_dict("{'lang': 'de'}")
    {'lang': 'de'}
    """
    tree = _parsed(text)
    if not isinstance(tree, ast.Dict):
        return {"": ODD}
    names = [key.value if isinstance(key, ast.Constant) else None for key in tree.keys]
    return {str(name): _value(node) for name, node in zip(names, tree.values, strict=True)}


def _parsed(text: str) -> ast.expr | None:
    if len(text) > _CHARS_AT_MOST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a stray backslash
            return ast.parse(text, mode="eval").body
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        return _made(node)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and _name(node.operand) == "inf":
        return -math.inf
    if (name := _name(node)) is not None:
        return _NAMED.get(name, ODD)
    if not isinstance(node, ast.Constant | ast.UnaryOp | ast.BinOp):
        return ODD
    try:
        value: object = ast.literal_eval(node)
        if isinstance(value, complex):  # a sum has lost the sign of a zero
            value = complex(ast.unparse(node).replace(" ", ""))
    except (ValueError, TypeError, RecursionError, MemoryError):
        return ODD
    return value if isinstance(value, _PLAIN) else ODD


def _made(call: ast.Call) -> object:
    make = _MADE.get(_name(call.func) or "")
    values = [_value(one) for one in (*call.args, *(option.value for option in call.keywords))]
    if make is None or ODD in values:
        return ODD
    options: dict[str, Any] = dict(
        zip([str(option.arg) for option in call.keywords], values[len(call.args) :], strict=True)
    )
    try:
        return make(*values[: len(call.args)], **options)
    except (ValueError, TypeError, AttributeError, ArithmeticError):
        return ODD


def _name(node: ast.expr) -> str | None:
    """A name, or one of a module's: "inf", "datetime.date"."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return None
