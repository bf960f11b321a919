"""The words that a kept failure ends with."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from nbstep.durations import age_text, clock_text, duration_text
from nbstep.foreign import interrupts, own
from nbstep.words import shown

if TYPE_CHECKING:
    from nbstep.cache.records import Meta


_COMMAND: Final = re.compile(r"`(nbstep \w+)([^`]*)`")
_CALLS: Final = {"nbstep rm KEY": "cache.delete(key)", "nbstep ls": "cache.keys()", "nbstep trust": "cache.trust()"}


class KeptErrorNote(str):
    """A note that tells how many kept errors its run met, which is more by the time the error is shown: threads go on.

    A pickle of it is the bare text.
    """

    __slots__ = ("_make", "_met")

    def __new__(cls, make: Callable[[int], str], met: Collection[str]) -> KeptErrorNote:
        """Words it by `make` for the keys `met` so far."""
        note = super().__new__(cls, make(len(met)))
        note._make, note._met = make, met
        return note

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        """As text."""
        return str, (str(self),)

    def again(self) -> KeptErrorNote:
        """The note as it is right now."""
        return KeptErrorNote(self._make, self._met)


def recount(error: BaseException) -> None:
    """Words the notes of kept errors anew, when the error is about to be shown."""
    notes: Any = own(error, "__dict__").get("__notes__")
    if isinstance(notes, list):
        notes[:] = [note.again() if isinstance(note, KeptErrorNote) else note for note in cast("list[Any]", notes)]


def of_itself(ends_at: float) -> str:
    """When a step runs again although its error is kept, as a list says it that is read later, too."""
    return f"a run after {clock_text(math.ceil(ends_at))} tries again by itself"


def kept_error_note(
    meta: Meta,
    now: float,
    asks: int,
    *,
    in_notebook: bool,
    others: int,
    folder: str | None = "",
    ends_at: float | None = None,
) -> str:
    """The note of a kept error that is raised again (N9, E5).

    Args:
        meta: The entry.
        now: Seconds since the epoch.
        asks: How often this run asked for it, this time included.
        in_notebook: Commands are spelled `%nbstep …`, else `nbstep …`.
        others: How many kept errors this run met, this one included.
        folder: Where the commands find the cache if it is not the project's; None where they cannot.
        ends_at: When it no longer counts; None for never.
    """
    command = "%nbstep" if in_notebook else "nbstep"
    cache = f" --cache {argument_text(folder, in_notebook=in_notebook)}" if folder else ""
    key = argument_text(meta.key, in_notebook=in_notebook)
    again, past = f"{command} retry{cache} {key}", ""
    if meta.error is not None and meta.error.traceback:
        past = f"   Original traceback: {command} show{cache} {key}"
    if folder is None:
        again, past = f"delete {meta.key!r} from the cache, or step(…, refresh=True)", ""
    age = age_text(max(0.0, now - meta.created))
    all_of_them = ""
    if others > 1 and folder is not None:
        all_of_them = f"     (all {others} kept errors of this run: {command} retry{cache})"
    wait = "" if ends_at is None else f"\n  Or wait:     {of_itself(ends_at)}"
    lines = [
        f"  From the cache: {one_line(shown(meta.key))} failed {age} (took {duration_text(meta.facts.took_s)}). "
        "It did not run now.",
        f"  Try again:   {again}{all_of_them}{wait}",
        f'  Go on past:  step(…, on_error="keep"){past}',
    ]
    if asks > 1:
        lines.append("  A retry around a step replays the kept error; use retries= or retry inside the thunk.")
    return "\n".join(lines)


def command_text(verb: str, key: str, *, in_notebook: bool, folder: str | None) -> str:
    """A command on one key as it is written here; where no command finds the cache (`folder` is None), the call that does it.

    >>> command_text("rm", "user 1", in_notebook=True, folder=""), command_text("rm", "a", in_notebook=True, folder=None)
    ("%nbstep rm 'user 1'", "cache.delete('a')")
    """
    if folder is None:
        return f"cache.{'delete' if verb == 'rm' else verb}({key!r})"
    return words_text(verb, [key], in_notebook=in_notebook, folder=folder)


def words_text(verb: str, words: Sequence[str], *, in_notebook: bool, folder: str) -> str:
    """A command on several keys or globs; `folder` is where the cache is, "" for the project's."""
    cache = ["--cache", argument_text(folder, in_notebook=in_notebook)] if folder else []
    named = [argument_text(word, in_notebook=in_notebook) for word in words]
    return " ".join(["%nbstep" if in_notebook else "nbstep", verb, *cache, *named])


def spelled(text: str, *, in_notebook: bool, folder: str | None = "") -> str:
    """A text in which commands stand in backticks, with commands as they are written in a notebook or in a shell.

    `folder` is where the cache is, "" for the project's, None where no command finds it.

    >>> spelled("accept it: `nbstep trust`", in_notebook=True), spelled("see `nbstep ls`", in_notebook=False)
    ('accept it: %nbstep trust', 'see nbstep ls')
    >>> spelled("accept it: `nbstep trust`", in_notebook=True, folder="redis://host")
    'accept it: %nbstep trust --cache redis://host'
    """
    place = f" --cache {argument_text(folder, in_notebook=in_notebook)}" if folder else ""
    return _COMMAND.sub(lambda found: f"{'%' if in_notebook else ''}{found[1]}{place}{found[2]}", text)


def spelled_in_python(text: str) -> str:
    """The same text for who called a method of a `Cache`: with calls in the place of commands.

    >>> spelled_in_python("make room with `nbstep rm KEY`, or let NBSTEP_DIR, or cache=, name another folder")
    'make room with cache.delete(key), or let NBSTEP_DIR, or Cache(folder), name another folder'
    """
    for command, call in _CALLS.items():
        text = text.replace(f"`{command}`", call)
    return text.replace("NBSTEP_DIR, or cache=, name", "NBSTEP_DIR, or Cache(folder), name")


def argument_text(text: str, *, in_notebook: bool) -> str:
    """A key or a folder as it is written in a command; in a magic's line, IPython would fill in single braces.

    >>> argument_text("user 1", in_notebook=False), argument_text("user:{uid}", in_notebook=True)
    ("'user 1'", "'user:{{uid}}'")
    """
    quoted = shlex.quote(text) if text.isprintable() else repr(text)
    if text.startswith("-"):
        quoted = f"-- {quoted}"  # else it would be read as an option
    return quoted.replace("{", "{{").replace("}", "}}") if in_notebook else quoted


def error_line(error: BaseException, redacted: Callable[[str], str] = str) -> str:
    """An error's class and message on one line; `redacted` takes secrets out, which may have lines of their own."""
    try:
        text = str(error)
    except interrupts():
        raise
    except BaseException:  # noqa: BLE001 - the user's own __str__ must not hide the error
        text = ""
    return one_line(redacted(f"{type(error).__name__}: {text}" if text else type(error).__name__))


def add_note(error: BaseException, note: str) -> None:
    """As `error.add_note(note)`, for frozen exceptions too; nothing where it has that note."""
    held: dict[str, Any] = own(error, "__dict__")
    known: Any = held.get("__notes__", ())  # anything, where a class has its own idea of notes
    notes: list[Any] = list(cast("list[Any]", known)) if isinstance(known, list | tuple) else [known]
    if not any(isinstance(one, str) and one == note for one in notes):  # one exception may be raised time and again
        held["__notes__"] = [*notes, note]


def one_line(text: str, limit: int = 300) -> str:
    """Text on one line, cut at `limit` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
