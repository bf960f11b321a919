"""The verb `import-joblib`: lists what a `joblib.Memory` folder holds, and takes over what is selected."""

from __future__ import annotations

import fnmatch
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from nbstep.cache.cache import Cache
from nbstep.cache.entries import new_batch
from nbstep.cache.records import Facts, Hit, NotKept
from nbstep.cache.secrets.redaction import key_text
from nbstep.commands.line import Arguments, CommandOutcome, UsageError, command_text
from nbstep.commands.listing import settled
from nbstep.commands.tables import Column, Columns, Screen, grid_lines
from nbstep.durations import age_text, duration_text, size_text
from nbstep.foreign import interrupts
from nbstep.integrations import joblib
from nbstep.integrations.joblib import Kept
from nbstep.keys import check_key
from nbstep.notes import one_line
from nbstep.project import place_text
from nbstep.result import Ok
from nbstep.words import plural, shown

_WARNING: Final = (
    "Nothing was loaded. To take over is to load pickles, and these are unsigned: anyone who could write to that folder can "
    "run code here."
)
_KEYS: Final = (
    "Keys are the calls, as bare @step.cached makes them; #… stands for arguments without a short text of their own."
)


@dataclass(frozen=True, slots=True)
class _Row:
    """A result, and what stands in the way of taking it over."""

    result: Kept
    note: str


_COLUMNS: Final[Columns[_Row]] = {
    "function": Column("function", lambda row, _: shown(row.result.function), shrinks_to=12, keep_end=True, most=40),
    "arguments": Column("arguments", lambda row, _: shown(row.result.arguments), shrinks_to=12, most=60),
    "size": Column("size", lambda row, _: size_text(row.result.size_bytes), right=True),
    "took": Column("took", lambda row, _: duration_text(row.result.took_s) if row.result.took_s else "", right=True),
    "age": Column("age", lambda row, now: _age(row.result, now), right=True),
    "key": Column("key it gets", lambda row, _: key_text(row.result.key), shrinks_to=14, keep_end=True),
    "note": Column("", lambda row, _: row.note),
}
_LEAVE_FIRST: Final = ("note", "took", "arguments", "age", "size")


async def import_results(cache: Cache | None, arguments: Arguments, screen: Screen) -> CommandOutcome:
    """Lists the results of a folder; takes over those that a key or a glob names, or all. `cache` None: there is none yet."""
    location, *patterns = arguments.words
    everything = "--all" in arguments.options
    if everything and patterns:
        raise UsageError(f"Either --all, or keys: {screen.command} import-joblib LOCATION KEY|GLOB…")
    if "--replace" in arguments.options and not patterns and not everything:
        raise UsageError(
            f"--replace goes with --all or with keys: {screen.command} import-joblib LOCATION --all --replace"
        )
    if "\0" in location:  # no path has one
        raise UsageError(f"There is no folder {shown(location)}.")
    results = joblib.find_results(Path(location).expanduser())
    if everything:
        patterns = ["*"]
    if not patterns or cache is None:
        return await _listed(cache, results, arguments, screen)
    selected = [one for one in results if any(_matches(one.key, pattern) for pattern in patterns)]
    if not selected:
        named = ", ".join(map(key_text, patterns))
        see = command_text("import-joblib", [location], arguments, screen)
        return CommandOutcome(f"No result there gets a key like {named}. See them: {see}", exit_code=1)
    return await _taken_over(cache, selected, arguments, screen)


def takes_over(arguments: Arguments) -> bool:
    """Whether the command selects something, so that it needs a cache."""
    return len(arguments.words) > 1 or "--all" in arguments.options


def _matches(key: str, pattern: str) -> bool:
    return key == pattern or fnmatch.fnmatchcase(key, pattern)


async def _listed(cache: Cache | None, results: Sequence[Kept], arguments: Arguments, screen: Screen) -> CommandOutcome:
    there = frozenset[str]() if cache is None else frozenset(await settled(cache.keys()))
    rows = [_Row(one, shown(one.problem or ("kept already" if one.key in there else ""))) for one in results]
    visible = rows[: screen.row_limit]
    now = time.time()
    lines = grid_lines(visible, _COLUMNS, _LEAVE_FIRST, screen.width, now)
    if len(rows) > len(visible):
        lines.append(f"… and {plural(len(rows) - len(visible), 'more row')}")
    functions = plural(len({one.function for one in results}), "function")
    size = size_text(sum(one.size_bytes for one in results))
    place = arguments.words[0]
    head = f"{plural(len(results), 'result')} of {functions} in {shown(place_text(Path(place)))}, {size}"
    every = command_text("import-joblib", [place], arguments, screen)
    tail = [_KEYS, _WARNING]
    names = Counter(one.key.partition("(")[0] for one in results if one.problem is None)
    if names:
        name = max(names, key=lambda one: (one.isidentifier(), names[one]))
        some = command_text("import-joblib", [place, f"{name}(*"], arguments, screen)
        tail.append(f"Take over all of it: {every} --all    Some of it: {some}")
    return CommandOutcome("\n".join([head, "", *lines, "", *tail]), record={"results": [_record(row) for row in rows]})


def _record(row: _Row) -> dict[str, Any]:
    one = row.result
    return {
        "function": one.function, "arguments": one.arguments, "size_bytes": one.size_bytes, "took_s": one.took_s,
        "kept_at": one.kept_at, "key": one.key, "note": row.note,
    }  # fmt: skip


async def _taken_over(cache: Cache, selected: Sequence[Kept], arguments: Arguments, screen: Screen) -> CommandOutcome:
    progress = screen.progress("loading")
    total, done, size_bytes = sum(one.size_bytes for one in selected), 0, 0
    taken: list[str] = []
    there: list[str] = []
    failed: dict[str, str] = {}
    replaced = 0
    batch = new_batch()
    for one in selected:
        kept = isinstance(await cache.look_up(one.key, insist=True), Hit)
        if kept and "--replace" not in arguments.options:
            there.append(one.key)
        elif (why := await _take(cache, one, batch)) is not None:
            failed[one.key] = one_line(why)
        else:
            taken.append(one.key)
            size_bytes += one.size_bytes
            replaced += kept
        done += one.size_bytes
        if progress is not None:
            progress(done, total)
    left_out = [f"  ✕ left out: {key_text(key)}: {shown(why)}" for key, why in failed.items()]
    return CommandOutcome(
        "\n".join([*_told(cache, taken, size_bytes, replaced, screen), *_left(there, arguments, screen), *left_out]),
        exit_code=int(bool(failed) or not taken),
        record={"keys": taken, "kept_already": there, "left_out": failed},
    )


async def _take(cache: Cache, one: Kept, batch: str) -> str | None:
    """Loads one result and keeps it; why that did not work, else None."""
    if one.problem is not None:
        return one.problem
    try:
        check_key(one.key)
        value = joblib.load(one)
    except interrupts():
        raise
    except BaseException as error:  # noqa: BLE001 - whatever the code of a pickle raises
        return _why_not_loaded(error)
    facts = Facts(took_s=one.took_s, awaitable=one.awaitable, source=one.source)
    kept = await cache.keep(one.key, Ok(value), facts, batch=batch, created=one.kept_at)
    return kept.why if isinstance(kept, NotKept) else None


def _why_not_loaded(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}"
    if "__main__" in text:
        text += " (take it over in the notebook that defines it, once it has)"
    return text


def _told(cache: Cache, taken: Sequence[str], size_bytes: int, replaced: int, screen: Screen) -> list[str]:
    if not taken:
        return ["Nothing was taken over."]
    named = f": {key_text(taken[0])}" if len(taken) == 1 else ""
    lines = [f"Took over {plural(len(taken), 'result')}{named} into {shown(cache.place)}, {size_text(size_bytes)}."]
    if replaced:
        lines.append(f"{replaced:,} of them replaced what was kept; bring that back: {screen.command} undo")
    return lines


def _left(there: Sequence[str], arguments: Arguments, screen: Screen) -> list[str]:
    if not there:
        return []
    command = command_text("import-joblib", arguments.words, replace(arguments, options={}), screen)
    command += " --all --replace" if "--all" in arguments.options else " --replace"
    kept = (
        f"{key_text(there[0])} was kept already and stays"
        if len(there) == 1
        else f"{len(there):,} were kept already and stay"
    )
    return [f"{kept}. Replace: {command}"]


def _age(result: Kept, now: float) -> str:
    return age_text(max(0.0, now - result.kept_at)) if result.kept_at else ""
