"""Errors as records: what an `except` needs to catch and read them again, and nothing secret.

An exception is taken apart (class, args, attributes, notes, cause, context, group) and every part pickled by itself,
so that one part that cannot be kept does not cost the rest. It is rebuilt without calling its `__init__`.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from nbstep.cache import pickled
from nbstep.cache.pickled import BUILTIN_SLOTS
from nbstep.cache.records import ErrorText
from nbstep.cache.redaction import redact_text, scrub
from nbstep.cache.reduction import PartPickler, Record, harmless_headers, pickle_part, request_secrets
from nbstep.errors import CachedError
from nbstep.transience import transient

TRACEBACK_BYTES_AT_MOST: Final = 64 * 1024
_MESSAGE_CHARS: Final = 500
_DEPTH_AT_MOST: Final = 8
_MEMBERS_AT_MOST: Final = 100
_OWN_FOLDER: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


@dataclass(frozen=True, slots=True)
class Failure:
    """An error ready to be kept.

    Attributes:
        stream: The pickled record.
        text: The error as text.
        modules: Modules whose classes the record names.
        shown: Takes everything secret out of a text that is written beside it.
    """

    stream: bytes
    text: ErrorText
    modules: frozenset[str]
    shown: Callable[[str], str]


def take_apart(error: BaseException, redact: Callable[[str], str] | None = None) -> Failure:
    """Makes the record of an error; the error itself stays as it is.

    Args:
        error: Any exception, with or without a traceback.
        redact: The user's own redaction, applied to its texts after ours.
    """
    chain = _everything_in(error)
    found = set[str]().union(*(request_secrets(one) for one in chain))
    secrets = sorted(found, key=len, reverse=True)  # the longest first: one may be part of another

    def shown(text: str) -> str:
        text = scrub(redact_text(text), secrets)
        return text if redact is None else redact(text)

    text = _error_text(error, shown)
    record = _Recorder(secrets, shown).record(error)
    stream = pickle.dumps(record, protocol=5)
    if not _comes_back(stream, text, error):
        record = _by_itself(error, record, secrets)
        stream = pickle.dumps(record, protocol=5)
        if not _comes_back(stream, text, error):
            stream = pickle.dumps(None, protocol=5)
    modules = frozenset(module for one in chain if isinstance(module := type(one).__module__, str))
    return Failure(stream, text, modules, shown)


def rebuild(stream: bytes, text: ErrorText) -> BaseException:
    """The error of a verified record; a `CachedError` where its own class cannot be rebuilt."""
    try:
        record = pickle.loads(stream)
        if record is not None:
            return pickled.rebuilt_error(record)
    except Exception as error:  # noqa: BLE001 - a class of another version may do anything
        stand_in = CachedError(text.type, text.message, text.traceback)
        stand_in.add_note(f"its class could not be rebuilt: {type(error).__name__}: {error}")
        return stand_in
    return CachedError(text.type, text.message, text.traceback)


def one_line(error: BaseException) -> str:
    """The message of an error in one line."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - the user's own __str__
        text = "<its text could not be made>"
    return text if len(text) <= _MESSAGE_CHARS else text[: _MESSAGE_CHARS - 1] + "…"


class _Recorder:
    """Takes exceptions apart, each one once."""

    def __init__(self, secrets: Iterable[str], shown: Callable[[str], str]) -> None:
        self._secrets = secrets
        self._shown = shown
        self._open: set[int] = set()

    def record(self, error: BaseException) -> Record:
        return self._record(error, 0)

    def _record(self, error: BaseException, depth: int) -> Record:
        self._open.add(id(error))
        try:
            state = dict(getattr(error, "__dict__", {}))
            notes = state.pop("__notes__", ())
            record: Record = {
                "class": pickled.class_spec(type(error)),
                "args": [self._part(argument) for argument in error.args],
                "state": {name: self._part(value) for name, value in self._named(state)},
                "slots": {name: self._part(value) for name, value in self._named(_slots(error))},
                "notes": [self._shown(note) for note in notes if isinstance(note, str)],
                "message": self._shown(_text(error)),
                "suppress": error.__suppress_context__,
                "cause": self._linked(error.__cause__, depth),
                "context": self._linked(error.__context__, depth),
            }
            if isinstance(error, BaseExceptionGroup):
                members = error.exceptions[:_MEMBERS_AT_MOST]
                record["group"] = [
                    self._record(member, depth + 1) for member in members if id(member) not in self._open
                ]
                record["args"] = [self._part(error.message)]
            if _is_urllib_error(error):
                record |= self._urllib_error(error)
            return record
        finally:
            self._open.discard(id(error))

    def _part(self, value: Any) -> bytes:
        return pickle_part(value, self._inside, self._secrets)

    def _inside(self, error: BaseException) -> Record:
        if id(error) in self._open or len(self._open) > _DEPTH_AT_MOST:
            raise pickle.PicklingError("an error that contains itself")
        return self._record(error, len(self._open))

    def _named(self, values: dict[str, Any]) -> list[tuple[str, Any]]:
        """Attributes with secret names or headers go through the cleaner together with their names."""
        cleaned = PartPickler(io.BytesIO(), self._inside, self._secrets).clean(values)
        return list(cleaned.items())

    def _linked(self, error: BaseException | None, depth: int) -> Record | None:
        if error is None or id(error) in self._open or depth >= _DEPTH_AT_MOST:
            return None
        return self._record(error, depth + 1)

    def _urllib_error(self, error: Any) -> Record:
        """`urllib.error.HTTPError` is a file as well; it is rebuilt by its constructor, without its body."""
        headers = harmless_headers(error.headers.items()) if error.headers is not None else {}
        parts = (self._shown(str(error.filename)), error.code, self._shown(str(error.msg)), headers)
        return {"state": {}, "slots": {}, "urllib": pickle.dumps(parts, protocol=5)}


def _by_itself(error: BaseException, record: Record, secrets: Iterable[str]) -> Record:
    """For classes written in C that cannot be made empty: the way the class itself says it is pickled."""
    stream = io.BytesIO()

    def refuse(inner: BaseException) -> Record:
        raise pickle.PicklingError(f"{type(inner).__name__} inside")

    pickler = PartPickler(stream, refuse, secrets)
    try:
        func, args, *rest = error.__reduce_ex__(5)
        pickler.dump((func, pickler.clean(tuple(args)), pickler.clean(rest[0]) if rest else None))
    except Exception:  # noqa: BLE001 - then it becomes a CachedError
        return record
    return {**record, "own": stream.getvalue()}


def _comes_back(stream: bytes, text: ErrorText, error: BaseException) -> bool:
    """The round trip: the same class, and a text that can be made."""
    back = rebuild(stream, text)
    if type(back).__qualname__ != type(error).__qualname__ or isinstance(back, CachedError):
        return False
    try:
        _ = str(back), repr(back)
    except Exception:  # noqa: BLE001 - its own __str__ misses something
        return False
    return True


def _error_text(error: BaseException, shown: Callable[[str], str]) -> ErrorText:
    cls = type(error)
    name = cls.__qualname__ if cls.__module__ in {"builtins", "__main__"} else f"{cls.__module__}.{cls.__qualname__}"
    lines = shown(traceback_text(error))
    return ErrorText(name[:200], shown(one_line(error)), _cut(lines), _is_transient(error))


def _is_transient(error: BaseException) -> bool:
    try:
        return transient(error)
    except Exception:  # noqa: BLE001 - it reads attributes, which may be the user's own properties
        return False


def traceback_text(error: BaseException) -> str:
    """The traceback as Python prints it, without values of variables and without nbstep's own frames."""
    try:
        summary = traceback.TracebackException.from_exception(error, compact=True)
        _drop_own_frames(summary, 0)
        return "".join(summary.format())
    except Exception as problem:  # noqa: BLE001 - formatting calls the user's own code
        return f"{type(error).__name__}: <no traceback: {type(problem).__name__}>\n"


def _drop_own_frames(summary: traceback.TracebackException, depth: int) -> None:
    if depth > 50:
        return
    summary.stack[:] = [frame for frame in summary.stack if not os.path.abspath(frame.filename).startswith(_OWN_FOLDER)]
    members = getattr(summary, "exceptions", None) or ()
    for linked in (summary.__cause__, summary.__context__, *members):
        if linked is not None:
            _drop_own_frames(linked, depth + 1)


def _cut(text: str) -> str:
    """At most 64 KiB: the end says most, the beginning where it came from."""
    encoded = text.encode("utf-8", "backslashreplace")
    if len(encoded) <= TRACEBACK_BYTES_AT_MOST:
        return text
    head, tail = encoded[: TRACEBACK_BYTES_AT_MOST // 4], encoded[-TRACEBACK_BYTES_AT_MOST // 2 :]
    return head.decode("utf-8", "ignore") + "\n  […]\n" + tail.decode("utf-8", "ignore")


def _everything_in(error: BaseException) -> list[BaseException]:
    """The error and all that hang on it: causes, contexts, members of groups, arguments."""
    found: dict[int, BaseException] = {}
    waiting = [error]
    while waiting and len(found) < 1000:
        one = waiting.pop()
        if id(one) in found:
            continue
        found[id(one)] = one
        linked: list[Any] = [one.__cause__, one.__context__, *one.args, *getattr(one, "__dict__", {}).values()]
        if isinstance(one, BaseExceptionGroup):
            linked += one.exceptions
        waiting += [other for other in linked if isinstance(other, BaseException)]
    return list(found.values())


def _slots(error: BaseException) -> dict[str, Any]:
    """What builtin exceptions and classes with `__slots__` keep outside of `__dict__`."""
    values: dict[str, Any] = {}
    for cls in type(error).__mro__:
        names = BUILTIN_SLOTS.get(cls.__name__, ()) if cls.__module__ == "builtins" else _own_slots(cls)
        for name in names:
            try:
                value = getattr(error, name)
            except Exception:  # noqa: BLE001 - never set
                continue
            if value is not None:
                values[name] = value
    return values


def _own_slots(cls: type) -> tuple[str, ...]:
    slots: Any = vars(cls).get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in names if isinstance(name, str) and not name.startswith("__"))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the user's own __str__
        return ""


def _is_urllib_error(error: BaseException) -> bool:
    module = sys.modules.get("urllib.error")
    return module is not None and type(error) is module.HTTPError
