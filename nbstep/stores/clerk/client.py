"""The kernel's side of its clerk: what it was told, what it still has to do, and what becomes of that when it is gone."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nbstep.stores.base import Part, Traces
from nbstep.stores.clerk.messages import Message, Unpacker, is_readable, packed
from nbstep.stores.locks import KeyLock

_TRUSTED_FOR_S: Final = 1.0  # what was locked ahead is used within this time, or let go
_TICK_S: Final = 0.25
_ANSWERS_WITHIN_S: Final = 10.0
_WAITING_AT_MOST: Final = 256
_WAITING_BYTES_AT_MOST: Final = 8 << 20
_LEAST_A_SECOND: Final = 200  # entries published
_ENTRY_BYTES_AT_MOST: Final = 1 << 16
_LOOK_FROM: Final = 16  # so many entries wait before it is looked whether some are kept
_READ_BYTES: Final = 1 << 16
_PIPE_BYTES: Final = 1 << 20  # what waits goes in without waiting
_PACKAGE: Final = Path(__file__).parents[3]
_START: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from nbstep.stores.clerk.desk import main; main(sys.argv[2:])"
)


@dataclass(eq=False, slots=True)
class Handed:
    """An entry that the clerk has to publish, or has published without having said so; `sent` as it goes into the pipe."""

    key: str
    signer: str
    content: bytes
    batch: str | None
    sent: bool = False


class Clerk:
    """A process that works on a folder for this one.

    Whatever it does not do, this process does: its end costs time, no entry. What a thread puts down for it is sent by whoever is
    at the pipe next.

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
        self._mine = threading.local()  # what each thread put down last
        self._pipe = threading.Lock()  # who has it sends and hears
        self._unpacker = Unpacker()
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
        asked, self._ask = os.pipe()
        self._told, told = os.pipe()
        os.set_blocking(self._told, False)
        _widen(self._ask)
        free = "" if keep_free_bytes is None else str(keep_free_bytes)
        given = [str(_PACKAGE), str(asked), str(told), str(directory), free]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _START, *given], pass_fds=(asked, told), stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        except BaseException:
            os.close(self._ask)
            os.close(self._told)
            raise
        finally:
            os.close(asked)
            os.close(told)
        self._alive = True
        self._closing = threading.Event()
        _clerks.add(self)
        try:
            threading.Thread(target=self._tick, name="nbstep clerk", daemon=True).start()
        except RuntimeError:
            self._end()
            raise

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
        if not self._ready:
            self._flush()
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
        last: Handed | None = getattr(self._mine, "last", None)
        if last is not None and not last.sent:  # who is killed loses of each thread what it computes, no more
            self._flush()
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
        self._mine.last = entry
        self._outbox.append(("keep", entry))
        self._try_to_flush()
        self._began = self._began or time.monotonic()
        if self._is_behind():
            self._catch_up(time.monotonic() - self._began)
        return True

    def _is_behind(self) -> bool:
        return len(self._waiting) > _WAITING_AT_MOST or self._bytes > _WAITING_BYTES_AT_MOST

    def _catch_up(self, for_s: float) -> None:
        """Waits until it has published more; ends it where a disk is slow, as threads wait for that side by side."""
        if self._count - len(self._waiting) >= _LEAST_A_SECOND * for_s:
            self._wait(lambda: not self._is_behind())
            return
        with self._pipe:
            self._end()

    def content(self, key: str, signer: str) -> bytes | None:
        """The entry of a key that it has not published yet, as far as is known."""
        entry = self._unpublished.get(key)
        return entry.content if entry is not None and entry.signer == signer else None

    def settle(self) -> None:
        """Waits until it has published all that it was given."""
        self._wait(lambda: not self._unpublished)

    def close(self) -> None:
        """Ends it, when it has published all that it was given."""
        self.settle()
        if self._alive:
            with self._pipe:
                self._end()

    def works(self) -> bool:
        """Whether it does anything for this process."""
        return self._alive

    def disown(self) -> None:
        """Leaves it to this process's parent, as a forked child must."""
        if self._alive:
            self._alive = False
            self._closing.set()
            os.close(self._ask)
            os.close(self._told)
        for held in (self._outbox, self._expected, self._ours, self._begun, self._waiting, self._unpublished):
            held.clear()

    def _renounce(self, key: str) -> None:
        if self._ours.pop(key, None) is not None:
            self._outbox.append(("let go", key))

    def _tick(self) -> None:
        """Lets go of what was locked ahead and is not begun: the next items take longer than those before."""
        while not self._closing.wait(_TICK_S):
            with self._pipe:
                self._send()
                self._hear(0.0)
            now = time.monotonic()
            for key, (at, _) in self._ours.copy().items():
                if now - at >= _TRUSTED_FOR_S:
                    self._renounce(key)

    def _flush(self) -> None:
        """Sends what was put down. By `with` alone: after another way to take a lock an interrupt could leave it taken."""
        with self._pipe:
            self._send()
            self._look()

    def _try_to_flush(self) -> None:
        """The same, but where another thread is at the pipe: to wait for it is to wait until it has the interpreter again."""
        if threading.current_thread() is threading.main_thread():  # the one that interrupts come to
            self._flush()
            return
        while self._outbox and self._pipe.acquire(blocking=False):
            try:
                self._send()
                self._look()
            finally:
                self._pipe.release()

    def _wait(self, is_over: Callable[[], bool]) -> None:
        """Waits for its answers; ends it where it gives none."""
        while not is_over() and self._alive:
            with self._pipe:
                self._send()
                if not is_over() and self._alive and not self._hear(_ANSWERS_WITHIN_S):
                    self._end()

    # What follows is for who has the pipe ------------------------------------------------------------------------------

    def _send(self) -> None:
        """Sends what was put down."""
        try:
            while self._outbox and self._alive:
                messages = [self._outbox.popleft() for _ in range(len(self._outbox))]
                entries = [message[1] for message in messages if message[0] == "keep"]
                left = memoryview(b"".join([packed(self._numbered(*message)) for message in messages]))
                for entry in entries:  # now, as this thread may wait long for the interpreter after the call
                    entry.sent = True
                while left:
                    left = left[os.write(self._ask, left) :]
            if not self._alive:
                self._do_without()
        except OSError:
            self._end()
        except BaseException:  # an interrupt: half a message may be in the pipe, and nothing more makes sense in it
            self._end()
            raise

    def _look(self) -> None:
        if len(self._waiting) >= _LOOK_FROM or not self._ready:
            self._hear(0.0)

    def _numbered(self, verb: str, *given: Any) -> Message:
        """A message as it is sent: an entry with the number by which the clerk tells of it."""
        if verb != "keep":
            return verb, *given
        (entry,) = given
        self._count += 1
        self._waiting[self._count] = entry
        self._bytes += len(entry.content)
        return "keep", self._count, entry.key, entry.signer, entry.content, entry.batch

    def _hear(self, timeout_s: float) -> bool:
        """Takes what it has told; whether it told anything within a time."""
        try:
            if not self._alive or (timeout_s and not is_readable(self._told, timeout_s)):
                return False
            content = os.read(self._told, _READ_BYTES)
        except BlockingIOError:
            return False
        if not content or not self._note(content):
            self._end()
        return True

    def _note(self, content: bytes) -> bool:
        """Notes its answers; whether it published all that it was asked to."""
        published = True
        for verb, what, *more in self._unpacker.messages(content):
            if verb == "ready":
                self._ready = True
            elif verb == "kept":
                self._done(what)
            elif verb == "yours":
                self._ours[what] = self._expected.get(what, 0.0), Traces(*more)
                self._expected.pop(what, None)
            elif verb == "no":
                self._expected.pop(what, None)
            else:
                published = False
        return published

    def _done(self, number: int) -> None:
        entry = self._waiting.pop(number)
        self._bytes -= len(entry.content)
        if self._unpublished.get(entry.key) is entry:
            del self._unpublished[entry.key]

    def _end(self) -> None:
        """Lets it finish what it has, hears what that was, and does the rest without it."""
        if not self._alive:
            return
        self._alive = False
        self._closing.set()
        os.close(self._ask)
        with suppress(OSError, ValueError):
            while is_readable(self._told, _ANSWERS_WITHIN_S) and (content := os.read(self._told, _READ_BYTES)):
                self._note(content)
        os.close(self._told)
        self._expected.clear()
        self._ours.clear()
        self._begun.clear()
        self._process.kill()  # it has ended, or it does not answer
        self._process.wait()
        self._do_without()

    def _do_without(self) -> None:
        """Publishes what it did not, also what was put down as it ended."""
        left = [self._waiting.pop(number) for number in list(self._waiting)]
        while self._outbox:
            message = self._outbox.popleft()
            left += [message[1]] if message[0] == "keep" else []
        if left:
            self._publish(left)
        for entry in left:
            if self._unpublished.get(entry.key) is entry:
                del self._unpublished[entry.key]


class _Borrowed(KeyLock):
    """A lock that the clerk holds."""

    def __init__(self, clerk: Clerk, key: str) -> None:
        super().__init__()
        self._clerk = clerk
        self._key = key

    def excludes(self) -> bool:
        """It does, as long as the clerk lives."""
        return self._clerk.works()

    def release(self) -> None:
        """Lets the next one go on."""
        self._clerk.let_go(self._key)

    abandon = release


def _widen(pipe: int) -> None:
    """Lets more go into a pipe without waiting, where the system can."""
    with suppress(ImportError, AttributeError, OSError):
        fcntl = importlib.import_module("fcntl")
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


_clerks: Final[weakref.WeakSet[Clerk]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for clerk in list(_clerks):
        clerk.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
