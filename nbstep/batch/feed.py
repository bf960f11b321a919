"""Items for a map whose workers are fed from threads that must not wait: joblib's, which also bring the results."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterable, Iterator
from queue import Empty, Full, Queue
from typing import Final

from nbstep.batch.keying import Keyed

_TICK_S: Final = 0.25
_MADE_WITHIN_S: Final = 0.005  # so long it is waited for an item: what is made quickly needs no second look


class Feed:
    """Gives each item with its place.

    Args:
        work: The items.
        lazily: To make one may take long, as a generator does: they are made on a thread of their own, one ahead.

    Attributes:
        error: What ended them early.
        is_over: Whether there is none left.
    """

    def __init__(self, work: Iterable[Keyed], *, lazily: bool) -> None:
        self.error: BaseException | None = None
        self.is_over = False
        self._items: Iterator[tuple[int, Keyed]] = enumerate(work)
        self._made: Queue[tuple[int, Keyed] | None] | None = Queue(maxsize=1) if lazily else None
        self._stopped = False
        if lazily:
            run = contextvars.copy_context().run
            threading.Thread(target=run, args=(self._make,), name="nbstep items", daemon=True).start()

    def next_now(self) -> tuple[int, Keyed] | None:
        """The next item; None where there is none, or none yet."""
        if self.is_over:
            return None
        item: tuple[int, Keyed] | None
        if self._made is None:
            item = next(self._items, None)
        else:
            try:
                item = self._made.get(timeout=_MADE_WITHIN_S)
            except Empty:
                return None
        if item is None:
            self.is_over = True
        return None if self._stopped else item

    def stop(self) -> None:
        """Makes no more of them."""
        self._stopped = self.is_over = True

    def _make(self) -> None:
        try:
            for item in self._items:
                self._hand_over(item)
                if self._stopped:
                    break
        except BaseException as error:  # noqa: BLE001 - the map raises it; it is not this thread's
            self.error = error
        self._items = iter(())  # a generator ends here, on its own thread
        self._hand_over(None)

    def _hand_over(self, item: tuple[int, Keyed] | None) -> None:
        while self._made is not None and not self._stopped:
            try:
                return self._made.put(item, timeout=_TICK_S)
            except Full:
                continue
