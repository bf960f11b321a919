"""Objects of others, whose code may do anything when they are looked at: what of it is theirs alone, and what is for all of us."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias, cast

# These stop the program, whoever's code they come out of. Any other `BaseException` there (Rust extensions raise one when they
# panic) is a failure of that code like any `Exception`.
_INTERRUPTS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit)
# What most thunks and stores give: to be told that it cannot be awaited takes ten times as long.
_NEVER_AWAITED: Final = frozenset({type(None), bool, int, float, str, bytes, list, tuple, dict, set})
Parts: TypeAlias = Callable[[BaseException], Sequence[BaseException]]


def interrupts() -> tuple[type[BaseException], ...]:
    """The classes of those; asyncio's is one of them where anybody imported it, which takes long."""
    asyncio = sys.modules.get("asyncio")
    cancelled: type[BaseException] | None = getattr(asyncio, "CancelledError", None)
    return _INTERRUPTS if cancelled is None else (*_INTERRUPTS, cancelled)


def is_a(value: object, *classes: type) -> bool:
    """As `isinstance`, without asking the value for its `__class__`, which may be a property of its own."""
    return issubclass(type(value), classes)


def is_awaitable(value: object) -> bool:
    """Whether it can be awaited; what raises when it is asked cannot."""
    try:
        return type(value) not in _NEVER_AWAITED and inspect.isawaitable(value)
    except interrupts():
        raise
    except BaseException:  # noqa: BLE001 - it looks at `__class__`, which may be a property of the value's own
        return False


def own(error: BaseException, name: str) -> Any:
    """`args`, `__cause__`, `__dict__` and the like, where a property or `__getattr__` of the class may stand before them."""
    return vars(BaseException)[name].__get__(error)


def members(error: BaseException) -> tuple[BaseException, ...]:
    """The errors of a group; none of any other error.

    >>> members(ExceptionGroup("both", [ValueError(1), KeyError(2)])), members(ValueError(1))
    ((ValueError(1), KeyError(2)), ())
    """
    if not issubclass(type(error), BaseExceptionGroup):
        return ()
    return cast("tuple[BaseException, ...]", vars(BaseExceptionGroup)["exceptions"].__get__(error))


def within(error: BaseException, parts: Parts = members) -> Iterator[BaseException]:
    """The error and all that hang on it, however deep, each once.

    Args:
        error: Where to begin.
        parts: What hangs on one error; the members of a group, where nothing is said.
    """
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += reversed(parts(one))


def leaves(error: BaseException, parts: Parts = members) -> Iterator[BaseException]:
    """The errors in a group, and in the groups in it; an error alone, or one without `parts`, is its own leaf.

    >>> list(leaves(ExceptionGroup("all", [ExceptionGroup("two", [ValueError(1), KeyError(2)]), OSError(3)])))
    [ValueError(1), KeyError(2), OSError(3)]
    """
    return (one for one in within(error, parts) if not parts(one))
