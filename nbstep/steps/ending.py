"""What becomes of what a thunk gave: kept where it may be, told, and given to the caller."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextvars import Token
from dataclasses import dataclass
from typing import Any, NamedTuple

from nbstep.cache.flight import Landing
from nbstep.cache.records import Hit, Unreadable
from nbstep.cache.secrets.redaction import redact_text
from nbstep.errors import StepFailed
from nbstep.events import StepFinished
from nbstep.notes import error_line
from nbstep.result import Err, Ok
from nbstep.runs.state import Frame, enclosing
from nbstep.steps.attempts import Given
from nbstep.steps.calls import Call
from nbstep.steps.decision import Compute, Use
from nbstep.steps.giving import fail, hand_out
from nbstep.steps.inline import Ended
from nbstep.steps.keeping import Ran, keep_result
from nbstep.stores.aside import aside
from nbstep.words import first_sentence


@dataclass(frozen=True, slots=True)
class Later:
    """A plain call that turned out to be awaitable; `prepared` is what its thunk gave, if it was called."""

    prepared: Awaitable[Any] | None


class ThunkOutcome(NamedTuple):
    """What a thunk gave or raised; `awaitable` and `returned` as in `Ran`."""

    result: Ok[Any] | Err[Any]
    awaitable: bool = False
    returned: bool = False


def outcome_of(given: Given) -> ThunkOutcome:
    """What a thunk gave, as a result."""
    if given.stopped is not None:
        return ThunkOutcome(Err(given.stopped), given.awaitable)
    kind = type(given.value)  # not by `isinstance`: its `__class__` may be a property of its own
    returned = issubclass(kind, Err)
    result = given.value if returned or issubclass(kind, Ok) else Ok(given.value)
    return ThunkOutcome(result, given.awaitable, returned)


async def ended(
    call: Call, why: Compute, outcome: ThunkOutcome, took_s: float, frame: Frame, awaiting: bool, shared: list[Landing] | None,
    tried: tuple[str, ...] = (), elsewhere: Ended | None = None,
) -> Any:  # fmt: skip
    """Keeps what the thunk gave, where it may be kept, and gives it to the caller; tells all of it."""
    __tracebackhide__ = True
    run, key, result = call.run, call.key, outcome.result
    if key is not None:
        run.first_asks.note_ran(run.scope(), key, call.thunk, call.args)
    if call.outer is not None:
        call.tell_outer(frame.used)
    ran = Ran(took_s, outcome.awaitable, outcome.returned, call.uses(frame.used), frame.raised_before, elsewhere)
    size_bytes, not_kept = await keep_result(call, why, result, ran, awaiting=awaiting)
    if shared is not None and size_bytes is not None:
        shared.append("kept")
    if isinstance(result, Ok):
        run.tell(
            StepFinished(run.id, call.step, key, "ok", run.clock(), took_s, size_bytes, not_kept=not_kept, tried=tried)
        )
        return result if call.options.hand_back else result.value
    failure: Any = result.error
    raised = failure if isinstance(failure, BaseException) else StepFailed(key, failure)
    if shared is not None and isinstance(raised, Exception):
        shared.append(raised)
    stale = await stale_value(call, why, raised, awaiting)
    if stale is not None:
        return stale[0]
    return fail(call, raised, took_s, size_bytes, not_kept=not_kept, tried=tried[:-1])


def leave(inside: Token[Frame | None]) -> None:
    """Ends being inside a step."""
    try:  # noqa: SIM105 - `suppress` takes three more calls
        enclosing.reset(inside)
    except ValueError:  # where the coroutine is closed from another context there is nothing to reset
        pass


async def loaded(call: Call, hit: Hit, awaiting: bool) -> Any:
    """The value of a hit. Who awaits has its bytes fetched in a thread; it is unpickled here in any case.

    Raises:
        Unreadable: The bytes or the pickle turn out not to be usable.
    """
    if awaiting and hit.fetch is not None:
        try:
            await aside(hit.fetch)
        except asyncio.CancelledError as stop:
            call.tell_stop(stop)
            raise
    return hit.load()


async def stale_value(call: Call, why: Compute, error: BaseException, awaiting: bool) -> tuple[Any] | None:
    """The last good value where the policy wants it instead of a failed refetch (E6)."""
    old = why.old
    if old is None or not call.options.policy.stale_if_error or not isinstance(error, Exception):
        return None
    try:
        value = await loaded(call, old, awaiting)
    except Unreadable:
        return None
    text = error_line(error, redact_text)
    call.run.find(
        "stale", call.key, f"{call.key}: refetch failed ({text}); the last good value is used, the next run tries again"
    )
    return (hand_out(call, Use(old, f"refetch failed: {first_sentence(text)}"), value, "cache", stale=True),)
