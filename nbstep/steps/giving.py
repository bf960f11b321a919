"""Gives a step's value or failure to the caller, and tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nbstep.errors import OfflineMiss, StepFailed
from nbstep.events import Source, StepFinished, StepHit, StepMissed
from nbstep.notes import add_note, error_line, kept_error_note, one_line
from nbstep.result import Ok, handed_back
from nbstep.steps.calls import Call
from nbstep.steps.decision import Compute, Use


@dataclass(frozen=True, slots=True)
class Stopped:
    """A StopIteration to raise where no coroutine is left."""

    error: StopIteration


def hand_out(call: Call, use: Use, loaded: Any, source: Source) -> Any:
    """Gives what was kept: the value, or the failure with its note."""
    __tracebackhide__ = True
    run, meta, now = call.run, use.hit.meta, call.run.clock()
    if call.outer is not None and call.key is not None:
        call.outer.used.append(call.key)
    error_text = None if meta.error is None else one_line(f"{meta.error.type.rpartition('.')[2]}: {meta.error.message}")
    run.tell(
        StepHit(
            run.id, call.step, meta.key, meta.outcome, now, meta.created, meta.facts.took_s, meta.size_bytes,
            error_text, use.drift, source,
        )
    )  # fmt: skip
    if meta.outcome == "ok":
        return Ok(loaded) if call.options.hand_back else loaded
    error: Any = loaded.error
    raised = error if isinstance(error, BaseException) else StepFailed(call.key, error)
    if source == "cache":
        asks = run.error_asks[meta.key] = run.error_asks.get(meta.key, 0) + 1
        others = len(run.error_asks)
        add_note(raised, kept_error_note(meta, now, asks, in_notebook=run.place.cell is not None, others=others))
    return _raise_out(call, error, raised)


def _raise_out(call: Call, error: Any, raised: BaseException) -> Any:
    """Raises a step's failure, or hands it back where that was asked for."""
    __tracebackhide__ = True
    call.run.note_raised(raised, keyed=call.key is not None)
    if call.options.hand_back and isinstance(raised, Exception):
        return handed_back(error, raised)
    if isinstance(raised, StopIteration):
        return Stopped(raised)
    raise raised


def fail(call: Call, raised: BaseException, took_s: float, size_bytes: int | None = None) -> Any:
    """Tells a failure and raises it."""
    __tracebackhide__ = True
    error: Any = raised.error if isinstance(raised, StepFailed) else raised
    text = one_line(repr(error)) if isinstance(raised, StepFailed) else error_line(raised)
    run = call.run
    run.tell(StepFinished(run.id, call.step, call.key, "error", run.clock(), took_s, size_bytes, text))
    return _raise_out(call, error, raised)


def refuse(call: Call, why: Compute, error: Exception) -> Any:
    """Fails without having run the thunk."""
    __tracebackhide__ = True
    call.run.tell(StepMissed(call.run.id, call.step, call.key, why.reason, why.detail))
    return fail(call, error, 0.0)


def offline_miss(call: Call, why: Compute) -> OfflineMiss:
    """The failure of a step that mode "offline" does not let run (C7)."""
    detail = f" ({why.detail})" if why.detail else ""
    return OfflineMiss(
        f"mode offline: {call.key!r} is not in the cache: {why.reason}{detail}. "
        "Run it once in mode normal, or leave NBSTEP_MODE / --mode out"
    )
