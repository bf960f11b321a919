"""One key asked in one run with other inputs than it was kept with there: told with one line a key (D3)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from shells import Shell, open_shell

from nbstep import Cache, create_workflow
from nbstep.errors import DriftError
from nbstep.events import Finding, StepHit, StepWaiting
from nbstep.testing import RecordingListener

FRAME = pd.DataFrame({"a": [1.0, 2.0]})
ARRAY = np.arange(5.0)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / ".nbstep")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with open_shell(tmp_path) as opened:
        yield opened


def _total(data: Any) -> str:
    return str(data)


def _said(cache: Cache, body: Callable[[Any], Any], **options: Any) -> list[str]:
    told = RecordingListener()
    create_workflow(cache=cache, on_event=told, **options)(body).unwrap()
    return [finding.text for finding in told.of(Finding)]


def _line(key: str, name: str, when: str = "when it was kept, in this run") -> str:
    return f"{key}: `{name}` was another value {when}: put what differs into the key"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (FRAME, FRAME * 2),
        (ARRAY, ARRAY * 2),
        ([1, 2], [1, 3]),
        ({"a": [1]}, {"a": [2]}),
        (SimpleNamespace(a=1), SimpleNamespace(a=2)),
    ],
    ids=["frames", "arrays", "lists", "dicts", "objects"],
)
def test_d3_a_key_asked_again_in_its_run_with_other_inputs_is_told(cache: Cache, first: Any, second: Any) -> None:
    def body(step: Any) -> None:
        for p in (first, second, second):
            step(lambda: _total(p), key="frames")
            step(_total, p, key="passed")

    assert _said(cache, body) == [_line("frames", "p"), _line("passed", "data")]


def test_d3_a_kept_error_of_other_inputs_is_told_too(cache: Cache) -> None:
    def fails(p: Any) -> None:
        raise ValueError("no")

    def body(step: Any) -> None:
        for p in ([1], [2]):
            step(fails, p, key="bad", on_error="keep")

    assert _said(cache, body) == [_line("bad", "p")]


def test_d3_a_number_behind_a_called_function_says_what_it_was(cache: Cache) -> None:
    scope: dict[str, Any] = {"__name__": "__main__", "LIMIT": 1}
    exec("def above(x):\n    return x > LIMIT\ndef ask(x):\n    return above(x)", scope)

    def body(step: Any) -> None:
        step(scope["ask"], 5, key="k")
        scope["LIMIT"] = 2
        step(scope["ask"], 5, key="k")

    assert _said(cache, body) == ["k: `LIMIT` was 1 when it was kept, in this run: put what differs into the key"]


def test_d3_what_is_no_other_input_says_nothing(cache: Cache) -> None:
    calls: list[int] = []

    def counted(p: Any) -> int:
        calls.append(1)
        return len(p)

    def body(step: Any) -> None:
        for n in range(200):  # a key that tells them apart
            p = [n]
            step(lambda: counted(p), key=f"good:{n}")
        for _ in range(3):  # equal values made anew; `calls` is state
            p = FRAME.copy()
            step(lambda: counted(p), key="equal")
        for _p in ([1], [2]):
            step(lambda: counted(_p), key="private")
        for q in ([1], [2]):
            step(lambda: counted(q), key="ignored", ignore="q")
        for r in ([1], [2]):
            step(lambda: counted(r), key="by policy", on_drift="ignore")

    assert _said(cache, body) == []
    assert _said(cache, body) == []
    assert len(calls) == 204


def test_d3_threads_and_tasks_that_wait_for_one_another_are_told(cache: Cache) -> None:
    waiting = threading.Event()
    told = RecordingListener()

    def heard(event: Any) -> None:
        told(event)
        if isinstance(event, StepWaiting):
            waiting.set()

    begun = threading.Event()

    def slow(p: Any) -> str:
        begun.set()
        assert waiting.wait(30)
        return str(p)

    def body(step: Any) -> None:
        first = threading.Thread(target=copy_context().run, args=(step, slow, [1]), kwargs={"key": "threads"})
        first.start()
        assert begun.wait(30)
        step(slow, [2], key="threads")
        first.join()

    create_workflow(cache=cache, on_event=heard)(body).unwrap()
    assert [finding.text for finding in told.of(Finding)] == [_line("threads", "p", "in the call that computed it")]
    assert [(hit.source, hit.drift) for hit in told.of(StepHit)] == [("shared", "`p` changed: put it in the key")]

    async def later(p: Any) -> str:
        await asyncio.sleep(0.01)
        return str(p)

    async def tasks(step: Any) -> None:
        await asyncio.gather(*[step(later, p, key="tasks") for p in ([1], [2], [2])])

    told.events.clear()
    asyncio.run(create_workflow(cache=cache, on_event=told)(tasks)).unwrap()
    assert [finding.text for finding in told.of(Finding)] == [_line("tasks", "p", "in the call that computed it")]


@pytest.mark.parametrize("on_drift", ["rerun", "error"])
def test_d3_the_policy_decides_of_shared_values_too(cache: Cache, on_drift: Any) -> None:
    async def later(p: Any) -> str:
        await asyncio.sleep(0.01)
        return str(p)

    async def tasks(step: Any) -> list[str]:
        return await asyncio.gather(*[step(later, p, key="k") for p in ([1], [2])])

    workflow = create_workflow(cache=cache, on_drift=on_drift)
    if on_drift == "error":
        with pytest.raises(DriftError, match="`p` changed"):
            asyncio.run(workflow(tasks))
    else:
        assert asyncio.run(workflow(tasks)).unwrap() == ["[1]", "[2]"]


def test_d3_items_of_a_map_that_share_a_key_are_told(cache: Cache) -> None:
    assert _said(cache, lambda step: step.map(_total, [[1], [2]], key=lambda _: "same", n_jobs=1)) == [
        _line("same", "data")
    ]


def test_d3_in_a_notebook_the_line_stands_under_the_list(shell: Shell) -> None:
    cell = (
        "%%workflow\ndef agg(p):\n    return sum(p)\nfor p in ([1], [2]):\n"
        "    print(step(lambda: agg(p), key='frames'))"
    )
    assert "put what differs into the key" in shell.good(cell).text
    assert "when it was kept, in this run" not in shell.good(cell.replace("[1], [2]", "[1], [1]")).text
