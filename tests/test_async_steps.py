"""Awaitable steps: everything happens at `await`, on a frozen copy of the thunk (K4, K10); over sync and async stores alike."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import subprocess
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import pytest

from nbstep import Cache, Ok, create_workflow, step
from nbstep.events import Finding
from nbstep.testing import AsyncMemoryStore, MemoryStore, RecordingListener

STORES = {"sync": MemoryStore, "async": AsyncMemoryStore}


@pytest.fixture(params=sorted(STORES))
def cache(request: pytest.FixtureRequest) -> Cache:
    return Cache(STORES[request.param]())


async def double(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


def test_k10_a_thunk_that_writes_a_global_has_the_others_as_they_were() -> None:
    namespace: dict[str, Any] = {"step": step, "asyncio": asyncio}
    exec(  # the names must be globals
        "count = 0; seen = []\n"
        "async def load(city):\n    seen.append(count)\n    await asyncio.sleep(0)\n    return city\n"
        "def jobs(step):\n"
        "    global city\n"
        "    made = []\n"
        "    for city in 'abc':\n"
        "        async def work():\n"
        "            global count\n"
        "            count += 1\n"
        "            got = await load(city)\n"
        "            count += 10\n"
        "            return got\n"
        "        made.append(step(work, key=f'city:{city}'))\n"
        "    return made\n"
        "async def body(step):\n    return await asyncio.gather(*jobs(step))\n",
        namespace,
    )
    workflow = create_workflow(cache={})
    assert asyncio.run(workflow(namespace["body"])) == Ok(["a", "b", "c"])
    assert (namespace["count"], namespace["seen"]) == (33, [1, 2, 3])


@pytest.mark.parametrize("make_store", [dict, AsyncMemoryStore])
def test_k4_a_generator_based_coroutine_is_awaitable_too(make_store: Any) -> None:
    @types.coroutine
    def old_style() -> Any:
        yield from asyncio.sleep(0).__await__()
        return 7

    async def body(step: Any) -> Any:
        return await step(old_style, key="k")

    workflow = create_workflow(cache=make_store())
    assert [asyncio.run(workflow(body)) for _ in range(2)] == [Ok(7), Ok(7)]


def test_k10_fifty_gathered_steps_of_a_comprehension_keep_fifty_values(cache: Cache) -> None:
    async def body(step: Any) -> list[int]:
        return await asyncio.gather(*[step(lambda: double(a), key=f"a:{a}") for a in range(50)])

    workflow = create_workflow(cache=cache)
    expected = [2 * a for a in range(50)]
    assert [asyncio.run(workflow(body)).value for _ in range(2)] == [expected, expected]


TOP_LEVEL = """
import asyncio
from nbstep import Cache, create_workflow, step
from nbstep.testing import AsyncMemoryStore, MemoryStore
from nbstep.workflows import active_run, open_run

async def double(n):
    await asyncio.sleep(0)
    return 2 * n

def plain(n):
    return 2 * n

for store, fn in ((MemoryStore, double), (AsyncMemoryStore, double), (AsyncMemoryStore, plain)):
    cache = Cache(store())
    for round in range(2):
        active_run.set(open_run(cache=cache))
        waiting = []
        for a in range(50):
            waiting.append(step(lambda: fn(a), key=f"a:{a}"))
        async def collect():
            return await asyncio.gather(*waiting)
        assert asyncio.run(collect()) == [2 * n for n in range(50)], (store, fn, round)
print("fifty")
"""


def test_k10_a_top_level_loop_that_collects_awaitables_keeps_fifty_values(tmp_path: Path) -> None:
    script = tmp_path / "loop.py"
    script.write_text(TOP_LEVEL)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("fifty", 0), done.stderr


LIMIT = 2


def test_k10_a_frozen_thunk_still_serves_eval(cache: Cache) -> None:
    async def evaluated() -> int:
        return eval("LIMIT + 1")

    assert asyncio.run(create_workflow(cache=cache)(lambda step: step(evaluated, key="k"))).value == 3


def test_k4_nothing_happens_at_the_call(cache: Cache) -> None:
    told = RecordingListener()

    async def body(step: Any) -> int:
        waiting = step(double, 3, key="k")
        assert told.kinds("k") == []
        return await waiting

    assert asyncio.run(create_workflow(cache=cache, on_event=told)(body)).value == 6
    assert told.kinds("k") == ["StepAsked", "StepMissed", "StepStarted", "StepFinished"]


def test_k4_a_kept_error_is_raised_at_await(cache: Cache) -> None:
    async def fail() -> None:
        raise LookupError("gone")

    async def body(step: Any) -> str:
        waiting = step(fail, key="k")
        try:
            await waiting
        except LookupError as error:
            return "\n".join(getattr(error, "__notes__", ["fresh"]))
        return "nothing raised"

    workflow = create_workflow(cache=cache)
    fresh, kept = (asyncio.run(workflow(body)).value for _ in range(2))
    assert (fresh, "From the cache: k failed" in kept) == ("fresh", True)


def test_k4_with_an_async_store_a_plain_step_is_awaitable_too() -> None:
    calls: list[int] = []

    async def body(step: Any) -> int:
        return await step(lambda: calls.append(1) or 7, key="k")

    workflow = create_workflow(cache=Cache(AsyncMemoryStore()))
    assert [asyncio.run(workflow(body)).value for _ in range(2)] == [7, 7]
    assert calls == [1]


def test_k4_a_thunk_that_turns_out_awaitable_is_awaitable_on_the_hit_as_well() -> None:
    calls: list[int] = []

    def hidden(n: int) -> Any:  # a plain function that gives a coroutine: code alone does not tell
        calls.append(n)
        return double(n)

    async def body(step: Any) -> int:
        return await step(hidden, 4, key="k")

    workflow = create_workflow(cache={})
    assert [asyncio.run(workflow(body)).value for _ in range(2)] == [8, 8]
    assert calls == [4]


def test_k4_create_task_and_task_groups_take_steps(cache: Cache) -> None:
    async def body(step: Any) -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(step(double, n, key=f"k:{n}")) for n in range(3)]
        return [task.result() for task in tasks]

    assert asyncio.run(create_workflow(cache=cache)(body)).value == [0, 2, 4]


def test_w3_a_group_of_step_errors_alone_is_an_err_any_other_is_a_bug() -> None:
    async def fail(n: int) -> None:
        raise LookupError(n)

    async def steps_only(step: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(step(fail, 1, key="k:1"))
            group.create_task(step(fail, 2, key="k:2"))

    async def with_a_bug(step: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(step(fail, 1, key="k:1"))
            group.create_task(double("no number"))  # type: ignore[arg-type]
            group.create_task(fail(3))

    workflow = create_workflow(cache={})
    result = asyncio.run(workflow(steps_only))
    assert sorted(leaf.args for leaf in result.error.exceptions) == [(1,), (2,)]
    with pytest.raises(ExceptionGroup):
        asyncio.run(workflow(with_a_bug))


def test_k4_a_step_never_awaited_is_named_when_the_run_ends() -> None:
    told = RecordingListener()

    async def body(step: Any) -> str:
        step(double, 1, key="forgotten")
        task = asyncio.create_task(step(double, 2, key="scheduled"))
        await task
        return "ok"

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(create_workflow(cache={}, on_event=told)(body))
        gc.collect()
    assert [(f.key, f.kind) for f in told.of(Finding)] == [("forgotten", "never-awaited")]
    assert "step 'forgotten' (line " in told.of(Finding)[0].text
    assert "write `await step(…)`" in told.of(Finding)[0].text


def test_awaiting_a_plain_step_says_what_to_leave_out() -> None:
    async def body(step: Any) -> int:
        return await step(lambda: 1, key="k")

    with pytest.raises(TypeError) as caught:
        asyncio.run(create_workflow(cache={})(body))
    assert "Leave out `await`" in caught.value.__notes__[0]


def test_e2_a_cancelled_step_is_not_kept_and_a_waiting_one_computes(cache: Cache) -> None:
    calls: list[int] = []

    async def slow() -> int:
        calls.append(1)
        if len(calls) == 1:
            await asyncio.Event().wait()
        return 5

    async def body(step: Any) -> int:
        holder = asyncio.create_task(step(slow, key="k"))
        while not calls:
            await asyncio.sleep(0)
        waiter = asyncio.create_task(step(slow, key="k"))
        await asyncio.sleep(0)
        holder.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await holder
        return await waiter

    assert asyncio.run(create_workflow(cache=cache)(body)).value == 5
    assert calls == [1, 1]


def test_c4_a_plain_step_never_waits_for_a_task_of_its_own_loop() -> None:
    calls: list[str] = []

    async def slow() -> str:
        calls.append("task")
        await asyncio.sleep(0.05)
        return "value"

    @functools.wraps(slow)  # one step of two kinds
    def plain() -> str:
        calls.append("plain")
        return "value"

    async def body(step: Any) -> tuple[str, str]:
        task = asyncio.create_task(step(slow, key="k"))
        while not calls:
            await asyncio.sleep(0)
        blocking = step(plain, key="k")
        return blocking, await task

    assert asyncio.run(create_workflow(cache={})(body)).value == ("value", "value")
    assert calls == ["task", "plain"]


def test_e2_a_timeout_that_nbstep_imposes_is_never_kept() -> None:
    calls: list[int] = []

    async def slow() -> None:
        calls.append(1)
        await asyncio.Event().wait()

    async def body(step: Any) -> None:
        await step(slow, key="k", timeout="10ms")

    workflow = create_workflow(cache={})
    for _ in range(2):
        assert isinstance(asyncio.run(workflow(body)).error, TimeoutError)
    assert calls == [1, 1]


def test_timeout_on_a_plain_step_is_refused() -> None:
    with pytest.raises(TypeError, match="timeout= needs an async thunk"):
        create_workflow(cache={})(lambda step: step(lambda: 1, key="k", timeout=1))


PAGES = """
log = []
def note(page): log.append(page)
async def api(): note(page); return page
async def total(rows): return sum(rows)
async def body(step):
    global page
    waiting = []
    for page in range(3):
        waiting.append(step(lambda: api(), key=f"page:{page}"))
    return await asyncio.gather(*waiting)
"""


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_k10_what_read_a_newer_value_than_its_call_is_not_kept(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(MemoryStore() if kind == "sync" else AsyncMemoryStore())
    scope: dict[str, Any] = {"__name__": "__main__", "asyncio": asyncio}
    exec(PAGES, scope)
    result = asyncio.run(create_workflow(cache=cache)(scope["body"]))
    assert result.unwrap() == [2, 2, 2]  # of what is asked inside a function, the newest
    kept = cache.keys() if kind == "sync" else asyncio.run(cache.keys())
    assert kept == ["page:2"]
    assert (
        "page:0 was not kept: `page` changed between its call and its await, and it read the newer one" in caplog.text
    )
    assert "step(fetch, page, key=…)" in caplog.text


def test_k10_of_an_argument_that_changed_since_one_is_told(caplog: pytest.LogCaptureFixture) -> None:
    cache, rows = Cache("memory:"), list[int]()
    scope: dict[str, Any] = {"__name__": "__main__", "asyncio": asyncio}
    exec(PAGES, scope)

    async def body(step: Any) -> list[Any]:
        waiting: list[Any] = []
        for n in range(3):
            rows.append(n)
            waiting.append(step(scope["total"], rows, key=f"rows:{n}"))
        return await asyncio.gather(*waiting)

    assert asyncio.run(create_workflow(cache=cache)(body)).unwrap() == [3, 3, 3]
    assert "rows:0: `rows` was changed between its call and its await, and it gets the newer one" in caplog.text
    assert "call it with a copy" in caplog.text
    assert "rows:2" not in caplog.text


def test_k10_what_changes_by_the_work_itself_is_no_reason(caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache("memory:")
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec("count, log = 0, []\nasync def fetch(n):\n    global count\n    count += 1; log.append(n); return n", scope)

    async def body(step: Any) -> list[Any]:
        return await asyncio.gather(*[step(scope["fetch"], n, key=f"n:{n}") for n in range(5)])

    assert asyncio.run(create_workflow(cache=cache)(body)).unwrap() == [0, 1, 2, 3, 4]
    assert len(cache.keys()) == 5
    assert "not kept" not in caplog.text
