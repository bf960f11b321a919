"""A Redis server and a JupyterLab for the tests that want one; what every test stands on is in the `conftest.py` above."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Lab, need_chromium, open_lab

# Scripts that tests run in processes of their own; they import much.
collect_ignore = ["client_errors.py", "kept_values.py"]


@pytest.fixture(scope="module", params=["lab"])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A JupyterLab over an empty folder, for all tests of a file; `parametrize` it with "notebook" for Notebook 7."""
    need_chromium()
    with open_lab(tmp_path_factory.mktemp("lab"), app=request.param) as opened:
        yield opened


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A real Redis server on a free port; without one a test is skipped, and fails under CI=true."""
    server = shutil.which("redis-server")
    if server is None:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail("redis-server is not installed, and CI=true")
        pytest.skip("redis-server is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = [
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--loglevel",
        "warning",
    ]
    process = subprocess.Popen([server, *arguments], stdout=subprocess.DEVNULL, cwd=Path("/tmp"))
    try:
        _wait_for(port, process)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


@pytest.fixture
def unpickled() -> Iterator[list[Any]]:
    """Every name that a pickle looks up while the test runs."""
    names: list[Any] = []
    watching = [True]
    sys.addaudithook(lambda event, args: names.append(args) if event == "pickle.find_class" and watching[0] else None)
    yield names
    watching[0] = False


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None, "redis-server ended at once"
            time.sleep(0.05)
        else:
            return
    raise AssertionError("redis-server did not answer")
