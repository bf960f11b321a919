"""`%%workflow --plan`: what a run of the cell would use and what it would run, told without running anything of the user's."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nbstep import runlog
from nbstep.cache.cache import Cache
from nbstep.cache.records import Miss
from nbstep.durations import duration_text
from nbstep.errors import CellStopped
from nbstep.events import Place
from nbstep.notebook.asks import Asks, CellText
from nbstep.notebook.flags import WorkflowLine
from nbstep.notebook.foot import foot_of_cache
from nbstep.notebook.steplist import Call, StepList
from nbstep.notes import one_line
from nbstep.policy import Policy, policy_changes, with_changes
from nbstep.runlog import LoggedRun, Usage
from nbstep.runs.active import as_cache
from nbstep.settings import Settings, read_settings
from nbstep.steps.decision import Asked, Compute, Use, decide
from nbstep.stores.base import run_now
from nbstep.words import plural

if TYPE_CHECKING:
    from nbstep.notebook.cell import CellRunner
    from nbstep.runs.state import Run


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan: its steps, as a step list, and what is to say beside."""

    steps: StepList
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """What the run log knows of a cell.

    Attributes:
        run: Its last run, None where there is none.
        took_s: How long each key's step took when it last ran, of all runs.
        usage: What all runs say of each key.
    """

    run: LoggedRun | None
    took_s: Mapping[str, float]
    usage: Mapping[str, Usage]


def known_of(cache: Cache | None, name: str | None, notebook: str | None, text: str | None) -> Known:
    """Reads the run log. A cell is known by its notebook and its text; one that was edited since by its name.

    Args:
        cache: Where it is.
        name: The name of the cell's workflow.
        notebook: The notebook's file name, where known.
        text: The digest of the cell's text.
    """
    if cache is None or cache.directory is None:
        return Known(None, {}, {})
    took_s: dict[str, float] = {}
    same: list[LoggedRun] = []
    runs = list(runlog.read_runs(cache.directory))
    for run in runs:
        if run.notebook == notebook:
            same.append(run)
        for step in run.steps:
            took_s.setdefault(step.key, step.took_s or step.saved_s)
    found = next((run for run in same if text is not None and run.text == text), None)
    found = found or next((run for run in same if name is not None and run.name == name), None)
    if found is not None:
        inner = [step for run in reversed(runs) if run.root == found.run for step in run.steps]
        found = replace(found, steps=tuple(inner))
    return Known(found, took_s, runlog.usage(cache.directory))


def show_plan(runner: CellRunner, line: WorkflowLine, written: CellText) -> None:
    """Shows the plan of a cell.

    Raises:
        CellStopped: The store's methods are async.
    """
    settings = read_settings()
    cache = None if settings.mode == "off" else as_cache(runner.cache_of(line))
    known = known_of(cache, line.name, runner.notebook(), written.digest)
    plan = make_plan(cache, line, settings, written.asks, known, time.time())
    runner.view_of(line).show_plan(plan.steps, plan.notes, foot_of_cache(cache))


def expected_keys(run: Run, written: CellText) -> tuple[str, ...]:
    """The keys that a run of this very text asks for sure, or asked last time."""
    known = known_of(run.cache, None, run.place.notebook, written.digest)
    logged = [step.key for step in known.run.steps] if known.run is not None else []
    return tuple(dict.fromkeys([*logged, *(key for kind, key in written.asks if kind == "key")]))


def make_plan(
    cache: Cache | None, line: WorkflowLine, settings: Settings, asks: Asks, known: Known, now: float
) -> Plan:
    """What a run of the cell would use, and what it would run.

    Raises:
        CellStopped: The store's methods are async.
    """
    if cache is not None and cache.is_async:
        raise CellStopped(f"--plan reads stores with plain methods, and those of {cache.place} are async")
    logged = [step.key for step in known.run.steps] if known.run is not None else []
    keys = dict.fromkeys([*logged, *(key for kind, key in asks if kind == "key")])
    policy = with_changes(Policy(), policy_changes(line.policy))
    refresh = (line.mode or settings.mode) == "refresh"
    again = (refresh, line.retry_errors or settings.retry_errors, line.rerun_drifted)
    calls: dict[tuple[str, int], Call] = {}
    for at, key in enumerate(keys):
        call = Call("plan", key, Place(), now, phase="planned")
        decision = _decided(cache, key, policy, now, known, again)
        calls["plan", at] = _described(call, decision, known)
    flags = ("plan: nothing ran", *line.shown())
    mode = line.mode or settings.mode
    steps = StepList("plan", frozenset({"plan"}), line.name, now, mode, calls=calls, flags=flags)
    return Plan(steps, (_cost(calls.values(), asks, set(logged)), *_first_time(known)))


def _decided(
    cache: Cache | None, key: str, policy: Policy, now: float, known: Known, again: tuple[bool, bool, bool]
) -> Use | Compute:
    refresh, retry_errors, rerun_drifted = again
    found = Miss("not-stored") if cache is None else run_now(cache.look_up(key))
    if not isinstance(found, Miss) and policy.ttl_s is None and found.meta.outcome == "ok":
        policy = replace(policy, ttl_s=found.meta.facts.ttl_s)  # as its step said when it was kept
    elif not isinstance(found, Miss) and policy.error_ttl_s == "auto" and found.meta.outcome == "error":
        policy = replace(policy, error_ttl_s=found.meta.facts.ttl_s)
    decision = decide(
        found,
        Asked(
            policy=replace(policy, on_drift="ignore"),
            now=now, kept_here=False, refresh=False, refresh_run=refresh, retry_errors=retry_errors,
            code=dict,  # code and inputs are known while running only: what the last run found counts, below
        ),
    )  # fmt: skip
    if isinstance(decision, Compute) or policy.on_drift == "ignore" or decision.hit.meta.outcome == "error":
        return decision
    usage = known.usage.get(key, Usage())
    drift = usage.drift if usage.drift_at >= decision.hit.meta.created else None
    if drift and (rerun_drifted or "rerun" in (policy.on("code"), policy.on("inputs"))):
        return Compute("drifted", drift, old=decision.hit)
    return replace(decision, drift=drift)


def _described(call: Call, decision: Use | Compute, known: Known) -> Call:
    if isinstance(decision, Compute):
        took_s = decision.old.meta.facts.took_s if decision.old is not None else known.took_s.get(call.key or "")
        return replace(call, reason=decision.reason, detail=decision.detail, expected_s=took_s)
    meta = decision.hit.meta
    error = None
    if meta.error is not None:
        kind = "" if meta.facts.returned else f"{meta.error.type.rpartition('.')[2]}: "
        error = one_line(kind + meta.error.message)
    return replace(
        call, source="cache", outcome=meta.outcome, created=meta.created, saved_s=meta.facts.took_s,
        size_bytes=meta.size_bytes, error=error, drift=decision.drift,
    )  # fmt: skip


def _cost(calls: Iterable[Call], asks: Asks, logged: set[str]) -> str:
    """What a run would take, as far as that is known, and what is not."""
    runs = [call for call in calls if call.source is None]
    timed_s = [call.expected_s for call in runs if call.expected_s is not None]
    others = logged - {key for kind, key in asks if kind == "key"}
    made = sum(kind == "pattern" and not _matches_one(text, others) for kind, text in asks)
    without = sum(kind == "no key" for kind, _ in asks)
    unknown = [
        plural(count, one, many)
        for count, one, many in (
            (len(runs) - len(timed_s), "step never timed", "steps never timed"),
            (made, "step whose key is made while running", "steps whose keys are made while running"),
            (without, "step without key", "steps without key"),
        )
        if count
    ]
    listed = " and ".join(filter(None, (", ".join(unknown[:-1]), *unknown[-1:])))
    if timed_s:
        return f"A run would take about {duration_text(sum(timed_s))}" + (f", plus {listed}" if listed else "")
    return f"A run would take the time of {listed}" if listed else "A run would take next to nothing"


def _matches_one(pattern: str, keys: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, key, re.DOTALL) for key in keys)


def _first_time(known: Known) -> list[str]:
    return (
        []
        if known.run is not None
        else ["This cell has not run here before: known are the keys that stand in its text"]
    )
