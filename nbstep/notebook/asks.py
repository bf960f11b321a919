"""What a cell's text says of the keys that its steps will ask. Pure: nothing of it is run."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

# ("key", the key), ("pattern", a regular expression for keys made while running), or ("no key", "").
Asks: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class CellText:
    """What is known of a cell's text: what stands below its line, what its steps ask, and that only a plan of it is wanted."""

    body: str
    asks: Asks
    planned: bool = False

    @property
    def digest(self) -> str | None:
        """Tells this text from others, layout and comments included; None where it is not known."""
        return hashlib.sha256(self.body.strip().encode("utf-8", "replace")).hexdigest()[:16] if self.body else None


_ANY: Final = ".*"


def asks_in(body: Iterable[ast.AST]) -> Asks:
    """The calls of `step` and `step.map`, in the order of the text."""
    calls = [node for part in body for node in ast.walk(part) if isinstance(node, ast.Call) and _takes_steps(node.func)]
    calls.sort(key=lambda call: (call.lineno, call.col_offset))
    return tuple(_asked(call) for call in calls)


def _takes_steps(function: ast.expr) -> bool:
    match function:
        case ast.Name(id="step") | ast.Attribute(value=ast.Name(id="step"), attr="map"):
            return True
        case _:
            return False


def _asked(call: ast.Call) -> tuple[str, str]:
    given = next((k.value for k in call.keywords if k.arg == "key"), None)
    if given is None:
        return ("pattern", _ANY) if any(k.arg is None for k in call.keywords) else ("no key", "")
    if isinstance(given, ast.Constant) and given.value is None:
        return "no key", ""
    if isinstance(call.func, ast.Attribute) and isinstance(given, ast.Constant):
        return "pattern", re.sub(r"\\\{.*?\\\}", lambda _: _ANY, re.escape(str(given.value)))
    key = _fixed(given)
    return ("key", key) if key is not None else ("pattern", _pattern(given))


def _fixed(given: ast.expr) -> str | None:
    """The key that an expression gives every time: a text, or `step.key(…)` of nothing but constants."""
    if isinstance(given, ast.Constant):
        return given.value if isinstance(given.value, str) else None
    if isinstance(given, ast.JoinedStr) and all(isinstance(part, ast.Constant) for part in given.values):
        return "".join(str(part.value) for part in given.values if isinstance(part, ast.Constant))
    match given:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="step"), attr="key"), args=args, keywords=keywords):
            parts = [*args, *(k.value for k in keywords)]
            if all(isinstance(part, ast.Constant) for part in parts) and all(k.arg for k in keywords):
                return _made([_value(a) for a in args], {str(k.arg): _value(k.value) for k in keywords})
        case _:
            pass
    return None


def _value(constant: ast.expr) -> Any:
    return constant.value if isinstance(constant, ast.Constant) else None


def _made(names: list[Any], arguments: dict[str, Any]) -> str | None:
    from nbstep.keys import make_key  # with the first such key: this module serves every cell

    try:
        return make_key(*names, **arguments)
    except (TypeError, ValueError):
        return None


def _pattern(given: ast.expr) -> str:
    """A regular expression for the keys that an expression may give."""
    match given:
        case ast.Constant(value=str(text)):
            return re.escape(text)
        case ast.JoinedStr(values=parts):
            return "".join(_pattern(part) for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _pattern(left) + _pattern(right)
        case _:
            return _ANY
