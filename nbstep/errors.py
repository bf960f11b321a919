"""Every exception that nbstep itself raises.

    NbstepError
    ├── StepFailed        a thunk returned Err(error) whose error is no exception
    ├── CachedError       a kept error whose own class could not be rebuilt
    ├── KeyCollision      one key, two certainly different steps
    ├── RecursiveStep     a step asks for its own key
    ├── OfflineMiss       mode "offline", and something is not in the cache
    ├── DriftError        on_drift="error", and code or an input changed
    ├── CellStopped       a notebook cell cannot start: its %%workflow line, or the name `step`
    ├── WorkerError       an item, a function or a result could not go to a worker process of `step.map` or come back
    ├── StepTimeout       a step took longer than its timeout=        (also a TimeoutError)
    ├── CacheDirectoryError   a cache directory cannot be created or written  (also an OSError)
    └── KeyFileError      a file cannot serve as signing key          (also an OSError)

Wrong arguments are plain `TypeError` and `ValueError`, as everywhere in Python.
"""

from __future__ import annotations

from typing import Any


class NbstepError(Exception):
    """The root of nbstep's own exceptions; none of them is ever kept."""


class StepFailed(NbstepError):  # noqa: N818 - the name says what happened
    """A thunk returned `Err(error)` and `error` is no exception.

    Attributes:
        key: The step's key, or None for a step without one.
        error: What the thunk put into its `Err`.
    """

    def __init__(self, key: str | None, error: Any) -> None:
        super().__init__(key, error)
        self.key = key
        self.error = error

    def __str__(self) -> str:
        return f"{self.key or 'the step'} failed: {self.error!r}"


class CachedError(NbstepError):
    """Stands for a kept error whose own class could not be rebuilt.

    Attributes:
        type_name: The original class, as `module.QualName`.
        message: Its text.
        traceback_text: The original traceback.
    """

    def __init__(self, type_name: str, message: str, traceback_text: str) -> None:
        super().__init__(type_name, message, traceback_text)
        self.type_name = type_name
        self.message = message
        self.traceback_text = traceback_text

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}"


class KeyCollision(NbstepError):  # noqa: N818 - the name says what happened
    """One key was asked by two certainly different steps."""


class RecursiveStep(NbstepError):  # noqa: N818
    """A step asks for its own key while it computes it."""


class OfflineMiss(NbstepError):  # noqa: N818
    """Mode "offline", and a step is not in the cache."""


class DriftError(NbstepError):
    """`on_drift="error"`, and the step's code or an input changed since its entry was kept."""


class CellStopped(NbstepError):  # noqa: N818
    """A `%%workflow` cell cannot start; IPython shows it as one line, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


class WorkerError(NbstepError):
    """What `step.map` sent to a worker process, or got from it, could not be sent or loaded; or the workers died of it."""


class StepTimeout(NbstepError, TimeoutError):  # noqa: N818
    """A step took longer than the `timeout=` it was given."""


class CacheDirectoryError(NbstepError, OSError):
    """A cache directory cannot be created or written."""


class KeyFileError(NbstepError, OSError):
    """A file cannot serve as signing key, or the key in it cannot be replaced."""
