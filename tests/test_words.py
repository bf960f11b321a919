"""Foreign text made showable (N7), and the words for what is kept."""

from __future__ import annotations

import pytest

from nbstep.words import fit, shown, shown_lines, status_of, text_width

HOSTILE = [
    "\x00",
    "\x1b]8;;http://x\x07",
    "\u202e",
    "\u2066",
    "\u200b",
    "\ud800",
    "\u2028",
    "\xa0",
    "\ufeff",
    "\x85",
    "\U000e0041",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_n7_what_is_shown_is_printable_and_changes_no_direction(text: str) -> None:
    for made in (shown(f"a{text}b"), shown_lines(f"a{text}b").replace("\n", "")):
        assert made.isprintable()
        assert text not in made
        made.encode()


def test_ordinary_text_of_any_script_is_left_alone() -> None:
    for text in ("user:1", "日本語", "naïve café", "مرحبا", "👍 ok"):
        assert text == shown(text)


@pytest.mark.parametrize("width", range(1, 12))
@pytest.mark.parametrize("keep_end", [False, True])
def test_fitted_text_takes_exactly_its_columns(width: int, keep_end: bool) -> None:
    for text in ("", "a", "user:1", "日本語のキー", "mixed 日本 text that is long", "e\u0301" * 20):
        assert width == text_width(fit(text, width, keep_end=keep_end))


def test_e5_a_kept_failure_is_called_failed_whatever_else_changed() -> None:
    assert (
        status_of("error", "f() was edited"), status_of("ok", "f() was edited"), status_of("ok"),
        status_of("error", trusted=False),
    ) == ("failed", "old value", "ok", "untrusted")  # fmt: skip
