"""What is done in a thread for who awaits: its context, its end, and who does not wait for it."""

from __future__ import annotations

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from nbstep.stores.aside import aside

SOON_S = 60.0  # what must not hang, on a loaded machine


class Work:
    """Work that says when it began, and ends when it is let."""

    def __init__(self) -> None:
        self.began, self.let, self.ended = threading.Event(), threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.began.set()
        assert self.let.wait(SOON_S)
        self.ended.set()
        return "done"

    async def has_begun(self) -> None:
        while not self.began.is_set():
            await asyncio.sleep(0.005)


def _threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("nbstep-aside")]


def test_the_loop_goes_on_and_the_work_sees_the_callers_context() -> None:
    who = contextvars.ContextVar("who", default="nobody")

    async def body() -> list[Any]:
        who.set("Ada")
        loops_thread, work = threading.get_ident(), Work()
        waiting = asyncio.create_task(aside(work))
        await work.has_begun()
        work.let.set()
        return [await waiting, await aside(who.get), await aside(threading.get_ident) != loops_thread]

    assert asyncio.run(body()) == ["done", "Ada", True]


def test_what_the_work_raises_reaches_the_caller() -> None:
    def fail() -> None:
        raise LookupError("not there")

    with pytest.raises(LookupError, match="not there"):
        asyncio.run(aside(fail))


def test_without_a_loop_the_work_is_done_by_who_drives() -> None:
    with pytest.raises(StopIteration) as stopped:
        aside(threading.get_ident).send(None)
    assert stopped.value.value == threading.get_ident()


@pytest.mark.parametrize("text", ["can't start new thread", "cannot schedule new futures after interpreter shutdown"])
def test_where_no_thread_can_be_had_the_caller_does_the_work(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)
    assert asyncio.run(aside(threading.get_ident)) == threading.get_ident()


def test_a_cancelled_caller_goes_on_at_once_and_what_did_not_begin_is_left() -> None:
    async def body() -> None:
        holding = [Work() for _ in range(32)]
        held = [asyncio.create_task(aside(work)) for work in holding]
        for work in holding:
            await work.has_begun()
        queued, kept = Work(), Work()
        left = asyncio.create_task(aside(queued))
        last = asyncio.create_task(aside(kept, to_end=True))
        await asyncio.sleep(0.05)
        assert not queued.began.is_set(), "32 at once"
        for task in (*held, left):
            task.cancel()
        ended = await asyncio.gather(*held, left, return_exceptions=True)
        assert {type(one) for one in ended} == {asyncio.CancelledError}
        assert not any(work.ended.is_set() for work in holding)
        last.cancel()
        await asyncio.sleep(0.05)
        for work in (*holding, kept):
            work.let.set()
        with pytest.raises(asyncio.CancelledError):
            await last
        assert kept.ended.wait(SOON_S), "it is done, though nobody waits"
        assert not queued.began.is_set()

    asyncio.run(body())


def test_work_to_its_end_is_waited_for_a_moment_or_until_the_caller_is_cancelled_again() -> None:
    async def body() -> list[float]:
        took: list[float] = []
        for cancels in (1, 2):
            work = Work()
            task = asyncio.create_task(aside(work, to_end=True))
            await work.has_begun()
            began = time.monotonic()
            for _ in range(cancels):
                task.cancel()
                await asyncio.sleep(0.01)
            assert task.done() is (cancels == 2)
            with pytest.raises(asyncio.CancelledError):
                await task
            took.append(time.monotonic() - began)
            work.let.set()
            assert work.ended.wait(SOON_S)
        return took

    once, twice = asyncio.run(body())
    assert 0.5 < once < SOON_S
    assert twice < once


def test_a_loop_that_is_closed_meanwhile_hears_nothing(caplog: pytest.LogCaptureFixture) -> None:
    work = Work()
    loop = asyncio.new_event_loop()
    task = loop.create_task(aside(work))
    loop.run_until_complete(work.has_begun())
    loop.close()
    work.let.set()
    assert work.ended.wait(SOON_S)
    assert asyncio.run(aside(lambda: "another")) == "another"
    assert not task.done()
    assert caplog.records == []
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_threads_are_few_and_serve_every_loop() -> None:
    def many() -> None:
        async def body() -> None:
            await asyncio.gather(*[aside(lambda: time.sleep(0.002)) for _ in range(100)])

        asyncio.run(body())

    loops = [threading.Thread(target=many) for _ in range(4)]
    for one in loops:
        one.start()
    for one in loops:
        one.join(SOON_S)
    many()
    assert 0 < len(_threads()) <= 32


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_threads_of_its_own() -> None:
    code = """
import asyncio, os, sys, threading, warnings
warnings.simplefilter("ignore")
from nbstep.stores.aside import aside
assert asyncio.run(aside(lambda: 1)) == 1
pid = os.fork()
if pid == 0:
    sys.exit(asyncio.run(aside(lambda: 7)))
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SOON_S, check=False)
    assert (done.stdout, done.stderr) == ("7\n", "")


def test_a_program_ends_after_what_is_to_be_done_to_its_end() -> None:
    code = """
import asyncio, threading, time
from nbstep.stores.aside import aside
began = threading.Event()
def work():
    began.set()
    time.sleep(1.5)
    print("kept")
async def body():
    task = asyncio.create_task(aside(work, to_end=True))
    while not began.is_set():
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
asyncio.run(body())
print("over")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SOON_S, check=False)
    assert (done.stdout, done.stderr) == ("over\nkept\n", "")
