"""What the calls of a `joblib.Memory` did, told to the run log, so that lists know hits, time saved and why a call ran."""

from __future__ import annotations

import itertools
import os
import secrets
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from nbstep.cache.records import Meta, Miss
from nbstep.cache.secrets.redaction import redact_text
from nbstep.events import Event, Place, RunFinished, RunStarted, StepAsked, StepFinished, StepHit, StepMissed
from nbstep.forks import ThreadLock
from nbstep.integrations.callfacts import WORKFLOW
from nbstep.runlog import Recorder, runs_directory
from nbstep.runs.hooks import ambient_run, notebook_name

_CALLS_A_RUN = 5000  # a run is written anew each time something is added to it


def place_of_caller() -> Place:
    """The notebook or script that calls now, as far as it is known."""
    run = ambient_run()
    if run is not None:
        return run.place
    named = notebook_name(vars(sys.modules.get("__main__")), os.environ) if "__main__" in sys.modules else None
    return Place(notebook=named or PurePath(sys.argv[0] if sys.argv else "").name or "python")


@dataclass(slots=True)
class UseLog:
    """Runs in the log of one cache; what it is told stands there within a second or so, as no end of a run is waited for.

    Attributes:
        directory: Of a disk cache, None for any other: it has no run log.
        cache_place: The cache as shown.
    """

    directory: Path | None
    cache_place: str
    used: dict[str, float] = field(default_factory=dict[str, float])
    _recorder: Recorder | None = None
    _run: str = ""
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _lock: ThreadLock = field(default_factory=ThreadLock)

    def hit(self, meta: Meta, saved_s: float) -> None:
        """A kept result was used."""
        now = self.used[meta.key] = time.time()
        run, number = self._asked(meta.key, now)
        self._tell(StepHit(run, number, meta.key, "ok", now, meta.created, saved_s, meta.size_bytes))

    def ran(self, key: str, missed: Miss | None, took_s: float, size_bytes: int | None, not_kept: str = "") -> None:
        """A call ran, and its result was kept, or not."""
        now = time.time()
        run, number = self._asked(key, now)
        if missed is not None:
            self._tell(StepMissed(run, number, key, missed.reason, missed.detail))
        self._tell(StepFinished(run, number, key, "ok", now, took_s, size_bytes, not_kept=not_kept))

    def _asked(self, key: str, now: float) -> tuple[str, int]:
        with self._lock:
            number = next(self._numbers)
            if self._recorder is None or number >= _CALLS_A_RUN:
                self._begin(now)
                number = next(self._numbers)
            run = self._run
        place = place_of_caller() if self.directory is not None else Place()
        self._tell(StepAsked(run, number, key, place, now))
        return run, number

    def _begin(self, now: float) -> None:
        if self.directory is not None:
            self._recorder = Recorder(runs_directory(self.directory), redact_text)
        self._run, self._numbers = f"{os.getpid():x}-{secrets.token_hex(4)}", itertools.count()
        self._tell(RunStarted(self._run, now, WORKFLOW, place_of_caller(), "normal", self.cache_place))
        self._tell(RunFinished(self._run, now, "ok", 0.0))  # so that what follows is written as it happens

    def _tell(self, event: Event) -> None:
        if self._recorder is not None:
            self._recorder(event)
