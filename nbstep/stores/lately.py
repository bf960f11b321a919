"""What a look at the system found lately: good enough where very many steps ask for the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_ASKED_AT_MOST: Final = 1024


class Lately(Generic[K, V]):
    """Answers that hold for some seconds.

    Args:
        find: Finds the answer.
        for_s: How long it holds.

    >>> lately = Lately(lambda name: print("looked") or len(name), for_s=60.0)
    >>> lately.get("shard"), lately.get("shard")
    looked
    (5, 5)
    """

    def __init__(self, find: Callable[[K], V], for_s: float) -> None:
        self._find = find
        self._for_s = for_s
        self._found: dict[K, tuple[float, V]] = {}

    def get(self, asked: K) -> V:
        """The answer, found now where that was not lately."""
        now_s = time.monotonic()
        known = self._found.get(asked)
        if known is None or now_s - known[0] > self._for_s:
            if len(self._found) >= _ASKED_AT_MOST:
                self._found.clear()
            known = self._found[asked] = now_s, self._find(asked)
        return known[1]

    def forget(self) -> None:
        """What changes from here on shows at once."""
        self._found.clear()
