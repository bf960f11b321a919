"""What stands at the foot of the step list: the cache's place, its size, the free space; measured within a budget."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Final

from nbstep.notebook.steprender import CacheFoot
from nbstep.runs.state import Run

_BUDGET_S: Final = 0.03


def foot_of(run: Run | None) -> CacheFoot | None:
    """The foot for a run's cache; None for a run that keeps nothing."""
    if run is None or run.cache is None:
        return None
    folder = run.cache.directory
    if folder is None:
        return CacheFoot(run.cache.place)
    return CacheFoot(run.cache.place, _size(folder), _free(folder))


def _free(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _size(folder: Path) -> int | None:
    """The size of the entries in bytes; None where counting them would take too long."""
    until = time.perf_counter() + _BUDGET_S
    total = 0
    try:
        for part in os.scandir(folder / "v1" / "e"):
            if time.perf_counter() > until:
                return None
            total += sum(entry.stat().st_size for entry in os.scandir(part.path))
    except OSError:
        return None
    return total
