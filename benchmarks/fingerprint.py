"""What the code fingerprint costs: each hit asks whether the step's code is what it was.

    python benchmarks/fingerprint.py [--runs 2001]

"again" is a thunk whose code was looked at before in this process, "first" one whose code is new to it.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from nbstep.drift.code import code_fingerprint, fresh_fingerprint

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


def median_us(look: Callable[[Any], object], thunks: Callable[[], Any], runs: int) -> float:
    taken: list[float] = []
    for _ in range(runs):
        thunk, began = thunks(), perf_counter_ns()
        look(thunk)
        taken.append((perf_counter_ns() - began) / 1000)
    return statistics.median(taken)


def main(runs: int) -> None:
    exec(compile(NOTEBOOK, "<cell>", "exec"), NAMES)
    numbers = itertools.count()
    print(f"medians of {runs} looks, Python {sys.version.split()[0]}")
    for name in ("trivial", "named", "in_a_loop", "as_default"):
        thunks = lambda make=NAMES[name]: make(next(numbers) % 50)  # noqa: E731
        again, anew = (median_us(look, thunks, runs) for look in (code_fingerprint, fresh_fingerprint))
        print(f"  {name:<12} again {again:6.1f} µs   made anew {anew:6.1f} µs")
    first = median_us(code_fingerprint, lambda: eval(f"lambda: fetch_user({next(numbers)})", NAMES), runs)
    print(f"  {'new lambda':<12} first {first:6.1f} µs")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Times the code fingerprint.")
    parser.add_argument("--runs", type=int, default=2001, help="looks a row (default: 2001)")
    main(parser.parse_args().runs)
