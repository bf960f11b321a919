"""The steps of a map that are as most of a first run are, in a third of the calls; all others go the whole way (`take.py`).

Thousands of steps of one function differ in their item alone. What they share was found out by one that went the whole way, and
is only checked here. A step goes the whole way as soon as it is otherwise: something was kept under its key once, somebody else
computes it, its function names what can change in place. Where it turns out to be otherwise once its function ran, it ends
the whole way (`ending.py`).
"""

from __future__ import annotations

import time
import types
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from nbstep.cache.cache import Cache
from nbstep.cache.flight import FLIGHTS, Landing
from nbstep.cache.pattern import Pattern
from nbstep.cache.trust import signing_key
from nbstep.drift.code import looks_the_same
from nbstep.drift.inputs import Like
from nbstep.events import StepFinished, StepMissed, StepStarted
from nbstep.foreign import interrupts, is_awaitable
from nbstep.freezing import is_bound
from nbstep.result import Err, Ok
from nbstep.runs.hooks import stop_if_interrupted
from nbstep.runs.state import Frame, enclosing
from nbstep.steps.attempts import Given
from nbstep.steps.calls import Alike, Call, Told
from nbstep.steps.decision import Compute
from nbstep.steps.ending import Later, ThunkOutcome, ended, leave, outcome_of
from nbstep.steps.keeping import Ran, facts_of
from nbstep.steps.telling import announce
from nbstep.steps.waiting import name_here
from nbstep.stores.base import run_now

if TYPE_CHECKING:
    from nbstep.stores.locks import KeyLock

Computing: TypeAlias = Callable[[Call, Compute, bool, None, list[Landing]], Coroutine[Any, Any, Any]]

WHOLE_WAY: Final = object()
_ITEMS: Final = frozenset({int, str, float, bool, type(None)})
_NEW: Final = Compute("new")


class Quick:
    """What a step of a map found out that holds for the others too, and how they are taken.

    Args:
        cache: Where they are kept.
        like: How their inputs are read.
        told: What their entries say of the work.
        pattern: What their entries have in common.
        thunk: Their function.
    """

    __slots__ = ("_cache", "_code", "_defaults", "_like", "_name", "_pattern", "_told")

    def __init__(self, cache: Cache, like: Like, told: Told, pattern: Pattern, thunk: types.FunctionType) -> None:
        self._cache = cache
        self._like = like
        self._told = told
        self._pattern = pattern
        self._code, self._name, self._defaults = thunk.__code__, thunk.__qualname__, thunk.__defaults__

    def take(self, call: Call, compute: Computing) -> Any:
        """Takes a step; gives what the whole way would, or `WHOLE_WAY` where it is to go that, from where it is now.

        Args:
            call: The step.
            compute: Computes under a lock, whatever is to be computed.
        """
        __tracebackhide__ = True
        key = call.key
        if key is None or type(call.args[0]) not in _ITEMS:
            return WHOLE_WAY
        stop_if_interrupted()
        refused = announce(call)
        if refused is not None:
            return refused
        scope = call.run.scope()
        flight, mine = FLIGHTS.claim(scope, key, name_here(call), call.asked)
        if not mine:
            return WHOLE_WAY
        shared: list[Landing] = []
        lock: KeyLock | None = None
        try:
            lock = self._cache.take_new(key)
            if lock is None:
                return WHOLE_WAY
            flight.let_go = lock.release
            inputs = self._read(call)
            if inputs is None:
                return run_now(compute(call, _NEW, False, None, shared))
            return self._compute(call, key, inputs, shared)
        finally:
            try:
                if lock is not None:
                    lock.release()
            finally:
                FLIGHTS.land(scope, key, flight, shared[0] if shared else "nothing")

    def _read(self, call: Call) -> Mapping[str, str] | None:
        """Its inputs; None where they, or what is behind its function, are not as they were."""
        like, thunk = self._like, call.thunk
        try:
            if not (self._is_itself(thunk) and looks_the_same(like.seen, thunk)):
                return None
            read = like.read(call.args[0], signing_key())
            if read is None or ((read[1] or like.seen.found.sources.callables) and call.comes_from(read[1], like.seen)):
                return None
            return read[0]
        except interrupts():
            raise
        except BaseException:  # noqa: BLE001 - odd code must not cost the value (C3)
            return None

    def are_like(self, call: Call) -> bool:
        """Whether a step that went the whole way is as those are."""
        like = call.like()
        return like == self._like and call.told() is self._told

    def _compute(self, call: Call, key: str, inputs: Mapping[str, str], shared: list[Landing]) -> Any:
        """Runs the function, keeps what it gave, tells."""
        __tracebackhide__ = True
        run = call.run
        run.tell(StepMissed(run.id, call.step, key, "new"))
        run.tell(StepStarted(run.id, call.step, key, run.clock()))
        frame = Frame(run, call.step, key, None, raised_before=run.raised_count)
        inside = enclosing.set(frame)
        began = time.perf_counter()
        value: Any = None
        raised: Err[Any] | None = None
        try:
            value = call.thunk(*call.args)
        except BaseException as error:  # noqa: BLE001 - told, kept where it may be, and raised again
            raised = Err(error)
        finally:
            frame.ended = True
            leave(inside)
        took_s = time.perf_counter() - began
        if raised is None and not frame.used and self._is_still(call.thunk):
            run.first_asks.note_ran(run.scope(), key, call.thunk, call.args)
            size_bytes = self._cache.keep_like(self._pattern, key, value, took_s, inputs, run.id)
            if size_bytes is not None:
                call.note_handed_out(value, size_bytes, plain=True)
                shared.append("kept")
                run.tell(StepFinished(run.id, call.step, key, "ok", run.clock(), took_s, size_bytes))
                return Ok(value) if call.options.hand_back else value
        if raised is None and is_awaitable(value):
            return Later(value)
        call.note_read(self._like.seen, self._like.inputs(call.thunk, call.args[0], inputs))
        outcome = outcome_of(Given(value)) if raised is None else ThunkOutcome(raised)
        return run_now(ended(call, _NEW, outcome, took_s, frame, False, shared))

    def _is_itself(self, thunk: Any) -> bool:
        """Whether its function has the code, the name and the defaults that it had."""
        return (
            thunk.__code__ is self._code
            and thunk.__qualname__ is self._name
            and thunk.__defaults__ is self._defaults
            and not thunk.__kwdefaults__
        )

    def _is_still(self, thunk: Any) -> bool:
        """Whether its function left itself, and what it names, as they were."""
        try:
            return self._is_itself(thunk) and self._like.holds(thunk)
        except interrupts():
            raise
        except BaseException:  # noqa: BLE001 - as above
            return False


def note_quick(call: Call, alike: Alike) -> None:
    """Remembers, of a step that went the whole way and ran, what others of its map share; forgets it where that is not so."""
    try:
        if call.before is not None and not (alike.quick is not None and alike.quick.are_like(call)):
            alike.quick = _quick_like(call)
    except interrupts():
        raise
    except BaseException:  # noqa: BLE001 - then all go the whole way
        alike.quick = None


def _quick_like(call: Call) -> Quick | None:
    run, cache, options, thunk, like = call.run, call.run.cache, call.options, call.thunk, call.like()
    if like is None or cache is None or call.outer is not None:
        return None
    if run.mode != "normal" or run.retry_errors or run.rerun_drifted:
        return None
    if options.retries or options.timeout_s is not None or options.pace is not None or options.refresh:
        return None
    if options.elsewhere or type(thunk) is not types.FunctionType or is_bound(thunk):
        return None
    ran = Ran(0.0, awaitable=False, returned=False, used=())
    pattern = cache.pattern(facts_of(call, ran, options.policy.ttl_s, {}))
    return None if pattern is None else Quick(cache, like, call.told(), pattern, thunk)
