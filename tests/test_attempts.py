"""Calling a thunk again: `retries=` and `timeout=` (E2, E5). Pauses between attempts begin with 0.1 to 0.2 s."""

from __future__ import annotations

import asyncio
import io
import re
import urllib.error
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from shells import open_shell

from nbstep import Ok, StepTimeout, create_workflow
from nbstep.errors import StepFailed
from nbstep.events import StepFinished, StepStarted
from nbstep.steps import attempts
from nbstep.steps.attempts import may_pass
from nbstep.testing import RecordingListener


class Flaky:
    """Fails so many times, then gives "value"; a plain function's stand-in that counts."""

    def __init__(self, failures: int, error: BaseException) -> None:
        self.left, self.error, self.calls = failures, error, 0

    def fetch(self) -> str:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error
        return "value"

    async def fetch_async(self) -> str:
        return self.fetch()

    def fetch_later(self) -> Any:
        return self.fetch_async()


def test_n3_a_list_says_of_a_step_which_attempts_failed(tmp_path: Path) -> None:
    with open_shell(tmp_path) as shell:
        shell.ip.user_ns["flaky"] = Flaky(2, ConnectionError("no route to ?token=hunter2"))
        text = shell.good("%%workflow\nstep(flaky.fetch, key='k', retries=3)").text
        assert re.search(r"✓ k  ran +after 2 failed attempts ", text), text
        assert "failed attempt" not in shell.good("%%workflow\nstep(flaky.fetch, key='k', retries=3)").text
    told = RecordingListener()
    workflow = create_workflow(cache={}, on_event=told)
    assert not workflow(lambda step: step(Flaky(9, ConnectionError("?token=hunter2")).fetch, key="k", retries=1)).ok
    assert workflow(lambda step: step(Flaky(0, ValueError()).fetch, key="fine", retries=1)).ok
    (error,), none = (event.tried for event in told.of(StepFinished))
    assert error.startswith("ConnectionError: ")
    assert "hunter2" not in error
    assert none == ()


def _http_error(status: int) -> urllib.error.HTTPError:
    return urllib.error.HTTPError("http://x", status, "", Message(), io.BytesIO())


async def _awaited(step: Any, thunk: Any, **options: Any) -> Any:
    return await step(thunk, **options)


@pytest.mark.parametrize("method", ["fetch", "fetch_async", "fetch_later"])
def test_a_failure_that_may_pass_is_tried_again_and_only_the_last_outcome_counts(method: str) -> None:
    told, flaky = RecordingListener(), Flaky(2, ConnectionError("reset"))
    workflow = create_workflow(cache={}, on_event=told)
    thunk = getattr(flaky, method)
    if method == "fetch":
        result = workflow(lambda step: step(thunk, key="k", retries=2))
    else:
        result = asyncio.run(workflow(lambda step: _awaited(step, thunk, key="k", retries=2)))
    assert (result, flaky.calls) == (Ok("value"), 3)
    assert (len(told.of(StepStarted)), [e.outcome for e in told.of(StepFinished)]) == (1, ["ok"])


def test_e5_pauses_grow_and_differ_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def noted(seconds: float, **_: object) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(attempts, "sleep", noted)
    for _ in range(20):
        flaky = Flaky(9, ConnectionError("reset"))
        create_workflow(cache={})(lambda step: step(flaky.fetch, key="k", retries=8))
    for at, longest in enumerate((0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0)):
        these = pauses[at::8]
        assert len(set(these)) == 20
        assert longest / 2 <= min(these) <= max(these) <= longest


def test_e5_when_attempts_run_out_the_last_error_leaves_and_is_kept() -> None:
    flaky = Flaky(9, ConnectionError("reset"))
    workflow = create_workflow(cache={}, error_ttl=None)
    for _ in range(2):
        assert isinstance(workflow(lambda step: step(flaky.fetch, key="k", retries=1)).error, ConnectionError)
    assert flaky.calls == 2


@pytest.mark.parametrize(
    "error",
    [NameError("x"), ImportError("x"), SyntaxError("x"), MemoryError(), KeyboardInterrupt(), StepFailed("k", "e")],
)
def test_what_cannot_pass_is_not_tried_again(error: BaseException) -> None:
    flaky = Flaky(1, error)
    with pytest.raises(type(error)):
        create_workflow(cache={})(lambda step: step(flaky.fetch, key="k", retries=3, on_error="raise")).unwrap()
    assert flaky.calls == 1


def test_an_http_status_says_whether_it_may_pass() -> None:
    errors = [_http_error(status) for status in (404, 401, 503, 429)]
    assert [may_pass(error) for error in errors] == [False, False, True, True]
    for error in errors:
        error.close()
    assert [may_pass(error) for error in (ValueError("bad"), StepTimeout("slow"))] == [True, True]


def test_a_time_out_that_is_nbsteps_may_pass_and_is_tried_again() -> None:
    calls: list[int] = []

    async def slow_at_first() -> str:
        calls.append(1)
        if len(calls) == 1:
            await asyncio.Event().wait()
        return "value"

    workflow = create_workflow(cache={})
    result = asyncio.run(workflow(lambda step: _awaited(step, slow_at_first, key="k", timeout=0.01, retries=1)))
    assert (result, len(calls)) == (Ok("value"), 2)


def test_a_time_out_of_the_thunks_own_is_its_own() -> None:
    async def own() -> None:
        raise TimeoutError("the client's own")

    workflow = create_workflow(cache={})
    error = asyncio.run(workflow(lambda step: _awaited(step, own, key="k", timeout=60))).error
    assert (type(error), str(error)) == (TimeoutError, "the client's own")


def test_step_timeout_says_how_long() -> None:
    async def slow() -> None:
        await asyncio.Event().wait()

    workflow = create_workflow(cache={})
    error = asyncio.run(workflow(lambda step: _awaited(step, slow, timeout="20ms"))).error
    assert (type(error), str(error)) == (StepTimeout, "the step took longer than timeout=0.02 s")


def test_cancelled_between_attempts_ends_at_once() -> None:
    flaky = Flaky(9, ConnectionError("reset"))

    async def body(step: Any) -> bool:
        task = asyncio.create_task(step(flaky.fetch_async, key="k", retries=99))
        while not flaky.calls:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    workflow = create_workflow(cache={})
    assert asyncio.run(workflow(body)) == Ok(True)
    assert workflow.cache.keys() == []
