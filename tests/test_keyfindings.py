"""Keys that cannot work are called out, and good ones are not (K7)."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import linecache
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from shells import open_shell

from nbstep import create_workflow, step
from nbstep.events import Finding
from nbstep.testing import RecordingListener

_cells = itertools.count()

SETUP = """
import time, random, uuid, datetime as dt, secrets, os, threading, functools
from datetime import datetime, date, timedelta, timezone
from uuid import uuid4
from time import time as now_s
import numpy as np
import pandas as pd
from nbstep import step

def work(*args): return 1
async def awork(*args): return 1
class User:
    def __init__(self, id=1): self.id = id
user, uid, name, rows, n = User(), 7, "ann", [1, 2], 3
df = pd.DataFrame({"a": [1, 2]})
"""


def findings(source: str, setup: str = SETUP) -> list[str]:
    """The findings of one run of a cell."""
    told = RecordingListener()
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(setup, scope)
    filename, text = f"<ipython-input-{next(_cells)}>", textwrap.dedent(source)
    linecache.cache[filename] = len(text), None, text.splitlines(keepends=True), filename
    code = compile(text, filename, "exec")
    create_workflow(cache={}, on_event=told)(lambda _: exec(code, scope))
    return [finding.text for finding in told.of(Finding)]


BAD = {
    # a clock
    'step(work, key=f"a:{time.time()}")': "time.time()",
    'step(work, key=f"a:{time.time_ns()}")': "time.time_ns()",
    'step(work, key="a:" + str(int(time.time())))': "time.time()",
    'step(work, key=f"a:{now_s():.0f}")': "now_s()",
    'step(work, key=f"a:{time.perf_counter()}")': "time.perf_counter()",
    'step(work, key=f"a:{datetime.now()}")': "datetime.now()",
    'step(work, key=f"a:{datetime.now().isoformat()}")': "datetime.now()",
    'step(work, key=f"a:{datetime.now(timezone.utc)}")': "datetime.now()",
    'step(work, key="a:%s" % datetime.now())': "datetime.now()",
    'step(work, key="a:{}".format(datetime.now()))': "datetime.now()",
    'step(work, key=f"a:{datetime.now():%Y-%m-%d %H:%M:%S}")': "datetime.now()",
    'step(work, key=datetime.now().strftime("a:%Y%m%d-%H%M"))': "datetime.now()",
    'step(work, key=f"a:{dt.datetime.today()}")': "dt.datetime.today()",
    'step(work, key=f"a:{datetime.now() - timedelta(days=1)}")': "datetime.now()",
    'step(work, key=f"a:{pd.Timestamp.now()}")': "pd.Timestamp.now()",
    'step(work, key=f"a:{datetime.now().timestamp()}")': "datetime.now()",
    'step(work, key=time.strftime("a:%H:%M:%S"))': "time.strftime()",
    'step(work, key=f"a:{time.ctime()}")': "time.ctime()",
    'step(work, key=step.key("a", at=datetime.now()))': "datetime.now()",
    'stamp = datetime.now()\nstep(work, key=f"a:{stamp}")': "datetime.now()",
    'stamp = time.time()\nkey = f"a:{stamp}"\nstep(work, key=key)': "time.time()",
    'stamp = datetime.now().isoformat()\nstep(\n    work,\n    key=f"a:{stamp}",\n)': "datetime.now()",
    'def run():\n    stamp = time.time()\n    return step(work, key=f"a:{stamp}")\nrun()': "time.time()",
    'for i in range(3):\n    step(work, i, key=f"a:{i}:{time.time()}")': "time.time()",
    'r = [step(work, i, key=f"a:{i}:{time.time()}") for i in range(3)]': "time.time()",
    'step(lambda: work(), key=(k := f"a:{time.time()}"))': "time.time()",
    'step.map(work, [1, 2], key=lambda i: f"a:{i}:{time.time()}")': "time.time()",
    # random, uuid, id, hash, processes
    'step(work, key=f"a:{random.random()}")': "random.random()",
    'step(work, key=f"a:{random.randint(0, 10**9)}")': "random.randint()",
    'step(work, key=f"a:{np.random.rand()}")': "np.random.rand()",
    'step(work, key=f"a:{secrets.token_hex(4)}")': "secrets.token_hex()",
    'step(work, key=f"a:{uuid.uuid4()}")': "uuid.uuid4()",
    "step(work, key=str(uuid4()))": "uuid4()",
    'step(work, key=f"a:{uuid.uuid4().hex[:8]}")': "uuid.uuid4()",
    'run_id = uuid.uuid4()\nstep(work, key=f"a:{run_id}")': "uuid.uuid4()",
    'step(work, key=f"a:{id(user)}")': "id()",
    'step(work, key="a:" + str(id(df)))': "id()",
    'step(work, key=f"a:{hash(name)}")': "hash()",
    'step(work, key=f"a:{hash((name, 1))}")': "hash()",
    'step(work, key=f"a:{os.getpid()}")': "os.getpid()",
    # texts
    'step(work, key=f"a:{user}")': "an object's address",
    'step(work, key=f"a:{work}")': "an object's address",
    "step(work, key=str(lambda: 1))": "an object's address",
    'step.map(work, [user], key=lambda u: f"a:{u}")': "an object's address",
    "step(work, key=f\"a:{ {'x', 'y'} }\")": "the text of a set",
    "step(work, key=f\"a:{frozenset(['x', 'y', 'z'])}\")": "the text of a set",
    'step(work, key=f"a:{np.arange(2000)}")': "the text of a long array",
    'step(work, key="user:{uid}")': "{uid}",
    'step(lambda: work(uid), key="user:{uid}:{n}")': "{uid}",
    'step(\n    lambda: work(uid),\n    key="user:{uid}",\n)': "{uid}",
    'step(work, key="user:{user.id}")': "{user.id}",
    "step(work, key='user:{rows[0]}')": "{rows[0]}",
    'step.map(work, [1], key=lambda i: "user:{i}")': "{i}",
    'key = "user:{uid}"\nstep(work, key=key)': "{uid}",
    'step(work, key=f"a:{df}")': "frame",
    'step(work, key=f"a:{df.a}")': "frame",
    'step(work, key="a\\nb")': "line break",
    'step(work, key=f"label:{chr(10)}{name}")': "line break",
}

GOOD = [
    "step(work, key=f\"a:{ {'x': 'y', 'z': 'w'} }\")", "step(work, key=f\"a:{ {'x'} }\")", 'step(work, key=f"a:{np.arange(9)}")',
    'step(work, key="first ... last")',
    'step(work, key="a")', 'step(lambda: work(uid), key=f"user:{uid}")', 'step(work, uid, key=f"user:{user.id}")',
    'step(work, key="a:" + name)', 'step(work, key="a:%s" % uid)', 'step(work, key="a:{}".format(uid))',
    'step(work, key="a:{uid}".format(uid=uid))', 'step(work, key=step.key("cv", lr=0.1, text="x" * 100))',
    'step(work, key=step.key("t", text="two\\nlines that are long enough to become a digest, aren\'t they"))',
    # days, and longer
    'step(work, key=f"a:{date.today()}")', 'step(work, key=f"a:{date.today().isoformat()}")',
    'step(work, key=f"a:{date.today():%Y-%m-%d}")', 'step(work, key=date.today().strftime("a:%Y-%m-%d"))',
    'step(work, key=datetime.now().strftime("a:%Y-%m-%d"))', 'step(work, key=f"a:{datetime.now():%Y-%m-%d}")',
    'step(work, key=f"a:{datetime.now():%Y-W%W}")', 'step(work, key=f"a:{datetime.now():%Y-%m-%d-%H}")',
    'step(work, key=time.strftime("a:%Y-%m-%d"))', 'step(work, key=f"a:{datetime.now().date()}")',
    'step(work, key=f"a:{datetime.now().year}")', 'step(work, key=f"a:{datetime.now().hour}")',
    'step(work, key=f"a:{datetime.now().isocalendar().week}")', 'step(work, key=f"a:{pd.Timestamp.now().normalize()}")',
    'step(work, key=f"a:{pd.Timestamp.now():%Y-%m-%d}")', 'step(work, key=f"a:{pd.Timestamp.now().floor(\'D\')}")',
    'step(work, key=f"a:{datetime.now().isoformat()[:10]}")', 'step(work, key=f"a:{str(datetime.now())[:10]}")',
    'step(work, key=f"a:{datetime.now().isoformat(timespec=\'hours\')}")', 'step(work, key=f"a:{int(time.time() // 86400)}")',
    'step(work, key=f"a:{int(time.time() / 3600)}")', 'step(work, key="a:{:%Y-%m-%d}".format(datetime.now()))',
    'step(work, key=f"a:{datetime.now().replace(hour=0, minute=0, second=0, microsecond=0)}")',
    'now = datetime.now()\nday = now.strftime("%Y-%m-%d")\nstep(work, key=f"a:{day}")',
    'today = date.today()\nstep(work, key=f"a:{today - timedelta(days=1)}")',
    'now = datetime.now()\nstep(work, key=f"a:{now.date()}")',
    'def day_of(t): return t.date()\nstep(work, key=f"a:{day_of(datetime.now())}")',
    # clocks and chance elsewhere
    't0 = time.time()\nstep(lambda: (work(), time.time())[0], key="a")', 'step(lambda: random.random(), key="a")',
    'step(lambda: uuid4().hex, key="id-of-the-run")', 'started = datetime.now()\nstep(work, key="a")\nprint(started)',
    'stamp = time.time()\nstamp = "v1"\nstep(work, key=f"a:{stamp}")', 'for stamp in (1, 2):\n    step(work, key=f"a:{stamp}")',
    # names of one's own
    'time = "t"\nid = lambda x: x.id\nstep(work, key=f"a:{id(user)}:{time}")',
    'class random:\n    def random(): return 1\nstep(work, key=f"a:{random.random()}")',
    'def hash(x): return "h"\nstep(work, key=f"a:{hash(name)}")', 'step(work, key=f"a:{hash(7)}")',
    'step(work, key=f"a:{uid}:{hash(uid)}")',
    'step(work, key=f"a:{uuid.uuid5(uuid.NAMESPACE_DNS, name)}")',
    'random.seed(3)\nstep(work, key=f"a:{random.randint(0, 9)}")',
    'rng = np.random.default_rng(0)\nstep(work, key=f"a:{rng.integers(10)}")',
    'ts = pd.Timestamp("2026-01-01 10:11:12")\nstep(work, key=f"tick:{ts}")',
    'for ts in (datetime(2026, 1, 1, 5, 6, 7), datetime(2026, 1, 2)):\n    step(work, key=f"tick:{ts}")',
    # braces and odd texts that are meant
    'step(work, key="set:{}")', 'step(work, key="json:{\\"a\\": 1}")', 'step(work, key="re:[0-9]{2}")',
    'step(work, key="{unknown}")',
    'step(work, key=f"a:{{uid}}")', 'label = "{uid}"\nstep(work, key=f"a:{label}")', 'step(work, key="0x7f3a")',
    'step(work, key="price at 0x10")',
    'step(work, key="ключ:日本")', 'step(work, key="a b\\tc")', 'step.map(work, [1, 2], key="a:{}")',
    'step.map(work, [(1, 2)], key="a:{0[0]}")',
    'step.map(work, [1, 2], key=lambda i: f"a:{i}")', 'step.map(work, ["x"], key="a:{:>3}")', 'step(work)',
    'step(lambda: time.time())',
    'with_key = functools.partial(step, work)\nwith_key(key="a:1")', 'key = "a"\nstep(work, key=key)',
    'opts = {"key": "a"}\nstep(work, **opts)',
    'for page in range(5):\n    step(\n        work,\n        page,\n        key=f"page:{page}",\n    )',
    # silenced
    'step(work, key=f"a:{time.time()}")  # nbstep: ok', 'step(\n    work,\n    key=f"a:{uuid4()}",  # nbstep: ok\n)',
    'step(work, key="user:{uid}")  # nbstep: ok', 'step(work, key=f"a:{user}")  # nbstep: ok',
]  # fmt: skip


@pytest.mark.parametrize("source", BAD, ids=[" ".join(source.split())[:90] for source in BAD])
def test_k7_a_key_that_cannot_work_is_called_out_once(source: str) -> None:
    (text,) = findings(source)
    assert BAD[source] in text
    assert "\n" not in text
    assert "line " in text


@pytest.mark.parametrize("source", GOOD, ids=[" ".join(source.split())[:90] for source in GOOD])
def test_k7_a_good_key_is_not(source: str) -> None:
    assert findings(source) == []


def test_k7_the_corpus_is_large_enough() -> None:
    assert len(BAD) >= 40
    assert len(GOOD) >= 40


def test_k7_the_line_says_what_where_and_what_to_do() -> None:
    assert findings('\nstep(work, key=f"sales:{datetime.now()}")') == [
        "line 2: the key holds datetime.now(), so it is a new one in every run and nothing is found again; "
        "leave it out, or take the day: {date.today()}"
    ]
    assert findings('step(work, key="user:{uid}")') == [
        'line 1: the key has {uid} in it as it stands; for the value write f before the quotes: key=f"user:{uid}"'
    ]
    assert findings('step(work, key=f"a:{user}")') == [
        "line 1: the key holds an object's address (<__main__.User object at 0x…>), which is another one in every process; "
        "name what identifies it, such as its id"
    ]


def test_k7_two_sites_are_two_findings() -> None:
    assert len(findings('step(work, key=f"a:{time.time()}")\nstep(work, key=f"b:{time.time()}")')) == 2


def test_k7_a_clean_notebook_of_200_steps_says_nothing() -> None:
    lines = [f'step(lambda: work({i}, uid), key=f"part{i}:{{uid}}:{{date.today()}}")' for i in range(200)]
    assert findings("\n".join(lines)) == []


def test_k7_in_async_code_too() -> None:
    source = (
        'async def main():\n    return await step(awork, key=f"a:{time.time()}")\nimport asyncio\nasyncio.run(main())'
    )
    (text,) = findings(source)
    assert text.startswith("line 2: the key holds time.time()")


def test_k7_a_function_of_a_module_is_told_in_every_run(tmp_path: Path) -> None:
    path = tmp_path / "etl_findings.py"
    path.write_text(
        'import time\nfrom nbstep import step\n\ndef load():\n    return step(abs, 1, key=f"a:{time.time()}")\n'
    )
    spec = importlib.util.spec_from_file_location("etl_findings", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for _ in range(2):
        told = RecordingListener()
        create_workflow(cache={}, on_event=told)(lambda _: [module.load(), module.load()])
        (finding,) = told.of(Finding)
        assert finding.text.startswith("etl_findings.py, line 5: the key holds time.time()")


def test_k7_without_source_nothing_is_said_of_the_expression() -> None:
    told = RecordingListener()
    scope: dict[str, Any] = {"step": step, "time": time}
    code = compile('step(abs, 1, key=f"a:{time.time()}")', "<nowhere>", "exec")
    create_workflow(cache={}, on_event=told)(lambda _: exec(code, scope))
    assert told.of(Finding) == []


def test_k7_source_that_changed_on_disk_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "edited.py"
    path.write_text("\n" * 3 + 'step(abs, 1, key="a:1")\n')
    code = compile(path.read_text(), str(path), "exec")
    path.write_text("import time\nx = [\n" + "  # ( ] }\n" * 3 + '  f"{time.time()}"]\n')
    linecache.checkcache()
    told = RecordingListener()
    create_workflow(cache={}, on_event=told)(lambda _: exec(code, {"step": step}))
    assert told.of(Finding) == []


def test_k7_a_finding_is_no_error_and_the_step_runs() -> None:
    workflow = create_workflow(cache={})
    assert workflow(lambda step: step(abs, -3, key=f"a:{time.time()}")).value == 3


def test_k7_a_cell_shows_it_under_the_step_list(tmp_path: Path) -> None:
    with open_shell(tmp_path) as shell:
        ran = shell.good('%%workflow\nimport uuid\nstep(lambda: 1, key=f"a:{uuid.uuid4()}")')
        assert "! line 3: the key holds uuid.uuid4()" in ran.text
        assert "!" not in shell.good('%%workflow\nstep(lambda: 1, key="a")').text


def test_k7_several_tasks_at_one_site_are_told_once() -> None:
    source = (
        "async def one(i):\n    return await step(awork, i, key=f'a:{i}:{time.time()}')\n"
        "async def main():\n    await asyncio.gather(*[one(i) for i in range(5)])\nimport asyncio\nasyncio.run(main())"
    )
    assert len(findings(source)) == 1
    assert asyncio  # the cell's


def test_k7_a_site_is_read_once_however_often_it_is_asked() -> None:
    told = RecordingListener()
    filename, text = "<ipython-input-once>", 'for i in range(3):\n    step(abs, i, key=f"a:{i}:{time.time()}")\n'
    linecache.cache[filename] = len(text), None, text.splitlines(keepends=True), filename
    code = compile(text, filename, "exec")
    workflow = create_workflow(cache={}, on_event=told)
    workflow(lambda _: exec(code, {"step": step, "time": time}))
    del linecache.cache[filename]  # whoever read it again would find nothing
    workflow(lambda _: exec(code, {"step": step, "time": time}))
    assert len(told.of(Finding)) == 2


def test_k7_what_a_key_s_expression_calls_is_never_called_by_reading_it() -> None:
    source = """
        asked = []
        class Clock:
            @property
            def now(self):
                asked.append(1)
                return lambda: "t"
            def __getattr__(self, name):
                asked.append(name)
                return lambda: "t"
        clock = Clock()
        step(work, key=f"a:{clock.now()}:{clock.time()}")
        assert asked == [1, "time"], asked
    """
    assert findings(source) == []
