"""Keys: what a good one is, and how to build one from arguments."""

from __future__ import annotations

import datetime
import hashlib
import sys
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Final, cast

MAX_KEY_BYTES: Final = 4096
_LONG_TEXT: Final = 40


def check_key(key: object) -> str:
    """The key itself, if it is one.

    Raises:
        TypeError: It is no `str`.
        ValueError: It is empty, longer than 4 KiB in UTF-8, or cannot be written as UTF-8.

    >>> check_key("user:1")
    'user:1'
    """
    if type(key) is not str:
        if not isinstance(key, str):
            raise TypeError(f"key= takes a str, got {type(key).__name__}; write for example key={_suggest(key)}")
        key = str(key)
    if not key:
        raise ValueError('key="" names nothing; write for example key=f"user:{uid}", or leave key out to keep nothing')
    try:
        size = len(key) if key.isascii() else len(key.encode())
    except UnicodeEncodeError as error:
        raise ValueError(f"key={key!r} cannot be written as UTF-8 ({error.reason})") from None
    if size > MAX_KEY_BYTES:
        raise ValueError(
            f"key= is {size} bytes long, at most {MAX_KEY_BYTES} are allowed; "
            "step.key(...) turns long text into a short digest: key=step.key('cv', prompt=PROMPT)"
        )
    return key


def _suggest(key: object) -> str:
    if isinstance(key, bytes):
        return repr(key.decode("utf-8", "replace"))[:60]
    if isinstance(key, int | float):
        return f'f"user:{{uid}}" (here "user:{key}")'
    if isinstance(key, tuple | list):
        items = cast("tuple[Any, ...] | list[Any]", key)
        return 'f"' + ":".join(f"{{part{i}}}" for i in range(1, len(items) + 1)) + '", or use step.key("name", …)'
    return 'f"user:{uid}"'


def make_key(*names: object, **arguments: object) -> str:
    """Builds a readable, stable key from names and arguments: this is `step.key`.

    Numpy scalars count as Python's, floats to 12 digits, dates as ISO text; long text, containers and frames become a short
    digest of their content.

    Raises:
        TypeError: An argument has no stable text, such as a client or a lambda.

    >>> make_key("cv", lr=0.1, depth=3)
    'cv:lr=0.1:depth=3'
    >>> make_key("label", prompt="x" * 100)
    'label:prompt=#09ecb6eb'
    """
    parts = [_text("a name", name) for name in names]
    parts += [f"{name}={_text(name, value)}" for name, value in arguments.items()]
    return check_key(":".join(parts))


def _text(name: str, value: object) -> str:
    value = _plain(value)
    if isinstance(value, str):
        return value if len(value) <= _LONG_TEXT and value.isprintable() and value else _short_digest(value.encode())
    if value is None or isinstance(value, bool | int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return f"{value.total_seconds():.12g}s"
    if isinstance(value, PurePath):
        return value.as_posix()
    return _short_digest(_canonical(name, value))


def _plain(value: object) -> object:
    """A numpy scalar as Python's own, anything else as it is."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return cast("Any", value).item()
    return value


def _canonical(name: str, value: object) -> bytes:
    """Bytes that are equal exactly for equal content, in every process."""
    value = _plain(value)
    if isinstance(value, bytes | bytearray):
        return b"b:" + bytes(value)
    if isinstance(value, str):
        return b"s:" + value.encode()
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, object]", value).items()
        rows = sorted(_canonical(name, k) + b"=" + _canonical(name, v) for k, v in pairs)
        return b"{" + b",".join(_sized(row) for row in rows) + b"}"
    if isinstance(value, list | tuple):
        items = cast("list[object] | tuple[object, ...]", value)
        return type(value).__name__.encode() + b"[" + b",".join(_sized(_canonical(name, v)) for v in items) + b"]"
    if isinstance(value, set | frozenset):
        members = sorted(_canonical(name, v) for v in cast("set[object]", value))
        return b"set[" + b",".join(_sized(v) for v in members) + b"]"
    table = _table_bytes(value)
    if table is not None:
        return table
    simple = value is None or isinstance(
        value, bool | int | float | datetime.date | datetime.time | datetime.timedelta | PurePath
    )
    if simple:
        return f"{type(value).__name__}:{_text(name, value)}".encode()
    raise TypeError(
        f"step.key cannot turn {name} (a {type(value).__name__}) into stable text; "
        "pass what identifies it instead, for example its name or id"
    )


def _sized(row: bytes) -> bytes:
    return str(len(row)).encode() + b":" + row


def _table_bytes(value: Any) -> bytes | None:
    """The content of a numpy array or a pandas frame, series or index, else None."""
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if numpy is not None and isinstance(value, numpy.ndarray) and not value.dtype.hasobject:
        return f"array:{value.dtype.str}:{value.shape}:".encode() + value.tobytes()
    if pandas is not None and isinstance(value, pandas.DataFrame | pandas.Series | pandas.Index):
        hashes = pandas.util.hash_pandas_object(value)
        names = list(value.columns) if isinstance(value, pandas.DataFrame) else [value.name]
        kinds = [str(kind) for kind in value.dtypes] if isinstance(value, pandas.DataFrame) else [str(value.dtype)]
        return f"frame:{names!r}:{kinds!r}:{value.shape}:".encode() + hashes.to_numpy().tobytes()
    return None


def _short_digest(content: bytes) -> str:
    return "#" + hashlib.sha256(content).hexdigest()[:8]
