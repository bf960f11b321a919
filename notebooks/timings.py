"""The notebooks' own timing: how long each part took in this run and in the ones before it.

timed = Timings("flights")
with timed("airlines"):
    ...
timed.close()       # remembers this run in timings.jsonl, beside this file
print(timed)        # the last runs side by side
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SHOWN = 4


def timings_file() -> Path:
    """Where runs are remembered: the file NOTEBOOK_TIMINGS names, else timings.jsonl beside this module."""
    return Path(os.environ.get("NOTEBOOK_TIMINGS", "").strip() or Path(__file__).with_name("timings.jsonl"))


def past_runs(notebook: str) -> list[dict[str, float]]:
    """The seconds of every remembered run of a notebook by part, oldest first."""
    try:
        lines = timings_file().read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    runs = [json.loads(line) for line in lines]
    return [run["seconds"] for run in runs if run["notebook"] == notebook]


class Timings:
    """Seconds by part of one run of a notebook."""

    def __init__(self, notebook: str) -> None:
        self.notebook = notebook
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Times a `with` block; one that fails, too."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = time.perf_counter() - began

    def close(self) -> None:
        """Adds this run to the remembered ones."""
        with timings_file().open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"notebook": self.notebook, "seconds": self.seconds}) + "\n")

    def __str__(self) -> str:
        return table(past_runs(self.notebook)[-SHOWN:])


def table(runs: list[dict[str, float]]) -> str:
    """Runs as columns, parts as rows, the total below; the last column is the latest run.

    >>> print(table([{"fetch": 12.0, "fit": 3.5}, {"fetch": 0.25, "fit": 0.01}]))
    seconds    1 before   this run
    fetch         12.00       0.25
    fit            3.50       0.01
    together      15.50       0.26
    """
    if not runs:
        return "no runs yet"
    parts = list(dict.fromkeys(part for run in runs for part in run))
    width = max(len(part) for part in (*parts, "together"))
    ago = range(len(runs) - 1, -1, -1)
    lines = [f"{'seconds':<{width}}" + "".join(f"{'this run' if n == 0 else f'{n} before':>11}" for n in ago)]
    lines += [f"{part:<{width}}" + "".join(f"{run.get(part, 0.0):>11.2f}" for run in runs) for part in parts]
    return "\n".join([*lines, f"{'together':<{width}}" + "".join(f"{sum(run.values()):>11.2f}" for run in runs)])
