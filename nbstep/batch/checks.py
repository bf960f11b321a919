"""What `step.map` is called with, looked at before anything runs."""

from __future__ import annotations

import inspect
import types
from collections.abc import AsyncIterable, Iterable, Sequence
from typing import Final

KEY: Final = "key="  # how messages speak of the key's function
_RECORDS: Final = "frame.to_dict('records')"
_COMPUTED: Final = "frame.compute().to_dict('records')"
# How the frames of a library give their rows.
_ROWS: Final = {
    "cudf": "frame.to_pandas().to_dict('records')", "dask": _COMPUTED, "dask_expr": _COMPUTED, "modin": _RECORDS,
    "pandas": _RECORDS, "polars": "frame.to_dicts()", "pyspark": _RECORDS,
}  # fmt: skip


def check_map(fn: object, items: object, others: Sequence[object], n_jobs: object) -> None:
    """Checks what does not depend on a run.

    Raises:
        TypeError: There is no function of one item, or there are no items.
        ValueError: `n_jobs` is no number of them.
    """
    if callable(fn) and isinstance(items, AsyncIterable):
        raise TypeError(
            f"step.map: {type(items).__name__} gives its items to `async for` alone: pass [item async for item in …]"
        )
    if not callable(fn) or not isinstance(items, Iterable):
        got = f"{type(fn).__name__} and {type(items).__name__}"
        raise TypeError(f"step.map takes a function and items: step.map(fetch, items, key=…); got {got}")
    if others and (isinstance(others[0], str) or callable(others[0])):
        raise TypeError(
            f"step.map: write key= before the third argument: step.map(fetch, items, key={others[0]!r:.80})"
        )
    if others:
        raise TypeError(
            "step.map takes one iterable: step.map(lambda pair: fetch(*pair), list(zip(first, second)), key=lambda pair: …)"
        )
    if isinstance(items, str) and type(items).__iter__ is str.__iter__:
        raise TypeError(f"step.map: {items!r:.40} is one text, and would give its characters: pass a list of items")
    if (rows := _rows_of(type(items))) is not None:
        raise TypeError(f"step.map: a frame does not give its rows one by one: pass {rows}")
    check_parameters(fn, "its function")
    if n_jobs is not None and (not isinstance(n_jobs, int) or isinstance(n_jobs, bool) or n_jobs == 0):
        raise ValueError(f"n_jobs={n_jobs!r}: use a number of threads, 1 or more; -1 is one for each core")


def _rows_of(kind: type) -> str | None:
    """How a frame gives its rows; None for all else, and for a class that says itself what it gives one by one."""
    for one in kind.__mro__:
        if one.__name__ == "DataFrame" and (rows := _ROWS.get(str(one.__module__).partition(".")[0])) is not None:
            return rows
        if "__iter__" in vars(one):
            return None
    return None


def check_parameters(fn: object, called: str) -> None:
    """Checks that a function can be called with one item; what is no plain function is let through.

    Args:
        fn: The function.
        called: How messages speak of it, "its function".

    Raises:
        TypeError: It takes none, or needs more.
    """
    if not isinstance(fn, types.FunctionType):
        return
    code = fn.__code__
    count = code.co_argcount
    names, named = code.co_varnames[:count], code.co_varnames[count : count + code.co_kwonlyargcount]
    required = count - len(fn.__defaults__ or ())
    is_lambda = fn.__name__ == "<lambda>"
    shown = f"lambda {', '.join(names)}".strip() if is_lambda else f"{fn.__name__}({', '.join(names)})"
    if not names and not code.co_flags & inspect.CO_VARARGS:
        raise TypeError(f"step.map calls {called} with an item, and {shown} takes none")
    if required > 1:
        parts = ", ".join(f"item[{at}]" for at in range(required))
        raise TypeError(
            f"step.map calls {called} with one item, and {shown} takes {required}: write lambda item: "
            f"{('…' if called == KEY else 'f') if is_lambda else fn.__name__}({parts}), or fix the others with functools.partial"
        )
    missing = [name for name in named if name not in (fn.__kwdefaults__ or {})]
    if missing:
        raise TypeError(
            f"step.map calls {called} with the item alone, and {shown} needs {missing[0]}=: use functools.partial"
        )
