"""The verb `gc`: what nobody needs goes, and is named with its size."""

from __future__ import annotations

from dataclasses import asdict

from nbstep.cache.cache import Cache
from nbstep.cache.secrets.redaction import key_text
from nbstep.cache.upkeep import Collected
from nbstep.commands.line import Arguments, CommandOutcome, UsageError
from nbstep.commands.listing import settled
from nbstep.commands.tables import Screen
from nbstep.durations import duration_text, size_text, to_seconds
from nbstep.stores.base import Totals
from nbstep.words import for_good, keys_text, plural, shown


async def tidy(cache: Cache, arguments: Arguments, screen: Screen) -> CommandOutcome:
    """Removes unfinished files, old trash and old run logs; with `--unused` entries that nothing used."""
    unused = arguments.options.get("--unused")
    try:
        unused_s = to_seconds(unused, "--unused")
    except ValueError as error:
        raise UsageError(shown(str(error))) from None
    dry_run = "--dry-run" in arguments.options
    found: Collected = await settled(cache.gc(unused=unused_s, dry_run=dry_run))
    lines = _removed_lines(found, dry_run)
    if found.unused.count:
        verb = "Would go to the trash" if dry_run else "To the trash"
        if found.lost:
            verb = f"Deleted{for_good(found.unused.count, found.lost)}"
        named = f": {keys_text([key_text(key) for key in found.unused_keys])}" if found.unused_keys else ""
        back = "" if dry_run or found.lost >= found.unused.count else f" Undo: {screen.command} undo"
        what = f"{_text(found.unused, 'entry', 'entries')} unused for {duration_text(unused_s or 0.0)}"
        lines.append(f"{verb}: {what}{named}.{back}")
    if not lines:
        rest = f" Entries that nothing used: {screen.command} gc --unused 30d"
        if unused:
            rest = f" All of it was used or kept since. See what is kept: {screen.command} ls; delete: {screen.command} rm KEY"
        lines.append(f"Nothing to remove in {shown(cache.place)}.{rest}")
    trash = await settled(cache.trash())
    if trash.entries:
        counted = plural(trash.entries, "entry", "entries")
        size = size_text(trash.size_bytes)
        lines.append(f"In the trash: {counted}, {size}; it goes after 24 h, sooner when the disk is full.")
    kinds = ("unfinished", "trashed", "logs", "unused")
    record = {kind: asdict(getattr(found, kind)) for kind in kinds} | {"unused_keys": [*found.unused_keys]}
    return CommandOutcome("\n".join(lines), record=record | {"dry_run": dry_run})


def _removed_lines(found: Collected, dry_run: bool) -> list[str]:
    parts = [
        _text(totals, *nouns)
        for totals, nouns in (
            (found.unfinished, ("unfinished file", "unfinished files")),
            (found.trashed, ("entry that was in the trash for 24 h", "entries that were in the trash for 24 h")),
            (found.logs, ("old run log", "old run logs")),
        )
        if totals.count
    ]
    return [f"{'Would remove' if dry_run else 'Removed'} {', '.join(parts)}."] if parts else []


def _text(totals: Totals, one: str, many: str) -> str:
    return f"{plural(totals.count, one, many)} ({size_text(totals.size_bytes)})"
