"""Who waits for whom among the threads of this process, as far as their frames tell.

A pool's threads do not know who gave them their work: context variables stay behind. But who waits for that work stands in a
frame of `Future.result` or `Thread.join`, with the very object in it, and who does the work in one of the pool's. Only frames
of the standard library are looked into, none of the user's.
"""

from __future__ import annotations

import concurrent.futures.thread
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from types import FrameType
from typing import Any, Final, Literal, TypeAlias

# For whom a thread waits in the end: this thread's own work; this thread, by way of another computation; nobody, it works; or
# for something of which no frame tells who does it.
WaitsFor: TypeAlias = Literal["this work", "this thread", "nobody", "unknown"]

_RESULT: Final = {Future.result.__code__, Future.exception.__code__}
_JOIN: Final = threading.Thread.join.__code__
# Where a thread stands that waits for another: every event, queue, pool and future waits in `Condition.wait`.
_WAITS: Final = {threading.Condition.wait.__code__, _JOIN} | {
    wait.__code__
    for wait in [getattr(threading.Thread, "_wait_for_tstate_lock", None)]
    if wait is not None  # before 3.13
}
_POOL: Final = concurrent.futures.thread.__file__
_DEPTH: Final = 4  # between a call of `result` or `join` and the lock it waits on


def waits_for(thread: int, computing: Mapping[Future[Any], int | None]) -> WaitsFor:
    """For whom `thread` waits, and whom that one waits for, to the end.

    Args:
        thread: Its ident.
        computing: The thread that computes what each of these futures stands for; None where it awaits, so that no frame tells.
    """
    frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]
    seen: set[int] = set()
    found: WaitsFor = "this work"
    at: int | None = thread
    while at != threading.get_ident():
        if at is None or at in seen or at not in frames:
            return "unknown"
        seen.add(at)
        if frames[at].f_code not in _WAITS:
            return "nobody"
        awaited = _awaited(frames[at])
        if isinstance(awaited, Future) and awaited in computing:
            at, found = computing[awaited], "this thread"
        else:
            at = awaited.ident if isinstance(awaited, threading.Thread) else _worker(frames, awaited)
    return found


def _awaited(frame: FrameType) -> Any:
    """The future or the thread whose end a thread waits for; None where it waits for something else."""
    at: FrameType | None = frame
    for _ in range(_DEPTH):
        if at is None:
            return None
        if at.f_code in _RESULT or at.f_code is _JOIN:
            return at.f_locals.get("self")
        at = at.f_back
    return None


def _worker(frames: Mapping[int, FrameType], future: Any) -> int | None:
    """The pool's thread that does the work of a future; None where none does yet, or any more."""
    if not isinstance(future, Future):
        return None
    for thread, frame in frames.items():
        at: FrameType | None = frame
        while at is not None:
            if at.f_code.co_filename == _POOL and _holds(at, future):
                return thread
            at = at.f_back
    return None


def _holds(frame: FrameType, future: Future[Any]) -> bool:
    return any(getattr(value, "future", None) is future for value in frame.f_locals.values())
