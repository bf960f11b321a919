"""What `%nbstep`, `%%workflow` and `%%step` do when IPython calls them as magics."""

from __future__ import annotations

import shutil
import sys
from typing import Any, Final

from IPython.display import display

from nbstep.commands.tables import Screen
from nbstep.commands.verbs import run_command
from nbstep.errors import CellStopped
from nbstep.notebook.helptext import WORKFLOW_HELP
from nbstep.notebook.retrying import LastRun, commands_of
from nbstep.notebook.steprender import HTML_END

HTML_BEGIN: Final = "<!--nbstep show-->"
_OUTPUT_COLUMNS: Final = 100  # what an output holds in a window 1,280 pixels wide, beside the left sidebar
_WHOLE: Final = "   All of it: %nbstep panel"


def nbstep_magic(shell: Any, line: str, last: LastRun | None = None) -> None:
    """Runs `%nbstep LINE` and shows what it gives; `last` is what the last cell did, for `retry`.

    Raises:
        CellStopped: The command is wrong; the cell fails, so that *Run All* stops.
    """
    commands, beside = commands_of(line.strip() or "help", last)
    for command in commands:
        _run(shell, command)
    if beside:
        sys.stdout.write(f"{beside}\n")


def _run(shell: Any, command: str) -> None:
    rich = getattr(shell, "kernel", None) is not None
    width = _OUTPUT_COLUMNS if rich else shutil.get_terminal_size((100, 24)).columns
    outcome = run_command(command, screen=Screen(width=width, notebook=True, whole=_WHOLE))
    if outcome.wrong_usage:
        raise CellStopped(outcome.text)
    if outcome.opens_panel is not None:
        # Widgets are imported when a panel is asked for, not with the extension.
        from nbstep.notebook.panel import panel

        panel(outcome.opens_panel)
        return
    if outcome.binds is not None:
        name, value = outcome.binds
        shell.user_ns[name] = value
    if outcome.html and rich:
        display({"text/plain": outcome.text, "text/html": f"{HTML_BEGIN}{outcome.html}{HTML_END}"}, raw=True)
    elif outcome.text:
        sys.stdout.write(outcome.text.rstrip("\n") + "\n")


def workflow_magic(shell: Any, line: str, cell: str | None) -> None:
    """Runs `%%workflow` where IPython found it as a magic: called by name, as cells go through `celltext`."""
    if cell is None:
        sys.stdout.write(WORKFLOW_HELP)
        return
    shell.run_cell(f"%%workflow {line}\n{cell}").raise_error()


def step_magic(shell: Any, line: str, cell: str) -> None:
    """As `workflow_magic`, for `%%step`."""
    shell.run_cell(f"%%step {line}\n{cell}").raise_error()
