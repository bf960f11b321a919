"""The code fingerprint: a digest of a thunk and of each function and class of the user's that it names, transitively.

Comments, formatting, line numbers, docstrings and annotations do not count. Digests are of bytecode, so they are compared only
between entries of one Python minor version.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
import sysconfig
import types
from collections.abc import Mapping
from typing import Any, Final

from nbstep.thunks import named_values

_VERSION: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
_INSTALLED: Final = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_MAX_PARTS: Final = 200
_CO_HAS_DOCSTRING: Final = 0x4000000  # set from Python 3.14 on


def code_fingerprint(thunk: object) -> dict[str, str]:
    """Digests by name: "" is the thunk's own code, the others are what it names, by qualified name.

    A part's digest starts with the Python version it was made by.
    """
    function = _function(thunk)
    if function is None:
        return {}
    parts = {"": _tag(_function_digest(function))}
    waiting: list[types.FunctionType | type] = _followed(function)
    while waiting and len(parts) < _MAX_PARTS:
        item = waiting.pop()
        name = item.__qualname__
        if name in parts:
            continue
        if isinstance(item, types.FunctionType):
            parts[name] = _tag(_function_digest(item))
            waiting += _followed(item)
        else:
            methods = _methods(item)
            parts[name] = _tag(_class_digest(item, methods))
            waiting += [found for method in methods.values() for found in _followed(method)]
    return parts


def code_changes(kept: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What changed between two fingerprints, as short clauses for people; empty when nothing did or nothing can be said.

    >>> code_changes({"": "3.11:a", "tidy": "3.11:b"}, {"": "3.11:a", "tidy": "3.11:c"})
    ['tidy() was edited']
    """
    if not kept or not now or kept.get("", "").partition(":")[0] != now.get("", "").partition(":")[0]:
        return []
    changes: list[str] = []
    for name in sorted(kept.keys() & now.keys()):
        if kept[name] != now[name]:
            changes.append(f"{name}() was edited" if name else "the step was edited")
    if not changes:
        changes += [f"{name}() is used now" for name in sorted(now.keys() - kept.keys())]
        changes += [f"{name}() is no longer used" for name in sorted(kept.keys() - now.keys())]
    return changes


def source_text(thunk: object, limit: int = 4096) -> str | None:
    """The thunk's source for people, or None where there is none."""
    function = _function(thunk)
    if function is None:
        return None
    try:
        return inspect.getsource(function)[:limit].strip()
    except (OSError, TypeError, SyntaxError, IndexError):
        return None


def _function(thunk: object) -> types.FunctionType | None:
    while isinstance(thunk, functools.partial):
        thunk = thunk.func
    if isinstance(thunk, types.MethodType):
        thunk = thunk.__func__
    thunk = inspect.unwrap(thunk) if callable(thunk) else thunk
    return thunk if isinstance(thunk, types.FunctionType) else None


def _followed(function: types.FunctionType) -> list[types.FunctionType | type]:
    """The functions and classes of the user's that a function names."""
    found: list[types.FunctionType | type] = []
    for value in named_values(function).values():
        item = value if isinstance(value, type) else _function(value)
        if item is not None and _is_users(item):
            found.append(item)
    return found


def _is_users(item: types.FunctionType | type) -> bool:
    if item.__module__ == "__main__":
        return True
    return _module_is_users(item.__module__)


@functools.lru_cache(maxsize=1024)
def _module_is_users(name: str) -> bool:
    path = getattr(sys.modules.get(name), "__file__", None)
    return path is not None and not path.startswith(_INSTALLED) and name.partition(".")[0] != "nbstep"


def _methods(cls: type) -> dict[str, types.FunctionType]:
    unwrapped = {name: getattr(value, "__func__", value) for name, value in vars(cls).items()}
    return {name: value for name, value in unwrapped.items() if isinstance(value, types.FunctionType)}


def _class_digest(cls: type, methods: Mapping[str, types.FunctionType]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr([base.__qualname__ for base in cls.__bases__]).encode())
    for name in sorted(methods):
        digest.update(name.encode() + _function_digest(methods[name]))
    return digest.digest()


def _function_digest(function: types.FunctionType) -> bytes:
    defaults = [*(function.__defaults__ or ()), *sorted((function.__kwdefaults__ or {}).items())]
    simple = [d for d in defaults if isinstance(d, str | int | float | bool | None | bytes | tuple)]
    return hashlib.blake2b(code_digest(function.__code__) + repr(simple).encode(), digest_size=16).digest()


@functools.lru_cache(maxsize=8192)
def code_digest(code: types.CodeType) -> bytes:
    """16 bytes that are the same for the same code, wherever it stands and whatever its docstring says."""
    digest = hashlib.blake2b(digest_size=16)
    shape = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & ~_CO_HAS_DOCSTRING)
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    digest.update(repr((shape, names)).encode())
    digest.update(code.co_code)
    for constant in _constants_without_docstring(code):
        digest.update(_constant_digest(constant))
    return digest.digest()


def _constants_without_docstring(code: types.CodeType) -> tuple[Any, ...]:
    constants = code.co_consts
    # Until Python 3.13 a function's first constant is its docstring, or None; from 3.14 on a flag says whether there is one.
    if sys.version_info >= (3, 14):
        has_docstring = bool(code.co_flags & _CO_HAS_DOCSTRING)
    else:
        is_function = bool(code.co_flags & inspect.CO_NEWLOCALS) and not code.co_name.startswith("<")
        has_docstring = is_function and isinstance(constants[0], str)
    return (None, *constants[1:]) if has_docstring else constants


def _constant_digest(constant: Any) -> bytes:
    if isinstance(constant, types.CodeType):
        return code_digest(constant)
    if isinstance(constant, frozenset):
        return b"set" + b"".join(sorted(_constant_digest(item) for item in constant))
    if isinstance(constant, tuple):
        return b"(" + b"".join(_constant_digest(item) for item in constant) + b")"
    return f"{type(constant).__name__}:{constant!r};".encode()


def _tag(digest: bytes) -> str:
    return f"{_VERSION}:{digest.hex()}"
