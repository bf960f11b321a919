"""`%%workflow --plan`: what a run of the cell would use and what it would run, told without running anything of the user's."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nbstep.cache.cache import Cache
from nbstep.errors import CellStopped
from nbstep.events import Place
from nbstep.notebook.calls import CellText
from nbstep.notebook.flags import WorkflowLine
from nbstep.notebook.foot import foot_of_caches
from nbstep.notebook.planning.foresight import foresee
from nbstep.notebook.planning.lastrun import Known, asked_again, known_of
from nbstep.notebook.planning.planned import Planned, Wish, planned, reruns
from nbstep.notebook.planning.sites import Foreseen, Site
from nbstep.notebook.planning.words import Lines, Outlook, notes_of
from nbstep.notebook.steplist import Call, StepList
from nbstep.notes import one_line
from nbstep.policy import Policy, policy_changes, with_changes
from nbstep.runlog import Usage
from nbstep.runs.active import as_cache
from nbstep.settings import Settings, read_settings
from nbstep.steps.decision import Compute, Use

if TYPE_CHECKING:
    from nbstep.notebook.cell import CellRunner
    from nbstep.runs.state import Run


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan: its steps, as a step list, and what is to say beside."""

    steps: StepList
    notes: tuple[str, ...]


def show_plan(runner: CellRunner, line: WorkflowLine, written: CellText) -> None:
    """Shows the plan of a cell.

    Raises:
        CellStopped: The store's methods are async.
    """
    settings = read_settings()
    cache = None if settings.mode == "off" else as_cache(runner.cache_of(line))
    if cache is not None and cache.is_async:
        raise CellStopped(f"--plan reads stores with plain methods, and those of {cache.place} are async")
    sites = _sites_of(written, runner.shell.user_ns)
    known = known_of(cache, line.name, runner.notebook(), written.digest, sites)
    plan = make_plan(cache, line, settings, sites, known, time.time())
    runner.view_of(line).show_plan(plan.steps, plan.notes, foot_of_caches(() if cache is None else (cache,)))


def expected_keys(run: Run, written: CellText, names: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys that a run of this very text asks for sure, or asked last time; `names` is what the notebook's names hold."""
    sites = _sites_of(written, names)
    known = known_of(run.cache, None, run.place.notebook, written.digest, sites)
    return tuple(step.key for step in _listed(sites, known)[0])


def _sites_of(written: CellText, names: Mapping[str, Any]) -> tuple[Site, ...]:
    if written.key is not None:
        return (Site(None, (Foreseen(written.key),), pattern=re.escape(written.key)),)
    return foresee(written.body, names, written.above)


def _listed(sites: Sequence[Site], known: Known) -> tuple[list[Foreseen], list[str], int]:
    """The steps to list, in the order of the text.

    Also the keys that the cell asked before it was edited, and of those listed the number that no call in it asks.
    """
    again, elsewhere = asked_again(known.run, sites) if known.run is not None else ({}, [])
    before: list[str] = []
    if known.edited:
        before, again, elsewhere = [*(key for keys in again.values() for key in keys), *elsewhere], {}, []
    found: dict[str, Foreseen] = {}
    for at, site in enumerate(sites):
        for step in (*site.steps, *map(Foreseen, again.get(at, ()))):
            found.setdefault(step.key, step)
    for key in elsewhere:
        found.setdefault(key, Foreseen(key))
    return list(found.values()), before, len(elsewhere)


def make_plan(
    cache: Cache | None, line: WorkflowLine, settings: Settings, sites: Sequence[Site], known: Known, now: float
) -> Plan:
    """What a run of the cell would use, and what it would run."""
    policy, mode = with_changes(Policy(), policy_changes(line.policy)), line.mode or settings.mode
    retry_errors = line.retry_errors or settings.retry_errors
    wish = Wish(policy, now, mode == "refresh", retry_errors, line.rerun_drifted)

    def would_be(steps: Iterable[Foreseen]) -> list[Planned]:
        return [planned(cache, step, wish, known.usage.get(step.key, Usage())) for step in steps]

    steps, before, elsewhere = _listed(sites, known)
    plans = would_be(steps)
    calls = {("plan", at): _call(plan, known) for at, plan in enumerate(plans)}
    outlook = _outlook(sites, plans, calls.values(), line.rerun_drifted or reruns(policy))
    kept = sum(isinstance(plan.decision, Use) for plan in would_be(map(Foreseen, before)))
    listed_again = known.run is not None and not known.edited
    outlook = replace(
        outlook, listed_again=listed_again, elsewhere=elsewhere, edited=known.edited, before=(len(before), kept)
    )
    flags = ("plan: nothing ran", *line.shown())
    partial = bool(outlook.made_running or elsewhere or before)
    runs = frozenset({"plan"})
    state = StepList("plan", runs, line.name, now, mode, calls=calls, flags=flags, partial=partial)
    return Plan(state, notes_of(outlook, ran_before=known.run is not None, any_step=bool(sites or steps)))


def _outlook(sites: Sequence[Site], plans: Sequence[Planned], calls: Collection[Call], reruns_changed: bool) -> Outlook:
    runs = [call.expected_s for call in calls if call.source is None]
    timed_s = [seconds for seconds in runs if seconds is not None]
    unseen = {p.key for p in plans if reruns_changed and not p.compared and isinstance(p.decision, Use)}
    not_compared = [site for site in sites if any(step.key in unseen for step in site.steps)]
    return Outlook(
        sum(timed_s),
        _lasting_s(sites, calls),
        len(timed_s),
        len(runs) - len(timed_s),
        _lines(site for site in sites if site.made_running),
        _lines(site for site in sites if site.without_key),
        _lines(not_compared),
        not_compared_cell=any(site.line is None for site in not_compared),
        unchecked=tuple(plan.key for plan in plans if plan.unchecked),
    )


def _lasting_s(sites: Sequence[Site], calls: Collection[Call]) -> float:
    """How long the steps that would run take, where those of one `step.map` run side by side."""
    expected_s = {call.key: call.expected_s for call in calls if call.source is None and call.expected_s is not None}
    lasting_s = 0.0
    for site in sites:
        took_s = [(expected_s.pop(step.key), step.at_once) for step in site.steps if step.key in expected_s]
        lasting_s += max(
            sum(each / at_once for each, at_once in took_s), max((each for each, _ in took_s), default=0.0)
        )
    return lasting_s + sum(expected_s.values())


def _lines(sites: Iterable[Site]) -> Lines:
    return Lines(tuple(site.line for site in sites if site.line is not None))


def _call(plan: Planned, known: Known) -> Call:
    call, decision = Call("plan", plan.key, Place(), 0.0, phase="planned"), plan.decision
    if isinstance(decision, Compute):
        took_s = decision.old.meta.facts.took_s if decision.old is not None else known.took_s.get(plan.key)
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
