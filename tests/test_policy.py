"""The policy: its options and what it says of errors (W2, E2, E3)."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import pytest

from nbstep.policy import POLICY_OPTIONS, TRANSIENT_ERROR_TTL_S, Policy, policy_changes, with_changes


def test_w2_options_become_fields() -> None:
    changes = policy_changes(
        {
            "ttl": "15m",
            "error_ttl": datetime.timedelta(hours=1),
            "cache_errors": (KeyError, OSError),
            "stale_if_error": True,
        }
    )
    assert with_changes(Policy(), changes) == Policy(900.0, 3600.0, (KeyError, OSError), True, "warn")


def test_w2_the_defaults() -> None:
    assert Policy() == Policy(None, "auto", True, False, "warn")
    assert with_changes(Policy(), {}) == Policy()


def test_w2_none_is_for_ever() -> None:
    assert policy_changes({"ttl": None, "error_ttl": None}) == {"ttl_s": None, "error_ttl_s": None}


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("ttl", True, TypeError),
        ("ttl", -1, ValueError),
        ("ttl", "auto", ValueError),
        ("error_ttl", "never", ValueError),
        ("error_ttl", [1], TypeError),
        ("cache_errors", "KeyError", TypeError),
        ("cache_errors", (KeyError, "x"), TypeError),
        ("cache_errors", int, TypeError),
        ("cache_errors", None, TypeError),
        ("stale_if_error", 1, TypeError),
        ("on_drift", "stop", ValueError),
        ("on_drift", True, ValueError),
        ("on_drift", ["warn"], ValueError),
    ],
)
def test_w2_a_wrong_value_names_its_option(option: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"{option}="):
        policy_changes({option: value})


def test_w2_an_unknown_option_lists_the_known() -> None:
    with pytest.raises(TypeError, match=f"'tll'; known: {', '.join(POLICY_OPTIONS)}"):
        policy_changes({"tll": 1})


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(), SystemExit(), GeneratorExit(), asyncio.CancelledError(), MemoryError(), NameError("x"),
        UnboundLocalError("x"), ImportError("x"), ModuleNotFoundError("x"), SyntaxError("x"), IndentationError("x"),
        BaseExceptionGroup("both", [KeyboardInterrupt()]),
    ],
    ids=lambda e: type(e).__name__,
)  # fmt: skip
def test_e2_some_errors_are_never_kept(error: BaseException) -> None:
    assert not Policy().keeps(error)
    assert not Policy(cache_errors=lambda error: True).keeps(error)


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyError("x"), AssertionError(), ExceptionGroup("two", [ValueError()])]
)
def test_e1_all_others_are_kept(error: Exception) -> None:
    assert Policy().keeps(error)


def _is_key_error(error: BaseException) -> bool:
    return isinstance(error, KeyError)


@pytest.mark.parametrize("wanted", [KeyError, (KeyError, OSError), LookupError, _is_key_error])
def test_e3_cache_errors_chooses(wanted: Any) -> None:
    policy = with_changes(Policy(), policy_changes({"cache_errors": wanted}))
    assert [policy.keeps(error) for error in (KeyError("k"), ValueError("v"))] == [True, False]


def test_e3_false_keeps_none() -> None:
    assert not Policy(cache_errors=False).keeps(ValueError("x"))


def test_e3_auto_gives_errors_that_pass_a_minute_and_others_for_ever() -> None:
    policy = Policy()
    assert [policy.error_ttl_of(TimeoutError()), policy.error_ttl_of(ValueError())] == [TRANSIENT_ERROR_TTL_S, None]


@pytest.mark.parametrize("ttl", [None, 5.0])
def test_e3_an_explicit_error_ttl_holds_for_all(ttl: float | None) -> None:
    policy = Policy(error_ttl_s=ttl)
    assert [policy.error_ttl_of(TimeoutError()), policy.error_ttl_of(ValueError())] == [ttl, ttl]
