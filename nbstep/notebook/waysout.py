"""What to type about a kept failure or an old value: at its row, and under the list for all of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from nbstep.cache.secrets.redaction import key_text
from nbstep.notebook.retrying import retrying
from nbstep.notebook.steplist import StepList
from nbstep.notebook.steprows import Row, counted, is_kept_failure
from nbstep.notes import argument_text, of_itself
from nbstep.words import plural


def row_hint(row: Row, state: StepList) -> str:
    """What to type about one row, for hovering; empty while its cell runs, and where nothing is to be done or no command can."""
    key, folder = row.call.key, state.folder_of(row.call)
    if folder is None or key is None or row.folded or state.ended is None:
        return ""
    if is_kept_failure(row):
        by_itself = f", or wait: {of_itself(row.call.ends_at)}" if row.call.ends_at is not None else ""
        return f"try again: {_command('retry', folder, key)}{by_itself}"
    if row.call.stale:
        return "nothing to do: the next run tries again"
    if row.state == "old value":
        again = f"run it again: {state.line} --rerun-drifted, or {_command('rm', folder, key)}"
        return f"{again} · keep it: {_command('accept', folder, key)}"
    return ""


def not_started_line(state: StepList) -> str:
    """The line for what `step.map` had not begun when its cell ended."""
    if state.ended is None:
        return ""
    if state.not_started:
        return f"{plural(state.not_started, 'step')} did not start: run the cell again for the rest"
    is_cut = state.ahead.is_cut and state.ended.outcome == "error"  # else the cell went on, perhaps with the rest
    return "a step.map was stopped before it had all of its items: run the cell again for the rest" if is_cut else ""


def failures_lines(rows: Sequence[Row], state: StepList) -> list[str]:
    """The lines for all kept failures, given all rows: one for each cache.

    What a cell raised from the cache says itself what to do (N9); what failed just now does not.
    """
    failed = [row for row in rows if is_kept_failure(row)]
    if state.ended is None or (state.raised and all(row.state == "failed (cached)" for row in failed)):
        return []
    by_folder: dict[str | None, list[Row]] = {}
    for row in failed:
        by_folder.setdefault(state.folder_of(row.call), []).append(row)
    return [_failures_line(alike, folder, state) for folder, alike in by_folder.items()]


def _failures_line(failed: Sequence[Row], folder: str | None, state: StepList) -> str:
    count, wait = sum(map(counted, failed)), _wait_text(failed)
    kept, them = (f"{plural(count, 'failure')} {'is' if count == 1 else 'are'} kept", "it" if count == 1 else "them")
    if folder is None:  # no command finds the cache, so the cell does it
        return f"{kept}. Try {them} again: {retrying(state.line)}{wait}"
    one = _command("retry", folder, failed[0].call.key or "")
    if count == 1:
        return f"{kept}. Try it again: {one}{wait}"
    return f"{kept}. Try them again: {_command('retry', folder)}; only one: {one}{wait}"


def _wait_text(failed: Sequence[Row]) -> str:
    """When what passes by itself is tried again, for all of it."""
    passing = [row for row in failed if row.call.ends_at is not None]
    if not passing:
        return ""
    latest = max(row.call.ends_at or 0.0 for row in passing)
    of = "" if len(passing) == len(failed) else f" for {sum(map(counted, passing)):,} of them"
    return f"; or wait{of}: {of_itself(latest)}"


def _command(verb: str, folder: str, key: str = "") -> str:
    cache = f" --cache {argument_text(folder, in_notebook=True)}" if folder else ""
    return f"%nbstep {verb}{cache} {argument_text(key_text(key), in_notebook=True) if key else ''}".rstrip()
