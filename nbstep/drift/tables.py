"""Arrays and frames: shape, dtypes and a sample of at most 4,096 values at fixed positions stand for one.

A change of a value that is not in the sample is missed; one of its size, its columns or their types never is. The sample
holds the first and the last row.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Any, Final

MAX_SAMPLE: Final = 4096
# A column of a frame takes about 8 µs to look at.
_MAX_COLUMNS: Final = 64


@functools.lru_cache(maxsize=64)
def positions(count: int, most: int) -> Sequence[int]:
    """At most `most` positions spread evenly over `count`, the first and the last among them.

    >>> positions(3, 10), positions(101, 5)
    (range(0, 3), (0, 25, 50, 75, 100))
    """
    if count <= most:
        return range(count)
    return tuple(at * (count - 1) // max(most - 1, 1) for at in range(most))


def is_table(value: object) -> bool:
    """Whether a value is an array or a frame that could be changed in place."""
    kind = type(value)
    return any(
        module is not None and issubclass(kind, tuple(getattr(module, name) for name in names))
        for module, names in ((sys.modules.get("numpy"), ("ndarray",)), (sys.modules.get("pandas"), ("DataFrame", "Series")))
    )  # fmt: skip


def table_parts(value: Any) -> tuple[Any, ...] | None:
    """What stands for an array, a frame, a series or an index, as plain values; None of anything else."""
    kind = type(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and issubclass(kind, numpy.ndarray):
        return _array_parts(numpy, value)
    for package, read in (("pandas", _pandas_parts), ("polars", _polars_parts), ("pyarrow", _arrow_parts)):
        module = sys.modules.get(package)
        if module is not None and hasattr(module, "__version__"):  # else it is being imported
            parts = read(module, value)
            if parts is not None:
                return parts
    return None


def _array_parts(numpy: Any, value: Any) -> tuple[Any, ...]:
    array = value.view(numpy.ndarray)
    shape, dtype = str(array.shape), str(array.dtype.descr if array.dtype.names else array.dtype.str)
    filename = getattr(value, "filename", None)
    if (
        issubclass(type(value), numpy.memmap) and filename is not None
    ):  # its file counts, and its pages stay where they are
        return "memmap", shape, dtype, str(filename)
    masked = issubclass(type(value), numpy.ma.MaskedArray)
    mask = (_sample(numpy.ma.getmaskarray(value).view(numpy.ndarray), MAX_SAMPLE),) if masked else ()
    return "array", shape, dtype, _sample(array, MAX_SAMPLE), *mask


def _sample(array: Any, most: int) -> bytes | list[Any]:
    # `flat` reads in logical order, whatever the layout in memory
    some = array.flat[_indices(array.size, most)] if array.size > most else array
    return some.ravel().tolist() if array.dtype.hasobject else some.tobytes()


@functools.lru_cache(maxsize=64)
def _indices(count: int, most: int) -> Any:
    import numpy as np

    return np.array(positions(count, most), dtype=np.intp)


def _pandas_parts(pandas: Any, value: Any) -> tuple[Any, ...] | None:
    kind = type(value)
    if issubclass(kind, (pandas.Series, pandas.Index)):
        return _name(kind), len(value), str(value.dtype), *_named(value), *_columns([value], MAX_SAMPLE)
    if not issubclass(kind, pandas.DataFrame):
        return None
    rows, width = value.shape
    head = (_name(kind), rows, width, *_headings(value.columns), *_types(value))
    index = (value.index,)
    if type(value.index) is pandas.RangeIndex:
        index, numbered = (), (value.index.start, value.index.step)
        head = head if numbered == (0, 1) else (*head, *numbered)
    if width > _MAX_COLUMNS:  # the rows first: taking one column after the other would take too long
        value = value.take(_indices(rows, 2 + MAX_SAMPLE // width))
        value = value.iloc[:, _indices(width, _MAX_COLUMNS)]
    columns = [*index, *(column for _, column in value.items())]
    return *head, *_columns(columns, max(MAX_SAMPLE // max(len(columns), 1), 2))


def _name(kind: type) -> str:
    return kind.__qualname__


def _named(value: Any) -> tuple[Any, ...]:
    return (list(value.names),) if hasattr(value, "names") else (value.name,)


def _headings(columns: Any) -> tuple[Any, ...]:
    some = columns if len(columns) <= MAX_SAMPLE else columns.take(_indices(len(columns), MAX_SAMPLE))
    return some.tolist(), list(columns.names)


def _types(frame: Any) -> tuple[Any, ...]:
    kinds = frame.dtypes.tolist()
    texts = {kind: str(kind) for kind in set(kinds)}
    return ([texts[kind] for kind in kinds[:MAX_SAMPLE]],)


def _columns(columns: list[Any], most: int) -> list[Any]:
    return [_some_cells(column, most) for column in columns]


def _some_cells(column: Any, most: int) -> Any:
    if hasattr(column, "levels"):  # a MultiIndex
        return column.take(_indices(len(column), most)).tolist()
    return _cells(column.array.take(_indices(len(column), most)) if len(column) else column.array)


def _cells(array: Any) -> Any:
    """A small pandas array as plain values."""
    kind = type(array).__name__
    if kind == "Categorical":
        categories = array.categories
        return array.codes.tolist(), categories.take(_indices(len(categories), MAX_SAMPLE)).tolist(), array.ordered
    if hasattr(array, "asi8"):  # dates and durations
        return array.asi8.tobytes()
    plain = array.to_numpy() if kind.endswith("NumpyExtensionArray") or kind == "PandasArray" else None
    return array.tolist() if plain is None or plain.dtype.hasobject else plain.tobytes()


def _polars_parts(polars: Any, value: Any) -> tuple[Any, ...] | None:
    kind = type(value)
    if issubclass(kind, polars.Series):
        columns, names = [value], [value.name]
    elif issubclass(kind, polars.DataFrame):
        columns, names = value.get_columns(), value.columns
    else:
        return None
    some = [columns[at] for at in positions(len(columns), _MAX_COLUMNS)]
    most = max(MAX_SAMPLE // max(len(some), 1), 2)
    cells = [column.gather(list(positions(len(column), most))).to_list() for column in some]
    return kind.__qualname__, len(columns[0]) if columns else 0, names, [str(c.dtype) for c in columns], *cells


def _arrow_parts(pyarrow: Any, value: Any) -> tuple[Any, ...] | None:
    kind = type(value)
    if issubclass(kind, (pyarrow.Table, pyarrow.RecordBatch)):
        columns, shape = value.columns, str(value.schema.remove_metadata())
    elif issubclass(kind, (pyarrow.Array, pyarrow.ChunkedArray)):
        columns, shape = [value], str(value.type)
    else:
        return None
    some = [columns[at] for at in positions(len(columns), _MAX_COLUMNS)]
    most = max(MAX_SAMPLE // max(len(some), 1), 2)
    cells = [column.take(pyarrow.array(positions(len(column), most))).to_pylist() for column in some]
    return kind.__qualname__, len(value), shape, *cells
