"""Pairs of cells, before and after a change, each side in a process of its own and with another hash seed (D1, D2, D3, D5)."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from drift.corpus import Pair, read_pairs, run_sides, write_side

PAIRS = read_pairs()
ROOT = Path(__file__).parent.parent


@functools.cache
def _outcomes(folder: Path, python: str = sys.executable) -> tuple[dict[str, Any], ...]:
    """What happened to each pair: before, after, and after once more under another hash seed."""
    for number, pair in PAIRS.items():
        write_side(folder / number, pair.before)
    before = run_sides(folder, "1", python)
    for number, pair in PAIRS.items():
        write_side(folder / number, pair.after)
    return before, run_sides(folder, "1", python), run_sides(folder, "2", python)


def _wrong(pair: Pair, before: dict[str, Any], *later: dict[str, Any]) -> list[str]:
    """What is wrong with the outcomes of a pair."""
    found = [f"before: {before}"] if not before["ok"] or set(before["misses"]) != {"new"} else []
    for after in later:
        drift = "; ".join(after["drift"])
        told = sum("old value" in finding for finding in after["findings"])
        if not after["ok"] or after["misses"] or after["hits"] != len(before["misses"]):
            found.append(f"after: {after}")
        if bool(drift) != bool(pair.said) or not all(text in drift for text in pair.said):
            found.append(f"said: {drift or 'nothing'}")
        if told != len(after["drift"]) * bool(pair.said):  # one line a value, however many changes
            found.append(f"findings: {after['findings']}")
    return found


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], ...]:
    return _outcomes(tmp_path_factory.mktemp("drift"))


@pytest.mark.parametrize("number", PAIRS, ids=[pair.name for pair in PAIRS.values()])
def test_d1_what_counts_is_named_and_what_does_not_is_not(outcomes: tuple[dict[str, Any], ...], number: str) -> None:
    assert _wrong(PAIRS[number], *(outcome[number] for outcome in outcomes)) == []


def _other_python() -> str | None:
    """A Python of another minor version that has what the corpus needs: from `.venv-3.13` and the like, or on the PATH."""
    names = [f"python3.{minor}" for minor in (13, 12, 14, 11)]
    made = [str(path) for path in sorted(ROOT.glob(".venv-*/bin/python"))]
    check = (
        f"import sys; assert sys.version_info[:2] != {sys.version_info[:2]}; import nbstep, blake3, cloudpickle, pandas"
    )
    for python in [*made, *filter(None, map(shutil.which, names))]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        if not subprocess.run([python, "-c", check], capture_output=True, env=environment, check=False).returncode:
            return python
    return None


def test_d1_the_verdicts_are_the_same_on_another_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = _other_python()
    if python is None:
        pytest.skip("no other Python: python3.13 -m venv .venv-3.13 && .venv-3.13/bin/pip install -e . pandas")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    outcomes = _outcomes(tmp_path, python)
    wrong = {pair.name: _wrong(pair, *(one[number] for one in outcomes)) for number, pair in PAIRS.items()}
    assert {name: told for name, told in wrong.items() if told} == {}


def test_half_of_the_pairs_must_not_count() -> None:
    assert len(PAIRS) >= 60
    assert sum(not pair.said for pair in PAIRS.values()) >= len(PAIRS) / 2 - 1
    assert len({pair.name for pair in PAIRS.values()}) == len(PAIRS)
