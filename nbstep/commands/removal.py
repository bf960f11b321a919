"""The verbs that delete, and those that take it back: `rm`, `clear`, `undo`, `retry`."""

from __future__ import annotations

import difflib
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

from nbstep import runlog
from nbstep.cache.cache import Cache
from nbstep.cache.records import Deleted, Restored, Trashed
from nbstep.cache.secrets.redaction import key_text
from nbstep.cache.upkeep import check_key_lasts
from nbstep.commands.descent import later_steps, later_text, used_keys
from nbstep.commands.line import Arguments, CommandOutcome, UsageError, command_text
from nbstep.commands.listing import (
    Row,
    has_type,
    is_glob,
    list_rows,
    matches,
    named_rows,
    own_first,
    rows_of,
    settled,
    usage_of,
)  # fmt: skip
from nbstep.commands.naming import split_words
from nbstep.commands.tables import Screen
from nbstep.notes import argument_text
from nbstep.stores.base import TrashTotals
from nbstep.words import for_good, keys_text, natural_order, plural, runs_again, shown

NOTHING_TO_CLEAR: Final = "Nothing to clear."
GONE_FOR_GOOD: Final = "The disk was full when entries were deleted: those are gone for good."


async def remove(cache: Cache, arguments: Arguments, screen: Screen) -> CommandOutcome:
    """Deletes what its words name, as one batch, and tells what was made from it; with `--and-later` that goes too.

    With `--untrusted` only what others signed, without words all of it.
    """
    if "--untrusted" in arguments.options:
        return await _remove_untrusted(cache, arguments, screen)
    metas = own_first(await settled(cache.entries()))
    rows = {row.key: row for row in rows_of(metas.values(), usage_of(cache))}
    names, query = split_words(arguments.words, [*rows.values()])
    along = "--and-later" in arguments.options
    named = {name: [row.key for row in named_rows([*rows.values()], name)] for name in names}
    if along and not query:  # also of what is gone already
        named = {name: found or used_keys(metas, name) for name, found in named.items()}
    unknown = [name for name, found in named.items() if not found]
    if unknown:
        return nothing_called(unknown, [*rows.values()], screen, "rm" if len(arguments.words) > 1 else None)
    now = time.time()
    asked = (key for found in named.values() for key in found) if names else rows
    chosen = dict.fromkeys(key for key in asked if key not in rows or matches(query, rows[key], now))
    if not chosen:
        return nothing_matches(arguments.words, screen)
    later = later_steps(metas.values(), chosen)
    keys = [key for key in chosen if key in rows]
    if along:
        keys, later = [*keys, *(meta.key for meta in later)], []
    done = await _delete_keys(cache, keys, arguments, screen)
    if not later:
        return done
    record = {"keys": keys, "later": [meta.key for meta in later]}
    again = command_text("rm", arguments.words, arguments, screen) + " --and-later"
    if query:  # which finds the deleted ones no more
        again = f"{command_text('undo', (), arguments, screen)}, then {again}"
    them = "it" if len(later) == 1 else "them"
    text = f"{done.text}\n{later_text(later, len(keys))}. Delete {them} too: {again}"
    return replace(done, text=text, record=record)


async def clear(cache: Cache, arguments: Arguments, screen: Screen) -> CommandOutcome:
    """Deletes everything."""
    deleted: Deleted = await settled(cache.remove_all())
    if not deleted.count:
        return CommandOutcome(NOTHING_TO_CLEAR)
    counted = plural(deleted.count - deleted.beside, "entry", "entries")
    what = counted if deleted.count == 1 else f"all {counted}"
    if deleted.beside:
        what += f", and {deleted.beside:,} of other signers beside them"
    what += for_good(deleted.count, deleted.lost)
    return CommandOutcome(f"Deleted {what}.{_undo(deleted, arguments, screen)}", record={"count": deleted.count})


async def _remove_untrusted(cache: Cache, arguments: Arguments, screen: Screen) -> CommandOutcome:
    check_key_lasts()  # without one's own key all entries would be those of others
    deleted: Deleted = await settled(cache.remove_untrusted(arguments.words or ("*",)))
    if not deleted.count:
        under = f" under {', '.join(map(key_text, arguments.words))}" if arguments.words else ""
        return CommandOutcome(f"Others signed nothing in {shown(cache.place)}{under}.", int(bool(arguments.words)))
    counted = plural(deleted.count, "entry that others signed", "entries that others signed")
    keys = sorted(map(key_text, deleted.keys), key=natural_order)
    lost = for_good(deleted.count, deleted.lost)
    text = f"Deleted {counted}{lost}: {keys_text(keys)}.{_undo(deleted, arguments, screen)}"
    return CommandOutcome(text, record={"keys": [*deleted.keys]})


async def bring_back(cache: Cache, arguments: Arguments, screen: Screen) -> CommandOutcome:
    """Undoes the last deletion, or the last one of a key."""
    back = _number(arguments)
    restored = await _restored(cache, arguments.words[0] if arguments.words else None, back)
    keys = sorted(restored.keys, key=natural_order)
    damaged = restored.damaged_text()
    left = f"Damaged, so it stays in the trash, and what is kept now stays too: {damaged}" if damaged else ""
    record = {"keys": keys, "damaged": [*restored.damaged], "nameless": restored.nameless}
    if not keys and left:
        return CommandOutcome(left, exit_code=1, record=record)
    if not keys:
        what = f"no {key_text(arguments.words[0])}" if arguments.words else "nothing"
        what = f"no {back} of {key_text(arguments.words[0])}" if back > 1 else what
        trash: TrashTotals = await settled(cache.trash())
        lost = f" {GONE_FOR_GOOD}" if trash.lost else ""
        return CommandOutcome(f"Nothing to undo: the trash holds {what} from the last 24 hours.{lost}", exit_code=1)
    counted = plural(len(keys), "entry", "entries")
    if restored.of_others:
        some = "" if len(restored.of_others) == len(keys) else f"{len(restored.of_others):,} of them "
        counted += f", {some}signed by others"
    text = f"Restored {counted}: {keys_text([key_text(key) for key in keys])}"
    if restored.swapped:
        stood = "the entry that stood there" if restored.swapped == 1 else f"the {restored.swapped:,} that stood there"
        older = command_text("ls --trash", [], arguments, screen)
        again = command_text("undo", keys if len(keys) == 1 else [], arguments, screen)
        text += f".\nIn exchange {stood} went to the trash; swap back: {again}   Older ones: {older}"
    return CommandOutcome(f"{text}\n{left}" if left else text, record=record)


async def _restored(cache: Cache, name: str | None, back: int) -> Restored:
    """Restores what a word names: a key as it is, else as lists show it; of several shown alike the one deleted last."""
    restored: Restored = await settled(cache.restore(name, back))
    if name is None or restored.keys or restored.damaged or restored.nameless:
        return restored
    waiting: list[Trashed] = await settled(cache.trashed())
    alike = next((one.meta.key for one in waiting if key_text(one.meta.key) == name), None)
    return restored if alike is None else await settled(cache.restore(alike, back))


def _number(arguments: Arguments) -> int:
    text = arguments.options.get("--back", "1")
    if not text.isdecimal() or int(text) < 1 or not (arguments.words or text == "1"):
        raise UsageError(
            "--back takes a number, and stands behind a key: undo KEY --back 2 is the one before the last."
        )
    return int(text)


async def retry(cache: Cache, arguments: Arguments, screen: Screen) -> CommandOutcome:
    """Deletes kept errors: those of the last run, or those that a key, a glob or a type names."""
    failed = [row for row in await list_rows(cache) if row.status == "failed"]
    if arguments.words:
        name, now = arguments.words[0], time.time()
        _, query = split_words([name], failed)
        narrowed = [row for row in failed if query and matches(query, row, now)]
        chosen = narrowed or named_rows(failed, name) or [row for row in failed if has_type(row, name)]
        if not chosen:
            return CommandOutcome(f"No kept error has the key or type {key_text(name)}.", exit_code=1)
        return await _retry_rows(cache, chosen, arguments, screen)
    everything = command_text("retry", ["*"], arguments, screen)
    met = _met_last(cache, arguments)
    if met is None:
        logged = (
            "No run is logged yet"
            if cache.directory is not None
            else f"What runs met over {shown(cache.place)} is not logged"
        )
        return CommandOutcome(f"{logged}. All kept errors: {everything}", exit_code=1)
    chosen = [row for row in failed if row.key in met]
    if not chosen:
        rest = f" {plural(len(failed), 'older one')}: {everything}" if failed else ""
        return CommandOutcome(f"The last run met no error that is still kept.{rest}", exit_code=1)
    done = await _retry_rows(cache, chosen, arguments, screen)
    if older := len(failed) - len(chosen):
        stays = f"{plural(older, 'kept error')} of earlier runs {'stays' if older == 1 else 'stay'}"
        done = replace(done, text=f"{done.text}\n{stays}. All of them: {everything}")
    return done


def _met_last(cache: Cache, arguments: Arguments) -> Collection[str | None] | None:
    """The keys whose errors the last run met; None where nothing tells. Only beside a folder are runs logged."""
    run = runlog.last_run(cache.directory) if cache.directory is not None else None
    if run is not None:
        return {step.key for step in run.steps if step.outcome == "error"}
    return arguments.met.get(cache.scope)


def nothing_called(
    names: Sequence[str], rows: Sequence[Row], screen: Screen, deleting: str | None = None
) -> CommandOutcome:
    """Says that no key is called so, and what is near.

    Args:
        names: What no key is called.
        rows: All there is.
        screen: Where it is shown.
        deleting: The verb that was given several words, and therefore did nothing.
    """
    labels = [row.label for row in rows]
    said = " ".join(names)
    spaced = next((label for label in labels if " " in label and " ".join(label.split()) in said), None)
    close = dict.fromkeys(near for name in names if not is_glob(name) for near in _near(name, labels))
    if deleting and spaced:
        quoted = argument_text(spaced, in_notebook=screen.notebook)
        hint = f"A key with spaces is quoted: {screen.command} {deleting} {quoted}"
    elif close:
        hint = f"Near {'it' if len(names) == 1 else 'them'}: {', '.join(close)}"
    else:
        hint = f"See: {screen.command} ls"
    head = "Nothing was deleted: nothing" if deleting else "Nothing"
    return CommandOutcome(f"{head} is kept under {', '.join(map(key_text, names))}. {hint}", exit_code=1)


def _near(name: str, labels: Sequence[str]) -> list[str]:
    """The three closest keys; those that are equally close in their own order."""

    def far(label: str) -> float:
        return -difflib.SequenceMatcher(None, label, name).ratio()

    close = difflib.get_close_matches(name, labels, n=1000)
    return sorted(close, key=lambda label: (far(label), natural_order(label)))[:3]


def nothing_matches(words: Sequence[str], screen: Screen) -> CommandOutcome:
    """Says that no entry is what a query asks for."""
    return CommandOutcome(f"Nothing matches {key_text(' '.join(words))}. See: {screen.command} ls", exit_code=1)


async def _delete_keys(cache: Cache, keys: Sequence[str], arguments: Arguments, screen: Screen) -> CommandOutcome:
    """Deletes entries as one batch and says how to undo it."""
    deleted: Deleted = await settled(cache.remove(keys))
    counted = f"{plural(len(keys), 'entry', 'entries')}{for_good(deleted.count, deleted.lost)}"
    text = f"Deleted {counted}: {keys_text([key_text(key) for key in keys])}.{_undo(deleted, arguments, screen)}"
    return CommandOutcome(text, record={"keys": [*keys]})


async def _retry_rows(cache: Cache, rows: Sequence[Row], arguments: Arguments, screen: Screen) -> CommandOutcome:
    """Deletes kept errors, so that the next run tries those steps again."""
    deleted: Deleted = await settled(cache.remove([row.key for row in rows]))
    counted = f"{plural(len(rows), 'kept error')}{for_good(deleted.count, deleted.lost)}"
    keys = keys_text([row.label for row in rows])
    text = f"Deleted {counted}; {runs_again(len(rows))}: {keys}.{_undo(deleted, arguments, screen)}"
    return CommandOutcome(text, record={"keys": [row.key for row in rows]})


def _undo(deleted: Deleted, arguments: Arguments, screen: Screen) -> str:
    return f" Undo: {command_text('undo', (), arguments, screen)}" if deleted.lost < deleted.count else ""
