"""The world around the stories: a web server that counts what it is asked, and what a notebook says to it.

A story's notebook imports `URL`, `asked` and `change`; the server runs in the process that runs the story.
"""

from __future__ import annotations

import json
import os
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

URL: Final = os.environ.get("STORY_URL", "")
EVENTS_A_PAGE: Final = 3


def asked() -> dict[str, int]:
    """How often each address was asked since this was last called."""
    return _call()


def change(**facts: Any) -> None:
    """Changes the world.

    `users` there are, how many `events`, `failing` addresses with the status and how often, addresses that are `stuck`.
    """
    _call(json.dumps(facts).encode())


def _call(facts: bytes | None = None) -> Any:
    with urllib.request.urlopen(f"{URL}/world", facts) as response:
        return json.load(response)


class _Answers(BaseHTTPRequestHandler):
    server: World

    def do_GET(self) -> None:
        if self.path == "/world":
            self._send(200, self.server.counted())
        else:
            self._send(*self.server.answer(self.path))

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/world":
            self._send(200, self.server.facts.update(content))
        else:
            self._send(*self.server.answer(self.path, content))

    def _send(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class World(ThreadingHTTPServer):
    """The server."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256  # many steps at once

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.facts: dict[str, Any] = {"users": [], "events": 0, "failing": {}, "stuck": []}
        self._asked: Counter[str] = Counter()
        self._lock, self._over, self._news = threading.Lock(), threading.Event(), threading.Condition()
        self._hanging: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def wait_until_hanging(self, path: str, timeout_s: float) -> None:
        """Waits until somebody waits for an address that is stuck."""
        with self._news:
            assert self._news.wait_for(lambda: path in self._hanging, timeout_s), f"nobody asked for {path}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are part of the stories."""

    def server_close(self) -> None:
        self._over.set()
        super().server_close()

    def counted(self) -> dict[str, int]:
        with self._lock:
            counted, self._asked = dict(sorted(self._asked.items())), Counter()
        return counted

    def answer(self, path: str, content: Any = None) -> tuple[int, Any]:
        """The status and the content of an answer."""
        with self._lock:
            self._asked[path] += 1
            status, times = self.facts["failing"].get(path, (200, 0))
            if times > 0:
                self.facts["failing"][path] = (status, times - 1)
                return status, {"error": "not now"}
        if path in self.facts["stuck"]:
            with self._news:
                self._hanging.add(path)
                self._news.notify_all()
            self._over.wait()
        parts = urlsplit(path)
        match parts.path.strip("/").split("/"):
            case ["users", uid] if int(uid) in self.facts["users"]:
                return 200, {"id": int(uid), "name": f"user {uid}"}
            case ["events"]:
                return 200, self._page(int(parse_qs(parts.query)["after"][0]))
            case ["batches", number]:
                return 200, [int(number) % 7, int(number) % 5]
            case ["quotes", number]:
                return 200, {"price": int(number) ** 2}
            case ["chat"]:
                return 200, {"label": label_of(content["prompt"], content["text"])}
        return 404, {"error": "there is no such thing"}

    def _page(self, after: int) -> dict[str, Any]:
        events = list(range(after + 1, min(after + EVENTS_A_PAGE, self.facts["events"]) + 1))
        return {"events": events, "next": events[-1] if len(events) == EVENTS_A_PAGE else None}


def label_of(prompt: str, text: str) -> str:
    """What a model says: it picks the first of the prompt's labels whose beginning the text names, else the last."""
    labels = prompt.partition(":")[2].replace(".", "").replace(" or", ",").split(",")
    labels = [label.strip() for label in labels if label.strip()]
    return next((label for label in labels if label[:4] in text.lower()), labels[-1])


@contextmanager
def serving() -> Iterator[World]:
    """Gives a new world."""
    server = World()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
