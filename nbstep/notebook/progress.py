"""How far the maps of a step list are. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nbstep.batch.progress import SHARE_OF, Progress, pace_of, share_of
from nbstep.notebook.steplist import Call, StepList
from nbstep.notebook.steprows import State

_CACHED: Final[tuple[State, ...]] = ("cached", "shared", "old value")
_COMPUTED: Final[tuple[State, ...]] = ("ran", "ended later", "failed")


def progress_of(state: StepList, now: float) -> Progress | None:
    """How far the run is; None where no `step.map` runs.

    The rate is that of what was computed: hits take next to no time, and the first thousand of them say nothing about the rest.
    """
    if not state.ahead.is_known or state.ended is not None:
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
    over = [call for call in calls.values() if call.phase == "done" and not call.interrupted]
    computed = [call for call in over if call.source == "thunk"]
    done = len(over) + _settled(state, *_CACHED, *_COMPUTED, "failed (cached)")
    ran = len(computed) + _settled(state, *_COMPUTED)
    failed = sum(call.outcome == "error" for call in over) + _settled(state, "failed", "failed (cached)")
    cached = sum(call.source != "thunk" and call.outcome == "ok" for call in over) + _settled(state, *_CACHED)
    # Of what workers of other processes were handed nobody knows whether it has begun.
    running = [call.began_at for call in calls.values() if call.phase == "running" and not call.elsewhere]
    under_way = [max(0.0, now - began_at) for began_at in running if began_at is not None]
    took_s = sum(call.took_s or 0.0 for call in computed) + _spent_s(state)
    began = [call.began_at for call in computed if call.began_at is not None]
    began += [row.spans[0][0] for row in state.settled if row.mapped and row.state in _COMPUTED and row.spans]
    total = done + len(calls) - len(over) + state.ahead.count
    lasted_s, to_come = now - min(began, default=now), total - done - len(under_way)
    rate, left_s = pace_of(ran, took_s, lasted_s, under_way, to_come, _share([*calls.values()]))
    return Progress(total, cached, done - failed - cached, failed, rate, left_s)


def _share(calls: Sequence[Call]) -> float:
    """How much of the rest must be computed, by the last calls of those that were asked."""
    began = hits = hits_since = 0
    for call in reversed(calls):
        if call.phase == "running" or call.source == "thunk":
            began, hits_since = began + 1, hits
            if began == SHARE_OF:
                break
        elif call.phase == "done":
            hits += 1
    return share_of(began, hits_since)


def _spent_s(state: StepList) -> float:
    return sum(row.spent_s for row in state.settled if row.mapped and row.state in _COMPUTED)


def _settled(state: StepList, *states: State) -> int:
    return sum(row.mapped for row in state.settled if row.state in states)
