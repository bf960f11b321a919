"""Who waits for whom among the threads of this process, as far as their frames tell.

A pool's threads do not know who gave them their work: context variables stay behind. But who waits for that work stands in a
frame of `Future.result` or `Thread.join`, with the very object in it, and who does the work in one of the pool's. Frames of the
user's are looked into for one thing only, and seldom: whether they hold that very object, as who asks it again and again does.
"""

from __future__ import annotations

import concurrent.futures.thread
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from types import FrameType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from nbstep.tracebacks import OWN_FOLDER

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
_ITEMS_AT_MOST: Final = 10_000
_DEPTH: Final = 4  # between a call of `result` or `join` and the lock it waits on


class _Chain(NamedTuple):
    """For whom a thread waits in the end, which thread that is, and whether one on the way waits for a limited time only."""

    found: WaitsFor
    end: int | None
    limited: bool


def waits_for(thread: int, computing: Mapping[Future[Any], int | None], *, closely: bool = False) -> WaitsFor:
    """For whom `thread` waits, and whom that one waits for, to the end.

    Args:
        thread: Its ident.
        computing: The thread that computes what each of these futures stands for; None where it awaits, so that no frame tells.
        closely: Also looks whether one that works may be asking again and again whether this thread's work is done.
    """
    frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]
    chain = _follow(frames, thread, computing)
    if chain.found == "this work" and chain.limited:
        return "unknown"  # it may go on without
    if closely and chain.found == "nobody" and chain.end is not None and _holds_this_work(frames, chain.end):
        return "unknown"
    return chain.found


def _follow(frames: Mapping[int, FrameType], thread: int, computing: Mapping[Future[Any], int | None]) -> _Chain:
    seen: set[int] = set()
    found: WaitsFor = "this work"
    limited = False
    at: int | None = thread
    while at != threading.get_ident():
        if at is None or at in seen or at not in frames:
            return _Chain("unknown", at, limited)
        seen.add(at)
        if frames[at].f_code not in _WAITS:
            return _Chain("nobody", at, limited)
        names = _waiting(frames[at])
        awaited = names.get("self")
        limited = limited or names.get("timeout") is not None
        if isinstance(awaited, Future) and awaited in computing:
            at, found = computing[awaited], "this thread"
        else:
            at = awaited.ident if isinstance(awaited, threading.Thread) else _worker(frames, awaited)
    return _Chain(found, at, limited)


def _waiting(frame: FrameType) -> Mapping[str, Any]:
    """The variables of the call that waits for a future or a thread: which one, and how long; none where it is another call."""
    at: FrameType | None = frame
    for _ in range(_DEPTH):
        if at is None:
            break
        if at.f_code in _RESULT or at.f_code is _JOIN:
            return at.f_locals
        at = at.f_back
    return {}


def _holds_this_work(frames: Mapping[int, FrameType], thread: int) -> bool:
    """Whether a thread has in its hands what stands for this thread's work, or for work that waits for it."""
    threads = {one.ident: one for one in threading.enumerate()}
    mine: set[int] = set()
    for one, frame in frames.items():
        if one != thread and _follow(frames, one, {}).found == "this work":
            mine |= {id(work) for work in (threads.get(one), *_futures(frame)) if work is not None}
    at: FrameType | None = frames[thread]
    while at is not None and not at.f_code.co_filename.startswith(OWN_FOLDER):
        if any(id(value) in mine for held in at.f_locals.values() for value in (held, *_items(held))):
            return True
        at = at.f_back
    return False


def _items(value: Any) -> list[Any]:
    if type(value) is dict:
        return [*value, *value.values()]
    return list(value) if type(value) in (list, tuple, set) and len(value) <= _ITEMS_AT_MOST else []


def _worker(frames: Mapping[int, FrameType], future: Any) -> int | None:
    """The pool's thread that does the work of a future; None where none does yet, or any more."""
    if not isinstance(future, Future):
        return None
    return next((thread for thread, frame in frames.items() if any(one is future for one in _futures(frame))), None)


def _futures(frame: FrameType) -> Iterator[Future[Any]]:
    """The futures that a pool's thread works for."""
    at: FrameType | None = frame
    while at is not None:
        if at.f_code.co_filename == _POOL:
            found = (getattr(value, "future", None) for value in at.f_locals.values())
            yield from (future for future in found if isinstance(future, Future))
        at = at.f_back
