"""A step of a map in turns: one thread begins it, another calls its function, and who is quicker at it ends it."""

from __future__ import annotations

import threading
from typing import Any, Final

from nbstep.batch.hub import UNFINISHED, Turn
from nbstep.runs.state import Run, enclosing
from nbstep.steps.calls import Options
from nbstep.steps.quick import Taken
from nbstep.steps.take import bared, compute, for_caller, taken_wholly
from nbstep.thunks import Thunk

_LITTLE_S: Final = 0.0001


def begin_step(run: Run, key: str | None, thunk: Thunk, args: tuple[Any, ...], options: Options) -> Turn | None:
    """Begins a step of a map as far as that calls nobody's code; None where it is to be taken by `take_step`."""
    quick = None if options.alike is None else options.alike.quick
    if quick is None or key is None or enclosing.get() is not None:
        return None
    return _Begun(*quick.begin(run.next_step(), key, thunk, args, run.clock()))


def may_pay(taken: Taken) -> bool:
    """Whether a step may be ended the sooner by another thread, to go to which and back costs something.

    A function that works less than a moment left the processor's caches as they were. One that mostly works keeps the interpreter
    for itself, which that thread would wait for.
    """
    return _LITTLE_S <= taken.worked_s <= taken.took_s / 2


class _Begun(Turn):
    """A step of a map that is claimed on its quick way, or is to go the whole one."""

    __slots__ = ("_claimed", "_taken")

    def __init__(self, taken: Taken, claimed: bool) -> None:
        self._taken, self._claimed = taken, claimed

    def run(self) -> Any:
        __tracebackhide__ = True
        taken = self._taken
        if not self._claimed:
            return self._given(taken_wholly(taken.as_call()))
        taken.goes_to(threading.get_ident())
        handed_over = False
        try:
            given = taken.go(compute)
            handed_over = given is UNFINISHED and may_pay(taken)
            if handed_over:
                return UNFINISHED
            return self._given(taken.end() if given is UNFINISHED else given)
        finally:
            if not handed_over:
                taken.leave()

    def end_quickly(self) -> Any:
        given: Any = None
        try:
            given = self._taken.end_quickly() if self._taken.is_easily_ended() else UNFINISHED
        finally:
            if given is not UNFINISHED:
                self._taken.leave()
        return given

    def end(self) -> Any:
        __tracebackhide__ = True
        self._taken.goes_to(threading.get_ident())
        try:
            return self._given(self._taken.end())
        finally:
            self._taken.leave()

    def goes_to(self, thread: int) -> None:
        self._taken.goes_to(thread)

    def _given(self, given: Any) -> Any:
        return bared(for_caller(given), self._taken.options)
