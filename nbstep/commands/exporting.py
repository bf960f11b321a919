"""The verb `export`: values as plain joblib files, and what could not be written."""

from __future__ import annotations

from nbstep.cache.cache import Cache
from nbstep.cache.exporting import Exported
from nbstep.commands.line import Arguments, CommandOutcome
from nbstep.commands.listing import settled
from nbstep.commands.tables import Screen
from nbstep.words import plural, shown


async def export(cache: Cache, arguments: Arguments, _: Screen) -> CommandOutcome:
    """Writes the values that a glob names; exit code 1 where something was left out."""
    glob, folder = arguments.words
    exported: Exported = await settled(cache.write_values(glob, folder))
    lines: list[str] = []
    if exported.paths:
        counted = plural(len(exported.paths), "value")
        lines.append(f"Exported {counted} to {shown(folder)}. Open one with joblib.load({str(exported.paths[0])!r})")
    elif not exported.skipped:
        lines.append(f"No kept value matches {shown(glob)}.")
    else:
        lines.append(f"Nothing was exported to {shown(folder)}.")
    lines += [f"  ✕ left out: {shown(line)}" for line in exported.skipped]
    lines += [f"  ! {shown(line)}" for line in exported.needs]
    return CommandOutcome("\n".join(lines), exit_code=int(bool(exported.skipped) or not exported.paths))
