"""What a map's worker does with: its own code and inputs, which the entry tells (D1, D2), and the run of steps inside (W5)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BEGIN = """
import importlib, logging, os, sys
sys.dont_write_bytecode = True
sys.path.insert(0, os.getcwd())
import joblib
from nbstep import create_workflow
from nbstep.events import Finding, StepHit
from nbstep.testing import RecordingListener
logging.getLogger("nbstep").setLevel(logging.CRITICAL)

def write(text):
    with open("lib.py", "w") as file:
        file.write(text)

def asked(backend, cache, fn, key, items=(1, 2, 3), **options):
    told = RecordingListener()
    workflow = create_workflow(cache=cache, on_event=told)
    with joblib.parallel_config(backend=backend, n_jobs=2):
        result = workflow(lambda step: step.map(fn, items, key=key + ":{}", **options))
    return result, [one.text for one in told.of(Finding)], [hit.drift for hit in told.of(StepHit)]

def _raised(call):
    try:
        return call()
    except Exception as error:
        return error

backend = sys.argv[1]
if backend == "dask" and __name__ == "__main__":
    from distributed import Client, LocalCluster
    client = Client(LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"))
    client.wait_for_workers(2)
"""

STALE = (
    BEGIN
    + """
def edit():
    write("LANG = 'de'\\ndef fetch(i):\\n    return LANG, i * 100\\n")
    importlib.invalidate_caches()
    importlib.reload(lib)

def load(i):
    return lib.fetch(i)

def fails(i):
    raise ValueError(lib.fetch(i))

if __name__ == "__main__":
    write("LANG = 'de'\\ndef fetch(i):\\n    return LANG, i\\n")
    import lib
    asked(backend, {}, load, "begun")  # the workers import it
    restart = {"loky": "get_reusable_executor().shutdown()", "dask": "client.restart()"}[backend]
    for cache in ("cache", {}):
        lib.LANG = "en"
        result, (told,), _ = asked(backend, cache, load, "en")
        assert result.value == [("de", 1), ("de", 2), ("de", 3)], result
        assert told.startswith("`LANG` is not the same in worker processes as here"), told
        _, _, drift = asked("threading", cache, load, "en")
        assert drift == ["`LANG` changed: put it in the key"] * 3, drift
        lib.LANG = "de"
    edit()
    for cache in ("cache", {}):
        for fn, named in ((load, "`fetch`"), (lib.fetch, "`lib.fetch`"), (fails, "`fetch`")):
            key = fn.__name__
            result, (told,), _ = asked(backend, cache, fn, key, on_error="keep")
            assert told.startswith(f"worker processes ran other code of {named} than this notebook has"), told
            assert restart in told, told
            _, findings, drift = asked(backend, cache, fn, key, on_error="keep", cache_errors=True)
            if fn is not fails:
                assert result.value[0].value == ("de", 1), result
                assert findings and "was edited" in drift[0], (findings, drift)
        result, (told,), _ = asked(backend, cache, load, "load", on_drift="rerun")
        assert result.value[0] == ("de", 1), result
        result, findings, _ = asked("threading", cache, load, "load", on_drift="rerun")
        assert (result.value, findings) == ([("de", 100), ("de", 200), ("de", 300)], []), (result, findings)
    print("ok")
"""
)

TWICE = (
    BEGIN
    + """
import time
from nbstep.steps import handover
work_of = handover.work_of

def twice(*args):
    work_of(*args)
    return work_of(*args)  # as a cluster has another worker do what one that died had done

def load(i):
    os.close(os.open(os.path.join("ran", str(i) + "-" + str(time.monotonic_ns())), os.O_CREAT))
    return lib.LANG, i

def counts(i):
    lib.COUNT += 1
    return load(i)

def run(key, fn=load):
    result, told, _ = asked(backend, "cache", fn, key)
    ran = len(os.listdir("ran"))
    for name in os.listdir("ran"):
        os.remove(os.path.join("ran", name))
    return result.value, told, ran

if __name__ == "__main__":
    os.mkdir("ran")
    write("LANG = 'de'\\nCOUNT = 0\\n")
    import lib
    handover.work_of = twice
    assert run("same") == ([("de", 1), ("de", 2), ("de", 3)], [], 3)
    assert run("state", counts) == ([("de", 1), ("de", 2), ("de", 3)], [], 3)
    lib.LANG = "en"
    value, told, ran = run("other")
    assert (value, ran) == ([("de", 1), ("de", 2), ("de", 3)], 3), (value, ran)
    assert told[0].startswith("`lib.LANG` is not the same in worker processes as here"), told
    print("ok")
"""
)

FORMS = (
    BEGIN
    + '''
import collections, enum, functools, math, re
from dataclasses import dataclass, field
from typing import NamedTuple
import numpy as np

write("""
import functools
RATE, NAMES, TABLE, SEEN = 3, ("a", "b"), {"a": 1, "b": [1, 2]}, set("abcdef")
class Conf:
    def __init__(self, n): self.n = n
    def scale(self, i): return self.n * i
    def __call__(self, i): return self.scale(i)
CONF = Conf(2)
def helper(i): return i * RATE
def work(i): return helper(i), NAMES, TABLE["a"], "a" in SEEN, CONF.n
def outer(k):
    def inner(i): return helper(i) + k
    return inner
closed, named = outer(4), lambda i: helper(i)
def deco(f):
    @functools.wraps(f)
    def wrapper(*a): return f(*a)
    return wrapper
@deco
def decorated(i): return helper(i) in {1, 2, "x", "y"}
@functools.lru_cache
def cached(i): return helper(i)
part = functools.partial(lambda a, i: a + i, 3)
""")
import lib

LIMIT, WORDS, SETTINGS = 7, ["x", "y"], {"lang": "en", "deep": {"k": (1, 2.5)}}
ARRAY, PATTERN, FROZEN = np.arange(10.0), re.compile("a+"), frozenset({"p", "q", "r"})
class Colour(enum.Enum):
    RED = 1
    BLUE = "b"
class Pair(NamedTuple):
    a: int
    b: str = "x"
@dataclass
class Point:
    x: int
    tags: list = field(default_factory=list)
    def norm(self): return abs(self.x) + LIMIT
class Slots:
    __slots__ = ("n",)
    def __init__(self, n): self.n = n
    def run(self, i): return self.n + i + LIMIT
class Base:
    K = 3
    @classmethod
    def make(cls, i): return cls.K * i
    @staticmethod
    def plain(i): return i + LIMIT
    @property
    def twice(self): return self.K * 2
    def go(self, i): return self.twice + i
    def __call__(self, i): return self.go(i)
class Child(Base):
    K = 5
    def go(self, i): return super().go(i) + Point(i).norm()
class Held:
    def __init__(self): self.n, self.arr = 4, np.ones(3)
    def run(self, i): return self.n + i + self.helper()
    def helper(self): return float(self.arr.sum())
POINT, PAIR, CHILD = Point(3, ["a"]), Pair(1), Child()
OPS = {"add": lambda i: i + LIMIT, "mul": lib.helper}
MEMO, COUNT, LAST = {}, collections.Counter(), None
def plain(i): return i + 1
def names(i): return i + LIMIT, WORDS[0], SETTINGS["lang"], ARRAY[0], bool(PATTERN), "p" in FROZEN
def modules(i): return lib.work(i), lib.RATE
def classes(i): return Point(i).norm(), Colour.RED.name, PAIR.a, POINT.x, CHILD(i), Slots(1).run(i)
def ops(i): return OPS["add"](i) + OPS["mul"](i)
def defaults(i, k=LIMIT, *, m="s", p=POINT): return i + k, m, p.x
def annotated(i: int, k: "list[int] | None" = None) -> tuple[int, ...]:
    """A docstring."""
    return i, i in {1, 2, 3, "x", "yy", "zz"}
def nested(i):
    def inner(k): return [math.sqrt(x) + LIMIT for x in range(k)]
    return inner(i), (lambda z: z + lib.RATE)(i)
def recursive(i): return 1 if i < 2 else i * recursive(i - 1)
def mutual(i): return 0 if i <= 0 else other(i - 1)
def other(i): return mutual(i - 1) if i else 1
def imports(i):
    import json, lib as l
    return json.dumps(l.work(i))
def imports_from(i):
    from lib import helper as h
    return h(i)
def deco(f):
    @functools.wraps(f)
    def wrapper(*a, **k): return f(*a, **k)
    return wrapper
@deco
def decorated(i): return i + LIMIT
@lib.deco
def decorated_there(i): return i + LIMIT
def memo(i):
    if i not in MEMO: MEMO[i] = i + LIMIT
    return MEMO[i]
def count(i):
    COUNT["n"] += 1
    return i
def last(i):
    global LAST
    LAST = i
    return i
def matches(i):
    match i:
        case 1 | 2: return "few"
        case Point(x=3): return "p"
        case _: return f"{i:>3}"
def closure(k, p):
    def inner(i): return i + k + p.x + LIMIT
    return inner
FORMS = [
    plain, names, modules, classes, ops, defaults, annotated, nested, recursive, mutual, imports, imports_from, decorated,
    decorated_there, memo, count, last, matches, closure(3, POINT), lambda i: i + LIMIT, lambda i: names(i),
    lambda i: lib.work(i), lambda i, k=LIMIT, q=POINT: i + k, Held().run, Child.make, Child.plain, CHILD, Base(),
    functools.partial(closure(1, POINT)), functools.partial(defaults, k=9, m="t"), functools.partial(Held.run, Held()),
    lib.work, lib.closed, lib.named, lib.decorated, lib.cached, lib.part, lib.CONF.scale, lib.CONF, Point, lib.Conf,
    Slots(3).run, abs, np.sqrt, math.sqrt, [1, 2, 3, 4].__getitem__,
]
if __name__ == "__main__":
    for cache in ("cache", {}):
        for at, fn in enumerate(FORMS):
            result, findings, _ = asked(backend, cache, fn, str(at))
            assert len(result.value) == 3, (fn, result)
            _, later, drift = asked("threading", cache, fn, str(at))
            assert (findings, later, drift) == ([], [], [None] * 3), (fn, findings, later, drift)
    big = np.zeros(300_000)  # joblib sends it as a file
    result, findings, _ = asked(backend, {}, lambda a: float(a.sum()) + LIMIT, "big", [big])
    assert (result.value, findings) == ([7.0], []), (result, findings)
    print("ok")
'''
)


INSIDE = (
    BEGIN
    + """
from nbstep import Cache, step
from nbstep.errors import RecursiveStep
from nbstep.steps import inside

@step.cached("told:{i}")
def told_of(i):
    return "told", i, os.getpid()

def work(i):
    return step(lambda: ("inner", i, os.getpid()), key=f"inner:{i}"), told_of(i)

def plain(i):
    return len(inside._opened)

def common(i):
    return step(lambda: os.urandom(4), key="common")

def nested(i):
    return create_workflow(cache="of-its-own")(lambda step: step(lambda: os.urandom(4), key=f"nested:{i}")).unwrap()

def recursive(i):
    return step(lambda: i, key=f"rec:{i}")

def failing(i):
    return step(lambda: 1 / 0, key=f"fails:{i}")

def map_in(cache, fn, key, on=backend, **options):
    told = RecordingListener()
    workflow = create_workflow(cache=cache, name="outer", on_event=told, **options)
    with joblib.parallel_config(backend=on, n_jobs=2):
        result = workflow(lambda step: step.map(fn, (1, 2, 3, 4), key=key + ":{}"))
    return result.value if hasattr(result, "value") else result.error, [one.text for one in told.of(Finding)]

def entry(place, key):
    return next(one for one in Cache(place).entries() if one.key == key)

def keys(place):
    return sorted(Cache(place).keys())

if __name__ == "__main__":
    assert map_in("first", plain, "plain") == ([0] * 4, [])
    # in the cache of the workflow, with what it was made from
    first, findings = map_in("other", work, "n")
    assert findings == [], findings
    assert keys("other") == sorted(f"{name}:{i}" for name in ("n", "inner", "told") for i in (1, 2, 3, 4)), keys("other")
    assert all(set(entry("other", f"n:{i}").facts.uses) == {f"inner:{i}", f"told:{i}"} for i in (1, 2, 3, 4))
    assert {one.facts.workflow for one in Cache("other").entries()} == {"outer"}
    assert not os.path.exists(".nbstep")
    # what was kept inside is found, here and there, and nothing is old
    told = RecordingListener()
    again = create_workflow(cache="other", on_event=told)(lambda step: [work(i) for i in (1, 2, 3, 4)]).value
    assert (again, [hit.drift for hit in told.of(StepHit)]) == (first, [None] * 8)
    assert map_in("other", work, "again") == (first, [])
    # modes and flags
    fresh, findings = map_in("other", work, "again", mode="refresh")
    assert findings == [] and all(one[0][1] == i for one, i in zip(fresh, (1, 2, 3, 4)))
    before = entry("other", "inner:1").created
    assert map_in("other", work, "n", mode="refresh")[0]
    assert entry("other", "inner:1").created > before
    refreshed, _ = map_in("other", common, "common-of", mode="refresh")
    assert len(set(refreshed)) <= 2, refreshed  # once a worker
    assert map_in("other", failing, "f1", cache_errors=False)[1] == []
    assert not [key for key in keys("other") if key.startswith("fails")]
    map_in("other", failing, "f2", cache_errors=lambda error: isinstance(error, ZeroDivisionError))
    assert len([key for key in keys("other") if key.startswith("fails")]) == 4
    assert "OfflineMiss" in repr(_raised(lambda: map_in("other", work, "offline", mode="offline")))
    # where it is not reached
    for cache, said in (({}, True), (None, False)):
        values, findings = map_in(cache, work, "n")
        assert [one[0][1] for one in values] == [1, 2, 3, 4]
        assert len(findings) == said and all("in worker processes keep nothing" in text for text in findings), findings
    assert not os.path.exists(".nbstep")
    # a workflow inside has its own
    assert map_in({}, nested, "n")[1] == []
    assert keys("of-its-own") == [f"nested:{i}" for i in (1, 2, 3, 4)]
    error = _raised(lambda: map_in("other", recursive, "rec"))
    assert type(error) is RecursiveStep, error
    print("ok")
"""
)


FILES = (
    BEGIN
    + """
import time
from pathlib import Path

def slow(i):
    time.sleep(0.5)
    if i == 0:  # as the last two wait for a worker
        Path("plain.txt").write_text("2")
    time.sleep(0.5)
    return Path("plain.txt").read_text()

def logging_(i):
    with open("log.txt", "a") as log:
        log.write("x")
    return open("plain.txt").read()

if __name__ == "__main__":
    open("plain.txt", "w").close()
    open("log.txt", "w").close()
    for cache in ({}, "disk"):
        _, findings, _ = asked(backend, cache, logging_, "k", files=["log.txt", "plain.txt", "no.txt"])
        assert len(findings) == 2, findings
        assert any("`log.txt` of files= changed while its step ran" in text for text in findings), findings
        assert any("`no.txt` of files= is not there" in text for text in findings), findings
        time.sleep(0.1)
        Path("log.txt").write_text("another text")
        _, findings, drifts = asked(backend, cache, logging_, "k", files=["log.txt", "plain.txt", "no.txt"])
        assert drifts == [None] * 3, drifts
        assert findings, "nothing is told of log.txt"
        assert all("`log.txt` of files= changed since" in text for text in findings), findings
        # what changes before a worker begins with an item is an input of that, also where its size is what it was
        Path("plain.txt").write_text("1")
        assert asked(backend, cache, slow, "s", range(4))[0].value[2:] == ["2", "2"]
        Path("plain.txt").write_text("333")
        drifts = asked(backend, cache, slow, "s", range(4))[2]
        assert drifts[:2] == [None, None], drifts  # it changed as they ran
        assert all("plain.txt: 1 B before, 3 B now" in drift for drift in drifts[2:]), drifts
    print("ok")
"""
)


@pytest.mark.parametrize("backend", ["loky", "dask"])
@pytest.mark.parametrize(
    "text", [STALE, TWICE, FORMS, INSIDE, FILES], ids=["stale", "twice", "forms", "inside", "files"]
)
def test_d1_w5_what_a_worker_has_is_told_and_steps_inside_have_a_run(backend: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(text)
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "script.py", backend], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert (done.stdout[-3:], done.returncode) == ("ok\n", 0), done.stderr[-3000:]
