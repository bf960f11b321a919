"""The verb `verify`: every byte read and checked, each bad entry in a line with what to do, those of a signer together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Final

from nbstep.cache.cache import Cache
from nbstep.cache.secrets.redaction import key_text
from nbstep.cache.trust import key_ring
from nbstep.cache.verification import Checked, Verdict, Verification
from nbstep.commands.line import Arguments, CommandOutcome, command_text
from nbstep.commands.listing import settled
from nbstep.commands.tables import Screen
from nbstep.durations import size_text
from nbstep.words import keys_text, natural_order, plural, shown, text_width

_BAD: Final[tuple[Verdict, ...]] = ("corrupt", "untrusted", "unreadable")
_NAME_COLUMNS: Final = 40
_MARKS: Final[dict[Verdict, str]] = {"good": "✓", "corrupt": "✕", "untrusted": "?", "unreadable": "!"}


async def verify(cache: Cache, arguments: Arguments, screen: Screen) -> CommandOutcome:
    """Reads every byte of what is kept, or of what a key or a glob names."""
    ring = key_ring()
    problem = ring.problem()
    pattern = arguments.words[0] if arguments.words else "*"
    found: Verification = await settled(cache.verify(pattern, progress=screen.progress("reading")))
    if not found.checked:
        if arguments.words:
            return CommandOutcome(f"Nothing is kept under {key_text(pattern)}.", exit_code=1)
        return CommandOutcome(f"Nothing kept yet in {shown(cache.place)}.")
    counts = [f"{found.count(verdict):,} {verdict}" for verdict in _BAD if found.count(verdict)]
    counted = plural(found.checked, "entry", "entries")
    head = f"{counted} read, {size_text(found.size_bytes)}: " + ", ".join([f"{found.count('good'):,} good", *counts])
    damaged = [one for one in found.bad if one.verdict != "untrusted"]
    strange = [one for one in found.bad if one.verdict == "untrusted"]
    limit = screen.row_limit
    names = [_name(one) for one in damaged[:limit]]
    width = min(_NAME_COLUMNS, max(map(text_width, names), default=0))
    lines = [_line(one, name, width, cache, arguments, screen) for one, name in zip(damaged, names, strict=False)]
    if len(damaged) > len(lines):
        lines.append(f"  … and {len(damaged) - len(lines):,} more")
    lines += _signer_lines(strange, limit)
    if strange and problem is not None:
        lines.append(f"    These may be yours, you have no signing key that lasts: {shown(problem)}. Fix: {ring.fix}")
    else:
        lines += _ways_out(strange, arguments, screen)
    record = {
        "checked": found.checked, "good": found.count("good"), "size_bytes": found.size_bytes,
        "bad": [asdict(one) for one in found.bad],
    }  # fmt: skip
    return CommandOutcome("\n".join([head, *lines]), exit_code=found.bits, record=record)


def _signer_lines(strange: Sequence[Checked], limit: int | None) -> list[str]:
    """A line for each signer: who can write to a cache can sign each entry by another key."""
    groups = [list(group) for _, group in groupby(sorted(strange, key=lambda one: one.why), lambda one: one.why)]
    lines = [
        f"  {_MARKS['untrusted']} untrusted   {len(group):,} {shown(group[0].why)}: "
        + keys_text(sorted((_name(one) for one in group), key=natural_order))
        for group in groups[:limit]
    ]
    if len(groups) > len(lines):
        lines.append(f"  … and {len(groups) - len(lines):,} more signers")
    return lines


def _ways_out(strange: Sequence[Checked], arguments: Arguments, screen: Screen) -> list[str]:
    if not strange:
        return []
    delete = f"Delete what others signed: {command_text('rm --untrusted', arguments.words, arguments, screen)}"
    beside = sum(one.beside_own for one in strange)
    if beside == len(strange):
        return [f"    Good entries of your own have these keys. {delete}"]
    accept = f"Accept: {command_text('trust', arguments.words, arguments, screen)}"
    kept = f" (but {beside:,}: good entries of your own have their keys)" if beside else ""
    return [f"    {accept}{kept}   {delete}"]


def _name(one: Checked) -> str:
    return shown(one.address[:12]) + "…" if one.key is None else key_text(one.key)


def _line(one: Checked, name: str, width: int, cache: Cache, arguments: Arguments, screen: Screen) -> str:
    name += " " * (width - text_width(name))
    remedy = _remedy(one, cache, arguments, screen)
    return f"  {_MARKS[one.verdict]} {one.verdict:<10}  {name}  {shown(one.why)}. {remedy}"


def _remedy(one: Checked, cache: Cache, arguments: Arguments, screen: Screen) -> str:
    if one.key is None:
        if cache.directory is None:
            return "Its step runs again and replaces it."
        path = cache.directory / "v1" / "e" / one.address[:2] / one.address
        return f"Its step runs again and replaces it; or delete {shown(str(path))}"
    return f"Its step runs again; delete it now: {command_text('rm', [one.key], arguments, screen)}"
