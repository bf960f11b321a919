"""Python scripts that run beside a test, as other kernels do, and go on when the test says so."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

# What every script begins with: it tells the test what happens, one line each, and waits for the test's word.
BEGIN = """
import asyncio, json, os, signal, sys, threading
from nbstep import Cache, RecursiveStep, create_workflow, step
from nbstep.events import Finding, StepHit, StepWaiting
from nbstep.steps.waiting import nested_wait_s

def tell(*words):
    os.write(1, (json.dumps(words) + "\\n").encode())

def heard():
    return sys.stdin.readline().strip()

def listener(event):
    if isinstance(event, StepWaiting):
        tell("waiting", event.key, event.holder)
    elif isinstance(event, StepHit):
        tell("hit", event.key, event.source)
    elif isinstance(event, Finding):
        tell("finding", event.text)

def compute(value):
    tell("computing", value)
    heard()
    return value

async def acompute(value):
    tell("computing", value)
    await asyncio.get_running_loop().run_in_executor(None, heard)
    return value

cache = Cache(sys.argv[1])
workflow = create_workflow(cache=cache, on_event=listener)
tell("ready")
heard()
"""


def open_files_in(folder: Path) -> int:
    """How many files in a folder this process has open; needs /proc."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += str(folder) in os.readlink(f"/proc/self/fd/{fd}")
    return found


class Script:
    """A script under way; it waits for `say("go")` before its first own line."""

    def __init__(self, folder: Path, code: str, name: str) -> None:
        self.path = folder / name
        self.path.write_text(BEGIN + code)
        self.process = subprocess.Popen(
            [sys.executable, str(self.path), str(folder / "cache")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )  # fmt: skip
        self.told: list[list[Any]] = []
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def say(self, word: str = "go") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def expect(self, *words: Any, timeout: float = 20.0) -> list[Any]:
        """Waits for the line that begins with `words`; gives the rest of it."""
        while True:
            try:
                line = self._lines.get(timeout=timeout)
            except queue.Empty:
                raise AssertionError(f"{self.path.name} never told {words}; it told {self.told}") from None
            if not line:
                raise AssertionError(f"{self.path.name} ended before it told {words}; it told {self.told}")
            self.told.append(json.loads(line))
            if self.told[-1][: len(words)] == list(words):
                return self.told[-1][len(words) :]

    def begin(self) -> Script:
        """Lets it begin."""
        self.expect("ready")
        self.say()
        return self

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)

    def finish(self) -> list[list[Any]]:
        """Waits for its end; gives all it told."""
        assert self.process.wait(60) == 0
        self._reader.join(20)
        while not self._lines.empty():
            line = self._lines.get()
            self.told += [json.loads(line)] if line else []
        return self.told

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        self._reader.join(20)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with contextlib.suppress(ValueError):
            for line in self.process.stdout:
                self._lines.put(line)
        self._lines.put("")


class Scripts:
    """The scripts of one test, on one cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        self.running: list[Script] = []

    def start(self, code: str, name: str = "script.py") -> Script:
        """Starts a script and does not let it begin yet."""
        self.running.append(Script(self.folder, code, name))
        return self.running[-1]

    def begin(self, code: str, name: str = "script.py") -> Script:
        """Starts a script and lets it begin."""
        return self.start(code, name).begin()


@contextlib.contextmanager
def open_scripts(folder: Path) -> Generator[Scripts]:
    """Scripts that end with the test."""
    scripts = Scripts(folder)
    try:
        yield scripts
    finally:
        for script in scripts.running:
            script.close()
