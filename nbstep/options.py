"""The only table of options: which belongs where, and the error for one in the wrong place (W2)."""

from __future__ import annotations

import difflib
from typing import Any, Final

from nbstep.policy import POLICY_OPTIONS


class _Unset:
    def __repr__(self) -> str:
        return "…"


UNSET: Final[Any] = _Unset()

CACHE_OPTIONS: Final = ("max_bytes", "durability", "previews", "redact")
WORKFLOW_OPTIONS: Final = ("cache", "name", "mode", "on_event", *POLICY_OPTIONS)
STEP_OPTIONS: Final = ("key", "refresh", "retries", "timeout", "on_error", "ignore", "files", *POLICY_OPTIONS)
MAP_OPTIONS: Final = (*STEP_OPTIONS, "n_jobs", "rate")
CACHED_OPTIONS: Final = tuple(option for option in STEP_OPTIONS if option != "key")

_HOMES: Final = {
    "step": STEP_OPTIONS,
    "step.map": MAP_OPTIONS,
    "step.cached": CACHED_OPTIONS,
    "create_workflow": WORKFLOW_OPTIONS,
    "Cache": CACHE_OPTIONS,
}


def misplaced(option: str, where: str) -> TypeError:
    """The error for an option that `where` ("step", "create_workflow", "workflow(body)") does not take.

    >>> print(misplaced("cache", "step"))
    step takes no cache=; it belongs to create_workflow(…, cache=…)
    """
    homes = [home for home, options in _HOMES.items() if option in options and home != where]
    if "step.cached" in homes:
        homes.remove("step.cached")  # the decorator takes what a step takes
    if "step" in homes and "step.map" in homes:
        homes.remove("step.map")
    if homes:
        return TypeError(
            f"{where} takes no {option}=; it belongs to {' or '.join(f'{h}(…, {option}=…)' for h in homes)}"
        )
    known = _HOMES.get(where, WORKFLOW_OPTIONS)
    close = difflib.get_close_matches(option, known, 1)
    hint = f"did you mean {close[0]}=?" if close else f"its options: {', '.join(known)}"
    if where == "step" and not close:
        hint += f"; if it is an argument of your function: step(lambda: fn({option}=…), key=…)"
    if where == "step.map" and not close:
        hint += f"; if it is an argument of your function: step.map(lambda item: fn(item, {option}=…), items, key=…)"
    return TypeError(f"{where} has no option {option}=; {hint}")
