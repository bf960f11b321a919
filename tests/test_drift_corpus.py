"""Pairs of cells, before and after a change, each side in a process of its own and with another hash seed (D1, D2, D3, D5)."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
from drift.corpus import read_pairs, run_sides, write_side

PAIRS = read_pairs()


@functools.cache
def _outcomes(folder: Path) -> tuple[dict[str, Any], ...]:
    """What happened to each pair: before, after, and after once more under another hash seed."""
    for number, pair in PAIRS.items():
        write_side(folder / number, pair.before)
    before = run_sides(folder, "1")
    for number, pair in PAIRS.items():
        write_side(folder / number, pair.after)
    return before, run_sides(folder, "1"), run_sides(folder, "2")


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
