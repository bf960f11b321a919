"""A key's expression, read: does it hold a clock, chance or an address? What takes the day of a clock is a good key."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from nbstep.keyfindings.changing import Kind, Lookup, is_module, is_step_key, kind_of, named_by
from nbstep.keyfindings.source import given_to, is_seeded

# Minutes and less: a key of the hour may be meant.
_FINE: Final = re.compile(r"%[-#]?[MSfsXTcrRN]")
_FINE_PARTS: Final = frozenset({"minute", "second", "microsecond", "nanosecond"})
_DATES: Final = frozenset({"now", "utcnow", "today", "Timestamp", "datetime64", "strftime"})
_STAYS_DATED: Final = frozenset({"astimezone", "tz_localize", "tz_convert", "to_pydatetime"})
_STAYS_FINE: Final = frozenset({"timestamp", "ctime", "time", "timetz", "timetuple", "utctimetuple", "isoformat"})
_OF_TEXT: Final = frozenset({"encode", "hexdigest", "digest", "hex", "strip", "lower", "upper", "zfill"})
_MAKES_TEXT: Final = (str, repr, int, float, round, format, ascii, hex, abs, bytes)
_FIELD: Final = re.compile(r"(?<!\{)\{([A-Za-z_]\w*)((?:\.\w+|\[[^\[\]{}]*\])*)(?:![rsa])?(?::[^{}]*)?\}(?!\})")
_MAX_FOLLOWED: Final = 4


@dataclass(frozen=True, slots=True)
class Changing:
    """What in a key changes each time: `text` is the call as written, `dated` says that it still is a date and time."""

    kind: Kind
    text: str
    dated: bool = False


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the expression of a key at one place; `own` are the parameters of the lambda that it stands in."""

    lookup: Lookup
    filename: str
    line: int
    own: frozenset[str] = frozenset()
    followed: int = 0

    def literal_field(self, node: ast.expr) -> str | None:
        """The first `{name}` of a plain text, where the name means something here: its `f` was forgotten."""
        if isinstance(node, ast.Name) and node.id not in self.own:
            given = given_to(node.id, self.filename, self.line, anything=True)
            return None if given is None or isinstance(given, ast.Name) else self.literal_field(given)
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            return None
        for found in _FIELD.finditer(node.value):
            if found[1] in self.own or self._means_something(found[1]):
                return found[0]
        return None

    def _means_something(self, name: str) -> bool:
        try:
            return self.lookup(name) is not vars(builtins).get(name, self)
        except KeyError:
            return False

    def changing(self, node: ast.expr | None) -> Changing | None:
        """What in an expression is another thing in every run or process; None where nothing is known to be."""
        match node:
            case ast.JoinedStr(values=values):
                return self._first(values)
            case ast.FormattedValue(value=value, format_spec=spec):
                return _formatted(self.changing(value), _constant(spec))
            case ast.NamedExpr(value=value) | ast.UnaryOp(operand=value) | ast.Starred(value=value):
                return self.changing(value)
            case ast.Name(id=name) if name not in self.own and self.followed < _MAX_FOLLOWED:
                return replace(self, followed=self.followed + 1).changing(given_to(name, self.filename, self.line))
            case ast.Tuple(elts=items) | ast.List(elts=items):
                return self._first(items)
            case ast.IfExp(body=body, orelse=other):
                return self.changing(body) if self.changing(other) else None
            case ast.BinOp(left=left, right=right, op=op):
                found = self.changing(left) or self.changing(right)
                bucket = isinstance(op, ast.Div | ast.FloorDiv)
                return None if found is not None and found.kind == "clock" and bucket else found
            case ast.Subscript(value=value):
                found = self.changing(value)
                return None if found is not None and found.kind == "clock" else found
            case ast.Attribute(value=value, attr=name):
                found = self.changing(value)
                if found is None or found.kind != "clock":
                    return found
                return replace(found, dated=False) if name in _FINE_PARTS else None
            case ast.Call():
                return self._called(node)
            case _:
                return None

    def _first(self, nodes: Iterable[ast.expr]) -> Changing | None:
        return next((found for node in nodes if (found := self.changing(node)) is not None), None)

    def _called(self, call: ast.Call) -> Changing | None:
        named = named_by(call.func, self.lookup) if not self._is_own(call.func) else None
        if named is not None:
            kind = kind_of(call, named, self.lookup)
            if kind == "chance" and is_seeded(self.filename):
                return None
            if kind is not None:
                found = Changing(kind, f"{ast.unparse(call.func)}()", kind == "clock" and named.name in _DATES)
                return _formatted(found, _constant(call.args[0])) if named.value.__name__ == "strftime" else found
            if named.value in _MAKES_TEXT and len(call.args) <= 1 + (named.value is format):
                found = self._first(call.args[:1])
                if named.value is format and len(call.args) == 2:
                    return _formatted(found, _constant(call.args[1]))
                return None if found is None else replace(found, dated=found.dated and named.value not in (int, float))
            if is_step_key(named):
                return self._first([*call.args, *(word.value for word in call.keywords)])
            if is_module(named, "hashlib"):
                return self._first(call.args)
        return self._method(call)

    def _is_own(self, node: ast.expr) -> bool:
        while isinstance(node, ast.Attribute):
            node = node.value
        return isinstance(node, ast.Name) and node.id in self.own

    def _method(self, call: ast.Call) -> Changing | None:
        if not isinstance(call.func, ast.Attribute):
            return None
        name, words = call.func.attr, {word.arg: word.value for word in call.keywords}
        text = _constant(call.func.value)
        if text is not None and name in {"format", "join"}:
            found = self._first([*call.args, *words.values()])
            return _formatted(found, text) if name == "format" and "%" in text else found
        found = self.changing(call.func.value)
        if found is None or found.kind != "clock":
            return found
        if not found.dated:
            return found if name in _OF_TEXT else None
        if name == "strftime":
            form = _constant(call.args[0]) if call.args else None
            return None if form is None else _formatted(found, form)
        if name == "replace":
            return None if "minute" in words else found
        if name == "isoformat" and _constant(words.get("timespec")) == "hours":
            return None
        if name in _STAYS_DATED:
            return found
        return replace(found, dated=False) if name in _STAYS_FINE else None


def _formatted(found: Changing | None, form: str | None) -> Changing | None:
    """What is left of a date and time that is written in a form: nothing that changes, where the form ends at the hour."""
    if found is None or form is None or found.kind != "clock":
        return found
    coarse = found.dated and "%" in form and not _FINE.search(form)
    return None if coarse else found


def _constant(node: Any) -> str | None:
    """A text that is written out; None where it is made."""
    if isinstance(node, ast.JoinedStr) and all(isinstance(part, ast.Constant) for part in node.values):
        return "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
