"""The clerk's process: looks keys up and locks them ahead, publishes entries, in the order it is asked.

A thread of the kernel gives Python's lock away at each call of the system, and gets it back after the others; this process has
none to share. What is in the pipe is done even if the kernel is killed: the clerk ends when nobody can ask it any more.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

from nbstep.stores.base import run_now
from nbstep.stores.clerk.messages import Message, Unpacker, is_readable, packed
from nbstep.stores.disk import DiskStore
from nbstep.stores.locks import KeyLock

_LOOK_AGAIN_S: Final = 0.5
_SEND_AGAIN_S: Final = 0.01
_READ_BYTES: Final = 1 << 18


class Desk:
    """What the kernel asks, done.

    Args:
        store: The folder.
        pid: The kernel's process.
    """

    def __init__(self, store: DiskStore, pid: int) -> None:
        self._store = store
        self._pid = pid
        self._locks: dict[str, KeyLock] = {}

    def answers(self, message: Message) -> list[Message]:
        """Does what a message asks; gives the answers."""
        verb, *given = message
        if verb == "keep":
            return [self._keep(*given)]
        if verb == "expect":
            signer, holder, keys = given
            return [self._lock(key, signer, holder) for key in keys]
        self._let_go(*given)
        return []

    def close(self) -> None:
        """Lets go of all."""
        for key in list(self._locks):
            self._let_go(key)

    def _lock(self, key: str, signer: str, holder: str | None) -> Message:
        """Locks a key under which nothing is kept; says why nothing is."""
        lock = None if key in self._locks else self._store.locks.take(key)
        if lock is None:
            return "no", key
        if not lock.excludes() or run_now(self._store.open(key, signer)) is not None:
            lock.release()
            return "no", key
        self._locks[key] = lock
        lock.sign(holder, time.time(), self._pid)
        traces = run_now(self._store.traces(key, signer))
        return "yours", key, traces.strangers, traces.trashed, traces.evicted

    def _keep(self, number: int, key: str, signer: str, content: bytes, batch: str | None) -> Message:
        try:
            run_now(self._store.publish(key, signer, [content], durable=False, batch=batch))
        except Exception:  # noqa: BLE001 - the kernel tries it itself, and tells what it meets
            return "not kept", number
        finally:
            self._let_go(key)
        return "kept", number

    def _let_go(self, key: str) -> None:
        lock = self._locks.pop(key, None)
        if lock is not None:
            lock.release()


def serve(asked: int, told: int, desk: Desk) -> None:
    """Answers until the other end of the pipe is closed, or whoever has it is gone."""
    kernel, unpacker, answers = os.getppid(), Unpacker(), packed(("ready", os.getpid()))
    os.set_blocking(told, False)
    while True:
        answers = _sent(told, answers)
        if is_readable(asked, _SEND_AGAIN_S if answers else _LOOK_AGAIN_S):
            content = os.read(asked, _READ_BYTES)
            if not content:
                break
            for message in unpacker.messages(content):
                answers += b"".join(map(packed, desk.answers(message)))
        elif os.getppid() != kernel:  # killed, and something still has its end of the pipe
            break
    desk.close()
    os.set_blocking(told, True)
    while answers:
        answers = _sent(told, answers)


def _sent(told: int, answers: bytes) -> bytes:
    """Sends what can be sent now; gives the rest. A kernel that is gone hears nothing."""
    try:
        return answers[os.write(told, answers) :] if answers else answers
    except BlockingIOError:
        return answers
    except OSError:
        return b""


def main(arguments: list[str]) -> None:
    """As `client.py` starts it: the ends of the two pipes, the folder, and what is to stay free on its disk."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the kernel; its end is this one's too
    asked, told, folder, keep_free = arguments
    store = DiskStore(Path(folder), keep_free_bytes=int(keep_free) if keep_free else None)
    with store.locks.spares.wanted():
        serve(int(asked), int(told), Desk(store, os.getppid()))


if __name__ == "__main__":
    main(sys.argv[1:])
