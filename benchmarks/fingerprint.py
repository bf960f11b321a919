"""What the drift check costs: each hit asks whether the step's code and inputs are what they were.

    python benchmarks/fingerprint.py [--runs 2001]

"again" is a thunk whose code was looked at before in this process, "first" one whose code is new to it; "made anew" is its code
alone, with nothing remembered. The frame has 2 million rows and six columns: numbers, texts, dates, categories.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

import numpy as np
import pandas as pd

from nbstep.cache.records import Facts
from nbstep.cache.trust import SigningKey
from nbstep.drift.code import fresh_fingerprint, look_behind
from nbstep.drift.explain import changes_between
from nbstep.drift.inputs import read_inputs
from nbstep.drift.surely import surely_same

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
    if seen.code == kept.code and surely_same(kept.inputs, thunk, (), seen, KEY):
        return ()
    return changes_between(kept, seen.code, read_inputs(thunk, (), seen, KEY), 0.0)


def median_us(look: Callable[[Any, Facts], object], make: Callable[[int], Any], runs: int) -> float:
    """Of checks of thunks that `make` makes of 0 to 49, each kept before as a twin of it was."""
    kept = [kept_facts(make(number)) for number in range(50)]
    return statistics.median(taken_us(look, make(run % 50), kept[run % 50]) for run in range(runs))


def median_first_us(text: str, runs: int) -> float:
    """Of checks of lambdas whose code is new; the one that was kept stands in another line, so it is not the same code."""
    facts = lambda number: kept_facts(eval("\n" + text.format(number), NAMES))  # noqa: E731
    return statistics.median(
        taken_us(check, eval(text.format(number), NAMES), facts(number)) for number in range(1000, 1000 + runs)
    )


def taken_us(look: Callable[[Any, Facts], object], thunk: Any, kept: Facts) -> float:
    began = perf_counter_ns()
    look(thunk, kept)
    return (perf_counter_ns() - began) / 1000


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
    print(f"medians of {runs} checks, Python {sys.version.split()[0]}")
    for name in ("trivial", "named", "in_a_loop", "as_default"):
        again = median_us(check, NAMES[name], runs)
        anew = median_us(lambda thunk, _kept: fresh_fingerprint(thunk), NAMES[name], runs)
        print(f"  {name:<12} again {again:6.1f} µs   made anew {anew:6.1f} µs")
    again = median_us(check, lambda number: NAMES["in_a_loop"](f"user {number}"), runs)
    print(f"  {'with a text':<12} again {again:6.1f} µs")
    for name, text in (("one call", "lambda: parse({0})"), ("new lambda", "lambda: fetch_user({0})")):
        first = median_first_us(text, runs)
        print(f"  {name:<12} first {first:6.1f} µs")
    table = frame(2_000_000)
    again = median_us(check, lambda _: NAMES["in_a_loop"](table), min(runs, 201))
    print(f"  {'a frame':<12} again {again:6.1f} µs")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Times the drift check.")
    parser.add_argument("--runs", type=int, default=2001, help="checks a row (default: 2001)")
    main(parser.parse_args().runs)
