"""The state of one run: its cache, its policy, what its steps raised, and who is told."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from nbstep.collisions.firstasks import FirstAsks
from nbstep.drift.explain import Change, mixed_inputs_text, old_values_texts
from nbstep.errors import CachedError, NbstepError, StepFailed, StepTimeout, WorkerError
from nbstep.events import Event, Finding, Listener, Place, RunFinished, RunStarted, emit, is_heard
from nbstep.foreign import leaves, members, within
from nbstep.forks import ThreadLock
from nbstep.keytable import KeyTable
from nbstep.notes import add_note, error_line, spelled
from nbstep.policy import Policy
from nbstep.runs.held import Held
from nbstep.settings import Mode
from nbstep.words import keys_text, shown

if TYPE_CHECKING:
    from nbstep.cache import Cache
    from nbstep.cache.records import Kept
    from nbstep.runlog import Recorder

_log: Final = logging.getLogger("nbstep")
# An endless run remembers this many of the exceptions that its steps raised: they hold their frames, and frames hold data.
_REMEMBERED: Final = 64
_NAMED: Final = 10  # keys of a finding that is told once
_FINDINGS_AT_MOST: Final = 10_000
_CACHES_AT_MOST: Final = 4  # of those that its steps used


_STEP_FAILURES: Final = (StepFailed, CachedError, StepTimeout, WorkerError)


@dataclass(eq=False, slots=True)
class Frame:
    """A step whose thunk runs now. Asking one's own key inside oneself is seen by walking `outer`.

    Attributes:
        ended: The thunk is done; a task that it started may still be inside this frame.
        raised_before: How many failures of steps the run had seen when the thunk began.
        maps: What stands for each map of which it is an item, or inside one.
        place: Where it was asked.
    """

    run: Run
    step: int
    key: str | None
    outer: Frame | None
    used: list[str] = field(default_factory=list[str])
    ended: bool = False
    raised_before: int = 0
    maps: tuple[object, ...] = ()
    place: Place | None = None

    def computes(self, scope: Hashable, key: str) -> bool:
        """Whether this step, or one around it, computes `key` of the cache of `scope`."""
        frame: Frame | None = self
        while frame is not None:
            if not frame.ended and frame.key == key and frame.run.scope() == scope:
                return True
            frame = frame.outer
        return False


# The step inside whose thunk we are; copied into tasks like any ContextVar.
enclosing: ContextVar[Frame | None] = ContextVar("nbstep_step", default=None)


@dataclass(frozen=True, slots=True)
class _Raised:
    """An exception that a step raised, and which failure of the run it was when a keyed step last did; 0 for never."""

    error: BaseException
    last_keyed: int


@dataclass(eq=False, slots=True)
class Run:
    """One execution of a workflow or of a cell.

    Attributes:
        name: A label, never part of a key's identity.
        cache: Where its steps are kept; None keeps nothing.
        mode: "normal", "refresh" or "offline".
        policy: What applies to a step that says nothing else.
        flags: Policy fields set by a magic: they win over those of a workflow inside this run.
        retry_errors: Kept errors from before this run run again.
        rerun_drifted: So does what was kept before it and changed since.
        place: Where it stands.
        listeners: Who is told what happens.
        shown: A step list shows its findings; else they go to logging.
        parent: The run it is inside of.
        clock: Gives seconds since the epoch.
        endless: It ends with the process; it forgets what its steps raised, sooner or later.
        in_project: Its cache is the project's.
        first_asks: Who asked each key first, here and in the runs around and inside it.
        text: The digest of its cell's text.
        line: The first line of its cell, without a comment: options can be added to it.
        held: What it uses of a cache with a limit.
        expected: Keys that it asks for, as far as that is known beforehand: what is missing offline is named at once.
    """

    name: str | None
    cache: Cache | None
    mode: Mode
    policy: Policy
    place: Place
    listeners: tuple[Listener, ...]
    flags: dict[str, Any] = field(default_factory=dict[str, Any])
    mode_flag: Mode | None = None
    retry_errors: bool = False
    rerun_drifted: bool = False
    shown: bool = False
    parent: Run | None = None
    clock: Callable[[], float] = time.time
    endless: bool = False
    in_project: bool = False
    text: str | None = None
    line: str = "%%workflow"
    expected: tuple[str, ...] = ()
    id: str = field(default_factory=lambda: f"{os.getpid():x}-{secrets.token_hex(4)}")
    started: float = 0.0
    closed: bool = False
    pending: dict[int, Any] = field(default_factory=dict[int, Any])
    error_asks: dict[str, int] = field(default_factory=dict[str, int])
    first_asks: FirstAsks = field(default_factory=FirstAsks)
    held: Held = field(default_factory=Held)
    _recorder: Recorder | None = None
    _told: tuple[Listener, ...] = ()  # the listeners and the run log
    _raised: dict[int, _Raised] = field(default_factory=dict[int, "_Raised"])
    raised_count: int = 0
    _raised_ids: deque[int] = field(default_factory=deque[int])
    _kept: dict[Hashable, KeyTable] = field(default_factory=dict[Hashable, KeyTable])
    _drifted: dict[tuple[str, str], tuple[Change, dict[str, None]]] = field(default_factory=dict[Any, Any])
    _mixed: set[tuple[Hashable, str]] = field(default_factory=set[tuple[Hashable, str]])
    _found: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    _whys: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    _written: dict[str, KeyTable] = field(default_factory=dict[str, KeyTable])  # the keys that a line names, by kind
    _alike: dict[str, tuple[dict[str, None], KeyTable]] = field(default_factory=dict[str, Any])  # the first by name
    _used: dict[Hashable, tuple[Cache, str | None]] = field(default_factory=dict[Hashable, Any])
    _failed_in: dict[str | None, None] = field(default_factory=dict["str | None", None])
    _met: dict[Hashable, dict[str, None]] = field(default_factory=dict[Hashable, dict[str, None]])
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _maps: itertools.count[int] = field(default_factory=itertools.count)
    _started_monotonic: float = field(default_factory=time.monotonic)
    _lock: ThreadLock = field(default_factory=ThreadLock)

    def open(self) -> Run:
        """Tells that the run begins; everything it does later is told to the run log too."""
        self.started = self.clock()
        self.first_asks = self.root().first_asks if self.parent is not None else FirstAsks(self.endless)
        if self.cache is not None and self.cache.directory is not None:
            runlog = importlib.import_module("nbstep.runlog")  # with the first run, not with `import nbstep`
            recorder = runlog.Recorder(runlog.runs_directory(self.cache.directory), _redaction().redact_text)
            self._recorder, self._told = recorder, (*self.listeners, recorder)
        cache_place = None if self.cache is None else self.cache.place
        root = self.root().id
        folder = self.command_folder()
        self.tell(
            RunStarted(self.id, self.started, self.name, self.place, self.mode, cache_place, root, self.text, folder)
        )
        return self

    def root(self) -> Run:
        """The outermost run around it."""
        run = self
        while run.parent is not None:
            run = run.parent
        return run

    def tell(self, *events: Event) -> None:
        """Tells the run's listeners of one event after the other."""
        emit(*events, listeners=self._told or self.listeners)

    def is_heard(self) -> bool:
        """Whether anybody listens."""
        return is_heard(self._told or self.listeners)

    @contextmanager
    def listening(self, listener: Listener) -> Generator[None]:
        """Has one more listener told of what happens in this run, until its end; not of runs inside it."""
        with self._lock:
            self._told = (*(self._told or self.listeners), listener)
        try:
            yield
        finally:
            with self._lock:
                self._told = tuple(one for one in self._told if one is not listener)

    def scope(self) -> Hashable:
        """What single flight counts as the same cache."""
        return None if self.cache is None else self.cache.scope

    def command_folder(self) -> str | None:
        """Where `nbstep` verbs find its cache: "" if it is the project's, None if they cannot."""
        if self.in_project or self.cache is None or self.cache.is_the_projects:
            return ""
        return self.cache.shell_place

    def count_kept_error(self, key: str) -> int:
        """How often this run met the kept error of `key`, this time included."""
        asks = self.error_asks[key] = self.error_asks.get(key, 0) + 1
        run: Run | None = self
        while run is not None:
            run._failed_in[self.command_folder()] = None
            run._met.setdefault(self.scope(), {})[key] = None
            run = run.parent
        return asks

    def note_kept(self, key: str, kept: Kept) -> None:
        """Remembers that this run kept an entry, where it matters: refreshed and retried once is enough."""
        self.note_used(key, kept.meta.size_bytes, kept.evicted)
        if self.mode == "refresh" or self.retry_errors or self.rerun_drifted:
            top = self.root()
            with top._lock:
                top._kept.setdefault(self.scope(), KeyTable()).add(key)

    def note_used(self, key: str, size_bytes: int, evicted: tuple[str, ...] = ()) -> None:
        """Remembers what it uses of a cache with a limit."""
        if self.cache is not None and self.cache.options.max_bytes is not None and not self.endless:
            self.held.add(key, size_bytes, evicted)

    def has_kept(self, key: str | None) -> bool:
        """Whether this run, or one around or inside it, kept the entry of `key`."""
        top = self.root()
        if not top._kept or key is None:
            return False
        with top._lock:
            kept = top._kept.get(self.scope())
            return kept is not None and key in kept

    def next_step(self) -> int:
        """The number of the next step, from 0."""
        number = next(self._numbers)
        if not number:
            self._note_cache()
        return number

    def next_map(self) -> int:
        """The number of the next `step.map`, from 0."""
        return next(self._maps)

    def _note_cache(self) -> None:
        """Remembers whose cache is used, in the runs around it too: a workflow in a cell may have another one than the cell."""
        run: Run | None = self
        while run is not None and self.cache is not None:
            if not run.endless and len(run._used) < _CACHES_AT_MOST:
                run._used.setdefault(self.scope(), (self.cache, self.command_folder()))
            run = run.parent

    def caches(self) -> tuple[Cache, ...]:
        """The caches that its steps use, with those of the runs inside it, a few at most; its own where none was asked yet."""
        return tuple(cache for cache, _ in self._used.values()) or (() if self.cache is None else (self.cache,))

    def folders(self) -> tuple[str | None, ...]:
        """Where commands find those of them that its steps use, as `command_folder` says it."""
        return tuple(folder for _, folder in self._used.values())

    def failed_in(self) -> tuple[str | None, ...]:
        """The same of the caches whose kept errors it met."""
        return tuple(self._failed_in)

    def met_errors(self) -> dict[Hashable, frozenset[str]]:
        """The keys of the kept errors that it met, by the `scope` of their cache."""
        return {scope: frozenset(keys) for scope, keys in self._met.items()}

    def find(self, kind: str, key: str | None, text: str, *, once: bool | str = False, why: str = "") -> None:
        """Tells a finding, once for each kind and text; with `once` only the first of its kind, the others when the run ends.

        Of one kind and a text of `once`, too, only the first is told. Where no list shows them only the first one for each `why` is
        written, and when the run ends how many there were.
        """
        text = self.spelled(text)
        if key is not None:
            text = text.replace(key, _redaction().key_text(key))
        text = shown(_redaction().redact_text(text))  # it is logged, and saved with the notebook
        told = (kind, once if isinstance(once, str) and once else "" if once else text)
        with self._lock:
            if (once is True or why) and key is not None and not self.endless:
                alike = self._alike.setdefault(kind, ({}, KeyTable()))
                if alike[1].add(key) is None and len(alike[0]) < _NAMED:
                    alike[0][key] = None
            if told in self._found or len(self._found) >= _FINDINGS_AT_MOST:
                return
            self._found.add(told)
            is_new = (kind, why) not in self._whys
            if why and not self.endless:
                self._whys.add((kind, why))
                if is_new and key is not None:
                    self._written.setdefault(kind, KeyTable()).add(key)
        if is_new and not self.is_shown():
            _log.warning("%s", text)
        self.tell(Finding(self.id, key, kind, text))

    def redacted(self, text: str) -> str:
        """A text without secrets, by the built-in rules and those of its cache: for what is shown, and so saved with a notebook."""
        text = _redaction().redact_text(text)
        redact = None if self.cache is None else self.cache.options.redact
        try:
            return text if redact is None else str(redact(text))
        except Exception:  # noqa: BLE001 - the user's `redact=` failed: then nothing of the text is shown
            return _redaction().REDACTED

    def spelled(self, text: str) -> str:
        """A text with its commands as they are written where the run is."""
        return spelled(text, in_notebook=self.place.cell is not None, folder=self.command_folder())

    def find_unreachable(self, line: str) -> None:
        """Tells once that the cache does not answer, whichever step asks."""
        self.find("unreachable", None, line, once=True)

    def note_drift(self, key: str, change: Change) -> None:
        """Remembers that an old value was used; told when the run ends, all of one cause in one line (D3)."""
        top = self.root()
        with top._lock:
            keys = top._drifted.setdefault((change.cause, change.what), (change, {}))[1]
            at_once = top.endless or top.closed
            told = bool(keys)
            if not (told and at_once):
                keys[key] = None
        if at_once and not told:
            self._tell_drift([(change, [key])])

    def note_mixed(self, key: str, changes: tuple[Change, ...], *, shared: bool) -> None:
        """Tells, once a key, that it was kept moments ago with other inputs than it is asked with now (D3)."""
        text = mixed_inputs_text(key, changes, shared)
        if text is None:
            return
        top = self.root()
        with top._lock:
            told = (self.scope(), key) in top._mixed
            top._mixed.add((self.scope(), key))
        if not told:
            self.find("mixed-inputs", key, text)

    def _tell_drift(self, causes: list[tuple[Change, list[str]]]) -> None:
        in_notebook, folder = self.place.cell is not None, self.command_folder()
        for text in old_values_texts(causes, in_notebook, folder, self.root().line):
            self.find("drift", causes[0][1][0], text)

    def is_shown(self) -> bool:
        """Whether a step list shows its findings."""
        return self.shown or (self.parent is not None and self.parent.is_shown())

    def note_raised(self, error: BaseException, *, keyed: bool) -> None:
        """Remembers that a step of this run raised this very exception (W3).

        What nbstep itself objects to (a recursive step, a miss when offline) is a bug of the program, not a step's failure.
        """
        if isinstance(error, NbstepError) and not isinstance(error, _STEP_FAILURES):
            return
        run: Run | None = self
        while run is not None:
            before = run._raised.get(id(error))
            run.raised_count += 1
            last_keyed = run.raised_count if keyed else before.last_keyed if before is not None else 0
            run._raised[id(error)] = _Raised(error, last_keyed)
            if (run.endless or run.closed) and before is None:
                run._raised_ids.append(id(error))
                if len(run._raised_ids) > _REMEMBERED:
                    run._raised.pop(run._raised_ids.popleft(), None)
            run = run.parent

    def owns(self, error: BaseException) -> bool:
        """Whether a step of this run, or of a run inside it, raised this very exception, or it is a group of only such (W3)."""
        return all(
            id(leaf) in self._raised
            for leaf in leaves(error, lambda one: () if id(one) in self._raised else members(one))
        )

    def came_from_keyed_step(self, error: BaseException, since: int) -> bool:
        """Whether a keyed step raised it since the run had seen so many failures: that key owns it, no step around it (E2)."""
        known = (self._raised.get(id(one)) for one in within(error))
        return any(raised is not None and raised.last_keyed > since for raised in known)

    def close(self, error: BaseException | None = None) -> None:
        """Ends the run: names the steps that were never awaited, tells how it ended, writes the run log. Twice is once."""
        if self.closed:
            return
        self.closed = True
        for step in self._never_awaited():
            line = f" (line {step.place.line})" if step.place.line else ""
            self.find("never-awaited", step.key, f"{step.what()}{line} was never awaited: {step.advice()}")
            step.close()  # now: when garbage is collected, Python may complain of its coroutine first
        if self._drifted:
            self._tell_drift([(change, list(keys)) for change, keys in self._drifted.values()])
        limit = None if self.cache is None else self.cache.options.max_bytes
        if limit is not None and (finding := self.held.finding(limit)):
            self.find("evicted", next(iter(self.held.evicted)), finding)
        for kind, (keys, all_keys) in self._alike.items():
            if len(all_keys) <= (len(self._written[kind]) if kind in self._written else 1):
                continue
            named = keys_text([_redaction().key_text(key) for key in keys], len(all_keys))
            text = f"In all, {len(all_keys):,} results were not kept: {named}"
            if kind not in self._written:
                self.find(kind, next(iter(keys)), text)
            elif not self.is_shown():  # a list has a line for each
                _log.warning("%s", text)
        self._call_out_sites()
        text = None if error is None else error_line(error, self.redacted)
        took_s = time.monotonic() - self._started_monotonic
        self.tell(RunFinished(self.id, self.clock(), "ok" if error is None else "error", took_s, text))
        self._raised.clear()  # exceptions hold their frames, frames hold frames of data

    def _call_out_sites(self) -> None:
        """Names the calls whose keys were new in each of their last runs (K7)."""
        sites = self._recorder.only_new() if self._recorder is not None else {}
        if sites and self.cache is not None and self.cache.directory is not None:
            history, runlog = map(importlib.import_module, ("nbstep.keyfindings.history", "nbstep.runlog"))
            for text in history.never_found_again(sites, runlog.read_runs(self.cache.directory, but=self.id)):
                self.find("key", None, text)

    def _never_awaited(self) -> list[Any]:
        if not self.pending:
            return []
        held = _held_by_tasks({step.loop for step in list(self.pending.values())})
        return [step for step in list(self.pending.values()) if id(step) not in held]


def _redaction() -> Any:
    return importlib.import_module("nbstep.cache.secrets.redaction")  # when first needed, not with `import nbstep`


def _held_by_tasks(loops: Iterable[asyncio.AbstractEventLoop | None]) -> set[int]:
    """What the tasks under way run or hold in local variables, as in `create_task(wait_for(step(…), 5))`: it may be awaited yet.

    In a terminal the loop stands still between cells, and its tasks go on with the next one that awaits.
    """
    waiting: list[Any] = [task.get_coro() for loop in loops if loop is not None for task in asyncio.all_tasks(loop)]
    held = set[int]()
    while waiting and len(held) < 10_000:
        one = waiting.pop()
        if id(one) in held:
            continue
        held.add(id(one))
        frame = getattr(one, "cr_frame", None)
        for value in list(frame.f_locals.values()) if frame is not None else ():
            waiting += value if isinstance(value, list | tuple | set) else [value]
    return held


# As Python 3.11 to 3.13 and 3.14 say it.
_AWAIT_COMPLAINTS: Final = ("can't be used in 'await' expression", "can't be awaited")


def explain_await(error: BaseException) -> None:
    """Adds the fix to Python's own complaint about `await step(…)` of a plain step."""
    complaint = isinstance(error, TypeError) and str(error).endswith(_AWAIT_COMPLAINTS)
    if complaint:
        add_note(
            error,
            "  If this is `await step(…)`: its thunk is not async, so step gave a plain value. Leave out `await`.",
        )
