"""Leaves a store alone for a while after it did not answer: one step waits for a frozen server, the next ones do not."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from nbstep.durations import age_text, duration_text
from nbstep.notes import error_line
from nbstep.transience import transient

_SHORTEST_REST_S: Final = 1.0
_LONGEST_REST_S: Final = 30.0
_RESTS: Final = 30  # times as long as it took to fail
_CHAIN_AT_MOST: Final = 8


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that was not answered: when, by the breaker's clock, how long the store rests for it, and what it raised."""

    at: float
    rest_s: float
    text: str
    happened: str


class Breaker:
    """Remembers the last time that a store did not answer.

    How long it rests then depends on what asking it in vain costs: a second where it refused at once, as a server does that
    is restarted, twice as long each time that it fails again, and half a minute where it let somebody wait for a second.

    What a store that does answer says of one entry (too large, not to be decoded, no memory left) is no reason to leave its
    other entries alone.

    Args:
        place: The store's name as shown.

    Attributes:
        clock: Gives seconds; set by tests only.
        failure: What happened last where it did not answer, however long ago; None since it answered.
    """

    def __init__(self, place: str) -> None:
        self.clock: Callable[[], float] = time.monotonic
        self._place = place
        self.failure: Failure | None = None

    def failed(self, error: BaseException, took_s: float) -> None:
        """Takes note of what a call raised, and after how long."""
        if did_not_answer(error):
            now, last = self.clock(), self.failure
            rest_s = _SHORTEST_REST_S
            if last is not None:  # of several calls that were under way at once only the first counts
                rest_s = last.rest_s * (2 if now - last.at >= last.rest_s else 1)
            rest_s = min(max(rest_s, took_s * _RESTS), _LONGEST_REST_S)
            self.failure = Failure(now, rest_s, error_line(error), getattr(error, "happened", "did not answer"))

    def answered(self) -> None:
        """Takes note of a call that came back."""
        self.failure = None

    def why_resting(self) -> str | None:
        """One line that says why the store is left alone just now; None where it is not.

        >>> breaker = Breaker("RedisStore")
        >>> breaker.failed(TimeoutError("timed out"), took_s=1.0)
        >>> breaker.why_resting()
        'RedisStore did not answer just now (TimeoutError: timed out); asked again in 30 s'
        >>> breaker.answered()
        >>> breaker.failed(ConnectionRefusedError(), took_s=0.001)
        >>> breaker.why_resting()
        'RedisStore did not answer just now (ConnectionRefusedError); asked again in 1.0 s'
        """
        failure = self.failure
        if failure is None:
            return None
        since_s = max(0.0, self.clock() - failure.at)
        if since_s >= failure.rest_s:
            return None
        again = duration_text(max(1.0, failure.rest_s - int(since_s)))
        return f"{self._place} {failure.happened} {age_text(since_s)} ({failure.text}); asked again in {again}"


def did_not_answer(error: BaseException) -> bool:
    """Whether an error, or one it came of, is a time-out or a lost connection; clients name theirs so."""
    at: BaseException | None = error
    for _ in range(_CHAIN_AT_MOST):
        if at is None:
            return False
        names = [cls.__name__ for cls in type(at).__mro__]
        if transient(at) or any("Timeout" in name or "Connection" in name for name in names):
            return True
        at = at.__cause__ or at.__context__
    return False
