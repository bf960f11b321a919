"""Locks between threads that a forked child finds free: the thread that held one at the fork does not exist there."""

from __future__ import annotations

import os
import weakref
from _thread import RLock
from typing import Final


class ThreadLock(RLock):  # pyright: ignore[reportGeneralTypeIssues] - only its stub says that it is final
    """A reentrant lock between the threads of one process.

    What it guards may be half changed in a child that was forked in this very moment; so it is for what can be had anew,
    as the files of the cache can be looked at again.

    It *is* Python's lock: an interrupt that came as an `__enter__` of ours returned would leave one held for ever.

    >>> lock = ThreadLock()
    >>> with lock, lock:
    ...     pass
    """

    def __init__(self) -> None:
        super().__init__()
        _all.add(self)

    def renew(self) -> None:
        """Makes it free, whoever held it."""
        self._at_fork_reinit()  # pyright: ignore[reportAttributeAccessIssue] - which `threading` uses for its own


_all: Final[weakref.WeakSet[ThreadLock]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for lock in list(_all):
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
