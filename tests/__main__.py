"""Runs all tests: `python3 tests`. Sets up `.venv` first where needed; arguments go to pytest (`python3 tests -k panel`)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "notebooks"))

import environment  # noqa: E402 - it lies beside the notebooks

if __name__ == "__main__":
    os.chdir(ROOT)
    environment.run(["-m", "pytest", *sys.argv[1:]])
