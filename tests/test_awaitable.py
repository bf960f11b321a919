"""What an awaitable step gives: a coroutine in all that asyncio asks of one (K4)."""

from __future__ import annotations

import asyncio
import gc
import inspect
import re
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest

from nbstep import Cache, Ok, create_workflow
from nbstep.events import StepAsked, StepFinished
from nbstep.testing import AsyncMemoryStore, RecordingListener


async def double(n: int) -> int:
    return 2 * n


def hidden(n: int) -> Any:
    """A plain function that gives a coroutine: code alone does not tell."""
    return double(n)


def run(body: Any, **options: Any) -> Any:
    return asyncio.run(create_workflow(cache={}, **options)(body))


def test_asyncio_takes_it_for_a_coroutine_and_shows_it() -> None:
    async def body(step: Any) -> list[Any]:
        waiting = step(double, 1, key="k")
        facts = [
            isinstance(waiting, Coroutine),
            asyncio.iscoroutine(waiting),
            inspect.isawaitable(waiting),
            repr(waiting),
        ]
        task = asyncio.create_task(waiting)
        assert "AwaitableStep" in repr(task)
        return [*facts, await task, await asyncio.wait_for(step(double, 2), 5)]

    assert run(body) == Ok([True, True, True, "<awaitable step 'k'>", 2, 4])


USES = {
    "a part": lambda y: y["name"], "a number": lambda y: y[0], "a slice": lambda y: y[1:],
    "a loop": list, "unpacking": lambda y: [*y],
    "in": lambda y: 1 in y, "a sum": lambda y: y + 1, "the other way round": lambda y: 1 + y, "a product": lambda y: 2 * y,
    "a share": lambda y: y / 2, "a difference": lambda y: 3 - y, "a comparison": lambda y: y < 3, "a length": len,
}  # fmt: skip


def test_asyncio_takes_a_map_for_a_coroutine_and_shows_it() -> None:
    async def body(step: Any) -> list[Any]:
        waiting = step.map(double, [1, 2], key="k:{}")
        facts = [isinstance(waiting, Coroutine), asyncio.iscoroutine(waiting), repr(waiting)]
        assert await asyncio.wait_for(waiting, 5) == [2, 4]
        with pytest.raises(RuntimeError, match="was awaited before"):
            await waiting
        both = await asyncio.gather(step.map(double, [3], key="k:{}"), step.map(double, iter([4]), key="k:{}"))
        return [*facts, both]

    assert run(body) == Ok([True, True, "<awaitable step.map>", [[6], [8]]])


def test_k4_a_map_that_a_body_returns_without_await_is_awaited() -> None:
    async def body(step: Any) -> Any:
        return step.map(double, [1, 2], key="k:{}")

    assert run(body) == Ok([2, 4])


def test_k4_a_map_never_awaited_is_named_runs_nothing_and_warns_of_nothing(recwarn: Any) -> None:
    told = RecordingListener()

    async def body(step: Any) -> None:
        step.map(double, [1, 2], key="k:{}")
        unread = step.map(double, (n for n in (1, 2)), key="k:{}")
        with pytest.raises(TypeError, match=r"step.map gives something to await: write `await step.map\(…\)`"):
            len(unread)

    assert run(body, on_event=told) == Ok(None)
    gc.collect()
    assert [re.sub(r"\d+", "N", text) for text in told.findings()] == [
        "step.map (line N) was never awaited: write `await step.map(…)`"
    ] * 2
    assert not told.of(StepAsked)
    assert not recwarn.list


def test_k4_a_map_that_a_step_dropped_as_another_computed_it_is_not_named() -> None:
    told = RecordingListener()

    async def body(step: Any) -> Any:
        async def one() -> Any:
            return await step(lambda: step.map(double, [1, 2], key="a:{}"), key="outer")

        return await asyncio.gather(one(), one())

    assert run(body, on_event=told) == Ok([[2, 4], [2, 4]])
    assert told.findings() == []


def test_k4_a_map_or_step_that_a_step_gives_without_await_is_not_kept_and_says_so() -> None:
    told = RecordingListener()

    async def body(step: Any) -> None:
        async def gives_a_map() -> Any:
            return step.map(double, [1], key="a:{}")

        async def gives_a_step() -> Any:
            return step(double, 1, key="b")

        await step(gives_a_map, key="map")
        await step(gives_a_step, key="step")

    run(body, on_event=told)
    kept = [text for text in told.findings() if "was not kept" in text]
    assert [text.partition(" is ")[2] for text in kept] == [
        f"a nbstep.steps.awaitable.{kind}, which cannot be pickled: await it inside the step"
        for kind in ("AwaitableMap", "AwaitableStep")
    ]


def test_an_awaited_map_lets_its_items_go() -> None:
    class Item:
        pass

    async def body(step: Any) -> Any:
        items = [Item()]
        seen = weakref.ref(items[0])

        async def one(item: Any) -> int:
            return 1

        waiting = step.map(one, items, key=lambda item: "k")
        await waiting
        items.clear()
        gc.collect()
        return seen() is None

    assert run(body) == Ok(True)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_k4_a_forgotten_await_is_named_where_the_value_is_used(use: Any) -> None:
    async def body(step: Any) -> Any:
        waiting, without_key = step(double, 3, key="ac:3"), step(double, 3)
        with pytest.raises(TypeError) as told:
            use(waiting)
        assert str(told.value) == "step 'ac:3' gives something to await: write `await step(…)`"
        with pytest.raises(TypeError, match=r"^a step without key gives something to await: write "):
            use(without_key)
        return await waiting, await without_key

    assert run(body) == Ok((6, 6))


def test_k4_a_forgotten_await_is_named_where_an_attribute_is_asked_for() -> None:
    async def body(step: Any) -> Any:
        waiting = step(double, 3, key="ac:3")
        with pytest.raises(
            AttributeError, match=r"'name'; step 'ac:3' gives something to await: write `await step\(…\)`$"
        ):
            _ = waiting.name
        with pytest.raises(AttributeError, match=r"attribute '_repr_html_'$"):
            waiting._repr_html_()
        return await waiting

    assert run(body) == Ok(6)


def test_k4_what_others_ask_of_a_coroutine_stays_as_it_is() -> None:
    async def body(step: Any) -> Any:
        waiting = step(double, 3, key="k")
        probed = (
            "__array__",
            "__len__hint__",
            "cr_frame",
            "cr_await",
            "gi_frame",
            "_asyncio_future_blocking",
            "_repr_mimebundle_",
        )
        assert not any(hasattr(waiting, name) for name in probed)
        assert not callable(waiting)
        assert bool(waiting)
        assert waiting == waiting
        assert len({waiting, waiting}) == 1
        assert not inspect.isgenerator(waiting)
        assert not inspect.iscoroutinefunction(waiting)
        assert inspect.getmembers(waiting)
        bare = type(waiting).__new__(type(waiting))  # as `copy` makes one
        assert not hasattr(bare, "name")
        return await asyncio.gather(waiting, asyncio.shield(step(double, 1, key="m")))

    assert run(body) == Ok([6, 2])


@pytest.mark.parametrize("thunk", [double, hidden])
def test_awaited_twice_is_an_error_as_for_any_coroutine(thunk: Any) -> None:
    async def body(step: Any) -> int:
        waiting = step(thunk, 1, key="k")
        value = await waiting
        with pytest.raises(RuntimeError, match="step 'k'> was awaited before"):
            await waiting
        return value

    assert run(body) == Ok(2)


@pytest.mark.parametrize("thunk", [double, hidden])
def test_a_task_cancelled_before_it_began_leaves_nothing_unawaited(thunk: Any) -> None:
    async def body(step: Any) -> bool:
        task = asyncio.create_task(step(thunk, 1, key="k"))
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    told = RecordingListener()
    assert run(body, on_event=told) == Ok(True)
    gc.collect()  # a coroutine that nobody closed would warn now
    assert told.findings() == []


@pytest.mark.parametrize("thunk", [double, hidden])
def test_a_step_that_was_closed_is_neither_run_nor_missed(thunk: Any) -> None:
    told = RecordingListener()

    async def body(step: Any) -> None:
        step(thunk, 1, key="k").close()

    assert run(body, on_event=told) == Ok(None)
    gc.collect()
    assert (told.findings(), told.of(StepFinished)) == ([], [])


@pytest.mark.parametrize("thunk", [double, hidden])
def test_k4_one_never_awaited_is_named_with_key_and_line_and_warns_of_nothing(thunk: Any) -> None:
    told = RecordingListener()

    async def body(step: Any) -> None:
        step(thunk, 1, key="k")

    line = body.__code__.co_firstlineno + 1
    run(body, on_event=told)
    gc.collect()
    assert told.findings() == [f"step 'k' (line {line}) was never awaited: write `await step(…)`"]


def test_a_thunk_that_turns_out_awaitable_is_asked_and_told_once() -> None:
    told = RecordingListener()

    async def body(step: Any) -> int:
        waiting = step(hidden, 3, key="k")
        assert told.kinds("k") == ["StepAsked", "StepMissed", "StepStarted"]
        return await waiting

    assert run(body, on_event=told) == Ok(6)
    assert told.kinds("k") == ["StepAsked", "StepMissed", "StepStarted", "StepFinished"]
    assert len(told.of(StepAsked)) == 1


def test_two_that_turn_out_awaitable_under_one_key_share_the_first() -> None:
    class Number(int):
        """Any object: two of them may be data that changed."""

    async def body(step: Any) -> list[int]:
        return await asyncio.gather(step(hidden, Number(1), key="k"), step(hidden, Number(5), key="k"))

    assert run(body) == Ok([2, 2])
    gc.collect()  # the second one's coroutine was closed


def test_k4_an_awaitable_step_that_fails_before_it_gives_one_fails_at_the_call() -> None:
    def fails(n: int) -> Any:
        if n:
            raise LookupError(n)
        return double(n)

    async def body(step: Any) -> str:
        try:
            step(fails, 1, key="k")
        except LookupError as error:
            return f"{len(getattr(error, '__notes__', []))} notes"
        return "no error"

    workflow = create_workflow(cache={})
    assert [asyncio.run(workflow(body)) for _ in range(2)] == [Ok("0 notes"), Ok("1 notes")]


def test_k4_over_an_async_store_a_step_without_key_stays_as_it_is() -> None:
    async def body(step: Any) -> list[int]:
        return [step(lambda: 1), await step(double, 1)]

    assert asyncio.run(create_workflow(cache=AsyncMemoryStore())(body)) == Ok([1, 2])


def test_k4_it_can_be_awaited_where_no_task_runs() -> None:
    """As IPython awaits a cell that never suspends: by hand, without a loop."""
    workflow = create_workflow(cache={})

    async def body(step: Any) -> int:
        return await step(double, 4, key="k")

    for _ in range(2):
        with pytest.raises(StopIteration) as stopped:
            workflow(body).send(None)
        assert stopped.value.value == Ok(8)


def test_a_coroutine_closed_from_another_context_is_quiet() -> None:
    async def body(step: Any) -> None:
        async def forever() -> None:
            await asyncio.Event().wait()

        tasks = [asyncio.create_task(step(forever, key=f"k:{n}")) for n in range(2)]
        await asyncio.sleep(0)
        for task in tasks:
            task.get_coro().close()  # type: ignore[union-attr]
            task.cancel()
        await asyncio.wait(tasks)

    assert run(body) == Ok(None)


@pytest.mark.parametrize("thunk", [double, hidden, lambda n: asyncio.ensure_future(double(n))])
def test_n8_one_that_outlives_its_run_can_still_be_awaited(thunk: Any) -> None:
    left: list[Any] = []

    async def main() -> Any:
        async def body(step: Any) -> None:
            left.append(step(thunk, 4, key="k"))

        await create_workflow(cache={})(body)
        return await left[0]

    assert asyncio.run(main()) == 8


def test_n8_a_task_that_has_not_begun_when_its_run_ends_is_no_step_that_was_forgotten() -> None:
    told, tasks = RecordingListener(), []

    async def main() -> Any:
        async def body(step: Any) -> None:
            tasks.append(asyncio.create_task(step(double, 4, key="k")))

        await create_workflow(cache={}, on_event=told)(body)
        return await tasks[0]

    assert asyncio.run(main()) == 8
    assert told.findings() == []
    assert told.kinds("k")[-1] == "StepFinished"


def test_k4_a_step_that_is_async_no_longer_says_that_it_was_and_how_to_run_it_anew() -> None:
    store, told = dict[str, Any](), RecordingListener()
    kept = create_workflow(cache=store)(_keep)
    assert asyncio.run(kept) == Ok(2)

    def body(step: Any) -> None:
        value = step(lambda: 2, key="k")
        with pytest.raises(TypeError, match=r"it was async when it was kept\. .* run it anew: .*k"):
            value + 1

    assert create_workflow(cache=store, on_event=told)(body) == Ok(None)
    (found,) = (text for text in told.findings() if "never awaited" in text)
    assert "it was async when it was kept" in found
    assert "rm" in found or "cache.delete" in found
    again = create_workflow(cache=store, on_drift="rerun")(lambda step: step(lambda: 2, key="k"))
    assert again == Ok(2)


async def _keep(step: Any) -> Any:
    return await step(double, 1, key="k")


def test_k4_e1_a_kept_error_of_an_awaitable_step_is_raised_where_it_is_awaited() -> None:
    cache, calls = Cache({}), list[int]()

    async def failing() -> None:
        calls.append(1)
        raise ValueError("gone")

    def hidden_failing() -> Any:
        return failing()

    async def body(step: Any) -> str:
        waiting = step(hidden_failing, key="k")  # not here
        with pytest.raises(ValueError, match="gone"):
            await waiting
        return "caught"

    for _ in range(2):
        assert asyncio.run(create_workflow(cache=cache)(body)) == Ok("caught")
    (meta,) = cache.entries()
    assert meta.facts.awaitable
    assert calls == [1]
