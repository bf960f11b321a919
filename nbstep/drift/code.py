"""The code fingerprint: a digest of a thunk and of each function and class of the user's that it names, transitively.

Comments, formatting, line numbers, docstrings and annotations do not count. Digests are of bytecode, so they are compared only
between entries of one Python minor version.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import sys
import types
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from nbstep.drift.bytecode import code_digest, constant_text, only_call
from nbstep.drift.fields import declared_fields
from nbstep.drift.parts import is_users, label_of, methods_in, named_parts, part_of, set_attributes
from nbstep.drift.plain import is_plain
from nbstep.drift.sources import Sources, sources_of
from nbstep.drift.watch import Part, Watch, content_of, is_namespace, member_value
from nbstep.forks import ThreadLock
from nbstep.thunks import named_values

_VERSION: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
_MAX_PARTS: Final = 200
CALLS: Final = ">"

NamedText: TypeAlias = tuple[str, types.CodeType | weakref.ref[type]]  # of a part whose text can be read

_MAX_KNOWN: Final = 1024
_MAX_KNOWN_PARTS: Final = 4096
_MAX_WATCHES: Final = 4
_MAX_DEFAULTS: Final = 256


class _Known:
    """What was found behind a thunk, good as long as the watch holds: the digests of all but the thunk itself."""

    __slots__ = ("_called", "_fingerprints", "_others", "parts", "sources", "watch")

    def __init__(
        self, watch: Watch, others: Mapping[str, str], sources: Sources, called: str, parts: Sequence[NamedText]
    ) -> None:
        self.watch = watch
        self.parts = parts
        self._called = called
        self.sources = sources
        self._others = others
        self._fingerprints: dict[str, Mapping[str, str]] = {}

    def fingerprint(self, first: Part) -> Mapping[str, str]:
        """The whole, with the thunk's own digest: `lambda uid=uid: …` has other defaults each time round a loop."""
        own = _defaults_text(first) if isinstance(first, types.FunctionType) else ""
        whole = self._fingerprints.get(own)
        if whole is None:
            if len(self._fingerprints) >= _MAX_DEFAULTS:
                self._fingerprints.clear()
            text = _text([_digest(first)])
            whole = self._fingerprints[own] = {
                "": f"{text}{CALLS}{self._called}" if self._called else text,
                **self._others,
            }
        return whole


class _Part(NamedTuple):
    """What was found in one function or class, good as long as its watch holds; `named` are the parts that it names."""

    itself: Callable[[], object]
    watch: Watch
    named: tuple[tuple[str, Callable[[], Part | None]], ...]
    digest: bytes


# By the id of a function or class. Read without a lock.
_parts: dict[int, _Part] = {}
# By the code of the thunk, or the id of a class. Read without a lock.
_known: dict[object, tuple[_Known, ...]] = {}
_writing: Final = ThreadLock()


class Seen(NamedTuple):
    """What was found behind a thunk.

    Attributes:
        code: The code fingerprint.
        first: What stands for the thunk's own code.
        sources: Where its inputs are found, beside its arguments.
        parts: What of the user's it names, by name: the code of a function, or a class.
    """

    code: Mapping[str, str]
    first: Part
    sources: Sources = Sources()
    parts: Sequence[NamedText] = ()


def code_fingerprint(thunk: object) -> Mapping[str, str]:
    """Digests by name: "" is the thunk's own code, the others are what it names, by qualified name.

    Of a lambda that does nothing but call a function of the user's, the digest of that function follows its own. A part's
    digest starts with the Python version it was made by. Parts of one name, such as a function and its decorator,
    share one digest. As long as nothing changed, the answer is the very same object.
    """
    return look_behind(thunk).code


def look_behind(thunk: object) -> Seen:
    """The code fingerprint, and where the inputs are."""
    owner = type(thunk.__self__) if isinstance(thunk, types.MethodType) else None
    first = part_of(thunk)
    place = first.__code__ if isinstance(first, types.FunctionType) else id(first)
    for known in _known.get(place, ()):
        if known.watch.holds(first, owner):
            return tuple.__new__(Seen, (known.fingerprint(first), first, known.sources, known.parts))  # half the time
    if not is_users(first):
        return Seen(_fingerprint_of_name(full_name(thunk, first)), first)
    known = _read(first, owner)
    with _writing:
        if place not in _known and len(_known) >= _MAX_KNOWN:
            del _known[next(iter(_known))]
        _known[place] = (known, *_known.get(place, ())[: _MAX_WATCHES - 1])
    return Seen(known.fingerprint(first), first, known.sources, known.parts)


def fresh_fingerprint(thunk: object) -> Mapping[str, str]:
    """The code fingerprint made anew, whatever is known."""
    _parts.clear()
    owner = type(thunk.__self__) if isinstance(thunk, types.MethodType) else None
    first = part_of(thunk)
    return _read(first, owner).fingerprint(first) if is_users(first) else _fingerprint_of_name(full_name(thunk, first))


def _read(first: Part, owner: type | None) -> _Known:
    watch = Watch(first, owner)
    waiting = [*named_parts(first, watch)]
    if owner is not None and is_users(owner):
        waiting.append((owner.__qualname__, owner))
    digests: dict[str, list[bytes]] = {}
    parts: list[NamedText] = []
    seen: set[Part] = {first}
    for name, part in waiting:  # it grows
        watch.met_again |= part is first
        if part not in seen and len(seen) < _MAX_PARTS:
            seen.add(part)
            found, named = _read_part(part)
            watch.include(found.watch)
            waiting += named
            digests.setdefault(label_of(name, part), []).append(found.digest)
            parts.append((label_of(name, part), weakref.ref(part) if isinstance(part, type) else part.__code__))
    others = {name: _text(sorted(found)) for name, found in digests.items()}
    called = _only_called(first)
    of_called = _text([_digest(called)]) if called else ""
    return _Known(watch, others, sources_of(watch.functions(first), watch.classes()), of_called, parts)


def _read_part(part: Part) -> tuple[_Part, list[tuple[str, Part]]]:
    """What is in a part, and the parts that it names: what was found before, where it still holds."""
    known = _parts.get(id(part))
    if known is not None and known.itself() is part and known.watch.holds():
        alive = [(name, named) for name, reference in known.named if (named := reference()) is not None]
        if len(alive) == len(known.named):
            return known, alive
    watch = Watch()
    named = [*named_parts(part, watch)]
    digest = _digest(part)  # after it was read: what changes in between is noticed later
    found = _Part(weakref.ref(part), watch, tuple([(name, weakref.ref(other)) for name, other in named]), digest)
    if len(_parts) >= _MAX_KNOWN_PARTS:
        _parts.clear()
    _parts[id(part)] = found
    return found, named


def _only_called(first: Part) -> Part | None:
    """The user's function that a lambda only calls, with what its names hold: `lambda: f(x)` is the step `f` with `x` (D5)."""
    path = only_call(first.__code__) if isinstance(first, types.FunctionType) and first.__name__ == "<lambda>" else ()
    if not path or not isinstance(first, types.FunctionType):
        return None
    value = named_values(first).get(path[0])
    for attribute in path[1:]:
        value = content_of(value).get(attribute) if is_namespace(value) else None
    called = part_of(value) if callable(value) else None
    return called if called is not None and called is not first and is_users(called) else None


def _text(digests: list[bytes]) -> str:
    return f"{_VERSION}:{_combined(digests).hex()}"


@functools.lru_cache(maxsize=1024)
def _fingerprint_of_name(name: str) -> dict[str, str]:
    return {"": _text([name.encode()])}


def full_name(thunk: object, part: Part) -> str:
    """What a function or class of an installed package is called: `pandas.read_csv`."""
    named = thunk if isinstance(thunk, types.BuiltinFunctionType) else part
    return f"{named.__module__}.{named.__qualname__}"


def _digest(part: Part) -> bytes:
    if isinstance(part, types.FunctionType):
        return _function_digest(part.__code__, _defaults_text(part))
    pieces = [repr([base.__qualname__ for base in part.__bases__]).encode()]
    methods, state = methods_in(vars(part)), set_attributes(part)
    for name, value in sorted(vars(part).items()):
        plain = member_value(value) if isinstance(value, enum.Enum) else value
        if not (name.startswith("__") and name.endswith("__")) and name not in state and is_plain(plain):
            pieces.append(f"{name}={constant_text(plain)}".encode("utf-8", "surrogatepass"))
    for name, default, _ in declared_fields(part):
        if is_plain(default):
            pieces.append(f"{name}={constant_text(default)}".encode("utf-8", "surrogatepass"))
    for name, method in sorted(methods.items()):
        pieces += [name.encode(), _digest(method)]
    return _combined(pieces)


@functools.lru_cache(maxsize=4096)
def _function_digest(code: types.CodeType, defaults: str) -> bytes:
    return _combined([code_digest(code), defaults.encode("utf-8", "surrogatepass")])


def _defaults_text(function: types.FunctionType) -> str:
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


def _combined(pieces: list[bytes]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for piece in pieces:
        digest.update(len(piece).to_bytes(4, "little") + piece)
    return digest.digest()
