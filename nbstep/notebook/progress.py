"""How far a `step.map` is: what is done, at which rate, and how long the rest takes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nbstep.durations import duration_text
from nbstep.notebook.steplist import Call, StepList
from nbstep.notebook.steprows import State

_RAN_LEAST: Final = 3  # steps that ran before a rate says something
_CACHED: Final[tuple[State, ...]] = ("cached", "shared", "old value")
_COMPUTED: Final[tuple[State, ...]] = ("ran", "ended later", "failed")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is with the keys that `step.map` said it will ask.

    Attributes:
        total: All of them.
        cached: What was there.
        ran: What was computed here, without what failed.
        failed: What ended in an error, kept before or of now.
        rate: Steps that were computed, failed ones too, in a second; None before that says something.
        left_s: How long the rest takes if as many of it must be computed as until now; None before that says something.
    """

    total: int
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
        parts = [f"{self.done:,} of {self.total:,}"]
        if self.rate is not None:
            often, unit = (self.rate, "second") if self.rate >= 1 else (60 * self.rate, "minute")
            parts.append(f"{often:.2g} a {unit}" if often < 100 else f"{often:,.0f} a {unit}")
        if self.left_s is not None and self.left_s >= 1:
            parts.append(f"about {duration_text(self.left_s)} left")
        return ", ".join(parts)


def progress_of(state: StepList, now: float) -> Progress | None:
    """How far the run is; None where no `step.map` runs.

    The rate is that of what was computed: hits take next to no time, and the first thousand of them say nothing about the rest.
    """
    if not state.ahead or state.ended is not None:
        return None
    calls: dict[str, Call] = {}
    for call in state.calls.values():
        if call.key is None or not call.mapped or state.is_settled(call):
            continue
        before = calls.get(call.key)
        if (
            before is None or before.source != "thunk"
        ):  # what was computed in this run stays that when it is asked again
            calls[call.key] = call
    over = [call for call in calls.values() if call.phase == "done"]
    computed = [call for call in over if call.source == "thunk"]
    done = len(over) + _settled(state, *_CACHED, *_COMPUTED, "failed (cached)")
    ran = len(computed) + _settled(state, *_COMPUTED)
    failed = sum(call.outcome == "error" for call in over) + _settled(state, "failed", "failed (cached)")
    cached = sum(call.source != "thunk" and call.outcome == "ok" for call in over) + _settled(state, *_CACHED)
    under_way = sum(call.phase == "running" for call in calls.values())
    began = [call.began_at for call in computed if call.began_at is not None]
    began += [row.spans[0][0] for row in state.settled if row.mapped and row.state in _COMPUTED and row.spans]
    lasted_s = now - min(began, default=now)
    rate = ran / lasted_s if ran >= _RAN_LEAST and lasted_s > 0 else None
    left_s = None
    if rate is not None:
        to_come = max(0, state.ahead - done - under_way)
        share = (ran + under_way) / (done + under_way)
        left_s = (under_way + share * to_come) / rate
    return Progress(state.ahead, cached, done - failed - cached, failed, rate, left_s)


def _settled(state: StepList, *states: State) -> int:
    return sum(row.mapped for row in state.settled if row.state in states)
