"""What loading nbstep costs: `import nbstep` in a bare Python, `%load_ext nbstep` in a running terminal IPython.

    python benchmarks/import_time.py [--runs 9] [--check]

Every figure is the median of fresh processes, taken in turn so that a busy moment hits all rows alike; one unmeasured round
warms the disk and the bytecode. joblib and httpx stand there for scale. The limit of 40 ms is for a machine on which
`import joblib` takes 144 ms; on a slower one, or in a busy moment, it grows with that. `--check` exits with 1 where it is passed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

LIMIT_MS = 40.0
JOBLIB_MS = 144.0

IN_PYTHON = """
from time import perf_counter
began = perf_counter()
{statement}
print((perf_counter() - began) * 1000)
"""

IN_SHELL = """
from time import perf_counter
from IPython.terminal.interactiveshell import TerminalInteractiveShell
shell = TerminalInteractiveShell.instance(simple_prompt=True)
shell.run_cell("1 + 1", silent=True)
began = perf_counter()
{statement}
print((perf_counter() - began) * 1000)
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One thing to time; `limit_ms` is None for those that only give the scale."""

    label: str
    program: str
    limit_ms: float | None = None


ROWS = (
    Row("import nbstep", IN_PYTHON.format(statement="import nbstep"), LIMIT_MS),
    Row("from nbstep import step, Cache", IN_PYTHON.format(statement="from nbstep import step, Cache")),
    Row("import joblib", IN_PYTHON.format(statement="import joblib")),
    Row("import httpx", IN_PYTHON.format(statement="import httpx")),
    Row("%load_ext nbstep", IN_SHELL.format(statement="shell.run_line_magic('load_ext', 'nbstep')"), LIMIT_MS),
    Row("import joblib in that shell", IN_SHELL.format(statement="import joblib")),
    Row("%load_ext autoreload", IN_SHELL.format(statement="shell.run_line_magic('load_ext', 'autoreload')")),
)


def time_once(program: str, home: Path) -> float:
    """Milliseconds one fresh process reports, with an IPython profile and a project of its own."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environ |= {"IPYTHONDIR": str(home / "ipython"), "NBSTEP_DIR": str(home / ".nbstep")}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environ, cwd=home, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def measure(runs: int) -> dict[Row, float]:
    """The median of every row, in milliseconds."""
    taken: dict[Row, list[float]] = {row: [] for row in ROWS}
    with tempfile.TemporaryDirectory() as folder:
        for round_number in range(runs + 1):
            for row in ROWS:
                milliseconds = time_once(row.program, Path(folder))
                if round_number:
                    taken[row].append(milliseconds)
    return {row: statistics.median(times) for row, times in taken.items()}


def main() -> int:
    """Prints the table; the exit code says whether the limits hold, if that was asked."""
    parser = argparse.ArgumentParser(description="Times loading nbstep.")
    parser.add_argument("--runs", type=int, default=9, help="measured processes a row, at least 5 (default: 9)")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a limit is passed")
    options = parser.parse_args()
    if options.runs < 5:
        parser.error("--runs must be at least 5: a median of fewer says little")
    medians = measure(options.runs)
    print(f"medians of {options.runs} fresh processes, Python {sys.version.split()[0]}")
    joblib_ms = next(milliseconds for row, milliseconds in medians.items() if row.label == "import joblib")
    scale = max(1.0, joblib_ms / JOBLIB_MS)
    passed: list[str] = []
    for row, milliseconds in medians.items():
        limit = ""
        if row.limit_ms is not None:
            limit = f"   (limit {row.limit_ms:.0f} ms, here {row.limit_ms * scale:.0f} ms)"
            if milliseconds >= row.limit_ms * scale:
                passed.append(row.label)
        print(f"  {row.label:<32} {milliseconds:7.1f} ms{limit}")
    if passed:
        print(f"over the limit: {', '.join(passed)}")
    return 1 if passed and options.check else 0


if __name__ == "__main__":
    raise SystemExit(main())
