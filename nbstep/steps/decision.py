"""Decides, from what a look-up found, whether a step uses its entry or computes. Pure: nothing is read, run or told here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from nbstep.cache.records import Hit, LookUp, Miss
from nbstep.drift.code import code_changes
from nbstep.errors import DriftError
from nbstep.events import Reason
from nbstep.policy import Policy


@dataclass(frozen=True, slots=True)
class Asked:
    """What a step asks for, and the moment it does.

    Attributes:
        policy: The policy in force for this step.
        now: Seconds since the epoch.
        kept_here: The entry was kept by this very run, or one around or inside it.
        refresh: This step is to run again; `refresh_run` says that every step of the run is, once.
        retry_errors: Kept errors from before the run are to run again.
        code: Gives the step's code fingerprint as it is now; called at the most once.
    """

    policy: Policy
    now: float
    kept_here: bool
    refresh: bool
    refresh_run: bool
    retry_errors: bool
    code: Callable[[], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Use:
    """The entry is used; `drift` says what changed since it was kept."""

    hit: Hit
    drift: str | None = None


@dataclass(frozen=True, slots=True)
class Compute:
    """The thunk runs; `old` is the good value that it is about to replace, where there is one."""

    reason: Reason
    detail: str | None = None
    old: Hit | None = None


Decision: TypeAlias = Use | Compute


def decide(found: LookUp, asked: Asked) -> Decision:
    """Whether to use what was found.

    Raises:
        DriftError: The policy says `on_drift="error"`, and the code changed.
    """
    if isinstance(found, Miss):
        return Compute(found.reason, found.detail)
    meta = found.meta
    if asked.refresh or (asked.refresh_run and not asked.kept_here):
        return Compute("refreshed", old=_good(found))
    if meta.outcome == "error":
        return _decide_error(found, asked)
    age_s, ttl_s = asked.now - meta.created, asked.policy.ttl_s
    if ttl_s is not None and age_s >= ttl_s:
        return Compute("expired", old=found)
    if asked.policy.on_drift == "ignore":
        return Use(found)
    changes = code_changes(meta.facts.code, asked.code())
    if not changes:
        return Use(found)
    drift = "; ".join(changes)
    if asked.policy.on_drift == "error":
        raise DriftError(
            f'{meta.key}: {drift} since its value was kept, and on_drift="error"; '
            f"run it again with refresh=True, or delete it: nbstep rm {meta.key}"
        )
    if asked.policy.on_drift == "rerun":
        return Compute("drifted", drift, old=found)
    return Use(found, drift)


def _decide_error(found: Hit, asked: Asked) -> Decision:
    meta = found.meta
    error = meta.error
    if asked.retry_errors and not asked.kept_here:
        return Compute("error-retried", "kept errors run again in this run")
    if asked.policy.cache_errors is False:
        return Compute("error-retried", "cache_errors=False")
    ttl_s = asked.policy.error_ttl(error is not None and error.transient)
    if ttl_s is not None and asked.now - meta.created >= ttl_s:
        return Compute("expired")
    if asked.policy.on_drift != "ignore":
        changes = code_changes(meta.facts.code, asked.code())
        if changes:
            return Compute("error-retried", "; ".join(changes))
    return Use(found)


def _good(found: Hit) -> Hit | None:
    return found if found.meta.outcome == "ok" else None
