"""Today's fingerprints of a step whose entry was used in spite of a change, as what differs from those of the entry. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from nbstep.cache.drifted import Drifted, differences, short_mark
from nbstep.cache.records import Facts
from nbstep.drift.inputs import SIGNER, Inputs


def drifted(
    facts: Facts,
    mark: bytes,
    at: float,
    drift: str,
    code: Mapping[str, str],
    inputs: Inputs | None,
    names: tuple[str, ...] | None,
    sources: Mapping[str, str] | None,
) -> Drifted:
    """What a look-up found.

    Args:
        facts: What the entry says of its step.
        mark: Its signature.
        at: When the look-up was, in seconds since the epoch.
        drift: What changed, for people.
        code: The code fingerprint of now; empty where it is not known, or does not count.
        inputs: The inputs of now; None where they do not count.
        names: The functions and attributes that the step's work names now.
        sources: The source texts of now, the thunk's own under "".
    """
    return Drifted(
        short_mark(mark),
        at,
        drift,
        differences(facts.code, code) if code else {},
        {} if inputs is None else differences(facts.inputs, inputs_today(facts.inputs, inputs)),
        None if names == facts.names else names,
        sources if code else None,
        {} if inputs is None else inputs.paths,
    )


def inputs_today(kept: Mapping[str, str], now: Inputs) -> Mapping[str, str]:
    """The inputs that an entry kept now would know, told without running anything.

    Of those that it did not know, containers and objects are left out: the step may change them, and then they are state.

    >>> dict(inputs_today({"": "k", "uid": "1"}, Inputs({"": "k", "uid": "2", "log": "#1", "cut": "3"}, loose=frozenset({"log"}))))
    {'': 'k', 'uid': '2', 'cut': '3'}
    """
    same_key = kept.get(SIGNER) == now.texts.get(SIGNER)
    found = {name: text for name, text in now.texts.items() if name in kept or name not in now.loose}
    texts = {**kept, **found} if same_key else found
    return texts if texts.keys() - {SIGNER} else {}
