"""Reading the run log: whatever stands in its files, it is dropped or read as it is meant, and never raises."""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from logged import HERE, log_run, put_file, record

from nbstep.commands.tables import Screen
from nbstep.commands.verbs import run_command
from nbstep.events import RunFinished, RunStarted, StepAsked, StepFinished
from nbstep.runlog import LoggedRun, LoggedStep, Recorder, last_run, read_runs, runs_directory, usage
from nbstep.stores import documents

NAME = "0000000200000000-bad.json"  # later than the run that `log_run` writes


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache directory with one run in its log."""
    (tmp_path / "v1").mkdir()
    log_run(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "content",
    [
        "", "{", record()[:40], "null", "[]", "42", '"text"', b"\xff\xfe\x00", record(steps="no"), record(steps=[["a"]]),
        record(steps=[1]), record(steps=None), record(at="soon"), record(at=None), record(at=[1]), "[" * 100_000,
        '{"run": "r", "at": 1}', record(steps=[["a", "hit", "ok", "x", 2, 3, None]]), record(steps={"a": 1}),
        record(findings=1), record(findings=[1]), record(findings=[["a"]]), record(findings={"a": 1}), record(run=7),
        record(steps=[[1, "hit", "ok", 1, 2, 3, None]]), record(steps=[["a", 1, "ok", 1, 2, 3, None]]),
        record(steps=[["a", "hit", 1, 1, 2, 3, None]]), record(at=True), record(root=[1]),
        *(record().replace("1.0", number) for number in ("NaN", "Infinity", "1e999", "-1", "1e300", "9" * 4000)),
        *(record().replace(" 3,", f" {number},") for number in ("NaN", "-Infinity", "1e308", "-2", "true")),
        '{"run":' * 2000, record(steps=[[["a"] * 9] * 9]), record() + record(), b"\x00" * 5000,
    ],
    ids=lambda content: repr(content)[:30],
)  # fmt: skip
def test_a_torn_or_hostile_file_is_passed_over(cache: Path, content: str | bytes) -> None:
    put_file(cache, NAME, content)
    assert [run.run for run in read_runs(cache)] == ["r1"]
    assert set(usage(cache)) == {"a"}


def test_of_a_run_that_is_left_out_the_file_is_not_even_opened(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_file(cache, NAME, record(run="r2"))
    left_out = next(path for path in runs_directory(cache).iterdir() if path.name.endswith("-r1.json"))
    opened, open_document = list[str](), documents.open_document

    def noted(path: str, is_over: Any) -> Any:
        opened.append(path)
        return open_document(path, is_over)

    monkeypatch.setattr(documents, "open_document", noted)
    assert [run.run for run in read_runs(cache, but="r1")] == ["r2"]
    assert opened
    assert str(left_out) not in opened


@pytest.mark.parametrize("drift", [[], [None], [""], [7], [["x"]], ["edited", "more"]])
def test_a_step_of_another_version_or_hand_is_read_as_far_as_it_goes(cache: Path, drift: list[Any]) -> None:
    put_file(cache, NAME, record(steps=[["a", "hit", "ok", 1, 2, 3, None, *drift]]))
    logged = last_run(cache)
    assert logged is not None
    assert logged.steps[0].drift == ("edited" if "edited" in drift else None)


def test_labels_that_are_no_text_and_words_without_end_are_left_out(cache: Path) -> None:
    steps = [["a", "hit", "ok", 4, 5, 6, "r" * 5000]]
    put_file(cache, NAME, record(name=[1], notebook={"a": 1}, steps=steps, findings=[["k" * 5000, "t" * 5000]] * 500))
    logged = last_run(cache)
    assert logged is not None
    assert (logged.name, logged.notebook) == (None, None)
    assert logged.steps == (LoggedStep("a", "hit", "ok", 4, 5, 6, "r" * 40),)
    assert len(logged.findings) == 100
    assert {(len(found.kind), len(found.text)) for found in logged.findings} == {(40, 1000)}


def _make_folder(path: Path) -> None:
    path.mkdir()


def _make_link(path: Path) -> None:
    (path.parent / "target").write_text(record(run="stranger"))
    path.symlink_to(path.parent / "target")


def _make_long(path: Path) -> None:
    path.write_text(record())
    os.truncate(path, (16 << 20) + 1)


@pytest.mark.parametrize("make", [_make_folder, _make_link, _make_long, os.mkfifo])
def test_what_is_no_file_of_a_run_neither_counts_nor_holds_up_nor_pushes_out(
    cache: Path, make: Callable[[Path], None]
) -> None:
    put_file(cache, ".hidden.json", record())
    put_file(cache, "notes.json", record())
    for number in range(300):
        make(runs_directory(cache) / f"{200_000_000 + number:016d}-x.json")
        (runs_directory(cache) / "target").unlink(missing_ok=True)
    began = time.monotonic()
    assert [run.run for run in read_runs(cache)] == ([] if make is _make_long else ["r1"])
    assert set(usage(cache)) == (set() if make is _make_long else {"a"})
    assert time.monotonic() - began < 30


def test_all_files_together_are_read_up_to_64_mb_the_newest_first(cache: Path) -> None:
    filler = " " * (15 << 20)
    for number in range(8):
        put_file(cache, f"{200_000_000 + number:016d}-x.json", record(run=f"x{number}") + filler)
    assert [run.run for run in read_runs(cache)] == ["x7", "x6", "x5", "x4"]


# Anything that JSON can say, and some that it should not.
_LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    | st.sampled_from([10**30, -(10**400), 1e308, math.nan, "\ud800", "\x1b[2J", "\u202e", "9" * 400, "hit", "ok"])
)  # fmt: skip
_ANYTHING = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(), inner), max_leaves=12
)
_PLACES: tuple[tuple[str | int, ...], ...] = (
    ("run",), ("root",), ("at",), ("name",), ("notebook",), ("steps",), ("findings",), ("steps", 0), ("findings", 0),
    *(("steps", 1, number) for number in range(8)), ("findings", 1, 0), ("findings", 1, 1),
)  # fmt: skip


def _spoilt(place: Sequence[str | int], value: Any) -> str:
    whole: Any = {
        "run": "x", "root": "x", "at": 150.0, "name": "n", "notebook": "b",
        "steps": [["a", "ran", "ok", 1.0, 2.0, 0.0, "new", None], ["b", "hit", "ok", 1.0, 0.0, 3.0, None, "edited"]],
        "findings": [["untrusted", "one"], ["not-stored", "two"]],
    }  # fmt: skip
    at = whole
    for part in place[:-1]:
        at = at[part]
    at[place[-1]] = value
    return json.dumps(whole)


def _check_text(*texts: str | None) -> None:
    assert all(text is None or type(text) is str for text in texts)


def _check_run(run: LoggedRun) -> None:
    _check_text(run.run, run.root, run.name, run.notebook)
    assert 0 <= run.at < 1e11
    for step in run.steps:
        _check_text(step.key, step.got, step.outcome, step.reason, step.drift)
        assert all(0 <= number < 1e11 for number in (step.at, step.took_s, step.saved_s))
    for found in run.findings:
        _check_text(found.kind, found.text)


def _check_log(content: str | bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        (cache / "v1").mkdir()
        log_run(cache)
        put_file(cache, NAME, content)
        runs = list(read_runs(cache))
        assert runs[-1].run == "r1"
        for run in runs:
            _check_run(run)
        last = last_run(cache)
        assert last is not None
        _check_run(last)
        assert set(usage(cache)) == {step.key for run in runs for step in run.steps}
        for use in usage(cache).values():
            assert math.isfinite(use.saved_s + use.last_used + use.drift_at)
        for command in ("doctor", "ls", "retry"):
            text = run_command(f"{command} --cache {cache}", screen=Screen()).text
            assert text.replace("\n", "").isprintable()


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(_PLACES), _ANYTHING)
@example(("at",), 32_503_679_999.9)
@example(("steps", 1, 6), "\ud800\x1b[2J" * 1000)
def test_whatever_stands_in_the_place_of_a_field_is_dropped_or_read(place: Sequence[str | int], value: Any) -> None:
    _check_log(_spoilt(place, value))


@settings(max_examples=100, deadline=None)
@given(st.binary() | _ANYTHING.map(json.dumps) | st.integers(0, len(record())).map(lambda end: record()[:end]))
def test_any_file_is_dropped_or_read(content: str | bytes) -> None:
    _check_log(content)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(codec=None), min_size=1), min_size=1, max_size=5, unique=True))
@example(["\ud800", "\x00", "a\nb", "\U0001f642", "x" * 4096])
def test_k6_any_key_survives(keys: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "v1").mkdir()
        log_run(Path(folder), keys=tuple(keys))
        logged = last_run(Path(folder))
        assert logged is not None
        assert [step.key for step in logged.steps] == keys
        assert set(usage(Path(folder))) == set(keys)


def test_a_run_that_would_be_too_long_to_be_read_is_logged_without_its_first_steps(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    recorder = Recorder(runs_directory(tmp_path))
    recorder(RunStarted("r1", 100.0, None, HERE, "normal", "cache"))
    for number in range(10_000):
        recorder(StepAsked("r1", number, f"{number}{'x' * 4000}", HERE, 100.0))
    recorder(RunFinished("r1", 109.0, "ok", 9.0))
    logged = last_run(tmp_path)
    assert logged is not None
    assert 1000 < len(logged.steps) < 4200
    assert logged.steps[-1].key.startswith("9999x")


def test_e3_of_a_run_too_long_for_its_file_the_failures_stay(tmp_path: Path) -> None:
    """`retry` without a key asks for them."""
    (tmp_path / "v1").mkdir()
    recorder = Recorder(runs_directory(tmp_path))
    recorder(RunStarted("r1", 100.0, None, HERE, "normal", "cache"))
    for number in range(10_000):
        key, error = f"{number}{'x' * 4000}", "ValueError: no" if number in (3, 5000) else None
        recorder(StepAsked("r1", number, key, HERE, 100.0))
        recorder(StepFinished("r1", number, key, "error" if error else "ok", 101.0, 1.0, 10, error))
    recorder(RunFinished("r1", 109.0, "ok", 9.0))
    logged = last_run(tmp_path)
    assert logged is not None
    assert [step.key.rstrip("x") for step in logged.steps if step.outcome == "error"] == ["3", "5000"]
    assert len(logged.steps) > 1000
    assert logged.steps[-1].key.startswith("9999x")
