"""What is behind a call of a thunk: also behind the functions that it is handed, as in `step(apply, tidy, rows)`."""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from nbstep.drift.code import look_behind
from nbstep.drift.parts import is_users, label_of, part_of
from nbstep.drift.pieces import exact_text
from nbstep.drift.seen import CALLS, Behind, Digests, NamedText, Seen
from nbstep.drift.sources import Source, Sources

_MAX_HANDED = 16


def look_behind_call(thunk: Any, args: tuple[Any, ...]) -> Seen:
    """The code fingerprint, and where the inputs are, of a thunk and of the functions among its arguments and defaults."""
    seen = look_behind(thunk)
    if type(thunk) is types.FunctionType and thunk.__kwdefaults__ is None:
        given = args if thunk.__defaults__ is None else (*args, *thunk.__defaults__)
        if not any(map(callable, given)):
            return seen  # most are
    handed = [value for value in _given(thunk, args) if callable(value)]
    for value in handed[:_MAX_HANDED]:
        part = part_of(value)
        if part is not seen.first and is_users(part):
            seen = _joined(seen, look_behind(value), label_of(type(value).__name__, part))
    return seen


def _given(thunk: Any, args: tuple[Any, ...]) -> Iterator[Any]:
    yield from args
    while isinstance(thunk, functools.partial):
        yield from thunk.args
        yield from thunk.keywords.values()
        thunk = thunk.func
    if isinstance(thunk, types.FunctionType):
        yield from thunk.__defaults__ or ()
        yield from (thunk.__kwdefaults__ or {}).values()


def _joined(seen: Seen, handed: Seen, name: str) -> Seen:
    """Both; what of them bears one name is the first's."""
    seen, handed = seen.settled(), handed.settled()
    part = handed.first
    text: NamedText = name, weakref.ref(part) if isinstance(part, type) else part.__code__
    sources = seen.sources
    known = {source.label for source in sources.inputs}
    exact = exact_text([seen.fingerprint.exact, handed.fingerprint.exact, name], b"")

    def texts() -> dict[str, str]:
        own, _, _ = handed.code.get("", "").partition(CALLS)
        return {name: own, **handed.code, **seen.code}

    both = Sources(
        (*sources.inputs, *_others(handed.sources.inputs, part, known)),
        (*sources.callables, *_others(handed.sources.callables, part, set())),
        (*sources.codes, *handed.sources.codes),
        (*sources.files, *handed.sources.files),
    )
    return seen._replace(fingerprint=Digests(exact, texts), found=Behind(both, (*seen.parts, text, *handed.parts)))


def _others(sources: Iterable[Source], first: Any, known: set[str]) -> Iterator[Source]:
    """The sources of a handed function, found without it being the thunk."""
    for source in sources:
        if source.label not in known:
            yield source if source.function is not None else source._replace(function=weakref.ref(first))
