"""Objects of others, whose code may do anything when they are looked at: what of it is theirs alone, and what is for all of us."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

# These stop the program, whoever's code they come out of. Any other `BaseException` there (Rust extensions raise one when they
# panic) is a failure of that code like any `Exception`.
INTERRUPTS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError)


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


def within(error: BaseException, whole: Callable[[BaseException], bool] | None = None) -> Iterator[BaseException]:
    """The error and, however deep, those in it if it is a group, each once.

    Args:
        error: Where to begin.
        whole: Says of a group that its members are not wanted.
    """
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if whole is None or not whole(one):
            waiting += reversed(members(one))


def leaves(error: BaseException, whole: Callable[[BaseException], bool] | None = None) -> Iterator[BaseException]:
    """The errors in a group, and in the groups in it; an error alone, or one that is `whole`, is its own leaf.

    >>> list(leaves(ExceptionGroup("all", [ExceptionGroup("two", [ValueError(1), KeyError(2)]), OSError(3)])))
    [ValueError(1), KeyError(2), OSError(3)]
    """
    for one in within(error, whole):
        if not members(one) or (whole is not None and whole(one)):
            yield one
