"""One step: look up, then use what is kept, or run the thunk, keep what it gave, and tell."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Coroutine
from types import FunctionType
from typing import Any

from nbstep.cache.cache import Cache
from nbstep.cache.flight import FLIGHTS, Flight, Landing, running_loop
from nbstep.cache.keptcell import KEPT_CELL_TYPE
from nbstep.cache.records import Hit, Miss, Unreadable
from nbstep.cache.secrets.redaction import redact_text
from nbstep.collisions.kept import is_other_work, is_other_workflow
from nbstep.collisions.look import look_at
from nbstep.collisions.message import collision_with_kept
from nbstep.errors import CachedError, DriftError, KeyCollision, RecursiveStep
from nbstep.events import Place, Source
from nbstep.foreign import interrupts
from nbstep.freezing import freeze
from nbstep.keyfindings.sites import NOWHERE, Site
from nbstep.notes import error_line, one_line
from nbstep.result import Err, Ok
from nbstep.runs.hooks import stop_if_interrupted
from nbstep.runs.state import Frame, Run, enclosing
from nbstep.steps.attempts import attempt_thunk, given_by, sleep
from nbstep.steps.awaitable import AwaitableStep, discard
from nbstep.steps.calls import Call, Options
from nbstep.steps.decision import NOTHING_KEPT, Asked, Compute, Decision, Use, decide, decide_shared, drift_of
from nbstep.steps.ending import Later, ThunkOutcome, ended, leave, loaded, outcome_of, stale_value
from nbstep.steps.fetching import done_elsewhere
from nbstep.steps.giving import Stopped, fail, hand_out, note_seen, offline_miss, refuse
from nbstep.steps.inline import Inline, pause, wait
from nbstep.steps.keeping import still_kept
from nbstep.steps.quick import WHOLE_WAY, note_quick
from nbstep.steps.telling import announce, tell_start
from nbstep.steps.waiting import name_elsewhere, wait_for_flight, wait_for_lock
from nbstep.stores.base import run_now
from nbstep.stores.locks import KeyLock
from nbstep.thunks import Thunk, called_object, surely_awaitable
from nbstep.tracebacks import trim
from nbstep.words import with_article


def take_step(
    run: Run,
    key: str | None,
    thunk: Thunk,
    args: tuple[Any, ...],
    options: Options,
    place: Place,
    site: Site = NOWHERE,
    template: str | None = None,
) -> Any:
    """Runs one step: gives its value, or for an awaitable step something to await (K4)."""
    step, outer, asked, alike = run.next_step(), enclosing.get(), run.clock(), options.alike
    given: Any = WHOLE_WAY
    if alike is not None and alike.quick is not None and key is not None and outer is None:
        given = alike.quick.take(step, key, thunk, args, asked, compute)
    if given is WHOLE_WAY:
        given = taken_wholly(Call(run, step, key, thunk, args, options, place, outer, asked, site, template))
    return for_caller(given)


def bared(given: Any, options: Options) -> Any:
    """Where it may be bare, the value alone, as there may be a million of them; boxed where it is itself a box."""
    return given.value if options.bare and type(given) is Ok and not isinstance(given.value, Ok | Err) else given


def taken_wholly(call: Call) -> Any:
    """Takes a step the whole way; gives as `_taken`, an `AwaitableStep` where it turned out to be one."""
    given = _taken(call)
    if call.options.alike is not None:
        note_quick(call, call.options.alike)
    if type(given) is Later and call.options.map is None:
        call.thunk = freeze(call.thunk)
        call.note_fixed()
        return AwaitableStep(call, _take_awaiting, given.prepared, kept_only=given.prepared is None)
    return given


def for_caller(given: Any) -> Any:
    """What whoever asked gets: raises where there is nothing to give."""
    __tracebackhide__ = True
    if type(given) is Stopped:
        raise given.error
    if type(given) is Later:
        discard(given.prepared)
        raise needs_plain_function()
    return given


def _taken(call: Call) -> Any:
    """Takes a step the whole way, or gives what to await."""
    __tracebackhide__ = True
    run, key, thunk, options = call.run, call.key, call.thunk, call.options
    if options.map is None and called_object(thunk):  # what a map calls with its items did not do their work yet
        run.find(
            "called-object", key,
            f"{key or 'a step'}: its thunk is {with_article(type(thunk).__name__)} object; if the work was done to make it, "
            "pass the call unmade: step(lambda: …)",
        )  # fmt: skip
    certain = surely_awaitable(thunk)
    if options.timeout_s is not None and not certain:
        raise timeout_needs_async()
    if certain or (key is not None and run.cache is not None and run.cache.is_async):
        call.thunk = freeze(thunk)
        call.note_fixed()
        return AwaitableStep(call, _take_awaiting)
    return run_now(_take(call, awaiting=False, prepared=None))


def taking(call: Call, *, awaiting: bool) -> Coroutine[Any, Any, Any]:
    """Takes the step of a cell, whose thunk is an `Inline`; a `Stopped` holds what no coroutine may raise."""
    return _take(call, awaiting=awaiting, prepared=None)


def timeout_needs_async() -> TypeError:
    """The error for a time-out of a plain thunk."""
    return TypeError("timeout= needs an async thunk: a plain one cannot be stopped; give your client its own time-out")


def needs_plain_function() -> TypeError:
    """The error for a function of `step.map` that only turned out to be async when it was called."""
    return TypeError(
        "step.map was given a plain function, and this one gave an awaitable; give it an `async def`, and await the map: "
        "await step.map(fetch, items, key=…)"
    )


async def _take_awaiting(call: Call, prepared: Awaitable[Any] | None) -> Any:
    __tracebackhide__ = True
    try:
        given = await _take(call, awaiting=True, prepared=prepared)
        if type(given) is Stopped:
            raise given.error
        return given
    except BaseException as error:
        trim(error, call.run.owns)
        raise
    finally:
        discard(prepared)  # nothing, where it was awaited


async def _take(call: Call, *, awaiting: bool, prepared: Awaitable[Any] | None) -> Any:
    __tracebackhide__ = True
    run, key, scope = call.run, call.key, call.run.scope()
    stop_if_interrupted()
    if not call.announced:
        refused = announce(call)
        if refused is not None:
            return refused
    if key is None or run.cache is None:
        why = Compute("no-key" if key is None else "not-stored")
        if run.mode == "offline":
            discard(prepared)
            return refuse(call, why, offline_miss(call, why))
        return await compute(call, why, awaiting, prepared)
    source: Source = "cache"
    while True:
        given = await _used(call, run.cache, key, awaiting, source)
        if type(given) is not Compute:
            return given
        if run.mode == "offline":
            return refuse(call, given, offline_miss(call, given))
        if call.outer is not None and call.outer.computes(scope, key):
            return refuse(call, given, _recursive(key))
        loop = running_loop() if awaiting else None
        flight, mine = FLIGHTS.claim(scope, key, run.name or run.place.notebook, run.clock(), loop)
        if mine:
            return await _fly(call, run.cache, key, flight, awaiting, prepared)
        if not call.options.elsewhere and flight.would_block_itself(loop):
            # A task of this very thread computes it and cannot go on while we block or another loop runs: compute as well.
            return await compute(call, given, awaiting, prepared)
        landing = await wait_for_flight(call, flight, awaiting)
        if landing == "itself":
            return refuse(call, given, _recursive(key))
        if landing is None:
            return await compute(call, given, awaiting, prepared)
        if isinstance(landing, BaseException):  # another caller got it just now, and it is not kept
            stale = await stale_value(call, given, landing, awaiting)
            return fail(call, landing, 0.0) if stale is None else stale[0]
        source = "shared" if landing == "kept" else source


def _recursive(key: str) -> RecursiveStep:
    return RecursiveStep(f"step {key!r} asks for its own key while it computes it; give the inner step another key")


async def _fly(
    call: Call, cache: Cache, key: str, flight: Flight, awaiting: bool, prepared: Awaitable[Any] | None
) -> Any:
    """Computes as the one who may, and lets the others go on whatever happens."""
    __tracebackhide__ = True
    shared: list[Landing] = []
    lock: KeyLock | None = None
    try:
        lock = await wait_for_lock(call, cache, key, flight, awaiting)
        flight.let_go = lock.release
        # Somebody may have kept it between our look-up and our claim.
        given = await _used(call, cache, key, awaiting, "shared")
        if type(given) is not Compute:
            shared.append("kept")
            return given
        lock.sign(name_elsewhere(call.run, call.place), flight.since)
        return await compute(call, given, awaiting, prepared, shared)
    finally:
        try:
            if lock is not None:
                lock.release()
        finally:
            FLIGHTS.land(call.run.scope(), key, flight, shared[0] if shared else "nothing")
            if lock is not None:
                lock.abandon()  # should an interrupt have kept it from being released


async def _used(call: Call, cache: Cache, key: str, awaiting: bool, source: Source) -> Any:
    """What the cache has for the step, handed out; or the `Compute` that says why not."""
    __tracebackhide__ = True
    found = cache.held(key)
    if found is None:
        try:
            found = await cache.look_up(key, call.missed, insist=call.run.mode == "offline", awaiting=awaiting)
        except asyncio.CancelledError as stop:
            call.tell_stop(stop)
            raise
        except interrupts():
            raise
        except BaseException as error:  # noqa: BLE001 - a cache that fails never costs the user work (C3)
            found = Miss("unreadable", one_line(f"{cache.place} cannot be read: {error_line(error, redact_text)}"))
    if isinstance(found, Miss):  # nothing to decide: most steps of a first run
        call.missed, call.seen, call.blind = found, None, found.reason == "unreadable"
        return _unusable(cache, found)
    decision: Decision | DriftError
    try:
        decision = _decided(call, found, source)
    except DriftError as drifted:
        decision = drifted
    if isinstance(decision, DriftError):  # raised outside the `except`, so that it is shown once
        fix = f"Run it again: refresh=True, or {call.command('rm')}. Keep it: {call.command('accept')}"
        return refuse(call, Compute("drifted"), DriftError(f"{decision}. {fix}"))
    if not isinstance(decision, Compute) or decision.reason == "drifted":
        collision = _of_another_kind(call, decision) or _kept_by_other_work(call, decision)
        if collision is not None:
            return fail(call, collision, 0.0, refused=True)
    if isinstance(decision, Compute):
        return decision
    if isinstance(call.thunk, Inline):
        await pause("nbstep: before loading")
    if decision.hit.meta.facts.awaitable and not awaiting and call.options.map is None:
        return Later(None)
    try:
        value = await loaded(call, decision.hit, awaiting)
    except Unreadable as unreadable:
        return _unusable(cache, unreadable)
    if isinstance(value, Err) and not _may_replay(call, value.error):
        return Compute("error-retried", "cache_errors= does not keep it")
    call.note_used(decision.hit.meta)
    return hand_out(call, decision, value, source)


def _unusable(cache: Cache, why: Miss | Unreadable) -> Compute:
    """Why the step is to be computed; where a store does not answer, that is known now: soon it may be asked again."""
    if why.reason != "unreadable":
        return Compute(why.reason, why.detail)
    resting = cache.why_resting()
    return Compute(
        why.reason, why.detail, away=cache.why_far_rests() if resting is None else f"{resting}{NOTHING_KEPT}"
    )


def _kept_by_other_work(call: Call, decision: Decision) -> KeyCollision | None:
    """The error where the entry found is certainly another workflow's other step (K8)."""
    found, run = decision.old if isinstance(decision, Compute) else decision.hit, call.run
    if found is None or run.name is None or not is_other_workflow(found.meta.facts, run.name):
        return None
    names = call.names()
    if names is None or not is_other_work(found.meta.facts, run.name, names):
        return None
    return collision_with_kept(
        found.meta, look_at(call.thunk, call.args), call.place, run.name, run.clock(),
        in_notebook=run.place.cell is not None, folder=run.command_folder(),
    )  # fmt: skip


def _of_another_kind(call: Call, decision: Decision) -> KeyCollision | None:
    """The error where a value is asked for and a cell is kept, or the other way round (K8)."""
    found = decision.old if isinstance(decision, Compute) else decision.hit
    if found is None or found.meta.outcome == "error":
        return None
    is_cell, wants_cell = found.meta.type == KEPT_CELL_TYPE, isinstance(call.thunk, Inline)
    if is_cell == wants_cell:
        return None
    kept, here = ("a %%step cell", "a step(…)") if is_cell else ("what a step(…) gave", "a %%step cell")
    key = call.key
    return KeyCollision(
        f"{key!r} keeps {kept}, and this is {here}: use another key, or delete that one: {call.command('rm')}"
    )


def _may_replay(call: Call, error: Any) -> bool:
    """Whether `cache_errors=` of the step that asks keeps such an error; a stand-in of another class cannot be asked."""
    wanted = call.options.policy.cache_errors
    return isinstance(wanted, bool) or isinstance(error, CachedError) or still_kept(call, error)


def _decided(call: Call, found: Hit, source: Source) -> Decision:
    run = call.run
    kept_meanwhile = source == "shared" and found.mark != call.seen and not call.blind
    call.missed, call.seen, call.blind = None, found.mark, False
    asked = Asked(
        policy=call.options.policy, now=run.clock(), kept_here=run.has_kept(call.key), refresh=call.options.refresh,
        refresh_run=run.mode == "refresh", retry_errors=run.retry_errors, rerun_drifted=run.rerun_drifted, code=call.code,
        exact=call.exact, inputs=call.inputs, surely_same=call.surely_same,
        function=call.thunk.__name__ if type(call.thunk) is FunctionType else "", where=call.where,
    )  # fmt: skip
    try:
        decision = decide_shared(found, asked) if kept_meanwhile else decide(found, asked)
    except DriftError:
        note_seen(call, found, drift_of(found, asked))
        raise
    if call.unchecked and isinstance(decision, Use):
        call.tell_unchecked()
    return decision


async def compute(
    call: Call, why: Compute, awaiting: bool, prepared: Awaitable[Any] | None, shared: list[Landing] | None = None
) -> Any:
    """Runs the thunk, keeps what it gave, tells. Puts into `shared` what waiting callers may use."""
    __tracebackhide__ = True
    run, key, pace, stop = call.run, call.key, call.options.pace, call.options.stop
    if prepared is None:
        if pace is not None:
            seconds = pace.wait_s()
            await (wait(seconds) if call.options.elsewhere else sleep(seconds, awaiting=awaiting, stop=stop))
        elif stop is not None:  # to look it up may have taken long
            stop.check()
        tell_start(call, why)
        call.note_inputs()
    elsewhere = await done_elsewhere(call) if call.options.elsewhere else None
    if call.fixed is not None:
        call.note_moved()
    frame = Frame(run, call.step, key, call.outer, raised_before=run.raised_count, maps=call.maps(), place=call.place)
    inside = enclosing.set(frame)
    began = time.perf_counter()
    tried: list[str] = []
    try:
        given = (
            given_by(elsewhere)
            if elsewhere is not None
            else await attempt_thunk(
                call.thunk,
                call.args,
                call.options.retries,
                call.options.timeout_s,
                awaiting=awaiting,
                prepared=prepared,
                pace=pace,
                stop=stop,
                failing=lambda error: tried.append(error_line(error, run.redacted)),
            )
        )
    except BaseException as error:  # noqa: BLE001 - told, kept where it may be, and raised again
        outcome = ThunkOutcome(Err(error), awaitable=awaiting)
    else:
        if given.later is not None:
            return Later(given.later)
        outcome = outcome_of(given)
    finally:
        frame.ended = True
        leave(inside)
        awaiting = awaiting and not isinstance(call.thunk, Inline)  # whatever a cell awaits, its end is not awaited
    took_s = time.perf_counter() - began
    if elsewhere is not None and elsewhere.took_s is not None:
        took_s = elsewhere.took_s
    return await ended(call, why, outcome, took_s, frame, awaiting, shared, tuple(tried), elsewhere)
