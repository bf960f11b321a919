"""The words of a `KeyCollision`: both places, both works or values, and the key to use instead."""

from __future__ import annotations

import ast
import linecache
import textwrap
import types
from collections.abc import Sequence
from typing import Any, Final

from nbstep.cache.records import Meta
from nbstep.cache.secrets.redaction import redact_text
from nbstep.cache.secrets.suspicion import is_secret_name
from nbstep.collisions.compare import Difference
from nbstep.collisions.fix import another, quoted, told_apart
from nbstep.collisions.look import Look, Sight, is_scalar
from nbstep.collisions.words import call_in
from nbstep.durations import date_text
from nbstep.errors import KeyCollision
from nbstep.events import Place
from nbstep.keyfindings.sites import NOWHERE, Site
from nbstep.notes import command_text, one_line
from nbstep.words import place_text, shown

_WORK_CHARS: Final = 60
_VALUE_CHARS: Final = 60


def collision_in_run(
    key: str,
    found: Difference,
    first: tuple[Look, Place],
    now: tuple[Look, Place],
    template: str | None = None,
    site: Site = NOWHERE,
) -> KeyCollision:
    """The error for two different steps of one run; of the second one come `template`, that of `@step.cached`, and `site`."""
    rows = [
        [place_text(place) or "somewhere", work_text(look), _named_value(found.name, value)]
        for (look, place), value in ((first, found.first), (now, found.now))
    ]
    name = found.name if found.name is not None and not is_secret_name(found.name) else None
    if name is not None and name.isidentifier() and template is not None:
        fix = f"Put what tells them apart into the template: @step.cached({quoted(f'{template}:{{{name}}}')})"
    elif template is not None:
        fix = f"Use another template: @step.cached({quoted(f'{_short_name(now[0])}:{template}')})"
    elif site.with_f is not None:
        fix = f"Write f before the quotes: key={site.with_f}"
    elif name is not None:
        fix = told_apart(key, name, found.now, now[0], site.call)
    else:
        fix = another(key, _short_name(now[0]), site.call)
    head = f"{shown(repr(key))} is already another step's key in this run"
    return KeyCollision("\n".join([head, *_table(("first:", "here:"), rows), f"  {fix}"]))


def collision_with_kept(
    meta: Meta, look: Look, place: Place, workflow: str, now: float, *, in_notebook: bool, folder: str | None
) -> KeyCollision:
    """The error for a hit that another workflow kept by other work.

    Args:
        meta: The entry.
        look: The step that asks.
        place: Where it stands.
        workflow: The name of the workflow that it is in.
        now: Seconds since the epoch.
        in_notebook: Commands are spelled `%nbstep …`, else `nbstep …`.
        folder: Where the commands find the cache if it is not the project's; None where they cannot.
    """
    facts = meta.facts
    at = ", ".join(part for part in (facts.place.notebook, f"workflow {facts.workflow}") if part)
    value = " ".join(part for part in (meta.type, meta.shape) if part)
    rows = [
        [shown(at), kept_work(facts.source), shown(f"{value:<12}   {date_text(meta.created, now)}")],
        [place_text(place) or "somewhere", work_text(look), ""],
    ]
    obsolete = command_text("rm", meta.key, in_notebook=in_notebook, folder=folder)
    head = f"{shown(repr(meta.key))} is already another step's key in this project"
    fix = f"Use another key: key={quoted(f'{workflow}:{meta.key}')}.  If the old one is obsolete: {obsolete}   (undo for 24 h)"
    return KeyCollision("\n".join([head, *_table(("kept:", "here:"), rows), f"  {fix}"]))


def work_text(look: Look) -> str:
    """What a step does, as its own text says it."""
    code = look.code
    text = _body_text(code) if code is not None and code.co_name == "<lambda>" else None
    if text is None and code is not None and code.co_name == "<lambda>":
        call = call_in(code)
        text = "a lambda" if call is None else f"{'.'.join(call.path)}(…)"
    if text is None:
        rows = list(zip(look.labels, look.sights, strict=True))[look.read :]
        text = f"{_name(look.callee)}({', '.join(_argument(label, seen) for label, seen in rows)})"
    return _cut(shown(one_line(redact_text(text), 400)), _WORK_CHARS)


def kept_work(source: str | None) -> str:
    """What the kept source text of a thunk says it does."""
    if source is None:
        return "work of which no source was kept"
    text = source.partition("\n")[0].strip()
    try:
        tree = ast.parse(textwrap.dedent(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _cut(shown(redact_text(text)), _WORK_CHARS)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    keyed = [call.args[0] for call in calls if any(word.arg == "key" for word in call.keywords)]
    lambdas = [thunk for thunk in keyed if isinstance(thunk, ast.Lambda)]
    if functions:
        text = f"{functions[0].name}({ast.unparse(functions[0].args)})"
    elif len(lambdas) == 1:
        text = ast.unparse(lambdas[0].body)
    return _cut(shown(one_line(redact_text(text), 400)), _WORK_CHARS)


def _body_text(code: types.CodeType) -> str | None:
    """The text of a lambda's body, from where its instructions stand."""
    known: Any = [p for p in code.co_positions() if None not in p]
    spots = [p for p in known if p[0] != p[1] or p[2] != p[3]]  # the first instruction has no place of its own
    if not spots:
        return None
    begin, end = min((p[0], p[2]) for p in spots), max((p[1], p[3]) for p in spots)
    lines = [linecache.getline(code.co_filename, n) for n in range(begin[0], end[0] + 1)]
    if not all(lines) or len(lines) > 100:
        return None
    raw = [line.encode() for line in lines]
    raw[-1] = raw[-1][: end[1]]
    raw[0] = raw[0][begin[1] :]
    return b"".join(raw).decode("utf-8", "replace") or None


def _name(callee: Sight) -> str:
    if callee[0] in {"function", "method", "named"}:
        return callee[2].rpartition("<locals>.")[2]
    return callee[1].__qualname__


def _short_name(look: Look) -> str:
    call = call_in(look.code) if look.code is not None and look.code.co_name == "<lambda>" else None
    name = call.path[-1] if call is not None else _name(look.callee).rpartition(".")[2]
    return name if name.isidentifier() else "2"


def _argument(label: str, seen: Sight) -> str:
    if not is_scalar(seen):
        return label if label.isidentifier() else "…"  # the parameter's name, as of what is kept
    return "<not shown>" if is_secret_name(label) else value_text(seen)


def value_text(seen: Sight) -> str:
    """A scalar as it is shown."""
    if type(seen) is tuple:
        if seen[0] == "member":
            return str(seen[1])
        _, kind, length, hashed, head = seen
        unit = "characters" if kind is str else "bytes"
        return (
            f"{head}… ({length:,} {unit}, #{hashed & 0xFFFFFFFF:08x})"
            if length
            else f"{head} (#{hashed & 0xFFFFFFFF:08x})"
        )
    plain = isinstance(seen, str | bytes | bool | int | float | complex) or seen is None
    return _cut(shown(redact_text(repr(seen) if plain else str(seen))), _VALUE_CHARS)


def _named_value(name: str | None, value: Sight) -> str:
    if name is None:
        return ""
    if is_secret_name(name):
        return f"{name} = <not shown>"
    return f"{name} = {value_text(value)}" if name.isidentifier() else f"argument {int(name) + 1}: {value_text(value)}"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows in columns."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        f"  {head:<7}" + "   ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for head, row in zip(heads, rows, strict=True)
    ]
