"""What the entries of one map's items have in common, so that each is written with what is its own alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from nbstep.cache import entry
from nbstep.cache.plainparts import plain_parts
from nbstep.cache.previews import shape_text
from nbstep.cache.records import SYNC_FROM_S, Facts
from nbstep.cache.trust import SigningKey
from nbstep.stores.base import Part


class Pattern:
    """Makes entries of plain values that one function gave, which differ in key, value, times and inputs.

    Args:
        facts: What all of them say of their step, shown already as it may be.
        signing_key: The user's key.
        sync: Whether a value that took long is to survive a power failure.
    """

    __slots__ = ("_at_most_s", "_outline", "signer")

    def __init__(self, facts: Facts, signing_key: SigningKey, *, sync: bool) -> None:
        self.signer: Final = signing_key.id
        self._outline: Final = entry.Outline(facts, signing_key)
        self._at_most_s: Final = SYNC_FROM_S if sync else float("inf")

    def entry(self, key: str, value: Any, now: float, took_s: float, inputs: Mapping[str, str]) -> list[Part] | None:
        """The parts to write one after the other; None for a value that is large or not plain.

        Raises:
            Exception: Another thread changed the value meanwhile.
        """
        plain = plain_parts(value) if took_s <= self._at_most_s else None
        if plain is None:
            return None
        preview, stream = plain
        said = "None" if value is None else type(value).__qualname__  # as `type_text` says it of what is built in
        return self._outline.entry(key, now, said, shape_text(value), preview, took_s, inputs, stream)
