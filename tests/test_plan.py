"""%%workflow --plan and what offline mode knows beforehand: N4 and C7, in a real IPython shell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from shells import Shell, open_shell

from nbstep import Cache
from nbstep.errors import CellStopped, OfflineMiss
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


def test_n4_before_the_first_run_the_keys_of_the_text_are_listed_and_the_rest_is_counted(shell: Shell) -> None:
    text = shell.good(CELL.format(PLAN)).text
    assert "sales   5 steps: 5 missing   [plan: nothing ran]" in text
    assert "one  missing" in text
    assert "n:2  missing" in text
    assert (
        "How long a run would take is not known: 5 steps were never timed and line 8 has no key and runs each time"
        in text
    )
    assert "This cell has not run here before: listed are the keys that its text gives" in text
    assert shell["calls"] == []


def test_n4_what_would_be_given_back_unchecked_is_said(shell: Shell) -> None:
    shell.good(
        "class Odd(type):\n    __module__ = property(lambda cls: 1 / 0)\nclass Thing(metaclass=Odd): pass\n"
        "def make(n): return [Thing, n][1]"
    )
    cell = "step(make, 1, key='odd')\nstep(work, 1, key='plain')"
    shell.good(f"%%workflow sales\n{cell}")
    said = "odd: whether code or inputs changed cannot be checked, so what is kept would be given back unchecked"
    assert said in shell.good(f"{PLAN}\n{cell}").text
    assert "unchecked" not in shell.good(f"{PLAN}\nstep(work, 1, key='plain')").text
    assert "unchecked" not in shell.good(f"{PLAN} --mode refresh\n{cell}").text
    assert "given back unchecked" in shell.good(f"%%workflow sales\n{cell}").text


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
    assert "while it runs" not in text
    assert shell["calls"] == []


def test_n4_the_total_is_what_a_run_would_take(shell: Shell) -> None:
    cell = "{}\nstep(work, 1, 0.3, key='slow')\nstep(work, 2, 0.3, key='other')\nstep(work, 3, key='never')"
    shell.good(cell.format("%%workflow w").rpartition("\n")[0])
    Cache().delete_many(["slow", "other"])
    text = shell.good(cell.format("%%workflow w --plan")).text
    assert re.search(r"slow +missing +about 0\.3 s", text)
    assert "A run would take about 0.6 s or more: 1 step was never timed" in text


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
    assert re.search(r"▸ k +would run .*changed", shell.good(cell.format(" --plan --rerun-drifted")).text)


def test_n4_an_old_value_that_was_accepted_is_none(shell: Shell) -> None:
    cell = "%%workflow w{}\nraw = step(lambda: [1, 2], key='raw')\nstep(lambda: [n * {} for n in raw], key='k')"
    shell.good(cell.format("", 2))
    shell.good(cell.format("", 3))
    assert re.search(r"▲ k +old value +the step was edited", shell.good(cell.format(" --plan", 3)).text)
    shell.good("%nbstep accept k")
    assert re.search(r"✓ k +cached", shell.good(cell.format(" --plan", 3)).text)
    assert re.search(r"✓ k +cached", shell.good(cell.format(" --plan --rerun-drifted", 3)).text)


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


# which keys a cell asks


NEXT_TO_NOTHING = "A run would take next to nothing"


def _known(shell: Shell, cell: str, line: str = "%%workflow w") -> tuple[str, list[str]]:
    """What the plan of a cell shows, and the keys it lists."""
    text = shell.good(f"{line} --plan\n{cell}").text
    return text, re.findall(r"^  [✓·▸▲✕] (\S+)", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("before", "cell", "edit"),
    [
        ("", "for m in range(1, 6): step(work, m, key=f'p:{m}')", ("range(1, 6)", "range(1, 9)")),
        ("", "step.map(work, [1, 2, 3], key='om:{}')", ("2, 3", "2, 3, 4")),
        ("items = ['a', 'b']", "step.map(work, items, key='om:{}')", ("", "items.append('c')")),
        ("items = ('a', 'b')", "x = [step(work, i, key=f'om:{i}') for i in items]", ("", "items = ('a', 'b', 'c')")),
        (
            "import asyncio\nitems = [1, 2]\nasync def later(n): return n",
            "await asyncio.gather(*[step(later, n, key=f'a:{n}') for n in items])",
            ("", "items.append(3)"),
        ),
    ],
)
def test_n4_a_grown_loop_lists_what_is_missing(shell: Shell, before: str, cell: str, edit: tuple[str, str]) -> None:
    """The steps that a longer range or list adds are not kept: a run takes their time."""
    shell.good(before)
    shell.good(f"%%workflow w\n{cell}")
    kept = len(Cache())
    old, new = edit
    edited = cell.replace(old, new) if old else cell
    if not old:
        shell.good(new)
    text, keys = _known(shell, edited)
    assert len(keys) > kept, text
    assert f"{len(keys) - kept} missing" in text
    assert NEXT_TO_NOTHING not in text
    assert "How long a run would take is not known" in text


def test_n4_a_shortened_loop_lists_what_is_left(shell: Shell) -> None:
    cell = "for m in range(1, {}): step(work, m, key=f'p:{{m}}')"
    shell.good("%%workflow w\n" + cell.format(6))
    text, keys = _known(shell, cell.format(3))
    assert keys == ["p:1", "p:2"]
    assert NEXT_TO_NOTHING in text


@pytest.mark.parametrize(
    ("before", "cell", "keys"),
    [
        (
            "",
            "for a in ['x', 'y']:\n  for b in range(2):\n    step(work, 1, key=f'{a}:{b:02d}')",
            "x:00 x:01 y:00 y:01",
        ),
        ("d = {'a': 1, 'b': 2}", "for k, v in d.items(): step(work, v, key=f'{k}={v}')", "a=1 b=2"),
        (
            "years = range(2020, 2022)",
            "for y in years: step(work, y, key=step.key('y', year=y))",
            "y:year=2020 y:year=2021",
        ),
        ("word = 'ab'", "for c in word: step(work, 1, key='k:' + c.upper())", "k:A k:B"),
        ("n = 2", "m = 3\nfor i in range(m - n): step(work, i, key=f'i:{i}')", "i:0"),
        ("", "for i in range(5):\n  if i % 2: continue\n  key = f'i:{i}'\n  step(work, i, key=key)", "i:0 i:2 i:4"),
        ("", "x = [step(work, i, key=f'i:{i}') for i in range(4) if i > 1]", "i:2 i:3"),
        ("", "step.map(work, range(2), key=lambda i: f'l:{i}')", "l:0 l:1"),
        ("", "step.map(work, [(1, 'a'), (2, 'b')], key='{0[0]}{0[1]}')", "1a 2b"),
        ("full = False", "if full: step(work, 1, key='all')\nelse: step(work, 1, key='some')", "some"),
        ("", "def g(): return [step(work, i, key=f'g:{i}') for i in range(2)]\ng()", "g:0 g:1"),
        ("", "async def g(): return step(work, 1, key='c')\nawait g()", "c"),
        ("", "try:\n  step(work, 1, key='t')\nfinally:\n  step(work, 1, key=f'f:{1}')", "t f:1"),
        ("", "step(work, 1, key=step.key('cv', lr=0.1))", "cv:lr=0.1"),
        ("", "step(work, 1, key=f'a' 'b')", "ab"),
        (
            "",
            "for i in range(9):\n  if i == 2: break\n  step(work, i, key=f'i:{i}')\nelse: step(work, 1, key='no')",
            "i:0 i:1",
        ),
        ("", "for i in range(2): pass\nstep(work, 1, key='after')", "after"),
        (
            "",
            "for n, s in [(1, 'a'), (2, 'b')]:\n  with open('/dev/null'): step(work, n, key=f'{s}{n!r:0>2}')",
            "a01 b02",
        ),
        (
            "",
            "import math\na = b = 2\nx, y = 'p', 'q'\nfor i in range(a, a * b): step(work, i, key=f'{x}{i}{y}')",
            "p2q p3q",
        ),
        ("xs = ['b', 'a']", "for i, x in enumerate(sorted(xs), start=1): step(work, i, key=f'{x}{i}')", "a1 b2"),
        ("xs = ['b', 'a']", "for x, i in zip(xs[:1], range(3)): step(work, i, key='%s-%d' % (x, i))", "b-0"),
        ("import datetime\nday = datetime.date(2026, 1, 31)", "step(work, 1, key=f'd:{day:%Y-%m}')", "d:2026-01"),
        ("", "%load_ext autoreload\nfor i in range(2): step(work, i, key=f'i:{i}')", "i:0 i:1"),
        ("n = 2", "%%time\nfor i in range(n): step(work, i, key=f'i:{i}')", "i:0 i:1"),
        ("", "for i in []: step(work, i, key=f'i:{i}')\nstep(work, 1, key='one')", "one"),
    ],
)
def test_n4_keys_of_literals_and_plain_values_are_known(shell: Shell, before: str, cell: str, keys: str) -> None:
    shell.good(before)
    text, listed = _known(shell, cell)
    assert listed == keys.split()
    assert "while it runs" not in text
    assert shell["calls"] == []
    shell.good(f"%%workflow w\n{cell}")
    asked = {step.key for run in read_runs(Path(Cache().directory or "")) for step in run.steps}
    assert asked == set(listed)


HOSTILE = """
class Loud(list):
    def __iter__(self): calls.append('ran'); return super().__iter__()
    def __len__(self): calls.append('ran'); return 1
class Text(str):
    def __format__(self, spec): calls.append('ran'); return 'x'
    def __str__(self): calls.append('ran'); return 'x'
def find(): calls.append('ran'); return [1]
"""


@pytest.mark.parametrize(
    ("before", "cell"),
    [
        ("", "for i in find(): step(work, i, key=f'u:{i}')"),
        ("xs = Loud([1])", "for i in xs: step(work, i, key=f'u:{i}')"),
        ("xs = [Text('a')]", "step.map(work, xs, key='u:{}')"),
        ("x = Text('a')", "step(work, 1, key=f'u:{x}')"),
        ("xs = [1]", "xs = find()\nfor i in xs: step(work, i, key=f'u:{i}')"),
        ("xs = [1]", "xs.append(2)\nfor i in xs: step(work, i, key=f'u:{i}')"),
        ("xs = [1]", "find_more = find\nfill(xs)\nfor i in xs: step(work, i, key=f'u:{i}')"),
        ("", "x = 1\nfor i in find(): x = i\nstep(work, x, key=f'u:{x}')"),
        ("ok = find", "for i in range(3):\n  if ok(): break\n  step(work, i, key=f'u:{i}')"),
        ("", "for i in range(20_000): step(work, i, key=f'u:{i}')"),
        ("", "for i in range(10**9): step(work, i, key=f'u:{i}')"),
        ("", "step(work, 1, key=f'{1:999999999}')"),
        ("", "step(work, 1, key='a' * 10**9)"),
        ("", "def g(x): return step(work, x, key=f'u:{x}')\ng(1)"),
        ("range = find", "for i in range(): step(work, i, key=f'u:{i}')"),
        ("x = 1", "%run no_such.py\nstep(work, x, key=f'u:{x}')"),
        ("o = {}", "step(work, 1, **o)"),
        ("", "step(work, 1, key=no_such_name)"),
        ("xs = [1]", "def more():\n  global xs\n  xs = [1, 2]\nmore()\nfor i in xs: step(work, i, key=f'u:{i}')"),
        ("xs = [1]", "for i in range(2):\n  if find():\n    if not i: break\n  step(work, i, key=f'u:{i}')"),
        ("xs = [1]", "def g():\n  if find(): return\n  for i in xs: step(work, i, key=f'u:{i}')\ng()"),
        ("xs = [1]", "xs += [2]\nfor i in xs: step(work, i, key=f'u:{i}')"),
        ("xs = [1]", "ys = xs\nys.append(2)\nfor i in xs: step(work, i, key=f'u:{i}')"),
        ("d = {'a': 1}", "d['b'] = 2\nfor i in d: step(work, i, key=f'u:{i}')"),
        ("x = 1", "while find(): step(work, 1, key=f'u:{x}')"),
        ("x = 1", "try: find()\nexcept OSError: step(work, 1, key=step.key('u', x=x))"),
        ("x = 1", "import os as x\nstep(work, 1, key=f'u:{x}')"),
        ("x = 1", "with open('/dev/null') as x: step(work, 1, key=f'u:{x}')"),
        ("x = 1", "from os import *\nstep(work, 1, key=f'u:{x}')"),
        ("x = 1", "[x := 2 for _ in find()]\nstep(work, 1, key=f'u:{x}')"),
        ("", "step(work, 1, key='%*d' % (999999999, 1))"),
        ("", "step.map(work, [1], key='{:999999999}')"),
    ],
)
def test_n4_what_only_a_run_tells_is_counted_as_unknown_and_nothing_runs(shell: Shell, before: str, cell: str) -> None:
    shell.good(HOSTILE + before)
    text, keys = _known(shell, cell)
    assert keys == [], text
    assert re.search(r"How long a run would take is not known: line \d makes its keys while it runs", text)
    assert "no step known" in text
    assert shell["calls"] == []


def test_n4_no_more_than_ten_thousand_keys_are_worked_out(shell: Shell) -> None:
    text, _ = _known(shell, "for a in range(3):\n  for b in range(4_000): step(work, 1, key=f'u:{a}:{b}')")
    assert "8,000 steps known: 8,000 missing" in text
    assert "8,000 steps were never timed and line 3 makes its keys while it runs" in text


def test_n4_keys_made_while_running_are_those_of_the_last_run_and_the_plan_says_so(shell: Shell) -> None:
    shell.good("def find(): return [1, 2]")
    cell = "for i in find():\n    step(work, i, key=f'u:{i}')\nstep(work, 1, key='one')"
    shell.good(f"%%workflow w\n{cell}")
    text, keys = _known(shell, cell)
    assert keys == ["u:1", "u:2", "one"]
    assert "3 steps known: 3 cached" in text
    said = "next to nothing if it asks what it asked in its last run: line 3 makes its keys while it runs"
    assert said in text


def test_n4_of_an_edited_cell_the_plan_does_not_say_what_it_asks(shell: Shell) -> None:
    shell.good("def find(n=5): return list(range(n))")
    shell.good("%%workflow w\nfor i in find(): step(work, i, key=f'u:{i}')")
    text, keys = _known(shell, "for i in find(8): step(work, i, key=f'u:{i}')")
    assert keys == []
    assert NEXT_TO_NOTHING not in text
    assert (
        "The cell was edited since its last run: which keys line 2 asks now is not known; in its last run it asked 5"
        in text
    )
    assert "all kept" in text
    Cache().delete("u:1")
    assert "it asked 5, 4 of them kept" in _known(shell, "for i in find(8): step(work, i, key=f'u:{i}')")[0]


def test_n4_steps_of_functions_that_the_cell_calls_are_those_of_its_last_run(shell: Shell) -> None:
    shell.good("from nbstep import step\ndef load(n): return [step(work, i, key=f'f:{i}') for i in range(n)]")
    shell.good("%%workflow w\nload(3)")
    text, keys = _known(shell, "load(3)")
    assert keys == ["f:0", "f:1", "f:2"]
    assert (
        "next to nothing if it asks what it asked in its last run: 3 keys are asked by functions that it calls" in text
    )
    text, keys = _known(shell, "load(3)\nstep(work, 1, key='new')")
    assert keys == ["new"]
    assert "This cell has not run here before" in text


def test_n4_cells_of_one_name_are_kept_apart(shell: Shell) -> None:
    """The quickstart gives all its cells one name."""
    shell.good("%%workflow w\nstep(work, 1, key='a')")
    shell.good("%%workflow w\nfor i in range(3): step(work, i, key=f'b:{i}')")
    text, keys = _known(shell, "step(work, 1, key='c')")
    assert keys == ["c"]
    assert "This cell has not run here before" in text
    text, keys = _known(shell, "step(work, 1, key='a')  # edited")
    assert keys == ["a"]
    assert "This cell has not run here before" not in text
    assert NEXT_TO_NOTHING in text


def test_n4_an_edited_cell_is_known_by_its_calls(shell: Shell) -> None:
    shell.good("def find(): return [1]\ndef key(i): return f'k{i}'")
    shell.good("%%workflow w\nfor i in find(): step(work, i, key=key(i))")
    shell.good("%%workflow w\nfor i in find(): step(work, i, key=key(i + 1))")
    text, _ = _known(shell, "# edited\nfor i in find(): step(work, i, key=key(i))")
    assert "in its last run it asked 1, all kept" in text
    assert "This cell has not run here before" not in text


# what changed since


def test_n4_changed_arguments_are_seen_without_a_run(shell: Shell) -> None:
    shell.good("%%workflow w\nstep(work, 1, key='o')")
    changed = "step(work, 2, key='o')"
    text, _ = _known(shell, changed)
    assert re.search(r"▲ o +old value +`n` was 1, is now 2", text)
    text, _ = _known(shell, changed, "%%workflow w --rerun-drifted")
    assert re.search(r"▸ o +would run .*changed", text)
    shell.good("%%workflow w\nstep(work, 1, key='o')")
    assert re.search(r"✓ o +cached", _known(shell, "step(work, 1, key='o')")[0])


@pytest.mark.parametrize(
    ("cell", "edit"),
    [
        ("step(work, n, key='o')", "n = 2"),
        ("for r in regions: step(work, n, key=f'o:{r}')", "n = 2"),
        ("step.map(scaled, regions, key='o:{}')", "factor = 3"),
        ("step(scaled, 'a', key='o')", "factor = 3"),
        ("step(scaled, 'a', key='o')", "def scaled(r): return r + str(factor)"),
    ],
)
def test_n4_what_the_notebook_s_names_hold_is_compared(shell: Shell, cell: str, edit: str) -> None:
    shell.good("n, factor, regions = 1, 2, ['a', 'b']\ndef scaled(r): return r * factor")
    shell.good(f"%%workflow w\n{cell}")
    text, keys = _known(shell, cell)
    assert "old value" not in text
    shell.good(edit)
    text, _ = _known(shell, cell)
    assert text.count("▲ ") == len(keys), text
    assert text.count("▸ ") == 0
    text, _ = _known(shell, cell, "%%workflow w --rerun-drifted")
    assert text.count("▸ ") == len(keys), text
    after = shell.good(f"%%workflow w\n{cell}").text
    assert after.count("▲ ") == len(keys)  # the run says the same


def test_n4_options_of_a_step_count(shell: Shell) -> None:
    shell.good("%%workflow w\nstep(work, 1, key='a')\nstep(work, 1, key='b')\nstep(work, 1, key='c')")
    text, _ = _known(
        shell,
        "step(work, 2, key='a', on_drift='rerun')\nstep(work, 2, key='b', ignore='n')\nstep(work, 1, key='c', refresh=True)",
    )
    assert re.search(r"▸ a +would run .*changed", text)
    assert re.search(r"✓ b +cached", text)
    assert re.search(r"▸ c +would run .*refreshed", text)


def test_n4_what_cannot_be_compared_is_not_promised(shell: Shell) -> None:
    """The argument is made in the cell itself: whether it changed only a run tells."""
    cell = "x = work(1)\nstep(work, x, key='o')"
    shell.good(f"%%workflow w\n{cell}")
    text, _ = _known(shell, cell, "%%workflow w --rerun-drifted")
    assert re.search(r"✓ o +cached", text)
    assert "A run would take next to nothing if nothing changed for line 3, which only a run sees" in text
    text, _ = _known(shell, cell)
    assert f"{NEXT_TO_NOTHING}\n" in text


def test_n4_what_the_cell_itself_changes_is_not_compared(shell: Shell) -> None:
    shell.good("factor = 2\ndef scaled(r): return r * factor")
    cell = "factor = 3\nstep(scaled, 'a', key='o')"
    shell.good(f"%%workflow w\n{cell}")
    shell.good("factor = 9")
    assert "old value" not in _known(shell, cell)[0]


# C7


def test_c7_offline_names_all_that_is_missing_at_the_first_miss(shell: Shell) -> None:
    cell = (
        "{}\nstep(work, 1, key='one')\nfor n in range(3):\n    step(work, n, key=f'n:{{n}}')\nstep(work, 5, key='late')"
    )
    ran = shell.run(cell.format("%%workflow w --mode offline"))
    assert isinstance(ran.error, OfflineMiss)
    assert "5 keys not in the cache: one, n:0, n:1, n:2, late" in ran.text
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


def test_n4_what_a_map_runs_side_by_side_is_told_so(shell: Shell) -> None:
    cell = "{}\nimport time\ndef slow(n):\n    time.sleep(0.3)\n    return n\nx = step.map(slow, range(8), key='n:{{}}', n_jobs=8)"
    shell.good(cell.format("%%workflow w"))
    shell.good("%nbstep rm 'n:*'")
    text = shell.good(cell.format("%%workflow w --plan")).text
    assert re.search(r"A run would take about 2\.[4-9] s, side by side in 0\.[3-5] s", text)
