"""Ok and Err: what a workflow returns."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, Generic, Literal, NoReturn, TypeAlias, TypeVar

from nbstep.errors import StepFailed
from nbstep.foreign import interrupts

T = TypeVar("T")
E = TypeVar("E")

_log: Final = logging.getLogger("nbstep")


class Ok(Generic[T]):
    """A workflow that ended well, with what its body returned.

    >>> result = Ok(3)
    >>> match result:
    ...     case Ok(value):
    ...         print(value)
    3
    """

    __match_args__ = ("value",)
    __slots__ = ("value",)

    ok: Final = True
    error: Final = None

    def __init__(self, value: T) -> None:
        self.value = value

    def unwrap(self) -> T:
        """The value."""
        return self.value

    def __repr__(self) -> str:
        return f"Ok({self.value!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ok) and bool(self.value == other.value)

    __hash__ = None  # type: ignore[assignment]  # values are mutable


class Err(Generic[E]):
    """A workflow that a step's failure ended, with the error of that step.

    An `Err` that a run returned and that nobody looked at is logged when it is collected, as asyncio does
    for tasks.

    >>> Err("NOT_FOUND").error
    'NOT_FOUND'
    """

    __match_args__ = ("error",)
    __slots__ = ("__weakref__", "_describe", "_error", "_raised", "_unseen_of")

    value: Final = None

    def __init__(self, error: E) -> None:
        self._error = error
        self._raised: BaseException | None = None
        self._unseen_of: str | None = None
        self._describe: Callable[[Any], str] | None = None

    @property
    def ok(self) -> Literal[False]:
        """Always False; asking counts as looking."""
        self._unseen_of = None
        return False

    @property
    def error(self) -> E:
        """What failed: the exception itself, or what the thunk returned in its `Err`."""
        self._unseen_of = None
        return self._error

    def unwrap(self) -> NoReturn:
        """Raises the error: itself where it is an exception, else in a `StepFailed`.

        Raises:
            BaseException: the error.
        """
        error = self.error
        raise self._raised or (error if isinstance(error, BaseException) else StepFailed(None, error))

    def __repr__(self) -> str:
        error = self.error
        return f"Err({error!r})" if self._describe is None else f"Err({self._describe(error)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Err) and bool(self.error == other.error)

    __hash__ = None  # type: ignore[assignment]  # as Ok

    def __reduce__(self) -> Any:
        return Err, (self._error,)  # a copy is nobody's result

    def __del__(self) -> None:
        if getattr(self, "_unseen_of", None):
            _log.error("the result of %s was never looked at: it failed with %s", self._unseen_of, self._shown())

    def _shown(self) -> str:
        try:
            return type(self._error).__name__ if self._describe is None else self._describe(self._error)
        except interrupts():
            raise
        except BaseException:  # noqa: BLE001 - the user's own __repr__; or Python ends, and nothing can be imported any more
            return type(self._error).__name__


Result: TypeAlias = Ok[T] | Err[E]


def described(error: E, describe: Callable[[Any], str]) -> Err[E]:
    """An `Err` of a step, whose repr a notebook saves as an output; `describe` tells its error."""
    result = Err(error)
    result._describe = describe  # pyright: ignore[reportPrivateUsage]
    return result


def handed_back(error: Any, raised: BaseException, describe: Callable[[Any], str]) -> Err[Any]:
    """As `described`, of a step that hands its failure back; `unwrap` raises `raised`, which the run knows as that step's."""
    result = described(error, describe)
    result._raised = raised  # pyright: ignore[reportPrivateUsage]
    return result


def raised_by(result: Err[Any]) -> Any:
    """What `unwrap` raises where a step or a run handed this `Err` back; else its error."""
    return result._raised or result._error  # pyright: ignore[reportPrivateUsage]


def unseen(result: Err[Any], of: str, describe: Callable[[Any], str]) -> Err[Any]:
    """Marks a fresh `Err` as the result of the run `of`, to be logged if nobody looks at it; `describe` tells its error."""
    result._unseen_of = of  # pyright: ignore[reportPrivateUsage]
    result._describe = describe  # pyright: ignore[reportPrivateUsage]
    return result
