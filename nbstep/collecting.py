"""Python's garbage collector, held off while very many records are made: it would walk through all of them again and again."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def no_collections() -> Generator[None]:
    """Keeps the collector from running; never around an `await` that may suspend, as other tasks would run without it too."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
