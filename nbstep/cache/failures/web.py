"""Requests, responses and headers of the web libraries, reduced to what explains a failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from nbstep.cache import pickled
from nbstep.cache.secrets.headers import harmless_headers
from nbstep.foreign import interrupts

BODY_BYTES_AT_MOST: Final = 256 * 1024
Clean = Callable[[Any], Any]


def reduced(obj: Any, clean: Clean) -> Any:
    """How an object of a web library is pickled; None for any other object."""
    reducer = _reducer(type(obj))
    return None if reducer is None else reducer(obj, clean)


def knows(obj: Any) -> bool:
    """Whether it is an object of a web library that is reduced here."""
    return _reducer(type(obj)) is not None


def _reducer(cls: type) -> Callable[[Any, Clean], Any] | None:
    names = ((base.__module__.partition(".")[0], base.__name__) for base in cls.__mro__)
    return next((_WEB[name] for name in names if name in _WEB), None)


def _attribute(obj: Any, name: str) -> Any:
    try:
        return getattr(obj, name, None)
    except interrupts():
        raise
    except BaseException:  # noqa: BLE001 - httpx raises where an error has no request
        return None


def _library(obj: Any) -> str:
    """The one of httpx and httpx2, which share their names, whose class it is, or is made from."""
    roots = (base.__module__.partition(".")[0] for base in type(obj).__mro__)
    return next(root for root in roots if root in _HTTPX)


def _httpx_request(request: Any, clean: Clean) -> Any:
    return pickled.http_request, (_library(request), request.method, clean(str(request.url)))


def _requests_request(request: Any, clean: Clean) -> Any:
    return pickled.http_request, ("requests", request.method, clean(request.url))


def _httpx_response(response: Any, clean: Clean) -> Any:
    request = _attribute(response, "request")
    content = getattr(response, "_content", b"")
    return pickled.httpx_response, (
        {
            "library": _library(response),
            "status_code": response.status_code,
            "headers": harmless_headers(response.headers.items(), clean),
            "content": clean(content[:BODY_BYTES_AT_MOST]),
            "encoding": response.encoding,
            "reason_phrase": clean(response.reason_phrase),
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
            "headers": harmless_headers(response.headers.items(), clean),
            "content": clean(content[:BODY_BYTES_AT_MOST]) if isinstance(content, bytes) else b"",
            "encoding": response.encoding,
            "reason": clean(response.reason),
            "url": clean(response.url),
            "elapsed": response.elapsed,
            "request": None if request is None else (request.method, clean(request.url)),
        },
    )


def _headers(headers: Any, clean: Clean) -> Any:
    return type(headers), (harmless_headers(headers.items(), clean),)


def _multidict(headers: Any, clean: Clean) -> Any:
    return pickled.multidict_proxy, (harmless_headers(headers.items(), clean),)


def _message(headers: Any, clean: Clean) -> Any:
    return pickled.http_message, (harmless_headers(headers.items(), clean),)


def _url(url: Any, clean: Clean) -> Any:
    return type(url), (clean(str(url)),)


def _aiohttp_request_info(request: Any, clean: Clean) -> Any:
    return pickled.aiohttp_request_info, (clean(str(request.url)), request.method, clean(str(request.real_url)))


def _aiohttp_connection_key(key: Any, clean: Clean) -> Any:
    """Host and port stay: the text of a connection error is made of them. What is said of a proxy goes."""
    fields = zip(type(key)._fields, key, strict=True)
    plain = (isinstance(value, str | int) and not name.startswith("proxy") for name, value in fields)
    return type(key), tuple(clean(value) if stays else None for stays, value in zip(plain, key, strict=True))


_HTTPX: Final = ("httpx", "httpx2")
_HTTPX_CLASSES: Final = {"Request": _httpx_request, "Response": _httpx_response, "Headers": _headers, "URL": _url}
_WEB: Final[dict[tuple[str, str], Callable[[Any, Clean], Any]]] = {
    **{(library, name): reducer for library in _HTTPX for name, reducer in _HTTPX_CLASSES.items()},
    ("requests", "Request"): _requests_request,
    ("requests", "PreparedRequest"): _requests_request,
    ("requests", "Response"): _requests_response,
    ("requests", "CaseInsensitiveDict"): _headers,
    ("aiohttp", "RequestInfo"): _aiohttp_request_info,
    ("aiohttp", "ConnectionKey"): _aiohttp_connection_key,
    ("multidict", "CIMultiDictProxy"): _multidict,
    ("multidict", "CIMultiDict"): _headers,
    ("http", "HTTPMessage"): _message,
    ("yarl", "URL"): _url,
}
