"""The step list's state: a pure fold over the events of one run.

    state = StepList()
    state = reduce(state, event)          # or reduce_all(state, events), which copies once

`steprows` says in words what the state holds, `steprender` shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from nbstep.events import (
    CacheChanged,
    Event,
    Finding,
    MapEnded,
    Outcome,
    Place,
    Reason,
    RunFinished,
    RunStarted,
    Source,
    StepAsked,
    StepFinished,
    StepHit,
    StepMissed,
    StepsAhead,
    StepStarted,
    StepWaiting,
)
from nbstep.frozen import record
from nbstep.keytable import KeyTable
from nbstep.notebook.ahead import Ahead, Counting

if TYPE_CHECKING:
    from nbstep.notebook.steprows import Row

Phase: TypeAlias = Literal["asked", "waiting", "running", "done", "planned"]

CallId: TypeAlias = tuple[str, int]
_StepEvent: TypeAlias = StepMissed | StepWaiting | StepStarted | StepHit | StepFinished


@record
class Call:
    """One call of a step, as far as it got.

    Attributes:
        began_at: When the thunk, or the waiting, began; seconds since the epoch. Of a thunk that a worker of another process
            calls that is known only once it has ended; before, it is when the worker was asked.
        took_s: How long the thunk ran, where it ran in this run.
        saved_s: How long it took when it was kept, where the entry was used.
        created: When the entry that was used was kept.
        late: The call ended after its cell had.
        interrupted: The user stopped it, or its task was cancelled.
        refused: nbstep did not let it run.
        not_kept: Why keeping its result failed; "" where it did not.
        holder: Who computes the key, or did, where the call waited for that and did not run its thunk.
        phase: How far it got; "planned" is one that was never called.
        expected_s: How long it took last time, where known.
        elsewhere: Workers of other processes were handed the thunk.
        mapped: It is an item of a `step.map`.
        stale: The entry stands in for a refetch that failed.
        ends_at: When a kept error no longer counts; None for never.
        tried: What the attempts before the last one raised.
    """

    run: str
    key: str | None
    place: Place
    asked_at: float
    parent: int | None = None
    phase: Phase = "asked"
    outcome: Outcome | None = None
    source: Source | None = None
    began_at: float | None = None
    took_s: float | None = None
    saved_s: float | None = None
    created: float | None = None
    size_bytes: int | None = None
    error: str | None = None
    drift: str | None = None
    reason: Reason | None = None
    detail: str | None = None
    holder: str | None = None
    expected_s: float | None = None
    elsewhere: bool = False
    late: bool = False
    interrupted: bool = False
    refused: bool = False
    not_kept: str = ""
    mapped: bool = False
    stale: bool = False
    ends_at: float | None = None
    tried: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StepList:
    """What is known of one run, `runs` being itself and the workflows that ran inside it.

    `flags` are the options to name in the summary, such as "ttl 1 h". `raised` says that an exception ended its cell; `folder`
    is where commands find its cache, "" if it is the project's, None if they cannot; `elsewhere` says the same of those of
    `runs` that have another cache. `line` is the first one of the cell. `partial` says of a plan that a run may ask more keys
    than are listed. `ahead` is what `step.map` said it will ask, and did not yet.
    `settled` are rows that stand for many calls each, which are no longer among `calls`, and `met` the keys of those, shared
    by the states that follow.
    """

    run: str | None = None
    runs: frozenset[str] = frozenset()
    name: str | None = None
    started_at: float = 0.0
    mode: str = "normal"
    cache: str | None = None
    calls: Mapping[CallId, Call] = field(default_factory=dict[CallId, Call])
    findings: tuple[Finding, ...] = ()
    ended: RunFinished | None = None
    flags: tuple[str, ...] = ()
    raised: bool = True
    folder: str | None = ""
    elsewhere: Mapping[str, str | None] = field(default_factory=dict[str, "str | None"])
    line: str = "%%workflow"
    partial: bool = False
    ahead: Ahead = field(default_factory=Ahead)
    settled: tuple[Row, ...] = ()
    met: KeyTable | None = None

    def folder_of(self, call: Call) -> str | None:
        """Where commands find the cache of a call's run, as `folder`."""
        return self.elsewhere.get(call.run, self.folder)

    @property
    def not_started(self) -> int:
        """How many steps of `step.map` were not asked yet, or were and neither looked up nor begun."""
        return self.ahead.count + len(
            {call.key for call in self.calls.values() if call.mapped and call.phase == "asked"}
        )

    def is_settled(self, call: Call) -> bool:
        """Whether a call says nothing new of a key that a settled row stands for."""
        over = call.phase == "done" and call.outcome == "ok"
        return over and self.met is not None and call.key is not None and call.key in self.met

    @property
    def unfinished(self) -> bool:
        """A thunk of this run still runs, or a step still waits."""
        return any(call.phase in ("running", "waiting") for call in self.calls.values())


def reduce(state: StepList, event: Event) -> StepList:
    """The state after one event. The first run that starts is the list's; runs that start later ran inside it."""
    return reduce_all(state, (event,))


def reduce_all(state: StepList, events: Iterable[Event]) -> StepList:
    """The state after several events. What several of them say of one call makes one new record of it: there may be a million."""
    calls: dict[CallId, Call] = dict(state.calls)
    news: dict[CallId, dict[str, Any]] = {}
    findings: list[Finding] = []
    counting = Counting(state.ahead)
    for event in events:
        if isinstance(event, RunStarted):
            state = _with_run(state, event)
        elif isinstance(event, CacheChanged) or event.run not in state.runs:
            continue
        elif isinstance(event, StepsAhead):
            counting.begin(event, _not_asked(event.names, calls, news, state.met))
        elif isinstance(event, MapEnded):
            counting.end(event)
        elif isinstance(event, StepAsked):
            news[event.run, event.step] = {
                "run": event.run, "key": event.key, "place": event.place, "asked_at": event.at, "parent": event.parent,
                "mapped": event.map is not None,
            }  # fmt: skip
            counting.ask(event)
        elif isinstance(event, RunFinished):
            state = replace(state, ended=event) if event.run == state.run else state
        elif isinstance(event, Finding):
            findings.append(event)
        elif (identity := (event.run, event.step)) in news or identity in calls:
            new = news.setdefault(identity, {})
            elsewhere = new["elsewhere"] if "elsewhere" in new else identity in calls and calls[identity].elsewhere
            new.update(_said_by(event, elsewhere, late=state.ended is not None))
    for identity, new in news.items():
        calls[identity] = Call(**new) if "run" in new else replace(calls[identity], **new)
    return replace(state, calls=calls, findings=(*state.findings, *findings), ahead=counting.now())


def _not_asked(
    names: Iterable[str], calls: Mapping[CallId, Call], news: Mapping[CallId, dict[str, Any]], met: KeyTable | None
) -> list[str]:
    """The keys that no call asked yet."""
    asked = {call.key for call in calls.values()}
    asked.update(new["key"] for new in news.values() if "key" in new)
    return [name for name in names if name not in asked and (met is None or name not in met)]


def _with_run(state: StepList, event: RunStarted) -> StepList:
    runs = state.runs | {event.run}
    if state.run is not None:
        same = (event.cache, event.folder) == (state.cache, state.folder)
        elsewhere = state.elsewhere if same else {**state.elsewhere, event.run: event.folder}
        return replace(state, runs=runs, elsewhere=elsewhere)
    return replace(
        state,
        run=event.run,
        runs=runs,
        name=event.name,
        started_at=event.at,
        mode=event.mode,
        cache=event.cache,
        folder=event.folder,
    )


def _said_by(event: _StepEvent, elsewhere: bool, late: bool) -> dict[str, Any]:
    """What an event says of its call, which workers of other processes were handed or not; the cell had ended or not."""
    match event:
        case StepMissed():
            return {"reason": event.reason, "detail": event.detail}
        case StepWaiting():
            return {"phase": "waiting", "holder": event.holder, "began_at": event.since}
        case StepStarted():
            return {
                "phase": "running", "holder": None, "began_at": event.at, "expected_s": event.expected_s,
                "elsewhere": event.elsewhere,
            }  # fmt: skip
        case StepHit():
            return {
                "phase": "done", "outcome": event.outcome, "source": event.source, "created": event.created,
                "saved_s": event.saved_s, "size_bytes": event.size_bytes, "error": event.error, "drift": event.drift,
                "stale": event.stale, "ends_at": event.ends_at, "late": late,
            }  # fmt: skip
        case StepFinished():
            said: dict[str, Any] = {
                "phase": "done", "outcome": event.outcome, "source": "thunk", "took_s": event.took_s,
                "size_bytes": event.size_bytes, "error": event.error, "interrupted": event.interrupted,
                "refused": event.refused, "not_kept": event.not_kept, "tried": event.tried, "ends_at": event.ends_at,
                "late": late,
            }  # fmt: skip
            return {**said, "began_at": event.at - event.took_s} if elsewhere else said
