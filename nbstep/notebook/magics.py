"""What `%nbstep`, `%%workflow` and `%%step` do when IPython calls them as magics."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Final

from IPython.display import display
from IPython.utils.text import DollarFormatter

from nbstep.cache.cache import Cache
from nbstep.commands.tables import Screen
from nbstep.commands.verbs import run_command
from nbstep.errors import CellStopped
from nbstep.notebook.helptext import WORKFLOW_HELP
from nbstep.notebook.retrying import LastRun, commands_of
from nbstep.notebook.steprender import HTML_END
from nbstep.runs.active import as_cache

HTML_BEGIN: Final = "<!--nbstep show-->"
_OUTPUT_COLUMNS: Final = 100  # what an output holds in a window 1,280 pixels wide, beside the left sidebar
_NAMED: Final = re.compile(r"(--cache(?:\s*=\s*|\s+))\$(\w+)(?=\s|$)")
_WHOLE: Final = "   All of it: %nbstep panel"


def nbstep_magic(shell: Any, line: str, last: LastRun | None = None, local: Mapping[str, Any] | None = None) -> None:
    """Runs `%nbstep LINE`, as it was written, and shows what it gives.

    `last` is what the last cell did, for `retry`; `local` the variables of the function that it is called in.

    Raises:
        CellStopped: The command is wrong; the cell fails, so that *Run All* stops.
    """
    names = {**shell.user_ns, **(local or {})}
    line, caches = _caches_in(line, names)
    commands, beside = commands_of(_expanded(line, names).strip() or "help", last)
    for command in commands:
        _run(shell, command, caches, {} if last is None else last.failed_in)
    if beside:
        sys.stdout.write(f"{beside}\n")


def _caches_in(line: str, names: Mapping[str, Any]) -> tuple[str, dict[str, Cache]]:
    """What `--cache $name` means where that is no text, as in `%%workflow`; with the line in which IPython is to leave it alone."""
    caches: dict[str, Cache] = {}

    def noted(found: re.Match[str]) -> str:
        before, name = found.groups()
        if name not in names:
            raise CellStopped(f"--cache ${name}: there is no {name!r} in this notebook")
        named = names[name]
        if isinstance(named, str | PurePath):
            return found[0]
        try:
            cache = as_cache(named)
        except (TypeError, ValueError, ImportError) as error:
            raise CellStopped(f"--cache ${name}: {error}") from None
        if cache is None:
            raise CellStopped(f"--cache ${name}: {name} is None, which keeps nothing")
        caches[f"${name}"] = cache
        return f"{before}$${name}"

    return _NAMED.sub(noted, line), caches


def _expanded(line: str, names: Mapping[str, Any]) -> str:
    """A line with `$name` and `{expression}` filled in, as IPython does it; unchanged where that fails, also as there."""
    try:
        return DollarFormatter().vformat(line, args=[], kwargs=names)
    except Exception:  # noqa: BLE001 - whatever an expression of the user's raises
        return line


def _run(shell: Any, command: str, caches: Mapping[str, Cache], met: Mapping[str | None, frozenset[str]]) -> None:
    rich = getattr(shell, "kernel", None) is not None
    width = _OUTPUT_COLUMNS if rich else shutil.get_terminal_size((100, 24)).columns
    outcome = run_command(command, screen=Screen(width=width, notebook=True, whole=_WHOLE), caches=caches, met=met)
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
