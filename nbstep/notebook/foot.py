"""What stands at the foot of the step list: the cache's place, its size, the free space; measured within a budget."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from nbstep.cache.cache import Cache
from nbstep.notebook.steprender import CacheFoot
from nbstep.runs.state import Run

_WORK_S: Final = 0.03
_WAIT_S: Final = 0.1  # on a loaded machine, or for a folder far away


def foot_of(run: Run | None) -> CacheFoot | None:
    """The foot for a run's cache; None for a run that keeps nothing."""
    return None if run is None else foot_of_caches(run.caches())


def foot_of_caches(caches: Sequence[Cache]) -> CacheFoot | None:
    """The foot for caches, with the numbers of the first one."""
    if not caches:
        return None
    first, also = caches[0], tuple(cache.place for cache in caches[1:])
    if first.directory is None:
        return CacheFoot(first.place, also=also)
    return CacheFoot(first.place, size_of(first.directory), _free(first.directory), also)


def _free(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def size_of(
    folder: Path, clock: Callable[[], float] = time.perf_counter, work: Callable[[], float] = time.thread_time
) -> int | None:
    """The size of the entries in bytes; None where counting them would take too long, by the clock or in work of its own."""
    until, work_until = clock() + _WAIT_S, work() + _WORK_S
    total = 0
    try:
        with os.scandir(folder / "v1" / "e") as parts:
            for part in parts:
                if work() > work_until or clock() > until:
                    return None
                with os.scandir(part.path) as entries:
                    total += sum(entry.stat().st_size for entry in entries)
    except OSError:
        return None
    return total
