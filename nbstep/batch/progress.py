"""How far a `step.map` is: what is done, at which rate, and how long the rest takes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nbstep.durations import duration_text

_RAN_LEAST: Final = 3  # steps that ran before a rate says something
SHARE_OF: Final = 16  # the last steps that began, by which it is told how many of the rest will be there


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is with the items of `step.map`.

    Attributes:
        total: All of them; None where that is not known.
        cached: What was there.
        ran: What was computed here, without what failed.
        failed: What ended in an error, kept before or of now.
        rate: Steps that were computed, failed ones too, in a second; None before that says something.
        left_s: How long the rest takes if as many of it must be computed as lately; None before that says something.
    """

    total: int | None
    cached: int
    ran: int
    failed: int
    rate: float | None = None
    left_s: float | None = None

    @property
    def done(self) -> int:
        """What is over, one way or the other."""
        return self.cached + self.ran + self.failed

    def text(self) -> str:
        """One line.

        >>> Progress(200, 80, 38, 2, 8.0, 10.0).text(), Progress(200, 0, 3, 0, 0.2, 985.0).text()
        ('120 of 200, 8 a second, about 10 s left', '3 of 200, 12 a minute, about 16 m 25 s left')
        """
        parts = [f"{self.done:,} done" if self.total is None else f"{self.done:,} of {self.total:,}"]
        if self.rate is not None:
            often, unit = (self.rate, "second") if self.rate >= 1 else (60 * self.rate, "minute")
            parts.append(f"{often:.2g} a {unit}" if often < 100 else f"{often:,.0f} a {unit}")
        if self.left_s is not None and self.left_s >= 1:
            parts.append(f"about {duration_text(self.left_s)} left")
        return ", ".join(parts)


def share_of(began: int, hits: int) -> float:
    """How much of the rest must be computed, judged by the last steps that began and the hits since the first of these.

    What was there before those says nothing: after an interrupt all that is kept comes first.

    Args:
        began: How many began, at most `SHARE_OF`.
        hits: How many were there since the first of them.

    >>> share_of(16, 0), share_of(16, 48), share_of(0, 0)
    (1.0, 0.25, 1.0)
    """
    return began / (began + hits) if began else 1.0


def pace_of(
    ran: int, took_s: float, lasted_s: float, under_way: Sequence[float], to_come: int | None, share: float
) -> tuple[float | None, float | None]:
    """Steps that are computed in a second, and for how long; None before that says something.

    The rate is that of what was computed: hits take next to no time. What is under way counts in part, the more the longer it
    has been that: where dozens began at once and few are over, these alone would promise far too little.

    Args:
        ran: Steps that were computed, failed ones too.
        took_s: How long all of them took, in seconds.
        lasted_s: Since the first of them began.
        under_way: For how many seconds each step that is computed now has been that, as far as is known.
        to_come: The others that are not over; None where that is not known.
        share: How much of them must be computed.

    >>> pace_of(39, 78.0, 20.0, [2.0, 2.0], 40, 0.5)
    (2.0, 10.5)
    """
    if ran < _RAN_LEAST or lasted_s <= 0:
        return None, None
    each_s = took_s / ran
    done = sum(for_s / (for_s + each_s) for for_s in under_way if for_s > 0)
    rate = (ran + done) / lasted_s
    return rate, None if to_come is None else (len(under_way) - done + share * max(0, to_come)) / rate
