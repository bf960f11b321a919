"""Decides, from what a look-up found, whether a step uses its entry or computes. Pure: nothing is read, run or told here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from nbstep.cache.records import Facts, Hit, LookUp, Meta, Miss
from nbstep.drift.explain import Change, changes_between
from nbstep.drift.inputs import Inputs
from nbstep.durations import duration_text
from nbstep.errors import DriftError
from nbstep.events import Reason
from nbstep.policy import Policy

NOTHING_KEPT: Final = (
    "; until then steps compute, and nothing is kept"  # after a line that says when a cache is asked again
)


class Asked(NamedTuple):  # made for each look-up, in a third of a dataclass's time
    """What a step asks for, and the moment it does.

    Attributes:
        policy: The policy in force for this step.
        now: Seconds since the epoch.
        kept_here: The entry was kept by this very run, or one around or inside it.
        refresh: This step is to run again; `refresh_run` says that every step of the run is, once.
        retry_errors: Kept errors from before the run are to run again.
        rerun_drifted: Entries from before the run whose code or inputs changed are to run again.
        code: Gives the step's code fingerprint as it is now; called at the most once.
        exact: Gives the digest of all its code as Python compiled it; where an entry says the same, nothing of the code changed.
        inputs: Gives its inputs as they are now; called at the most once, and only where the entry's are known.
        surely_same: Whether they are certainly what an entry knows of its own; False says nothing.
        function: The name of the function that is the thunk, empty where it is something else.
        where: Gives the file that a function or class of its code stands in; empty where that is the notebook.
    """

    policy: Policy
    now: float
    kept_here: bool
    refresh: bool
    refresh_run: bool
    retry_errors: bool
    code: Callable[[], Mapping[str, str]]
    exact: Callable[[], str] = str
    inputs: Callable[[], Inputs] = Inputs
    surely_same: Callable[[Mapping[str, str]], bool] = lambda _: False
    rerun_drifted: bool = False
    function: str = ""
    where: Callable[[str], str] = lambda _: ""


@dataclass(frozen=True, slots=True)
class Use:
    """The entry is used; `drift` says what changed since it was kept, `changes` the same one by one."""

    hit: Hit
    drift: str | None = None
    changes: tuple[Change, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Compute:
    """The thunk runs; `old` is the good value that it is about to replace, where there is one.

    `away` says, for people, that the cache or the one behind it did not answer when it was looked up.
    """

    reason: Reason
    detail: str | None = None
    old: Hit | None = None
    away: str | None = None


Decision: TypeAlias = Use | Compute


def decide(found: LookUp, asked: Asked) -> Decision:
    """Whether to use what was found.

    Raises:
        DriftError: The policy says `on_drift="error"`, and the code or an input changed.
    """
    if isinstance(found, Miss):
        return Compute(found.reason, found.detail)
    meta = found.meta
    if asked.refresh or (asked.refresh_run and not asked.kept_here):
        return Compute("refreshed", old=_good(found))
    if meta.outcome == "error":
        return _decide_error(found, asked)
    ttl_s = asked.policy.ttl_s
    if ttl_s is not None and asked.now >= meta.ends_at(ttl_s, asked.now):
        return Compute("expired", _why_ended(meta, ttl_s, asked.now), old=found)
    changes = _changes(found, asked)
    if changes and asked.rerun_drifted and not asked.kept_here:
        return Compute("drifted", _joined(changes), old=found)
    return _in_spite_of(changes, found, asked)


def decide_shared(found: Hit, asked: Asked) -> Decision:
    """Whether to use what somebody kept while the step waited: it is as fresh as can be, but may be of other inputs.

    Raises:
        DriftError: As for `decide`.
    """
    changes = _changes(found, asked)
    if found.meta.outcome == "error":
        return Use(found, _joined(changes) or None, changes)
    return _in_spite_of(changes, found, asked)


def _in_spite_of(changes: tuple[Change, ...], found: Hit, asked: Asked) -> Decision:
    """What the policy says to do with a value when something changed since it was kept."""
    if not changes:
        return Use(found)
    drift, meta = _joined(changes), found.meta
    actions = {asked.policy.on(change.cause) for change in changes}
    if "error" in actions:
        raise DriftError(f'{meta.key} is an old value, and on_drift="error": {drift}')
    if "rerun" in actions:
        return Compute("drifted", drift, old=found)
    return Use(found, drift, changes)


def _decide_error(found: Hit, asked: Asked) -> Decision:
    meta = found.meta
    error = meta.error
    if asked.retry_errors and not asked.kept_here:
        return Compute("error-retried", "kept errors run again in this run")
    if asked.policy.cache_errors is False:
        return Compute("error-retried", "cache_errors=False")
    ttl_s = asked.policy.error_ttl(error is not None and error.transient)
    if ttl_s is not None and asked.now >= meta.ends_at(ttl_s, asked.now):
        return Compute("error-retried", _why_ended(meta, ttl_s, asked.now) or _error_ttl_text(asked.policy, ttl_s))
    changes = _changes(found, asked)
    if any(change.cause == "code" for change in changes):
        return Compute("error-retried", _joined(changes))
    if not changes:
        return Use(found)
    # inputs alone do not run it again, unless that was asked for
    if asked.policy.on("inputs") == "rerun" or (asked.rerun_drifted and not asked.kept_here):
        return Compute("drifted", _joined(changes))
    return Use(found, _joined(changes), changes)


def _why_ended(meta: Meta, ttl_s: float, now: float) -> str | None:
    """What an entry that looks new has against it."""
    return None if now >= meta.created + ttl_s else "its time is in the future, so its age is not known"


def _error_ttl_text(policy: Policy, ttl_s: float) -> str:
    """Why a kept error is over; without an `error_ttl` of the user's it is one that passes.

    >>> _error_ttl_text(Policy(), 60.0), _error_ttl_text(Policy(error_ttl_s=5.0), 5.0)
    ('an error that passes counts for 1 m', 'error_ttl is 5.0 s')
    """
    text = duration_text(ttl_s)
    return f"an error that passes counts for {text}" if policy.error_ttl_s == "auto" else f"error_ttl is {text}"


def _changes(found: Hit, asked: Asked) -> tuple[Change, ...]:
    """What changed since the entry was kept, but for what the policy ignores."""
    facts, policy = found.meta.facts, asked.policy
    if policy.on_drift == "ignore":
        return ()
    code = _code(facts, asked) if policy.on("code") != "ignore" else {}
    looked_at = bool(facts.inputs) and policy.on("inputs") != "ignore" and not asked.surely_same(facts.inputs)
    inputs = asked.inputs() if looked_at else None
    if facts.code == code and (inputs is None or facts.inputs == inputs.texts):
        return ()  # most look-ups
    return changes_between(facts, code, inputs, asked.now, asked.function, asked.where)


def _code(facts: Facts, asked: Asked) -> Mapping[str, str]:
    """The code fingerprint as it is now; mostly it need not be made, as the code is what it was to the last bit."""
    return facts.code if facts.exact and facts.exact == asked.exact() else asked.code()


def drift_of(found: Hit, asked: Asked) -> str:
    """What changed since an entry was kept, for people."""
    return _joined(_changes(found, asked))


def _joined(changes: tuple[Change, ...]) -> str:
    return "; ".join(change.text for change in changes)


def _good(found: Hit) -> Hit | None:
    return found if found.meta.outcome == "ok" else None
