"""Bytes that stand for a value of any kind: other bytes for other content, the same in every process, at a bounded cost."""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import enum
import fractions
import functools
import pathlib
import re
import types
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

from nbstep.drift.scalars import CODE, SCALARS, counts_for_nothing, sounds_secret, unboxed
from nbstep.drift.tables import positions, table_parts

# Of one input: how many values of a container are read, how many characters of text, how deep.
MAX_ITEMS: Final = 4096
_MAX_CHARS: Final = 1 << 20
_MAX_UNORDERED: Final = 4096
_MAX_DEPTH: Final = 30
_MAX_PATHS: Final = 32
# A container in a container costs as much time as so many plain values.
_ROOM_OF_ONE: Final = 32
_MAX_CONTAINERS: Final = 512
_PIECES: Final = 16

_PATHS: Final = frozenset(
    {pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.Path, pathlib.PurePath}
)  # fmt: skip
_NUMBERS: Final = frozenset({int, float, complex, bool, type(None)})
_READ_AT_ONCE: Final = _NUMBERS | {str}
_FLAT: Final = _READ_AT_ONCE | {bytes, datetime.date, datetime.datetime, *_PATHS}
_SORTED: Final = frozenset({str, int})
_SEQUENCES: Final = (list, tuple, collections.deque)
_SETS: Final = (set, frozenset)
_BYTES: Final = (bytes, bytearray)
_RARE: Final = frozenset({decimal.Decimal, fractions.Fraction, range, slice, array.array, uuid.UUID, re.Pattern})
# Asked once for all of them, as most objects are none of these.
_KNOWN: Final = (
    enum.Enum, *_SEQUENCES, dict, *_SETS, str, *_BYTES, int, float, functools.partial, *CODE,
)  # fmt: skip


class TooLarge(ValueError):  # noqa: N818 - the name says what happened
    """An input has so many parts that reading even a sample of it takes too long."""


class Encoding:
    """Bytes for one value, different for different content."""

    __slots__ = ("_inside", "_left", "_paths")

    def __init__(self, paths: list[str] | None) -> None:
        self._paths = paths
        self._inside: list[int] = []
        self._left = _MAX_CONTAINERS

    def of(self, value: Any, room: int, depth: int) -> bytes:
        """What stands for a value of which about `room` items may be read."""
        value = unboxed(value)
        kind = type(value)
        if kind is str:
            self._meet(value)
            return b"s" + _text_bytes(value, room)
        if kind in _PATHS:
            text = str(value)
            self._meet(text)
            return b"p" + _text_bytes(text, room)
        scalar = SCALARS.get(kind)
        text = scalar(value) if scalar is not None else None
        if text is not None:
            return b"n" + kind.__name__.encode() + b" " + text.encode()
        if depth > _MAX_DEPTH:
            return _type_bytes(kind)
        if id(value) in self._inside:
            return b"^%d" % self._inside[::-1].index(id(value))
        self._left -= 1
        if self._left < 0:
            raise TooLarge
        self._inside.append(id(value))
        try:
            return self._of_other(value, kind, room, depth + 1)
        finally:
            self._inside.pop()

    def _of_other(self, value: Any, kind: type, room: int, depth: int) -> bytes:
        known = kind in _RARE or issubclass(kind, _KNOWN)
        found = self._of_known(value, kind, room, depth) if known else None
        if found is not None:
            return found
        fields = record_fields(value)
        if fields is not None:
            return b"r" + _name_bytes(kind) + self._mapping(fields, room, depth)
        parts = table_parts(value)
        if parts is not None:
            if parts[0] == "memmap":
                self._meet(parts[-1])
            inside = Encoding(None)  # what its cells say names no files
            return b"a" + b"".join([_sized(inside.of(part, MAX_ITEMS, depth)) for part in parts])
        return _type_bytes(kind)

    def _of_known(self, value: Any, kind: type, room: int, depth: int) -> bytes | None:
        """What stands for a value of a class of Python's own, or of one made of it; None where that is its type."""
        head = b"" if kind.__module__ == "builtins" else _name_bytes(kind)
        if issubclass(kind, enum.Enum):
            return b"e" + head + str(object.__getattribute__(value, "__dict__").get("_name_")).encode()
        if issubclass(kind, _SEQUENCES):
            base: Any = list if issubclass(kind, list) else tuple if issubclass(kind, tuple) else collections.deque
            items: Any = value if kind in (list, tuple) else list(base.__iter__(value))
            return base.__name__[:1].encode() + head + self._sequence(items, room, depth)
        if issubclass(kind, dict):
            if dict.__len__(value) > _MAX_UNORDERED:
                return b"m" + head + b"%d" % dict.__len__(value)
            return b"m" + head + self._mapping(dict(dict.items(value)) if kind is not dict else value, room, depth)
        if issubclass(kind, _SETS):
            members: Any = set if issubclass(kind, set) else frozenset
            if members.__len__(value) > _MAX_UNORDERED:
                return b"u" + head + b"%d" % members.__len__(value)
            return b"u" + head + self._unordered(list(members.__iter__(value)), room, depth)
        plain = _plain_bytes(value, kind, room)
        if plain is not None:
            return head + plain
        if issubclass(kind, functools.partial):
            return b"w" + self._sequence([value.func, value.args, value.keywords], room, depth)
        if issubclass(kind, CODE):
            name: object = getattr(value, "__qualname__", "") if not issubclass(kind, property) else ""
            return b"c" + str(name).encode()
        return None

    def _meet(self, text: str) -> None:
        if self._paths is not None and len(self._paths) < _MAX_PATHS:
            self._paths.append(text)

    def _sequence(self, items: Sequence[Any], room: int, depth: int) -> bytes:
        count = len(items)
        if count > room:
            items = [items[at] for at in positions(count, max(room, 2))]
        kinds = set(map(type, items))
        if kinds <= _NUMBERS or (kinds <= _READ_AT_ONCE and self._fits(items, kinds, room)):
            return b"%d=" % count + repr(list(items)).encode("utf-8", "surrogatepass")
        deep = sum(type(item) not in _FLAT for item in items)
        most = max(room // _ROOM_OF_ONE, 2)
        if deep > most:
            items = [items[at] for at in positions(len(items), most)]
        each = room // max(deep, 1)
        texts = max(room // len(items), 1)
        return b"%d:" % count + b"".join(
            [_sized(self.of(item, texts if type(item) in _FLAT else each, depth)) for item in items]
        )

    def _fits(self, items: Sequence[Any], kinds: set[type], room: int) -> bool:
        """Whether all texts may be read whole; what of them may name a file is noted."""
        if len(items) <= _MAX_PATHS and str in kinds:
            for item in items:
                if type(item) is str:
                    self._meet(item)
        return sum([len(item) for item in items if type(item) is str]) <= _room_of_text(room)

    def _mapping(self, items: Mapping[Any, Any], room: int, depth: int) -> bytes:
        keys = list(items)
        kinds = set(map(type, keys))
        if kinds == {str} and len(keys) <= _MAX_PATHS:
            keys = [key for key in keys if not sounds_secret(key)]
        if len(kinds) <= 1 and kinds <= _SORTED:
            keys.sort()
            some = keys if len(keys) <= room else [keys[at] for at in positions(len(keys), max(room, 2))]
            named = Encoding(None)._sequence(some, room, depth)  # keys name no files
            values = self._sequence([items[key] for key in some], room, depth)
            return b"%d;" % len(keys) + _sized(named) + values
        return b"%d:" % len(keys) + self._rows([*items.items()], room, depth)

    def _unordered(self, members: list[Any], room: int, depth: int) -> bytes:
        kinds = set(map(type, members))
        if len(kinds) == 1 and kinds <= _SORTED:
            return b"=" + self._sequence(sorted(members), room, depth)
        return b"%d:" % len(members) + self._rows([(member,) for member in members], room, depth)

    def _rows(self, rows: list[tuple[Any, ...]], room: int, depth: int) -> bytes:
        """What has no order; of many only how many there are."""
        if len(rows) > max(room // _ROOM_OF_ONE, 2):
            return b""
        each = room // max(len(rows), 1)
        return b"".join(sorted(_sized(b"".join([_sized(self.of(part, each, depth)) for part in row])) for row in rows))


def _plain_bytes(value: Any, kind: type, room: int) -> bytes | None:
    """Of what is plain and rarer than a number; also of plain values of another class, such as a `str` with methods."""
    if issubclass(kind, str):
        return b"s" + _text_bytes(str.__str__(value), room)
    if issubclass(kind, _BYTES):
        return (b"b" if issubclass(kind, bytes) else b"y") + _some_bytes(memoryview(value), _room_of_text(room))
    if issubclass(kind, int):
        return b"i" + int.to_bytes(value, int.bit_length(value) // 8 + 1, "little", signed=True)
    if issubclass(kind, float):
        return b"f" + float.__repr__(value).encode()
    if kind is decimal.Decimal or kind is fractions.Fraction or kind is range or kind is slice:
        return b"q" + repr(value).encode() if kind is not slice or _is_plain_slice(value) else None
    if kind is array.array:
        return b"z" + value.typecode.encode() + _some_bytes(memoryview(value).cast("B"), _room_of_text(room))
    if kind is uuid.UUID:
        return b"v" + value.bytes
    if kind is re.Pattern:
        return b"x%d " % value.flags + _text_bytes(str(value.pattern), room)
    return None


def _is_plain_slice(value: slice) -> bool:
    return {type(value.start), type(value.stop), type(value.step)} <= _NUMBERS


def record_fields(value: object) -> Mapping[str, Any] | None:
    """What the fields of a dataclass, of an attrs class or of a pydantic model hold, by name; None of anything else.

    Those of an estimator of scikit-learn are the parameters of its `__init__`, which fitting leaves as they are.

    They are read where they stand: a property or a `__getattr__` of the user's is not asked.
    """
    kind = type(value)
    if kind is types.SimpleNamespace:
        return vars(cast("types.SimpleNamespace", value))
    names: Any = None
    for cls in kind.__mro__[:-1]:  # the last is `object`
        body = cls.__dict__
        names = body.get("__dataclass_fields__") or body.get("__attrs_attrs__") or body.get("__pydantic_fields__")
        if names:
            break
    names = names or _parameters(kind)
    if not names:
        return None
    names = [getattr(name, "name", name) for name in cast("Iterable[Any]", names)]
    try:
        own = object.__getattribute__(value, "__dict__")
    except AttributeError:
        own = {}
    found: dict[str, Any] = {}
    for name in names:
        if type(name) is not str or counts_for_nothing(name):
            continue
        if name in own:
            found[name] = own[name]
            continue
        slot = next((cls.__dict__[name] for cls in kind.__mro__ if name in cls.__dict__), None)
        if type(slot) is types.MemberDescriptorType:
            try:
                found[name] = slot.__get__(value)
            except AttributeError:  # not set
                continue
    return found


def _parameters(kind: type) -> list[str]:
    """What an estimator of scikit-learn, or of a library in its manner, is made with; nothing of another class."""
    if not [cls for cls in kind.__mro__[:-1] if cls.__name__ == "BaseEstimator" and cls.__module__ == "sklearn.base"]:
        return []
    found: dict[str, None] = {}
    for cls in kind.__mro__:
        made = cls.__dict__.get("__init__")
        code = getattr(getattr(made, "__wrapped__", made), "__code__", None)
        if isinstance(code, types.CodeType):
            found |= dict.fromkeys(code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount])
    return [*found]


def _room_of_text(room: int) -> int:
    return max(_MAX_CHARS // MAX_ITEMS * room, 64)


def _text_bytes(text: str, room: int) -> bytes:
    limit = _room_of_text(room)
    if len(text) <= limit:
        return text.encode("utf-8", "surrogatepass")
    return b"%d " % len(text) + "".join(_pieces(text, limit)).encode("utf-8", "surrogatepass")


def _some_bytes(content: memoryview, limit: int) -> bytes:
    if len(content) <= limit:
        return bytes(content)
    return b"%d " % len(content) + b"".join(_pieces(content, limit))


def _pieces(content: Any, limit: int) -> list[Any]:
    """Pieces of a long text at fixed places, its beginning and its end among them."""
    size = max(limit // _PIECES, 1)
    return [content[at : at + size] for at in positions(len(content) - size + 1, _PIECES)]


def _name_bytes(kind: type) -> bytes:
    name: object = kind.__qualname__
    return name.rpartition("<locals>.")[2].encode() + b" " if type(name) is str else b" "


def is_of_all(kind: type, content: bytes) -> bool:
    """Whether the bytes of a value stand for all values of its type; of slices some are plain."""
    return kind is not slice and content == _type_bytes(kind)


def _type_bytes(kind: type) -> bytes:
    return b"t" + _name_bytes(kind)


def _sized(content: bytes) -> bytes:
    return b"%d:" % len(content) + content
