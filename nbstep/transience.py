"""Which errors pass by themselves: time-outs, connection errors, and the HTTP statuses that say "later"."""

from __future__ import annotations

import errno
from typing import Any, Final, cast

from nbstep.foreign import interrupts, leaves

# Named, not imported: none of these libraries is a dependency. Matched against every class in the error's MRO.
_PASSING_CLASSES: Final = frozenset(
    {
        "httpx.TransportError",
        "httpx2.TransportError",
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
        "botocore.exceptions.ConnectionError",
        "botocore.exceptions.ConnectionClosedError",
        "botocore.exceptions.ReadTimeoutError",
        "botocore.exceptions.ResponseStreamingError",
        "sqlalchemy.exc.TimeoutError",
    }
)
_PASSING_ERRNOS: Final = frozenset(
    {errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EAGAIN}
)
_LASTING_CLASSES: Final = frozenset(
    {
        "httpx.UnsupportedProtocol",
        "httpx.LocalProtocolError",
        "httpx2.UnsupportedProtocol",
        "httpx2.LocalProtocolError",
    }
)
# Raised for the error of another library, which says more, and where it stands.
_CARRIERS: Final = {
    "urllib.error.URLError": "reason",
    "openai.APIConnectionError": "__cause__",
    "anthropic.APIConnectionError": "__cause__",
}
# AWS sends most of these with status 400.
_THROTTLED_CODES: Final = frozenset(
    {
        "BandwidthLimitExceeded", "EC2ThrottledException", "PriorRequestNotComplete", "ProvisionedThroughputExceededException",
        "RequestLimitExceeded", "RequestThrottled", "RequestThrottledException", "RequestTimeout", "RequestTimeoutException",
        "SlowDown", "ThrottledException", "Throttling", "ThrottlingException", "TooManyRequestsException",
        "TransactionInProgressException",
    }
)  # fmt: skip
_SQLITE_BUSY: Final = frozenset({5, 6})  # busy, locked


def transient(error: BaseException) -> bool:
    """Whether an error is likely to be gone in a minute.

    True for time-outs, connection errors, and HTTP 408, 425, 429 and 5xx as httpx, requests, aiohttp, urllib, openai and botocore
    raise them, for AWS's codes of throttling, for databases that are locked or cannot be reached; for a group if one of its
    errors is.

    >>> transient(TimeoutError()), transient(ValueError("bad input"))
    (True, False)
    """
    if isinstance(error, BaseExceptionGroup):
        return any(transient(leaf) for leaf in leaves(error))
    names = {f"{cls.__module__}.{cls.__qualname__}" for cls in type(error).__mro__}
    if "botocore.exceptions.ClientError" in names and _aws_part(error, "Error", "Code") in _THROTTLED_CODES:
        return True
    status = http_status(error)
    if status is not None:
        return status in {408, 425, 429} or 500 <= status <= 599
    if names & _LASTING_CLASSES:
        return False
    if isinstance(error, TimeoutError | ConnectionError) or names & _PASSING_CLASSES:
        return True
    for carrier in names & _CARRIERS.keys():
        reason = _attribute(error, _CARRIERS[carrier])
        return isinstance(reason, BaseException) and transient(reason)
    if isinstance(error, OSError):
        return error.errno in _PASSING_ERRNOS
    return _is_busy(error) or ("sqlalchemy.exc.DBAPIError" in names and _is_unreachable(error, names))


def _is_busy(error: BaseException) -> bool:
    """Whether another connection holds an SQLite database."""
    code = _attribute(error, "sqlite_errorcode")
    return isinstance(code, int) and code & 0xFF in _SQLITE_BUSY


def _is_unreachable(error: BaseException, names: set[str]) -> bool:
    """Whether SQLAlchemy lost its connection, or got none: then it has no statement."""
    driver = _attribute(error, "orig")
    if _attribute(error, "connection_invalidated") is True or (isinstance(driver, BaseException) and transient(driver)):
        return True
    a_file = _attribute(driver, "sqlite_errorcode") is not None  # one that cannot be opened stays so
    return "sqlalchemy.exc.OperationalError" in names and _attribute(error, "statement") is None and not a_file


def http_status(error: BaseException) -> int | None:
    """The HTTP status an error stands for, or None.

    Reads `error.response.status_code` (httpx, requests, openai), `error.status` (aiohttp), `error.code` (urllib) and what
    botocore has in `error.response`.
    """
    candidates = [_attribute(_attribute(error, "response"), "status_code"), _attribute(error, "status_code")]
    root = str(type(error).__module__).partition(".")[0]
    if root == "botocore":
        candidates.append(_aws_part(error, "ResponseMetadata", "HTTPStatusCode"))
    if root in {"aiohttp", "urllib"}:
        candidates.append(_attribute(error, "status" if root == "aiohttp" else "code"))
    for status in candidates:
        if isinstance(status, int) and not isinstance(status, bool) and 100 <= status <= 599:
            return status
    return None


def _aws_part(error: BaseException, section: str, name: str) -> Any:
    """`error.response["Error"]["Code"]` and the like."""
    part: Any = _attribute(error, "response")
    for key in (section, name):
        part = cast("dict[str, Any]", part).get(key) if isinstance(part, dict) else None
    return part


def _attribute(obj: Any, name: str) -> Any:
    try:
        return getattr(obj, name, None)
    except interrupts():
        raise
    except BaseException:  # noqa: BLE001 - a property of the user's own error must not hide the error
        return None
