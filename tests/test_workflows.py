"""Workflows: bodies, deps, results, options, modes (W1 to W5, C7)."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import threading
import traceback
import warnings
from pathlib import Path
from typing import Any

import pytest

import nbstep
from nbstep import Cache, Err, OfflineMiss, Ok, RecursiveStep, StepFailed, create_workflow, step
from nbstep.events import StepFinished
from nbstep.testing import RecordingListener


def test_w1_a_body_takes_step_or_step_and_deps() -> None:
    deps = {"fetch": lambda uid: f"user {uid}"}
    workflow = create_workflow(deps, cache={})
    assert workflow(lambda step: step(lambda: 1, key="a")) == Ok(1)
    assert workflow(lambda step, deps: step(lambda: deps.fetch("1"), key="b")) == Ok("user 1")
    assert workflow(lambda step, deps: deps["fetch"]("2")) == Ok("user 2")


def test_w1_deps_are_the_caller_s_own_dict() -> None:
    deps = {"seen": [], "get": lambda name: f"got {name}"}
    workflow = create_workflow(deps, cache=None)

    def body(step: Any, deps: Any) -> Any:
        deps["added"] = 1
        del deps["seen"]
        assert "added" in deps
        assert (len(deps), dict(deps)) == (2, {"get": deps["get"], "added": 1})
        return deps.get("x")  # the dict's own entry, not a method of mappings

    assert workflow(body) == Ok("got x")
    assert deps.keys() == {"get", "added"}
    with pytest.raises(AttributeError, match="deps has no 'seen'; it has get, added"):
        workflow(lambda step, deps: deps.seen)


def test_w1_a_body_that_does_not_take_step_is_told() -> None:
    with pytest.raises(TypeError, match=r"the body of a workflow takes step: workflow\(lambda step: …\)"):
        create_workflow(cache=None)(lambda: 3)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_w4_the_traceback_of_a_failure_has_the_user_s_frames(asynchronous: bool) -> None:
    def fail() -> None:
        raise LookupError("gone")

    async def body(step: Any) -> Any:
        return step(fail, key="k")

    workflow = create_workflow(cache={})
    for frames in (["<lambda>", "fail"], ["<lambda>"]):
        result = asyncio.run(workflow(body)) if asynchronous else workflow(lambda step: step(fail, key="k"))
        shown = [frame.name for frame in traceback.extract_tb(result.error.__traceback__)]
        assert shown == ["body" if asynchronous else name for name in frames[:1]] + frames[1:]


def test_w1_deps_that_are_no_plain_dict_are_passed_as_given() -> None:
    deps = object()
    assert create_workflow(deps, cache=None)(lambda step, d: d is deps) == Ok(True)


def test_w1_an_async_body_gives_an_awaitable_of_the_result() -> None:
    async def body(step: Any) -> int:
        return await step(lambda: asyncio.sleep(0, 7), key="k")

    assert asyncio.run(create_workflow(cache={})(body)) == Ok(7)


def test_w1_without_cache_the_project_s_disk_cache_is_used(nbstep_cache: Cache) -> None:
    create_workflow()(lambda step: step(lambda: 1, key="k"))
    assert nbstep_cache.keys() == ["k"]


def test_w2_the_step_s_option_goes_before_the_workflow_s() -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise ValueError

    workflow = create_workflow(cache={}, cache_errors=False)
    for _ in range(2):
        workflow(lambda step: step(fail, key="kept", cache_errors=True)).error
        workflow(lambda step: step(fail, key="not kept")).error
    assert len(calls) == 3


def test_w3_a_step_s_failure_is_an_err_and_a_bug_propagates() -> None:
    workflow = create_workflow(cache={})
    failed = workflow(lambda step: step(lambda: 1 / 0, key="k"))
    assert isinstance(failed.error, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        workflow(lambda step: 1 / 0)


def test_w3_identity_counts_a_new_exception_from_a_step_s_is_a_bug() -> None:
    def body(step: Any) -> None:
        try:
            step(lambda: 1 / 0, key="k")
        except ZeroDivisionError as error:
            raise RuntimeError("mine") from error

    with pytest.raises(RuntimeError, match="mine"):
        create_workflow(cache={})(body)


def test_w3_a_run_inside_a_run_owns_for_both() -> None:
    inner = create_workflow(cache={})
    outer = create_workflow(cache={})
    result = outer(lambda step: inner(lambda step: step(lambda: 1 / 0, key="k")).unwrap())
    assert isinstance(result.error, ZeroDivisionError)


def test_w3_an_inner_run_s_plain_err_is_an_err_of_the_outer_one_too() -> None:
    inner, outer = create_workflow(cache={}), create_workflow(cache={})
    for _ in range(2):
        assert outer(lambda step: inner(lambda step: step(lambda: Err("NF"), key="k")).unwrap()).error == "NF"


def test_w3_a_body_s_own_result_is_not_wrapped_twice() -> None:
    workflow = create_workflow(cache=None)
    assert (workflow(lambda step: Ok(1)), workflow(lambda step: Err("no"))) == (Ok(1), Err("no"))


def test_w3_an_err_nobody_looked_at_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, logger="nbstep"):
        create_workflow(cache={}, name="churn")(lambda step: step(lambda: 1 / 0, key="k"))
        gc.collect()
    assert ["churn" in record.getMessage() for record in caplog.records] == [True]


def test_w3_ok_and_err_match() -> None:
    match create_workflow(cache={})(lambda step: step(lambda: Err("NOT_FOUND"), key="k")):
        case Err(error):
            assert error == "NOT_FOUND"
        case _:
            pytest.fail("no Err")


def test_w4_a_returned_err_is_raised_inside_the_body() -> None:
    def body(step: Any) -> str:
        assert step(lambda: Ok(3), key="ok") == 3
        with pytest.raises(StepFailed) as failed:
            step(lambda: Err("NOT_FOUND"), key="plain")
        with pytest.raises(LookupError):
            step(lambda: Err(LookupError("gone")), key="exception")
        return failed.value.error

    workflow = create_workflow(cache={})
    assert [workflow(body), workflow(body)] == [Ok("NOT_FOUND"), Ok("NOT_FOUND")]


def test_w4_on_error_keep_hands_back_the_result() -> None:
    workflow = create_workflow(cache={})
    for _ in range(2):
        good = workflow(lambda step: [step(lambda: 1, key="good", on_error="keep")]).value[0]
        bad = workflow(lambda step: [step(lambda: 1 / 0, key="bad", on_error="keep")]).value[0]
        assert (good, type(bad.error)) == (Ok(1), ZeroDivisionError)


def test_w5_the_imported_step_uses_the_active_run_also_in_a_thread() -> None:
    cache: dict[str, Any] = {}

    def body(_: Any) -> int:
        thread = threading.Thread(
            target=contextvars.copy_context().run, args=(step, lambda: 2), kwargs={"key": "thread"}
        )
        thread.start()
        thread.join()
        return step(lambda: 1, key="mine")

    assert create_workflow(cache=cache)(body) == Ok(1)
    assert list(cache) == ["thread", "mine"]


def test_w5_without_a_run_the_default_workflow_serves_threads_too(nbstep_cache: Cache) -> None:
    values: list[int] = []
    thread = threading.Thread(target=lambda: values.append(step(lambda: 1, key="thread")))
    thread.start()
    thread.join()
    assert (step(lambda: 2, key="main"), values) == (2, [1])
    assert sorted(nbstep_cache.keys()) == ["main", "thread"]


def test_c7_refresh_runs_each_key_once_more_and_undo_brings_the_whole_run_back() -> None:
    cache, calls = Cache({}), []

    def body(step: Any) -> list[int]:
        return [step(lambda k=k: calls.append(k) or len(calls), key=k) for k in ("a", "b", "a")]

    first = create_workflow(cache=cache)(body)
    refreshed = create_workflow(cache=cache, mode="refresh")(body)
    assert (first, refreshed) == (Ok([1, 2, 1]), Ok([3, 4, 3]))
    assert sorted(cache.undo()) == ["a", "b"]
    assert create_workflow(cache=cache)(body) == Ok([1, 2, 1])


def test_c7_offline_uses_what_is_there_and_raises_on_a_miss_without_a_call() -> None:
    cache: dict[str, Any] = {}
    calls: list[str] = []
    create_workflow(cache=cache)(lambda step: step(lambda: 1, key="there"))
    offline = create_workflow(cache=cache, mode="offline")
    assert offline(lambda step: step(lambda: calls.append("there"), key="there")) == Ok(1)
    with pytest.raises(OfflineMiss, match="'missing' cannot come from the cache: nothing is kept under it\\. Run"):
        offline(lambda step: step(lambda: calls.append("missing"), key="missing"))
    assert calls == []


def test_c7_offline_lists_all_that_gathered_steps_miss() -> None:
    async def fetch(n: int) -> int:
        return n

    async def body(step: Any) -> Any:
        return await asyncio.gather(*[step(fetch, n, key=f"n:{n}") for n in range(3)])

    cache: dict[str, Any] = {}
    create_workflow(cache=cache)(lambda step: step(lambda: 1, key="n:1"))
    with pytest.raises(OfflineMiss, match=r"mode offline: 2 keys not in the cache: n:0, n:2$"):
        asyncio.run(create_workflow(cache=cache, mode="offline")(body))


def test_w2_a_workflow_inside_itself_tells_its_listener_once() -> None:
    told = RecordingListener()
    workflow = create_workflow(cache={}, on_event=told)
    workflow(lambda step: workflow(lambda step: step(lambda: 1, key="i")).unwrap())
    assert len(told.of(StepFinished)) == 1


def test_c7_offline_lists_all_that_a_map_misses() -> None:
    cache: dict[str, Any] = {}
    calls: list[int] = []
    create_workflow(cache=cache)(lambda step: step(lambda: 1, key="n:1"))
    offline = create_workflow(cache=cache, mode="offline")
    with pytest.raises(OfflineMiss, match=r"mode offline: 2 keys not in the cache: n:2, n:3$"):
        offline(lambda step: step.map(calls.append, [1, 2, 3], key="n:{}"))
    assert calls == []


@pytest.mark.parametrize(
    ("cache", "key", "says"), [({}, None, "has no key, so it would run"), (None, "k", "there is none")]
)
def test_c7_offline_runs_nothing_that_is_not_kept(cache: Any, key: Any, says: str) -> None:
    calls: list[int] = []
    with pytest.raises(OfflineMiss, match=says):
        create_workflow(cache=cache, mode="offline")(lambda step: step(calls.append, 1, key=key))
    assert calls == []


@pytest.mark.parametrize(("mode", "calls"), [("refresh", 2), ("off", 2), ("normal", 1)])
def test_c7_the_environment_s_mode(mode: str, calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    cache: dict[str, Any] = {}
    create_workflow(cache=cache)(lambda step: step(lambda: made.append(1), key="k"))
    monkeypatch.setenv("NBSTEP_MODE", mode)
    create_workflow(cache=cache)(lambda step: step(lambda: made.append(1), key="k"))
    assert len(made) == calls


def test_c7_a_mode_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match='mode=\'replay\': use "normal", "refresh" or "offline"'):
        create_workflow(mode="replay")  # type: ignore[arg-type]
    monkeypatch.setenv("NBSTEP_MODE", "replay")
    with pytest.raises(ValueError, match="NBSTEP_MODE='replay': use normal, refresh, offline or off"):
        create_workflow(cache={})(lambda step: 1)


def test_c4_a_step_that_asks_for_its_own_key_is_told_at_once() -> None:
    with pytest.raises(RecursiveStep, match="'k' asks for its own key"):
        create_workflow(cache={})(lambda step: step(lambda: step(lambda: 1, key="k"), key="k"))


def test_a_step_inside_a_step_is_recorded_and_the_inner_key_owns_its_error() -> None:
    cache, told = Cache({}), RecordingListener()
    workflow = create_workflow(cache=cache, on_event=told)

    def outer() -> int:
        return step(lambda: 1, key="inner") + 1

    assert workflow(lambda step: step(outer, key="outer")) == Ok(2)
    assert {meta.key: meta.facts.uses for meta in cache.entries()} == {"inner": (), "outer": ("inner",)}

    def failing() -> int:
        return step(lambda: 1 / 0, key="inner:bad")

    workflow(lambda step: step(failing, key="outer:bad")).error
    assert [meta.key for meta in cache.errors()] == ["inner:bad"]


@pytest.mark.parametrize(
    ("cache", "error", "says"),
    [
        ("nope://host/x", ValueError, "nope"),
        (42, TypeError, "42|int"),
        (type("Store", (), {"get": 1, "set": 1, "has": 1})(), TypeError, "delete"),
    ],
)
def test_c1_what_cannot_be_a_cache_is_refused_at_once(cache: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        create_workflow(cache=cache)


def test_a_cache_directory_that_cannot_be_made_names_path_and_fix(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(nbstep.CacheDirectoryError, match="file"):
        create_workflow(cache=str(tmp_path / "file" / "cache"))


def test_w1_an_async_workflow_that_nobody_awaits_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async def body(step: Any) -> int:
        return 1

    workflow = create_workflow(cache=None, name="fetch")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        workflow(body)
        gc.collect()
    assert caplog.messages == ["workflow 'fetch' is async, and was never awaited: await workflow(body)"]


def test_k4_a_step_that_an_async_body_returns_is_awaited() -> None:
    async def later() -> int:
        return 5

    async def body(step: Any) -> Any:
        return step(later, key="k")

    assert asyncio.run(create_workflow(cache={})(body)) == Ok(5)


def test_w1_a_body_of_three_is_told_what_a_body_takes() -> None:
    with pytest.raises(
        TypeError, match=r"the body of a workflow takes step, or step and deps; this one also wants c: "
    ):
        create_workflow(cache=None)(lambda a, b, c: 1)
