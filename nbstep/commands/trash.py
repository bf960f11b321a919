"""`ls --trash`: what was deleted or replaced, and what to type to have it back."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from nbstep.cache.cache import Cache
from nbstep.cache.records import Trashed
from nbstep.commands.line import Arguments, CommandOutcome, command_text
from nbstep.commands.listing import Query, Row, matches, row_of, row_record, settled
from nbstep.commands.tables import Screen
from nbstep.durations import age_text, size_text
from nbstep.words import fit, plural, text_width

_HEADS = ("key", "type and shape", "size", "kept", "deleted", "back")
_WIDEST = 40  # columns of a text


async def list_trash(cache: Cache, query: Query, arguments: Arguments, screen: Screen) -> CommandOutcome:
    """Lists the entries in the trash that a query leaves, the last one first."""
    now = time.time()
    waiting: list[Trashed] = await settled(cache.trashed())
    rows = [(row, one) for one in waiting if matches(query, row := row_of(one.meta), now)]
    exit_code = int(bool(query) and not rows)
    if arguments.as_json:
        records = [row_record(row) | {"trashed_at": one.at, "back": one.back} for row, one in rows]
        return CommandOutcome(json.dumps(records, indent=1), exit_code)
    if not rows:
        which = (
            f"None of {plural(len(waiting), 'entry', 'entries')} in the trash matches."
            if waiting
            else "The trash is empty."
        )
        return CommandOutcome(which, exit_code)
    shown_rows = rows[: screen.row_limit]
    lines = [_HEADS, *(_texts(row, one, now, arguments, screen) for row, one in shown_rows)]
    size = size_text(sum(row.size_bytes for row, _ in rows))
    head = f"{plural(len(rows), 'entry', 'entries')} in the trash · {size} · each goes for good after 24 h, or when room is needed"
    more = (
        [f"… and {plural(len(rows) - len(shown_rows), 'more entry', 'more entries')}"]
        if len(rows) > len(shown_rows)
        else []
    )
    return CommandOutcome("\n".join([head, "", *_table(lines), *more]))


def _texts(row: Row, one: Trashed, now: float, arguments: Arguments, screen: Screen) -> tuple[str, ...]:
    back = "" if one.back == 1 else f" --back {one.back}"
    return (
        row.label, row.what, size_text(row.size_bytes), age_text(max(0.0, now - row.created)),
        age_text(max(0.0, now - one.at)), command_text("undo", [row.key], arguments, screen) + back,
    )  # fmt: skip


def _table(lines: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(text_width, column)) for column in zip(*lines, strict=True)]
    widths = [*(min(width, _WIDEST) for width in widths[:-1]), widths[-1]]  # a command is never cut
    return [
        "  ".join(
            fit(text, width, right=at in (2, 3, 4), keep_end=at == 0)
            for at, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
