"""What a cache costs by how many entries it has and how many processes use it: on disk, in a dict, in Redis, behind fsspec.

    python benchmarks/scale.py [--full] [--stores disk dict redis fsspec] [--markdown]

Each store is filled with 1,000, 10,000 and 100,000 small entries (`--full`: a million; behind fsspec, in its `memory:`, a tenth).
Then, by a `Cache` that has not seen them: 1,000 hits and 1,000 misses in random order, a list up to the panel's first rows and to
its last, 1,000 deletes at once. `memory` is what the list adds to the process. Last, 1 to 16 processes write, read and replace in
one folder, some keys all of them. `--markdown` writes SCALE.md. Needs `redis-server` for Redis, and a machine that does nothing
else: the load it had is said.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import platform
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbstep import Cache
from nbstep.commands.panelside import Message
from nbstep.notebook.kernelside import KernelSide

COUNTS = (1_000, 10_000, 100_000)
FULL = 1_000_000
PROCESSES = (1, 2, 4, 8, 16)
STORES = ("disk", "dict", "redis", "fsspec")
ASKED = 1000
ROUNDS = 300  # of each process: one write, one read, one read and replacement of what all share
SHARED = 20
HERE = Path(__file__).parent
VALUE = {"id": 7, "name": "Ada Lovelace", "langs": ["en", "fr"], "score": 9.5}


@dataclass(frozen=True, slots=True)
class Filled:
    """A store with entries: how a cache is opened on it, and how many bytes it takes."""

    open: Callable[[], Cache]
    size_bytes: Callable[[], int]


@contextmanager
def disk() -> Generator[Filled]:
    with tempfile.TemporaryDirectory() as folder:
        yield Filled(lambda: Cache(folder), lambda: _folder_bytes(folder))


@contextmanager
def in_dict() -> Generator[Filled]:
    store: dict[str, bytes] = {}
    yield Filled(lambda: Cache(store), lambda: sum(map(len, store.values())))


@contextmanager
def fsspec() -> Generator[Filled]:
    filesystem = __import__("fsspec").filesystem("memory")
    place = f"/scale-{os.getpid()}"
    yield Filled(lambda: Cache(f"memory:/{place}"), lambda: filesystem.du(place))
    filesystem.rm(place, recursive=True)


@contextmanager
def redis() -> Generator[Filled]:
    program = shutil.which("redis-server")
    if program is None:
        raise RuntimeError("no redis-server found: install Redis, or leave it out: --stores disk dict fsspec")
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        server = subprocess.Popen(
            [program, "--port", str(port), "--save", "", "--loglevel", "warning", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            _wait_for(port)
            client = __import__("redis").Redis(port=port)
            before = client.info("memory")["used_memory"]
            yield Filled(
                lambda: Cache(f"redis://127.0.0.1:{port}/0"), lambda: client.info("memory")["used_memory"] - before
            )
            client.close()
        finally:
            server.terminate()
            server.wait()


OPENED: dict[str, Callable[[], Any]] = {"disk": disk, "dict": in_dict, "redis": redis, "fsspec": fsspec}


def measured(name: str, counts: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """One row for each number of entries, in a store that grows."""
    with OPENED[name]() as filled:
        writing, there = filled.open(), 0
        for count in counts:
            began = time.perf_counter()
            for number in range(there, count):
                writing.set(f"user:{number}", VALUE)
            put_s = (time.perf_counter() - began) / (count - there)
            there = count
            yield {"store": name, "entries": count, "put": put_s, **_asked(filled, count)}


def _asked(filled: Filled, count: int) -> dict[str, float]:
    cache, numbers = filled.open(), random.Random(0).sample(range(count), ASKED)
    hit_s = _taken_s(lambda: [cache.get(f"user:{number}") for number in numbers])
    miss_s = _taken_s(lambda: [cache.get(f"none:{number}") for number in numbers])
    size = filled.size_bytes()
    gc.collect()
    before, times, began = _resident_bytes(), list[float](), time.perf_counter()

    def send(message: Message) -> None:
        json.dumps(message)
        times.append(time.perf_counter() - began)

    side = KernelSide(filled.open(), send, changes_every_s=3600.0)
    side.receive({"kind": "ready", "view": "v"})
    listed_s, memory = time.perf_counter() - began, _resident_bytes() - before
    side.close()
    gone = filled.open()
    delete_s = _taken_s(lambda: gone.delete_many([f"user:{number}" for number in numbers]))
    gone.undo()
    return {
        "hit": hit_s / ASKED, "miss": miss_s / ASKED, "first rows": times[0], "all rows": listed_s, "delete": delete_s,
        "bytes": size / count, "memory": max(0, memory),
    }  # fmt: skip


def hammered(count: int) -> dict[str, Any]:
    """Processes on one folder: rounds a second of each, and what went wrong."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        ready, go, told = context.Semaphore(0), context.Event(), context.Queue()
        processes = [context.Process(target=_hammer, args=(folder, n, ready, go, told)) for n in range(count)]
        for process in processes:
            process.start()
        for _ in processes:
            ready.acquire()
        began = time.perf_counter()
        go.set()
        wrong = sum(told.get(timeout=600) for _ in processes)
        lasted_s = time.perf_counter() - began
        for process in processes:
            process.join()
        whole = Cache(folder)
        entries = len(whole)
        wrong += abs(entries - count * ROUNDS - SHARED) + len(whole.verify().bad)
    return {"processes": count, "each": ROUNDS / lasted_s, "together": count * ROUNDS / lasted_s, "errors": wrong}


def _hammer(folder: str, own: int, ready: Any, go: Any, told: Any) -> None:
    cache, wrong = Cache(folder), 0
    ready.release()
    go.wait()
    for number in range(ROUNDS):
        key, shared = f"{own}:{number}", f"shared:{number % SHARED}"
        cache.set(key, {"of": own, "n": number})
        wrong += cache.get(key) != {"of": own, "n": number}
        cache.set(shared, [own] * 100)
        found = cache.get(shared)
        wrong += not (isinstance(found, list) and len(found) == 100 and len(set(found)) == 1)
    told.put(wrong)


def _taken_s(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _folder_bytes(folder: str) -> int:
    return sum(path.stat().st_blocks * 512 for path in Path(folder).rglob("*") if path.is_file())


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _wait_for(port: int) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return


def tables(rows: list[dict[str, Any]], crowds: list[dict[str, Any]]) -> str:
    """The figures as Markdown."""
    lines = [
        "| store | entries | put, ms | hit, ms | miss, ms | first rows, s | all rows, s | delete 1,000, s | bytes an entry "
        "| memory, MB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        each = " | ".join(f"{1000 * row[name]:.2f}" for name in ("put", "hit", "miss"))
        whole = " | ".join(f"{row[name]:.2f}" for name in ("first rows", "all rows", "delete"))
        lines.append(
            f"| {row['store']} | {row['entries']:,} | {each} | {whole} | {row['bytes']:,.0f} | {row['memory'] / 1e6:,.0f} |"
        )
    lines += ["", "| processes on one folder | rounds a second, each | together | errors |", "|--:|--:|--:|--:|"]
    lines += [f"| {c['processes']} | {c['each']:,.0f} | {c['together']:,.0f} | {c['errors']} |" for c in crowds]
    return "\n".join(lines)


def main() -> int:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description="Measures stores by their number of entries, and of processes.")
    parser.add_argument("--full", action="store_true", help="up to a million entries: an hour, and 5 GB of disk")
    parser.add_argument("--stores", nargs="*", choices=STORES, default=list(STORES))
    parser.add_argument("--most", type=int, default=None, help="no more entries than this")
    parser.add_argument("--markdown", action="store_true", help="write SCALE.md")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in given.stores:
        counts = (*COUNTS, FULL) if given.full else COUNTS
        counts = tuple(n for n in (counts[:-1] if name == "fsspec" else counts) if n <= (given.most or FULL))
        for row in measured(name, counts):
            rows.append(row)
            print(name, f"{row['entries']:,}", file=sys.stderr)
    crowds = [hammered(count) for count in PROCESSES]
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs, Python {platform.python_version()}"
    text = f"{tables(rows, crowds)}\n\n{load}"
    print(text)
    if given.markdown:
        head = "# Where each store stops\n\nBy `python benchmarks/scale.py`, which says what is measured."
        (HERE / "SCALE.md").write_text(f"{head}\n\n{text}\n", encoding="utf-8")
    return int(any(crowd["errors"] for crowd in crowds))


if __name__ == "__main__":
    raise SystemExit(main())
