"""The run log: what it says, and that nothing in its directory can hurt."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nbstep import Cache, create_workflow
from nbstep.events import Finding, Place, RunFinished, RunStarted, StepAsked, StepFinished, StepHit, StepMissed
from nbstep.runlog import KEPT_RUNS, LoggedStep, Recorder, Usage, collect, last_run, read_runs, runs_directory, usage

HERE = Place("churn.ipynb", 3, 1)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache directory to which something was kept before."""
    (tmp_path / "v1").mkdir()
    return tmp_path


def _log(cache: Path, run: str = "r1", at: float = 100.0, keys: tuple[str, ...] = ("a",)) -> None:
    recorder = Recorder(runs_directory(cache))
    recorder(RunStarted(run, at, "sales", HERE, "normal", "cache"))
    for number, key in enumerate(keys):
        recorder(StepAsked(run, number, key, HERE, at + number))
        recorder(StepMissed(run, number, key, "new"))
        recorder(StepFinished(run, number, key, "ok", at + number + 0.5, 0.5, 10))
    recorder(RunFinished(run, at + 9, "ok", 9.0))


def _steps(cache: Path) -> list[tuple[str, str, str]]:
    logged = last_run(cache)
    assert logged is not None
    return [(step.key, step.got, step.outcome) for step in logged.steps]


def _write(cache: Path, name: str, content: str | bytes) -> None:
    folder = runs_directory(cache)
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def _record(**changes: Any) -> str:
    return json.dumps(
        {"run": "r", "at": 1.0, "name": None, "notebook": None, "steps": [["a", "hit", "ok", 1, 2, 3, None]]} | changes
    )


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


def test_n8_what_ends_after_its_run_is_logged_at_the_end_of_the_process(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.set("a", 1)
    script = f"""
from pathlib import Path
from nbstep.events import Place, RunFinished, RunStarted, StepAsked, StepFinished
from nbstep.runlog import Recorder, runs_directory

here = Place("etl.py", None, 1)
recorder = Recorder(runs_directory(Path({str(cache.directory)!r})))
recorder(RunStarted("r1", 100.0, "long", here, "normal", "cache"))
for number in range(20_000):  # writing that many takes long, so the next writing is put off
    recorder(StepAsked("r1", number, f"k{{number}}", here, 101.0))
recorder(RunFinished("r1", 102.0, "ok", 2.0))
recorder(StepFinished("r1", 0, "k0", "ok", 103.0, 1.0, 10))
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert _steps(cache.directory)[0] == ("k0", "ran", "ok")


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


def test_the_newest_run_comes_first(cache: Path) -> None:
    for number in (2, 3, 1):
        _log(cache, f"r{number}", 100.0 * number)
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
    _log(cache, "r2", 600.0)
    assert usage(cache)["a"].drift is None


@pytest.mark.parametrize("drift", [[], [None], [""], [7], [["x"]], ["edited", "more"]])
def test_a_step_of_another_version_or_hand_is_read_as_far_as_it_goes(cache: Path, drift: list[Any]) -> None:
    _write(cache, "a.json", _record(steps=[["a", "hit", "ok", 1, 2, 3, None, *drift]]))
    logged = last_run(cache)
    assert logged is not None
    assert logged.steps[0].drift == ("edited" if "edited" in drift else None)


def test_usage_sums_up_by_key(cache: Path) -> None:
    _log(cache, keys=("a", "b"))
    recorder = Recorder(runs_directory(cache))
    recorder(RunStarted("r2", 500.0, None, HERE, "normal", "cache"))
    for number in range(2):
        recorder(StepAsked("r2", number, "a", HERE, 500.0 + number))
        recorder(StepHit("r2", number, "a", "ok", 500.0 + number, 100.0, 0.5, 10))
    recorder(RunFinished("r2", 509.0, "ok", 9.0))
    assert usage(cache) == {"a": Usage(2, 1.0, 501.0, "new"), "b": Usage(0, 0.0, 101.5, "new")}


def test_a_run_without_keys_is_not_logged(cache: Path) -> None:
    _log(cache, keys=())
    assert last_run(cache) is None


def test_nothing_is_logged_where_nothing_was_kept(tmp_path: Path) -> None:
    _log(tmp_path / "gone")
    assert list(tmp_path.iterdir()) == []


def test_the_newest_two_hundred_are_kept(cache: Path) -> None:
    for number in range(KEPT_RUNS + 5):
        _write(cache, f"{number:016d}-old.json", _record())
    _log(cache, at=1e9)
    names = sorted(os.listdir(runs_directory(cache)))
    assert len(names) == KEPT_RUNS == 200
    assert names[0] == f"{6:016d}-old.json"
    assert names[-1].endswith("-r1.json")


@pytest.mark.parametrize(
    "content",
    [
        "", "{", _record()[:40], "null", "[]", "42", '"text"', b"\xff\xfe\x00", _record(steps="no"), _record(steps=[["a"]]),
        _record(steps=[1]), _record(steps=None), _record(at="soon"), _record(at=None), _record(at=[1]), "[" * 100_000,
        '{"run": "r", "at": 1}', _record(steps=[["a", "hit", "ok", "x", 2, 3, None]]), _record(steps={"a": 1}),
        _record(findings=1), _record(findings=[1]), _record(findings=[["a"]]), _record(findings={"a": 1}),
    ],
    ids=lambda content: repr(content)[:30],
)  # fmt: skip
def test_a_torn_or_hostile_file_is_passed_over(cache: Path, content: str | bytes) -> None:
    _log(cache)
    _write(cache, "9999999999999999-bad.json", content)
    assert [run.run for run in read_runs(cache)] == ["r1"]
    assert set(usage(cache)) == {"a"}


def test_a_file_of_another_kind_is_passed_over(cache: Path, tmp_path: Path) -> None:
    _log(cache)
    folder = runs_directory(cache)
    (folder / "9999999999999999-dir.json").mkdir()
    (folder / ".hidden.json").write_text(_record())
    (folder / "notes.txt").write_text("mine")
    os.mkfifo(folder / "9999999999999998-pipe.json")
    assert [run.run for run in read_runs(cache)] == ["r1"]


def test_a_symlink_is_not_followed(cache: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.json"
    target.write_text(_record(run="stranger"))
    _log(cache)
    (runs_directory(cache) / "9999999999999999-link.json").symlink_to(target)
    assert [run.run for run in read_runs(cache)] == ["r1"]


@pytest.mark.parametrize("level", ["runs", "v1"])
def test_t7_a_symlink_in_the_way_of_the_log_is_not_followed(tmp_path: Path, level: str) -> None:
    cache, outside = tmp_path / "cache", tmp_path / "outside"
    (outside / "runs").mkdir(parents=True)
    for number in range(KEPT_RUNS + 5):
        (outside / "runs" / f"{number:016d}-mine.json").write_text(_record())
    cache.mkdir()
    if level == "runs":
        (cache / "v1").mkdir()
        (cache / "v1" / "runs").symlink_to(outside / "runs")
    else:
        (cache / "v1").symlink_to(outside)
    _log(cache)
    assert collect(cache, 1e12) == (0, 0)
    assert len(list((outside / "runs").iterdir())) == KEPT_RUNS + 5


def test_t7_only_names_that_a_run_gave_are_removed(cache: Path) -> None:
    for number in range(KEPT_RUNS + 5):
        _write(cache, f"notes {number:04d}.json", "mine")
    _log(cache)
    assert len(os.listdir(runs_directory(cache))) == KEPT_RUNS + 6
    assert collect(cache, 1e12) == (0, 0)


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


def test_text_of_the_log_is_text_whatever_stood_there(cache: Path) -> None:
    _write(cache, "1-x.json", _record(run=7, name=[1], notebook={"a": 1}, steps=[[1, 2, 3, 4, 5, 6, 7]]))
    logged = last_run(cache)
    assert logged is not None
    assert (logged.run, logged.name, logged.notebook) == ("7", None, None)
    assert logged.steps == (LoggedStep("1", "2", "3", 4.0, 5.0, 6.0, None),)


def test_numbers_that_are_none_are_passed_over(cache: Path) -> None:
    _write(cache, "1-x.json", '{"run": "r", "at": NaN, "steps": [["a", "hit", "ok", Infinity, 1e999, NaN, null]]}')
    assert last_run(cache) is None


def test_any_key_survives(cache: Path) -> None:
    keys = ("ключ", "\x00", "a\nb", "\U0001f642", "\ud800"[:0] + "x" * 4096)
    _log(cache, keys=keys)
    logged = last_run(cache)
    assert logged is not None
    assert tuple(step.key for step in logged.steps) == keys


def test_log_files_are_private(cache: Path) -> None:
    _log(cache)
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
