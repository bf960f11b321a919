"""A call site whose key was another new one in each of its last three runs is called out, from the run log (K7)."""

from __future__ import annotations

import itertools
import json
import linecache
import textwrap
from pathlib import Path
from typing import Any

import pytest
from shells import open_shell

from nbstep import Cache, create_workflow, step
from nbstep.events import Finding
from nbstep.runlog import runs_directory
from nbstep.testing import RecordingListener

_cells = itertools.count()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / ".nbstep")


def run(cache: Cache, source: str, **names: Any) -> list[str]:
    """The findings of one run of a cell."""
    told = RecordingListener()
    filename, text = f"<ipython-input-history-{next(_cells)}>", textwrap.dedent(source)
    linecache.cache[filename] = len(text), None, text.splitlines(keepends=True), filename
    code = compile(text, filename, "exec")
    scope = {"step": step, "work": lambda *args: 1, **names}
    create_workflow(cache=cache, on_event=told)(lambda _: exec(code, scope))
    return [finding.text for finding in told.of(Finding)]


def test_k7_another_new_key_in_each_of_three_runs_is_called_out_at_the_end_of_the_third(cache: Cache) -> None:
    source = 'x = 1\nstep(work, key=f"report:{version}")'
    found = [run(cache, source, version=f"v{n}") for n in range(4)]
    assert found[:2] == [[], []]
    assert found[2] == [
        "line 2: the key was another new one in each of its last 3 runs (report:v0, report:v1, report:v2), so nothing was "
        "found again; if it should be, leave out of the key what changes"
    ]
    assert len(found[3]) == 1


GOOD = {
    "the same key": ('step(work, key="a")', [1, 2, 3]),
    "one of them was found again": ('step(work, key=f"a:{n}")', [1, 2, 1, 3]),
    "a key of the day": ('step(work, key=f"a:{n}")', ["2026-11-01", "2026-11-02", "2026-11-03"]),
    "a key of the month": ('step(work, key=f"a:{n}:x")', ["202610", "202611", "202612"]),
    "a key of the week": ('step(work, key=f"a:{n}:x")', ["2026-W10", "2026-W11", "2026-W12"]),
    "another loop of the same keys": ('for i in (1, 2):\n    step(work, key=f"a:{i}:{n}"[:3])', [1, 2, 3]),
    "silenced": ('step(work, key=f"a:{n}")  # nbstep: ok', [1, 2, 3]),
    "never kept": ('step(lambda: (i for i in ()), key="a")', [1, 2, 3]),
    "one of three found": ('step(work, key=f"a:{n}")\nfor k in (n, 0):\n    step(work, key=f"b:{k}"[:3] + "x")', [1, 1, 1]),
}  # fmt: skip


@pytest.mark.parametrize(("source", "values"), GOOD.values(), ids=GOOD)
def test_k7_what_is_found_again_or_meant_is_not(cache: Cache, source: str, values: list[Any]) -> None:
    for value in values:
        assert [text for text in run(cache, source, n=value) if "another new one" in text] == []


def test_k7_an_edit_of_the_call_begins_anew(cache: Cache) -> None:
    for n in range(2):
        run(cache, 'step(work, key=f"a:{n}")', n=n)
    assert run(cache, 'step(work, key=f"b:{n}")', n=2) == []


def test_k7_a_call_that_moved_to_another_line_is_the_same_one(cache: Cache) -> None:
    for n in range(2):
        run(cache, 'step(work, key=f"a:{n}")', n=n)
    (text,) = run(cache, '\n\nstep(work, key=f"a:{n}")', n=2)
    assert text.startswith("line 3: ")


def test_k7_runs_of_a_log_from_before_say_nothing(cache: Cache) -> None:
    for n in range(2):
        run(cache, 'step(work, key=f"a:{n}")', n=n)
    assert cache.directory is not None
    for path in runs_directory(cache.directory).iterdir():
        record = json.loads(path.read_text())
        record["steps"] = [row[:8] for row in record["steps"]]
        path.write_text(json.dumps(record))
    assert run(cache, 'step(work, key=f"a:{n}")', n=2) == []


def test_k7_what_was_deleted_is_not_new(cache: Cache) -> None:
    for n in range(3):
        run(cache, 'step(work, key=f"a:{n}")', n=n)
        cache.clear()
    for _ in range(3):
        assert run(cache, 'step(work, key="a:1")', n=0) == []
        cache.clear()


def test_k7_a_cell_shows_it_under_its_list(tmp_path: Path) -> None:
    with open_shell(tmp_path) as shell:
        for n in range(3):
            ran = shell.good(f'version = "v{n}"') and shell.good('%%workflow\nstep(lambda: 1, key=f"report:{version}")')
        assert "! line 2: the key was another new one in each of its last 3 runs" in ran.text
