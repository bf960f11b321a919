"""What a kernel holds while a million tiny items stream through `step.map`: a real kernel, a cell, a cache in a folder.

    python benchmarks/million.py [--items 1000000] [--folder /tmp]

A kernel runs one small `%%workflow` cell first; what it holds then is the base. Its memory is looked at ten times a second; the bar
is 300 MB over the base. "Cold" computes every item; "resumed" is the same cell in a new kernel, which finds all of them.
Needs 4 KB of disk and two inodes an item, and twenty minutes for a million.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from jupyter_client.manager import start_new_kernel

BAR_MB = 300
MAP = """%%workflow million
def number(n):
    return n

numbers = step.map(number, (n for n in range({items})), key="n:{{}}")
"""
CHECK = "assert len(numbers) == {items} and all(map(int.__eq__, numbers, range({items}))); print(len(numbers))"


def resident_mb(pid: int) -> float:
    """What a process holds in memory, without what was written to disk."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def ignored(message: dict[str, Any]) -> None:
    """Output of a cell that nobody looks at."""


class Watcher:
    """Looks at a process ten times a second, and says once a minute what it saw."""

    def __init__(self, pid: int) -> None:
        self._pid, self._done = pid, threading.Event()
        self.base = self.peak = resident_mb(pid)
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        began, told = time.monotonic(), 0
        while not self._done.wait(0.1):
            now = resident_mb(self._pid)
            self.peak = max(self.peak, now)
            if (minutes := int(time.monotonic() - began) // 60) > told:
                told = minutes
                print(f"  after {minutes:3} min {now - self.base:6.0f} MB over the base", flush=True)


def main(items: int, folder: str) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as project:
        for what in ("cold", "resumed"):
            measure(what, items, project)


def measure(what: str, items: int, project: str) -> None:
    """Runs the map in a kernel of its own, and prints what that held."""
    manager, client = start_new_kernel(cwd=project)

    def run(code: str) -> None:
        reply: Any = client.execute_interactive(code, output_hook=ignored)
        assert reply["content"]["status"] == "ok", reply["content"]

    try:
        run("%load_ext nbstep")
        run("%%workflow before\nstep(lambda: 1, key='before')")
        watcher = Watcher(manager.provisioner.process.pid)  # type: ignore[union-attr]
        began = time.monotonic()
        try:
            run(MAP.format(items=items))
            took_s = time.monotonic() - began
            run(CHECK.format(items=items))
        finally:
            watcher.stop()
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    over = watcher.peak - watcher.base
    verdict = "reached" if over <= BAR_MB else "MISSED"
    print(
        f"{what}: {items:,} items in {took_s:,.0f} s, load {os.getloadavg()[0]:.1f}: base {watcher.base:.0f} MB, "
        f"peak {over:.0f} MB over it; bar {BAR_MB} MB: {verdict}",
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Streams very many items through step.map and watches the kernel's memory."
    )
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where the project is made")
    given = parser.parse_args()
    main(given.items, given.folder)
