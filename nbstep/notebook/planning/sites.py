"""What a cell's text says of its steps: where they are asked, under which keys, of which function and arguments. Pure."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Given:
    """What a step is given, as objects of the notebook: what a run would compare an entry with."""

    function: Any
    args: tuple[Any, ...]
    rebound: frozenset[str] = (
        frozenset()
    )  # names that the cell has bound by then: what they hold while it runs is not known


@dataclass(frozen=True, slots=True)
class Foreseen:
    """A step that a run of the cell asks; `given` and `options`, those beside the key, are None where they are not known.

    `at_once` says how many of its call run side by side, as far as that is known.
    """

    key: str
    given: Given | None = None
    options: Mapping[str, Any] | None = None
    at_once: int = 1


@dataclass(frozen=True, slots=True)
class Site:
    """One call of `step` or `step.map` in a cell.

    Attributes:
        line: Of the cell, from 1; None for the cell itself as a step.
        steps: Those that it asks for sure.
        made_running: It may ask keys that only a run tells.
        without_key: It asks steps without key.
        pattern: A regular expression for the keys that it may ask.
        ids: Those that the run log may know it by.
    """

    line: int | None
    steps: tuple[Foreseen, ...] = ()
    made_running: bool = False
    without_key: bool = False
    pattern: str = ""
    ids: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def names_something(self) -> bool:
        """Whether its keys look like anything in particular."""
        return self.pattern not in ("", ANY)

    def may_ask(self, key: str) -> bool:
        """Whether a key looks like one of its own."""
        return re.fullmatch(self.pattern, key, re.DOTALL) is not None


ANY: Final = ".*"


def takes_steps(function: ast.expr) -> bool:
    """Whether a call of this expression takes steps."""
    match function:
        case ast.Name(id="step") | ast.Attribute(value=ast.Name(id="step"), attr="map"):
            return True
        case _:
            return False


def key_of(call: ast.Call) -> ast.expr | None:
    """The expression of a call's key; None where it has none."""
    given = next((k.value for k in call.keywords if k.arg == "key"), None)
    return None if isinstance(given, ast.Constant) and given.value is None else given


def pattern_of(call: ast.Call) -> str:
    """A regular expression for the keys that a call may ask."""
    key = key_of(call)
    if isinstance(call.func, ast.Attribute) and isinstance(key, ast.Constant):
        return re.sub(r"\\\{.*?\\\}", lambda _: ANY, re.escape(str(key.value)))
    if isinstance(call.func, ast.Attribute) and isinstance(key, ast.Lambda):
        key = key.body
    return ANY if key is None else _pattern(key)


def _pattern(given: ast.expr) -> str:
    match given:
        case ast.Constant(value=str(text)):
            return re.escape(text)
        case ast.JoinedStr(values=parts):
            return "".join(_pattern(part) for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _pattern(left) + _pattern(right)
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="step"), attr="key"), args=[ast.Constant(value=str(text)), *_]
        ) if text.isidentifier():
            return f"{re.escape(text)}(?::.*)?"
        case _:
            return ANY
