"""A thunk whose work stands in a cell: the step pauses where it would call it, and is told how the work ended."""

from __future__ import annotations

import types
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from nbstep.cache.records import Kept, Receipt
from nbstep.steps.ranwith import RanWith

Pause: TypeAlias = Literal["nbstep: before loading", "nbstep: before the body"]


@dataclass(frozen=True, slots=True)
class Ended:
    """How the work ended.

    Attributes:
        value: What it gave.
        error: What it raised.
        took_s: How long it took, where another process did it.
        receipt: That process kept the value, which is to be taken from the cache.
        sent_because: Why the value was sent here though that process was to keep it, for people.
        kept: The entry that the value was taken from.
        ran_with: What that process had another way than this one.
        file_copied: Of an open file in the value the text came, in another kind of object; so it is not what the work gave.
    """

    value: Any = None
    error: BaseException | None = None
    took_s: float | None = None
    receipt: Receipt | None = None
    sent_because: str = ""
    kept: Kept | None = None
    ran_with: RanWith | None = None
    file_copied: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """What a step yields that would wait, where whoever takes it has more to do: it is to be gone on with later.

    Attributes:
        seconds: When, from now.
    """

    seconds: float


class Inline:
    """Stands for a cell's body as a step's thunk; `source` is its text, for people.

    Whoever asks for its code finds `function`, which is never called.
    """

    def __init__(self, function: types.FunctionType, source: str) -> None:
        self.__wrapped__ = function
        self.__name__ = "a cell"
        self.source = source

    def __call__(self) -> Any:
        """Never: the cell runs it."""
        raise TypeError("a cell's body is run by the cell")


@types.coroutine
def wait(seconds: float) -> Generator[Wait, Ended | None]:
    """Lets others go on for some time.

    Raises:
        BaseException: The error that it is told instead, as the step is given up.
    """
    told = yield Wait(seconds)
    if told is not None and told.error is not None:
        raise told.error


@types.coroutine
def pause(at: Pause) -> Generator[Pause, Ended | None, Ended | None]:
    """Gives the cell its turn; gives what the cell says."""
    return (yield at)
