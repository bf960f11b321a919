"""Stands before IPython's `showtraceback`: trims tracebacks, takes secrets out of them, sends groups as real error messages."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Generator, Iterator
from traceback import TracebackException
from typing import TYPE_CHECKING, Any, Final

import IPython

from nbstep.notebook import late
from nbstep.tracebacks import trim

if TYPE_CHECKING:
    from nbstep.runs.state import Run

_IPYTHON: Final = os.path.dirname(os.path.abspath(IPython.__file__)) + os.sep
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_log: Final = logging.getLogger("nbstep")


class ErrorDisplay:
    """Replaces the shell's `showtraceback` by one that prepares the exception and then calls the original.

    Args:
        shell: IPython's shell.
        owned: Whether a step raised this very exception.
        open_run: The run of the cell that executes now, None if it called no step.
    """

    def __init__(self, shell: Any, owned: Callable[[BaseException], bool], open_run: Callable[[], Run | None]) -> None:
        self._shell, self._owned, self._open_run = shell, owned, open_run
        self._original: Any = None
        self._active = True

    def install(self) -> None:
        """Takes the place of the shell's method."""
        self._original = self._shell.showtraceback
        self._shell.showtraceback = self.showtraceback

    def remove(self) -> None:
        """Gives the place back; if somebody else has taken it since, only steps aside."""
        if self._shell.__dict__.get("showtraceback") == self.showtraceback:
            del self._shell.showtraceback
            if self._shell.showtraceback != self._original:
                self._shell.showtraceback = self._original
        self._active = False

    def showtraceback(self, exc_tuple: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As IPython's; a failure of ours shows the exception as IPython would have."""
        try:
            error = exc_tuple[1] if exc_tuple else sys.exc_info()[1] or getattr(sys, "last_value", None)
            if self._active and isinstance(error, BaseException):
                trim(error, self._owned)
                in_run = self._open_run() is not None
                if in_run:
                    late("nbstep.notes").recount(error)
                    late("nbstep.runs.state").explain_await(error)
                if not args and not kwargs.get("exception_only") and in_run and _has_group(error):
                    return self._show_group(error)
        except Exception:  # noqa: BLE001 - an untrimmed traceback is better than none
            _log.exception("the traceback could not be trimmed")
        with self._with_notes():
            return self._original(exc_tuple, *args, **kwargs)

    @contextlib.contextmanager
    def _with_notes(self) -> Generator[None]:
        """Older IPythons do not show what `add_note` added; the last lines of a kept failure are such notes."""
        own = self._shell.__dict__
        replaced, shown = own.get("_showtraceback"), self._shell._showtraceback

        def show(kind: Any, error: Any, lines: list[str]) -> None:
            text = "\n".join(lines)
            notes = [str(note) for note in getattr(error, "__notes__", None) or ()]
            lines = [*lines, *(note for note in notes if note.strip().partition("\n")[0] not in text)]
            shown(kind, *self._without_secrets(error, lines))

        self._shell._showtraceback = show
        try:
            yield
        finally:
            if replaced is None:
                del self._shell._showtraceback
            else:
                self._shell._showtraceback = replaced

    def _show_group(self, error: BaseException) -> None:
        """IPython 8.13 and newer print a group to stderr and tell nobody that the cell failed; this tells."""
        kind = type(error)
        sys.last_type, sys.last_value, sys.last_traceback = kind, error, error.__traceback__
        told = TracebackException(kind, error, error.__traceback__)
        for part in _parts(told):
            while part.stack and part.stack[0].filename.startswith(_IPYTHON):
                del part.stack[0]
            for frame in part.stack:
                frame.filename = self._cell_name(frame.filename)
        lines = "".join(told.format()).rstrip("\n").split("\n")
        self._shell._showtraceback(kind, *self._without_secrets(error, lines))

    def _without_secrets(self, error: Any, lines: list[str]) -> tuple[Any, list[str]]:
        """What a cell with steps shows of its error: it is saved with the notebook, as the step list is.

        The exception itself stays as it is; a text stands for it where its message has a secret.
        """
        run = self._open_run()
        if run is None:
            return error, lines
        with contextlib.suppress(Exception):  # the user's own __str__
            message = str(error)
            cleaned = run.redacted(message)
            error = error if cleaned == message else cleaned
        return error, [_cleaned(line, run.redacted) for line in lines]

    def _cell_name(self, filename: str) -> str:
        named = self._shell.compile.format_code_name(filename)
        return " ".join(named) if named else filename


def _cleaned(part: str, redacted: Callable[[str], str]) -> str:
    """A part of a traceback without secrets; of its lines those that had one lose their colours, which may split it."""
    plain = _COLOUR.sub("", part)
    cleaned = redacted(plain)
    if cleaned == plain:
        return part
    pairs = list(zip(part.split("\n"), cleaned.split("\n"), strict=False))
    if cleaned.count("\n") != plain.count("\n"):
        return cleaned
    return "\n".join(line if _COLOUR.sub("", line) == clean else clean for line, clean in pairs)


def _has_group(error: BaseException | None) -> bool:
    seen = set[int]()
    while error is not None and id(error) not in seen:
        if isinstance(error, BaseExceptionGroup):
            return True
        seen.add(id(error))
        error = error.__context__
    return False


def _parts(told: TracebackException) -> Iterator[TracebackException]:
    waiting: list[TracebackException | None] = [told]
    while waiting:
        part = waiting.pop()
        if part is not None:
            yield part
            waiting += [part.__cause__, part.__context__, *(part.exceptions or ())]
