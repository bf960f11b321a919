"""The words a kept failure ends with (N9, E5)."""

from __future__ import annotations

import pytest

from nbstep.cache.records import ErrorText, Facts, Meta
from nbstep.notes import kept_error_note, one_line

NOW = 1_700_000_000.0


def _meta(key: str = "user:999", age_s: float = 3 * 3600.0) -> Meta:
    return Meta(
        key=key, outcome="error", created=NOW - age_s, size_bytes=900, type="httpx.HTTPStatusError", shape="", preview="",
        error=ErrorText("httpx.HTTPStatusError", "404 Not Found", "Traceback …"), signer="a1b2c3d4", trusted=True, python="3.11",
        packages={}, facts=Facts(took_s=0.4),
    )  # fmt: skip


def test_n9_the_note_in_a_notebook() -> None:
    note = kept_error_note(_meta(), NOW, 1, in_notebook=True, others=4)
    assert note.splitlines() == [
        "  From the cache: user:999 failed 3 h ago (took 0.4 s). It did not run now.",
        "  Try again:   %nbstep retry user:999     (all 4 kept errors of this run: %nbstep retry)",
        '  Go on past:  step(…, on_error="keep")   Original traceback: %nbstep show user:999',
    ]


def test_n9_outside_a_notebook_the_commands_are_the_shells_own() -> None:
    note = kept_error_note(_meta(), NOW, 1, in_notebook=False, others=1)
    assert "  Try again:   nbstep retry user:999\n" in note
    assert "%" not in note


def test_n9_a_cache_that_is_not_the_project_s_is_named() -> None:
    note = kept_error_note(_meta(), NOW, 1, in_notebook=True, others=2, folder="~/a {b}")
    assert "%nbstep retry --cache '~/a {{b}}' user:999     (all 2" in note
    assert "%nbstep retry --cache '~/a {{b}}')" in note
    assert "%nbstep show --cache '~/a {{b}}' user:999" in note


def test_n9_where_no_command_finds_the_cache_the_note_says_what_does() -> None:
    note = kept_error_note(_meta(), NOW, 1, in_notebook=True, others=2, folder=None)
    assert note.splitlines()[1:] == [
        "  Try again:   delete 'user:999' from the cache, or step(…, refresh=True)",
        '  Go on past:  step(…, on_error="keep")',
    ]


def test_e5_asked_again_in_the_same_run_it_explains_retries() -> None:
    note = kept_error_note(_meta(), NOW, 2, in_notebook=True, others=1)
    assert note.splitlines()[-1] == (
        "  A retry around a step replays the kept error; use retries= or retry inside the thunk."
    )


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("a b", "retry 'a b'"),
        ("user:*", "retry 'user:*'"),
        ("$(rm -rf ~)", "retry '$(rm -rf ~)'"),
        ("a\nb\x1b", "retry 'a\\nb\\x1b'"),
    ],
)
def test_n7_a_hostile_key_stays_one_quoted_word(key: str, shown: str) -> None:
    lines = kept_error_note(_meta(key), NOW, 1, in_notebook=False, others=1).splitlines()
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    assert lines[1].endswith(shown)


def test_n9_a_key_that_looks_like_an_option_is_none() -> None:
    note = kept_error_note(_meta("-x"), NOW, 1, in_notebook=False, others=1, folder="~/c")
    assert "nbstep retry --cache '~/c' -- -x\n" in note


def test_a_kept_error_from_the_future_is_shown_as_new() -> None:
    assert "failed just now" in kept_error_note(_meta(age_s=-50), NOW, 1, in_notebook=True, others=1)


def test_one_line_flattens_and_cuts() -> None:
    assert one_line("a\n  b\tc") == "a b c"
    assert one_line("x" * 500) == "x" * 299 + "…"
