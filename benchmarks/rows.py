"""The rows of the table: how each is measured in fresh processes, and what it must reach."""

from __future__ import annotations

import json
import math
import os
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from inside import LIMIT
from peers import MAIN

HERE: Final = Path(__file__).parent
LISTED: Final = 100_000
DELETED: Final = 1000
PATIENCE_S: Final = 10.0


@dataclass
class Table:
    """One row of the bars, measured: a line a peer, a column a figure.

    Attributes:
        title: What was measured.
        bar: What nbstep must reach, in words.
        columns: Names of the figures, by their names inside.
        lines: Figures by peer; a text where there is none.
        limits: By column, what nbstep's figure may be; those in time grow with the machine's scale.
        notes: What else a reader must know.
    """

    title: str
    bar: str
    columns: dict[str, str]
    lines: dict[str, dict[str, float] | str] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Bench:
    """How to measure: the folder to work in, and how many processes a figure."""

    folder: Path
    runs: int

    @contextmanager
    def place(self) -> Iterator[Path]:
        """A new empty folder, emptied at once only of what is large.

        Small files stay to the end of all rows: after thousands were deleted, ext4 is slow to make new ones for minutes.
        """
        place = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            yield place
        finally:
            for path in place.rglob("*"):
                if path.is_file() and path.stat().st_size > 1 << 20:
                    path.unlink()

    def inside(self, row: str, peer: str, place: Path, *arguments: object) -> Any:
        """What one fresh process measures."""
        command = [sys.executable, HERE / "inside.py", row, peer, place, *map(str, arguments)]
        try:
            done = subprocess.run(
                command, env=self.environ(), cwd=place, capture_output=True, text=True, timeout=1800, check=True
            )
        except subprocess.CalledProcessError as error:
            return {"cannot": error.stderr.strip().splitlines()[-1][:200]}
        return json.loads(done.stdout.splitlines()[-1])

    def start(self, row: str, peer: str, place: Path, *arguments: object) -> subprocess.Popen[str]:
        """A process that waits for a line on its standard input."""
        command = [sys.executable, HERE / "inside.py", row, peer, place, *map(str, arguments)]
        return subprocess.Popen(
            command, env=self.environ(), cwd=place, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def environ(self) -> dict[str, str]:
        """A home of its own, with its own signing key."""
        home = str(self.folder / "home")
        return os.environ | {"HOME": home, "JUPYTER_DATA_DIR": f"{home}/jupyter", "IPYTHONDIR": f"{home}/ipython"}


def medians(taken: Sequence[dict[str, Any]]) -> dict[str, float] | str:
    """The median of each figure; the reason where there are none."""
    reasons = [one["cannot"] for one in taken if "cannot" in one]
    if reasons or not taken:
        return reasons[0] if reasons else "not run"
    return {name: statistics.median(one[name] for one in taken) for name in taken[0]}


def in_turn(bench: Bench, names: Sequence[str], measure: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """The medians of all, taken in turn, so that a busy moment hits all alike; who cannot is asked once."""
    taken: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(bench.runs):
        for name in names:
            if not any("cannot" in one for one in taken[name]):
                taken[name].append(measure(name))
    return {name: medians(figures) for name, figures in taken.items()}


def simple(bench: Bench, row: str, names: Sequence[str]) -> dict[str, Any]:
    """Each process in an empty folder."""

    def measure(name: str) -> dict[str, Any]:
        with bench.place() as place:
            return bench.inside(row, name, place)

    return in_turn(bench, names, measure)


def hot(bench: Bench) -> Table:
    table = Table("Hot hit, small value: look-up to a fresh object", "6 µs", {"us": "µs"}, limits={"us": 6})
    table.lines = simple(bench, "hot", (LIMIT, *MAIN))
    bare = table.lines[LIMIT]
    assert isinstance(bare, dict)
    table.notes.append(f"limit: `stat` + `pickle.loads`. Bare `open` + `pickle.load`: {bare['bare_us']:.1f} µs.")
    return table


def hot_step(bench: Bench) -> Table:
    table = Table(
        "Hot hit through `step` in a workflow, drift check and a listener on",
        "20 µs",
        {"us": "µs a step"},
        limits={"us": 20},
    )
    table.lines = simple(bench, "hot-step", MAIN)
    table.notes.append("500 keys asked in turn. Peers: their decorator; none looks at what a function calls.")
    return table


def first_hit(bench: Bench) -> Table:
    table = Table(
        "First hit in a new process, imports done: open the cache and hit", "600 µs", {"us": "µs"}, limits={"us": 600}
    )
    with bench.place() as place:
        folders, modules = {name: place / name for name in (LIMIT, *MAIN)}, {}
        for name, folder in folders.items():
            folder.mkdir()
            if name == LIMIT:
                bench.inside("hot", name, folder)
                continue
            bench.inside("fill", name, folder, 2)
            modules[name] = place / f"{name}.json"
            modules[name].write_text(json.dumps(bench.inside("modules", name, folder)))
        table.lines = in_turn(
            bench, list(folders), lambda name: bench.inside("first-hit", name, folders[name], modules.get(name, ""))
        )
    table.notes.append(
        "limit: `open` + `pickle.load`. Every module that the hit loads was imported before, for all alike."
    )
    return table


def store_small(bench: Bench) -> Table:
    table = Table(
        "Miss and store, small value, 1,000 keys", "120 µs", {"us": "µs", "mean_us": "mean µs"}, limits={"us": 120}
    )
    table.lines = simple(bench, "store-small", (LIMIT, *MAIN))
    table.notes.append(
        "limit: temporary file + rename, in the same layout. nbstep and diskcache: `get`, then `set`; nbstep's includes "
        "saying why the key is missing. diskcache writes into one SQLite file, unsigned."
    )
    return table


def array(bench: Bench) -> Table:
    table = Table(
        "512 MB array: hit in a new process, and store",
        "hit 0.11 s, 32 MB, writable; store 1.6 × np.save, 64 MB",
        {"hit_s": "hit s", "hit_mb": "hit MB", "writable": "writable", "store_s": "store s", "store_mb": "store MB"},
        limits={"hit_s": 0.11, "hit_mb": 32, "store_mb": 64},
    )
    table.lines = large(bench, "array")
    _times_limit(table, "store_s", 1.6)
    table.notes.append(
        "limit: `np.save`, `np.load`. MB: growth of anonymous memory; what nbstep maps is the file's own pages, copied where "
        "one writes. nbstep checks every byte at each hit, no peer any."
    )
    return table


def frame(bench: Bench) -> Table:
    table = Table(
        "Frame of 2 million rows, 8 columns, 2 of strings: hit in a new process, and store",
        "hit 35 ms; store 1.5 × pickle",
        {"hit_s": "hit s", "hit_mb": "hit MB", "store_s": "store s", "store_mb": "store MB"},
        limits={"hit_s": 0.035},
    )
    table.lines = large(bench, "frame")
    _times_limit(table, "store_s", 1.5)
    bare = table.lines[LIMIT]
    assert isinstance(bare, dict)
    table.notes.append(
        f"limit: pickle 5. `read_feather` with a memory map, read-only: {bare['feather_s'] * 1000:.0f} ms."
    )
    return table


def _times_limit(table: Table, column: str, factor: float) -> None:
    bare = table.lines[LIMIT]
    if isinstance(bare, dict):
        table.limits[column] = bare[column] * factor


def large(bench: Bench, kind: str) -> dict[str, Any]:
    def measure(name: str) -> dict[str, Any]:
        figures: dict[str, Any] = {}
        with bench.place() as place:
            if name == LIMIT:
                return bench.inside("large", name, place, kind)
            for row, memory in (("store-large", "time"), ("hit-large", "time")):
                found = bench.inside(row, name, place, kind, memory)
                if "cannot" in found:
                    return found
                figures |= {_column(row, one): value for one, value in found.items()}
        return figures

    def measure_memory(name: str) -> dict[str, Any]:
        figures: dict[str, Any] = {}
        with bench.place() as place:
            for row in ("store-large", "hit-large"):
                found = bench.inside(row, name, place, kind, "memory")
                figures |= {_column(row, one): value for one, value in found.items() if one == "mb"}
        return figures

    lines = in_turn(bench, (LIMIT, *MAIN), measure)
    for name in MAIN:
        if isinstance(lines[name], dict):
            lines[name] |= measure_memory(name)  # growth of memory needs no median
    return lines


def _column(row: str, figure: str) -> str:
    return figure if figure == "writable" else f"{row.removesuffix('-large')}_{figure}"


def listing(bench: Bench) -> Table:
    table = Table(
        f"List {LISTED:,} entries with metadata; delete {DELETED:,} of them, with undo",
        "first 1.8 s, new process later 250 ms, after one change 100 ms; delete 100 ms",
        {
            "first_ms": "first ms", "ms": "later ms", "changed_ms": "after a change ms",
            "delete_ms": "delete ms", "undo_ms": "undo ms",
        },
        limits={"first_ms": 1800, "ms": 250, "changed_ms": 100, "delete_ms": 100},
    )  # fmt: skip
    names = ("nbstep", "joblib", "diskcache")
    with bench.place() as place:
        folders = {name: place / name for name in names}
        for name, folder in folders.items():
            folder.mkdir()
            bench.inside("fill", name, folder, LISTED)

        def measure(name: str) -> dict[str, Any]:
            figures: dict[str, Any] = {}
            if name == LIMIT:
                return {"ms": bench.inside("listing", name, folders["nbstep"])["ms"]} | {
                    f"delete_{one}": value for one, value in _in_new_place(bench, "delete", name).items()
                }
            shutil.rmtree(folders[name] / ".nbstep" / "v1" / "catalog", ignore_errors=True)
            time.sleep(1.5)  # a folder that changed within the last second is not remembered
            figures["first_ms"] = bench.inside("listing", name, folders[name], LISTED)["ms"]
            figures["ms"] = bench.inside("listing", name, folders[name], LISTED)["ms"]
            figures["changed_ms"] = bench.inside("listing-after-change", name, folders[name], LISTED)["ms"]
            found = bench.inside("delete", name, folders[name], DELETED)
            figures["delete_ms"] = found["ms"]
            figures["undo_ms"] = found.get("undo_ms", float("nan"))
            return figures

        table.lines = in_turn(bench, (LIMIT, *names), measure)
    table.lines["cachier"] = "lists no entries, deletes all of a function at once"
    table.lines["marimo"] = "lists no entries, deletes none"
    table.notes.append(
        "limit: `scandir` of all folders; `unlink`. diskcache lists keys only, metadata would be a query a key. joblib lists "
        'folders with size and time, without arguments. Only nbstep can undo. "after a change": in a process that listed before.'
    )
    return table


def _in_new_place(bench: Bench, row: str, name: str) -> dict[str, Any]:
    with bench.place() as place:
        return bench.inside(row, name, place)


def imports(bench: Bench) -> Table:
    import import_time

    table = Table(
        "Import in a bare Python, and in a running IPython: `%load_ext` for nbstep",
        "30 ms / 30 ms",
        {"import_ms": "import ms", "shell_ms": "in IPython ms"},
        limits={"import_ms": 30, "shell_ms": 30},
    )
    with bench.place() as place:

        def measure(name: str) -> dict[str, float]:
            load = "shell.run_line_magic('load_ext', 'nbstep')" if name == "nbstep" else f"import {name}"
            return {
                "import_ms": import_time.time_once(import_time.IN_PYTHON.format(statement=f"import {name}"), place),
                "shell_ms": import_time.time_once(import_time.IN_SHELL.format(statement=load), place),
            }

        for name in MAIN:
            measure(name)  # warms the disk and the bytecode
        table.lines = in_turn(bench, MAIN, measure)
    return table


def herd(bench: Bench) -> Table:
    columns = {f"{how}_{what}": f"{how} {what}" for how in ("processes", "threads", "tasks") for what in ("runs", "s")}
    table = Table("4 processes, then 4 threads, then 4 tasks ask for one missing key of 0.5 s", "1 run each, 0.7 s in all",
                  columns, limits={f"{how}_runs": 1 for how in ("processes", "threads", "tasks")}
                  | {f"{how}_s": 0.7 for how in ("processes", "threads", "tasks")})  # fmt: skip
    names = ("nbstep", "joblib", "diskcache", "diskcache + barrier", "cachier", "marimo")
    hanging: dict[tuple[str, str], float] = {}  # once is enough

    def measure(name: str) -> dict[str, Any]:
        figures: dict[str, Any] = {}
        for how in ("processes", "threads", "tasks"):
            if (name, how) in hanging:
                figures |= {f"{how}_runs": hanging[name, how], f"{how}_s": math.inf}
                continue
            with bench.place() as place:
                for what, value in _herd(bench, name, how, place).items():
                    figures[f"{how}_{what}"] = value
            if math.isinf(figures[f"{how}_s"]):
                hanging[name, how] = figures[f"{how}_runs"]
        return figures

    table.lines = in_turn(bench, names, measure)
    table.notes.append(f"∞: ended after {PATIENCE_S:.0f} s. –: cannot store what an async function gives.")
    return table


def _herd(bench: Bench, name: str, how: str, place: Path) -> dict[str, float]:
    counted = place / "runs.txt"
    counted.touch()
    key = f"herd:{counted}"
    processes = [bench.start("herd", name, place, how, 4, key) for _ in range(4 if how == "processes" else 1)]
    if how == "processes":
        _wait_until_ready(processes)
    deadline = time.monotonic() + PATIENCE_S
    told: list[dict[str, Any]] = []
    for process in processes:
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.write("go\n")
            process.stdin.flush()
    for process in processes:
        try:
            out, _ = process.communicate(timeout=max(1.0, deadline - time.monotonic()))
            told.append(json.loads(out.splitlines()[-1]) if process.returncode == 0 else {"cannot": 1})
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            told.append({"hangs": 1})
    runs = float(len(counted.read_text().splitlines()))
    if any("hangs" in one for one in told):
        return {"runs": runs, "s": float("inf")}
    if any("cannot" in one for one in told):
        return {"runs": float("nan"), "s": float("nan")}
    return {"runs": runs, "s": max(one["ended"] for one in told) - min(one["began"] for one in told)}


def _wait_until_ready(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Returns when each has said so, or was not heard in time: cachier's may wait for each other even before."""
    deadline = time.monotonic() + 3 * PATIENCE_S
    for process in processes:
        assert process.stdout is not None
        if select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
            process.stdout.readline()


def kills(bench: Bench) -> Table:
    names = ("wrong", "raising", "others lost", "litter", "kept")
    table = Table(
        "50 SIGKILLs while storing 20 MB",
        "0 wrong, 0 raising, 0 other keys lost, litter collected",
        {name: name for name in names}, limits=dict.fromkeys(names[:4], 0),
    )  # fmt: skip
    for name in (*MAIN, "cachier, default"):
        with bench.place() as place:
            table.lines[name] = bench.inside("kills", name, place, 50)
    table.notes.append(
        "One series of 50. raising: or hanging for 3 s. kept: the store was done before the kill. litter: files of no entry, "
        "after the peer's own tidying (diskcache names them, and `check(fix=True)` removes them); nbstep's are collected once "
        "they are five minutes old and their process is gone."
    )
    return table


def flips(bench: Bench) -> Table:
    names = ("silent", "raising", "noticed")
    table = Table(
        "50 flipped bits in a 1 MB array", "0 silent wrong values", {name: name for name in names}, limits={"silent": 0}
    )
    for name in MAIN:
        with bench.place() as place:
            table.lines[name] = bench.inside("flips", name, place, 50)
    table.notes.append("noticed: a miss. One series of 50.")
    return table


ROWS: Final[dict[str, Callable[[Bench], Table]]] = {
    "hot": hot,
    "hot-step": hot_step,
    "first-hit": first_hit,
    "store-small": store_small,
    "array": array,
    "frame": frame,
    "listing": listing,
    "imports": imports,
    "herd": herd,
    "kills": kills,
    "flips": flips,
}
