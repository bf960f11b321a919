"""The words that a kept failure ends with."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from nbstep.durations import age_text, duration_text

if TYPE_CHECKING:
    from nbstep.cache.records import Meta


def kept_error_note(meta: Meta, now: float, asks: int, *, in_notebook: bool, others: int) -> str:
    """The note of a kept error that is raised again (N9, E5).

    Args:
        meta: The entry.
        now: Seconds since the epoch.
        asks: How often this run asked for it, this time included.
        in_notebook: Commands are spelled `%nbstep …`, else `nbstep …`.
        others: How many kept errors this run met, this one included.
    """
    command = "%nbstep" if in_notebook else "nbstep"
    key = shlex.quote(meta.key) if meta.key.isprintable() else repr(meta.key)
    age = age_text(max(0.0, now - meta.created))
    all_of_them = f"     (all {others} kept errors of this run: {command} retry)" if others > 1 else ""
    lines = [
        f"  From the cache: {one_line(meta.key)} failed {age} (took {duration_text(meta.facts.took_s)}). "
        "Nothing was fetched now.",
        f"  Try again:   {command} retry {key}{all_of_them}",
        f'  Go on past:  step(…, on_error="keep")   Original traceback: {command} show {key}',
    ]
    if asks > 1:
        lines.append("  A retry around a step replays the kept error; use retries= or retry inside the thunk.")
    return "\n".join(lines)


def error_line(error: BaseException) -> str:
    """An error's class and message on one line."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the user's own __str__ must not hide the error
        text = ""
    return one_line(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def add_note(error: BaseException, note: str) -> None:
    """As `error.add_note(note)`, for frozen exceptions too."""
    held: dict[str, Any] = vars(BaseException)["__dict__"].__get__(error)
    held["__notes__"] = [*held.get("__notes__", ()), note]


def one_line(text: str, limit: int = 300) -> str:
    """Text on one line, cut at `limit` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
