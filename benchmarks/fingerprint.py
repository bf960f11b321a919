"""What the drift check costs: each hit asks whether the step's code and inputs are what they were.

    python benchmarks/fingerprint.py [--runs 2001]

"again" is a thunk whose code was looked at before in this process, "first" one whose code is new to it; "made anew" is its code
alone, with nothing remembered. The frame has 2 million rows and six columns: numbers, texts, dates, categories.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from collections.abc import Callable, Mapping
from time import perf_counter_ns
from typing import Any

import numpy as np
import pandas as pd

from nbstep.cache.records import Facts
from nbstep.cache.trust import SigningKey
from nbstep.drift.code import fresh_fingerprint, look_behind
from nbstep.drift.explain import changes_between
from nbstep.drift.inputs import read_inputs

NOTEBOOK = """
class User:
    KIND = "user"
    def __init__(self, row): self.row = row
    def name(self): return self.row["name"].title()
def clean(row): return {key: value for key, value in row.items() if value}
def parse(text, sep=","): return [int(part) for part in text.split(sep)]
def fetch_user(uid): return User({**clean({"id": uid}), "n": parse("1,2")})
def trivial(uid): return lambda: 1
def named(uid): return lambda: fetch_user("1")
def in_a_loop(uid): return lambda: fetch_user(uid)
def as_default(uid): return lambda uid=uid: fetch_user(uid)
"""
NAMES: dict[str, Any] = {"__name__": "__main__"}
KEY = SigningKey(bytes(32))


def kept_facts(thunk: Any) -> Facts:
    """What an entry says of the step as it is now."""
    seen = look_behind(thunk)
    return Facts(1.0, code=dict(seen.code), inputs=dict(read_inputs(thunk, (), seen, KEY).texts))


def check(thunk: Any, kept: Facts) -> object:
    """What a hit does."""
    seen = look_behind(thunk)
    return changes_between(kept, seen.code, read_inputs(thunk, (), seen, KEY), 0.0)


def median_us(look: Callable[[Any, Facts], object], thunks: Callable[[], Any], runs: int) -> float:
    taken: list[float] = []
    kept: Mapping[Any, Facts] = {}
    for _ in range(runs):
        thunk = thunks()
        kept = kept or {None: kept_facts(thunk)}
        began = perf_counter_ns()
        look(thunk, kept[None])
        taken.append((perf_counter_ns() - began) / 1000)
    return statistics.median(taken)


def frame(rows: int) -> pd.DataFrame:
    numbers = np.arange(rows)
    texts = np.array([f"name {n}" for n in range(1000)], dtype=object)
    return pd.DataFrame(
        {
            "n": numbers,
            "x": numbers / 7,
            "s": texts[numbers % 1000],
            "t": pd.Timestamp("2024") + pd.to_timedelta(numbers, unit="s"),
            "c": pd.Categorical.from_codes(numbers % 3, ["a", "b", "c"]),
            "i": pd.array(numbers, dtype="Int64"),
        }
    )


def main(runs: int) -> None:
    exec(compile(NOTEBOOK, "<cell>", "exec"), NAMES)
    numbers = itertools.count()
    print(f"medians of {runs} checks, Python {sys.version.split()[0]}")
    for name in ("trivial", "named", "in_a_loop", "as_default"):
        thunks = lambda make=NAMES[name]: make(next(numbers) % 50)  # noqa: E731
        again, anew = (median_us(look, thunks, runs) for look in (check, lambda thunk, _kept: fresh_fingerprint(thunk)))
        print(f"  {name:<12} again {again:6.1f} µs   made anew {anew:6.1f} µs")
    again = median_us(check, lambda: NAMES["in_a_loop"](f"user {next(numbers) % 50}"), runs)
    print(f"  {'with a text':<12} again {again:6.1f} µs")
    first = median_us(check, lambda: eval(f"lambda: fetch_user({next(numbers)})", NAMES), runs)
    print(f"  {'new lambda':<12} first {first:6.1f} µs")
    table = frame(2_000_000)
    again = median_us(check, lambda: NAMES["in_a_loop"](table), min(runs, 201))
    print(f"  {'a frame':<12} again {again:6.1f} µs")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Times the drift check.")
    parser.add_argument("--runs", type=int, default=2001, help="checks a row (default: 2001)")
    main(parser.parse_args().runs)
