"""Calls a thunk: once, or again after failures that may pass, awaiting what it gives."""

from __future__ import annotations

import asyncio
import functools
import time
import types
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, Final

from nbstep.batch.pace import Pace
from nbstep.batch.stop import Stop
from nbstep.errors import NbstepError, StepTimeout
from nbstep.foreign import is_awaitable, own
from nbstep.freezing import as_it_was
from nbstep.runs.hooks import stop_if_interrupted, thunk_guard
from nbstep.steps.inline import Ended, Inline, pause
from nbstep.thunks import Thunk
from nbstep.transience import http_status, transient

# Between attempts: 0.1 to 0.2 s, then 0.2 to 0.4 s, … 5 to 10 s at the most, by chance, so that many steps do not retry in step.
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 10.0
_PROGRAM_ERRORS: Final = (NameError, ImportError, SyntaxError, MemoryError, NbstepError)


@dataclass(frozen=True, slots=True)
class Given:
    """What a thunk gave.

    Attributes:
        value: The value.
        awaitable: The thunk gave an awaitable of it.
        later: An awaitable that the plain caller must hand to the user instead.
        stopped: A plain thunk raised StopIteration, which no coroutine may raise.
    """

    value: Any = None
    awaitable: bool = False
    later: Awaitable[Any] | None = None
    stopped: StopIteration | None = None


async def attempt_thunk(
    thunk: Thunk,
    args: tuple[Any, ...],
    retries: int,
    timeout_s: float | None,
    *,
    awaiting: bool,
    prepared: Awaitable[Any] | None,
    pace: Pace | None = None,
    stop: Stop | None = None,
    failing: Callable[[BaseException], None] = lambda _: None,
) -> Given:
    """Calls the thunk up to `1 + retries` times; only the last failure leaves.

    Args:
        thunk: The thunk.
        args: Its arguments.
        retries: How many more attempts a failure that may pass gets.
        timeout_s: Seconds each attempt of an awaitable thunk may take.
        awaiting: The caller awaits; else nothing here suspends.
        prepared: What a first call already gave.
        pace: Gives a further attempt its turn.
        stop: Says where there is to be none any more.
        failing: Is told what each attempt raised, where there may be another.
    """
    __tracebackhide__ = True
    if isinstance(thunk, Inline):
        return given_by(await pause("nbstep: before the body"))
    if retries == 0:
        return await _attempt(thunk, args, timeout_s, awaiting, prepared)

    import tenacity

    async def wait(seconds: float) -> None:
        await sleep(seconds, awaiting=awaiting, stop=stop, begun=True)
        if pace is not None:
            await sleep(pace.wait_s(), awaiting=awaiting, stop=stop, begun=True)

    first = [prepared]
    failed: tuple[BaseException, types.TracebackType | None] | None = None
    retrying = tenacity.AsyncRetrying(
        stop=tenacity.stop_after_attempt(retries + 1),
        wait=tenacity.wait_exponential(multiplier=_FIRST_PAUSE_S / 2, max=_LONGEST_PAUSE_S / 2)
        + tenacity.wait_random_exponential(multiplier=_FIRST_PAUSE_S / 2, max=_LONGEST_PAUSE_S / 2),
        retry=tenacity.retry_if_exception(may_pass),
        sleep=wait,
        reraise=True,
    )
    try:
        async for attempt in retrying:
            with attempt:
                try:
                    return await _attempt(thunk, args, timeout_s, awaiting, first.pop() if first else None)
                except BaseException as error:
                    failed = error, own(error, "__traceback__")
                    failing(error)
                    raise
    except BaseException as error:
        if failed is not None and failed[0] is error:
            BaseException.with_traceback(error, failed[1])  # without the frames of whoever raised it again
        raise
    raise AssertionError("unreachable: tenacity raises the last failure")


def given_by(ended: Ended | None) -> Given:
    """What work gave that was done somewhere else.

    Raises:
        BaseException: What it raised.
    """
    __tracebackhide__ = True
    if ended is None or ended.error is None:
        return Given(None if ended is None else ended.value)
    if isinstance(ended.error, StopIteration):
        return Given(stopped=ended.error)
    raise ended.error


def may_pass(error: BaseException) -> bool:
    """Whether another attempt makes sense: not for a program error, nor for an HTTP status that says "never"."""
    if not isinstance(error, Exception) or isinstance(error, _PROGRAM_ERRORS):
        return isinstance(error, StepTimeout)
    return http_status(error) is None or transient(error)


async def _attempt(
    thunk: Thunk, args: tuple[Any, ...], timeout_s: float | None, awaiting: bool, prepared: Awaitable[Any] | None
) -> Given:
    __tracebackhide__ = True
    given: Any = prepared
    if prepared is None:
        try:
            with thunk_guard(), as_it_was(thunk):
                stop_if_interrupted()
                given = thunk(*args)
        except StopIteration as stopped:
            return Given(stopped=stopped)
    if not is_awaitable(given):
        return Given(given)
    if not awaiting:
        return Given(later=given)
    if timeout_s is None:
        return Given(await _guarded(given, thunk), awaitable=True)
    deadline = asyncio.timeout(timeout_s)
    try:
        async with deadline:
            return Given(await _guarded(given, thunk), awaitable=True)
    except TimeoutError as error:
        if not deadline.expired():
            raise
        # Where the thunk was just then is all that the time-out's causes say.
        stopped = error.__cause__ or error
        late = StepTimeout(f"the step took longer than timeout={timeout_s:g} s")
        raise late.with_traceback(stopped.__traceback__) from None


@types.coroutine
def _guarded(awaitable: Any, thunk: Thunk) -> Generator[Any, Any, Any]:
    """Awaits, with the guard around each stretch of the user's code between two suspensions: it may block as well."""
    __tracebackhide__ = True
    running = awaitable.__await__() if hasattr(awaitable, "__await__") else awaitable  # a generator of types.coroutine
    go_on: Callable[[], Any] = functools.partial(next, running)
    told = False
    while True:
        try:
            with thunk_guard(), as_it_was(thunk):
                try:
                    stop_if_interrupted()
                except asyncio.CancelledError as stop:
                    if not told and hasattr(running, "throw"):
                        told, go_on = True, functools.partial(running.throw, stop)
                waits_for = go_on()
        except StopIteration as ended:
            return ended.value
        try:
            sent = yield waits_for
        except BaseException as error:
            if not hasattr(running, "throw"):  # a bare iterator cannot be told
                raise
            go_on = functools.partial(running.throw, error)
        else:
            go_on = functools.partial(next, running) if sent is None else functools.partial(running.send, sent)


async def sleep(seconds: float, *, awaiting: bool, stop: Stop | None = None, begun: bool = False) -> None:
    """Waits, and may be interrupted; `begun` says that the step has begun.

    Raises:
        KeyboardInterrupt: On a thread whose map has ended early meanwhile.
    """
    if awaiting:
        await asyncio.sleep(seconds)
    elif stop is not None or seconds > 0:
        with thunk_guard():
            stop_if_interrupted()
            if stop is None:
                time.sleep(seconds)
            else:
                stop.sleep(seconds, begun=begun)
