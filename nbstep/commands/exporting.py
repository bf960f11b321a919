"""The verb `export`: values as plain joblib files, and what could not be written."""

from __future__ import annotations

import time

from nbstep.cache.cache import Cache
from nbstep.cache.exporting import Exported
from nbstep.cache.secrets.redaction import key_text
from nbstep.commands.line import Arguments, CommandOutcome
from nbstep.commands.listing import list_rows, settled
from nbstep.commands.naming import rows_named
from nbstep.commands.tables import Screen
from nbstep.words import plural, shown


async def export(cache: Cache, arguments: Arguments, _: Screen) -> CommandOutcome:
    """Writes the values that its words name; exit code 1 where something was left out."""
    *words, folder = arguments.words
    named = rows_named(words, await list_rows(cache), time.time())
    exported: Exported = await settled(cache.write_values([row.key for row in named.rows], folder))
    lines: list[str] = []
    if exported.paths:
        counted = plural(len(exported.paths), "value")
        lines.append(f"Exported {counted} to {shown(folder)}. Open one with joblib.load({str(exported.paths[0])!r})")
    elif not exported.skipped:
        lines.append(f"No kept value matches {key_text(' '.join(words))}.")
    else:
        lines.append(f"Nothing was exported to {shown(folder)}.")
    unknown = [f"{word}: nothing is kept under it" for word in named.unknown] if named.rows else []
    left_out = [*unknown, *exported.skipped]
    lines += [f"  ✕ left out: {shown(line)}" for line in left_out]
    lines += [f"  ! {shown(line)}" for line in exported.needs]
    record = {"files": [str(path) for path in exported.paths], "left_out": left_out, "needs": [*exported.needs]}
    return CommandOutcome("\n".join(lines), exit_code=int(bool(left_out) or not exported.paths), record=record)
