"""What a `joblib.Memory` has of ours with `backend="nbstep"`: lists, trust, undo, integrity; and how joblib gets to know of it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import nbformat
import numpy as np
import pytest
from joblib import Memory
from joblib._store_backends import CacheWarning
from nbclient import NotebookClient
from test_startup import SHELL
from user_modules import next_process, user_module

from nbstep import Cache, create_workflow
from nbstep.cache import trust
from nbstep.cache.records import Meta
from nbstep.events import StepAsked
from nbstep.testing import RecordingListener

CODE = """
import numpy
CALLS = []

def fetch(uid, lang="de", **more):
    CALLS.append(uid)
    return {"uid": uid, "lang": lang}

def login(user, password, url):
    return user

def long(text, rows):
    return len(text) + len(rows)

def grid(n):
    CALLS.append(n)
    return numpy.arange(n, dtype=float)

class Evil:
    def __reduce__(self):
        return print, ("unpickled",)

def evil(x):
    return Evil() if x else 0

async def afetch(uid):
    return uid
"""


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Any]:
    with user_module(tmp_path / "modules", "jobs", CODE) as module:
        yield module


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "kept")


def memory_in(cache: Cache, **options: Any) -> Memory:
    return Memory(cache.directory, backend="nbstep", verbose=0, **options)


def results(cache: Cache) -> list[Meta]:
    return [meta for meta in cache.entries() if not meta.key.endswith(":code")]


def nbstep(*words: str, cwd: Path | None = None) -> str:
    command = [sys.executable, "-m", "nbstep", *words]
    wide = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=cwd, env=wide).stdout


def listed(cache: Cache) -> dict[str, Any]:
    return {row["key"]: row for row in json.loads(nbstep("ls", "--json", "--cache", str(cache.directory)))}


# Lists


def test_n6_a_call_is_listed_as_a_step_is(cache: Cache, work: Any) -> None:
    fetch = memory_in(cache).cache(work.fetch)
    fetch("1", q=2)
    (meta,) = results(cache)
    assert (meta.key.rpartition(":")[0], meta.type, meta.shape, meta.outcome) == (
        "joblib:jobs.fetch",
        "dict",
        "2 items",
        "ok",
    )
    assert meta.facts.source == CODE[CODE.index("def fetch") : CODE.index("\n\ndef login")]
    assert meta.facts.inputs == {"uid": "'1'", "lang": "'de'", "**": "{'q': 2}"}
    assert (meta.facts.workflow, bool(meta.facts.place.notebook)) == ("joblib.Memory", True)
    assert meta.facts.took_s == fetch.call_and_shelve("1", q=2).duration > 0
    row = listed(cache)[meta.key]
    assert (row["message"], row["status"]) == ("uid='1', lang='de', **{'q': 2}", "ok")
    text = nbstep("ls", "--cache", str(cache.directory), "lang='de'")
    assert "dict 2 items · uid='1', lang='de', **{'q': 2}" in text
    shown = nbstep("show", meta.key, "--cache", str(cache.directory))
    for part in ("uid   '1'", "def fetch(uid", "joblib.Memory", "{'uid': '1', 'lang': 'de'}"):
        assert part in shown
    assert cache.get(meta.key) == {"uid": "1", "lang": "de"}


@pytest.mark.parametrize("mode", ["offline", "refresh"])
def test_c7_a_call_is_no_step_and_no_mode_governs_it(mode: Any, cache: Cache, work: Any) -> None:
    fetch, told = memory_in(cache).cache(work.fetch), RecordingListener()
    workflow = create_workflow(cache=cache, mode=mode, on_event=told)
    assert workflow(lambda step: (fetch("1"), fetch.check_call_in_cache("1"))).value[1] is True
    assert (len(results(cache)), told.of(StepAsked)) == (1, [])


def test_n6_hits_and_what_they_saved_are_counted(cache: Cache, work: Any) -> None:
    fetch = memory_in(cache).cache(work.fetch)
    for uid in (1, 1, 1, 2):
        fetch(uid)
    (first, second) = results(cache)
    end = time.monotonic() + 30
    while (row := listed(cache)[first.key])["hits"] < 2 and time.monotonic() < end:
        time.sleep(0.1)
    assert row["hits"] == 2
    assert row["saved_s"] == pytest.approx(2 * first.facts.took_s)
    assert listed(cache)[second.key]["hits"] == 0


def test_d2_secrets_and_long_texts_do_not_get_into_a_header(cache: Cache, work: Any) -> None:
    seen: list[dict[str, Any]] = []
    memory = memory_in(cache)
    login = memory.cache(work.login, cache_validation_callback=lambda metadata: not seen.append(metadata))
    for _ in range(2):
        login("ada", "hunter2", url="https://ada:hunter2@x.org/?page=2")
    (meta,) = results(cache)
    assert meta.facts.inputs == {"user": "'ada'", "password": "<redacted>", "url": "'https://<redacted>@x.org/?page=2'"}
    assert seen[0]["input_args"] == meta.facts.inputs
    assert b"hunter2" not in b"".join(
        path.read_bytes() for path in (cache.directory or Path()).rglob("*") if path.is_file()
    )
    memory.cache(work.long)("x" * 100_000, list(range(100_000)))
    (long,) = [meta for meta in results(cache) if ".long:" in meta.key]
    assert {name: (len(text), text[-1]) for name, text in long.facts.inputs.items()} == {
        "text": (500, "…"), "rows": (500, "…"),
    }  # fmt: skip


def test_c0_the_project_s_cache_is_meant_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Any
) -> None:
    (tmp_path / "project" / "notebooks").mkdir(parents=True)
    (tmp_path / "project" / ".git").mkdir()
    monkeypatch.delenv("NBSTEP_DIR")
    monkeypatch.chdir(tmp_path / "project" / "notebooks")
    memory = Memory(".nbstep", backend="nbstep", verbose=0)
    assert memory.store_backend.location == str(tmp_path / "project" / ".nbstep")
    memory.cache(work.fetch)(1)
    assert "joblib:jobs.fetch:" in nbstep("ls")
    assert Memory("other", backend="nbstep").store_backend.location.endswith("other")


def test_c1_a_url_is_a_place_too(work: Any) -> None:
    memory = Memory("memory:", backend="nbstep", verbose=0)
    fetch = memory.cache(work.fetch)
    fetch(1), fetch(1)
    assert (work.CALLS, memory.store_backend.location) == ([1], "memory:")
    fetch.clear(), fetch(1)
    assert work.CALLS == [1, 1]


@pytest.mark.redis
def test_c1_a_team_shares_a_server(redis_url: str, work: Any) -> None:
    for _ in range(2):
        memory = Memory(f"{redis_url}?prefix=memory", backend="nbstep", verbose=0)
        assert memory.cache(work.fetch)(1)["uid"] == 1
    assert work.CALLS == [1]
    assert [key for key in Cache(f"{redis_url}?prefix=memory") if not key.endswith(":code")]


def test_c9_options_of_the_cache_go_through_joblib(cache: Cache, work: Any) -> None:
    memory = memory_in(cache, backend_options={"previews": False, "redact": lambda text: text.replace("Ada", "…")})
    memory.cache(work.fetch)("Ada")
    (meta,) = results(cache)
    assert (meta.preview, meta.facts.inputs["uid"]) == ("", "'…'")
    with pytest.raises(TypeError, match="shards"):
        memory_in(cache, backend_options={"shards": 2})
    with pytest.raises(ValueError, match="mmap_mode"):
        memory_in(cache, mmap_mode="x")


def test_what_is_not_used_is_said(cache: Cache, work: Any) -> None:
    with pytest.warns(UserWarning, match="compress= is not used") as heard:
        memory_in(cache, compress=9)
    assert heard[0].filename == __file__
    with pytest.warns(UserWarning, match="'r\\+' counts as 'c'"):
        memory = memory_in(cache, mmap_mode="r+")
    grid = memory.cache(work.grid)
    grid(10)[:] = 5
    assert grid(10).tolist() == list(range(10))


# Undo


def test_c6_what_an_edit_deleted_comes_back_and_is_not_used_for_the_new_code(cache: Cache, work: Any) -> None:
    fetch = memory_in(cache).cache(work.fetch)
    fetch(1), fetch(2)
    other = next_process(work, CODE.replace('"lang": lang', '"lang": lang.upper()'))
    changed = memory_in(cache).cache(other.fetch)
    assert changed(1) == {"uid": 1, "lang": "DE"}
    assert len(results(cache)) == 1
    assert len(cache.undo()) == 3  # with the code
    assert [cache.get(meta.key)["lang"] for meta in results(cache)] == ["de", "de"]
    assert not changed.check_call_in_cache(2)
    assert [changed(2), changed(1)] == [{"uid": 2, "lang": "DE"}, {"uid": 1, "lang": "DE"}]


def test_c6_an_undone_edit_costs_nothing(cache: Cache, work: Any) -> None:
    fetch = memory_in(cache).cache(work.fetch)
    fetch(1), fetch(2)
    other = next_process(work, CODE.replace('"lang": lang', '"lang": lang.upper()'))
    memory_in(cache).cache(other.fetch)(1)
    cache.undo()
    first = next_process(work, CODE)
    fetch = memory_in(cache).cache(first.fetch)
    assert [fetch(1), fetch(2)] == [{"uid": 1, "lang": "de"}, {"uid": 2, "lang": "de"}]
    assert first.CALLS == []


@pytest.mark.parametrize("way", ["function", "memory", "reduce", "reference"])
def test_c6_what_joblib_deletes_waits_in_the_trash(way: str, cache: Cache, work: Any) -> None:
    memory = memory_in(cache)
    fetch = memory.cache(work.fetch)
    for uid in (1, 2, 3):
        fetch(uid)
    before = {meta.key for meta in results(cache)}
    if way == "function":
        fetch.clear(warn=False)
    elif way == "memory":
        memory.clear(warn=False)
    elif way == "reduce":
        memory.reduce_size(items_limit=1)
    else:
        fetch.call_and_shelve(2).clear()
    assert {meta.key for meta in results(cache)} < before
    cache.undo()
    assert {meta.key for meta in results(cache)} == before
    fetch = memory_in(cache).cache(work.fetch)
    assert [fetch(uid)["uid"] for uid in (1, 2, 3)] == [1, 2, 3]
    assert work.CALLS == [1, 2, 3]


def test_c6_code_that_stands_already_is_not_replaced(cache: Cache, work: Any) -> None:
    for _ in range(2):  # as workers do that begin in the same moment
        memory_in(cache).store_backend.store_cached_func_code(["jobs/fetch"], "# first line: 1\ndef fetch(): ...")
    assert cache.trash().entries == 0
    assert len(cache.entries()) == 1


def test_c6_clearing_a_memory_leaves_the_steps(cache: Cache, work: Any) -> None:
    create_workflow(cache=cache)(lambda step: step(lambda: 1, key="user:1"))
    memory = memory_in(cache)
    memory.cache(work.fetch)(1)
    memory.reduce_size(items_limit=0)
    assert {key.partition(":")[0] for key in cache} == {"user", "joblib"}
    memory.clear(warn=False)
    assert cache.keys() == ["user:1"]


# Trust and integrity


def test_c1_what_somebody_else_signed_is_not_loaded_but_computed(
    cache: Cache, work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unpickled: list[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with monkeypatch.context() as them:
        them.setattr(trust, "_ring", trust.KeyRing({"JUPYTER_DATA_DIR": str(tmp_path / "them")}))
        memory_in(cache).cache(work.evil)(1)
    joblib.memory._FUNCTION_HASHES.clear()
    unpickled.clear()
    with caplog.at_level(logging.WARNING, "nbstep"):
        assert type(memory_in(cache).cache(work.evil)(1)).__name__ == "Evil"
    assert unpickled == []
    assert "not yours, so not used" in caplog.text


def test_c2_a_flipped_bit_is_noticed_and_the_value_computed_anew(cache: Cache, work: Any) -> None:
    grid = memory_in(cache).cache(work.grid)
    shelved = grid.call_and_shelve(100_000)
    (entry,) = [path for path in (cache.directory or Path()).glob("v1/e/*/*") if path.stat().st_size > 100_000]
    content = bytearray(entry.read_bytes())
    content[-5] ^= 1
    entry.write_bytes(content)
    with pytest.raises(KeyError, match="corrupted"):
        shelved.get()
    assert np.array_equal(grid.call_and_shelve(100_000).get(), np.arange(100_000.0))
    entry.write_bytes(content)
    joblib.memory._FUNCTION_HASHES.clear()
    grid = memory_in(cache).cache(work.grid)
    assert np.array_equal(grid(100_000), np.arange(100_000.0))
    assert work.CALLS == [100_000] * 3
    assert np.array_equal(memory_in(cache).cache(work.grid)(100_000), shelved.get())


@pytest.mark.parametrize("mode", [None, "r"])
def test_c3_a_result_that_cannot_be_kept_is_given_all_the_same(mode: str | None, cache: Cache, work: Any) -> None:
    grid = memory_in(cache, mmap_mode=mode, backend_options={"max_bytes": "100 kB"}).cache(work.grid)
    for _ in range(2):
        with pytest.warns(CacheWarning, match="joblib:jobs.grid:.* was not kept") as heard:
            assert len(grid(1_000_000)) == 1_000_000
        assert heard[0].filename == __file__
    with pytest.warns(CacheWarning, match="was not kept"):
        assert len(grid.call_and_shelve(1_000_000).get()) == 1_000_000
    assert results(cache) == []


def test_s4_values_that_joblib_cannot_keep(cache: Cache, work: Any) -> None:
    def adder(x: int) -> Any:
        work.CALLS.append(x)
        return {"add": lambda y: x + y}

    for _ in range(2):
        joblib.memory._FUNCTION_HASHES.clear()
        assert memory_in(cache).cache(adder)(1)["add"](2) == 3
    assert work.CALLS == [1]


# How joblib gets to know of it


@pytest.mark.parametrize(
    "first",
    [
        "import nbstep; from joblib import Memory",
        "from joblib import Memory; import nbstep",
        "import joblib.memory; import nbstep; from joblib import Memory",
        "import nbstep, importlib.util; importlib.util.find_spec('joblib.memory'); from joblib import Memory",
        f"{SHELL}\nfrom joblib import Memory",
    ],
)
def test_joblib_knows_the_backend_whoever_comes_first(first: str, tmp_path: Path) -> None:
    code = f"""{first}
import sys
told = Memory({str(tmp_path / "kept")!r}, backend="nbstep", verbose=0).cache(len)("abc")
print(told, [finder for finder in sys.meta_path if type(finder).__module__.startswith("nbstep")])
import joblib.memory, inspect
assert "class Memory" in inspect.getsource(joblib.memory)
assert type(joblib.memory.__loader__) is type(joblib.memory.__spec__.loader) is type(joblib.hashing.__loader__)
"""
    env = {**os.environ, "IPYTHONDIR": str(tmp_path / "ipython")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == "3 []"


def test_joblib_alone_does_not_bring_the_engine(tmp_path: Path) -> None:
    code = "import nbstep, joblib, sys; print(sorted(m for m in sys.modules if m.startswith('nbstep')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(
        ["nbstep", "nbstep.integrations", "nbstep.integrations.registering", "nbstep.version"]
    )


# A whole notebook

CELLS = (
    "%load_ext nbstep\nfrom joblib import Memory, Parallel, delayed, expires_after",
    'memory = Memory(".nbstep", backend="nbstep", verbose=0)',
    "import asyncio\nimport numpy as np\n\n@memory.cache(ignore=['verbose'])\ndef load(n, verbose=False):\n"
    "    print('loads', n)\n    return np.arange(n)\n\n"
    "@memory.cache(cache_validation_callback=expires_after(days=1))\nasync def ask(uid):\n"
    "    print('asks', uid)\n    return {'uid': uid}",
    "class Model:\n    def __init__(self, scale):\n        self.scale = scale\n"
    "        self.fit = memory.cache(self.fit, ignore=['self'])\n\n"
    "    def fit(self, rows):\n        print('fits')\n        return self.scale * rows.sum()",
    "rows = load(1000, verbose=True)\nshelved = load.call_and_shelve(1000)\nanswer = await ask(7)\nfitted = Model(2).fit(rows)",
    "assert load.check_call_in_cache(1000)\n"
    "sums = Parallel(n_jobs=2)(delayed(lambda one: one.get().sum())(shelved) for _ in range(2))\n"
    "print(answer, int(fitted), *map(int, sums))",
)


@pytest.mark.kernel
def test_n6_an_existing_notebook_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NBSTEP_DIR")
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "churn.ipynb"))

    def printed() -> str:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
        NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
        return "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))

    assert printed() == "loads 1000\nasks 7\nfits\n{'uid': 7} 999000 499500 499500\n"
    assert printed() == "{'uid': 7} 999000 499500 499500\n"  # in a new kernel
    rows = {row["key"]: row for row in json.loads(nbstep("ls", "--json", cwd=tmp_path))}
    told = {key.split("@")[0]: row["message"] for key, row in rows.items() if not key.endswith(":code")}
    assert told.pop("joblib:Model.fit").startswith("rows=array([")
    assert told == {"joblib:load": "n=1000", "joblib:ask": "uid=7"}
    end = time.monotonic() + 30
    while not all(row["hits"] for row in rows.values()) and time.monotonic() < end:
        rows = {row["key"]: row for row in json.loads(nbstep("ls", "--json", cwd=tmp_path))}
    assert all(row["hits"] for row in rows.values())
    (kept,) = {meta.facts.place.notebook for meta in Cache(tmp_path / ".nbstep").entries()}
    assert kept == "churn.ipynb"
