"""The steps of a map that are as most of a first run are, in a third of the calls; all others go the whole way (`take.py`).

Thousands of steps of one function differ in their item alone. What they share was found out by one that went the whole way, and
is only checked here. A step goes the whole way as soon as it is otherwise: something was kept under its key once, somebody else
computes it, its function names what can change in place. Where it turns out to be otherwise once its function ran, it ends
the whole way (`ending.py`).
"""

from __future__ import annotations

import time
import types
from collections.abc import Callable, Coroutine
from contextvars import Token
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from nbstep.batch.hub import UNFINISHED
from nbstep.cache.cache import Cache
from nbstep.cache.flight import FLIGHTS, Flight, Landing
from nbstep.cache.pattern import Pattern
from nbstep.cache.trust import signing_key
from nbstep.drift.alike import Like
from nbstep.drift.lineage import note_handed_out
from nbstep.events import StepAsked, StepFinished, StepMissed, StepStarted
from nbstep.foreign import interrupts, is_awaitable
from nbstep.freezing import is_bound
from nbstep.result import Err, Ok
from nbstep.runs.hooks import stop_if_interrupted
from nbstep.runs.state import Frame, enclosing
from nbstep.steps.attempts import Given
from nbstep.steps.calls import Alike, Call, Options, Told
from nbstep.steps.decision import Compute
from nbstep.steps.ending import Later, ThunkOutcome, ended, leave, outcome_of
from nbstep.steps.keeping import Ran, facts_of
from nbstep.steps.likeness import Likeness, Read
from nbstep.steps.telling import announce
from nbstep.stores.base import run_now

if TYPE_CHECKING:
    from nbstep.stores.locks import KeyLock

Computing: TypeAlias = Callable[[Call, Compute, bool, None, list[Landing]], Coroutine[Any, Any, Any]]

WHOLE_WAY: Final = object()
_NEW: Final = Compute("new")


class Quick:
    """What a step of a map found out that holds for the others too, and how they are taken.

    Args:
        call: The step.
        cache: Where they are kept.
        like: How their inputs are read.
        told: What their entries say of the work.
        pattern: What their entries have in common.
        function: Their function, or that of their method.
    """

    __slots__ = ("_told", "cache", "likeness", "maps", "options", "pattern", "place", "run", "scope", "site")

    def __init__(
        self, call: Call, cache: Cache, like: Like, told: Told, pattern: Pattern, function: types.FunctionType
    ) -> None:
        self.run: Final = call.run
        self.options: Final = call.options
        self.place: Final = call.place
        self.site: Final = call.site
        self.cache: Final = cache
        self.scope: Final = call.run.scope()
        self.maps: Final = call.maps()
        self.pattern: Final = pattern
        self.likeness: Final = Likeness(call, like, function)
        self._told = told

    def take(self, step: int, key: str, thunk: Any, args: tuple[Any, ...], asked: float, compute: Computing) -> Any:
        """Takes a step; gives what the whole way would, or `WHOLE_WAY` where it is to go that from its beginning.

        Args:
            step: Its number.
            key: Its key.
            thunk: Its function.
            args: What that is called with: its item.
            asked: When it was asked.
            compute: Computes under a lock, whatever is to be computed.
        """
        __tracebackhide__ = True
        taken = Taken(self, step, key, thunk, args, asked)
        try:
            if not taken.is_claimed():
                return WHOLE_WAY
            given = taken.go(compute)
            return taken.end() if given is UNFINISHED else given
        finally:
            taken.leave()

    def begin(self, step: int, key: str, thunk: Any, args: tuple[Any, ...], asked: float) -> tuple[Taken, bool]:
        """Claims a step's key; gives it, and whether that could be done, or it is to go the whole way.

        Its inputs are read where its function is called, right before: what they are here another one may change until then.

        Args:
            step: As for `take`.
            key: The same.
            thunk: The same.
            args: The same.
            asked: The same.
        """
        taken = Taken(self, step, key, thunk, args, asked)
        claimed = False
        try:
            claimed = taken.is_claimed()
        finally:
            if not claimed:
                taken.leave()
        return taken, claimed

    def are_like(self, call: Call) -> bool:
        """Whether a step that went the whole way is as those are."""
        like = call.like()
        return like == self.likeness.like and call.told() is self._told


class Taken:
    """One step on its quick way: claimed, entered, called, ended, left.

    Args:
        quick: How they are taken.
        step: As for `Quick.take`.
        key: The same.
        thunk: The same.
        args: The same.
        asked: The same.

    Attributes:
        took_s: How long its function ran.
        worked_s: How long that had a processor.
    """

    __slots__ = (
        "_args", "_asked", "_flight", "_frame", "_inside", "_key", "_lock", "_looked", "_quick", "_raised", "_read", "_shared",
        "_step", "_thunk", "_value", "took_s", "worked_s",
    )  # fmt: skip

    def __init__(self, quick: Quick, step: int, key: str, thunk: Any, args: tuple[Any, ...], asked: float) -> None:
        self._quick, self._step, self._key, self._thunk, self._args, self._asked = quick, step, key, thunk, args, asked
        self._flight: Flight | None = None
        self._lock: KeyLock | None = None
        self._read: Read | None = None
        self._frame: Frame | None = None
        self._inside: Token[Frame | None] | None = None
        self._value: Any = None
        self._raised: Err[Any] | None = None
        self.took_s = self.worked_s = 0.0
        self._looked = False
        self._shared: list[Landing] = []

    @property
    def options(self) -> Options:
        """What the steps of its map were asked."""
        return self._quick.options

    def goes_to(self, thread: int) -> None:
        """Says which thread has it from now on: whoever waits for it waits for that one."""
        if self._flight is not None:
            self._flight.thread = thread

    def is_claimed(self) -> bool:
        """Claims its key, of which there was never anything; whether it could, or it is to go the whole way."""
        quick, key = self._quick, self._key
        run = quick.run
        if not _is_plain(self._args[0]) or signing_key() is not quick.likeness.like.signing_key:
            return False
        stop_if_interrupted()
        flight, mine = FLIGHTS.claim(quick.scope, key, run.name or run.place.notebook, self._asked)
        if not mine:
            return False
        self._flight = flight
        lock = self._lock = quick.cache.take_new(key, quick.pattern.signer)
        if lock is None:
            return False
        flight.let_go = lock.release
        return True

    def go(self, compute: Computing) -> Any:
        """Runs its function, and gives `UNFINISHED`; or lets it go the rest of the whole way, and gives what that gives."""
        __tracebackhide__ = True
        self._read = self._quick.likeness.read(self._key, self._thunk, self._args)
        if self._read is not None:
            self._enter()
            self.call()
            return UNFINISHED
        call = self.as_call()
        refused = announce(call)
        return self._noted(call, compute(call, _NEW, False, None, self._shared)) if refused is None else refused

    def call(self) -> None:
        """Runs its function, in the context that it was entered in, on any thread."""
        __tracebackhide__ = True
        began, worked = time.perf_counter(), time.thread_time()
        try:
            self._value = self._thunk(*self._args)
        except BaseException as error:  # noqa: BLE001 - told, kept where it may be, and raised again
            self._raised = Err(error)
        finally:
            self.took_s, self.worked_s = time.perf_counter() - began, time.thread_time() - worked
            if self._frame is not None:
                self._frame.ended = True

    def is_easily_ended(self) -> bool:
        """Whether to end it calls nobody's code, most likely: to look at some objects, and hand over a plain value."""
        return (
            self._read is not None
            and self._read.anchor is not None
            and self._gave_by_itself()
            and _is_plain(self._value)
        )

    def end(self) -> Any:
        """Keeps what it gave, tells that, and gives what the step gives."""
        __tracebackhide__ = True
        given = self.end_quickly() if not self._looked and self._gave_by_itself() else UNFINISHED
        return self._end_wholly() if given is UNFINISHED else given

    def end_quickly(self) -> Any:
        """The same, or `UNFINISHED` where its value is not kept so, or its function left something else than it found."""
        self._go_out()
        quick, key, value, read = self._quick, self._key, self._value, self._read
        self._looked = True
        if read is None or not quick.likeness.is_still(key, self._thunk, self._args, read):
            return UNFINISHED
        run, options = quick.run, quick.options
        size_bytes = quick.cache.keep_like(quick.pattern, key, value, self.took_s, read.inputs.texts, run.id)
        if size_bytes is None:
            return UNFINISHED
        note_handed_out(value, quick.scope, key, size_bytes, plain=True, maps=quick.maps)
        self._shared.append("kept")
        if run.is_heard():
            run.tell(StepFinished(run.id, self._step, key, "ok", run.clock(), self.took_s, size_bytes))
        return Ok(value) if options.hand_back and not options.bare else value

    def leave(self) -> None:
        """Lets others compute it, or find it. Needed once, whatever happened."""
        flight, lock, shared = self._flight, self._lock, self._shared
        try:
            if lock is not None:
                lock.release()
        finally:
            if flight is not None:
                FLIGHTS.land(self._quick.scope, self._key, flight, shared[0] if shared else "nothing")

    def as_call(self) -> Call:
        """The step as one that goes the whole way from where it is."""
        quick = self._quick
        return Call(
            quick.run, self._step, self._key, self._thunk, self._args, quick.options, quick.place, None, self._asked, quick.site
        )  # fmt: skip

    def _enter(self) -> None:
        """Tells that it was asked and begins, and goes inside it."""
        quick, step, key = self._quick, self._step, self._key
        run = quick.run
        if run.is_heard():
            run.tell(
                StepAsked(run.id, step, key, quick.place, self._asked, None, quick.site.id, quick.options.map),
                StepMissed(run.id, step, key, "new"),
                StepStarted(run.id, step, key, run.clock()),
            )
        self._frame = Frame(run, step, key, None, raised_before=run.raised_count, maps=quick.maps, place=quick.place)
        self._inside = enclosing.set(self._frame)

    def _go_out(self) -> None:
        inside, self._inside = self._inside, None
        if inside is not None:
            leave(inside)

    def _gave_by_itself(self) -> bool:
        return self._raised is None and self._frame is not None and not self._frame.used

    def _noted(self, call: Call, work: Coroutine[Any, Any, Any]) -> Any:
        """Lets it go the rest of the whole way; gives what it gives."""
        __tracebackhide__ = True
        given = run_now(work)
        if call.options.alike is not None:
            note_quick(call, call.options.alike)
        return given

    def _end_wholly(self) -> Any:
        __tracebackhide__ = True
        self._go_out()
        if self._raised is None and is_awaitable(self._value):
            return Later(self._value)
        like, call, read, frame = self._quick.likeness.like, self.as_call(), self._read, self._frame
        assert read is not None
        assert frame is not None  # it was entered
        call.announced = True
        call.note_read(like.seen, like.inputs(self._thunk, read.inputs))
        outcome = outcome_of(Given(self._value)) if self._raised is None else ThunkOutcome(self._raised)
        return self._noted(call, ended(call, _NEW, outcome, self.took_s, frame, False, self._shared))


def _is_plain(item: Any) -> bool:
    """Whether it may be. Not by a set: the class of a class may have no hash."""
    kind = type(item)
    return (
        kind is int or kind is str or kind is dict or kind is tuple or kind is list or kind is float or kind is bool or item is None
    )  # fmt: skip


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
    run, cache, options, like = call.run, call.run.cache, call.options, call.like()
    thunk: Any = call.thunk
    if like is None or cache is None or call.outer is not None:
        return None
    if run.mode != "normal" or run.retry_errors or run.rerun_drifted:
        return None
    if options.retries or options.timeout_s is not None or options.pace is not None or options.refresh:
        return None
    function = thunk.__func__ if type(thunk) is types.MethodType else thunk
    if options.elsewhere or type(function) is not types.FunctionType or is_bound(function):
        return None
    ran = Ran(0.0, awaitable=False, returned=False, used=())
    pattern = cache.pattern(facts_of(call, ran, options.policy.ttl_s, {}), like.signing_key)
    return None if pattern is None else Quick(call, cache, like, call.told(), pattern, function)
