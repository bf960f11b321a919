"""Objects of which pickle alone would lose a part, or that it would not take: how they are written so that they come back whole."""

from __future__ import annotations

import functools
import pickle
import sys
from typing import Any, Final

from nbstep.cache import pickled
from nbstep.foreign import own

_SCALARS: Final = frozenset({str, bytes, int, float, bool, type(None)})
_CONTAINERS: Final = frozenset({tuple, list, dict, set, frozenset})
_DEPTH_AT_MOST: Final = 10
_Cached: Final = type(functools.lru_cache(lambda: None))
# What NumPy's own pickles hold of a masked array, or make anew.
_HELD_OF_MASKED: Final = frozenset({"_mask", "_fill_value", "_sharedmask", "_isfield", "_baseclass", "_basedict"})


def reduced(obj: Any) -> Any:
    """How such an object is pickled; None for any other object.

    Raises:
        pickle.PicklingError: A memoryview of elements that only its exporter understands.
    """
    kind = type(obj)
    if issubclass(kind, BaseException):
        return _error(obj)
    if kind is memoryview:
        return _memory(obj)
    if kind is functools.cached_property:
        return pickled.cached_property, (obj.func, obj.attrname, obj.__doc__)
    if kind is _Cached and (obj.__module__ == "__main__" or "<locals>" in obj.__qualname__):
        return pickled.lru_cached, (obj.__wrapped__, obj.cache_parameters())
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and kind is not numpy.ndarray and issubclass(kind, numpy.ndarray):
        return _array(obj, numpy)
    return None


def _error(error: BaseException) -> Any:
    """An error among other values, as `gather(…, return_exceptions=True)` gives them: kept as one that was raised (E4)."""
    linked = [own(error, name) for name in ("__cause__", "__context__") if own(error, name) is not None]
    builtin = type(error).__module__ == "builtins" and not isinstance(error, BaseExceptionGroup)
    if builtin and not linked and not own(error, "__dict__") and not _tells_a_secret(error):
        return None
    from nbstep.cache.failures import failure  # with what it needs 50 ms

    record = pickle.loads(failure.take_apart(error).stream)
    return None if record is None else (pickled.rebuilt_error, (record,))


def _tells_a_secret(error: BaseException) -> bool:
    """Whether plain contents that a builtin error was made of hold a secret (T10)."""
    from nbstep.cache.secrets.cleaning import Cleaner
    from nbstep.cache.secrets.redaction import redact_text

    contents = error.__reduce__()[1]
    return _is_plain(contents, 0) and Cleaner(redact_text).clean(contents) != contents


def _is_plain(value: Any, depth: int) -> bool:
    kind = type(value)
    if kind in _CONTAINERS and depth < _DEPTH_AT_MOST:
        items = [*value, *value.values()] if kind is dict else value
        return all(_is_plain(item, depth + 1) for item in items)
    return kind in _SCALARS


def _memory(view: memoryview[Any]) -> Any:
    """A memoryview of numbers; cloudpickle would make plain bytes of it, whose items are others."""
    try:
        memoryview(bytes(view.itemsize)).cast(view.format)  # type: ignore[call-overload]  # pyright: ignore
    except (TypeError, ValueError):
        raise pickle.PicklingError(f"cannot pickle a memoryview of format {view.format!r}") from None
    content = pickle.PickleBuffer(view if view.c_contiguous else _copied(view))
    return pickled.memory_view, (content, view.format, view.shape, view.readonly)


def _copied(view: memoryview[Any]) -> bytes | bytearray:
    return view.tobytes() if view.readonly else bytearray(view.tobytes())


def _array(array: Any, numpy: Any) -> Any:
    """An array of a class with attributes, which NumPy leaves out: `info`, `unit`, and that a mask is hard."""
    kind = type(array)
    made_by = next(base for base in (numpy.ma.MaskedArray, numpy.ndarray) if issubclass(kind, base))
    pickles_itself = any(
        getattr(kind, name) is not getattr(made_by, name) for name in ("__reduce__", "__reduce_ex__", "__setstate__")
    )
    if pickles_itself or issubclass(kind, numpy.memmap):
        return None
    left_out = {name: value for name, value in getattr(array, "__dict__", {}).items() if name not in _HELD_OF_MASKED}
    if not any(left_out.values() if made_by is not numpy.ndarray else left_out):
        return None
    func, args, state = array.__reduce_ex__(5)
    return func, args, (state, left_out), None, None, pickled.set_array_state
