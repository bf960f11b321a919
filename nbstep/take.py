"""One step: look up, then use what is kept, or run the thunk, keep what it gave, and tell."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from nbstep.attempts import attempt_thunk
from nbstep.awaitable import AwaitableStep, discard
from nbstep.cache.cache import Cache
from nbstep.cache.flight import FLIGHTS, Flight, Landing, wait_awaiting, wait_blocking
from nbstep.cache.records import Hit, Unreadable
from nbstep.calls import Call, Options
from nbstep.decision import Asked, Compute, Decision, Use, decide
from nbstep.errors import OfflineMiss, RecursiveStep, StepFailed
from nbstep.events import Place, Source, StepAsked, StepFinished, StepHit, StepMissed, StepStarted, StepWaiting
from nbstep.keeping import facts_of, keep_result
from nbstep.notes import kept_error_note, one_line
from nbstep.result import Err, Ok
from nbstep.runs import Frame, Run, enclosing
from nbstep.stores.base import run_now
from nbstep.thunks import Thunk, called_object, freeze, surely_awaitable

# A step inside a step waits this long for another computation, then computes itself: two kernels may wait for each other.
_NESTED_WAIT_S: Final = 30.0


def take_step(run: Run, key: str | None, thunk: Thunk, args: tuple[Any, ...], options: Options, place: Place) -> Any:
    """Runs one step: gives its value, or for an awaitable step something to await (K4)."""
    call = Call(run, run.next_step(), key, thunk, args, options, place, enclosing.get())
    if called_object(thunk):
        run.find(
            "called-object", key,
            f"{key or 'a step'}: its thunk is a {type(thunk).__name__} object; if the work was done to make it, "
            "pass the call unmade: step(lambda: …)",
        )  # fmt: skip
    if surely_awaitable(thunk) or (key is not None and run.cache is not None and run.cache.is_async):
        call.thunk = freeze(thunk)
        return AwaitableStep(call, _take_awaiting)
    if options.timeout_s is not None:
        raise TypeError(
            "timeout= needs an async thunk: a plain one cannot be stopped; give your client its own time-out"
        )
    given = run_now(_take(call, awaiting=False, prepared=None))
    if isinstance(given, _Later):
        call.thunk = freeze(thunk)
        return AwaitableStep(call, _take_awaiting, given.prepared)
    return given


def _take_awaiting(call: Call, prepared: Awaitable[Any] | None) -> Coroutine[Any, Any, Any]:
    return _take(call, awaiting=True, prepared=prepared)


@dataclass(frozen=True, slots=True)
class _Later:
    """A plain call that turned out to be awaitable; `prepared` is what its thunk gave, if it was called."""

    prepared: Awaitable[Any] | None


async def _take(call: Call, *, awaiting: bool, prepared: Awaitable[Any] | None) -> Any:
    __tracebackhide__ = True
    run, key = call.run, call.key
    if not call.announced:
        call.announced = True
        outer = call.outer.step if call.outer is not None and call.outer.run is run else None
        run.tell(StepAsked(run.id, call.step, key, call.place, time.time(), outer))
    if key is None or run.cache is None:
        return await _compute(call, Compute("no-key" if key is None else "not-stored"), awaiting, prepared)
    source: Source = "cache"
    while True:
        given = await _used(call, run.cache, key, awaiting, source)
        if not isinstance(given, Compute):
            if prepared is not None:
                discard(prepared)
            return given
        if run.mode == "offline":
            raise _offline(call, given)
        if call.outer is not None and call.outer.computes(run.cache, key):
            raise RecursiveStep(
                f"step {key!r} asks for its own key while it computes it; give the inner step another key"
            )
        flight, mine = FLIGHTS.claim(call.scope(), key, _holder(run), blocking=not awaiting)
        if mine:
            return await _fly(call, run.cache, key, flight, awaiting, prepared)
        if not awaiting and flight.would_block_itself():
            # A task of this very thread computes it and cannot go on while we block: compute as well.
            return await _compute(call, given, awaiting, prepared)
        landing = await _wait(call, flight, awaiting)
        if landing is None:
            return await _compute(call, given, awaiting, prepared)
        if isinstance(landing, BaseException):
            return _hand_out_error(call, landing)
        source = "shared" if landing == "kept" else source


async def _fly(
    call: Call, cache: Cache, key: str, flight: Flight, awaiting: bool, prepared: Awaitable[Any] | None
) -> Any:
    """Computes as the one who may, and lets the others go on whatever happens."""
    __tracebackhide__ = True
    landing: Landing = "nothing"
    try:
        # Somebody may have kept it between our look-up and our claim.
        given = await _used(call, cache, key, awaiting, "shared")
        if not isinstance(given, Compute):
            discard(prepared)
            landing = "kept"
            return given
        shared: list[Landing] = []
        try:
            return await _compute(call, given, awaiting, prepared, shared)
        finally:
            landing = shared[0] if shared else "nothing"
    finally:
        FLIGHTS.land(call.scope(), key, flight, landing)


async def _wait(call: Call, flight: Flight, awaiting: bool) -> Landing | None:
    __tracebackhide__ = True
    call.run.tell(StepWaiting(call.run.id, call.step, call.key or "", flight.holder, flight.since))
    call.thunk = freeze(call.thunk)
    timeout_s = None if call.outer is None else _NESTED_WAIT_S
    return await wait_awaiting(flight, timeout_s) if awaiting else wait_blocking(flight, timeout_s)


async def _used(call: Call, cache: Cache, key: str, awaiting: bool, source: Source) -> Any:
    """What the cache has for the step, handed out; or the `Compute` that says why not."""
    __tracebackhide__ = True
    decision = await _decided(call, cache, key, source)
    if isinstance(decision, Compute):
        return decision
    if decision.hit.meta.facts.awaitable and not awaiting:
        return _Later(None)
    try:
        loaded = decision.hit.load()
    except Unreadable as unreadable:
        return Compute(unreadable.reason, unreadable.detail)
    return _hand_out(call, decision, loaded, source)


async def _decided(call: Call, cache: Cache, key: str, source: Source) -> Decision:
    found = await cache.look_up(key)
    run, now = call.run, time.time()
    if source == "shared" and isinstance(found, Hit) and found.meta.created >= call.asked:
        return Use(found)  # computed while we waited: as fresh as can be
    asked = Asked(
        policy=call.options.policy, now=now, since=run.started, refresh=call.options.refresh,
        refresh_run=run.mode == "refresh", retry_errors=run.retry_errors, code=call.code,
    )  # fmt: skip
    return decide(found, asked)


def _hand_out(call: Call, use: Use, loaded: Any, source: Source) -> Any:
    __tracebackhide__ = True
    run, meta = call.run, use.hit.meta
    now = time.time()
    if call.outer is not None and call.key is not None:
        call.outer.used.append(call.key)
    error_text = None if meta.error is None else one_line(f"{meta.error.type.rpartition('.')[2]}: {meta.error.message}")
    run.tell(
        StepHit(
            run.id, call.step, meta.key, meta.outcome, now, meta.created, meta.facts.took_s, meta.size_bytes,
            error_text, use.drift, source,
        )
    )  # fmt: skip
    if not isinstance(loaded, Err):
        return Ok(loaded) if call.options.hand_back else loaded
    if source == "cache":
        asks = run.error_asks[meta.key] = run.error_asks.get(meta.key, 0) + 1
    else:
        asks = 1
    error: Any = loaded.error
    if call.options.hand_back:
        return Err(error)
    raised = error if isinstance(error, BaseException) else StepFailed(call.key, error)
    raised.add_note(
        kept_error_note(meta, now, asks, in_notebook=run.place.cell is not None, others=len(run.error_asks))
    )
    run.note_raised(raised, keyed=True)
    raise raised


def _hand_out_error(call: Call, error: BaseException) -> Any:
    """An error that another caller got just now and that is not kept."""
    __tracebackhide__ = True
    text = one_line(f"{type(error).__name__}: {error}")
    call.run.tell(StepFinished(call.run.id, call.step, call.key, "error", time.time(), 0.0, None, text))
    if call.options.hand_back:
        return Err(error.error if isinstance(error, StepFailed) else error)
    call.run.note_raised(error, keyed=call.key is not None)
    raise error


async def _compute(
    call: Call, why: Compute, awaiting: bool, prepared: Awaitable[Any] | None, shared: list[Landing] | None = None
) -> Any:
    """Runs the thunk, keeps what it gave, tells. Puts into `shared` what waiting callers may use."""
    __tracebackhide__ = True
    run, key = call.run, call.key
    if prepared is None:
        run.tell(StepMissed(run.id, call.step, key, why.reason, why.detail))
        if why.reason in {"unreadable", "untrusted", "incompatible"} and why.detail:
            run.find(why.reason, key, f"{key}: {why.detail}" if why.reason == "unreadable" else why.detail)
        run.tell(StepStarted(run.id, call.step, key, time.time(), _expected_s(why)))
    frame = Frame(run, call.step, key, call.outer)
    inside = enclosing.set(frame)
    began = time.perf_counter()
    try:
        given = await attempt_thunk(
            call.thunk, call.args, call.options.retries, call.options.timeout_s, awaiting=awaiting, prepared=prepared
        )
    except BaseException as error:  # noqa: BLE001 - told, kept where it may be, and raised again
        failure: Any = error
        result: Ok[Any] | Err[Any] = Err(error)
        awaitable, returned = awaiting, False
    else:
        if given.later is not None:
            return _Later(given.later)
        awaitable = given.awaitable
        result = given.value if isinstance(given.value, Ok | Err) else Ok(given.value)
        failure, returned = result.error, isinstance(result, Err)
    finally:
        enclosing.reset(inside)
    took_s = time.perf_counter() - began
    if call.outer is not None and key is not None:
        call.outer.used.append(key)
    facts = facts_of(call, took_s, awaitable, returned, frame)
    size_bytes = await keep_result(call, why, result, facts)
    if isinstance(result, Ok):
        if shared is not None and size_bytes is not None:
            shared.append("kept")
        run.tell(StepFinished(run.id, call.step, key, "ok", time.time(), took_s, size_bytes))
        return result if call.options.hand_back else result.value
    raised = failure if isinstance(failure, BaseException) else StepFailed(key, failure)
    if shared is not None:
        if size_bytes is not None:
            shared.append("kept")
        elif isinstance(raised, Exception) and why.old is None:
            shared.append(raised)
    stale = await _stale_value(call, why, raised)
    if stale is not None:
        return stale[0]
    text = one_line(f"{type(raised).__name__}: {raised}" if not isinstance(raised, StepFailed) else repr(failure))
    run.tell(StepFinished(run.id, call.step, key, "error", time.time(), took_s, size_bytes, text))
    if call.options.hand_back and isinstance(raised, Exception):
        return Err(failure)
    run.note_raised(raised, keyed=key is not None)
    raise raised


async def _stale_value(call: Call, why: Compute, error: BaseException) -> tuple[Any] | None:
    """The last good value where the policy wants it instead of a failed refetch (E6)."""
    old = why.old
    if old is None or not call.options.policy.stale_if_error or not isinstance(error, Exception):
        return None
    try:
        value = old.load()
    except Unreadable:
        return None
    text = one_line(f"{type(error).__name__}: {error}")
    call.run.find("stale", call.key, f"{call.key}: refetch failed ({text}); the last good value is used")
    return (_hand_out(call, Use(old, f"refetch failed: {text}"), value, "cache"),)


def _expected_s(why: Compute) -> float | None:
    return None if why.old is None else why.old.meta.facts.took_s


def _holder(run: Run) -> str:
    return run.name or run.place.notebook or threading.current_thread().name


def _offline(call: Call, why: Compute) -> OfflineMiss:
    detail = f" ({why.detail})" if why.detail else ""
    return OfflineMiss(
        f"mode offline: {call.key!r} is not in the cache: {why.reason}{detail}. "
        "Run it once in mode normal, or leave NBSTEP_MODE / --mode out"
    )
