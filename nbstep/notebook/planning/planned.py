"""What a run would do with one key: its entry compared with what its step is given now, without running anything of the user's."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from nbstep.cache.cache import Cache
from nbstep.cache.records import Hit, LookUp, Miss
from nbstep.cache.trust import signing_key
from nbstep.drift.handed import look_behind_call
from nbstep.drift.inputs import Inputs
from nbstep.drift.parts import dotted_names, is_users, part_of
from nbstep.drift.reading import read_inputs
from nbstep.drift.seen import Seen
from nbstep.drift.sourcetext import file_name
from nbstep.drift.wanted import ALL, Wanted, checked_files, checked_names
from nbstep.errors import DriftError
from nbstep.foreign import interrupts
from nbstep.notebook.planning.sites import Foreseen, Given
from nbstep.policy import POLICY_OPTIONS, Policy, policy_changes, with_changes
from nbstep.runlog import Usage
from nbstep.steps.decision import Asked, Compute, Use, decide
from nbstep.stores.base import run_now

_MOST_FUNCTIONS: Final = 200


@dataclass(frozen=True, slots=True)
class Wish:
    """What a run of the cell asks for: its policy, and what runs again in it."""

    policy: Policy
    now: float
    refresh: bool = False
    retry_errors: bool = False
    rerun_drifted: bool = False


@dataclass(frozen=True, slots=True)
class Planned:
    """What a run would do with a key.

    `compared` says that code and inputs are known to be as told; `unchecked`, that a run cannot tell that of them either.
    """

    key: str
    decision: Use | Compute
    compared: bool
    unchecked: bool = False


def planned(cache: Cache | None, step: Foreseen, wish: Wish, usage: Usage) -> Planned:
    """What a run would do with the key of a step; `usage` is what the run log says of it."""
    found: LookUp = Miss("not-stored") if cache is None else run_now(cache.look_up(step.key))
    own = {} if step.options is None else step.options
    try:
        changes = policy_changes({name: value for name, value in own.items() if name in POLICY_OPTIONS})
        wanted = Wanted(checked_names(own.get("ignore", ())), checked_files(own.get("files")))
    except (TypeError, ValueError):  # a run refuses it
        changes, wanted = {}, ALL
    policy = with_changes(wish.policy, changes)
    refresh = own.get("refresh") is True
    if isinstance(found, Hit) and step.options is None:
        policy = _as_kept(policy, found)
    behind = _behind(step.given) if step.given is not None and step.options is not None else None
    if behind is None or behind == "unreadable" or isinstance(found, Miss):
        decision = _as_last_seen(found, wish, policy, refresh, usage)
        unchecked = behind == "unreadable" and isinstance(decision, Use)
        return Planned(step.key, decision, compared=isinstance(found, Miss), unchecked=unchecked)
    given, seen = behind
    unread: list[BaseException] = []
    asked = Asked(
        policy=policy, now=wish.now, kept_here=False, refresh=refresh, refresh_run=wish.refresh,
        retry_errors=wish.retry_errors, rerun_drifted=wish.rerun_drifted, code=lambda: seen.code,
        exact=lambda: seen.fingerprint.exact, inputs=lambda: _inputs(given, seen, wanted, unread),
        function=given.function.__name__ if type(given.function) is types.FunctionType else "",
        where=functools.partial(file_name, seen),
    )  # fmt: skip
    try:
        decision = decide(found, asked)
        return Planned(step.key, decision, compared=not unread, unchecked=bool(unread) and isinstance(decision, Use))
    except DriftError as error:
        return Planned(step.key, Use(found, str(error)), compared=True)


def _as_kept(policy: Policy, found: Hit) -> Policy:
    """The policy with the time to live that its step gave an entry when it was kept."""
    facts, outcome = found.meta.facts, found.meta.outcome
    if policy.ttl_s is None and outcome == "ok":
        return replace(policy, ttl_s=facts.ttl_s)
    if policy.error_ttl_s == "auto" and outcome == "error":
        return replace(policy, error_ttl_s=facts.ttl_s)
    return policy


def _as_last_seen(found: LookUp, wish: Wish, policy: Policy, refresh: bool, usage: Usage) -> Use | Compute:
    """What would be done with an entry of which only a run tells whether it changed: what the last one found counts."""
    decision = decide(
        found,
        Asked(
            policy=replace(policy, on_drift="ignore"), now=wish.now, kept_here=False, refresh=refresh,
            refresh_run=wish.refresh, retry_errors=wish.retry_errors, code=dict,
        ),
    )  # fmt: skip
    if isinstance(decision, Compute) or policy.on_drift == "ignore" or decision.hit.meta.outcome == "error":
        return decision
    meta = decision.hit.meta
    drift = usage.drift_since(meta.created, meta.facts.accepted)
    if drift and (wish.rerun_drifted or reruns(policy)):
        return Compute("drifted", drift, old=decision.hit)
    return replace(decision, drift=drift)


def reruns(policy: Policy) -> bool:
    """Whether what changed runs again."""
    return "rerun" in (policy.on("code"), policy.on("inputs"))


def _inputs(given: Given, seen: Seen, wanted: Wanted, unread: list[BaseException]) -> Inputs:
    """The inputs as they are now; where they cannot be read, none, and the error goes to `unread`."""
    try:
        return read_inputs(given.function, given.args, seen, signing_key(), wanted)
    except interrupts():
        raise
    except BaseException as error:  # noqa: BLE001 - as in a run
        unread.append(error)
        return Inputs()


def _behind(given: Given) -> tuple[Given, Seen] | Literal["unreadable"] | None:
    """What stands behind a step; None where the cell itself changes it before the step is asked."""
    try:
        seen = look_behind_call(given.function, given.args).settled()
        return None if given.rebound and _leads_to(part_of(given.function), given.rebound) else (given, seen)
    except interrupts():
        raise
    except BaseException:  # noqa: BLE001 - as in a run
        return "unreadable"


def _leads_to(part: types.FunctionType | type, names: frozenset[str]) -> bool:
    """Whether a function, or one of the user's that it calls, reads one of some names."""
    waiting, met = [part], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) in met or not is_users(one):
            continue
        met.add(id(one))
        if isinstance(one, type) or len(met) > _MOST_FUNCTIONS:
            return True
        read = {path[0] for path in dotted_names(one.__code__)} - set(one.__code__.co_freevars)
        if not read.isdisjoint(names):
            return True
        scope: Mapping[str, Any] = one.__globals__
        held = [scope.get(name) for name in read]
        waiting += [value for value in (*held, *_captured(one)) if isinstance(value, types.FunctionType | type)]
    return False


def _captured(function: types.FunctionType) -> Iterator[object]:
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # an empty one
            yield cell.cell_contents
