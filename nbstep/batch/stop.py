"""Whether a `step.map` was stopped: who waits on one of its threads is not to begin any more."""

from __future__ import annotations

import threading


class Stop:
    """Of one map. Its threads go on after an interrupt, which comes to another one.

    >>> stop = Stop()
    >>> stop.sleep(0.001)
    >>> stop.set()
    >>> stop.sleep(60)
    Traceback (most recent call last):
    KeyboardInterrupt
    """

    def __init__(self) -> None:
        self._is_set = threading.Event()

    def set(self) -> None:
        """Ends what waits, now and from now on."""
        self._is_set.set()

    def check(self) -> None:
        """Raises `KeyboardInterrupt` where the map was stopped: its keys are to be free for who asks next."""
        self.sleep(0.0)

    def sleep(self, seconds: float) -> None:
        """Waits so long.

        Raises:
            KeyboardInterrupt: The map was stopped.
        """
        if self._is_set.wait(seconds):
            raise KeyboardInterrupt
