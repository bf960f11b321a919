"""Errors that a thunk returned and that are no exceptions: kept as values are, without the secrets that exceptions lose."""

from __future__ import annotations

import enum
import functools
import pickle
import types
from collections.abc import Callable
from typing import Any, Final

from nbstep.cache import pickled
from nbstep.cache.failures import web
from nbstep.cache.failures.failure import take_apart
from nbstep.cache.failures.reduction import cleaned
from nbstep.cache.secrets.cleaning import Cleaner, Shown
from nbstep.cache.secrets.surroundings import redaction_of
from nbstep.cache.serializer import Serialized, ValuePickler, serialize
from nbstep.errors import CachedError

_BY_NAME: Final = (type, types.FunctionType, types.BuiltinFunctionType, enum.Enum)
# Tables and arrays: large, and no request is in there.
_TABLES: Final = frozenset({"numpy", "pandas", "polars", "pyarrow", "scipy", "torch"})


def take_returned(value: Any, redact: Callable[[str], str] | None, made_by: Any = None) -> tuple[Serialized, Shown]:
    """A returned error as bytes, and what takes its secrets out of the texts that are written beside it.

    Args:
        value: What the thunk returned in its `Err`; it stays as it is.
        redact: The user's own redaction, applied to its texts after ours.
        made_by: The thunk: it may know of the requests that the error came from.

    Raises:
        NotSerializable: It cannot be pickled.
    """
    shown = redaction_of((), (value, made_by), redact)
    return serialize(Cleaner(shown).clean(value), functools.partial(_ReturnedPickler, shown=shown)), shown


class _ReturnedPickler(ValuePickler):
    """Pickles a value; requests and responses are reduced, and what objects hold is cleaned."""

    def __init__(self, file: Any, buffer_callback: Any = None, *, shown: Shown) -> None:
        super().__init__(file, buffer_callback)
        self._shown, self._cleaner = shown, Cleaner(shown)

    def reducer_override(self, obj: Any) -> Any:
        """Called for every object but the plainest; plain containers were cleaned before."""
        kind = type(obj)
        reduced = self._error(obj) if issubclass(kind, BaseException) else web.reduced(obj, self._cleaner.clean)
        if reduced is not None:
            self.modules.add(kind.__module__)
            return reduced
        reduced = super().reducer_override(obj)
        if reduced is not NotImplemented or issubclass(kind, _BY_NAME) or kind.__module__.partition(".")[0] in _TABLES:
            return reduced
        return cleaned(obj, self.dispatch_table.get(kind), self._cleaner)

    def _error(self, error: BaseException) -> Any:
        taken = take_apart(error, self._shown)
        record = pickle.loads(taken.stream)
        if record is None:
            return CachedError, (taken.text.type, taken.text.message, taken.text.traceback)
        return pickled.rebuilt_error, (record,)
