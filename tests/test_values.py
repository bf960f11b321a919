"""Values of NumPy, pandas, polars, Arrow, PIL and scikit-learn, and of the notebook in them, come back whole (K3, K9)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("kept_values.py")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes, one after the other, tell of the values that they kept and got back."""
    home = tmp_path_factory.mktemp("values")
    return [_told(home) for _ in range(2)]


def _told(home: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, SCRIPT, home / "cache"], capture_output=True, text=True, timeout=280, check=False,
        env={**os.environ, "HOME": str(home), "JUPYTER_DATA_DIR": str(home / "jupyter")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_k3_each_value_is_made_once(told: list[dict[str, Any]]) -> None:
    first, second = told
    assert first["calls"] == first["values"]
    assert second["calls"] == []


@pytest.mark.parametrize("process", [0, 1], ids=["same process", "new process"])
def test_k9_values_come_back_whole_and_changing_one_changes_no_later_hit(
    told: list[dict[str, Any]], process: int
) -> None:
    assert told[process]["problems"] == {}
