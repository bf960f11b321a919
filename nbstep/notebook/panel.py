"""`%nbstep panel` and `nbstep.panel()`: show what a cache keeps, live where widgets work, as a table elsewhere."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from typing import Any

from IPython.core.getipython import get_ipython
from IPython.display import DisplayHandle, display

from nbstep.cache.cache import Cache, project_cache
from nbstep.commands.listing import first_rows, own_first, settled, totals_of_entries, usage_of
from nbstep.commands.tables import Screen
from nbstep.commands.verbs import run_command
from nbstep.notebook.snapshot import MOST_ROWS, snapshot_html, snapshot_plain
from nbstep.runs.hooks import notebook_name
from nbstep.stores.base import run_now


def panel(cache: Any = None) -> None:
    """Shows the panel: a live table of the entries, with search, details, delete, undo and retry.

    Two outputs: the table as HTML, which a reopened or exported notebook still shows, and the live panel, which hides
    it while it runs. Where there is no notebook, the table is printed.

    Args:
        cache: A `Cache`, or whatever `Cache(…)` takes; the project's cache when None.
    """
    chosen = _chosen(cache)
    shell = get_ipython()
    if shell is None or getattr(shell, "kernel", None) is None:
        screen = Screen(width=shutil.get_terminal_size((100, 24)).columns, notebook=True)
        sys.stdout.write(run_command(["ls"], cache=chosen, screen=screen).text + "\n")
        return
    _show_snapshot(chosen)
    from nbstep.notebook.panelwidget import PanelWidget  # anywidget: nobody pays for it before there is a panel

    display(PanelWidget(chosen, notebook_name(shell.user_ns, os.environ)))


def _chosen(cache: Any) -> Cache:
    if cache is None:
        return project_cache()
    return cache if isinstance(cache, Cache) else Cache(cache)


def _show_snapshot(cache: Cache) -> None:
    """The saved table; over an async store it is filled in as soon as the cell lets the loop run."""
    if not cache.is_async:
        display(run_now(_snapshot(cache)), raw=True)
        return
    handle = DisplayHandle()
    handle.display({"text/plain": "Reading the cache …"}, raw=True)

    async def fill() -> None:
        handle.update(await _snapshot(cache), raw=True)

    task = asyncio.get_running_loop().create_task(fill())
    _filling.add(task)
    task.add_done_callback(_filling.discard)


_filling: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly


async def _snapshot(cache: Cache) -> dict[str, str]:
    metas, usage = own_first(await settled(cache.entries())), usage_of(cache)
    totals = await totals_of_entries(cache, metas.values(), usage)
    by_key, worst_first = (first_rows(metas, usage, MOST_ROWS, worst_first=worst) for worst in (False, True))
    return {
        "text/html": snapshot_html(worst_first, totals, time.time()),
        "text/plain": snapshot_plain(by_key, totals.entries),  # the same from run to run, whatever became old meanwhile
    }
