"""What a step does with what was found: a pure table (K3, E1, E3, C5, C7, D3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from nbstep.cache.records import ErrorText, Facts, Hit, Meta, Miss
from nbstep.errors import DriftError
from nbstep.policy import Policy
from nbstep.steps.decision import Asked, Compute, Use, decide

KEPT = 1_000.0
CODE = {"": "3.11:a", "tidy": "3.11:b"}
EDITED = {"": "3.11:a", "tidy": "3.11:c"}


def _no_load() -> Any:
    raise AssertionError("a decision loads nothing")


def _hit(error: ErrorText | None = None, **changes: Any) -> Hit:
    meta = Meta(
        key="k", outcome="ok" if error is None else "error", created=KEPT, size_bytes=9, type="int", shape="", preview="",
        error=error, signer="a1b2c3d4", trusted=True, python="3.11", packages={}, facts=Facts(took_s=1.0, code=CODE),
    )  # fmt: skip
    return Hit(replace(meta, **changes), _no_load)


LASTING = _hit(ErrorText("KeyError", "k", ""))
PASSING = _hit(ErrorText("TimeoutError", "", "", transient=True))


def _asked(code: Mapping[str, str] = CODE, **changes: Any) -> Asked:
    policy = Policy(**{name: changes.pop(name) for name in list(changes) if name in Policy.__slots__})
    asked = Asked(
        policy=policy, now=KEPT + 10, kept_here=False, refresh=False, refresh_run=False, retry_errors=False, code=lambda: code
    )  # fmt: skip
    return asked._replace(**changes)


def test_k3_what_is_kept_is_used() -> None:
    hit = _hit()
    assert decide(hit, _asked()) == Use(hit)


@pytest.mark.parametrize("reason", ["new", "deleted", "unreadable", "untrusted", "incompatible"])
def test_a_miss_keeps_its_reason(reason: Any) -> None:
    assert decide(Miss(reason, "why"), _asked()) == Compute(reason, "why")


def test_c7_refresh_computes_and_knows_the_value_it_replaces() -> None:
    hit = _hit()
    assert decide(hit, _asked(refresh=True)) == Compute("refreshed", old=hit)
    assert decide(LASTING, _asked(refresh=True)) == Compute("refreshed", old=None)


def test_c7_a_refreshing_run_computes_each_key_once() -> None:
    hit = _hit()
    assert decide(hit, _asked(refresh_run=True)) == Compute("refreshed", old=hit)
    assert decide(hit, _asked(refresh_run=True, kept_here=True)) == Use(hit)


@pytest.mark.parametrize(("ttl_s", "used"), [(None, True), (10.1, True), (10.0, False), (0.0, False)])
def test_c5_age_is_compared_with_the_ttl_of_who_asks(ttl_s: float | None, used: bool) -> None:
    hit = _hit(facts=Facts(took_s=1.0, ttl_s=1.0, code=CODE))
    assert decide(hit, _asked(ttl_s=ttl_s)) == (Use(hit) if used else Compute("expired", old=hit))


@pytest.mark.parametrize(
    ("ahead_s", "ttl_s", "used"),
    [
        (18_000.0, None, True),  # without a ttl its age does not matter
        (18_000.0, 900.0, False),
        (61.0, 86_400.0, False),
        (60.0, 86_400.0, True),  # clocks of two machines differ
        (6.0, 60.0, True),
        (6.1, 60.0, False),  # it would live a tenth longer than it may
    ],
)
@pytest.mark.parametrize("read_before_the_clock_was_set_back", [True, False])
def test_c5_what_a_clock_far_ahead_kept_has_no_age_and_is_over_for_who_has_a_ttl(
    ahead_s: float, ttl_s: float | None, used: bool, read_before_the_clock_was_set_back: bool
) -> None:
    now = KEPT + 10
    stamp = {"created": now + ahead_s} if read_before_the_clock_was_set_back else {"created": now, "ahead_s": ahead_s}
    hit, error = _hit(**stamp), replace(LASTING, meta=replace(LASTING.meta, **stamp))
    why = "its time is in the future, so its age is not known"
    assert decide(hit, _asked(ttl_s=ttl_s)) == (Use(hit) if used else Compute("expired", why, old=hit))
    assert decide(error, _asked(error_ttl_s=ttl_s)) == (Use(error) if used else Compute("error-retried", why))


@pytest.mark.parametrize(("ahead_s", "since"), [(0.0, True), (0.5, True), (60.0, True), (61.0, False), (-1.0, False)])
def test_c4_what_machines_whose_clocks_differ_a_little_kept_is_new(ahead_s: float, since: bool) -> None:
    stamp = {"created": KEPT + min(ahead_s, 0.0), "ahead_s": max(ahead_s, 0.0)}
    assert _hit(**stamp).meta.is_kept_since(KEPT) is since


@pytest.mark.parametrize(("ttl_s", "used"), [("auto", True), (None, True), (11.0, True), (10.0, False)])
def test_e3_a_lasting_error_lives_by_error_ttl_alone(ttl_s: Any, used: bool) -> None:
    over = Compute("error-retried", "error_ttl is 10 s")
    assert decide(LASTING, _asked(error_ttl_s=ttl_s, ttl_s=1.0)) == (Use(LASTING) if used else over)


@pytest.mark.parametrize(("age_s", "used"), [(59.0, True), (60.0, False)])
def test_e3_an_error_that_passes_lives_a_minute(age_s: float, used: bool) -> None:
    over = Compute("error-retried", "an error that passes counts for 1 m")
    assert decide(PASSING, _asked(now=KEPT + age_s)) == (Use(PASSING) if used else over)


def test_e1_an_error_whose_code_changed_is_tried_again() -> None:
    assert decide(LASTING, _asked(EDITED)) == Compute("error-retried", "tidy() was edited")
    assert decide(LASTING, _asked(EDITED, on_drift="ignore")) == Use(LASTING)


@pytest.mark.parametrize("on_drift", ["warn", "rerun", "error"])
def test_e1_whatever_drift_of_values_does(on_drift: Any) -> None:
    assert decide(LASTING, _asked(EDITED, on_drift=on_drift)) == Compute("error-retried", "tidy() was edited")


def test_e3_cache_errors_false_uses_no_kept_error() -> None:
    assert decide(LASTING, _asked(cache_errors=False)) == Compute("error-retried", "cache_errors=False")


def test_e3_retry_errors_retries_those_from_before_the_run() -> None:
    assert decide(LASTING, _asked(retry_errors=True)) == Compute("error-retried", "kept errors run again in this run")
    assert decide(LASTING, _asked(retry_errors=True, kept_here=True)) == Use(LASTING)
    hit = _hit()
    assert decide(hit, _asked(retry_errors=True)) == Use(hit)


def test_d3_on_drift_decides_about_a_value() -> None:
    hit = _hit()
    assert decide(hit, _asked(EDITED)) == Use(hit, "tidy() was edited")
    assert decide(hit, _asked(EDITED, on_drift="ignore")) == Use(hit)
    assert decide(hit, _asked(EDITED, on_drift="rerun")) == Compute("drifted", "tidy() was edited", old=hit)
    with pytest.raises(DriftError, match=r"^k is an old value, and on_drift=.error.: tidy\(\) was edited$"):
        decide(hit, _asked(EDITED, on_drift="error"))


def test_the_fingerprint_is_made_only_where_it_is_needed() -> None:
    def never() -> Mapping[str, str]:
        raise AssertionError("not needed")

    for asked in (_asked(on_drift="ignore"), _asked(refresh=True), _asked(ttl_s=1.0)):
        decide(_hit(), asked._replace(code=never))


def test_d1_code_that_is_the_same_to_the_last_bit_is_looked_at_no_further() -> None:
    asked = _asked(exact=lambda: "x", code=_no_load)
    hit = _hit(facts=Facts(took_s=1.0, code=CODE, exact="x"))
    assert decide(hit, asked) == Use(hit)


@pytest.mark.parametrize(("kept", "now"), [("", ""), ("", "x"), ("x", ""), ("x", "y")])
def test_d1_code_that_is_another_or_not_known_is_compared_by_its_digests(kept: str, now: str) -> None:
    hit = _hit(facts=Facts(took_s=1.0, code=CODE, exact=kept))
    assert decide(hit, _asked(exact=lambda: now)) == Use(hit)
    assert decide(hit, _asked(EDITED, exact=lambda: now)) == Use(hit, "tidy() was edited")
