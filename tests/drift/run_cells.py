"""Runs one side of every pair of cells in a process of its own: prints what drifted, by pair.

python run_cells.py FOLDER: it holds a folder for each pair, with its files, `cell.py` and the cache.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from pathlib import Path
from typing import Any

from nbstep import Cache, create_workflow
from nbstep.testing import RecordingListener


def run_pair(folder: Path) -> dict[str, Any]:
    """The outcome of one cell, what drifted in its steps, and the findings."""
    os.chdir(folder)
    known = set(sys.modules)
    sys.path.insert(0, str(folder))
    scope: dict[str, Any] = {"__name__": "__main__"}
    told = RecordingListener()

    def body(step: Any) -> None:
        scope["step"] = step
        for statement in ast.parse((folder / "cell.py").read_text()).body:  # one by one, as IPython does
            exec(compile(ast.Module([statement], []), "<cell>", "exec"), scope)

    result = create_workflow(cache=Cache(folder / ".nbstep"), on_event=told)(body)
    sys.path.remove(str(folder))
    for name in set(sys.modules) - known:
        if str(folder) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]
    hits = [event for event in told.events if type(event).__name__ == "StepHit"]
    return {
        "ok": result.ok,
        "hits": len(hits),
        "misses": [event.reason for event in told.events if type(event).__name__ == "StepMissed"],
        "drift": [hit.drift for hit in hits if hit.drift],
        "findings": told.findings(),
    }


if __name__ == "__main__":
    pairs = sorted(path for path in Path(sys.argv[1]).iterdir() if path.is_dir())
    sys.dont_write_bytecode = True  # a module changes faster than its time stamp
    sys.stdout.write(json.dumps({pair.name: run_pair(pair) for pair in pairs}))
