"""Writes a run into the log while it goes on, and as its last steps end."""

from __future__ import annotations

import atexit
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from nbstep.events import Event, Finding, Place, RunFinished, RunStarted, StepAsked, StepFinished, StepHit, StepMissed
from nbstep.forks import ThreadLock
from nbstep.runlog.folder import MAX_FILE_BYTES, file_name, publish
from nbstep.runlog.reading import MAX_FINDINGS, TEXT_CHARS

_log: Final = logging.getLogger("nbstep")

_FLUSH_EVERY_S: Final = 30.0
_LATE_EVERY_S: Final = 1.0
_WRITE_SHARE: Final = 8
_MAX_STEPS: Final = 100_000


@dataclass(slots=True)
class _Row:
    key: str
    at: float
    got: str = "asked"
    outcome: str = ""
    took_s: float = 0.0
    saved_s: float = 0.0
    reason: str | None = None
    drift: str | None = None
    site: str | None = None
    kept: bool = True
    place: Place = field(default_factory=Place)

    def is_new(self) -> bool:
        return self.got == "ran" and self.reason == "new"


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
    _started: RunStarted | None = None
    _finished: bool = False
    _write_took_s: float = 0.0
    _timer: threading.Timer | None = None
    _rows: dict[int, _Row] = field(default_factory=dict[int, _Row])
    _findings: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    _flushed: float = field(default_factory=time.monotonic)
    _pid: int = field(default_factory=os.getpid)
    _lock: ThreadLock = field(default_factory=ThreadLock)

    def __call__(self, event: Event) -> None:
        """Takes one event."""
        with self._lock:
            if self._pid != os.getpid():
                self._begin_in_child()
            match event:
                case StepHit():
                    if row := self._rows.get(event.step):
                        row.got, row.outcome, row.saved_s, row.at = "hit", event.outcome, event.saved_s, event.at
                        row.drift = None if event.drift is None else self._written(event.drift)
                case StepAsked():
                    if event.key is not None and len(self._rows) < _MAX_STEPS:
                        self._rows[event.step] = _Row(event.key, event.at, site=event.site, place=event.place)
                case StepMissed():
                    if row := self._rows.get(event.step):
                        row.reason = event.reason
                case StepFinished():
                    if row := self._rows.get(event.step):
                        row.got, row.outcome, row.took_s, row.at = "ran", event.outcome, event.took_s, event.at
                        row.kept = event.outcome != "ok" or event.size_bytes is not None
                case RunStarted():
                    self._started = event
                case RunFinished():
                    self._finished = True
                case Finding() if len(self._findings) < MAX_FINDINGS:
                    self._findings.append((event.kind, self._written(event.text)))
                case _:
                    pass
            due = time.monotonic() - self._flushed > _FLUSH_EVERY_S
            late = isinstance(event, RunFinished) or (
                self._finished and isinstance(event, StepHit | StepFinished) and self._is_time()
            )
            if self._rows and (due or late):
                self._write()

    def only_new(self) -> dict[str, tuple[Place, list[str]]]:
        """The call sites of which every step ran because its key was new, each with its place and keys."""
        with self._lock:
            rows = [row for row in self._rows.values() if row.site is not None]
        found_again = {row.site for row in rows if not row.is_new()}
        sites: dict[str, tuple[Place, list[str]]] = {}
        for row in rows:
            if row.site is not None and row.site not in found_again:
                sites.setdefault(row.site, (row.place, []))[1].append(row.key)
        return sites

    def _written(self, text: str) -> str:
        return self.redact(text)[:TEXT_CHARS]

    def _begin_in_child(self) -> None:
        self._pid = os.getpid()
        if self._started is not None:
            run, root = self._started.run, self._started.root
            self._started = replace(self._started, run=f"{run}-{self._pid:x}", root=root or run)
        self._rows, self._findings, self._timer = {}, [], None

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
            self._write()

    def _write(self) -> None:
        started = self._started
        if started is None:
            return
        began = time.monotonic()
        try:
            publish(self.directory, file_name(started.run, started.at), self._text(started))
        except OSError as error:
            _log.debug("the run log cannot be written: %s", error)
        self._flushed = time.monotonic()
        self._write_took_s = self._flushed - began

    def _text(self, started: RunStarted) -> str:
        """The run as text that is read again: where it would be too long, without its first steps."""
        rows = list(self._rows.values())
        while True:
            record = {
                "run": started.run,
                "root": started.root or started.run,
                "at": started.at,
                "name": started.name,
                "notebook": started.place.notebook,
                "text": started.text,
                "steps": [
                    [r.key, r.got, r.outcome, r.at, r.took_s, r.saved_s, r.reason, r.drift, r.site, r.kept]
                    for r in rows
                ],
                "findings": self._findings,
            }
            text = json.dumps(record)
            if len(text) <= MAX_FILE_BYTES or not rows:
                return text
            rows = rows[len(rows) // 2 + 1 :]
