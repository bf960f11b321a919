"""step.map beside a bare ThreadPoolExecutor: items fetched from a local HTTP server that takes 5 ms to answer.

    python benchmarks/fanout.py [--items 10000] [--threads 32] [--rounds 3]

The server is a process of its own. "cold" fetches and keeps every item, "again" finds them all.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

from nbstep import create_workflow

LATENCY_S = 0.005


def serve(address: Any) -> None:
    """Answers `/n` with `{"n": n}`, each after the latency, as many at once as are asked."""
    import asyncio

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            while (await reader.readline()).strip():
                pass
            await asyncio.sleep(LATENCY_S)
            body = json.dumps({"n": int(line.split()[1][1:])}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
        address.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def taken_s(work: Callable[[], object]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began


def main(items: int, threads: int, rounds: int) -> None:
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    server.start()
    base = f"http://127.0.0.1:{here.recv()}/"

    def fetch(n: int) -> dict[str, int]:
        with urllib.request.urlopen(f"{base}{n}") as response:
            return json.load(response)

    expected = [{"n": n} for n in range(items)]
    rows: dict[str, list[float]] = {"bare": [], "cold": [], "again": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(threads) as pool:
            rows["bare"].append(taken_s(lambda: list(pool.map(fetch, range(items)))))
            for row in ("cold", "again"):
                given: list[Any] = []
                workflow = create_workflow(cache=folder)
                body = lambda step: step.map(fetch, range(items), key="n:{}", n_jobs=threads)  # noqa: E731
                rows[row].append(taken_s(lambda: given.append(workflow(body).value)))  # noqa: B023
                assert given == [expected]
    server.terminate()
    print(f"{items} items, {threads} threads, medians of {rounds} rounds")
    bare = statistics.median(rows["bare"])
    for row, taken in rows.items():
        middle = statistics.median(taken)
        print(f"  {row:<6} {middle:6.2f} s  {middle / bare:5.2f} of bare  ({min(taken):.2f} to {max(taken):.2f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Times step.map beside a bare pool of threads.")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    main(given.items, given.threads, given.rounds)
