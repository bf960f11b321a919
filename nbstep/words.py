"""Text as it may be shown: hostile characters as escapes, widths in terminal columns, and the words for what was kept.

Keys, messages, type names and previews are other people's text. Whatever shows them (a terminal table, the panel, the
step list) passes them through `shown` or `shown_lines` first: what remains is printable and changes no direction.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias, cast

from nbstep.events import Outcome, Place, Reason

Status: TypeAlias = Literal["ok", "failed", "old value", "untrusted"]

_NAMED_KEYS: Final = 5
_NAMED_KEY_COLUMNS: Final = 80
_NUMBER: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)")
_SENTENCE_CHARS: Final = 120
# A message stands in one line here; what httpx adds to each of its own was a line by itself.
_SENTENCE_END: Final = re.compile(r"(?<=[^\s.]{2}[.!?])\s+(?=[A-Z])|\s+(?=For more information check: )")
WHY_MISSED: Final[dict[Reason, str]] = {
    "new": "first time under this key",
    "deleted": "its entry had been deleted",
    "expired": "its entry was older than the ttl",
    "evicted": "its entry had made room for others",
    "refreshed": "a refresh was asked for",
    "drifted": "its code or an input had changed",
    "error-retried": "its kept error was tried again",
    "unreadable": "its entry could not be read",
    "untrusted": "its entry was signed by somebody else",
    "incompatible": "its entry does not load with these versions",
    "not-stored": "nothing could be kept for it",
    "no-key": "it has no key",
}
# The same in a word or two, where there is no room for more.
WHY_IN_SHORT: Final[dict[Reason, str]] = {
    "new": "new",
    "deleted": "deleted",
    "expired": "expired",
    "evicted": "evicted",
    "refreshed": "refreshed",
    "drifted": "changed",
    "error-retried": "tried again",
    "unreadable": "unreadable",
    "untrusted": "untrusted",
    "incompatible": "other versions",
    "not-stored": "not kept",
    "no-key": "no key",
}
MARKS: Final[dict[Status, str]] = {"ok": "✓", "failed": "✕", "old value": "▲", "untrusted": "?"}


def status_of(outcome: Outcome, drift: str | None = None, *, trusted: bool = True) -> Status:
    """The word on screen for a kept entry; `drift` is what changed since it was kept.

    >>> status_of("ok"), status_of("error"), status_of("ok", "tidy() was edited")
    ('ok', 'failed', 'old value')
    """
    if not trusted:
        return "untrusted"
    if outcome == "error":
        return "failed"
    return "old value" if drift else "ok"


def shown(text: str) -> str:
    r"""One line in which control characters, direction marks, lone surrogates and odd spaces are escapes.

    >>> shown("user:1\n\x1b[31m" + chr(0x202E))
    'user:1\\n\\x1b[31m\\u202e'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def place_text(place: Place) -> str:
    """Where a step stands.

    >>> place_text(Place("churn.ipynb", 3, 2)), place_text(Place())
    ('churn.ipynb, In [3], line 2', '')
    """
    cell = None if place.cell is None else f"In [{place.cell}]"
    line = None if place.line is None else f"line {place.line}"
    return shown(", ".join(part for part in (place.notebook, cell, line) if part))


def spot_text(place: Place) -> str:
    """Where a step stands, for a line under the list of its cell: "line 2"; elsewhere "etl.py, line 2"."""
    return f"line {place.line}" if place.cell is not None or place.notebook is None else place_text(place)


def shown_lines(text: str) -> str:
    r"""As `shown`, for text of several lines: line breaks stay, tabs become spaces.

    >>> shown_lines("a\tb\r\nc\x07")
    'a   b\nc\\x07'
    """
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(shown(line.expandtabs(4)) for line in lines)


def for_good(count: int, lost: int) -> str:
    """What is added to "Deleted 5 entries" where a full disk had no room to keep `lost` of them for undo.

    >>> for_good(5, 0), for_good(5, 2), for_good(5, 5)
    ('', ', 2 of them for good (the disk is full)', ' for good (the disk is full)')
    """
    if not lost:
        return ""
    return f"{' for good' if lost >= count else f', {lost} of them for good'} (the disk is full)"


def runs_again(count: int) -> str:
    """What becomes of the steps whose entries were deleted.

    >>> runs_again(1), runs_again(2)
    ('it runs again when it is next asked', 'they run again when they are next asked')
    """
    return "it runs again when it is next asked" if count == 1 else "they run again when they are next asked"


def natural_order(text: str) -> tuple[str | float, ...]:
    """A sorting key that reads numbers as numbers.

    >>> sorted(["page:10", "page:9", "lr=0.2", "lr=0.05"], key=natural_order)
    ['lr=0.05', 'lr=0.2', 'page:9', 'page:10']
    """
    parts: list[str | float] = [*_NUMBER.split(text[:500].lower())]
    parts[1::2] = [
        float(number[:18]) for number in cast("list[str]", parts[1::2])
    ]  # so texts meet texts, numbers numbers
    return tuple(parts)


def text_width(text: str) -> int:
    """How many terminal columns `text` takes: East Asian wide characters two, combining marks none.

    >>> text_width("日本 e" + chr(0x301))
    6
    """
    if text.isascii():
        return len(text)
    return sum(map(_char_width, text))


def _char_width(char: str) -> int:
    if unicodedata.category(char) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(char) in {"W", "F"} else 1


def fit(text: str, width: int, *, right: bool = False, keep_end: bool = False) -> str:
    """`text` in exactly `width` columns: padded, or cut with an ellipsis.

    Args:
        text: What `shown` returned.
        width: Terminal columns.
        right: Align to the right.
        keep_end: Cut in the middle, so that long keys that differ at their end stay apart.

    >>> fit("user:1", 8), fit("1.4 GB", 8, right=True), fit("cv:lr=0.1:depth=3", 9, keep_end=True)
    ('user:1  ', '  1.4 GB', 'cv:l…th=3')
    """
    if text_width(text) > width:
        text = _cut(text, width, keep_end)
    padding = " " * (width - text_width(text))
    return padding + text if right else text + padding


def _cut(text: str, width: int, keep_end: bool) -> str:
    if width < 1:
        return ""
    tail = (width - 1) // 2 if keep_end else 0
    return _first(text, width - 1 - tail) + "…" + _first(text[::-1], tail)[::-1]


def _first(text: str, width: int) -> str:
    """The longest beginning of `text` that takes at most `width` columns."""
    used = 0
    for at, char in enumerate(text):
        used += _char_width(char)
        if used > width:
            return text[:at]
    return text


def plural(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun.

    >>> plural(1, "entry", "entries"), plural(1200, "error")
    ('1 entry', '1,200 errors')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def first_sentence(text: str) -> str:
    """What a list shows of an error's message, at most 120 characters.

    >>> first_sentence("ValueError: no such user. Ask for another one. Or wait.")
    'ValueError: no such user.'
    >>> first_sentence("HTTPStatusError: 404 Not Found for url 'http://x/1' For more information check: https://x.org/404")
    "HTTPStatusError: 404 Not Found for url 'http://x/1'"
    """
    first = _SENTENCE_END.split(text, maxsplit=1)[0]
    return first if len(first) <= _SENTENCE_CHARS else first[: _SENTENCE_CHARS - 1] + "…"


def with_article(name: str) -> str:
    """A class's name as a sentence needs it.

    >>> with_article("_thread.lock"), with_article("_io.TextIOWrapper")
    ('a _thread.lock', 'an _io.TextIOWrapper')
    """
    return f"{'an' if name.lstrip('_')[:1].lower() in set('aeiou') else 'a'} {name}"


def keys_text(labels: Sequence[str], count: int | None = None) -> str:
    """Some keys by name, many by number; `count` is how many there are where not all are given.

    >>> keys_text(["a", "b"]), keys_text(list("abcdefg"))
    ('a, b', 'a, b, c, d, e and 2 more')
    """
    named = ", ".join(map(named_key, labels[:_NAMED_KEYS]))
    count = len(labels) if count is None else count
    return f"{named} and {count - _NAMED_KEYS:,} more" if count > _NAMED_KEYS else named


def named_key(label: str, columns: int = _NAMED_KEY_COLUMNS) -> str:
    """A key within a sentence: a very long one leaves out its middle, so that the rest is still found and read.

    >>> named_key("user:1"), len(named_key("prompt:" + "x" * 4000 + ":7"))
    ('user:1', 80)
    """
    return label if text_width(label) <= columns else _cut(label, columns, keep_end=True)
