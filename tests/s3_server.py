"""A real S3-compatible server in a process of its own, and a proxy before it that loses, repeats, cuts and delays what passes."""

from __future__ import annotations

import functools
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import botocore.session
from ports import free_port

REFUSALS = {
    "slow down": (503, b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"),
    "deny": (403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"),
}
# One request at a time, as moto's objects take no lock; and with Nagle's algorithm each answer would wait 40 ms.
_MAIN = """
import sys, threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, run_simple

WSGIRequestHandler.disable_nagle_algorithm = True
served, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()

def one_at_a_time(environ, start_response):
    with lock:
        return served(environ, start_response)

run_simple("127.0.0.1", int(sys.argv[1]), one_at_a_time, threaded=True)
"""


@dataclass
class S3Server:
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @functools.cached_property
    def client(self) -> Any:
        """A client of its own, which asks as anybody else does."""
        keys = {"aws_access_key_id": "other", "aws_secret_access_key": "other", "region_name": "us-east-1"}
        return botocore.session.get_session().create_client("s3", endpoint_url=self.url, **keys)

    def make_bucket(self, name: str) -> None:
        self.client.create_bucket(Bucket=name)

    def names(self, bucket: str) -> list[str]:
        return [one["Key"] for one in self.client.list_objects_v2(Bucket=bucket).get("Contents", [])]

    def read(self, bucket: str, name: str) -> bytes:
        return self.client.get_object(Bucket=bucket, Key=name)["Body"].read()

    def write(self, bucket: str, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=bucket, Key=name, Body=content)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@contextmanager
def s3_server(**environ: str) -> Iterator[S3Server]:
    """moto's server on a free port."""
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-c", _MAIN, str(port)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **environ}
    )
    try:
        for _ in range(1200):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, "moto's server ended at once"
                time.sleep(0.05)
        else:
            raise AssertionError("moto's server did not answer")
        yield S3Server(port, process)
    finally:
        process.kill()
        process.wait(30)


@dataclass
class Proxy:
    """What passes, and what is to go wrong with it.

    Attributes:
        seen: Method and path of each request that came, in order.
        largest: The size of the largest answer.
        faults: Decide about a request, by method and path: "" lets it pass, "lose" answers nothing after the server has done
            the work, "repeat" sends it twice and gives the second answer, "slow down" answers 503 and "deny" 403 itself,
            "cut" ends within the answer's body, "hold" never answers.
    """

    port: int
    seen: list[str] = field(default_factory=list)
    largest: int = 0
    fault: Callable[[str, str], str] = lambda method, path: ""
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def asked(self, method: str) -> int:
        return sum(one.startswith(f"{method} ") for one in self.seen)


def once(kind: str, method: str, part: str = "") -> Callable[[str, str], str]:
    """A fault of the first request of a method whose path has a part."""
    left = [kind]
    return lambda asked, path: left.pop() if left and asked == method and part in path else ""


@contextmanager
def proxy_before(server: S3Server) -> Iterator[Proxy]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def act(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            proxy.seen.append(f"{self.command} {self.path}")
            kind = proxy.fault(self.command, self.path)
            self.close_connection = True
            if kind == "hold":
                proxy.released.wait(120)
                return
            if kind in REFUSALS:
                status, content = REFUSALS[kind]
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                return
            for _ in range(2 if kind == "repeat" else 1):
                upstream = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
                upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() not in {"connection", "expect"}:
                        upstream.putheader(name, value)
                upstream.putheader("Connection", "close")
                upstream.endheaders(body)
                answer = upstream.getresponse()
                content = answer.read()
                upstream.close()
            if kind == "lose":
                return
            proxy.largest = max(proxy.largest, len(content))
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                    self.send_header(name, value)
            length = len(content) if self.command != "HEAD" else int(answer.headers.get("Content-Length") or 0)
            self.send_header("Content-Length", str(length))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if kind == "cut" else content)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = act

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that gave up

    listening = Quiet(("127.0.0.1", 0), Handler)
    proxy = Proxy(listening.server_port)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.released.set()
        listening.shutdown()
        listening.server_close()
        thread.join(30)
