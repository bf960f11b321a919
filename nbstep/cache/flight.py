"""Single flight within this process: one computation per key at a time, across tasks and threads (C4)."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Hashable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitTimeout
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

# How a flight ended: the entry is kept and can be read; an error that is not kept; nothing that others could use.
Landing: TypeAlias = Literal["kept", "nothing"] | BaseException

# A wait is cut into slices so that an interrupt of a plain waiting step is seen.
_SLICE_S: Final = 0.2

# Threads that stand still until the caller is done, as the one that called `step.map` does for its workers.
blocked_threads: ContextVar[frozenset[int]] = ContextVar("nbstep_blocked_threads", default=frozenset())


@dataclass(eq=False, slots=True)
class Flight:
    """One computation under way: who computes, on which thread, `since` when (seconds since the epoch)."""

    holder: str
    thread: int
    since: float
    landing: Future[Landing] = field(default_factory=Future[Landing])

    def would_block_itself(self) -> bool:
        """Whether waiting for it on this thread, without an event loop, would wait for ever."""
        return self.thread == threading.get_ident() or self.thread in blocked_threads.get()


class Flights:
    """Who computes what now. One object serves the whole process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[tuple[Hashable, str], Flight] = {}

    def claim(self, scope: Hashable, key: str, holder: str, now: float) -> tuple[Flight, bool]:
        """The flight for a key, and whether the caller is the one who computes and must `land` it."""
        with self._lock:
            flight = self._flights.get((scope, key))
            if flight is not None:
                return flight, False
            flight = Flight(holder, threading.get_ident(), now)
            # A running future cannot be cancelled: a waiter that is cancelled must not take the flight with it.
            flight.landing.set_running_or_notify_cancel()
            self._flights[scope, key] = flight
            return flight, True

    def land(self, scope: Hashable, key: str, flight: Flight, landing: Landing) -> None:
        """Ends a flight and lets its waiters go on."""
        with self._lock:
            if self._flights.get((scope, key)) is flight:
                del self._flights[scope, key]
        flight.landing.set_result(landing)

    def held_up(self, but: Flight) -> bool:
        """Whether a flight other than `but` stands still while this thread, without its event loop, waits."""
        threads = {threading.get_ident(), *blocked_threads.get()}
        with self._lock:
            return any(flight is not but and flight.thread in threads for flight in self._flights.values())

    def forget(self) -> None:
        """Forgets all flights: in a forked child nobody is left to land them."""
        self._lock = threading.Lock()
        self._flights.clear()


FLIGHTS: Final = Flights()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=FLIGHTS.forget)


def wait_blocking(flight: Flight, timeout_s: float | None) -> Landing | None:
    """Waits in this thread until the flight lands; None after `timeout_s`."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        left = _SLICE_S if deadline is None else min(_SLICE_S, deadline - time.monotonic())
        try:
            return flight.landing.result(timeout=max(left, 0.0))
        except WaitTimeout:
            if deadline is not None and time.monotonic() >= deadline:
                return None


async def wait_awaiting(flight: Flight, timeout_s: float | None) -> Landing | None:
    """Waits without blocking the running loop until the flight lands; None after `timeout_s`."""
    try:
        async with asyncio.timeout(timeout_s):
            return await asyncio.wrap_future(flight.landing)
    except TimeoutError:
        return None
