"""What to type about a kept failure or an old value: at its row, and under the list for all of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from nbstep.cache.secrets.redaction import key_text
from nbstep.notebook.steplist import StepList
from nbstep.notebook.steprows import Row, counted, is_kept_failure
from nbstep.notes import argument_text
from nbstep.words import plural


def row_hint(row: Row, state: StepList) -> str:
    """What to type about one row, for hovering; empty where nothing is to be done, or no command finds the cache."""
    key, folder = row.call.key, state.folder
    if folder is None or key is None or row.folded:
        return ""
    if is_kept_failure(row):
        return f"try again: {_command('retry', folder, key)}"
    if row.state == "old value":
        again = f"run it again: {state.line} --rerun-drifted, or {_command('rm', folder, key)}"
        return f"{again} · keep it: {_command('accept', folder, key)}"
    return ""


def not_started_line(state: StepList) -> str:
    """The line for what `step.map` had not begun when its cell ended."""
    count = state.not_started if state.ended else 0
    return f"{plural(count, 'step')} did not start: run the cell again for the rest" if count else ""


def failures_line(rows: Sequence[Row], state: StepList) -> str:
    """The line for all kept failures, given all rows.

    What a cell raised from the cache says itself what to do (N9); what failed just now does not.
    """
    failed = [row for row in rows if is_kept_failure(row)]
    told = state.raised and all(row.state == "failed (cached)" for row in failed)
    if not failed or told or state.folder is None:
        return ""
    one = _command("retry", state.folder, failed[0].call.key or "")
    count = sum(map(counted, failed))
    if count == 1:
        return f"1 failure is kept. Try it again: {one}"
    return f"{plural(count, 'failure')} are kept. Try them again: {_command('retry', state.folder)}; only one: {one}"


def _command(verb: str, folder: str, key: str = "") -> str:
    cache = f" --cache {argument_text(folder, in_notebook=True)}" if folder else ""
    return f"%nbstep {verb}{cache} {argument_text(key_text(key), in_notebook=True) if key else ''}".rstrip()
