"""What Python itself keeps of an exception, past whatever its class does when an attribute is read or set."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, cast


def put(error: BaseException, name: str, value: Any) -> None:
    """Sets what Python or a slot holds: frozen dataclasses refuse to be set in the usual way.

    Raises:
        AttributeError: The class has no such slot, or a read-only one.
        TypeError: The slot takes only other types.
    """
    for cls in type(error).__mro__:
        held: Any = vars(cls).get(name)
        if isinstance(held, types.MemberDescriptorType | types.GetSetDescriptorType):
            held.__set__(error, value)
            return
    raise AttributeError(name)


def slots(obj: Any) -> Iterator[tuple[str, Any]]:
    """What the classes of an object keep in `__slots__`, under the names the slots really have."""
    for cls in type(obj).__mro__:
        for name, member in list(vars(cls).items()) if cls.__module__ != "builtins" else ():
            if isinstance(member, types.MemberDescriptorType):
                try:
                    yield name, member.__get__(obj)
                except AttributeError:
                    continue  # never set


def attributes(obj: Any) -> Iterator[tuple[str, Any]]:
    """What an object holds in its `__dict__` and its slots; none of its code runs."""
    try:
        held = object.__getattribute__(obj, "__dict__")
    except AttributeError:
        held = None
    if isinstance(held, dict):
        yield from list(cast("dict[str, Any]", held).items())
    yield from slots(obj)
