"""What an awaitable step, or a map of such, gives: everything about it happens at `await`, never at the call (K4)."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, NoReturn, TypeAlias, cast

from nbstep.events import Place
from nbstep.foreign import is_a
from nbstep.runs.state import Run
from nbstep.steps.calls import Call

Begin: TypeAlias = Callable[[Call, Awaitable[Any] | None], Coroutine[Any, Any, Any]]


class ToAwait(Coroutine[Any, Any, Any]):
    """Something to await.

    A `Coroutine`, so that `gather`, `create_task` and `TaskGroup` take it; one never awaited is named when the run ends.
    """

    def __init__(self, run: Run, key: str | None, place: Place) -> None:
        self._run = run
        self._running: Coroutine[Any, Any, Any] | None = None
        self._begun = False
        self.key = key
        self.place = place
        try:
            self.loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self.loop = None
        run.pending[id(self)] = self

    def what(self) -> str:
        """What it is, for people."""
        raise NotImplementedError

    def advice(self) -> str:
        """What to write."""
        raise NotImplementedError

    def _starts(self) -> Coroutine[Any, Any, Any]:
        raise NotImplementedError

    def _drop(self) -> None:
        """Lets go what was made for it already."""

    def _begin(self) -> Coroutine[Any, Any, Any]:
        if self._begun:
            raise RuntimeError(f"{self!r} was awaited before; keep what the first await gave")
        self._begun = True
        self._run.pending.pop(id(self), None)
        return self._starts()

    def __await__(self) -> Generator[Any, Any, Any]:
        __tracebackhide__ = True
        return self._begin().__await__()

    def send(self, value: Any, /) -> Any:
        """Runs on to the next suspension, as a task does."""
        __tracebackhide__ = True
        if self._running is None:
            self._running = self._begin()
        return self._running.send(value)

    def throw(self, *error: Any) -> Any:
        """Throws into it, as a cancelled task does."""
        __tracebackhide__ = True
        if self._running is None:
            self._drop()
            self._running = self._begin()
        return self._running.throw(*error)

    def forget(self) -> None:
        """Gives it up where nobody awaited it."""
        if not self._begun:
            self.close()

    def close(self) -> None:
        """Gives it up."""
        self._run.pending.pop(id(self), None)
        self._drop()
        if self._running is not None:
            self._running.close()

    def __getattr__(self, name: str) -> NoReturn:
        __tracebackhide__ = True
        missing = f"{type(self).__name__!r} object has no attribute {name!r}"
        # Whoever shows or copies an object asks for names with `_`, and asyncio for those of coroutines and generators.
        raise AttributeError(
            missing if name.startswith(("_", "cr_", "gi_", "ag_")) else f"{missing}; {self._to_await()}"
        )

    def _used_too_early(self, *_: Any) -> NoReturn:
        __tracebackhide__ = True
        raise TypeError(self._to_await())

    # What a value is used with. Not `__call__` nor `__eq__`: those say what an object is.
    __getitem__ = __setitem__ = __iter__ = __contains__ = __len__ = _used_too_early
    __add__ = __sub__ = __mul__ = __truediv__ = __floordiv__ = __mod__ = __pow__ = __matmul__ = _used_too_early
    __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __rfloordiv__ = __rmod__ = __rpow__ = __rmatmul__ = _used_too_early
    __and__ = __or__ = __rand__ = __ror__ = __neg__ = __abs__ = _used_too_early
    __lt__ = __le__ = __gt__ = __ge__ = _used_too_early

    def __bool__(self) -> bool:
        return True  # as any coroutine; else its length would be asked for

    def _to_await(self) -> str:
        return f"{self.what()} gives something to await: {self.advice()}"


class AwaitableStep(ToAwait):
    """A step to await."""

    _prepared: Awaitable[Any] | None = None

    def __init__(
        self, call: Call, begin: Begin, prepared: Awaitable[Any] | None = None, *, kept_only: bool = False
    ) -> None:
        """Of a call; `kept_only` where only the entry says that it is awaitable: it was when that was kept."""
        super().__init__(call.run, call.key, call.place)
        self._call = call
        self._kept_only = kept_only
        self._begin_step = begin
        self._prepared = prepared

    def _starts(self) -> Coroutine[Any, Any, Any]:
        prepared, self._prepared = self._prepared, None
        return self._begin_step(self._call, prepared)

    def _drop(self) -> None:
        if inspect.iscoroutine(self._prepared):  # a Task or Future goes on by itself and may still be awaited
            discard(self._prepared)
            self._prepared = None

    def what(self) -> str:
        """Its key."""
        key = vars(self).get("key")
        return f"step {key!r}" if key else "a step without key"

    def advice(self) -> str:
        """What to write, or where it is async no longer, what to do."""
        if not vars(self).get("_kept_only"):
            return "write `await step(…)`"
        again = self._call.command("rm")
        return f"it was async when it was kept. Write `await step(…)`, or if it no longer is, run it anew: {again}"

    def __repr__(self) -> str:
        return f"<awaitable step {self.key!r}>" if self.key else "<awaitable step>"

    def __del__(self) -> None:
        discard(self._prepared)


class AwaitableMap(ToAwait):
    """The steps of a map to await; `begin` takes them."""

    def __init__(self, run: Run, place: Place, begin: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        super().__init__(run, None, place)
        self._begin_map: Callable[[], Coroutine[Any, Any, Any]] | None = begin

    def _starts(self) -> Coroutine[Any, Any, Any]:
        begin, self._begin_map = self._begin_map, None  # with all its items
        assert begin is not None  # it begins once
        return begin()

    def what(self) -> str:
        """The call."""
        return "step.map"

    def advice(self) -> str:
        """What to write."""
        return "write `await step.map(…)`"

    def __repr__(self) -> str:
        return "<awaitable step.map>"


def discard(prepared: object) -> None:
    """Closes what nobody will await, so that nobody complains of it."""
    if inspect.iscoroutine(prepared):
        prepared.close()
    elif is_a(prepared, ToAwait):
        cast("ToAwait", prepared).forget()
