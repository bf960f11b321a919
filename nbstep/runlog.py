"""The run log: what recent runs asked and got. Statistics only; losing it loses nothing else.

One small JSON file a run in `v1/runs/` of a disk cache, the newest 200 kept, read as untrusted text.
"""

from __future__ import annotations

import atexit
import json
import logging
import math
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, cast

from nbstep.events import Event, Finding, RunFinished, RunStarted, StepAsked, StepFinished, StepHit, StepMissed
from nbstep.forks import ThreadLock

_log: Final = logging.getLogger("nbstep")

KEPT_RUNS: Final = 200
_FLUSH_EVERY_S: Final = 30.0
_LATE_EVERY_S: Final = 1.0
_WRITE_SHARE: Final = 8
_MAX_FILE_BYTES: Final = 16 << 20
_MAX_STEPS: Final = 100_000
_MAX_FINDINGS: Final = 100
_FINDING_CHARS: Final = 1000
_NAME: Final = re.compile(r"\d{16}-[0-9A-Za-z-]{1,64}\.json")
_TEMPORARY: Final = re.compile(rf"\.{_NAME.pattern}\.\d{{1,10}}")
# A pipe that somebody put there must not hold up the reader.
_OPEN_FLAGS: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class LoggedStep:
    """One step of a logged run: `got` is "hit", "ran" or "asked" (it never ended); times are seconds since the epoch.

    `drift` is what had changed since the value was kept that a hit used.
    """

    key: str
    got: str
    outcome: str
    at: float
    took_s: float
    saved_s: float
    reason: str | None = None
    drift: str | None = None


@dataclass(frozen=True, slots=True)
class LoggedFinding:
    """One line that a logged run had for people."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class LoggedRun:
    """One run of the log; `notebook` and `name` are labels, None where unknown; `root` is the outermost run around it."""

    run: str
    root: str
    at: float
    name: str | None
    notebook: str | None
    steps: tuple[LoggedStep, ...]
    findings: tuple[LoggedFinding, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """What the logged runs say of one key: `last_used` is seconds since the epoch, `last_reason` why it last missed.

    `drift` is what had changed when it was last used, at `drift_at`: it says nothing of an entry kept later.
    """

    hits: int = 0
    saved_s: float = 0.0
    last_used: float = 0.0
    last_reason: str | None = None
    drift: str | None = None
    drift_at: float = 0.0


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


@dataclass(slots=True)
class Recorder:
    """A listener that writes one run into the log: at its end, and every 30 s before.

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
    _lock: ThreadLock = field(default_factory=ThreadLock)

    def __call__(self, event: Event) -> None:
        """Takes one event."""
        with self._lock:
            match event:
                case RunStarted():
                    self._started = event
                case StepAsked(key=str(key)) if len(self._rows) < _MAX_STEPS:
                    self._rows[event.step] = _Row(key, event.at)
                case StepMissed():
                    if row := self._rows.get(event.step):
                        row.reason = event.reason
                case StepHit():
                    if row := self._rows.get(event.step):
                        row.got, row.outcome, row.saved_s, row.at = "hit", event.outcome, event.saved_s, event.at
                        row.drift = None if event.drift is None else self._written(event.drift)
                case StepFinished():
                    if row := self._rows.get(event.step):
                        row.got, row.outcome, row.took_s, row.at = "ran", event.outcome, event.took_s, event.at
                case RunFinished():
                    self._finished = True
                case Finding() if len(self._findings) < _MAX_FINDINGS:
                    self._findings.append((event.kind, self._written(event.text)))
                case _:
                    pass
            due = time.monotonic() - self._flushed > _FLUSH_EVERY_S
            late = isinstance(event, RunFinished) or (
                self._finished and isinstance(event, StepHit | StepFinished) and self._is_time()
            )
            if self._rows and (due or late):
                self._write()

    def _written(self, text: str) -> str:
        return self.redact(text)[:_FINDING_CHARS]

    def _is_time(self) -> bool:
        """Whether a step that ended after its run is written now; else it is in a moment, together with those that follow.

        Each time everything is written anew: at most an eighth of the time goes into that. A process that ends before that
        moment writes at its end.
        """
        if time.monotonic() - self._flushed > _WRITE_SHARE * self._write_took_s:
            return True
        if self._timer is None:
            self._timer = threading.Timer(_LATE_EVERY_S, self._write_late)
            self._timer.daemon = True
            self._timer.start()
            atexit.register(self._write_late)
        return False

    def _write_late(self) -> None:
        with self._lock:
            if self._timer is None:
                return
            self._timer = None
            self._write()
        atexit.unregister(self._write_late)

    def _write(self) -> None:
        started = self._started
        if started is None:
            return
        record = {
            "run": started.run,
            "root": started.root or started.run,
            "at": started.at,
            "name": started.name,
            "notebook": started.place.notebook,
            "steps": [
                [r.key, r.got, r.outcome, r.at, r.took_s, r.saved_s, r.reason, r.drift] for r in self._rows.values()
            ],
            "findings": self._findings,
        }
        began = time.monotonic()
        try:
            _publish(self.directory, f"{int(started.at * 1e6):016d}-{started.run}.json", json.dumps(record))
        except OSError as error:
            _log.debug("the run log cannot be written: %s", error)
        self._flushed = time.monotonic()
        self._write_took_s = self._flushed - began


def _publish(directory: Path, name: str, text: str) -> None:
    if not directory.parent.is_dir() or _leads_elsewhere(directory):
        return  # nothing was ever kept here, or it was taken away; or the log was led elsewhere
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    temporary = directory / f".{name}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(text)
        os.replace(temporary, directory / name)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    for old in _superfluous(directory):
        with suppress(OSError):
            old.unlink()


def _files(directory: Path) -> list[Path]:
    """The log's files, newest first."""
    try:
        names = [e.name for e in os.scandir(directory) if e.name.endswith(".json") and not e.name.startswith(".")]
    except OSError:
        return []
    return [directory / name for name in sorted(names, reverse=True)]


def collect(cache_directory: Path, now: float, *, dry_run: bool = False) -> tuple[int, int]:
    """Removes runs beyond the newest 200 and what a killed process left unfinished; returns how many files and their size."""
    directory = runs_directory(cache_directory)
    if _leads_elsewhere(directory):
        return 0, 0
    sizes: list[int] = []
    for path in [*_superfluous(directory), *_unfinished(directory, now)]:
        with suppress(OSError):
            size = os.lstat(path).st_size
            if not dry_run:
                path.unlink()
            sizes.append(size)
    return len(sizes), sum(sizes)


def _leads_elsewhere(directory: Path) -> bool:
    return directory.is_symlink() or directory.parent.is_symlink()


def _superfluous(directory: Path) -> list[Path]:
    """The runs beyond the newest ones; only names that a run gave."""
    return [path for path in _files(directory) if _NAME.fullmatch(path.name)][KEPT_RUNS:]


def _unfinished(directory: Path, now: float) -> list[Path]:
    """Temporary files that are an hour old: writing one takes milliseconds."""
    found: list[Path] = []
    with suppress(OSError):
        for path in directory.iterdir():
            if _TEMPORARY.fullmatch(path.name) and now - os.lstat(path).st_mtime > 3600:
                found.append(path)
    return found


def runs_directory(cache_directory: Path) -> Path:
    """Where a disk cache's run log stands."""
    return cache_directory / "v1" / "runs"


def read_runs(cache_directory: Path) -> Iterator[LoggedRun]:
    """The logged runs, newest first. What cannot be read is passed over."""
    for path in _files(runs_directory(cache_directory)):
        run = _read(path)
        if run is not None:
            yield run


def last_run(cache_directory: Path) -> LoggedRun | None:
    """The newest logged run that asked for a key, with the steps of the runs inside it; None where there is none."""
    runs = read_runs(cache_directory)
    newest = next(runs, None)
    if newest is None:
        return None
    together = [newest, *(run for run in runs if run.root == newest.root)]
    steps = tuple(step for run in reversed(together) for step in run.steps)
    return replace(together[-1], steps=steps)


def usage(cache_directory: Path) -> dict[str, Usage]:
    """What the logged runs say, by key."""
    found: dict[str, Usage] = {}
    for run in reversed(list(read_runs(cache_directory))):
        for step in run.steps:
            before = found.get(step.key, Usage())
            hit = step.got == "hit"
            found[step.key] = Usage(
                hits=before.hits + hit,
                saved_s=before.saved_s + (step.saved_s if hit else 0.0),
                last_used=max(before.last_used, step.at),
                last_reason=before.last_reason if hit else step.reason,
                drift=step.drift if step.got != "asked" else before.drift,
                drift_at=step.at if step.drift else before.drift_at,
            )
    return found


def _read(path: Path) -> LoggedRun | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | _OPEN_FLAGS)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_FILE_BYTES:
                return None
            record = json.loads(file.read())
        return _parsed(record)
    except (OSError, ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None


def _parsed(record: Mapping[str, Any]) -> LoggedRun:
    return LoggedRun(
        run=str(record["run"]),
        root=str(record.get("root") or record["run"]),
        at=_number(record["at"]),
        name=_text(record.get("name")),
        notebook=_text(record.get("notebook")),
        steps=tuple(
            LoggedStep(
                str(key),
                str(got),
                str(outcome),
                _number(at),
                _number(took_s),
                _number(saved_s),
                _text(reason),
                (_text(drift[0]) or "")[:_FINDING_CHARS] or None if drift else None,
            )
            for key, got, outcome, at, took_s, saved_s, reason, *drift in cast("list[list[Any]]", record["steps"])
        ),
        findings=tuple(
            LoggedFinding(str(kind), str(text)[:_FINDING_CHARS])
            for kind, text in cast("list[list[Any]]", record.get("findings", []))[:_MAX_FINDINGS]
        ),
    )


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("a time must be finite")
    return number


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
