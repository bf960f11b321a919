"""Plain contents without secrets: what stands under secret names, headers, pairs of them, and options of commands."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

from nbstep.cache.failures import web
from nbstep.cache.secrets.headers import (
    header_pairs,
    header_text,
    is_harmless,
    is_headers_name,
    unmistakable,
    without_values,
)
from nbstep.cache.secrets.redaction import REDACTED
from nbstep.cache.secrets.suspicion import is_secret_name, is_sure_name, is_word, looks_secret
from nbstep.foreign import interrupts

_TEXT_CHARS_AT_MOST: Final = 256 * 1024
_DEPTH_AT_MOST: Final = 30
_HEADER_LINE: Final = re.compile(r"^([\w-]+)(:[ \t]*)(.*)$", re.MULTILINE)

Shown = Callable[[str], str]


class Cleaner:
    """Makes copies of plain contents; other objects in them are cleaned when they are pickled.

    Args:
        shown: Takes everything secret out of a text.
    """

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._open: set[int] = set()

    def clean(self, value: Any) -> Any:
        """A copy of a value without secrets."""
        kind = type(value)
        if kind is str:
            return self._shown(value[:_TEXT_CHARS_AT_MOST])
        if kind is bytes or kind is bytearray:
            return kind(self._bytes(bytes(value[: web.BODY_BYTES_AT_MOST])))
        if kind not in (dict, list, tuple, set, frozenset):
            return value
        if id(value) in self._open or len(self._open) > _DEPTH_AT_MOST:
            return "<not stored: it contains itself>"
        self._open.add(id(value))
        try:
            return self._container(kind, value)
        finally:
            self._open.discard(id(value))

    def named(self, name: Any, value: Any) -> Any:
        """A copy of the value of an attribute, a field or a key."""
        if is_headers_name(name):
            return self._headers(value)
        if is_secret_name(name) and not _may_stay(header_text(name), value):
            return REDACTED
        if isinstance(name, str) and name.lstrip("_") in {"auth", "basic_auth"} and isinstance(value, tuple | list):
            return REDACTED
        return self.clean(value)

    def _container(self, kind: type, value: Any) -> Any:
        pairs = header_pairs(value)
        if pairs is not None and unmistakable(pairs):
            return without_values(value, pairs, self.clean)
        if kind is dict:
            return {self.clean(name): self.named(name, content) for name, content in value.items()}
        if kind is list or kind is tuple:
            return kind(self._items(value))
        return kind(self.clean(item) for item in value)

    def _items(self, items: list[Any] | tuple[Any, ...]) -> Iterator[Any]:
        """Items of a list; those of a pair or of a command may have their name before them."""
        before: Any = None
        for item in items:
            if isinstance(item, str | bytes) and _is_secret_after(before, header_text(item), pair=len(items) == 2):
                yield REDACTED.encode() if isinstance(item, bytes) else REDACTED
            elif isinstance(before, str) and before in ("-H", "--header") and isinstance(item, str):
                yield self._headers(item)
            else:
                yield self.clean(item)
            before = item

    def _headers(self, value: Any) -> Any:
        """Headers lose their values, whatever holds them; the classes of web libraries have a way of their own."""
        if isinstance(value, str):
            return self.clean(_HEADER_LINE.sub(_line_without_value, value))
        if web.knows(value):
            return value
        try:
            pairs = header_pairs(value)
        except interrupts():
            raise
        except BaseException:  # noqa: BLE001 - some other thing of that name
            pairs = None
        if pairs is not None:
            return without_values(value, pairs, self.clean)
        if type(value) in (list, tuple):
            return type(value)(self._headers(item) if isinstance(item, str) else self.clean(item) for item in value)
        return self.clean(value)

    def _bytes(self, content: bytes) -> bytes:
        try:
            return self._shown(content.decode("utf-8")).encode("utf-8", "replace")
        except UnicodeDecodeError:
            return self._shown(content.decode("latin-1")).encode("latin-1", "replace")


def _may_stay(name: str, value: Any) -> bool:
    if isinstance(value, str):
        return not value or is_word(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return not is_sure_name(name)  # so many tokens
    return value is None or isinstance(value, bool)


def _is_secret_after(before: Any, value: str, *, pair: bool) -> bool:
    """Whether the item before it says that an item is a secret: `("X-Auth-Token", "…")`, `["--password", "…"]`."""
    if not isinstance(before, str | bytes):
        return False
    name = header_text(before)
    if name.startswith("-"):
        option = name.lstrip("-")
        return (is_secret_name(option) and not value.startswith("-")) or (name in ("-u", "--user") and ":" in value)
    if not pair or not is_secret_name(name):
        return False
    return "-" in name or name.lower() in {"authorization", "cookie"} or looks_secret(value)


def _line_without_value(match: re.Match[str]) -> str:
    name, between, value = cast("tuple[str, str, str]", match.groups())
    return name + between + (value if is_harmless(name) else REDACTED)
