"""Waits for whoever computes the same key: a task or thread of this kernel, or another kernel (C4)."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import Final, Literal

from nbstep.cache.cache import Cache
from nbstep.cache.flight import FLIGHTS, Flight, Landing, wait_awaiting, wait_blocking
from nbstep.durations import duration_text
from nbstep.events import Place, StepWaiting
from nbstep.freezing import freeze
from nbstep.notes import one_line
from nbstep.runs.hooks import stop_if_interrupted, thunk_guard
from nbstep.runs.state import Run
from nbstep.steps.calls import Call
from nbstep.steps.inline import wait
from nbstep.stores.locks import Holder, KeyLock

# A step inside a step waits this long for another computation, then computes itself: two kernels may wait for each other.
nested_wait_s: ContextVar[float] = ContextVar("nbstep_nested_wait_s", default=30.0)

_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 0.25
_ANCESTORS_AT_MOST: Final = 32
_SILENT_S: Final = 2.0
_LOOK_AGAIN_S: Final = 0.25
_LOOK_AT_MOST_S: Final = 4.0


def name_elsewhere(run: Run, place: Place) -> str | None:
    """Who computes a step at a place, for other kernels: the notebook or script."""
    return run.place.notebook or place.notebook or run.name


async def wait_for_flight(call: Call, flight: Flight, awaiting: bool) -> Landing | Literal["itself"] | None:
    """Waits until a flight of this kernel lands; None where the step is to compute as well.

    "itself" says that the flight waits for the very work that this step is a part of.
    """
    __tracebackhide__ = True
    _tell(call, flight.who(), flight.since)
    until = _until(call, flight, awaiting)
    look_s = _LOOK_AGAIN_S
    blocks = not awaiting and not call.options.elsewhere
    with _telling_a_stop(call), thunk_guard() if blocks else nullcontext():  # an interrupt ends the wait too
        stop_if_interrupted()
        while True:
            left_s = _left_s(call, until)
            if (
                until is None and left_s is not None
            ):  # of unknown origin: whoever gave it its work may come to wait for it
                left_s, look_s = min(left_s, look_s), min(2 * look_s, _LOOK_AT_MOST_S)
            if call.options.elsewhere:
                landing = await _landed_meanwhile(flight, left_s)
            else:
                landing = await wait_awaiting(flight, left_s) if awaiting else _landed(call, flight, left_s)
            if landing is not None:
                return landing
            if until is None and _of_unknown_origin(call) and FLIGHTS.waits_for(flight) == "this work":
                return "itself"
            if _left_s(call, until) == 0 and _is_over(call, until, flight):
                return None


def _landed(call: Call, flight: Flight, left_s: float | None) -> Landing | None:
    """Waits in this thread. What lands as the map is stopped is computed by nobody, if it is to be."""
    stop = call.options.stop
    if stop is None:
        return wait_blocking(flight, left_s)
    landing = wait_blocking(flight, left_s, stop.check)
    if landing == "nothing":
        stop.check()
    return landing


async def _landed_meanwhile(flight: Flight, left_s: float | None) -> Landing | None:
    """Looks at a flight, and once more after a while in which others go on."""
    landing = wait_blocking(flight, 0.0)
    if landing is None:
        await wait(_LONGEST_PAUSE_S if left_s is None else min(left_s, _LONGEST_PAUSE_S))
        landing = wait_blocking(flight, 0.0)
    return landing


async def wait_for_lock(call: Call, cache: Cache, key: str, flight: Flight, awaiting: bool) -> KeyLock:
    """Waits while another kernel computes the key; gives the lock, or one that locks nothing where the step goes on without.

    Args:
        call: The step.
        cache: Where it is kept.
        key: Its key.
        flight: The step's own: those of this kernel who wait for it are shown who is waited for.
        awaiting: The caller awaits; else nothing here suspends, but a step whose work is done elsewhere.
    """
    __tracebackhide__ = True
    now = call.run.clock
    if cache.locks is None:
        return KeyLock()
    lock = cache.locks.take(key)
    if lock is not None:
        return lock
    own = flight.holder
    until = _until(call, flight, awaiting)
    told: Holder | None = None
    silent_until: float | None = time.monotonic() + _SILENT_S
    try:
        blocks = not awaiting and not call.options.elsewhere
        with _telling_a_stop(call), thunk_guard() if blocks else nullcontext():
            stop_if_interrupted()
            for pause_s in _pauses():
                holder = cache.locks.holder(key)
                if told is None or holder not in (told, Holder()):
                    told = holder
                    flight.holder, flight.since = _named(holder), min(holder.since or now(), now())
                    _tell(call, flight.who(), flight.since)
                    if until is None and holder.pid in _ancestors():
                        until = _nested_until(call)
                if silent_until is not None and time.monotonic() >= silent_until:
                    silent_until = None
                    _say(call, flight)
                left_s = _left_s(call, until)
                if left_s is not None and left_s <= 0 and _is_over(call, until, flight, elsewhere=True):
                    break
                left_s = pause_s if left_s is None else min(pause_s, left_s)
                if call.options.elsewhere:
                    await wait(left_s)
                elif awaiting:
                    await asyncio.sleep(left_s)
                elif call.options.stop is not None:
                    call.options.stop.sleep(left_s)
                else:
                    time.sleep(left_s)
                lock = cache.locks.take(key)
                if lock is not None:
                    return lock
        return KeyLock()
    finally:
        flight.holder, flight.since = own, now()


@contextmanager
def _telling_a_stop(call: Call) -> Generator[None]:
    """Tells of an interrupt, or of a cancelled task, that it ended the wait."""
    __tracebackhide__ = True
    try:
        yield
    except (KeyboardInterrupt, asyncio.CancelledError) as error:
        call.tell_stop(error)
        raise


def _say(call: Call, flight: Flight) -> None:
    """Outside notebooks, where no list shows it, one line says what a step waits for."""
    if not call.run.is_shown():
        waited = duration_text(max(0.0, call.run.clock() - flight.since))
        call.run.find(
            "waiting", call.key, f"{call.key}: {flight.who()} has been computing it for {waited}; Ctrl-C ends the wait"
        )


def _until(call: Call, flight: Flight, awaiting: bool) -> float | None:
    """When the wait ends; None where it lasts as long as the holder lives.

    It is limited for a step inside a step, and for a plain one that keeps other flights of its thread from going on:
    whoever is waited for may be waiting for them.
    """
    if call.outer is None and (awaiting or call.options.elsewhere or not FLIGHTS.held_up(flight)):
        return None
    return _nested_until(call)


def _left_s(call: Call, until: float | None) -> float | None:
    """How long to wait before the next look whether the wait is over; None where it has no end."""
    if until is None and _of_unknown_origin(call):
        until = _nested_until(call)
    return None if until is None else max(0.0, until - time.monotonic())


def _is_over(call: Call, until: float | None, flight: Flight, *, elsewhere: bool = False) -> bool:
    """Whether a wait whose time is up ends. In a thread of unknown origin, only where somebody may be waiting for that thread.

    Another kernel may wait for any of this kernel's computations; one of this kernel only for what its frames tell.
    """
    if until is not None:
        return True
    if FLIGHTS.any_may_wait() if elsewhere else FLIGHTS.waits_for(flight, closely=True) != "nobody":
        call.run.find(
            "computed-twice",
            call.key,
            f"{call.key}: computed here too, as {flight.who()} did not finish it in {duration_text(nested_wait_s.get())} "
            f"and may be waiting for this thread. If this step runs inside the step {call.key!r}, give it another key",
        )
        return True
    call.waits_until = None  # another such time
    return False


def _of_unknown_origin(call: Call) -> bool:
    """Whether nothing tells inside which step it is: a pool's threads do not know who gave them their work."""
    if call.outer is not None or call.options.elsewhere:
        return False
    return threading.current_thread() is not threading.main_thread()


def _nested_until(call: Call) -> float:
    if call.waits_until is None:
        call.waits_until = time.monotonic() + nested_wait_s.get()
    return call.waits_until


def _tell(call: Call, holder: str, since: float) -> None:
    call.thunk = freeze(call.thunk)  # it may be called much later
    call.run.tell(StepWaiting(call.run.id, call.step, call.key or "", holder, since))


def _named(holder: Holder) -> str:
    name = one_line(holder.name or "", 80) or "another kernel"
    return name if holder.pid is None else f"{name} (pid {holder.pid})"


def _pauses() -> Iterator[float]:
    """From 20 ms to a quarter of a second, each a bit off, so that many who wait do not ask in step."""
    pause_s = _FIRST_PAUSE_S
    while True:
        yield pause_s * random.uniform(0.75, 1.0)
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)


def _ancestors() -> set[int]:
    """The processes that started this one, as far as the system tells: one of them may be waiting for it inside its step."""
    found: set[int] = set()
    pid = os.getppid()
    while pid > 1 and len(found) < _ANCESTORS_AT_MOST:
        found.add(pid)
        try:
            status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
            pid = int(status.rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
    return found
