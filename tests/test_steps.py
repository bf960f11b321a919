"""One step: thunks, keys, errors kept and not kept, failing caches (K1 to K9, E1 to E6, C3)."""

from __future__ import annotations

import math
import re
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from nbstep import Cache, Err, KeyCollision, Ok, create_workflow, step
from nbstep.commands.tables import Screen
from nbstep.commands.verbs import run_command
from nbstep.events import Finding, StepHit
from nbstep.testing import RecordingListener, SettableClock


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / ".nbstep")


def run_twice(cache: Any, thunk: Any, **options: Any) -> list[Any]:
    workflow = create_workflow(cache=cache)
    return [workflow(lambda step: step(thunk, key="k", **options)) for _ in range(2)]


def test_k1_positional_arguments_go_to_the_thunk() -> None:
    assert create_workflow(cache={})(lambda step: step(pow, 2, 5, key="k")) == Ok(32)


@pytest.mark.parametrize("value", [None, 0, "", [], {}, False, math.nan])
def test_k3_none_falsy_values_and_nan_are_values(cache: Cache, value: Any) -> None:
    calls: list[int] = []
    first, second = run_twice(cache, lambda: calls.append(1) or value)
    assert (repr(first), repr(second), len(calls)) == (repr(Ok(value)), repr(Ok(value)), 1)


def test_k3_an_empty_frame_is_a_value(cache: Cache) -> None:
    pandas = pytest.importorskip("pandas")
    first, second = run_twice(cache, lambda: pandas.DataFrame({"a": []}))
    assert first.value.equals(second.value)
    assert list(second.value.columns) == ["a"]


@pytest.mark.parametrize(
    ("key", "error"), [("", ValueError), (b"user:1", TypeError), (["user", 1], TypeError), ("x" * 4097, ValueError)]
)
def test_k6_what_is_no_key_is_refused_before_anything_runs(key: Any, error: type[Exception]) -> None:
    calls: list[int] = []
    with pytest.raises(error, match=r"key="):
        create_workflow(cache={})(lambda step: step(lambda: calls.append(1), key=key))
    assert calls == []


def test_k9_mutating_a_value_changes_neither_the_cache_nor_a_later_hit(cache: Cache) -> None:
    workflow = create_workflow(cache=cache)

    def body(step: Any) -> list[int]:
        value = step(lambda: [1, 2], key="k")
        value.append(3)
        return step(lambda: [1, 2], key="k")

    assert [workflow(body), workflow(body)] == [Ok([1, 2])] * 2


def test_k9_a_large_array_may_be_written_and_the_entry_stays(cache: Cache) -> None:
    numpy = pytest.importorskip("numpy")
    workflow = create_workflow(cache=cache)
    for _ in range(3):
        array = workflow(lambda step: step(lambda: numpy.zeros(100_000), key="k")).value
        assert array.sum() == 0
        array[:] = 1


def test_e1_a_kept_error_is_raised_again_without_a_call_and_says_so(cache: Cache) -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise LookupError("no such user")

    first, second = run_twice(cache, fail)
    assert (type(second.error), second.error.args, len(calls)) == (LookupError, ("no such user",), 1)
    assert not hasattr(first.error, "__notes__")
    (note,) = second.error.__notes__
    assert "From the cache: k failed" in note
    assert re.search(r"Try again:   nbstep retry --cache \S+ k\n", note)


def test_e1_editing_a_failing_step_runs_it_and_changed_inputs_alone_do_not(cache: Cache) -> None:
    told = RecordingListener()
    workflow = create_workflow(cache=cache, on_event=told)
    divisor = 0
    workflow(lambda step: step(lambda: 1 / divisor, key="k")).error
    divisor = 1
    assert isinstance(workflow(lambda step: step(lambda: 1 / divisor, key="k")).error, ZeroDivisionError)
    assert workflow(lambda step: step(lambda: 2 / divisor, key="k")) == Ok(2.0)
    assert told.reasons("k") == ["new", "error-retried"]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(1), GeneratorExit(), MemoryError(), NameError("x"), ImportError("y")]
)
def test_e2_these_are_never_kept(cache: Cache, error: BaseException) -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise error

    workflow = create_workflow(cache=cache)
    seen: list[BaseException] = []
    for _ in range(2):
        try:
            seen.append(workflow(lambda step: step(fail, key="k")).error)
        except BaseException as caught:
            seen.append(caught)
    assert (len(calls), cache.keys()) == (2, [])
    assert [caught is error for caught in seen] == [True, True]


@pytest.mark.parametrize(
    ("cache_errors", "kept"),
    [
        (True, True), (False, False), (LookupError, True), (ValueError, False), ((ValueError, KeyError), True),
        (lambda error: "gone" in str(error), True), (lambda error: False, False),
    ],
)  # fmt: skip
def test_e3_cache_errors_says_which(cache: Cache, cache_errors: Any, kept: bool) -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise KeyError("gone")

    run_twice(cache, fail, cache_errors=cache_errors)
    assert (len(calls) == 1) is kept


def test_e3_an_error_that_passes_lives_a_minute_any_other_for_ever() -> None:
    clock = SettableClock()
    cache, calls = clock.drive(Cache({})), []

    def fail(error: Exception) -> None:
        calls.append(type(error).__name__)
        raise error

    def run() -> None:
        workflow = create_workflow(cache=cache)
        workflow(lambda step: step(fail, ConnectionError(), key="passing")).error
        workflow(lambda step: step(fail, ValueError(), key="lasting")).error

    run(), run()
    clock.advance(61)
    run()
    assert calls == ["ConnectionError", "ValueError", "ConnectionError"]


def test_e5_asked_again_in_one_run_the_note_says_that_a_retry_around_replays(cache: Cache) -> None:
    create_workflow(cache=cache)(lambda step: step(lambda: 1 / 0, key="k")).error

    def body(step: Any) -> list[str]:
        notes: list[str] = []
        for _ in range(2):
            try:
                step(lambda: 1 / 0, key="k", on_drift="ignore")
            except ZeroDivisionError as error:
                notes += error.__notes__
        return notes

    first, second = create_workflow(cache=cache)(body).value
    assert ["retry around a step replays" in note for note in (first, second)] == [False, True]


def test_e6_what_an_error_replaces_comes_back_by_undo(cache: Cache) -> None:
    good = create_workflow(cache=cache)
    good(lambda step: step(lambda: "good", key="k"))
    assert isinstance(good(lambda step: step(lambda: 1 / 0, key="k", refresh=True)).error, ZeroDivisionError)
    assert [meta.outcome for meta in cache.entries()] == ["error"]
    assert cache.undo("k") == ["k"]
    assert cache.get("k") == "good"


def test_e6_stale_if_error_gives_the_last_good_value_and_keeps_it(cache: Cache) -> None:
    told = RecordingListener()
    workflow = create_workflow(cache=cache, on_event=told)
    workflow(lambda step: step(lambda: "good", key="k"))
    stale = workflow(lambda step: step(lambda: 1 / 0, key="k", refresh=True, stale_if_error=True))
    assert (stale, cache.get("k")) == (Ok("good"), "good")
    assert ["the last good value is used" in finding.text for finding in told.of(Finding)] == [True]


def test_e6_d4_a_value_in_place_of_a_failed_refetch_is_no_old_value(cache: Cache) -> None:
    """There is nothing in it to accept: what to do is said once, and the same everywhere."""

    def fail() -> str:
        raise ConnectionError("no route")

    workflow = create_workflow(cache=cache)
    workflow(lambda step: step(lambda: "good", key="k"))
    workflow(lambda step: step(fail, key="k", refresh=True, stale_if_error=True))
    for notebook in (True, False):
        shown = " ".join(run_command("show k", cache=cache, screen=Screen(notebook=notebook)).text.split())
        assert (
            "what is kept was used, as its refetch failed: ConnectionError: no route; the next run tries again" in shown
        )
        assert "accept" not in shown
        assert "Re-run" not in shown
    assert run_command("ls old:", cache=cache).exit_code == 1
    assert "✓ ok  k " in run_command("ls", cache=cache).text


def test_e6_a_failed_refetch_tells_all_of_its_error_once(cache: Cache) -> None:
    def fail() -> str:
        raise OSError("503 Service Unavailable for url 'http://x/rates'\nFor more information check: https://x.org/503")

    told = RecordingListener()
    workflow = create_workflow(cache=cache, on_event=told)
    workflow(lambda step: step(lambda: "good", key="k"))
    workflow(lambda step: step(fail, key="k", refresh=True, stale_if_error=True))
    said = "OSError: 503 Service Unavailable for url 'http://x/rates'"
    assert [hit.drift for hit in told.of(StepHit)] == [f"refetch failed: {said}"]
    assert told.findings() == [
        f"k: refetch failed ({said} For more information check: https://x.org/503); the last good value is used, "
        "the next run tries again"
    ]


@pytest.mark.parametrize("make", [threading.Lock, lambda: (n for n in "ab"), socket.socket])
def test_c3_an_unpicklable_result_reaches_the_user_with_one_finding(cache: Cache, make: Any) -> None:
    told, made = RecordingListener(), []

    def work() -> Any:
        made.append(make())
        return {"inner": [made[-1]]}

    value = create_workflow(cache=cache, on_event=told)(lambda step: step(work, key="model")).value
    assert value["inner"][0] is made[0]
    (finding,) = told.of(Finding)
    assert finding.text.startswith("model was not kept: ")
    assert "['inner'][0]" in finding.text
    if isinstance(made[0], socket.socket):
        made[0].close()


class Broken:
    """A store whose every call fails."""

    def get(self, key: str) -> None:
        raise OSError("the disk is gone")

    set = has = delete = lambda self, *args: (_ for _ in ()).throw(OSError("the disk is gone"))


def test_c3_a_broken_store_costs_neither_the_value_nor_the_original_error() -> None:
    told = RecordingListener()
    workflow = create_workflow(cache=Broken(), on_event=told)
    assert workflow(lambda step: step(lambda: 42, key="value")) == Ok(42)
    assert isinstance(workflow(lambda step: step(lambda: 1 / 0, key="error")).error, ZeroDivisionError)
    assert {finding.key for finding in told.of(Finding)} == {"value", "error"}
    assert all("the disk is gone" in finding.text for finding in told.of(Finding))


def test_on_drift_warn_says_what_changed_and_rerun_runs(cache: Cache) -> None:
    told = RecordingListener()
    workflow = create_workflow(cache=cache, on_event=told)
    workflow(lambda step: step(lambda: 1, key="k"))
    assert workflow(lambda step: step(lambda: 2, key="k")) == Ok(1)
    assert [hit.drift for hit in told.of(StepHit)] == ["the step was edited"]
    assert workflow(lambda step: step(lambda: 2, key="k", on_drift="rerun")) == Ok(2)
    assert told.reasons("k")[-1] == "drifted"


def test_d3_a_function_that_was_edited_is_named_and_another_one_is_another_step(cache: Cache) -> None:
    def first() -> Any:
        def load() -> int:
            return 1

        return load

    def load() -> int:
        return 2

    def fetch() -> int:
        return 3

    told = RecordingListener()
    workflow = create_workflow(cache=cache, on_event=told)
    for thunk in (first(), load, fetch):
        assert workflow(lambda step: step(thunk, key="k")) == Ok(1)
    assert [hit.drift for hit in told.of(StepHit)] == ["load() was edited", "the step was edited"]


def test_step_map_runs_only_what_is_missing_and_keeps_the_order(cache: Cache) -> None:
    calls: list[int] = []

    def inverse(n: int) -> float:
        calls.append(n)
        return 1 / n

    workflow = create_workflow(cache=cache)
    first = workflow(lambda step: step.map(inverse, [4, 0, 2], key="inv:{}", on_error="keep")).value
    assert (first[0], type(first[1]), first[2]) == (Ok(0.25), Err, Ok(0.5))
    calls.clear()
    second = workflow(lambda step: step.map(inverse, [2, 5, 4], key=lambda n: f"inv:{n}")).value
    assert (second, calls) == ([0.5, 0.2, 0.25], [5])


def test_step_map_runs_every_item_then_raises_the_first_failure(cache: Cache) -> None:
    calls: list[int] = []

    def fail_on_even(n: int) -> int:
        calls.append(n)
        if n % 2 == 0:
            raise LookupError(n)
        return n

    result = create_workflow(cache=cache)(lambda step: step.map(fail_on_even, [1, 2, 3, 4], key="n:{}", n_jobs=2))
    assert (type(result.error), result.error.args, sorted(calls)) == (LookupError, (2,), [1, 2, 3, 4])


def test_step_map_takes_the_options_of_a_step(cache: Cache) -> None:
    calls: list[int] = []

    def flaky(n: int) -> int:
        calls.append(n)
        if len(calls) == 1:
            raise ConnectionError
        return n

    assert create_workflow(cache=cache)(lambda step: step.map(flaky, [1], key="n:{}", retries=1)) == Ok([1])
    assert calls == [1, 1]


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({}, TypeError, "key"), ({"key": "same"}, ValueError, "{}"), ({"key": 3}, TypeError, "key"),
        ({"key": "n:{}", "rate": 3}, ValueError, "rate"), ({"key": "n:{}", "cache": {}}, TypeError, "create_workflow"),
        ({"key": "n:{}", "on_error": "skip"}, ValueError, "on_error"),
    ],
)  # fmt: skip
def test_step_map_refuses_bad_options_before_anything_runs(options: Any, error: type[Exception], says: str) -> None:
    calls: list[int] = []
    with pytest.raises(error, match=says):
        create_workflow(cache={})(lambda step: step.map(calls.append, [1, 2], **options))
    assert calls == []


@pytest.mark.parametrize(
    ("items", "key"),
    [([1.0, "1.0"], "k:{}"), ([1, 2], lambda item: "same"), ([True, "True"], "{}"), ([None, "None"], "{}")],
)
def test_step_map_refuses_one_key_for_items_that_differ(items: list[Any], key: Any) -> None:
    calls: list[Any] = []
    with pytest.raises(KeyCollision, match="would share the key"):
        create_workflow(cache={})(lambda step: step.map(calls.append, items, key=key))
    assert calls == []


def test_step_map_takes_one_item_twice() -> None:
    assert create_workflow(cache={})(lambda step: step.map(str, [1, 1], key="k:{}")) == Ok(["1", "1"])


def test_step_key_is_on_step() -> None:
    assert step.key("cv", lr=0.1, depth=3) == "cv:lr=0.1:depth=3"
