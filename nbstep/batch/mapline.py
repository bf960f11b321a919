"""The line of a terminal that says how far a `step.map` of a plain program is, on standard error as such lines are."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from queue import Empty, SimpleQueue
from typing import Final

from nbstep.batch.progress import SHARE_OF, Progress, pace_of, share_of
from nbstep.durations import duration_text
from nbstep.events import Event, Listener, StepAsked, StepFinished, StepHit, StepsAhead, StepStarted
from nbstep.forks import ThreadLock
from nbstep.terminals import LiveLine, live_line
from nbstep.words import fit, plural

_log: Final = logging.getLogger("nbstep")

_FIRST_S: Final = 0.3  # a map that is done by then says nothing
_EVERY_S: Final = 0.25
_shown: Final = threading.Lock()  # one line at a time


class Tally:
    """A listener that counts what becomes of a map's items.

    Args:
        total: How many keys it asks; None where that is not known.
        clock: Gives seconds.

    Attributes:
        interrupted: How many the user stopped: they are not done.
        unkept: How many ran and could not be kept.
    """

    def __init__(self, total: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._total = total
        self._clock = clock
        self._lock = ThreadLock()
        self._asked: set[tuple[str, int]] = set()
        self._running: dict[tuple[str, int], float] = {}  # since when
        self._took_s = 0.0
        self._began: float | None = None
        self._hits = 0
        self._hits_before: deque[int] = deque(maxlen=SHARE_OF)  # before each of the last steps that began
        self._cached = self._ran = self._failed = self._computed = 0
        self.interrupted = self.unkept = 0

    def __call__(self, event: Event) -> None:
        """Takes an event, from any thread."""
        with self._lock:
            if isinstance(event, StepAsked):
                if event.map is not None:
                    self._asked.add((event.run, event.step))
            elif isinstance(event, StepsAhead):
                self._total = None if self._total is None else self._total + event.keys
            elif isinstance(event, StepStarted | StepHit | StepFinished) and (event.run, event.step) in self._asked:
                self._note(event)

    def _note(self, event: StepStarted | StepHit | StepFinished) -> None:
        at = event.run, event.step
        if isinstance(event, StepStarted):
            began = self._clock()
            self._began = began if self._began is None else self._began
            if not event.elsewhere:  # it may wait long for a worker that is free
                self._running[at] = began
            self._hits_before.append(self._hits)
            return
        self._hits += isinstance(event, StepHit)
        self._asked.discard(at)
        self._running.pop(at, None)
        if isinstance(event, StepFinished) and event.interrupted:
            self.interrupted += 1
            return
        self._failed += event.outcome == "error"
        self._cached += event.outcome == "ok" and isinstance(event, StepHit)
        self._ran += event.outcome == "ok" and isinstance(event, StepFinished)
        if isinstance(event, StepFinished):
            self._computed += 1
            self._took_s += event.took_s
        self.unkept += isinstance(event, StepFinished) and event.outcome == "ok" and bool(event.not_kept)

    def progress(self) -> Progress:
        """How far it is."""
        with self._lock:
            done = self._cached + self._ran + self._failed
            now, before = self._clock(), self._hits_before
            lasted_s = 0.0 if self._began is None else now - self._began
            under_way = [now - began for began in self._running.values()]
            to_come = None if self._total is None else self._total - done - len(under_way)
            share = share_of(len(before), self._hits - before[0] if before else 0)
            rate, left_s = pace_of(self._computed, self._took_s, lasted_s, under_way, to_come, share)
            return Progress(self._total, self._cached, self._ran, self._failed, rate, left_s)


def map_line(
    name: str, total: int | None, listening: Callable[[Listener], AbstractContextManager[None]]
) -> AbstractContextManager[None]:
    """While it is open a terminal shows how far a map is; nothing where standard error is none, or another map has the line.

    Args:
        name: What to call the map.
        total: How many keys it asks; None where that is not known.
        listening: Has a listener told of the run's events until its end.
    """
    line = live_line(sys.stderr)
    return nullcontext() if line is None else _shown_on(line, name, Tally(total), listening)


@contextmanager
def _shown_on(
    line: LiveLine, name: str, tally: Tally, listening: Callable[[Listener], AbstractContextManager[None]]
) -> Generator[None]:
    ended: SimpleQueue[None] = SimpleQueue()  # no event: an interrupt could leave its lock taken
    began = time.monotonic()
    thread = threading.Thread(target=_keep_showing, args=(line, name, tally, ended), name="nbstep map", daemon=True)
    if not _shown.acquire(blocking=False):
        yield
        return
    try:
        with suppress(RuntimeError):  # the system has no more threads
            thread.start()
        with listening(tally):
            yield
    finally:
        ended.put(None)
        _shown.release()
        line.end(last=_last(name, tally.progress(), time.monotonic() - began, tally.interrupted, tally.unkept))


def _keep_showing(line: LiveLine, name: str, tally: Tally, ended: SimpleQueue[None]) -> None:
    before, pause_s = "", _FIRST_S
    try:
        while not _is_told(ended, pause_s):
            text = fit(live_text(name, tally.progress()), line.width() - 1).rstrip()
            if text != before:
                line.show(text)
            before, pause_s = text, _EVERY_S
    except Exception:  # noqa: BLE001 - a display must never end a map
        _log.debug("the line of a map could not be shown", exc_info=True)


def _is_told(queue: SimpleQueue[None], within_s: float) -> bool:
    try:
        queue.get(timeout=within_s)
    except Empty:
        return False
    return True


def live_text(name: str, progress: Progress) -> str:
    """What it says while the map goes on.

    >>> live_text("etl.py, line 12", Progress(200, 80, 38, 2, 8.0, 10.0))
    'etl.py, line 12: 120 of 200, 8 a second, about 10 s left · 80 cached, 2 failed'
    """
    said = [f"{count:,} {word}" for count, word in ((progress.cached, "cached"), (progress.failed, "failed")) if count]
    return f"{name}: {progress.text()}" + (f" · {', '.join(said)}" if said else "")


def _last(name: str, progress: Progress, took_s: float, interrupted: int = 0, unkept: int = 0) -> str:
    """What stays.

    >>> _last("etl.py, line 12", Progress(200, 80, 118, 2), 21.0)
    'etl.py, line 12: 200 steps in 21 s: 118 ran, 80 cached, 2 failed'
    >>> _last("etl.py, line 12", Progress(200, 80, 20, 0), 9.0, interrupted=4)
    'etl.py, line 12: 100 of 200 steps in 9.0 s: 20 ran, 80 cached, 4 interrupted'
    >>> _last("etl.py, line 12", Progress(100, 0, 100, 0), 5.2, unkept=16)
    'etl.py, line 12: 100 steps in 5.2 s: 100 ran (16 of them not kept)'
    """
    counts = (
        (progress.ran, f"ran ({unkept:,} of them not kept)" if unkept else "ran"),
        (progress.cached, "cached"),
        (progress.failed, "failed"),
        (interrupted, "interrupted"),
    )
    said = ", ".join(f"{count:,} {word}" for count, word in counts if count)
    total = progress.total
    steps = plural(progress.done, "step") if total in {None, progress.done} else f"{progress.done:,} of {total:,} steps"
    return f"{name}: {steps} in {duration_text(took_s)}" + (f": {said}" if said else "")
