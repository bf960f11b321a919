"""Run logs for tests: as a run writes them, and as somebody else may have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nbstep.events import Place, RunFinished, RunStarted, StepAsked, StepFinished, StepMissed
from nbstep.runlog import Recorder, runs_directory

HERE = Place("churn.ipynb", 3, 1)


def log_run(cache: Path, run: str = "r1", at: float = 100.0, keys: tuple[str, ...] = ("a",)) -> None:
    """A run whose steps all ran."""
    recorder = Recorder(runs_directory(cache))
    recorder(RunStarted(run, at, "sales", HERE, "normal", "cache"))
    for number, key in enumerate(keys):
        recorder(StepAsked(run, number, key, HERE, at + number))
        recorder(StepMissed(run, number, key, "new"))
        recorder(StepFinished(run, number, key, "ok", at + number + 0.5, 0.5, 10))
    recorder(RunFinished(run, at + 9, "ok", 9.0))


def put_file(cache: Path, name: str, content: str | bytes) -> Path:
    """Anything in the folder of the log."""
    folder = runs_directory(cache)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def record(**changes: Any) -> str:
    """The text of a run with one hit."""
    whole = {"run": "r", "at": 1.0, "name": None, "notebook": None, "steps": [["a", "hit", "ok", 1, 2, 3, None]]}
    return json.dumps(whole | changes)
