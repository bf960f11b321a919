"""How long one call to a server may take as a whole: redis-py by itself limits only each wait for the next bytes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final

_LEAST_SPEED: Final = 1 << 18  # bytes a second; a piece of an entry has 4 s more over a slow line
_MORE_AT_MOST_S: Final = 10.0  # what moves in one call is 2 MB or less
_SENT_AT_ONCE: Final = 1 << 18
_SHORTEST_S: Final = 0.001  # 0 would not wait at all, and look as if nobody were there


class Deadline(threading.local):
    """When the call ends that a thread makes now: after the time-out, and a second later for each 256 KB that moved.

    So a short answer is whole within the time-out, or never, and bytes that trickle win nothing; a large one may take as
    long as a slow line needs, at most 10 s more. Connecting and the login count too, all but the look-up of a host's name,
    which the system limits.

    Args:
        timeout_s: The time-out.
        clock: Gives seconds.
    """

    def __init__(self, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout_s = timeout_s
        self._clock = clock
        self.begin()

    def begin(self) -> None:
        """A call begins."""
        self._began, self._moved = self._clock(), 0

    def moved(self, count: int) -> None:
        """So many bytes were sent or received."""
        self._moved += count

    @property
    def limit_s(self) -> float:
        """How long the call may take by now."""
        return self._timeout_s + min(self._moved / _LEAST_SPEED, _MORE_AT_MOST_S)

    @property
    def left_s(self) -> float:
        """How much of that is left; less than nothing once it is over."""
        return self._began + self.limit_s - self._clock()


def limited(connection_class: Any, deadline: Deadline) -> Any:
    """A class of connections of redis-py, whose every wait ends with the call that waits."""
    connect = getattr(connection_class, "_connect", None)
    if connect is None:
        return connection_class

    def left_s(_: Any) -> float:  # asked before each address is tried, and for TLS
        return max(deadline.left_s, _SHORTEST_S)

    def _connect(self: Any) -> Any:
        found = connect(self)
        return _Socket(found, deadline) if isinstance(found, socket.socket) else found

    def as_before(_: Any, timeout_s: Any) -> None:
        """What redis-py sets is the time-out that the deadline knows."""

    left = property(left_s, as_before)
    members = {"_connect": _connect, "socket_timeout": left, "socket_connect_timeout": left}
    return type(connection_class.__name__, (connection_class,), members)


class _Socket:
    """A connected socket, as redis-py uses it; what is left of the call is set anew before each wait."""

    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        self._socket = connected
        self._deadline = deadline

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def recv(self, *arguments: Any) -> bytes:
        """As a socket's."""
        self._set_timeout()
        received = self._socket.recv(*arguments)
        self._deadline.moved(len(received))
        return received

    def recv_into(self, *arguments: Any) -> int:
        """As a socket's."""
        self._set_timeout()
        count = self._socket.recv_into(*arguments)
        self._deadline.moved(count)
        return count

    def sendall(self, content: bytes | bytearray | memoryview) -> None:
        """As a socket's; piece by piece, so that each gives the next one its time."""
        view = memoryview(content).cast("B")
        for at in range(0, len(view), _SENT_AT_ONCE):
            self._set_timeout()
            self._socket.sendall(view[at : at + _SENT_AT_ONCE])
            self._deadline.moved(min(_SENT_AT_ONCE, len(view) - at))

    def _set_timeout(self) -> None:
        if self._socket.gettimeout() == 0:  # whether something is there, not to wait for it
            return
        left_s = self._deadline.left_s
        if left_s <= 0:
            raise TimeoutError
        self._socket.settimeout(left_s)
