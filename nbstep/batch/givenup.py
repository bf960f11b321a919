"""Tasks that a backend of joblib gave up, told one by one: joblib's dask tells nobody of them, its loky ends the whole map."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Final, TypeAlias

_TOLD: Final = "nbstep tells of what was given up"

Answer: TypeAlias = Callable[[Any, BaseException, bool], Any]


def tell_of_given_up(backend: Any, answer: Answer) -> None:
    """Lets joblib hear of each task that the backend gave up, or that cannot be sent, as of one that was done.

    On dask one whose worker died time and again, or that no worker can load, and all that a cluster had when it was closed; on
    loky all that were given to a pool of which a worker died. Other backends are left as they are.

    Args:
        backend: The one that is active.
        answer: Gives, for joblib's batch of tasks, the error, and whether the pool went with it, what is to come of it; None
            where that is not our business. That of the last call counts. Of a cluster that was closed joblib raises the error.
    """
    tells = _TELLS.get(f"{type(backend).__module__}.{type(backend).__name__}")
    if tells is None:
        return
    known = _TOLD in vars(backend)
    vars(backend)[_TOLD] = answer
    if known:
        return
    name = "submit" if hasattr(backend, "submit") else "apply_async"  # by the version of joblib
    send = getattr(backend, name)

    @functools.wraps(send)
    def submit(batch: Any, callback: Any = None) -> Any:
        return send(batch) if callback is None else tells(send, batch, callback, vars(backend)[_TOLD])

    setattr(backend, name, submit)


def _told_by_dask(send: Any, batch: Any, callback: Any, answer: Answer) -> Any:
    """It calls back with the results of what was done, or why it was called off, and not at all for what went wrong."""

    def hear(result: Any) -> None:
        if isinstance(result, BaseException) and not _is_called_off(result):
            answered = answer(batch, result, False)
            result = result if answered is None else answered
        elif isinstance(result, BaseException):
            why = ConnectionAbortedError("the cluster called it off: it, or its client, was closed or restarted")
            why.__cause__ = result
            # Raised by joblib, which so waits for none of the others: what a closed client was just given is never called off.
            result = result if answer(batch, why, True) is None else why
        callback(result)

    def tell(done: Future[Any]) -> None:
        error = done.exception()
        if error is not None and (answered := answer(batch, error, False)) is not None:
            callback(answered)

    future: Future[Any] = send(batch, hear)
    future.add_done_callback(tell)
    return future


def _is_called_off(result: BaseException) -> bool:
    """Whether dask gives it for a task that it called off; what a task raised joblib gives with the traceback of its worker."""
    was_raised = type(result.__cause__).__name__ == "_RemoteTraceback"
    return isinstance(result, asyncio.CancelledError | CancelledError) and not was_raised


def _told_by_loky(send: Any, batch: Any, callback: Any, answer: Answer) -> Any:
    """It calls back with the future, also of what was given up; a pool that is broken takes nothing more."""

    def tell(done: Future[Any]) -> None:
        error = None if done.cancelled() else done.exception()
        if isinstance(error, BrokenProcessPool) and (answered := answer(batch, error, True)) is not None:
            done = Future()
            done.set_result(answered)
        callback(done)

    try:
        return send(batch, tell)
    except BrokenProcessPool as error:  # since joblib asked for this task
        refused: Future[Any] = Future()
        refused.set_exception(error)
        refused.add_done_callback(tell)
        return refused


_TELLS: Final = {
    "joblib._dask.DaskDistributedBackend": _told_by_dask,
    "joblib._parallel_backends.LokyBackend": _told_by_loky,
}
