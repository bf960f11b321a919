"""Who in joblib asks its store, seen from there: the function's code, and what the call was before joblib says so.

Both stand in the frame that asks. Where a joblib to come has other frames, results bear no code, and wait for what joblib says.
"""

from __future__ import annotations

import itertools
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
_HOLDERS: Final = frozenset({dict, frozenset, list, set, tuple})
# Of these a `repr` is a package's, not the user's.
_PACKAGES: Final = frozenset(
    {"datetime", "decimal", "fractions", "numpy", "pandas", "pathlib", "polars", "pyarrow", "scipy", "torch", "uuid"}
)
_DEPTH: Final = 4
_LOOKED_AT: Final = 100  # things of a list of lists: a `repr` of very many is rather waited for than taken twice

_codes: WeakKeyDictionary[Any, tuple[CodeType, Code]] = WeakKeyDictionary()


def code_asking(frame: FrameType) -> Code | None:
    """The code of the function whose call asks; None where that is no call, as with a reference to a result.

    joblib compares a function's code once a process, whatever the location, and tells no other store of it. As it does, this
    reads the text once: the file may be edited under a running kernel.
    """
    asking: Any = frame.f_locals.get("self")
    if not isinstance(asking, MemorizedFunc):
        return None
    function, compiled = cast("Any", asking).func, getattr(cast("Any", asking).func, "__code__", None)
    if compiled is None:  # an object that is called: joblib takes its `repr`, which may change
        return code_of(asking.func_code_info[0])
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
    if (
        not isinstance(asking, MemorizedFunc)
        or args is None
        or kwargs is None
        or not _holds_theirs([*args, *kwargs.values()])
    ):
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


def _holds_theirs(things: Iterable[Any], depth: int = _DEPTH) -> bool:
    """Whether among things, as far as they are looked through, is one whose `repr` may call code of the user's."""
    if any(_is_theirs(kind) for kind in set(map(type, things))):
        return True
    return depth > 0 and any(_has_inside(one, depth - 1) for one in itertools.islice(things, _LOOKED_AT))


def _is_theirs(kind: type) -> bool:
    return kind not in _SCALARS and kind not in _HOLDERS and kind.__module__.partition(".")[0] not in _PACKAGES


def _has_inside(one: Any, depth: int) -> bool:
    if type(one) is dict:
        return _holds_theirs(one, depth) or _holds_theirs(one.values(), depth)
    if type(one) in _HOLDERS:
        return _holds_theirs(one, depth)
    return bool(getattr(getattr(one, "dtype", None), "hasobject", False))  # an array
