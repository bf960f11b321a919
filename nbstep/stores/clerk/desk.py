"""The clerk's process: looks keys up and locks them ahead, publishes entries, in the order it is asked.

A thread of the kernel gives Python's lock away at each call of the system, and gets it back after the others; this process has
none to share. What is in the memory of both is done even if the kernel is killed: then nobody has the other end of a pipe.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from nbstep.stores.base import NO_TRACES
from nbstep.stores.clerk.memory import Memory
from nbstep.stores.clerk.messages import Message, Unpacker, is_readable, packed
from nbstep.stores.disk import DiskStore
from nbstep.stores.locks import KeyLock

_NAP_S: Final = 0.004  # messages cost less several at once: a fifth of its time
_NAP_AT_MOST_S: Final = 0.016


class Desk:
    """What the kernel asks, done.

    Args:
        store: The folder.
        pid: The kernel's process.
    """

    def __init__(self, store: DiskStore, pid: int) -> None:
        self._store = store
        self._bulk = store.bulk()
        self._pid = pid
        self._locks: dict[str, KeyLock] = {}

    def answers(self, messages: Iterable[Message]) -> list[Message]:
        """Does what some messages ask, one after the other, with one look at the folders for all; gives the answers."""
        answers, kept = list[Message](), list[int]()
        self._bulk.look()
        for verb, *given in messages:
            if verb == "keep":
                number, *entry = given
                if self._keep(*entry):
                    kept.append(number)
                else:
                    answers.append(("not kept", number))
            elif verb == "expect":
                answers += self._lock(*given)
            else:
                self._let_go(*given)
        return [*answers, ("kept", kept)] if kept else answers

    def close(self) -> None:
        """Lets go of all."""
        for key in list(self._locks):
            self._let_go(key)

    def _lock(self, signer: str, holder: str | None, keys: Sequence[str]) -> list[Message]:
        """Locks the keys under which nothing is kept; says which, and where there is something else of them, what."""
        locks = self._store.locks.take_new(key for key in keys if key not in self._locks)
        new, others, answers = list[str](), list[str](), list[Message]()
        now = time.time() // 1  # in whole seconds, a file that goes from key to key mostly says it already
        for key in keys:
            lock = locks.get(key)
            if lock is None or not self._bulk.is_missing(key, signer):
                others.append(key)
                continue
            self._locks[key] = locks.pop(key)
            lock.sign(holder, now, self._pid)
            traces = self._store.traces_here(key, signer)
            if traces is NO_TRACES:
                new.append(key)
            else:
                answers.append(("yours", [key], traces.strangers, traces.trashed, traces.evicted))
        for lock in locks.values():
            lock.release()
        return [*answers, ("yours", new, (), False, False), ("no", others)]

    def _keep(self, key: str, signer: str, content: bytes, batch: str | None) -> bool:
        """Publishes an entry; whether that was done."""
        try:
            self._bulk.publish(key, signer, content, batch)
        except Exception:  # noqa: BLE001 - the kernel tries it itself, and tells what it meets
            return False
        finally:
            self._let_go(key)
        return True

    def _let_go(self, key: str) -> None:
        lock = self._locks.pop(key, None)
        if lock is not None:
            lock.release()


def serve(memory: Memory, life: int, desk: Desk) -> None:
    """Answers until the other end of the pipe is closed, or whoever has it is gone."""
    kernel, unpacker, answers, nap_s = os.getppid(), Unpacker(), packed(("ready", os.getpid())), _NAP_S
    is_over = False
    while True:
        content = memory.asked.take()
        if content:
            answers += b"".join(map(packed, desk.answers(unpacker.messages(content))))
        answers = answers[memory.told.put(memoryview(answers)) :]
        if content:
            nap_s = _NAP_S
        elif is_over:  # and nothing was left
            break
        else:  # a pipe that can be read has no other end: killed, or it wants no more; or something else still has it open
            is_over = is_readable(life, nap_s) or os.getppid() != kernel
            nap_s = min(2 * nap_s, _NAP_AT_MOST_S)
    desk.close()
    while answers and os.getppid() == kernel:
        answers = answers[memory.told.put(memoryview(answers)) :]
        time.sleep(_NAP_S)


def main(arguments: list[str]) -> None:
    """As `line.py` starts it: the memory, the end of a pipe, the folder, and what is to stay free on its disk."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the kernel; its end is this one's too
    shared, life, folder, keep_free = arguments
    store = DiskStore(Path(folder), keep_free_bytes=int(keep_free) if keep_free else None)
    with store.locks.spares.wanted():
        serve(Memory(int(shared)), int(life), Desk(store, os.getppid()))


if __name__ == "__main__":
    main(sys.argv[1:])
