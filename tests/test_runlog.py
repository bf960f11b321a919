"""The run log: what it says, and that nothing in its directory can hurt."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from logged import HERE, log_run, put_file, record

from nbstep import Cache, create_workflow
from nbstep.events import Finding, RunFinished, RunStarted, StepAsked, StepFinished, StepHit, StepMissed
from nbstep.runlog import KEPT_RUNS, LoggedStep, Recorder, Usage, last_run, read_runs, runs_directory, usage
from nbstep.runlog.rows import Rows

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes of POSIX")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache directory to which something was kept before."""
    (tmp_path / "v1").mkdir()
    return tmp_path


def _steps(cache: Path) -> list[tuple[str, str, str]]:
    logged = last_run(cache)
    assert logged is not None
    return [(step.key, step.got, step.outcome) for step in logged.steps]


def test_the_last_run_has_the_steps_of_the_runs_inside_it(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    other = create_workflow(cache=cache)
    other(lambda step: step(lambda: 1, key="earlier"))

    def body(step: Any) -> None:
        step(lambda: 1, key="outer:1")
        other(lambda step: step(lambda: 1, key="inner"))
        step(lambda: 1, key="outer:2")

    create_workflow(cache=cache, name="outer")(body)
    logged = last_run(cache.directory)
    assert logged is not None
    assert (logged.name, sorted(step.key for step in logged.steps)) == ("outer", ["inner", "outer:1", "outer:2"])


def test_n8_a_step_that_ends_after_its_run_is_logged(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    async def body(step: Any) -> Any:
        async def slow() -> None:
            await gate.wait()
            raise LookupError("gone")

        gate = asyncio.Event()
        task = asyncio.create_task(step(slow, key="late"))
        await asyncio.sleep(0)
        return task, gate

    async def main() -> None:
        task, gate = (await create_workflow(cache=cache)(body)).unwrap()
        gate.set()
        await asyncio.wait([task])
        assert isinstance(task.exception(), LookupError)

    asyncio.run(main())
    # Late steps are written together: where the run's own writing took long, a moment later.
    until = time.monotonic() + 30
    while _steps(cache.directory) != [("late", "ran", "error")] and time.monotonic() < until:
        time.sleep(0.05)
    assert _steps(cache.directory) == [("late", "ran", "error")]


LATE = """
import os, sys, threading, time
from pathlib import Path
from nbstep.events import Place, RunFinished, RunStarted, StepAsked, StepFinished
from nbstep.runlog import Recorder, runs_directory

here = Place("etl.py", None, 1)
recorder = Recorder(runs_directory(Path(sys.argv[1])))
recorder(RunStarted("r1", 100.0, "long", here, "normal", "cache"))
for number in range(20_000):  # writing that many takes long, so the next writing is put off
    recorder(StepAsked("r1", number, f"k{number}", here, 101.0))
recorder(RunFinished("r1", 102.0, "ok", 2.0))
recorder(StepFinished("r1", 0, "k0", "ok", 103.0, 1.0, 10))
"""


def _run_late(cache: Path, code: str) -> None:
    script = LATE + textwrap.dedent(code)
    done = subprocess.run(
        # from Python 3.12 on a fork beside threads, which IPython starts, is warned of
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, str(cache)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_n8_what_ends_after_its_run_is_logged_at_the_end_of_the_process(cache: Path) -> None:
    _run_late(cache, "")
    assert _steps(cache)[0] == ("k0", "ran", "ok")


@needs_fork
def test_n8_a_forked_child_does_not_write_what_it_knows_of_its_parents_run(cache: Path) -> None:
    _run_late(
        cache,
        """
        parent = os.getpid()
        if os.fork() == 0:
            while os.getppid() == parent:  # it outlives its parent, which knows more by then
                time.sleep(0.01)
        else:
            recorder(StepFinished("r1", 1, "k1", "ok", 104.0, 1.0, 10))
        """,
    )
    assert [run.run for run in read_runs(cache)] == ["r1"]
    assert _steps(cache)[:2] == [("k0", "ran", "ok"), ("k1", "ran", "ok")]


@needs_fork
def test_what_a_forked_child_asks_is_a_run_of_its_own_inside_the_one_it_was_forked_from(cache: Path) -> None:
    _run_late(
        cache,
        """
        child = os.fork()
        if child == 0:
            recorder(StepAsked("r1", 20_000, "of the child", here, 103.0))
            recorder(StepFinished("r1", 20_000, "of the child", "ok", 104.0, 1.0, 10))
            recorder(RunFinished("r1", 105.0, "ok", 2.0))
            os._exit(0)
        os.waitpid(child, 0)
        """,
    )
    runs = {run.run: run for run in read_runs(cache)}
    (child,) = [run for run in runs.values() if run.run != "r1"]
    assert ([step.key for step in child.steps], child.root) == (["of the child"], "r1")
    assert len(runs["r1"].steps) == 20_000
    assert ("of the child", "ran", "ok") in _steps(cache)


def test_n8_steps_that_end_late_on_many_threads_are_all_logged(cache: Path) -> None:
    _run_late(
        cache,
        """
        def end(first):
            for number in range(first, 20_000, 4):
                recorder(StepFinished("r1", number, f"k{number}", "ok", 103.0, 1.0, 10))
        threads = [threading.Thread(target=end, args=[first]) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        """,
    )
    assert {got for _, got, _ in _steps(cache)} == {"ran"}


def test_a_run_is_logged_with_what_its_steps_got(cache: Path) -> None:
    recorder = Recorder(runs_directory(cache))
    recorder(RunStarted("r1", 100.0, "sales", HERE, "normal", "cache"))
    recorder(StepAsked("r1", 0, "a", HERE, 100.0))
    recorder(StepMissed("r1", 0, "a", "expired"))
    recorder(StepFinished("r1", 0, "a", "error", 101.0, 1.0, 10, "KeyError: k"))
    recorder(StepAsked("r1", 1, "b", HERE, 102.0))
    recorder(StepHit("r1", 1, "b", "ok", 102.5, 50.0, 7.0, 10))
    recorder(StepAsked("r1", 2, None, HERE, 103.0))
    recorder(StepAsked("r1", 3, "c", HERE, 104.0))
    recorder(RunFinished("r1", 109.0, "ok", 9.0))
    logged = last_run(cache)
    assert logged is not None
    assert (logged.run, logged.at, logged.name, logged.notebook) == ("r1", 100.0, "sales", "churn.ipynb")
    assert logged.steps == (
        LoggedStep("a", "ran", "error", 101.0, 1.0, 0.0, "expired"),
        LoggedStep("b", "hit", "ok", 102.5, 0.0, 7.0),
        LoggedStep("c", "asked", "", 104.0, 0.0, 0.0),
    )


def test_a_row_is_what_json_would_write() -> None:
    rows, key = Rows(str), 'k "1" \\ é\ud800\n'
    for step, site in enumerate(("a:1", None, "a:1", "a:1", "a:1")):
        rows.ask(StepAsked("r", step, key, HERE, 1795722955.25, site=site))
    rows.miss(StepMissed("r", 0, key, "new"))
    rows.end(StepFinished("r", 0, key, "ok", 1e-7, 0.1 + 0.2, size_bytes=5))
    rows.end(StepHit("r", 1, key, "error", 2.0, 1.0, 3.0, 5, drift="tidy() was edited", seen="{}"))
    rows.end(StepHit("r", 2, key, "ok", 2, 1, 3, 5, drift="refetch failed", stale=True))
    rows.miss(StepMissed("r", 3, key, "unreadable", "it is damaged"))
    rows.end(StepFinished("r", 3, key, "ok", 2.0, 1.0))
    assert rows.texts() == [
        json.dumps(row)
        for row in (
            [key, "ran", "ok", 1e-7, 0.1 + 0.2, 0.0, "new", None, "a:1", True],
            [key, "hit", "error", 2.0, 0.0, 3.0, None, "tidy() was edited", None, True, None, "{}"],
            [key, "hit", "ok", 2, 0.0, 3, None, None, "a:1", True, "refetch failed; the next run tries again"],
            [key, "ran", "ok", 2.0, 1.0, 0.0, "unreadable", None, "a:1", False, "it is damaged"],
            [key, "asked", "", 1795722955.25, 0.0, 0.0, None, None, "a:1", True],
        )
    ]


def test_the_newest_run_comes_first(cache: Path) -> None:
    for number in (2, 3, 1):
        log_run(cache, f"r{number}", 100.0 * number)
    assert [run.run for run in read_runs(cache)] == ["r3", "r2", "r1"]


def test_d3_what_a_hit_found_changed_is_logged_without_secrets_and_stands_until_the_next_use(cache: Path) -> None:
    recorder = Recorder(runs_directory(cache), lambda text: text.replace("hunter2", "…"))
    recorder(RunStarted("r1", 500.0, None, HERE, "normal", "cache"))
    recorder(StepAsked("r1", 0, "a", HERE, 500.0))
    recorder(StepHit("r1", 0, "a", "ok", 501.0, 100.0, 0.5, 10, drift="refetch failed: hunter2" + "x" * 5000))
    recorder(RunFinished("r1", 509.0, "ok", 9.0))
    [path] = runs_directory(cache).iterdir()
    assert "hunter2" not in path.read_text()
    drift = usage(cache)["a"].drift
    assert drift is not None
    assert (drift[:18], len(drift), usage(cache)["a"].drift_at) == ("refetch failed: …x", 1000, 501.0)
    log_run(cache, "r2", 600.0)
    assert usage(cache)["a"].drift is None


def test_usage_sums_up_by_key(cache: Path) -> None:
    log_run(cache, keys=("a", "b"))
    recorder = Recorder(runs_directory(cache))
    recorder(RunStarted("r2", 500.0, None, HERE, "normal", "cache"))
    for number in range(2):
        recorder(StepAsked("r2", number, "a", HERE, 500.0 + number))
        recorder(StepHit("r2", number, "a", "ok", 500.0 + number, 100.0, 0.5, 10))
    recorder(RunFinished("r2", 509.0, "ok", 9.0))
    here = frozenset({"churn.ipynb"})
    assert usage(cache) == {
        "a": Usage(2, 1.0, 501.0, "new", last_got="hit", notebooks=here),
        "b": Usage(0, 0.0, 101.5, "new", last_got="ran", notebooks=here),
    }


def test_a_run_without_keys_is_not_logged(cache: Path) -> None:
    log_run(cache, keys=())
    assert last_run(cache) is None


def test_nothing_is_logged_where_nothing_was_kept(tmp_path: Path) -> None:
    log_run(tmp_path / "gone")
    assert list(tmp_path.iterdir()) == []


def test_the_newest_two_hundred_are_kept(cache: Path) -> None:
    for number in range(KEPT_RUNS + 5):
        put_file(cache, f"{number:016d}-old.json", record())
    log_run(cache, at=1e9)
    names = sorted(os.listdir(runs_directory(cache)))
    assert len(names) == KEPT_RUNS == 200
    assert names[0] == f"{6:016d}-old.json"
    assert names[-1].endswith("-r1.json")


def test_findings_are_logged_redacted_and_bounded(cache: Path) -> None:
    recorder = Recorder(runs_directory(cache), redact=lambda text: text.replace("hunter2", "…"))
    recorder(RunStarted("r1", 100.0, None, HERE, "normal", "cache"))
    recorder(StepAsked("r1", 0, "a", HERE, 100.0))
    for number in range(150):
        recorder(Finding("r1", "a", "not-stored", f"{number}: hunter2 " + "x" * 5000))
    recorder(RunFinished("r1", 109.0, "ok", 9.0))
    (path,) = runs_directory(cache).iterdir()
    assert "hunter2" not in path.read_text()
    logged = last_run(cache)
    assert logged is not None
    assert (len(logged.findings), logged.findings[0].kind, logged.findings[0].text[:5]) == (100, "not-stored", "0: … ")
    assert max(len(finding.text) for finding in logged.findings) == 1000


def test_log_files_are_private(cache: Path) -> None:
    log_run(cache)
    (path,) = runs_directory(cache).iterdir()
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_losing_the_log_while_a_run_goes_on_costs_nothing(cache: Path) -> None:
    recorder = Recorder(runs_directory(cache))
    recorder(RunStarted("r1", 100.0, None, HERE, "normal", "cache"))
    recorder(StepAsked("r1", 0, "a", HERE, 100.0))
    (cache / "v1").rmdir()
    recorder(RunFinished("r1", 109.0, "ok", 9.0))
    assert list(cache.iterdir()) == []


def test_a_workflow_on_disk_logs_its_runs(tmp_path: Path) -> None:
    workflow = create_workflow(cache=tmp_path / ".nbstep", name="sales")
    for _ in range(2):
        workflow(lambda step: step(lambda: 1, key="a"))
    runs = list(read_runs(tmp_path / ".nbstep"))
    assert [(run.name, [(s.key, s.got, s.reason) for s in run.steps]) for run in runs] == [
        ("sales", [("a", "hit", None)]),
        ("sales", [("a", "ran", "new")]),
    ]
