"""The items of a `step.map`, handed to joblib: to threads of this process, or to the workers of the backend that is active."""

from __future__ import annotations

import contextvars
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, cast

from nbstep.batch.givenup import Answer, tell_of_given_up
from nbstep.batch.keying import Keyed
from nbstep.cache.flight import blocked_threads
from nbstep.result import Err, Ok
from nbstep.runs.hooks import stop_if_interrupted, thunk_guard

_THREADS: Final = 8  # where nobody says how many
_TURNS_AT_ONCE: Final = 4  # of each worker, of a backend that gives back all results at once

Given: TypeAlias = Ok[Any] | Err[Any]


class Begun(Protocol):
    """A step that was looked up here: it has its `result`, or waits to be told how its work ended in a worker."""

    result: Given | None

    def task(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """What a worker calls, a function of a module, and its arguments."""
        ...

    def end(self, outcome: Any) -> Given | None:
        """Takes what the worker gave, or why no worker could do it; None where its task is to be done again."""
        ...

    def give_up(self) -> None:
        """Ends it without a result: the user stopped the map, or its worker is gone."""
        ...


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
    backend, configured = active
    threads = bool(getattr(backend, "supports_sharedmem", False))
    usual: int = configured if configured not in (None, 1) else _THREADS if threads else -1
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


def in_workers(
    begin: Callable[[Any, str | None], Begun],
    work: Iterable[Keyed],
    n_jobs: int,
) -> list[Given]:
    """Looks each step up here, and has the work of those that must run done by joblib's workers, in other processes.

    Args:
        begin: Looks up the step of an item.
        work: The items.
        n_jobs: How many at once.
    """
    __tracebackhide__ = True
    from joblib import delayed

    results: list[Any] = []
    waiting: dict[int, Begun] = {}
    in_flight: set[str | None] = set()
    key_of: dict[int, str | None] = {}  # of the items that are at work
    postponed: list[tuple[int, Keyed]] = []
    again: list[int] = []
    lost_pool: list[BaseException] = []  # why, where the workers are gone that the last tasks were given to

    def tasks(left: Iterable[tuple[int, Keyed]], lost: Iterable[int]) -> Iterator[Any]:
        """Those that must run. joblib asks for the next one when it has a place for it, on whatever thread."""
        for at in lost:
            yield task(at)
            if lost_pool:
                return
        for at, item in left:
            if at == len(results):
                results.append(None)
            if item.key is not None and item.key in in_flight:
                postponed.append((at, item))
                continue
            begun = begin(item.item, item.key)
            if begun.result is not None:
                results[at] = begun.result
                continue
            waiting[at] = begun
            in_flight.add(item.key)
            key_of[at] = item.key
            yield task(at)
            if lost_pool:  # the next one is for other workers
                return

    def task(at: int) -> Any:
        return delayed(_numbered)(at, *waiting[at].task())

    def end(at: int, outcome: Any) -> None:
        begun = waiting.pop(at)
        results[at] = begun.end(outcome)
        if results[at] is None:
            waiting[at] = begun
            again.append(at)
        else:
            in_flight.discard(key_of.pop(at))

    def given_up(batch: Any, error: BaseException, with_pool: bool) -> list[tuple[int, BaseException]] | None:
        """What comes of a task of ours that no worker could do: its error, in place of what a worker gives."""
        ((function, arguments, _),) = batch.items
        if function is not _numbered:
            return None
        if with_pool:
            lost_pool.append(error)
        return [(arguments[0], error)]

    not_begun = enumerate(work)
    try:
        while True:
            why_none = lost_pool[-1] if lost_pool and not _has_workers() else None
            lost_pool.clear()
            put_off, lost, suspects = iter(postponed), iter(again), list[int]()
            postponed, again = [], []
            with thunk_guard():  # an interrupt ends the wait, also in a cell that awaits
                stop_if_interrupted()
                turns = tasks(itertools.chain(put_off, not_begun), lost)
                outcomes = _outcomes(turns, n_jobs, given_up) if why_none is None else _undone(turns, why_none)
                try:
                    for at, outcome in outcomes:
                        if isinstance(outcome, BrokenProcessPool):
                            suspects.append(at)
                        else:
                            end(at, outcome)
                except ConnectionAbortedError as why:
                    if why not in lost_pool:
                        raise
                    again += lost
                    for at in waiting.keys() - again:  # what the cluster had
                        end(at, why)
                # One of these is what the worker died of. Each is tried alone, so that no other fails with it, and only once.
                for suspect in suspects:
                    for at, outcome in _outcomes(iter([task(suspect)]), n_jobs, given_up):
                        end(at, outcome)
            postponed += put_off
            again += lost
            if not (postponed or again or lost_pool):
                return results
    finally:
        for begun in waiting.values():
            begun.give_up()


def _outcomes(tasks: Iterator[Any], n_jobs: int, given_up: Answer) -> Iterator[tuple[int, Any]]:
    """What comes of tasks, each as soon as it is there, so that it is kept then."""
    from joblib import Parallel, effective_n_jobs
    from joblib.parallel import get_active_backend

    active: Any = get_active_backend()
    tell_of_given_up(active[0], given_up)
    one_at_a_time: Any = {"n_jobs": n_jobs, "batch_size": 1}
    if getattr(active[0], "supports_return_generator", False):
        yield from cast("Any", Parallel(return_as="generator_unordered", **one_at_a_time)(tasks))
        return
    # Others, as ray's, give results only when the last one is there: they get some at a time, and the rest may be lost.
    with Parallel(**one_at_a_time) as parallel:
        workers: Any = effective_n_jobs(n_jobs)
        while some := list(itertools.islice(tasks, _TURNS_AT_ONCE * max(1, workers))):
            yield from cast("Any", parallel(some))


def _has_workers() -> bool:
    """Whether the active backend still has any, as a cluster that was closed has not."""
    from joblib import effective_n_jobs

    try:
        return bool(effective_n_jobs(-1))
    except Exception:  # noqa: BLE001 - of whatever kind: it is asked since workers were lost
        return False


def _undone(tasks: Iterator[Any], why: BaseException) -> Iterator[tuple[int, Any]]:
    """What comes of tasks that nobody is there to do."""
    for _, (at, *_), _ in tasks:
        yield at, why


def _numbered(at: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[int, Any]:
    return at, function(*arguments)
