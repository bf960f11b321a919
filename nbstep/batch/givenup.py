"""Tasks that a dask cluster gave up. joblib's backend tells nobody of them, so whoever waits for one would wait for ever."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

_TOLD: Final = "nbstep tells of what the cluster gave up"


def tell_of_given_up(backend: Any, answer: Callable[[Any, BaseException], Any]) -> None:
    """Lets joblib hear of each task that the cluster gave up, or that cannot be sent to it.

    Such as one whose worker died time and again, or that no worker can load. Other backends tell by themselves.

    Args:
        backend: The one that is active.
        answer: Gives, for joblib's batch of tasks and the error, what is to come of it; None where that is not our business.
    """
    if type(backend).__module__ != "joblib._dask" or _TOLD in vars(backend):
        return
    vars(backend)[_TOLD] = True
    name = "submit" if hasattr(backend, "submit") else "apply_async"  # by the version of joblib
    send = getattr(backend, name)

    @functools.wraps(send)
    def submit(batch: Any, callback: Any = None) -> Any:
        future: Future[Any] = send(batch, callback)

        def tell(done: Future[Any]) -> None:
            error = done.exception()
            if error is not None and callback is not None and (answered := answer(batch, error)) is not None:
                callback(answered)

        future.add_done_callback(tell)
        return future

    setattr(backend, name, submit)
