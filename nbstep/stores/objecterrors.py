"""What a server of objects, or the client of one, says of a call that failed, in words for people."""

from __future__ import annotations

import re
from typing import Any, Final, cast

from nbstep.notes import error_line
from nbstep.stores.base import ReadOnly
from nbstep.stores.breaker import did_not_answer

_CHAIN_AT_MOST: Final = 8
_NO_RIGHT: Final = frozenset({"AccessDenied", "403"})  # to do this
_NOT_KNOWN: Final = frozenset(
    {
        "AllAccessDisabled", "AccountProblem", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "NotSignedUp",
        "RequestTimeTooSkewed", "SignatureDoesNotMatch", "401",
    }
)  # fmt: skip
_NO_CREDENTIALS: Final = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "TokenRetrievalError",
)


class Refused(ConnectionError):  # noqa: N818 - the name says what happened
    """The server answers, but serves nothing here: there is no such place, or no right to it. It stays so for a while."""

    happened = "could not be used"


def told(error: Exception, place: str, limit_s: float, *, reading: bool) -> OSError:
    """An error of fsspec, or of what it stands on, as one that says what to people."""
    code = code_of(error)
    names = {cls.__name__ for cls in type(error).__mro__}
    if code == "NoSuchBucket":
        return Refused("there is no such bucket")
    if code in _NOT_KNOWN:
        return Refused(code)
    if code in _NO_RIGHT or isinstance(error, PermissionError):
        if reading:
            return Refused(code or error_line(error))
        return ReadOnly(f"{place} is read-only for you ({code or error_line(error)})")
    if names.intersection(_NO_CREDENTIALS):
        return Refused(f"no credentials: {_text(error)}")
    if isinstance(error, FileNotFoundError | FileExistsError):
        return error
    if isinstance(error, TimeoutError) or "FSTimeoutError" in names:
        return TimeoutError(f"no answer within {limit_s:.0f} s")
    if "ParamValidationError" in names:
        return Refused(_text(error))
    if did_not_answer(error):
        return ConnectionError(f"{code}: {_text(error)}" if code else _text(error))
    return error if isinstance(error, OSError) else OSError(error_line(error))


def _text(error: BaseException) -> str:
    """What an error says, in one line; of an address only the server, as the rest is our own."""
    text = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
    return re.sub(r"(https?://[^/\s\"]+)[^\s\"]*", r"\1", text)[:200]


def code_of(error: BaseException) -> str:
    """The server's own word for what went wrong (`NoSuchBucket`), where the error has one."""
    at: BaseException | None = error
    for _ in range(_CHAIN_AT_MOST):
        if at is None:
            break
        response = getattr(at, "response", None)
        if isinstance(response, dict):
            code = cast("dict[str, Any]", cast("dict[str, Any]", response).get("Error") or {}).get("Code")
            if isinstance(code, str):
                return code
        at = at.__cause__ or at.__context__
    return ""
