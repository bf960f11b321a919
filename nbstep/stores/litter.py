"""Temporary files of processes that were killed while they wrote."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Final

from nbstep.stores import files
from nbstep.stores.base import Totals

_TEMP_NAME: Final = re.compile(r"[0-9a-f]{24}\.(\d{1,10})\.[0-9A-Za-z-]{1,64}")


def collect_temps(folder: Path, root: Path, now_s: float, *, dry_run: bool = False) -> Totals:
    """Removes temporary files nobody works on any more: a day old, or five minutes and their process is gone.

    A file of the future is as old as it is young: the clock was set back since.

    Five minutes, because processes in two containers may have one host name and cannot see each other.
    """
    removed: list[int] = []
    here = files.temp_name().rpartition(".")[2]
    for match in filter(None, map(_TEMP_NAME.fullmatch, files.names_in(folder, root))):
        path = f"{folder}{os.sep}{match[0]}"
        try:
            status = os.lstat(path)
        except OSError:
            continue  # another kernel was faster
        age_s = abs(now_s - status.st_mtime)
        dead = match[0].endswith(f".{here}") and not _lives(int(match[1]))
        if (age_s > 86400 or (age_s > 300 and dead)) and (dry_run or files.remove(path)):
            removed.append(status.st_size)
    return Totals(len(removed), sum(removed))


def _lives(pid: int) -> bool:
    if sys.platform == "win32":
        return True  # os.kill(pid, 0) would end the process there
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
