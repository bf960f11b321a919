"""Findings as a notebook shows them: each once, in one line, with what to do; and none where nothing is wrong."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from shells import Shell, open_shell

import nbstep
from nbstep.events import Finding, listen

# Of each kind the cells that lead to it, the last one with several steps where that can be, and the fix.
CASES = {
    "key: a clock": (
        ["import time\nfor _ in range(3):\n    step(lambda: 1, key=f'at:{time.time()}')"], "leave it out, or take the day",
    ),
    "key: no f": (["uid = 1\nfor _ in range(3):\n    step(lambda: 1, key='user:{uid}')"], 'key=f"user:{uid}"'),
    "key: new each time": (
        ["for _ in range(3):\n    step(lambda: 1, key=f'{another()}')"] * 3, "leave out of the key what changes",
    ),
    "key: a template": (
        ["from nbstep import step\n@step.cached('user')\ndef user(uid): return 1\nuser(1), user(1)"],
        '@step.cached("user:{uid}")',
    ),
    "drift: code": (
        [f"for n in range(3):\n    step(lambda: {value}, key=f'k{{n}}')" for value in (1, 2)], "%%workflow --rerun-drifted",
    ),
    "drift: inputs": (
        [f"rate = {value}\nfor n in range(3):\n    step(lambda: rate, key=f'k{{n}}')" for value in (1, 2)],
        "put it in the key. See: %nbstep show k0 · Re-run: %%workflow --rerun-drifted · Keep: %nbstep accept k0 k1 k2",
    ),
    "mixed-inputs": (
        ["for n in range(3):\n    rows = [n]\n    step(sum, rows, key='sum')"], "put what differs into the key",
    ),
    "changed-in-place": (
        ["import numpy\na = numpy.zeros(3)\ndef add(a):\n    a += 1\n    return a\n"
         "for n in range(3):\n    step(add, a, key=f'k{n}')"], "work on a copy, and return it",
    ),
    "file-changed": (
        ["def load(n):\n    with open('log.csv', 'a') as log: log.write('more\\n')\n    return n\n"
         "step.map(load, range(3), key='k{}', files='log.csv', n_jobs=1)"], "when the file is whole: %nbstep rm k0",
    ),
    "file-unknown": (
        ["from pathlib import Path\nimport os\nPath('a.csv').write_text('1')\nos.utime('a.csv', (9e9, 9e9))\n"
         f"step.map(lambda n: n, range(3), key='k{{}}'{files})" for files in ("", ", files='a.csv'")],
        "delete what is kept: %nbstep rm k0",
    ),
    "file-missing": (
        ["step.map(abs, range(3), key='k{}', files='*.csv')"], "`*.csv` of files= is not there: name each file itself",
    ),
    "called-object": (
        ["class Model:\n    def __call__(self): return 1\nfor _ in range(3):\n    step(Model(), key='k')"], "step(lambda: …)",
    ),
    "key-none": (
        ["def key(n): f'user:{n}'\nstep.map(abs, range(3), key=key)\nstep.map(abs, range(3), key=key)"], "does it return?",
    ),
    "never-awaited": (
        ["async def fetch(): return 1\nfor _ in range(3):\n    step(fetch, key='k')"], "`await step(…)`",
    ),
    "not-fixed": (
        ["limit = 1\ndef rows(): return [0] * limit\nasync def fetch(): return rows()\n"
         "later = step(fetch, key='k')\nlimit = 2\nawait later"], "hand it over when you call it: step(fetch, limit, key=…)",
    ),
    "unchecked": (
        ["class Odd(type):\n    __module__ = property(lambda cls: 1 / 0)\nclass Thing(metaclass=Odd): pass\n"
         "def make(n): return [Thing, n][1]\nfor n in range(3):\n    step(lambda: make(1), key=f'k{n}')"] * 2,
        "given back unchecked; to run it anew, delete that: %nbstep rm k0",
    ),
    "moved": (
        ["async def fetch(rows): return len(rows)\nrows = [1]\nlater = step(fetch, rows, key='k')\nrows.append(2)\nawait later"],
        "call it with a copy",
    ),
    "not-stored": (
        ["import threading\nfor n in range(3):\n    step(lambda: threading.Lock(), key=f'k{n}')"], "leave it out of the result",
    ),
    "no-room": (
        ["from nbstep import Cache\nsmall = Cache('small', max_bytes='100 KB')",
         "%%workflow --cache $small\nstep(lambda: bytes(90_000), key='k')"], "raise max_bytes",
    ),
    "evicted": (
        ["from nbstep import Cache\nsmall = Cache('small', max_bytes='100 KB')",
         "%%workflow --cache $small\nfor n in range(6):\n    step(lambda: bytes(30_000 + n), key=f'k{n}')"], "Raise max_bytes",
    ),
    "replaced": (
        ["step(lambda: 1, key='k')", "for _ in range(3):\n    step(lambda: 1 / 0, key='k', refresh=True, on_error='keep')"],
        "%nbstep undo k",
    ),
    "stale": (
        ["for n in range(3):\n    step(lambda: 1, key=f'k{n}')",
         "for n in range(3):\n    step(lambda: 1 / 0, key=f'k{n}', refresh=True, stale_if_error=True)"], "the next run tries again",
    ),
    "cache-errors": (
        ["for n in range(3):\n    step(lambda: 1 / 0, key=f'k{n}', cache_errors=lambda e: e.no, on_error='keep')"],
        "mend that function",
    ),
    "output": (["%%step k\nprint('x' * 9_000_000)"], "let the cell print less"),
}  # fmt: skip
# What is told of stores and their surroundings; their own tests hold the words.
OF_STORES = {
    "cache-place", "computed-twice", "damaged", "export", "lost", "not-fetched", "shortened", "signing-key", "unreachable",
    "untrusted", "waiting", "workers", "workers-code", "workers-inputs", "workers-inside",
}  # fmt: skip


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with open_shell(tmp_path) as opened:
        numbers = itertools.count()
        opened.ip.user_ns["another"] = lambda: f"key {next(numbers)}"
        yield opened


def shown_lines(text: str) -> list[str]:
    """The findings under a step list."""
    lines = [line.removeprefix("  ! ") for line in text.splitlines() if line.startswith("  ! ")]
    return [line for line in lines if not re.match(r"\d+ failures? (is|are) kept", line)]


@pytest.mark.parametrize("case", CASES)
def test_a_finding_is_one_line_that_tells_the_fix(case: str, shell: Shell) -> None:
    cells, fix = CASES[case]
    for cell in cells:
        text = shell.good(cell if cell.startswith(("%%", "from nbstep import Cache")) else f"%%workflow\n{cell}").text
    (line,) = shown_lines(text)
    assert fix in line
    assert len(line) < 300


def test_every_kind_of_finding_is_here() -> None:
    told: set[str] = set()
    for path in Path(nbstep.__file__).parent.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call):
                name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
                kind = {"find": call.args[:1], "Finding": call.args[2:3]}.get(name, [])
                told |= {c.value for c in kind if isinstance(c, ast.Constant) and isinstance(c.value, str)}
    told.discard("")
    known = {case.partition(":")[0] for case in CASES} | OF_STORES
    assert told - known == set(), "a new kind of finding: add the cells that lead to it"


def test_a_notebook_of_200_clean_steps_has_no_finding(shell: Shell) -> None:
    """Functions, lambdas, files, frames, modules, helpers, async steps, kept errors: cold, warm, and in a new run once more."""
    heard: list[Finding] = []
    stop = listen(lambda event: heard.append(event) if isinstance(event, Finding) else None)
    Path("sales.csv").write_text("shop,amount\nnorth,10\n")
    Path("helping.py").write_text("def double(n): return 2 * n\n")
    cell = """%%workflow clean
import datetime
import pandas as pd
from helping import double

def load(n, scale=1): return [n * scale]
def missing(n): return {}[n]
async def fetch(n): return n
frames = {}
for n in range(40):
    step(load, n, key=f"load:{n}")
    frames[n] = step(lambda: pd.read_csv("sales.csv").assign(n=n), key=f"frame:{n}")
    step(lambda: int(frames[n]["n"].sum()) + double(n), key=step.key("sum", n=n))
    await step(fetch, n, key=f"fetch:{n}")
    step(missing, n, key=f"missing:{n}:{datetime.date.today()}", on_error="keep")
"""
    try:
        texts = [shell.good(cell).text for _ in range(3)]
    finally:
        stop()
    assert [text.partition(":")[0] for text in texts] == ["clean   200 steps"] * 3
    assert "200 steps: 160 cached" in texts[-1]
    assert [shown_lines(text) for text in texts] == [[], [], []]
    assert heard == []
