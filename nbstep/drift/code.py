"""The code fingerprint: a digest of a thunk and of each function and class of the user's that it names, transitively.

Comments, formatting, line numbers, docstrings and annotations do not count. Digests are of bytecode, so they are compared only
between entries of one Python minor version.
"""

from __future__ import annotations

import dis
import enum
import functools
import hashlib
import inspect
import os
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from nbstep.drift.bytecode import code_digest, constant_text
from nbstep.thunks import named_values

Part: TypeAlias = types.FunctionType | type

_VERSION: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
_INSTALLED: Final = tuple(
    sysconfig.get_paths()[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
_MAX_PARTS: Final = 200


def code_fingerprint(thunk: object) -> dict[str, str]:
    """Digests by name: "" is the thunk's own code, the others are what it names, by qualified name.

    A part's digest starts with the Python version it was made by. Parts of one name, such as a function and its decorator,
    share one digest.
    """
    first = _part(thunk)
    if not _is_users(first):
        return {"": f"{_VERSION}:{_combined([_full_name(thunk, first).encode()]).hex()}"}
    owner = type(thunk.__self__) if isinstance(thunk, types.MethodType) else first
    waiting = [*_named_parts(first), *([(owner.__qualname__, owner)] if _is_users(owner) else [])]
    digests: dict[str, list[bytes]] = {"": [_digest(first)]}
    seen: set[Part] = {first}
    while waiting and len(seen) < _MAX_PARTS:
        name, part = waiting.pop(0)
        if part not in seen:
            seen.add(part)
            digests.setdefault(name, []).append(_digest(part))
            waiting += _named_parts(part)
    return {name: f"{_VERSION}:{_combined(found).hex()}" for name, found in digests.items()}


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
    try:
        return inspect.getsource(_part(thunk))[:limit].strip()
    except Exception:  # noqa: BLE001 - a tokenizer at odds with the text must not cost the value (C3)
        return None


def _part(value: object) -> Part:
    """What stands for a value's code: a function, under partials, methods and foreign decorators; else its class."""
    while isinstance(value, functools.partial):
        value = value.func
    if isinstance(value, types.MethodType):
        value = value.__func__
    if isinstance(value, type) or (isinstance(value, types.FunctionType) and _is_users(value)):
        return value  # the user's own decorator too: what it wraps is in its closure
    inner, depth = value, 0
    while depth < 20 and (wrapped := inspect.getattr_static(inner, "__wrapped__", None)) is not None:
        inner, depth = wrapped, depth + 1
    return inner if isinstance(inner, types.FunctionType) else type(value)


def _full_name(thunk: object, part: Part) -> str:
    named = thunk if isinstance(thunk, types.BuiltinFunctionType) else part
    return f"{named.__module__}.{named.__qualname__}"


def _named_parts(part: Part) -> Iterator[tuple[str, Part]]:
    """The functions and classes of the user's that a part names, each with the name people know it by."""
    for function in [part] if isinstance(part, types.FunctionType) else _methods(part).values():
        for name, value in _named_objects(function):
            found = _part(value)
            if _is_users(found):
                own = found.__qualname__.rpartition("<locals>.")[2]
                yield name if "<" in own else own, found
    for base in part.__bases__ if isinstance(part, type) else ():
        if _is_users(base):
            yield base.__qualname__, base


def _named_objects(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function's names mean; of a dotted name through modules (`etl.fetch`), what stands at its end."""
    values = named_values(function)
    for path in _dotted_names(function.__code__):
        if path[0] not in values:
            continue
        name, value = path[0], values[path[0]]
        for attribute in path[1:]:
            if not isinstance(value, types.ModuleType):
                break
            name, value = attribute, vars(value).get(attribute)
        yield name, value


@functools.lru_cache(maxsize=4096)
def _dotted_names(code: types.CodeType) -> tuple[tuple[str, ...], ...]:
    """The names that code and the code nested in it read, each with the attributes read from it, in order of appearance."""
    paths: list[list[str]] = []
    follows = False
    for instruction in dis.get_instructions(code):
        if instruction.opname in {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF"}:
            paths.append([str(instruction.argval)])
            follows = True
        elif follows and instruction.opname in {"LOAD_ATTR", "LOAD_METHOD"}:
            paths[-1].append(str(instruction.argval))
        elif instruction.opname not in {"CACHE", "PUSH_NULL", "EXTENDED_ARG"}:
            follows = False
    names = [tuple(path) for path in paths]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names += _dotted_names(constant)
    return tuple(dict.fromkeys(names))


def _is_users(part: Part) -> bool:
    # by its globals: a decorator gives its wrapper the wrapped function's __module__
    module = part.__module__ if isinstance(part, type) else part.__globals__.get("__name__")
    return module == "__main__" or (isinstance(module, str) and _module_is_users(module))


@functools.lru_cache(maxsize=1024)
def _module_is_users(name: str) -> bool:
    path = getattr(sys.modules.get(name), "__file__", None)
    if not isinstance(path, str) or name.partition(".")[0] == "nbstep":
        return False
    return not path.startswith(_INSTALLED) and "site-packages" not in path and "dist-packages" not in path


def _methods(cls: type) -> dict[str, types.FunctionType]:
    """The functions in a class's body, also those behind properties and class methods."""
    found: dict[str, types.FunctionType] = {}
    for name, value in vars(cls).items():
        inner = (getattr(value, attribute, None) for attribute in ("fget", "fset", "func", "__func__"))
        for suffix, function in zip((" get", " set", "", "", ""), (*inner, value), strict=True):
            if isinstance(function, types.FunctionType) and _is_users(function):
                found[name + suffix] = function
    return found


def _digest(part: Part) -> bytes:
    if isinstance(part, types.FunctionType):
        return _combined([code_digest(part.__code__), _defaults_text(part).encode("utf-8", "surrogatepass")])
    pieces = [repr([base.__qualname__ for base in part.__bases__]).encode()]
    for name, value in sorted(vars(part).items()):
        plain = value.value if isinstance(value, enum.Enum) else value
        if not (name.startswith("__") and name.endswith("__")) and _is_plain(plain):
            pieces.append(f"{name}={constant_text(plain)}".encode("utf-8", "surrogatepass"))
    for name, method in sorted(_methods(part).items()):
        pieces += [name.encode(), _digest(method)]
    return _combined(pieces)


def _defaults_text(function: types.FunctionType) -> str:
    positional = [constant_text(default) for default in function.__defaults__ or () if _is_plain(default)]
    named = sorted((function.__kwdefaults__ or {}).items())
    return repr(positional + [f"{name}={constant_text(default)}" for name, default in named if _is_plain(default)])


def _is_plain(value: object) -> bool:
    """Whether a value's text is the same in every process."""
    if isinstance(value, tuple | frozenset):
        return all(_is_plain(item) for item in value)
    return value is None or type(value) in {str, int, float, bool, bytes, complex}


def _combined(pieces: list[bytes]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for piece in pieces:
        digest.update(len(piece).to_bytes(4, "little") + piece)
    return digest.digest()
