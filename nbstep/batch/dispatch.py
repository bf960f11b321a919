"""Which backend of joblib a `step.map` has, and its items on threads of this process."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias, cast

from nbstep.batch.keying import Keyed
from nbstep.cache.flight import blocked_threads
from nbstep.result import Err, Ok
from nbstep.runs.hooks import stop_if_interrupted, thunk_guard

_THREADS: Final = 8  # where nobody says how many

Given: TypeAlias = Ok[Any] | Err[Any]


class Backend(NamedTuple):
    """What joblib is to use: threads of this process or not, and how many at once."""

    threads: bool
    n_jobs: int


def backend_for(n_jobs: int | None) -> Backend:
    """The active backend: threads unless `joblib.parallel_config` names another.

    joblib takes one worker where nobody says how many; who fans out means more: 8 threads, or as many as the backend has.
    """
    from joblib.parallel import get_active_backend

    active: Any = get_active_backend(prefer="threads")
    plain: Any = get_active_backend()  # with what it prefers, joblib takes one worker, whoever else said how many
    threads = bool(getattr(active[0], "supports_sharedmem", False))
    usual: int = plain[1] if plain[1] is not None else _THREADS if threads else -1
    return Backend(threads, usual if n_jobs is None else n_jobs)


def on_threads(one: Callable[[Any, str | None], Given], work: Iterable[Keyed], n_jobs: int) -> list[Given]:
    """Takes `one` step for each item, on threads; gives the results in the items' order.

    Each thread takes item after item: to hand each one to a thread, and its result back, can cost more than the step.
    """
    __tracebackhide__ = True
    from joblib import Parallel, delayed

    # Each item runs in a copy of this context, so that it belongs to this run, whatever thread it gets.
    context = contextvars.copy_context()
    blocked = context.get(blocked_threads, frozenset[int]()) | {threading.get_ident()}
    context.run(blocked_threads.set, blocked)
    results: list[Any] = []
    left = _Turns(work, results)

    def take_turns() -> None:
        __tracebackhide__ = True
        try:
            for at, item in left:
                results[at] = context.copy().run(one, item.item, item.key)
        except BaseException:
            left.stop()
            raise

    try:
        with thunk_guard():  # an interrupt ends the wait, also in a cell that awaits
            stop_if_interrupted()
            # joblib asks for one more whenever a thread has nothing to do.
            jobs: Any = Parallel(n_jobs=n_jobs, require="sharedmem", batch_size=cast("Any", 1))
            jobs(delayed(context.copy().run)(take_turns) for _ in iter(left.are_over, True))
    finally:
        left.stop()
    return results


class _Turns:
    """Items for whichever thread asks next, and places for their results."""

    def __init__(self, work: Iterable[Keyed], results: list[Any]) -> None:
        self._left = iter(work)
        self._results = results
        self._over = threading.Event()
        self._one_at_a_time = threading.Lock()

    def __iter__(self) -> Iterator[tuple[int, Keyed]]:
        while True:
            with self._one_at_a_time:
                item = None if self._over.is_set() else next(self._left, None)
                if item is None or self._over.is_set():  # as somebody stopped it while the next item was made
                    self._over.set()
                    return
                at = len(self._results)
                self._results.append(None)
            yield at, item

    def are_over(self) -> bool:
        """Whether there is no item left, or it was stopped."""
        return self._over.is_set()

    def stop(self) -> None:
        """Lets nobody take another one."""
        self._over.set()
