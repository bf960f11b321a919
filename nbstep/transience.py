"""Which errors pass by themselves: time-outs, connection errors, and the HTTP statuses that say "later"."""

from __future__ import annotations

import errno
from typing import Any, Final, cast

# Named, not imported: none of these libraries is a dependency. Matched against every class in the error's MRO.
_PASSING_CLASSES: Final = frozenset(
    {
        "httpx.TransportError",
        "requests.exceptions.ConnectionError",
        "requests.exceptions.Timeout",
        "requests.exceptions.ChunkedEncodingError",
        "urllib3.exceptions.TimeoutError",
        "urllib3.exceptions.ProtocolError",
        "urllib3.exceptions.NewConnectionError",
        "aiohttp.client_exceptions.ClientConnectionError",
        "aiohttp.client_exceptions.ClientPayloadError",
        "http.client.RemoteDisconnected",
        "http.client.IncompleteRead",
        "socket.gaierror",
    }
)
_PASSING_ERRNOS: Final = frozenset(
    {errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EAGAIN}
)
_LASTING_CLASSES: Final = frozenset({"httpx.UnsupportedProtocol", "httpx.LocalProtocolError"})


def transient(error: BaseException) -> bool:
    """Whether an error is likely to be gone in a minute.

    True for time-outs, connection errors, and HTTP 408, 425, 429 and 5xx as httpx, requests, aiohttp and urllib raise them; for
    a group if one of its errors is.

    >>> transient(TimeoutError()), transient(ValueError("bad input"))
    (True, False)
    """
    if isinstance(error, BaseExceptionGroup):
        return any(transient(leaf) for leaf in leaves(error))
    status = http_status(error)
    if status is not None:
        return status in {408, 425, 429} or 500 <= status <= 599
    names = {f"{cls.__module__}.{cls.__qualname__}" for cls in type(error).__mro__}
    if names & _LASTING_CLASSES:
        return False
    if isinstance(error, TimeoutError | ConnectionError) or names & _PASSING_CLASSES:
        return True
    if "urllib.error.URLError" in names:
        reason = _attribute(error, "reason")
        return isinstance(reason, BaseException) and transient(reason)
    return isinstance(error, OSError) and error.errno in _PASSING_ERRNOS


def leaves(error: BaseException) -> list[BaseException]:
    """The errors in a group, and in the groups in it; an error alone is its own leaf."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for member in cast("BaseExceptionGroup[BaseException]", error).exceptions for leaf in leaves(member)]


def http_status(error: BaseException) -> int | None:
    """The HTTP status an error stands for, or None.

    Reads `error.response.status_code` (httpx, requests, openai), `error.status` (aiohttp) and `error.code` (urllib).
    """
    candidates = [_attribute(_attribute(error, "response"), "status_code"), _attribute(error, "status_code")]
    root = type(error).__module__.partition(".")[0]
    if root in {"aiohttp", "urllib"}:
        candidates.append(_attribute(error, "status" if root == "aiohttp" else "code"))
    for status in candidates:
        if isinstance(status, int) and not isinstance(status, bool) and 100 <= status <= 599:
            return status
    return None


def _attribute(obj: Any, name: str) -> Any:
    try:
        return getattr(obj, name, None)
    except Exception:  # noqa: BLE001 - a property of the user's own error must not hide the error
        return None
