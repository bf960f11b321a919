"""`nbstep.transient`: real exceptions of httpx, requests and urllib, against a real local server (E3)."""

from __future__ import annotations

import errno
import http.client
import socket
import sqlite3
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import requests
import sqlalchemy

import nbstep
from nbstep.transience import http_status, transient


class _Answers(BaseHTTPRequestHandler):
    """Answers `/STATUS` with that status; `/gone` breaks the connection off; `/slow` never answers."""

    def do_GET(self) -> None:
        if self.path == "/slow":
            self.server.released.wait()  # type: ignore[attr-defined]
            return
        if self.path == "/gone":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(int(self.path[1:]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    served = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    served.released = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{served.server_address[1]}"
    served.released.set()  # type: ignore[attr-defined]
    served.shutdown()
    served.server_close()
    thread.join()


@pytest.fixture(scope="module")
def nobody() -> str:
    """A local address where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def _timeout(url: str) -> float:
    return 0.2 if url.endswith("/slow") else 60.0


def _httpx(url: str) -> None:
    httpx.get(url, timeout=_timeout(url), trust_env=False).raise_for_status()


def _requests(url: str) -> None:
    with requests.Session() as session:
        session.trust_env = False
        session.get(url, timeout=_timeout(url)).raise_for_status()


def _urllib(url: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=_timeout(url)):
        pass


CLIENTS = pytest.mark.parametrize("fetch", [_httpx, _requests, _urllib])


def _error_of(fetch: Callable[[str], None], url: str) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is the library's business
        fetch(url)
    if isinstance(caught.value, urllib.error.HTTPError):
        caught.value.close()
    return caught.value


@CLIENTS
@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_e3_a_status_that_says_later_is_transient(server: str, fetch: Callable[[str], None], status: int) -> None:
    error = _error_of(fetch, f"{server}/{status}")
    assert (transient(error), http_status(error)) == (True, status)


@CLIENTS
@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
def test_e3_a_status_that_says_never_is_not(server: str, fetch: Callable[[str], None], status: int) -> None:
    error = _error_of(fetch, f"{server}/{status}")
    assert (transient(error), http_status(error)) == (False, status)


@CLIENTS
def test_e3_a_refused_connection_is_transient(nobody: str, fetch: Callable[[str], None]) -> None:
    assert transient(_error_of(fetch, nobody))


@CLIENTS
def test_e3_a_time_out_is_transient(server: str, fetch: Callable[[str], None]) -> None:
    assert transient(_error_of(fetch, f"{server}/slow"))


@CLIENTS
def test_e3_a_connection_that_breaks_off_is_transient(server: str, fetch: Callable[[str], None]) -> None:
    assert transient(_error_of(fetch, f"{server}/gone"))


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(), ConnectionResetError(), BrokenPipeError(), socket.gaierror(-2, "Name or service not known"),
        http.client.RemoteDisconnected(), http.client.IncompleteRead(b""), OSError(errno.ENETUNREACH, "unreachable"),
    ],
    ids=repr,
)  # fmt: skip
def test_e3_what_the_standard_library_raises_for_the_network_is_transient(error: Exception) -> None:
    assert transient(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad"), KeyError("k"), FileNotFoundError(errno.ENOENT, "no"), PermissionError(), OSError(errno.ENOSPC, "full"),
        urllib.error.URLError(FileNotFoundError(errno.ENOENT, "no")), urllib.error.URLError("unknown url type: x"),
        httpx.UnsupportedProtocol("ftp"), httpx.InvalidURL("x"), requests.exceptions.InvalidURL("x"),
        requests.exceptions.MissingSchema("x"), KeyboardInterrupt(),
    ],
    ids=repr,
)  # fmt: skip
def test_e3_what_will_fail_again_is_not(error: BaseException) -> None:
    assert not transient(error)


def test_e3_a_locked_sqlite_database_is_transient(tmp_path: Path) -> None:
    holder, other = (sqlite3.connect(tmp_path / "db", timeout=0, isolation_level=None) for _ in range(2))
    try:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError) as locked:
            other.execute("CREATE TABLE t (x)")
        with pytest.raises(sqlite3.OperationalError) as wrong:
            holder.execute("SELECT * FROM none")
    finally:
        holder.close()
        other.close()
    assert (transient(locked.value), transient(wrong.value)) == (True, False)


def test_e3_sqlalchemy_without_a_free_connection_is_transient_and_without_a_file_is_not(tmp_path: Path) -> None:
    engine = sqlalchemy.create_engine(
        f"sqlite:///{tmp_path}/db", poolclass=sqlalchemy.QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.01
    )
    try:
        with engine.connect(), pytest.raises(sqlalchemy.exc.TimeoutError) as none_free:
            engine.connect()
        with pytest.raises(sqlalchemy.exc.OperationalError) as no_folder:
            sqlalchemy.create_engine(f"sqlite:///{tmp_path}/no/such/folder/db").connect()
    finally:
        engine.dispose()
    assert (transient(none_free.value), transient(no_folder.value)) == (True, False)


def test_e3_a_number_called_code_is_no_http_status() -> None:
    class Rejected(Exception):
        code = 503

    assert http_status(Rejected()) is None
    assert not transient(Rejected())


def test_e3_it_is_public() -> None:
    assert nbstep.transient is transient
