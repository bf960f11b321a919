"""What a step of a map costs, by what its function names, takes and gives.

    python benchmarks/functions.py [--items 3000] [--threads 32] [--cache dict|disk] [--rounds 3]

Each function sleeps 5 ms, as one that fetches does, and is called by a bare pool of threads and by `step.map`; "own" is the
processor time of this process that the map takes on top, for an item.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from nbstep import create_workflow

LATENCY_S = 0.005
BASE = "http://localhost/"
HEADERS = {"Accept": "application/json", "fields": ["id", "name"]}
LOOKUP = {n: str(n) for n in range(5000)}
calls: list[Any] = []
counts: dict[int, int] = {}
lock = threading.Lock()


class Client:
    """What a notebook fetches with."""

    def __init__(self, base: str) -> None:
        self.base = base

    def fetch(self, n: int) -> Any:
        time.sleep(LATENCY_S)
        return {"n": n}


client = Client(BASE)


def nothing(n: int) -> Any:
    time.sleep(LATENCY_S)
    return {"n": n}


def a_client(n: int) -> Any:
    return client.fetch(n)


def headers(n: int) -> Any:
    time.sleep(LATENCY_S)
    return {"n": n, "accepts": len(HEADERS)}


def a_log(n: int) -> Any:
    time.sleep(LATENCY_S)
    calls.append(n)
    return {"n": n}


def a_count(n: int) -> Any:
    time.sleep(LATENCY_S)
    with lock:
        counts[n] = counts.get(n, 0) + 1
    return {"n": n}


def a_large_table(n: int) -> Any:
    time.sleep(LATENCY_S)
    return LOOKUP[n % 5000]


def gives_a_url(n: int) -> Any:
    time.sleep(LATENCY_S)
    return f"{BASE}{n}"


def gives_rows(n: int) -> Any:
    time.sleep(LATENCY_S)
    return {"rows": [{"id": m, "name": f"n{m + n}"} for m in range(40)]}


def gives_a_page(n: int) -> Any:
    time.sleep(LATENCY_S)
    return f"{n} " + "x" * 5000


def takes_a_row(row: Any) -> Any:
    time.sleep(LATENCY_S)
    return {"n": row["id"]}


FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[int], Any]]] = {
    "names nothing": (nothing, int),
    "names an object": (a_client, int),
    "names a small dict": (headers, int),
    "names a dict of 5,000": (a_large_table, int),
    "logs its calls to a list": (a_log, int),
    "counts its calls in a dict": (a_count, int),
    "is a method": (client.fetch, int),
    "takes a text": (nothing, str),
    "takes a dict": (takes_a_row, lambda n: {"id": n, "tags": ["a"]}),
    "gives a URL": (gives_a_url, int),
    "gives 40 rows": (gives_rows, int),
    "gives 5,000 characters": (gives_a_page, int),
}


def processor_us(work: Callable[[], object], items: int) -> float:
    """The processor time of some work, for an item."""
    began = time.process_time()
    work()
    return (time.process_time() - began) / items * 1e6


def key_of(item: Any) -> str:
    return f"n:{item['id'] if isinstance(item, dict) else item}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=32)
    parser.add_argument("--cache", choices=("dict", "disk"), default="dict")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    create_workflow(cache={})(lambda step: step.map(nothing, range(100), key=key_of, n_jobs=given.threads)).unwrap()
    print(f"cache on {given.cache}: {given.items:,} items, {given.threads} threads, medians of {given.rounds} rounds")
    with tempfile.TemporaryDirectory() as folder:
        for at, (name, (function, item_of)) in enumerate(FUNCTIONS.items()):
            items, rows = [item_of(n) for n in range(given.items)], list[tuple[float, float]]()
            for round_ in range(given.rounds):
                calls.clear()
                counts.clear()
                with ThreadPoolExecutor(given.threads) as pool:
                    bare = processor_us(lambda: list(pool.map(function, items)), given.items)  # noqa: B023
                workflow = create_workflow(cache={} if given.cache == "dict" else f"{folder}/{at}-{round_}")
                body = lambda step: step.map(function, items, key=key_of, n_jobs=given.threads)  # noqa: E731, B023
                rows.append((bare, processor_us(lambda: workflow(body).unwrap(), given.items)))  # noqa: B023
            bare, cold = (statistics.median(column) for column in zip(*rows, strict=True))
            print(f"  {name:<28} bare {bare:4.0f} µs, map {cold:5.0f} µs, own {cold - bare:5.0f} µs", flush=True)


if __name__ == "__main__":
    main()
