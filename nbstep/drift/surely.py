"""Whether a step's inputs are certainly what its entry knows: most look-ups, in a tenth of the time that reading them takes.

"No" says nothing. Of plain values that global names hold, only whether they are the same objects as when they last agreed is
looked at: they cannot change in place.
"""

from __future__ import annotations

import time
import types
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from nbstep.cache.trust import SigningKey
from nbstep.drift.inputs import SIGNER
from nbstep.drift.reading import BUDGET_S
from nbstep.drift.seen import Seen
from nbstep.drift.sources import GLOBAL, UNBOUND, Source, Sources, read_source
from nbstep.drift.values import Texts, texts_of

_AGREED_AT_MOST: Final = 4


class _Agreed(NamedTuple):
    """Plain inputs that were what an entry knows of them.

    Attributes:
        labels: The names of all inputs but arguments, that of the signer among them.
        texts: What the entry knows of each, None where it knows nothing.
        known: Of how many it knows.
        names: The global names that hold plain values, with these, by what gives a function of their namespace; None is the thunk.
        rest: The inputs that are read each time.
    """

    labels: tuple[str, ...]
    texts: tuple[str | None, ...]
    known: int
    names: tuple[tuple[Callable[[], Any] | None, tuple[tuple[str, object], ...]], ...]
    rest: tuple[Source, ...]


def surely_same(kept: Mapping[str, str], thunk: Any, args: tuple[Any, ...], seen: Seen, key: SigningKey) -> bool:
    """Whether all inputs that an entry knows are as they were.

    What the entry does not know does not count: neither state is read, nor is a file looked up where it names none.
    """
    if type(thunk) is not types.FunctionType:
        return False
    if len(kept) == 1:  # most steps have no inputs
        return kept.get(SIGNER) == key.id
    code, make, large = thunk.__code__, texts_of(key.secret), list[tuple[Any, str]]()
    if len(args) > code.co_argcount:
        return False
    sources = seen.found.compared
    first: Any = seen.first
    agreed = sources.agreed.get(key.id)
    if agreed is None or not _holds(agreed, kept, first):
        agreed = _agree(kept, sources, first, key, make)
        if agreed is None:
            return False
    same = agreed.known
    for name, value in zip(code.co_varnames, args):  # noqa: B905 - there are more names than arguments
        text = kept.get(name)
        if text is not None:
            same += 1
            plain = make.of_plain(value)
            if plain is None:
                large.append((value, text))
            elif plain != text:
                return False
    if same != len(kept):
        return False
    for source in agreed.rest:
        value, text = read_source(source, first), kept[source.label]
        plain = make.of_plain(value)
        if plain is None:
            large.append((value, text))
        elif plain != text:
            return False
    return not large or _same_large(large, make)


def _holds(agreed: _Agreed, kept: Mapping[str, str], first: Any) -> bool:
    """Whether an entry knows the same, and the names hold the very objects that they did."""
    if (*map(kept.get, agreed.labels),) != agreed.texts:
        return False
    for reference, names in agreed.names:
        function: Any = first if reference is None else reference()
        if function is None:
            return False
        get = function.__globals__.get
        for name, value in names:
            if get(name, UNBOUND) is not value:
                return False
    return True


def _agree(kept: Mapping[str, str], sources: Sources, first: Any, key: SigningKey, make: Texts) -> _Agreed | None:
    """Reads what global names hold; None where something plain is not what the entry knows."""
    if kept.get(SIGNER) != key.id:
        return None
    labels = (SIGNER, *(source.label for source in sources.inputs))
    texts = (*map(kept.get, labels),)
    names: dict[int | None, tuple[Callable[[], Any] | None, list[tuple[str, object]]]] = {}
    rest: list[Source] = []
    for source, text in zip(sources.inputs, texts[1:], strict=True):
        if text is None:
            continue
        function: Any = None if source.function is None else source.function()
        value = read_source(source, first)
        plain = make.of_plain(value) if source.cell == GLOBAL and len(source.path) == 1 else None
        if plain is None:
            rest.append(source)
        elif plain != text:
            return None
        else:
            scope = None if function is None else id(function.__globals__)
            names.setdefault(scope, (source.function, []))[1].append((source.path[0], value))
    known = len(texts) - texts.count(None)
    agreed = _Agreed(labels, texts, known, tuple((by, tuple(held)) for by, held in names.values()), tuple(rest))
    if len(sources.agreed) >= _AGREED_AT_MOST:
        sources.agreed.clear()
    sources.agreed[key.id] = agreed
    return agreed


def _same_large(values: list[tuple[Any, str]], make: Texts) -> bool:
    """Whether what is not plain is as it was; unknown where that takes longer than it may."""
    ends_ns = 0
    for value, text in values:
        found = make.of_flat(value)
        if found is None:
            now_ns = time.thread_time_ns()
            if ends_ns and now_ns > ends_ns:
                return False
            ends_ns = ends_ns or now_ns + int(BUDGET_S * 1e9)
            found = make.of(value)
        if found != text:
            return False
    return True
