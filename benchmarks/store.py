"""nbstep's store beside joblib, diskcache, cachier and marimo, in one run; writes RESULTS.md.

    pip install --group bench -e .
    python benchmarks/store.py [ROW…] [--runs 5] [--folder DIR]

Each figure is the median of fresh processes that the peers take in turn. Named rows alone are measured anew; the others, and
sections written by hand, stay in RESULTS.md as they are.
"""

from __future__ import annotations

import argparse
import datetime
import math
import os
import platform
import re
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Final

from inside import LIMIT
from peers import MAIN, PEERS
from rows import ROWS, Bench, Table, simple

RESULTS: Final = Path(__file__).parent / "RESULTS.md"
SCALE_US: Final = 5.0
_TIMES: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description="Times nbstep's store beside its peers.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)} (default: all)")
    parser.add_argument("--runs", type=int, default=5, help="measured processes a figure, at least 5 (default: 5)")
    parser.add_argument("--folder", type=Path, help="where to work: on the disk that is to be measured")
    options = parser.parse_args()
    unknown = set(options.rows) - set(ROWS)
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    if options.runs < 5:
        parser.error("--runs must be at least 5: a median of fewer says little")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        bench = Bench(Path(folder), options.runs)
        (bench.folder / "home").mkdir()
        bare_us = simple(bench, "hot", [LIMIT])[LIMIT]["bare_us"]
        scale = max(1.0, bare_us / SCALE_US)
        sections = {"Machine": _machine(bare_us, options.runs)}
        for row in options.rows or ROWS:
            print(f"{row} …", file=sys.stderr, flush=True)
            before = os.getloadavg()[0]
            table = ROWS[row](bench)
            text = _section(table, scale, before)
            sections[table.title] = text
            print(f"## {table.title}\n\n{text}", flush=True)
            _write(sections)


def _machine(bare_us: float, runs: int) -> str:
    packages = [package for name in MAIN for package in PEERS[name].packages] + ["numpy", "pandas", "pyarrow"]
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in packages)
    uname = platform.uname()
    less = "; ".join(f"{name}: {PEERS[name].less}" for name in MAIN if PEERS[name].less)
    return (
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}: {os.cpu_count()} × {_processor()}, {uname.system} {uname.release}, "
        f"Python {platform.python_version()}. {versions}.\n\n"
        f"Command: `python benchmarks/store.py`, medians of {runs} fresh processes that the peers take in turn. Bare `open` + "
        f"`pickle.load` of the small value takes {bare_us:.1f} µs; bars in absolute times hold for {SCALE_US:.0f} µs, and are "
        f"scaled by {max(1.0, bare_us / SCALE_US):.2f} here. Ratios under 1.5 on a busy machine say nothing; each table tells the "
        f"load it was measured under.\n\nLess than nbstep in every table: {less}."
    )


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def _section(table: Table, scale: float, load: float) -> str:
    head = ["", *table.columns.values(), "nbstep is"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    ours = table.lines.get("nbstep")
    for name, figures in table.lines.items():
        if isinstance(figures, str) or "cannot" in figures:
            reason = figures if isinstance(figures, str) else figures["cannot"]
            lines.append(f"| {name} | {reason} |" + " |" * len(table.columns))
            continue
        cells = [_number(figures.get(column, math.nan)) for column in table.columns]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {_ratios(ours, figures, table, name)} |")
    verdict = _verdict(table, scale)
    bar = f"Bar: {table.bar}. {verdict}"
    notes = " ".join(table.notes)
    return "\n".join([bar, "", *lines, "", f"{notes} Load {load:.1f} to {os.getloadavg()[0]:.1f}.".strip(), ""])


def _ratios(ours: object, theirs: dict[str, float], table: Table, name: str) -> str:
    """How many times nbstep's figure theirs is, for each column in time."""
    if name == "nbstep" or not isinstance(ours, dict):
        return ""
    told: list[str] = []
    for column in table.columns:
        mine, other = ours.get(column, math.nan), theirs.get(column, math.nan)
        if _unit(column) and mine > 0 and math.isfinite(mine) and math.isfinite(other) and other > 0:
            told.append(f"{mine / other:.2f}×")
    return " ".join(told)


def _unit(column: str) -> float | None:
    return _TIMES.get(column.rpartition("_")[2])


def _verdict(table: Table, scale: float) -> str:
    ours = table.lines.get("nbstep")
    if not isinstance(ours, dict) or "cannot" in ours:
        return "nbstep was not measured."
    missed: list[str] = []
    for column, limit in table.limits.items():
        fixed = _unit(column) is None or column.startswith(("store_s", "processes", "threads", "tasks"))
        allowed = limit if fixed else limit * scale
        if not ours.get(column, math.inf) <= allowed:
            missed.append(f"{table.columns[column]} {_number(ours.get(column, math.nan))} of {_number(allowed)}")
    return f"**Missed**: {'; '.join(missed)}." if missed else "Reached."


def _number(value: float) -> str:
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value)}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _write(sections: dict[str, str]) -> None:
    """Replaces the sections of these titles and leaves all others."""
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "# What the store reaches\n"
    intro, *old = re.split(r"(?m)^## ", text)
    kept = {title: body.strip() for title, _, body in (part.partition("\n") for part in old)}
    kept |= {title: body.strip() for title, body in sections.items()}
    parts = [intro.strip(), *(f"## {title}\n\n{body}" for title, body in kept.items())]
    RESULTS.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
