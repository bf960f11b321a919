"""HTTP headers, as mappings or as pairs: which of them may be written, and how the others are left out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, cast

from nbstep.cache.secrets.redaction import REDACTED
from nbstep.cache.secrets.suspicion import HARMLESS_HEADERS, UNMISTAKABLE_HEADERS

Pairs = list[tuple[Any, Any]]

_PAIRS_AT_MOST: Final = 1000

_HEADERS_NAME: Final = re.compile(
    r"_*(?:(?:request|response|default|extra|raw|http|unredirected|custom|auth|client|session|base|common|proxy|api|sent|add)_?)*"
    r"(?:headers|hdrs|cookies)_?",
    re.IGNORECASE,
)


def header_text(value: Any) -> str:
    """A header's name or value as text."""
    return bytes(value).decode("latin-1") if isinstance(value, bytes | bytearray) else str(value)


def is_headers_name(name: Any) -> bool:
    """Whether an attribute or a dictionary key of this name holds HTTP headers."""
    return isinstance(name, str | bytes) and _HEADERS_NAME.fullmatch(header_text(name)) is not None


def is_harmless(name: Any) -> bool:
    """Whether a header of this name may be written with its value."""
    return header_text(name).lower() in HARMLESS_HEADERS


def header_pairs(value: Any) -> Pairs | None:
    """Names and values, if the value can be headers: a mapping, or pairs whose first parts are texts."""
    if isinstance(value, Mapping) or hasattr(type(value), "items"):
        items: Any = cast("Any", value).items()
    elif type(value) in (list, tuple, set, frozenset):
        items = value
    else:
        return None
    if len(value) > _PAIRS_AT_MOST:
        return None
    pairs: Pairs = []
    for item in items:
        if not isinstance(item, tuple | list) or len(cast("list[Any]", item)) != 2:
            return None
        name, content = cast("list[Any]", item)
        if not isinstance(name, str | bytes):
            return None
        pairs.append((name, content))
    return pairs


def unmistakable(pairs: Pairs | None) -> bool:
    """Whether these are headers, wherever they stand.

    >>> unmistakable([("Authorization", "Basic abc"), ("X-Team", "blue")]), unmistakable([("key", "value")])
    (True, False)
    """
    return pairs is not None and any(header_text(name).lower() in UNMISTAKABLE_HEADERS for name, _ in pairs)


def harmless_headers(headers: Iterable[tuple[Any, Any]], clean: Callable[[Any], Any]) -> dict[str, str]:
    """The response headers that may be written; the others are left out."""
    return {header_text(name): clean(header_text(value)) for name, value in headers if is_harmless(name)}


def without_values(headers: Any, pairs: Pairs, clean: Callable[[Any], Any]) -> Any:
    """The same names in the same kind of container, with the values of the harmless ones only."""
    cleaned = [(name, _value(name, value, clean)) for name, value in pairs]
    if type(headers) in (list, tuple, set, frozenset):
        return type(headers)(type(item)(pair) for item, pair in zip(headers, cleaned, strict=True))
    return dict(cleaned)


def _value(name: Any, value: Any, clean: Callable[[Any], Any]) -> Any:
    if is_harmless(name):
        return clean(value)
    return REDACTED.encode() if isinstance(value, bytes) else REDACTED
