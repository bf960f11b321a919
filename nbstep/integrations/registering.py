"""Makes `joblib.Memory(location, backend="nbstep")` work after `import nbstep`, whichever of the two is imported first.

joblib is not imported for it: where it is not there yet, a finder waits for it. Nor is the engine, before the first such Memory.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final, cast

BACKEND: Final = "nbstep"
_MEMORY: Final = "joblib.memory"


def register_backend() -> None:
    """Tells joblib of the backend, now or as soon as it is imported."""
    there = sys.modules.get(_MEMORY)
    if there is not None:
        _register(there)
    elif not any(isinstance(finder, _Waiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting())


class _Waiting:
    """Asked first for every module that is imported; finds joblib's alone, where the others find it."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:
        """As finders have it."""
        return self._spec(name, path, target) if name == _MEMORY else None

    def _spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
        others = (getattr(finder, "find_spec", None) for finder in tuple(sys.meta_path) if finder is not self)
        specs = (find(name, path, target) for find in others if find is not None)
        spec: ModuleSpec | None = next((spec for spec in specs if spec is not None), None)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = cast("Any", _Loader(spec.loader))
        return spec


class _Loader:
    """The loader that was found, which registers when the module has run, and leaves no trace in it."""

    def __init__(self, found: Any) -> None:
        self._found = found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found, name)

    def exec_module(self, module: Any) -> None:
        """As loaders have it."""
        module.__spec__.loader = module.__loader__ = self._found
        self._found.exec_module(module)
        sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Waiting)]
        _register(module)


def _register(memory: Any) -> None:
    class Nbstep(memory.StoreBackendBase):  # joblib makes an object of it for each Memory
        def __new__(cls) -> Any:
            return importlib.import_module("nbstep.integrations.memory").NbstepStoreBackend()

    memory.register_store_backend(BACKEND, Nbstep)
