"""What is taken for a secret: by its name, by its looks, or by both.

A name such as `password` makes a secret of whatever it holds. Names such as `token` or `code` mean other things to
parsers and APIs, so there the value must look like a secret too: error messages keep their sense.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Final

_SURE: Final = (
    r"(?:[\w.-]{0,40}passw(?:or)?d|(?:[\w.-]{0,40}[-_.])?(?:passphrase|passcode|pwd|api[-_]?key|(?:secret[-_]?)?access[-_]?key(?:[-_]?id)?"
    r"|secret[-_]?(?:key|value)|client[-_]?secret|shared[-_]?access[-_]?(?:key|signature)"
    r"|(?:private|account|subscription|encryption|master|signing)[-_]?key))"
)
_TOKEN: Final = (
    r"(?:(?:[\w.-]{0,40}[-_])?(?:(?:access|auth|refresh|id|session|security|bearer|csrf|xsrf)?[-_]?token|secret|credentials?"
    r"|sessionid|jwt|authorization|(?:set-)?cookies?))"
)
_HEADER: Final = r"(?:[\w-]{1,40}(?:-key|-token|-secret|-auth|-signature))"
ANY_NAME: Final = rf"(?:{_SURE}|{_TOKEN}|{_HEADER})"
# One of these is in every text that the names above can match: most texts have none, and the patterns are slow.
NAME_HINTS: Final = (
    "key",
    "token",
    "secret",
    "pass",
    "pwd",
    "auth",
    "cookie",
    "credential",
    "sessionid",
    "jwt",
    "signature",
)
_ANY_NAME: Final = re.compile(ANY_NAME, re.IGNORECASE)
_SURE_NAME: Final = re.compile(rf"{_SURE}|x-{_HEADER}", re.IGNORECASE)
# What follows such a name and is no secret.
_WORDS: Final = frozenset(
    {
        "bool", "bytes", "empty", "expected", "expired", "false", "incorrect", "int", "invalid", "missing", "nan", "none", "null",
        "optional", "required", "str", "string", "true", "undefined", "unknown", "unset", "wrong",
    }
)  # fmt: skip
# Response headers that explain a failure; no other header is written.
HARMLESS_HEADERS: Final = frozenset(
    {
        "accept-ranges", "age", "allow", "cache-control", "content-language", "content-length", "content-type", "date", "etag",
        "expires", "last-modified", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "retry-after", "server",
        "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "x-request-id", "request-id",
    }
)  # fmt: skip
# Where one of these is a name, the others are names of headers too.
UNMISTAKABLE_HEADERS: Final = frozenset(
    {
        "accept-encoding", "authorization", "cookie", "if-none-match", "proxy-authorization", "set-cookie", "user-agent",
        "x-api-key", "x-auth-token", "x-forwarded-for",
    }
)  # fmt: skip
_EXPRESSION: Final = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*[.\[(].*")
_EXPRESSION_HINTS: Final = (
    "self.",
    "environ",
    "getenv",
    "settings",
    "config",
    "args.",
    "secret",
    "key",
    "pass",
    "token",
)


def is_secret_name(name: Any) -> bool:
    """Whether an attribute, a dictionary key or a header of this name holds a secret.

    >>> [is_secret_name(name) for name in ("password", "X-Api-Key", "key", "primary_key", "token")]
    [True, True, False, False, True]
    """
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    return isinstance(name, str) and _ANY_NAME.fullmatch(name.lstrip("_")) is not None


def is_sure_name(name: str) -> bool:
    """Whether what this name holds is a secret whatever it looks like."""
    return _SURE_NAME.fullmatch(name) is not None


def looks_secret(value: str) -> bool:
    """Whether a value may be a secret: six characters and more with letters and digits, or long and of mixed case.

    >>> [looks_secret(value) for value in ("hunter2", "hello", "expected", "12345", "aGVsbG8gdGhlcmUgeW91Cg")]
    [True, False, False, False, True]
    """
    if len(value) < 6 or value[0] in "<{[(%" or any(character.isspace() for character in value):
        return False
    if any(character.isdigit() for character in value):
        return any(character.isalpha() for character in value)
    return len(value) >= 20 and value.isalpha() and not value.islower() and not value.isupper()


def looks_random(value: str) -> bool:
    """Whether a value is long and without sense, as keys and codes are: for names that mostly mean other things.

    >>> [looks_random(value) for value in ("DE", "carrier_name_2013_flights", "0123456789abcdef0123", "4/0AX4XfWhyAbCdEf12")]
    [False, False, True, True]
    """
    if len(value) < 16 or not looks_secret(value):
        return False
    digits = sum(character.isdigit() for character in value)
    mixed = value != value.lower() and value != value.upper()
    return mixed or digits * 4 >= len(value) or re.fullmatch(r"[0-9a-fA-F]+", value) is not None


def is_basic_pair(credentials: str) -> bool:
    """Whether it is what HTTP's scheme Basic sends: base64 of `user:password`."""
    try:
        return b":" in base64.b64decode(credentials, validate=True)
    except (binascii.Error, ValueError):
        return False


def is_word(value: str) -> bool:
    """Whether a value says of a secret how it is, as in "password: required"."""
    return value.lower() in _WORDS


def is_expression(value: str) -> bool:
    """Whether a value is source text that gets a secret from elsewhere: `self.password`, `os.environ[`."""
    return _EXPRESSION.fullmatch(value) is not None and any(hint in value.lower() for hint in _EXPRESSION_HINTS)
