"""The command `nbstep`: the verbs of `%nbstep` in a shell, without a kernel.

Exit codes: 0 done, 1 nothing matched or it failed, 2 wrong usage.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Sequence

import nbstep
from nbstep.commands.tables import Screen
from nbstep.commands.verbs import run_command

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
        if words == ["--version"]:
            print(f"nbstep {nbstep.__version__}")
            return 0
        outcome = run_command(words, screen=_screen())
        print(outcome.text, file=sys.stderr if outcome.exit_code == 2 else sys.stdout, flush=True)
    except BrokenPipeError:  # the reader (`| head`) has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return outcome.exit_code


def _screen() -> Screen:
    """The terminal's width and colours; a pipe gets whole lines without colour."""
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal or os.environ.get("COLUMNS") else _UNCUT
    return Screen(width=width, colour=terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb")


if __name__ == "__main__":
    sys.exit(main())
