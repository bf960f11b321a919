"""A real HTTP server for tests of failures: answers with the status its path names, tells what it was sent, and sets a cookie.

It tells so in JSON, on paths with `plain` as bare text with the values alone beside, and with `xml` in tags.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COOKIE_SECRET = "cookie-value-4711"


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/slow":
            threading.Event().wait(5)
        status = int(path.rsplit("/", 1)[-1]) if path.rsplit("/", 1)[-1].isdigit() else 200
        # Some servers echo what they were sent.
        body, kind = json.dumps({"error": f"status {status}", "sent": dict(self.headers)}).encode(), "application/json"
        if path == "/broken-json":
            body = b"{not json"
        elif path.startswith("/plain/"):
            lines = [f"{name}: {value}\nNo access for {value}." for name, value in self.headers.items()]
            body, kind = "\n".join(lines).encode(), "text/plain"
        elif path.startswith("/xml/"):
            tags = [f"<{name.lower()}>{value}</{name.lower()}>" for name, value in self.headers.items()]
            body, kind = f"<sent>{''.join(tags)}</sent>".encode(), "application/xml"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Set-Cookie", f"session={COOKIE_SECRET}; HttpOnly")
        self.send_header("X-Auth-Token", COOKIE_SECRET)
        self.send_header("Retry-After", "7")
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are part of the tests."""


@contextmanager
def serving() -> Iterator[str]:
    """Gives the server's address, `http://127.0.0.1:…`."""
    server = _Server(("127.0.0.1", 0), _Answers)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
