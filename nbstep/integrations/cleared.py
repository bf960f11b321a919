"""What of a `joblib.Memory` was to be deleted, and a store did not let go: for this process it is gone all the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Cleared:
    """Of one place. What is kept under such a key afterwards counts again."""

    _keys: set[str] = field(default_factory=set[str])
    _functions: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict[str, "tuple[str, ...]"]
    )  # how their keys begin
    _kept_since: set[str] = field(default_factory=set[str])  # since the first of those functions was to go

    def note_key(self, key: str) -> None:
        """A result is to go."""
        self._keys.add(key)

    def note_function(self, func_id: str, beginnings: tuple[str, ...]) -> None:
        """All of a function is to go, under keys that begin so."""
        self._functions = {**self._functions, func_id: beginnings}
        self._kept_since.difference_update([key for key in tuple(self._kept_since) if key.startswith(beginnings)])

    def forget_keys(self, keys: Iterable[str]) -> None:
        """They went."""
        self._keys.difference_update(keys)

    def forget_function(self, func_id: str, beginnings: tuple[str, ...]) -> None:
        """It all went."""
        self._functions = {one: begins for one, begins in self._functions.items() if one != func_id}
        self.forget_keys([key for key in tuple(self._keys) if key.startswith(beginnings)])
        if not self._functions:
            self._kept_since.clear()

    def forget_all(self) -> None:
        """Everything went."""
        self._functions = {}
        self._keys.clear()
        self._kept_since.clear()

    def note_kept(self, key: str) -> None:
        """Something new stands there."""
        self._keys.discard(key)
        if self._functions:
            self._kept_since.add(key)

    def has(self, key: str) -> bool:
        """Whether what stands there is what should have gone."""
        if key in self._keys:
            return True
        of_function = any(key.startswith(begins) for begins in self._functions.values())
        return of_function and key not in self._kept_since


_places: dict[str, Cleared] = {}


def cleared_in(place: str) -> Cleared:
    """That of a cache, for all who have it open in this process."""
    return _places.setdefault(place, Cleared())
