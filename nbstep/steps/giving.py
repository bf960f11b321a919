"""Gives a step's value or failure to the caller, and tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from nbstep.cache.records import Hit
from nbstep.cache.secrets.redaction import key_text, redact_text, redacted_repr
from nbstep.errors import KeyCollision, OfflineMiss, StepFailed
from nbstep.events import Source, StepFinished, StepHit, StepMissed
from nbstep.foreign import interrupts
from nbstep.notes import KeptErrorNote, add_note, error_line, kept_error_note, one_line
from nbstep.result import Ok, handed_back
from nbstep.runs.state import Run
from nbstep.steps.calls import Call
from nbstep.steps.decision import Compute, Use
from nbstep.words import WHY_MISSED, keys_text, plural


@dataclass(frozen=True, slots=True)
class Stopped:
    """A StopIteration to raise where no coroutine is left."""

    error: StopIteration


def hand_out(call: Call, use: Use, loaded: Any, source: Source, *, stale: bool = False) -> Any:
    """Gives what was kept: the value, or the failure with its note; `stale` where that stands in for a refetch that failed."""
    __tracebackhide__ = True
    run, meta, now = call.run, use.hit.meta, call.run.clock()
    call.tell_outer()
    error_text = ends_at = None
    if meta.error is not None:
        ttl_s = call.options.policy.error_ttl(meta.error.transient)
        ends_at = None if ttl_s is None else meta.ends_at(ttl_s, now)
        kind = "" if meta.facts.returned else f"{meta.error.type.rpartition('.')[2]}: "
        error_text = one_line(kind + meta.error.message)
    run.tell(
        StepHit(
            run.id, call.step, meta.key, meta.outcome, now, meta.created, meta.facts.took_s, meta.size_bytes,
            error_text, use.drift, source, note_seen(call, use.hit, use.drift if use.changes else None), stale,
            ends_at,
        )
    )  # fmt: skip
    run.note_used(meta.key, meta.size_bytes)
    if use.changes:
        _note_changes(run, use, shared=source == "shared")
    if meta.outcome == "ok":
        call.note_handed_out(loaded, meta.size_bytes, plain=not meta.packages, loaded=True)
        return Ok(loaded) if call.options.hand_back else loaded
    error: Any = loaded.error
    raised = error if isinstance(error, BaseException) else StepFailed(call.key, error)
    if source == "cache":
        asks, cleaned = run.count_kept_error(meta.key), replace(meta, key=redact_text(meta.key))
        in_notebook, folder = run.place.cell is not None, run.command_folder()

        def note(met: int) -> str:
            return kept_error_note(
                cleaned, now, asks, in_notebook=in_notebook, others=met, folder=folder, ends_at=ends_at
            )

        add_note(raised, KeptErrorNote(note, run.error_asks))
    return _raise_out(call, error, raised)


def note_seen(call: Call, found: Hit, drift: str | None) -> str | None:
    """Remembers what this look-up found changed, for `accept` and `show` (D4); gives it as the run log holds it."""
    cache, key = call.run.cache, found.meta.key
    if cache is None:
        return None
    if drift is None:
        cache.forget_drifted(key)
        return None
    try:
        return cache.note_drifted(key, call.drifted(found, drift))
    except interrupts():
        raise
    except BaseException:  # noqa: BLE001 - it must not cost the value (C3)
        return None


def _note_changes(run: Run, use: Use, *, shared: bool) -> None:
    meta = use.hit.meta
    if meta.created < run.root().started:
        for change in use.changes:
            run.note_drift(meta.key, change)
    else:  # this run asks one key with two inputs
        run.note_mixed(meta.key, use.changes, shared=shared)


def _raise_out(call: Call, error: Any, raised: BaseException) -> Any:
    """Raises a step's failure, or hands it back where that was asked for."""
    __tracebackhide__ = True
    call.run.note_raised(raised, keyed=call.key is not None)
    if call.options.hand_back and isinstance(raised, Exception):
        return handed_back(error, raised, redacted_repr)
    if isinstance(raised, StopIteration):
        return Stopped(raised)
    raise raised


def fail(
    call: Call,
    raised: BaseException,
    took_s: float,
    size_bytes: int | None = None,
    *,
    refused: bool = False,
    not_kept: str = "",
    tried: tuple[str, ...] = (),
) -> Any:
    """Tells a failure and raises it.

    `refused` where nbstep did not let the step run, `not_kept` where keeping it failed, `tried` as in `StepFinished`.
    """
    __tracebackhide__ = True
    error: Any = raised.error if isinstance(raised, StepFailed) else raised
    run = call.run
    text = _row_text(error, raised, run.redacted)  # the step list is saved with the notebook
    interrupted = isinstance(raised, KeyboardInterrupt | asyncio.CancelledError)
    ttl_s = None if size_bytes is None else call.options.policy.error_ttl_of(error)
    now = run.clock()
    ends_at = None if ttl_s is None else now + ttl_s
    run.tell(
        StepFinished(
            run.id, call.step, call.key, "error", now, took_s, size_bytes, text, interrupted, refused, not_kept, ends_at,
            tried,
        )
    )  # fmt: skip
    if call.key is not None and size_bytes is not None:
        run.count_kept_error(call.key)
    return _raise_out(call, error, raised)


def _row_text(error: Any, raised: BaseException, redacted: Callable[[str], str]) -> str:
    """What a row says of a failure."""
    if isinstance(raised, StepFailed):
        return one_line(redacted(repr(error)))
    if isinstance(raised, KeyCollision) and "\n" in str(raised):  # the error itself shows both places
        what, *_, fix = redacted(str(raised)).splitlines()
        return f"KeyCollision: {what}. {one_line(fix)}"
    return error_line(raised, redacted)


def refuse(call: Call, why: Compute, error: Exception) -> Any:
    """Fails without having run the thunk."""
    __tracebackhide__ = True
    call.run.tell(StepMissed(call.run.id, call.step, call.key, why.reason, why.detail))
    return fail(call, error, 0.0, refused=True)


def offline_miss(call: Call, why: Compute) -> OfflineMiss:
    """The failure of a step that mode "offline" does not let run (C7)."""
    if call.key is None:
        line = f" in line {call.place.line}" if call.place.line else ""
        return OfflineMiss(
            f"mode offline: the step{line} has no key, so it would run; give it a key, or call its function without step"
        )
    if call.run.cache is None:
        return OfflineMiss(
            f"mode offline: {call.key!r} cannot come from the cache: there is none (cache=None, or mode off)"
        )
    # Steps that still wait for their `await`, and those known from the cell, are named at once.
    missing = _missing(
        call.run, [call.key, *(step.key for step in list(call.run.pending.values()) if step.key), *call.run.expected]
    )
    if len(missing) > 1:
        return _all_missing(missing)
    detail = f" ({why.detail})" if why.detail else ""
    reason = "nothing is kept under it" if why.reason == "new" else WHY_MISSED[why.reason]
    return OfflineMiss(
        f"mode offline: {call.key!r} cannot come from the cache: {reason}{detail}. "
        "Run it once in mode normal, or leave NBSTEP_MODE / --mode out"
    )


def check_offline(run: Run, keys: Iterable[str]) -> None:
    """Raises where mode "offline" would not let these steps run, naming all of them (C7).

    Raises:
        OfflineMiss: Some have no entry.
    """
    missing = _missing(run, keys) if run.mode == "offline" else []
    if missing:
        raise _all_missing(missing)


def _missing(run: Run, keys: Iterable[str]) -> list[str]:
    """Those of the keys that have no entry; none where an async store would have to be awaited."""
    if run.cache is None or run.cache.is_async:
        return []
    return [key for key in dict.fromkeys(keys) if not run.cache.has(key)]


def _all_missing(keys: list[str]) -> OfflineMiss:
    counted = plural(len(keys), "key")
    return OfflineMiss(f"mode offline: {counted} not in the cache: {keys_text([key_text(key) for key in keys])}")
