"""Which backend of joblib a `step.map` has, and its items on threads of this process."""

from __future__ import annotations

import contextvars
import itertools
import operator
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias, cast

from nbstep.batch.hub import Begin, Hub
from nbstep.batch.keying import Keyed
from nbstep.batch.schedule import AsBatch
from nbstep.cache.flight import blocked_threads
from nbstep.foreign import own
from nbstep.result import Err, Ok
from nbstep.runs.hooks import stop_if_interrupted, thunk_guard

_THREADS: Final = 8  # where nobody says how many
_AHEAD: Final = 32  # items whose keys are told before their turn
_LOOK_S: Final = 0.005  # from one look at how far a lone thread is to the next
_QUICK: Final = 10  # items that one thread takes between two looks; they are not worth a second one
_LATE_S: Final = 0.009  # a thread that only works gives the interpreter away after 5 ms
_SLOW: Final = 3  # looks at fewer items, in a row: each counts one, at next to none two, one that came late a fifth
_HELD: Final = ("__cause__", "__context__", "__suppress_context__", "__traceback__")  # the first one sets the third
_NOTHING: Final = object()  # in the place of a result that is not there yet

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


def on_threads(
    one: Callable[[Any, str | None], Given],
    work: Iterable[Keyed],
    n_jobs: int,
    tell: Callable[[list[str]], None] | None = None,
    begin: Begin | None = None,
    *,
    in_order: bool = False,
) -> list[Given]:
    """Takes `one` step for each item, on threads; gives the results in the items' order.

    Each thread takes item after item: to hand each one to a thread, and its result back, can cost more than the step.
    `tell` is told the keys of items before it is their turn. `begin` begins a step where that calls nobody's code. With
    `in_order`, of a list's items that share a key the first one is over before the others begin: its value is that of all,
    whichever thread is quicker.
    """
    __tracebackhide__ = True
    repeats = _repeats(work) if type(work) is list and in_order and n_jobs != 1 else set[int]()
    if not repeats:
        return _in_turns(one, work, n_jobs, tell, begin)
    firsts = iter(_in_turns(one, _chosen(work, lambda at: at not in repeats), n_jobs, tell, begin))
    others = iter(_in_turns(one, _chosen(work, lambda at: at in repeats), n_jobs, None, begin))
    return [next(others if at in repeats else firsts) for at, _ in enumerate(work)]


def _repeats(work: list[Keyed]) -> set[int]:
    """The places of items whose key an earlier one has."""
    seen, repeats = set[str](), set[int]()
    for at, item in enumerate(work):
        if item.key is not None and item.key in seen:
            repeats.add(at)
        elif item.key is not None:
            seen.add(item.key)
    return repeats


def _chosen(work: Iterable[Keyed], which: Callable[[int], bool]) -> list[Keyed]:
    return [item for at, item in enumerate(work) if which(at)]


def _in_turns(
    one: Callable[[Any, str | None], Given],
    work: Iterable[Keyed],
    n_jobs: int,
    tell: Callable[[list[str]], None] | None,
    begin: Begin | None,
) -> list[Given]:
    """As `on_threads`, each item as its turn comes."""
    __tracebackhide__ = True
    from joblib import Parallel, delayed

    # Each item runs in a copy of this context, so that it belongs to this run, whatever thread it gets.
    context = contextvars.copy_context()
    blocked = context.get(blocked_threads, frozenset[int]()) | {threading.get_ident()}
    context.run(blocked_threads.set, blocked)
    results: list[Any] = []
    left = _Turns(work, results, tell)
    # Of a list alone: of anything else to come to the next item calls code of the user's.
    hub = None if begin is None or not left.are_listed() else Hub(left, results, context, one, begin)
    start, home = _Start(left), threading.get_ident()
    raised: list[_Raised] = []

    def take_each() -> None:
        __tracebackhide__ = True
        for at, item in left:
            results[at] = context.copy().run(one, item.item, item.key)

    def take_turns() -> None:
        __tracebackhide__ = True
        try:
            if threading.get_ident() == home:
                take_each()
                return
            start.wait()
            with AsBatch():
                if hub is None:
                    take_each()
                else:
                    hub.take_turns()
        except BaseException as error:
            left.stop()
            raised.append(_Raised.of(error))
            raise

    try:
        with thunk_guard():  # an interrupt ends the wait, also in a cell that awaits
            stop_if_interrupted()
            # joblib asks for one more whenever a thread has nothing to do.
            jobs: Any = Parallel(n_jobs=n_jobs, require="sharedmem", batch_size=cast("Any", 1))
            jobs(delayed(context.copy().run)(take_turns) for _ in iter(left.are_over, True))
    except BaseException as error:
        own_error = _as_raised(error, raised)
        if own_error is not error:
            raise own_error from own(own_error, "__cause__")
        raise  # with the context that it had
    finally:
        left.stop()
        raised.clear()  # tracebacks hold all that their frames do
        if hub is not None:
            hub.close()
    if any(map(operator.is_, results, itertools.repeat(_NOTHING))):
        raise RuntimeError(
            "step.map lost an item, which is a bug of nbstep; run it again: what is kept is taken from the cache"
        )
    return results


class _Raised(NamedTuple):
    """An error that ended a thread's turns, as it was before joblib put its own frames and, as text, those of the thread to it."""

    error: BaseException
    held: dict[str, Any]

    @classmethod
    def of(cls, error: BaseException) -> _Raised:
        """As it is now."""
        return cls(error, {name: own(error, name) for name in _HELD})

    def restored(self) -> BaseException:
        """The error, that again. Not by assignment: some exceptions are frozen dataclasses."""
        for name, value in self.held.items():
            vars(BaseException)[name].__set__(self.error, value)
        return self.error


def _as_raised(error: BaseException, raised: list[_Raised]) -> BaseException:
    """What ended the map, where joblib gave `error`: of one that is frozen it gives that nothing can be written to it."""
    found = next((one for one in raised if one.error is error), None)
    if found is None and raised and isinstance(error, AttributeError | TypeError):
        found = raised[0]
    return error if found is None else found.restored()


class _Turns:
    """Items for whichever thread asks next, and places for their results.

    A thread that waited for a lock has it before it has the interpreter. So as soon as one who holds it lets others go first, all
    come to stand in line for it, each a whole turn of the interpreter long, and mostly until the last item. That is why nothing
    is told under the lock, and a list is taken from without one.
    """

    def __init__(
        self, work: Iterable[Keyed], results: list[Any], tell: Callable[[list[str]], None] | None = None
    ) -> None:
        self._listed: list[Keyed] | None = (
            cast("list[Keyed]", work) if type(work) is list and _is_one_at_a_time() else None
        )
        self._tell = tell
        self._results = results
        self._over = threading.Event()
        self._stopped = False
        self._taken = 0
        self._one_at_a_time = threading.Lock()
        self._left = iter(work)
        self._ahead = deque[Keyed]()
        self._numbered = enumerate(work)
        if self._listed is not None:
            results += [_NOTHING] * len(self._listed)
            if tell is not None:  # before there are threads: the first item is to be the first that is asked
                tell(_keys(self._listed[: 2 * _AHEAD]))

    def __iter__(self) -> Iterator[tuple[int, Keyed]]:
        return self._of_any() if self._listed is None else self._of_list(self._listed)

    def taken(self) -> int:
        """How many were taken."""
        return self._taken

    def wait_until_over(self, at_most_s: float) -> bool:
        """Whether there is no item left, or it was stopped, so many seconds from now at most."""
        return self._over.wait(at_most_s)

    def are_listed(self) -> bool:
        """Whether they and their keys are there already."""
        return self._listed is not None

    def are_over(self) -> bool:
        """Whether there is no item left, or it was stopped."""
        return self._over.is_set()

    def stop(self) -> None:
        """Lets nobody take another one."""
        self._stopped = True
        self._over.set()

    def _of_list(self, work: list[Keyed]) -> Iterator[tuple[int, Keyed]]:
        for at, item in self._numbered:  # one call of C: no two threads get the same
            # Not where it is over: another thread may have found the end since, and this item is ours.
            if self._stopped:
                return
            if self._tell is not None and at and at % _AHEAD == 0:
                self._tell(_keys(work[at + _AHEAD : at + 2 * _AHEAD]))
            self._taken = at
            yield at, item
        self._over.set()

    def _of_any(self) -> Iterator[tuple[int, Keyed]]:
        while True:
            with self._one_at_a_time:
                item, keys = (None, []) if self._over.is_set() else self._next()
                if item is None or self._over.is_set():  # as somebody stopped it while the next item was made
                    self._over.set()
                    return
                at = len(self._results)
                self._results.append(_NOTHING)
            if keys and self._tell is not None:
                self._tell(keys)
            self._taken = at
            yield at, item

    def _next(self) -> tuple[Keyed | None, list[str]]:
        """The next item, and keys that are to be told."""
        if self._tell is None:
            return next(self._left, None), []
        more = list(itertools.islice(self._left, _AHEAD)) if len(self._ahead) <= _AHEAD else []
        self._ahead.extend(more)
        return self._ahead.popleft() if self._ahead else None, _keys(more)


class _Start:
    """Lets one thread begin alone, and the others as soon as items take longer than it costs to go from thread to thread.

    Where most is kept, or a function only computes for a moment, threads that take turns are half as fast as one.
    """

    def __init__(self, turns: _Turns) -> None:
        self._turns = turns
        self._threads = itertools.count()
        self._watch = threading.Lock()
        self._is_open = not _is_one_at_a_time()

    def wait(self) -> None:
        """Waits until one more thread is of use. What blocks, be it for another item, takes long."""
        if self._is_open or next(self._threads) == 0:
            return
        with self._watch:
            slow = 0.0
            while not self._is_open:
                before, began = self._turns.taken(), time.perf_counter()
                is_over = self._turns.wait_until_over(_LOOK_S)
                taken = self._turns.taken() - before
                # Where this thread came late, one had the interpreter all the time, as when memory is collected.
                came_late = time.perf_counter() - began > _LATE_S
                slow = 0.0 if taken >= _QUICK else slow + (0.2 if came_late else 1.0 if taken > 1 else 2.0)
                self._is_open = is_over or slow >= _SLOW


def _keys(items: Iterable[Keyed]) -> list[str]:
    return [item.key for item in items if item.key is not None]


def _is_one_at_a_time() -> bool:
    """Whether one thread at a time has the interpreter, as in all but a special one."""
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())
