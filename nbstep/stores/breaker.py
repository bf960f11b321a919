"""Leaves a user's own store alone for a while after it did not answer: one step waits for a frozen server, the next ones do not."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from nbstep.durations import age_text, duration_text
from nbstep.notes import error_line
from nbstep.transience import transient

REST_S: Final = 30.0
_CHAIN_AT_MOST: Final = 8


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that was not answered: when, by the breaker's clock, and what it raised."""

    at: float
    text: str
    happened: str


class Breaker:
    """Remembers the last time that a store did not answer.

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

    def failed(self, error: BaseException) -> None:
        """Takes note of what a call raised."""
        if did_not_answer(error):
            self.failure = Failure(self.clock(), error_line(error), getattr(error, "happened", "did not answer"))

    def answered(self) -> None:
        """Takes note of a call that came back."""
        self.failure = None

    def why_resting(self) -> str | None:
        """One line that says why the store is left alone just now; None where it is not.

        >>> breaker = Breaker("RedisStore")
        >>> breaker.failed(TimeoutError("timed out"))
        >>> breaker.why_resting()
        'RedisStore did not answer just now (TimeoutError: timed out); asked again in 30 s'
        """
        failure = self.failure
        if failure is None:
            return None
        since_s = max(0.0, self.clock() - failure.at)
        if since_s >= REST_S:
            return None
        again = duration_text(max(1.0, REST_S - int(since_s)))
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
