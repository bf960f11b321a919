"""The disk store where things go wrong: failing calls, spoilt bytes, killed processes, full disks, many at once.

`python3 tests tests/faults` takes about a minute. `NBSTEP_LONG_TESTS=1 python3 tests tests/faults` takes every error, kills
two hundred times instead of twenty, keeps a hundred thousand keys and races for minutes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

LONG: Final = os.environ.get("NBSTEP_LONG_TESTS", "") not in {"", "0"}


def locks_in(folder: Path) -> list[Path]:
    """The locks of keys in a cache's lock folder, without the files that stay there for all."""
    return [path for path in folder.glob("*") if path.name not in {"turn", "many"}]
