"""A port for a server that a test starts in a process of its own."""

from __future__ import annotations

import random
import socket
from typing import Final

# Below those that systems hand out: else the port may be some connection's by the time that the server begins.
_PORTS: Final = range(12_000, 30_000)


def free_port() -> int:
    """A port of the loopback that nobody listens on, and that no connection is given by chance."""
    for port in random.sample(_PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("100 ports were taken")
