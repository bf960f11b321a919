"""Keeps what a step gave, where it may be kept (E1 to E3), without ever costing it (C3)."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from nbstep.cache.cache import Cache
from nbstep.cache.records import Facts, Kept, NotKept
from nbstep.cache.secrets.redaction import redact_text
from nbstep.durations import age_text
from nbstep.errors import NbstepError
from nbstep.foreign import interrupts
from nbstep.notes import error_line
from nbstep.result import Err, Ok, raised_by
from nbstep.steps.calls import Call
from nbstep.steps.decision import NOTHING_KEPT, Compute
from nbstep.steps.inline import Ended


@dataclass(frozen=True, slots=True)
class Ran:
    """How the thunk ran.

    `returned` says that its error came in an `Err`; `used` are the keys asked inside it; `raised_before` is how many failures of
    steps the run had seen when it began. `elsewhere` is how it ended in a worker process.
    """

    took_s: float
    awaitable: bool
    returned: bool
    used: tuple[str, ...]
    raised_before: int = 0
    elsewhere: Ended | None = None


_OPEN_FILE: Final = (
    "result has an open file in it, of which a worker could send the text alone: return what it holds instead"
)


async def keep_result(
    call: Call, why: Compute, result: Ok[Any] | Err[Any], ran: Ran, *, awaiting: bool
) -> tuple[int | None, str]:
    """Keeps a result under its key, where it may be; the kept size, or None and why that failed.

    Never raises an `Exception` (C3). Where the caller is `awaiting`, no network stops the event loop.
    """
    run, key = call.run, call.key
    if key is None or run.cache is None:
        return None, ""
    if ran.elsewhere is not None and ran.elsewhere.kept is not None:
        run.cache.note_kept(key, ran.elsewhere.kept.evicted)
        call.note_kept_elsewhere(ran.elsewhere.kept.meta.facts.inputs)
        return _told(call, run.cache, key, why, result, ran.elsewhere.kept, loaded=True), ""
    if ran.elsewhere is not None and ran.elsewhere.file_copied:
        run.find("not-stored", key, f"{key} was not kept: {_OPEN_FILE}", why=_OPEN_FILE)
        return None, _OPEN_FILE
    if call.moved:
        run.find("not-fixed", key, _moved_text(call), once=True)
        return None, _moved_short(call)
    kept: Kept | NotKept
    try:
        failed = isinstance(result, Err)
        if failed and not _may_be_kept(call, why, result, ran):
            return None, ""
        made_by = _made_by(call) if failed else None
        facts = _facts(call, result, ran)
        kept = await run.cache.keep(key, result, facts, batch=run.id, made_by=made_by, awaiting=awaiting)
    except asyncio.CancelledError as error:
        if _is_cancelled():
            call.tell_stop(error)
            raise
        kept = NotKept(error_line(error, redact_text))  # the store's own, not meant for us
    except interrupts():
        raise
    except BaseException as error:  # noqa: BLE001 - a cache that fails never costs the value (C3)
        kept = NotKept(error_line(error, redact_text))
    if isinstance(kept, NotKept):
        if kept.kind == "unreachable":
            run.find_unreachable(f"{kept.why}{NOTHING_KEPT}")
        elif why.detail != kept.why:  # else it was told before the work began
            run.find(
                kept.kind,
                key,
                f"{key} was not kept: {kept.why}",
                once=kept.kind != "not-stored",
                why=kept.why if kept.kind == "not-stored" else "",
            )
        return None, run.spelled(kept.why)
    if ran.elsewhere is not None and ran.elsewhere.sent_because:
        run.find("workers", None, f"results come back through this kernel: {ran.elsewhere.sent_because}", once=True)
    return _told(call, run.cache, key, why, result, kept), ""


def _told(
    call: Call, cache: Cache, key: str, why: Compute, result: Ok[Any] | Err[Any], kept: Kept, *, loaded: bool = False
) -> int:
    """Tells and remembers what is to be of an entry; gives its size. `loaded` says that the value was taken from it."""
    run = call.run
    if kept.beside:
        behind = cache.why_far_rests()
        run.find("unreachable" if behind else "not-shared", None, behind or f"{key}: {kept.beside}", once=True)
    if kept.left_out:
        run.find("shortened", key, f"{key} was not kept whole: {kept.left_out}")
    if isinstance(result, Err) and why.old is not None:
        age = age_text(max(0.0, run.clock() - why.old.meta.created))
        run.find(
            "replaced",
            key,
            f"{key}: its last good value, kept {age}, is in the trash; {call.command('undo')} brings it back",
        )
    run.note_kept(key, kept)
    if isinstance(result, Ok):
        call.note_handed_out(result.value, kept.meta.size_bytes, plain=not kept.meta.packages, loaded=loaded)
    return kept.meta.size_bytes


def _moved_short(call: Call) -> str:
    names = ", ".join(f"`{name}`" for name in call.moved[:3])
    return f"{names} changed between its call and its await"


def _moved_text(call: Call) -> str:
    argument = call.moved[0].partition(" in ")[0].partition(".")[0]
    return (
        f"{call.key} was not kept: {_moved_short(call)}, and it read the newer one; "
        f"hand it over when you call it: step(fetch, {argument}, key=…)"
    )


def _may_be_kept(call: Call, why: Compute, result: Err[Any], ran: Ran) -> bool:
    """Whether this failure is kept under this key (E2, E3, E6)."""
    error: Any = result.error
    if isinstance(error, NbstepError) or call.run.came_from_keyed_step(raised_by(result), ran.raised_before):
        return False
    return still_kept(call, error) and not (call.options.policy.stale_if_error and why.old is not None)


def _facts(call: Call, result: Ok[Any] | Err[Any], ran: Ran) -> Facts:
    ttl_s = call.options.policy.error_ttl_of(result.error) if isinstance(result, Err) else call.options.policy.ttl_s
    facts = facts_of(call, ran, ttl_s, call.settled_inputs())
    other = None if ran.elsewhere is None else ran.elsewhere.ran_with
    return facts if other is None else other.told(facts)


def facts_of(call: Call, ran: Ran, ttl_s: float | None, inputs: Mapping[str, str]) -> Facts:
    """What an entry says of its step."""
    told = call.told()
    return Facts(
        took_s=ran.took_s, awaitable=ran.awaitable, returned=ran.returned, ttl_s=ttl_s, workflow=call.run.name,
        place=call.place, code=told.code, exact=told.exact, inputs=inputs, source=told.source,
        sources=told.sources, uses=ran.used, names=told.names,
    )  # fmt: skip


def _made_by(call: Call) -> Any:
    """The function that did the work, with its arguments."""
    return functools.partial(call.work(), *call.args) if call.args else call.work()


def _is_cancelled() -> bool:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False
    return task is not None and task.cancelling() > 0


def still_kept(call: Call, error: Any) -> bool:
    """Whether the policy in force keeps this error (E2, E3)."""
    policy = call.options.policy
    try:
        if not isinstance(error, BaseException):  # an Err with a plain value, such as Err("NOT_FOUND")
            return policy.cache_errors is True or (
                callable(policy.cache_errors)
                and not isinstance(policy.cache_errors, type)
                and bool(policy.cache_errors(error))
            )
        return policy.keeps(error)
    except interrupts():
        raise
    except BaseException as broken:  # noqa: BLE001 - the user's predicate failed: the original error matters more
        call.run.find(
            "cache-errors",
            call.key,
            f"{call.key}: cache_errors= failed with {error_line(broken, redact_text)}, so the error was not kept: "
            "mend that function",
        )
        return False
