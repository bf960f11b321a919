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
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from nbstep.cache import pickled
from nbstep.cache.failures.bare import attributes, slots
from nbstep.cache.failures.missing import Missing
from nbstep.cache.failures.reduction import PartPickler, Record, pickle_part
from nbstep.cache.failures.web import BODY_BYTES_AT_MOST
from nbstep.cache.pickled import BUILTIN_SLOTS
from nbstep.cache.records import ErrorText
from nbstep.cache.secrets.cleaning import Cleaner, Shown
from nbstep.cache.secrets.headers import harmless_headers
from nbstep.cache.secrets.surroundings import redaction_of
from nbstep.errors import CachedError
from nbstep.foreign import interrupts, members, own
from nbstep.tracebacks import OWN_FOLDER
from nbstep.transience import transient

TRACEBACK_BYTES_AT_MOST: Final = 64 * 1024
_MESSAGE_CHARS: Final = 500
_MESSAGE_CHARS_READ: Final = 64 * 1024
_DEPTH_AT_MOST: Final = 8
_MEMBERS_AT_MOST: Final = 10_000
_GROUP_BYTES_AT_MOST: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Failure:
    """An error ready to be kept.

    Attributes:
        stream: The pickled record.
        text: The error as text.
        modules: Modules whose classes the record names.
        shown: Takes everything secret out of a text that is written beside it.
        left_out: What of it is not kept, for people; "" if it is whole.
    """

    stream: bytes
    text: ErrorText
    modules: frozenset[str]
    shown: Callable[[str], str]
    left_out: str = ""


def take_apart(error: BaseException, redact: Callable[[str], str] | None = None, made_by: Any = None) -> Failure:
    """Makes the record of an error; the error itself stays as it is.

    Args:
        error: Any exception, with or without a traceback.
        redact: The user's own redaction, applied to its texts after ours.
        made_by: The thunk: it may know of the requests that the error came from.
    """
    chain = _everything_in(error)
    shown = redaction_of(chain, (made_by,), redact)
    text = _error_text(error, shown)
    recorder = _Recorder(shown)
    record = recorder.record(error)
    stream = pickle.dumps(record, protocol=5)
    if not _comes_back(stream, text, error):
        record = _by_itself(error, record, shown)
        stream = pickle.dumps(record, protocol=5)
        if not _comes_back(stream, text, error):
            stream = pickle.dumps(None, protocol=5)
    modules = frozenset(module for one in chain if isinstance(module := type(one).__module__, str))
    return Failure(stream, text, modules, shown, "; ".join(list(dict.fromkeys(recorder.left_out))[:3]))


def rebuild(stream: bytes, text: ErrorText) -> BaseException:
    """The error of a verified record; a `CachedError` where its own class cannot be rebuilt."""
    try:
        record = pickle.loads(stream)
        if record is not None:
            return pickled.rebuilt_error(record)
    except interrupts():
        raise
    except BaseException as error:  # noqa: BLE001 - a class of another version may do anything
        stand_in = CachedError(text.type, text.message, text.traceback)
        stand_in.add_note(f"its class could not be rebuilt: {type(error).__name__}: {error}")
        return stand_in
    return CachedError(text.type, text.message, text.traceback)


def _one_line(error: BaseException, shown: Shown) -> str:
    """The message of an error in one line, which it becomes last: a header ends with its line."""
    try:
        text = str(error)[:_MESSAGE_CHARS_READ]
    except interrupts():
        raise
    except BaseException:  # noqa: BLE001 - the user's own __str__
        text = "<its text could not be made>"
    text = " ".join(shown(text).split())
    return text if len(text) <= _MESSAGE_CHARS else text[: _MESSAGE_CHARS - 1] + "…"


class _Recorder:
    """Takes exceptions apart, each one once.

    Attributes:
        left_out: Says of each group that was cut how much of it was kept, and what of errors could not be.
    """

    def __init__(self, shown: Shown) -> None:
        self._cleaner = Cleaner(shown)
        self._shown = shown
        self._open: set[int] = set()
        self._members = self._bytes = 0
        self.left_out: list[str] = []

    def record(self, error: BaseException) -> Record:
        return self._record(error, 0)

    def _record(self, error: BaseException, depth: int) -> Record:
        self._open.add(id(error))
        missing = Missing(error, top=depth == 0)
        try:
            state = dict(own(error, "__dict__"))
            notes, inside = state.pop("__notes__", ()), members(error)
            args = (vars(BaseExceptionGroup)["message"].__get__(error),) if inside else tuple(own(error, "args"))
            record: Record = {
                "class": pickled.class_spec(type(error)),
                "args": [
                    self._part(f"args[{at}]", value, missing) for at, value in enumerate(self._cleaner.clean(args))
                ],
                "state": self._named(state, missing),
                "slots": self._named(_slots(error), missing),
                "notes": [self._shown(note) for note in notes if isinstance(note, str)],
                "message": self._cleaner.clean(_text(error)),
                "suppress": own(error, "__suppress_context__"),
                "cause": self._linked(own(error, "__cause__"), depth),
                "context": self._linked(own(error, "__context__"), depth),
            }
            if inside:
                record["group"] = kept = self._group(inside, depth)
                if len(kept) < len(inside):
                    self._tell(record, f"{len(kept):,} of {len(inside):,} members were kept")
            if _is_urllib_error(error):
                record |= self._urllib_error(error)
            elif text := missing.text():
                self._tell(record, text)
            return record
        finally:
            self._open.discard(id(error))

    def _group(self, inside: tuple[BaseException, ...], depth: int) -> list[Record]:
        """The records of a group's members, as many as there is room for; at least one, a group cannot be empty."""
        records: list[Record] = []
        for one in inside:
            if records and (self._members >= _MEMBERS_AT_MOST or self._bytes >= _GROUP_BYTES_AT_MOST):
                break
            if id(one) not in self._open:
                self._members += 1
                records.append(self._record(one, depth + 1))
        return records

    def _tell(self, record: Record, text: str) -> None:
        self.left_out.append(text)
        record["notes"].append(f"  From the cache: {text}.")

    def _part(self, place: str, value: Any, missing: Missing) -> bytes:
        part, left_out = pickle_part(value, self._inside, self._shown, missing.error)
        missing.add(place, left_out)
        self._bytes += len(part)
        return part

    def _inside(self, error: BaseException) -> Record:
        if id(error) in self._open or len(self._open) > _DEPTH_AT_MOST:
            raise pickle.PicklingError("an error that contains itself")
        return self._record(error, len(self._open))

    def _named(self, values: dict[str, Any], missing: Missing) -> dict[str, bytes]:
        cleaned = {name: self._cleaner.named(name, value) for name, value in values.items()}
        if isinstance(values.get("start"), int) and isinstance(values.get("object"), str | bytes):
            cleaned["object"] = _in_place(values["object"], cleaned["object"], values["start"])
        return {name: self._part(f".{name}", value, missing) for name, value in cleaned.items()}

    def _linked(self, error: BaseException | None, depth: int) -> Record | None:
        if error is None or id(error) in self._open or depth >= _DEPTH_AT_MOST:
            return None
        return self._record(error, depth + 1)

    def _urllib_error(self, error: Any) -> Record:
        """`urllib.error.HTTPError` is a file as well; it is rebuilt by its constructor, without its body."""
        headers = harmless_headers(error.headers.items(), self._shown) if error.headers is not None else {}
        parts = (self._shown(str(error.filename)), error.code, self._shown(str(error.msg)), headers)
        return {"state": {}, "slots": {}, "urllib": pickle.dumps(parts, protocol=5)}


def _in_place(text: Any, cleaned: Any, start: int) -> Any:
    """The text of a `UnicodeError`: its message shows what stands at `start`, so that must stay where it was."""
    if len(cleaned) == len(text) or start >= BODY_BYTES_AT_MOST:
        return cleaned
    filler: Any = b"?" if isinstance(text, bytes) else "?"
    return filler * start + text[start : start + 1]


def _by_itself(error: BaseException, record: Record, shown: Shown) -> Record:
    """For classes written in C that cannot be made empty: the way the class itself says it is pickled."""
    stream = io.BytesIO()

    def refuse(inner: BaseException) -> Record:
        raise pickle.PicklingError(f"{type(inner).__name__} inside")

    pickler, cleaner = PartPickler(stream, refuse, shown), Cleaner(shown)
    try:
        func, args, *rest = error.__reduce_ex__(5)
        pickler.dump((func, cleaner.clean(tuple(args)), cleaner.clean(rest[0]) if rest else None))
    except interrupts():
        raise
    except BaseException:  # noqa: BLE001 - then it becomes a CachedError
        return record
    return {**record, "own": stream.getvalue()}


def _comes_back(stream: bytes, text: ErrorText, error: BaseException) -> bool:
    """The round trip: the same class, and a text that can be made where that of the error itself can."""
    back = rebuild(stream, text)
    if type(back).__qualname__ != type(error).__qualname__ or isinstance(back, CachedError):
        return False
    return all(_speaks(back, how) or not _speaks(error, how) for how in (str, repr))


def _speaks(error: BaseException, how: Callable[[BaseException], str]) -> bool:
    """Whether its text can be made; a part of it may be missing."""
    try:
        how(error)
    except interrupts():
        raise
    except BaseException:  # noqa: BLE001 - the user's own __str__ or __repr__
        return False
    return True


def _error_text(error: BaseException, shown: Shown) -> ErrorText:
    cls = type(error)
    name = cls.__qualname__ if cls.__module__ in {"builtins", "__main__"} else f"{cls.__module__}.{cls.__qualname__}"
    lines = shown(traceback_text(error))
    return ErrorText(name[:200], _one_line(error, shown), _cut(lines), _is_transient(error))


def _is_transient(error: BaseException) -> bool:
    try:
        return transient(error)
    except interrupts():
        raise
    except BaseException:  # noqa: BLE001 - it reads attributes, which may be the user's own properties
        return False


def traceback_text(error: BaseException) -> str:
    """The traceback as Python prints it, without values of variables and without nbstep's own frames."""
    try:
        summary = traceback.TracebackException.from_exception(error, compact=True)
        _drop_own_frames(summary, 0)
        return "".join(summary.format())
    except interrupts():
        raise
    except BaseException as problem:  # noqa: BLE001 - formatting calls the user's own code
        return f"{type(error).__name__}: <no traceback: {type(problem).__name__}>\n"


def _drop_own_frames(summary: traceback.TracebackException, depth: int) -> None:
    if depth > 50:
        return
    summary.stack[:] = [frame for frame in summary.stack if not os.path.abspath(frame.filename).startswith(OWN_FOLDER)]
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
    while waiting and len(found) < _MEMBERS_AT_MOST:
        one = waiting.pop()
        if id(one) in found:
            continue
        found[id(one)] = one
        values = (value for _, value in attributes(one))
        linked: list[Any] = [own(one, "__cause__"), own(one, "__context__"), *own(one, "args"), *values, *members(one)]
        waiting += [other for other in linked if isinstance(other, BaseException)]
    return list(found.values())


def _slots(error: BaseException) -> dict[str, Any]:
    """What builtin exceptions and classes with `__slots__` keep outside of `__dict__`."""
    values = dict(slots(error))
    for cls in type(error).__mro__:
        for name in BUILTIN_SLOTS.get(cls.__name__, ()) if cls.__module__ == "builtins" else ():
            value = vars(cls)[name].__get__(error)
            if value is not None:
                values.setdefault(name, value)
    return values


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except interrupts():
        raise
    except BaseException:  # noqa: BLE001 - the user's own __str__
        return ""


def _is_urllib_error(error: BaseException) -> bool:
    module = sys.modules.get("urllib.error")
    return module is not None and type(error) is module.HTTPError
