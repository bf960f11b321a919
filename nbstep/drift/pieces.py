"""Pieces: what counts of a function or class itself, and digests of it; nothing in them can change later."""

from __future__ import annotations

import enum
import hashlib
import sys
import types
from collections.abc import Callable
from importlib.util import MAGIC_NUMBER
from typing import Any, Final, TypeAlias

from nbstep.drift.bytecode import code_digest, constant_text, exact_bytes
from nbstep.drift.fields import declared_fields
from nbstep.drift.parts import methods_in, set_attributes
from nbstep.drift.plain import is_plain
from nbstep.drift.watch import Part, member_value

Pieces: TypeAlias = tuple[Any, ...]  # of bytes, code and pieces

_VERSION: Final = f"{sys.version_info.major}.{sys.version_info.minor}"


def exact_of(pieces: Pieces) -> str:
    """A digest of pieces just as this Python compiled them: where it is the same, so is `text_of` them, which takes longer."""
    return _combined((MAGIC_NUMBER, *pieces), exact_bytes).hex()


def digest_of(pieces: Pieces) -> bytes:
    """A digest of pieces that layout, docstrings and annotations do not change."""
    return _combined(pieces, code_digest)


def text_of(*pieces: bytes | Pieces) -> str:
    """The same as text, after the Python version that it holds for."""
    return f"{_VERSION}:{digest_of(pieces).hex()}"


def pieces_of(part: Part) -> Pieces:
    """What counts in a function or class itself."""
    if isinstance(part, types.FunctionType):
        return part.__code__, _encoded(defaults_text(part))
    pieces: list[bytes | types.CodeType | Pieces] = [repr([base.__qualname__ for base in part.__bases__]).encode()]
    methods, state = methods_in(vars(part)), set_attributes(part)
    for name, value in sorted(vars(part).items()):
        plain = member_value(value) if isinstance(value, enum.Enum) else value
        if not (name.startswith("__") and name.endswith("__")) and name not in state and is_plain(plain):
            pieces.append(_encoded(f"{name}={constant_text(plain)}"))
    for name, default, _ in declared_fields(part):
        if is_plain(default):
            pieces.append(_encoded(f"{name}={constant_text(default)}"))
    for name, method in sorted(methods.items()):
        pieces += [name.encode(), pieces_of(method)]
    return tuple(pieces)


def defaults_text(function: types.FunctionType) -> str:
    """The defaults of a function's parameters, as far as they are code, or their text is the same in every process."""
    if function.__defaults__ is None and function.__kwdefaults__ is None:
        return "[]"
    positional = [text for default in function.__defaults__ or () if (text := _default_text(default))]
    named = sorted((function.__kwdefaults__ or {}).items()) if function.__code__.co_kwonlyargcount else []
    return repr(positional + [f"{name}={text}" for name, default in named if (text := _default_text(default))])


def _default_text(default: object) -> str:
    """What stands for a default; nothing for what is no code and may change in place."""
    if is_plain(default):
        return constant_text(default)
    name = default.__qualname__ if isinstance(default, types.FunctionType | type) else ""
    return f"code:{name.rpartition('<locals>.')[2]}" if name else ""


def _combined(pieces: Pieces, of_code: Callable[[types.CodeType], bytes]) -> bytes:
    told: list[bytes] = []
    for piece in pieces:
        if isinstance(piece, types.CodeType):
            piece = of_code(piece)
        elif isinstance(piece, tuple):
            piece = _combined(piece, of_code)
        told += len(piece).to_bytes(4, "little"), piece
    return hashlib.blake2b(b"".join(told), digest_size=16).digest()


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
