"""A real HTTP server that takes 5 ms to answer and counts what it was asked, for tests of `step.map`."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

LATENCY_S = 0.005


class CountingServer:
    """Answers `/n` with `{"n": n}` after the latency, as many at once as are asked.

    Attributes:
        asked: How often each number was asked for.
        base: Its address, `http://127.0.0.1:…/`.
    """

    def __init__(self) -> None:
        self.asked: collections.Counter[int] = collections.Counter()
        self.base = ""
        self._connections = self._marks = 0
        self._changed = threading.Condition()

    def wait_for(self, count: int, timeout_s: float) -> None:
        """Waits until so many requests came in."""
        self._wait(lambda: self.asked.total() >= count, timeout_s)

    def settle(self, timeout_s: float) -> None:
        """Waits until everything was read that clients sent before; they must be gone."""
        marks = self._marks
        # The system hands connections out in their order: once this one is here, those before it are.
        with socket.create_connection(("127.0.0.1", int(self.base.rpartition(":")[2].strip("/")))) as last:
            last.sendall(b"LAST\n")
            self._wait(lambda: self._marks > marks, timeout_s)
        self._wait(lambda: self._connections == 0, timeout_s)

    def _wait(self, is_so: Callable[[], bool], timeout_s: float) -> None:
        with self._changed:
            assert self._changed.wait_for(is_so, timeout_s), f"asked {self.asked.total()} times in {timeout_s:.0f} s"

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._changed:
            self._connections += 1
        try:
            with contextlib.suppress(ConnectionError):  # of a client that was killed
                while line := await reader.readline():
                    await self._answer(line, reader, writer)
        finally:
            writer.close()
            with self._changed:
                self._connections -= 1
                self._changed.notify_all()

    async def _answer(self, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not line.endswith(b"\n"):
            return
        number = None if line == b"LAST\n" else int(line.split()[1][1:])
        with self._changed:
            if number is None:
                self._marks += 1
            else:
                self.asked[number] += 1
            self._changed.notify_all()
        if number is None:
            return
        while (await reader.readline()).strip():
            pass
        await asyncio.sleep(LATENCY_S)
        body = b'{"n": %d}' % number
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        async with await asyncio.start_server(self._serve_one, "127.0.0.1", 0, backlog=1024) as server:
            self.base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            ready.set()
            await self._stopped.wait()

    @contextlib.contextmanager
    def running(self) -> Iterator[CountingServer]:
        """Serves until the block ends."""
        ready = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True)
        thread.start()
        assert ready.wait(20)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._stopped.set)
            thread.join(20)
