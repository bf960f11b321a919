"""The verb `doctor`: where the cache is and why, what it stands on, how it does."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, get_args

import nbstep
from nbstep import runlog
from nbstep.cache.cache import Cache, copy_text
from nbstep.cache.secrets.redaction import redact_text
from nbstep.cache.trust import key_ring
from nbstep.cache.upkeep import Counts
from nbstep.cache.where import project_place
from nbstep.commands.carriers import carrier_facts
from nbstep.commands.line import Arguments, CommandOutcome
from nbstep.commands.listing import settled
from nbstep.commands.tables import Screen, hanging
from nbstep.durations import age_text, date_text, duration_text, size_text
from nbstep.events import Reason
from nbstep.notes import argument_text, one_line
from nbstep.project import place_text
from nbstep.runlog import LoggedRun
from nbstep.stores.folder import is_read_only
from nbstep.stores.health import DiskHealth, examine
from nbstep.words import plural, shown

_FIX: Final = "Fix: "
_COMMANDS: Final = (_FIX, "cp ")
_NOTES: Final = 5
_NOTE_CHARS: Final = 200
_REASONS: Final = frozenset[str](get_args(Reason))

_ELSEWHERE: Final = "make it writable for you, or let NBSTEP_DIR name a folder that is"

Fact = tuple[str, str]


async def diagnose(cache: Cache, _: Arguments, screen: Screen) -> CommandOutcome:
    """Everything there is to know about a cache, as a table."""
    key_facts = _key_facts()  # first: it tells of a key that cannot be used, so that nothing else does
    runs = [] if cache.directory is None else list(runlog.read_runs(cache.directory))
    counts: Counts = await settled(cache.counts())
    trash = await settled(cache.trash())
    now = time.time()
    facts = [
        _version(),
        ("cache", shown(cache.place)),
        *_why(cache),
        *([] if cache.directory is None else _folder_facts(cache.directory, screen)),
        *[(name, shown(text)) for name, text in await settled(cache.conditions())],
        *key_facts,
        *_entries_facts(counts, screen),
        (
            "limit",
            ""
            if cache.options.max_bytes is None
            else f"max_bytes {size_text(cache.options.max_bytes)}, trash included",
        ),
        ("trash", f"{trash.entries:,}, {size_text(trash.size_bytes)}" if trash.entries else "empty"),
        *_run_facts(runs, now),
        *carrier_facts(),
    ]
    return _told(facts, screen)


def diagnose_nothing(screen: Screen) -> CommandOutcome:
    """What there is to say where no cache is yet."""
    place = project_place()
    facts: list[Fact] = [
        ("cache", f"{_path(place.directory)}: nothing kept yet, a step with a key makes it"),
        ("", place.why),
    ]
    if not place.explicit and not _can_be_made(place.directory):
        facts[0] = (
            "cache",
            f"{_path(place.directory)} cannot be written: a step with a key keeps in {_path(place.fallback)}",
        )
        facts.append(_fix(_ELSEWHERE))
    return _told([_version(), *facts, *_key_facts(), *carrier_facts()], screen)


def _told(facts: Sequence[Fact], screen: Screen) -> CommandOutcome:
    lines: dict[str, list[str]] = {}
    name = ""
    for named, text in facts:
        name = named or name
        if text:
            lines.setdefault(name, []).append(text)
    return CommandOutcome(facts_text(facts, screen.width), record={"facts": lines})


def facts_text(facts: Sequence[Fact], columns: int = 100) -> str:
    """Names and texts as two aligned columns; long texts are broken between words, but commands stay whole.

    >>> print(facts_text([("cache", "here"), ("", "because"), ("key", "a1b2c3d4")]))
    cache  here
           because
    key    a1b2c3d4
    """
    width = max(len(name) for name, _ in facts)
    return "\n".join(
        line
        for name, text in facts
        if text
        for line in (
            [f"{name:<{width}}  {text}"] if text.startswith(_COMMANDS) else hanging(f"{name:<{width}}  ", text, columns)
        )
    )


def _version() -> Fact:
    return "nbstep", f"{nbstep.__version__}, Python {platform.python_version()}"


def _fix(text: str) -> Fact:
    """What to do about the line above."""
    return "", f"{_FIX}{text}"


def _path(path: Path) -> str:
    return shown(place_text(path))


def _can_be_made(folder: Path) -> bool:
    nearest = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    return os.access(nearest, os.W_OK | os.X_OK)


def _why(cache: Cache) -> list[Fact]:
    if cache.directory is None:
        return [] if cache.is_server else [("", "a store of your own, or memory")]
    place = project_place()
    if _same(cache.directory, place.directory):
        return [("", place.why)]
    if not place.explicit and _same(cache.directory, place.fallback):
        facts = [("", f"yours alone: {_path(place.directory)} cannot be written"), _fix(_ELSEWHERE)]
        if is_read_only(place.directory):
            facts += [("", "What that holds is not used here; to use it too, copy it:"), ("", copy_text(place))]
        return facts
    return [("", f"named by you; the project's is {_path(place.directory)}, {place.why}")]


def _same(one: Path, other: Path) -> bool:
    return one == other.resolve()


def _folder_facts(folder: Path, screen: Screen) -> list[Fact]:
    if not folder.is_dir():
        return [("disk", "the folder was removed; the next result that is kept makes it anew")]
    health = examine(folder)
    if is_read_only(folder):
        access = ("access", "read-only for you: what it holds is used, nothing new is kept, nothing can be deleted")
        return [_disk_facts(health, screen)[0], access, _fix(_ELSEWHERE)]
    return [*_disk_facts(health, screen), *_owner_facts(health, folder), *_lock_facts(health)]


def _disk_facts(health: DiskHealth, screen: Screen) -> list[Fact]:
    disk = [health.file_system or "a file system of unknown type"]
    if health.room is not None:
        disk.append(f"{size_text(health.room.free_bytes)} free of {size_text(health.room.total_bytes)}")
    if not health.mapped:
        disk.append("large values are read, not mapped")
    if health.room is None or health.room.free_bytes >= health.room.kept_free_bytes:
        return [("disk", ", ".join(disk))]
    kept_free = size_text(health.room.kept_free_bytes)
    disk.append(f"nothing more is kept: nbstep leaves the last {kept_free} free")
    rows, unused = f"{screen.command} ls", f"{screen.command} gc --unused 30d"
    fix = f"make room on the disk; what is kept: {rows}; what nothing used lately goes: {unused}"
    return [("disk", ", ".join(disk)), _fix(fix)]


def _owner_facts(health: DiskHealth, folder: Path) -> list[Fact]:
    if health.owner is None:
        return []
    owner = shown(health.owner) + ("" if health.is_mine else ", not you")
    if not health.mode & 0o022:
        return [("owner", f"{owner}, mode {health.mode:04o}")]
    facts = [("owner", f"{owner}, mode {health.mode:04o}: others can write here, what they put in is not trusted")]
    if not health.is_mine:
        return [*facts, _fix("let NBSTEP_DIR name a folder of your own, if it is not shared on purpose")]
    command = f"chmod 700 {argument_text(shown(str(folder)), in_notebook=False)}"
    return [*facts, _fix(f"{command}, if it is not shared on purpose")]


def _lock_facts(health: DiskHealth) -> list[Fact]:
    if health.lock_problem is None:
        return [("locks", "work")]
    return [
        ("locks", f"do not work ({shown(health.lock_problem)}): two kernels may both compute"),
        _fix("let NBSTEP_DIR name a folder on a disk with locks, or run one kernel at a time"),
    ]


def _key_facts() -> list[Fact]:
    ring = key_ring()
    problem = ring.problem()
    if problem is not None:
        return [("key", f"none that lasts: {shown(problem)}"), _fix(ring.fix)]
    path = ring.path()
    named = ", which NBSTEP_SIGNING_KEY_FILE names" if ring.named else ""
    facts = [("key", f"{ring.key().id} in {_path(path)}{named}")]
    mode = _open_mode(path)
    if mode:
        facts.append(("", f"mode {mode:04o}: others can read it, and sign what runs code as you"))
        facts.append(_fix(f"chmod 600 {argument_text(shown(str(path)), in_notebook=False)}"))
    return facts


def _open_mode(path: Path) -> int:
    """The mode of a key's file that others can read, else 0."""
    if sys.platform == "win32":
        return 0
    try:
        mode = path.stat().st_mode & 0o7777
    except OSError:
        return 0
    return mode if mode & 0o044 else 0


def _entries_facts(counts: Counts, screen: Screen) -> list[Fact]:
    parts = [f"{counts.entries:,}, {size_text(counts.size_bytes)}"]
    if counts.failed:
        parts.append(f"{counts.failed:,} failed")
    if counts.untrusted:
        parts.append(f"{counts.untrusted:,} untrusted")
    if counts.corrupt:
        parts.append(f"{counts.corrupt:,} corrupt")
    if counts.unreadable:
        parts.append(f"{counts.unreadable:,} unreadable")
    if counts.beside:
        parts.append(f"and {counts.beside:,} of other signers beside them")
    facts: list[Fact] = [("entries", ", ".join(parts))]
    if (counts.untrusted or counts.beside) and key_ring().problem() is not None:
        facts.append(_fix("set the key right first, they may be yours"))
    else:
        if counts.untrusted:
            facts.append(_fix(f"see who signed them, and accept them or not: {screen.command} trust"))
        if counts.beside:
            facts.append(_fix(f"delete those of other signers, your own stay: {screen.command} rm --untrusted"))
    if counts.corrupt or counts.unreadable:
        facts.append(_fix(f"their steps run again and replace them; which and why: {screen.command} verify"))
    return facts


def _run_facts(runs: Sequence[LoggedRun], now: float) -> list[Fact]:
    if not runs:
        return [("runs", "none logged yet")]
    steps = [step for run in runs for step in run.steps]
    hits = [step for step in steps if step.got == "hit"]
    saved_s = sum(step.saved_s for step in hits)
    missed = [step.reason for step in steps if step.got != "hit" and step.reason]
    reasons = Counter(reason if reason in _REASONS else "for another reason" for reason in missed)
    unkept = sum(not step.kept for step in steps)
    return [
        ("runs", f"{len(runs):,} logged since {date_text(min(run.at for run in runs), now)}"),
        ("hits", f"{len(hits):,}, saved {duration_text(saved_s)}" if hits else "0"),
        ("misses", ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common()) or "0"),
        ("not kept", plural(unkept, "result") if unkept else "0"),
        *_notes(runs, now),
    ]


def _notes(runs: Sequence[LoggedRun], now: float) -> list[Fact]:
    """The last findings, each text once, the newest first."""
    notes: dict[str, float] = {}
    for run in runs:
        for finding in run.findings:
            if finding.kind in {"signing-key", "untrusted"} and key_ring().problem() is not None:
                continue  # the line of the key says why and what to do
            notes.setdefault(finding.text, run.at)
    lines = [
        f"{age_text(max(0.0, now - at))}: {one_line(shown(redact_text(text)), _NOTE_CHARS)}"
        for text, at in list(notes.items())[:_NOTES]
    ]
    return [("" if at else "notes", line) for at, line in enumerate(lines)]
