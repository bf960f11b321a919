"""Runs one side of every pair of cells with a peer: prints, by pair, how many results it computed and stored.

python drift_run.py joblib|marimo FOLDER: it holds a folder for each pair, with its files, `peer_cell.py` and the peer's store.
Each pair runs in a forked process of its own, all with the hash seed of this one, so that nothing is imported a hundred times.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import traceback
from pathlib import Path
from typing import Any

import joblib
import numpy  # noqa: F401 - so that a forked process has it
import pandas  # noqa: F401

STORED = {"joblib": "joblib/**/output.pkl", "marimo": "__marimo__/**/*.pickle"}


def results(peer: str, folder: Path) -> set[tuple[str, int, int]]:
    """The results that are stored, each with what changes when it is stored again."""
    found = [(path, path.stat()) for path in folder.glob(STORED[peer])]
    return {(str(path), stat.st_ino, stat.st_mtime_ns) for path, stat in found}


def run_pair(peer: str, folder: Path) -> dict[str, Any]:
    """How many results the cell's run stored, which is how often it computed; or why it failed."""
    before = results(peer, folder)
    told = folder / "told.txt"
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with told.open("w") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            os.chdir(folder)
            sys.path.insert(0, str(folder))
            scope = {"memory": joblib.Memory("joblib", verbose=0)} if peer == "joblib" else {}
            runpy.run_path(str(folder / "peer_cell.py"), scope, run_name="__main__")
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    lines = told.read_text(errors="replace").strip().splitlines()
    if status:
        return {"error": lines[-1] if lines else f"ended with status {status}"}
    return {"computed": len(results(peer, folder) - before)}


if __name__ == "__main__":
    peer, place = sys.argv[1:]
    if peer == "marimo":
        import marimo  # noqa: F401
    pairs = sorted(path for path in Path(place).iterdir() if (path / "peer_cell.py").exists())
    sys.dont_write_bytecode = True  # a module changes faster than its time stamp
    print(json.dumps({pair.name: run_pair(peer, pair) for pair in pairs}))
