"""The line of a terminal that says how far something is, and goes when that ends."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final, TextIO

from nbstep.forks import ThreadLock

_CLEAR: Final = "\r\x1b[K"
_COLUMNS: Final = 80  # where a terminal does not say


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a standard stream is a terminal; it may be missing, closed, or an object of somebody that can only write."""
    try:
        return stream is not None and not stream.closed and stream.isatty()
    except (AttributeError, ValueError, OSError):
        return False


def live_line(stream: TextIO | None) -> LiveLine | None:
    """A line on a standard stream where that is now a terminal that can take one back."""
    if stream is None or not is_terminal(stream) or os.environ.get("TERM") == "dumb" or os.name == "nt":
        return None
    return LiveLine(stream)


class LiveLine:
    """Stands at the terminal's cursor, and steps aside for whatever is printed.

    While it is there `sys.stdout` and `sys.stderr` pass through it. It does not come back before a printed line is whole, and not
    at all once somebody took the file behind a stream: a debugger, `input`, another program.

    Args:
        stream: The terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = ThreadLock()
        self._around: dict[str, _Around] = {}
        self._handlers: list[tuple[Any, TextIO]] = []  # of `logging`, which have the streams since before
        self._shown = self._ended = False
        self._at_line_start = True

    def width(self) -> int:
        """How many columns the terminal has."""
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or _COLUMNS
        except (OSError, ValueError):
            return _COLUMNS

    def show(self, text: str) -> None:
        """Says `text`, which must fit the terminal's width."""
        with self._lock:
            if self._ended or not self._at_line_start:
                return
            if not self._around:
                self._put_around()
            self._shown = True
            self._write(_CLEAR + text)

    def end(self, last: str | None = None) -> None:
        """Goes for good; `last` is left behind where there was a line."""
        with self._lock:
            leaves = last is not None and bool(self._around) and self._at_line_start and not self._ended
            self._ended = True
            self._step_aside()
            if leaves:
                self._write(f"{last}\n")
        for handler, stream in self._handlers:
            if isinstance(handler.stream, _Around):
                with suppress(ValueError, OSError):  # it is flushed, and may be closed
                    handler.setStream(stream)
        for name, around in self._around.items():
            if getattr(sys, name) is around:
                setattr(sys, name, around.stream)

    def let_write(self, stream: TextIO, text: str) -> int:
        """What is printed, with the line out of its way."""
        with self._lock:
            self._step_aside()
            if text:
                self._at_line_start = text.endswith("\n")
            return stream.write(text)

    def stay_away(self) -> None:
        """Somebody will write past the streams."""
        with self._lock:
            self._ended = True
            self._step_aside()

    def _step_aside(self) -> None:
        if self._shown:
            self._shown = False
            self._write(_CLEAR)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (ValueError, OSError):  # somebody closed it, or the terminal is gone: no reason to fail for who prints
            self._ended = True

    def _put_around(self) -> None:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if isinstance(stream, _Around):  # of an earlier line, which a user's `redirect_stdout` brought back
                stream = stream.stream
            if is_terminal(stream):
                self._around[name] = _Around(stream, self)
                setattr(sys, name, self._around[name])
                self._handlers += [(handler, stream) for handler in _logging_to(stream)]
        for handler, stream in self._handlers:
            with suppress(ValueError, OSError):
                handler.setStream(next(around for around in self._around.values() if around.stream is stream))


class _Around:
    """A terminal's stream whose every text goes by the line."""

    def __init__(self, stream: TextIO, line: LiveLine) -> None:
        self.stream = stream
        self._line = line

    def write(self, text: str) -> int:
        return self._line.let_write(self.stream, text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def fileno(self) -> int:
        self._line.stay_away()
        return self.stream.fileno()

    def __enter__(self) -> Any:
        return self.stream.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.stream.__exit__(*error)

    def __getattr__(self, name: str) -> Any:
        if name in {"stream", "_line"}:  # one that is just being made, as a copy is
            raise AttributeError(name)
        if name in {"buffer", "close", "detach"}:
            self._line.stay_away()
        return getattr(self.stream, name)


def _logging_to(stream: TextIO) -> list[logging.StreamHandler[Any]]:
    """The handlers of `logging` that write to a stream."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    handlers = [handler for logger in loggers for handler in getattr(logger, "handlers", ())]
    found = [one for one in handlers if isinstance(one, logging.StreamHandler) and one.stream is stream]
    return list(dict.fromkeys(found))
