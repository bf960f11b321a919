"""The verb `verify`: every byte read and checked, each bad entry in a line with what to do."""

from __future__ import annotations

import shlex
from typing import Final

from nbstep.cache.cache import Cache
from nbstep.cache.verification import Checked, Verdict, Verification
from nbstep.commands.line import Arguments, CommandOutcome
from nbstep.commands.listing import settled
from nbstep.commands.tables import Screen
from nbstep.durations import size_text
from nbstep.words import plural, shown, text_width

_BAD: Final[tuple[Verdict, ...]] = ("corrupt", "untrusted", "unreadable")
_NAME_COLUMNS: Final = 40
_MARKS: Final[dict[Verdict, str]] = {"good": "✓", "corrupt": "✕", "untrusted": "?", "unreadable": "!"}


async def verify(cache: Cache, arguments: Arguments, screen: Screen) -> CommandOutcome:
    """Reads every byte of what is kept, or of what a key or a glob names."""
    pattern = arguments.words[0] if arguments.words else "*"
    found: Verification = await settled(cache.verify(pattern, progress=screen.progress("reading")))
    if not found.checked:
        if arguments.words:
            return CommandOutcome(f"Nothing is kept under {shown(pattern)}.", exit_code=1)
        return CommandOutcome(f"Nothing kept yet in {shown(cache.place)}.")
    counts = [f"{found.count(verdict):,} {verdict}" for verdict in _BAD if found.count(verdict)]
    counted = plural(found.checked, "entry", "entries")
    head = f"{counted} read, {size_text(found.size_bytes)}: " + ", ".join([f"{found.count('good'):,} good", *counts])
    limit = screen.row_limit
    names = [_name(one) for one in found.bad[:limit]]
    width = min(_NAME_COLUMNS, max(map(text_width, names), default=0))
    lines = [_line(one, name, width, cache, screen) for one, name in zip(found.bad, names, strict=False)]
    if len(found.bad) > len(lines):
        lines.append(f"  … and {len(found.bad) - len(lines):,} more")
    return CommandOutcome("\n".join([head, *lines]), exit_code=found.bits)


def _name(one: Checked) -> str:
    return shown(one.address[:12]) + "…" if one.key is None else shown(one.key)


def _line(one: Checked, name: str, width: int, cache: Cache, screen: Screen) -> str:
    name += " " * (width - text_width(name))
    return f"  {_MARKS[one.verdict]} {one.verdict:<10}  {name}  {shown(one.why)}. {_remedy(one, cache, screen)}"


def _remedy(one: Checked, cache: Cache, screen: Screen) -> str:
    if one.key is None:
        if cache.directory is None:
            return "Its step runs again and replaces it."
        path = cache.directory / "v1" / "e" / one.address[:2] / one.address
        return f"Its step runs again and replaces it; or delete {shown(str(path))}"
    key = shlex.quote(shown(one.key))
    if one.verdict == "untrusted":
        return f"Accept it: {screen.command} trust {key}   Delete it: {screen.command} rm {key}"
    return f"Its step runs again; delete it now: {screen.command} rm {key}"
