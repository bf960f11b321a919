"""`%nbstep` and `%%workflow`: what IPython lists, completes and explains; their docstrings are the help of `?`."""

from __future__ import annotations

import shutil
import sys
from typing import Any

from nbstep.commands import run_command
from nbstep.errors import CellStopped
from nbstep.tables import Screen

WORKFLOW_HELP = """\
%%workflow [NAME] [flags]

Runs the cell as a workflow: what `step(…, key=…)` gives is kept on disk and used again by later runs, and a list of the
steps is shown under the cell. The body is an ordinary cell. Also spelled as a comment, `# %%workflow NAME`, so that
linters and type checkers read the cell.

    %%workflow sales
    raw = step(lambda: fetch_sales(2013), key="sales:2013")

NAME is a label for lists; it is no part of a key.

  --mode normal|refresh|offline    refresh runs every step again; offline raises where nothing is kept
  --retry-errors                   kept errors run again
  --result NAME                    a failed step does not fail the cell: NAME is Ok(last value) or Err(error)
  --cache WHERE                    a path, a URL, or $name for a cache or store of this notebook
  --ttl, --error-ttl DURATION      for how long values and errors count: 30s, 15m, 2h30m, 7d, none
  --cache-errors, --no-cache-errors
  --stale-if-error                 a failed refetch gives the last good value
  --on-drift warn|rerun|error|ignore    what happens to values whose code changed; --rerun-drifted re-runs them

Flags hold for every step of the cell that says nothing else itself.
"""


def nbstep_magic(shell: Any, line: str) -> None:
    """Runs `%nbstep LINE` and shows what it gives.

    Raises:
        CellStopped: The command is wrong; the cell fails, so that *Run All* stops.
    """
    rich = getattr(shell, "kernel", None) is not None
    width = 120 if rich else shutil.get_terminal_size((100, 24)).columns
    outcome = run_command(line.strip() or "help", screen=Screen(width=width, notebook=True))
    if outcome.exit_code == 2:
        raise CellStopped(outcome.text)
    if outcome.opens_panel is not None:
        # Widgets are imported when a panel is asked for, not with the extension.
        from nbstep.notebook.panel import panel

        panel(outcome.opens_panel)
        return
    if outcome.binds is not None:
        name, value = outcome.binds
        shell.user_ns[name] = value
    if outcome.text:
        sys.stdout.write(outcome.text.rstrip("\n") + "\n")


def workflow_magic(shell: Any, line: str, cell: str | None) -> None:
    """Runs `%%workflow` where IPython found it as a magic: called by name, as cells go through `celltext`."""
    if cell is None:
        sys.stdout.write(WORKFLOW_HELP)
        return
    shell.run_cell(f"%%workflow {line}\n{cell}").raise_error()
