"""nbstep keeps the results, and the errors, of expensive notebook steps under keys you choose."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nbstep.integrations.registering import register_backend as _register_backend
from nbstep.version import __version__

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell
    from jupyter_server.serverapp import ServerApp

    from nbstep.cache.cache import Cache
    from nbstep.errors import (
        CachedError,
        CacheDirectoryError,
        DriftError,
        KeyCollision,
        KeyFileError,
        NbstepError,
        OfflineMiss,
        RecursiveStep,
        StepFailed,
        StepTimeout,
        WorkerError,
    )
    from nbstep.notebook.panel import panel
    from nbstep.result import Err, Ok, Result
    from nbstep.transience import transient
    from nbstep.workflows import Workflow, create_workflow, step


__all__ = [
    "Cache",
    "CacheDirectoryError",
    "CachedError",
    "DriftError",
    "Err",
    "KeyCollision",
    "KeyFileError",
    "NbstepError",
    "OfflineMiss",
    "Ok",
    "RecursiveStep",
    "Result",
    "StepFailed",
    "StepTimeout",
    "WorkerError",
    "Workflow",
    "__version__",
    "create_workflow",
    "panel",
    "step",
    "transient",
]

_errors = "nbstep.errors"
_HOME = {
    "Cache": "nbstep.cache.cache",
    "CacheDirectoryError": _errors,
    "CachedError": _errors,
    "DriftError": _errors,
    "Err": "nbstep.result",
    "KeyCollision": _errors,
    "KeyFileError": _errors,
    "NbstepError": _errors,
    "OfflineMiss": _errors,
    "Ok": "nbstep.result",
    "RecursiveStep": _errors,
    "Result": "nbstep.result",
    "StepFailed": _errors,
    "StepTimeout": _errors,
    "WorkerError": _errors,
    "Workflow": "nbstep.workflows",
    "create_workflow": "nbstep.workflows",
    "panel": "nbstep.notebook.panel",
    "step": "nbstep.steps.front",
    "transient": "nbstep.transience",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used, so that `import nbstep` costs next to nothing."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'nbstep' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: InteractiveShell) -> None:
    """`%load_ext nbstep`."""
    importlib.import_module("nbstep.notebook.extension").load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """`%unload_ext nbstep`."""
    importlib.import_module("nbstep.notebook.extension").unload(shell)


def _jupyter_server_extension_points() -> list[dict[str, str]]:  # pyright: ignore[reportUnusedFunction]
    """Jupyter's server asks for it."""
    return [{"module": "nbstep"}]


def _load_jupyter_server_extension(app: ServerApp) -> None:  # pyright: ignore[reportUnusedFunction]
    """The sidebar's addresses, in a Jupyter server that has nbstep installed."""
    importlib.import_module("nbstep.server").load(app)


_register_backend()  # `joblib.Memory(…, backend="nbstep")`; joblib is not imported for it
