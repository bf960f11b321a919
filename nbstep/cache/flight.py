"""Single flight within this process: one computation per key at a time, across tasks and threads (C4)."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitTimeout
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from nbstep.cache.waitgraph import WaitsFor, waits_for

# How a flight ended: the entry is kept and can be read; an error that is not kept; nothing that others could use.
Landing: TypeAlias = Literal["kept", "nothing"] | BaseException

# A wait is cut into slices so that an interrupt of a plain waiting step is seen, and the end of another's event loop.
_SLICE_S: Final = 0.2

# Threads that stand still until the caller is done, as the one that called `step.map` does for its workers.
blocked_threads: ContextVar[frozenset[int]] = ContextVar("nbstep_blocked_threads", default=frozenset())


@dataclass(eq=False, slots=True)
class Flight:
    """One computation under way.

    Attributes:
        flights: Those that it is one of.
        holder: Who computes; None is the thread, by its name.
        thread: On which thread.
        since: Since when, in seconds since the epoch.
        loop: The event loop that it awaits in; None where it blocks its thread.
        let_go: Gives back what it holds, should it be left as it is for ever.
        landed: How it ended; None while it is under way.
        waited: What is waited on; None while nobody does.
    """

    flights: Flights
    holder: str | None
    thread: int
    since: float
    loop: asyncio.AbstractEventLoop | None = None
    let_go: Callable[[], None] | None = None
    landed: Landing | None = None
    waited: Future[Landing] | None = None

    def who(self) -> str:
        """Who computes, for who waits; looked for then only, as mostly nobody does."""
        if self.holder is not None:
            return self.holder
        names = (thread.name for thread in threading.enumerate() if thread.ident == self.thread)
        return next(names, "another thread")  # one that Python did not begin, or that is gone

    @property
    def landing(self) -> Future[Landing]:
        """How it ends, for who waits."""
        return self.flights.landing_of(self)

    def is_dead(self) -> bool:
        """Whether nobody will ever land it: its event loop was closed while it awaited."""
        return self.loop is not None and self.loop.is_closed() and self.landed is None

    def awaits(self) -> bool:
        """Whether it awaits in an event loop, so that nothing tells what it waits for."""
        return self.loop is not None and not self.is_dead()

    def would_block_itself(self, loop: asyncio.AbstractEventLoop | None = None) -> bool:
        """Whether waiting for it on this thread, awaiting in `loop` or without one, would wait for ever."""
        if loop is not None and loop is self.loop:
            return False
        return self.thread == threading.get_ident() or self.thread in blocked_threads.get()


class Flights:
    """Who computes what now. One object serves the whole process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[tuple[Hashable, str], Flight] = {}

    def claim(
        self, scope: Hashable, key: str, holder: str | None, now: float, loop: asyncio.AbstractEventLoop | None = None
    ) -> tuple[Flight, bool]:
        """The flight for a key, and whether the caller is the one who computes, awaiting in `loop`, and must `land` it."""
        with self._lock:
            found = self._flights.get((scope, key))
            if found is not None and not found.is_dead():
                return found, False
            flight = self._flights[scope, key] = Flight(self, holder, threading.get_ident(), now, loop)
        if found is not None and found.let_go is not None:
            found.let_go()
        return flight, True

    def land(self, scope: Hashable, key: str, flight: Flight, landing: Landing) -> None:
        """Ends a flight and lets its waiters go on."""
        with self._lock:
            if self._flights.get((scope, key)) is flight:
                del self._flights[scope, key]
            flight.landed = landing
            waited = flight.waited
        if waited is not None:
            waited.set_result(landing)

    def landing_of(self, flight: Flight) -> Future[Landing]:
        """What is waited on, made for the first who waits, as mostly nobody does."""
        with self._lock:
            if flight.waited is None:
                waited = flight.waited = Future[Landing]()
                # A running future cannot be cancelled: a waiter that is cancelled must not take the flight with it.
                waited.set_running_or_notify_cancel()
                if flight.landed is not None:
                    waited.set_result(flight.landed)
            return flight.waited

    def held_up(self, but: Flight) -> bool:
        """Whether a flight other than `but` stands still while this thread, without its event loop, waits."""
        threads = {threading.get_ident(), *blocked_threads.get()}
        with self._lock:
            return any(
                flight is not but and flight.thread in threads and not flight.is_dead()
                for flight in self._flights.values()
            )

    def waits_for(self, flight: Flight, *, closely: bool = False) -> WaitsFor:
        """For whom a flight waits, as far as can be told."""
        found = "unknown" if flight.awaits() else waits_for(flight.thread, self._computing(), closely=closely)
        return found if flight.landed is None else "nobody"  # it landed meanwhile, and its thread may be gone

    def any_may_wait(self) -> bool:
        """Whether any flight may be waiting for another thread, which may be the one that asks."""
        computing = self._computing()
        return any(
            thread is None or waits_for(thread, computing, closely=True) != "nobody" for thread in computing.values()
        )

    def _computing(self) -> dict[Future[Landing], int | None]:
        me = threading.get_ident()
        with self._lock:
            flights = list(self._flights.values())
        return {
            flight.landing: None if flight.awaits() else flight.thread
            for flight in flights
            if flight.awaits() or flight.thread != me
        }

    def forget(self) -> None:
        """Forgets all flights: in a forked child nobody is left to land them."""
        self._lock = threading.Lock()
        self._flights.clear()


FLIGHTS: Final = Flights()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=FLIGHTS.forget)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs in this thread; None where what awaits is driven by hand."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def wait_blocking(flight: Flight, timeout_s: float | None, check: Callable[[], None] = lambda: None) -> Landing | None:
    """Waits in this thread until the flight lands, or is dead; None after `timeout_s`. What `check` raises ends the wait."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        left = _SLICE_S if deadline is None else min(_SLICE_S, deadline - time.monotonic())
        try:
            return flight.landing.result(timeout=max(left, 0.0))
        except WaitTimeout:
            check()
            if flight.is_dead():
                return "nothing"
            if deadline is not None and time.monotonic() >= deadline:
                return None


async def wait_awaiting(flight: Flight, timeout_s: float | None) -> Landing | None:
    """Waits without blocking the running loop until the flight lands, or is dead; None after `timeout_s`."""
    landed = asyncio.wrap_future(flight.landing)
    try:
        async with asyncio.timeout(timeout_s):
            if flight.loop not in {None, asyncio.get_running_loop()}:
                while not landed.done():
                    await asyncio.wait([landed], timeout=_SLICE_S)
                    if flight.is_dead():
                        return "nothing"
            return await landed
    except TimeoutError:
        return None
    finally:
        landed.cancel()
