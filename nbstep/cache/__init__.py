"""Entries kept under keys: look up, keep, delete, undo. `cache.py` is the way in, imported when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbstep.cache.cache import Cache, project_cache

__all__ = ["Cache", "project_cache"]


def __getattr__(name: str) -> Any:
    """Imports the cache's parts when a run first needs them: loading the notebook extension must cost next to nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'nbstep.cache' has no attribute {name!r}")
    value = getattr(importlib.import_module("nbstep.cache.cache"), name)
    globals()[name] = value
    return value
