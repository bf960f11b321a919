"""The policy: for how long a kept entry counts, and what is kept at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from nbstep.durations import Duration, to_seconds
from nbstep.errors import NbstepError
from nbstep.foreign import leaves
from nbstep.transience import transient

OnDrift: TypeAlias = Literal["warn", "rerun", "error", "ignore"]
Cause: TypeAlias = Literal["code", "inputs"]
CacheErrors: TypeAlias = (
    bool | type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], object]
)

TRANSIENT_ERROR_TTL_S: Final = 60.0
# The program was not ready or not well; running it again is the only sensible thing (E2).
_NEVER_KEPT: Final = (NameError, ImportError, SyntaxError, MemoryError)


@dataclass(frozen=True, slots=True)
class Policy:
    """Options that a step, a magic flag or a workflow may set (W2).

    Attributes:
        ttl_s: Seconds a value counts; None is for ever.
        error_ttl_s: Seconds a kept error counts; None is for ever, "auto" is 60 s for transient errors and for ever for others.
        cache_errors: Which errors are kept.
        stale_if_error: A failed refetch gives the last good value.
        on_drift: What happens to a value whose step's code or inputs changed since; a mapping says it by cause.
    """

    ttl_s: float | None = None
    error_ttl_s: float | Literal["auto"] | None = "auto"
    cache_errors: CacheErrors = True
    stale_if_error: bool = False
    on_drift: OnDrift | Mapping[Cause, OnDrift] = "warn"

    def keeps(self, error: BaseException) -> bool:
        """Whether this error may be kept (E2, E3)."""
        if not isinstance(error, Exception) or isinstance(error, _NEVER_KEPT):
            return False
        if any(isinstance(leaf, (*_NEVER_KEPT, NbstepError)) for leaf in leaves(error) if leaf is not error):
            return False
        wanted = self.cache_errors
        if isinstance(wanted, bool):
            return wanted
        if isinstance(wanted, type | tuple):
            return isinstance(error, wanted)
        return bool(wanted(error))

    def on(self, cause: Cause) -> OnDrift:
        """What happens where a change has this cause (D3).

        >>> Policy(on_drift={"code": "rerun"}).on("code"), Policy(on_drift={"code": "rerun"}).on("inputs")
        ('rerun', 'warn')
        """
        wanted = self.on_drift
        return wanted if isinstance(wanted, str) else wanted.get(cause, "warn")

    def error_ttl(self, is_transient: bool) -> float | None:
        """Seconds that a kept error counts, None for ever (E3)."""
        if self.error_ttl_s == "auto":
            return TRANSIENT_ERROR_TTL_S if is_transient else None
        return self.error_ttl_s

    def error_ttl_of(self, error: Any) -> float | None:
        """As `error_ttl`, for what a step just raised, or returned in its `Err`."""
        return self.error_ttl(isinstance(error, BaseException) and transient(error))


POLICY_OPTIONS: Final = ("ttl", "error_ttl", "cache_errors", "stale_if_error", "on_drift")


def policy_changes(options: Mapping[str, Any]) -> dict[str, Any]:
    """Checked policy options, as fields of `Policy`.

    Raises:
        TypeError: An option is unknown or of the wrong type.
        ValueError: An option has no such value.
    """
    changes: dict[str, Any] = {}
    for name, value in options.items():
        if name == "ttl":
            changes["ttl_s"] = to_seconds(value, "ttl")
        elif name == "error_ttl":
            changes["error_ttl_s"] = "auto" if value == "auto" else to_seconds(cast("Duration", value), "error_ttl")
        elif name == "cache_errors":
            changes["cache_errors"] = _checked_cache_errors(value)
        elif name == "stale_if_error":
            if not isinstance(value, bool):
                raise TypeError(f"stale_if_error= takes True or False, got {value!r}")
            changes["stale_if_error"] = value
        elif name == "on_drift":
            changes["on_drift"] = _checked_on_drift(value)
        else:
            raise TypeError(f"unknown policy option {name!r}; known: {', '.join(POLICY_OPTIONS)}")
    return changes


def with_changes(policy: Policy, changes: Mapping[str, Any]) -> Policy:
    """A policy with the given fields changed."""
    return replace(policy, **changes) if changes else policy


def _checked_on_drift(value: Any) -> OnDrift | Mapping[Cause, OnDrift]:
    by_cause = isinstance(value, Mapping)
    actions: list[Any] = list(cast("Mapping[Any, Any]", value).values()) if by_cause else [value]
    if not all(isinstance(action, str) and action in get_args(OnDrift) for action in actions):
        raise ValueError(f'on_drift={value!r}: use "warn", "rerun", "error" or "ignore"')
    if by_cause and not set(value) <= set(get_args(Cause)):
        raise ValueError(f'on_drift={value!r}: by cause it is {{"code": …, "inputs": …}}')
    return dict(value) if by_cause else value


def _checked_cache_errors(value: Any) -> CacheErrors:
    classes: tuple[Any, ...] = cast("tuple[Any, ...]", value) if isinstance(value, tuple) else (value,)
    if isinstance(value, bool) or all(isinstance(c, type) and issubclass(c, BaseException) for c in classes):
        return cast("CacheErrors", value)
    if callable(value) and not isinstance(value, type):
        return cast("CacheErrors", value)
    raise TypeError(
        f"cache_errors= takes True, False, an exception type or tuple of them, or a predicate; got {value!r}"
    )
