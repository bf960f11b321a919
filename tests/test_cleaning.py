"""Plain contents of errors without headers and secrets, in whatever container they stand (E4, T10)."""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import httpx
import pydantic
import pytest

from nbstep.cache.failures.reduction import pickle_part
from nbstep.cache.secrets.cleaning import Cleaner
from nbstep.cache.secrets.redaction import REDACTED, redact_text

Login = namedtuple("Login", "user password")


@dataclass(frozen=True, slots=True)
class Options:
    user: str
    api_key: str
    headers: dict[str, str]


@dataclass
class Plain:
    user: str
    password: str
    extra_headers: list[tuple[str, str]]


class Model(pydantic.BaseModel):
    user: str
    password: pydantic.SecretStr


def cleaned(value: Any) -> Any:
    return Cleaner(redact_text).clean(value)


def written(value: Any) -> bytes:
    def refuse(error: BaseException) -> Any:
        raise pickle.PicklingError

    return pickle_part(value, refuse, redact_text, ValueError())[0]


PAIRS = [("Authorization", "Basic abc"), ("X-Team", "blue-9"), ("Content-Type", "text/csv")]
NO_PAIRS = [("Authorization", REDACTED), ("X-Team", REDACTED), ("Content-Type", "text/csv")]
RAW = [(b"authorization", b"Basic abc"), (b"x-team", b"blue-9")]
NO_RAW = [(b"authorization", REDACTED.encode()), (b"x-team", REDACTED.encode())]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (PAIRS, NO_PAIRS),
        (tuple(PAIRS), tuple(NO_PAIRS)),
        ([list(pair) for pair in PAIRS], [list(pair) for pair in NO_PAIRS]),
        (RAW, NO_RAW),
        (dict(PAIRS), dict(NO_PAIRS)),
        ({"headers": [("X-Team", "blue-9")]}, {"headers": [("X-Team", REDACTED)]}),
        ({"raw_headers": [(b"x-team", b"blue-9")]}, {"raw_headers": [(b"x-team", REDACTED.encode())]}),
        ({b"headers": {"X-Team": "blue-9"}}, {b"headers": {"X-Team": REDACTED}}),
        ({"headers": {"X-Team": ["blue-9"]}}, {"headers": {"X-Team": REDACTED}}),
        ({"headers": OrderedDict({"X-Team": "blue-9"})}, {"headers": {"X-Team": REDACTED}}),
        ({"headers": "X-Team: blue-9\r\nDate: now"}, {"headers": f"X-Team: {REDACTED}\nDate: now"}),
        ({"headers": ["X-Team: blue-9"]}, {"headers": [f"X-Team: {REDACTED}"]}),
        ({"cookies": {"sid": "abc"}}, {"cookies": {"sid": REDACTED}}),
        (("X-Auth-Token", "abc"), ("X-Auth-Token", REDACTED)),
        ((b"Cookie", b"a=b; c=d"), (b"Cookie", REDACTED.encode())),
        (["psql", "--password", "abc", "-h", "db"], ["psql", "--password", REDACTED, "-h", "db"]),
        (["curl", "-H", "X-Team: blue-9", "-u", "ada:abc"], ["curl", "-H", f"X-Team: {REDACTED}", "-u", REDACTED]),
        ({"auth": ("ada", "abc")}, {"auth": REDACTED}),
        ({"password": 1234, "token_count": 5, "token": 5}, {"password": REDACTED, "token_count": 5, "token": 5}),
        ([{"a": [{"secret_key": "abc"}]}], [{"a": [{"secret_key": REDACTED}]}]),
    ],
)
def test_e4_headers_and_secrets_go_from_plain_contents(value: Any, expected: Any) -> None:
    result = cleaned(value)
    assert result == expected or str(result).replace("\\r", "") == str(expected)
    assert type(result) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        ["id", "password", "email"],
        ("token", "missing"),
        [("name", "Ada"), ("team", "blue-9")],
        {"headers": ["id", "name", "date"]},
        {"column_headers": {"id": "Number"}},
        {"content-type": "text/csv", "filename": "a.csv"},
        {"password": None, "token": "", "api_key": "required", "cookies": 3},
        ["ls", "-l", "--token-file", "x"],
        ["git", "commit", "-u"],
        ("location", "body", "token"),
        {"auth": "none"},
        b"\xff\xfe binary",
        {1: (2, 3.0, None, frozenset({4}))},
    ],
)
def test_e4_innocent_contents_stay(value: Any) -> None:
    assert cleaned(value) == value


def test_e4_the_value_itself_is_not_changed() -> None:
    value = {"headers": dict(PAIRS), "list": [PAIRS]}
    cleaned(value)
    assert value == {"headers": dict(PAIRS), "list": [PAIRS]}


@pytest.mark.parametrize(
    "value",
    [
        Login("ada", "letmein"),
        [Login("ada", "letmein")],
        Options("ada", "letmein", {"X-Team": "letmein"}),
        Plain("ada", "letmein", [("X-Team", "letmein")]),
        Model(user="ada", password=pydantic.SecretStr("letmein")),
        httpx.Headers({"X-Team": "letmein"}),
        [httpx.Request("GET", "http://x/", headers={"X-Team": "letmein"})],
        httpx.Headers({"X-Team": "letmein"}).raw,
        {"headers": httpx.Headers({"X-Team": "letmein"})},
        io.StringIO("letmein"),
    ],
)
def test_e4_secrets_in_fields_are_not_written(value: Any) -> None:
    content = written({"headers": value} if isinstance(value, list) and isinstance(value[0], tuple) else value)
    assert b"letmein" not in content
    pickle.loads(content)


def test_e4_fields_without_secrets_come_back() -> None:
    back = pickle.loads(written([Login("ada", "letmein"), Options("ada", "letmein", {"Date": "now"})]))
    assert back == [Login("ada", REDACTED), Options("ada", REDACTED, {"Date": "now"})]


def test_e4_bytes_in_any_encoding_are_cleaned() -> None:
    assert b"hunter2" not in cleaned(b"caf\xe9 password=hunter2")
    assert cleaned("naïve password=hunter2".encode()) == f"naïve password={REDACTED}".encode()
