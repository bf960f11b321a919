"""Whose entries this process was told of: a stranger's line appears once a session, not once a run."""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from pathlib import Path
from typing import Final

from nbstep.forks import ThreadLock
from nbstep.stores.base import Store

# Who can write to a cache can sign each entry by another key; the way out is the same for all of them.
_TOLD_AT_MOST: Final = 20

_told: Final[dict[Hashable, set[str]]] = {}
_lock: Final = ThreadLock()


def is_news(scope: Path | Store, text: str) -> bool:
    """Whether a line about a signer of a cache is to be told: it was not yet, and there were not too many.

    Args:
        scope: The cache, as `Cache.scope` gives it.
        text: The line; it names the signer.
    """
    about: Hashable = scope if isinstance(scope, Path) else weakref.ref(scope)
    with _lock:
        told = _told.setdefault(about, set())
        if text in told or len(told) >= _TOLD_AT_MOST:
            return False
        told.add(text)
        return True
