"""The steps of a map that are as most of a first run are, in a third of the calls; all others go the whole way (`take.py`).

Thousands of steps of one function differ in their item alone. What they share was found out by one that went the whole way, and
is only checked here. A step goes the whole way as soon as it is otherwise: something was kept under its key once, somebody else
computes it, its function names what can change in place. Where it turns out to be otherwise once its function ran, it ends
the whole way (`ending.py`).
"""

from __future__ import annotations

import time
import types
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from nbstep.cache.cache import Cache
from nbstep.cache.flight import FLIGHTS, Landing
from nbstep.cache.pattern import Pattern
from nbstep.cache.trust import signing_key
from nbstep.collisions.look import Look, Sight, are_still, look_like, seen_in_place
from nbstep.drift.alike import Anchored, Like, LikeRead
from nbstep.drift.code import looks_the_same
from nbstep.drift.lineage import note_handed_out
from nbstep.events import StepAsked, StepFinished, StepMissed, StepStarted
from nbstep.foreign import interrupts, is_awaitable
from nbstep.freezing import is_bound
from nbstep.result import Err, Ok
from nbstep.runs.hooks import stop_if_interrupted
from nbstep.runs.state import Frame, enclosing
from nbstep.steps.attempts import Given
from nbstep.steps.calls import Alike, Call, Told, origins_of
from nbstep.steps.decision import Compute
from nbstep.steps.ending import Later, ThunkOutcome, ended, leave, outcome_of
from nbstep.steps.keeping import Ran, facts_of
from nbstep.steps.telling import announce
from nbstep.stores.base import run_now

if TYPE_CHECKING:
    from nbstep.stores.locks import KeyLock

Computing: TypeAlias = Callable[[Call, Compute, bool, None, list[Landing]], Coroutine[Any, Any, Any]]

WHOLE_WAY: Final = object()
_NEW: Final = Compute("new")
_ANCHORS: Final = 8  # looked for so often


class _Anchor(NamedTuple):
    """By what is told that all names hold what they did when a step was looked at.

    Attributes:
        named: They mean what they did.
        look: That look.
        seen: What of it may be seen as something else, though it is the same object.
    """

    named: Anchored
    look: Look
    seen: Sequence[tuple[Any, Sight]]

    def holds_before(self, function: types.FunctionType, own_map: object) -> bool:
        """Whether all is as it was, before a call."""
        return self.named.holds_before(function, own_map) and are_still(self.seen)

    def holds_after(self) -> bool:
        """The same, after it."""
        return self.named.holds() and are_still(self.seen)


class _Read(NamedTuple):
    """What was read before a step.

    Attributes:
        inputs: Its inputs.
        fixed: All that is remembered of its call is its item, one that cannot change.
        anchor: Tells that what is remembered of its names still holds; None where it is to be looked at.
    """

    inputs: LikeRead
    fixed: bool
    anchor: _Anchor | None


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

    __slots__ = (
        "_anchor", "_cache", "_code", "_defaults", "_function", "_left", "_like", "_maps", "_name", "_options", "_pattern",
        "_place", "_run", "_scope", "_site", "_thunk", "_told",
    )  # fmt: skip

    def __init__(
        self, call: Call, cache: Cache, like: Like, told: Told, pattern: Pattern, function: types.FunctionType
    ) -> None:
        self._run, self._options, self._place, self._site = call.run, call.options, call.place, call.site
        self._cache, self._scope = cache, call.run.scope()
        self._like, self._told, self._pattern = like, told, pattern
        self._thunk, self._function, self._maps = call.thunk, function, call.maps()
        self._code, self._name, self._defaults = function.__code__, function.__qualname__, function.__defaults__
        self._anchor: _Anchor | None = None
        self._left = _ANCHORS

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
        if not _is_plain(args[0]) or signing_key() is not self._like.signing_key:
            return WHOLE_WAY
        stop_if_interrupted()
        run = self._run
        flight, mine = FLIGHTS.claim(self._scope, key, run.name or run.place.notebook, asked)
        if not mine:
            return WHOLE_WAY
        shared: list[Landing] = []
        lock: KeyLock | None = None
        try:
            lock = self._cache.take_new(key, self._like.signing_key.id)
            if lock is None:
                return WHOLE_WAY
            flight.let_go = lock.release
            read = self._read(key, thunk, args)
            if read is not None:
                return self._compute(step, key, thunk, args, asked, read, shared)
            call = self._call(step, key, thunk, args, asked)
            refused = announce(call)
            return self._noted(call, compute(call, _NEW, False, None, shared)) if refused is None else refused
        finally:
            try:
                if lock is not None:
                    lock.release()
            finally:
                FLIGHTS.land(self._scope, key, flight, shared[0] if shared else "nothing")

    def are_like(self, call: Call) -> bool:
        """Whether a step that went the whole way is as those are."""
        like = call.like()
        return like == self._like and call.told() is self._told

    def _call(self, step: int, key: str, thunk: Any, args: tuple[Any, ...], asked: float) -> Call:
        """The step as one that goes the whole way from where it is."""
        return Call(self._run, step, key, thunk, args, self._options, self._place, None, asked, self._site)

    def _noted(self, call: Call, work: Coroutine[Any, Any, Any]) -> Any:
        """Lets it go the rest of the whole way; gives what it gives."""
        __tracebackhide__ = True
        given = run_now(work)
        if call.options.alike is not None:
            note_quick(call, call.options.alike)
        return given

    def _read(self, key: str, thunk: Any, args: tuple[Any, ...]) -> _Read | None:
        """Its inputs; None where they, or what is behind its function, are not as they were, or the key is another step's."""
        like, anchor, own_map = self._like, self._anchor, self._maps[-1]
        try:
            if not self._is_itself(thunk):
                return None
            if anchor is not None and not anchor.holds_before(self._function, own_map):
                self._anchor = anchor = None  # nor are the objects held any longer
            if anchor is not None:
                read, look = like.read(args[0], anchored=True), look_like(anchor.look, args[0])
                if read is None or look is None or (read.objects and origins_of(read.objects, like.seen, self._scope)):
                    return None
                kept = self._run.first_asks.check_look(self._scope, key, look, self._place, None, self._site)
                return _Read(read, False, anchor if kept is look else None)
            if like.owner and type(like.owner[0]) is not like.own_type:
                return None
            named = self._anchored()
            if not looks_the_same(like.seen, self._function, like.own_type):
                return None
            read = like.read(args[0])
            if read is None or origins_of(read.objects, like.seen, self._scope, args=args, own_map=own_map):
                return None
            look = self._run.first_asks.check(self._scope, key, thunk, args, self._place, None, self._site)
            if named is not None and look is not None and look_like(look, args[0]) == look and named.holds():
                self._anchor = _Anchor(named, look, seen_in_place(look, thunk, args))
            return _Read(read, look is not None and not look.read and look.sights == args, None)
        except interrupts():
            raise
        except BaseException:  # noqa: BLE001 - odd code must not cost the value (C3); a collision is met again, and told
            return None

    def _anchored(self) -> Anchored | None:
        """By what the next ones may tell that all names hold what they hold now; not again and again where that is never so."""
        if self._left <= 0:
            return None
        self._left -= 1
        return self._like.anchored()

    def _compute(
        self, step: int, key: str, thunk: Any, args: tuple[Any, ...], asked: float, read: _Read, shared: list[Landing]
    ) -> Any:
        """Tells that it was asked and begins, runs the function, keeps what it gave, and tells that."""
        __tracebackhide__ = True
        run, options = self._run, self._options
        if run.is_heard():
            run.tell(
                StepAsked(run.id, step, key, self._place, asked, None, self._site.id, options.plain),
                StepMissed(run.id, step, key, "new"),
                StepStarted(run.id, step, key, run.clock()),
            )
        frame = Frame(run, step, key, None, raised_before=run.raised_count, maps=self._maps)
        inside = enclosing.set(frame)
        began = time.perf_counter()
        value: Any = None
        raised: Err[Any] | None = None
        try:
            value = thunk(*args)
        except BaseException as error:  # noqa: BLE001 - told, kept where it may be, and raised again
            raised = Err(error)
        finally:
            frame.ended = True
            leave(inside)
        took_s = time.perf_counter() - began
        if raised is None and not frame.used and self._is_still(key, thunk, args, read):
            size_bytes = self._cache.keep_like(self._pattern, key, value, took_s, read.inputs.texts, run.id)
            if size_bytes is not None:
                note_handed_out(value, self._scope, key, size_bytes, plain=True, maps=self._maps)
                shared.append("kept")
                if run.is_heard():
                    run.tell(StepFinished(run.id, step, key, "ok", run.clock(), took_s, size_bytes))
                return Ok(value) if options.hand_back and not options.bare else value
        if raised is None and is_awaitable(value):
            return Later(value)
        call = self._call(step, key, thunk, args, asked)
        call.announced = True
        call.note_read(self._like.seen, self._like.inputs(thunk, read.inputs))
        outcome = outcome_of(Given(value)) if raised is None else ThunkOutcome(raised)
        return self._noted(call, ended(call, _NEW, outcome, took_s, frame, False, shared))

    def _is_itself(self, thunk: Any) -> bool:
        """Whether it is theirs, and has the code, the name and the defaults that it had."""
        function = self._function
        return (
            thunk is self._thunk
            and function.__code__ is self._code
            and function.__qualname__ is self._name
            and function.__defaults__ is self._defaults
            and not function.__kwdefaults__
        )

    def _is_still(self, key: str, thunk: Any, args: tuple[Any, ...], read: _Read) -> bool:
        """Whether its function left itself, its item, what it names, and the user's key as they were."""
        like = self._like
        try:
            if not (self._is_itself(thunk) and signing_key() is like.signing_key and like.has(args[0], read.inputs)):
                return False
            if read.anchor is not None and read.anchor.holds_after():
                return True
            if not like.holds():
                return False
            if not read.fixed:
                self._run.first_asks.note_ran(self._scope, key, thunk, args)
            return True
        except interrupts():
            raise
        except BaseException:  # noqa: BLE001 - as above
            return False


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
