"""Results of which joblib did not say yet what the call was: it gives a value, and that a moment later, on the same thread.

Where the `repr` of an argument raises it never says it. Then the value is kept at the latest when the process ends.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import util
from typing import Any

from nbstep.cache.records import Kept, NotKept
from nbstep.integrations.keptcalls import KeptCalls


@dataclass(frozen=True, slots=True)
class Given:
    """One result: where it is to be kept, and under which call's id."""

    place: KeptCalls
    call_id: tuple[str, ...]
    value: Any

    def keep(self, metadata: Mapping[str, Any]) -> Kept | NotKept:
        """Keeps it, with what joblib said of the call."""
        return self.place.keep(self.call_id, self.value, metadata)


_by_thread: dict[int, Given] = {}
_at_exit_of: set[int] = set()  # processes


def take(place: KeptCalls, call_id: Sequence[str], value: Any) -> None:
    """Takes the result of the call that ended on this thread."""
    _by_thread[threading.get_ident()] = Given(place, tuple(call_id), value)
    if os.getpid() not in _at_exit_of:
        _at_exit_of.add(os.getpid())
        util.Finalize(None, _keep_all, exitpriority=100)  # `atexit` is not for the processes of multiprocessing


def is_of(call_id: Sequence[str]) -> bool:
    """Whether this thread's result is that of the call."""
    given = _by_thread.get(threading.get_ident())
    return given is not None and given.call_id == tuple(call_id)


def pop() -> Given | None:
    """This thread's result, which is the caller's to keep now."""
    return _by_thread.pop(threading.get_ident(), None)


def keep_of_ended_threads() -> None:
    """Keeps what threads left; nobody is there to be told where that fails."""
    if _by_thread:  # mostly of threads that are about to be told
        alive = {thread.ident for thread in threading.enumerate()}
        _keep_of([thread for thread in tuple(_by_thread) if thread not in alive])


def _keep_all() -> None:
    _keep_of(tuple(_by_thread))


def _keep_of(threads: Iterable[int]) -> None:
    for thread in threads:
        if (given := _by_thread.pop(thread, None)) is not None:
            given.keep({})


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_by_thread.clear)  # the parent keeps them
