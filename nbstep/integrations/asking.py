"""Who in joblib asks its store, seen from there: the function's code, and what the call was before joblib says so.

Both stand in the frame that asks. Where a joblib to come has other frames, results bear no code, and wait for what joblib says.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from types import CodeType, FrameType, NoneType
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

from joblib.func_inspect import filter_args
from joblib.memory import MemorizedFunc

from nbstep.foreign import interrupts
from nbstep.integrations.callfacts import Code, code_of

_SCALARS: Final = frozenset({bool, bytes, complex, float, int, str, NoneType})
_LISTS: Final = frozenset({frozenset, list, set, tuple})
# Of these a `repr` is a package's, not the user's.
_PACKAGES: Final = frozenset(
    {"datetime", "decimal", "fractions", "numpy", "pandas", "pathlib", "polars", "pyarrow", "scipy", "torch", "uuid"}
)
_DEPTH: Final = 4
_MIXED_AT_MOST: Final = 100  # things of a list that are looked at one by one

_codes: WeakKeyDictionary[Any, tuple[CodeType | None, Code]] = WeakKeyDictionary()


def code_asking(frame: FrameType) -> Code | None:
    """The code of the function whose call asks; None where that is no call, as with a reference to a result.

    joblib compares a function's code once a process, whatever the location, and tells no other store of it. As it does, this
    reads the text once: the file may be edited under a running kernel.
    """
    asking: Any = frame.f_locals.get("self")
    if not isinstance(asking, MemorizedFunc):
        return None
    function, compiled = cast("Any", asking).func, getattr(cast("Any", asking).func, "__code__", None)
    try:
        known = _codes.get(function)
        if known is None or known[0] is not compiled:
            known = _codes[function] = compiled, code_of(asking.func_code_info[0])
    except TypeError:  # a callable without a hash
        return code_of(asking.func_code_info[0])
    return known[1]


def told_ahead(frame: FrameType) -> dict[str, Any] | None:
    """What joblib is about to say of a call that ended; None where it can be waited for, as no code of the user's comes between.

    To say it joblib takes the `repr` of each argument: one that raises ends the call, and one that calls a function that is kept
    comes back here first.
    """
    asking: Any = frame.f_locals.get("self")
    args, kwargs = frame.f_locals.get("args"), frame.f_locals.get("kwargs")
    if not isinstance(asking, MemorizedFunc) or args is None or kwargs is None or _is_plain([*args, *kwargs.values()]):
        return None
    now = time.time()
    arguments = cast("Mapping[str, Any]", filter_args(cast("Any", asking).func, asking.ignore, args, kwargs))
    texts = {name: text for name, given in arguments.items() if (text := _text_of(given)) is not None}
    return {"duration": now - frame.f_locals.get("start_time", now), "input_args": texts, "time": now}


def _text_of(argument: object) -> str | None:
    try:
        return repr(argument)
    except interrupts():
        raise
    except BaseException:  # noqa: BLE001 - joblib meets it again, and raises it
        return None


def _is_plain(given: Any, depth: int = _DEPTH) -> bool:
    """Whether the `repr` of something certainly calls no code of the user's."""
    kind: type = type(given)
    if kind in _SCALARS:
        return True
    if kind is dict:
        return _are_plain(given, depth) and _are_plain(given.values(), depth)
    if kind in _LISTS:
        return _are_plain(given, depth)
    return kind.__module__.partition(".")[0] in _PACKAGES


def _are_plain(things: Iterable[Any], depth: int) -> bool:
    if _SCALARS.issuperset(map(type, things)):
        return True
    few = list(things)
    return depth > 0 and len(few) <= _MIXED_AT_MOST and all(_is_plain(one, depth - 1) for one in few)
