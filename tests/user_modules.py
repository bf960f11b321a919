"""A module of the user's own in a file, which is edited between two processes."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def user_module(folder: Path, name: str, code: str) -> Generator[Any]:
    """Writes the module and imports it; it is forgotten at the end."""
    folder.mkdir()
    (folder / f"{name}.py").write_text(code)
    sys.path.insert(0, str(folder))
    try:
        yield _imported(name)
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop(name, None)


def next_process(module: Any, code: str) -> Any:
    """The module as the next process has it: other objects, and another text where it was edited."""
    Path(module.__file__).write_text(code)
    Path(importlib.util.cache_from_source(module.__file__)).unlink(missing_ok=True)
    return _imported(module.__name__)


def _imported(name: str) -> Any:
    sys.modules.pop(name, None)
    importlib.invalidate_caches()
    return importlib.import_module(name)
