"""The kernel's side of its clerk: what it was told, what it still has to do, and what becomes of that when it is gone."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple

from nbstep.stores.base import Part, Traces
from nbstep.stores.clerk.line import Line
from nbstep.stores.clerk.messages import Message, packed
from nbstep.stores.locks import KeyLock

_TRUSTED_FOR_S: Final = 1.0  # what was locked ahead is used within this time, or let go
_TICK_S: Final = 0.25
_IDLE_S: Final = 5.0  # without an entry: items take longer than was thought
_ANSWERS_WITHIN_S: Final = 10.0
_NAP_S: Final = 0.001
_NAP_AT_MOST_S: Final = 0.02
_WAITING_AT_MOST: Final = 256
_WAITING_BYTES_AT_MOST: Final = 1 << 18  # with what else is asked, less than a line holds
_LEAST_A_SECOND: Final = 200  # entries published
_ENTRY_BYTES_AT_MOST: Final = 1 << 15
_HEAR_FROM: Final = 16  # so many entries wait before it is looked whether some are kept


class Handed(NamedTuple):
    """An entry that the clerk has to publish, or has published without having said so."""

    key: str
    signer: str
    content: bytes
    batch: str | None


class Clerk:
    """A process that works on a folder for this one.

    Whatever it does not do, this process does: its end costs time, no entry. What a thread gives it is in its memory when the
    thread goes on. A thread of its own looks after it, as no interrupt comes to that.

    A key is expected, then ours (it has locked it), then begun (a step of this process has that lock). Its entry is unpublished
    from `keep` on, and waiting, under a number, from when it was sent until it has told that it stands. A clerk that has been
    ended takes nothing more; it is over when all that it was given is published, by whomever.

    Args:
        directory: The `.nbstep` folder.
        keep_free_bytes: What must stay free on its disk, as for the store.
        publish: Publishes entries without it; tells itself what fails.

    Raises:
        OSError: It cannot be started.
        RuntimeError: There can be no more threads.
    """

    def __init__(
        self, directory: Path, keep_free_bytes: int | None, publish: Callable[[Sequence[Handed]], None]
    ) -> None:
        self._publish = publish
        self._outbox: deque[Message] = deque()
        self._at_line = (
            threading.Lock()
        )  # who has it sends and hears, and lets nobody go first meanwhile (see `_Turns`)
        self._ready = False
        self._signer: str | None = None
        self._expected: dict[str, float] = {}  # when it was asked to lock them
        self._ours: dict[str, tuple[float, Traces]] = {}  # what it has locked, and nobody began
        self._begun: set[str] = set()
        self._waiting: dict[int, Handed] = {}
        self._unpublished: dict[str, Handed] = {}
        self._bytes = 0
        self._count = 0
        self._began: float | None = None  # with the first entry
        self._line = Line(directory, keep_free_bytes)
        self._alive = True  # it takes what it is given
        self._over = False  # nothing is left to do
        self._wait_s = _ANSWERS_WITHIN_S
        self._given_at = time.monotonic()
        self._is_idle = False
        self.was_idle = False  # and is over, so that another one may be hired
        self._ended: SimpleQueue[None] = SimpleQueue()  # no event: an interrupt could leave its lock taken
        self._thread = threading.Thread(target=self._look_after, name="nbstep clerk", daemon=True)
        _clerks.add(self)
        try:
            self._thread.start()
        except RuntimeError:
            self.disown()
            self._line.close()
            raise

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._line.pid

    def expect(self, keys: Sequence[str], signer: str, holder: str | None) -> None:
        """Lets it look up keys that are asked soon, and lock those under which nothing is kept; `holder` is who computes them.

        Does nothing until it has come: who asks for one of them would wait for that.
        """
        if not self.is_ready() or self._signer not in {None, signer}:
            return
        self._signer, now = signer, time.monotonic()
        new = [key for key in keys if key not in self._expected and key not in self._ours and key not in self._begun]
        new = [key for key in new if key not in self._unpublished]
        if new:
            self._expected.update(dict.fromkeys(new, now))
            self._outbox.append(("expect", signer, holder, new))
            self._flush()

    def is_ready(self) -> bool:
        """Whether it has come."""
        if not self._ready and self._alive:
            self._flush()
        return self._ready and self._alive

    def comes(self, within_s: float) -> bool:
        """Waits until it has come; whether it has."""
        ends = time.monotonic() + within_s
        while not self.is_ready() and self._alive and not self._line.has_ended() and time.monotonic() < ends:
            time.sleep(_NAP_S)
        return self._ready and self._alive

    def missing(self, key: str, signer: str) -> Traces | None:
        """Why nothing is kept under a key that it has locked for this process; None where it has not."""
        if signer != self._signer:
            return None
        if key in self._expected:
            self._wait(lambda: key not in self._expected)
        at, traces = self._ours.get(key, (0.0, None))
        if traces is not None and time.monotonic() - at >= _TRUSTED_FOR_S:
            self._renounce(key)
            return None
        return traces

    def take(self, key: str) -> KeyLock | None:
        """The lock that it holds on a key for this process, which is now that of the caller; None where it has none."""
        if self._ours.pop(key, None) is None:
            return None
        self._begun.add(key)
        return _Borrowed(self, key)

    def has_begun(self, key: str) -> bool:
        """Whether its lock on a key was taken: nothing is kept there, and nobody else computes it."""
        return key in self._begun

    def let_go(self, key: str) -> None:
        """A key is not computed any more. It is told with what is sent next: a lock may be dropped while this thread sends."""
        if key in self._begun:
            self._begun.discard(key)
            self._outbox.append(("let go", key))

    def keep(self, key: str, signer: str, parts: Sequence[Part], batch: str | None, *, durable: bool) -> bool:
        """Lets it publish an entry, and then let go of its key; whether it will. It is read from here until it has.

        Only of a key that it holds: a lock of this process would be released before the entry stands there. One that is large,
        or is to survive a power failure, is not for it either.
        """
        if durable or key not in self._begun or not self._alive or sum(map(len, parts)) > _ENTRY_BYTES_AT_MOST:
            if key in self._unpublished:
                self.settle()
            return False
        entry = Handed(key, signer, b"".join(parts), batch)
        self._unpublished[key] = entry
        self._begun.discard(key)
        self._outbox.append(("keep", entry))
        self._flush()
        if not self._alive:  # since it was asked; it may have come too late
            self._wait_until_over()
            if self._unpublished.get(key) is entry:
                del self._unpublished[key]
                return False
            return True
        self._given_at = now = time.monotonic()
        self._began = self._began or now
        if self._is_behind():
            self._catch_up(now - self._began)
        return True

    def _is_behind(self) -> bool:
        return len(self._waiting) > _WAITING_AT_MOST or self._bytes > _WAITING_BYTES_AT_MOST or self._line.is_full()

    def _catch_up(self, for_s: float) -> None:
        """Waits until it has published more; ends it where a disk is slow, as threads wait for that side by side."""
        if self._count - len(self._waiting) >= _LEAST_A_SECOND * for_s:
            self._wait(lambda: not self._is_behind())
        else:
            self._end()

    def content(self, key: str, signer: str) -> bytes | None:
        """The entry of a key that it has not published yet, as far as is known."""
        entry = self._unpublished.get(key)
        return entry.content if entry is not None and entry.signer == signer else None

    def settle(self) -> None:
        """Waits until all that it was given until now is published."""
        with self._at_line:
            self._send()
            last = self._count
        self._wait(lambda: not self._line.is_full() and min(self._waiting.copy(), default=last + 1) > last)
        if not self._alive:
            self._wait_until_over()

    def close(self) -> None:
        """Ends it, when all that it was given is published. Where that is interrupted its thread still does it."""
        try:
            self.settle()
        finally:
            self._end()
        self._wait_until_over()

    def works(self) -> bool:
        """Whether it takes what it is given."""
        return self._alive

    def disown(self) -> None:
        """Leaves it to this process's parent, as a forked child must."""
        self._alive, self._over = False, True
        self._at_line = threading.Lock()
        self._line.hang_up()
        for held in (self._outbox, self._expected, self._ours, self._begun, self._waiting, self._unpublished):
            held.clear()

    def _renounce(self, key: str) -> None:
        if self._ours.pop(key, None) is not None:
            self._outbox.append(("let go", key))

    def _flush(self) -> None:
        """Sends what was put down. By `with` alone: after another way to take a lock an interrupt could leave it taken."""
        with self._at_line:
            self._send()
            if len(self._waiting) >= _HEAR_FROM or not self._ready:
                self._hear()

    def _wait(self, is_over: Callable[[], bool]) -> None:
        """Waits for its answers while it lives; ends it where it gives none."""
        nap_s, heard_at = _NAP_S, time.monotonic()
        while self._alive and not is_over():
            with self._at_line:
                self._send()
                heard = self._hear()
            if heard:
                nap_s, heard_at = _NAP_S, time.monotonic()
            elif self._line.has_ended() or time.monotonic() - heard_at > _ANSWERS_WITHIN_S:
                self._end(wait_s=0.0)
            if self._alive and not is_over():
                time.sleep(nap_s)
                nap_s = min(2 * nap_s, _NAP_AT_MOST_S)

    def _wait_until_over(self) -> None:
        while not self._over and threading.current_thread() is not self._thread:
            time.sleep(_NAP_S)

    def _end(self, wait_s: float = _ANSWERS_WITHIN_S) -> None:
        """Gives it nothing more; its thread waits until it has done what it has, so long without an answer, and does the rest."""
        if self._alive:
            self._wait_s = wait_s
            self._alive = False
            self._ended.put(None)

    # What follows is for who is at the line ----------------------------------------------------------------------------

    def _send(self) -> None:
        """Sends what was put down."""
        if not self._alive or not (self._outbox or self._line.is_full()):
            return
        try:
            content = b""
            while self._outbox:
                message = self._outbox[0]
                content += packed(self._numbered(message[1]) if message[0] == "keep" else message)
                self._outbox.popleft()  # last: where an interrupt comes between, its entry is in both, and published again
            self._line.send(content)
        except BaseException:  # an interrupt: half a message may be sent, and nothing more makes sense after it
            self._end()
            raise

    def _numbered(self, entry: Handed) -> Message:
        """An entry as it is sent: with the number by which the clerk tells of it."""
        self._count += 1
        self._waiting[self._count] = entry
        self._bytes += len(entry.content)
        return "keep", self._count, *entry

    def _hear(self) -> bool:
        """Takes what it has told; whether it told anything."""
        if not self._alive:
            return False
        try:
            messages = self._line.heard()
            if not self._note(messages):
                self._end()
        except BaseException:  # an interrupt: what was told may be lost
            self._end()
            raise
        return bool(messages)

    def _note(self, messages: Sequence[Message]) -> bool:
        """Notes its answers; whether it published all that it was asked to."""
        published = True
        for verb, what, *more in messages:
            if verb == "ready":
                self._ready = True
            elif verb == "kept":
                for number in what:
                    self._done(number)
            elif verb == "yours":
                traces = Traces(*more)
                for key in what:
                    self._ours[key] = self._expected.get(key, 0.0), traces
                    self._expected.pop(key, None)
            elif verb == "no":
                for key in what:
                    self._expected.pop(key, None)
            else:
                published = False
        return published

    def _done(self, number: int) -> None:
        entry = self._waiting.pop(number)
        self._bytes -= len(entry.content)
        if self._unpublished.get(entry.key) is entry:
            del self._unpublished[entry.key]

    # What follows is for the thread that looks after it ----------------------------------------------------------------

    def _look_after(self) -> None:
        try:
            while self._alive:
                with suppress(Empty):
                    self._ended.get(timeout=_TICK_S)
                self._tick()
        finally:
            self._alive = False
            try:
                self._finish()
            finally:
                self._over = True
                self.was_idle = self._is_idle

    def _tick(self) -> None:
        """Sends what only was put down, and lets go of what was locked ahead and is not begun: items take longer now."""
        with self._at_line:
            self._send()
            self._hear()
        if self._alive and self._line.has_ended():
            self._end(wait_s=0.0)
        now = time.monotonic()
        for key, (at, _) in self._ours.copy().items():
            if now - at >= _TRUSTED_FOR_S:
                self._renounce(key)
        # In the order in which a key goes through them.
        if now - self._given_at >= _IDLE_S and not (self._expected or self._ours or self._begun or self._unpublished):
            self._is_idle = True
            self._end()

    def _finish(self) -> None:
        """Lets it do what it has, hears what that was, and publishes what it did not; also what was put down meanwhile."""
        with self._at_line:
            self._line.hang_up()
            self._hear_out(self._wait_s if self._ready else 0.0)
            self._line.close()
            self._expected.clear()
            self._ours.clear()
            self._begun.clear()
            messages = [self._outbox.popleft() for _ in range(len(self._outbox))]
            put_down = (message[1] for message in messages if message[0] == "keep")
            left = list(dict.fromkeys((*self._waiting.values(), *put_down)))
        if left:
            self._publish(left)
        self._waiting.clear()
        for entry in left:
            if self._unpublished.get(entry.key) is entry:
                del self._unpublished[entry.key]

    def _hear_out(self, wait_s: float) -> None:
        """Hears all that it still tells, until its process is gone, or tells nothing for so long."""
        heard_at, is_over = time.monotonic(), False
        while not is_over:
            ended = self._line.has_ended()  # before it is heard for the last time
            if messages := self._line.heard():
                self._note(messages)
                heard_at = time.monotonic()
            elif ended or time.monotonic() - heard_at >= wait_s:
                is_over = True
            else:
                time.sleep(_NAP_S)


class _Borrowed(KeyLock):
    """A lock that the clerk holds."""

    _clerk: Clerk | None = None  # also of one that was not made to its end
    _key = ""

    def __init__(self, clerk: Clerk, key: str) -> None:
        self._key = key
        self._clerk = clerk

    def excludes(self) -> bool:
        """It does, as long as the clerk lives."""
        return self._clerk is not None and self._clerk.works()

    def release(self) -> None:
        """Lets the next one go on."""
        if self._clerk is not None:
            self._clerk.let_go(self._key)

    abandon = release


_clerks: Final[weakref.WeakSet[Clerk]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for clerk in list(_clerks):
        clerk.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
