"""`mmap_mode=` of a `joblib.Memory`: its arrays come as `numpy.memmap`, as joblib's own would."""

from __future__ import annotations

import sys
from typing import Any, Final, cast

MODES: Final = (None, "r", "r+", "w+", "c")


def as_mapped(value: Any, mode: str | None) -> Any:
    """A fresh value whose arrays are maps: read-only with mode "r", else the caller's own, changed in memory only.

    Arrays in lists, tuples and dicts count too; those of objects stay as they are.
    """
    numpy: Any = sys.modules.get("numpy")
    return value if mode is None or numpy is None else _mapped(value, numpy, read_only=mode == "r")


def _mapped(value: Any, numpy: Any, *, read_only: bool) -> Any:
    if type(value) is numpy.ndarray and not value.dtype.hasobject:
        array = value.view(numpy.memmap)
        array.flags.writeable = not read_only and value.flags.writeable
        array.mode = "r" if read_only else "c"
        return array
    if type(value) is list:
        value[:] = [_mapped(one, numpy, read_only=read_only) for one in cast("list[Any]", value)]
    elif type(value) is dict:
        named = cast("dict[Any, Any]", value)
        named.update({name: _mapped(one, numpy, read_only=read_only) for name, one in named.items()})
    elif type(value) is tuple:
        return tuple(_mapped(one, numpy, read_only=read_only) for one in cast("tuple[Any, ...]", value))
    return value
