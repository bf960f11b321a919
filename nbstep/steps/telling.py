"""Tells that a step was asked, and that its thunk begins."""

from __future__ import annotations

from typing import Any

from nbstep.errors import KeyCollision
from nbstep.events import StepAsked, StepMissed, StepStarted
from nbstep.steps.calls import Call
from nbstep.steps.decision import Compute
from nbstep.steps.giving import fail


def announce(call: Call) -> Any:
    """Tells that it was asked; gives None, or the failure of a key that is another step's (K8)."""
    __tracebackhide__ = True
    call.announced = True
    run, key, around = call.run, call.key, call.outer
    outer = around.step if around is not None and around.run is run else None
    run.tell(StepAsked(run.id, call.step, key, call.place, call.asked, outer, call.site.id, call.options.map))
    if key is None or (around is not None and around.computes(run.scope(), key)):
        return None
    try:
        run.first_asks.check(run.scope(), key, call.thunk, call.args, call.place, call.template, call.site)
    except KeyCollision as collision:
        return fail(call, collision, 0.0, refused=True)
    return None


def tell_start(call: Call, why: Compute) -> None:
    """Tells why its thunk runs, and that it does now."""
    run, key = call.run, call.key
    run.tell(StepMissed(run.id, call.step, key, why.reason, why.detail))
    if why.away is not None:
        run.find_unreachable(why.away)
    elif why.reason in {"unreadable", "incompatible"} and why.detail:
        of_the_entry = why.detail.startswith(("it ", "its "))
        what = "what was kept cannot be used, so the step runs again: " if of_the_entry else ""
        run.find(why.reason, key, f"{key}: {what}{why.detail}")
    elif why.reason == "untrusted" and why.detail and run.cache is not None and run.cache.is_news(why.detail):
        run.find(why.reason, key, why.detail)
    expected_s = None if why.old is None else why.old.meta.facts.took_s
    run.tell(StepStarted(run.id, call.step, key, run.clock(), expected_s, call.options.elsewhere))
