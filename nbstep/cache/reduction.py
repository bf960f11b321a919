"""The parts of an error as bytes: plain contents, requests and responses reduced, secrets and code left out."""

from __future__ import annotations

import enum
import io
import pickle
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, cast

import cloudpickle

from nbstep.cache import pickled
from nbstep.cache.previews import class_text
from nbstep.cache.redaction import (
    REDACTED,
    harmless_headers,
    is_headers_name,
    is_secret_name,
    redact_text,
    scrub,
    telling_values,
)

PART_BYTES_AT_MOST: Final = 8 * 1024 * 1024
BODY_BYTES_AT_MOST: Final = 256 * 1024
_TEXT_CHARS_AT_MOST: Final = 256 * 1024
_DEPTH_AT_MOST: Final = 30
# Connections, clients, loggers and the like: live machinery that would drag requests and credentials along.
_MACHINERY: Final = frozenset(
    {
        "_asyncio", "_io", "_queue", "_socket", "_ssl", "_thread", "aiohttp", "anyio", "asyncio", "boto3", "botocore", "concurrent",
        "contextvars", "h11", "h2", "http", "httpcore", "httpx", "io", "logging", "multiprocessing", "queue", "requests", "select",
        "selectors", "socket", "ssl", "subprocess", "threading", "urllib", "urllib3", "weakref", "websockets",
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
        secrets: Values to take out of every text.
    """

    def __init__(self, file: Any, record: Callable[[BaseException], Record], secrets: Iterable[str]) -> None:
        super().__init__(file, protocol=5)
        self._record = record
        self._secrets = secrets

    def reducer_override(self, obj: Any) -> Any:
        """Called for every object but the plainest; plain containers were cleaned before."""
        if isinstance(obj, type):
            return self._class(obj)
        if isinstance(obj, BaseException):
            return pickled.rebuilt_error, (self._record(obj),)
        if isinstance(obj, types.FunctionType):
            by_name = super().reducer_override(obj) is NotImplemented
            return NotImplemented if by_name else (str, (not_stored(obj),))
        if isinstance(obj, types.BuiltinFunctionType):
            by_name = obj.__self__ is None or isinstance(obj.__self__, types.ModuleType | type)
            return NotImplemented if by_name else (str, (not_stored(obj),))
        if isinstance(obj, _CODE):
            return str, (not_stored(obj),)
        if isinstance(obj, enum.Enum):
            return NotImplemented
        reduced = self._web(obj)
        if reduced is not None:
            return reduced
        if type(obj).__module__.partition(".")[0] in _MACHINERY:
            return str, (not_stored(obj),)
        return self._other(obj)

    def clean(self, value: Any) -> Any:
        """A copy of plain contents without secrets; other objects in it are cleaned when they are pickled."""
        return _Cleaner(self._secrets).clean(value, 0)

    def _class(self, cls: type) -> Any:
        reduced = super().reducer_override(cls)
        if reduced is NotImplemented or len(reduced) != 6:
            return reduced
        return pickled.notebook_class, (cls.__qualname__,)

    def _other(self, obj: Any) -> Any:
        reducer = self.dispatch_table.get(type(obj))
        reduced = reducer(obj) if reducer is not None else obj.__reduce_ex__(5)
        if isinstance(reduced, str):
            return NotImplemented
        func, args, *rest = cast("tuple[Any, ...]", reduced)
        if getattr(func, "__name__", "") in {"__newobj__", "__newobj_ex__"}:
            args = (args[0], *(self.clean(argument) for argument in args[1:]))
        else:
            args = tuple(self.clean(argument) for argument in args)
        rest += [None] * (3 - len(rest))
        state, items, pairs = self.clean(rest[0]), rest[1], rest[2]
        return (
            func,
            args,
            state,
            None if items is None else (self.clean(item) for item in items),
            None if pairs is None else iter(self.clean(dict(pairs)).items()),
            *rest[3:],
        )

    def _web(self, obj: Any) -> Any:
        for cls in type(obj).__mro__:
            reducer = _WEB.get((cls.__module__.partition(".")[0], cls.__name__))
            if reducer is not None:
                return reducer(obj, self.clean)
        return None


class _Cleaner:
    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = secrets
        self._open: set[int] = set()

    def clean(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is str:
            return scrub(redact_text(value[:_TEXT_CHARS_AT_MOST]), self._secrets)
        if kind is bytes or kind is bytearray:
            return kind(self._clean_bytes(bytes(value[:BODY_BYTES_AT_MOST])))
        if kind not in (dict, list, tuple, set, frozenset):
            return value
        if id(value) in self._open or depth > _DEPTH_AT_MOST:
            return "<not stored: it contains itself>"
        self._open.add(id(value))
        try:
            if kind is dict:
                return dict(self._pairs(value, depth))
            return kind(self.clean(item, depth + 1) for item in value)
        finally:
            self._open.discard(id(value))

    def _pairs(self, mapping: dict[Any, Any], depth: int) -> Iterator[tuple[Any, Any]]:
        for name, value in mapping.items():
            if is_secret_name(name) and value is not None and not isinstance(value, bool | int | float):
                yield name, REDACTED
            elif is_headers_name(name) and isinstance(value, dict):
                yield name, harmless_headers(cast("dict[Any, Any]", value).items())
            else:
                yield self.clean(name, depth + 1), self.clean(value, depth + 1)

    def _clean_bytes(self, content: bytes) -> bytes:
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            return scrub(content.decode("latin-1"), self._secrets).encode("latin-1")
        return scrub(redact_text(text), self._secrets).encode("utf-8")


def pickle_part(value: Any, record: Callable[[BaseException], Record], secrets: Iterable[str]) -> bytes:
    """One part of an error as bytes; one that cannot be pickled, or is very large, becomes a text that says so."""
    stream = io.BytesIO()
    pickler = PartPickler(stream, record, secrets)
    try:
        pickler.dump(pickler.clean(value))
    except Exception:  # noqa: BLE001 - whatever a foreign object raises when it is pickled
        return pickle.dumps(not_stored(value), protocol=5)
    if stream.tell() > PART_BYTES_AT_MOST:
        return pickle.dumps(not_stored(value), protocol=5)
    return stream.getvalue()


def request_secrets(error: BaseException) -> set[str]:
    """The telling header values of the requests that hang on an error: none of them may stand in any of its texts."""
    values: set[str] = set()
    response = getattr(error, "response", None)
    requests = [
        _attribute(error, "request"),
        _attribute(error, "_request"),
        _attribute(error, "request_info"),
        _attribute(response, "request"),
        *(_attribute(past, "request") for past in _attribute(response, "history") or ()),
    ]
    for request in requests:
        headers = _attribute(request, "headers")
        if headers is not None:
            try:
                values |= telling_values(headers)
            except Exception:  # noqa: BLE001 - some other thing of that name
                continue
    return values


def _attribute(obj: Any, name: str) -> Any:
    try:
        return getattr(obj, name, None)
    except Exception:  # noqa: BLE001 - httpx raises where an error has no request
        return None


Clean = Callable[[Any], Any]


def _httpx_request(request: Any, clean: Clean) -> Any:
    return pickled.http_request, ("httpx", request.method, clean(str(request.url)))


def _requests_request(request: Any, clean: Clean) -> Any:
    return pickled.http_request, ("requests", request.method, clean(request.url))


def _httpx_response(response: Any, clean: Clean) -> Any:
    request = _attribute(response, "request")
    content = getattr(response, "_content", b"")
    return pickled.httpx_response, (
        {
            "status_code": response.status_code,
            "headers": harmless_headers(response.headers.items()),
            "content": clean(content[:BODY_BYTES_AT_MOST]),
            "encoding": response.encoding,
            "reason_phrase": response.reason_phrase,
            "http_version": response.http_version,
            "request": None if request is None else (request.method, clean(str(request.url))),
        },
    )


def _requests_response(response: Any, clean: Clean) -> Any:
    request = _attribute(response, "request")
    content = response._content  # False where the body was not read; reading it now would take it from the user
    return pickled.requests_response, (
        {
            "status_code": response.status_code,
            "headers": harmless_headers(response.headers.items()),
            "content": clean(content[:BODY_BYTES_AT_MOST]) if isinstance(content, bytes) else b"",
            "encoding": response.encoding,
            "reason": response.reason,
            "url": clean(response.url),
            "elapsed": response.elapsed,
            "request": None if request is None else (request.method, clean(request.url)),
        },
    )


def _headers(headers: Any, _: Clean) -> Any:
    return type(headers), (harmless_headers(headers.items()),)


def _multidict(headers: Any, _: Clean) -> Any:
    return pickled.multidict_proxy, (harmless_headers(headers.items()),)


def _message(headers: Any, _: Clean) -> Any:
    return pickled.http_message, (harmless_headers(headers.items()),)


def _url(url: Any, clean: Clean) -> Any:
    return type(url), (clean(str(url)),)


def _aiohttp_request_info(request: Any, clean: Clean) -> Any:
    return pickled.aiohttp_request_info, (clean(str(request.url)), request.method, clean(str(request.real_url)))


_WEB: Final[dict[tuple[str, str], Callable[[Any, Clean], Any]]] = {
    ("httpx", "Request"): _httpx_request,
    ("httpx", "Response"): _httpx_response,
    ("httpx", "Headers"): _headers,
    ("httpx", "URL"): _url,
    ("requests", "Request"): _requests_request,
    ("requests", "PreparedRequest"): _requests_request,
    ("requests", "Response"): _requests_response,
    ("requests", "CaseInsensitiveDict"): _headers,
    ("aiohttp", "RequestInfo"): _aiohttp_request_info,
    ("multidict", "CIMultiDictProxy"): _multidict,
    ("multidict", "CIMultiDict"): _headers,
    ("http", "HTTPMessage"): _message,
    ("yarl", "URL"): _url,
}
