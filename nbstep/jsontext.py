"""JSON of texts and numbers, put together by hand: for what each step writes, as that takes a quarter of a JSON encoder's time."""

from __future__ import annotations

import json
import json.encoder
from collections.abc import Iterable, Mapping
from typing import Final

quoted: Final = json.encoder.encode_basestring_ascii
_FINITE_BELOW: Final = 1e300
_PAIR: Final = "{}:{}".format


def or_null(text: str | None) -> str:
    """A text, or none."""
    return "null" if text is None else quoted(text)


def truth(flag: bool) -> str:
    """Yes or no.

    >>> truth(True), truth(False)
    ('true', 'false')
    """
    return "true" if flag else "false"


def number(value: float | None) -> str:
    """A number, or none.

    >>> number(1.5), number(2), number(None), number(float("inf"))
    ('1.5', '2', 'null', 'Infinity')
    """
    if value is None:
        return "null"
    kind = type(value)
    if kind is int or (kind is float and -_FINITE_BELOW < value < _FINITE_BELOW):
        return repr(value)
    return json.dumps(value)


def array(texts: Iterable[str]) -> str:
    """A list of texts.

    >>> array(("a", "b"))
    '["a","b"]'
    """
    return "[" + ",".join(map(quoted, texts)) + "]"


def mapping(texts: Mapping[str, str]) -> str:
    """Texts by name.

    >>> mapping({"a": "x", "b": "y"})
    '{"a":"x","b":"y"}'
    """
    if not texts:
        return "{}"
    return "{" + ",".join(map(_PAIR, map(quoted, texts), map(quoted, texts.values()))) + "}"
