"""What the drift check costs: each hit asks whether the step's code and inputs are what they were.

    python benchmarks/fingerprint.py [--runs 2001]

"again" is a thunk whose code was looked at before in this process. "first" is one whose code is new to it, of functions that
other steps named before; "all new" is one whose functions and classes are new to it as well, as those of the first step are;
"new part" is that time by the number of these, the thunk among them. "second" is the check after that one.
The frame has 2 million rows and six columns: numbers, texts, dates, categories.

The bars hold for a machine where `open` and `pickle.load` of a small value take 5 µs, and are scaled to this one.
"""

from __future__ import annotations

import argparse
import pickle
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import pandas as pd
from work import pickled_small

from nbstep.cache.records import Facts
from nbstep.cache.trust import SigningKey
from nbstep.drift.code import look_behind
from nbstep.drift.explain import changes_between
from nbstep.drift.reading import read_inputs
from nbstep.drift.surely import surely_same

# Each function says its number, so that those of another number are no twins.
FUNCTIONS = """
class User:
    KIND = "user"
    def __init__(self, row): self.row = row, @
    def name(self): return self.row["name"].title(), @
def clean(row): return {key: value for key, value in row.items() if value}, @
def parse(text, sep=","): return [int(part) for part in text.split(sep)], @
def fetch_user(uid): return User({**clean({"id": uid}), "n": parse("1,2")}), @
"""
THUNKS = """
def trivial(uid): return lambda: 1
def named(uid): return lambda: fetch_user("1")
def in_a_loop(uid): return lambda: fetch_user(uid)
def as_default(uid): return lambda uid=uid: fetch_user(uid)
"""
SCALE_US = 5.0
KEY = SigningKey(bytes(32))


def kept_facts(thunk: Any) -> Facts:
    """What an entry says of the step as it is now."""
    seen = look_behind(thunk)
    return Facts(
        1.0, code=dict(seen.code), exact=seen.fingerprint.exact, inputs=dict(read_inputs(thunk, (), seen, KEY).texts)
    )


def check(thunk: Any, kept: Facts) -> object:
    """What a hit does."""
    seen = look_behind(thunk)
    if seen.fingerprint.exact == kept.exact and surely_same(kept.inputs, thunk, (), seen, KEY):
        return ()
    return changes_between(kept, seen.code, read_inputs(thunk, (), seen, KEY), 0.0)


def median_us(make: Callable[[int], Any], runs: int) -> float:
    """Of checks of thunks that `make` makes of 0 to 49, each kept before as a twin of it was."""
    kept = [kept_facts(make(number)) for number in range(50)]
    return statistics.median(taken_us(make(run % 50), kept[run % 50]) for run in range(runs))


def median_first_us(text: str, names: dict[str, Any], runs: int) -> float:
    """Of checks of lambdas whose code is new; the one that was kept stands in another line, so it is not the same code."""

    def first_us(number: int) -> float:
        kept = kept_facts(eval("\n" + text.format(number), names))
        return taken_us(eval(text.format(number), names), kept)

    return statistics.median(map(first_us, range(1000, 1000 + runs)))


def medians_all_new_us(text: str, runs: int) -> tuple[float, float]:
    """The same of lambdas that name functions which are new as well; and of the check after that."""

    def new_us(number: int) -> tuple[float, float]:
        kept, thunk = (eval(before + text.format(number), notebook(number, before)) for before in ("\n", ""))
        facts = kept_facts(kept)
        return taken_us(thunk, facts), taken_us(thunk, facts)

    first, second = zip(*map(new_us, range(1000, 1000 + runs)), strict=True)
    return statistics.median(first), statistics.median(second)


def notebook(number: int, before: str = "") -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(before + FUNCTIONS.replace("@", str(number)) + THUNKS, "<cell>", "exec"), names)
    return names


def taken_us(thunk: Any, kept: Facts) -> float:
    began = perf_counter_ns()
    check(thunk, kept)
    return (perf_counter_ns() - began) / 1000


def bare_us(runs: int) -> float:
    """Of `open` and `pickle.load` of a small value."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "small")
        path.write_bytes(pickled_small())
        text, taken = str(path), list[float]()
        for _ in range(runs):
            began = perf_counter_ns()
            with open(text, "rb") as file:
                pickle.load(file)
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
    names, bare = notebook(0), bare_us(runs)
    print(f"medians of {runs} checks in µs, Python {sys.version.split()[0]}")
    again = {name: median_us(names[name], runs) for name in ("trivial", "named", "in_a_loop", "as_default")}
    again["with a text"] = median_us(lambda number: names["in_a_loop"](f"user {number}"), runs)
    first: dict[str, float] = {}
    new: dict[str, float] = {}
    second: dict[str, float] = {}
    a_part: dict[str, float] = {}
    for name, text, parts in (("one call", "lambda: parse({0})", 2), ("five parts", "lambda: fetch_user({0})", 5)):
        first[name] = median_first_us(text, names, runs)
        new[name], second[name] = medians_all_new_us(text, runs // 4)
        a_part[name] = new[name] / parts
    table = frame(2_000_000)
    large = {"a frame": median_us(lambda _: names["in_a_loop"](table), min(runs, 201))}
    rows = {"again": again, "first": first, "all new": new, "new part": a_part, "second": second, "large": large}
    for kind, figures in rows.items():
        for name, figure in figures.items():
            print(f"  {name:<12} {kind:<8} {figure:6.1f}")
    scale = max(1.0, bare / SCALE_US)
    print(f"bare open + pickle.load: {bare:.1f} µs; bars scaled by {scale:.2f}")
    for kind, bar in (("again", 8), ("first", 40), ("all new", 40), ("second", 8), ("large", 1000)):
        slowest, allowed = max(rows[kind].values()), bar * scale
        print(f"  {kind:<8} {slowest:6.1f} of {allowed:6.1f} µs: {'reached' if slowest <= allowed else 'MISSED'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Times the drift check.")
    parser.add_argument("--runs", type=int, default=2001, help="checks a row (default: 2001)")
    main(parser.parse_args().runs)
