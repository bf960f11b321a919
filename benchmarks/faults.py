"""Processes killed while they store, and bytes flipped on the disk. Each try is a fork, so that no peer is imported anew."""

from __future__ import annotations

import os
import pickle
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import work
from peers import Peer

OTHERS = [f"user:{n}" for n in range(5)]
PATIENCE_S = 3  # a look-up that takes longer hangs


def kills(peer: Peer, count: int) -> dict[str, int]:
    """Kills a process that stores 20 MB at a random moment; then another one asks for every key."""
    work.ready["killed:0"] = work.value_of("killed:0")
    for key in OTHERS:
        peer.put(key)
    began = time.perf_counter()
    peer.put("killed:0")
    whole_s = time.perf_counter() - began
    figures = dict.fromkeys(("wrong", "raising", "others lost", "kept"), 0)
    rng = random.Random(7)
    for n in range(1, count + 1):
        work.ready = {f"killed:{n}": work.value_of(f"killed:{n}")}
        pid = os.fork()
        if pid == 0:
            store_and_leave(peer, f"killed:{n}")
        time.sleep(rng.random() * 1.5 * whole_s)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        told = in_fork(lambda n=n: looked_at(peer, f"killed:{n}"))
        for name in figures:
            figures[name] += told.get(name, 0)
    figures["litter"] = in_fork(lambda: peer_again(peer).litter())
    return figures


def looked_at(peer: Peer, key: str) -> dict[str, int]:
    """What a new process finds under the key whose store was killed, and under those that were there before."""
    try:
        fresh = peer_again(peer)
        what = look(fresh, key)
        others = [look(fresh, other) for other in OTHERS]
    except BaseException:  # marimo's errors are BaseExceptions
        return {"raising": 1}
    return {
        "wrong": [what, *others].count("wrong"),
        "kept": [what].count("right"),
        "others lost": others.count("miss"),
    }


def look(peer: Peer, key: str) -> str:
    """Whether a look-up finds the right value; what a decorator computes anew is a miss."""
    work.made.clear()
    value = peer.hit(key)
    if value is None or work.made:
        return "miss"
    return "right" if work.same(value, work.given(key)) else "wrong"


def flips(peer: Peer, count: int) -> dict[str, int]:
    """Flips one byte in the middle of the largest file, reads in another process, puts the byte back."""
    right = work.value_of("flipped:1")
    peer.put("flipped:1")
    path = max((path for path in peer.folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = path.read_bytes()
    begin = content.find(right.tobytes()[:4096])
    assert begin >= 0, "the array stands in no file as it is"
    figures = dict.fromkeys(("silent", "raising", "noticed"), 0)
    rng = random.Random(7)
    for _ in range(count):
        at = begin + rng.randrange(right.nbytes)
        changed = bytearray(content)
        changed[at] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        figures[in_fork(lambda: read_flipped(peer))] += 1
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)  # a peer that noticed may have stored it anew
    return figures


def read_flipped(peer: Peer) -> str:
    try:
        return {"miss": "noticed", "right": "noticed", "wrong": "silent"}[look(peer_again(peer), "flipped:1")]
    except BaseException:
        return "raising"


def peer_again(peer: Peer) -> Peer:
    return type(peer)(peer.folder)


def store_and_leave(peer: Peer, key: str) -> None:
    try:
        peer_again(peer).put(key)
    finally:
        os._exit(0)


def in_fork(task: Callable[[], Any]) -> Any:
    """What a task gives in a fork of this process; a fork that hangs counts as raising."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reading)
            signal.alarm(PATIENCE_S)
            with Path(os.devnull).open("w") as sys.stderr, os.fdopen(writing, "wb") as out:
                pickle.dump(task(), out)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as got:
        content = got.read()
    os.waitpid(pid, 0)
    return pickle.loads(content) if content else {"raising": 1}
