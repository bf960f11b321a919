"""Forks in the middle of things, and files that change under open maps (C4, K9, T2, T13)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from scripts import open_files_in

from faults import LONG
from nbstep import Cache, create_workflow, forks
from nbstep.cache.records import Hit, Unreadable
from nbstep.events import Event, StepWaiting
from nbstep.notebook.kernelside import KernelSide
from nbstep.notebook.live import StepListView
from nbstep.stores.base import run_now

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

ROWS: Final = np.arange(400_000)  # several megabytes, digested by several threads
CHILD_MAY_TAKE_S: Final = 10


def in_child(work: Callable[[], Any]) -> int:
    """Does it in a forked child: 0 where it gave something true; a child that hangs is ended, which is -14."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(CHILD_MAY_TAKE_S)
        try:
            os._exit(0 if work() else 1)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_uses_the_cache_of_its_parent_large_values_included(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.set("rows", ROWS)
    assert cache.get("rows").sum() == ROWS.sum()

    def use() -> bool:
        cache.set("more", ROWS + 1)
        return bool((cache.get("rows") == ROWS).all() and (cache.get("more") == ROWS + 1).all())

    assert in_child(use) == 0
    assert (cache.get("more") == ROWS + 1).all()


@contextmanager
def held_by_another_thread(locks: Iterable[Any]) -> Iterator[None]:
    """Another thread holds them all; in a forked child that thread does not exist."""
    holding, over = threading.Event(), threading.Event()

    def hold() -> None:
        with ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            holding.set()
            over.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    holding.wait()
    try:
        yield
    finally:
        over.set()
        holder.join()


@pytest.mark.parametrize("kind", ["disk", "mapping"])
def test_a_child_forked_while_another_thread_holds_every_lock_uses_the_cache(tmp_path: Path, kind: str) -> None:
    cache = Cache(tmp_path, max_bytes="100 MB") if kind == "disk" else Cache({}, max_bytes="100 MB")

    def use() -> bool:
        cache.set("k", "before")
        workflow = create_workflow(cache=cache)
        stepped = workflow(lambda step: step(lambda: "after", key="k", refresh=True)).unwrap() == "after"
        listed = cache.keys() == ["k"] and cache.get("k") == "after"
        return stepped and listed and cache.delete("k") and cache.undo("k") == ["k"] and cache.empty_trash() > 0

    assert use()
    with held_by_another_thread(list(forks._all)):
        code = in_child(use)
    assert code == 0


def test_a_child_forked_while_the_panel_and_the_step_list_are_busy_tells_them_and_goes_on(tmp_path: Path) -> None:
    """The child has copies of both, which are told whatever its steps do."""
    cache = Cache(tmp_path)
    side = KernelSide(cache, lambda message: None, changes_every_s=3600)
    side.receive({"kind": "ready", "view": "v"})
    view = StepListView(lambda data, **options: None, print)
    workflow = create_workflow(cache=cache, on_event=view)

    def use() -> bool:
        given = workflow(lambda step: step(lambda: "value", key="k", refresh=True)).unwrap() == "value"
        view.end()
        side.receive({"kind": "refresh", "view": "v"})
        return given

    try:
        with held_by_another_thread([side._lock, side._turn, view._lock]):
            code = in_child(use)
        assert code == 0
    finally:
        side.close()


def test_a_forked_child_undoes_what_it_did_itself_and_its_parent_what_it_did(tmp_path: Path) -> None:
    """Names that a child would draw as its parent does would mix what they throw away."""
    cache = Cache(tmp_path)
    for key in "abcd":
        cache.set(key, key)
    cache.delete("d")
    assert in_child(lambda: cache.delete("a")) == 0
    assert cache.delete("b")
    assert (cache.undo(), cache.undo()) == (["b"], ["a"])


def test_forks_while_other_threads_store_load_and_delete(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_bytes="100 MB")
    over = threading.Event()
    wrong: list[BaseException] = []

    def work(name: str) -> None:
        try:
            while not over.is_set():
                cache.set(name, name * 100)
                assert cache.get(name) == name * 100
                cache.delete(name)
                cache.undo(name)
                cache.keys()
        except BaseException as error:
            wrong.append(error)

    def use() -> bool:
        name = f"child {os.getpid()}"
        cache.set(name, name)
        cache.keys()
        kept = cache.get(name) == name
        return kept and cache.delete(name) and cache.undo(name) == [name]

    assert use()  # whatever is imported is: a fork in the middle of an import is Python's own affair
    workers = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for worker in workers:
        worker.start()
    code = 0
    try:
        for _ in range(300 if LONG else 40):
            code = code or in_child(use)
    finally:
        over.set()
        for worker in workers:
            worker.join()
    assert wrong == []
    assert code == 0
    assert cache.verify().bits == 0


def test_c4_a_thunk_that_forks_gives_its_value_and_its_child_takes_no_lock_along(tmp_path: Path) -> None:
    """A copy of a lock would hold it for as long as the child lives."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    folder = tmp_path / "v1" / "lock"
    here: list[int] = []

    def forks() -> int:
        here.append(open_files_in(folder))
        return in_child(lambda: open_files_in(folder) == 0)

    assert create_workflow(cache=tmp_path)(lambda step: step(forks, key="k")).unwrap() == 0
    assert here == [1]
    assert (Cache(tmp_path).get("k"), list(folder.iterdir())) == (0, [])


def test_c4_a_forked_child_waits_for_a_thread_of_its_parent_as_for_any_other_process(tmp_path: Path) -> None:
    """The thread does not exist in the child: only the lock tells of it."""
    cache = Cache(tmp_path)
    waiting, told = os.pipe()
    computing, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        computing.set()
        go_on.wait(60)
        return "the parent's"

    def listener(event: Event) -> None:
        if isinstance(event, StepWaiting):
            os.write(told, b"w")

    def ask() -> bool:
        workflow = create_workflow(cache=cache, on_event=listener)
        return workflow(lambda step: step(lambda: "the child's", key="k")).unwrap() == "the parent's"

    def let_it_end() -> None:
        os.read(waiting, 1)
        go_on.set()

    def compute() -> None:
        create_workflow(cache=cache)(lambda step: step(slow, key="k"))

    threads = [threading.Thread(target=compute), threading.Thread(target=let_it_end)]
    for thread in threads:
        thread.start()
    assert computing.wait(60)
    try:
        assert in_child(ask) == 0
    finally:
        os.write(told, b"over")
        for thread in threads:
            thread.join()
        os.close(told)
        os.close(waiting)


def test_a_child_forked_in_the_middle_of_a_store_tidies_up_and_leaves_its_parents_file(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.set("k", "before")
    codes: list[int] = []
    written: list[int] = []
    real = os.write

    def tidy() -> bool:
        cache.gc()
        cache.set("k", "the child's")
        return cache.get("k") == "the child's"

    def write(fd: int, part: Any) -> int:
        if len(part) > ROWS.nbytes // 2:
            written.append(fd)
            if not codes:
                codes.append(-1)
                codes[0] = in_child(tidy)
        return real(fd, part)

    with pytest.MonkeyPatch.context() as then:
        then.setattr(os, "write", write)
        cache.set("k", ROWS)
    assert codes == [0]
    assert len(written) == 1, "its file was taken away, and it wrote another"
    assert (Cache(tmp_path).get("k") == ROWS).all()
    assert list((tmp_path / "v1" / "tmp").iterdir()) == []
    assert (cache.undo("k"), cache.get("k")) == (["k"], "the child's")


# Maps --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["delete", "clear", "replace", "empty trash", "evict"])
def test_an_array_that_is_mapped_stays_as_it_is_when_its_entry_goes(tmp_path: Path, end: str) -> None:
    cache = Cache(tmp_path, max_bytes=9_000_000 if end == "evict" else None)
    cache.clock = lambda: 1e9
    cache.set("k", ROWS)
    rows = cache.get("k")
    cache.clock = lambda: 1.1e9
    other = Cache(tmp_path)
    if end == "replace":
        other.set("k", ROWS + 1)
    elif end == "clear":
        other.clear()
    elif end == "evict":
        for n in range(3):
            cache.set(f"new {n}", ROWS[:300_000])
            cache.clock = lambda at=1.2e9 + n * 1e6: at
        assert "k" not in other
    else:
        other.delete("k")
    if end != "delete":
        other.empty_trash()
    assert (rows == ROWS).all()
    rows[:] = 0
    assert end in {"clear", "empty trash", "evict"} or other.undo("k") == ["k"] or end == "replace"
    assert end != "delete" or (other.get("k") == ROWS).all()


TRUNCATE: Final = """
import glob, os, sys
import numpy as np
from nbstep import Cache
cache = Cache(sys.argv[1])
rows = cache.get("k")
(path,) = glob.glob(sys.argv[1] + "/v1/e/*/*")
os.truncate(path, 4096)
assert rows.sum() == np.arange(400_000).sum()
print("alive", flush=True)
"""


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_t2_where_others_can_write_a_truncated_file_does_not_end_the_kernel(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "shared"
    Cache(folder).set("k", ROWS)
    os.chmod(folder, mode)
    done = subprocess.run([sys.executable, "-c", TRUNCATE, str(folder)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


def test_t13_a_file_changed_between_the_look_up_and_the_load_is_a_miss(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.set("k", ROWS)
    (path,) = (tmp_path / "v1" / "e").glob("*/*")
    found = run_now(cache.look_up("k"))
    assert isinstance(found, Hit)
    with path.open("r+b") as file:  # the very file that was opened
        file.seek(-8, os.SEEK_END)
        byte = file.read(1)
        file.seek(-8, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(Unreadable, match="digest"):
        found.load()
    assert (create_workflow(cache=cache)(lambda step: step(lambda: ROWS + 1, key="k")).unwrap() == ROWS + 1).all()
