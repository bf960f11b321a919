"""What the library we port pins with its own tests, by the numbers of its list, in Python.

Not here, because a rule of ours replaces it or a later part of nbstep brings it:
 7 (an eager value runs both times)         K5 replaces it: a value instead of a thunk is a TypeError, see test_b07.
10 raised against returned                  kept, see test_b10; W4 words it.
13, 14 hooks that may abort                 events replace them; they only observe.
31 time to live of a cache                  the policy of whoever asks replaces it (C5), see test_b11 and test_b31.
32 a size limit that evicts the oldest      C6, with the store's own chapter; nothing is evicted now.
34 key prefix and patterns in a KV store    a user's own store gets the user's key unchanged (C1); globs: test_b34.
35 loading a missing id gives null          a miss has a reason and is no value, see test_b35.
46 a memo that keeps successes only         cache_errors=False, see test_b46.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from pathlib import Path
from typing import Any

import pytest

from nbstep import Cache, Err, Ok, create_workflow
from nbstep.events import StepAsked, StepFinished, StepHit, StepMissed, StepStarted
from nbstep.testing import RecordingListener, SettableClock


class Counted:
    """A piece of work that counts its calls; gives `result`, or raises it."""

    def __init__(self, result: Any = "value") -> None:
        self.calls: list[Any] = []
        self.result = result

    def __call__(self, *args: Any) -> Any:
        self.calls.append(args)
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


def ask(workflow: Any, work: Counted, key: str | None = "k", **options: Any) -> Any:
    return workflow(lambda step: step(lambda: work(), key=key, **options))


def test_b01_the_same_key_twice_in_one_run_runs_once_and_keeps_one_entry() -> None:
    cache, work = {}, Counted()
    workflow = create_workflow(cache=cache)
    both = workflow(lambda step: [step(lambda: work(), key="k"), step(lambda: work(), key="k")])
    assert (both, len(work.calls), list(cache)) == (Ok(["value", "value"]), 1, ["k"])


def test_b02_without_a_key_nothing_is_kept() -> None:
    cache, work = {}, Counted()
    workflow = create_workflow(cache=cache)
    ask(workflow, work, key=None)
    ask(workflow, work, key=None)
    assert (len(work.calls), cache) == (2, {})


def test_b03_the_cache_survives_across_runs() -> None:
    work = Counted()
    workflow = create_workflow(cache={})
    assert [ask(workflow, work), ask(workflow, work)] == [Ok("value")] * 2
    assert len(work.calls) == 1


def test_b04_different_keys_are_independent() -> None:
    work = Counted()
    workflow = create_workflow(cache={})
    ask(workflow, work, "a")
    ask(workflow, work, "b")
    assert len(work.calls) == 2


def test_b05_without_a_cache_keyed_steps_run_every_time() -> None:
    work = Counted()
    workflow = create_workflow(cache=None)
    ask(workflow, work)
    ask(workflow, work)
    assert len(work.calls) == 2


def test_b06_hits_and_misses_are_told_in_order_with_key_and_place() -> None:
    told, work = RecordingListener(), Counted()
    workflow = create_workflow(cache={}, on_event=told)
    ask(workflow, work)
    ask(workflow, work)
    assert told.kinds("k") == ["StepAsked", "StepMissed", "StepStarted", "StepFinished", "StepAsked", "StepHit"]
    assert told.reasons("k") == ["new"]
    assert {event.place.notebook for event in told.of(StepAsked)} == {Path(__file__).name}


def test_b07_an_eager_value_is_refused_because_its_work_is_done_already() -> None:
    with pytest.raises(TypeError, match="the work was already done"):
        create_workflow(cache={})(lambda step: step("value", key="k"))


def test_b08_a_cached_typed_error_is_the_same_error_with_exactly_one_hit_event() -> None:
    told, work = RecordingListener(), Counted(Err("NOT_FOUND"))
    workflow = create_workflow(cache={}, on_event=told)
    assert ask(workflow, work).error == "NOT_FOUND"
    told.events.clear()
    assert ask(workflow, work).error == "NOT_FOUND"
    assert (len(work.calls), told.kinds("k")) == (1, ["StepAsked", "StepHit"])
    assert [event.outcome for event in told.of(StepHit)] == ["error"]


def test_b09_a_cached_raised_error_comes_back_with_its_cause_and_without_a_call() -> None:
    error = ValueError("bad row")
    error.__cause__ = KeyError("id")
    work = Counted(error)
    workflow = create_workflow(cache={})
    assert ask(workflow, work).error.args == ("bad row",)
    again = ask(workflow, work).error
    assert (type(again), again.args, again.__cause__.args, len(work.calls)) == (ValueError, ("bad row",), ("id",), 1)


def test_b10_raised_and_returned_stay_apart_through_the_cache() -> None:
    workflow = create_workflow(cache={})
    returned, raised = Counted(Err("GONE")), Counted(LookupError("gone"))
    for _ in range(2):
        assert ask(workflow, returned, "returned").error == "GONE"
        assert isinstance(ask(workflow, raised, "raised").error, LookupError)
        with pytest.raises(Exception, match="GONE") as caught:
            ask(workflow, returned, "returned").unwrap()
        assert type(caught.value).__name__ == "StepFailed"


def test_b11_a_step_s_ttl_goes_before_the_workflow_s() -> None:
    clock, short, long_, default = SettableClock(), Counted(), Counted(), Counted()
    workflow = create_workflow(cache=clock.drive(Cache({})), ttl="1h")

    def run() -> None:
        ask(workflow, short, "short", ttl="1m")
        ask(workflow, long_, "long", ttl="1d")
        ask(workflow, default, "default")

    run()
    clock.advance("30s")
    run()
    assert [len(w.calls) for w in (short, long_, default)] == [1, 1, 1]
    clock.advance("2m")
    run()
    assert [len(w.calls) for w in (short, long_, default)] == [2, 1, 1]
    clock.advance("2h")
    run()
    assert [len(w.calls) for w in (short, long_, default)] == [3, 1, 2]


def test_b11_without_a_ttl_nothing_expires_and_awaitable_steps_obey_it_too() -> None:
    clock, forever = SettableClock(), Counted()
    workflow = create_workflow(cache=clock.drive(Cache({})))
    calls: list[str] = []

    async def fetch() -> str:
        calls.append("fetch")
        return "value"

    async def body(step: Any) -> Any:
        return await step(fetch, key="async", ttl="1m")

    for wait in ("0s", "30s", "1000d"):
        clock.advance(wait)
        ask(workflow, forever)
        asyncio.run(workflow(body))
    assert (len(forever.calls), len(calls)) == (1, 2)


@pytest.mark.parametrize("result", ["value", ValueError("bad")])
def test_b13_every_completed_step_is_told_once_also_on_error_also_without_a_cache_not_on_hits(result: Any) -> None:
    for cache, expected in (({}, 1), (None, 2)):
        told = RecordingListener()
        workflow = create_workflow(cache=cache, on_event=told)
        ask(workflow, Counted(result)), ask(workflow, Counted(result))
        assert len(told.of(StepFinished)) == expected


def test_b14_asking_is_told_before_the_thunk_and_before_the_cache_is_read() -> None:
    order: list[str] = []

    class Store(dict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            order.append("read")
            return super().__getitem__(key)

    def told(event: Any) -> None:
        if isinstance(event, StepAsked | StepStarted | StepHit):
            order.append(type(event).__name__)
            raise RuntimeError("a listener that fails changes nothing")

    workflow = create_workflow(cache=Store(), on_event=told)
    assert workflow(lambda step: step(lambda: order.append("thunk"), key="k")) == Ok(None)
    assert order.index("StepAsked") == 0
    assert order.index("StepStarted") < order.index("thunk")
    order.clear()
    assert workflow(lambda step: step(lambda: order.append("thunk"), key="k")) == Ok(None)
    assert (order[0], order[-1], "thunk" in order) == ("StepAsked", "StepHit", False)


def test_b15_retries_without_a_key_run_every_time_and_with_one_only_the_last_outcome_is_kept() -> None:
    calls: list[int] = []

    def flaky() -> str:
        calls.append(1)
        if len(calls) % 2:
            raise ConnectionError("reset")
        return "value"

    workflow = create_workflow(cache={})
    for _ in range(2):
        assert workflow(lambda step: step(flaky, retries=1)) == Ok("value")
    assert len(calls) == 4
    for _ in range(2):
        assert workflow(lambda step: step(flaky, retries=1, key="k")) == Ok("value")
    assert len(calls) == 6


def test_b20_none_results_survive_concurrent_collection() -> None:
    calls: list[int] = []

    async def nothing(n: int) -> None:
        calls.append(n)

    async def body(step: Any) -> list[None]:
        return await asyncio.gather(*[step(nothing, n, key=f"n:{n}") for n in range(20)])

    workflow = create_workflow(cache={})
    assert [asyncio.run(workflow(body)) for _ in range(2)] == [Ok([None] * 20)] * 2
    assert sorted(calls) == list(range(20))


def test_b21_only_the_key_counts_not_what_the_step_is_called() -> None:
    workflow = create_workflow(cache={})

    def fetch(n: int) -> int:
        return n

    same_name = workflow(lambda step: [step(fetch, 1, key="a"), step(fetch, 2, key="b")])
    calls: list[str] = []

    def first() -> None:
        calls.append("first")

    @functools.wraps(first)  # else K8 knows them for two steps
    def second() -> None:
        calls.append("second")

    create_workflow(cache={})(lambda step: [step(first, key="a"), step(second, key="a")]).unwrap()
    assert (same_name, calls) == (Ok([1, 2]), ["first"])


@pytest.mark.parametrize("where", ["memory:", "disk", "dict"])
def test_b30_get_set_has_delete_clear(where: str, tmp_path: Path) -> None:
    cache = Cache({"memory:": "memory:", "disk": tmp_path / "c", "dict": {}}[where])
    cache.set("a", 1), cache.set("b", None)
    assert (cache.get("a"), cache.get("b", "missing"), cache.get("c", "missing")) == (1, None, "missing")
    assert (cache.delete("a"), cache.delete("a"), cache.has("a"), cache.has("b")) == (True, False, False, True)
    assert (cache.clear(), cache.has("b"), cache.keys()) == (1, False, [])


def test_b31_an_unset_ttl_falls_back_to_the_workflow_s() -> None:
    clock, work = SettableClock(), Counted()
    workflow = create_workflow(cache=clock.drive(Cache({})), ttl=60)
    ask(workflow, work, ttl=None)
    clock.advance("10m")
    ask(workflow, work, ttl=None)
    assert len(work.calls) == 1
    ask(workflow, work)
    assert len(work.calls) == 2


@pytest.mark.parametrize(
    "key", ["user:1/special", "../../etc", "nul\0", "CON", "a" * 4096, "ü\u202e日本", "a:b", "a_b"]
)
def test_b33_any_key_is_safe_for_the_file_system(key: str, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    cache.set(key, key)
    assert (cache.get(key), cache.keys()) == (key, [key])
    names = [path.name for path in (tmp_path / "c" / "v1" / "e").rglob("*") if path.is_file()]
    assert all(set(name) <= set("0123456789abcdef.") for name in names)


def test_b34_percent_underscore_and_regex_signs_in_keys_are_literal() -> None:
    cache = Cache({})
    for key in ("a%", "ab", "a_", "a.c", "abc", "user:1", "user:10"):
        cache.set(key, key)
    assert cache.delete_matching("a%") == 1
    assert cache.delete_matching("a.c") == 1
    assert cache.delete_matching("user:*") == 2
    assert cache.keys() == ["ab", "a_", "abc"]


def test_b35_what_is_missing_is_a_miss_with_a_reason() -> None:
    cache = Cache({})
    assert (cache.get("k"), cache.has("k"), cache.entries()) == (None, False, [])
    told = RecordingListener()
    ask(create_workflow(cache=cache, on_event=told), Counted(None))
    ask(create_workflow(cache=cache, on_event=told), Counted(None))
    assert told.reasons("k") == ["new"]


@pytest.mark.parametrize("value", [{"a": [1, {"b": None}], "c": ()}, None, float("inf"), {1: {2, 3}}, b"\0", "é"])
def test_b38_nested_values_and_nones_come_back_as_they_were(value: Any) -> None:
    workflow = create_workflow(cache={})
    first, second = (workflow(lambda step: step(lambda: value, key="k")).value for _ in range(2))
    assert (first, second, type(second)) == (value, value, type(value))


def test_b45_concurrent_callers_share_one_computation_and_separate_keys_do_not() -> None:
    calls: list[str] = []

    async def fetch(key: str) -> dict[str, str]:
        calls.append(key)
        await asyncio.sleep(0.02)
        return {"key": key}

    async def body(step: Any) -> Any:
        return await asyncio.gather(*[step(fetch, key, key=key) for key in "aaab"])

    values = asyncio.run(create_workflow(cache={})(body)).value
    assert (values, sorted(calls)) == ([{"key": "a"}] * 3 + [{"key": "b"}], ["a", "b"])
    assert len({id(value) for value in values}) == 4  # K9: each caller's own


def test_b45_an_error_is_shared_by_concurrent_callers_and_the_next_call_tries_again() -> None:
    calls: list[int] = []

    async def fetch() -> str:
        calls.append(1)
        await asyncio.sleep(0.02)
        raise ConnectionError("reset")

    async def body(step: Any) -> Any:
        return await asyncio.gather(
            *[step(fetch, key="k", cache_errors=False) for _ in range(4)], return_exceptions=True
        )

    workflow = create_workflow(cache={})
    assert [type(e) for e in asyncio.run(workflow(body)).value] == [ConnectionError] * 4
    assert len(calls) == 1
    asyncio.run(workflow(body))
    assert len(calls) == 2


def test_b45_threads_share_too() -> None:
    calls: list[int] = []
    gate = threading.Event()

    def slow() -> int:
        calls.append(1)
        gate.wait(5)
        return 7

    def body(step: Any) -> list[int]:
        import contextvars

        values: list[int] = []
        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(lambda: values.append(step(slow, key="k")),))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        gate.set()
        for thread in threads:
            thread.join()
        return values

    assert (create_workflow(cache={})(body), len(calls)) == (Ok([7] * 8), 1)


def test_b46_successes_only_with_cache_errors_false() -> None:
    bad, good = Counted(ValueError("bad")), Counted()
    workflow = create_workflow(cache={}, cache_errors=False)
    for _ in range(2):
        assert isinstance(ask(workflow, bad, "bad").error, ValueError)
        ask(workflow, good, "good")
    assert (len(bad.calls), len(good.calls)) == (2, 1)


def test_b46_hits_and_misses_can_be_counted() -> None:
    told = RecordingListener()
    workflow = create_workflow(cache={}, on_event=told)
    for key in ("a", "a", "b", "a"):
        ask(workflow, Counted(), key)
    assert (len(told.of(StepHit)), len(told.of(StepMissed))) == (2, 2)
