"""Kept errors (E4): caught by the same `except`, with what they carried, and nothing secret on disk."""

from __future__ import annotations

import asyncio
import copy
import io
import socket
import subprocess
import threading
import traceback
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from web_server import COOKIE_SECRET, serving

from nbstep import create_workflow
from nbstep.cache.cache import Cache
from nbstep.cache.failures import failure
from nbstep.cache.records import Facts, Kept
from nbstep.errors import CachedError
from nbstep.events import Finding
from nbstep.result import Err
from nbstep.stores.base import run_now
from nbstep.testing import RecordingListener

SECRETS = {
    "Authorization": "Bearer bearer-secret-0815",
    "X-Api-Key": "api-key-secret-0816",
    "X-Team": "team-value-0817",
    "Cookie": "sid=cookie-secret-0818",
    "User-Agent": "agent-value-0819",
}


class TwoArguments(Exception):
    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body}")
        self.status, self.body = status, body


class KeywordsOnly(Exception):
    def __init__(self, *, response: dict[str, Any]) -> None:
        super().__init__("it failed")
        self.response = response


class Slotted(Exception):
    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code

    def __str__(self) -> str:
        return f"code {self.code}"


class NeedsItsLock(Exception):
    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()

    def __str__(self) -> str:
        with self.lock:
            return "locked"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving() as address:
        yield address


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def raised(thunk: Callable[[], Any]) -> Exception:
    try:
        thunk()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def kept_and_back(cache: Cache, error: Exception) -> Any:
    kept = run_now(cache.keep("key", Err(error), Facts(took_s=0.1, source="lambda: fetch()")))
    assert isinstance(kept, Kept), kept
    hit = run_now(cache.look_up("key"))
    return hit.load().error  # type: ignore[union-attr]


def on_disk(cache: Cache) -> bytes:
    assert cache.directory is not None
    return b"".join(path.read_bytes() for path in sorted(cache.directory.rglob("*")) if path.is_file())


def assert_nothing_secret(cache: Cache) -> None:
    written = on_disk(cache)
    for value in (*SECRETS.values(), COOKIE_SECRET, "bearer-secret-0815", "cookie-secret-0818"):
        assert value.encode() not in written, value


def make_os_error() -> Exception:
    return raised(lambda: open("/no/such/file"))


def make_unicode_error() -> Exception:
    return raised(lambda: b"\xff\xfe".decode("utf-8"))


def make_syntax_error() -> Exception:
    return raised(lambda: compile("1 +", "cell", "exec"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: ValueError("bad input", 3),
        lambda: KeyError("user:1"),
        lambda: TwoArguments(404, "no such user"),
        lambda: KeywordsOnly(response={"id": 7}),
        lambda: Slotted(42),
        make_os_error,
        make_unicode_error,
        make_syntax_error,
        lambda: OSError("plain text"),
        lambda: socket.gaierror(-2, "Name or service not known"),
        lambda: subprocess.CalledProcessError(3, ["ls", "-l"], output="text", stderr="more"),
        lambda: ConnectionResetError(104, "Connection reset by peer"),
        lambda: AttributeError("no attribute", name="x", obj=object()),
        lambda: ImportError("no module", name="x", path="/x"),
        lambda: StopIteration(5),
        lambda: ZeroDivisionError(),
    ],
)
def test_e4_an_error_comes_back_with_its_class_text_and_attributes(cache: Cache, make: Callable[[], Exception]) -> None:
    error = make()
    back = kept_and_back(cache, error)
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert back.args == error.args
    assert {k: v for k, v in vars(back).items() if k != "__notes__"} == vars(error)
    for name in ("errno", "strerror", "filename", "start", "end", "reason", "lineno", "name", "path", "value", "code"):
        assert getattr(back, name, None) == getattr(error, name, None), name


def test_e4_cause_context_suppression_and_notes_come_back(cache: Cache) -> None:
    def fail() -> None:
        try:
            raise KeyError("first")
        except KeyError:
            try:
                raise TwoArguments(500, "second")
            except TwoArguments as second:
                second.add_note("a note")
                raise ValueError("third") from second

    back = kept_and_back(cache, raised(fail))
    assert (type(back), type(back.__cause__), type(back.__cause__.__context__)) == (ValueError, TwoArguments, KeyError)
    assert back.__suppress_context__ is True
    assert back.__context__ is not None
    assert back.__cause__.__notes__ == ["a note"]
    assert back.__cause__.status == 500


def test_e4_groups_come_back_and_match_except_star(cache: Cache) -> None:
    back = kept_and_back(cache, ExceptionGroup("two", [ValueError(1), ExceptionGroup("in", [TwoArguments(1, "x")])]))
    caught: list[str] = []
    try:
        raise back
    except* TwoArguments as group:
        caught.append(type(group.exceptions[0].exceptions[0]).__name__)  # type: ignore[union-attr]
    except* ValueError:
        caught.append("ValueError")
    assert caught == ["TwoArguments", "ValueError"]
    assert str(back) == "two (2 sub-exceptions)"


def test_e4_a_group_of_thousands_comes_back_whole(cache: Cache) -> None:
    back = kept_and_back(cache, ExceptionGroup("many", [ValueError(number) for number in range(2000)]))
    assert [member.args for member in back.exceptions] == [(number,) for number in range(2000)]
    assert not hasattr(back, "__notes__")


def test_e4_a_group_that_is_too_large_says_what_of_it_was_kept(cache: Cache) -> None:
    large = ExceptionGroup("inside", [ValueError(number) for number in range(10_050)])
    told = RecordingListener()

    def fail() -> None:
        raise ExceptionGroup("outside", [large, KeyError(1), KeyError(2)])

    assert not create_workflow(cache=cache, on_event=told)(lambda step: step(fail, key="k")).ok
    with pytest.raises(ExceptionGroup) as caught:
        cache.get("k")
    outside = caught.value
    inside: Any = outside.exceptions[0]
    assert [member.args for member in inside.exceptions] == [(number,) for number in range(9999)]
    assert inside.__notes__ == ["  From the cache: 9,999 of 10,050 members were kept."]
    assert outside.__notes__ == ["  From the cache: 1 of 3 members were kept."]
    assert [finding.text for finding in told.of(Finding)] == [
        "k was not kept whole: 9,999 of 10,050 members were kept; 1 of 3 members were kept"
    ]


def test_e4_an_attribute_that_cannot_be_pickled_does_not_cost_the_error(cache: Cache) -> None:
    error = TwoArguments(1, "x")
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    error.client = httpx.Client  # type: ignore[attr-defined]
    back = kept_and_back(cache, error)
    assert type(back) is TwoArguments
    assert back.status == 1
    assert back.lock == "<not stored: _thread.lock>"


def test_e4_what_cannot_make_the_round_trip_becomes_a_cached_error(cache: Cache) -> None:
    back = kept_and_back(cache, raised(lambda: (_ for _ in ()).throw(NeedsItsLock())))
    assert isinstance(back, CachedError)
    assert (back.type_name, back.message) == ("test_failure.NeedsItsLock", "locked")
    assert "Traceback" in back.traceback_text


def test_e4_the_error_itself_is_not_changed(cache: Cache) -> None:
    error = raised(lambda: httpx.Response(500, request=httpx.Request("GET", "http://x/")).raise_for_status())
    before = (error.__traceback__, copy.copy(vars(error)), error.args, error.__context__)
    kept_and_back(cache, error)
    assert (error.__traceback__, vars(error), error.args, error.__context__) == before


def test_e4_what_an_error_loses_is_told_when_it_is_kept_and_in_its_note(cache: Cache) -> None:
    lock, told = threading.Lock(), RecordingListener()

    def fail() -> None:
        error, inner = ValueError("n", lock, {"at": lock}), TwoArguments(1, "x")
        error.client, inner.job = lock, (lock, lambda: lock)  # type: ignore[attr-defined]
        raise error from inner

    assert not create_workflow(cache=cache, on_event=told)(lambda step: step(fail, key="k")).ok
    outer, inner = (
        "args[1], args[2] and .client (a _thread.lock) cannot be stored",
        "TwoArguments.job (a _thread.lock and a function) cannot be stored",
    )
    assert [finding.text for finding in told.of(Finding)] == [f"k was not kept whole: {inner}; {outer}"]
    with pytest.raises(ValueError, match="n") as caught:
        cache.get("k")
    assert caught.value.args[1] == "<not stored: _thread.lock>"
    assert caught.value.__notes__ == [f"  From the cache: {outer}."]
    assert caught.value.__cause__.__notes__ == [f"  From the cache: {inner}."]  # type: ignore[union-attr]


def test_e4_what_libraries_put_into_their_errors_is_not_missed(cache: Cache, server: str) -> None:
    told = RecordingListener()
    asks: dict[str, Callable[[], Any]] = {
        "status": lambda: httpx.get(f"{server}/404").raise_for_status(),
        "refused": lambda: requests.get("http://127.0.0.1:9/"),
        "urllib": lambda: urllib.request.urlopen(f"{server}/404"),
        "wrapped": lambda: raise_again(raised(lambda: requests.get("http://127.0.0.1:9/"))),
    }
    for key, ask in asks.items():
        assert not create_workflow(cache=cache, on_event=told)(lambda step, key=key, ask=ask: step(ask, key=key)).ok
    assert [finding.text for finding in told.of(Finding) if finding.kind == "shortened"] == []
    assert cache_error(cache, "refused").args[0].pool.startswith("<not stored: urllib3")


def raise_again(error: Exception) -> None:
    raise TwoArguments(503, "no answer") from error


def cache_error(cache: Cache, key: str) -> Any:
    return run_now(cache.look_up(key)).load().error  # type: ignore[union-attr]


def test_e4_errors_that_contain_themselves_come_back(cache: Cache) -> None:
    error, other = ValueError("a"), ValueError("b")
    error.__cause__, other.__cause__ = other, error
    error.me = [error]  # type: ignore[attr-defined]
    error.args = ("a", {"error": error})
    back = kept_and_back(cache, error)
    assert str(back.__cause__) == "b"
    assert back.me[0] is back
    assert back.args[1]["error"] is back
    assert getattr(back, "__notes__", []) == []


def test_e4_the_traceback_is_text_without_locals_and_without_our_frames(cache: Cache) -> None:
    def fail() -> None:
        password = "local-value-9999"
        raise ValueError("no" + password[:0])

    kept_and_back(cache, raised(fail))
    (meta,) = cache.errors()
    assert meta.error.type == "ValueError"
    assert 'raise ValueError("no" + password[:0])' in meta.error.traceback
    assert "nbstep/cache" not in meta.error.traceback
    error = RecursionError("x" * 200_000)
    assert len(failure.take_apart(error).text.traceback.encode()) <= 65 * 1024


def test_e4_an_error_whose_str_raises_is_kept(cache: Cache) -> None:
    """`except` finds it as it finds the fresh one."""

    class Mute(ValueError):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    back = kept_and_back(cache, Mute(1))
    assert (type(back), back.args) == (Mute, (1,))
    assert cache.errors()[0].error.message == "<its text could not be made>"


def test_e4_an_error_whose_number_is_too_long_to_be_shown_is_caught_as_what_it_is(cache: Cache) -> None:
    back = kept_and_back(cache, ValueError(10**5000))
    assert (type(back), back.args) == (ValueError, (10**5000,))


def test_e4_httpx_status_errors_keep_status_body_and_url_but_no_secret(cache: Cache, server: str) -> None:
    url = server.replace("//", "//ada:hunter2@") + "/users/404?api_key=query-secret-1&page=2"
    error = raised(lambda: httpx.get(url, headers=SECRETS).raise_for_status())
    with pytest.raises(httpx.HTTPStatusError, match="404 Not Found") as caught:
        raise kept_and_back(cache, error)
    back = caught.value
    assert back.response.status_code == 404
    assert back.response.json()["error"] == "status 404"
    assert back.response.reason_phrase == "Not Found"
    assert back.response.headers["retry-after"] == "7"
    assert "set-cookie" not in back.response.headers
    assert back.request.method == "GET"
    assert back.request.url.path == "/users/404"
    assert back.response.url.params["page"] == "2"
    assert_nothing_secret(cache)
    assert b"hunter2" not in on_disk(cache)
    assert b"query-secret-1" not in on_disk(cache)


@pytest.mark.parametrize("library", ["httpx", "requests", "urllib"])
def test_e4_connection_errors_come_back_without_secrets(cache: Cache, library: str) -> None:
    url = "http://127.0.0.1:9/x?token=query-secret-2"
    fetch: dict[str, Callable[[], Any]] = {
        "httpx": lambda: httpx.get(url, headers=SECRETS),
        "requests": lambda: requests.get(url, headers=SECRETS),
        "urllib": lambda: urllib.request.urlopen(urllib.request.Request(url, headers=SECRETS)),
    }
    error = raised(fetch[library])
    back = kept_and_back(cache, error)
    assert type(back) is type(error)
    assert isinstance(back, httpx.ConnectError | requests.ConnectionError | urllib.error.URLError)
    assert_nothing_secret(cache)
    assert b"query-secret-2" not in on_disk(cache)
    assert cache.errors()[0].error.transient is True


def test_e4_httpx_time_outs_come_back(cache: Cache, server: str) -> None:
    back = kept_and_back(cache, raised(lambda: httpx.get(f"{server}/slow", headers=SECRETS, timeout=0.05)))
    assert type(back) is httpx.ReadTimeout
    assert back.request.url.path == "/slow"
    assert_nothing_secret(cache)


def test_e4_a_response_whose_body_was_not_read_is_not_read_by_keeping(cache: Cache, server: str) -> None:
    with httpx.stream("GET", f"{server}/404") as response:
        error = raised(response.raise_for_status)
        back = kept_and_back(cache, error)
        assert back.response.status_code == 404
        assert b"status 404" in response.read()


def test_e4_requests_errors_keep_status_and_body(cache: Cache, server: str) -> None:
    error = raised(lambda: requests.get(f"{server}/a/503?api_key=query-secret-3", headers=SECRETS).raise_for_status())
    back = kept_and_back(cache, error)
    assert type(back) is requests.HTTPError
    assert back.response.status_code == 503
    assert back.response.json()["error"] == "status 503"
    assert back.response.headers["retry-after"] == "7"
    assert back.request.method == "GET"
    assert dict(back.request.headers) == {}
    assert_nothing_secret(cache)
    assert b"query-secret-3" not in on_disk(cache)


def test_e4_requests_json_errors_come_back(cache: Cache, server: str) -> None:
    error = raised(lambda: requests.get(f"{server}/broken-json", headers=SECRETS).json())
    back = kept_and_back(cache, error)
    assert type(back) is requests.JSONDecodeError
    assert (str(back), back.doc, back.pos) == (str(error), error.doc, error.pos)  # type: ignore[attr-defined]
    assert_nothing_secret(cache)


def test_e4_urllib_errors_keep_code_headers_and_leave_the_body_to_the_user(cache: Cache, server: str) -> None:
    request = urllib.request.Request(f"{server}/404", headers=SECRETS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        error = raised(lambda: urllib.request.urlopen(request))
        back = kept_and_back(cache, error)
        assert type(back) is urllib.error.HTTPError
        assert (back.code, back.reason, back.headers["Retry-After"]) == (404, "Not Found", "7")
        assert back.read() == b""
        assert b"status 404" in error.read()  # type: ignore[attr-defined]
        error.close()  # type: ignore[attr-defined]
    assert_nothing_secret(cache)


def test_e4_aiohttp_errors_come_back_without_request_headers(cache: Cache, server: str) -> None:
    aiohttp = pytest.importorskip("aiohttp")

    async def fetch() -> None:
        async with aiohttp.ClientSession(headers=SECRETS) as session, session.get(f"{server}/429") as response:
            response.raise_for_status()

    error = raised(lambda: asyncio.run(fetch()))
    back = kept_and_back(cache, error)
    assert type(back) is aiohttp.ClientResponseError
    assert (back.status, str(back.request_info.url)) == (429, f"{server}/429")
    assert dict(back.request_info.headers) == {}
    assert back.headers["Retry-After"] == "7"
    assert_nothing_secret(cache)


def test_e4_secrets_in_attributes_causes_and_source_are_not_written(cache: Cache, server: str) -> None:
    class ApiError(Exception):
        pass

    def fail() -> None:
        response = httpx.get(f"{server}/401", headers=SECRETS)
        try:
            response.raise_for_status()
        except httpx.HTTPStatusError as cause:
            error = ApiError(f"refused {response.request.headers['X-Team']}", response.request.headers)
            error.headers = dict(SECRETS)  # type: ignore[attr-defined]
            error.client = httpx.Client(headers=SECRETS)  # type: ignore[attr-defined]
            error.options = {"auth": ("ada", "x"), "password": "plain-secret-1", "nested": [{"headers": dict(SECRETS)}]}  # type: ignore[attr-defined]
            error.again = lambda: httpx.get(server, headers=SECRETS)  # type: ignore[attr-defined]
            error.response = response  # type: ignore[attr-defined]
            error.add_note(f"sent {SECRETS['X-Api-Key']}")
            raise error from cause

    error = raised(fail)
    source = f"lambda: httpx.get(url, headers={{'X-Team': '{SECRETS['X-Team']}'}})"
    assert isinstance(run_now(cache.keep("key", Err(error), Facts(took_s=1, source=source))), Kept)
    back = run_now(cache.look_up("key")).load().error  # type: ignore[union-attr]
    assert isinstance(back.__cause__, httpx.HTTPStatusError)
    assert back.options["password"] == "<redacted>"
    assert back.response.status_code == 401
    assert_nothing_secret(cache)
    assert b"plain-secret-1" not in on_disk(cache)
    error.client.close()  # type: ignore[attr-defined]


def test_e4_open_files_and_streams_in_errors_are_left_out(cache: Cache, tmp_path: Path) -> None:
    error = ValueError("x")
    error.stream = io.BytesIO(b"s")  # type: ignore[attr-defined]
    with open(tmp_path / "f", "w") as file:
        error.file = file  # type: ignore[attr-defined]
        back = kept_and_back(cache, error)
    assert back.file == "<not stored: _io.TextIOWrapper>"


def test_e4_errors_of_other_libraries_come_back(cache: Cache) -> None:
    import json

    import pandas as pd

    makers: list[Callable[[], Any]] = [
        lambda: json.loads("{"),
        lambda: pd.DataFrame({"a": [1]})["b"],
        lambda: pd.read_csv(io.StringIO("")),
        lambda: int("x"),
        lambda: pd.to_datetime("no date"),
    ]
    for make in makers:
        error = raised(make)
        back = kept_and_back(cache, error)
        assert (type(back), str(back)) == (type(error), str(error))


def test_e4_validation_errors_written_in_c_come_back_or_stand_in(cache: Cache) -> None:
    import pydantic

    class Model(pydantic.BaseModel):
        x: int

    error = raised(lambda: Model(x="no"))
    back = kept_and_back(cache, error)
    assert isinstance(back, type(error) | CachedError)


def test_e2_what_is_no_exception_is_never_kept(cache: Cache) -> None:
    assert "KeyboardInterrupt" in run_now(cache.keep("k", Err(KeyboardInterrupt()), Facts(took_s=0))).why  # type: ignore[union-attr]


def test_e4_a_returned_error_that_is_no_exception_comes_back_as_it_was(cache: Cache) -> None:
    run_now(cache.keep("k", Err("NOT_FOUND"), Facts(took_s=0, returned=True)))
    assert run_now(cache.look_up("k")).load() == Err("NOT_FOUND")  # type: ignore[union-attr]
    assert cache.errors()[0].error.message == "'NOT_FOUND'"


def test_a_kept_error_prints_like_the_original(cache: Cache) -> None:
    error = raised(lambda: TwoArguments.__init__(1))  # type: ignore[call-arg]
    back = kept_and_back(cache, error)
    assert traceback.format_exception_only(back) == traceback.format_exception_only(error)
