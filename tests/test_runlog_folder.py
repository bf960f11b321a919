"""The folder of the run log: clocks that jump, many processes, and folders that others prepared (T7)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from logged import log_run, put_file, record

from nbstep.runlog import KEPT_RUNS, collect, last_run, read_runs, runs_directory, usage

FAR = 9_999_999_999_999_000  # microseconds since the epoch: the year 2286


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache directory to which something was kept before."""
    (tmp_path / "cache" / "v1").mkdir(parents=True)
    return tmp_path / "cache"


def _run_script(code: str, *words: str, command: tuple[str, ...] = ()) -> str:
    done = subprocess.run(
        [*command, sys.executable, "-c", textwrap.dedent(code), *words],
        capture_output=True, text=True, timeout=120, check=False, cwd=Path(__file__).parent,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_c5_runs_of_the_future_come_last_and_push_nothing_out(cache: Path) -> None:
    for number in range(KEPT_RUNS + 5):
        put_file(cache, f"{FAR + number}-evil.json", record(run="future"))
    log_run(cache, "ours", 1e9)
    names = sorted(os.listdir(runs_directory(cache)))
    assert (len(names), names[0][-9:]) == (KEPT_RUNS, "ours.json")
    assert [run.run for run in read_runs(cache)] == ["ours", *["future"] * (KEPT_RUNS - 1)]
    logged = last_run(cache)
    assert logged is not None
    assert logged.run == "ours"
    log_run(cache, "next", 1e9 + 60)
    assert [run.run for run in read_runs(cache)][:3] == ["next", "ours", "future"]


@pytest.mark.parametrize("at", [-5.0, 0.0, 1e17, float("inf")])
def test_c5_a_run_of_an_impossible_time_is_dropped_or_read_and_goes_with_the_old_ones(cache: Path, at: float) -> None:
    log_run(cache, "odd", at)
    log_run(cache, "ours", 1e9)
    assert next(read_runs(cache)).run == "ours"
    for number in range(KEPT_RUNS):
        log_run(cache, f"r{number}", 1e9 + 60 + number)
    assert len(os.listdir(runs_directory(cache))) == KEPT_RUNS


def test_thousands_of_files_go_a_thousand_at_a_time_so_that_no_step_waits_long(cache: Path) -> None:
    for number in range(1500):
        put_file(cache, f"{number:016d}-old.json", "{}")
    log_run(cache, "ours", 1e9)
    assert len(os.listdir(runs_directory(cache))) == 501
    assert collect(cache, 2e9, dry_run=True) == (301, 602)
    assert collect(cache, 2e9) == (301, 602)
    assert len(os.listdir(runs_directory(cache))) == KEPT_RUNS


def test_c3_where_the_log_cannot_stand_it_is_missing_and_nothing_else(tmp_path: Path) -> None:
    for name in ("v1", "v1/runs", "v1/tmp"):
        cache = tmp_path / name.replace("/", "-")
        (cache / name).parent.mkdir(parents=True)
        (cache / name).write_text("a file")
        log_run(cache)
        assert (list(read_runs(cache)), dict(usage(cache)), last_run(cache), collect(cache, 0)) == (
            [],
            {},
            None,
            (0, 0),
        )
        assert (cache / name).read_text() == "a file"


@pytest.mark.parametrize("level", ["v1/runs", "v1/tmp", "v1"])
def test_t7_a_link_in_the_way_of_the_log_is_not_followed(tmp_path: Path, level: str) -> None:
    cache, outside = tmp_path / "cache", tmp_path / "outside"
    (outside / "runs").mkdir(parents=True)
    for number in range(KEPT_RUNS + 5):
        (outside / "runs" / f"{number:016d}-mine.json").write_text(record(run="stranger"))
    (cache / level).parent.mkdir(parents=True)
    (cache / level).symlink_to(outside if level == "v1" else outside / "runs")
    log_run(cache)
    assert collect(cache, 1e12) == (0, 0)
    assert len(list((outside / "runs").iterdir())) == KEPT_RUNS + 5
    assert list(read_runs(cache)) == []
    assert dict(usage(cache)) == {}


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_t7_what_stands_in_the_place_of_a_runs_file_is_replaced_itself_or_left(
    cache: Path, tmp_path: Path, kind: str
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    path = put_file(cache, f"{100_000_000:016d}-r1.json", "")
    path.unlink()
    {"link": lambda: path.symlink_to(victim), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}[kind]()
    log_run(cache)
    assert victim.read_text() == "mine"
    assert [run.run for run in read_runs(cache)] == ([] if kind == "folder" else ["r1"])
    assert list((cache / "v1" / "tmp").iterdir()) == []


def test_t7_only_names_that_a_run_gave_are_removed(cache: Path) -> None:
    for number in range(KEPT_RUNS + 5):
        put_file(cache, f"notes {number:04d}.json", "mine")
        (runs_directory(cache) / f"{number:016d}-folder.json").mkdir()
    log_run(cache)
    assert len(os.listdir(runs_directory(cache))) == 2 * (KEPT_RUNS + 5) + 1
    assert collect(cache, 1e12) == (0, 0)


def test_c3_a_folder_that_is_not_writable_or_somebody_elses_is_read_and_never_raises(cache: Path) -> None:
    log_run(cache)
    command: tuple[str, ...] = ()
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root needs setpriv to be refused anything")
        command = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
        os.chown(runs_directory(cache), 54321, 54321)
        os.chmod(runs_directory(cache), 0o755)
        os.chmod(next(runs_directory(cache).iterdir()), 0o644)
    else:
        os.chmod(runs_directory(cache), 0o500)
    code = """
        import sys, time
        from pathlib import Path
        from logged import log_run
        from nbstep.runlog import collect, read_runs, usage
        cache = Path(sys.argv[1])
        log_run(cache, "r2", 200.0)
        print([run.run for run in read_runs(cache)], list(usage(cache)), collect(cache, time.time()))
    """
    try:
        assert _run_script(code, str(cache), command=command) == "['r1'] ['a'] (0, 0)\n"
    finally:
        os.chmod(runs_directory(cache), 0o700)
    assert list((cache / "v1" / "tmp").iterdir()) == []


def test_many_processes_write_and_read_at_once(cache: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from logged import log_run
        from nbstep.runlog import last_run, read_runs, usage
        cache, name = Path(sys.argv[1]), sys.argv[2]
        for number in range(150):
            log_run(cache, f"{name}-{number}", 1e9 + number, tuple(f"k{n}" for n in range(20)))
            if number % 10 == 0:
                assert all(len(run.steps) == 20 for run in read_runs(cache))
                assert len(usage(cache)) == 20 and last_run(cache) is not None
        print("done")
    """
    scripts = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(cache), name],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=Path(__file__).parent,
        )
        for name in ("one", "two", "three")
    ]  # fmt: skip
    assert [script.communicate(timeout=120)[0] for script in scripts] == ["done\n"] * 3
    runs = list(read_runs(cache))
    assert len(runs) == KEPT_RUNS
    assert min(run.at for run in runs) > 1e9 + 80
    assert list((cache / "v1" / "tmp").iterdir()) == []


def test_what_was_summed_up_before_is_summed_up_anew_where_a_file_changed(cache: Path) -> None:
    for number in range(60):
        log_run(cache, f"r{number}", 1e9 + number, ("a", f"k{number}"))
    first = usage(cache)
    assert usage(cache) is first
    log_run(cache, "r61", 2e9 - 5e8, ("a", "b"))
    assert usage(cache)["a"].last_used == 1.5e9 + 0.5
    path = next(path for path in runs_directory(cache).iterdir() if path.name.endswith("-r7.json"))
    path.unlink()
    assert "k7" not in usage(cache)
    path.write_text(record(steps=[["a", "hit", "ok", 5, 0, 2.5, None], ["seven", "hit", "ok", 5, 0, 1, None]]))
    assert (usage(cache)["a"].hits, usage(cache)["a"].saved_s, usage(cache)["seven"].hits) == (1, 2.5, 1)
    assert usage(cache)["a"].last_reason == "new"
