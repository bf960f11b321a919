"""Takes from the cache what a worker process kept there."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

from nbstep.cache.cache import Cache
from nbstep.cache.records import Hit, Kept, Miss, Receipt, Unreadable
from nbstep.result import Ok
from nbstep.steps.attempts import sleep
from nbstep.steps.calls import Call
from nbstep.steps.inline import Ended, pause

_LOOKS: Final = (
    2  # a network file system answers the first from what it remembers; a miss lists the folder, so it asks anew
)
_LOOKED_FOR_AT_MOST_S: Final = 30.0
_BETWEEN_LOOKS_S: Final = 0.5


async def done_elsewhere(call: Call) -> Ended:
    """Waits for the worker; where it kept the value, that is taken from the cache.

    Pauses again where that fails, as the work must be done again: the value always reaches the user (C3).
    """
    while True:
        ended = await pause("nbstep: before the body") or Ended()
        cache, key = call.run.cache, call.key
        if ended.receipt is None or cache is None or key is None:
            return ended
        try:
            fetched = await _fetched(call, cache, key, ended.receipt, ended.took_s or 0.0)
        except BaseException as error:  # noqa: BLE001 - raised as the work's own, so that it is told: an interrupt, no memory
            fetched = Ended(error=error)
        if isinstance(fetched, Ended):
            return replace(fetched, took_s=ended.took_s)
        call.run.find(
            "not-fetched", None, f"{key}: a worker kept it, but here {fetched}; so it runs again. Others may, too",
            once=True,
        )  # fmt: skip


async def _fetched(call: Call, cache: Cache, key: str, receipt: Receipt, took_s: float) -> Ended | str:
    """The value out of the entry that the worker kept; or why it cannot be had.

    A store that does not answer is asked again, for no longer than the work took: to do that again takes as long. One that
    rests was asked so for another step.
    """
    rests = cache.why_resting() is not None or cache.why_far_rests() is not None
    until = time.monotonic() + (0.0 if rests else min(took_s, _LOOKED_FOR_AT_MOST_S))
    looks = 0
    while True:
        found = await cache.look_up(key, insist=True)
        looks += 1
        if isinstance(found, Hit) and _is_meant(call, found, receipt):
            break
        if isinstance(found, Miss) and found.reason == "unreadable":
            if time.monotonic() >= until:
                return found.detail or "it cannot be read"
            await sleep(_BETWEEN_LOOKS_S, awaiting=False)
        elif looks >= _LOOKS:
            return "the cache does not have it" if isinstance(found, Miss) else "the cache has another one"
    try:
        value = found.load()
    except Unreadable as problem:
        if isinstance(problem.__cause__, MemoryError):  # to do the work again would end the same way
            raise problem.__cause__ from None
        return problem.detail
    return Ended(Ok(value), kept=Kept(found.meta, receipt.evicted, beside=receipt.beside))


def _is_meant(call: Call, found: Hit, receipt: Receipt) -> bool:
    """Whether it is what the worker kept, or what somebody else kept under this key meanwhile; not what stood there before."""
    if found.meta.outcome != "ok":
        return False
    return found.mark == receipt.mark or (not call.blind and found.mark != call.seen)
