"""Lets an interrupt stop a cell that awaits at once: inside a blocking step, and while everything is waiting."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Generator
from typing import Final

_WAKE_S: Final = 0.1


@contextlib.contextmanager
def interruptible() -> Generator[None]:
    """While the block runs on the main thread, an interrupt stops it at once.

    For a cell that awaits, the kernel turns SIGINT into the cancellation of the cell's task, which a blocking call never
    notices. Python's own handler is put back for the time of the call. A `KeyboardInterrupt` that leaves a child task
    would end the kernel's loop, so inside a task it becomes the cancellation that the kernel meant.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    # None: the handler was not set from Python and could not be put back.
    if before is None or before is signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        try:
            task = asyncio.current_task()
        except RuntimeError:
            task = None
        if task is None:
            raise
        raise asyncio.CancelledError("interrupted by the user") from None
    finally:
        signal.signal(signal.SIGINT, before)


def wake_regularly() -> Callable[[], None]:
    """Wakes the running loop ten times a second, if there is one, until the function it returns is called.

    The kernel's SIGINT handler cancels the cell's task, but a loop in which nothing happens does not notice before its
    next event, which may be as far as the end of the request that the cell awaits.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return lambda: None
    pending: list[asyncio.TimerHandle] = []

    def wake() -> None:
        pending[:] = [loop.call_later(_WAKE_S, wake)]

    def stop() -> None:
        for handle in pending:
            handle.cancel()

    wake()
    return stop
