"""A database that is asked over HTTP, SQLite underneath: `python database.py PORT FILE`. It ends with its caller."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        with sqlite3.connect(sys.argv[2]) as connection:
            rows = connection.execute(parse_qs(urlsplit(self.path).query)["sql"][0]).fetchall()
        body = json.dumps(rows).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def start(port: int, file: str) -> subprocess.Popen[str]:
    """Starts it in a process of its own; returns when it answers."""
    command = [sys.executable, __file__, str(port), file]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def _main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)  # noqa: T201
    sys.stdin.read()


if __name__ == "__main__":
    _main()
