"""Errors that a step returns in an `Err` without raising them: kept as they are, but for secrets (E1, E4)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from web_server import serving

from nbstep import Err, create_workflow
from nbstep.cache.cache import Cache
from nbstep.events import Finding
from nbstep.testing import RecordingListener

HEADERS = {"X-Team": "team-value-0817", "Authorization": "Bearer bearer-secret-0815", "X-Zone": "zone-48"}
VALUES = ("team-value-0817", "bearer-secret-0815", "zone-48")


@dataclass
class Refusal:
    status: int
    body: str


@dataclass(slots=True)
class Slotted:
    status: int
    api_key: str


class Node:
    def __init__(self, held: Any) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and bool(self.held == other.held)

    __hash__ = None  # type: ignore[assignment]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving() as address:
        yield address


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / ".nbstep")


def kept_and_back(cache: Cache, thunk: Callable[[], Any]) -> Any:
    """What a second run, which computes nothing, is handed back."""
    workflow = create_workflow(cache=cache)
    workflow(lambda step: step(thunk, key="k")).error
    result: Any = workflow(lambda step: step(thunk, key="k"))
    assert cache.errors()[0].key == "k"
    return result.error


def assert_nothing_secret(cache: Cache) -> None:
    assert cache.directory is not None
    for path in cache.directory.rglob("*"):
        written = path.read_bytes() if path.is_file() else b""
        assert [value for value in VALUES if value.encode() in written] == []


def headers_of_a_request(address: str) -> Any:
    return 404, dict(httpx.Request("GET", address, headers=HEADERS).headers)


def headers_of_a_real_request(address: str) -> Any:
    return 404, dict(requests.get(f"{address}/404", headers=HEADERS).request.headers)


def httpx_headers(address: str) -> Any:
    return httpx.get(f"{address}/404", headers=HEADERS).request.headers


def echo(address: str) -> Any:
    return httpx.get(f"{address}/404", headers=HEADERS).text


def plain_echo(address: str) -> Any:
    return httpx.get(f"{address}/plain/404", headers=HEADERS).text


def plain_echo_of_literals(address: str) -> Any:
    return httpx.get(
        f"{address}/plain/404",
        headers={"X-Team": "team-value-0817", "Authorization": "Bearer bearer-secret-0815", "X-Zone": "zone-48"},
    ).text


def httpx_response(address: str) -> Any:
    return httpx.get(f"{address}/plain/404", headers=dict(HEADERS))


def requests_response(address: str) -> Any:
    return {"refused": [requests.get(f"{address}/plain/404", headers=dict(HEADERS))]}


def dataclass_with_an_echo(address: str) -> Any:
    return Refusal(404, plain_echo(address))


def object_with_headers(address: str) -> Any:
    return Node(headers_of_a_request(address))


def error_among_others(address: str) -> Any:
    response = httpx.get(f"{address}/plain/404", headers=dict(HEADERS))
    try:
        response.raise_for_status()
    except httpx.HTTPStatusError as error:
        return [error, ValueError(response.text)]


@pytest.mark.parametrize(
    "returned",
    [
        headers_of_a_request, headers_of_a_real_request, httpx_headers, echo, plain_echo, plain_echo_of_literals, httpx_response,
        requests_response, dataclass_with_an_echo, object_with_headers, error_among_others,
    ],
)  # fmt: skip
def test_e4_what_a_returned_error_tells_of_the_request_is_not_written(
    cache: Cache, server: str, returned: Callable[[str], Any]
) -> None:
    value = returned(server)
    back = kept_and_back(cache, lambda: Err(returned(server)))
    assert type(back) is type(value)
    assert_nothing_secret(cache)


def test_e4_a_returned_response_keeps_its_status_and_its_body(cache: Cache, server: str) -> None:
    back = kept_and_back(cache, lambda: Err(httpx.get(f"{server}/plain/404", headers=HEADERS)))
    assert (back.status_code, back.headers["content-type"]) == (404, "text/plain")
    assert "X-Zone: <redacted>" in back.text


def test_e4_an_error_that_is_made_and_returned_loses_what_its_thunk_sent(cache: Cache, server: str) -> None:
    back = kept_and_back(cache, lambda: Err(LookupError(plain_echo(server))))
    assert type(back) is LookupError
    assert_nothing_secret(cache)


def test_e4_arguments_and_closures_of_the_thunk_are_looked_at(cache: Cache, server: str) -> None:
    def fetch(headers: dict[str, str]) -> Any:
        return Err(httpx.get(f"{server}/plain/404", headers=headers).text)

    create_workflow(cache=cache)(lambda step: step(fetch, {"X-Zone": "zone-48"}, key="argument"))
    sent = {"headers": {"X-Zone": "zone-48"}}
    create_workflow(cache=cache)(lambda step: step(lambda: fetch(**sent), key="closure"))
    assert {meta.key for meta in cache.errors()} == {"argument", "closure"}
    assert_nothing_secret(cache)


def test_e4_the_keys_own_redaction_goes_for_returned_errors_too(tmp_path: Path) -> None:
    cache = Cache(tmp_path / ".nbstep", redact=lambda text: text.replace("Ada", "A."))
    assert kept_and_back(cache, lambda: Err(("no", Refusal(404, "Ada is unknown")))) == (
        "no",
        Refusal(404, "A. is unknown"),
    )


def test_e1_innocent_returned_errors_come_back_as_they_were(cache: Cache) -> None:
    import collections
    import datetime

    import numpy as np
    import pandas as pd

    node = Node({"path": ("a", "b")})
    innocent = [
        "NOT_FOUND", ("bad", 404), None, 404, {"code": "E42", "key": "user:1"}, Refusal(404, "no such user"), Slotted(404, ""),
        node, [node, frozenset({1, 2}), {3}, b"\xff\x00", bytearray(b"x")], collections.OrderedDict(a=1), datetime.date(2026, 1, 2),
        collections.Counter("aab"), threading.ThreadError, Path("x"), 1j, len,
    ]  # fmt: skip
    for value in innocent:
        cache.clear()
        back = kept_and_back(cache, lambda value=value: Err(value))
        assert (back, type(back)) == (value, type(value))
    cache.clear()
    table = pd.DataFrame({"token": ["abcdef0123456789"], "n": [1]})
    array, frame = kept_and_back(cache, lambda: Err((np.arange(100_000), table)))
    assert array.flags.writeable
    assert (array == np.arange(100_000)).all()
    pd.testing.assert_frame_equal(frame, table)


def test_e4_a_returned_error_that_cannot_be_kept_says_why(cache: Cache) -> None:
    told = RecordingListener()
    lock = threading.Lock()
    create_workflow(cache=cache, on_event=told)(lambda step: step(lambda: Err(("no", lock)), key="k", on_error="keep"))
    assert [finding.text for finding in told.of(Finding)] == [
        "k was not kept: result[1] is a _thread.lock, which cannot be pickled: leave it out of the result"
    ]
