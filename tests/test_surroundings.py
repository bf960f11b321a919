"""Header values that a server sent back are found wherever the request can be seen, and stay out of every file (E4, T10)."""

from __future__ import annotations

import asyncio
import functools
import io
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from web_server import serving

from nbstep import create_workflow
from nbstep.cache.cache import Cache
from nbstep.cache.records import Facts, Kept
from nbstep.cache.secrets.surroundings import telling_of
from nbstep.events import Finding
from nbstep.result import Err
from nbstep.stores.base import run_now
from nbstep.testing import RecordingListener

HEADERS = {
    "Authorization": "Bearer bearer-secret-0815",
    "X-Team": "team-value-0817",
    "Cookie": "sid=cookie-secret-0818; id=second-secret-0820",
    "X-Quoted": 'a "quoted/0821" value',
}
VALUES = (
    "bearer-secret-0815",
    "team-value-0817",
    "cookie-secret-0818",
    "second-secret-0820",
    "quoted/0821",
    "quoted\\/0821",
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving() as address:
        yield address


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


class Api:
    """An API client as people write them: the session and its headers are attributes."""

    __slots__ = ("address", "session")

    def __init__(self, address: str) -> None:
        self.address, self.session = address, requests.Session()
        self.session.headers.update(HEADERS)

    def ask(self) -> None:
        raise ValueError(self.session.get(f"{self.address}/404").text)


def response_in_a_variable(address: str) -> None:
    response = httpx.get(f"{address}/404", headers=HEADERS)
    raise ValueError(response.text)


def status_error_as_context(address: str) -> None:
    try:
        httpx.get(f"{address}/404", headers=HEADERS).raise_for_status()
    except httpx.HTTPStatusError as error:
        raise ValueError(error.response.text)  # noqa: B904 - it becomes the context


def status_error_as_cause(address: str) -> None:
    try:
        requests.get(f"{address}/404", headers=HEADERS).raise_for_status()
    except requests.HTTPError as error:
        raise ValueError(error.response.text) from error  # type: ignore[union-attr]


def status_error_suppressed(address: str) -> None:
    try:
        httpx.get(f"{address}/404", headers=HEADERS).raise_for_status()
    except httpx.HTTPStatusError as error:
        raise ValueError(error.response.text) from None


def status_error_remembered(address: str) -> None:
    seen: list[Exception] = []
    for _ in range(2):
        try:
            httpx.get(f"{address}/404", headers=HEADERS).raise_for_status()
        except httpx.HTTPStatusError as error:
            seen.append(error)
    raise ValueError(seen[-1].response.text)  # type: ignore[attr-defined]


def default_headers_of_httpx(address: str) -> None:
    with httpx.Client(headers=HEADERS) as client:
        raise ValueError(client.get(f"{address}/404").text)


def client_in_a_global(address: str) -> None:
    with httpx.Client(headers=HEADERS) as made:
        globals()["CLIENT"] = made
        ask_the_global_client(address)


def ask_the_global_client(address: str) -> None:
    raise ValueError(CLIENT.get(f"{address}/404").text)  # type: ignore[name-defined]  # noqa: F821


def headers_in_a_variable(address: str) -> None:
    sent = dict(HEADERS)
    raise ValueError(httpx.get(f"{address}/404", headers=sent).text)


def headers_in_a_partial(address: str) -> None:
    get = functools.partial(httpx.get, headers=HEADERS)
    raise ValueError(get(f"{address}/404").text)


def headers_written_out(address: str) -> None:
    raise ValueError(
        httpx.get(
            f"{address}/404",
            headers={
                "Authorization": "Bearer bearer-secret-0815",
                "X-Team": "team-value-0817",
            },
        ).text
    )


def asked_by_another_function(address: str) -> None:
    def ask() -> str:
        return httpx.get(f"{address}/404", headers={"X-Team": "team-" + "value-0817"}).text

    answer = ask()
    raise ValueError(answer)


def urllib_request(address: str) -> None:
    request = urllib.request.Request(f"{address}/200", headers=HEADERS)
    with urllib.request.urlopen(request) as response:
        raise ValueError(response.read().decode())


def urllib_opener(address: str) -> None:
    opener = urllib.request.build_opener()
    opener.addheaders = list(HEADERS.items())
    with opener.open(f"{address}/200") as response:
        raise ValueError(response.read().decode())


def session_of_an_object(address: str) -> None:
    api = Api(address)
    try:
        api.ask()
    finally:
        api.session.close()


def aiohttp_session(address: str) -> None:
    import aiohttp

    async def ask() -> None:
        async with aiohttp.ClientSession(headers=HEADERS) as session, session.get(f"{address}/404") as response:
            raise ValueError(await response.text())

    asyncio.run(ask())


def aiohttp_response(address: str) -> None:
    import aiohttp

    async def ask() -> Any:
        async with aiohttp.ClientSession() as session, session.get(f"{address}/404", headers=HEADERS) as response:
            await response.read()
            return response

    async def complain() -> None:
        response = await ask()
        raise ValueError(await response.text())

    asyncio.run(complain())


def member_of_a_group(address: str) -> None:
    errors: list[Exception] = []
    try:
        response_in_a_variable(address)
    except ValueError as error:
        errors.append(error)
    raise ExceptionGroup("all of them", errors)


def escaped_text(address: str) -> None:
    response = httpx.get(f"{address}/404", headers=HEADERS)
    raise ValueError(f"refused: {response.text!r}, {response.content!r}")


@pytest.mark.parametrize(
    "fail",
    [
        response_in_a_variable, status_error_as_context, status_error_as_cause, status_error_suppressed,
        status_error_remembered, default_headers_of_httpx, client_in_a_global, headers_in_a_variable, headers_in_a_partial,
        headers_written_out, asked_by_another_function,
        urllib_request, urllib_opener, session_of_an_object, aiohttp_session, aiohttp_response,
        member_of_a_group, escaped_text,
    ],
)  # fmt: skip
def test_e4_what_a_server_sent_back_of_the_request_is_not_written(
    cache: Cache, server: str, fail: Callable[[str], None]
) -> None:
    with pytest.raises((ValueError, ExceptionGroup)) as caught:
        fail(server)
    error = caught.value
    assert "team-value-0817" in str(error) + repr(getattr(error, "exceptions", ""))
    assert isinstance(run_now(cache.keep("key", Err(error), Facts(took_s=1))), Kept)
    back = run_now(cache.look_up("key")).load().error  # type: ignore[union-attr]
    assert type(back) in (ValueError, ExceptionGroup)
    assert cache.directory is not None
    for path in cache.directory.rglob("*"):
        written = path.read_bytes() if path.is_file() else b""
        assert [value for value in VALUES if value.encode() in written] == []


class Refused(Exception):
    pass


def answer(address: str, name: str, file: Path) -> str:
    """What a server answers to a secret that, once this function has returned, nothing holds any more."""
    request = urllib.request.Request(address, headers={name: file.read_text()})
    with urllib.request.urlopen(request) as response:
        return response.read().decode()


def test_e4_a_secret_sent_back_in_tags_is_known_by_its_name(cache: Cache, server: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("tag-value-0822")

    def fail() -> None:
        raise Refused(answer(f"{server}/xml/200", "X-Api-Key", tmp_path / "token"))

    result = create_workflow(cache=cache)(lambda step: step(fail, key="key"))
    assert "<x-api-key>tag-value-0822</x-api-key>" in str(result.error)
    with pytest.raises(Refused, match="<x-api-key><redacted></x-api-key>"):
        cache.get("key")
    assert cache.directory is not None
    assert not any(b"tag-value-0822" in path.read_bytes() for path in cache.directory.rglob("*") if path.is_file())


PIN, OTHER, ZONE, ROWS = 9182736451, 9182736452, 4817, 20


def sent_with_numbers(address: str) -> httpx.Response:
    headers = {"X-Mine": str(PIN), "X-Zone": str(ZONE), "X-Pin": f"pin={OTHER}"}
    return httpx.get(f"{address}/404?rows={ROWS}", headers=headers)


def ask_with_numbers(address: str) -> Any:
    sent_with_numbers(address).raise_for_status()


def ask_and_return(address: str) -> Any:
    return Err(sent_with_numbers(address))


@pytest.mark.parametrize("ask", [ask_with_numbers, ask_and_return])
def test_e4_numbers_that_were_sent_in_headers_are_no_inputs_of_the_entry(
    cache: Cache, server: str, ask: Callable[[str], Any]
) -> None:
    told = RecordingListener()
    assert not create_workflow(cache=cache)(lambda step: step(lambda: ask(server), key="key")).ok
    (meta,) = cache.errors()
    assert {name: text for name, text in meta.facts.inputs.items() if text == "20"} == {"ROWS": "20"}
    assert cache.directory is not None
    for value in (str(PIN), str(OTHER), str(ZONE)):
        assert not any(value.encode() in path.read_bytes() for path in cache.directory.rglob("*") if path.is_file()), (
            value
        )
    # what an entry does not know has not changed
    assert not create_workflow(cache=cache, on_event=told)(lambda step: step(lambda: ask(server), key="key")).ok
    assert [finding.kind for finding in told.of(Finding)] == []


def raised_beside(value: Any) -> ValueError:
    def fail() -> None:
        held = value
        raise ValueError("x", held is None)

    try:
        fail()
    except ValueError as error:
        return error
    raise AssertionError


@dataclass
class Settings:
    api_key: str
    url: str


def test_e4_secrets_in_variables_are_found_by_their_names() -> None:
    settings = Settings("settings-key-1", "postgres://ada:url-password-2@db/x?token=url-token-3")
    telling = telling_of([raised_beside({"settings": settings, "auth": ("ada", "auth-word-4")})])
    assert telling.parts == {"settings-key-1", "url-password-2", "url-token-3", "auth-word-4"}


def test_e4_variables_that_headers_are_made_of_are_found() -> None:
    class Client:
        team = ""

        def __init__(self) -> None:
            self.team = "attribute-word-9"

        def ask(self, group: str) -> None:
            self.send(headers={"X-Team": self.team, "X-Group": group, "X-Other": self.team.other})  # type: ignore[attr-defined]

    with pytest.raises(AttributeError) as caught:
        Client().ask("argument-word-8")
    assert telling_of([caught.value]).parts == {"attribute-word-9", "argument-word-8"}


def test_e4_httpx_auth_and_cookies_of_a_client_are_found() -> None:
    with httpx.Client(auth=("ada", "auth-word-4"), cookies={"sid": "cookie-word-5"}) as client:
        scrub = telling_of([raised_beside(client)]).scrubber()
    assert scrub("auth-word-4 cookie-word-5 YWRhOmF1dGgtd29yZC00") == "<redacted> <redacted> <redacted>"


def test_e4_variables_that_name_no_secret_tell_nothing() -> None:
    variables = {"token": "identifier", "path": "data/2024", "rows": [1] * 100_000, "names": {"a": "value-1234"}}
    telling = telling_of([raised_beside(variables)])
    assert (telling.parts, telling.tokens, telling.named) == (set(), set(), set())


def test_e4_headers_of_a_response_are_not_taken_for_those_of_its_request() -> None:
    response = httpx.Response(
        404, headers={"Location": "https://x/users", "Vary": "anything", "X-Auth-Token": "token-word-6"}
    )
    assert telling_of([raised_beside(response)]).parts == {"token-word-6"}


def test_e4_reading_variables_calls_no_code_of_the_user() -> None:
    called: list[str] = []

    class Watchful:
        def __getattribute__(self, name: str) -> Any:
            called.append(name)
            raise RuntimeError(name)

        __eq__ = __hash__ = __len__ = __iter__ = __bool__ = __getattribute__  # type: ignore[assignment]

    class Mapping(dict[str, Any]):
        def items(self) -> Any:
            called.append("items")
            raise RuntimeError

    held = {"watchful": Watchful(), "headers": Mapping(a=1)}
    telling_of([raised_beside(held)])
    assert called in ([], ["items"])


def test_e4_the_walk_through_variables_ends() -> None:
    loop: list[Any] = []
    loop.append(loop)
    deep: Any = None
    for _ in range(10_000):
        deep = [deep]
    wide = [[[object() for _ in range(100)] for _ in range(100)] for _ in range(100)]
    assert telling_of([raised_beside([loop, deep, wide, io.StringIO("x")])]).parts == set()


def test_e4_many_frames_are_read_up_to_a_bound() -> None:
    def down(n: int, password: str) -> None:
        if n:
            down(n - 1, "a" if n == 1 else "common-word-7")
        api_key = "deep-word-8" if n == 0 else ""
        int("x" + api_key[:0])

    with pytest.raises(ValueError, match="invalid literal") as caught:
        down(500, "outer-word-6")
    assert telling_of([caught.value]).parts == {"outer-word-6", "common-word-7", "deep-word-8"}
