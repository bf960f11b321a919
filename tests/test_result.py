"""Ok and Err (W3)."""

from __future__ import annotations

import copy
import gc
import logging
import pickle

import pytest

from nbstep.errors import StepFailed
from nbstep.result import Err, Ok, handed_back, unseen


def _said(result: Ok[int] | Err[str]) -> str:
    match result:
        case Ok(value):
            return f"ok {value}"
        case Err(error):
            return f"err {error}"


def test_w3_a_copy_of_an_err_is_nobody_s_result(caplog: pytest.LogCaptureFixture) -> None:
    result = unseen(Err(ValueError("x")), "a workflow", repr)
    copy.copy(result), pickle.loads(pickle.dumps(result))
    gc.collect()
    assert caplog.records == []
    assert result.ok is False


def test_w3_results_work_with_match() -> None:
    assert [_said(Ok(1)), _said(Err("E"))] == ["ok 1", "err E"]


def test_w3_ok_and_err_have_the_same_attributes() -> None:
    assert (Ok(1).ok, Ok(1).value, Ok(1).error) == (True, 1, None)
    assert (Err("E").ok, Err("E").value, Err("E").error) == (False, None, "E")


def test_w3_unwrap_gives_the_value_or_raises_the_error_itself() -> None:
    error = KeyError("k")
    assert Ok(1).unwrap() == 1
    with pytest.raises(KeyError) as caught:
        Err(error).unwrap()
    assert caught.value is error


def test_w3_unwrap_of_an_error_that_is_no_exception_raises_step_failed() -> None:
    with pytest.raises(StepFailed) as caught:
        Err("NOT_FOUND").unwrap()
    assert caught.value.error == "NOT_FOUND"


def test_w3_what_a_step_handed_back_unwraps_to_the_exception_the_run_knows() -> None:
    raised = StepFailed("k", "NOT_FOUND")
    for _ in range(2):
        with pytest.raises(StepFailed) as caught:
            handed_back("NOT_FOUND", raised, repr).unwrap()
        assert caught.value is raised


def test_results_compare_by_content_and_show_it() -> None:
    assert (Ok([1]), Err("E")) == (Ok([1]), Err("E"))
    assert Ok(1) != Err(1)
    assert Ok(1) != 1
    assert (repr(Ok("a")), repr(Err(KeyError("k")))) == ("Ok('a')", "Err(KeyError('k'))")


def test_results_are_unhashable_as_their_values_may_be() -> None:
    with pytest.raises(TypeError):
        hash(Ok(1))


def test_results_survive_pickling() -> None:
    assert pickle.loads(pickle.dumps([Ok(1), Err("E")])) == [Ok(1), Err("E")]


def test_w3_an_err_nobody_looked_at_is_logged_when_collected(caplog: pytest.LogCaptureFixture) -> None:
    unseen(Err(KeyError("k")), "workflow 'sales'", repr)
    gc.collect()
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [
        (logging.ERROR, "the result of workflow 'sales' was never looked at: it failed with KeyError('k')")
    ]


@pytest.mark.parametrize(
    "look",
    [
        lambda result: result.error, lambda result: result.ok, repr, lambda result: result == Err("E"), _said,
    ],
    ids=["error", "ok", "repr", "==", "match"],
)  # fmt: skip
def test_w3_one_that_was_looked_at_is_not(look: object, caplog: pytest.LogCaptureFixture) -> None:
    result = unseen(Err("E"), "a workflow", repr)
    look(result)  # type: ignore[operator]
    del result
    gc.collect()
    assert caplog.records == []


def test_w3_an_err_that_a_user_made_is_the_users(caplog: pytest.LogCaptureFixture) -> None:
    Err("E")
    gc.collect()
    assert caplog.records == []
