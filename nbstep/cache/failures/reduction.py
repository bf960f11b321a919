"""The parts of an error as bytes: plain contents, requests and responses reduced, secrets and code left out."""

from __future__ import annotations

import dataclasses
import enum
import io
import pickle
import types
from collections.abc import Callable
from typing import Any, Final, cast

import cloudpickle

from nbstep.cache import pickled
from nbstep.cache.failures import web
from nbstep.cache.previews import class_text
from nbstep.cache.secrets.cleaning import Cleaner, Shown
from nbstep.foreign import interrupts

PART_BYTES_AT_MOST: Final = 8 * 1024 * 1024
# Connections, clients, loggers and the like: live machinery that would drag requests and credentials along.
_MACHINERY: Final = frozenset(
    {
        "_asyncio", "_io", "_queue", "_socket", "_ssl", "_thread", "aiohttp", "anyio", "asyncio", "boto3", "botocore", "concurrent",
        "contextvars", "h11", "h2", "http", "httpcore", "httpcore2", "httpx", "httpx2", "io", "logging", "multiprocessing",
        "queue", "requests", "select", "selectors", "socket", "ssl", "subprocess", "threading", "urllib", "urllib3", "weakref",
        "websockets",
    }
)  # fmt: skip
_CODE: Final = (
    types.MethodType,
    types.CodeType,
    types.ModuleType,
    types.FrameType,
    types.TracebackType,
    types.GeneratorType,
    types.CoroutineType,
)

Record = dict[str, Any]


def not_stored(value: Any) -> str:
    """What stands in the place of a part that cannot be written."""
    return f"<not stored: {class_text(type(value))}>"


class PartPickler(cloudpickle.Pickler):
    """Pickles one part of an error: no code, no live machinery, no request headers, no secrets.

    Args:
        file: Where the bytes go.
        record: Turns an exception inside the part into its record.
        shown: Takes everything secret out of a text.
        whole: The error whose part it is; where it stands in there, it will be itself.

    Attributes:
        left_out: What could not be written, by the names of its classes.
    """

    def __init__(
        self, file: Any, record: Callable[[BaseException], Record], shown: Shown, whole: BaseException | None = None
    ) -> None:
        super().__init__(file, protocol=5)
        self._record, self._whole = record, whole
        self._cleaner = Cleaner(shown)
        self.left_out: list[str] = []

    def persistent_id(self, obj: Any) -> str | None:
        """Called for every object: the error that it is a part of is not written once more."""
        return pickled.WHOLE if obj is self._whole and obj is not None else None

    def reducer_override(self, obj: Any) -> Any:
        """Called for every object but the plainest; plain containers were cleaned before."""
        if isinstance(obj, type):
            return self._class(obj)
        if isinstance(obj, BaseException):
            return pickled.rebuilt_error, (self._record(obj),)
        if isinstance(obj, types.FunctionType):
            by_name = super().reducer_override(obj) is NotImplemented
            return NotImplemented if by_name else self._without(obj)
        if isinstance(obj, types.BuiltinFunctionType):
            by_name = obj.__self__ is None or isinstance(obj.__self__, types.ModuleType | type)
            return NotImplemented if by_name else self._without(obj)
        if isinstance(obj, _CODE):
            return self._without(obj)
        if isinstance(obj, enum.Enum):
            return NotImplemented
        reduced = web.reduced(obj, self._cleaner.clean)
        if reduced is not None:
            return reduced
        if type(obj).__module__.partition(".")[0] in _MACHINERY:
            return self._without(obj)
        return cleaned(obj, self.dispatch_table.get(type(obj)), self._cleaner)

    def _without(self, obj: Any) -> Any:
        self.left_out.append(class_text(type(obj)))
        return str, (not_stored(obj),)

    def _class(self, cls: type) -> Any:
        reduced = super().reducer_override(cls)
        if reduced is NotImplemented or len(reduced) != 6:
            return reduced
        return pickled.notebook_class, (cls.__qualname__,)


def cleaned(obj: Any, reducer: Callable[[Any], Any] | None, cleaner: Cleaner) -> Any:
    """How an object is pickled with all that it holds cleaned: by its class's own way, or by the `reducer` of a pickler."""
    reduced = reducer(obj) if reducer is not None else obj.__reduce_ex__(5)
    if isinstance(reduced, str):
        return NotImplemented
    func, args, *rest = cast("tuple[Any, ...]", reduced)
    clean = cleaner.clean
    made_empty = getattr(func, "__name__", "") in {"__newobj__", "__newobj_ex__"}
    kept, args = (args[:1], args[1:]) if made_empty else ((), args)
    rest += [None] * (3 - len(rest))
    state, items, pairs = rest[:3]
    return (
        func,
        (*kept, *_fields(getattr(type(obj), "_fields", ()), args, cleaner)),
        _fields(_field_names(obj), state, cleaner) if type(state) is list else clean(state),
        None if items is None else (clean(item) for item in items),
        None if pairs is None else iter(clean(dict(pairs)).items()),
        *rest[3:],
    )


def _fields(names: Any, values: Any, cleaner: Cleaner) -> list[Any]:
    """Values of fields that stand without their names: of named tuples, and of dataclasses with slots."""
    if isinstance(names, tuple) and len(cast("tuple[Any, ...]", names)) == len(values):
        return [cleaner.named(name, value) for name, value in zip(names, values, strict=True)]
    return [cleaner.clean(value) for value in values]


def _field_names(obj: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(obj)) if dataclasses.is_dataclass(obj) else ()


def pickle_part(
    value: Any, record: Callable[[BaseException], Record], shown: Shown, whole: BaseException
) -> tuple[bytes, list[str]]:
    """One part of an error as bytes, and the classes of what is not in there.

    What cannot be pickled, or is very large, becomes a text that says so.
    """
    stream = io.BytesIO()
    pickler = PartPickler(stream, record, shown, whole)
    try:
        pickler.dump(Cleaner(shown).clean(value))
    except interrupts():
        raise
    except BaseException:  # noqa: BLE001 - whatever a foreign object raises when it is pickled
        stream.truncate(0)
    if 0 < len(stream.getbuffer()) <= PART_BYTES_AT_MOST:
        return stream.getvalue(), pickler.left_out
    return pickle.dumps(not_stored(value), protocol=5), [class_text(type(value))]
