"""step.map beside a bare ThreadPoolExecutor: items fetched from a local HTTP server that takes 5 ms to answer.

    python benchmarks/fanout.py [--items 10000] [--threads 32] [--rounds 3] [--clients session,urllib] [--caches dict,disk]
        [--server lean|http.server] [--folder FOLDER]
    python benchmarks/fanout.py --kernel [the same]
    python benchmarks/fanout.py --kill [--items 10000] [--threads 32]

The server is a process of its own. Both sides call the same function; "cold" fetches and keeps every item, "again" finds them
all. Threads of one process share its interpreter lock, so what an item costs in all is the client's work and ours, and the
latency hides only where both are small; each row says the processor time of this process too.

Caches: a dict and a folder are nbstep's. Beside them stand `file`, the least that keeps a result at all (pickled to a file, which
is renamed to its place: no lock, no check, no list, nothing said), and `joblib`, a `joblib.Memory` around the same function.

`--kernel` does the same in cells of a real kernel, with the step list that a notebook shows meanwhile. In a kernel and in a script
a small map goes first, which imports joblib and numpy: 0.1 s.

`--kill` ends a process with SIGKILL at a random moment of its map, lets another one go on, and counts at the server.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import pickle
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from nbstep import Cache, create_workflow

LATENCY_S = 0.005
BAR = 1.3
FETCH_ALL = Path(__file__).with_name("fetch_all.py")


def serve(pipe: Any) -> None:
    """Answers `/n` with `{"n": n}`, each after the latency, as many at once as are asked; says what was asked how often."""
    import asyncio

    asked: dict[int, int] = {}

    class Connection(asyncio.Protocol):
        """As little as there can be, so that the server is not what is measured."""

        def connection_made(self, transport: Any) -> None:
            self.transport, self.waiting = transport, b""

        def data_received(self, data: bytes) -> None:
            self.waiting += data
            while b"\r\n\r\n" in self.waiting:
                head, _, self.waiting = self.waiting.partition(b"\r\n\r\n")
                number = int(head.split(b" ", 2)[1][1:])
                asked[number] = asked.get(number, 0) + 1
                body = b'{"n": %d}' % number
                answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
                loop.call_later(LATENCY_S, self.transport.write, answer)

    def told() -> None:
        try:
            pipe.recv()
        except EOFError:  # who asked is gone
            loop.stop()
            return
        pipe.send(asked)

    async def main() -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=1024)
        loop.add_reader(pipe.fileno(), told)
        pipe.send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        await server.serve_forever()

    loop: Any = None
    asyncio.run(main())


def serve_plainly(pipe: Any) -> None:
    """The same with `http.server`, a thread a connection, as a test has it."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # an answer is one packet: of two, the second waits 40 ms for a client that keeps its connection

        def do_GET(self) -> None:
            time.sleep(LATENCY_S)
            body = b'{"n": %d}' % int(self.path[1:])
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    ThreadingHTTPServer.request_queue_size = 1024
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    pipe.send(f"http://127.0.0.1:{server.server_address[1]}/")
    server.serve_forever()


SERVERS = {"lean": serve, "http.server": serve_plainly}


class Server:
    """The server's process."""

    def __init__(self, which: str = "lean") -> None:
        self._pipe, there = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=SERVERS[which], args=(there,), daemon=True)
        self._process.start()
        self.base: str = self._pipe.recv()

    def asked(self) -> dict[int, int]:
        self._pipe.send("asked")
        return self._pipe.recv()

    def stop(self) -> None:
        self._process.terminate()
        self._process.join()


def by_urllib(base: str) -> Callable[[int], Any]:
    """A connection a call: the standard library, and the least that a client does."""
    import urllib.request

    def fetch(n: int) -> Any:
        with urllib.request.urlopen(f"{base}{n}") as response:
            return json.load(response)

    return fetch


def by_session(base: str) -> Callable[[int], Any]:
    """One `requests.Session` a thread, as its connections are kept open."""
    import requests

    mine = threading.local()

    def fetch(n: int) -> Any:
        if not hasattr(mine, "session"):
            mine.session = requests.Session()
        return mine.session.get(f"{base}{n}").json()

    return fetch


def by_requests(base: str) -> Callable[[int], Any]:
    """`requests.get`, as most notebooks have it."""
    import requests

    return lambda n: requests.get(f"{base}{n}").json()


def by_kept(base: str) -> Callable[[int], Any]:
    """One `http.client` connection a thread, kept open: the quickest client there is, which hides least."""
    import http.client
    from urllib.parse import urlsplit

    url, mine = urlsplit(base), threading.local()
    host, path = url.netloc, url.path

    def fetch(n: int) -> Any:
        if not hasattr(mine, "connection"):
            mine.connection = http.client.HTTPConnection(host)
        mine.connection.request("GET", f"{path}{n}")
        return json.loads(mine.connection.getresponse().read())

    return fetch


def by_counting(base: str) -> Callable[[int], Any]:
    """A session, and a log of all calls, as who wants to see what was fetched has it."""
    get = by_session(base)
    calls: list[int] = []
    counts: dict[int, int] = {}

    def fetch(n: int) -> Any:
        calls.append(n)
        counts[n] = counts.get(n, 0) + 1
        return get(n)

    return fetch


CLIENTS = {
    "urllib": by_urllib, "session": by_session, "requests": by_requests, "counting": by_counting, "kept": by_kept,
}  # fmt: skip


def in_files(fetch: Callable[[int], Any], folder: str) -> Callable[[int], Any]:
    """The least that keeps each result: a file of its own, renamed to its place when it is whole."""

    def kept(n: int) -> Any:
        path = f"{folder}/{hashlib.sha256(f'n:{n}'.encode()).hexdigest()}"
        if os.path.exists(path):
            with open(path, "rb") as file:
                return pickle.load(file)
        value = fetch(n)
        with open(f"{path}.new", "wb") as file:
            pickle.dump(value, file)
        os.replace(f"{path}.new", path)
        return value

    return kept


def in_joblib(fetch: Callable[[int], Any], folder: str) -> Callable[[int], Any]:
    """`joblib.Memory`, as its users have it."""
    from joblib import Memory

    return Memory(folder, verbose=0).cache(fetch)


PEERS = {"file": in_files, "joblib": in_joblib}


def taken_s(work: Callable[[], object]) -> tuple[float, float]:
    """The time of some work, and of the processor in it."""
    began, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - processor


def new_file_us(folder: str) -> float:
    """What it takes to create a file there: twenty times longer where the system remembers millions of names that are gone."""
    taken: list[float] = []
    for n in range(100):
        began = time.perf_counter()
        os.close(os.open(f"{folder}/{n}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        taken.append((time.perf_counter() - began) * 1e6)
    return statistics.median(taken)


def measure(client: str, cache: str, base: str, items: int, threads: int, rounds: int, folder: str) -> None:
    """Prints the rows of one client and one cache; all of a round are taken in turn, so that load meets them alike."""
    fetch = CLIENTS[client](base)
    expected = [{"n": n} for n in range(items)]
    rows: dict[str, list[tuple[float, float]]] = {"bare": [], "cold": [], "again": []}
    create_workflow(cache={})(lambda step: step.map(fetch, range(threads), key="n:{}", n_jobs=threads)).unwrap()
    load = os.getloadavg()[0]

    def pooled(work: Callable[[int], Any]) -> list[Any]:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(work, range(items)))

    def mapped(where: Any) -> list[Any]:
        if cache in PEERS:
            return pooled(PEERS[cache](fetch, where))
        return create_workflow(cache=where)(
            lambda step: step.map(fetch, range(items), key="n:{}", n_jobs=threads)
        ).unwrap()

    files_us: list[float] = []
    for round_ in range(rounds):
        rows["bare"].append(taken_s(lambda: pooled(fetch)))  # noqa: B023
        where: Any = {} if cache == "dict" else f"{folder}/{client}/{cache}/{round_}"
        if where:
            os.makedirs(f"{where}/files")
            files_us.append(new_file_us(f"{where}/files"))
        fetch = CLIENTS[client](base)  # with an empty log
        for row in ("cold", "again"):
            given: list[Any] = []
            rows[row].append(taken_s(lambda: given.append(mapped(where))))  # noqa: B023
            assert given == [expected]
    print(
        f"{client}, cache on {cache}: {items:,} items, {threads} threads, medians of {rounds} rounds, "
        f"load {load:.1f} to {os.getloadavg()[0]:.1f}"
        + (f", a new file {min(files_us):.0f} to {max(files_us):.0f} µs" if files_us else "")
    )
    for row, taken in rows.items():
        wall, processor = (statistics.median(column) for column in zip(*taken, strict=True))
        ratios = [one[0] / bare[0] for one, bare in zip(taken, rows["bare"], strict=True)]
        ratio = statistics.median(ratios)
        reached = f"bar {BAR}: {'reached' if ratio <= BAR else 'missed'}, rounds {min(ratios):.2f} to {max(ratios):.2f}"
        verdict = f"  {reached}" if row == "cold" else ""
        print(
            f"  {row:<6} {wall:6.2f} s  {ratio:5.2f} of bare  processor {processor / items * 1e6:4.0f} µs an item{verdict}"
        )


CELLS = """
%load_ext nbstep
import sys, time
sys.path.insert(0, {here!r})
from concurrent.futures import ThreadPoolExecutor
import fanout
fetch = fanout.CLIENTS[{client!r}]({base!r})
first = {{}}
#
%%workflow --cache $first
step.map(fetch, range({threads}), key="n:{{}}", n_jobs={threads})
#
began = time.perf_counter()
with ThreadPoolExecutor({threads}) as pool:
    fetched = list(pool.map(fetch, range({items})))
bare = time.perf_counter() - began
where = {where}
#
%%workflow --cache $where
began = time.perf_counter()
values = step.map(fetch, range({items}), key="n:{{}}", n_jobs={threads})
cold = time.perf_counter() - began
#
%%workflow --cache $where
began = time.perf_counter()
values = step.map(fetch, range({items}), key="n:{{}}", n_jobs={threads})
again = time.perf_counter() - began
#
assert values == fetched
print("took", bare, cold, again)
"""


def measure_in_kernel(client: str, cache: str, base: str, items: int, threads: int, rounds: int, folder: str) -> None:
    """The same by cells of a kernel."""
    from jupyter_client.manager import start_new_kernel

    manager, kernel = start_new_kernel()
    taken: list[list[float]] = []
    try:
        for round_ in range(rounds):
            where = "{}" if cache == "dict" else repr(f"{folder}/{client}/kernel/{round_}")
            told: list[str] = []
            here = str(Path(__file__).parent)
            cells = CELLS.format(here=here, client=client, base=base, threads=threads, items=items, where=where)
            for cell in cells.split("#\n"):
                kernel.execute_interactive(
                    cell.strip(), output_hook=lambda message: told.append(message["content"].get("text", "")),  # noqa: B023
                    timeout=600,
                )  # fmt: skip
            took = next(line for line in "".join(told).splitlines() if line.startswith("took "))
            taken.append([float(text) for text in took.split()[1:]])
    finally:
        kernel.stop_channels()
        manager.shutdown_kernel(now=True)
    ratios = [cold / bare for bare, cold, _ in taken]
    bare, cold, again = (statistics.median(column) for column in zip(*taken, strict=True))
    print(
        f"{client}, cache on {cache}, in a kernel: {items:,} items, {threads} threads, medians of {rounds} rounds\n"
        f"  bare {bare:.2f} s, cold {cold:.2f} s, again {again:.2f} s; cold {statistics.median(ratios):.2f} of bare, "
        f"bar {BAR}: {'reached' if statistics.median(ratios) <= BAR else 'missed'}, "
        f"rounds {min(ratios):.2f} to {max(ratios):.2f}"
    )


def settled(cache: Cache) -> int:
    """How many entries there are when what was on its way to the folder is there."""
    before = -1
    while before != len(cache):
        before = len(cache)
        time.sleep(0.5)
    return before


def kill(items: int, threads: int, rounds: int) -> None:
    """Kills a process at a random moment of its map, goes on in another, and says what was fetched how often."""
    for _ in range(rounds):
        server = Server()
        after = random.randrange(1, items)
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, str(FETCH_ALL), server.base, folder, str(items), str(threads)]
            first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            while len(server.asked()) < after and first.poll() is None:
                time.sleep(0.01)
            first.kill()
            first.wait()
            time.sleep(10 * LATENCY_S)
            before, kept = set(server.asked()), settled(Cache(Path(folder)))
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            asked = server.asked()
        server.stop()
        assert int(done.stdout) == sum(range(items))
        again = [n for n, count in asked.items() if count > 1]
        print(
            f"killed after {len(before):,} of {items:,} fetches, {kept:,} kept: {sum(asked.values()):,} fetches in all, "
            f"{len(again)} items twice, {sum(count > 2 for count in asked.values())} more often, "
            f"{items - len(asked)} never; {threads} threads"
        )
        assert len(asked) == items
        assert len(again) == len(before) - kept <= threads
        assert max(asked.values()) <= 2


def main(given: argparse.Namespace) -> None:
    if given.kill:
        kill(given.items, given.threads, given.rounds)
        return
    server = Server(given.server)
    # Removed at the end, or by you: the system remembers names that are gone, and finds others the slower for it (FANOUT.md).
    with tempfile.TemporaryDirectory() if given.folder is None else nullcontext(given.folder) as folder:
        for client in given.clients.split(","):
            for cache in given.caches.split(","):
                (measure_in_kernel if given.kernel else measure)(
                    client, cache, server.base, given.items, given.threads, given.rounds, folder
                )
    server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Times step.map beside a bare pool of threads.")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", default="session,urllib", help=f"of {', '.join(CLIENTS)}")
    parser.add_argument("--caches", default="dict,disk", help=f"of dict, disk, {', '.join(PEERS)}")
    parser.add_argument(
        "--server", default="lean", choices=SERVERS, help="what answers; a plain one takes more time itself"
    )
    parser.add_argument(
        "--folder", help="a new one, where the caches on disk stand and stay, instead of among the temporary files"
    )
    parser.add_argument("--kernel", action="store_true", help="in the cells of a real kernel")
    parser.add_argument("--kill", action="store_true", help="kill a process in the middle, and count what was fetched")
    main(parser.parse_args())
