"""The line of a terminal that says how far something is, and goes when that ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any, Final, TextIO

from nbstep.forks import ThreadLock

_CLEAR: Final = "\r\x1b[K"


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a standard stream, which may be missing or closed, is a terminal."""
    return stream is not None and not stream.closed and stream.isatty()


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
        self._shown = self._ended = False
        self._at_line_start = True

    def show(self, text: str) -> None:
        """Says `text`, which must fit the terminal's width."""
        with self._lock:
            if self._ended or not self._at_line_start:
                return
            if not self._around:
                self._put_around()
            self._shown = True
            self._stream.write(_CLEAR + text)
            self._stream.flush()

    def end(self, last: str | None = None) -> None:
        """Goes for good; `last` is left behind where there was a line."""
        with self._lock:
            leaves = last is not None and bool(self._around) and self._at_line_start and not self._ended
            self._ended = True
            self._step_aside()
            if leaves:
                self._stream.write(f"{last}\n")
                self._stream.flush()
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
            self._stream.write(_CLEAR)
            self._stream.flush()

    def _put_around(self) -> None:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if isinstance(stream, _Around):  # of an earlier line, which a user's `redirect_stdout` brought back
                stream = stream.stream
            if is_terminal(stream):
                self._around[name] = _Around(stream, self)
                setattr(sys, name, self._around[name])


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

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
