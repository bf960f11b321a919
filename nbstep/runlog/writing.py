"""Writes a run into the log while it goes on, and as its last steps end."""

from __future__ import annotations

import atexit
import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Final

from nbstep.events import (
    Event,
    Finding,
    Place,
    RunFinished,
    RunStarted,
    StepAsked,
    StepFinished,
    StepHit,
    StepMissed,
    StepStarted,
)
from nbstep.forks import ThreadLock
from nbstep.runlog.folder import file_name, publish
from nbstep.runlog.reading import MAX_FINDINGS, TEXT_CHARS
from nbstep.runlog.rows import Rows

_log: Final = logging.getLogger("nbstep")

_FLUSH_EVERY_S: Final = 30.0
_LATE_EVERY_S: Final = 1.0
_WRITE_SHARE: Final = 8
_HEARD_AT_MOST: Final = 1_000
_ROWS_A_PIECE: Final = 500


@dataclass(slots=True)
class Recorder:
    """A listener that writes one run into the log: at its end, and every 30 s before.

    A forked child writes a run of its own, which belongs to the one it was forked from: it knows no more what its parent does.

    Attributes:
        directory: Of the run log.
        redact: Takes the text of every finding, and of what changed, before it is written.
    """

    directory: Path
    redact: Callable[[str], str] = str
    _heard: deque[Event] = field(default_factory=deque[Event])
    _started: RunStarted | None = None
    _finished: bool = False
    _write_took_s: float = 0.0
    _timer: threading.Timer | None = None
    _rows: Rows = field(init=False)
    _findings: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    _flushed: float = field(default_factory=time.monotonic)
    _pid: int = field(default_factory=os.getpid)
    _lock: ThreadLock = field(default_factory=ThreadLock)

    def __post_init__(self) -> None:
        self._rows = Rows(self._written)

    def __call__(self, event: Event) -> None:
        """Takes one event: remembers it, as mostly nobody asks before the run ends."""
        kind = type(event)
        if kind is StepStarted:  # that it is under way says no more than that it was asked
            return
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    self._begin_in_child()
        heard = self._heard
        heard.append(event)
        if kind is StepMissed:  # it was asked a moment ago
            return
        due = time.monotonic() - self._flushed > _FLUSH_EVERY_S
        if due or self._finished or kind is RunFinished or len(heard) >= _HEARD_AT_MOST:
            with self._lock:
                self._reduce()
                ended = isinstance(event, (RunFinished, StepHit, StepFinished))
                late = self._finished and ended and (isinstance(event, RunFinished) or self._is_time())
                if len(self._rows) and (due or late):
                    self._write()

    def _reduce(self) -> None:
        """Makes of what was heard since what the log says."""
        heard = self._heard
        while heard:
            event = heard.popleft()
            if isinstance(event, StepAsked):
                if event.key is not None:
                    self._rows.ask(event)
            elif isinstance(event, (StepHit, StepFinished)):
                self._rows.end(event)
            elif isinstance(event, StepMissed):
                self._rows.miss(event)
            elif isinstance(event, RunStarted):
                self._started = event
            elif isinstance(event, RunFinished):
                self._finished = True
            elif isinstance(event, Finding) and len(self._findings) < MAX_FINDINGS:
                self._findings.append((event.kind, self._written(event.text)))

    def only_new(self) -> dict[str, tuple[Place, list[str]]]:
        """The call sites of which every step ran because its key was new, each with its place and keys."""
        with self._lock:
            self._reduce()
            return self._rows.only_new()

    def _written(self, text: str) -> str:
        return self.redact(text)[:TEXT_CHARS]

    def _begin_in_child(self) -> None:
        self._reduce()  # for when the run began
        self._pid = os.getpid()
        if self._started is not None:
            run, root = self._started.run, self._started.root
            self._started = replace(self._started, run=f"{run}-{self._pid:x}", root=root or run)
        self._rows, self._findings, self._timer = Rows(self._written), [], None

    def _is_time(self) -> bool:
        """Whether a step that ended after its run is written now; else it is in a moment, together with those that follow.

        Each time everything is written anew: at most an eighth of the time goes into that. A process that ends before that
        moment writes at its end.
        """
        if time.monotonic() - self._flushed > _WRITE_SHARE * self._write_took_s:
            return True
        if self._timer is None:
            timer = threading.Timer(_LATE_EVERY_S, self._write_late)
            timer.daemon = True
            try:
                timer.start()
            except RuntimeError:  # no thread begins any more: the process ends, or the system has no more of them
                return True
            self._timer = timer
            atexit.register(self._write_late)
        return False

    def _write_late(self) -> None:
        with self._lock:
            atexit.unregister(self._write_late)
            if self._timer is None or self._pid != os.getpid():
                return  # it was written, or is the parent's to write
            self._timer = None
            self._reduce()
            self._write()

    def _write(self) -> None:
        started = self._started
        if started is None:
            return
        began = time.monotonic()
        try:
            publish(self.directory, file_name(started.run, started.at), self._parts(started))
        except OSError as error:
            _log.debug("the run log cannot be written: %s", error)
        self._flushed = time.monotonic()
        self._write_took_s = self._flushed - began

    def _parts(self, started: RunStarted) -> list[bytes]:
        """The file in pieces: a text of many megabytes, made by whatever thread, would leave its room in that thread's own heap."""
        record = {
            "run": started.run,
            "root": started.root or started.run,
            "at": started.at,
            "name": started.name,
            "notebook": started.place.notebook,
            "text": started.text,
            "findings": self._findings,
        }
        rows, some = self._rows.texts(), range(0, len(self._rows), _ROWS_A_PIECE)
        pieces = [b", ".join(row.encode("ascii") for row in rows[at : at + _ROWS_A_PIECE]) for at in some]
        between = [b", "] * max(0, len(pieces) - 1)
        body = [part for pair in zip_longest(pieces, between, fillvalue=b"") for part in pair]
        return [json.dumps(record)[:-1].encode("ascii"), b', "steps": [', *body, b"]}"]
