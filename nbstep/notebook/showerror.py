"""Stands before IPython's `showtraceback`: trims tracebacks, and sends exception groups as real error messages."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Generator, Iterator
from traceback import TracebackException
from typing import Any, Final

import IPython

from nbstep.notebook import late
from nbstep.tracebacks import trim

_IPYTHON: Final = os.path.dirname(os.path.abspath(IPython.__file__)) + os.sep
_log: Final = logging.getLogger("nbstep")


class ErrorDisplay:
    """Replaces the shell's `showtraceback` by one that prepares the exception and then calls the original.

    Args:
        shell: IPython's shell.
        owned: Whether a step raised this very exception.
        in_run: Whether the cell that executes now called a step.
    """

    def __init__(self, shell: Any, owned: Callable[[BaseException], bool], in_run: Callable[[], bool]) -> None:
        self._shell, self._owned, self._in_run = shell, owned, in_run
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
                if self._in_run():
                    late("nbstep.runs.state").explain_await(error)
                if not args and not kwargs.get("exception_only") and self._in_run() and _has_group(error):
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
            shown(kind, error, [*lines, *(note for note in notes if note.strip().partition("\n")[0] not in text)])

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
        self._shell._showtraceback(kind, error, "".join(told.format()).rstrip("\n").split("\n"))

    def _cell_name(self, filename: str) -> str:
        named = self._shell.compile.format_code_name(filename)
        return " ".join(named) if named else filename


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
