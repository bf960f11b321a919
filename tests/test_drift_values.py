"""What stands for an input's value (D1, D2, D5): which values differ, which do not, and what is never run."""

from __future__ import annotations

import array
import collections
import contextlib
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import os
import pathlib
import re
import subprocess
import sys
import threading
import time
import types
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from nbstep.drift.encoding import TooLarge
from nbstep.drift.scalars import counts_for_nothing
from nbstep.drift.values import Texts, is_digest

TEXTS = Texts(b"a key of the user's")


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Config:
    rate: float = 0.1
    names: list[str] = dataclasses.field(default_factory=list[str])
    _cache: Any = None


@dataclasses.dataclass(slots=True)
class Slotted:
    rate: float = 0.1


class Row(collections.namedtuple("Row", "a b")):
    __slots__ = ()


def test_d1_values_that_differ_have_texts_that_differ() -> None:
    values: list[Any] = [
        1, True, "1", 1.0, [1], (1,), {1}, frozenset({1, 2}), {1: 1}, {"1": 1}, b"1", bytearray(b"1"), 1j, None, "", "None", 0, -1,
        10**400, 10**400 + 1, float("nan"), float("inf"), -0.0, 0.0, [], (), {}, set(), [[]], [1, [2]], [[1], 2], [1, 2], [2, 1],
        {"a": 1}, {"a": 2}, {"a": "1"}, {"a": [1]}, {"a": (1,)}, ["a,b"], ["a", "b"], ["a', 'b"], [None], [True], [1.0],
        ["1"], [b"1"], {"a": 1, "b": 2}, {"a": 2, "b": 1}, {1: "a"}, {True: "b"}, {1.5: "a"}, {(1, 2): 3}, {(1, 3): 2}, range(3),
        range(4), slice(1, 2), decimal.Decimal(1), fractions.Fraction(1, 3), datetime.date(2024, 1, 2),
        datetime.datetime(2024, 1, 2), datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC), datetime.time(1), datetime.timedelta(1),
        pathlib.Path("1"), pathlib.Path("a"), "a", uuid.UUID(int=1), re.compile("a"), re.compile("a", re.IGNORECASE), Colour.RED,
        Colour.BLUE, Config(), Config(0.2), Config(names=["a"]), Slotted(), Slotted(0.2), Row(1, 2), Row(1, 3),
        collections.Counter("ab"), collections.Counter("aab"), collections.deque([1]), types.SimpleNamespace(a=1),
        types.SimpleNamespace(a=2), functools.partial(int, "1"), functools.partial(int, "2"), functools.partial(float, "1"),
        "x" * 2_000_000, "x" * 2_000_001, np.zeros(3), np.zeros(4), np.zeros((3, 1)), np.zeros(3, dtype="f4"), np.ones(3),
        np.array(["a"]), np.array([None]), np.array([[]]), object(),
    ]  # fmt: skip
    texts: dict[str, Any] = {}
    for value in values:
        text = TEXTS.of(value)
        assert text not in texts, (value, texts.get(text))
        texts[text] = value


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": [2, {"c": 3, "d": 4}]}, {"b": [2, {"d": 4, "c": 3}], "a": 1}),
        ({"x", "y", "z"}, {"z", "y", "x"}),
        ({1: "a", "b": 2}, {"b": 2, 1: "a"}),
        ({frozenset({1, 2}), (1,)}, {(1,), frozenset({2, 1})}),
        (collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1)),
        (Config(0.2, ["a"]), Config(0.2, ["a"])),
        (Config(_cache=1), Config(_cache=2)),
        ({"rate": 1, "password": "a"}, {"rate": 1, "password": "b"}),
        (np.int64(3), 3), (np.float64(0.5), 0.5), (np.bool_(True), True), (np.str_("a"), "a"),
        (pd.Timestamp("2024-01-02 03:04"), datetime.datetime(2024, 1, 2, 3, 4)),
        (np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(6.0).reshape(2, 3)),
        (object(), object()), (Config, Config), (re.compile("a+"), re.compile("a+")),
        ([Config(0.2)] * 2, [Config(0.2), Config(0.2)]),
    ],
)  # fmt: skip
def test_d1_values_that_are_the_same_have_one_text(one: Any, other: Any) -> None:
    assert TEXTS.of(one) == TEXTS.of(other)


class Empty(collections.namedtuple("Empty", "")):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "alone"),
    [
        (object(), True), (threading.local(), True), (re, True), (iter([]), True), (threading.Lock(), True),
        (functools.lru_cache(len), True), (1, False), (None, False), ("a", False), ((), False), ([], False), (Empty(), False),
        (Row(1, 2), False), (Config(), False), (Slotted(), False), (types.SimpleNamespace(), False), (Colour.RED, False),
        (set(), False), (np.zeros(0), False), (pd.DataFrame(), False), (pd.Index([]), False), (pl.DataFrame(), False),
        (pa.array([1]), False), (np.float32(1), False), (pd.Timestamp(0), False), (functools.partial(len), False), (len, False),
        (Config, False), (range(0), False), (slice(object()), False), (slice(1), False), (collections.deque(), False), (b"", False),
        (array.array("b"), False), (pathlib.Path("a"), False), (10**400, False), (datetime.UTC, True),
    ],
)  # fmt: skip
def test_d1_of_what_counts_by_its_type_that_is_said(value: Any, alone: bool) -> None:
    assert TEXTS.read(value) == (TEXTS.of(value), alone)


def test_d2_numbers_and_dates_are_kept_as_text_all_else_as_a_digest_with_the_key() -> None:
    day = datetime.date(2024, 1, 2)
    readable: list[Any] = [
        1,
        True,
        1.5,
        1j,
        None,
        decimal.Decimal("1.5"),
        day,
        datetime.timedelta(hours=1),
        np.int32(7),
    ]
    assert [TEXTS.of(value) for value in readable] == [
        "1", "True", "1.5", "1j", "None", "Decimal('1.5')", "2024-01-02", "1:00:00", "7",
    ]  # fmt: skip
    for value in (
        "a text",
        b"bytes",
        [1],
        (1,),
        {"a": 1},
        {1},
        pathlib.Path("a"),
        np.zeros(2),
        Config(),
        object(),
        uuid.UUID(int=1),
    ):
        assert is_digest(TEXTS.of(value))
        assert TEXTS.of(value) != Texts(b"another key").of(value)


@pytest.mark.parametrize("name", ["_log", "__x", "password", "API_KEY", "aws_secret_key", "auth_token", "my_password"])
def test_d2_private_and_secret_names_are_no_inputs(name: str) -> None:
    assert counts_for_nothing(name)


@pytest.mark.parametrize("name", ["uid", "key", "PROMPT", "monkey", "primary_key", "df"])
def test_d2_other_names_are(name: str) -> None:
    assert not counts_for_nothing(name)


def test_what_contains_itself_has_a_text() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    other: list[Any] = [1]
    other.append(other)
    pair: dict[str, Any] = {"me": loop}
    pair["pair"] = pair
    assert TEXTS.of(loop) == TEXTS.of(other) != TEXTS.of([1, [1]])
    assert TEXTS.of(pair) == TEXTS.of({**pair, "pair": pair}) or is_digest(TEXTS.of(pair))
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    assert is_digest(TEXTS.of(deep))


class Hostile:
    """Everything that could be asked of it fails."""

    def _fails(self, *_: Any) -> Any:
        raise AssertionError("the user's code ran")

    __repr__ = __str__ = __eq__ = __hash__ = __len__ = __iter__ = __bool__ = __reduce__ = __getattr__ = _fails  # type: ignore[assignment]
    __class__ = property(_fails)  # type: ignore[assignment]
    shape = dtype = property(_fails)


@dataclasses.dataclass(repr=False, eq=False)
class HostileRecord:
    rate: int

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError("the user's code ran")


class HostileText(str):
    __slots__ = ()

    def _fails(self, *_: Any) -> Any:
        raise AssertionError("the user's code ran")

    __repr__ = __str__ = __eq__ = __hash__ = __len__ = __iter__ = encode = _fails  # type: ignore[assignment]


class HostileDict(dict[Any, Any]):
    def _fails(self, *_: Any) -> Any:
        raise AssertionError("the user's code ran")

    __repr__ = __eq__ = __len__ = __iter__ = __getitem__ = items = keys = values = _fails  # type: ignore[assignment]


def test_d1_no_code_of_the_user_s_runs() -> None:
    hostile: list[Any] = [Hostile(), HostileRecord(1), HostileText("a"), HostileDict({"a": 1})]
    assert len({TEXTS.of(value) for value in hostile}) == len(hostile)
    assert is_digest(TEXTS.of(hostile))
    assert TEXTS.of(HostileRecord(1)) != TEXTS.of(HostileRecord(2))
    assert TEXTS.of(HostileDict({"a": 1})) != TEXTS.of(HostileDict({"a": 2}))


@pytest.mark.parametrize(
    "make",
    [
        lambda: list(range(1_000_000)),
        lambda: {n: n for n in range(300_000)},
        lambda: {str(n): n for n in range(300_000)},
        lambda: set(range(300_000)),
        lambda: [{"a": n, "b": [n]} for n in range(100_000)],
        lambda: "x" * 100_000_000,
        lambda: b"x" * 100_000_000,
        lambda: ["x" * 1_000_000] * 300,
        lambda: functools.reduce(lambda inner, _: [inner] * 20, range(12), []),
        lambda: pd.DataFrame(np.zeros((50, 20_000))),
    ],
)
def test_d1_what_is_large_costs_little(make: Callable[[], Any]) -> None:
    value = make()
    began = time.thread_time()
    with contextlib.suppress(TooLarge):  # unknown is an answer
        TEXTS.of(value)
    assert time.thread_time() - began < 0.1


def test_d1_a_text_too_long_to_read_is_told_by_its_ends_and_its_length() -> None:
    text = "a" * 3_000_000
    assert len({TEXTS.of(t) for t in (text, text + "a", "b" + text[1:], text[:-1] + "b")}) == 4


def _frame(rows: int = 10_000) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "n": np.arange(rows),
            "x": np.arange(rows) / 3,
            "s": [f"name {n % 7}" for n in range(rows)],
            "o": [{"a": n} if n % 2 else None for n in range(rows)],
            "t": pd.date_range("2024", periods=rows, freq="h", tz="UTC"),
            "c": pd.Categorical(["u" if n % 3 else "v" for n in range(rows)]),
            "i": pd.array([None if n % 5 == 0 else n for n in range(rows)], dtype="Int64"),
        }
    )


def _set(frame: pd.DataFrame, column: str, value: Any) -> pd.DataFrame:
    frame.loc[frame.index[0], column] = value
    return frame


def test_d1_frames_made_anew_have_one_text() -> None:
    assert TEXTS.of(_frame()) == TEXTS.of(_frame())
    assert TEXTS.of(_frame()["s"]) == TEXTS.of(_frame()["s"])
    assert TEXTS.of(_frame(0)) == TEXTS.of(_frame(0))
    assert is_digest(TEXTS.of(pd.DataFrame()))
    assert is_digest(TEXTS.of(_frame(50).set_index(["n", "s"])))


def test_d1_a_frame_that_differs_in_shape_types_names_or_the_sample_has_another_text() -> None:
    frames = [
        _frame(), _frame(10_001), _frame().drop(columns="x"), _frame().rename(columns={"x": "y"}), _frame()[["x", "n"]],
        _frame()[["n", "x"]], _frame().astype({"n": "int32"}), _set(_frame(), "x", 9.0), _set(_frame(), "s", "other"),
        _set(_frame(), "c", "u"), _set(_frame(), "i", 3), _set(_frame(), "t", pd.Timestamp("2020", tz="UTC")),
        _frame().set_index("n"), _frame().iloc[::-1], _frame()["n"], _frame()["x"], _frame()["n"].rename("m"),
        pd.Index([1, 2]), pd.Index([1, 3]), pd.DataFrame(), pd.DataFrame(index=[1]),
        pd.DataFrame(np.zeros((9, 500))), pd.DataFrame(np.ones((9, 500))),
    ]  # fmt: skip
    assert len({TEXTS.of(frame) for frame in frames}) == len(frames)


def test_d1_of_a_long_array_a_fixed_sample_counts_its_ends_in_it() -> None:
    array = np.zeros(1_000_000)
    texts = {TEXTS.of(array)}
    for at in (0, -1):
        other = array.copy()
        other[at] = 1
        texts.add(TEXTS.of(other))
    assert len(texts) == 3
    between = array.copy()
    between[1] = 1
    assert TEXTS.of(between) in texts  # missed, as the README says


def test_a_mapped_array_is_told_by_its_file_not_read(tmp_path: pathlib.Path) -> None:
    mapped = np.memmap(tmp_path / "a.bin", dtype="f8", mode="w+", shape=(1000,))
    before, paths = TEXTS.of(mapped), list[str]()
    mapped[:] = 1
    assert TEXTS.of(mapped, paths) == before
    assert paths == [str(tmp_path / "a.bin")]


def test_frames_of_polars() -> None:
    frame = pl.DataFrame({"a": range(10_000), "s": [str(n) for n in range(10_000)]})
    others = [frame, frame.with_columns(a=pl.lit(1)), frame.rename({"a": "b"}), frame.head(9), frame["a"], frame["s"]]
    assert TEXTS.of(frame) == TEXTS.of(frame.clone())
    assert len({TEXTS.of(other) for other in others}) == len(others)


def test_tables_of_pyarrow() -> None:
    table = pa.table({"a": list(range(10_000)), "s": [str(n) for n in range(10_000)]})
    others = [
        table,
        table.rename_columns(["b", "s"]),
        table.slice(0, 9),
        table["a"],
        table["s"],
        table.drop_columns("s"),
    ]
    assert TEXTS.of(table) == TEXTS.of(table.slice(0))
    assert len({TEXTS.of(other) for other in others}) == len(others)


SEEDED = """
import numpy as np, pandas as pd, enum
from nbstep.drift.values import Texts
class Colour(enum.Enum):
    RED = 1
values = [{"b": 1, "a": {"x", "y", "z"}}, {"a", "b", 3, None}, frozenset("abcdef"), Colour.RED, {Colour.RED: 1, "b": 2},
    pd.DataFrame({"a": [1, 2], "b": ["x", None]}), np.arange(9000), {(1, "a"): {"q", "r"}, (2, "b"): []}, "text", object()]
print([Texts(b"k").of(value) for value in values])
"""


def test_d5_texts_are_the_same_in_every_process() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", SEEDED], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("0", "1", "4711")
    }  # fmt: skip
    assert len(outputs) == 1
