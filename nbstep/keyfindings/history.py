"""Call sites that never find anything again: another new key in each of the last runs, from the run log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import combinations, islice
from typing import Final

from nbstep.cache.secrets.redaction import key_text
from nbstep.events import Place
from nbstep.runlog import LoggedRun
from nbstep.words import keys_text, spot_text

RUNS: Final = 3
_LOOKED_AT: Final = 20
_SHOWN_CHARS: Final = 40
# Days, weeks and months, and hours after a day: such a key is meant to be a new one tomorrow.
_DAY: Final = re.compile(r"(?<!\d)(?:19|20)\d\d[-_./]?(?:W?\d\d|Q\d)(?:[-_./]?\d\d)?(?:[-_T ]?\d\d)?(?!\d)")


def never_found_again(sites: Mapping[str, tuple[Place, list[str]]], earlier: Iterable[LoggedRun]) -> list[str]:
    """What to say of the sites that asked for other new keys in each of their last three runs.

    Args:
        sites: Those of the run that ends which asked for new keys only, each with its place and keys.
        earlier: The other runs of the log, newest first.
    """
    asked = {site: [keys] for site, (_, keys) in sites.items()}
    found: list[str] = []
    for run in islice(earlier, _LOOKED_AT):
        for site in list(asked):
            keys = _new_keys(run, site)
            if keys:
                asked[site].append(keys)
            if keys is None or len(asked[site]) == RUNS:
                found += _line(sites[site][0], asked.pop(site), told=keys is not None)
        if not asked:
            break  # a long log is not read to its end
    return found


def _new_keys(run: LoggedRun, site: str) -> list[str] | None:
    """The keys that a call site asked in a run; empty where it asked none, None where not all of them were new."""
    steps = [step for step in run.steps if step.site == site]
    return [step.key for step in steps] if all(step.is_new() for step in steps) else None


def _all_differ(asked: list[list[str]]) -> bool:
    """Whether no key was asked in two of the runs, but for its day."""
    kinds = [{_DAY.sub("<day>", key) for key in keys} for keys in asked]
    return all(one.isdisjoint(other) for one, other in combinations(kinds, 2))


def _line(place: Place, asked: list[list[str]], *, told: bool) -> list[str]:
    if not told or not _all_differ(asked):
        return []
    examples = keys_text([key_text(keys[0])[:_SHOWN_CHARS] for keys in reversed(asked)])
    return [
        f"{spot_text(place)}: the key was another new one in each of its last {RUNS} runs ({examples}), so nothing was "
        "found again; if it should be, leave out of the key what changes"
    ]
