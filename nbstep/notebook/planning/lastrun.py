"""The last run of a cell, from the run log: that of this very text, or that of the cell before it was edited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nbstep import runlog
from nbstep.cache.cache import Cache
from nbstep.notebook.planning.sites import Site
from nbstep.runlog import LoggedRun, Usage


@dataclass(frozen=True, slots=True)
class Known:
    """What the run log knows of a cell.

    Attributes:
        run: Its last run, with all that ran inside it; None where there is none.
        edited: The cell's text is another one since.
        took_s: How long each key's step took when it last ran, of all runs.
        usage: What all runs say of each key.
    """

    run: LoggedRun | None
    edited: bool
    took_s: Mapping[str, float]
    usage: Mapping[str, Usage]


def known_of(
    cache: Cache | None, name: str | None, notebook: str | None, text: str | None, sites: Sequence[Site]
) -> Known:
    """Reads the run log.

    A cell is known by its notebook and its text; one that was edited since by its notebook, the name of its workflow, and
    what it has in common with a run: a key, what a key looks like, or the text of a call.

    Args:
        cache: Where it is.
        name: The name of the cell's workflow.
        notebook: The notebook's file name, where known.
        text: The digest of the cell's text.
        sites: The calls in it.
    """
    if cache is None or cache.directory is None:
        return Known(None, False, {}, {})
    runs = list(runlog.read_runs(cache.directory))
    took_s: dict[str, float] = {}
    for run in runs:
        for step in run.steps:
            seconds = step.took_s or step.saved_s
            if seconds:
                took_s.setdefault(step.key, seconds)
    here = [_whole(run, runs) for run in runs if run.notebook == notebook and run.text is not None]
    found = next((run for run in here if run.text == text), None)
    edited = found is None
    if edited:
        alike = [run for run in here if run.name == name and _in_common(run, sites)]
        found = max(alike, key=lambda run: _in_common(run, sites), default=None)  # the newest of several
    return Known(found, edited, took_s, runlog.usage(cache.directory))


def _whole(run: LoggedRun, runs: Sequence[LoggedRun]) -> LoggedRun:
    steps = [step for one in reversed(runs) if one.root == run.run for step in one.steps]
    return replace(run, steps=tuple(steps))


def _in_common(run: LoggedRun, sites: Sequence[Site]) -> int:
    """How many of the calls in a cell a run may have made."""
    keys, ids = {step.key for step in run.steps}, {step.site for step in run.steps}
    return sum(
        not site.ids.isdisjoint(ids)
        or any(step.key in keys for step in site.steps)
        or (site.names_something and any(map(site.may_ask, keys)))
        for site in sites
    )


def asked_again(run: LoggedRun, sites: Sequence[Site]) -> tuple[dict[int, list[str]], list[str]]:
    """The keys of a run that no call in a cell asks for sure: by the place of the call that may ask them, and all others.

    Those of a call whose keys are all known are no longer asked, and left out.
    """
    sure = {step.key for site in sites for step in site.steps}
    by_site: dict[int, list[str]] = {}
    others: list[str] = []
    for key, site_id in dict.fromkeys((step.key, step.site) for step in run.steps):
        if key in sure:
            continue
        keyed = [at for at, site in enumerate(sites) if site.pattern]
        at = next((at for at in keyed if site_id is not None and site_id in sites[at].ids), None)
        if at is None:  # the call was edited: by what its keys look like, first of those whose keys are known
            alike = [at for at in keyed if sites[at].may_ask(key)]
            at = min(alike, key=lambda at: sites[at].made_running, default=None)
        if at is None:
            others.append(key)
        elif sites[at].made_running:
            by_site.setdefault(at, []).append(key)
    return {at: list(dict.fromkeys(keys)) for at, keys in by_site.items()}, list(dict.fromkeys(others))
