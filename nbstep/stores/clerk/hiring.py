"""When a folder gets a clerk: while a `step.map` keeps very many small entries in quick succession, or may be about to."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nbstep.forks import ThreadLock

if TYPE_CHECKING:
    from nbstep.stores.base import Part
    from nbstep.stores.clerk.client import Clerk, Handed
    from nbstep.stores.locks import KeyLock

_MANY: Final = 64
_QUICK_S: Final = 0.64  # so many within this time: a clerk takes a tenth of a second to come
_AT_LEAST: Final = 16  # as quick as that
_VERY_MANY: Final = 1000  # so many items, of which the first are new, are taken for quick at first
_TAKEN_FOR_QUICK_S: Final = 1.0
_COMES_WITHIN_S: Final = 0.25

Lost = Callable[[tuple[str, ...], BaseException], None]


class Clerks:
    """The clerk of one folder, while somebody wants one.

    Args:
        directory: The `.nbstep` folder.
        keep_free_bytes: What must stay free on its disk; None for the usual.
        publish: Publishes an entry in this process; raises what `Store.publish` does.
        is_near: Whether the folder is on a disk of this machine: over a network threads wait side by side.
    """

    def __init__(
        self,
        directory: Path,
        keep_free_bytes: int | None,
        publish: Callable[[Handed], None],
        is_near: Callable[[], bool],
    ) -> None:
        self._directory = directory
        self._keep_free_bytes = keep_free_bytes
        self._publish = publish
        self._is_near = is_near
        self._guard = ThreadLock()
        self._kept: deque[float] = deque(maxlen=_MANY)
        self._lost: Lost | None = None
        self._quick_until = 0.0
        self._wanted = 0
        self._owner = os.getpid()
        self._tried = False
        self.clerk: Clerk | None = None

    @contextmanager
    def wanted(self, lost: Lost) -> Generator[None]:
        """Until its end there may be a clerk; then all that it was given is kept.

        Args:
            lost: Is told the keys of entries that in the end nobody could publish, and why.
        """
        with self._guard:
            if self._owner != os.getpid():  # a forked child: the clerk is its parent's
                self._owner, self._wanted, self.clerk, self._tried = os.getpid(), 0, None, False
            self._lost = lost
            self._wanted += 1
        try:
            yield
        finally:
            with self._guard:
                self._wanted -= 1
                if not self._wanted:
                    clerk, self.clerk, self._tried = self.clerk, None, False
                    self._kept.clear()
                    self._quick_until = 0.0
                    if clerk is not None:
                        clerk.close()

    def keep(self, key: str, signer: str, parts: Sequence[Part], batch: str | None, *, durable: bool) -> bool:
        """Lets the clerk publish an entry; whether it will."""
        if self._wanted:
            self._kept.append(time.monotonic())
        clerk = self.clerk
        return clerk is not None and clerk.keep(key, signer, parts, batch, durable=durable)

    def take(self, key: str) -> KeyLock | None:
        """The lock that the clerk holds on a key for this process, where it does."""
        clerk = self.clerk
        return None if clerk is None else clerk.take(key)

    def expect(
        self, keys: Sequence[str], signer: str, holder: str | None, count: int, is_new: Callable[[str], bool]
    ) -> None:
        """Has a clerk look up and lock what is asked soon; not where that may be long.

        Args:
            keys: What is asked.
            signer: The id of the user's key.
            holder: Who asks.
            count: How many keys are asked in all.
            is_new: Whether there is no entry of a key.
        """
        self._forget_idle()
        if self.clerk is None and not self._tried and keys:
            begins = not self._kept and count >= _VERY_MANY and is_new(keys[0]) and is_new(keys[-1])
            if begins or self._is_quick():
                self._hire()
            clerk = self.clerk
            if begins and clerk is not None and clerk.comes(_COMES_WITHIN_S):
                self._quick_until = time.monotonic() + _TAKEN_FOR_QUICK_S
        clerk = self.clerk  # once: another thread may have it forgotten
        if clerk is not None and self._is_quick():
            clerk.expect(keys, signer, holder)

    def settle(self) -> None:
        """Waits until the clerk, where there is one, has published all that it was given."""
        clerk = self.clerk
        if clerk is not None:
            clerk.settle()

    def _is_quick(self) -> bool:
        now, count = time.monotonic(), len(self._kept)
        if now < self._quick_until:
            return True
        return count >= min(_AT_LEAST, _MANY) and now - self._kept[0] < _QUICK_S * count / _MANY

    def _forget_idle(self) -> None:
        clerk = self.clerk
        if clerk is not None and clerk.was_idle:
            with self._guard:
                if self.clerk is clerk:
                    self.clerk, self._tried = None, False

    def _hire(self) -> None:
        with self._guard:
            if self._tried:
                return
            self._tried = True
            if os.name != "posix" or not sys.executable or not self._is_near():
                return
            client = importlib.import_module("nbstep.stores.clerk.client")  # with the first map that is so quick
            try:
                self.clerk = client.Clerk(self._directory, self._keep_free_bytes, self._publish_all)
            except (OSError, RuntimeError, MemoryError):  # no more processes or threads, no program: it goes on without
                return

    def _publish_all(self, entries: Sequence[Handed]) -> None:
        """Does what the clerk could not."""
        lost: list[str] = []
        last: Exception | None = None
        for entry in entries:
            try:
                self._publish(entry)
            except Exception as error:  # noqa: BLE001 - told below, all at once
                lost.append(entry.key)
                last = error
        if last is not None and self._lost is not None:
            self._lost(tuple(lost), last)
