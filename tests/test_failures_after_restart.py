"""A kept failure is caught like a fresh one: at once, from the cache, and in a new kernel (W4, E4); it drags no header along."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from web_server import serving

pytestmark = pytest.mark.kernel

TOKEN = "tok-5f1d0c77-header"
PLAIN = "plain-header-value-83b1"

NOTEBOOK = """
%load_ext nbstep
---
import httpx
calls = []
class QuotaError(Exception):
    def __init__(self, *, quota, client):
        super().__init__(f"over the quota of {quota}")
        self.quota = quota
        self.client = client

client = httpx.Client(headers={"Authorization": "Bearer TOKEN", "X-Api-Key": "TOKEN-key", "X-Custom": "PLAIN"})
def fetch(path):
    calls.append(path)
    return client.get(URL + path).raise_for_status().json()
def spend():
    calls.append("spend")
    try:
        fetch("/status/500")
    except httpx.HTTPStatusError as error:
        raise QuotaError(quota=3, client=client) from error
def complain():
    calls.append("complain")
    raise LookupError(client.get(URL + "/status/200").text)  # the server sends back the headers it was sent
---
%%workflow failures
seen = []
for _ in range(2):
    try:
        step(lambda: fetch("/status/404"), key="user:404")
    except httpx.HTTPStatusError as error:
        seen.append((type(error) is httpx.HTTPStatusError, error.response.status_code, error.request.url.path))
    try:
        step(spend, key="quota")
    except QuotaError as error:
        seen.append((type(error) is QuotaError, error.quota, type(error.__cause__).__name__))
    try:
        step(complain, key="echo")
    except LookupError as error:
        seen.append((type(error) is LookupError, "X-Custom" in str(error), len(error.args)))
---
print(seen)
print(calls)
"""


def run_in_a_new_kernel(folder: Path, url: str) -> list[str]:
    """Runs the notebook in a kernel of its own and gives the lines its last cell printed."""
    text = NOTEBOOK.replace("TOKEN", TOKEN).replace("PLAIN", PLAIN).replace("URL", repr(url))
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(cell.strip()) for cell in text.split("---\n")]
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    return "".join(
        output["text"] for output in notebook.cells[-1].outputs if output.output_type == "stream"
    ).splitlines()


def test_e4_a_failure_is_caught_fresh_cached_and_cached_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / ".nbstep"
    monkeypatch.setenv("NBSTEP_DIR", str(cache))
    caught = [(True, 404, "/status/404"), (True, 3, "HTTPStatusError"), (True, True, 1)] * 2
    with serving() as url:
        fresh = run_in_a_new_kernel(tmp_path, url)
        restarted = run_in_a_new_kernel(tmp_path, url)

    assert fresh == [str(caught), str(["/status/404", "spend", "/status/500", "complain"])]
    assert restarted == [str(caught), "[]"]

    files = [path for path in cache.rglob("*") if path.is_file()]
    assert len([path for path in files if path.parent.parent.name == "e"]) == 3
    leaks = [path.name for path in files for secret in (TOKEN, PLAIN) if secret.encode() in path.read_bytes()]
    assert leaks == []
