"""`joblib.Memory` with its own backend and with ours, side by side: the same notebook sees the same."""

from __future__ import annotations

import asyncio
import datetime
import os
import pickle
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from joblib import Memory, Parallel, delayed, expires_after
from joblib._store_backends import CacheWarning
from joblib.externals.loky import get_reusable_executor
from joblib.memory import MemorizedResult, NotMemorizedFunc
from user_modules import next_process, user_module

import nbstep  # noqa: F401 - makes the backend known

CODE = """
import os
import threading
from pathlib import Path

import numpy

CALLS = []

def double(x):
    CALLS.append(x)
    return 2 * x

def fetch(uid, lang="de", *, debug=False, **more):
    CALLS.append((uid, lang, debug, more))
    return {"uid": uid, "lang": lang, "more": more}

def spread(first, *rest):
    CALLS.append(rest)
    return first, rest

def failing(x):
    CALLS.append(x)
    raise LookupError(f"no {x}")

def nothing():
    CALLS.append(None)

def grid(n):
    CALLS.append(n)
    return numpy.arange(n * n, dtype=float).reshape(n, n)

def total(array):
    CALLS.append("total")
    return array.sum()

def lock(x):
    CALLS.append(x)
    return threading.Lock()

class Odd:
    def __repr__(self):
        raise ValueError("no text")

def odd(given):
    CALLS.append("odd")
    return 1

async def afetch(uid):
    CALLS.append(uid)
    if uid < 0:
        raise LookupError(str(uid))
    return {"uid": uid}

class Model:
    def __init__(self, memory, scale, **options):
        self.scale = scale
        self.apply = memory.cache(self.apply, **options)

    def apply(self, x):
        CALLS.append(x)
        return self.scale * x

def in_worker(x, notes):
    (Path(notes) / f"{x}-{os.getpid()}").write_text("")
    return {"x": x, "array": numpy.arange(x)}

def use(shelved):
    return shelved.get()["x"], os.getpid()

def outer(x):
    CALLS.append(x)
    return x
"""

Make = Callable[..., Memory]


@pytest.fixture(params=["local", "nbstep"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make(backend: str, tmp_path: Path) -> Make:
    """A new Memory over the same place, as another cell or another process makes it."""

    def made(location: Any = str(tmp_path / "kept"), verbose: int = 0, **options: Any) -> Memory:
        return Memory(location, backend=backend, verbose=verbose, **options)

    return made


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Any]:
    with user_module(tmp_path / "modules", "work", CODE) as module:
        yield module


def count(memory: Memory) -> int:
    return len(memory.store_backend.get_items())


def test_a_call_runs_once_and_once_more_for_other_arguments(make: Make, work: Any) -> None:
    double = make().cache(work.double)
    assert [double(1), double(1), double(2), double(1)] == [2, 2, 4, 2]
    assert work.CALLS == [1, 2]
    assert make().cache(next_process(work, CODE).double)(2) == 4
    assert sys.modules["work"].CALLS == []  # found by the next process


def test_a_result_of_none_counts(make: Make, work: Any) -> None:
    nothing = make().cache(work.nothing)
    assert nothing() is nothing() is None
    assert work.CALLS == [None]


def test_arguments_count_by_name_whether_given_so_or_not(make: Make, work: Any) -> None:
    fetch = make().cache(work.fetch)
    assert fetch(1) == fetch(uid=1) == fetch(1, "de") == fetch(1, lang="de", debug=False)
    assert len(work.CALLS) == 1
    assert fetch(1, "en", q=2) == {"uid": 1, "lang": "en", "more": {"q": 2}}
    fetch(1, "en", q=3)
    assert len(work.CALLS) == 3
    spread = make().cache(work.spread)
    assert [spread(1, 2), spread(1, 2), spread(1, 3)] == [(1, (2,)), (1, (2,)), (1, (3,))]
    assert len(work.CALLS) == 5


def test_ignored_arguments_do_not_count(make: Make, work: Any) -> None:
    fetch = make().cache(ignore=["debug", "lang"])(work.fetch)
    assert fetch(1, debug=True) == fetch(1, "en", debug=False)
    assert len(work.CALLS) == 1
    with pytest.raises(ValueError, match="nosuch"):
        make().cache(work.fetch, ignore=["nosuch"])(1)


def test_arrays_go_in_and_out(make: Make, work: Any) -> None:
    grid, total = make().cache(work.grid), make().cache(work.total)
    assert total(grid(3)) == total(grid(3)) == 36
    assert work.CALLS == [3, "total"]
    assert grid(3).flags.writeable
    grid(3)[0, 0] = 99
    assert grid(3)[0, 0] == 0
    assert make().cache(np.sin)(0) == 0


def test_an_error_is_raised_and_not_kept(make: Make, work: Any) -> None:
    failing = make().cache(work.failing)
    for _ in range(2):
        with pytest.raises(LookupError, match="no 1"):
            failing(1)
    assert work.CALLS == [1, 1]
    assert count(make()) == 0


def test_a_method_counts_with_its_object(make: Make, work: Any) -> None:
    model = work.Model(make(), 2)
    assert model.apply(3) == model.apply(3) == 6
    assert work.Model(make(), 2).apply(3) == 6  # an object of the same content
    assert work.CALLS == [3]
    model.scale = 5
    assert model.apply(3) == 15
    careless = work.Model(make(), 7, ignore=["self"])
    assert careless.apply(4) == 28
    careless.scale = 8
    assert careless.apply(4) == 28


def test_call_and_shelve_gives_a_reference(make: Make, work: Any, backend: str) -> None:
    fetch = make().cache(work.fetch)
    shelved = fetch.call_and_shelve(1)
    assert isinstance(shelved, MemorizedResult)
    assert shelved.get() == fetch(1) == fetch.call_and_shelve(1).get()
    assert len(work.CALLS) == 1
    assert shelved.duration == pytest.approx(fetch.call_and_shelve(1).duration)
    assert re.fullmatch(r'MemorizedResult\(location=".+", func="work/fetch", args_id="[0-9a-f]{32}"\)', repr(shelved))
    sent = pickle.loads(pickle.dumps(shelved))
    assert (repr(sent), sent.get(), sent.timestamp) == (repr(shelved), fetch(1), None)
    direct = MemorizedResult(shelved.store_backend, shelved._call_id)
    assert (direct.func, direct.args_id, direct.get()) == ("work/fetch", shelved.args_id, fetch(1))
    assert MemorizedResult(shelved.store_backend.location, shelved._call_id, backend).get() == fetch(1)
    shelved.clear()
    with pytest.raises(KeyError, match="may have been cleared"):
        sent.get()
    assert not fetch.check_call_in_cache(1)


def test_whether_a_call_is_kept_can_be_asked(make: Make, work: Any) -> None:
    double = make().cache(work.double)
    assert not double.check_call_in_cache(1)
    double(1)
    assert double.check_call_in_cache(1)
    assert not double.check_call_in_cache(2)
    assert work.CALLS == [1]


def test_call_runs_in_any_case_and_keeps_what_it_gave(make: Make, work: Any) -> None:
    fetch = make().cache(work.fetch)
    fetch(1)
    value, metadata = fetch.call(1)
    assert value == fetch(1)
    assert len(work.CALLS) == 2
    assert metadata["input_args"] == {"uid": "1", "lang": "'de'", "debug": "False", "**": "{}"}
    assert fetch.func is work.fetch
    assert fetch.__name__ == "fetch"
    assert "Memoized version of" in fetch.__doc__


def test_a_callback_sees_the_metadata_and_decides(make: Make, work: Any) -> None:
    seen: list[dict[str, Any]] = []
    answers = [True, False, True]

    def valid(metadata: dict[str, Any]) -> bool:
        seen.append(metadata)
        return answers.pop(0)

    fetch = make().cache(work.fetch, cache_validation_callback=valid)
    began = datetime.datetime.now().timestamp()
    fetch(1, "en")
    _, told = fetch.call(1, "en")
    fetch(1, "en")
    assert seen == [told]
    assert set(told) == {"duration", "time", "input_args"}
    assert began <= told["time"] <= datetime.datetime.now().timestamp()
    fetch(1, "en")
    assert len(work.CALLS) == 3  # it said no
    assert fetch.check_call_in_cache(1, "en")
    with pytest.raises(ValueError, match="callable"):
        make().cache(work.fetch, cache_validation_callback=5)


def test_a_callback_that_says_no_has_it_computed_anew(make: Make, work: Any) -> None:
    make().cache(work.double)(1)
    choosy = make().cache(work.double, cache_validation_callback=lambda _: False)
    assert choosy(1) == choosy(1) == 2
    assert work.CALLS == [1, 1, 1]
    assert count(make()) == 1


def test_results_expire(make: Make, work: Any) -> None:
    double = make().cache(work.double, cache_validation_callback=expires_after(hours=1))
    double(1), double(1)
    assert work.CALLS == [1]
    double = make().cache(work.double, cache_validation_callback=expires_after(microseconds=1))
    double(1), double(1)
    assert work.CALLS == [1, 1, 1]


def test_async_functions(make: Make, work: Any) -> None:
    async def cells() -> list[Any]:
        afetch = make().cache(work.afetch)
        values = [await afetch(1), await afetch(1)]
        values += await asyncio.gather(*(afetch(uid) for uid in (1, 2, 3)))
        shelved = await afetch.call_and_shelve(2)
        values += [shelved.get(), (await afetch.call_and_shelve(2)).get()]
        values.append((await afetch.call(3))[0])
        values.append(afetch.check_call_in_cache(3))
        for _ in range(2):
            with pytest.raises(LookupError):
                await afetch(-1)
        return values

    uids = [1, 1, 1, 2, 3, 2, 2, 3]
    assert asyncio.run(cells()) == [*({"uid": uid} for uid in uids), True]
    assert sorted(work.CALLS) == [-1, -1, 1, 2, 3, 3]


def test_eval_is_a_call(make: Make, work: Any) -> None:
    assert make().eval(work.fetch, 1, lang="en") == make().eval(work.fetch, 1, lang="en")
    assert len(work.CALLS) == 1
    assert Memory(None).eval(work.double, 4) == 8


def test_clearing_a_function_leaves_the_others(make: Make, work: Any) -> None:
    memory = make()
    double, fetch = memory.cache(work.double), memory.cache(work.fetch)
    double(1), double(2), fetch(1)
    double.clear(warn=False)
    assert count(memory) == 1
    assert not double.check_call_in_cache(1)
    assert fetch.check_call_in_cache(1)
    double(1), double(1)
    assert work.CALLS.count(1) == 2
    memory.clear(warn=False)
    assert count(memory) == 0
    fetch(1), fetch(1)
    assert len([call for call in work.CALLS if isinstance(call, tuple)]) == 2


def test_an_edited_function_runs_again_and_loses_what_it_kept(make: Make, work: Any) -> None:
    double, fetch = make().cache(work.double), make().cache(work.fetch)
    double(1), double(2), fetch(1)
    moved = next_process(work, "# a line above\n" + CODE)
    assert make().cache(moved.double)(1) == 2
    assert moved.CALLS == []  # only moved
    edited = next_process(work, CODE.replace("return 2 * x", "return 3 * x"))
    tripled, fetch = make().cache(edited.double), make().cache(edited.fetch)
    assert tripled(1) == tripled(1) == 3
    assert not tripled.check_call_in_cache(2)
    assert fetch.check_call_in_cache(1)
    assert edited.CALLS == [1]
    assert count(make()) == 2


@pytest.mark.parametrize(
    ("limit", "left"),
    [
        ({"items_limit": 2}, [3, 4]),
        ({"items_limit": 9}, [1, 2, 3, 4]),
        ({"bytes_limit": 0}, []),
        ({"bytes_limit": "1G"}, [1, 2, 3, 4]),
        ({"age_limit": datetime.timedelta(days=1)}, [1, 2, 3, 4]),
        ({"age_limit": datetime.timedelta(0)}, []),
        ({}, [1, 2, 3, 4]),
    ],
)
def test_a_memory_can_be_made_smaller(limit: dict[str, Any], left: list[int], make: Make, work: Any) -> None:
    memory = make()
    double = memory.cache(work.double)
    for x in (1, 2, 3, 4):
        double(x)
    for at, item in enumerate(sorted(memory.store_backend.get_items(), key=lambda item: item.last_access)):
        if os.path.isdir(item.path):  # a file system's clock may tick slower than this runs
            os.utime(Path(item.path, "output.pkl"), (item.last_access.timestamp() - 10 + at,) * 2)
    memory.reduce_size(**limit)
    assert [x for x in (1, 2, 3, 4) if double.check_call_in_cache(x)] == left


def test_the_least_recently_used_goes_first(make: Make, work: Any) -> None:
    memory = make()
    double = memory.cache(work.double)
    for x in (1, 2, 3):
        double(x)
    for item in memory.store_backend.get_items():
        if os.path.isdir(item.path):
            os.utime(Path(item.path, "output.pkl"), (1e9, 1e9))
    double(1)
    for item in memory.store_backend.get_items():  # a disk may be mounted so that it does not note the reading
        if os.path.isdir(item.path) and item.path.endswith(double._get_args_id(1)):
            os.utime(Path(item.path, "output.pkl"))
    memory.reduce_size(items_limit=1)
    assert [x for x in (1, 2, 3) if double.check_call_in_cache(x)] == [1]


def test_a_negative_age_is_an_error(make: Make, work: Any) -> None:
    make().cache(work.double)(1)
    if tuple(map(int, joblib.__version__.split(".")[:2])) >= (1, 5):
        with pytest.raises(ValueError, match="positive"):
            make().reduce_size(age_limit=datetime.timedelta(days=-1))


@pytest.mark.parametrize("mode", [None, "r", "c"])
def test_mmap_mode(mode: str | None, make: Make, work: Any) -> None:
    grid = make(mmap_mode=mode).cache(work.grid)
    first, second = grid(50), grid(50)
    assert work.CALLS == [50]
    assert isinstance(second, np.memmap) == isinstance(first, np.memmap) == (mode is not None)
    if mode is not None:
        assert (first.mode, second.mode) == (mode, mode)
    assert second.flags.writeable == (mode != "r")
    assert np.array_equal(first, second)
    if mode == "c":
        second[:] = -1
        assert np.array_equal(grid(50), first)
    assert make(mmap_mode=mode).cache(work.total)(second) == second.sum()
    assert type(grid.call_and_shelve(50).get()) is type(second)
    assert Parallel(n_jobs=2)(delayed(np.sum)(one) for one in (first, grid(50))) == [first.sum()] * 2


@pytest.mark.parametrize("verbose", [0, 1, 2, 5])
def test_what_is_printed(
    verbose: int, make: Make, work: Any, backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told() -> str:
        text = "".join(capsys.readouterr())
        text = text.replace(str(tmp_path), "")
        return re.sub(r"_+", "_", re.sub(r"\d+\.\d+", "0.0", text))

    double = make(verbose=verbose).cache(work.double)
    double(1), double(1), double.call_and_shelve(1).get(), double.clear(), double(1)
    ours = told()
    sys.modules["work"].CALLS.clear()
    joblib.memory._FUNCTION_HASHES.clear()
    double = Memory(str(tmp_path / "beside"), verbose=verbose).cache(work.double)
    double(1), double(1), double.call_and_shelve(1).get(), double.clear(), double(1)
    assert ours == told()
    assert bool(ours) == (verbose > 0)


@pytest.mark.parametrize("verbose", [11, 20])
def test_more_is_printed_with_more_verbosity(
    verbose: int, make: Make, work: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = make(verbose=verbose)
    double = memory.cache(work.double)
    double(1), double(1)
    memory.reduce_size(items_limit=0)
    text = "".join(capsys.readouterr())
    for word in ("Persisting in", "Loading double", "Calling work.double", "Deleting item"):
        assert word in text


def test_a_memory_and_what_it_caches_can_be_pickled(make: Make, work: Any) -> None:
    memory = make()
    double = memory.cache(work.double)
    double(1)
    sent, sent_double = pickle.loads(pickle.dumps((memory, double)))
    assert (repr(sent), repr(sent.store_backend)) == (repr(memory), repr(memory.store_backend))
    assert sent_double(1) == sent.cache(work.double)(1) == 2
    assert work.CALLS == [1]
    assert joblib.hash(sent) == joblib.hash(memory) == joblib.hash(make())
    assert joblib.hash(sent_double) == joblib.hash(double)


def test_workers_share_what_is_kept(make: Make, work: Any, tmp_path: Path) -> None:
    get_reusable_executor().shutdown()  # workers of another test, with another home
    notes = tmp_path / "notes"
    notes.mkdir()
    compute = make().cache(work.in_worker)
    compute(0, str(notes))
    with joblib.parallel_config(backend="loky", n_jobs=2):
        results = Parallel()(delayed(compute)(x % 4, str(notes)) for x in range(12))
        shelved = Parallel()(delayed(compute.call_and_shelve)(x, str(notes)) for x in range(4))
        used = Parallel()(delayed(work.use)(one) for one in shelved)
    assert [one["x"] for one in results] == [x % 4 for x in range(12)]
    assert [x for x, _ in used] == [0, 1, 2, 3]
    assert os.getpid() not in {pid for _, pid in used}
    assert {int(note.name.partition("-")[0]) for note in notes.iterdir()} == {0, 1, 2, 3}
    assert count(make()) == 4
    assert [one.get()["x"] for one in shelved] == [0, 1, 2, 3]


def test_threads_share_what_is_kept(make: Make, work: Any) -> None:
    double = make().cache(work.double)
    with joblib.parallel_config(backend="threading", n_jobs=4):
        assert Parallel()(delayed(double)(x % 5) for x in range(50)) == [2 * (x % 5) for x in range(50)]
    assert count(make()) == 5


def test_a_damaged_result_is_computed_again_with_a_warning(make: Make, work: Any, tmp_path: Path) -> None:
    fetch = make().cache(work.fetch)
    shelved = fetch.call_and_shelve(1)
    fetch(2)
    for path in (tmp_path / "kept").rglob("*"):
        if path.name == "output.pkl" or path.parent.parent.name == "e":
            path.write_bytes(path.read_bytes()[:-4])
    fetch = make().cache(work.fetch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert fetch(1)["uid"] == fetch(1)["uid"] == 1
    assert len(work.CALLS) == 3
    assert shelved.get() == fetch(1)


def test_what_cannot_be_kept_is_given_with_a_warning(make: Make, work: Any) -> None:
    lock = make().cache(work.lock)
    for _ in range(2):
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            assert lock(1).acquire()
        assert CacheWarning in {one.category for one in heard}
    assert work.CALLS == [1, 1]


def test_an_argument_without_a_text_fails_once(make: Make, work: Any) -> None:
    odd = make().cache(work.odd)
    with pytest.raises(ValueError, match="no text"):
        odd(work.Odd())
    assert odd(work.Odd()) == 1
    assert work.CALLS == ["odd"]


def test_a_place_may_be_a_path(make: Make, work: Any, tmp_path: Path) -> None:
    for location in (tmp_path / "a" / "b", str(tmp_path / "c" / "d"), tmp_path / "e" / "joblib"):
        memory = make(location)
        assert memory.location == location
        double = memory.cache(work.double)
        work.CALLS.clear()
        double(1), double(1)
        assert work.CALLS == [1]
        assert os.path.isdir(memory.store_backend.location)
        assert memory.store_backend.location in repr(memory)
        assert memory.store_backend.location in repr(double)


def test_no_place_keeps_nothing(work: Any, backend: str) -> None:
    memory = Memory(None, backend=backend)
    double = memory.cache(work.double)
    assert isinstance(double, NotMemorizedFunc)
    assert double(1) == double(1) == double.call_and_shelve(1).get() == 2
    assert not double.check_call_in_cache(1)
    memory.clear(), memory.reduce_size(items_limit=0)


def test_a_cached_function_can_be_cached_elsewhere(make: Make, work: Any, tmp_path: Path) -> None:
    double = make().cache(work.double)
    other = make(tmp_path / "other").cache(double)
    assert (double(1), other(1), other.func) == (2, 2, work.double)
    assert work.CALLS == [1, 1]


def test_one_memory_serves_a_pipeline(make: Make) -> None:
    pipeline = pytest.importorskip("sklearn.pipeline")
    decomposition = pytest.importorskip("sklearn.decomposition")
    linear = pytest.importorskip("sklearn.linear_model")
    memory = make()
    rows = np.random.default_rng(0).normal(size=(40, 5))
    for _ in range(2):
        made = pipeline.Pipeline(
            [("pca", decomposition.PCA(2)), ("model", linear.LinearRegression())], memory=memory
        ).fit(rows, rows[:, 0])
        assert made.predict(rows).shape == (40,)
    assert count(memory) == 1


SCRIPT = """
import sys
import nbstep
from joblib import Memory
memory = Memory(sys.argv[1], backend=sys.argv[2], verbose=0)

@memory.cache
def load(x):
    print("running", x)
    return {"x": x, "double": lambda: 2 * x} if sys.argv[2] == "nbstep" else {"x": x}

square = memory.cache(lambda x: x * x)
print(load(1)["x"], square(3))
"""


def test_a_script_finds_what_it_kept(backend: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)

    def run() -> str:
        command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "kept"), backend]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert run() == "running 1\n1 9\n"
    assert run() == "1 9\n"
    (tmp_path / "script.py").write_text(SCRIPT.replace('"x": x', '"x": -x'))
    assert run() == "running 1\n-1 9\n"
