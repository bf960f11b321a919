"""Of the maps of a run, which keys they said they will ask, and nobody asked yet. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from nbstep.events import MapEnded, StepAsked, StepsAhead

MapId: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Many:
    """Of a map that asks too many keys to name them, what it did not ask yet.

    Attributes:
        left: How many keys.
        digest: The same of all that ask the same keys.
        ended: It asks no more of them.
    """

    left: int
    digest: int
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is still to come.

    Attributes:
        is_known: A map said how many keys it asks.
        keys: Those that nobody asked yet, by whatever call, of maps that named them.
        many: The maps that ask too many to name them, as far as they did not.
        is_cut: One was stopped of whose items nobody knows how many are left.
    """

    is_known: bool = False
    keys: frozenset[str] = frozenset()
    many: Mapping[MapId, Many] = field(default_factory=dict[MapId, Many])
    is_cut: bool = False

    @property
    def count(self) -> int:
        """How many keys."""
        return len(self.keys) + sum(many.left for many in self.many.values())


class Counting:
    """Takes events, one after the other, from what was ahead before them."""

    def __init__(self, before: Ahead) -> None:
        self._before = before
        self._is_known, self._is_cut = before.is_known, before.is_cut
        self._keys: set[str] | None = None  # a copy, as soon as it is to be changed
        self._many = dict(before.many)
        self._left = {number: many.left for number, many in before.many.items()}

    def begin(self, event: StepsAhead, unasked: Collection[str]) -> None:
        """A map begins; `unasked` are those of the keys it named that no call asked yet."""
        self._is_known = self._is_known or event.keys > 0
        if unasked:
            self._own_keys().update(unasked)
        if event.names or not event.keys:
            return
        for number, many in list(self._many.items()):
            if many.ended and many.digest == event.digest:  # this one asks again what that did not
                del self._many[number]
        number = event.run, event.map
        self._many[number], self._left[number] = Many(event.keys, event.digest), event.keys

    def ask(self, event: StepAsked) -> None:
        """A step is asked, of a map or not."""
        if event.key is None:
            return
        if event.key in (self._before.keys if self._keys is None else self._keys):
            self._own_keys().discard(event.key)
        if event.map is not None and (number := (event.run, event.map)) in self._left:
            self._left[number] -= 1

    def end(self, event: MapEnded) -> None:
        """A map asks no more."""
        self._is_cut = self._is_cut or event.is_cut
        number = event.run, event.map
        if number in self._many:
            self._many[number] = replace(self._many[number], ended=True)

    def now(self) -> Ahead:
        """What is ahead after them. A map that asks a key for several items asks more than its keys."""
        keys = self._before.keys if self._keys is None else frozenset(self._keys)
        left = {number: self._left[number] for number in self._many}
        many = {number: replace(many, left=left[number]) for number, many in self._many.items() if left[number] > 0}
        return Ahead(self._is_known, keys, many, self._is_cut)

    def _own_keys(self) -> set[str]:
        if self._keys is None:
            self._keys = set(self._before.keys)
        return self._keys
