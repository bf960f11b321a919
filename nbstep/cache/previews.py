"""What an entry says of its value without being loaded: type, shape, and a short text, all made when it was kept."""

from __future__ import annotations

import dataclasses
import reprlib
import time
import weakref
from collections.abc import Callable, Mapping, Sized
from itertools import islice
from typing import Any, Final, cast

from nbstep.cache.heads import PREVIEW_CHARS, READ_CHARS, head_text
from nbstep.foreign import interrupts

_NAME_CHARS: Final = 200
# What a preview shows of a value: levels, items of a list, pairs of a dict, characters of a text, digits of a number.
LEVELS: Final = 4
ITEMS: Final = 12
PAIRS: Final = 16
TEXT_CHARS: Final = 240
DIGITS: Final = 60
_SLOW_S: Final = 1.0
_slow: Final[weakref.WeakSet[type]] = weakref.WeakSet()  # types whose text took longer: it is made once
ATOMS: Final = frozenset({float, bool, complex, type(None)})
_CONTAINERS: Final = frozenset({dict, list, tuple})
_BYTES: Final = (bytes, bytearray)
_PLAIN_MODULES: Final = frozenset({"builtins", "__main__"})


def type_text(value: Any) -> str:
    """The type's name with its module, the plain ones without.

    >>> type_text([1]), type_text(None)
    ('list', 'None')
    """
    if value is None:
        return "None"
    return class_text(type(value))


def class_text(cls: type) -> str:
    """A class's name with its module; those of builtins and of the notebook without."""
    module, name = str(cls.__module__), str(cls.__qualname__)
    if module in _PLAIN_MODULES:
        return name[:_NAME_CHARS]
    root = module.partition(".")[0]
    public = root if root in _SHORTENED else module
    return f"{public}.{name}"[:_NAME_CHARS]


_SHORTENED: Final = frozenset(
    {"pandas", "polars", "numpy", "xarray", "torch", "scipy", "pyarrow", "httpx", "geopandas"}
)


def shape_text(value: Any) -> str:
    """How large a value is, as people say it; "" where it has no size.

    >>> shape_text([1, 2, 3]), shape_text({"a": 1}), shape_text("text"), shape_text(3)
    ('3 items', '1 item', '4 characters', '')
    """
    try:
        if type(value) in _CONTAINERS:
            return _counted(len(value), "item")
        shape = getattr(value, "shape", None)
        if isinstance(shape, tuple):
            sizes = cast("tuple[Any, ...]", shape)
            if sizes and all(isinstance(size, int) for size in sizes):
                return " × ".join(f"{size:,}" for size in sizes[:8])
            return ""
        if isinstance(value, type) or not isinstance(value, Sized):
            return ""
        count = len(value)
    except interrupts():
        raise
    except BaseException:  # noqa: BLE001 - the user's own __len__ or shape
        return ""
    return _counted(count, "character" if isinstance(value, str) else "byte" if isinstance(value, _BYTES) else "item")


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def preview_text(value: Any, redacted: Callable[[str], str] = str) -> str:
    """The beginning of a value as text, at most 1,000 characters; never runs away, never raises.

    Args:
        value: Anything.
        redacted: Takes secrets out of a text. It is given texts before they are cut: of half a secret nobody sees what it is.

    >>> preview_text({"name": "Ada", "langs": ["en", "fr"]})
    "{'name': 'Ada', 'langs': ['en', 'fr']}"
    """
    cls = type(value)
    if cls in _slow:
        return f"<no preview: that of another {cls.__name__} took long>"
    began = time.perf_counter()
    try:
        short = _Short(redacted)
        text = head_text(value, redacted, short.repr)
        text = redacted(short.repr(value) if text is None else text)
    except interrupts():
        raise
    except BaseException as error:  # noqa: BLE001 - the user's own __repr__
        return f"<no preview: {type(error).__name__}>"
    if time.perf_counter() - began > _SLOW_S and cls.__module__ != "builtins":
        _slow.add(cls)
    return cut(text)


def cut(text: str) -> str:
    """A preview that is not too long."""
    return text if len(text) <= PREVIEW_CHARS else text[: PREVIEW_CHARS - 1] + "…"


class _Short(reprlib.Repr):
    """`repr` with limits everywhere, the key order of dictionaries, and fields of dataclasses."""

    def __init__(self, redacted: Callable[[str], str]) -> None:
        super().__init__()
        self._redacted = redacted
        self.maxlevel = LEVELS
        self.maxtuple = self.maxlist = self.maxset = self.maxfrozenset = self.maxdeque = self.maxarray = ITEMS
        self.maxdict = PAIRS
        self.maxstring = self.maxother = TEXT_CHARS
        self.maxlong = DIGITS

    def repr1(self, x: Any, level: int) -> str:
        kind = type(x)
        if kind in ATOMS:
            return repr(x)
        return self.repr_str(x, level) if kind is str else super().repr1(x, level)

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        if level <= 0 and x:
            return "{…}"
        shown = [f"{self.repr1(key, level - 1)}: {self.repr1(x[key], level - 1)}" for key in islice(x, self.maxdict)]
        return "{" + ", ".join(shown + (["…"] if len(x) > self.maxdict else [])) + "}"

    def repr_str(self, x: str, level: int) -> str:  # noqa: ARG002 - reprlib's signature
        text = self._redacted(x[:READ_CHARS])
        return repr(text) if len(text) <= self.maxstring else repr(text[: self.maxstring])[:-1] + "…'"

    def repr_bytes(self, x: bytes, level: int) -> str:  # noqa: ARG002 - reprlib's signature
        return self._cut(repr(x[:READ_CHARS]))

    def repr_instance(self, x: Any, level: int) -> str:
        fields = _fields_of(x)
        if fields is not None:
            return self._fields_text(x, fields, level)
        if _may_be_huge(x):
            return f"<{type_text(x)}, {shape_text(x)}>"
        return self._cut(repr(x))

    def _cut(self, text: str) -> str:
        text = self._redacted(text[:READ_CHARS])
        return text if len(text) <= self.maxother else text[: self.maxother] + "…"

    def _fields_text(self, x: Any, fields: list[str], level: int) -> str:
        if level <= 0:
            return f"{type(x).__name__}(…)"
        shown = (f"{name}={self.repr1(getattr(x, name, None), level - 1)}" for name in fields[: self.maxdict])
        return f"{type(x).__name__}({', '.join(shown)})"


def _fields_of(value: Any) -> list[str] | None:
    """The fields that the `repr` of a dataclass, or of a pydantic model, shows; None for anything else, and for types."""
    cls = type(value)
    if isinstance(value, type) or cls.__repr__ is object.__repr__:
        return None
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value) if field.repr]
    fields = getattr(cls, "__pydantic_fields__", None)
    if not isinstance(fields, dict):
        return None
    return [name for name, field in cast("dict[str, Any]", fields).items() if getattr(field, "repr", True)]


def _may_be_huge(value: Any) -> bool:
    """Containers of other libraries, and subclasses of the builtin ones, whose own `repr` has no limit."""
    if hasattr(value, "shape"):
        return False  # arrays and frames shorten themselves
    try:
        return isinstance(value, Mapping | list | tuple | set | frozenset | str | bytes) and len(value) > 100
    except interrupts():
        raise
    except BaseException:  # noqa: BLE001 - the user's own __len__
        return True
