"""Which entries an open notebook, and the last run, have to do with: what a page shows first, beside the whole project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nbstep import runlog
from nbstep.cache.cache import Cache
from nbstep.cache.records import Meta
from nbstep.runlog import Usage

BY_NOTEBOOK: Final = 1
BY_LAST_RUN: Final = 2


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asked for what, as the run log tells.

    Attributes:
        notebook: The file name of the open notebook, None where it is not known.
        last_run: The keys that the last run asked for, with the runs inside it.
    """

    notebook: str | None = None
    last_run: frozenset[str] = frozenset()

    def by(self, meta: Meta, usage: Usage | None) -> int:
        """`BY_NOTEBOOK` where the notebook kept the entry or asked for its key, plus `BY_LAST_RUN` where the last run did."""
        name = self.notebook
        kept = name is not None and meta.facts.place.notebook == name
        return (kept or (usage is not None and name in usage.notebooks)) + BY_LAST_RUN * (meta.key in self.last_run)


def who_asked(cache: Cache, notebook: str | None, usage: Mapping[str, Usage]) -> Asked:
    """What the run log says of it now; the last run is looked for only where the log says anything."""
    run = runlog.last_run(cache.directory) if usage and cache.directory is not None else None
    return Asked(notebook, frozenset() if run is None else frozenset(step.key for step in run.steps))
