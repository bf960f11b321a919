"""What `%nbstep`, `%%workflow` and `%%step` do when IPython calls them as magics."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Hashable, Mapping
from pathlib import PurePath
from typing import Any, Final

from IPython.display import display
from IPython.utils.text import DollarFormatter

from nbstep.cache.cache import Cache
from nbstep.commands.tables import Screen
from nbstep.commands.verbs import run_command
from nbstep.errors import CellStopped
from nbstep.notebook.helptext import WORKFLOW_HELP
from nbstep.notebook.retrying import LastRun, commands_of, elsewhere
from nbstep.notebook.steprender import HTML_END
from nbstep.runs.active import as_cache

HTML_BEGIN: Final = "<!--nbstep show-->"
_OUTPUT_COLUMNS: Final = 100  # what an output holds in a window 1,280 pixels wide, beside the left sidebar
_NAMED: Final = re.compile(r"(--cache(?:\s*=\s*|\s+))([\"']?)\$([A-Za-z_][\w.]*)\2(?=\s|$)")
_WHOLE: Final = "   All of it: %nbstep panel"


def nbstep_magic(shell: Any, line: str, last: LastRun | None = None, local: Mapping[str, Any] | None = None) -> None:
    """Runs `%nbstep LINE`, as it was written, and shows what it gives.

    `last` is what the last cell did, for `retry`; `local` the variables of the function that it is called in.

    Raises:
        CellStopped: The command is wrong; the cell fails, so that *Run All* stops.
    """
    names = {**shell.user_ns, **(local or {})}
    line, caches = _filled_in(line, names)
    commands, beside = commands_of(line.strip() or "help", last)
    done = [_run(shell, command, caches, {} if last is None else last.met) for command in commands]
    if not all(done):
        beside = beside or elsewhere(line, last)
    if beside:
        sys.stdout.write(f"{beside}\n")


def _filled_in(line: str, names: Mapping[str, Any]) -> tuple[str, dict[str, Cache]]:
    """A line with `$name` and `{expression}` filled in, as IPython does it, but for `--cache $name`.

    That stays where it is no path, and means what it does in `%%workflow`: the second result. A path is quoted.
    """
    caches: dict[str, Cache] = {}
    filled, at = list[str](), 0
    for found in _NAMED.finditer(line):
        before, word = found[1], f"${found[3]}"
        named = _value_of(found[3], names)
        if isinstance(named, PurePath) or (isinstance(named, str) and "://" not in named):
            word = shlex.quote(str(named))
        else:
            caches[word] = _cache_of(word, named)
        filled += [_expanded(line[at : found.start()], names), before, word]
        at = found.end()
    return "".join([*filled, _expanded(line[at:], names)]), caches


def _value_of(name: str, names: Mapping[str, Any]) -> Any:
    """What `name`, perhaps with attributes, means in the notebook."""
    first, *attributes = name.split(".")
    try:
        value = names[first]
        for attribute in attributes:
            value = getattr(value, attribute)
    except (KeyError, AttributeError):
        raise CellStopped(f"--cache ${name}: there is no {name!r} in this notebook") from None
    return value


def _cache_of(word: str, named: object) -> Cache:
    try:
        cache = as_cache(named)
    except (TypeError, ValueError, ImportError) as error:
        raise CellStopped(f"--cache {word}: {error}") from None
    if cache is None:
        raise CellStopped(f"--cache {word}: that is None, which keeps nothing")
    return cache


def _expanded(text: str, names: Mapping[str, Any]) -> str:
    """Filled in; unchanged where that fails, as IPython leaves it."""
    try:
        return DollarFormatter().vformat(text, args=[], kwargs=names)
    except Exception:  # noqa: BLE001 - whatever an expression of the user's raises
        return text


def _run(shell: Any, command: str, caches: Mapping[str, Cache], met: Mapping[Hashable, frozenset[str]]) -> bool:
    """Runs a command, and shows what it gives; whether it found what it was asked for."""
    rich = getattr(shell, "kernel", None) is not None
    width = _OUTPUT_COLUMNS if rich else shutil.get_terminal_size((100, 24)).columns
    outcome = run_command(command, screen=Screen(width=width, notebook=True, whole=_WHOLE), caches=caches, met=met)
    if outcome.wrong_usage:
        raise CellStopped(outcome.text)
    if outcome.opens_panel is not None:
        # Widgets are imported when a panel is asked for, not with the extension.
        from nbstep.notebook.panel import panel

        panel(outcome.opens_panel)
        return True
    if outcome.binds is not None:
        name, value = outcome.binds
        shell.user_ns[name] = value
    if outcome.html and rich:
        display({"text/plain": outcome.text, "text/html": f"{HTML_BEGIN}{outcome.html}{HTML_END}"}, raw=True)
    elif outcome.text:
        sys.stdout.write(outcome.text.rstrip("\n") + "\n")
    return outcome.exit_code == 0


def workflow_magic(shell: Any, line: str, cell: str | None) -> None:
    """Runs `%%workflow` where IPython found it as a magic: called by name, as cells go through `celltext`."""
    if cell is None:
        sys.stdout.write(WORKFLOW_HELP)
        return
    shell.run_cell(f"%%workflow {line}\n{cell}").raise_error()


def step_magic(shell: Any, line: str, cell: str) -> None:
    """As `workflow_magic`, for `%%step`."""
    shell.run_cell(f"%%step {line}\n{cell}").raise_error()
