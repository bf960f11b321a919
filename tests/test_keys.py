"""Keys: which are accepted (K6), and what `step.key` builds."""

from __future__ import annotations

import datetime
import decimal
import enum
import os
import subprocess
import sys
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbstep.keys import MAX_KEY_BYTES, check_key, make_key


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Size(enum.StrEnum):
    BIG = "big"


@dataclass
class Grid:
    depth: int
    rates: list[float]


@pytest.mark.parametrize("key", ["user:1", "ключ", "a/b/../c", "\x00", "a\nb", " ", "🙂", "x" * MAX_KEY_BYTES])
def test_k6_any_unicode_text_is_a_key(key: str) -> None:
    assert check_key(key) == key


def test_k6_a_member_of_an_enumeration_of_texts_is_its_text() -> None:
    class Key(str, enum.Enum):  # noqa: UP042 - its str() is not its text
        USER = "user:1"

    assert (type(check_key(Key.USER)), check_key(Key.USER)) == (str, "user:1")


def test_k6_what_is_no_time_differs_from_none() -> None:
    assert make_key(v=np.datetime64("NaT", "s")) != make_key(v=None)


def test_k6_frames_of_lists_have_a_digest_too() -> None:
    keys = {make_key(v=pd.DataFrame({"a": [[1], [n]]})) for n in (2, 3, 2)}
    assert len(keys) == 2


def test_k6_a_str_subclass_becomes_a_plain_str() -> None:
    checked = check_key(Size.BIG)
    assert (type(checked), checked) == (str, "big")


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (b"user:1", "'user:1'"),
        (1, '"user:1"'),
        (("user", 1), 'f"{part1}:{part2}"'),
        (["user"], 'f"{part1}"'),
        (1.5, 'f"user:{uid}"'),
        (object(), 'f"user:{uid}"'),
        (True, 'f"user:{uid}"'),
    ],
)
def test_k6_another_type_is_a_type_error_that_shows_the_f_string(key: object, shown: str) -> None:
    with pytest.raises(TypeError) as caught:
        check_key(key)
    assert type(key).__name__ in str(caught.value)
    assert shown in str(caught.value)


def test_k6_an_empty_key_is_a_value_error_that_shows_the_f_string() -> None:
    with pytest.raises(ValueError, match=r'f"user:\{uid\}"'):
        check_key("")


def test_k6_a_long_key_is_a_value_error_that_shows_step_key() -> None:
    with pytest.raises(ValueError, match=r"4098 bytes.*step\.key\("):
        check_key("é" * 2049)


def test_k6_a_key_that_is_no_utf8_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="UTF-8"):
        check_key("\ud800")


def test_k6_step_key_is_readable() -> None:
    assert make_key("cv", lr=0.1, depth=3, model="ridge") == "cv:lr=0.1:depth=3:model=ridge"


def test_k6_the_first_name_stands_as_it_is() -> None:
    assert make_key("sales:clean", "2013") == "sales:clean:'2013'"


def test_k6_long_text_becomes_a_short_digest() -> None:
    key = make_key("label", prompt="Say whether this is about money. " * 9)
    assert key.startswith("label:prompt=#")
    assert len(key) == len("label:prompt=#") + 16


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, True), (1, 1.0), (-7, -7.0), (0, 0.0), (10, np.float32(10)), (1, "1"), (1.0, "1.0"),
        (True, "True"), (None, "None"), (0, False), (1.5, "1.5"), ("nan", float("nan")), ("", None),
        (b"a", "a"), ([1], (1,)), ([1], ["1"]), ([1], [True]), ([1, 2], [2, 1]), ({"a": 1}, {"a": "1"}), ({1, 2}, [1, 2]),
        ("a:b=1", "a"), ("#16434cf2a1d6b124", "x" * 100), ([], {}), ([[], []], [[[]]]), (Grid(1, [0.1]), Grid(1, [0.2])),
        (Color.RED, Color.BLUE), (np.array([1, 2]), np.array([1.0, 2.0])), (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.array(["a", None], dtype=object), np.array(["a", "None"], dtype=object)),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})), (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1.0]})),
        (pd.Series([1, 2]), pd.Series([2, 1])), (pd.Series([1], name="a"), pd.Series([1], name="b")),
        (pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1, 2]}, index=[5, 6])),
        (np.datetime64("2024-05-01"), np.datetime64("2024-05-02")),
    ],
    ids=repr,
)  # fmt: skip
def test_k6_different_content_gives_different_keys(left: object, right: object) -> None:
    assert make_key("k", a=left) != make_key("k", a=right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ({"a": 1}, OrderedDict(a=1)), ({1, 2, 3}, {3, 1, 2}), ({"x"}, frozenset({"x"})),
        (np.float64(0.1), 0.1), (np.int64(3), 3), (np.bool_(True), True), (np.str_("a"), "a"), (np.float32(0.5), 0.5),
        (0.1 + 0.2, 0.3), (0.0, -0.0), (Path("data") / "x.csv", PurePosixPath("data/x.csv")),
        (np.arange(6).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3))),
        (pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1, 2]})), (Grid(1, [0.1]), Grid(1, [0.1])),
        ([np.int64(1)], [1]), (bytearray(b"x"), b"x"),
    ],
    ids=repr,
)  # fmt: skip
def test_k6_equal_content_gives_equal_keys(left: object, right: object) -> None:
    assert make_key("k", a=left) == make_key("k", a=right)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (datetime.date(2024, 5, 1), "2024-05-01"),
        (datetime.datetime(2024, 5, 1, 12, 30), "2024-05-01T12:30:00"),
        (pd.Timestamp("2024-05-01 12:30"), "2024-05-01T12:30:00"),
        (np.datetime64("2024-05-01T12:30:00.000000000"), "2024-05-01T12:30:00"),
        (np.datetime64("2024-05-01"), "2024-05-01"),
        (np.timedelta64(1500, "ns"), "1500 nanoseconds"),
        (datetime.timedelta(minutes=5), "300s"),
        (Color.RED, "Color.RED"),
        (Size.BIG, "Size.BIG"),
        (decimal.Decimal("1.50"), "1.50"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (None, "None"),
        (np.float64(1e-9), "1e-09"),
        (1e17, "1e+17"),
        (-2.0, "-2.0"),
        (float("inf"), "inf"),
        ("a:b", "'a:b'"),
        ("", "''"),
    ],
    ids=repr,
)
def test_k6_a_short_value_stands_as_its_text(value: object, text: str) -> None:
    assert make_key("k", a=value) == f"k:a={text}"


@pytest.mark.parametrize(
    "value", [object(), lambda: 1, open, iter([])], ids=["object", "lambda", "builtin", "iterator"]
)
def test_k6_a_value_without_stable_text_is_a_type_error_that_names_it(value: object) -> None:
    with pytest.raises(TypeError, match="client"):
        make_key("k", client=value)


_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=60), st.binary(max_size=60),
    st.floats(allow_nan=False).map(lambda x: float(f"{x:.12g}")), st.dates(), st.sampled_from(Color),
)  # fmt: skip
_values = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=5), inner, max_size=4),
        st.frozensets(st.integers(), max_size=4),
    ),
    max_leaves=8,
)


def _content(value: Any) -> Any:
    """A model of "equal content": plain data in which equality is exact."""
    if isinstance(value, dict):
        return ("dict", frozenset((k, _content(v)) for k, v in value.items()))
    if isinstance(value, list | tuple):
        return (type(value).__name__, tuple(map(_content, value)))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (type(value).__name__, f"{value + 0.0:.12g}" if isinstance(value, float) else str(value))
    if isinstance(value, datetime.date):
        return ("text", value.isoformat())
    if isinstance(value, Color):
        return ("text", f"Color.{value.name}")
    if isinstance(value, str):
        return ("text", value)
    return (type(value).__name__, value)


@given(_values, _values)
def test_k6_two_keys_are_equal_only_for_equal_content(left: Any, right: Any) -> None:
    if make_key("k", a=left) == make_key("k", a=right):
        assert _content(left) == _content(right)


@given(st.dictionaries(st.text(max_size=5), _values, max_size=5), st.randoms())
def test_k6_the_order_of_a_dict_does_not_matter(value: dict[str, Any], random: Any) -> None:
    items = list(value.items())
    random.shuffle(items)
    assert make_key("k", a=dict(items)) == make_key("k", a=value)


@given(st.lists(_scalars, max_size=3), st.lists(_scalars, max_size=3))
def test_k6_names_and_arguments_cannot_run_into_each_other(left: list[Any], right: list[Any]) -> None:
    if make_key("k", *left) == make_key("k", *right):
        assert [_content(v) for v in left] == [_content(v) for v in right]


def test_k6_keys_are_stable_across_processes_and_hash_seeds() -> None:
    program = (
        "from nbstep.keys import make_key\n"
        "print(make_key('k', a={'x': {1, 2, 'a', 'b'}, 'y': frozenset('hello')}, b='long ' * 20, c=[1, (2.5, None)]))"
    )
    keys = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "77")
    }  # fmt: skip
    assert len(keys) == 1
