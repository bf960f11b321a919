"""One entry in full, as `show` and the panel's detail pane give it (D4, N7)."""

from __future__ import annotations

from sample_rows import NOW, a_meta

from nbstep.cache.records import ErrorText, Facts
from nbstep.commands.details import detail_of, detail_text
from nbstep.events import Place
from nbstep.runlog import Usage

FACTS = Facts(
    took_s=0.4, ttl_s=7200.0, workflow="churn", place=Place("churn.ipynb", 3, 2), source="lambda: f(1)", uses=("raw",)
)
ERROR = ErrorText(
    "httpx.HTTPStatusError", "404 Not Found", "Traceback (most recent call last):\n\tf(999)\nHTTP\x1b[31mError"
)


def test_a_value_shows_where_it_comes_from_and_what_it_is() -> None:
    meta = a_meta("user:1", type="pandas.DataFrame", shape="2 × 3", preview="a b\n1 2", created=NOW - 7000, facts=FACTS)
    detail = detail_of(meta, Usage(hits=4, saved_s=1.6, last_used=NOW - 180), NOW)
    facts = dict(detail.facts)
    assert (
        detail.status, detail.headline, detail.preview, detail.source,
    ) == ("ok", "pandas.DataFrame 2 × 3", "a b\n1 2", "lambda: f(1)")  # fmt: skip
    assert facts["kept"].startswith("1 h ago (")
    assert facts["kept"].endswith("), took 0.4 s, 10 B")
    assert (
        facts["expires"], facts["from"], facts["workflow"], facts["made from"], facts["used"],
    ) == ("in 3 m 20 s", "churn.ipynb, In [3], line 2", "churn", "raw", "4 times, last 3 m ago, saved 1.6 s")  # fmt: skip


def test_e5_an_error_shows_type_message_and_its_original_traceback_with_hostile_text_escaped() -> None:
    detail = detail_of(a_meta("user:999", outcome="error", error=ERROR), now=NOW)
    assert detail.headline == "httpx.HTTPStatusError: 404 Not Found"
    assert detail.traceback == "Traceback (most recent call last):\n    f(999)\nHTTP\\x1b[31mError"


def test_e5_a_traceback_names_cells_and_packages_not_where_they_lie() -> None:
    """And the head says of a long message what comes first; the traceback ends with all of it."""
    message = "404 Not Found for url 'http://x/1' For more information check: https://x.org/404"
    traceback = (
        'Traceback (most recent call last):\n  File "/tmp/ipykernel_6814/3450784636.py", line 3, in airline\n'
        '  File "<ipython-input-3-ab12>", line 1, in <lambda>\n  File "C:\\T\\ipykernel_1\\2.py", line 5, in f\n'
        '  File "/home/ada/.venv/lib/python3.11/site-packages/httpx/_models.py", line 829, in raise_for_status\n'
        f'  File "/home/ada/etl.py", line 2, in load\nhttpx.HTTPStatusError: {message}'
    )
    error = ErrorText("httpx.HTTPStatusError", message, traceback)
    detail = detail_of(a_meta("airline:CO", outcome="error", error=error), now=NOW)
    assert detail.headline == "httpx.HTTPStatusError: 404 Not Found for url 'http://x/1'"
    assert detail.traceback.split("\n") == [
        "Traceback (most recent call last):",
        "  Cell, line 3, in airline",
        "  Cell, line 1, in <lambda>",
        "  Cell, line 5, in f",
        '  File "httpx/_models.py", line 829, in raise_for_status',
        '  File "/home/ada/etl.py", line 2, in load',
        f"httpx.HTTPStatusError: {message}",
    ]
    bare = ErrorText("builtins.str", message, "")
    assert detail_of(a_meta("a", outcome="error", error=bare), now=NOW).headline.endswith("https://x.org/404")


def test_an_entry_of_somebody_else_says_that_no_step_uses_it() -> None:
    facts = dict(detail_of(a_meta("a", trusted=False), now=NOW).facts)
    assert facts["signed by"] == "a1b2c3d4, not by you: a step does not use it. Accept it: nbstep trust"


def test_on_a_narrow_screen_facts_are_broken_between_words_and_tables_cut_with_a_sign() -> None:
    table = "\n".join(["  ".join(f"c{n}" for n in range(40)), *["  ".join(["0"] * 60)] * 5, "5 of 50 rows"])
    meta = a_meta("a", preview=table, packages={f"package{n}": "1.2.3" for n in range(9)})
    whole, narrow = detail_text(detail_of(meta, now=NOW)), detail_text(detail_of(meta, now=NOW), 50)
    assert max(map(len, narrow.splitlines())) <= 50 < max(map(len, whole.splitlines()))
    facts, _, value = narrow.partition("\nValue\n")
    assert facts.split() == whole.partition("\nValue\n")[0].split()
    assert [line[-1] for line in value.splitlines()] == ["…"] * 6 + ["s"]


def test_what_expired_says_when() -> None:
    meta = a_meta("a", created=NOW - 600, facts=Facts(took_s=2.0, ttl_s=300.0))
    facts = dict(detail_of(meta, now=NOW).facts)
    assert facts["expired"] == "5 m ago"
    assert "expires" not in facts
    assert dict(detail_of(meta, now=NOW - 310).facts)["expires"] == "in 10 s"


def test_the_text_has_a_section_for_what_there_is() -> None:
    text = detail_text(detail_of(a_meta("a", preview="1"), now=NOW))
    assert text.startswith("✓ a   ok\n  builtins.int\n")
    assert text.endswith("\nValue\n  1")
    assert "traceback" not in text
