"""How the system is to schedule the threads of a map: none of them pushes another one off its processor."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


class AsBatch:
    """Has this thread scheduled as batch work (`SCHED_BATCH`, on Linux), with the same share of the processors as before.

    Of threads that share one interpreter only one can go on: one that awakes in the place of the one that has it waits for it
    all the same, and both are changed once more. Who is scheduled otherwise than usual stays so. No `contextmanager`: that
    writes to what is raised inside, which a frozen exception refuses.
    """

    _changed = False

    def __enter__(self) -> None:
        if sys.platform == "linux":
            with suppress(OSError):  # where a system does not let us, it is as it was
                if os.sched_getscheduler(0) == os.SCHED_OTHER:
                    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
                    self._changed = True

    def __exit__(self, *_: object) -> None:
        if sys.platform == "linux" and self._changed:
            with suppress(OSError):
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
