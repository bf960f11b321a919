"""What the cache needs of a store, and how one set of coroutines serves sync and async stores alike."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_now(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine that never suspends, without an event loop.

    The cache and the steps are written once, as coroutines. Over a sync store nothing in them ever waits, so one `send`
    runs them to their end; this works inside a running loop too.

    >>> async def answer():
    ...     return 42
    >>> run_now(answer())
    42
    """
    __tracebackhide__ = True
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise RuntimeError("a sync store's coroutine suspended: the store is async, its step must be awaited")
