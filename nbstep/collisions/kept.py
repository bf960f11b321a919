"""Whether an entry was kept by other work: no function or attribute in common with the step that asks (K8)."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Any, Final

from nbstep.cache.records import Facts
from nbstep.collisions.look import UNBOUND, Look, Sight, look_at, sight
from nbstep.collisions.words import call_in, said_by
from nbstep.thunks import Thunk

_NAMES_AT_MOST: Final = 500
_last: tuple[Mapping[str, str], Sight, tuple[str, ...]] | None = None


def names_of(thunk: Thunk, args: tuple[Any, ...], fingerprint: Mapping[str, str]) -> tuple[str, ...]:
    """The functions and attributes that a step's work names, its own and those of the user's functions behind it, sorted.

    `fingerprint` is its code's: as long as that is the very same object, and not empty, what these names mean is the same.
    """
    global _last
    own = sight(thunk) if type(thunk) is types.FunctionType and fingerprint else None
    last = _last
    if last is not None and last[0] is fingerprint and last[1] == own:  # the items of a map are one piece of work
        return last[2]
    look = look_at(thunk, args)
    names = {name.rpartition(".")[2] for name in fingerprint if name}
    names.update(name for name in _own_names(look) if name.isidentifier())
    found = tuple(sorted(names)[:_NAMES_AT_MOST])
    if own is not None:
        _last = fingerprint, own, found
    return found


def is_other_work(facts: Facts, workflow: str | None, names: tuple[str, ...]) -> bool:
    """Whether an entry is certainly another step's: kept in another named workflow, with nothing in common.

    An entry from before these names were kept may be anybody's.
    """
    if workflow is None or not is_other_workflow(facts, workflow) or facts.names is None:
        return False
    return bool(facts.names or names) and not set(facts.names) & set(names)


def is_other_workflow(facts: Facts, workflow: str | None) -> bool:
    """Whether an entry was kept in a workflow of another name; unnamed ones are no other."""
    return workflow is not None and facts.workflow is not None and facts.workflow != workflow


def _own_names(look: Look) -> Iterator[str]:
    if type(look.callee) is tuple and look.callee[0] in {"function", "method", "named"}:
        yield look.callee[2].rpartition(".")[2]
    if look.code is None:
        return
    yield from said_by(look.code).attributes
    call = call_in(look.code)
    if call is not None:
        yield call.path[-1]
    for label, seen in list(zip(look.labels, look.sights, strict=True))[: look.read]:
        if _is_function(seen):
            yield label
            if len(seen) > 2:
                yield seen[2].rpartition(".")[2]


def _is_function(seen: Sight) -> bool:
    """Whether a name stands for something to call; builtins have no value of their own in a look."""
    if type(seen) is not tuple:
        return False
    if seen[0] == "other":
        return hasattr(seen[1], "__call__")  # noqa: B004 - of a class: whether its objects can be called
    return seen == UNBOUND or seen[0] in {"function", "method"} or (seen[0] == "named" and seen[1].__name__ != "module")
