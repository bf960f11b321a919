"""Which run a step belongs to, what it inherits, and what it holds on to (W2, W5, E3)."""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cloudpickle
import pytest

from nbstep import Cache, OfflineMiss, Ok, create_workflow, step
from nbstep.events import RunFinished, RunStarted, StepAsked
from nbstep.runs.active import current_run, open_run
from nbstep.runs.hooks import active_run, set_ambient_run
from nbstep.testing import RecordingListener


class Gone(Exception):
    """An exception that can be watched."""


def test_w5_the_run_around_is_told_what_happens_inside() -> None:
    outer_told, inner_told = RecordingListener(), RecordingListener()
    outer = create_workflow(cache={}, on_event=outer_told, name="outer")
    inner = create_workflow(cache={}, on_event=inner_told, name="inner")
    outer(lambda _: inner(lambda _: step(lambda: 1, key="k")).value)
    assert [event.name for event in outer_told.of(RunStarted)] == ["outer", "inner"]
    assert [event.name for event in inner_told.of(RunStarted)] == ["inner"]
    assert outer_told.of(StepAsked) == inner_told.of(StepAsked)
    assert len(inner_told.of(RunFinished)) == 1


def test_w5_in_a_thread_the_executing_cells_run_serves() -> None:
    cache: dict[str, Any] = {}
    run = open_run("cell", cache=cache)
    set_ambient_run(lambda: run)
    try:
        thread = threading.Thread(target=lambda: step(lambda: 1, key="k"))
        thread.start()
        thread.join()
    finally:
        set_ambient_run(None)
        run.close()
    assert list(cache) == ["k"]


def test_w5_the_step_a_body_is_given_knows_its_run_in_a_pools_threads() -> None:
    """There no `ContextVar` tells; with several bodies at once each one's steps are kept where they belong."""
    caches: list[dict[str, Any]] = [{}, {}]
    both = threading.Barrier(2)

    def body(step: Any) -> Any:
        @step.cached
        def double(n: int) -> int:
            return 2 * n

        with ThreadPoolExecutor(4) as pool:
            both.wait(10)
            asked = list(pool.map(lambda n: step(lambda: n, key=f"asked:{n}"), range(3)))
            cached = list(pool.map(double, range(3)))
            mapped = pool.submit(lambda: step.map(str, range(2), key="mapped:{}")).result()
            both.wait(10)
        return asked, cached, mapped

    with ThreadPoolExecutor(2) as programs:
        results = list(programs.map(lambda cache: create_workflow(cache=cache)(body), caches))
    assert results == [Ok(([0, 1, 2], [0, 2, 4], ["0", "1"]))] * 2
    keys = [*(f"asked:{n}" for n in range(3)), *(f"double(n={n})" for n in range(3)), "mapped:0", "mapped:1"]
    assert [sorted(cache) for cache in caches] == [keys, keys]


def test_w5_in_a_cells_thread_a_bodys_step_uses_the_bodys_run() -> None:
    of_cell: dict[str, Any] = {}
    of_body: dict[str, Any] = {}
    run = open_run("cell", cache=of_cell)
    set_ambient_run(lambda: run)
    try:
        with ThreadPoolExecutor(1) as pool:
            create_workflow(cache=of_body)(lambda own: pool.submit(own, lambda: 1, key="k").result())
            pool.submit(step, lambda: 2, key="k").result()
    finally:
        set_ambient_run(None)
        run.close()
    assert (list(of_cell), list(of_body)) == (["k"], ["k"])


def test_w5_a_workflow_inside_another_comes_before_the_outer_ones_step() -> None:
    outer: dict[str, Any] = {}
    inner: dict[str, Any] = {}
    create_workflow(cache=outer)(lambda own: create_workflow(cache=inner)(lambda _: own(lambda: 1, key="k")))
    assert (list(outer), list(inner)) == ([], ["k"])


def test_n8_a_thread_that_outlives_its_body_stays_with_its_run() -> None:
    own: dict[str, Any] = {}
    go = threading.Event()

    def body(step: Any) -> threading.Thread:
        thread = threading.Thread(target=lambda: go.wait(10) and step(lambda: 1, key="late"))
        thread.start()
        return thread

    thread = create_workflow(cache=own)(body).value
    go.set()
    thread.join()
    assert list(own) == ["late"]


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
def test_w5_in_another_process_it_is_the_one_that_everybody_imports(dumps: Any) -> None:
    assert pickle.loads(dumps(step)) is step
    assert create_workflow(cache={})(lambda own: pickle.loads(dumps(own)) is step and own is not step) == Ok(True)


def test_d1_a_step_around_others_is_not_changed_by_another_runs_step() -> None:
    workflow = create_workflow(cache={}, on_drift="error")
    results = [workflow(lambda step: step(lambda: step(lambda: 1, key="in"), key="out")) for _ in range(3)]
    assert results == [Ok(1)] * 3


def test_w5_n8_what_outlives_its_run_stays_with_it_whatever_runs_now() -> None:
    own: dict[str, Any] = {}
    other: dict[str, Any] = {}

    async def body(ask: Any) -> Any:
        async def later() -> Any:
            await gate.wait()
            return step(lambda: 2, key="late")

        gate = asyncio.Event()
        return asyncio.create_task(later()), gate

    async def main() -> Any:
        task, gate = (await create_workflow(cache=own)(body)).unwrap()
        gate.set()
        return await task

    now = open_run(cache=other)
    set_ambient_run(lambda: now)
    try:
        assert asyncio.run(main()) == 2
    finally:
        set_ambient_run(None)
    assert (list(own), list(other)) == (["late"], [])


def test_w2_a_magics_flag_goes_before_the_workflow_and_the_step_before_both() -> None:
    calls: list[str] = []
    workflow = create_workflow(cache={}, ttl="1d")

    def body(_: Any) -> None:
        step(lambda: calls.append("flag"), key="a")
        step(lambda: calls.append("step"), key="b", ttl=None)

    for _ in range(2):
        run = open_run(cache=None, flags={"ttl": 0})
        token = active_run.set(run)
        try:
            workflow(body)
        finally:
            active_run.reset(token)
            run.close()
    assert sorted(calls) == ["flag", "flag", "step"]


def test_c7_a_magics_mode_goes_before_the_workflows() -> None:
    calls: list[int] = []
    workflow = create_workflow(cache={}, mode="normal")
    for _ in range(2):
        run = open_run(cache=None, flags={}, mode="refresh")
        token = active_run.set(run)
        try:
            workflow(lambda step: step(lambda: calls.append(1), key="k"))
        finally:
            active_run.reset(token)
            run.close()
    assert calls == [1, 1]


def test_e3_the_environment_can_ask_for_errors_to_be_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise Gone

    def body(step: Any) -> None:
        for _ in range(3):
            step(fail, key="k", on_error="keep")

    workflow = create_workflow(cache={})
    workflow(body)
    monkeypatch.setenv("NBSTEP_RETRY_ERRORS", "1")
    workflow(body)
    assert calls == [1, 1]  # once a run


def test_w1_a_second_parameter_with_a_default_keeps_it_where_there_are_no_deps() -> None:
    assert create_workflow(cache={})(lambda step, uid=7: uid) == Ok(7)
    assert create_workflow({"a": 1}, cache={})(lambda step, deps=None: deps.a) == Ok(1)
    assert create_workflow({"a": 1}, cache={})(lambda *args: len(args)) == Ok(2)


def test_w1_deps_name_what_they_lack() -> None:
    with pytest.raises(AttributeError, match="deps has no 'fetch'; it has load, save"):
        create_workflow({"load": 1, "save": 2}, cache={})(lambda step, deps: deps.fetch)


def test_the_default_run_holds_on_to_a_few_failures_only(nbstep_cache: Cache) -> None:
    seen: list[weakref.ref[Gone]] = []

    def fail() -> None:
        error = Gone()
        seen.append(weakref.ref(error))
        raise error

    for number in range(200):
        with pytest.raises(Gone):
            step(fail, key=f"k:{number}")
    gc.collect()
    assert sum(reference() is not None for reference in seen) <= 66


def test_a_closed_run_holds_on_to_none() -> None:
    seen: list[weakref.ref[Gone]] = []

    def fail() -> None:
        error = Gone()
        seen.append(weakref.ref(error))
        raise error

    def body(step: Any) -> Any:
        step(fail, key="k", on_error="keep")
        return current_run()

    run = create_workflow(cache={})(body).value
    gc.collect()
    assert (run.closed, seen[0]()) == (True, None)


def test_w3_what_a_body_returns_as_err_ends_its_run_as_a_failure() -> None:
    from nbstep import Err

    told = RecordingListener()
    workflow = create_workflow(cache=None, on_event=told)
    assert workflow(lambda step: Err("NOT_FOUND")).error == "NOT_FOUND"
    assert workflow(lambda step: Err(ValueError("bad"))).error.args == ("bad",)
    assert workflow(lambda step: 1) == Ok(1)
    assert [(event.outcome, event.error) for event in told.of(RunFinished)] == [
        ("error", "StepFailed: the step failed: 'NOT_FOUND'"), ("error", "ValueError: bad"), ("ok", None),
    ]  # fmt: skip


def test_w5_a_workflow_in_a_plain_cell_reports_to_the_cell() -> None:
    told = RecordingListener()
    cell = open_run("cell", cache=None, listeners=(told,), shown=True)
    set_ambient_run(lambda: cell)
    try:
        create_workflow(cache={})(lambda step: step(lambda: (n for n in "ab"), key="k")).unwrap()
    finally:
        set_ambient_run(None)
    assert [asked.key for asked in told.of(StepAsked)] == ["k"]
    assert len(told.findings()) == 1


@pytest.mark.parametrize(
    ("outer", "inner", "runs"), [("offline", None, False), ("offline", "normal", True), (None, None, True)]
)
def test_c7_a_workflow_inside_another_has_its_mode_unless_it_says_its_own(outer: Any, inner: Any, runs: bool) -> None:
    calls: list[int] = []
    inside = create_workflow(cache={}, mode=inner)
    around = create_workflow(cache={}, mode=outer)
    body = lambda step: inside(lambda step: step(calls.append, 1, key="k"))
    if runs:
        around(body)
    else:
        with pytest.raises(OfflineMiss):
            around(body)
    assert bool(calls) is runs


def test_k4_a_step_that_a_waiting_task_holds_is_not_called_forgotten() -> None:
    told = RecordingListener()

    async def seven() -> int:
        return 7

    async def body(step: Any) -> Any:
        kept = asyncio.create_task(asyncio.wait_for(step(seven, key="k"), 5))
        forgotten = step(seven, key="forgotten")
        return kept, forgotten

    async def main() -> Any:
        kept, _ = (await create_workflow(cache={}, on_event=told)(body)).unwrap()
        return await kept

    assert asyncio.run(main()) == 7
    assert [text.partition(" was never")[0].split(" (")[0] for text in told.findings()] == ["step 'forgotten'"]
