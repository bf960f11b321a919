"""How long one call to a Redis server may take (Done 3: no call hangs over its time-out)."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from nbstep.stores.redis.deadline import Deadline, limited
from nbstep.testing import SettableClock


class Connection:
    """As one of redis-py: its class makes the socket, and asks itself how long that may wait."""

    def __init__(self, made: Any) -> None:
        self.socket_timeout = self.socket_connect_timeout = 99.0
        self._made = made

    def _connect(self) -> Any:
        return self._made


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock(1000.0)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(99.0)
        yield ours, theirs


def test_a_short_answer_has_the_time_out_a_long_one_a_second_more_for_256_kb_and_ten_at_most(
    clock: SettableClock,
) -> None:
    deadline = Deadline(1.0, clock)
    clock.advance(0.25)
    assert (deadline.limit_s, deadline.left_s) == (1.0, 0.75)
    deadline.moved(4096)
    assert deadline.limit_s < 1.02
    deadline.moved((1 << 20) - 4096)
    assert (deadline.limit_s, deadline.left_s) == (5.0, 4.75)
    deadline.moved(1 << 30)
    assert deadline.limit_s == 11.0
    deadline.begin()
    assert (deadline.limit_s, deadline.left_s) == (1.0, 1.0)


def test_each_thread_has_a_call_of_its_own(clock: SettableClock) -> None:
    deadline, lefts = Deadline(1.0, clock), []
    clock.advance(0.5)
    deadline.moved(1 << 18)
    thread = threading.Thread(target=lambda: lefts.append(deadline.left_s))
    thread.start()
    thread.join()
    assert (lefts, deadline.left_s) == ([1.0], 1.5)


def test_each_wait_has_what_is_left_of_the_call(
    clock: SettableClock, pair: tuple[socket.socket, socket.socket]
) -> None:
    deadline, (ours, theirs) = Deadline(1.0, clock), pair
    connection = limited(Connection, deadline)(ours)
    clock.advance(0.25)
    assert (connection.socket_timeout, connection.socket_connect_timeout) == (0.75, 0.75), (
        "each address that is tried too"
    )
    link = connection._connect()
    theirs.sendall(b"abcdef")
    assert (link.recv(2), ours.gettimeout()) == (b"ab", pytest.approx(0.75, abs=0.001))
    clock.advance(0.5)
    into = bytearray(2)
    assert (link.recv_into(into), bytes(into), ours.gettimeout()) == (2, b"cd", pytest.approx(0.25, abs=0.001))
    link.sendall(memoryview(b"xy"))
    assert theirs.recv(9) == b"xy"
    clock.advance(0.26)
    for wait in (lambda: link.recv(2), lambda: link.recv_into(into), lambda: link.sendall(b"z")):
        with pytest.raises(TimeoutError):
            wait()
    assert connection.socket_timeout > 0, "0 would be no wait at all"
    link.settimeout(0)
    assert link.recv(9) == b"ef", "what only asks whether something is there does not wait anyway"
    with pytest.raises(BlockingIOError):
        link.recv(9)
    assert link.fileno() == ours.fileno()


def test_a_large_command_is_sent_whole(clock: SettableClock, pair: tuple[socket.socket, socket.socket]) -> None:
    deadline, (ours, theirs) = Deadline(1.0, clock), pair
    link, content = limited(Connection, deadline)(ours)._connect(), bytes(range(256)) * 4096 + b"end"
    got = bytearray()

    def read() -> None:
        while len(got) < len(content):
            got.extend(theirs.recv(1 << 16))

    reading = threading.Thread(target=read)
    reading.start()
    link.sendall(content)
    reading.join(30)
    assert (bytes(got) == content, deadline.limit_s) == (True, 1.0 + len(content) / (1 << 18))


def test_what_is_no_socket_and_what_makes_none_stay_as_they_are() -> None:
    made, deadline = object(), Deadline(1.0)
    assert limited(Connection, deadline)(made)._connect() is made
    assert limited(object, deadline) is object
