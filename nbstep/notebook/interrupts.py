"""Lets an interrupt stop a cell that awaits at once: inside a blocking step, between steps, and while everything waits."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final

_WAKE_S: Final = 0.1
_WHY: Final = "interrupted by the user"

_interrupted = False
_stretches = 0  # of thunks on the main thread, one inside the other
_kernels: Any = None  # the handler in whose place `_on_interrupt` is
_began_with: Any = None  # the handler that was in place when the cell began


class interruptible:  # noqa: N801 - used as a context manager, like those of contextlib
    """While the block runs on the main thread, an interrupt stops it at once.

    A `KeyboardInterrupt` that leaves a child task would end the kernel's loop, so inside a task it becomes the
    cancellation that the kernel meant, and the kernel's handler is told after all: it cancels the cell.

    A class, because a generator assigns to the exception that passes, and some exceptions are frozen dataclasses.
    """

    _inside = False
    _give_back: Callable[[], None] | None = None

    def __enter__(self) -> None:
        """Lets interrupts be raised."""
        global _stretches
        if not _on_the_main_thread():
            return
        self._give_back = _take_over()
        if _kernels is not None:
            self._inside = True
            _stretches += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Lets the kernel's handler have them again."""
        global _stretches
        if not self._inside:
            return
        _stretches -= 1
        kernels = _kernels
        if self._give_back is not None:
            self._give_back()
        if isinstance(error, KeyboardInterrupt) and _in_a_task():
            _tell(kernels, None)
            raise asyncio.CancelledError(_WHY) from None


class held_off:  # noqa: N801 - as above
    """While the block runs on the main thread, no interrupt is heard: it ends a cell, and must not be left half done.

    What it would have stopped, the cell's code, is over.
    """

    _before: Any = None

    def __enter__(self) -> None:
        """Lets nothing be raised."""
        if _on_the_main_thread():
            self._before = signal.getsignal(signal.SIGINT)
        if self._before is not None:
            signal.signal(signal.SIGINT, _not_heard)

    def __exit__(self, *_: object) -> None:
        """Lets interrupts be heard again."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)


def watch_interrupts() -> Callable[[], None]:
    """Begins to watch for a cell that awaits; gives the function that ends it. Does nothing for any other cell.

    For a cell that awaits, the kernel turns SIGINT into the cancellation of the cell's task. A blocking call never
    notices, nor do thousands of tasks before each had its first turn, nor does a loop in which nothing happens before its
    next event, which may be as far as the end of the request that the cell awaits.
    """
    before = signal.getsignal(signal.SIGINT)
    if not _on_the_main_thread() or not _in_a_task() or not callable(before) or _is_of_asyncio(before):
        return lambda: None
    give_back = _take_over()
    if give_back is None:  # Python's own handler raises at once
        return lambda: None
    stop_waking = _wake_regularly(asyncio.get_running_loop())

    def stop() -> None:
        stop_waking()
        if _on_the_main_thread():
            give_back()

    return stop


def stop_if_interrupted() -> None:
    """Cancels a task of an interrupted cell that is about to run on: the kernel's own cancellation waits for the loop.

    Raises:
        CancelledError: The cell was interrupted.
    """
    if _interrupted and _on_the_main_thread() and _in_a_task():
        raise asyncio.CancelledError(_WHY)


def forget_interrupt() -> None:
    """A cell ended, or another begins."""
    global _interrupted
    _interrupted = False


def note_handler(*, begins: bool) -> None:
    """A cell begins, or it ended: a handler that its code sets in between is left alone."""
    global _began_with
    if not _on_the_main_thread():
        return
    before = signal.getsignal(signal.SIGINT) if begins else None
    if before is not _on_interrupt:  # that of a cell around it
        _began_with = before


def _take_over() -> Callable[[], None] | None:
    """Puts `_on_interrupt` in the place of a handler that does not raise; gives what undoes it, None where it did not."""
    global _kernels
    before = signal.getsignal(signal.SIGINT)
    # None: the handler was not set from Python and could not be put back.
    if before is None or before is signal.default_int_handler or before is _on_interrupt:
        return None
    if _began_with is not None and before is not _began_with and not _is_of_asyncio(before):
        return None
    outer, _kernels = _kernels, before
    signal.signal(signal.SIGINT, _on_interrupt)

    def give_back() -> None:
        global _kernels
        if signal.getsignal(signal.SIGINT) is _on_interrupt:  # not one that the user's code set
            signal.signal(signal.SIGINT, before)
        _kernels = outer

    return give_back


def _on_interrupt(_number: int, frame: FrameType | None) -> None:
    # Not in this module's own lines: they would be left half done, and a guard that is not let go stays for ever.
    if _stretches and (frame is None or frame.f_globals is not globals()):
        raise KeyboardInterrupt
    _tell(_kernels, frame)


def _not_heard(_number: int, _frame: FrameType | None) -> None:
    pass


def _tell(kernels: Any, frame: FrameType | None) -> None:
    global _interrupted
    _interrupted = True
    if callable(kernels):
        kernels(signal.SIGINT, frame)


def _is_of_asyncio(handler: Any) -> bool:
    """Whether it is that of `asyncio.run`, which takes it away itself."""
    return isinstance(getattr(getattr(handler, "func", None), "__self__", None), asyncio.Runner)


def _in_a_task() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


def _on_the_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _wake_regularly(loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """Wakes the loop ten times a second, until the function it returns is called."""
    pending: list[asyncio.TimerHandle] = []

    def wake() -> None:
        pending[:] = [loop.call_later(_WAKE_S, wake)]

    def stop() -> None:
        for handle in pending:
            handle.cancel()

    wake()
    return stop
