"""The panel as a saved table: what a reopened, exported or hosted notebook shows where no kernel runs. Pure."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Final

from nbstep.commands.listing import NOTHING_KEPT, Row, Totals, totals_text
from nbstep.commands.tables import took_text
from nbstep.durations import clock_text, date_text, size_text
from nbstep.notebook.steprender import HTML_END, PLAIN
from nbstep.notes import one_line
from nbstep.words import MARKS, named_key

MOST_ROWS: Final = 200
HTML_BEGIN: Final = "<!--nbstep panel-->"
_LONGEST: Final = 300  # characters of a key, or of what it is
_HEADS: Final = ("", "Key", "Type and shape", "Size", "Took", "Kept", "Hits")
_LEFT: Final = "text-align:left"
_LONG: Final = "text-align:left;overflow-wrap:anywhere"
_RIGHT: Final = "text-align:right"
_STYLES: Final = (_LEFT, _LONG, _LONG, _RIGHT, _RIGHT, _RIGHT, _RIGHT)
_FAILED: Final = ";color:var(--jp-error-color1,#d32f2f)"
# A long table scrolls; and where no panel is alive below it, there is no "Error displaying widget" either.
_STYLE: Final = (
    "@media screen{.nbstep-snapshot>div{max-height:32em;overflow:auto}}"
    ".jp-OutputArea-child:has(.nbstep-snapshot)+.jp-OutputArea-child"
    ":has(>.lm-Panel.jp-OutputArea-output):not(:has(.nbstep-panel:not([hidden]))){display:none}"
)


def snapshot_html(rows: Sequence[Row], totals: Totals, now: float) -> str:
    """The table as HTML without scripts or ids: the first rows of those that `totals` counts, at most `MOST_ROWS`.

    It stays a table where styles are taken out. It is marked as nbstep's changing output, so that a comparison of
    notebooks leaves it out.
    """
    head = f"<p>{html.escape(totals_text(totals))} · as of {clock_text(now)}</p>"
    body = _table(rows[:MOST_ROWS], now) if rows else f"<p>{NOTHING_KEPT}</p>"
    more = f"<p>{_more_text(totals.entries)}</p>" if totals.entries > MOST_ROWS else ""
    return f'{HTML_BEGIN}<div class="nbstep-snapshot {PLAIN}"><style>{_STYLE}</style>{head}{body}{more}</div>{HTML_END}'


def _table(rows: Sequence[Row], now: float) -> str:
    """Columns that are empty everywhere are left out."""
    lines = [_texts(row, now) for row in rows]
    columns = [at for at in range(len(_HEADS)) if any(texts[at] for texts in lines)]
    heads = "".join(f'<th style="{_STYLES[at]}">{_HEADS[at]}</th>' for at in columns)
    body = "".join(_line(row, texts, columns) for row, texts in zip(rows, lines, strict=True))
    return f"<div><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"


def _texts(row: Row, now: float) -> tuple[str, ...]:
    """What stands in the columns; all but the key and what it is stays on one line, whatever styles the page has.

    Very long ones are cut: what they push aside nobody finds.
    """
    hits = f"{row.hits:,}" if row.hits else ""
    status, *numbers = (
        text.replace(" ", "\u00a0")
        for text in (
            f"{MARKS[row.status]} {row.status}", size_text(row.size_bytes), took_text(row), date_text(row.created, now), hits
        )
    )  # fmt: skip
    return status, named_key(row.label, _LONGEST), one_line(row.what, _LONGEST), *numbers


def _line(row: Row, texts: Sequence[str], columns: Sequence[int]) -> str:
    red = _FAILED if row.status == "failed" else ""
    cells = "".join(f'<td style="{_STYLES[at]}{red}">{html.escape(texts[at])}</td>' for at in columns)
    return f"<tr>{cells}</tr>"


def snapshot_plain(rows: Sequence[Row], count: int) -> str:
    """The first of `count` keys with ok or failed, nothing that changes from run to run."""
    if not rows:
        return NOTHING_KEPT
    words = ["ok" if row.status == "old value" else row.status for row in rows[:MOST_ROWS]]
    lines = [f"{word:<6}  {row.label}" for word, row in zip(words, rows, strict=False)]
    if count > MOST_ROWS:
        lines.append(_more_text(count))
    return "\n".join(lines)


def _more_text(count: int) -> str:
    return f"… and {count - MOST_ROWS:,} more, which are not saved: run the cell to see them"
