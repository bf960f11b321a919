"""Pieces: what counts of a function or class itself, and digests of it; nothing in them can change later."""

from __future__ import annotations

import hashlib
import operator
import sys
import types
from collections.abc import Collection, Iterable, Mapping
from importlib.util import MAGIC_NUMBER
from typing import Any, Final, TypeAlias

from nbstep.drift.bytecode import code_digest, compiled, constant_text, exact_bytes
from nbstep.drift.fields import DECLARES, declared_fields
from nbstep.drift.parts import methods_in
from nbstep.drift.plain import PLAIN, is_plain
from nbstep.drift.watch import Part, is_member, member_value
from nbstep.operations import class_attributes_set, mentioned

Pieces: TypeAlias = tuple[Any, ...]  # of bytes, code and pieces
Exact: TypeAlias = list[Any]  # of what code was compiled to, texts, and the like of it

_by_name: Final = operator.itemgetter(0)
_VERSION: Final = f"{sys.version_info.major}.{sys.version_info.minor}"


def exact_of_function(function: types.FunctionType) -> Exact:
    """A function just as this Python compiled it: where that is the same, so are its pieces."""
    code, defaults = function.__code__, function.__defaults__
    if not code.co_kwonlyargcount and (defaults is None or PLAIN.issuperset(map(type, defaults))):  # most
        return [compiled(code), defaults]
    return [compiled(code), defaults_text(function)]


def exact_of_class(cls: type, methods: Mapping[str, types.FunctionType], body: Iterable[tuple[str, Any]]) -> Exact:
    """The same of a class, of which `methods_in` and `plain_in` are known, in the order of its body."""
    return [
        [base.__qualname__ for base in cls.__bases__],
        *body,
        *[(name, exact_of_function(method)) for name, method in methods.items()],
    ]


def exact_of(part: Part) -> Exact:
    """What counts in a function or class itself just as this Python compiled it: where it is the same, so are its pieces."""
    if isinstance(part, types.FunctionType):
        return exact_of_function(part)
    methods = methods_in(vars(part))
    return exact_of_class(part, methods, _plain_in(part, methods))


def exact_text(own: Exact, rest: bytes) -> str:
    """A digest of what `exact_of` said of a thunk, and of the rest behind it."""
    told: Any = MAGIC_NUMBER, own
    return hashlib.blake2b(exact_bytes(told) + rest, digest_size=16).hexdigest()


def exact_rest(called: Exact | None, others: Iterable[tuple[str, Exact]]) -> bytes:
    """The bytes for that rest: the function that the thunk only calls, and all that it names, in the order of their names."""
    return exact_bytes((called, sorted(others, key=_by_name)))


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
    methods = methods_in(vars(part))
    return _pieces_of_class(part, methods, _plain_in(part, methods))


def pieces_and_exact_of(part: Part) -> tuple[Pieces, Exact]:
    """Both at once."""
    if isinstance(part, types.FunctionType):
        return pieces_of(part), exact_of_function(part)
    methods = methods_in(vars(part))
    plain = _plain_in(part, methods)
    return _pieces_of_class(part, methods, plain), exact_of_class(part, methods, plain)


def _pieces_of_class(part: type, methods: Mapping[str, types.FunctionType], plain: Iterable[tuple[str, Any]]) -> Pieces:
    pieces: list[bytes | types.CodeType | Pieces] = [repr([base.__qualname__ for base in part.__bases__]).encode()]
    pieces += [_encoded(f"{name}={constant_text(value)}") for name, value in sorted(plain, key=_by_name)]
    for name, method in sorted(methods.items()):
        pieces += [name.encode(), pieces_of(method)]
    return tuple(pieces)


def _plain_in(cls: type, methods: Mapping[str, types.FunctionType]) -> list[tuple[str, Any]]:
    """The plain values that stand in a class's body, then the defaults of the fields that it declares."""
    plain: list[tuple[str, Any]] = []
    for name, value in vars(cls).items():
        if name in methods or name[:2] == "__" == name[-2:]:
            continue
        value = member_value(value) if is_member(value) else value
        if is_plain(value):
            plain.append((name, value))
    plain = without_state(plain, methods.values())
    if not DECLARES.isdisjoint(vars(cls)):
        plain += [(name, default) for name, default, _ in declared_fields(cls) if is_plain(default)]
    return plain


def without_state(plain: list[tuple[str, Any]], methods: Collection[types.FunctionType]) -> list[tuple[str, Any]]:
    """The attributes but for those that methods set on their class, such as a counter."""
    named = dict(plain)
    for method in methods if plain else ():
        if not named.keys().isdisjoint(mentioned(method.__code__)):
            state = frozenset[str]().union(*(class_attributes_set(method.__code__) for method in methods))
            return [one for one in plain if one[0] not in state]
    return plain


def function_pieces(function: types.FunctionType, defaults: str) -> Pieces:
    """The same of a function of which `defaults_text` is known."""
    return function.__code__, _encoded(defaults)


def defaults_text(function: types.FunctionType) -> str:
    """The defaults of a function's parameters, as far as they are code, or their text is the same in every process."""
    if function.__defaults__ is None and function.__kwdefaults__ is None:
        return "[]"
    positional = [_default_text(default) for default in function.__defaults__ or ()]
    if not function.__code__.co_kwonlyargcount:
        return repr(positional)
    named = sorted((function.__kwdefaults__ or {}).items())
    return repr(positional + [f"{name}={text}" for name, default in named if (text := _default_text(default))])


def _default_text(default: object) -> str:
    """What stands for a default; nothing for what is no code and may change in place."""
    if type(default) in PLAIN:
        return f"{type(default).__name__}:{default!r}"
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
