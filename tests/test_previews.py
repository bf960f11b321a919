"""What an entry says of its value: type, shape, a short text; made when kept, bounded, without secrets."""

from __future__ import annotations

import time
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbstep.cache.previews import PREVIEW_CHARS, preview_text, shape_text, type_text
from nbstep.cache.redaction import REDACTED, is_secret_name, redact_text


class Loud:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __len__(self) -> int:
        raise RuntimeError("no length")

    @property
    def shape(self) -> Any:
        raise RuntimeError("no shape")


class Verbose:
    def __repr__(self) -> str:
        return "x" * 5_000_000


@dataclass
class Node:
    name: str
    child: Any = None


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (pd.DataFrame(np.zeros((8120, 14))), "8,120 × 14"),
        (np.zeros((3, 4, 5)), "3 × 4 × 5"),
        (pd.Series([1, 2]), "2"),
        ([1, 2, 3], "3 items"),
        ({"a": 1}, "1 item"),
        ((), "0 items"),
        ("text", "4 characters"),
        (b"x", "1 byte"),
        (np.float64(1), ""),
        (7, ""),
        (None, ""),
        (int, ""),
        (Loud(), ""),
        (iter([1]), ""),
    ],
)
def test_shapes_are_said_as_people_say_them(value: Any, shape: str) -> None:
    assert shape_text(value) == shape


def test_types_are_named_with_the_package_people_import() -> None:
    assert type_text(pd.DataFrame()) == "pandas.DataFrame"
    assert type_text(np.zeros(1)) == "numpy.ndarray"
    assert type_text(OrderedDict()) == "collections.OrderedDict"
    assert type_text(1) == "int"
    assert type_text(Node("x")) == "test_previews.Node"


def test_a_frame_shows_its_head() -> None:
    text = preview_text(pd.DataFrame({"carrier": ["UA", "AA"] * 500, "delay": range(1000)}))
    assert text.splitlines()[0].split() == ["carrier", "delay"]
    assert text.splitlines()[1].split() == ["0", "UA", "0"]
    assert len(text.splitlines()) == 6


@pytest.mark.parametrize(
    "value",
    [
        list(range(10**6)),
        dict.fromkeys(range(10_000), "x" * 1000),
        "x" * 10**7,
        b"\xff" * 10**7,
        Verbose(),
        [[[[[[["deep"] * 100] * 100] * 100] * 100] * 100] * 100] * 100,
        Node("a", Node("b", Node("c", Node("d", Node("e", Node("f")))))),
        np.zeros((10_000, 100)),
        pd.DataFrame(np.zeros((100, 2000))),
        pd.DataFrame({"text": ["x" * 100_000] * 10}),
        defaultdict(list, {n: [n] for n in range(100_000)}),
        10**4000,
    ],
)
def test_a_preview_is_short_and_quick(value: Any) -> None:
    begin = time.perf_counter()
    assert 0 < len(preview_text(value)) <= PREVIEW_CHARS
    assert time.perf_counter() - begin < 5


def test_a_value_that_contains_itself_ends() -> None:
    value: list[Any] = []
    value.append(value)
    node = Node("a")
    node.child = node
    assert len(preview_text(value)) < 100
    assert len(preview_text(node)) < 300


def test_a_repr_that_raises_is_no_preview() -> None:
    assert preview_text(Loud()) == "<no preview: RuntimeError>"
    assert preview_text([Loud()]).startswith(("[<Loud", "<no preview"))


@pytest.mark.parametrize(
    "text",
    [
        "postgres://ada:hunter2@db/x",
        "https://hunter2@api.x.com/",
        "GET https://x/?api_key=hunter2&page=1",
        "https://s3/x?X-Amz-Signature=hunter2&a=1",
        "Authorization: Bearer abcdef.hunter2",
        "{'Authorization': 'Basic hunter2=='}",
        '{"x-api-key": "hunter2"}',
        "[(b'x-auth-token', b'hunter2')]",
        "password=hunter2",
        'connect(password="a b hunter2", port=5)',
        "client_secret: hunter2",
        'get(url, headers={"X-Anything": "hunter2", "b": "hunter2"})',
        "get(url, headers={'X-A': 'hunter2', 'B': f'{token} x'})",
        "get(url, auth=('ada', 'hunter2'))",
        "get(url, cookies={'sid': 'hunter2'})",
        "AKIAHUNTER2HUNTER2AB".replace("HUNTER2", "HUNTER2"),
        "sk-proj-hunter2hunter2hunter2",
        "ghp_hunter2hunter2hunter2hunter2",
        "eyJhbGciOiJI.eyJodW50ZXIy.hunter2hunter2",
        "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_t10_secrets_are_redacted(text: str) -> None:
    assert "hunter2" not in redact_text(text).lower()
    assert REDACTED in redact_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "404 Not Found for url https://api.x.com/users/999?page=2",
        "KeyError: 'user:1'",
        "the basic authentication failed",
        "tokens: 1234, keys: 5",
        "monkey=banana",
        "key='carrier', value=3",
        "primary_key=5",
        "Error at 10:20: ada@example.com was not found",
        "{'key': 'value', 'name': 'Ada'}",
        "skill-assessment-results-overview",
    ],
)
def test_t10_plain_text_stays(text: str) -> None:
    assert redact_text(text) == text


def test_t10_redaction_of_long_texts_is_quick() -> None:
    begin = time.perf_counter()
    for text in (
        "a" * 200_000,
        "a-" * 100_000,
        "token" * 40_000,
        "'" * 100_000,
        "headers=" * 20_000,
        "{" * 100_000,
        "a://" * 50_000,
    ):
        redact_text(text)
    assert time.perf_counter() - begin < 20


@pytest.mark.parametrize("name", ["Authorization", "authorization", b"Cookie", "Set-Cookie", "X-Api-Key",
                                  "Ocp-Apim-Subscription-Key", "X-Auth-Token", "password", "_password", "api_key",
                                  "aws_secret_access_key", "token"])  # fmt: skip
def test_t10_names_that_hold_secrets(name: Any) -> None:
    assert is_secret_name(name) is True


@pytest.mark.parametrize(
    "name", ["key", "keys", "status", "primary_key", "content-type", "monkey", 5, None, "tokens", "message"]
)
def test_t10_names_that_hold_none(name: Any) -> None:
    assert is_secret_name(name) is False
