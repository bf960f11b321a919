"""What goes to a worker process and comes back from one, as bytes: an item, a value, an error."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from typing import Any, Final

from nbstep.cache.records import ErrorText
from nbstep.errors import WorkerError
from nbstep.foreign import is_a
from nbstep.notes import error_line
from nbstep.result import Err
from nbstep.steps.inline import Ended
from nbstep.tracebacks import of_the_user

_PACKED_AT_MOST: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class _Packed:
    content: bytes


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error taken apart, as a cache keeps it: many classes of errors do not survive pickle.

    Attributes:
        stream: Its record.
        text: The error as text.
        returned: The function gave it in an `Err`.
        known: Its class, where that is found under no name, with the token that the record has for it.
    """

    stream: bytes
    text: ErrorText
    returned: bool
    known: tuple[str, type] | None


def packed_item(item: Any) -> Any:
    """An item as it is sent: packed, so that what fails while it is loaded is told by the worker; itself where it is large.

    Raises:
        WorkerError: It cannot be sent.
    """
    import cloudpickle

    try:
        content = cloudpickle.dumps(item, protocol=5)
    except Exception as error:  # noqa: BLE001 - of whatever kind
        raise WorkerError(
            f"step.map cannot send the item to a worker process ({error_line(error)}). Give it what the function can open it by, "
            "or leave joblib.parallel_config out: threads need not send it"
        ) from of_the_user(error)
    return _Packed(content) if len(content) <= _PACKED_AT_MOST else item  # joblib passes large arrays by file


def unpacked_item(sent: Any) -> Any:
    """The item, in the worker.

    Raises:
        WorkerError: It cannot be loaded there.
    """
    return loaded(sent.content, "the item") if type(sent) is _Packed else sent


def loaded(content: bytes, what: str) -> Any:
    """What was sent to a worker.

    Raises:
        WorkerError: It cannot be loaded there, as its module is missing or another version.
    """
    import cloudpickle

    try:
        return cloudpickle.loads(content)
    except Exception as error:
        raise WorkerError(f"a worker process cannot load {what} ({error_line(error)})") from error


def packed_end(told: dict[str, Any]) -> bytes:
    """How work ended, by the names of `Ended`."""
    import cloudpickle

    value: Any = told.get("value")
    error: BaseException | None = told.get("error")
    returned = error is None and is_a(value, Err) and isinstance(value.error, BaseException)
    if returned:
        error = value.error
    if error is None:
        try:
            content, file_copied = _packed(told)
            return cloudpickle.dumps({"file_copied": True, **told}, protocol=5) if file_copied else content
        except Exception as problem:  # noqa: BLE001 - raised where the step was asked
            error = WorkerError(f"a worker process cannot send back a {type(value).__name__} ({error_line(problem)})")
    from nbstep.cache.failures.failure import take_apart  # with cloudpickle
    from nbstep.cache.pickled import token_of

    failure, token = take_apart(error), token_of(type(error))
    known = None if token is None else (token, type(error))
    return cloudpickle.dumps(
        {
            "took_s": told["took_s"],
            "error": _Failure(failure.stream, failure.text, returned, known),
            "ran_with": told.get("ran_with"),
        }
    )


def _packed(told: dict[str, Any]) -> tuple[bytes, bool]:
    """What is sent, and whether an open file was in it, which cloudpickle sends as a `StringIO` of its text."""
    stream = io.BytesIO()
    pickler = _pickler()(stream, protocol=5)
    pickler.dump(told)
    return stream.getvalue(), pickler.file_copied


@functools.cache
def _pickler() -> Any:
    import cloudpickle

    from nbstep.cache.serializer import is_open_text  # with cloudpickle

    class Pickler(cloudpickle.Pickler):
        file_copied = False

        def reducer_override(self, obj: Any) -> Any:
            self.file_copied = self.file_copied or is_open_text(obj)
            return super().reducer_override(obj)

    return Pickler


def unpacked_end(sent: bytes) -> Ended:
    """How work ended."""
    import cloudpickle

    try:
        told: dict[str, Any] = cloudpickle.loads(sent)
    except Exception as error:  # noqa: BLE001 - such as a class that this process does not have
        return Ended(error=WorkerError(f"what a worker process sent back cannot be loaded here ({error_line(error)})"))
    failure = told.get("error")
    if type(failure) is not _Failure:
        return Ended(**told)
    from nbstep.cache.failures.failure import rebuild  # as above
    from nbstep.cache.pickled import known_class

    if failure.known is not None:
        known_class(*failure.known)
    error = rebuild(failure.stream, failure.text)
    told["error"] = None if failure.returned else error
    return Ended(Err(error) if failure.returned else None, **told)
