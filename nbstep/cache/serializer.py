"""Values to bytes and back: cloudpickle, protocol 5, large buffers out of band."""

from __future__ import annotations

import io
import pickle
import sys
import types
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any, Final

import cloudpickle

from nbstep.cache import culprit, losses, pickled
from nbstep.cache.classes import class_fingerprint, content_of_cell
from nbstep.foreign import interrupts
from nbstep.frozen import record
from nbstep.stores.base import Part

BUFFER_FROM_BYTES: Final = 64 * 1024
_BUFFERS_AT_MOST: Final = 2000
_ALWAYS_THERE: Final = sys.stdlib_module_names | {"__main__", "builtins", "nbstep", "__mp_main__"}
# A response brings along the request that led to it, with the user's credentials in its headers: none are written.
_REQUESTS: Final = {("requests.models", "PreparedRequest"), ("httpx", "Request"), ("httpx2", "Request")}


@record
class Serialized:
    """A value as bytes.

    Attributes:
        stream: The pickle stream.
        buffers: Its out-of-band buffers; they are the value's own memory.
        packages: Versions of the packages the stream names.
        by_value: It holds the code of functions or classes.
    """

    stream: bytes
    buffers: list[memoryview]
    packages: dict[str, str]
    by_value: bool


class NotSerializable(ValueError):  # noqa: N818 - the name says what happened
    """A value cannot be kept; the message names the part of it that cannot."""


def serialize(value: Any, pickler_of: Callable[..., ValuePickler] | None = None) -> Serialized:
    """Pickles a value.

    Args:
        value: The value.
        pickler_of: Makes the pickler, of a stream and of what takes buffers; left out, a `ValuePickler`.

    Raises:
        NotSerializable: It cannot be pickled; the message names the culprit: "result['lock'] is a _thread.lock, …".
    """
    buffers: list[memoryview] = []

    def in_band(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < BUFFER_FROM_BYTES or len(buffers) >= _BUFFERS_AT_MOST:
            return True
        buffers.append(raw)
        return False

    stream = io.BytesIO()
    pickler = (pickler_of or ValuePickler)(stream, in_band)
    try:
        pickler.dump(value)
    except interrupts():
        raise
    except BaseException as error:
        raise NotSerializable(culprit.explain(value, error, _probe)) from error
    return Serialized(stream.getvalue(), buffers, package_versions(pickler.modules), pickler.by_value)


def can_be_kept(value: Any) -> bool:
    """Whether a value can be pickled; buffers are left out, so that large arrays cost nothing."""
    return _probe(value) is None


def deserialize(stream: bytes, buffers: Sequence[Part]) -> Any:
    """A fresh value out of verified bytes; arrays in it are writable where `buffers` are."""
    return pickle.loads(stream, buffers=buffers)


def is_open_text(obj: object) -> bool:
    """Whether cloudpickle would put a copy of its text in its place; the streams of a process go by name."""
    return isinstance(obj, io.TextIOWrapper) and obj not in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)


class ValuePickler(cloudpickle.Pickler):
    """cloudpickle, which also rebinds the notebook's classes and notes what the stream will need to be loaded.

    Attributes:
        modules: The modules whose names the stream uses.
        by_value: The stream holds the code of functions or classes.
    """

    def __init__(self, file: Any, buffer_callback: Any = None) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffer_callback)
        self.modules: set[str] = set()
        self.by_value = False
        self._served: set[type] = (
            set()
        )  # classes that come along with their instances, or with functions that name them

    def reducer_override(self, obj: Any) -> Any:
        """Called for every object but the plainest."""
        kind = type(obj)
        if issubclass(kind, type):
            return self.reduce_class(obj)
        module = kind.__module__
        if isinstance(module, str):
            self.modules.add(module)
            if module == "__main__":
                self._served.add(kind)
        if (module, kind.__name__) in _REQUESTS:
            return pickled.http_request, (module.partition(".")[0], obj.method, str(obj.url))
        whole = losses.reduced(obj)
        if whole is not None:
            return whole
        if kind is types.FunctionType:
            return self._reduce_function(obj)
        if is_open_text(obj):
            raise pickle.PicklingError("cannot pickle an open file")  # cloudpickle would keep a copy of its text
        return super().reducer_override(obj)

    def _reduce_function(self, function: types.FunctionType) -> Any:
        reduced: Any = super().reducer_override(function)
        self._note(function, reduced)
        if reduced is not NotImplemented:
            _, (_, state) = reduced[1:3]
            named = [*state["__globals__"].values(), *map(content_of_cell, function.__closure__ or ())]
            self._served.update(value for value in named if isinstance(value, type))
        return reduced

    def reduce_class(self, cls: type) -> Any:
        """A class: by name where it can be imported; by value, to be rebound on load, where it cannot."""
        reduced = super().reducer_override(cls)
        if reduced is NotImplemented or len(reduced) == 6:
            self._note(cls, reduced)
        if reduced is NotImplemented or len(reduced) != 6 or cls.__module__ != "__main__":
            return reduced
        maker, args, state, items, pairs, _ = reduced
        if issubclass(cls, BaseException):
            mark = pickled.ANY_VERSION
        elif cls in self._served:
            mark = pickled.OF_INSTANCES + class_fingerprint(cls)
        else:
            mark = class_fingerprint(cls, state=True)
        rebound = (cls.__qualname__, mark, maker, args)
        return pickled.live_or_made_class, rebound, state, items, pairs, pickled.set_class_state

    def _note(self, obj: Any, reduced: Any) -> None:
        if reduced is NotImplemented:
            if isinstance(obj.__module__, str):
                self.modules.add(obj.__module__)
        else:
            self.by_value = True
            self.modules.add("cloudpickle")


def package_versions(modules: set[str]) -> dict[str, str]:
    """Versions of the installed packages that `modules` belong to.

    >>> sorted(package_versions({"json.decoder", "cloudpickle.cloudpickle"}))
    ['cloudpickle']
    """
    versions: dict[str, str] = {}
    for root in sorted({module.partition(".")[0] for module in modules} - _ALWAYS_THERE):
        version = getattr(sys.modules.get(root), "__version__", None)
        if not isinstance(version, str):
            try:
                version = metadata.version(root)
            except (metadata.PackageNotFoundError, ValueError):
                continue
        versions[root] = version[:100]
    return versions


def _leave_out(_: pickle.PickleBuffer) -> bool:
    return False


class _Nowhere(io.RawIOBase):
    def write(self, part: Any) -> int:
        return len(part)


def _probe(value: Any) -> BaseException | None:
    """The error that pickling `value` raises; buffers are left out, so that large arrays cost nothing."""
    try:
        ValuePickler(_Nowhere(), _leave_out).dump(value)
    except interrupts():
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a foreign object raises when it is pickled
        return error
    return None
