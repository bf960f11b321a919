"""Single flight within a process (C4)."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from nbstep.cache.flight import Flights, Landing, blocked_threads, wait_awaiting, wait_blocking

NOW = 1_700_000_000.0


def test_who_computes_is_the_thread_where_nothing_else_is_known() -> None:
    flights, claimed, over = Flights(), threading.Event(), threading.Event()

    def compute() -> None:
        flights.claim("cache", "k", None, NOW)
        claimed.set()
        over.wait(10)

    thread = threading.Thread(target=compute, name="the worker")
    thread.start()
    claimed.wait(10)
    flight, mine = flights.claim("cache", "k", None, NOW)
    assert (mine, flight.who()) == (False, "the worker")
    over.set()
    thread.join()
    assert flight.who() == "another thread"


def test_c4_the_first_to_claim_computes_and_the_others_get_its_flight() -> None:
    flights = Flights()
    flight, mine = flights.claim("cache", "k", "me", NOW)
    assert (mine, flight.holder, flight.since) == (True, "me", NOW)
    assert flights.claim("cache", "k", "you", NOW + 1) == (flight, False)


def test_c4_another_key_and_another_cache_are_other_flights() -> None:
    flights = Flights()
    claims = [flights.claim(*of, "me", NOW)[1] for of in (("cache", "k"), ("cache", "l"), ("other", "k"))]
    assert claims == [True, True, True]


@pytest.mark.parametrize("landing", ["kept", "nothing", KeyError("k")])
def test_c4_a_landed_flight_is_over_and_says_how(landing: Landing) -> None:
    flights = Flights()
    flight, _ = flights.claim("cache", "k", "me", NOW)
    flights.land("cache", "k", flight, landing)
    assert wait_blocking(flight, None) is landing
    assert asyncio.run(wait_awaiting(flight, None)) is landing
    assert flights.claim("cache", "k", "you", NOW)[1] is True


def test_c4_a_wait_ends_after_its_time() -> None:
    flight, _ = Flights().claim("cache", "k", "me", NOW)
    assert wait_blocking(flight, 0.0) is None
    assert wait_blocking(flight, 0.01) is None
    assert asyncio.run(wait_awaiting(flight, 0.01)) is None


def test_c4_threads_wait_until_it_lands() -> None:
    flights = Flights()
    flight, _ = flights.claim("cache", "k", "me", NOW)
    with ThreadPoolExecutor(4) as pool:
        waits = [pool.submit(wait_blocking, flight, None) for _ in range(4)]
        assert not any(wait.done() for wait in waits)
        flights.land("cache", "k", flight, "kept")
        assert [wait.result() for wait in waits] == ["kept"] * 4


def test_c4_whoever_waits_while_it_lands_learns_how_it_ended() -> None:
    flights = Flights()
    with ThreadPoolExecutor(4) as pool:
        for n in range(500):
            flight, _ = flights.claim("cache", "k", "me", NOW)
            waits = [pool.submit(wait_blocking, flight, 30) for _ in range(4)]
            while n % 2 and flight.waited is None:
                pass
            flights.land("cache", "k", flight, "kept")
            assert [wait.result() for wait in waits] == ["kept"] * 4


def test_c4_a_flight_that_nobody_waits_for_makes_nothing_to_wait_on() -> None:
    flights = Flights()
    flight, _ = flights.claim("cache", "k", "me", NOW)
    flights.land("cache", "k", flight, "kept")
    assert flight.waited is None
    assert not flight.landing.cancel()
    assert flight.landing is flight.landing
    assert flight.landing.result(0) == "kept"


def test_c4_tasks_wait_without_blocking_their_loop() -> None:
    flights = Flights()

    async def main() -> list[Landing | None]:
        flight, _ = flights.claim("cache", "k", "me", NOW)
        waits = [asyncio.create_task(wait_awaiting(flight, None)) for _ in range(3)]
        await asyncio.sleep(0)
        threading.Thread(target=flights.land, args=("cache", "k", flight, "kept")).start()
        return await asyncio.gather(*waits)

    assert asyncio.run(main()) == ["kept"] * 3


def test_c4_a_cancelled_waiter_leaves_the_flight_alone() -> None:
    flights = Flights()

    async def main() -> Landing | None:
        flight, _ = flights.claim("cache", "k", "me", NOW)
        impatient, patient = (asyncio.create_task(wait_awaiting(flight, None)) for _ in range(2))
        await asyncio.sleep(0)
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        flights.land("cache", "k", flight, "kept")
        return await patient

    assert asyncio.run(main()) == "kept"


def _in_a_thread(ask: Callable[[], bool]) -> bool:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(ask).result()


def test_c4_waiting_for_ones_own_thread_would_never_end() -> None:
    flight, _ = Flights().claim("cache", "k", "me", NOW)
    assert flight.would_block_itself()
    assert not _in_a_thread(flight.would_block_itself)


def test_c4_nor_would_waiting_for_a_thread_that_waits_for_us() -> None:
    flight, _ = Flights().claim("cache", "k", "me", NOW)

    def ask() -> bool:
        blocked_threads.set(frozenset({flight.thread}))
        return flight.would_block_itself()

    assert _in_a_thread(ask)


def test_c4_a_thread_that_waits_holds_up_the_flights_that_began_on_it() -> None:
    flights = Flights()
    flight, _ = flights.claim("cache", "k", "me", NOW)
    other, _ = flights.claim("cache", "other", "me", NOW)
    assert flights.held_up(flight)
    flights.land("cache", "other", other, "kept")
    assert not flights.held_up(flight)
    assert flights.held_up(other)
    assert not _in_a_thread(lambda: flights.held_up(other))

    def ask() -> bool:
        blocked_threads.set(frozenset({flight.thread}))
        return flights.held_up(other)

    assert _in_a_thread(ask)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_c4_a_forked_child_waits_for_nobody() -> None:
    from nbstep.cache.flight import FLIGHTS

    flight, _ = FLIGHTS.claim("cache", "forked", "parent", NOW)
    child = os.fork()
    if child == 0:
        os._exit(0 if FLIGHTS.claim("cache", "forked", "child", NOW)[1] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert FLIGHTS.claim("cache", "forked", "parent", NOW) == (flight, False)
    FLIGHTS.land("cache", "forked", flight, "nothing")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_c4_a_child_forked_while_another_claims_claims_as_well() -> None:
    from nbstep.cache.flight import FLIGHTS

    with FLIGHTS._lock:
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            os._exit(0 if FLIGHTS.claim("cache", "claimed meanwhile", "child", NOW)[1] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
