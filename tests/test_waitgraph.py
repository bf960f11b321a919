"""A key asked inside itself in a thread that does not know where its work comes from (C4)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pytest

from nbstep import Ok, RecursiveStep, create_workflow
from nbstep.cache.flight import FLIGHTS
from nbstep.runs.hooks import active_run, set_ambient_run
from nbstep.steps.waiting import nested_wait_s
from nbstep.testing import RecordingListener

PATIENCE_S = 60.0  # a test that needs it fails, but ends
Submit = Callable[[Callable[[], Any]], Any]


def by_result(ask: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(ask).result()


def by_map(ask: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(2) as pool:
        return next(pool.map(lambda _: ask(), range(1)))


def by_exception(ask: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        error = pool.submit(ask).exception()
        assert error is not None
        raise error


def by_leaving_the_pool(ask: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask)
    return asked.result()


def by_join(ask: Callable[[], Any]) -> Any:
    raised: list[BaseException] = []

    def asks() -> None:
        try:
            ask()
        except RecursiveStep as error:
            raised.append(error)

    thread = threading.Thread(target=asks)
    thread.start()
    thread.join()
    raise raised[0]


def by_two_pools(ask: Callable[[], Any]) -> Any:
    return by_result(lambda: by_join(ask))


@pytest.mark.parametrize(
    "submit",
    [by_result, by_map, by_exception, by_leaving_the_pool, by_join, by_two_pools],
    ids=lambda one: one.__name__,
)
@pytest.mark.parametrize("between", [False, True], ids=["", "by way of another step"])
def test_c4_asking_ones_own_key_through_a_pool_is_an_error_at_once(submit: Submit, between: bool) -> None:
    told, calls = RecordingListener(), list[Any]()

    def body(step: Any) -> Any:
        def again() -> Any:
            return step(work, key="k")

        def work() -> Any:
            calls.append(1)
            if len(calls) > 1:
                return "inner"
            return submit(lambda: step(lambda: submit(again), key="other")) if between else submit(again)

        return again()

    with pytest.raises(RecursiveStep, match="step 'k' asks for its own key while it computes it"):
        run_as_a_cell(body, told)
    assert calls == [1]
    assert told.findings() == []


def run_as_a_cell(body: Callable[[Any], Any], told: RecordingListener, **options: Any) -> Any:
    """A workflow whose run serves threads without one, as that of the cell that executes now does (W5)."""

    def cell(step: Any) -> Any:
        run = active_run.get()
        set_ambient_run(lambda: run)
        try:
            return body(step)
        finally:
            set_ambient_run(None)

    return create_workflow(cache={}, on_event=told, **options)(cell)


def _pooled(step: Callable[[], Any], wait_s: float) -> Callable[[], Any]:
    """What a pool's thread does; it has no context variables of who gave it that."""

    def asks() -> Any:
        nested_wait_s.set(wait_s)
        return step()

    return asks


def test_c4_a_pools_thread_waits_while_the_holder_waits_for_somebody_else_who_works() -> None:
    """A thunk that uses a pool itself, and takes long: nobody waits for those who ask for its key meanwhile."""
    told, calls, began, gate = RecordingListener(), list[int](), threading.Event(), list[bool]()

    def works() -> str:
        calls.append(1)
        began.set()
        while not gate:
            time.sleep(0.01)  # as one that reads from a server
        return "once"

    def body(step: Any) -> list[Any]:
        with ThreadPoolExecutor(4) as pool, ThreadPoolExecutor(1) as own:
            ask = _pooled(lambda: step(lambda: own.submit(works).result(), key="k"), 0.3)
            asked = [pool.submit(ask)]
            assert began.wait(PATIENCE_S)
            asked += [pool.submit(ask) for _ in range(3)]
            wait(asked, timeout=3.0)  # ten times as long as a step inside a step waits
            gate.append(True)
            return [one.result(PATIENCE_S) for one in asked]

    assert run_as_a_cell(body, told) == Ok(["once"] * 4)
    assert (len(calls), told.findings()) == (1, [])


def test_c4_where_nothing_tells_whom_the_holder_waits_for_a_pools_thread_computes_too_and_says_why() -> None:
    told, calls = RecordingListener(), list[Any]()

    def body(step: Any) -> Any:
        done = threading.Event()

        def again() -> None:
            step(work, key="k")
            done.set()

        def work() -> str:
            calls.append(1)
            if len(calls) > 1:
                return "inner"
            threading.Thread(target=_pooled(again, 0.2)).start()
            assert done.wait(PATIENCE_S)
            return "outer"

        return step(work, key="k")

    assert run_as_a_cell(body, told, name="nightly") == Ok("outer")
    assert calls == [1, 1]
    assert told.findings() == [
        "k: computed here too, as nightly did not finish it in 0.2 s and may be waiting for this thread. "
        "If this step runs inside the step 'k', give it another key"
    ]


def test_c4_work_that_no_thread_of_the_pool_has_begun_may_be_what_the_holder_waits_for() -> None:
    """The only thread of the pool asks for what needs that thread."""
    told, calls = RecordingListener(), list[Any]()

    def body(step: Any) -> Any:
        with ThreadPoolExecutor(1) as pool:

            def work() -> Any:
                calls.append(1)
                if len(calls) > 1:
                    return "inner"
                pool.submit(_pooled(lambda: step(work, key="k"), 0.2))
                return pool.submit(lambda: "second").result(PATIENCE_S)

            return step(work, key="k")

    assert run_as_a_cell(body, told) == Ok("second")
    assert (len(calls), len(told.findings())) == (2, 1)


def ask_again(is_done: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not is_done():
        assert time.monotonic() < until, "nobody computed it"
        time.sleep(0.01)


def asks_the_future(pool: ThreadPoolExecutor, ask: Callable[[], Any]) -> Any:
    future = pool.submit(ask)
    ask_again(future.done)
    return future.result()


def asks_all_futures(pool: ThreadPoolExecutor, ask: Callable[[], Any]) -> Any:
    futures = {pool.submit(ask): "a", pool.submit(lambda: 1): "b"}
    ask_again(lambda: all(future.done() for future in futures))
    return next(future.result() for future in futures)


def asks_the_thread(_: ThreadPoolExecutor, ask: Callable[[], Any]) -> Any:
    gave = list[Any]()
    thread = threading.Thread(target=lambda: gave.append(ask()))
    thread.start()
    ask_again(lambda: not thread.is_alive())
    return gave[0]


def asks_who_waits_for_it(pool: ThreadPoolExecutor, ask: Callable[[], Any]) -> Any:
    return asks_the_future(pool, lambda: pool.submit(ask).result())


@pytest.mark.parametrize(
    "polls",
    [asks_the_future, asks_all_futures, asks_the_thread, asks_who_waits_for_it],
    ids=lambda one: one.__name__,
)
def test_c4_a_holder_that_asks_again_and_again_whether_the_work_is_done_is_not_waited_for_for_ever(
    polls: Callable[[ThreadPoolExecutor, Callable[[], Any]], Any],
) -> None:
    told, calls = RecordingListener(), list[Any]()

    def body(step: Any) -> Any:
        with ThreadPoolExecutor(3) as pool:

            def work() -> Any:
                calls.append(1)
                return "inner" if len(calls) > 1 else polls(pool, _pooled(lambda: step(work, key="k"), 0.2))

            return step(work, key="k")

    assert run_as_a_cell(body, told) == Ok("inner")
    assert len(calls) == 2
    assert [text.partition(" in ")[0] for text in told.findings()] == [
        "k: computed here too, as MainThread did not finish it"
    ]


def test_c4_a_holder_that_waits_a_limited_time_may_go_on_so_nobody_is_told_that_it_asks_itself() -> None:
    told, given = RecordingListener(), list[Any]()

    def body(step: Any) -> Any:
        def watch() -> None:
            nested_wait_s.set(PATIENCE_S)
            given.append(step(work, key="k"))

        def work() -> str:
            watching.start()
            for _ in range(4):
                watching.join(0.3)  # longer than it takes until a waiting step looks whom it waits for
            return "once"

        watching = threading.Thread(target=watch)
        value = step(work, key="k")
        watching.join(PATIENCE_S)
        return value

    assert run_as_a_cell(body, told) == Ok("once")
    assert (given, told.findings()) == (["once"], [])


def test_c4_a_landed_flight_leaves_nothing_to_wait_for() -> None:
    flight, _ = FLIGHTS.claim("scope", "k", "me", 0.0)
    FLIGHTS.land("scope", "k", flight, "kept")
    assert not FLIGHTS.any_may_wait()
