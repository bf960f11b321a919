"""Looks every so often whether other kernels changed the cache, while somebody watches; costs nothing while nobody does.

There is a thread only while there is a view in sight. Kernels and command lines leave no message for each other: what they
change moves the times of a few folders, and that is what is looked at. A page that went away without a word counts as watching
for a few minutes more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

LOOKS_EVERY_S: Final = 1.5
_PAUSES_A_LOOK: Final = 10  # a cache that takes long to look at is looked at less often
_LEASE_S: Final = 300.0  # a page in sight says so more often
_MOST_VIEWS: Final = 64


class Watch:
    """Calls `look` on a thread of its own while a view is in sight, the first time at once.

    Args:
        look: Finds what changed, and tells it; must not raise.
        every_s: The least time from one look to the next.
        lease_s: How long a view counts as in sight that says no more.
    """

    def __init__(self, look: Callable[[], None], every_s: float = LOOKS_EVERY_S, lease_s: float = _LEASE_S) -> None:
        self._look = look
        self._every_s = every_s
        self._lease_s = lease_s
        self._until: dict[str, float] = {}  # by view: until when it counts as in sight
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def saw(self, view: str, *, in_sight: bool) -> None:
        """A view came into sight or went out of it."""
        with self._changed:
            if not in_sight:
                self._until.pop(view, None)
                self._changed.notify_all()
            elif view in self._until or len(self._until) < _MOST_VIEWS:
                self._until[view] = time.monotonic() + self._lease_s
                self._begin()

    def stop(self) -> None:
        """No view is in sight any more."""
        with self._changed:
            self._until.clear()
            self._changed.notify_all()

    def _begin(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="nbstep panel", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no thread begins any more: the process ends, or the system has no more of them
                return
            self._thread = thread

    def _run(self) -> None:
        while self._is_watched():
            began = time.monotonic()
            self._look()
            took_s = time.monotonic() - began
            with self._changed:
                self._changed.wait_for(lambda: not self._until, max(self._every_s, _PAUSES_A_LOOK * took_s))

    def _is_watched(self) -> bool:
        """Whether a view is in sight; the thread that is told that none is ends."""
        with self._changed:
            now = time.monotonic()
            self._until = {view: until for view, until in self._until.items() if until > now}
            if not self._until:
                self._thread = None
            return bool(self._until)
