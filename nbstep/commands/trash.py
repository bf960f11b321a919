"""`ls --trash`: what was deleted or replaced, and what to type to have it back."""

from __future__ import annotations

import time
from typing import Final, TypeAlias

from nbstep.cache.cache import Cache
from nbstep.cache.records import Trashed
from nbstep.commands.line import Arguments, CommandOutcome, command_text
from nbstep.commands.listing import Query, Row, matches, row_of, row_record, settled
from nbstep.commands.tables import Column, Columns, Screen, grid_lines
from nbstep.durations import age_text, size_text
from nbstep.words import plural

_Waiting: TypeAlias = tuple[Row, Trashed]

_WIDEST: Final = 40  # columns of a text
_LEAVE_FIRST: Final = ("kept", "size", "what", "back")


async def list_trash(cache: Cache, query: Query, arguments: Arguments, screen: Screen) -> CommandOutcome:
    """Lists the entries in the trash that a query leaves, the last one first."""
    now = time.time()
    waiting: list[Trashed] = await settled(cache.trashed())
    rows = [(row, one) for one in waiting if matches(query, row := row_of(one.meta), now)]
    exit_code = int(bool(query) and not rows)
    if arguments.as_json:
        records = [row_record(row) | {"trashed_at": one.at, "back": one.back} for row, one in rows]
        return CommandOutcome("", exit_code, record=records)
    if not rows:
        which = (
            f"None of {plural(len(waiting), 'entry', 'entries')} in the trash matches."
            if waiting
            else "The trash is empty."
        )
        return CommandOutcome(which, exit_code)
    visible = rows[: screen.row_limit]
    size = size_text(sum(row.size_bytes for row, _ in rows))
    head = f"{plural(len(rows), 'entry', 'entries')} in the trash · {size} · each goes for good after 24 h, or when room is needed"
    lines = grid_lines(visible, _columns(arguments, screen), _LEAVE_FIRST, screen.width, now)
    if "  back" not in lines[0]:
        lines.append(f"Bring one back: {screen.command} undo KEY")
    if len(rows) > len(visible):
        lines.append(f"… and {plural(len(rows) - len(visible), 'more entry', 'more entries')}")
    return CommandOutcome("\n".join([head, "", *lines]))


def _columns(arguments: Arguments, screen: Screen) -> Columns[_Waiting]:
    def back(waiting: _Waiting, _: float) -> str:
        row, one = waiting
        older = "" if one.back == 1 else f" --back {one.back}"
        return command_text("undo", [row.key], arguments, screen) + older

    return {
        "key": Column("key", lambda waiting, _: waiting[0].label, shrinks_to=14, keep_end=True, most=_WIDEST),
        "what": Column("type and shape", lambda waiting, _: waiting[0].what, shrinks_to=12, most=_WIDEST),
        "size": Column("size", lambda waiting, _: size_text(waiting[0].size_bytes), right=True),
        "kept": Column("kept", lambda waiting, now: age_text(max(0.0, now - waiting[0].created)), right=True),
        "deleted": Column("deleted", lambda waiting, now: age_text(max(0.0, now - waiting[1].at)), right=True),
        "back": Column("back", back),  # a command is never cut
    }
