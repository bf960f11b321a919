"""Kept errors of openai, botocore and SQLAlchemy: read and caught as when fresh, in this process and the next (E3, E4)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("client_errors.py")
SECRETS = (
    "plain-openai-key-5f1d", "blue-team-header-77", "AKIAQWERTYUIOPASDFGH", "wJalrXUtnFEMIK7MDENGbPxRfiCY",
    "session-token-value-77aa", "database-password-4711", "bound-password-2233", "cookie-value-99",
)  # fmt: skip
NO_ACCOUNT = {
    "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true",
}  # fmt: skip
# They differ from the fresh ones in what is redacted.
WITH_SECRETS = {"openai echo", "s3 echo", "sql secret", "sql flush"}


class _Answers(BaseHTTPRequestHandler):
    """Fails as its path says: `/404/chat/completions` as openai does, `/bucket/404/NoSuchKey` as S3 does."""

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[0] == "slow":
            self.server.released.wait()  # type: ignore[attr-defined]
            return
        sent = f"You sent: {' '.join(self.headers.values())}" if "echo" in parts else "That was wrong."
        status = next((int(part) for part in parts if part.isdigit()), 400)
        if parts[0] == "bucket":
            body = f"<Error><Code>{parts[-1]}</Code><Message>{sent}</Message><RequestId>R1</RequestId></Error>"
        elif b"ResourceNotFoundException" in asked:
            body = json.dumps({"__type": "ResourceNotFoundException", "message": sent})
        else:
            told = {"message": sent, "type": "invalid_request_error", "param": "model", "code": "bad_model"}
            body = json.dumps({"error": told})
        self.send_response(status)
        self.send_header("Content-Type", "application/xml" if parts[0] == "bucket" else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-request-id", "request-1")
        if "echo" in parts:
            self.send_header("Set-Cookie", "session=cookie-value-99")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body.encode())

    do_GET = do_HEAD = do_POST

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are part of the tests."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[dict[str, Any]], list[list[str]], Path]]:
    """What was read of each error: fresh, as a hit, and twice in the next process; which thunks ran; their home."""
    home = tmp_path_factory.mktemp("clients")
    server = _Server(("127.0.0.1", 0), _Answers)
    server.released = threading.Event()  # type: ignore[attr-defined]
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        told = [_told(home, f"http://127.0.0.1:{server.server_address[1]}") for _ in range(2)]
    finally:
        server.released.set()  # type: ignore[attr-defined]
        server.shutdown()
        server.server_close()
        thread.join(20)
    return [asked for process in told for asked in process["asked"]], [process["calls"] for process in told], home


def _told(home: Path, server: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, SCRIPT, home / "cache", server], capture_output=True, text=True, timeout=240, check=False,
        env={**os.environ, "HOME": str(home), "JUPYTER_DATA_DIR": str(home / "jupyter"), "NO_PROXY": "127.0.0.1", **NO_ACCOUNT},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_e1_each_of_them_is_raised_once(runs: Any) -> None:
    (fresh, *_), (first, second), _ = runs
    assert first == list(fresh)
    assert second == []


@pytest.mark.parametrize("which", [1, 2, 3], ids=["hit", "new process", "hit there"])
def test_e4_they_come_back_as_they_were(runs: Any, which: int) -> None:
    asked = runs[0]
    for name, fresh in asked[0].items():
        if name not in WITH_SECRETS:
            assert asked[which][name] == fresh, name


@pytest.mark.parametrize("which", [1, 2, 3], ids=["hit", "new process", "hit there"])
def test_e4_only_secrets_are_missing_from_the_others(runs: Any, which: int) -> None:
    asked = runs[0]
    for name in WITH_SECRETS:
        fresh, back = asked[0][name], asked[which][name]
        for part in ("class", "notes", "cause", "context", "status_code", "request_id", "statement", "orig", "pickled"):
            assert back[part] == fresh[part], (name, part)
        assert "<redacted>" in back["text"]


def test_t10_no_secret_of_theirs_is_written(runs: Any) -> None:
    files = [path for path in (runs[2] / "cache").rglob("*") if path.is_file()]
    assert len([path for path in files if path.parent.parent.name == "e"]) == len(runs[0][0])
    leaks = [(path.name, secret) for path in files for secret in SECRETS if secret.encode() in path.read_bytes()]
    assert leaks == []


def test_e4_a_fresh_one_did_show_the_secrets(runs: Any) -> None:
    fresh = runs[0][0]
    assert "plain-openai-key-5f1d" in fresh["openai echo"]["text"]
    assert "blue-team-header-77" in fresh["openai echo"]["text"]
    assert "session-token-value-77aa" in fresh["s3 echo"]["text"]
    assert all("bound-password-2233" in fresh[name]["text"] for name in ("sql secret", "sql flush"))


@pytest.mark.parametrize("which", [0, 1, 2, 3], ids=["fresh", "hit", "new process", "hit there"])
def test_w4_each_is_caught_by_the_class_of_its_own_client(runs: Any, which: int) -> None:
    caught = {name: told["caught"] for name, told in runs[0][which].items() if ":" in told["caught"]}
    assert caught == {
        "s3 NoSuchKey": "s3: no such key", "dynamodb": "dynamodb: not found", "logs": "logs: not found",
    }  # fmt: skip


def test_e3_those_that_pass_by_themselves_are_transient(runs: Any) -> None:
    passing = {name for name, told in runs[0][0].items() if told["transient"]}
    assert passing == {
        "openai 429", "openai 500", "openai time-out", "openai connection",
        "s3 SlowDown", "s3 Throttling", "s3 connection", "sql refused",
    }  # fmt: skip
