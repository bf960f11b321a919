"""The beginnings of what well-known libraries hold, as text: frames, arrays, models, figures. None of them is imported for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias, cast

PREVIEW_CHARS: Final = 1000
READ_CHARS: Final = 4096  # of a text, to find secrets in it before it is cut
_REPR_CHARS: Final = 200
_ROWS: Final = 5
_COLUMNS: Final = 12
_FEWER_COLUMNS: Final = (_COLUMNS, 9, 6, 4, 2)
_RANGED_ITEMS: Final = 1 << 20

Redacted: TypeAlias = Callable[[str], str]
Short: TypeAlias = Callable[[Any], str]


def head_text(value: Any, redacted: Redacted, short: Short) -> str | None:
    """The beginning of a value of such a library; None for anything else.

    Args:
        value: Anything.
        redacted: Takes secrets out of a text, before that is cut.
        short: The text of a value in it.
    """
    describe = _BY_LIBRARY.get(type(value).__module__.partition(".")[0])
    return None if describe is None else describe(value, redacted, short)


def _with_cut(text: str, *parts: tuple[int, int, str]) -> str:
    """A head with a line that says of what it is one: how many there are to see, in all, and of what."""
    cut = ", ".join(f"{seen:,} of {total:,} {name}" for seen, total, name in parts if seen < total)
    return f"{text}\n{cut}" if cut else text


def _cell(content: Any, redacted: Redacted) -> Any:
    return redacted(content[:READ_CHARS]) if isinstance(content, str) else content


def _pandas_text(value: Any, redacted: Redacted, short: Short) -> str | None:  # noqa: ARG001 - as all
    """The first rows of a frame or a series."""
    if not callable(getattr(value, "head", None)):
        return None
    head, rows = value.head(_ROWS), len(value)
    if getattr(head, "ndim", 1) != 2:
        text = _pandas_cells(head, lambda content: _cell(content, redacted)).to_string(name=True, dtype=True)
        return _with_cut(text, (len(head), rows, "values"))
    columns = len(head.columns)
    head = _pandas_cells(head.iloc[:, :_COLUMNS], lambda content: _cell(content, redacted))
    text = ""
    for seen in _FEWER_COLUMNS:  # rather than a table that ends in its middle
        seen = min(seen, columns)
        text = _with_cut(
            head.iloc[:, :seen].to_string(max_colwidth=24), (len(head), rows, "rows"), (seen, columns, "columns")
        )
        if len(text) <= PREVIEW_CHARS:
            break
    return text


def _pandas_cells(head: Any, cell: Callable[[Any], Any]) -> Any:
    """The rows as they are where no cell and no label changes, as other dtypes may look different."""

    def changes(texts: Iterable[Any]) -> bool:
        return any(isinstance(text, str) and cell(text) != text for text in texts)

    if changes(head.to_numpy(dtype=object).ravel()):
        head = head.map(cell) if hasattr(head, "map") else head.applymap(cell)  # before pandas 2.1
    if changes(map(str, head.index)):
        head = head.rename(index=cell)
    if changes(map(str, getattr(head, "columns", ()))):
        head = head.rename(columns=cell)
    return head


def _polars_text(value: Any, redacted: Redacted, short: Short) -> str | None:  # noqa: ARG001 - as all
    if not callable(getattr(value, "head", None)):
        return None
    text = repr(_polars_cells(value.head(_ROWS), lambda content: _cell(content, redacted)))
    if not hasattr(value, "__len__"):  # a lazy frame: how long it is, only computing it would tell
        return text
    return _with_cut(text, (_ROWS, len(value), "values" if hasattr(value, "to_frame") else "rows"))


def _polars_cells(head: Any, cell: Callable[[Any], Any]) -> Any:
    """The rows with every text as `cell` gives it; a lazy frame has none."""
    if not hasattr(head, "get_columns"):
        series = getattr(head, "to_frame", None)
        return head if series is None else _polars_cells(series(), cell).to_series()
    columns = [
        type(one)(one.name, [*map(cell, one.to_list())], one.dtype) if str(one.dtype) == "String" else one
        for one in head.get_columns()
    ]
    return head.select(columns).rename(cell)


def _arrow_text(value: Any, redacted: Redacted, short: Short) -> str | None:
    """The first rows of a table of Arrow, with the types of its columns."""
    if not hasattr(value, "column_names") or not callable(getattr(value, "slice", None)):
        return None
    names = value.column_names[:_COLUMNS]
    columns = [
        [
            redacted(name),
            str(value.schema.field(at).type),
            *(short(one) for one in value.column(at).slice(0, _ROWS).to_pylist()),
        ]
        for at, name in enumerate(names)
    ]
    widths = [min(24, max(map(len, column))) for column in columns]
    lines = (
        "  ".join(f"{text[:width]:<{width}}" for text, width in zip(row, widths, strict=True))
        for row in zip(*columns, strict=True)
    )
    text = "\n".join(line.rstrip() for line in lines)
    return _with_cut(text, (_ROWS, value.num_rows, "rows"), (len(names), value.num_columns, "columns"))


def _array_text(value: Any, redacted: Redacted, short: Short) -> str | None:  # noqa: ARG001 - as all
    """An array's type and range, then its beginning; the range of a large one would take as long as keeping it."""
    numpy = sys.modules.get("numpy")
    if numpy is None or type(value) is not numpy.ndarray:
        return None
    said = str(value.dtype)
    if value.dtype.kind in "biufmM" and 0 < value.size <= _RANGED_ITEMS:
        said += f", {numpy.fmin.reduce(value, axis=None)!s} to {numpy.fmax.reduce(value, axis=None)!s}"
    return f"{said}\n{value!r}"


def _model_text(value: Any, redacted: Redacted, short: Short) -> str | None:  # noqa: ARG001 - as all
    """A model as it was made, and what fitting added."""
    if not callable(getattr(value, "get_params", None)):
        return None
    fitted = [name for name in vars(value) if name.endswith("_") and not name.startswith("_")]
    added = f"\nfitted: {', '.join(fitted[:_COLUMNS])}" if fitted else ""
    return redacted(repr(value)[:READ_CHARS])[:_REPR_CHARS] + added


def _plotly_text(value: Any, redacted: Redacted, short: Short) -> str | None:  # noqa: ARG001 - as all
    """A figure's title and traces; its `repr` writes out all data."""
    traces = getattr(value, "data", None)
    if not isinstance(traces, tuple):
        return None
    kinds = ", ".join(str(trace.type) for trace in cast("tuple[Any, ...]", traces)[:_COLUMNS])
    title = getattr(getattr(getattr(value, "layout", None), "title", None), "text", None)
    return f"{redacted(title) if title else 'a figure'}: {kinds or 'no traces'}"


_BY_LIBRARY: Final[Mapping[str, Callable[[Any, Redacted, Short], str | None]]] = {
    "pandas": _pandas_text,
    "geopandas": _pandas_text,
    "polars": _polars_text,
    "pyarrow": _arrow_text,
    "numpy": _array_text,
    "sklearn": _model_text,
    "plotly": _plotly_text,
}
