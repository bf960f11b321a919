"""The notebook's side: the magic, the cell runner, the step list, the panel."""

from __future__ import annotations

import importlib
from typing import Any


def late(module: str) -> Any:
    """A part of nbstep that is imported when first used, so that `%load_ext nbstep` costs next to nothing."""
    return importlib.import_module(module)
