"""Lets an interrupt stop a cell that awaits at once: inside a blocking step, and while everything is waiting."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

_WAKE_S: Final = 0.1
_WHY: Final = "interrupted by the user"

_interrupted = False


class interruptible:  # noqa: N801 - used as a context manager, like those of contextlib
    """While the block runs on the main thread, an interrupt stops it at once.

    For a cell that awaits, the kernel turns SIGINT into the cancellation of the cell's task, which a blocking call never
    notices. Python's own handler is put back for the time of the call. A `KeyboardInterrupt` that leaves a child task
    would end the kernel's loop, so inside a task it becomes the cancellation that the kernel meant, and the kernel's handler
    is told after all: it cancels the cell. Until the cell has ended no other stretch of a thunk begins in a task.

    A class, because a generator assigns to the exception that passes, and some exceptions are frozen dataclasses.
    """

    _before: Any = None

    def __enter__(self) -> None:
        """Puts Python's handler in the place of the kernel's."""
        if threading.current_thread() is not threading.main_thread():
            return
        before = signal.getsignal(signal.SIGINT)
        # None: the handler was not set from Python and could not be put back.
        if before is not None and before is not signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._before = before

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Puts the kernel's handler back."""
        if self._before is None:
            return
        signal.signal(signal.SIGINT, self._before)
        if isinstance(error, KeyboardInterrupt) and _in_a_task():
            global _interrupted
            _interrupted = True
            if callable(self._before):
                self._before(signal.SIGINT, None)
            raise asyncio.CancelledError(_WHY) from None


def stop_if_interrupted() -> None:
    """Cancels a task of an interrupted cell that is about to run on: the kernel's own cancellation waits for the loop.

    Raises:
        CancelledError: The cell was interrupted.
    """
    if _interrupted and threading.current_thread() is threading.main_thread() and _in_a_task():
        raise asyncio.CancelledError(_WHY)


def forget_interrupt() -> None:
    """A cell ended, or another begins."""
    global _interrupted
    _interrupted = False


def _in_a_task() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


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
