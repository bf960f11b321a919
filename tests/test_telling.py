"""Values that must not be told: which values of a request they are, and how they are found in a text (E4)."""

from __future__ import annotations

import base64

import pytest

from nbstep.cache.secrets.redaction import REDACTED
from nbstep.cache.secrets.telling import Telling


def scrubbed(text: str, **headers: str) -> str:
    telling = Telling()
    for name, value in headers.items():
        telling.header(name.replace("_", "-"), value)
    return telling.scrubber()(text)


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"X_Team": "blue-9"}, "refused blue-9"),
        ({"X_Team": "blue-9"}, "prefixblue-9suffix"),
        ({"X_Pin": "4711"}, "wrong pin 4711."),
        ({"X_Pin": "4711"}, '{"pin":4711}'),
        ({"X_Pin": "4711"}, "pin:4711"),
        ({"X_Pin": "a471"}, "(a471)"),
        ({"X_Pin": "471"}, '{"X-Pin": "471"}'),
        ({"X_Pin": "471"}, "x-pin: 471"),
        ({"X_Pin": "471"}, "'HTTP_X_PIN': '471'"),
        ({"X_Pin": "471"}, "[(b'x-pin', b'471')]"),
        ({"X_Pin": "7"}, '{\\"X-Pin\\": \\"7\\"}'),
        ({"X_Team": "blue"}, '"x-team":["blue"]'),
        ({"X_Api_Key": "abcde"}, "invalid: abcde"),
        ({"Authorization": "Bearer abcde"}, "invalid: abcde"),
        ({"Authorization": "Basic " + base64.b64encode(b"ada:letmein").decode()}, "user letmein"),
        ({"Authorization": 'Digest username="ada", response="6629fae4"'}, "got 6629fae4"),
        ({"Cookie": "theme=dark; sid=first-1"}, "sid first-1"),
        ({"X_Path": "a/b/c/d"}, r"a\/b\/c\/d"),
        ({"X_Path": "a/b/c/d"}, "a%2Fb%2Fc%2Fd"),
        ({"X_Name": 'say "hi" & go'}, r"say \"hi\" & go"),
        ({"X_Name": 'say "hi" & go'}, "say &quot;hi&quot; &amp; go"),
        ({"X_Name": "Zoë Müller"}, r"Zo\u00eb M\u00fcller"),
    ],
)
def test_e4_a_value_goes_in_every_spelling(headers: dict[str, str], text: str) -> None:
    assert REDACTED in scrubbed(text, **headers)


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"X_Pin": "4711"}, "port 47110, 14711, 127.0.0.1:4711, 4711.5, id-4711"),
        ({"X_Pin": "471"}, "471 rows"),
        ({"X_Team": "blue"}, "the blue whale"),
        ({"X_Debug": "true"}, "true is true"),
        ({"X_Version": "2"}, "2 of 2 failed"),
        ({"X_Api_Key": "none"}, "none of them"),
        ({"Accept": "application/json"}, "no application/json"),
        ({"Accept_Language": "en-US,en"}, "en-US,en"),
        ({"Origin": "https://api.x.com"}, "404 for https://api.x.com/users"),
        ({"Host": "api.x.com"}, "api.x.com"),
        ({"Set_Cookie": "a=b; Domain=example.com; Path=/users"}, "example.com/users"),
        ({"If_Match": "ab12"}, "ab12"),
    ],
)
def test_e4_a_value_that_tells_nothing_stays(headers: dict[str, str], text: str) -> None:
    assert scrubbed(text, **headers) == text


def test_e4_a_value_that_names_a_secret_is_none() -> None:
    telling = Telling()
    telling.secret("password", "password")  # how database libraries map columns to parameters
    telling.secret("password", "blue")
    assert telling.scrubber()("WHERE password = 'blue'") == f"WHERE password = '{REDACTED}'"


def test_e4_the_longest_value_goes_first() -> None:
    assert scrubbed("ada-secret-and-more", A="ada-secret", B="ada-secret-and-more") == REDACTED


def test_e4_bytes_are_read_as_headers_are() -> None:
    telling = Telling()
    telling.header(b"X-Name", "Zoë Müller".encode())
    assert telling.scrubber()("for Zoë Müller") == f"for {REDACTED}"


def test_e4_passwords_of_urls_are_telling() -> None:
    telling = Telling()
    telling.url("https://ada:pass%2Fword@x.com/?api_key=abcdef&page=2024-01&code=DE")
    assert telling.parts == {"pass/word", "abcdef"}
    telling.url("http://[broken")
    assert len(telling.parts) == 2
