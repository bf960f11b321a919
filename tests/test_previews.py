"""What an entry says of its value: type, shape, a short text; made when kept, and bounded."""

from __future__ import annotations

import re
import time
import tracemalloc
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from nbstep.cache.plainparts import plain_parts, plain_stream
from nbstep.cache.previews import PREVIEW_CHARS, preview_text, shape_text, type_text
from nbstep.cache.secrets.redaction import redact_text
from nbstep.cache.serializer import Serialized, serialize


class Loud:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __len__(self) -> int:
        raise RuntimeError("no length")

    @property
    def shape(self) -> Any:
        raise RuntimeError("no shape")


class Verbose:
    def __repr__(self) -> str:
        return "x" * 5_000_000


@dataclass
class Node:
    name: str
    child: Any = None


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (pd.DataFrame(np.zeros((8120, 14))), "8,120 × 14"),
        (np.zeros((3, 4, 5)), "3 × 4 × 5"),
        (pd.Series([1, 2]), "2"),
        ([1, 2, 3], "3 items"),
        ({"a": 1}, "1 item"),
        ((), "0 items"),
        ("text", "4 characters"),
        (b"x", "1 byte"),
        (np.float64(1), ""),
        (7, ""),
        (None, ""),
        (int, ""),
        (Loud(), ""),
        (iter([1]), ""),
    ],
)
def test_shapes_are_said_as_people_say_them(value: Any, shape: str) -> None:
    assert shape_text(value) == shape


def test_types_are_named_with_the_package_people_import() -> None:
    assert type_text(pd.DataFrame()) == "pandas.DataFrame"
    assert type_text(np.zeros(1)) == "numpy.ndarray"
    assert type_text(OrderedDict()) == "collections.OrderedDict"
    assert type_text(1) == "int"
    assert type_text(Node("x")) == "test_previews.Node"


def test_a_frame_shows_its_head() -> None:
    text = preview_text(pd.DataFrame({"carrier": ["UA", "AA"] * 500, "delay": range(1000)}))
    assert text.splitlines()[0].split() == ["carrier", "delay"]
    assert text.splitlines()[1].split() == ["0", "UA", "0"]
    assert text.splitlines()[6:] == ["5 of 1,000 rows"]


def test_a_preview_says_what_it_leaves_out() -> None:
    wide = pd.DataFrame({f"c{n}": range(50) for n in range(120)})
    assert preview_text(wide).splitlines()[-1] == "5 of 50 rows, 12 of 120 columns"
    assert len(preview_text(wide).splitlines()) == 7
    text = preview_text(pd.DataFrame({f"a column with a long name {n}": ["x" * 100] * 3 for n in range(12)}))
    *rows, last = text.splitlines()
    assert last == "6 of 12 columns"  # all that fits, each to its end
    assert len({len(row) for row in rows}) == 1
    assert preview_text(pd.DataFrame({"a": range(5)})).splitlines()[-1].split() == ["4", "4"]
    assert preview_text(pd.Series(range(6))).splitlines()[-1] == "5 of 6 values"
    assert preview_text(pl.DataFrame({"n": range(1000)})).splitlines()[-1] == "5 of 1,000 rows"
    assert preview_text(pl.Series("n", range(7))).splitlines()[-1] == "5 of 7 values"
    assert "of" not in preview_text(pl.DataFrame({"n": range(1000)}).lazy()).split()
    table = pa.table({f"c{n}": range(9) for n in range(20)})
    assert preview_text(table).splitlines()[-1] == "5 of 9 rows, 12 of 20 columns"


@pytest.mark.parametrize(
    "value",
    [
        list(range(10**6)),
        dict.fromkeys(range(10_000), "x" * 1000),
        "x" * 10**7,
        b"\xff" * 10**7,
        Verbose(),
        [[[[[[["deep"] * 100] * 100] * 100] * 100] * 100] * 100] * 100,
        Node("a", Node("b", Node("c", Node("d", Node("e", Node("f")))))),
        np.zeros((10_000, 100)),
        pd.DataFrame(np.zeros((100, 2000))),
        pd.DataFrame({"text": ["x" * 100_000] * 10}),
        defaultdict(list, {n: [n] for n in range(100_000)}),
        10**4000,
    ],
)
def test_a_preview_is_short_and_quick(value: Any) -> None:
    begin = time.perf_counter()
    assert 0 < len(preview_text(value)) <= PREVIEW_CHARS
    assert time.perf_counter() - begin < 5


def test_a_value_that_contains_itself_ends() -> None:
    value: list[Any] = []
    value.append(value)
    node = Node("a")
    node.child = node
    assert len(preview_text(value)) < 100
    assert len(preview_text(node)) < 300


def test_a_repr_that_raises_is_no_preview() -> None:
    assert preview_text(Loud()) == "<no preview: RuntimeError>"
    assert preview_text([Loud()]).startswith(("[<Loud", "<no preview"))


HALF = "postgres://ada:" + "half-of-it-may-stay" * 3 + "@db/x"


@pytest.mark.parametrize("before", [0, 8, 220, 980])
def test_t10_no_half_of_a_secret_stays_where_a_preview_is_cut(before: int) -> None:
    text = "m" * (before - 1) + " " * bool(before) + HALF
    values = [
        text, text.encode(), {"a": text}, {text: [text]}, Doubtful(text), ValueError(text), np.array([text, text]),
        pd.DataFrame({"a": [text, None], text: [1, 2]}), pd.Series([text, 1]), pd.DataFrame({"n": [1]}, index=[text]),
        pd.DataFrame({("a", text): [1]}), [f"{text}\n"] * 12, pl.DataFrame({"a": [text, None], text: [1, 2]}),
        pl.Series("s", [text]), pl.LazyFrame({"a": [text]}), pa.table({"a": [text, None], text: [1, 2]}),
    ]  # fmt: skip
    for value in values:
        shown = preview_text(value, redact_text)
        assert not re.search("half|ada", shown), (type(value), shown)


class Doubtful:
    """Says what it was given."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"Doubtful({self.text!r})"


SECRETS = ("token", "'-", '"value', "password='letmein'", "postgres://ada:letmein@db/x", "sk-", "\n\\'\"")
SCALARS = (
    st.none() | st.booleans() | st.floats() | st.complex_numbers() | st.integers() | st.text(max_size=30)
    | st.lists(st.sampled_from(SECRETS) | st.characters(), max_size=6).map("".join)
    | st.lists(st.sampled_from(SECRETS).map(str.encode) | st.binary(max_size=100), max_size=4).map(b"".join)
)  # fmt: skip


def containers_of(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.integers() | st.text(max_size=5) | st.sampled_from(SECRETS)
    lists = st.lists(parts, max_size=14)
    return lists | lists.map(tuple) | st.dictionaries(keys, parts, max_size=18)


@given(st.recursive(SCALARS, containers_of, max_leaves=20))
@example({"n": 5})
@example([[[[[]]]]])
@example([[[[[5]]]]])
@example([[[[{1: 2}]]]])
@example(["x" * 240] * 12)
@example("x" * 241)
@example(10**60)
@example(10**60 - 1)
@example(-(10**59))
@example({"a": [1] * 13})
@example(dict.fromkeys(range(17)))
@example({"a": 'say "it\'s"', "b": "token"})
@example(["x" * 300, {"a": "y" * 5000}])
@example([{"id": n, "name": f"n{n}", "tags": ["a", "b", None]} for n in range(40)])
@example(b"x" * 300)
@example([b"'\\xff" * 60, (1,), ((2, 3),)])
@example({n: {"k": n} for n in range(20)})
@example(["x" * 300 + "token=letmein-letmein-1"])
def test_a_value_of_plain_parts_is_shown_and_pickled_as_any_other(value: Any) -> None:
    stream, plain = plain_stream(value), plain_parts(value)
    if stream is None:  # pickle asks the class of complex numbers
        assert "j" in repr(value)
        assert plain is None
        return
    assert serialize(value) == Serialized(stream, [], {}, by_value=False)
    if plain is not None:
        assert plain == (redact_text(preview_text(value, redact_text)), stream)


def test_most_that_json_gives_is_of_plain_parts() -> None:
    values: list[Any] = [{"n": 5}, [], (1.5,), "x" * 240, None, [[[[[[True]]]]]], {"a": {"b": {"c": {}}}}, b"x" * 5000]
    values += ["x" * 5000, [0] * 500, dict.fromkeys(range(170)), [{"id": n, "name": f"n{n}"} for n in range(300)]]
    assert all(plain_parts(value) is not None for value in values)


def test_what_is_large_or_not_plain_is_looked_at_in_full() -> None:
    class Text(str):
        pass

    others: list[Any] = [
        10**60,
        [[0] * 12, 10**70],
        "x" * 100_000,
        [0] * 100_000,
        Text("x"),
        [Text("x")],
        [[{1: Text("x")}]],
    ]
    others += [
        OrderedDict(),
        Loud(),
        [Loud()],
        np.float64(1),
        {"a": np.int64(1)},
        {"a": [0] * 20 + [Loud()]},
        len,
        [Loud],
    ]
    assert not any(plain_parts(value) is not None for value in others)
    assert plain_stream([0] * 20 + [Loud()]) is None
    endless: list[Any] = []
    endless.append(endless)
    assert plain_parts(endless) == ("[[[[[...]]]]]", serialize(endless).stream)


def test_a_large_value_is_not_copied_to_find_out_that_it_is_large() -> None:
    for value in (b"x" * 50_000_000, [b"x" * 50_000_000]):
        tracemalloc.start()
        try:
            assert plain_parts(value) is None
            assert tracemalloc.get_traced_memory()[1] < 1_000_000
        finally:
            tracemalloc.stop()


def test_t10_no_secret_of_a_value_of_plain_parts_is_shown() -> None:
    for value in (
        {"password": "letmein"}, ["postgres://ada:letmein@db/x"], "token=letmein-letmein-1",
        ["x" * 230 + " postgres://ada:letmein@db/x"], {"headers": {"X-Team": "letmein"}}, b"password='letmein'",
    ):  # fmt: skip
        plain = plain_parts(value)
        assert plain is not None
        assert "letmein" not in plain[0]
        assert plain[0] == redact_text(preview_text(value, redact_text))


def test_a_frame_without_secrets_looks_as_it_did() -> None:
    frame = pd.DataFrame(
        {"day": pd.date_range("2026-01-01", periods=3), "city": ["Bonn", None, "Köln"], "n": [1, 2, 3]}
    )
    assert preview_text(frame, redact_text) == frame.to_string()
    assert preview_text(frame.set_index("day"), redact_text) == frame.set_index("day").to_string()


def test_an_array_says_its_type_and_range() -> None:
    assert preview_text(np.array([3.0, np.nan, -1.5])).splitlines()[0] == "float64, -1.5 to 3.0"
    assert preview_text(np.array([[1, 2], [3, 4]], "int16")).splitlines()[0] == "int16, 1 to 4"
    assert preview_text(np.array(["2026-01-02", "2026-01-01"], "M8[D]")).startswith(
        "datetime64[D], 2026-01-01 to 2026-01-02"
    )
    assert preview_text(np.zeros((0, 3))).splitlines()[0] == "float64"
    assert preview_text(np.array(["a"])).splitlines()[0] == "<U1"


def test_a_table_of_arrow_shows_its_head_and_types() -> None:
    table = pa.table({"id": range(1000), "name": ["Ada"] * 1000})
    assert preview_text(table).splitlines()[:3] == ["id     name", "int64  string", "0      'Ada'"]
    assert preview_text(table).splitlines()[7:] == ["5 of 1,000 rows"]


def test_a_frame_of_polars_and_a_series_show_their_head() -> None:
    assert "i64" in preview_text(pl.DataFrame({"n": range(1000)}))
    assert preview_text(pd.Series(range(1000), name="n")).splitlines()[-2] == "Name: n, dtype: int64"


def test_a_pydantic_model_is_shortened_field_by_field() -> None:
    class User(pydantic.BaseModel):
        id: int
        tags: list[str]
        password: pydantic.SecretStr
        token: str = pydantic.Field(repr=False)

    user = User(id=1, tags=["x"] * 100_000, password=pydantic.SecretStr("hunter2"), token="hunter2")
    text = preview_text(user)
    assert text.startswith("User(id=1, tags=['x', 'x'")
    assert "…" in text or "..." in text
    assert "hunter2" not in text


def test_a_model_says_what_fitting_added() -> None:
    fitted = LinearRegression(positive=True).fit([[1.0], [2.0]], [1.0, 2.0])
    first, second = preview_text(fitted).splitlines()
    assert first == "LinearRegression(positive=True)"
    assert second.startswith("fitted: ")
    assert "coef_" in second


class Slow:
    made = 0

    def __repr__(self) -> str:
        Slow.made += 1
        end = time.perf_counter() + 1.1
        while time.perf_counter() < end:
            pass
        return "slow"


def test_what_takes_long_to_show_is_shown_once() -> None:
    assert preview_text(Slow()) == "slow"
    assert preview_text(Slow()) == "<no preview: that of another Slow took long>"
    assert Slow.made == 1
