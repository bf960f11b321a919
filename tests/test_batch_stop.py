"""What waits on the threads of a map that was interrupted begins nothing any more (C4)."""

from __future__ import annotations

import _thread
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbstep import Cache, create_workflow
from nbstep.events import StepFinished, StepStarted, StepWaiting
from nbstep.testing import RecordingListener

_OTHER = """
import sys, time
from nbstep import create_workflow

def work(n):
    sys.stdout.write("begun\\n")
    sys.stdout.flush()
    time.sleep(60)

create_workflow(cache=sys.argv[1])(lambda step: step.map(work, range(4), key="n:{}", n_jobs=4))
"""


def _interrupted(ask: Callable[[Any], Any], when: Callable[[], bool], cache: Any, told: RecordingListener) -> None:
    """Takes steps, and interrupts that as soon as something is so."""

    def interrupt() -> None:
        ends = time.monotonic() + 20
        while not when() and time.monotonic() < ends:
            time.sleep(0.005)
        _thread.interrupt_main()

    watch = threading.Thread(target=interrupt)
    watch.start()
    with pytest.raises(KeyboardInterrupt):
        create_workflow(cache=cache, on_event=told)(ask)
    watch.join()


def _until(is_so: Callable[[], bool]) -> bool:
    ends = time.monotonic() + 20
    while not is_so() and time.monotonic() < ends:
        time.sleep(0.01)
    return is_so()


def _stopped(told: RecordingListener) -> list[str | None]:
    return sorted(str(one.key) for one in told.of(StepFinished) if one.interrupted)


def test_c4_items_that_wait_for_another_kernel_are_not_begun_after_an_interrupt(tmp_path: Path) -> None:
    folder, told, ran = tmp_path / ".nbstep", RecordingListener(), list[int]()
    command = [sys.executable, "-c", _OTHER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert [other.stdout.readline() for _ in range(4)] == ["begun\n"] * 4
            _interrupted(
                lambda step: step.map(ran.append, range(4), key="n:{}", n_jobs=4),
                lambda: len(told.of(StepWaiting)) >= 4, Cache(folder), told,
            )  # fmt: skip
            assert _until(lambda: len(_stopped(told)) == 4), told.of(StepFinished)
        finally:
            other.kill()
    assert create_workflow(cache=folder)(lambda step: step(lambda: "free", key="n:0")).unwrap() == "free"
    time.sleep(0.6)  # so long after each of them looks again
    assert (ran, told.of(StepStarted)) == ([], [])


def test_c4_items_that_wait_for_another_thread_are_not_begun_after_an_interrupt() -> None:
    cache: dict[str, Any] = {}
    told, ran, go, begun = RecordingListener(), list[int](), threading.Event(), threading.Event()

    def fail() -> None:
        begun.set()
        go.wait(20)
        raise ConnectionError("no")  # is not kept

    def other() -> None:
        create_workflow(cache=cache, cache_errors=False)(lambda step: step(fail, key="n:1"))

    thread = threading.Thread(target=other)
    thread.start()
    assert begun.wait(20)
    _interrupted(
        lambda step: step.map(ran.append, [1, 1, 1], key="n:{}", n_jobs=3, refresh=True),
        lambda: len(told.of(StepWaiting)) >= 1, cache, told,
    )  # fmt: skip
    assert _until(lambda: _stopped(told) == ["n:1"]), told.of(StepFinished)
    go.set()
    thread.join()
    time.sleep(0.6)
    assert (ran, told.of(StepStarted)) == ([], [])


@pytest.mark.parametrize("options", [{}, {"rate": "100/s"}])
def test_c4_there_is_no_further_attempt_after_an_interrupt(options: dict[str, Any]) -> None:
    told, tried = RecordingListener(), list[float]()

    def fetch(n: int) -> int:
        tried.append(time.monotonic())
        raise ConnectionError(n)

    _interrupted(
        lambda step: step.map(fetch, range(3), key="n:{}", n_jobs=3, retries=8, **options),
        lambda: len(tried) >= 6, {}, told,
    )  # fmt: skip
    ended = time.monotonic()
    assert _until(lambda: _stopped(told) == ["n:0", "n:1", "n:2"]), told.of(StepFinished)
    time.sleep(2.0)  # an attempt would follow within 0.2 to 1.6 s
    assert [at for at in tried if at > ended + 0.05] == []


def test_c4_what_was_begun_as_a_map_failed_is_kept() -> None:
    """An error of the items' own is no interrupt: attempts go on, and what they give is kept."""
    cache, failed = dict[str, Any](), list[int]()

    def items() -> Iterator[int]:
        yield from (0, 1)
        assert _until(lambda: len(failed) >= 2)
        raise ValueError("no more")

    def fetch(n: int) -> int:
        if failed.count(n) == 0:
            failed.append(n)
            raise ConnectionError(n)
        return n

    with pytest.raises(ValueError, match="no more"):
        create_workflow(cache=cache)(lambda step: step.map(fetch, items(), key="n:{}", n_jobs=4, retries=4))
    assert _until(lambda: {"n:0", "n:1"} <= set(Cache(cache).keys()))


def test_c4_what_is_still_looked_up_is_not_begun_after_an_interrupt() -> None:
    class Slow(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            asked.append(key)
            time.sleep(0.5)
            return super().get(key, default)

    told, asked, ran = RecordingListener(), list[str](), list[int]()
    _interrupted(
        lambda step: step.map(ran.append, range(8), key="n:{}", n_jobs=4), lambda: bool(asked), Slow(), told
    )  # fmt: skip
    began = len(ran)
    time.sleep(1.5)
    assert (began, len(ran), told.of(StepStarted)) == (0, 0, [])
