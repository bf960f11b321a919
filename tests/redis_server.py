"""A real Redis server for tests: started, killed, frozen, restarted; and a proxy that answers late, or byte by byte."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest
from ports import free_port

_TRICKLED: Final = 40


class RedisServer:
    """A server in a folder of its own, on a free port of this machine.

    Args:
        folder: Where it saves, where it does.
        arguments: More of its command line.
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.port = free_port()
        self.folder = folder
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """As `cache=` takes it."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts it and waits until it answers."""
        program = shutil.which("redis-server")
        assert program is not None
        command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--loglevel", "warning"]
        self._process = subprocess.Popen(
            [*command, "--dir", str(self.folder), *self._arguments], stdout=subprocess.DEVNULL, cwd=self.folder
        )
        for _ in range(600):
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                    probe.sendall(b"PING\r\n")
                    if probe.recv(64).startswith((b"+PONG", b"-NOAUTH", b"-DENIED", b"-MASTERDOWN")):
                        return
            except OSError:
                assert self._process.poll() is None, "redis-server ended at once"
            time.sleep(0.05)
        raise AssertionError("redis-server did not answer")

    def kill(self) -> None:
        """Ends it at once: what it did not save is lost."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.wait(30)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It takes connections, as the system does that, and answers nothing."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[RedisServer]:
    """A server that runs; without the program a test is skipped, and fails under CI=true."""
    if shutil.which("redis-server") is None:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail("redis-server is not installed, and CI=true")
        pytest.skip("redis-server is not installed")
    for attempt in (1, 2, 3):
        server = RedisServer(folder, *arguments)
        try:
            server.start()
            break
        except AssertionError:  # somebody took the port in between
            if attempt == 3:
                raise
    try:
        yield server
    finally:
        server.kill()


class SlowProxy:
    """Passes on what it gets, in both directions, each piece `delay_s` later.

    Attributes:
        delay_s: For what comes from now on.
        byte_s: How long each byte that comes from the server takes, and after 40 the connection ends; 0 where they come as
            they come.
        sent_bytes: How many bytes came from the server.
    """

    def __init__(self, port: int) -> None:
        self.delay_s = self.byte_s = 0.0
        self.sent_bytes = 0
        self._to = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """As `cache=` takes it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def close(self) -> None:
        """Ends every connection."""
        self._listening.close()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                self._open += [client, server]
                threading.Thread(target=self._pass_on, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._pass_on, args=(server, client, True), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket, from_server: bool) -> None:
        with suppress(OSError):
            while content := one.recv(65536):
                self.sent_bytes += len(content) * from_server
                time.sleep(self.delay_s)
                if not from_server or not self.byte_s:
                    other.sendall(content)
                    continue
                for byte in content[:_TRICKLED]:
                    time.sleep(self.byte_s)
                    other.sendall(bytes([byte]))
                if len(content) > _TRICKLED:
                    break
        with suppress(OSError):
            other.shutdown(socket.SHUT_WR)
