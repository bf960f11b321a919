"""Durations, ages, dates and sizes: what is read, what is shown."""

from __future__ import annotations

import datetime
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbstep.durations import age_text, date_text, duration_text, size_text, to_seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None), (0, 0.0), (90, 90.0), (1.5, 1.5), (datetime.timedelta(minutes=5), 300.0), ("250ms", 0.25), ("30s", 30.0),
        ("15m", 900.0), ("15 min", 900.0), ("2h30m", 9000.0), ("2h 30m", 9000.0), ("7d", 604800.0), ("1w", 604800.0),
        ("0.5h", 1800.0), (float("inf"), None), (1e300, None), (10**400, None), ("9999999999999w", None),
    ],
)  # fmt: skip
def test_numbers_timedeltas_and_text_are_durations(value: object, seconds: float | None) -> None:
    assert to_seconds(value, "ttl") == seconds  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [True, [1], object(), b"15m"])
def test_another_type_is_a_type_error_that_names_the_option(value: object) -> None:
    with pytest.raises(TypeError, match=r"error_ttl= takes seconds"):
        to_seconds(value, "error_ttl")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value", [-1, float("nan"), "", "soon", "15", "15x", "1h nonsense", datetime.timedelta(seconds=-1)]
)
def test_what_is_no_duration_is_a_value_error_that_names_the_option(value: object) -> None:
    with pytest.raises(ValueError, match="ttl="):
        to_seconds(value, "ttl")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"), (0.094, "94 ms"), (0.0949, "95 ms"), (0.95, "0.9 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"),
        (59.6, "1 m"), (61, "1 m 1 s"), (3599.6, "1 h"), (3661, "1 h 1 m"), (86399, "23 h 59 m"), (86400, "1 d"),
        (90000, "1 d 1 h"), (8640000, "100 d"),
    ],
)  # fmt: skip
def test_durations_are_shown_as_people_say_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@given(st.floats(min_value=0, max_value=1e9))
def test_a_shown_duration_is_within_a_tenth_of_the_true_one(seconds: float) -> None:
    shown = to_seconds(duration_text(seconds).replace(" ", ""), "shown")
    assert shown is not None
    assert shown == pytest.approx(seconds, rel=0.1, abs=0.051)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "just now"), (59.9, "59 s ago"), (3600, "1 h ago"), (172800, "2 d ago")]
)
def test_ages_have_one_unit(seconds: float, text: str) -> None:
    assert age_text(seconds) == text


def test_dates_are_as_short_as_they_can_be() -> None:
    now = time.mktime((2025, 11, 20, 15, 0, 0, 0, 0, -1))
    assert [
        date_text(time.mktime((*day, 14, 2, 0, 0, 0, -1)), now)
        for day in ((2025, 11, 20), (2025, 11, 3), (2024, 11, 3))
    ] == ["14:02", "3 Nov", "3 Nov 2024"]


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 KB"), (999_600, "1.0 MB"), (84_000_000, "84 MB"), (5e15, "5000 TB")],
)
def test_sizes_are_decimal(size: float, text: str) -> None:
    assert size_text(int(size)) == text
