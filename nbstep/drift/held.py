"""What a value holds that is code: the functions in a list or a dict, those that a partial binds, the cases of a generic function.

Of a list or a dict only where all in it is code or plain, and the code holds nothing else: it is remembered, and so kept alive.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from nbstep.drift.plain import is_plain

_MAX_HELD: Final = 64
_MAX_DEPTH: Final = 4
_CONTAINERS: Final = frozenset({list, tuple, dict})
_CODE: Final = (types.FunctionType, type, functools.partial)


def held_code(value: object) -> tuple[tuple[str, Any], ...]:
    """The functions and classes that a value holds, each with where: in `OPS`, `["add"]`."""
    kind, given = type(value), cast("Any", value)
    if kind in _CONTAINERS:
        return _in_a_container(given) if 0 < len(given) <= _MAX_HELD else ()
    if kind is functools.partial:
        return tuple([("", item) for item in (*given.args, *given.keywords.values()) if isinstance(item, _CODE)])
    if kind is types.FunctionType and given.__closure__:  # of `functools.singledispatch`: its cases
        cases: object = given.__dict__.get("registry")
        if isinstance(cases, types.MappingProxyType):
            return tuple(
                [("", case) for case in cast("Mapping[object, Any]", cases).values() if isinstance(case, _CODE)]
            )
    return ()


def _in_a_container(value: Any) -> tuple[tuple[str, Any], ...]:
    items: Any = value.values() if type(value) is dict else value
    if not any(isinstance(item, _CODE) for item in items) or not all(map(_is_light, items)):
        return ()
    pairs: Iterator[tuple[Any, Any]] = iter(value.items()) if type(value) is dict else enumerate(value)
    return tuple(
        [(f"[{at!r}]" if type(at) in (str, int) else "", item) for at, item in pairs if isinstance(item, _CODE)]
    )


def _is_light(value: object, depth: int = 0) -> bool:
    """Whether a value is plain, or code that holds nothing that is not."""
    if isinstance(value, functools.partial):
        inside: list[Any] = [value.func, *value.args, *value.keywords.values()]
    elif isinstance(value, types.FunctionType):
        try:
            inside = [cell.cell_contents for cell in value.__closure__ or ()]
        except ValueError:  # an empty one
            return False
    else:
        return isinstance(value, type) or is_plain(value)
    return depth < _MAX_DEPTH and all(_is_light(item, depth + 1) for item in inside)
