"""%%workflow --plan and what offline mode knows beforehand: N4 and C7, in a real IPython shell."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from shells import Shell, open_shell

from nbstep import Cache
from nbstep.errors import CellStopped, OfflineMiss
from nbstep.notebook.asks import asks_in
from nbstep.runlog import read_runs


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with open_shell(tmp_path) as opened:
        opened.good("import time\ncalls = []\ndef work(n, s=0):\n    calls.append(n)\n    time.sleep(s)\n    return n")
        yield opened


CELL = """{}
step(work, 1, key="one")
for n in range(3):
    step(work, n, key=f"n:{{n}}")
def bad():
    raise OSError("no answer")
step(bad, key="bad", on_error="keep", error_ttl=None)
step(work, 9)"""
PLAN = "%%workflow sales --plan"


def test_n4_before_the_first_run_the_literal_keys_are_listed_and_the_rest_is_counted(shell: Shell) -> None:
    text = shell.good(CELL.format(PLAN)).text
    assert "sales   2 steps: 2 missing   [plan: nothing ran]" in text
    assert "one  missing" in text
    assert (
        "A run would take the time of 2 steps never timed, 1 step whose key is made while running and 1 step without key"
    ) in text
    assert "This cell has not run here before" in text
    assert shell["calls"] == []


def test_n4_nothing_of_the_user_s_runs_and_nothing_is_logged(shell: Shell) -> None:
    shell.good(f"{PLAN}\ncalls.append(1)\nstep(work, 1, key='a')\nimport no_such_module\n1 / 0")
    assert shell["calls"] == []
    assert len(Cache()) == 0
    assert not list(read_runs(Path(Cache().directory or "")))


def test_n4_keys_of_the_last_run_come_with_state_size_and_time(shell: Shell) -> None:
    shell.good(CELL.format("%%workflow sales"))
    Cache().delete("n:1")
    shell.ip.user_ns["calls"].clear()
    text = shell.good(CELL.format(PLAN)).text
    assert "sales   5 steps: 3 cached (" in text
    assert "1 missing" in text
    assert "1 failed (cached)" in text
    assert re.search(r"✕ bad +failed \(cached\) +OSError: no answer", text)
    assert re.search(r"✓ one +cached .* B +(just now|\d+ s ago)", text)
    assert re.search(r"· n:1 +missing .*deleted", text)
    assert "made while running" not in text
    assert shell["calls"] == []


def test_n4_the_total_is_what_a_run_would_take(shell: Shell) -> None:
    cell = "{}\nstep(work, 1, 0.3, key='slow')\nstep(work, 2, 0.3, key='other')\nstep(work, 3, key='never')"
    shell.good(cell.format("%%workflow w").rpartition("\n")[0])
    Cache().delete_many(["slow", "other"])
    text = shell.good(cell.format("%%workflow w --plan")).text
    assert re.search(r"slow +missing +about 0\.3 s", text)
    assert "A run would take about 0.6 s, plus 1 step never timed" in text


def test_n4_when_all_is_kept_a_run_takes_next_to_nothing(shell: Shell) -> None:
    cell = "{}\nx = step(work, 1, key='one')"
    shell.good(cell.format("%%workflow w"))
    assert "A run would take next to nothing" in shell.good(cell.format("%%workflow w --plan")).text


def test_n4_an_old_value_is_named(shell: Shell) -> None:
    shell.good("def fn():\n    return 1")
    shell.good("%%workflow w\nstep(fn, key='k')")
    shell.good("def fn():\n    return 2")
    cell = "%%workflow w{}\nstep(fn, key='k')"
    shell.good(cell.format(""))
    assert re.search(r"▲ k +old value +fn\(\) was edited", shell.good(cell.format(" --plan")).text)
    assert re.search(r"▸ k +would run .*drifted", shell.good(cell.format(" --plan --rerun-drifted")).text)


def test_n4_flags_count(shell: Shell) -> None:
    cell = "%%workflow w{}\nstep(work, 1, key='k')"
    shell.good(cell.format(""))
    assert re.search(r"k +would run .*refreshed", shell.good(cell.format(" --plan --mode refresh")).text)
    assert re.search(r"k +would run .*expired", shell.good(cell.format(" --plan --ttl 0s")).text)


def test_n4_the_cell_is_known_by_its_text_or_its_name(shell: Shell) -> None:
    shell.good("%%workflow\nstep(work, 1, key=f'a:{1}')")
    shell.good("%%workflow\nstep(work, 2, key=f'b:{2}')")
    text = shell.good("%%workflow --plan\nstep(work, 1, key=f'a:{1}')").text
    assert "a:1" in text
    assert "b:2" not in text
    shell.good("%%workflow named\nstep(work, 1, key=f'c:{1}')")
    assert "c:1" in shell.good("%%workflow named --plan\nstep(work, 1, key=f'c:{1}')\n# edited").text


def test_n4_a_step_cell_has_a_plan_too(shell: Shell) -> None:
    cell = "%%step model{}\ncalls.append(1)\nx = 1"
    assert "model  missing" in shell.good(cell.format(" --plan")).text
    shell.good(cell.format(""))
    assert "model  cached" in shell.good(cell.format(" --plan")).text
    assert shell["calls"] == [1]


def test_n4_a_wrong_line_stops_the_plan(shell: Shell) -> None:
    ran = shell.run("%%workflow --plan --mod refresh\nx = 1")
    assert isinstance(ran.error, CellStopped)
    assert "x" not in shell.ip.user_ns


def test_n7_keys_are_escaped(shell: Shell) -> None:
    assert "\x1b" not in shell.good("%%workflow --plan\nstep(work, key='\\x1b[31m')").text


@pytest.mark.parametrize(
    ("call", "found"),
    [
        ("step(f, key='a')", ("key", "a")),
        ("step(f, key=f'a:{x}')", ("pattern", r"a:.*")),
        ("step(f, key='a:' + str(x))", ("pattern", r"a:.*")),
        ("step(f, key=k)", ("pattern", ".*")),
        ("step(f)", ("no key", "")),
        ("step(f, key=None)", ("no key", "")),
        ("step(f, **o)", ("pattern", ".*")),
        ("step.map(f, xs, key='u:{}')", ("pattern", r"u:.*")),
        ("step(f, key=step.key('cv', lr=0.1))", ("key", "cv:lr=0.1")),
        ("step(f, key=step.key('cv', lr=lr))", ("pattern", ".*")),
        ("await step(f, key='b')", ("key", "b")),
        ("def g():\n    return step(f, key='c')", ("key", "c")),
    ],
)
def test_n4_what_the_text_says_of_keys(call: str, found: tuple[str, str]) -> None:
    assert asks_in(ast.parse(call).body) == (found,)


# C7


def test_c7_offline_names_all_that_is_missing_at_the_first_miss(shell: Shell) -> None:
    cell = (
        "{}\nstep(work, 1, key='one')\nfor n in range(3):\n    step(work, n, key=f'n:{{n}}')\nstep(work, 5, key='late')"
    )
    ran = shell.run(cell.format("%%workflow w --mode offline"))
    assert isinstance(ran.error, OfflineMiss)
    assert "2 keys not in the cache: one, late" in ran.text
    shell.good(cell.format("%%workflow w"))
    Cache().delete_many(["n:0", "n:2", "late"])
    shell["calls"].clear()
    ran = shell.run(cell.format("%%workflow w --mode offline"))
    assert "3 keys not in the cache: n:0, n:2, late" in ran.text
    assert shell["calls"] == []


def test_c7_what_only_another_text_of_the_cell_asked_is_not_missed(shell: Shell) -> None:
    shell.good("%%workflow w\nfor n in range(2):\n    step(work, n, key=f'n:{n}')")
    Cache().clear()
    ran = shell.run("%%workflow w --mode offline\nfor n in range(1):\n    step(work, n, key=f'n:{n}')")
    assert "'n:0' cannot come from the cache" in ran.text
    assert "n:1" not in ran.text
