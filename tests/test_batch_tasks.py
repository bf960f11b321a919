"""step.map of an async function, or on an async store: one task an item, a bounded number at once (K3, K4, C4, W3)."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

import pytest

from nbstep import Err, Ok, create_workflow
from nbstep.events import StepHit, StepsAhead
from nbstep.testing import AsyncMemoryStore, RecordingListener


def run(workflow: Any, body: Any) -> Any:
    return asyncio.run(workflow(body))


async def double(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


def test_an_async_function_gives_something_to_await_and_keeps_each_item() -> None:
    told = RecordingListener()
    workflow = create_workflow(cache={}, on_event=told)

    async def body(step: Any) -> Any:
        return await step.map(double, [3, 1, 2], key="n:{}")

    assert [run(workflow, body) for _ in range(2)] == [Ok([6, 2, 4])] * 2
    assert sorted(hit.key for hit in told.of(StepHit)) == ["n:1", "n:2", "n:3"]
    assert told.of(StepsAhead)[0].keys == 3


@pytest.mark.parametrize(("n_jobs", "most"), [(3, 3), (None, 32)])
def test_so_many_items_run_at_once(n_jobs: int | None, most: int) -> None:
    now, highest = 0, 0

    async def work(n: int) -> int:
        nonlocal now, highest
        now += 1
        highest = max(highest, now)
        await asyncio.sleep(0.001)
        now -= 1
        return n

    async def body(step: Any) -> Any:
        return await step.map(work, range(100), key="n:{}", n_jobs=n_jobs)

    assert run(create_workflow(cache={}), body) == Ok(list(range(100)))
    assert highest == most


@pytest.mark.parametrize("where", ["items", "key"])
def test_e1_an_error_of_a_generator_or_a_key_keeps_its_cause(where: str) -> None:
    def look(n: int) -> int:
        try:
            return [0, 1, 2][n]
        except IndexError as error:
            raise ValueError("bad row") from error

    async def body(step: Any) -> Any:
        items = (look(n) if where == "items" else n for n in range(5))
        return await step.map(double, items, key=lambda n: f"n:{look(n)}")

    with pytest.raises(ValueError, match="bad row") as raised:
        run(create_workflow(cache={}), body)
    assert type(raised.value.__cause__) is IndexError
    assert type(raised.value.__context__) is IndexError


def test_a_plain_function_on_an_async_store_is_awaited() -> None:
    async def body(step: Any) -> Any:
        return await step.map(abs, [-1, -2], key="n:{}")

    workflow = create_workflow(cache=AsyncMemoryStore())
    assert [run(workflow, body) for _ in range(2)] == [Ok([1, 2])] * 2


def test_w3_every_item_runs_then_the_first_failure_in_the_items_order_is_raised() -> None:
    ran: list[int] = []

    async def work(n: int) -> int:
        await asyncio.sleep(0.01 * (3 - n))
        ran.append(n)
        if n:
            raise ValueError(f"no {n}")
        return n

    async def body(step: Any) -> Any:
        return await step.map(work, range(3), key="n:{}")

    result = run(create_workflow(cache={}), body)
    assert (repr(result.error), sorted(ran)) == ("ValueError('no 1')", [0, 1, 2])


def test_with_keep_results_and_failures_stand_in_place() -> None:
    async def work(n: int) -> Any:
        return Err("odd") if n % 2 else n

    async def body(step: Any) -> Any:
        return await step.map(work, range(4), key="n:{}", on_error="keep")

    assert run(create_workflow(cache={}), body) == Ok([Ok(0), Err("odd"), Ok(2), Err("odd")])


def test_rate_and_time_outs_are_those_of_each_item() -> None:
    async def slow(n: float) -> float:
        await asyncio.sleep(n)
        return n

    async def body(step: Any) -> Any:
        began = asyncio.get_running_loop().time()
        results = await step.map(slow, [0, 60, 0.001], key="n:{}", rate="10/s", timeout=0.05, on_error="keep")
        return [type(one).__name__ for one in results], asyncio.get_running_loop().time() - began

    kinds, took_s = run(create_workflow(cache={}), body).value
    assert kinds == ["Ok", "Err", "Ok"]
    assert 0.2 <= took_s < 30


def test_rate_counts_further_attempts_too() -> None:
    called: list[float] = []

    async def work(n: int) -> None:
        called.append(time.monotonic())
        raise ConnectionError("busy")

    async def body(step: Any) -> Any:
        return await step.map(work, range(4), key="n:{}", rate="10/s", retries=1, on_error="keep")

    began = time.monotonic()
    run(create_workflow(cache={}), body)
    assert len(called) == 8
    assert called[-1] - began >= 0.69, "the eighth turn"


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_an_item_that_ends_as_cancelled_is_a_failure_of_that_item(n_jobs: int) -> None:
    ran: list[int] = []

    async def work(n: int) -> int:
        ran.append(n)
        if n == 2:
            pending = asyncio.ensure_future(asyncio.sleep(60))
            pending.cancel()
            await pending
        return n

    async def body(step: Any) -> Any:
        results = await step.map(work, range(5), key="n:{}", n_jobs=n_jobs, on_error="keep")
        with pytest.raises(asyncio.CancelledError):
            await step.map(work, range(5), key="n:{}", n_jobs=n_jobs)
        return results

    results = run(create_workflow(cache={}), body).value
    assert [one.value for one in results if one.ok] == [0, 1, 3, 4]
    assert type(results[2].error) is asyncio.CancelledError
    assert sorted(ran) == [0, 1, 2, 2, 3, 4]


def test_a_map_that_is_cancelled_leaves_no_task_behind() -> None:
    started: list[int] = []
    ended: list[int] = []

    async def work(n: int) -> int:
        started.append(n)
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(n)
        return n

    async def body(step: Any) -> Any:
        task = asyncio.create_task(step.map(work, range(50), key="n:{}", n_jobs=4))
        while len(started) < 4:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return len(asyncio.all_tasks())

    assert run(create_workflow(cache={}), body) == Ok(1)
    assert sorted(ended) == [0, 1, 2, 3]


def test_k4_a_map_that_nobody_awaits_is_told_by_one_line(recwarn: pytest.WarningsRecorder) -> None:
    """Such as one that a plain body gives back, in a run that nobody awaits either."""
    made = create_workflow(cache={})(lambda step: step.map(double, range(3), key="n:{}"))
    del made
    gc.collect()
    assert [str(one.message) for one in recwarn] == []


def test_an_object_with_an_async_call_is_a_function_as_any_other() -> None:
    class Double:
        async def __call__(self, n: int) -> int:
            return 2 * n

    told = RecordingListener()
    workflow = create_workflow(cache={}, on_event=told)
    assert run(workflow, lambda step: step.map(Double(), range(3), key="n:{}")) == Ok([0, 2, 4])
    assert told.findings() == []
