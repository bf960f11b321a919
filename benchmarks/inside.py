"""What runs in a process of its own for one row and one peer; prints its figures as JSON.

python benchmarks/inside.py ROW PEER FOLDER [ARGUMENT…]
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pickle
import statistics
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import Any

import faults
import work
from peers import PEERS, CannotRun, Nbstep, Peer, run_tasks

Figures = dict[str, float]
LIMIT = "limit"


def median_us(look: Callable[[], object], times: int) -> float:
    taken: list[int] = []
    for _ in range(times):
        began = perf_counter_ns()
        look()
        taken.append(perf_counter_ns() - began)
    return statistics.median(taken) / 1000


def hot(peer: Peer) -> Figures:
    peer.put("user:1")
    assert work.same(peer.hit("user:1"), work.value_of("user:1"))
    return {"us": median_us(lambda: peer.hit("user:1"), 3000)}


def hot_limit(folder: Path) -> Figures:
    path, content = folder / "bare", work.pickled_small()
    path.write_bytes(content)
    text = str(path)

    def bare_load() -> Any:
        with open(text, "rb") as file:
            return pickle.load(file)

    return {
        "us": median_us(lambda: (os.stat(text), pickle.loads(content)), 3000),
        "bare_us": median_us(bare_load, 3000),
    }


def hot_step(peer: Peer) -> Figures:
    keys = [f"user:{n}" for n in range(500)]
    if isinstance(peer, Nbstep):
        ask_all = peer.hot_steps(keys)
    else:

        def ask_all() -> None:
            for key in keys:
                peer.ask(key)

    ask_all()
    ask_all()
    work.made.clear()
    began = perf_counter()
    ask_all()
    taken = perf_counter() - began
    assert not work.made
    return {"us": taken / len(keys) * 1e6}


def loaded_modules(peer: Peer) -> list[str]:
    peer.hit("user:1")
    return list(sys.modules)


def first_hit(name: str, folder: Path, modules: list[str]) -> Figures:
    for module in modules:
        with suppress(Exception):
            importlib.import_module(module)
    gc.collect()
    began = perf_counter()
    PEERS[name](folder).hit("user:1")
    taken = perf_counter() - began
    assert not work.made
    return {"us": taken * 1e6}


def first_hit_limit(folder: Path) -> Figures:
    began = perf_counter()
    with open(folder / "bare", "rb") as file:
        pickle.load(file)
    return {"us": (perf_counter() - began) * 1e6}


def store_small(peer: Peer) -> Figures:
    for n in range(20):
        peer.put(f"warm:{n}")
    taken: list[int] = []
    for n in range(1000):
        began = perf_counter_ns()
        peer.put(f"user:{n}")
        taken.append(perf_counter_ns() - began)
    return {"us": statistics.median(taken) / 1000, "mean_us": statistics.mean(taken) / 1000}


def store_small_limit(folder: Path) -> Figures:
    content, taken = work.pickled_small() * 12, []  # about the size of an entry
    (folder / "tmp").mkdir()
    for n in range(256):
        (folder / f"{n:02x}").mkdir()
    for n in range(1000):
        began = perf_counter_ns()
        temp = f"{folder}/tmp/{n}"
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(fd, content)
        os.close(fd)
        os.replace(temp, f"{folder}/{n % 256:02x}/{n}")
        taken.append(perf_counter_ns() - began)
    return {"us": statistics.median(taken) / 1000, "mean_us": statistics.mean(taken) / 1000}


# Large values -----------------------------------------------------------------------------------------------------


def touch_ballast() -> None:
    """Touches spare memory and gives it back to the kernel: its first touch may cost what only the host has."""
    ballast = bytearray(2 << 30)
    for at in range(0, len(ballast), 4096):
        ballast[at] = 1


def anonymous_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise CannotRun("the system does not tell anonymous memory")


class Peak:
    """How much anonymous memory grows at most while a block runs."""

    def __enter__(self) -> Peak:
        gc.collect()
        self.before = self.most = anonymous_mb()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.stop.wait(0.001):
            self.most = max(self.most, anonymous_mb())

    def __exit__(self, *_: object) -> None:
        self.most = max(self.most, anonymous_mb())
        self.stop.set()
        self.thread.join()

    @property
    def mb(self) -> float:
        return self.most - self.before


def store_large(peer: Peer, kind: str, memory: bool) -> Figures:
    importlib.import_module("pandas" if kind == "frame" else "numpy")
    peer.put("warm:1")
    work.ready[f"{kind}:1"] = work.value_of(f"{kind}:1")
    touch_ballast()
    if memory:
        with Peak() as peak:
            peer.put(f"{kind}:1")
        return {"mb": peak.mb}
    began = perf_counter()
    peer.put(f"{kind}:1")
    return {"s": perf_counter() - began}


def hit_large(peer: Peer, kind: str, memory: bool) -> Figures:
    module = importlib.import_module("pandas" if kind == "frame" else "numpy")
    peer.put("warm:2")
    peer.hit("warm:2")
    touch_ballast()
    if memory:
        with Peak() as peak:
            value = peer.hit(f"{kind}:1")
        figures = {"mb": peak.mb}
    else:
        began = perf_counter()
        value = peer.hit(f"{kind}:1")
        figures = {"s": perf_counter() - began}
    assert not [key for key in work.made if key.startswith(kind)]
    if kind == "array":
        figures["writable"] = float(value.flags.writeable)
    elif memory:
        module.testing.assert_frame_equal(value, work.value_of("frame:1"))
    return figures


def large_limit(folder: Path, kind: str) -> Figures:
    value = work.value_of(f"{kind}:1")
    touch_ballast()
    if kind == "array":
        import numpy as np

        began = perf_counter()
        np.save(folder / "bare.npy", value)
        stored = perf_counter() - began
        del value
        touch_ballast()
        began = perf_counter()
        np.load(folder / "bare.npy")
        return {"store_s": stored, "hit_s": perf_counter() - began}
    from pyarrow import feather

    began = perf_counter()
    with open(folder / "bare.pickle", "wb") as file:
        pickle.dump(value, file, 5)
    stored = perf_counter() - began
    feather.write_feather(value, folder / "bare.feather", compression="uncompressed")
    del value
    touch_ballast()
    began = perf_counter()
    with open(folder / "bare.pickle", "rb") as file:
        pickle.load(file)
    pickled = perf_counter() - began
    began = perf_counter()
    feather.read_feather(folder / "bare.feather", memory_map=True)
    return {"store_s": stored, "hit_s": pickled, "feather_s": perf_counter() - began}


# Many entries -----------------------------------------------------------------------------------------------------


def fill(peer: Peer, count: int) -> Figures:
    began = perf_counter()
    for n in range(count):
        peer.put(f"user:{n}")
    return {"s": perf_counter() - began}


def listing(peer: Peer, count: int) -> Figures:
    began = perf_counter()
    found = peer.listing()
    taken = perf_counter() - began
    assert found == count, found
    return {"ms": taken * 1000}


def listing_after_change(peer: Peer, count: int) -> Figures:
    """In a process that listed before, as a panel has."""
    peer.listing()
    peer.delete(["user:1"])
    peer.put("user:1")
    return listing(peer, count)


def listing_limit(folder: Path) -> Figures:
    began = perf_counter()
    found = [item.name for shard in os.scandir(folder / ".nbstep" / "v1" / "e") for item in os.scandir(shard)]
    return {"ms": (perf_counter() - began) * 1000, "found": len(found)}


def delete(peer: Peer, count: int) -> Figures:
    keys = [f"user:{n}" for n in range(count)]
    began = perf_counter()
    peer.delete(keys)
    figures = {"ms": (perf_counter() - began) * 1000}
    try:
        began = perf_counter()
        peer.undo()
        figures["undo_ms"] = (perf_counter() - began) * 1000
    except CannotRun:
        for key in keys:
            peer.put(key)
    return figures


def delete_limit(folder: Path) -> Figures:
    for n in range(1000):
        (folder / f"{n}").write_bytes(bytes(1000))
    began = perf_counter()
    for n in range(1000):
        os.unlink(folder / f"{n}")
    return {"ms": (perf_counter() - began) * 1000}


# Together ---------------------------------------------------------------------------------------------------------


def herd(peer: Peer, how: str, count: int, key: str) -> Figures:
    """`count` threads or tasks of this process ask for one key; of processes, this is one, which starts when told."""
    peer.ask("user:1")
    if how == "processes":
        print("ready", flush=True)
        sys.stdin.readline()
        began = time.time()
        peer.ask(key)
        return {"began": began, "ended": time.time()}
    began = time.time()
    if how == "threads":
        threads = [threading.Thread(target=peer.ask, args=(key,)) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:
        run_tasks(peer, key, count)
    return {"began": began, "ended": time.time()}


def run(row: str, name: str, folder: Path, arguments: list[str]) -> Any:
    if row == "first-hit":
        modules = json.loads(Path(arguments[0]).read_text()) if name != LIMIT else []
        return first_hit_limit(folder) if name == LIMIT else first_hit(name, folder, modules)
    limits: dict[str, Callable[..., Figures]] = {
        "hot": hot_limit, "store-small": store_small_limit, "large": large_limit, "listing": listing_limit,
        "delete": delete_limit,
    }  # fmt: skip
    if name == LIMIT:
        return limits[row](folder, *arguments)
    peer = PEERS[name](folder)
    rows: dict[str, Callable[..., Any]] = {
        "hot": hot, "hot-step": hot_step, "modules": loaded_modules, "store-small": store_small,
        "fill": fill, "listing": listing, "listing-after-change": listing_after_change, "delete": delete,
        "kills": lambda peer, *rest: faults.kills(peer, int(rest[0])),
        "flips": lambda peer, *rest: faults.flips(peer, int(rest[0])),
    }  # fmt: skip
    if row in {"store-large", "hit-large"}:
        measure = store_large if row == "store-large" else hit_large
        return measure(peer, arguments[0], arguments[1] == "memory")
    if row == "herd":
        return herd(peer, arguments[0], int(arguments[1]), arguments[2])
    return rows[row](peer, *(int(argument) for argument in arguments))


if __name__ == "__main__":
    row, name, folder, *arguments = sys.argv[1:]
    try:
        figures = run(row, name, Path(folder), arguments)
    except CannotRun as reason:
        figures = {"cannot": str(reason)}
    print("\n" + json.dumps(figures))
