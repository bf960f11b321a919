"""Values to bytes and back, and what a value that cannot be kept says of itself (K9, C3)."""

from __future__ import annotations

import array
import asyncio
import collections
import datetime
import decimal
import enum
import fractions
import math
import pathlib
import re
import socket
import sqlite3
import threading
import types
import uuid
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx
import numpy as np
import pandas as pd
import polars
import pytest
import requests
import sqlalchemy
from botocore.response import StreamingBody
from hypothesis import given, settings
from hypothesis import strategies as st

from nbstep.cache import serializer
from nbstep.cache.serializer import NotSerializable, deserialize, serialize


class Pair(NamedTuple):
    a: int
    b: str


class Level(enum.Enum):
    LOW = 1


@dataclass
class Holder:
    client: Any


class Quiet:
    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.lock = threading.RLock()


def round_trip(value: Any) -> Any:
    done = serialize(value)
    return deserialize(done.stream, [bytearray(buffer) for buffer in done.buffers])


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
    | st.datetimes() | st.decimals(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner) | st.sets(st.integers()),
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(PLAIN)
def test_plain_values_come_back_equal(value: Any) -> None:
    assert round_trip(value) == value


@pytest.mark.parametrize(
    "value",
    [
        None, 0, "", [], {1, 2}, frozenset({1}), Pair(1, "x"), Level.LOW, uuid.UUID(int=5),
        pathlib.PurePosixPath("/a"), decimal.Decimal("1.10"),
        fractions.Fraction(1, 3), datetime.datetime(2026, 11, 3, tzinfo=datetime.UTC), collections.Counter("aab"),
        collections.OrderedDict(a=1),
        re.compile("a+"), range(5), slice(1, 2), complex(1, 2), types.SimpleNamespace(a=1),
        bytearray(b"x" * 100_000), Ellipsis, NotImplemented,
    ],
)  # fmt: skip
def test_values_come_back_equal(value: Any) -> None:
    assert round_trip(value) == value


def test_k3_nan_and_empty_frames_are_values() -> None:
    assert math.isnan(round_trip(float("nan")))
    assert round_trip(pd.DataFrame()).empty


def test_functions_and_lambdas_come_back() -> None:
    factor = 3
    assert round_trip(lambda x: x * factor)(2) == 6


def test_frames_of_all_kinds_come_back_equal() -> None:
    frame = pd.DataFrame(
        {
            "int": range(20_000),
            "text": [str(n) for n in range(20_000)],
            "when": pd.date_range("2026-01-01", periods=20_000, freq="min"),
            "kind": pd.Categorical(["a", "b"] * 10_000),
            "maybe": pd.array([1, None] * 10_000, dtype="Int64"),
        }
    )
    pd.testing.assert_frame_equal(round_trip(frame), frame)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(3,), (300, 300), (0,)])
def test_k9_arrays_come_back_writable(order: Any, shape: tuple[int, ...]) -> None:
    array = np.arange(math.prod(shape), dtype="f8").reshape(shape, order=order)
    back = round_trip(array)
    np.testing.assert_array_equal(back, array)
    back[...] = 7
    frame = round_trip(pd.DataFrame(np.zeros((300, 300))))
    frame.iloc[0, 0] = 5.0
    assert frame.iloc[0, 0] == 5.0


def test_large_buffers_stand_beside_the_stream_and_small_ones_in_it() -> None:
    assert len(serialize(np.zeros(100)).buffers) == 0
    assert [buffer.nbytes for buffer in serialize([np.zeros(100_000), np.zeros(10)]).buffers] == [800_000]
    many = serialize([np.zeros(8192) for _ in range(2100)])
    assert len(many.buffers) == 2000
    assert len(deserialize(many.stream, many.buffers)) == 2100


def test_views_that_are_not_contiguous_come_back_equal() -> None:
    array = np.arange(1_000_000.0).reshape(1000, 1000)[::2, ::3]
    np.testing.assert_array_equal(round_trip(array), array)


def generator() -> Any:
    yield 1


async def coroutine() -> None: ...


def culprit(value: Any) -> str:
    with pytest.raises(NotSerializable) as caught:
        serialize(value)
    return str(caught.value)


def test_c3_the_culprit_is_named_by_its_path() -> None:
    lock = threading.Lock()
    assert culprit({"rows": [1], "lock": lock}).startswith("result['lock'] is a _thread.lock, which cannot be pickled")
    assert culprit([0, ("a", {"x": lock})]).startswith("result[1][1]['x'] is a _thread.lock")
    assert culprit(Holder(Holder(lock))).startswith("result.client.client is a _thread.lock")
    assert culprit(Quiet()).startswith("result.lock is a _thread.RLock")
    assert culprit(lambda: lock).startswith("result (captured lock) is a _thread.lock")


def test_c3_things_that_live_say_what_to_return_instead(tmp_path: pathlib.Path) -> None:
    assert culprit(generator()) == "result is a generator, which cannot be pickled: return a list instead"
    waiting = coroutine()
    assert culprit([waiting]) == "result[0] is a coroutine, which cannot be pickled: await it inside the step"
    waiting.close()
    with socket.socket() as opened:
        assert "result is a socket.socket, which cannot be pickled" in culprit(opened)
    connection = sqlite3.connect(":memory:")
    assert culprit({"db": connection}).endswith("return the rows instead")
    connection.close()
    (tmp_path / "f").write_text("text")
    with open(tmp_path / "f") as text, open(tmp_path / "f", "rb") as binary:
        assert (
            culprit([text])
            == "result[0] is an _io.TextIOWrapper, which cannot be pickled: return what it holds instead"
        )
        assert culprit({"f": binary}).startswith("result['f'] is an _io.BufferedReader, which cannot be pickled")


def test_c3_a_task_is_named() -> None:
    async def main() -> str:
        task = asyncio.ensure_future(asyncio.sleep(0))
        text = culprit({"task": task})
        await task
        return text

    assert "result['task']" in asyncio.run(main())


def test_c3_what_raises_while_it_is_pickled_is_named_with_its_error() -> None:
    class Broken:
        def __reduce__(self) -> Any:
            raise RuntimeError("not today")

    assert "(RuntimeError: not today)" in culprit({"x": Broken()})


def test_c3_very_deep_nesting_is_an_answer_not_a_crash() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    assert "nested too deeply" in culprit(value)
    while value:
        value = value[0]  # else the interpreter frees it recursively


def test_the_search_for_the_culprit_ends() -> None:
    assert "result" in culprit([[n] for n in range(100_000)] + [threading.Lock()])


def test_packages_that_the_stream_names_are_noted() -> None:
    assert serialize(pd.DataFrame({"a": [1]})).packages["pandas"] == pd.__version__
    assert serialize({"a": [1, "x"]}).packages == {}
    assert serialize(np.float64(1)).packages["numpy"] == np.__version__


def test_code_by_value_is_noted() -> None:
    assert serialize(lambda: 1).by_value is True
    assert serialize([Level.LOW, Pair(1, ""), math.sin, type(None), len]).by_value is False


def test_the_request_that_led_to_a_response_is_kept_without_headers_and_body() -> None:
    response = requests.Response()
    response.status_code, response._content, response.url = 200, b"{}", "http://x/"
    response.request = requests.Request(
        "POST", "http://x/", headers={"X-Team": "team-secret-1"}, data="body-secret-2"
    ).prepare()
    done = serialize({"r": response})
    assert b"-secret-" not in done.stream
    back = deserialize(done.stream, done.buffers)["r"]
    assert (back.json(), back.request.method, back.request.url) == ({}, "POST", "http://x/")


class Measured(np.ndarray):
    """A class of arrays with attributes, as NumPy's guide to subclasses has it."""

    unit: str

    def __array_finalize__(self, obj: Any) -> None:
        self.unit = getattr(obj, "unit", "")


class MeasuredMask(np.ma.MaskedArray):
    """The same with a mask; its attributes are NumPy's `_optinfo`."""


@pytest.mark.parametrize("rows", [3, 30_000])
def test_attributes_of_arrays_come_back(rows: int) -> None:
    measured = np.arange(float(rows)).view(Measured)
    measured.unit = "km"
    back = round_trip({"a": measured})["a"]
    assert (type(back), back.unit, back.flags.writeable) == (Measured, "km", True)
    assert np.array_equal(back, measured)


@pytest.mark.parametrize("cls", [np.ma.MaskedArray, MeasuredMask])
def test_a_hard_mask_stays_hard(cls: Any) -> None:
    masked = cls([1.0, 2.0, 3.0], mask=[0, 1, 0], hard_mask=True, fill_value=-7)
    masked._optinfo["unit"] = "km"
    back = round_trip(masked)
    assert (type(back), back.hardmask, back.fill_value, back._optinfo) == (cls, True, -7, {"unit": "km"})
    back[1] = 5
    assert back.tolist() == [1.0, None, 3.0]
    assert not round_trip(cls([1.0], mask=[1])).hardmask


@pytest.mark.parametrize(
    "view",
    [
        memoryview(b"abc"), memoryview(bytearray(b"abc")), memoryview(array.array("d", [1.5, 2.5])), memoryview(b""),
        memoryview(np.arange(6).reshape(2, 3)), memoryview(np.arange(12).reshape(3, 4).T), memoryview(np.arange(30_000.0)),
        memoryview(array.array("i", range(10)))[::2], memoryview(array.array("d")),
    ],
    ids=lambda view: f"{view.format}{view.shape}",
)  # fmt: skip
def test_a_memoryview_comes_back_as_the_numbers_it_shows(view: memoryview) -> None:
    back = round_trip([view])[0]
    assert (type(back), back.format, back.shape, back.readonly) == (memoryview, view.format, view.shape, view.readonly)
    assert back.tolist() == view.tolist()


def test_c3_a_memoryview_of_records_is_named_not_made_bytes_of() -> None:
    assert "memoryview, which cannot be pickled" in culprit([memoryview(np.zeros(3, dtype=[("a", "i4")]))])


def test_c3_a_column_of_objects_of_polars_is_named() -> None:
    frame = polars.DataFrame({"n": [1], "o": polars.Series([object()], dtype=polars.Object)})
    assert culprit({"f": frame}).startswith(
        "result['f']['o'] is a polars.series.series.Series, which cannot be pickled"
    )


def test_c3_what_a_database_or_a_bucket_gives_says_what_to_return() -> None:
    engine = sqlalchemy.create_engine("sqlite://")
    try:
        with engine.connect() as connection:
            text = culprit([connection.execute(sqlalchemy.text("SELECT 1"))])
    finally:
        engine.dispose()
    assert text == (
        "result[0] is a sqlalchemy.engine.cursor.CursorResult, which cannot be pickled: return its rows instead: .all()"
    )
    with open(__file__, "rb") as stream:
        assert culprit({"Body": StreamingBody(stream, 3)}).startswith(
            "result['Body'] is a botocore.response.StreamingBody, which cannot"
        )


def test_t10_errors_among_values_bring_no_header_along() -> None:
    request = httpx.Request("GET", "http://x/", headers={"Authorization": "Bearer header-secret-1"})
    response = httpx.Response(401, request=request, text="you sent header-secret-1")
    with pytest.raises(httpx.HTTPStatusError) as caught:
        response.raise_for_status()
    done = serialize([caught.value, None])
    assert b"header-secret-1" not in done.stream
    back = deserialize(done.stream, done.buffers)[0]
    assert type(back) is httpx.HTTPStatusError
    assert (str(back), back.response.status_code, back.request.url) == (str(caught.value), 401, "http://x/")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("postgresql://ada:value-secret-1@db/x"),
        ValueError({"rows": [{"password": "value-secret-1"}]}),
        OSError(2, "no such file", "/x?api_key=value-secret-1"),
        KeyError("no", b"Authorization: Bearer value-secret-1"),
    ],
    ids=repr,
)
def test_t10_builtin_errors_among_values_bring_no_secret_along(error: Exception) -> None:
    done = serialize([error, error])
    assert b"value-secret-1" not in done.stream
    back = deserialize(done.stream, done.buffers)[0]
    assert (type(back), len(back.args)) == (type(error), len(error.args))


def test_e4_builtin_errors_among_values_stay_as_they_are() -> None:
    array = np.arange(3)
    back = deserialize(serialize([ValueError("token: hello", array), KeyError("password")]).stream, [])
    assert (type(back[0]), back[0].args[0], back[0].args[1].tolist(), back[1].args) == (
        ValueError,
        "token: hello",
        [0, 1, 2],
        ("password",),
    )


def test_versions_of_what_is_not_installed_are_left_out() -> None:
    assert serializer.package_versions({"no_such_package_at_all.x", "os.path", "__main__"}) == {}
