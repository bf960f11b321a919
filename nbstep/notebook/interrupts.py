"""Lets an interrupt stop a blocking step also in a cell that awaits."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Generator


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
