"""One step whose work is the rest of a cell: driven from pause to pause by the cell itself."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Generator
from typing import Any, Final, get_args

from nbstep.events import Place
from nbstep.keyfindings.sites import text_finding
from nbstep.runs.state import Run, enclosing
from nbstep.steps.calls import Call, Options
from nbstep.steps.giving import Stopped
from nbstep.steps.inline import Ended, Inline, Pause
from nbstep.steps.take import taking

_PAUSES: Final = frozenset(get_args(Pause))


class CellStep:
    """A step that gives its caller the turn before it loads what is kept, and where a thunk would be called.

    Attributes:
        done: It ended.
        value: What it gave, once it is done.
    """

    def __init__(self, run: Run, key: str, body: Inline, place: Place, *, awaiting: bool) -> None:
        problem = text_finding(key)
        if problem is not None:
            run.find("key", key, f"{key}: {problem}")
        call = Call(run, run.next_step(), key, body, (), Options(run.policy), place, enclosing.get(), run.clock())
        self._coroutine = taking(call, awaiting=awaiting)
        self.done = False
        self.value: Any = None

    @types.coroutine
    def advance(self, told: Ended | None = None) -> Generator[Any, Any, Pause | None]:
        """Goes on to the next pause; None where the step is done. Suspends only where its step awaits.

        Raises:
            Exception: What the step raises.
        """
        __tracebackhide__ = True
        go_on: Callable[[], Any] = functools.partial(self._coroutine.send, told)
        while True:
            try:
                waits_for = go_on()
            except StopIteration as ended:
                self.done, self.value = True, ended.value
                return None
            except BaseException:
                self.done = True
                raise
            if isinstance(waits_for, str) and waits_for in _PAUSES:
                return waits_for  # pyright: ignore[reportReturnType]
            try:
                sent = yield waits_for
            except BaseException as error:  # noqa: BLE001 - the step decides
                go_on = functools.partial(self._coroutine.throw, error)
            else:
                go_on = functools.partial(self._coroutine.send, sent)

    def stopped(self) -> StopIteration | None:
        """The `StopIteration` to raise, which no coroutine may."""
        return self.value.error if isinstance(self.value, Stopped) else None

    def close(self) -> None:
        """Gives the step up; nothing is kept."""
        if not self.done:
            self.done = True
            self._coroutine.close()
