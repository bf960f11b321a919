"""What stands at the foot of the step list: the cache's place, its size, the free space; measured within a budget."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Final

from nbstep.cache.cache import Cache
from nbstep.notebook.steprender import CacheFoot
from nbstep.runs.state import Run

_BUDGET_S: Final = 0.03


def foot_of(run: Run | None) -> CacheFoot | None:
    """The foot for a run's cache; None for a run that keeps nothing."""
    return None if run is None else foot_of_cache(run.cache)


def foot_of_cache(cache: Cache | None) -> CacheFoot | None:
    """The foot for a cache."""
    if cache is None:
        return None
    if cache.directory is None:
        return CacheFoot(cache.place)
    return CacheFoot(cache.place, _size(cache.directory), _free(cache.directory))


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
        with os.scandir(folder / "v1" / "e") as parts:
            for part in parts:
                if time.perf_counter() > until:
                    return None
                with os.scandir(part.path) as entries:
                    total += sum(entry.stat().st_size for entry in entries)
    except OSError:
        return None
    return total
