"""Pieces: what counts of a function or class itself, and digests of it; nothing in them can change later."""

from __future__ import annotations

import hashlib
import marshal
import sys
import types
from importlib.util import MAGIC_NUMBER
from typing import Any, Final, TypeAlias

from nbstep.drift.bytecode import code_digest, constant_text, exact_bytes
from nbstep.drift.fields import declared_fields
from nbstep.drift.parts import methods_in
from nbstep.drift.plain import is_plain
from nbstep.drift.watch import Part, is_member, member_value
from nbstep.operations import class_attributes_set, mentioned

Pieces: TypeAlias = tuple[Any, ...]  # of bytes, code and pieces
Exact: TypeAlias = list[Any]  # of bytes and the like of it

_MARSHAL: Final = 0  # later versions also tell who else holds a text
_VERSION: Final = f"{sys.version_info.major}.{sys.version_info.minor}"


def exact_of(pieces: Pieces) -> Exact:
    """Pieces just as this Python compiled them: where they are the same, so is `text_of` them, which takes longer."""
    return [
        exact_bytes(one) if type(one) is types.CodeType else exact_of(one) if type(one) is tuple else one
        for one in pieces
    ]


def exact_text(*exact: str | Exact) -> str:
    """A digest of what `exact_of` said of some pieces, and of names beside it."""
    told: Any = (MAGIC_NUMBER, exact)
    return hashlib.blake2b(marshal.dumps(told, _MARSHAL), digest_size=16).hexdigest()


def digest_of(pieces: Pieces) -> bytes:
    """A digest of pieces that layout, docstrings and annotations do not change."""
    return _combined(pieces)


def text_of(*pieces: bytes | Pieces) -> str:
    """The same as text, after the Python version that it holds for."""
    return f"{_VERSION}:{digest_of(pieces).hex()}"


def pieces_of(part: Part) -> Pieces:
    """What counts in a function or class itself."""
    if isinstance(part, types.FunctionType):
        return function_pieces(part, defaults_text(part))
    pieces: list[bytes | types.CodeType | Pieces] = [repr([base.__qualname__ for base in part.__bases__]).encode()]
    body = sorted(vars(part).items())
    methods = methods_in(dict(body))
    plain: list[tuple[str, object]] = []
    for name, value in body:
        if name[:2] == "__" == name[-2:]:
            continue
        value = member_value(value) if is_member(value) else value
        if is_plain(value):
            plain.append((name, value))
    if plain:
        mentioned_there = {name for method in methods.values() for name in mentioned(method.__code__)}
        state = set[str]()  # such as a counter
        if any(name in mentioned_there for name, _ in plain):
            state.update(*(class_attributes_set(method.__code__) for method in methods.values()))
        pieces += [_encoded(f"{name}={constant_text(value)}") for name, value in plain if name not in state]
    for name, default, _ in declared_fields(part):
        if is_plain(default):
            pieces.append(_encoded(f"{name}={constant_text(default)}"))
    for name, method in sorted(methods.items()):
        pieces += [name.encode(), pieces_of(method)]
    return tuple(pieces)


def function_pieces(function: types.FunctionType, defaults: str) -> Pieces:
    """The same of a function of which `defaults_text` is known."""
    return function.__code__, _encoded(defaults)


def defaults_text(function: types.FunctionType) -> str:
    """The defaults of a function's parameters, as far as they are code, or their text is the same in every process."""
    if function.__defaults__ is None and function.__kwdefaults__ is None:
        return "[]"
    positional = [_default_text(default) for default in function.__defaults__ or ()]
    named = sorted((function.__kwdefaults__ or {}).items()) if function.__code__.co_kwonlyargcount else []
    return repr(positional + [f"{name}={text}" for name, default in named if (text := _default_text(default))])


def _default_text(default: object) -> str:
    """What stands for a default; nothing for what is no code and may change in place."""
    if is_plain(default):
        return constant_text(default)
    name = default.__qualname__ if isinstance(default, types.FunctionType | type) else ""
    return f"code:{name.rpartition('<locals>.')[2]}" if name else ""


def _combined(pieces: Pieces) -> bytes:
    told: list[bytes] = []
    for piece in pieces:
        if isinstance(piece, types.CodeType):
            piece = code_digest(piece)
        elif isinstance(piece, tuple):
            piece = _combined(piece)
        told += len(piece).to_bytes(4, "little"), piece
    return hashlib.blake2b(b"".join(told), digest_size=16).digest()


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
