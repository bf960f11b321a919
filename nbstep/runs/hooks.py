"""Where the notebook and the engine meet: the active run, the executing cell's, and what guards a thunk.

Apart from both, and light: the notebook extension sets these when it is loaded, the engine reads them when a step is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbstep.runs.state import Run

active_run: ContextVar[Run | None] = ContextVar("nbstep_run", default=None)

# Opens the run that a process was handed with the work it does for another one.
handed_run: ContextVar[Callable[[], Run] | None] = ContextVar("nbstep_handed_run", default=None)

_ambient: Callable[[], Run | None] = lambda: None  # noqa: E731 - replaced by the notebook
_guard: Callable[[], AbstractContextManager[Any]] = nullcontext
_stop: Callable[[], None] | None = None  # set by the notebook


def set_ambient_run(provider: Callable[[], Run | None] | None) -> None:
    """Says which run serves where no ContextVar tells: the notebook's cell that executes now (W5)."""
    global _ambient
    _ambient = provider if provider is not None else lambda: None


def ambient_run() -> Run | None:
    """The run of the work that this process was handed; else of the cell that executes now, if one does."""
    handed = handed_run.get()
    return _ambient() if handed is None else handed()


def guard_thunks(
    guard: Callable[[], AbstractContextManager[Any]] | None, stop: Callable[[], None] | None = None
) -> None:
    """Installs a context manager around every stretch of a thunk, and what may refuse one; None takes both away.

    The notebook uses them so that an interrupt stops a blocking thunk in a cell that awaits, and no other begins after it.
    """
    global _guard, _stop
    _guard = nullcontext if guard is None else guard
    _stop = stop


def stop_if_interrupted() -> None:
    """Raises where the user interrupted what runs now, and it only has not heard of it yet."""
    stop = _stop
    if stop is not None:
        stop()


def thunk_guard() -> AbstractContextManager[Any]:
    """The context manager for one call of a plain thunk, which begins with `stop_if_interrupted`.

    Outside, an interrupt is only noted; one that came just before the block must not wait until it ends.
    """
    return _guard()


def notebook_name(user_ns: Mapping[str, Any], environ: Mapping[str, str]) -> str | None:
    """The file name of the notebook that has these variables, where VS Code or a Jupyter server tells it."""
    names = user_ns.get("__vsc_ipynb_file__"), environ.get("JPY_SESSION_NAME")
    return next((PurePath(n).name for n in names if isinstance(n, str) and n.endswith(".ipynb")), None)
