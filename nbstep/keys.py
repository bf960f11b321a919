"""Keys: what a good one is, and how to build one from arguments."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import hashlib
import string
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Any, Final, cast

MAX_KEY_BYTES: Final = 4096
_LONG_TEXT: Final = 40


class NoStableText(TypeError):  # noqa: N818 - the name says what happened
    """Part of a key has no text that would be the same in every process."""


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
        key = str.__str__(key)  # the text itself, also of a member of an enumeration
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

    Numpy scalars count as Python's, floats to 12 digits, so that `0.3` and `0.1 + 0.2` are one; dates, paths, enum members and
    the like as their text; long text, containers, dataclasses, arrays and frames become a short digest of their content. A whole
    float keeps its `.0` and text that reads as a number is quoted, so `1`, `1.0`, `True` and `"1"` differ. The first name is a
    prefix and stands as it is.

    Raises:
        TypeError: An argument has no stable text, such as a client or a lambda.

    >>> make_key("cv", lr=0.1, depth=3)
    'cv:lr=0.1:depth=3'
    >>> make_key("label", prompt="x" * 100)
    'label:prompt=#16434cf2a1d6b124'
    """
    parts = [
        name if at == 0 and isinstance(name, str) and _is_short(name) else _text("a name", name)
        for at, name in enumerate(names)
    ]
    parts += [f"{name}={_text(name, value)}" for name, value in arguments.items()]
    return check_key(":".join(parts))


def _text(name: str, value: object) -> str:
    value = python_scalar(value)
    if isinstance(value, str) and not isinstance(value, enum.Enum):
        if not _is_short(value):
            return _short_digest(_canonical(name, value))
        return repr(value) if _needs_quotes(value) else value
    text = _simple_text(value)
    if text is None or len(text) > _LONG_TEXT or not text.isprintable():
        return _short_digest(_canonical(name, value))
    return text


def _is_short(text: str) -> bool:
    return len(text) <= _LONG_TEXT and text.isprintable()


def _needs_quotes(text: str) -> bool:
    """Whether text could be taken for something else: a number, the end of a part, a digest."""
    if text in {"", "True", "False", "None"} or text.strip() != text or text[0] in "#'\"" or ":" in text or "=" in text:
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


def _simple_text(value: object) -> str | None:
    """The text of a value that has one of its own, else None."""
    if isinstance(value, enum.Enum):
        return f"{type(value).__qualname__}.{value.name}"
    if isinstance(value, float):
        text = f"{value + 0.0:.12g}"  # -0.0 is 0
        return f"{text}.0" if text.lstrip("-").isdecimal() else text  # 3.0 may give another result than 3 does
    if value is None or isinstance(value, bool | int | complex | decimal.Decimal | fractions.Fraction | uuid.UUID):
        return str(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return f"{value.total_seconds():.12g}s"
    if isinstance(value, PurePath):
        return value.as_posix()
    return None


def python_scalar(value: object) -> object:
    """A numpy scalar as Python's own, anything else as it is."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.generic):
        return value
    scalar = cast("Any", value)
    plain = scalar.item()
    if plain is None:
        return str(scalar)  # NaT
    if isinstance(scalar, numpy.datetime64 | numpy.timedelta64) and isinstance(plain, int):  # it counts nanoseconds
        micro = scalar.astype(f"{scalar.dtype.kind}8[us]")
        return micro.item() if micro == scalar else str(scalar)
    return plain


def _canonical(name: str, value: object) -> bytes:
    """Bytes that are equal exactly for equal content, in every process."""
    value = python_scalar(value)
    if isinstance(value, bytes | bytearray):
        return b"b:" + bytes(value)
    if isinstance(value, str) and not isinstance(value, enum.Enum):
        return b"s:" + value.encode("utf-8", "surrogatepass")
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
    text = _simple_text(value)
    if text is not None:
        return f"{type(value).__name__}:{text}".encode("utf-8", "surrogatepass")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return type(value).__qualname__.encode() + _canonical(name, fields)
    raise NoStableText(
        f"step.key cannot turn {name} (a {type(value).__name__}) into stable text; "
        "pass what identifies it instead, for example its name or id"
    )


def _sized(row: bytes) -> bytes:
    return str(len(row)).encode() + b":" + row


def _table_bytes(value: Any) -> bytes | None:
    """The content of a numpy array or a pandas frame, series or index, else None."""
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if numpy is not None and isinstance(value, numpy.ndarray):
        if value.dtype.hasobject:
            return f"array:{value.shape}:".encode() + _canonical("an array", value.tolist())
        return f"array:{value.dtype.str}:{value.shape}:".encode() + value.tobytes()
    if pandas is not None and isinstance(value, pandas.DataFrame | pandas.Series | pandas.Index):
        try:
            hashes = pandas.util.hash_pandas_object(value)
        except TypeError:  # cells that are lists, for example
            return b"cells:" + _canonical("a frame", value.to_dict() if hasattr(value, "to_dict") else list(value))
        names = list(value.columns) if isinstance(value, pandas.DataFrame) else [value.name]
        kinds = [str(kind) for kind in value.dtypes] if isinstance(value, pandas.DataFrame) else [str(value.dtype)]
        return f"frame:{names!r}:{kinds!r}:{value.shape}:".encode() + hashes.to_numpy().tobytes()
    return None


def _short_digest(content: bytes) -> str:
    # 64 bits: two of a million prompts share one with a chance of 1 to 40 million.
    return "#" + hashlib.sha256(content).hexdigest()[:16]


def fill_template(template: str, item: object) -> str:
    """The key of one item of `step.map`: its text where it has a stable one, else a short digest of its content.

    Raises:
        TypeError: The item has no stable text, such as a client or a lambda.
        ValueError, LookupError, AttributeError: The template is none, or asks for what the item does not have.

    >>> fill_template("user:{}", 7), fill_template("page:{:03d}", 7), fill_template("{0[0]}:{0[1]}", ("UA", 1))
    ('user:7', 'page:007', 'UA:1')
    """
    return _Template().format(template, item)


def fill_named(template: str, arguments: Mapping[str, object]) -> str:
    """The key of one call of a cached function, as `fill_template`, with the arguments by their names.

    Raises:
        TypeError: An argument has no stable text, such as a client or a lambda.
        ValueError, LookupError, AttributeError: The template is none, or asks for what an argument does not have.

    >>> fill_named("user:{uid}:{lang}", {"uid": 7, "lang": "de"})
    'user:7:de'
    """
    return _Template().vformat(template, (), arguments)


def call_key(
    name: str, parameters: Iterable[str], arguments: Mapping[str, Any], text: Callable[[str, object], str]
) -> str:
    """The key of one call of a function whose key names all its arguments, as under bare `@step.cached`.

    Args:
        name: The function's.
        parameters: In the order of its signature, `*args` and `**options` with their stars.
        arguments: A value for each; those of `**options` in the order of their names.
        text: What stands for a value, given with the name of its argument.

    >>> call_key("fetch", ["uid", "**more"], {"uid": 1, "more": {"lang": "de"}}, lambda _, value: repr(value))
    "fetch(uid=1, lang='de')"
    """
    __tracebackhide__ = True
    parts: list[str] = []
    for parameter in parameters:
        plain = parameter.lstrip("*")
        value = arguments[plain]
        if parameter.startswith("**"):
            parts += [f"{word}={text(word, one)}" for word, one in sorted(value.items())]
        elif parameter.startswith("*"):
            parts += [text(plain, one) for one in value]
        else:
            parts.append(f"{plain}={text(plain, value)}")
    return check_key(f"{name}({', '.join(parts)})")


def scalar_text(value: object) -> str | None:
    """The text of a plain value in the key of a call, long text as a digest; None of anything that is no plain value.

    >>> scalar_text(1), scalar_text("1"), scalar_text([1])
    ('1', "'1'", None)
    """
    value = python_scalar(value)
    if isinstance(value, str | bytes) and not isinstance(value, enum.Enum):
        return repr(value) if isinstance(value, str) and _is_short(value) else _short_digest(_canonical("text", value))
    text = _simple_text(value)
    if text is None:
        return None
    return text if _is_short(text) else _short_digest(_canonical("a value", value))


class _Template(string.Formatter):
    def convert_field(self, value: Any, conversion: Any) -> Any:
        """`!r` and `!s` say how to write plain texts and numbers; of all else they would give the shortened or changing text."""
        plain = isinstance(python_scalar(value), str | bool | int | float)
        return super().convert_field(value, conversion) if plain or not conversion else _item_text(value)

    def format_field(self, value: Any, format_spec: str) -> str:
        """What a bare `{}` gives must not depend on the process, nor leave anything out."""
        return format(value, format_spec) if format_spec else _item_text(value)


def _item_text(item: object) -> str:
    item = python_scalar(item)
    if isinstance(item, str) and not isinstance(item, enum.Enum):
        return item
    text = str(item) if isinstance(item, float) else _simple_text(item)
    if text is not None:
        return text
    if type(item) in (list, tuple) and all(_has_text(part) for part in cast("list[object]", item)):
        text = str(item)
        return text if _is_short(text) else _short_digest(_canonical("the item", item))
    try:
        return _short_digest(_canonical("the item", item))
    except NoStableText:
        if type(item).__str__ is object.__str__ and type(item).__format__ is object.__format__:
            raise
        text = format(item)  # a class of the user's own that says what identifies it
        if not text.isprintable() or " at 0x" in text or "..." in text:
            raise
        return text


def _has_text(part: object) -> bool:
    return isinstance(part, str | bool | int | float) or part is None
