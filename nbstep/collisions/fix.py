"""The key to use instead: what tells two steps apart, as an expression that exists where the step is called."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any, Final

from nbstep.cache.secrets.redaction import redact_text
from nbstep.cache.secrets.suspicion import is_secret_name
from nbstep.collisions.look import Look, Sight, is_scalar

_EXPRESSION_CHARS: Final = 60
# What may be written twice: reading it again changes nothing.
_PLAIN: Final = (
    ast.Name, ast.Attribute, ast.Subscript, ast.Constant, ast.BinOp, ast.UnaryOp, ast.Tuple, ast.Slice, ast.expr_context,
    ast.operator, ast.unaryop,
)  # fmt: skip


def told_apart(key: str, name: str, now: Sight, look: Look, call: ast.Call | None) -> str:
    """The line that says how the key tells two steps apart.

    Args:
        key: The key as it came out.
        name: What differs: a name that the thunk reads, or one of its parameters.
        now: What it holds.
        look: The step that asks.
        call: Its text, where that is to be had.
    """
    found = None if call is None else _expression(call, name, look)
    longer = None if found is None else _longer(call, key, found)
    if longer is not None:
        return f"Put what tells them apart into the key: key={longer}"
    example = f", as in key={quoted(f'{key}:{now}')}" if _is_short(now) and not _is_map(call) else ""
    return f"Put what tells them apart, `{name}`, into the key{example}"


def another(key: str, work: str, call: ast.Call | None) -> str:
    """The line that says which key to use for other work, of which `work` is the name."""
    longer = _longer(call, key, ast.Constant(work))
    return f"Put {quoted(work)} into the keys" if longer is None else f"Use another key: key={longer}"


def quoted(text: str) -> str:
    """A text as one writes it."""
    return f'"{text}"' if text.isprintable() and '"' not in text and "\\" not in text else repr(text)


def _is_short(value: Sight) -> bool:
    if isinstance(value, str):
        return 0 < len(value) <= _EXPRESSION_CHARS and value.isprintable() and redact_text(value) == value
    return is_scalar(value) and value is not None and len(str(value)) <= _EXPRESSION_CHARS


def _expression(call: ast.Call, name: str, look: Look) -> ast.expr | None:
    """What was written at the call for the name; None where that is not a plain expression, or one that looks secret."""
    if not call.args:
        return None
    thunk, arguments, keywords = call.args[0], call.args[1:], list[ast.keyword]()
    while isinstance(thunk, ast.Call) and thunk.args and ast.unparse(thunk.func) in ("partial", "functools.partial"):
        thunk, arguments, keywords = thunk.args[0], thunk.args[1:] + arguments, thunk.keywords + keywords
    found = None
    if _is_map(call):
        if isinstance(thunk, ast.Lambda) and name not in _parameters(thunk) and name in _names(thunk.body):
            found = ast.Name(name)
    elif not isinstance(thunk, ast.Lambda):
        if name not in look.labels[: look.read]:
            found = _given(name, look.code, look.bound, arguments, keywords)
    elif name in (own := _parameters(thunk)):
        found = _given(name, look.code, False, arguments, keywords) or own[name]
    elif any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(thunk.body)):
        found = ast.Name(name)
    elif isinstance(thunk.body, ast.Call):
        found = _given(name, _called_code(thunk.body, look), False, thunk.body.args, thunk.body.keywords)
        if found is not None and _names(found) & own.keys():
            found = None
    return found if found is not None and _may_be_named(found) else None


def _given(
    name: str, code: Any, bound: bool, arguments: Sequence[ast.expr], keywords: Sequence[ast.keyword]
) -> ast.expr | None:
    """The argument for a parameter, by its name or by its number."""
    by_name = next((word.value for word in keywords if word.arg == name), None)
    if by_name is not None:
        return by_name
    if code is None:
        at = int(name) if name.isdigit() else -1
    else:
        parameters = code.co_varnames[bound : code.co_argcount]
        at = parameters.index(name) if name in parameters else -1
    given = arguments[: at + 1]
    if not 0 <= at < len(arguments) or any(isinstance(one, ast.Starred) for one in given):
        return None
    return given[at]


def _parameters(function: ast.Lambda) -> dict[str, ast.expr | None]:
    """The parameters of a lambda, each with its default."""
    named = function.args.posonlyargs + function.args.args
    defaults = function.args.defaults
    pairs = [(one.arg, None) for one in named[: len(named) - len(defaults)]]
    pairs += [(one.arg, default) for one, default in zip(named[len(pairs) :], defaults, strict=True)]
    pairs += [
        (one.arg, default) for one, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    ]
    return dict(pairs)


def _called_code(call: ast.Call, look: Look) -> Any:
    """The code of the function that a lambda calls by its name."""
    held = dict(zip(look.labels, look.sights, strict=True))
    seen = held.get(call.func.id) if isinstance(call.func, ast.Name) else None
    return seen[1] if type(seen) is tuple and seen[0] == "function" else None


def _names(node: ast.expr) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def _may_be_named(node: ast.expr) -> bool:
    parts = list(ast.walk(node))
    names = [
        one.id if isinstance(one, ast.Name) else one.attr for one in parts if isinstance(one, ast.Name | ast.Attribute)
    ]
    text = ast.unparse(node)
    return (
        all(isinstance(part, _PLAIN) for part in parts)
        and not any(map(is_secret_name, names))
        and len(text) <= _EXPRESSION_CHARS
        and text.isprintable()
        and redact_text(text) == text
    )


def _is_map(call: ast.Call | None) -> bool:
    return call is not None and isinstance(call.func, ast.Attribute) and call.func.attr == "map"


def _longer(call: ast.Call | None, key: str, found: ast.expr) -> str | None:
    """The key as it is written, with one more part; None where that of a map is no text."""
    written = None if call is None else next((word.value for word in call.keywords if word.arg == "key"), None)
    if isinstance(written, ast.JoinedStr):
        parts = list(written.values)
    elif _is_map(call):  # what is written there is a template
        if not isinstance(written, ast.Constant):
            return None
        parts = [written]
    elif isinstance(written, ast.Name):
        parts = [_field(written)]
    else:
        parts = [ast.Constant(key)]
    last = ast.Constant(str(found.value)) if isinstance(found, ast.Constant) else _field(found)
    parts += [ast.Constant(":"), last]
    if all(isinstance(part, ast.Constant) for part in parts):
        return quoted("".join(str(part.value) for part in parts if isinstance(part, ast.Constant)))
    text = ast.unparse(ast.JoinedStr(parts))
    return text if '"' in text or "\\" in text else f'f"{text[2:-1]}"'


def _field(node: ast.expr) -> ast.expr:
    return ast.FormattedValue(node, conversion=-1)
