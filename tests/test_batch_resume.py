"""step.map of a process that is killed at a random moment: the next one fetches only what was in flight (C3, C4, K3)."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from nbstep import Cache
from tests.counting_server import CountingServer

ITEMS, THREADS = 2000, 32

FETCH_ALL = Path(__file__).parents[1] / "benchmarks" / "fetch_all.py"


def test_c3_after_a_kill_each_item_was_fetched_once_but_for_those_in_flight(tmp_path: Path) -> None:
    kill_after, later_s = random.randrange(ITEMS // 20, ITEMS * 19 // 20), random.uniform(0, 0.01)
    sys.stdout.write(f"killed after {kill_after} requests and {later_s:.4f} s\n")  # shown where it fails
    with CountingServer().running() as server:
        command = [sys.executable, str(FETCH_ALL), server.base, str(tmp_path / "cache"), str(ITEMS), str(THREADS)]
        with subprocess.Popen(command) as first:
            server.wait_for(kill_after, timeout_s=120)
            time.sleep(later_s)  # where between two requests; no verdict hangs on it
            first.kill()
        server.settle(timeout_s=60)
        asked_before = set(server.asked)
        assert server.asked.total() == len(asked_before) < ITEMS, "it was killed, and had asked for nothing twice"
        cache = Cache(tmp_path / "cache")
        before = -1
        while before != len(cache):  # what was on its way to the folder gets there
            before = len(cache)
            time.sleep(0.5)
        kept = {int(key.removeprefix("n:")) for key in cache}
        in_flight = asked_before - kept
        assert kept <= asked_before
        assert len(in_flight) <= THREADS

        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
        assert int(done.stdout) == sum(range(ITEMS))
        twice = {n for n, count in server.asked.items() if count == 2}
        assert twice == in_flight
        assert server.asked.total() == ITEMS + len(in_flight), "none more than twice, and every one"
        assert len(Cache(tmp_path / "cache")) == ITEMS
