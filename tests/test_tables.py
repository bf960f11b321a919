"""Terminal tables: aligned whatever the keys hold, and no wider than the screen."""

from __future__ import annotations

import pytest
from sample_rows import NOW, a_failure, a_row

from nbstep.commands.tables import Screen, table_text
from nbstep.words import text_width

ROWS = [
    a_row("user:1"),
    a_row("日本語:キー", type="pandas.DataFrame", shape="8,120 × 14", size_bytes=84_000_000, took_s=125.0, hits=4),
    a_row("very:long:" + "x" * 200 + ":end", expires_at=NOW + 90),
    a_failure("user:999"),
]


def test_columns_line_up_under_wide_characters() -> None:
    lines = table_text(ROWS[:2], Screen(200), NOW).splitlines()
    at = [text_width(line[: line.index("1 d ago")]) for line in lines[1:]]
    assert at[0] == at[1]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_table_is_no_wider_than_its_screen(width: int) -> None:
    lines = table_text(ROWS, Screen(width), NOW).splitlines()
    assert [line for line in lines if text_width(line) > width] == []
    assert len(ROWS) + 1 == len(lines)


def test_a_narrow_screen_keeps_status_and_key_and_both_ends_of_long_keys() -> None:
    lines = table_text(ROWS, Screen(60), NOW).splitlines()
    assert lines[3].startswith("✓ ok      very:long")
    assert ":end" in lines[3]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_one_very_long_key_leaves_the_other_columns_readable(width: int) -> None:
    rows = [a_row("k" * 400), a_failure("user:999")]
    line = table_text(rows, Screen(width), NOW).splitlines()[2]
    assert "HTTPStatusError: 40" in line
    assert "1 d ago" in line


def test_columns_without_a_value_are_left_out() -> None:
    head = table_text(ROWS[:1], Screen(200), NOW).splitlines()[0]
    assert head.split() == ["key", "type", "and", "shape", "size", "took", "age"]


def test_e5_a_failure_is_marked_by_a_word_and_in_red_where_there_is_colour() -> None:
    plain, coloured = (table_text(ROWS[3:], Screen(120, colour=c), NOW).splitlines()[1] for c in (False, True))
    assert plain.startswith("✕ failed  user:999")
    assert f"\x1b[31m{plain}\x1b[0m" == coloured


def test_a_cut_table_says_how_many_rows_are_missing_and_what_to_type() -> None:
    last = table_text(ROWS, Screen(120, notebook=True, max_rows=1), NOW).splitlines()[-1]
    assert last == "… and 3 more rows. Narrow it: %nbstep ls QUERY"
