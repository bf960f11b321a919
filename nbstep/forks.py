"""Locks between threads that a forked child finds free: the thread that held one at the fork does not exist there."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Final


class ThreadLock:
    """A reentrant lock between the threads of one process.

    What it guards may be half changed in a child that was forked in this very moment; so it is for what can be had anew,
    as the files of the cache can be looked at again.

    >>> lock = ThreadLock()
    >>> with lock, lock:
    ...     pass
    """

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _all.add(self)

    # Not methods: an interrupt that came as one of them returns would leave the lock held for ever.
    @property
    def __enter__(self) -> Callable[[], object]:
        """The lock's own."""
        return self._lock.__enter__

    @property
    def __exit__(self) -> Callable[..., None]:
        """The lock's own."""
        return self._lock.__exit__

    def renew(self) -> None:
        """Makes it free, whoever held it."""
        self._lock = threading.RLock()


_all: Final[weakref.WeakSet[ThreadLock]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for lock in list(_all):
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
