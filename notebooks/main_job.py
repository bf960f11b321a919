"""Runs flights.ipynb without a browser: once with nothing kept, then again in a new kernel, and shows what that saved.

    python3 notebooks/main_job.py

It sets up `.venv` first where needed. What the notebook kept before is moved to the trash (`nbstep undo` brings it back), so that
the first run really is the first. The project's cache is used: JupyterLab then finds it filled.
"""

from __future__ import annotations

import os
import sys
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import environment

if TYPE_CHECKING:
    from nbstep.events import Event

HERE = Path(__file__).resolve().parent
NOTEBOOK = HERE / "flights.ipynb"
STEP_LISTS = "MAIN_JOB_STEP_LISTS"  # the environment variable that names the file a kernel writes its step lists to

# Every key of the notebook; its cold run begins without them.
KEYS = (
    "carrier:*", "flights:*", "planes", "airports", "weather:*", "table", "tune:*", "model:*", "predicted:*", "importance",
)  # fmt: skip


def main() -> int:
    """The whole job; the exit code is 1 where a run fails or the second one computes anything."""
    if not environment.is_inside():
        environment.run([str(Path(__file__).resolve()), *sys.argv[1:]])
    os.chdir(HERE)
    from nbstep import Cache

    cache = Cache()
    removed = cache.delete_many([key for key in cache if any(fnmatchcase(key, pattern) for pattern in KEYS)])
    if removed:
        print(f"{removed} results of earlier runs moved to the trash (back with: .venv/bin/nbstep undo)")

    print("flights.ipynb, nothing kept yet:\n", flush=True)
    cold_s = run_notebook()
    print("\nflights.ipynb again, in a new kernel:\n", flush=True)
    warm_s = run_notebook()

    from timings import past_runs

    cold, warm = (sum(seconds.values()) for seconds in past_runs("flights")[-2:])
    print(f"\nFirst run   {cold:6.1f} s of waiting for steps, {cold_s:.0f} s in all")
    print(f"Second run  {warm:6.1f} s of waiting for steps, {warm_s:.0f} s in all")
    print(f"Saved       {cold - warm:6.1f} s of waiting: {cold / warm:.0f} times less")
    print("""
These are seconds by the clock. The step lists say more ("saved 1 m 4 s"): they add up what each step took by itself,
and step.map runs several steps at the same time.""")
    lab = os.path.relpath(environment.BIN / "jupyter", environment.ROOT)
    print(f"\nNext, the same notebook in JupyterLab, from the cache:\n  {lab} lab notebooks/flights.ipynb")
    return 0


def run_notebook() -> float:
    """Runs every cell in a new kernel, shows the step lists as they come, and returns the seconds it took in all."""
    import tempfile

    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell("import main_job; main_job.write_step_lists()"))
    with tempfile.TemporaryDirectory() as folder:
        shown = StepListFile(Path(folder) / "lists.txt")
        client = NotebookClient(
            notebook,
            timeout=None,
            kernel_name="python3",
            resources={"metadata": {"path": str(HERE)}},
            on_cell_executed=lambda **_: shown.print_new(),
        )
        began = time.perf_counter()
        with (Path(folder) / "kernel.log").open("w+", encoding="utf-8") as log:
            try:
                client.execute(env=os.environ | {STEP_LISTS: str(shown.path)}, stderr=log)
            except Exception:
                log.seek(0)
                print(log.read(), file=sys.stderr)
                raise
    return time.perf_counter() - began


class StepListFile:
    """The file a kernel writes its step lists to, printed here as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._printed = 0

    def print_new(self) -> None:
        """Prints what was written since the last time."""
        if self.path.exists():
            with self.path.open(encoding="utf-8") as lists:
                lists.seek(self._printed)
                print(lists.read(), end="", flush=True)
                self._printed = lists.tell()


def write_step_lists() -> None:
    """Called in the notebook's kernel: writes each workflow's step list, as a terminal shows it, when the workflow ends."""
    from nbstep.events import RunFinished, RunStarted, listen
    from nbstep.notebook.steplist import StepList, reduce
    from nbstep.notebook.steprender import plain_of

    lists: dict[str, StepList] = {}

    def follow(event: Event) -> None:
        run = getattr(event, "run", None)
        if isinstance(event, RunStarted):
            lists[event.run] = StepList()
        if run in lists:
            lists[run] = reduce(lists[run], event)
        if isinstance(event, RunFinished):
            with Path(os.environ[STEP_LISTS]).open("a", encoding="utf-8") as file:
                file.write(plain_of(lists.pop(event.run), time.time(), above=20) + "\n")

    listen(follow)


if __name__ == "__main__":
    raise SystemExit(main())
