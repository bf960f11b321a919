"""Runs all tests, two files at a time: `python3 tests`. Sets up `.venv` first where needed.

Arguments go to pytest, which then runs one test after the other: `python3 tests -k panel`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "notebooks"))

import environment  # noqa: E402 - it lies beside the notebooks

# The tests of a file stay together: they share a browser, a server or a cluster.
SIDE_BY_SIDE = ["-n", "2", "--dist", "loadfile"]

if __name__ == "__main__":
    os.chdir(ROOT)
    environment.run(["-m", "pytest", *(sys.argv[1:] or SIDE_BY_SIDE)])
