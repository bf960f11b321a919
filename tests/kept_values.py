"""Keeps one value of each kind by `step`, changes what it is handed, asks again, and tells what came back otherwise.

Called by `test_values.py` in processes of its own: `python kept_values.py CACHE`.
"""

from __future__ import annotations

import array
import dataclasses
import datetime
import enum
import json
import pickle
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from PIL import Image
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import nbstep

MANY = 20_000  # beside the stream, and mapped when it is read; `FEW` stand in it
FEW = 10


class Mine:
    """A class of the notebook, inside of other values."""

    def __init__(self, x: Any) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return type(other) is Mine and other.x == self.x

    __hash__ = object.__hash__


class Kind(enum.Enum):
    A = 1
    B = 2


@dataclasses.dataclass
class Point:
    x: int
    y: list[int] = dataclasses.field(default_factory=list)


class Scaled(TransformerMixin, BaseEstimator):
    """A transformer of the notebook."""

    def __init__(self, factor: float = 2) -> None:
        self.factor = factor

    def fit(self, X: Any, y: Any = None) -> Scaled:
        self.columns_ = X.shape[1]
        return self

    def transform(self, X: Any) -> Any:
        return X * self.factor


class Tensor:
    """Pickled as tensors are: its memory is a `PickleBuffer`."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Tensor, (pickle.PickleBuffer(self.memory),)

    def __eq__(self, other: object) -> bool:
        return type(other) is Tensor and bytes(other.memory) == bytes(self.memory)

    __hash__ = None  # type: ignore[assignment]


def read_only(numbers: Any) -> Any:
    numbers.flags.writeable = False
    return numbers


def mapped(n: int) -> Any:
    with tempfile.NamedTemporaryFile() as file:
        file.write(np.arange(float(n)).tobytes())
        file.flush()
        return np.memmap(file.name, dtype=float, mode="r+", shape=(n,))


def with_attributes(frame: Any) -> Any:
    frame.attrs.update(unit="km", made_by=Mine(1))
    return frame


def image_of_a_file() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.png"
        Image.new("RGB", (5, 5), (9, 8, 7)).save(path, dpi=(72, 72))
        with Image.open(path) as image:
            image.load()
            return image


def fitted(model: Any) -> Any:
    numbers = np.random.default_rng(0).normal(size=(60, 4))
    return model.fit(numbers, (numbers[:, 0] > 0).astype(int))


def sized(n: int) -> dict[str, Callable[[], Any]]:
    half = n // 2
    hours = pd.date_range("2024-03-30", periods=n, freq="h", tz="Europe/Berlin")
    return {
        "array": lambda: np.arange(float(n)),
        "read-only array": lambda: read_only(np.arange(float(n))),
        "Fortran order": lambda: np.asfortranarray(np.arange(float(n)).reshape(2, half)),
        "transposed": lambda: np.arange(float(n)).reshape(2, half).T,
        "every second": lambda: np.arange(float(n))[::2],
        "broadcast": lambda: np.broadcast_to(np.arange(5.0), (n, 5)),
        "big-endian": lambda: np.arange(n, dtype=">f8"),
        "structured": lambda: np.array([(i, i / 2, "x") for i in range(n)], dtype=[("a", "i4"), ("b", "f8"), ("c", "U3")]),
        "records": lambda: np.rec.array([(i, i / 2) for i in range(n)], dtype=[("a", "i4"), ("b", "f8")]),
        "masked": lambda: np.ma.masked_greater(np.arange(float(n)), 5),
        "hard mask": lambda: np.ma.array(np.arange(n), mask=np.arange(n) % 2, hard_mask=True, fill_value=-7),
        "dates": lambda: np.datetime64("2024-01-01", "D") + np.arange(n),
        "texts": lambda: np.array([str(i) for i in range(n)]),
        "objects": lambda: np.array([*(Mine(i) for i in range(n)), None], dtype=object),
        "memmap": lambda: mapped(n),
        "frame": lambda: pd.DataFrame({"i": range(n), "f": np.arange(n) / 2, "s": [str(i) for i in range(n)]}),
        "attrs": lambda: with_attributes(pd.DataFrame({"i": range(n)})),
        "categories": lambda: pd.DataFrame({"c": pd.Categorical(["a", "b"] * half, ["b", "a", "z"], ordered=True)}),
        "two indexes": lambda: pd.DataFrame(
            np.zeros((n, 4)), pd.MultiIndex.from_arrays([range(n), ["k"] * n], names=["a", None]),
            pd.MultiIndex.from_product([["a", "b"], [1, 2]]),
        ),
        "time zone": lambda: pd.DataFrame({"t": hours}, index=hours),
        "extension types": lambda: pd.DataFrame({
            "I": pd.array([1, None] * half, dtype="Int64"), "B": pd.array([True, None] * half, dtype="boolean"),
            "S": pd.array(["x", None] * half, dtype="string"), "sparse": pd.arrays.SparseArray([0, 1] * half),
            "interval": pd.interval_range(0, n), "period": pd.period_range("2024", periods=n, freq="D"),
        }),
        "Arrow-backed": lambda: pd.DataFrame({
            "I": pd.array([1, None] * half, dtype="int64[pyarrow]"), "S": pd.array(["x", None] * half, dtype="string[pyarrow]"),
        }),
        "frame of objects": lambda: pd.DataFrame({"o": [Mine(i) for i in range(n)], "k": [Kind.A, Kind.B] * half}),
        "no duplicates": lambda: pd.DataFrame({"a": range(n)}).set_flags(allows_duplicate_labels=False),
        "series": lambda: pd.Series(np.arange(n), name=("a", 1)),
        "polars": lambda: pl.DataFrame({
            "i": range(n), "s": [str(i) for i in range(n)], "l": [[i] for i in range(n)], "r": [{"a": i} for i in range(n)],
            "t": [datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)] * n,
        }),
        "polars series": lambda: pl.Series("c", ["a", "b"] * half, dtype=pl.Enum(["b", "a"])),
        "polars lazy": lambda: pl.LazyFrame({"i": range(n)}).filter(pl.col("i") > 3),
        "arrow table": lambda: pa.table({"i": range(n), "s": [str(i) for i in range(n)]}).replace_schema_metadata({"k": "v"}),
        "arrow slice": lambda: pa.table({"i": range(n)}).slice(3, 4),
        "arrow batch": lambda: pa.record_batch({"i": range(n)}),
        "arrow chunks": lambda: pa.chunked_array([list(range(n)), list(range(n))]),
        "arrow dictionary": lambda: pa.array(["a", "b"] * half).dictionary_encode(),
        "image": lambda: Image.fromarray(np.arange(n * 3, dtype=np.uint8).reshape(-1, 2, 3)),
        "palette": lambda: Image.fromarray(np.arange(n, dtype=np.uint8).reshape(-1, 2)).convert("P"),
        "csr": lambda: sparse.random(n // 10, 100, 0.3, format="csr", random_state=0),
        "tensor": lambda: Tensor(bytearray(range(256)) * n),
        "read-only tensor": lambda: Tensor(bytes(range(256)) * n),
        "memoryview": lambda: memoryview(array.array("d", range(n))),
        "array.array": lambda: array.array("d", range(n)),
    }  # fmt: skip


MODELS = {
    "pipeline": lambda: fitted(
        make_pipeline(StandardScaler(), Scaled(3), FunctionTransformer(lambda X: X + 1), LogisticRegression())
    ),
    "forest": lambda: fitted(RandomForestClassifier(5, random_state=0)),
    "search": lambda: fitted(GridSearchCV(make_pipeline(Scaled(), LogisticRegression()), {"scaled__factor": [1, 2]}, cv=2)),
}  # fmt: skip
VALUES: dict[str, Callable[[], Any]] = {
    **{f"{name} ×{n}": make for n in (FEW, MANY) for name, make in sized(n).items()},
    **MODELS,
    "image of a file": image_of_a_file,
    "twice the same": lambda: [np.zeros(MANY)] * 2,
    "of the notebook": lambda: [Mine({"k": Kind.A}), Point(1, [2]), {Kind.B: (Point, Kind)}],
}


def differs(expected: Any, got: Any) -> str:
    """In what a value that came back is another; empty if in nothing."""
    if type(got) is not type(expected):
        return f"it is a {type(got)}"
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(got, expected, check_freq=True, check_flags=True)
        return "" if got.attrs == expected.attrs else "attrs"
    if isinstance(expected, pd.Series):
        pd.testing.assert_series_equal(got, expected)
        return ""
    if isinstance(expected, np.ndarray):
        return _array_differs(expected, got)
    if isinstance(expected, pl.DataFrame | pl.Series):
        return "" if got.equals(expected, null_equal=True) and str(got) == str(expected) else "contents"
    if isinstance(expected, pl.LazyFrame):
        return differs(expected.collect(), got.collect())
    if isinstance(expected, pa.Table | pa.RecordBatch):
        return "" if got.equals(expected, check_metadata=True) else "contents"
    if isinstance(expected, Image.Image):
        parts = ("mode", "size", "info")
        same = all(getattr(got, part) == getattr(expected, part) for part in parts)
        return (
            ""
            if same and got.getpalette() == expected.getpalette() and got.tobytes() == expected.tobytes()
            else "image"
        )
    if isinstance(expected, BaseEstimator):
        return _model_differs(expected, got)
    if sparse.issparse(expected):
        return "" if (got != expected).nnz == 0 else "contents"
    if isinstance(expected, Tensor):
        return "" if got == expected and _writes(got.memory) == _writes(expected.memory) else "memory"
    if isinstance(expected, list):
        return next(filter(None, (differs(*pair) for pair in zip(expected, got, strict=True))), "")
    return "" if got == expected else "contents"


def _writes(memory: Any) -> bool:
    return not memoryview(memory).readonly


def _array_differs(expected: Any, got: Any) -> str:
    if (got.dtype, got.shape) != (expected.dtype, expected.shape):
        return f"{got.dtype} {got.shape}"
    if expected.flags.writeable and not got.flags.writeable:
        return "it is read-only"
    if isinstance(expected, np.ma.MaskedArray):
        masks = np.array_equal(np.ma.getmaskarray(got), np.ma.getmaskarray(expected))
        if not masks or (got.fill_value, got.hardmask) != (expected.fill_value, expected.hardmask):
            return "mask"
    contiguous = expected.flags.f_contiguous or expected.flags.c_contiguous
    if contiguous and got.flags.f_contiguous != expected.flags.f_contiguous:
        return "order"
    return "" if got.tolist() == expected.tolist() else "contents"


def _model_differs(expected: Any, got: Any) -> str:
    numbers = np.random.default_rng(1).normal(size=(50, 4))
    best = getattr(got, "best_estimator_", got)
    classes = [type(part) for _, part in getattr(best, "steps", ())]
    if any(cls.__name__ == "Scaled" and cls is not Scaled for cls in classes):
        return "another class Scaled"
    return "" if (got.predict(numbers) == expected.predict(numbers)).all() else "predictions"


def change(value: Any) -> bool:
    """Changes a value in place as an analyst might; whether there was a way."""
    if isinstance(value, np.ndarray | memoryview | array.array | bytearray | pd.Series):
        if isinstance(value, np.ndarray | memoryview) and _is_fixed(value):
            return False
        value[0] = value[len(value) - 1]
    elif isinstance(value, pd.DataFrame):
        value.iloc[:, 0] = value.iloc[::-1, 0].to_numpy()
        value.attrs["more"] = 1
    elif isinstance(value, pl.DataFrame):
        value.insert_column(0, pl.Series("more", range(value.height)))
    elif isinstance(value, Image.Image):
        value.putpixel((0, 0), 1 if value.mode == "P" else (1, 1, 1))
    elif sparse.issparse(value):
        value.data[0] = 99
    elif isinstance(value, Tensor):
        return _writes(value.memory) and change(memoryview(value.memory))
    elif isinstance(value, list):
        change(value[0])
        value.append(1)
    elif isinstance(value, Mine):
        value.x["k"] = None
    elif isinstance(value, BaseEstimator):
        value.set_params(**dict.fromkeys(list(value.get_params(deep=False))[:1]))
        vars(value).clear()
    else:
        return False
    return True


def _is_fixed(value: Any) -> bool:
    return value.readonly if isinstance(value, memoryview) else not value.flags.writeable


def problems(name: str, make: Callable[[], Any], calls: list[str]) -> list[str]:
    """What is wrong with a value that was kept before or is kept now: asked three times, and changed each time."""

    def thunk() -> Any:
        calls.append(name)
        return make()

    expected, found = make(), list[str]()
    for _ in range(3):
        value = workflow(lambda step: step(thunk, key=name, on_drift="ignore")).unwrap()
        try:
            found.append(differs(expected, value))
        except AssertionError as error:
            found.append(str(error))
        change(value)
    return [problem for problem in found if problem]


if __name__ == "__main__":
    workflow = nbstep.create_workflow(cache=nbstep.Cache(sys.argv[1]))
    asked: list[str] = []
    told = {name: wrong for name, make in VALUES.items() if (wrong := problems(name, make, asked))}
    sys.stdout.write(json.dumps({"problems": told, "calls": asked, "values": list(VALUES)}))
