"""One thread that ends steps and begins the next ones, for threads that only run their functions.

What is done for an item before and after its function costs twice as much on the thread that runs it: fetching took the
processor's caches, and of dozens of threads each goes on where a processor was free. One thread that does it for all finds them
as it left them. Who ran a function waits until its value is kept and has its next item then, so that what a kill loses is never
more than the threads have in their hands.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeAlias

from nbstep.batch.keying import Keyed

UNFINISHED: Final = object()
_LONG_S: Final = 0.002  # an end and a beginning take a tenth of that
_LONG_AT_MOST: Final = 16


class Turn:
    """A step that was begun. Only `run` and `end` call the user's code, and so may take long."""

    __slots__ = ()

    def run(self) -> Any:
        """Runs its function, and gives what the step gives; `UNFINISHED` where `end_quickly` is to be tried."""
        raise NotImplementedError

    def end_quickly(self) -> Any:
        """Ends it, and gives what the step gives; `UNFINISHED` where `end` is to do it."""
        raise NotImplementedError

    def end(self) -> Any:
        """Ends it in any case, and gives what the step gives."""
        raise NotImplementedError

    def goes_to(self, thread: int) -> None:
        """Says which thread has it from now on."""
        raise NotImplementedError


Take: TypeAlias = Callable[[Any, str | None], Any]
Begin: TypeAlias = Callable[[Any, str | None], Turn | None]
Items: TypeAlias = Iterator[tuple[int, Keyed]]


class _Job:
    """An item in a thread's hands.

    Attributes:
        at: Its place.
        item: It, with its key.
        context: What its step runs in.
        turn: Its step, where that is begun.
        is_odd: Whether it could not be ended quickly.
    """

    __slots__ = ("at", "context", "is_odd", "item", "turn")

    def __init__(self, at: int, item: Keyed, context: Context, turn: Turn | None) -> None:
        self.at, self.item, self.context, self.turn = at, item, context, turn
        self.is_odd = False


class Hub:
    """The thread, which is there from the first step that is taken so until it is closed.

    Args:
        items: The items with their places; whoever iterates has the next one that nobody had.
        results: Where what their steps give is put.
        context: Each step runs in a copy of it.
        take: Takes a step.
        begin: Begins one where that calls nobody's code; else None.
    """

    def __init__(
        self, items: Iterable[tuple[int, Keyed]], results: list[Any], context: Context, take: Take, begin: Begin
    ) -> None:
        self._items, self._results, self._context = items, results, context
        self._take, self._begin = take, begin
        self._given_back = SimpleQueue[_Job | None]()  # with its function run, or None: the end
        self._begun = SimpleQueue[_Job | BaseException | None]()  # for whoever waits
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._long = 0

    def take_turns(self) -> None:
        """Takes one item after the other until there is none left. Not for a thread that an interrupt may come to."""
        __tracebackhide__ = True
        items = iter(self._items)
        job = self._next(items)
        while job is not None:
            job = self._next(items) if self._is_done(job) else self._exchanged(job, items)

    def close(self) -> None:
        """Lets each thread do its own from now on."""
        self._closed = True
        self._given_back.put(None)

    def _next(self, items: Items) -> _Job | None:
        for at, item in items:
            context = self._context.copy()
            return _Job(at, item, context, context.run(self._begin, item.item, item.key))
        return None

    def _is_done(self, job: _Job) -> bool:
        """Does what may take long; whether the result stands in its place then."""
        __tracebackhide__ = True
        turn, run = job.turn, job.context.run
        given = (
            run(self._take, job.item.item, job.item.key) if turn is None else run(turn.end if job.is_odd else turn.run)
        )
        if given is UNFINISHED:
            return False
        self._results[job.at] = given
        return True

    def _exchanged(self, job: _Job, items: Items) -> _Job | None:
        """Has a job ended; gives another one, which may be one that is to be ended here."""
        __tracebackhide__ = True
        thread = None if self._closed else self._thread or self._began()
        # Where it takes long, as one who listens does, threads that wait for each other would take it in turn.
        if thread is None or thread.ident is None or job.turn is None or self._long >= _LONG_AT_MOST:
            return self._ended(job, items)
        job.turn.goes_to(thread.ident)
        self._given_back.put(job)
        if self._closed:  # perhaps before that: then nobody else comes
            self._answer_all(items)
        begun = self._begun.get()
        if isinstance(begun, BaseException):
            raise begun
        return begun

    def _ended(self, job: _Job, items: Items) -> _Job | None:
        __tracebackhide__ = True
        given = UNFINISHED if job.turn is None else job.context.run(job.turn.end_quickly)
        if given is UNFINISHED:
            job.is_odd = True
            return job
        self._results[job.at] = given
        return self._next(items)

    def _began(self) -> threading.Thread | None:
        with self._guard:
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="nbstep map", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # there can be no more
                    self._closed = True
                    return None
                self._thread = thread
            return self._thread

    def _work(self) -> None:
        items = iter(self._items)
        while (job := self._given_back.get()) is not None:
            began = time.perf_counter()
            self._answer(job, items)
            is_long = time.perf_counter() - began > _LONG_S
            self._long = max(0, self._long + (2 if is_long else -1))
        self._answer_all(items)

    def _answer_all(self, items: Items) -> None:
        while True:
            try:
                job = self._given_back.get_nowait()
            except Empty:
                break
            if job is not None:
                self._answer(job, items)
        self._given_back.put(None)  # which may have been meant for the thread

    def _answer(self, job: _Job, items: Items) -> None:
        """Lets one of those who wait go on, as each of them gave one back."""
        begun: _Job | BaseException | None
        try:
            begun = self._ended(job, items)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            begun = error
        self._begun.put(begun)
