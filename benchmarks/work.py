"""The work that is cached: values to make, how often they were made, and whether what came back is right."""

from __future__ import annotations

import os
import pickle
import time
from pathlib import Path
from typing import Any

MB = 1 << 20
ARRAY_MB = 512
KILLED_MB = 20
FRAME_ROWS = 2_000_000
HERD_S = 0.5

made: list[str] = []  # the keys whose values were computed in this process
ready: dict[str, Any] = {}  # values that are only handed over, where making them must not be timed


def produce(key: str) -> Any:
    """What every peer caches. The key's first word says what to make; the rest only tells keys apart."""
    made.append(key)
    return given(key)


async def produce_later(key: str) -> Any:
    """The same for tasks of one event loop."""
    import asyncio

    made.append(key)
    note_run(key)
    await asyncio.sleep(HERD_S)
    return key


def given(key: str) -> Any:
    """The value that is ready for a key, else a new one."""
    return ready[key] if key in ready else value_of(key)


def value_of(key: str) -> Any:
    """The value that belongs to a key, the same each time."""
    kind, _, rest = key.partition(":")
    if kind == "array":
        return _array(ARRAY_MB * MB, 0)
    if kind == "killed":
        return _array(KILLED_MB * MB, int(rest))
    if kind == "flipped":
        return _array(MB, int(rest))
    if kind == "frame":
        return _frame()
    if kind == "herd":
        note_run(key)
        time.sleep(HERD_S)
        return key
    return {"id": rest, "name": "Ada Lovelace", "langs": ["en", "fr"], "score": 9.5}


def note_run(key: str) -> None:
    """Adds a line to the file that counts the runs of a herd's key over all processes."""
    with Path(key.partition(":")[2]).open("a") as counted:
        counted.write(f"{os.getpid()}\n")


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, arrays included."""
    if hasattr(one, "shape") and hasattr(other, "shape"):
        return one.shape == other.shape and bool((one == other).all())
    return type(one) is type(other) and not hasattr(one, "shape") and one == other


def pickled_small() -> bytes:
    """The small value as a bare pickle."""
    return pickle.dumps(value_of("user:1"), 5)


def _array(size: int, seed: int) -> Any:
    import numpy as np

    return np.random.default_rng(seed).integers(0, 1 << 62, size // 8).view(np.float64)


def _frame() -> Any:
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {f"x{n}": rng.random(FRAME_ROWS) for n in range(4)}
    columns["n"] = rng.integers(0, 1000, FRAME_ROWS)
    columns["when"] = pd.date_range("2020-01-01", periods=FRAME_ROWS, freq="s")
    for name, prefix in (("city", "city-"), ("user", "user-")):
        words = np.array([f"{prefix}{n}" for n in range(5000)], dtype=object)
        columns[name] = pd.Series(words[rng.integers(0, 5000, FRAME_ROWS)], dtype="str")
    return pd.DataFrame(columns)
