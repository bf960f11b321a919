"""What `step`, `create_workflow` and `workflow(body)` refuse, before anything runs (W2, K5, K6)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nbstep import Cache, create_workflow, step
from nbstep.options import CACHE_OPTIONS, STEP_OPTIONS, WORKFLOW_OPTIONS

ran: list[int] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


def ask(**options: Any) -> Any:
    return create_workflow(cache={})(lambda step: step(lambda: ran.append(1), **options))


@pytest.mark.parametrize("option", sorted({*WORKFLOW_OPTIONS, *CACHE_OPTIONS} - {*STEP_OPTIONS}))
def test_w2_another_place_s_option_at_a_step(option: str) -> None:
    home = "create_workflow" if option in WORKFLOW_OPTIONS else "Cache"
    with pytest.raises(TypeError) as caught:
        ask(key="k", **{option: None})
    assert str(caught.value) == f"step takes no {option}=; it belongs to {home}(…, {option}=…)"
    assert ran == []


@pytest.mark.parametrize("option", sorted({*STEP_OPTIONS, *CACHE_OPTIONS} - {*WORKFLOW_OPTIONS}))
def test_w2_another_place_s_option_at_create_workflow(option: str) -> None:
    home = "step" if option in STEP_OPTIONS else "Cache"
    with pytest.raises(TypeError) as caught:
        create_workflow(**{option: None})
    assert str(caught.value) == f"create_workflow takes no {option}=; it belongs to {home}(…, {option}=…)"


@pytest.mark.parametrize("option", sorted({*STEP_OPTIONS, *WORKFLOW_OPTIONS, *CACHE_OPTIONS}))
def test_w2_any_option_at_the_executor(option: str) -> None:
    with pytest.raises(TypeError, match=rf"^workflow\(body\) takes no {option}=; it belongs to .*\(…, {option}=…\)"):
        create_workflow(cache={})(lambda step: ran.append(1), **{option: None})
    assert ran == []


@pytest.mark.parametrize("option", sorted({*STEP_OPTIONS, *WORKFLOW_OPTIONS} - {*CACHE_OPTIONS}))
def test_w2_any_other_option_at_cache_is_a_type_error(option: str) -> None:
    with pytest.raises(TypeError, match=option):
        Cache("memory:", **{option: None})


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"refersh": True}, TypeError, "did you mean refresh="), ({"refresh": "yes"}, TypeError, "refresh="),
        ({"retries": -1}, ValueError, "retries=-1"), ({"retries": 1.5}, ValueError, "retries=1.5"),
        ({"retries": True}, ValueError, "retries=True"), ({"on_error": "ignore"}, ValueError, "on_error='ignore'"),
        ({"timeout": "soon"}, ValueError, "timeout="), ({"ttl": "soon"}, ValueError, "ttl="), ({"ttl": -1}, ValueError, "ttl="),
        ({"error_ttl": {}}, TypeError, "error_ttl="), ({"cache_errors": "all"}, TypeError, "cache_errors="),
        ({"stale_if_error": 1}, TypeError, "stale_if_error="), ({"on_drift": "panic"}, ValueError, "on_drift="),
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["k", None])
def test_w2_a_wrong_value_at_a_step_names_its_option(key: Any, options: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        ask(key=key, **options)
    assert ran == []


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"name": 3}, TypeError, "name="), ({"mode": "dry"}, ValueError, "mode='dry'"), ({"on_event": 3}, TypeError, "on_event="),
        ({"ttl": "soon"}, ValueError, "ttl="), ({"on_drift": "panic"}, ValueError, "on_drift="),
        ({"cache_errors": 3}, TypeError, "cache_errors="), ({"caches": {}}, TypeError, "did you mean cache="),
    ],
)  # fmt: skip
def test_w2_a_wrong_value_at_create_workflow_names_its_option(options: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        create_workflow(**options)


def test_w1_what_is_no_body_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"workflow\(lambda step: …\)"):
        create_workflow(cache={})(42)  # type: ignore[arg-type]


def test_w2_a_dict_of_arguments_that_holds_a_cache_is_no_option() -> None:
    assert create_workflow(cache={})(lambda step: step(sorted, {"cache": 1}, key="k")).value == ["cache"]


async def fetch(uid: int) -> int:
    ran.append(uid)
    return uid


@pytest.mark.parametrize("key", ["k", None])
def test_k5_a_coroutine_is_closed_and_the_lambda_shown(key: Any) -> None:
    coroutine = fetch(1)
    with pytest.raises(TypeError, match=r"step\(lambda: fetch\(…\)"):
        create_workflow(cache={})(lambda step: step(coroutine, key=key))
    assert (coroutine.cr_frame, ran) == (None, [])


def test_k5_a_task_is_refused() -> None:
    async def body(step: Any) -> str:
        task = asyncio.create_task(fetch(1))
        with pytest.raises(TypeError, match="step got a Task") as caught:
            step(task, key="k")
        await task
        return str(caught.value)

    text = asyncio.run(create_workflow(cache={})(body)).value
    assert "pass a function that starts it: await step(lambda: …, key='k')" in text


def test_k5_a_called_object_is_called_out_and_still_run() -> None:
    class Model:
        def __call__(self) -> int:
            return 7

    from nbstep.testing import RecordingListener

    told = RecordingListener()
    assert create_workflow(cache={}, on_event=told)(lambda step: step(Model(), key="k")).value == 7
    assert ["its thunk is a Model object" in text for text in told.findings()] == [True]


def test_k5_a_called_object_is_named_with_its_article_and_an_object_of_a_map_is_none() -> None:
    class Estimate:
        def __call__(self, n: int) -> int:
            return n

    from nbstep.testing import RecordingListener

    told = RecordingListener()
    workflow = create_workflow(cache={}, on_event=told)
    workflow(lambda step: step(Estimate(), 7, key="k"))
    workflow(lambda step: step.map(Estimate(), [7], key="n:{}"))
    assert ["its thunk is an Estimate object" in text for text in told.findings()] == [True]


def test_step_without_a_thunk_says_what_it_takes() -> None:
    with pytest.raises(TypeError, match=r"step needs the function to run: step\(lambda: …, key=…\)"):
        step(key="k")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"step takes the function first, and names the key: step\(ask, key='k'\)"):
        step("k", ask)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"<lambda> takes none; a key is named: step\(…, key='k'\)"):
        step(lambda: 1, "k")
    assert step(lambda *args: args, "k") == ("k",)
    assert repr(step) == "<nbstep.step: step(thunk, *args, key=…)>"
