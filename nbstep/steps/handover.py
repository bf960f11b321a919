"""A step whose work is done in another process: it is looked up here, and kept here once the worker has told how it ended."""

from __future__ import annotations

import contextvars
import functools
import time
import traceback
from typing import Any

from nbstep.notes import error_line
from nbstep.result import Err, Ok
from nbstep.steps.attempts import attempt_thunk
from nbstep.steps.awaitable import discard
from nbstep.steps.calls import Call
from nbstep.steps.inline import Ended
from nbstep.steps.take import needs_plain_function, taking
from nbstep.stores.base import run_now


class HandedStep:
    """A step of `step.map` that pauses where its function would be called.

    Attributes:
        result: What it gave, once it is done.
    """

    def __init__(self, call: Call, context: contextvars.Context) -> None:
        self.result: Ok[Any] | Err[Any] | None = None
        self._context = context.copy()
        self._coroutine = taking(call, awaiting=False)
        self._advance(None)

    def end(self, outcome: bytes) -> Any:
        """Keeps what the worker gave, as `work_of` packed it."""
        import cloudpickle

        try:
            ended = Ended(**cloudpickle.loads(outcome))
        except Exception as error:  # noqa: BLE001 - such as a class that this process does not have
            ended = Ended(error=error)
        self._advance(ended)
        return self.result

    def give_up(self) -> None:
        """Ends it as interrupted; nothing is kept."""
        try:
            self._advance(Ended(error=KeyboardInterrupt()))
        except KeyboardInterrupt:
            return

    def _advance(self, told: Ended | None) -> None:
        __tracebackhide__ = True
        try:
            self._context.run(self._coroutine.send, told)
        except StopIteration as ended:
            self.result = ended.value


def packed(function: Any) -> bytes:
    """The function as workers take it.

    Raises:
        TypeError: It cannot be sent to another process.
    """
    import cloudpickle

    try:
        return cloudpickle.dumps(function)
    except Exception as error:
        raise TypeError(
            f"step.map cannot send its function to a worker process ({error_line(error)}). Open what it uses inside the "
            "function, or leave joblib.parallel_config out: threads need not send it"
        ) from error


def work_of(function: bytes, item: Any, retries: int) -> bytes:
    """What a worker does for one item: calls the function; gives how that ended, packed."""
    import cloudpickle

    began = time.perf_counter()
    told: dict[str, Any]
    try:
        given = run_now(attempt_thunk(_unpacked(function), (item,), retries, None, awaiting=False, prepared=None))
        if given.later is not None:
            discard(given.later)
            raise needs_plain_function()
        told = {"value": given.value, "error": given.stopped}
    except Exception as error:  # noqa: BLE001 - it is raised where the step was asked
        at = traceback.extract_tb(error.__traceback__)[-1]
        error.add_note(f"In a worker process, at {at.filename}:{at.lineno} in {at.name}.")
        told = {"error": error}
    told["took_s"] = time.perf_counter() - began
    try:
        return cloudpickle.dumps(told, protocol=5)
    except Exception as error:  # noqa: BLE001 - as above
        what = told.get("value", told["error"])
        lost = TypeError(f"a worker process cannot send back a {type(what).__name__} ({error_line(error)})")
        return cloudpickle.dumps({"error": lost, "took_s": told["took_s"]})


@functools.lru_cache(maxsize=4)
def _unpacked(function: bytes) -> Any:
    import cloudpickle

    return cloudpickle.loads(function)
