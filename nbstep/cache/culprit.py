"""Which part of a value cannot be pickled: "result['lock'] is a _thread.lock, which cannot be pickled"."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from nbstep.cache.keptcell import KeptCell
from nbstep.foreign import interrupts
from nbstep.words import with_article

_PROBES_AT_MOST: Final = 500
_SECONDS_AT_MOST: Final = 2.0
_DEPTH_AT_MOST: Final = 20
_CHILDREN_AT_MOST: Final = 200

_ADVICE: Final = {
    "generator": "return a list instead",
    "async_generator": "return a list instead",
    "coroutine": "await it inside the step",
    "_asyncio.Task": "await it inside the step",
    "_asyncio.Future": "await it inside the step",
    "nbstep.steps.awaitable.AwaitableStep": "await it inside the step",
    "nbstep.steps.awaitable.AwaitableMap": "await it inside the step",
    "socket.socket": "return what was received instead",
    "_thread.lock": "leave it out of the result",
    "_thread.RLock": "leave it out of the result",
    "sqlite3.Connection": "return the rows instead",
    "sqlite3.Cursor": "return the rows instead",
    "_io.TextIOWrapper": "return what it holds instead",
    "_io.BufferedReader": "return what it holds instead",
    "_io.BufferedWriter": "return its path instead",
    "_io.FileIO": "return what it holds instead",
    "botocore.response.StreamingBody": "return what it holds instead: .read()",
    "sqlalchemy.engine.cursor.CursorResult": "return its rows instead: .all()",
    "sqlalchemy.engine.result.ChunkedIteratorResult": "return its rows instead: .all()",
    "sqlalchemy.orm.decl_api.DeclarativeAttributeIntercept": "return rows, or define this class in a module",
    "polars.series.series.Series": "give it another dtype than Object, or return a list",
}


_CELL_ADVICE: Final = "delete it in the cell, or name with --out what to keep"


def explain(value: Any, error: BaseException, probe: Callable[[Any], BaseException | None]) -> str:
    """One line that names the innermost part of `value` that cannot be pickled, and why.

    Args:
        value: What was to be kept.
        error: Why it could not be.
        probe: Tries to pickle one part; gives the error, or None.
    """
    deadline = time.monotonic() + _SECONDS_AT_MOST
    path, part, seen, probes = "" if isinstance(value, KeptCell) else "result", value, {id(value)}, 0
    for _ in range(_DEPTH_AT_MOST):
        if _name(part) in _ADVICE:
            break  # what is inside is not the user's
        for step, child in islice(_children(part), _CHILDREN_AT_MOST):
            if probes >= _PROBES_AT_MOST or time.monotonic() > deadline:
                break
            if id(child) in seen or child is None or isinstance(child, str | int | float | bytes):
                continue
            seen.add(id(child))
            probes += 1
            child_error = probe(child)
            if child_error is not None:
                path, part, error = path + step, child, child_error
                break
        else:
            break
    if not path:
        path = "what it displayed"
    return _sentence(path, part, error, _CELL_ADVICE if isinstance(value, KeptCell) else None)


def _sentence(path: str, part: Any, error: BaseException, advice: str | None = None) -> str:
    name = _name(part)
    if isinstance(error, RecursionError) or "recursion" in str(error):
        return f"{path} is {with_article(name)}, nested too deeply to be pickled"
    known = _ADVICE.get(name)
    because = "" if known or _says_no_more(str(error)) else f" ({type(error).__name__}: {str(error)[:200]})"
    fix = advice or known
    return f"{path} is {with_article(name)}, which cannot be pickled{because}" + (f": {fix}" if fix else "")


def _name(part: Any) -> str:
    kind = type(part)
    return (
        kind.__qualname__ if kind.__module__ in {"builtins", "__main__"} else f"{kind.__module__}.{kind.__qualname__}"
    )


def _says_no_more(text: str) -> bool:
    return text.startswith(("cannot pickle", "Cannot pickle", "can't pickle"))


def _children(part: Any) -> Iterator[tuple[str, Any]]:
    """The parts of a value with the text that leads to them: `['lock']`, `[0]`, `.client`."""
    if isinstance(part, KeptCell):
        yield from part.names.items()
        return
    if isinstance(part, Mapping):
        for key, child in list(part.items()):
            yield f"[{_short(key)}]", child
    elif isinstance(part, list | tuple):
        for index, child in enumerate(part):
            yield f"[{index}]", child
    elif isinstance(part, set | frozenset):
        for child in part:
            yield " member", child
    elif type(part).__module__.startswith("polars."):
        for column in part.get_columns() if hasattr(part, "get_columns") else ():
            yield f"[{_short(column.name)}]", column
        return  # its attributes are no names that the user knows
    slots = [name for cls in type(part).__mro__ for name in _slots(cls)]
    attributes = {name: getattr(part, name) for name in slots if hasattr(part, name)}
    attributes.update(getattr(part, "__dict__", {}) if not isinstance(part, type) else {})
    for name, child in attributes.items():
        yield f".{name}", child
    for cell_name, child in _captured(part):
        yield f" (captured {cell_name})", child


def _slots(cls: type) -> tuple[str, ...]:
    slots: Any = cls.__dict__.get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in names if isinstance(name, str) and name not in {"__dict__", "__weakref__"})


def _captured(part: Any) -> Iterator[tuple[str, Any]]:
    """What a function brings along: closure cells and the globals it names."""
    code = getattr(part, "__code__", None)
    if code is None:
        return
    for name, cell in zip(code.co_freevars, getattr(part, "__closure__", None) or (), strict=False):
        try:
            yield name, cell.cell_contents
        except ValueError:
            continue
    for name in code.co_names:
        if name in part.__globals__:
            yield name, part.__globals__[name]


def _short(key: Any) -> str:
    try:
        text = repr(key)
    except interrupts():
        raise
    except BaseException:  # noqa: BLE001 - the user's own __repr__
        text = "…"
    return text if len(text) <= 60 else f"{text[:57]}…"
