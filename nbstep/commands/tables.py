"""A list of kept entries as a table of text that fits its screen."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TextIO, TypeAlias, TypeVar

from nbstep.commands.listing import Row
from nbstep.durations import age_text, duration_text, size_text
from nbstep.terminals import is_terminal
from nbstep.words import MARKS, Status, fit, plural, text_width

R = TypeVar("R")
_GAP: Final = "  "
MANY_ROWS: Final = 1000  # more are not read through, and fill a notebook or a terminal
_RESET: Final = "\x1b[0m"
_COLOURS: Final[dict[Status, str]] = {"failed": "\x1b[31m", "old value": "\x1b[33m", "untrusted": "\x1b[33m"}


def in_colour(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal that shows colours, and may."""
    return is_terminal(stream) and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


_LEAST_TEXT: Final = 20  # columns, however narrow the screen


@dataclass(frozen=True, slots=True)
class Screen:
    """Where text is shown, and who looks.

    Attributes:
        width: Columns.
        colour: Whether colours work.
        notebook: It is a notebook's output.
        max_rows: Cuts long tables; None shows all rows, in a notebook the first thousand.
        whole: How to see the rows that were cut, where there is a way.
        ask: Asks whoever sits before it a question, for yes or no; None where nobody can answer.
        tell: Shows how far long work is, by its name, the bytes done and the bytes in all; None where nobody looks.
    """

    width: int = 100
    colour: bool = False
    notebook: bool = False
    max_rows: int | None = None
    whole: str = ""
    ask: Callable[[str], bool] | None = None
    tell: Callable[[str, int, int], None] | None = None

    @property
    def command(self) -> str:
        """How a verb is called here."""
        return "%nbstep" if self.notebook else "nbstep"

    @property
    def row_limit(self) -> int | None:
        """How many rows a table has at most, None without a limit."""
        return MANY_ROWS if self.max_rows is None and self.notebook else self.max_rows

    def progress(self, work: str) -> Callable[[int, int], None] | None:
        """What a cache's long work is to call: it shows how far `work` is."""
        tell = self.tell
        return None if tell is None else lambda done, total: tell(work, done, total)


@dataclass(frozen=True, slots=True)
class Column(Generic[R]):
    """One column of a table: its head, and its text of a row at a time in seconds since the epoch.

    Attributes:
        head: Its name.
        text: What it says of a row.
        right: It stands to the right.
        shrinks_to: Its least width where the screen is narrow, in terminal columns; None: it is never cut.
        keep_end: What is cut is cut in its middle.
        most: Its width at most, however wide the screen is.
    """

    head: str
    text: Callable[[R, float], str]
    right: bool = False
    shrinks_to: int | None = None
    keep_end: bool = False
    most: int | None = None


Columns: TypeAlias = Mapping[str, Column[R]]


def expiry_text(expires_at: float | None, now: float) -> str:
    """When an entry's time to live ends.

    >>> expiry_text(None, 0.0), expiry_text(90.0, 0.0), expiry_text(1.0, 2.0)
    ('', 'in 1 m 30 s', 'expired')
    """
    if expires_at is None:
        return ""
    return f"in {duration_text(expires_at - now)}" if expires_at > now else "expired"


def took_text(row: Row) -> str:
    """How long the thunk ran; nothing for a value that was set by hand."""
    return duration_text(row.took_s) if row.took_s else ""


_COLUMNS: Final[Columns[Row]] = {
    "status": Column("", lambda row, _: f"{MARKS[row.status]} {row.status}"),
    "key": Column("key", lambda row, _: row.label, shrinks_to=14, keep_end=True),
    "what": Column("type and shape", lambda row, _: row.what, shrinks_to=12, most=80),
    "size": Column("size", lambda row, _: size_text(row.size_bytes), right=True),
    "took": Column("took", lambda row, _: took_text(row), right=True),
    "age": Column("age", lambda row, now: age_text(max(0.0, now - row.created)), right=True),
    "expires": Column("expires", lambda row, now: expiry_text(row.expires_at, now), right=True),
    "hits": Column("hits", lambda row, _: f"{row.hits:,}" if row.hits else "", right=True),
}
_LEAVE_FIRST: Final = ("hits", "expires", "took", "what", "age", "size")


def table_text(rows: Sequence[Row], screen: Screen, now: float) -> str:
    """The rows as lines, in the order given.

    Columns that are empty everywhere are left out, then, where the screen is narrow, the least needed ones; keys are
    cut in their middle.
    """
    visible = rows[: screen.row_limit]
    lines = grid_lines(visible, _COLUMNS, _LEAVE_FIRST, screen.width, now)
    for at, row in enumerate(visible, 1):
        if screen.colour and (colour := _COLOURS.get(row.status)):
            lines[at] = f"{colour}{lines[at]}{_RESET}"
    if len(rows) > len(visible):
        lines.append(
            f"… and {plural(len(rows) - len(visible), 'more row')}. Narrow it: {screen.command} ls QUERY{screen.whole}"
        )
    return "\n".join(lines)


def grid_lines(rows: Sequence[R], columns: Columns[R], leave_first: Sequence[str], width: int, now: float) -> list[str]:
    """A line of heads and one for each row, in `width` terminal columns.

    Columns that are empty everywhere are left out; where there is no room, those named in `leave_first`; then `what`, `key` and
    whatever else shrinks is cut.
    """
    cells = {name: [column.text(row, now) for row in rows] for name, column in columns.items()}
    cells = {name: texts for name, texts in cells.items() if any(texts) or name not in leave_first}
    widths = _settle_widths(cells, columns, leave_first, width)
    lines = [_line([columns[name].head for name in widths], columns, widths)]
    lines += [_line([cells[name][at] for name in widths], columns, widths) for at in range(len(rows))]
    return lines


def _settle_widths(
    cells: dict[str, list[str]], columns: Columns[R], leave_first: Sequence[str], screen_width: int
) -> dict[str, int]:
    """The columns that stay, with their widths: leave out the least needed, then cut the wide ones."""
    widths = {name: max(map(text_width, [columns[name].head, *texts])) for name, texts in cells.items()}
    widths = {name: min(width, columns[name].most or width) for name, width in widths.items()}

    def excess(least: bool) -> int:
        taken = [min(w, columns[name].shrinks_to or w) if least else w for name, w in widths.items()]
        return sum(taken) + len(_GAP) * (len(taken) - 1) - screen_width

    for name in leave_first:
        if excess(least=True) > 0:
            widths.pop(name, None)
    # One long key gives way before all types do.
    shrinking = [name for name in widths if columns[name].shrinks_to is not None and name != "key"]
    for name, least in (("key", screen_width // 3), *((name, 0) for name in shrinking), ("key", 0)):
        if name in widths and (over := excess(least=False)) > 0:
            least = min(widths[name], max(least, columns[name].shrinks_to or 0))
            widths[name] = max(least, widths[name] - over)
    return widths


def hanging(head: str, text: str, width: int) -> list[str]:
    """A text after its name, in at most `width` columns, broken between words and never after the name alone."""
    indent = text_width(head)
    first, *more = textwrap.wrap(
        text, max(width - indent, _LEAST_TEXT), break_long_words=False, break_on_hyphens=False
    ) or [""]
    return [f"{head}{first}".rstrip(), *(" " * indent + line for line in more)]


def wrapped(text: str, width: int, indent: int = 2) -> str:
    """A line in at most `width` columns, broken between words; what follows the first is indented."""
    return textwrap.fill(text, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def _line(texts: Sequence[str], columns: Columns[R], widths: dict[str, int]) -> str:
    parts = [
        fit(text, width, right=columns[name].right, keep_end=columns[name].keep_end)
        for text, (name, width) in zip(texts, widths.items(), strict=True)
    ]
    return _GAP.join(parts).rstrip()
