"""The items of a `step.map` with the workers of joblib's active backend, in other processes."""

from __future__ import annotations

import itertools
import math
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast

from nbstep.batch.dispatch import Given
from nbstep.batch.feed import Feed
from nbstep.batch.givenup import Answer, tell_of_given_up
from nbstep.batch.keying import Keyed
from nbstep.runs.hooks import stop_if_interrupted, thunk_guard

_TURNS_AT_ONCE: Final = 4  # of each worker, of a backend that gives back all results at once
_NAP: Final = -1  # the place of what is no item
_NAP_S: Final = 0.01
_TICK_S: Final = 0.001
_NAP_AT_MOST_S: Final = 0.1


class Begun(Protocol):
    """A step that was looked up here: it has its `result`, or waits to be told how its work ended in a worker.

    Attributes:
        result: What it gave.
        wait_s: So many seconds from now it can go on, as another computes its key, or its turn has not come; None where it can
            be sent to a worker.
    """

    result: Given | None
    wait_s: float | None

    def go_on(self) -> None:
        """Looks again, where it had to wait."""
        ...

    def task(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """What a worker calls, a function of a module, and its arguments."""
        ...

    def end(self, outcome: Any) -> Given | None:
        """Takes what the worker gave, or why no worker could do it; None where its task is to be done again."""
        ...

    def give_up(self) -> None:
        """Ends it without a result: the user stopped the map, or its worker is gone."""
        ...


def in_workers(
    begin: Callable[[Any, str | None], Begun],
    work: Iterable[Keyed],
    n_jobs: int,
    *,
    lazily: bool,
    apart_s: float | None,
) -> list[Given]:
    """Looks each step up here, and has the work of those that must run done by joblib's workers, in other processes.

    Args:
        begin: Looks up the step of an item.
        work: The items.
        n_jobs: How many at once.
        lazily: To make an item may take long.
        apart_s: Each has its turn, when it is to begin, so long after the one before it; None where they have none.

    Raises:
        BaseException: What ended the items early, when those are over that were given.
    """
    __tracebackhide__ = True
    feed = Feed(work, lazily=lazily)
    sent = _Sent(begin, feed, max(1, _workers_at_most(n_jobs)), apart_s)
    try:
        while True:
            with thunk_guard():  # an interrupt ends the wait, also in a cell that awaits
                stop_if_interrupted()
                _have_done(sent, n_jobs)
            if not sent.is_left():
                break
    finally:
        feed.stop()
        sent.give_up()
    if feed.error is not None:
        raise feed.error
    return sent.results


def _have_done(sent: _Sent, n_jobs: int) -> None:
    """Has all of it done that one pool of workers can; what is left then is for another one."""
    __tracebackhide__ = True
    turns, why_none = sent.next_pool()
    outcomes = _outcomes(turns, n_jobs, sent.given_up) if why_none is None else _undone(turns, why_none)
    suspects: list[int] = []
    try:
        with _closing(outcomes):
            for at, outcome in outcomes:
                if at == _NAP:
                    sent.has_workers = True
                elif isinstance(outcome, BrokenProcessPool):
                    suspects.append(at)
                else:
                    sent.end(at, outcome)
    except ConnectionAbortedError as why:
        if why not in sent.lost_pool:
            raise
        sent.end_all(why)
    # One of these is what the worker died of. Each is tried alone, so that no other fails with it, and only once.
    for suspect in suspects:
        for at, outcome in _outcomes(iter([sent.task(suspect)]), n_jobs, sent.given_up):
            sent.end(at, outcome)
    sent.keep_for_next_pool()


@dataclass(eq=False, slots=True)
class _Sent:
    """The items of one map, and how far each is.

    Attributes:
        begin: Looks up the step of an item.
        feed: The items that were not begun.
        at_most: How many may wait for others, or for their turn.
        apart_s: As in `in_workers`. What has its turn is to begin then: but for the first, it is not sent before there is a worker
            for it.
        has_workers: One of them has done something.
        thread: The map's own.
        results: By place; None of what is not over.
        waiting: The steps that wait for what a worker gives, by place.
        lost_pool: Why, where the workers are gone that the last tasks were given to.
    """

    begin: Callable[[Any, str | None], Begun]
    feed: Feed
    at_most: int
    apart_s: float | None
    has_workers: bool = False
    thread: int = field(default_factory=threading.get_ident)
    results: list[Any] = field(default_factory=list[Any])
    waiting: dict[int, Begun] = field(default_factory=dict[int, Begun])
    lost_pool: list[BaseException] = field(default_factory=list[BaseException])
    _in_flight: set[str | None] = field(default_factory=set["str | None"])
    _key_of: dict[int, str | None] = field(default_factory=dict[int, "str | None"])  # of the items that are at work
    _postponed: list[tuple[int, Keyed]] = field(default_factory=list[tuple[int, Keyed]])  # their key is at work
    _again: list[int] = field(default_factory=list[int])
    # With the time when to look again.
    _pausing: dict[int, tuple[float, Begun]] = field(default_factory=dict[int, "tuple[float, Begun]"])
    _put_off: Iterator[tuple[int, Keyed]] = field(default_factory=lambda: iter(()))  # of those, what this pool does
    _lost: Iterator[int] = field(default_factory=lambda: iter(()))

    def next_pool(self) -> tuple[Iterator[Any], BaseException | None]:
        """Tasks for another pool of workers; why there is none, where there is none."""
        why_none = self.lost_pool[-1] if self.lost_pool and not _workers_at_most(-1) else None
        self.lost_pool.clear()
        self._put_off, self._lost = iter(self._postponed), iter(self._again)
        self._postponed, self._again = [], []
        return self._tasks(), why_none

    def keep_for_next_pool(self) -> None:
        """What the pool did not ask for is for the next one."""
        self._postponed += self._put_off
        self._again += self._lost

    def is_left(self) -> bool:
        """Whether there is anything for another pool."""
        return bool(self._postponed or self._again or self._pausing or self.lost_pool)

    def _tasks(self) -> Iterator[Any]:
        """Those that must run. joblib asks for the next one when it has a place for it, on whatever thread.

        That may be the one which brings results: it never waits here, neither for who computes a key, as that may wait for what
        is at work for us, nor for a turn or an item. A worker that would have to wait naps, and so asks again. The map's own
        thread, which asks first, does wait while nothing is at work: where all is kept no worker is needed.
        """
        for at in self._lost:
            yield self.task(at)
            if self.lost_pool:
                return
        nap_s = _NAP_S
        while not self.lost_pool:  # else the next one is for other workers
            at = self._next()
            if at is not None:
                nap_s = _NAP_S
                yield self.task(at)
            elif self._pausing or not self.feed.is_over:
                if self.waiting or threading.get_ident() != self.thread:
                    yield _nap(self._until_next_s(nap_s))
                else:
                    time.sleep(self._until_next_s(nap_s))
                nap_s = min(2 * nap_s, _NAP_AT_MOST_S)
            else:
                return

    def _next(self) -> int | None:
        """The place of the next item that can be sent; None where there is none just now."""
        now = time.monotonic()
        for at, (until, begun) in list(self._pausing.items()):
            if until <= now:
                del self._pausing[at]
                begun.go_on()
                if self._is_to_send(at, begun):
                    return at
        while self._may_begin():
            left = next(self._put_off, None) or self.feed.next_now()
            if left is None:
                break
            at, item = left
            if at == len(self.results):
                self.results.append(None)
            if item.key is not None and item.key in self._in_flight:
                self._postponed.append((at, item))
                continue
            begun = self.begin(item.item, item.key)
            self._in_flight.add(item.key)
            self._key_of[at] = item.key
            if self._is_to_send(at, begun):
                return at
        return None

    def _may_begin(self) -> bool:
        if self.apart_s is None or not (self._pausing or self.waiting):
            return len(self._pausing) < self.at_most
        return self.has_workers and len(self._pausing) + len(self.waiting) < self.at_most

    def _is_to_send(self, at: int, begun: Begun) -> bool:
        """Whether a step goes to a worker now; else it is over, or waits."""
        if begun.result is not None:
            self.results[at] = begun.result
            self._in_flight.discard(self._key_of.pop(at))
        elif begun.wait_s is not None:
            self._pausing[at] = time.monotonic() + begun.wait_s, begun
        else:
            self.waiting[at] = begun
            return True
        return False

    def _until_next_s(self, at_most_s: float) -> float:
        soonest = min((until for until, _ in self._pausing.values()), default=math.inf)
        at_most_s = (
            at_most_s if self.apart_s is None else min(at_most_s, self.apart_s / 2)
        )  # else two would begin at once
        return max(_TICK_S, min(at_most_s, soonest - time.monotonic()))

    def task(self, at: int) -> Any:
        """What joblib is given for an item."""
        from joblib import delayed

        return delayed(_numbered)(at, *self.waiting[at].task())

    def end(self, at: int, outcome: Any) -> None:
        """Takes what a worker gave for an item, or why none did."""
        begun = self.waiting.pop(at)
        self.results[at] = begun.end(outcome)
        if self.results[at] is None:
            self.waiting[at] = begun
            self._again.append(at)
        else:
            self._in_flight.discard(self._key_of.pop(at))

    def end_all(self, why: BaseException) -> None:
        """Ends what a cluster had that is gone."""
        self._again += self._lost
        for at in self.waiting.keys() - self._again:
            self.end(at, why)

    def given_up(self, batch: Any, error: BaseException, with_pool: bool) -> list[tuple[int, BaseException]] | None:
        """What comes of a task of ours that no worker could do: its error, in place of what a worker gives."""
        ((function, arguments, _),) = batch.items
        if function is not _numbered:
            return None
        if with_pool:
            self.lost_pool.append(error)
        return [(arguments[0], error)]

    def give_up(self) -> None:
        """Ends what is not over without a result; the feed was stopped, so no more is begun."""
        for begun in (*self.waiting.values(), *(begun for _, begun in list(self._pausing.values()))):
            begun.give_up()


def _outcomes(tasks: Iterator[Any], n_jobs: int, given_up: Answer) -> Generator[tuple[int, Any]]:
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


@contextmanager
def _closing(outcomes: Generator[Any]) -> Generator[None]:
    """Where they are left early ends them now, on this thread, as joblib wants it, and without its warning of those not used."""
    try:
        yield
    except BaseException:  # only then: what is done to warnings is done for all threads
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            outcomes.close()
        raise


def _workers_at_most(n_jobs: int) -> int:
    """How many workers of the active backend there are for so many at once, as far as it tells; 0 of a cluster that was closed."""
    from joblib import effective_n_jobs

    try:
        return int(cast("Any", effective_n_jobs(n_jobs)))
    except Exception:  # noqa: BLE001 - of whatever kind: nothing is lost yet
        return 0


def _nap(seconds: float) -> Any:
    """What joblib is given where there is nothing to do yet."""
    from joblib import delayed

    return delayed(_numbered)(_NAP, time.sleep, (seconds,))


def _undone(tasks: Iterator[Any], why: BaseException) -> Generator[tuple[int, Any]]:
    """What comes of tasks that nobody is there to do."""
    for _, (at, function, arguments), _ in tasks:
        if at == _NAP:
            function(*arguments)
        yield at, why


def _numbered(at: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[int, Any]:
    return at, function(*arguments)
