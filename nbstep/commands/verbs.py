"""What `%nbstep VERB` and `nbstep VERB` do: one table of verbs for the notebook and the shell.

A verb works on a cache and gives text; it never prints, never asks, and never unpickles a value to show it (only
`show KEY --as NAME` loads one). `rm`, `clear` and `retry` say how to undo.
"""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Hashable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from nbstep.cache.cache import Cache, project_cache
from nbstep.cache.keptcell import KEPT_CELL_TYPE
from nbstep.cache.records import Hit, Meta, Unreadable
from nbstep.cache.secrets.redaction import key_text
from nbstep.cache.where import cache_folder, names_shared, project_place
from nbstep.commands.accepting import accept
from nbstep.commands.autoload import set_autoload
from nbstep.commands.completionscripts import tell_completion
from nbstep.commands.descent import went_into
from nbstep.commands.details import Detail, detail_html, detail_of, detail_text
from nbstep.commands.doctor import diagnose, diagnose_nothing
from nbstep.commands.documents import as_document
from nbstep.commands.exporting import export
from nbstep.commands.grammar import Verb
from nbstep.commands.helping import tell_help
from nbstep.commands.importing import import_results, takes_over
from nbstep.commands.line import (
    Arguments,
    CommandOutcome,
    UsageError,
    command_text,
    missing_folder,
    parse_command,
)
from nbstep.commands.listing import (
    NOTHING_KEPT,
    Row,
    find_meta,
    is_glob,
    list_rows,
    matches,
    parse_query,
    row_of,
    row_record,
    settled,
    totals_of,
    totals_text,
    usage_of,
)  # fmt: skip
from nbstep.commands.removal import NOTHING_TO_CLEAR, bring_back, clear, nothing_called, remove, retry
from nbstep.commands.settings import tell_settings
from nbstep.commands.tables import Screen, table_text
from nbstep.commands.tidying import tidy
from nbstep.commands.trash import list_trash
from nbstep.commands.trusting import accept_entries
from nbstep.commands.verifying import verify
from nbstep.errors import CacheDirectoryError, NbstepError
from nbstep.notes import argument_text, spelled
from nbstep.project import file_in_the_way, place_text
from nbstep.result import Ok
from nbstep.settings import read_settings
from nbstep.stores.base import NoRoom, TrashTotals, run_now
from nbstep.stores.folder import is_cache, is_read_only
from nbstep.words import plural, shown

_INPUT: Final = ("name", "text", "changed")


def run_command(
    command: str | Sequence[str],
    *,
    cache: Cache | None = None,
    screen: Screen | None = None,
    caches: Mapping[str, Cache] | None = None,
    met: Mapping[Hashable, frozenset[str]] | None = None,
) -> CommandOutcome:
    """Runs one command, given as a magic's line or as a shell's words.

    Args:
        command: `"rm user:1"` or `["rm", "user:1"]`; `--cache DIR` may stand in it.
        cache: The cache to work on; the project's when None.
        screen: Where the text will be shown.
        caches: What `--cache` names beside folders and URLs: `$tier` of a notebook.
        met: The keys of the kept errors that the last cell met, by the `scope` of their cache.

    Returns:
        What to show; wrong usage is an outcome too (exit code 2), never an exception.
    """
    screen = screen or Screen()
    try:
        verb, arguments = parse_command(command, screen)
        arguments = replace(arguments, met=met or {})
        if arguments.folder is not None and caches and arguments.folder in caches:
            cache = caches[arguments.folder]
        elif arguments.folder is not None:
            cache = None
        if not arguments.as_json:
            return _outcome(verb, arguments, cache, screen)
        outcome = _outcome(verb, arguments, cache, replace(screen, ask=None, colour=False))
        return CommandOutcome(as_document(verb.name, outcome), outcome.exit_code)
    except UsageError as error:
        if not screen.notebook and _asks_json(command):  # whoever reads it reads one document, whatever went wrong
            return CommandOutcome(as_document("", CommandOutcome(str(error))), exit_code=2)
        return CommandOutcome(str(error), exit_code=2, wrong_usage=True)


def _asks_json(command: str | Sequence[str]) -> bool:
    """Whether a command that cannot be understood has `--json` in it."""
    words = command.split() if isinstance(command, str) else list(command)
    return "--json" in words[: words.index("--") if "--" in words else None]


def _outcome(verb: Verb, arguments: Arguments, cache: Cache | None, screen: Screen) -> CommandOutcome:
    try:
        if verb.name in _WITHOUT_CACHE:
            return _WITHOUT_CACHE[verb.name](arguments, screen)
        if verb.name not in {"settings", "doctor"}:  # these tell what is wrong
            _check_settings()
        if arguments.folder is not None and cache is None:
            cache = _named_cache(arguments.folder)
        elif cache is None and not screen.notebook and not _project_has_cache() and not _fills(verb, arguments):
            return _no_cache_here(verb, arguments, screen)
        cache = cache or _archive(screen) or project_cache()
        if verb.changes and cache.read_only and "--dry-run" not in arguments.options:
            return CommandOutcome(f"{shown(cache.place)} is read-only for you: nothing was changed.", exit_code=1)
        return _run(_ON_CACHE[verb.name](cache, arguments, screen), cache)
    except UsageError:
        raise
    except (NbstepError, OSError) as error:
        text = str(error.strerror if isinstance(error, NoRoom) and error.strerror else error)
        if cache is not None and cache.directory is None and cache.place not in text:
            text = f"{cache.place}: {text}"
        return CommandOutcome(spelled(shown(text), in_notebook=screen.command.startswith("%")), exit_code=1)


def _check_settings() -> None:
    """A mode that no run would take is wrong here, too."""
    try:
        read_settings()
    except ValueError as error:
        raise UsageError(shown(str(error))) from None


def _run(coroutine: Coroutine[Any, Any, CommandOutcome], cache: Cache) -> CommandOutcome:
    if not cache.is_async:
        return run_now(coroutine)
    import asyncio  # a shell command over a sync store does without it: 60 ms

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    coroutine.close()
    raise UsageError("This cache's store is async: await its methods instead, as in await cache.entries()")


def _named_cache(text: str) -> Cache:
    """The cache that `--cache` names: a server's by its URL, else that in a folder; only a step makes a new one."""
    if names_shared(text):
        try:
            return Cache(text)
        except (ValueError, TypeError, ImportError) as error:
            raise UsageError(shown(str(error)).replace("cache=", "--cache ")) from None
    folder = None if "\0" in text else cache_folder(Path(text).expanduser())  # no path has a NUL
    if folder is None or not is_cache(folder):
        raise UsageError(f"--cache {shown(text)}: there is no cache in that folder.")
    return Cache(folder)


def _project_has_cache() -> bool:
    place = project_place()
    if place.explicit and (file := file_in_the_way(place.directory)):
        raise CacheDirectoryError(f"NBSTEP_DIR names {place_text(place.directory)}, but {place_text(file)} is a file")
    return is_cache(place.directory) or (not place.explicit and is_cache(place.fallback))


def _fills(verb: Verb, arguments: Arguments) -> bool:
    """Whether a command keeps something, and so makes a cache where there is none."""
    return verb.name == "import-joblib" and takes_over(arguments)


def _archive(screen: Screen) -> Cache | None:
    """In a shell, a project's cache that can only be read, while nothing is kept in its stead."""
    place = project_place()
    if screen.notebook or place.explicit or is_cache(place.fallback) or not is_read_only(place.directory):
        return None
    return Cache(place.directory)


def _no_cache_here(verb: Verb, arguments: Arguments, screen: Screen) -> CommandOutcome:
    """In a shell, looking at a project makes no cache in it."""
    if arguments.as_json and verb.name in {"ls", "panel"}:
        return CommandOutcome("", record=[])
    if verb.name == "settings":
        return run_now(tell_settings(None, arguments, screen))
    if verb.name == "import-joblib":
        return run_now(import_results(None, arguments, screen))
    if verb.name == "doctor":
        return diagnose_nothing(screen)
    if verb.name == "clear":
        return CommandOutcome(NOTHING_TO_CLEAR)
    if verb.takes_folder and arguments.words and (problem := missing_folder(arguments.words[0])):
        return CommandOutcome(problem, exit_code=1)
    done = verb.name in {"ls", "panel", "verify", "gc"}
    return CommandOutcome(f"{NOTHING_KEPT}\n{shown(place_text(project_place().directory))}", exit_code=int(not done))


# The verbs


async def _panel(cache: Cache, arguments: Arguments, screen: Screen) -> CommandOutcome:
    if screen.notebook and not arguments.as_json:
        return CommandOutcome("", opens_panel=cache)
    return await _list(cache, arguments, screen)


async def _list(cache: Cache, arguments: Arguments, screen: Screen) -> CommandOutcome:
    # A shell has taken the quotes away: a word with a space in it was quoted.
    text = " ".join(f'"{word}"' if " " in word else word for word in arguments.words)
    try:
        query = parse_query(text)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if "--trash" in arguments.options:
        return await list_trash(cache, query, arguments, screen)
    now = time.time()
    rows = await list_rows(cache)
    found = [row for row in rows if matches(query, row, now)]
    exit_code = 1 if query and not found else 0
    if arguments.as_json:
        return CommandOutcome("", exit_code, record=[row_record(row) for row in found])
    hidden = await _hidden(cache, screen)
    if not rows:
        nothing = hidden.strip(" ·") or await _nothing_text(cache, screen)
        return CommandOutcome(f"{nothing}\n{shown(cache.place)}", exit_code)
    if not found:
        return CommandOutcome(f"None of {plural(len(rows), 'entry', 'entries')} matches {key_text(text)!r}", exit_code)
    totals = await totals_of(cache, found)
    head = totals_text(totals, len(rows) if query else None)
    if totals.untrusted:
        hidden += (
            f"\nSteps do not use what is untrusted. See and accept it: {command_text('trust', [], arguments, screen)}"
        )
    return CommandOutcome(f"{head}{hidden}\n\n{table_text(found, screen, now)}", exit_code)


async def _nothing_text(cache: Cache, screen: Screen) -> str:
    trash: TrashTotals = await settled(cache.trash())
    if not trash.entries:
        return NOTHING_KEPT
    counted = plural(trash.entries, "entry", "entries")
    return f"Nothing kept now. {counted} in the trash: {screen.command} undo brings back what was deleted last."


async def _hidden(cache: Cache, screen: Screen) -> str:
    """What the head line adds for entries that no row shows: " · 3 corrupt: nbstep verify"."""
    verdicts = Counter(one.verdict for one in await settled(cache.headless()))
    counted = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(verdicts.items()))
    return f" · {counted}: {screen.command} verify" if counted else ""


def _meta_record(meta: Meta, detail: Detail, row: Row) -> dict[str, Any]:
    """What `ls --json` says of an entry, and what only its header says."""
    facts = meta.facts
    return row_record(row) | {
        "ttl_s": facts.ttl_s, "workflow": facts.workflow, **asdict(facts.place), "uses": facts.uses,
        "uses_beyond": facts.uses_beyond, "python": meta.python, "packages": dict(meta.packages), "signer": meta.signer,
        "trusted": meta.trusted, "preview": detail.preview, "traceback": detail.traceback, "source": facts.source or "",
        "accepted": facts.accepted, "inputs": [dict(zip(_INPUT, one, strict=True)) for one in detail.inputs],
        "differences": {title: text for title, text, _ in detail.differences},
    }  # fmt: skip


async def _show(cache: Cache, arguments: Arguments, screen: Screen) -> CommandOutcome:
    name = arguments.words[0]
    meta = await find_meta(cache, name)
    if meta is None:
        rows = await list_rows(cache)
        named = [row for row in rows if row.label == name]
        meta = await find_meta(cache, named[0].key) if named else None
        if meta is None and is_glob(name):
            matching = command_text("ls", [name], arguments, screen)
            return CommandOutcome(f"show takes one key, no pattern. What matches: {matching}", exit_code=1)
        if meta is None:
            return nothing_called([name], rows, screen)
    if arguments.as_name is not None:
        return await _bind(cache, meta, arguments.as_name, screen)
    usage = usage_of(cache).get(meta.key)
    drifted = cache.last_drift(meta.key, usage)
    later = went_into(await settled(cache.entries()), meta.key)
    detail = detail_of(meta, usage, drifted=drifted, went_into=later)
    if arguments.as_json:
        record = _meta_record(meta, detail, row_of(meta, usage)) | {"went_into": later}
        return CommandOutcome("", record=record)
    text, ways_out = detail_text(detail, screen.width, colour=screen.colour), _ways_out(meta, detail, arguments, screen)
    html = detail_html(detail, *ways_out) if detail.differences else ""
    return CommandOutcome("\n".join([text, *ways_out]), html=html)


def _ways_out(meta: Meta, detail: Detail, arguments: Arguments, screen: Screen) -> list[str]:
    """What to type about a kept error or an old value."""

    def command(verb: str) -> str:
        return command_text(verb, [detail.label], arguments, screen)

    if detail.status == "failed":
        return ["", f"Try again: {command('retry')}"]
    if detail.status == "old value":
        once = f"{_cell_line(meta)} --rerun-drifted, or " if screen.notebook else ""
        return ["", f"Re-run it: {once}{command('rm')}", f"Keep it:   {command('accept')}"]
    return []


def _cell_line(meta: Meta) -> str:
    """The first line of the cell that kept an entry, as far as the entry knows it."""
    if meta.type == KEPT_CELL_TYPE:
        return "%%step …"
    name = meta.facts.workflow
    return f"%%workflow {argument_text(key_text(name), in_notebook=True)}" if name else "%%workflow"


async def _bind(cache: Cache, meta: Meta, name: str, screen: Screen) -> CommandOutcome:
    label = key_text(meta.key)
    if meta.error:
        again = f"{screen.command} show {shlex.quote(label)}"
        return CommandOutcome(f"{label} is a kept error, there is no value to load. See: {again}", exit_code=1)
    found = await cache.look_up(meta.key, insist=True)
    if not isinstance(found, Hit):
        return CommandOutcome(f"{label} cannot be loaded ({found.reason}): {shown(found.detail or '')}", exit_code=1)
    try:
        loaded = found.load()
    except Unreadable as error:
        return CommandOutcome(f"{label} cannot be loaded: {shown(error.detail)}", exit_code=1)
    value = loaded.value if isinstance(loaded, Ok) else loaded
    return CommandOutcome(f"{name} = {label}", binds=(name, value))


_ON_CACHE: Final[Mapping[str, Callable[[Cache, Arguments, Screen], Coroutine[Any, Any, CommandOutcome]]]] = {
    "panel": _panel, "ls": _list, "show": _show, "rm": remove, "clear": clear, "undo": bring_back, "retry": retry,
    "accept": accept, "trust": accept_entries, "verify": verify, "gc": tidy, "doctor": diagnose, "settings": tell_settings,
    "export": export, "import-joblib": import_results,
}  # fmt: skip
_WITHOUT_CACHE: Final[Mapping[str, Callable[[Arguments, Screen], CommandOutcome]]] = {
    "autoload": set_autoload, "completion": tell_completion, "help": tell_help,
}  # fmt: skip
