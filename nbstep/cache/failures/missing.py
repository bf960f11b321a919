"""What of an error could not be written, in words for people."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Final

from nbstep.tracebacks import is_installed
from nbstep.words import with_article

_NAMED_AT_MOST: Final = 5


class Missing:
    """Collects what of one error is not kept.

    Args:
        error: The error.
        top: It is the one that was raised, not one inside of it.
    """

    def __init__(self, error: BaseException, *, top: bool) -> None:
        self.error = error
        self._owner = "" if top else type(error).__qualname__
        self._places: dict[tuple[str, ...], list[str]] = {}

    def add(self, place: str, classes: Iterable[str]) -> None:
        """Notes that things of these classes, which stood at this place (`args[1]`, `.client`), are not kept."""
        if self._owner and not place.startswith("."):
            place = f".{place}"
        if names := tuple(dict.fromkeys(classes)):
            self._places.setdefault(names, []).append(self._owner + place)

    def text(self) -> str:
        """One sentence: "args[1] and .client (a _thread.lock) cannot be stored"; "" where nothing is missing.

        Libraries put their connections into their errors: nobody misses those, and nothing is said.
        """
        if not self._places or is_installed(getattr(sys.modules.get(type(self.error).__module__), "__file__", None)):
            return ""
        found = [
            f"{_listed(places)} ({_listed([with_article(name) for name in names])})"
            for names, places in self._places.items()
        ]
        return f"{', '.join(found[:_NAMED_AT_MOST])} cannot be stored"


def _listed(names: list[str]) -> str:
    *others, last = names[:_NAMED_AT_MOST]
    return f"{', '.join(others)} and {last}" if others else last
