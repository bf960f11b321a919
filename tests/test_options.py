"""The only table of options (W2): one in the wrong place names the right one. The callables themselves: test_workflows.py."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from nbstep import Cache
from nbstep.notebook.flags import _FLAGS
from nbstep.options import CACHE_OPTIONS, MAP_OPTIONS, STEP_OPTIONS, UNSET, WORKFLOW_OPTIONS, misplaced
from nbstep.policy import POLICY_OPTIONS


@pytest.mark.parametrize("option", sorted(set(WORKFLOW_OPTIONS) - set(STEP_OPTIONS)))
def test_w2_a_workflow_option_at_a_step_names_create_workflow(option: str) -> None:
    text = f"step takes no {option}=; it belongs to create_workflow(…, {option}=…)"
    assert str(misplaced(option, "step")) == text


@pytest.mark.parametrize("option", sorted(set(STEP_OPTIONS) - set(WORKFLOW_OPTIONS)))
def test_w2_a_step_option_at_a_workflow_names_step(option: str) -> None:
    text = f"create_workflow takes no {option}=; it belongs to step(…, {option}=…)"
    assert str(misplaced(option, "create_workflow")) == text


@pytest.mark.parametrize("option", CACHE_OPTIONS)
@pytest.mark.parametrize("where", ["step", "create_workflow"])
def test_w2_a_cache_option_elsewhere_names_cache(option: str, where: str) -> None:
    assert str(misplaced(option, where)) == f"{where} takes no {option}=; it belongs to Cache(…, {option}=…)"


@pytest.mark.parametrize("option", sorted({*WORKFLOW_OPTIONS, *STEP_OPTIONS}))
def test_w2_an_option_of_steps_or_workflows_at_a_cache_names_the_right_place(option: str) -> None:
    with pytest.raises(TypeError, match=f"^Cache takes no {option}=; it belongs to ") as caught:
        Cache("memory:", **{option: 60})
    assert str(caught.value) == str(misplaced(option, "Cache"))


def test_w2_an_unknown_option_of_a_cache_gets_the_nearest_known() -> None:
    with pytest.raises(TypeError, match=r"^Cache has no option maxbytes=; did you mean max_bytes=\?$"):
        Cache("memory:", maxbytes=1)


@pytest.mark.parametrize("option", POLICY_OPTIONS)
def test_w2_a_policy_option_at_the_executor_names_both_places(option: str) -> None:
    error = misplaced(option, "workflow(body)")
    assert isinstance(error, TypeError)
    assert str(error) == (
        f"workflow(body) takes no {option}=; it belongs to step(…, {option}=…) or create_workflow(…, {option}=…)"
    )


def test_w2_an_unknown_option_gets_the_nearest_known() -> None:
    assert str(misplaced("retrys", "step")) == "step has no option retrys=; did you mean retries=?"


def test_w2_an_unknown_option_like_none_lists_all() -> None:
    assert str(misplaced("zzz", "step")) == (
        f"step has no option zzz=; its options: {', '.join(STEP_OPTIONS)}; "
        "if it is an argument of your function: step(lambda: fn(zzz=…), key=…)"
    )
    assert str(misplaced("n_jobs", "step")) == "step takes no n_jobs=; it belongs to step.map(…, n_jobs=…)"


def test_w2_the_table_is_what_the_callables_take() -> None:
    from nbstep import Cache, create_workflow, step

    taken = {
        function: {
            name
            for name, parameter in inspect.signature(function).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        for function in (create_workflow, Cache, type(step).__call__)
    }
    assert taken[create_workflow] == set(WORKFLOW_OPTIONS)
    assert taken[Cache] == set(CACHE_OPTIONS)
    assert taken[type(step).__call__] == set(STEP_OPTIONS) - set(POLICY_OPTIONS)


def test_the_readme_names_every_option_flag_and_variable() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    options = [f"`{option}=" for option in MAP_OPTIONS if option != "key"]
    variables = ["NBSTEP_DIR", "NBSTEP_MODE", "NBSTEP_RETRY_ERRORS", "NBSTEP_SIGNING_KEY_FILE"]
    assert [text for text in (*options, *(f"`{flag}" for flag in _FLAGS), *variables) if text not in readme] == []
    assert 80 <= len(readme.splitlines()) <= 150


def test_an_option_that_is_left_out_shows_as_such() -> None:
    assert repr(UNSET) == "…"
