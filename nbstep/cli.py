"""The command `nbstep`: the verbs of `%nbstep` in a shell, without a kernel.

Exit codes: 0 done, 1 nothing matched or it failed, 2 wrong usage (its text goes to stderr, with `--json` to stdout). Those of
`verify` are bits: 1 an entry is corrupt, 2 one is untrusted, 4 one is unreadable.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

import nbstep
from nbstep.durations import size_text

if TYPE_CHECKING:
    from nbstep.commands.tables import Screen

_UNCUT = 100_000


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and prints what it says.

    Args:
        argv: The words behind `nbstep`; those of the process when None.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without Unicode still shows every row
    try:
        if words in (["--version"], ["-V"]):
            print(f"nbstep {nbstep.__version__}")
            return 0
        if words[:1] == ["__complete"]:  # asked at each Tab, so it imports little
            from nbstep.commands.completion import complete_for_shell

            print(complete_for_shell(words[1], words[2:]), flush=True)
            return 0
        # The engine: whoever presses Ctrl-C meanwhile gets no traceback either.
        from nbstep.commands.verbs import run_command

        outcome = run_command(words, screen=_screen())
        print(outcome.text, file=sys.stderr if outcome.wrong_usage else sys.stdout, flush=True)
    except BrokenPipeError:  # the reader (`| head`) has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return outcome.exit_code


def _screen() -> Screen:
    """The terminal's width and colours, long tables cut; a pipe gets all lines, whole and without colour."""
    from nbstep.commands.tables import MANY_ROWS, Screen, in_colour

    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal or os.environ.get("COLUMNS") else _UNCUT
    ask = _ask if terminal and sys.stdin is not None and sys.stdin.isatty() else None
    tell = Progress(sys.stderr) if sys.stderr.isatty() else None
    most, whole = (MANY_ROWS, "   All of it: nbstep ls | less") if terminal else (None, "")
    return Screen(width=width, colour=in_colour(sys.stdout), max_rows=most, whole=whole, ask=ask, tell=tell)


def _ask(question: str) -> bool:
    print(f"{question} [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


class Progress:
    """One line of a terminal that says how far long work is; it appears after half a second and goes when all is done."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._began = self._told = time.monotonic()
        self._shows = False

    def __call__(self, work: str, done: int, total: int) -> None:
        """Takes the bytes done and the bytes in all."""
        now = time.monotonic()
        if done >= total:
            self._began = now
            if self._shows:
                self._shows = False
                self._stream.write("\r\x1b[K")
                self._stream.flush()
        elif now - self._began > 0.5 and now - self._told > 0.1:
            self._told, self._shows = now, True
            self._stream.write(f"\r\x1b[K{work} {size_text(done)} of {size_text(total)}, {done * 100 // total} %")
            self._stream.flush()


if __name__ == "__main__":
    sys.exit(main())
