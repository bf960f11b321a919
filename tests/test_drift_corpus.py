"""Pairs of cells, before and after a change, each side in a process of its own and with another hash seed (D1, D2, D3, D5)."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent / "drift"


@dataclass(frozen=True)
class Pair:
    """A cell before and after, each with its files, and what the message must name; nothing where the pair must not count."""

    name: str
    said: tuple[str, ...]
    before: dict[str, str]
    after: dict[str, str]


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


def _pairs() -> list[Pair]:
    found: list[Pair] = []
    for path in sorted(HERE.glob("*.cells")):
        for text in path.read_text(encoding="utf-8").split("\n=== ")[1:]:
            title, _, cells = text.partition("\n")
            name, _, said = title.partition(" => ")
            before, _, after = cells.partition("\n--->\n")
            named = () if said == "nothing" else tuple(said.split(" & "))
            found.append(Pair(name, named, _files(before), {**_files(before), **_files(after)}))
    return found


PAIRS = {f"{at:03d}": pair for at, pair in enumerate(_pairs())}


def _write(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        path = folder / ("cell.py" if name == "cell" else name)
        if not path.exists() or path.read_text(encoding="utf-8") != text:  # what stays keeps its time
            path.write_text(text, encoding="utf-8")


def _run(folder: Path, seed: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(HERE / "run_cells.py"), str(folder)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONHASHSEED": seed},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@functools.cache
def _outcomes(folder: Path) -> tuple[dict[str, Any], ...]:
    """What happened to each pair: before, after, and after once more under another hash seed."""
    for number, pair in PAIRS.items():
        _write(folder / number, pair.before)
    before = _run(folder, "1")
    for number, pair in PAIRS.items():
        _write(folder / number, pair.after)
    return before, _run(folder, "1"), _run(folder, "2")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], ...]:
    return _outcomes(tmp_path_factory.mktemp("drift"))


@pytest.mark.parametrize("number", PAIRS, ids=[pair.name for pair in PAIRS.values()])
def test_d1_what_counts_is_named_and_what_does_not_is_not(outcomes: tuple[dict[str, Any], ...], number: str) -> None:
    before, *later = (outcome[number] for outcome in outcomes)
    said = PAIRS[number].said
    assert before["ok"], before
    assert set(before["misses"]) == {"new"}, before
    for after in later:
        assert after["ok"], after
        assert (after["hits"], after["misses"]) == (len(before["misses"]), []), after
        drift = "; ".join(after["drift"])
        assert bool(drift) == bool(said), drift
        assert [text for text in said if text not in drift] == [], drift
        assert sum("old value" in finding for finding in after["findings"]) == len(drift.split("; ")) * bool(said)


def test_half_of_the_pairs_must_not_count() -> None:
    assert len(PAIRS) >= 60
    assert sum(not pair.said for pair in PAIRS.values()) >= len(PAIRS) / 2 - 1
    assert len({pair.name for pair in PAIRS.values()}) == len(PAIRS)
