"""Whether a `step.map` has ended early: who waits on one of its threads is not to begin any more."""

from __future__ import annotations

import threading


class Stop:
    """Of one map. Its threads go on when it has ended, as an interrupt, or an error of its items, comes to another one.

    What was begun goes on, too, but for what the user interrupted: that makes no further attempt.

    >>> stop = Stop()
    >>> stop.sleep(0.001)
    >>> stop.set(interrupted=False)
    >>> stop.sleep(0.001, begun=True)
    >>> try:
    ...     stop.sleep(60)
    ... except KeyboardInterrupt:
    ...     print("not begun")
    not begun
    """

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._interrupted = threading.Event()

    def set(self, *, interrupted: bool) -> None:
        """Ends what waits, now and from now on."""
        self._ended.set()
        if interrupted:
            self._interrupted.set()

    def check(self) -> None:
        """Raises `KeyboardInterrupt` where the map has ended: its keys are to be free for who asks next."""
        if self._ended.is_set():
            raise KeyboardInterrupt

    def sleep(self, seconds: float, *, begun: bool = False) -> None:
        """Waits so long; `begun` says that the step has begun.

        Raises:
            KeyboardInterrupt: As for `check`.
        """
        if (self._interrupted if begun else self._ended).wait(seconds):
            raise KeyboardInterrupt
