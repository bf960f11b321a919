"""What the texts of an error must not tell: values of headers, passwords and tokens of the requests it came from.

They are looked up where the error was made: in its attributes, and in the variables of the frames of its traceback, for
a server may answer with what it was sent. Variables are read for this only; none is ever written.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import html
import json
import re
import urllib.parse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from nbstep.cache.secrets.headers import header_text
from nbstep.cache.secrets.redaction import REDACTED
from nbstep.cache.secrets.suspicion import is_secret_name, is_sure_name, is_word, looks_random, looks_secret

_PART_CHARS: Final = 6
_TOKEN_CHARS: Final = 4
_VALUES_AT_MOST: Final = 2000
_NAMES_AT_MOST: Final = 100
# Needed to make the request at all, the same for everybody, or said by servers.
_TELL_NOTHING: Final = frozenset(
    {
        "accept", "accept-charset", "accept-encoding", "accept-language", "accept-ranges", "age", "allow", "alt-svc",
        "cache-control", "connection", "content-disposition", "content-encoding", "content-language", "content-length",
        "content-type", "date", "dnt", "etag", "expect", "expires", "host", "last-modified", "location", "origin",
        "pragma", "retry-after", "server", "strict-transport-security", "te", "transfer-encoding", "upgrade",
        "upgrade-insecure-requests", "vary", "x-content-type-options", "x-frame-options", "x-powered-by",
        "x-requested-with",
    }
)  # fmt: skip
_STANDARD: Final = frozenset({"forwarded", "from", "priority", "range", "referer", "user-agent", "via"})
_COOKIE_ATTRIBUTES: Final = frozenset(
    {"comment", "domain", "expires", "max-age", "path", "priority", "samesite", "version"}
)
_LONG_NUMBER: Final = re.compile(r"\d{6,}")
_SCHEMES: Final = frozenset({"apikey", "basic", "bearer", "digest", "negotiate", "ntlm", "oauth", "token"})
_WEAK_PARAMETERS: Final = frozenset({"assertion", "auth", "code", "key", "sig", "signature"})


@dataclass(slots=True)
class Telling:
    """Values that must not be written.

    Attributes:
        parts: Found wherever they stand, inside of words too.
        tokens: Short ones, found as whole words only: "4711" does not spoil "port 47110".
        named: Pairs of a header's name and its value, found side by side only, for a value may be as short as "1".
    """

    parts: set[str] = field(default_factory=set[str])
    tokens: set[str] = field(default_factory=set[str])
    named: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])

    def header(self, name: object, value: object, *, sent: bool = True) -> None:
        """Takes in a header; of a response only those that hold secrets by their name."""
        header, text = header_text(name).lower(), header_text(value).strip()
        sure = is_secret_name(header)
        if header in _TELL_NOTHING or not (sent or sure):
            return
        standard = header in _STANDARD or header.startswith(("if-", "sec-"))
        self._text(text, sure=sure, standard=standard)
        if sent and not standard:
            self.tokens.update(_LONG_NUMBER.findall(text))  # "pin=9182736451" may have been made of a number
        if sent and 0 < len(text) < _PART_CHARS and header not in _STANDARD:
            self.named.add((header, text))
        if "cookie" in header:
            self._cookies(text)
        scheme, _, credentials = text.partition(" ")
        if scheme.lower() in _SCHEMES and credentials.strip():
            self._credentials(credentials.strip())

    def secret(self, name: str, value: str) -> None:
        """Takes in what a variable or an attribute with the name of a secret holds."""
        if looks_secret(value):
            self._text(value, sure=True)
        elif is_sure_name(name.lstrip("_")) and len(value) >= _TOKEN_CHARS and not _says_what_it_is(value):
            self.tokens.add(value)

    def url(self, text: str) -> None:
        """Takes in the password and the secret parameters of a URL."""
        try:
            parts = urllib.parse.urlsplit(text)
            password, user = parts.password, parts.username
        except ValueError:
            return
        for value in (password, user if password is None else None):
            if value:
                self._text(urllib.parse.unquote(value), sure=password is not None or looks_secret(value))
        for name, value in urllib.parse.parse_qsl(parts.query):
            if is_secret_name(name) or (name.lower() in _WEAK_PARAMETERS and looks_random(value)):
                self._text(value, sure=True)

    def scrubber(self) -> Callable[[str], str]:
        """A function that takes all of it out of a text."""
        patterns = [(_core(spelling), spelling, _escaped(spelling)) for spelling in _all_spellings(self.parts)]
        patterns += [(_core(value), value, _TOKEN.format(_escaped(value))) for value in _all_spellings(self.tokens)]
        beside = [_beside(name, value) for name, value in sorted(self.named)[:_NAMES_AT_MOST]]

        def scrub(text: str) -> str:
            for pattern in beside:
                text = pattern.sub(rf"\1{REDACTED}", text)
            # The longest first: one may be part of another.
            found = sorted(((len(value), pattern) for core, value, pattern in patterns if core in text), reverse=True)
            return re.sub("|".join(pattern for _, pattern in found), REDACTED, text) if found else text

        return scrub

    def _text(self, text: str, *, sure: bool, standard: bool = False) -> None:
        if len(text) >= _PART_CHARS:
            self.parts.add(text)
            return
        of_its_own = sure or (not standard and any(character.isdigit() for character in text))
        if of_its_own and len(text) >= _TOKEN_CHARS and not is_word(text):
            self.tokens.add(text)

    def _cookies(self, text: str) -> None:
        for pair in re.split(r"[;,]\s*", text):
            name, _, value = pair.partition("=")
            if value and name.strip().lower() not in _COOKIE_ATTRIBUTES:
                self._text(value.strip(' "'), sure=False)

    def _credentials(self, text: str) -> None:
        self._text(text, sure=True)
        try:
            password = base64.b64decode(text, validate=True).decode("utf-8").partition(":")[2]
        except (binascii.Error, ValueError):
            password = ""
        self._text(password, sure=True)
        for value in re.findall(r'=\s*"?([^",\s]+)', text):
            if looks_secret(value):
                self._text(value, sure=True)


def _says_what_it_is(value: str) -> bool:
    """Whether it is a word such as "missing", or names what stands elsewhere, as a column `password` does."""
    return is_word(value) or is_secret_name(value)


_TOKEN: Final = r"(?<![\w-])(?<!\d[.:])(?:{})(?![\w-])(?![.:]\d)"


def _beside(name: str, value: str) -> re.Pattern[str]:
    spelt = re.escape(name).replace(r"\-", "[-_]")
    head = rf"""(?<![\w-])((?:http_)?{spelt}['"\\]*\s*[:=,]\s*[bB]?[\['"\\]*)"""
    return re.compile(rf"{head}{_escaped(value)}(?![\w-])", re.IGNORECASE)


def _core(value: str) -> str:
    """Its longest part that stands in every text that has the value, however it is escaped there."""
    return max(re.split(r"[^0-9A-Za-z]", value), key=len)


def _escaped(text: str) -> str:
    """A pattern for a text in which each `repr` and each JSON text around it may have written one more backslash."""
    return "".join(
        character if character.isalnum() else r"\\+" if character == "\\" else r"\\*" + re.escape(character)
        for character in text
    )


def _all_spellings(values: Iterable[str]) -> set[str]:
    return {spelling for value in sorted(values)[:_VALUES_AT_MOST] for spelling in _spellings(value)}


def _spellings(value: str) -> set[str]:
    """How servers and `repr` write a value."""
    spellings = {
        value,
        ascii(value)[1:-1],
        json.dumps(value)[1:-1],
        html.escape(value),
        urllib.parse.quote(value),
        urllib.parse.quote(value, safe=""),
        urllib.parse.quote_plus(value),
    }
    with contextlib.suppress(UnicodeError):  # it was text already
        spellings.add(value.encode("latin-1").decode("utf-8"))
    return spellings
