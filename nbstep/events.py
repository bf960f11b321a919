"""What happens in a run, told as frozen facts to whoever listens.

The engine reports, the edge displays: steps and caches emit events, the step list, the panel and logging listen.
A listener that fails is logged and never breaks a step. Events come from any thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from nbstep.frozen import record

_log: Final = logging.getLogger("nbstep")

Outcome: TypeAlias = Literal["ok", "error"]
Source: TypeAlias = Literal["thunk", "cache", "shared"]
Reason: TypeAlias = Literal[
    "new", "deleted", "expired", "evicted", "refreshed", "drifted", "error-retried",
    "unreadable", "untrusted", "incompatible", "not-stored", "no-key",
]  # fmt: skip


@record
class Place:
    """Where a step or a run stands in the user's text: labels only, never part of an identity.

    `notebook` is a file name ("churn.ipynb", "etl.py") or None; `cell` is IPython's "In [n]" number; `line` counts from 1.
    """

    notebook: str | None = None
    cell: int | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run begins.

    `at` is seconds since the epoch; `cache` is its place as shown ("~/proj/.nbstep") or None; `root` is the outermost run
    around it, itself where there is none; `text` is the digest of its cell's text, where it runs in one. `folder` is where
    commands find the cache: "" if it is the project's, None if they cannot.
    """

    run: str
    at: float
    name: str | None
    place: Place
    mode: str
    cache: str | None
    root: str | None = None
    text: str | None = None
    folder: str | None = ""


@dataclass(frozen=True, slots=True)
class RunFinished:
    """A run ended after `took_s` seconds; `error` is a one-line text where it failed."""

    run: str
    at: float
    outcome: Outcome
    took_s: float
    error: str | None = None


@record
class StepAsked:
    """A step was called. First event of every step: before the cache is read, before the thunk runs.

    `step` numbers the calls of one run from 0. `key` is None for a step without one. `parent` is the enclosing step. `site` tells
    the text of the call from others, in every process; None where there is none. `map` numbers the `step.map` of
    this run that it is an item of; None where it is none.
    """

    run: str
    step: int
    key: str | None
    place: Place
    at: float
    parent: int | None = None
    site: str | None = None
    map: int | None = None


@dataclass(frozen=True, slots=True)
class StepsAhead:
    """`step.map` begins, and will ask so many keys, each counted once.

    `names` are the keys, where they are few enough to be told. `digest` is the same of all maps that ask the same ones.
    """

    run: str
    map: int
    keys: int
    names: tuple[str, ...] = ()
    digest: int = 0


@dataclass(frozen=True, slots=True)
class MapEnded:
    """A `step.map` asks no more. `is_cut` says that it was stopped, and nobody knows how many of its items are left."""

    run: str
    map: int
    is_cut: bool = False


@record
class StepHit:
    """A kept entry was used; the last event of its step.

    `saved_s` is the time the thunk took when it ran, `created` when that was. `drift` says what changed since ("tidy() was
    edited"), None if nothing. `error` is "Type: message" of a kept error. `source` is "shared" where this call waited for
    another task, thread or kernel to compute it. `seen` is today's fingerprints of a step that drifted, as signed text. `stale`
    says that it stands in for a refetch that failed, which `drift` tells: the next run tries again. Of a
    kept error `ends_at` is when it no longer counts, so that its step runs again by itself; None for never.
    """

    run: str
    step: int
    key: str
    outcome: Outcome
    at: float
    created: float
    saved_s: float
    size_bytes: int
    error: str | None = None
    drift: str | None = None
    source: Source = "cache"
    seen: str | None = None
    stale: bool = False
    ends_at: float | None = None


@record
class StepMissed:
    """No entry was used, and why; `detail` is one line for people ("signed by key a1b2c3d4 …")."""

    run: str
    step: int
    key: str | None
    reason: Reason
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class StepWaiting:
    """The step waits for somebody else who computes the same key ("churn.ipynb (pid 812)")."""

    run: str
    step: int
    key: str
    holder: str
    since: float


@record
class StepStarted:
    """The thunk runs now. `expected_s` is how long it took last time, where known.

    `elsewhere` says that it was handed to workers of other processes: one of them runs it, or will when it is free.
    """

    run: str
    step: int
    key: str | None
    at: float
    expected_s: float | None = None
    elsewhere: bool = False


@record
class StepFinished:
    """The thunk ended after `took_s` seconds; the last event of its step.

    `size_bytes` is what was kept, None where nothing was; `error` is "Type: message". `interrupted` says that it is no failure:
    the user stopped the step, or its task was cancelled. `refused` says that nbstep did not let it run: it says nothing of
    what is kept under its key. `not_kept` is why keeping it failed, "" where it did not. `ends_at` is as that of `StepHit`.
    `tried` are the errors of the attempts that failed before the last one, with `retries=`, in one line each.
    """

    run: str
    step: int
    key: str | None
    outcome: Outcome
    at: float
    took_s: float
    size_bytes: int | None = None
    error: str | None = None
    interrupted: bool = False
    refused: bool = False
    not_kept: str = ""
    ends_at: float | None = None
    tried: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One line for people: what, where, what to do. `kind` groups alike ones ("not-stored", "untrusted", "never-awaited")."""

    run: str | None
    key: str | None
    kind: str
    text: str


@record
class CacheChanged:
    """Entries of a cache were kept, deleted or restored, by this process. `cache` is the cache's place."""

    cache: str
    change: Literal["kept", "deleted", "restored"]
    keys: tuple[str, ...]


Event: TypeAlias = (
    RunStarted | RunFinished | StepsAhead | MapEnded | StepAsked | StepHit | StepMissed | StepWaiting | StepStarted | StepFinished
    | Finding | CacheChanged
)  # fmt: skip
Listener: TypeAlias = Callable[[Event], None]

_process_listeners: list[Listener] = []


def listen(listener: Listener) -> Callable[[], None]:
    """Tells `listener` every event of this process (the panel does this); returns the function that stops it."""
    _process_listeners.append(listener)

    def stop() -> None:
        if listener in _process_listeners:
            _process_listeners.remove(listener)

    return stop


def is_heard(listeners: Sequence[Listener] = ()) -> bool:
    """Whether anybody listens, so that an event need be made."""
    return bool(listeners or _process_listeners)


def emit(*events: Event, listeners: Sequence[Listener] = ()) -> None:
    """Tells `listeners`, then those of the process, of one event after the other.

    A finding without a run goes to logging as well.
    """
    for event in events:
        if type(event) is Finding and event.run is None:
            _log.warning("%s", event.text)
        for listener in (*listeners, *_process_listeners) if _process_listeners else listeners:
            try:
                listener(event)
            except Exception:  # noqa: BLE001 - a listener must never break a step
                _log.exception("a listener failed on %s", type(event).__name__)
