"""The pairs of cells in `*.cells`: reads them, writes a side of each into its folder, and runs one in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent


@dataclass(frozen=True)
class Pair:
    """A cell before and after, each with its files, and what the message must name; nothing where the pair must not count."""

    name: str
    said: tuple[str, ...]
    before: dict[str, str]
    after: dict[str, str]


def read_pairs() -> dict[str, Pair]:
    """Every pair, by a number that is the name of its folder."""
    found: list[Pair] = []
    for path in sorted(HERE.glob("*.cells")):
        for text in path.read_text(encoding="utf-8").split("\n=== ")[1:]:
            title, _, cells = text.partition("\n")
            name, _, said = title.partition(" => ")
            before, _, after = cells.partition("\n--->\n")
            named = () if said == "nothing" else tuple(said.split(" & "))
            found.append(Pair(name, named, _files(before), {**_files(before), **_files(after)}))
    return {f"{at:03d}": pair for at, pair in enumerate(found)}


def _files(text: str) -> dict[str, str]:
    files: dict[str, list[str]] = {"cell": []}
    at = "cell"
    for line in text.strip("\n").splitlines():
        if line.startswith("@@ "):
            at = line[3:]
            files[at] = []
        else:
            files[at].append(line)
    return {name: "\n".join(lines).rstrip("\n") + "\n" for name, lines in files.items() if lines}


def write_side(folder: Path, files: dict[str, str]) -> None:
    """Writes one side of a pair; a file that stays keeps its time."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        path = folder / ("cell.py" if name == "cell" else name)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def run_sides(folder: Path, seed: str, python: str = sys.executable) -> dict[str, Any]:
    """What happened in each pair's folder, in a new process with this hash seed: see `run_cells.py`."""
    done = subprocess.run(
        [python, str(HERE / "run_cells.py"), str(folder)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONHASHSEED": seed},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
