"""What tells, without reading inputs again, that they are what they were.

Most can change only by being replaced. A small list or dict of plain values can change in place, and is compared by its content.
"""

from __future__ import annotations

import functools
import marshal
import types
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

from nbstep.drift.plain import is_plain
from nbstep.drift.sources import Source, read_source

ANY: Final = object()
STATE: Final = object()
# What is larger is not held on to only to tell that it is still there.
_MAX_CHARS: Final = 1 << 16
_MAX_ITEMS: Final = 64
_MAX_TEXT_CHARS: Final = 1024  # of one in a list or a dict


class Content(NamedTuple):
    """What a small container of plain values holds.

    Attributes:
        marshalled: All of it, by value and type, and in its order.
        paths: The texts in it that may name files.
    """

    marshalled: bytes
    paths: tuple[str, ...]


class Lasting(NamedTuple):
    """By what such inputs are known.

    Attributes:
        thunk: The thunk.
        arguments: What tells its arguments, as `argument_sight` gives it.
        names: Of each source the type of what it held, and that object itself; `ANY` where the type alone counts, `STATE` where
            nothing does, a `Content` of what can change in place.
    """

    thunk: Any
    arguments: tuple[type | bytes, ...]
    names: Sequence[tuple[Source, type, object]]

    def holds(self, thunk: Any, args: tuple[Any, ...], first: Any) -> bool:
        """Whether they are the same; `first` is what stands for the thunk's own code."""
        same = self.thunk is thunk and self.arguments == lasting_arguments(thunk, args)
        return same and held_again(self.names, first) is not None


def held_again(names: Sequence[tuple[Source, type, object]], first: Any) -> list[Any] | None:
    """What sources hold now, where that is what they were seen to hold, as in `Lasting`."""
    found = [read_source(source, first) for source, _, _ in names]
    for now, (_, kind, value) in zip(found, names):  # noqa: B905 - they are of one length
        if now is value or value is STATE:
            continue
        if type(now) is not kind or not (
            value is ANY or (type(value) is Content and marshalled(now) == value.marshalled)
        ):
            return None
    return found


def are_same(names: Sequence[tuple[Source, type, object]], others: Sequence[tuple[Source, type, object]]) -> bool:
    """Whether of the same sources the same was seen; no `==` of the user's runs."""
    return len(names) == len(others) and all(
        one[0] is other[0]
        and one[1] is other[1]
        and (one[2] is other[2] or (type(one[2]) is type(other[2]) is Content and one[2] == other[2]))
        for one, other in zip(names, others)  # noqa: B905 - as above
    )


def marshalled(value: Any) -> bytes | None:
    """All that a small container of plain values holds; None of anything else."""
    left = _MAX_ITEMS
    inside: list[Any] = [value]
    while inside:
        part = inside.pop()
        kind = type(part)
        if kind is str or kind is bytes:
            if len(part) > _MAX_TEXT_CHARS:
                return None
        elif _is_container(kind):
            left -= len(part) + 1
            if left < 0:
                return None
            try:
                inside += part
                if kind is dict:
                    inside += part.values()
            except RuntimeError:  # another thread changes it
                return None
        elif kind is not int and kind is not float and kind is not bool and part is not None:
            return None
    try:
        return marshal.dumps(value, 2)  # a later version says which parts are one object, which is no content
    except ValueError:  # another thread put something else into it
        return None


def argument_sight(value: Any) -> type | bytes:
    """What tells that an argument of a call still is what it was: all that a small container holds, else its type."""
    kind = type(value)
    return (marshalled(value) or kind) if _is_container(kind) else kind


def _is_container(kind: type) -> bool:
    """Not by a set: the class of a class may have no hash."""
    return kind is dict or kind is list or kind is tuple or kind is set or kind is frozenset


def lasting_arguments(thunk: Any, args: tuple[Any, ...]) -> tuple[type | bytes, ...] | None:
    """What tells what a function or a method is called with; None where something else may take the place of one."""
    while type(thunk) is not types.FunctionType:
        if type(thunk) is types.MethodType:
            args, thunk = (thunk.__self__, *args), thunk.__func__
        elif type(thunk) is functools.partial and not thunk.keywords:
            args, thunk = (*thunk.args, *args), cast("Any", thunk.func)
        else:
            return None
    if thunk.__defaults__ and not is_plain(thunk.__defaults__):
        return None
    return (*map(argument_sight, args),)


def cannot_change(value: Any, kind: type) -> bool:
    """Whether a value that is no scalar is the same as long as it is the same object."""
    if kind is str or kind is bytes:
        return len(value) <= _MAX_CHARS
    return (kind is tuple or kind is frozenset) and len(value) <= _MAX_ITEMS and is_plain(value)
