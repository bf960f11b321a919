"""Secrets are not written: what in a text, a header or an attribute looks like one, and what takes its place."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

REDACTED: Final = "<redacted>"

_NAME: Final = (
    r"(?:[\w.-]{0,40}[-_])?(?:api[-_]?key|access[-_]?key(?:[-_]?id)?|secret(?:[-_]?key)?|private[-_]?key|client[-_]?secret|signing[-_]?key"
    r"|(?:access|auth|refresh|id|session|security|bearer|csrf|xsrf)?[-_]?token|passw(?:or)?d|passphrase|pwd|authorization"
    r"|(?:set-)?cookies?|credentials?|sessionid|jwt)"
)
# One of these is in every text that the pattern above can match: most texts have none, and the pattern is slow.
_NAME_HINTS: Final = ("key", "token", "secret", "pass", "pwd", "auth", "cookie", "credential", "sessionid", "jwt")
_QUOTED: Final = r"""(['"])(?:\\.|(?!\2)[^\\\n])*\2"""
_SECRET_NAME: Final = re.compile(_NAME, re.IGNORECASE)
_SECRET_HEADER: Final = re.compile(r"[\w-]*(?:-key|-token|-secret|-auth|-signature)", re.IGNORECASE)
_HEADERS_NAME: Final = re.compile(
    r"_?(?:request_|response_|default_|extra_|raw_)?(?:http)?(?:headers|hdrs|cookies)_?", re.IGNORECASE
)
# Response headers that explain a failure; no other header is written.
_HARMLESS_HEADERS: Final = frozenset(
    {
        "accept-ranges", "age", "allow", "cache-control", "content-language", "content-length", "content-type", "date", "etag",
        "expires", "last-modified", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "retry-after", "server",
        "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "x-request-id", "request-id",
    }
)  # fmt: skip

# Compiled at first use: an import must stay cheap.
_RULES: Final[tuple[tuple[str, int, str], ...]] = (
    # scheme://user:password@host and scheme://token@host
    (r"\b([a-z][a-z0-9+.-]{1,20}://)[^\s/?#'\"@<>]{1,512}@", re.I, rf"\1{REDACTED}@"),
    # ?api_key=…&token=…
    (rf"([?&;]{_NAME}=)[^\s&#'\"<>;]+", re.I, rf"\1{REDACTED}"),
    (r"([?&](?:key|code|auth|sig|signature|x-amz-[\w-]+|x-goog-[\w-]+)=)[^\s&#'\"<>;]+", re.I, rf"\1{REDACTED}"),
    (r"\b(Bearer|Basic|Digest|Negotiate)\s+(?=\S{0,200}[\d=+/_]|\S{20})[A-Za-z0-9+/=._~-]{6,}", 0, rf"\1 {REDACTED}"),
    # 'Authorization': 'Basic …', "x-api-key": "…", password='…', (b"x-auth-token", b"…")
    (
        rf"""((?:['"]|\b)(?:{_NAME}|[\w-]{{1,40}}(?:-key|-token|-secret|-auth))['"]?\s*[:=,]\s*[bBrRfF]?){_QUOTED}""",
        re.I,
        rf"\1\2{REDACTED}\2",
    ),
    # Authorization: Basic …, password=…
    (rf"\b({_NAME}\s*[:=]\s*)(?!\s)(?!['\"]|{REDACTED})[^\s'\",;&)}}\]]{{4,}}", re.I, rf"\1{REDACTED}"),
    (r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", 0, REDACTED),
    (r"\b(?:sk|pk|rk)[-_](?:[a-z]+[-_])*[A-Za-z0-9_-]{16,}\b", 0, REDACTED),
    (r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,})", 0, REDACTED),
    (r"\b(?:xox[abprs]-[A-Za-z0-9-]{10,}|hf_[A-Za-z0-9]{20,}\b|AIza[0-9A-Za-z_-]{30,}\b)", 0, REDACTED),
    (r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*", 0, REDACTED),
    (r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S, REDACTED),
)
# A literal headers={…}, cookies={…} or auth=(…) in a line of source: every text in it but the names.
_LITERAL: Final = re.compile(
    r"\b(headers|cookies|auth)(\s*=\s*)(\{(?:[^{}]|\{[^{}]*\})*\}|\([^()]*\)|\[[^\[\]]*\])", re.IGNORECASE
)
_DICT_VALUE: Final = re.compile(r"(:\s*)[bBrRfFuU]*" + _QUOTED)
_ANY_STRING: Final = re.compile(r"()" + _QUOTED)
_COMMON_VALUE_CHARS: Final = 6
# Needed to make the request at all, or the same for everybody.
_EVERYBODY_SENDS: Final = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "transfer-encoding"}
)


def redact_text(text: str) -> str:
    """A text without what looks like a secret: userinfo and secret parameters of URLs, tokens, passwords, literal headers.

    >>> redact_text("GET https://ada:hunter2@api.x.com/v1?api_key=abc&page=2 failed")
    'GET https://<redacted>@api.x.com/v1?api_key=<redacted>&page=2 failed'
    >>> print(redact_text('httpx.get(url, headers={"X-Team": "blue"})'))
    httpx.get(url, headers={"X-Team": "<redacted>"})
    """
    text = _LITERAL.sub(_redact_literal, text)
    lowered = text.lower()
    for pattern, replacement, hints in _compiled_rules():
        if hints and not any(hint in lowered for hint in hints):
            continue
        text = pattern.sub(replacement, text)
    return text


@functools.cache
def _compiled_rules() -> tuple[tuple[re.Pattern[str], str, tuple[str, ...]], ...]:
    return tuple(
        (re.compile(pattern, flags), replacement, _NAME_HINTS if _NAME in pattern else ())
        for pattern, flags, replacement in _RULES
    )


def _redact_literal(match: re.Match[str]) -> str:
    name, between, literal = match.groups()
    pattern = _DICT_VALUE if literal.startswith("{") else _ANY_STRING
    return name + between + pattern.sub(rf"\1\2{REDACTED}\2", literal)


def is_secret_name(name: Any) -> bool:
    """Whether an attribute, a dictionary key or a header of this name holds a secret.

    >>> [is_secret_name(name) for name in ("password", "X-Api-Key", "key", "primary_key", "token")]
    [True, True, False, False, True]
    """
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    if not isinstance(name, str):
        return False
    return bool(_SECRET_NAME.fullmatch(name.lstrip("_")) or _SECRET_HEADER.fullmatch(name))


def is_headers_name(name: Any) -> bool:
    """Whether an attribute or a dictionary key of this name holds HTTP headers."""
    return isinstance(name, str) and _HEADERS_NAME.fullmatch(name) is not None


def harmless_headers(headers: Iterable[tuple[Any, Any]]) -> dict[str, str]:
    """The response headers that may be written."""
    kept: dict[str, str] = {}
    for name, value in headers:
        name_text, value_text = _header_text(name), _header_text(value)
        if name_text.lower() in _HARMLESS_HEADERS:
            kept[name_text] = redact_text(value_text)
    return kept


def scrub(text: str, secrets: Iterable[str]) -> str:
    """A text without the given values, wherever they occur."""
    for secret in secrets:
        text = text.replace(secret, REDACTED)
    return text


def telling_values(headers: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> set[str]:
    """The values of request headers that are worth looking for in other texts: not `*/*`, not what everybody sends."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    values: set[str] = set()
    for name, value in pairs:
        name_text, text = _header_text(name).lower(), _header_text(value)
        if name_text in _EVERYBODY_SENDS or len(text) < _COMMON_VALUE_CHARS:
            continue
        values.add(text)
        scheme, _, credentials = text.partition(" ")
        if credentials and scheme.lower() in {"basic", "bearer", "digest", "token", "negotiate"}:
            values.add(credentials)
    return values


def _header_text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
