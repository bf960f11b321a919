"""The row model and the query language that `ls` and the panel share (N6)."""

from __future__ import annotations

import pytest
from sample_rows import NOW, a_failure, a_meta, a_row

from nbstep.cache.records import ErrorText, Facts
from nbstep.commands.listing import (
    Totals,
    first_rows,
    has_type,
    matches,
    named_rows,
    parse_query,
    row_of,
    rows_of,
    totals_text,
)  # fmt: skip
from nbstep.runlog import Usage

ROWS = [a_row("user:1"), a_row("user:10", type="pandas.DataFrame"), a_failure(), a_row("page [x]", last_used=NOW)]
ROWS.append(a_row("tidy", status="old value", message="tidy() was edited", last_used=NOW))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["user:1", "user:10", "user:999", "page [x]", "tidy"]),
        ("error:", ["user:999"]),
        ("error:HTTPStatus", ["user:999"]),
        ("error:ValueError", []),
        ("error:*Error", ["user:999"]),
        ("user:*", ["user:1", "user:10", "user:999"]),
        ("user:?", ["user:1"]),
        ("USER:1", ["user:1", "user:10"]),
        ("USER:*", []),
        ("404", ["user:999"]),
        ("dataframe", ["user:10"]),
        ("user:* error:", ["user:999"]),
        ("unused:1h", ["user:1", "user:10", "user:999"]),
        ("unused:2d", []),
        ("old:", ["tidy"]),
        ("old:x", []),
        ("edited", ["tidy"]),
        ('"page [x]"', ["page [x]"]),
        ('"error:"', []),
    ],
)
def test_n6_a_query_is_words_that_must_all_hold(query: str, expected: list[str]) -> None:
    parsed = parse_query(query)
    assert expected == [row.key for row in ROWS if matches(parsed, row, NOW)]


def test_n6_a_bad_duration_in_a_query_says_what_to_write() -> None:
    with pytest.raises(ValueError, match=r"^unused:soon is no duration; write for example unused:30d$"):
        parse_query("unused:soon")


def test_rows_stand_in_the_natural_order_of_their_keys() -> None:
    metas = [a_meta(key) for key in ("page:10", "page:2", "Page:1", "a")]
    assert [row.key for row in rows_of(metas, {})] == ["a", "Page:1", "page:2", "page:10"]


def test_t10_the_first_rows_that_are_saved_are_those_that_matter() -> None:
    metas = {f"k:{n}": a_meta(f"k:{n}") for n in range(300)}
    metas["k:250"] = a_meta("k:250", outcome="error", error=ErrorText("ValueError", "no", ""))
    metas["k:299"] = a_meta("k:299", trusted=False)
    usage = {"k:260": Usage(1, 1.0, NOW, drift="f() was edited", drift_at=NOW)}
    kept = first_rows(metas, usage, 5, worst_first=True)
    assert [row.key for row in kept] == ["k:250", "k:260", "k:299", "k:0", "k:1"]
    assert [row.key for row in first_rows(metas, usage, 3)] == ["k:0", "k:1", "k:2"]


def test_n7_a_row_holds_text_that_may_be_shown_as_it_is() -> None:
    error = ErrorText(type="x\x1b[31m", message="bad\n\u202eline", traceback="")
    row = row_of(a_meta("k\x00\ud800", outcome="error", error=error))
    assert (row.label, row.type, row.message) == ("k\\x00\\ud800", "x\\x1b[31m", "bad\\n\\u202eline")


def test_a_row_takes_hits_and_time_saved_from_the_run_log() -> None:
    row = row_of(a_meta("a"), Usage(hits=3, saved_s=6.0, last_used=NOW))
    assert (row.hits, row.saved_s, row.last_used) == (3, 6.0, NOW)


def test_an_entry_signed_by_somebody_else_is_listed_as_untrusted() -> None:
    assert row_of(a_meta("a", trusted=False)).status == "untrusted"


def test_the_type_stands_without_its_module_and_an_error_with_its_message() -> None:
    assert [a_row().what, a_failure().what] == ["dict 3 items", "HTTPStatusError: 404 Not Found"]


def test_n6_a_call_of_joblib_memory_is_told_by_its_arguments() -> None:
    facts = Facts(took_s=2.0, inputs={"uid": "1", "lang": "'d\x1be'"})
    row = row_of(a_meta("joblib:etl.fetch:5d41402abc4b2a76", facts=facts))
    assert (row.message, row.what) == ("uid=1, lang='d\\x1be'", "int · uid=1, lang='d\\x1be'")
    assert row_of(a_meta("joblib:etl.fetch:code", facts=facts)).message == ""
    assert row_of(a_meta("user:1", facts=facts)).message == ""
    assert row_of(a_meta("joblib:etl.fetch:5d41402abc4b2a76", facts=facts, trusted=False)).message == ""


def test_a_name_is_a_key_before_it_is_a_glob() -> None:
    rows = [a_row("user:*"), a_row("user:1")]
    assert [row.key for row in named_rows(rows, "user:*")] == ["user:*"]
    assert [row.key for row in named_rows(rows, "use*")] == ["user:*", "user:1"]
    assert named_rows(rows, "user") == []


def test_a_key_can_be_named_as_it_is_shown() -> None:
    row = a_row("a\nb", label="a\\nb")
    assert [row] == named_rows([row], "a\\nb") == named_rows([row], "a\nb")


def test_e3_an_error_type_is_named_with_or_without_its_module() -> None:
    names = ("HTTPStatusError", "httpx.HTTPStatusError", "Error", "TTPStatusError")
    assert [has_type(a_failure(), name) for name in names] == [True, True, False, False]


def test_d3_an_entry_that_was_used_though_its_code_changed_is_an_old_value_until_it_is_replaced() -> None:
    used = Usage(hits=1, last_used=NOW, drift="tidy() was\x1b edited", drift_at=NOW)
    old = row_of(a_meta("a"), used)
    assert (old.status, old.message) == ("old value", "tidy() was\\x1b edited")
    assert row_of(a_meta("a", created=NOW + 1), used).status == "ok"
    assert row_of(a_meta("a"), Usage(hits=2, last_used=NOW)).status == "ok"
    failure = ErrorText("ValueError", "no", "")
    assert row_of(a_meta("a", outcome="error", error=failure), used).message == "no"
    assert row_of(a_meta("a", trusted=False), used).status == "untrusted"


def test_the_header_line_says_how_many_a_query_left() -> None:
    totals = Totals("~/p/.nbstep", 2, 2, 1000, 3, 2_000_000, 0.0)
    assert totals_text(Totals("x", 2, 0, 10, 0, 0, 0.0, old=2)) == "2 entries · 2 old values · 10 B · x"
    assert totals_text(totals, of=12) == "2 of 12 entries · 2 failed · 1 KB · 2.0 MB in trash · ~/p/.nbstep"
