"""Taking one step: its events, what waits for whom, what reaches the user whatever goes wrong (C3, C4, E2, K4, K10)."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import logging
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from shells import open_shell

from nbstep import Cache, DriftError, Err, OfflineMiss, Ok, RecursiveStep, create_workflow, step
from nbstep.cache.records import Miss
from nbstep.events import Event, Finding, StepAsked, StepFinished, StepHit, StepMissed, StepStarted, StepWaiting
from nbstep.steps.waiting import nested_wait_s
from nbstep.stores.base import Traces, run_now
from nbstep.stores.disk import DiskStore
from nbstep.testing import AsyncMemoryStore, MemoryStore, RecordingListener, SettableClock


def _once_waiting(told: RecordingListener, waiting: int) -> None:
    """Lets time pass until so many steps wait; the tests end by what happens, this only orders it."""
    for _ in range(2000):
        if len(told.of(StepWaiting)) >= waiting:
            return
        time.sleep(0.005)
    raise AssertionError(f"only {len(told.of(StepWaiting))} steps wait")


@contextmanager
def _threads(count: int, work: Callable[[], Any]) -> Generator[list[Any]]:
    """Runs `work` on threads that belong to the active run; the list holds their futures."""
    with ThreadPoolExecutor(count) as pool:
        yield [pool.submit(contextvars.copy_context().run, work) for _ in range(count)]


@contextmanager
def _nested_wait(seconds: float) -> Generator[None]:
    """A step inside a step waits this long."""
    before = nested_wait_s.set(seconds)
    yield
    nested_wait_s.reset(before)


# Events


@pytest.mark.parametrize("error", [KeyboardInterrupt(), asyncio.CancelledError(), ValueError("no"), SystemExit(1)])
def test_a_step_that_was_stopped_is_told_from_one_that_failed(error: BaseException) -> None:
    told = RecordingListener()

    def thunk() -> None:
        raise error

    workflow = create_workflow(cache={}, on_event=told)
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError, SystemExit):
        workflow(lambda step: step(thunk, key="k"))
    (finished,) = told.of(StepFinished)
    assert finished.interrupted is isinstance(error, KeyboardInterrupt | asyncio.CancelledError)


def test_the_events_of_a_miss_and_of_a_hit() -> None:
    told, clock = RecordingListener(), SettableClock(at=50.0)
    workflow = create_workflow(cache=clock.drive(Cache({})), on_event=told)
    for _ in range(2):
        workflow(lambda step: step(lambda: 1, key="k"))
        clock.advance(10)
    asked, missed, started, finished, again, hit = told.about("k")
    assert isinstance(asked, StepAsked)
    assert (asked.step, asked.at, asked.parent, asked.place.notebook) == (0, 50.0, None, "test_take.py")
    assert isinstance(missed, StepMissed)
    assert (missed.reason, missed.detail) == ("new", None)
    assert isinstance(started, StepStarted)
    assert isinstance(finished, StepFinished)
    assert (finished.outcome, finished.at, finished.size_bytes is None, finished.error) == ("ok", 50.0, False, None)
    assert isinstance(again, StepAsked)
    assert isinstance(hit, StepHit)
    assert (hit.at, hit.created, hit.saved_s, hit.source) == (60.0, 50.0, finished.took_s, "cache")


def test_a_step_that_replaces_a_value_says_how_long_it_took_before() -> None:
    told = RecordingListener()
    workflow = create_workflow(cache={}, on_event=told)
    workflow(lambda step: step(lambda: 1, key="k"))
    workflow(lambda step: step(lambda: 1, key="k", refresh=True))
    first, second = told.of(StepStarted)
    assert (first.expected_s, second.expected_s) == (None, told.of(StepFinished)[0].took_s)


def test_a_step_inside_a_step_names_its_parent() -> None:
    told = RecordingListener()
    create_workflow(cache={}, on_event=told)(lambda step: step(lambda: step(lambda: 1, key="inner"), key="outer"))
    assert [(event.key, event.step, event.parent) for event in told.of(StepAsked)] == [
        ("outer", 0, None),
        ("inner", 1, 0),
    ]


def _refusals() -> Iterator[tuple[str, type[Exception], str, Callable[[Any, RecordingListener], Any]]]:
    def offline(cache: Any, told: RecordingListener) -> Any:
        return create_workflow(cache=cache, on_event=told, mode="offline")(lambda step: step(lambda: 1, key="k"))

    def recursive(cache: Any, told: RecordingListener) -> Any:
        return create_workflow(cache=cache, on_event=told)(lambda step: step(lambda: step(lambda: 1, key="k"), key="k"))

    def drifted(cache: Any, told: RecordingListener) -> Any:
        create_workflow(cache=cache)(lambda step: step(lambda: 1, key="k"))
        return create_workflow(cache=cache, on_event=told, on_drift="error")(lambda step: step(lambda: 2, key="k"))

    yield "offline", OfflineMiss, "new", offline
    yield "recursive", RecursiveStep, "new", recursive
    yield "drifted", DriftError, "drifted", drifted


@pytest.mark.parametrize(
    ("error", "reason", "run"), [row[1:] for row in _refusals()], ids=[row[0] for row in _refusals()]
)
def test_a_refused_step_ends_with_its_final_event(error: type[Exception], reason: str, run: Any) -> None:
    told = RecordingListener()
    with pytest.raises(error):
        run({}, told)
    last = max(event.step for event in told.of(StepAsked))
    events = [event for event in told.about("k") if getattr(event, "step", None) == last]
    assert [type(event).__name__ for event in events] == ["StepAsked", "StepMissed", "StepFinished"]
    assert (events[1].reason, events[2].outcome) == (reason, "error")
    assert events[2].error.startswith(error.__name__)


# What a thunk may raise


def test_w4_stop_iteration_leaves_as_itself_fresh_and_kept() -> None:
    rows = iter([])
    calls: list[int] = []

    def first_row() -> Any:
        calls.append(1)
        return next(rows)

    def body(step: Any) -> str:
        try:
            step(first_row, key="k")
        except StopIteration:
            return "StopIteration"
        return "a value"

    workflow = create_workflow(cache={})
    assert [workflow(body), workflow(body), len(calls)] == [Ok("StopIteration"), Ok("StopIteration"), 1]
    assert isinstance(workflow(lambda step: step(first_row, key="k")).error, StopIteration)


def test_an_error_whose_text_cannot_be_made_still_leaves_as_itself() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    error = Odd("x")

    def fail() -> None:
        raise error

    told = RecordingListener()
    assert create_workflow(cache={}, on_event=told)(lambda step: step(fail, key="k")).error is error
    assert [event.error for event in told.of(StepFinished)] == ["Odd"]


def test_e2_an_error_of_an_inner_key_is_not_kept_outside_not_even_through_a_step_without_key() -> None:
    cache = Cache({})

    def outer() -> Any:
        return step(lambda: step(lambda: 1 / 0, key="inner"))

    for _ in range(2):
        create_workflow(cache=cache)(lambda step: step(outer, key="outer")).error
    assert [meta.key for meta in cache.entries()] == ["inner"]


def test_e2_an_error_raised_from_one_of_an_inner_key_is_the_outers_own() -> None:
    cache = Cache({})

    def outer() -> Any:
        try:
            step(lambda: 1 / 0, key="inner")
        except ZeroDivisionError as error:
            raise LookupError("no rate") from error

    create_workflow(cache=cache)(lambda step: step(outer, key="outer")).error
    assert sorted(meta.key for meta in cache.errors()) == ["inner", "outer"]


def test_b10_an_entry_says_whether_its_error_was_raised_or_returned() -> None:
    workflow = create_workflow(cache={})
    workflow(lambda step: step(lambda: Err(LookupError("gone")), key="returned", on_error="keep"))
    workflow(lambda step: step(lambda: 1 / 0, key="raised", on_error="keep"))
    assert {meta.key: meta.facts.returned for meta in workflow.cache.errors()} == {"returned": True, "raised": False}


@pytest.mark.parametrize(
    ("cache_errors", "calls_after"), [(KeyError, 2), (LookupError, 1), ((ValueError, KeyError), 2), (bool, 1)]
)
def test_e3_a_kept_error_is_used_only_where_the_step_that_asks_keeps_such_errors(
    cache_errors: Any, calls_after: int
) -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise IndexError("gone")

    told = RecordingListener()
    workflow = create_workflow(cache={}, on_event=told)
    workflow(lambda step: step(fail, key="k")).error
    wanted = (lambda error: "gone" in str(error)) if cache_errors is bool else cache_errors
    again = workflow(lambda step: step(fail, key="k", cache_errors=wanted))
    assert isinstance(again.error, IndexError)
    assert len(calls) == calls_after
    (missed,) = told.of(StepMissed)[1:] or [None]
    assert missed is None or missed.reason == "error-retried"


def test_e2_an_err_that_came_out_of_an_inner_step_is_kept_under_its_key_only() -> None:
    cache: dict[str, Any] = {}
    workflow = create_workflow(cache=cache)
    inner = lambda: step(lambda: Err("NOT_FOUND"), key="inner", on_error="keep")
    for _ in range(2):
        assert workflow(lambda step: step(inner, key="outer")).error == "NOT_FOUND"
        assert set(cache) == {"inner"}


def test_e6_a_failed_refetch_says_how_the_good_value_comes_back() -> None:
    told = RecordingListener()
    clock = SettableClock()
    cache = Cache({})
    cache.clock = clock
    workflow = create_workflow(cache=cache, on_event=told)
    workflow(lambda step: step(lambda: 7, key="k"))
    clock.advance(3600)
    workflow(lambda step: step(lambda: 1 / 0, key="k", refresh=True)).error
    assert told.findings() == ["k: its last good value, kept 1 h ago, is in the trash; cache.undo('k') brings it back"]
    cache.undo("k")
    assert cache.get("k") == 7


@pytest.mark.parametrize(
    ("leaf", "kept"), [(NameError("x"), False), (LookupError("x"), True), (ConnectionError("x"), True)]
)
def test_e2_e3_the_errors_in_a_group_decide(leaf: Exception, kept: bool) -> None:
    def fail() -> None:
        raise ExceptionGroup("some", [ExceptionGroup("inner", [leaf]), ValueError("y")])

    cache = Cache({})
    create_workflow(cache=cache)(lambda step: step(fail, key="k")).error
    assert ("k" in cache) is kept
    if kept:
        assert cache.errors()[0].error.transient is isinstance(leaf, ConnectionError)


def test_e2_one_exception_object_raised_by_two_thunks_is_kept_for_both() -> None:
    gone = LookupError("gone")

    def fail() -> None:
        raise gone

    cache = Cache({})
    create_workflow(cache=cache)(lambda step: [step(fail, key=key, on_error="keep") for key in "ab"])
    assert cache.keys() == ["a", "b"]


def test_c4_a_task_that_outlives_its_step_may_ask_for_its_key() -> None:
    async def body(step: Any) -> Any:
        started: list[Any] = []
        gate = asyncio.Event()

        async def later() -> Any:
            await gate.wait()
            return await step(plain, key="k", refresh=True)

        async def outer() -> int:
            started.append(asyncio.create_task(later()))
            return 1

        @functools.wraps(outer)
        async def plain() -> int:
            return 7

        await step(outer, key="k")
        gate.set()
        return await started[0]

    assert asyncio.run(create_workflow(cache={})(body)) == Ok(7)


def test_c3_a_store_s_own_cancellation_does_not_cost_the_value() -> None:
    class Odd(MemoryStore):
        def set(self, key: str, value: bytes) -> None:
            raise asyncio.CancelledError

    assert create_workflow(cache=Odd())(lambda step: step(lambda: 7, key="k")) == Ok(7)


def test_k5_an_object_whose_attributes_raise_is_a_thunk_all_the_same() -> None:
    class Client:
        def __getattr__(self, name: str) -> Any:
            raise KeyError(name)

        def __call__(self) -> int:
            return 7

    assert create_workflow(cache={})(lambda step: step(Client(), key="k")) == Ok(7)


@pytest.mark.parametrize("options", [{"mode": "refresh"}, {"retry_errors": True}])
def test_c7_e3_an_entry_from_the_future_is_refreshed_and_retried_once(options: Any, monkeypatch: Any) -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise LookupError("gone")

    cache = Cache({})
    ahead = SettableClock()
    ahead.advance(3600)
    cache.clock = ahead
    create_workflow(cache=cache)(lambda step: step(fail, key="k")).error
    cache.clock = SettableClock()
    if options.pop("retry_errors", False):
        monkeypatch.setenv("NBSTEP_RETRY_ERRORS", "1")
    again = create_workflow(cache=cache, **options)
    again(lambda step: [step(fail, key="k", on_error="keep") for _ in range(3)]).unwrap()
    assert len(calls) == 2


def test_e5_a_retry_around_a_step_is_told_at_the_first_replay() -> None:
    def body(step: Any) -> Any:
        for attempt in range(2):
            try:
                return step(lambda: 1 / 0, key="k")
            except ZeroDivisionError as error:
                notes = getattr(error, "__notes__", [])
                assert ["retry around a step" in note for note in notes] == [True] * attempt
        return "twice"

    assert create_workflow(cache={})(body) == Ok("twice")


def test_e3_a_predicate_that_fails_costs_neither_error_nor_run() -> None:
    told = RecordingListener()

    def predicate(error: BaseException) -> bool:
        raise KeyError("predicate")

    workflow = create_workflow(cache={}, on_event=told, cache_errors=predicate)
    assert isinstance(workflow(lambda step: step(lambda: 1 / 0, key="k")).error, ZeroDivisionError)
    assert told.findings() == [
        "k: cache_errors= failed with KeyError: 'predicate', so the error was not kept: mend that function"
    ]


# A cache or listener that fails


def test_c3_a_look_up_that_raises_is_a_miss_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    told, cache = RecordingListener(), Cache({})

    async def look_up(key: str, missed: Miss | None = None, **_: Any) -> Miss:
        raise OSError("no key directory")

    monkeypatch.setattr(cache, "look_up", look_up)
    assert create_workflow(cache=cache, on_event=told)(lambda step: step(lambda: 1, key="k")) == Ok(1)
    assert told.reasons("k") == ["unreadable"]
    assert ["no key directory" in text for text in told.findings()] == [True]


def test_c3_a_listener_that_fails_breaks_no_step(caplog: pytest.LogCaptureFixture) -> None:
    def listener(event: Event) -> None:
        raise RuntimeError("listener")

    workflow = create_workflow(cache={}, on_event=listener)
    assert [workflow(lambda step: step(lambda: 1, key="k")) for _ in range(2)] == [Ok(1), Ok(1)]
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


def test_c3_a_finding_is_told_once_and_logged_where_no_list_shows_it(caplog: pytest.LogCaptureFixture) -> None:
    told = RecordingListener()

    def body(step: Any) -> None:
        for _ in range(3):
            step(threading.Lock, key="lock")

    create_workflow(cache={}, on_event=told)(body)
    assert len(told.findings()) == 1
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [(logging.WARNING, told.findings()[0])]


@pytest.mark.parametrize("damage", [b"NBSTEP1\n", b"NBSTEP9\nxx", b"NBSTEP garbage", "nbstep-base64:x"])
def test_c3_what_cannot_be_read_is_a_miss_that_says_why_and_is_replaced(damage: Any) -> None:
    store: dict[str, Any] = {}
    told = RecordingListener()
    workflow = create_workflow(cache=store, on_event=told)
    workflow(lambda step: step(lambda: 1, key="k"))
    store["k"] = damage
    assert [workflow(lambda step: step(lambda: 2, key="k", on_drift="ignore")) for _ in range(2)] == [Ok(2), Ok(2)]
    assert told.reasons("k")[1:] in (["unreadable"], ["incompatible"])
    assert len(told.findings()) == 1


@pytest.mark.parametrize("value", [b"small", b"large" * 100_000])
@pytest.mark.parametrize("read_before", [True, False])
@pytest.mark.parametrize("kind", ["disk", "mapping"])
def test_c5_a_ttl_ends_though_the_clock_was_hours_ahead_when_the_entry_was_kept(
    tmp_path: Path, kind: str, read_before: bool, value: bytes
) -> None:
    right, calls, store = 1_700_000_000.0, list[float](), tmp_path if kind == "disk" else dict[str, Any]()
    clock = SettableClock(at=right + 18_000)

    def fetch() -> bytes:
        calls.append(clock.at)
        return value

    def run(**options: Any) -> None:
        cache = clock.drive(Cache(store))  # as in another kernel: nothing is known of what was read before
        for _ in range(3):
            assert create_workflow(cache=cache, **options)(lambda step: step(fetch, key="k")) == Ok(value)

    run(ttl="15m")
    kernel = create_workflow(cache=clock.drive(Cache(store)), ttl="15m")
    if read_before:
        kernel(lambda step: step(fetch, key="k"))
    clock.at = right
    run()
    assert calls == [right + 18_000]  # without a ttl it is used as it is
    kernel(lambda step: step(fetch, key="k"))
    run(ttl="15m")
    assert calls == [right + 18_000, right]
    clock.advance("14m")
    run(ttl="15m")
    assert len(calls) == 2
    clock.advance("1m")
    run(ttl="15m")
    assert calls == [right + 18_000, right, right + 900]


def test_c5_an_entry_of_a_machine_whose_clock_is_seconds_ahead_is_used() -> None:
    clock, calls = SettableClock(), []
    workflow = create_workflow(cache=clock.drive(Cache({})), ttl="1m")
    workflow(lambda step: step(lambda: calls.append(1), key="k"))
    clock.at -= 5
    workflow(lambda step: step(lambda: calls.append(1), key="k"))
    assert calls == [1]


# Single flight


def test_c4_eight_threads_ask_one_key_and_one_computes() -> None:
    told, calls, gate = RecordingListener(), [], threading.Event()

    def slow() -> list[int]:
        calls.append(1)
        gate.wait(10)
        return [7]

    def body(step: Any) -> list[Any]:
        with _threads(8, lambda: step(slow, key="k")) as waiting:
            _once_waiting(told, 7)
            gate.set()
        return [future.result() for future in waiting]

    values = create_workflow(cache={}, on_event=told)(body).value
    assert (values, len(calls)) == ([[7]] * 8, 1)
    assert len({id(value) for value in values}) == 8
    assert sorted(hit.source for hit in told.of(StepHit)) == ["shared"] * 7


@pytest.mark.parametrize("cache_errors", [True, False])
def test_c4_threads_share_an_error_kept_or_not(cache_errors: bool) -> None:
    told, calls, gate = RecordingListener(), [], threading.Event()

    def slow() -> None:
        calls.append(1)
        gate.wait(10)
        raise LookupError("gone")

    def body(step: Any) -> list[Any]:
        ask = lambda: step(slow, key="k", on_error="keep", cache_errors=cache_errors)
        with _threads(4, ask) as waiting:
            _once_waiting(told, 3)
            gate.set()
        return [future.result() for future in waiting]

    results = create_workflow(cache={}, on_event=told)(body).value
    assert ([type(result.error) for result in results], len(calls)) == ([LookupError] * 4, 1)
    assert not any(hasattr(result.error, "__notes__") for result in results)


def test_c4_waiters_of_a_refetch_that_fails_all_get_the_last_good_value() -> None:
    told, calls, gate = RecordingListener(), [], threading.Event()
    cache = Cache({})
    create_workflow(cache=cache)(lambda step: step(lambda: "good", key="k"))

    def fail() -> None:
        calls.append(1)
        gate.wait(10)
        raise ConnectionError("reset")

    def body(step: Any) -> list[Any]:
        with _threads(4, lambda: step(fail, key="k", refresh=True, stale_if_error=True)) as waiting:
            _once_waiting(told, 3)
            gate.set()
        return [future.result() for future in waiting]

    assert create_workflow(cache=cache, on_event=told)(body) == Ok(["good"] * 4)
    assert len(calls) == 1


def test_c4_those_who_all_ask_for_a_refresh_share_one() -> None:
    told, calls, gate = RecordingListener(), [], threading.Event()
    cache = Cache({})
    create_workflow(cache=cache)(lambda step: step(lambda: "old", key="k"))

    def slow() -> str:
        calls.append(1)
        gate.wait(10)
        return "new"

    def body(step: Any) -> list[Any]:
        with _threads(4, lambda: step(slow, key="k", refresh=True)) as waiting:
            _once_waiting(told, 3)
            gate.set()
        return [future.result() for future in waiting]

    assert create_workflow(cache=cache, on_event=told)(body) == Ok(["new"] * 4)
    assert len(calls) == 1


def test_c4_a_result_that_cannot_be_kept_is_computed_by_each() -> None:
    told, calls, gate = RecordingListener(), [], threading.Event()

    def slow() -> Any:
        calls.append(1)
        gate.wait(10)
        return threading.Lock()

    def body(step: Any) -> int:
        with _threads(3, lambda: step(slow, key="k")) as waiting:
            _once_waiting(told, 2)
            gate.set()
        return len({id(future.result()) for future in waiting})

    assert (create_workflow(cache={}, on_event=told)(body), len(calls)) == (Ok(3), 3)


def test_c4_an_interrupted_holder_lets_the_next_compute() -> None:
    told, calls, gate = RecordingListener(), [], threading.Event()

    def slow() -> str:
        calls.append(1)
        gate.wait(10)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return "value"

    def ask() -> Any:
        try:
            return step(slow, key="k")
        except KeyboardInterrupt:
            return "interrupted"

    def body(_: Any) -> list[Any]:
        with _threads(2, ask) as waiting:
            _once_waiting(told, 1)
            gate.set()
        return sorted(future.result() for future in waiting)

    assert create_workflow(cache={}, on_event=told)(body) == Ok(["interrupted", "value"])
    assert len(calls) == 2


@pytest.mark.parametrize("store", [MemoryStore, AsyncMemoryStore])
def test_c4_tasks_ask_one_key_and_one_computes(store: Any) -> None:
    calls: list[int] = []

    async def slow() -> int:
        calls.append(1)
        await asyncio.sleep(0.01)
        return 7

    async def body(step: Any) -> list[int]:
        return await asyncio.gather(*[step(slow, key="k") for _ in range(8)])

    told = RecordingListener()
    assert asyncio.run(create_workflow(cache=store(), on_event=told)(body)) == Ok([7] * 8)
    assert (len(calls), [hit.source for hit in told.of(StepHit)]) == (1, ["shared"] * 7)


def test_c4_tasks_of_two_loops_share_too() -> None:
    calls: list[int] = []
    told = RecordingListener()

    async def slow() -> str:
        calls.append(1)
        while not told.of(StepWaiting):
            await asyncio.sleep(0.001)
        return "value"

    async def ask() -> str:
        return await step(slow, key="k")

    def body(_: Any) -> list[str]:
        with _threads(2, lambda: asyncio.run(ask())) as waiting:
            return [future.result() for future in waiting]

    assert create_workflow(cache={}, on_event=told)(body) == Ok(["value", "value"])
    assert calls == [1]


def test_c4_another_caches_same_key_is_another_computation() -> None:
    def outer() -> int:
        return create_workflow(cache={})(lambda step: step(lambda: 1, key="k")).unwrap() + 1

    assert create_workflow(cache={})(lambda step: step(outer, key="k")) == Ok(2)


def test_c4_recursion_is_seen_through_another_cache_object_on_the_same_directory(tmp_path: Any) -> None:
    def outer() -> Any:
        return create_workflow(cache=str(tmp_path / "c"))(lambda step: step(lambda: 1, key="k")).unwrap()

    with pytest.raises(RecursiveStep):
        create_workflow(cache=str(tmp_path / "c"))(lambda step: step(outer, key="k"))


def test_c4_a_step_inside_a_step_waits_for_a_time_only() -> None:
    started, done = threading.Event(), threading.Event()

    def holder() -> str:
        started.set()
        assert done.wait(10)
        return "held"

    @functools.wraps(holder)
    def own_work() -> str:
        return "own"

    def body(_: Any) -> tuple[str, str]:
        with _threads(1, lambda: step(holder, key="k")) as held:
            assert started.wait(10)
            own = step(lambda: step(own_work, key="k"), key="outer")
            done.set()
        return own, held[0].result()

    with _nested_wait(0.01):
        assert create_workflow(cache={})(body) == Ok(("own", "held"))


def test_c4_a_step_at_the_top_waits_as_long_as_it_takes() -> None:
    told, calls, gate = RecordingListener(), [], threading.Event()

    def slow() -> int:
        calls.append(1)
        until = time.monotonic() + 10
        while not gate.is_set() and time.monotonic() < until:
            time.sleep(0.005)  # it works: who stands in a wait for threads may be waiting for the one that asks
        return 7

    def body(step: Any) -> list[Any]:
        with _threads(2, lambda: step(slow, key="k")) as waiting:
            _once_waiting(told, 1)
            gate.set()
        return [future.result() for future in waiting]

    with _nested_wait(0.0):
        assert create_workflow(cache={}, on_event=told)(body) == Ok([7, 7])
    assert calls == [1]


def test_k10_a_plain_step_that_had_to_wait_calls_what_it_was_given_at_the_call() -> None:
    told, gate, calls = RecordingListener(), threading.Event(), []
    number = 1

    def holder() -> None:
        calls.append(1)
        gate.wait(10)
        raise KeyboardInterrupt

    @functools.wraps(holder)
    def read() -> int:
        return number

    def hold() -> None:
        with pytest.raises(KeyboardInterrupt):
            step(holder, key="k")

    def body(_: Any) -> Any:
        nonlocal number
        with _threads(1, hold):
            while not calls:
                time.sleep(0.001)
            with _threads(1, lambda: step(read, key="k")) as waiting:
                _once_waiting(told, 1)
                number = 2
                gate.set()
        return waiting[0].result()

    assert create_workflow(cache={}, on_event=told)(body) == Ok(1)


# W4: what is handed back is known to the run


def test_w3_what_was_handed_back_and_raised_later_is_the_steps_failure() -> None:
    workflow = create_workflow(cache={})
    for thunk, error in ((lambda: Err("NOT_FOUND"), "NOT_FOUND"), (lambda: {}["x"], None)):
        for _ in range(2):
            result = workflow(lambda step: step(thunk, key=f"k:{error}", on_error="keep").unwrap() and None)
            assert isinstance(result, Err)
            assert result.error == error or isinstance(result.error, KeyError)


def test_w4_keyboard_interrupt_is_never_handed_back() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create_workflow(cache={})(lambda step: step(interrupt, key="k", on_error="keep"))


def test_a_miss_is_explained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, told, asked = Cache(tmp_path), RecordingListener(), []
    cache.set("a", 1)
    cache.delete("a")
    real = DiskStore.traces

    async def traces(self: DiskStore, key: str, signer: str) -> Traces:
        asked.append(key)
        return await real(self, key, signer)

    monkeypatch.setattr(DiskStore, "traces", traces)
    workflow = create_workflow(cache=cache, on_event=told)
    assert workflow(lambda step: [step(lambda: 1, key="a"), step(lambda: 2, key="b")]).unwrap() == [1, 2]
    assert (told.reasons("a"), told.reasons("b"), asked) == (["deleted"], ["new"], ["a", "b"])


def test_c3_what_became_unreadable_while_a_step_waited_is_told(tmp_path: Path) -> None:
    """The reason of the look-up before the wait stands only where there is still nothing."""
    cache = Cache(tmp_path)
    cache.set("k", 1)
    (path,) = (tmp_path / "v1" / "e").glob("*/*")
    path.write_bytes(b"spoilt")
    found = run_now(cache.look_up("k", Miss("new")))
    assert isinstance(found, Miss)
    assert found.reason == "unreadable"
    assert run_now(cache.look_up("other", Miss("deleted"))) == Miss("deleted")
    assert run_now(cache.look_up("other", Miss("unreadable", "it was spoilt"))) == Miss("new")


def test_d3_a_refused_old_value_names_the_command_as_it_is_written_where_it_was_asked(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    with open_shell(tmp_path) as shell:
        shell.ip.user_ns["cache"] = cache
        shell.good('%%workflow w --cache $cache\na = step(lambda: 1, key="a b")')
        ran = shell.run('%%workflow w --cache $cache --on-drift error\na = step(lambda: 2, key="a b")')
        kept = shell.good(f"%nbstep accept --cache {cache.place} 'a b'").text
        shell.good('%%workflow w --cache $cache --on-drift error\na = step(lambda: 2, key="a b")')
    keep = f"accept --cache {cache.place} 'a b'"
    assert str(ran.error) == (
        'a b is an old value, and on_drift="error": the step was edited. Run it again: refresh=True, or '
        f"%nbstep rm --cache {cache.place} 'a b'. Keep it: %nbstep {keep}"
    )
    assert ran.text.count("is an old value") == 2  # in the traceback and in the list
    assert "During handling" not in ran.text
    assert kept.startswith("Accepted 1 old value: a b. Undo: %nbstep undo --cache ")
    with pytest.raises(DriftError, match=rf"nbstep rm --cache {cache.place} 'a b'. Keep it: nbstep {keep}$"):
        create_workflow(cache=cache, on_drift="error")(lambda step: step(lambda: 3, key="a b"))


# Secrets in what is told


_LEAKY = "GET https://ada:hunter2@api.x.com/v1?api_key=abc123 failed, Authorization: Bearer tok-5f1d0c77-header"


class _LeakyStore:
    """A store that fails with its own address in the message."""

    def get(self, key: str) -> None:
        raise OSError(_LEAKY)

    set = has = delete = get


def _fails() -> None:
    raise ValueError(_LEAKY)


def _broken_predicate(error: BaseException) -> bool:
    raise ValueError(_LEAKY)


@pytest.mark.parametrize("options", [{}, {"cache_errors": _broken_predicate}, {"stale_if_error": True}])
@pytest.mark.parametrize("store", [dict, _LeakyStore])
def test_t10_what_is_told_of_an_error_shows_no_secret(options: Any, store: Any, caplog: Any) -> None:
    told = RecordingListener()
    workflow = create_workflow(cache=store(), on_event=told)
    workflow(lambda step: step(lambda: 1, key="k"))
    workflow(lambda step: step(_fails, key="k", refresh=True, **options))
    gc.collect()
    assert told.of(StepFinished)
    texts = [repr(told.events), *(record.getMessage() for record in caplog.records)]
    assert [text for text in texts if re.search("hunter2|abc123|tok-5f", text)] == []


def test_t10_a_result_nobody_looked_at_is_logged_without_its_secrets(caplog: Any) -> None:
    create_workflow(cache={})(lambda step: step(_fails, key="k"))
    gc.collect()
    (line,) = [record.getMessage() for record in caplog.records if "never looked at" in record.getMessage()]
    assert "https://<redacted>@api.x.com" in line
    assert not re.search("hunter2|abc123|tok-5f", line)


# What the user's own error does when it is looked at


def _deep(levels: int) -> Exception:
    error: Exception = ValueError("at the bottom")
    for level in range(levels):
        error = ExceptionGroup(f"level {level}", [error])
    return error


class _Guarded(Exception):
    def __getattribute__(self, name: str) -> Any:
        if name in {"args", "__dict__", "__cause__", "__context__", "__traceback__", "__notes__"}:
            raise RuntimeError(f"no {name}")
        return super().__getattribute__(name)


class _Homeless(Exception):
    pass


_Homeless.__module__ = None  # type: ignore[assignment]  # pyright: ignore


@pytest.mark.parametrize(
    "error", [_deep(800), _Guarded("x"), _Homeless("x")], ids=["deep groups", "guarded", "no module"]
)
@pytest.mark.parametrize("retries", [0, 1])
def test_c3_an_error_that_cannot_be_looked_at_reaches_the_user_itself(error: Exception, retries: int) -> None:
    def fail() -> None:
        raise error

    told = RecordingListener()
    workflow = create_workflow(cache={}, on_event=told)
    assert workflow(lambda step: step(fail, key="k", retries=retries)).error is error
    assert [event.outcome for event in told.of(StepFinished)] == ["error"]
    assert len(told.of(Finding)) <= 1
    assert all(finding.text.startswith("k was not kept: ") for finding in told.of(Finding))


class _Panic(BaseException):
    """As Rust extensions raise it: not an `Exception`, and no interrupt either."""


def _panics(*args: Any) -> Any:
    raise _Panic("out of bounds")


class _Meta(type):
    def __getattribute__(cls, name: str) -> Any:
        return _panics() if name == "__qualname__" else super().__getattribute__(name)


@pytest.mark.parametrize(
    "make",
    [
        type("Reduces", (), {"__reduce__": _panics}),
        type("Reprs", (), {"__repr__": _panics}),
        type("Sized", (list,), {"__len__": _panics}),
        type("Shaped", (), {"shape": property(_panics)}),
        type("Classed", (), {"__class__": property(_panics)}),
        _Meta("Meta", (), {}),
    ],
    ids=["__reduce__", "__repr__", "__len__", "shape", "__class__", "metaclass"],
)
def test_c3_a_value_whose_code_panics_reaches_the_user(make: Any) -> None:
    value = make()
    told = RecordingListener()
    result = create_workflow(cache={}, on_event=told)(lambda step: step(lambda: value, key="k"))
    assert type(result) is Ok
    assert result.value is value
    assert all(finding.text.startswith("k was not kept: ") for finding in told.of(Finding))


@pytest.mark.parametrize("name", ["__str__", "__repr__", "__reduce__", "response", "__notes__"])
def test_c3_an_error_whose_code_panics_reaches_the_user(name: str) -> None:
    panics = property(_panics) if name in {"response", "__notes__"} else _panics
    error = type("Odd", (Exception,), {name: panics})("x")

    def fail() -> None:
        raise error

    assert create_workflow(cache={})(lambda step: step(fail, key="k")).error is error


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_c3_an_interrupt_while_a_value_is_kept_stops_the_program(stop: type[BaseException]) -> None:
    def reduce(self: Any) -> Any:
        raise stop

    value = type("Slow", (), {"__reduce__": reduce})()
    with pytest.raises(stop):
        create_workflow(cache={})(lambda step: step(lambda: value, key="k"))


def test_c3_of_a_damaged_entry_one_is_told_what_became_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    workflow = create_workflow(cache=Cache(tmp_path))
    workflow(lambda step: step(lambda: 1, key="k"))
    for file in (tmp_path / "v1" / "e").rglob("*.*"):
        file.chmod(0o600)
        file.write_bytes(b"")
    workflow = create_workflow(cache=Cache(tmp_path))
    assert workflow(lambda step: step(lambda: 1, key="k")) == Ok(1)
    assert "k: what was kept cannot be used, so the step runs again: it is empty" in caplog.text
