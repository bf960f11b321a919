"""How often something may begin: `rate="10/s"`."""

from __future__ import annotations

import math
import re
import threading
import time
from typing import Final

_RATE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*/\s*(s|sec|second|min|minute|m|h|hour)\s*")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}


class Pace:
    """Gives turns no faster than a rate, to any number of threads and tasks.

    Attributes:
        apart_s: From one turn to the next, in seconds.

    >>> pace = Pace("2/s")
    >>> [round(pace.wait_s(now=0.0), 1) for _ in range(3)]
    [0.0, 0.5, 1.0]
    >>> pace.wait_s(now=60.0)
    0.0
    """

    def __init__(self, rate: str) -> None:
        """Of a text such as "10/s", "600/min" or "1000/h".

        Raises:
            ValueError: It is no such text, or nothing would ever begin.
        """
        match = _RATE.fullmatch(rate) if isinstance(rate, str) else None
        if match is None or float(match[1]) <= 0:
            raise ValueError(f'rate={rate!r}: write how many may begin in what time: "10/s", "600/min", "1000/h"')
        self.apart_s = _SECONDS[match[2][0]] / float(match[1])
        self._next = -math.inf
        self._lock = threading.Lock()

    def wait_s(self, now: float | None = None) -> float:
        """Takes the next turn; gives the seconds until then. `now` is of the monotonic clock."""
        now = time.monotonic() if now is None else now
        with self._lock:
            turn = max(now, self._next)
            self._next = turn + self.apart_s
        return turn - now
