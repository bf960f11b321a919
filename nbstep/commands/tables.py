"""A list of kept entries as a table of text that fits its screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from nbstep.commands.listing import Row
from nbstep.durations import age_text, duration_text, size_text
from nbstep.words import MARKS, Status, fit, plural, text_width

_GAP: Final = "  "
MANY_ROWS: Final = 1000  # more are not read through, and fill a notebook or a terminal
_RESET: Final = "\x1b[0m"
_COLOURS: Final[dict[Status, str]] = {"failed": "\x1b[31m", "old value": "\x1b[33m", "untrusted": "\x1b[33m"}


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
class _Column:
    head: str
    text: Callable[[Row, float], str]
    right: bool = False
    shrinks_to: int | None = None  # columns; None: never cut
    keep_end: bool = False
    most: int | None = None  # columns, however wide the screen is


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


_COLUMNS: Final = {
    "status": _Column("", lambda row, _: f"{MARKS[row.status]} {row.status}"),
    "key": _Column("key", lambda row, _: row.label, shrinks_to=14, keep_end=True),
    "what": _Column("type and shape", lambda row, _: row.what, shrinks_to=12, most=80),
    "size": _Column("size", lambda row, _: size_text(row.size_bytes), right=True),
    "took": _Column("took", lambda row, _: took_text(row), right=True),
    "age": _Column("age", lambda row, now: age_text(max(0.0, now - row.created)), right=True),
    "expires": _Column("expires", lambda row, now: expiry_text(row.expires_at, now), right=True),
    "hits": _Column("hits", lambda row, _: f"{row.hits:,}" if row.hits else "", right=True),
}
_LEAVE_FIRST: Final = ("hits", "expires", "took", "what", "age", "size")


def table_text(rows: Sequence[Row], screen: Screen, now: float) -> str:
    """The rows as lines, in the order given.

    Columns that are empty everywhere are left out, then, where the screen is narrow, the least needed ones; keys are
    cut in their middle.
    """
    visible = rows[: screen.row_limit]
    cells = {name: [column.text(row, now) for row in visible] for name, column in _COLUMNS.items()}
    for name in ("hits", "expires", "took"):
        if not any(cells[name]):
            del cells[name]
    widths = _settle_widths(cells, screen.width)
    lines = [_line([_COLUMNS[name].head for name in widths], widths)]
    for at, row in enumerate(visible):
        line = _line([cells[name][at] for name in widths], widths)
        colour = _COLOURS.get(row.status) if screen.colour else None
        lines.append(f"{colour}{line}{_RESET}" if colour else line)
    if len(rows) > len(visible):
        lines.append(
            f"… and {plural(len(rows) - len(visible), 'more row')}. Narrow it: {screen.command} ls QUERY{screen.whole}"
        )
    return "\n".join(lines)


def _settle_widths(cells: dict[str, list[str]], screen_width: int) -> dict[str, int]:
    """The columns that stay, with their widths: leave out the least needed, then cut the wide ones."""
    widths = {name: max(map(text_width, [_COLUMNS[name].head, *texts])) for name, texts in cells.items()}
    widths = {name: min(width, _COLUMNS[name].most or width) for name, width in widths.items()}

    def excess(least: bool) -> int:
        taken = [min(w, _COLUMNS[name].shrinks_to or w) if least else w for name, w in widths.items()]
        return sum(taken) + len(_GAP) * (len(taken) - 1) - screen_width

    for name in _LEAVE_FIRST:
        if excess(least=True) > 0:
            widths.pop(name, None)
    # One long key gives way before all types do.
    for name, least in (("key", screen_width // 3), ("what", 0), ("key", 0)):
        if name in widths and (over := excess(least=False)) > 0:
            least = min(widths[name], max(least, _COLUMNS[name].shrinks_to or 0))
            widths[name] = max(least, widths[name] - over)
    return widths


def _line(texts: Sequence[str], widths: dict[str, int]) -> str:
    columns = [_COLUMNS[name] for name in widths]
    parts = [
        fit(text, width, right=column.right, keep_end=column.keep_end)
        for text, width, column in zip(texts, widths.values(), columns, strict=True)
    ]
    return _GAP.join(parts).rstrip()
