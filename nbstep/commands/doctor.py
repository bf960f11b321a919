"""The verb `doctor`: where the cache is and why, what it stands on, how it does."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import nbstep
from nbstep import runlog
from nbstep.cache.cache import Cache
from nbstep.cache.secrets.redaction import redact_text
from nbstep.cache.trust import key_ring
from nbstep.cache.upkeep import Counts
from nbstep.cache.where import project_place
from nbstep.commands.line import Arguments, CommandOutcome
from nbstep.commands.listing import settled
from nbstep.commands.tables import Screen
from nbstep.durations import age_text, date_text, duration_text, size_text
from nbstep.project import place_text
from nbstep.runlog import LoggedRun
from nbstep.stores.health import DiskHealth, examine
from nbstep.words import plural, shown

_NOTES: Final = 5
_STORE_ERRORS: Final = ("not-stored", "no-room")

Fact = tuple[str, str]


async def diagnose(cache: Cache, _: Arguments, screen: Screen) -> CommandOutcome:
    """Everything there is to know about a cache, as a table."""
    runs = [] if cache.directory is None else list(runlog.read_runs(cache.directory))
    counts: Counts = await settled(cache.counts())
    trash = await settled(cache.trash())
    now = time.time()
    facts = [
        _version(),
        ("cache", shown(cache.place)),
        ("", _why(cache)),
        *([] if cache.directory is None else _folder_facts(cache.directory)),
        *_key_facts(),
        ("entries", _entries_text(counts, screen)),
        ("trash", f"{trash.entries:,}, {size_text(trash.size_bytes)}" if trash.entries else "empty"),
        *_run_facts(runs, now),
    ]
    return CommandOutcome(facts_text(facts))


def diagnose_nothing() -> str:
    """What there is to say where no cache is yet."""
    place = project_place()
    where = shown(place_text(place.directory))
    return facts_text(
        [
            _version(),
            ("cache", f"{where}: nothing kept yet, a step with a key makes it"),
            ("", place.why),
            *_key_facts(),
        ]
    )


def facts_text(facts: Sequence[Fact]) -> str:
    """Names and texts as two aligned columns.

    >>> print(facts_text([("cache", "here"), ("", "because"), ("key", "a1b2c3d4")]))
    cache  here
           because
    key    a1b2c3d4
    """
    width = max(len(name) for name, _ in facts)
    return "\n".join(f"{name:<{width}}  {text}".rstrip() for name, text in facts if text)


def _version() -> Fact:
    return "nbstep", f"{nbstep.__version__}, Python {platform.python_version()}"


def _why(cache: Cache) -> str:
    if cache.directory is None:
        return "a store of your own, or memory"
    place = project_place()
    if _same(cache.directory, place.directory):
        return place.why
    if not place.explicit and _same(cache.directory, place.fallback):
        return f"yours alone: {shown(place_text(place.directory))} cannot be written"
    return f"named by you; the project's is {shown(place_text(place.directory))}, {place.why}"


def _same(one: Path, other: Path) -> bool:
    return one == other.resolve()


def _folder_facts(folder: Path) -> list[Fact]:
    if not folder.is_dir():
        return [("disk", "the folder was removed; the next result that is kept makes it anew")]
    return _disk_facts(examine(folder))


def _disk_facts(health: DiskHealth) -> list[Fact]:
    disk = [health.file_system or "a file system of unknown type"]
    if health.room is not None:
        disk.append(f"{size_text(health.room.free_bytes)} free of {size_text(health.room.total_bytes)}")
    if not health.mapped:
        disk.append("large values are read, not mapped")
    facts = [("disk", ", ".join(disk))]
    if health.owner is not None:
        owner = shown(health.owner) + ("" if health.is_mine else ", not you")
        open_to = ": others can write here, what they put in is not trusted" if health.mode & 0o022 else ""
        facts.append(("owner", f"{owner}, mode {health.mode:04o}{open_to}"))
    locks = (
        "work"
        if health.lock_problem is None
        else f"do not work ({shown(health.lock_problem)}): two kernels may both compute"
    )
    return [*facts, ("locks", locks)]


def _key_facts() -> list[Fact]:
    ring = key_ring()
    key, problem = ring.key().id, ring.problem()
    if problem is not None:
        return [("key", f"{key}, for this process only: {shown(problem)}")]
    named = ", which NBSTEP_SIGNING_KEY_FILE names" if ring.named else ""
    return [("key", f"{key} in {shown(place_text(ring.path()))}{named}")]


def _entries_text(counts: Counts, screen: Screen) -> str:
    parts = [f"{counts.entries:,}, {size_text(counts.size_bytes)}"]
    if counts.failed:
        parts.append(f"{counts.failed:,} failed")
    if counts.untrusted:
        parts.append(f"{counts.untrusted:,} untrusted ({screen.command} trust)")
    if counts.unreadable:
        parts.append(f"{counts.unreadable:,} unreadable ({screen.command} verify)")
    return ", ".join(parts)


def _run_facts(runs: Sequence[LoggedRun], now: float) -> list[Fact]:
    if not runs:
        return [("runs", "none logged yet")]
    steps = [step for run in runs for step in run.steps]
    hits = [step for step in steps if step.got == "hit"]
    saved_s = sum(step.saved_s for step in hits)
    reasons = Counter(step.reason for step in steps if step.got != "hit" and step.reason)
    errors = sum(finding.kind in _STORE_ERRORS for run in runs for finding in run.findings)
    return [
        ("runs", f"{len(runs):,} logged since {date_text(min(run.at for run in runs), now)}"),
        ("hits", f"{len(hits):,}, saved {duration_text(saved_s)}" if hits else "0"),
        ("misses", ", ".join(f"{count:,} {shown(reason)}" for reason, count in reasons.most_common()) or "0"),
        ("not kept", plural(errors, "result") if errors else "0"),
        *_notes(runs, now),
    ]


def _notes(runs: Sequence[LoggedRun], now: float) -> list[Fact]:
    """The last findings, each text once, the newest first."""
    notes: dict[str, float] = {}
    for run in runs:
        for finding in run.findings:
            notes.setdefault(finding.text, run.at)
    lines = [f"{age_text(max(0.0, now - at))}: {shown(redact_text(text))}" for text, at in list(notes.items())[:_NOTES]]
    return [("" if at else "notes", line) for at, line in enumerate(lines)]
