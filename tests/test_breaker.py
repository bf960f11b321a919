"""How long a store is left alone that did not answer."""

from __future__ import annotations

import pytest

from nbstep.stores.breaker import Breaker
from nbstep.testing import SettableClock

REFUSED = ConnectionRefusedError("refused")


def made() -> tuple[Breaker, SettableClock]:
    breaker, clock = Breaker("there"), SettableClock(100.0)
    breaker.clock = clock
    return breaker, clock


def rest_of(breaker: Breaker, clock: SettableClock) -> float:
    """How long it rests from now on; the clock is then where it is over."""
    for tenths in range(400):
        if breaker.why_resting() is None:
            return tenths / 10
        clock.advance(0.1)
    raise AssertionError("it rests for ever")


@pytest.mark.parametrize(("took_s", "rest_s"), [(0.0, 1), (0.03, 1), (0.1, 3), (0.5, 15), (1.0, 30), (60.0, 30)])
def test_a_store_rests_thirty_times_as_long_as_it_took_to_fail(took_s: float, rest_s: float) -> None:
    breaker, clock = made()
    breaker.failed(REFUSED, took_s)
    assert str(breaker.why_resting()).endswith(f"asked again in {rest_s}{' s' if rest_s >= 10 else '.0 s'}")
    assert rest_of(breaker, clock) == pytest.approx(rest_s, abs=0.11)


def test_the_rest_doubles_with_each_failure_after_it_and_begins_anew_after_an_answer() -> None:
    breaker, clock = made()
    rests: list[float] = []
    for _ in range(8):
        breaker.failed(REFUSED, 0.001)
        rests.append(rest_of(breaker, clock))
    assert rests == pytest.approx([1, 2, 4, 8, 16, 30, 30, 30], abs=0.11)
    breaker.answered()
    assert breaker.why_resting() is None
    breaker.failed(REFUSED, 0.001)
    assert rest_of(breaker, clock) == pytest.approx(1, abs=0.11)


def test_calls_that_were_under_way_together_count_once() -> None:
    breaker, clock = made()
    for _ in range(32):
        breaker.failed(REFUSED, 0.001)
    assert rest_of(breaker, clock) == pytest.approx(1, abs=0.11)
    breaker.failed(REFUSED, 0.001)
    breaker.failed(TimeoutError(), 1.0)
    breaker.failed(REFUSED, 0.001)
    assert rest_of(breaker, clock) == pytest.approx(30, abs=0.11)
