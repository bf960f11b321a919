"""A `joblib.Memory` over a store that lets nothing go (C3), and results of which joblib does not say everything (D1)."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import joblib
import pytest
from joblib import Memory, expires_after
from joblib._store_backends import CacheWarning
from s3_server import Proxy, proxy_before, s3_server
from user_modules import next_process, user_module

from nbstep import Cache

CODE: Final = """
import time

CALLS = []

def double(x):
    CALLS.append(x)
    return 2 * x

class Odd:
    def __reduce__(self):
        return Odd, ()

    def __repr__(self):
        raise ValueError("no text")

def odd(given):
    CALLS.append("odd")
    return 1

LIST = []

def listed(given):
    LIST.append(len(LIST))
    return LIST

class Slow:
    def __rmul__(self, other):
        return "old"

    def __repr__(self):
        LIST.append("asked")
        while len(LIST) == 1:
            time.sleep(0.001)
        return "slow"

class Scaled:
    def __init__(self, k):
        self.k = k

    def __repr__(self):
        return f"Scaled({self.k})"

    def __call__(self, x):
        CALLS.append((self.k, x))
        return self.k * x

class Asking:
    def __repr__(self):
        return f"asking {self.ask(1)}"

    def __reduce__(self):
        return Asking, ()
"""
EDITED: Final = CODE.replace("return 2 * x", "return 3 * x")
CHANGES: Final = {"PUT", "POST", "DELETE"}


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Any]:
    with user_module(tmp_path / "modules", "work", CODE) as module:
        yield module


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    with s3_server() as server, proxy_before(server) as one:
        server.make_bucket("bucket")
        yield one


@pytest.fixture
def bucket(proxy: Proxy, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[str]:
    for name, value in {
        "AWS_ENDPOINT_URL": proxy.url, "AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "hunter2-secret",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    yield f"s3://bucket/{abs(hash(request.node.name))}"
    proxy.fault = lambda method, path: ""


def refuse(proxy: Proxy, kind: str, methods: set[str] = CHANGES) -> None:
    proxy.fault = lambda method, path: kind if method in methods else ""


def memory_in(place: Any) -> Memory:
    return Memory(place, backend="nbstep", verbose=0)


def warned(act: Callable[[], Any], match: str) -> Any:
    """What the call gives that warns so, at this file's line."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        given = act()
    told = [one for one in heard if one.category is CacheWarning]
    assert any(re.search(match, str(one.message)) for one in told), told
    assert {one.filename for one in told} == {__file__}
    return given


# A store that refuses ----------------------------------------------------------------------------------------------------


@pytest.mark.s3
@pytest.mark.parametrize("kind", ["deny", "slow down"])
def test_c3_a_result_that_may_not_be_used_and_cannot_be_deleted_is_computed(
    kind: str, proxy: Proxy, bucket: str, work: Any
) -> None:
    memory_in(bucket).cache(work.double)(1)
    refuse(proxy, kind)
    expired = memory_in(bucket).cache(work.double, cache_validation_callback=expires_after(seconds=-1))
    assert warned(lambda: expired(1), "joblib:work.double:.* could not be deleted: ") == 2
    assert not expired.check_call_in_cache(1)
    refused = memory_in(bucket).cache(work.double, cache_validation_callback=lambda _: False)
    assert warned(lambda: refused.call_and_shelve(1).get(), "was not kept") == 2
    assert work.CALLS == [1, 1, 1]


@pytest.mark.s3
def test_c3_what_was_cleared_in_vain_is_not_used(proxy: Proxy, bucket: str, work: Any) -> None:
    double = memory_in(bucket).cache(work.double)
    shelved = [double.call_and_shelve(x) for x in (1, 2)]
    refuse(proxy, "deny")
    warned(shelved[0].clear, r"work.double:.* could not be deleted: s3://bucket/\d+ is read-only for you")
    with pytest.raises(KeyError):
        shelved[0].get()
    assert shelved[1].get() == 4
    warned(
        lambda: double.clear(warn=False),
        "what work.double kept could not be deleted: [^:]+: s3://[^:]+$|AccessDenied.$",
    )
    assert not double.check_call_in_cache(2)
    assert not memory_in(bucket).cache(work.double).check_call_in_cache(2), "for nobody in this process"
    assert warned(lambda: double(2), "was not kept") == 4
    refuse(proxy, "", set())
    assert [double(2), double(2), double(1), double(1)] == [4, 4, 2, 2]
    assert work.CALLS == [1, 2, 2, 2, 1]
    double.clear(warn=False)
    assert not double.check_call_in_cache(2)


@pytest.mark.s3
@pytest.mark.parametrize("way", ["function", "memory"])
def test_c3_what_was_cleared_at_last_counts_when_it_is_kept_again(
    way: str, proxy: Proxy, bucket: str, work: Any
) -> None:
    memory = memory_in(bucket)
    double = memory.cache(work.double)
    shelved = [double.call_and_shelve(x) for x in (1, 2)]
    refuse(proxy, "deny")
    warned(shelved[0].clear, "could not be deleted")
    warned(lambda: double.clear(warn=False), "could not be deleted")
    refuse(proxy, "", set())
    if way == "function":
        double.clear(warn=False)
    else:
        memory.clear(warn=False)
    program = f"""
import sys, joblib, nbstep
sys.path.insert(0, {str(Path(work.__file__).parent)!r})
import work
joblib.Memory({bucket!r}, backend="nbstep", verbose=0).cache(work.double)(1)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert double.check_call_in_cache(1)
    assert shelved[0].get() == 2


@pytest.mark.s3
def test_c3_limits_that_cannot_be_enforced_are_told_and_clearing_all_raises(
    proxy: Proxy, bucket: str, work: Any
) -> None:
    memory = memory_in(bucket)
    memory.cache(work.double)(1)
    refuse(proxy, "deny")
    warned(lambda: memory.reduce_size(items_limit=0), "what is beyond the limits could not be deleted: .* is read-only")
    assert memory.cache(work.double).check_call_in_cache(1)
    with pytest.raises(OSError, match="read-only for you"):
        memory.clear(warn=False)
    assert len(memory.store_backend.get_items()) == 1
    refuse(proxy, "deny", {*CHANGES, "GET"})
    warned(lambda: memory.reduce_size(items_limit=0), "what is beyond the limits could not be deleted: ")


@pytest.mark.s3
@pytest.mark.parametrize("methods", [CHANGES, {"DELETE"}])
def test_c3_an_edited_function_computes_and_never_gives_what_its_old_code_made(
    methods: set[str], proxy: Proxy, bucket: str, work: Any
) -> None:
    double = memory_in(bucket).cache(work.double)
    assert [double(1), double(2)] == [2, 4]
    refuse(proxy, "deny", methods)
    edited = next_process(work, EDITED)
    triple = memory_in(bucket).cache(edited.double)
    assert warned(lambda: triple(1), "what work.double kept could not be deleted") == 3
    assert not triple.check_call_in_cache(2)
    refuse(proxy, "", set())
    assert [triple(1), triple(2), triple(2)] == [3, 6, 6]
    another = next_process(edited, EDITED)
    triple = memory_in(bucket).cache(another.double)
    assert [triple(1), triple(2)] == [3, 6]


READER: Final = """
import sys, warnings
import joblib, nbstep
from joblib import expires_after
sys.path.insert(0, sys.argv[2])
import work
warnings.simplefilter("ignore" if sys.argv[3] == "fill" else "always")
memory = joblib.Memory(sys.argv[1], backend="nbstep", verbose=0)
if sys.argv[3] == "fill":
    memory.cache(work.double)(1), memory.cache(work.odd)(1)
else:
    old = memory.cache(work.odd, cache_validation_callback=expires_after(seconds=-1))
    print(old(1), old.check_call_in_cache(1), memory.cache(work.double)(1), work.CALLS)
"""


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="root needs setpriv to be refused anything")
def test_c3_a_folder_that_cannot_be_written_costs_no_value(tmp_path: Path, work: Any) -> None:
    folder, modules = tmp_path / "kept", Path(work.__file__).parent
    plain = [sys.executable, "-c", READER, str(folder), str(modules)]
    subprocess.run([*plain, "fill"], check=True)
    next_process(work, EDITED)
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o500)
    done = subprocess.run(
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *plain, "read"],
        capture_output=True,
        text=True,
        check=False,
    )
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o700)
    assert done.stdout == "1 False 3 ['odd', 1]\n", done.stderr
    assert "could not be deleted: " in done.stderr
    assert "did not let it go: PermissionError: Permission denied" in done.stderr


# What joblib does not say ------------------------------------------------------------------------------------------------


def test_d1_a_memory_that_joblib_does_not_tell_the_code_knows_it_from_another(tmp_path: Path, work: Any) -> None:
    cache = Cache(tmp_path / "kept")
    for x in (1, 2):  # joblib reads the code for the first one alone
        memory_in(cache.directory).cache(work.double)(x)
    sources = [meta.facts.source for meta in cache.entries() if not meta.key.endswith(":code")]
    assert sources == ["def double(x):\n    CALLS.append(x)\n    return 2 * x"] * 2


def test_d1_results_whose_code_nobody_knows_are_not_those_of_a_later_process(tmp_path: Path, work: Any) -> None:
    Memory(tmp_path / "joblib", verbose=0).cache(work.double)(0)  # joblib tells the code to no other place then
    double = memory_in(tmp_path / "kept").cache(work.double)
    assert [double(1), double(2), double(2)] == [2, 4, 4]
    assert work.CALLS == [0, 1, 2]
    edited = next_process(work, EDITED)
    triple = memory_in(tmp_path / "kept").cache(edited.double)
    assert [triple(1), triple(2), triple(2)] == [3, 6, 6]


def test_d1_a_place_that_joblib_compared_no_code_for_knows_an_edit(tmp_path: Path, work: Any) -> None:
    def use(module: Any) -> int:
        Memory(tmp_path / "joblib", verbose=0).cache(module.double)(1)  # where joblib tells the code
        return memory_in(tmp_path / "kept").cache(module.double)(1)

    assert use(work) == 2
    assert use(next_process(work, EDITED)) == 3
    double = memory_in(tmp_path / "kept").cache(work.double)
    assert not double.check_call_in_cache(1)


def test_d1_functions_of_one_name_in_one_process_do_not_get_what_the_other_made(tmp_path: Path, work: Any) -> None:
    first, second = memory_in(tmp_path / "first"), memory_in(tmp_path / "second")
    old = first.cache(work.double)
    assert [old(1), old(2), second.cache(work.double)(1)] == [2, 4, 2]
    edited = next_process(work, EDITED)
    assert second.cache(edited.double)(1) == 3
    new = first.cache(edited.double)
    assert [new(1), old(1), new(2), old(2)] == [3, 2, 6, 4]
    late = memory_in(tmp_path / "first").cache(work.double)
    assert [late(3), new(3)] == [6, 9]


def test_d1_a_result_bears_the_code_that_made_it_whoever_asks_meanwhile(tmp_path: Path, work: Any) -> None:
    memory = memory_in(tmp_path / "kept")
    old, slow = memory.cache(work.double), list[str]()
    thread = threading.Thread(
        target=lambda: slow.append(old(work.Slow()))
    )  # its repr takes until the other one was called
    thread.start()
    while not work.LIST:
        time.sleep(0.001)
    edited = next_process(work, EDITED)
    assert memory.cache(edited.double)(1) == 3
    work.LIST.append("go on")
    thread.join()
    codes = {meta.facts.source or "" for meta in Cache(tmp_path / "kept").entries() if not meta.key.endswith(":code")}
    assert slow == ["old"]
    assert sorted(text.rpartition("return ")[2] for text in codes) == ["2 * x", "3 * x"]


def test_d1_a_check_and_a_load_are_of_one_code_though_the_callback_calls_the_other(tmp_path: Path, work: Any) -> None:
    memory = memory_in(tmp_path / "kept")
    memory.cache(work.double)(0)  # its text is read
    edited = next_process(work, EDITED)
    new = memory.cache(edited.double)
    old = memory.cache(work.double, cache_validation_callback=lambda _: bool(new(1)) or True)
    assert [old(1), old(1), new(1), old(1)] == [2, 2, 3, 2]


def test_d1_code_that_is_replaced_in_place_is_other_code(tmp_path: Path, work: Any) -> None:
    texts = ["def f():\n    return -1\n", "def f():\n    return -2\n"]  # the hash of -1 is that of -2
    modules = []
    for n, text in enumerate(texts):
        (Path(work.__file__).parent / f"replaced{n}.py").write_text(text)
        modules.append(__import__(f"replaced{n}"))
    f = modules[0].f
    cached = memory_in(tmp_path / "kept").cache(f)
    assert cached() == -1
    f.__code__ = modules[1].f.__code__
    assert cached() == -2
    assert memory_in(tmp_path / "kept").cache(f)() == -2


@pytest.mark.filterwarnings("ignore::joblib.memory.JobLibCollisionWarning")
def test_d1_an_object_that_is_called_has_the_code_that_joblib_takes_for_it(tmp_path: Path, work: Any) -> None:
    memory, scaled = memory_in(tmp_path / "kept"), work.Scaled(1)
    assert memory.cache(scaled)(5) == 5
    scaled.k = 2
    assert memory.cache(scaled)(5) == 10
    assert [memory.cache(work.Scaled(2))(5) for _ in range(2)] == [10, 10]
    assert work.CALLS == [(1, 5), (2, 5)]


def test_c1_what_is_kept_of_a_call_whose_argument_has_no_text_is_what_it_gave(tmp_path: Path, work: Any) -> None:
    listed = memory_in(tmp_path / "kept").cache(work.listed)
    with pytest.raises(ValueError, match="no text"):
        listed(work.Odd())
    work.LIST.append("changed later")
    assert listed(work.Odd()) == [0]


def test_d1_the_text_of_an_argument_may_ask_the_memory_itself(tmp_path: Path, work: Any) -> None:
    memory, told = memory_in(tmp_path / "kept"), list[Any]()
    work.Asking.ask = memory.cache(work.double)
    listed = memory.cache(work.listed, cache_validation_callback=lambda metadata: told.append(metadata) or True)
    assert [listed(work.Asking()), listed(work.Asking())] == [[0], [0]]
    assert told[0]["input_args"] == {"given": "asking 2"}
    assert told[0]["duration"] > 0


def test_c1_a_result_is_kept_though_the_text_of_an_argument_fails_and_its_thread_ends(
    tmp_path: Path, work: Any
) -> None:
    def call() -> None:
        with pytest.raises(ValueError, match="no text"):
            memory_in(tmp_path / "kept").cache(work.odd)(work.Odd())

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert memory_in(tmp_path / "kept").cache(work.odd)(work.Odd()) == 1
    assert work.CALLS == ["odd"]


@pytest.mark.parametrize("how", ["main", "fork", "forkserver", "spawn", "killed"])
def test_c1_a_result_is_kept_though_the_text_of_an_argument_fails_and_its_process_ends(
    how: str, tmp_path: Path, work: Any
) -> None:
    (Path(work.__file__).parent / "program.py").write_text(f"""
import multiprocessing, os, signal, sys
import joblib, nbstep, work

cached = joblib.Memory({str(tmp_path / "kept")!r}, backend="nbstep", verbose=0).cache(work.odd)

def call():
    cached(work.Odd())

if __name__ == "__main__":
    if {how!r} == "main":
        call()
    if {how!r} == "killed":
        try:
            call()
        except ValueError as error:
            sys.stderr.write(f"ValueError: {{error}}\\n")
            sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    child = multiprocessing.get_context({how!r}).Process(target=call)
    child.start()
    child.join()
""")
    program = [sys.executable, str(Path(work.__file__).parent / "program.py")]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.stderr.endswith("ValueError: no text\n")
    joblib.memory._FUNCTION_HASHES.clear()
    assert memory_in(tmp_path / "kept").cache(work.odd)(work.Odd()) == 1
    assert work.CALLS == []
