"""Does in a thread what may wait for a network, for a caller who awaits: its event loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import Any, Final, TypeVar

from nbstep.forks import ThreadLock

T = TypeVar("T")

_THREADS: Final = 32  # as many as a map has tasks
_GOES_LATE_S: Final = 1.0  # what is quickly done is worth it: who waits for the step then finds its result
_making: Final = ThreadLock()


async def aside(work: Callable[[], T], *, to_end: bool = False) -> T:
    """What a function gives that is called in a thread, with the context variables of the caller.

    A caller who is cancelled goes on at once, and what no thread has begun is not done. With `to_end` it is done in any case:
    such a caller waits up to a second for it, or until it is cancelled again, then leaves it to the thread.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # something else drives who awaits
        return work()
    came = loop.create_future()

    def wake() -> None:
        if not came.done():
            came.set_result(None)

    def tell(_: Future[T]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(wake)

    try:
        with _making:
            threads = _threads(os.getpid())
        call = threads.submit(copy_context().run, work)
    except RuntimeError:  # no more threads, or the interpreter ends
        return work()
    call.add_done_callback(tell)
    try:
        await asyncio.wait([came])
    except asyncio.CancelledError:
        if to_end:
            await asyncio.wait([came], timeout=_GOES_LATE_S)
        else:
            call.cancel()
        raise
    return call.result()


@functools.lru_cache(maxsize=1)
def _threads(pid: int) -> Any:  # noqa: ARG001 - a forked child has none of its parent's
    """The threads of this process, for all its loops: made when they are needed, at its end waited for."""
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="nbstep-aside")
