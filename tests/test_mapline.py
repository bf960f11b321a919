"""A plain program in a terminal says how far its `step.map` is (N3)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from nbstep.batch.mapline import Tally
from nbstep.events import Place, StepAsked, StepFinished, StepHit, StepsAhead, StepStarted

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")

CLEAR = "\r\x1b[K"
PROGRAM = """
    import asyncio, logging, sys, time
    from nbstep import create_workflow, step

    def fetch(n):
        time.sleep(0.05)
        if n == 5:
            raise ValueError("no")
        return n

    async def fetch_async(n):
        await asyncio.sleep(0.05)
        return n

    def inner(n):
        return sum(step.map(fetch, range(10, 13), key=f"inner:{n}:{{}}", n_jobs=1))

    async def main():
        await step.map(fetch_async, range(40), key="async:{}", n_jobs=2)

    if sys.argv[1] == "async":
        asyncio.run(main())
    elif sys.argv[1] == "stream":
        step.map(fetch, (n for n in range(6, 40)), key="n:{}", n_jobs=2)
    elif sys.argv[1] == "workflow":
        create_workflow(name="etl")(lambda step: step.map(fetch, range(6, 30), key="n:{}", n_jobs=2)).unwrap()
    elif sys.argv[1] == "logging":
        logging.basicConfig(level=logging.WARNING)
        step.map(lambda n: logging.warning("item %d", n) or time.sleep(0.1), range(12), key="n:{}", n_jobs=1)
    elif sys.argv[1] == "no threads":
        import threading
        start = threading.Thread.start
        def refuse(thread):
            if thread.name == "nbstep map":
                raise RuntimeError("can't start new thread")
            start(thread)
        threading.Thread.start = refuse
        step.map(fetch, range(6, 16), key="n:{}", n_jobs=1)
    elif sys.argv[1] == "shared":
        step.map(fetch, [n // 10 + 20 for n in range(100)], key="n:{}", n_jobs=2)
    elif sys.argv[1] == "inside":
        step.map(inner, range(6), key="n:{}", n_jobs=1)
    else:
        step.map(fetch, range(int(sys.argv[1])), key="n:{}", n_jobs=2, on_error=sys.argv[2])
    print("after")
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (tmp_path / "etl.py").write_text(textwrap.dedent(PROGRAM), encoding="utf-8")
    return tmp_path / "etl.py"


def environ(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    return {**kept, "TERM": "xterm", "NBSTEP_DIR": str(folder / "cache"), "PYTHONUTF8": "1"}


def shown(program: Path, *given: str, columns: int = 100) -> tuple[list[str], str]:
    """The lines that a terminal shows one after the other in one place, and what is left in the end."""
    import pexpect

    shell = pexpect.spawn(
        sys.executable, [program.name, *given], cwd=str(program.parent), env=environ(program.parent), encoding="utf-8",
        timeout=60, dimensions=(40, columns),
    )  # fmt: skip
    text = shell.read().replace("\r\n", "\n")
    shell.close()
    lines = [part.partition("\n")[0] for part in text.split(CLEAR)[1:]]
    return lines, re.sub(r"[^\n]*\r\x1b\[K", "", text)


def test_n3_a_map_of_a_program_has_a_line_and_leaves_what_became_of_it(program: Path) -> None:
    lines, left = shown(program, "30", "keep")
    assert re.fullmatch(r"etl\.py, line \d+: \d+ of 30(, \d+ a second)? · 1 failed", lines[-2]), lines
    assert re.fullmatch(r"etl\.py, line \d+: 30 steps in [\d.]+ s: 29 ran, 1 failed\nafter\n", left)
    lines, left = shown(program, "60", "keep")
    assert any(re.search(r"\d+ of 60.* · 29 cached, 1 failed", line) for line in lines), lines
    assert re.search(r": 60 steps in [\d.]+ s: 30 ran, 29 cached, 1 failed\n", left)


def test_n3_items_that_share_a_key_count_each(program: Path) -> None:
    assert re.search(r": 100 steps in [\d.]+ s: 10 ran, 90 cached\n", shown(program, "shared")[1])


def test_n3_an_error_ends_the_line_before_its_traceback(program: Path) -> None:
    shown(program, "5", "raise")
    _, left = shown(program, "40", "raise")
    assert re.search(r"^etl\.py, line \d+: 40 steps in [\d.]+ s: 34 ran, 5 cached, 1 failed\nTraceback", left)


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("async", r"line \d+: \d+ of 40(, \d+ a second)?"),
        ("stream", r"line \d+: \d+ done(, \d+ a second)?"),
        ("workflow", r"line \d+: \d+ of 24(, \d+ a second)?"),
        ("inside", r"line \d+: \d+ of \d+(, \d+ a second)?"),
    ],
)
def test_n3_so_has_one_of_tasks_of_a_stream_in_a_workflow_and_in_another(program: Path, what: str, line: str) -> None:
    lines, left = shown(program, what)
    assert re.fullmatch(rf"etl\.py, {line}", lines[-2]), lines
    assert left.endswith("ran\nafter\n")
    assert left.count("etl.py") == 1


def test_n3_the_line_fits_a_narrow_terminal(program: Path) -> None:
    lines, _ = shown(program, "30", "keep", columns=30)
    assert max(map(len, lines[:-1])) < 30


def test_n3_what_the_items_log_stands_on_lines_of_its_own(program: Path) -> None:
    lines, left = shown(program, "logging")
    assert any(" of 12" in line for line in lines)
    said = [f"WARNING:root:item {n}" for n in range(12)]
    assert [line for line in left.splitlines() if not line.startswith("etl.py")] == [*said, "after"]


def test_n3_without_another_thread_there_is_no_line(program: Path) -> None:
    assert shown(program, "no threads") == ([], "after\n")


def test_n3_a_quick_map_and_one_that_writes_to_a_file_say_nothing(program: Path) -> None:
    assert shown(program, "2", "keep") == ([], "after\n")
    done = subprocess.run(
        [sys.executable, program.name, "30", "keep"], cwd=program.parent, env=environ(program.parent), capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("after\n", "")


def test_it_counts_the_items_alone_and_computes_the_rate_without_hits() -> None:
    now = [0.0]
    tally = Tally(10, lambda: now[0])
    for step in range(6):
        tally(StepAsked("r", step, f"n:{step}", Place(), 0.0, map=None if step == 5 else 1))
    tally(StepHit("r", 0, "n:0", "ok", 0.0, 0.0, 1.0, 10))
    tally(StepHit("r", 1, "n:1", "error", 0.0, 0.0, 1.0, 10))
    for step in (2, 3, 4, 5):
        tally(StepStarted("r", step, f"n:{step}", 0.0))
    now[0] = 1.5
    tally(StepFinished("r", 2, "n:2", "ok", 1.5, 1.5))
    tally(StepFinished("r", 3, "n:3", "ok", 1.5, 1.5))
    tally(StepFinished("r", 4, "n:4", "error", 1.5, 1.5))
    tally(StepFinished("r", 5, "n:5", "ok", 1.5, 1.5))
    found = tally.progress()
    assert (found.total, found.cached, found.ran, found.failed, found.done) == (10, 1, 2, 2, 5)
    assert found.rate == 2.0
    assert found.left_s == 2.5  # what was there came before the first that began
    tally(StepAsked("r", 6, "n:6", Place(), 0.0, map=1))
    tally(StepHit("r", 6, "n:6", "ok", 0.0, 0.0, 1.0, 10))
    assert tally.progress().left_s == 1.5  # three of four since then were computed, so three of the other four
    tally(StepsAhead("r", 2, 5))
    assert tally.progress().total == 15


def test_what_the_user_stopped_did_not_fail_and_is_not_done() -> None:
    tally = Tally(10, lambda: 0.0)
    for step in range(2):
        tally(StepAsked("r", step, f"n:{step}", Place(), 0.0, map=1))
        tally(StepStarted("r", step, f"n:{step}", 0.0))
    tally(StepFinished("r", 0, "n:0", "ok", 1.5, 1.5))
    tally(StepFinished("r", 1, "n:1", "error", 1.5, 0.0, error="KeyboardInterrupt", interrupted=True))
    found = tally.progress()
    assert (found.ran, found.failed, found.done, tally.interrupted) == (1, 0, 1, 1)


def test_c3_what_could_not_be_kept_is_counted() -> None:
    tally = Tally(10, lambda: 0.0)
    for step, why in enumerate(["", "the server is away"]):
        tally(StepAsked("r", step, f"n:{step}", Place(), 0.0, map=1))
        tally(StepStarted("r", step, f"n:{step}", 0.0))
        tally(StepFinished("r", step, f"n:{step}", "ok", 1.5, 1.5, not_kept=why))
    assert (tally.progress().ran, tally.unkept) == (2, 1)
