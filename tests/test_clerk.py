"""A clerk: the process that works on a cache's folder while a map computes very many quick items."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nbstep import Cache, create_workflow
from nbstep.events import Event, StepFinished
from nbstep.stores.base import NoRoom, run_now
from nbstep.stores.clerk import client, hiring
from nbstep.stores.clerk.client import Clerk, Handed
from nbstep.stores.disk import DiskStore
from nbstep.stores.folder import create_folder
from nbstep.stores.locks import KeyLock, KeyLocks, system_flock

SIGNER = "0a1b2c3d"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a clerk needs pipes that a process inherits")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_folder(tmp_path / ".nbstep")
    return tmp_path / ".nbstep"


@pytest.fixture
def store(folder: Path) -> DiskStore:
    return DiskStore(folder)


@pytest.fixture
def here() -> list[Handed]:
    """What was published in this process, as the clerk did not."""
    return []


@pytest.fixture
def clerk(folder: Path, here: list[Handed]) -> Generator[Clerk]:
    hired = Clerk(folder, 0, here.extend)
    until(hired.is_ready)
    yield hired
    hired.close()


@pytest.fixture
def hired(monkeypatch: pytest.MonkeyPatch) -> list[Clerk]:
    """The clerks that maps hire by themselves."""
    return noted(monkeypatch, lambda _: None)


@pytest.fixture
def clerks(monkeypatch: pytest.MonkeyPatch) -> list[Clerk]:
    """The clerks that maps hire, who come with the very first entry."""
    monkeypatch.setattr(hiring, "_MANY", 1)
    monkeypatch.setattr(hiring, "_QUICK_S", 60.0)
    return noted(monkeypatch, lambda clerk: until(clerk.is_ready))


def noted(monkeypatch: pytest.MonkeyPatch, begun: Callable[[Clerk], None]) -> list[Clerk]:
    found: list[Clerk] = []

    class Noted(Clerk):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            begun(self)
            found.append(self)

    monkeypatch.setattr(client, "Clerk", Noted)
    return found


def kept(store: DiskStore, key: str) -> bytes | None:
    document = run_now(store.open(key, SIGNER))
    return None if document is None else document.read(0, document.size_bytes)


def keep(clerk: Clerk, key: str, content: bytes = b"entry") -> bool:
    """Computes a key, as a map does."""
    clerk.expect([key], SIGNER, None)
    clerk.missing(key, SIGNER)
    lock = clerk.take(key)
    kept = clerk.keep(key, SIGNER, [content], "batch", durable=False)
    if lock is not None:
        lock.release()
    return kept


def begun(clerk: Clerk, *keys: str) -> list[KeyLock]:
    """The locks of keys, as of steps that compute; asked while the clerk still answers."""
    clerk.expect(keys, SIGNER, None)
    assert all(clerk.missing(key, SIGNER) is not None for key in keys)
    return [lock for key in keys if (lock := clerk.take(key)) is not None]


def hand(clerk: Clerk, *keys: str) -> bool:
    """Keeps under keys that were begun."""
    handed = [clerk.keep(key, SIGNER, [b"entry"], "batch", durable=False) for key in keys]
    return all(handed)


def others(folder: Path) -> KeyLocks:
    """The locks of another kernel, as far as the system's locks go: a file opened once more is somebody else."""
    return KeyLocks(folder, system_flock())


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# What it does ----------------------------------------------------------------------------------------------------------


def test_it_publishes_what_it_is_given(clerk: Clerk, store: DiskStore) -> None:
    assert all(keep(clerk, f"k:{n}", b"%d" % n) for n in range(500))
    clerk.settle()
    assert [kept(store, f"k:{n}") for n in range(500)] == [b"%d" % n for n in range(500)]


def test_an_entry_is_read_before_it_is_published(clerk: Clerk) -> None:
    locks = begun(clerk, "k")
    os.kill(clerk.pid, signal.SIGSTOP)
    assert clerk.keep("k", SIGNER, [b"content"], None, durable=False)
    locks[0].release()
    assert clerk.content("k", SIGNER) == b"content"
    assert clerk.content("k", "ffffffff") is None
    os.kill(clerk.pid, signal.SIGCONT)
    clerk.settle()
    assert clerk.content("k", SIGNER) is None


def test_c4_a_key_locked_ahead_is_locked_for_other_kernels_until_it_is_kept(clerk: Clerk, folder: Path) -> None:
    clerk.expect(["a", "b"], SIGNER, "etl.ipynb")
    assert clerk.missing("a", SIGNER) is not None
    lock = clerk.take("a")
    assert lock is not None
    assert lock.excludes()
    assert others(folder).take("a") is None
    assert others(folder).holder("a").name == "etl.ipynb"
    assert others(folder).holder("a").pid == os.getpid()
    keep(clerk, "a")
    lock.release()
    clerk.settle()
    taken = others(folder).take("a")
    assert taken is not None
    taken.release()


def test_c4_a_key_that_was_not_kept_is_let_go(clerk: Clerk, folder: Path) -> None:
    clerk.expect(["a"], SIGNER, None)
    assert clerk.missing("a", SIGNER) is not None
    lock = clerk.take("a")
    assert lock is not None
    lock.release()
    until(lambda: (free := others(folder).take("a")) is not None and (free.release() is None))


def test_c4_a_key_locked_ahead_that_nobody_asks_is_let_go(
    clerk: Clerk, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_TRUSTED_FOR_S", 0.1)
    clerk.expect(["a"], SIGNER, None)
    until(lambda: "a" in clerk._ours or not clerk._expected)
    until(lambda: (free := others(folder).take("a")) is not None and (free.release() is None))
    assert clerk.missing("a", SIGNER) is None
    assert clerk.take("a") is None


def test_c4_a_key_that_another_kernel_computes_is_not_ours(clerk: Clerk, folder: Path) -> None:
    theirs = others(folder).take("a")
    assert theirs is not None
    clerk.expect(["a"], SIGNER, None)
    assert clerk.missing("a", SIGNER) is None
    assert clerk.take("a") is None
    theirs.release()


def test_a_key_with_an_entry_is_looked_up_by_the_kernel(clerk: Clerk, store: DiskStore) -> None:
    run_now(store.publish("a", SIGNER, [b"there"], durable=False, batch=None))
    clerk.expect(["a"], SIGNER, None)
    assert clerk.missing("a", SIGNER) is None
    assert clerk.take("a") is None


def test_why_nothing_is_kept_is_told(clerk: Clerk, store: DiskStore) -> None:
    run_now(store.publish("a", SIGNER, [b"there"], durable=False, batch=None))
    run_now(store.publish("b", "ffffffff", [b"theirs"], durable=False, batch=None))
    run_now(store.remove(["a"], "batch"))
    clerk.expect(["a", "b", "c"], SIGNER, None)
    a, b, c = (clerk.missing(key, SIGNER) for key in "abc")
    assert a is not None
    assert a.trashed
    assert b is not None
    assert b.strangers == ("ffffffff",)
    assert c is not None
    assert (c.trashed, c.strangers, c.evicted) == (False, (), False)


# What it is not for, and its end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "durable"), [(1 << 17, False), (10, True)])
def test_large_and_durable_entries_are_not_for_it_and_come_after_what_it_has(
    clerk: Clerk, store: DiskStore, size: int, durable: bool
) -> None:
    locks = begun(clerk, "k")
    assert hand(clerk, "k")
    assert not clerk.keep("k", SIGNER, [bytes(size)], None, durable=durable)
    assert kept(store, "k") == b"entry"
    del locks


def test_c4_what_another_lock_holds_is_not_for_it(clerk: Clerk) -> None:
    assert not hand(clerk, "k")


def test_what_a_killed_clerk_did_not_publish_is_published_here(
    clerk: Clerk, store: DiskStore, here: list[Handed]
) -> None:
    keep(clerk, "before")
    locks = begun(clerk, "a", "b")
    os.kill(clerk.pid, signal.SIGSTOP)
    assert hand(clerk, "a", "b")
    os.kill(clerk.pid, signal.SIGKILL)
    clerk.settle()
    assert sorted(entry.key for entry in here) == ["a", "b"]
    assert kept(store, "before") == b"entry"
    assert not clerk.works()
    assert not locks[0].excludes()
    assert not keep(clerk, "c")
    assert clerk.content("a", SIGNER) is None


def test_a_clerk_that_does_not_answer_is_left(
    clerk: Clerk, here: list[Handed], monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = begun(clerk, "a")
    monkeypatch.setattr(client, "_ANSWERS_WITHIN_S", 0.2)
    os.kill(clerk.pid, signal.SIGSTOP)
    assert hand(clerk, "a")
    locks[0].release()
    clerk.settle()
    assert [entry.key for entry in here] == ["a"]


def test_what_is_put_down_as_it_ends_is_published_here(clerk: Clerk, here: list[Handed]) -> None:
    locks = begun(clerk, "late")
    late = threading.Thread(target=hand, args=(clerk, "late"))
    with clerk._at_line:  # this thread is just there
        late.start()
        until(lambda: bool(clerk._outbox))
        clerk._end()
    late.join(20)
    assert [entry.key for entry in here] == ["late"]
    assert not locks[0].excludes()


def test_n1_where_its_end_is_interrupted_its_thread_goes_on_with_that(
    clerk: Clerk, store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = begun(clerk, "a")
    os.kill(clerk.pid, signal.SIGSTOP)
    assert hand(clerk, "a")

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(clerk, "_wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            clerk.close()
    assert not clerk.works()
    os.kill(clerk.pid, signal.SIGCONT)
    until(lambda: not any(thread is clerk._thread for thread in threading.enumerate()))
    assert kept(store, "a") == b"entry"
    assert clerk._line.has_ended()
    del locks


def test_c3_it_is_over_when_all_that_a_dead_one_left_is_published(folder: Path) -> None:
    here: list[str] = []

    def slowly(entries: Sequence[Handed]) -> None:
        for entry in entries:
            time.sleep(0.01)
            here.append(entry.key)

    clerk = Clerk(folder, 0, slowly)
    until(clerk.is_ready)
    keys = [f"k:{n}" for n in range(30)]
    locks = begun(clerk, *keys)
    os.kill(clerk.pid, signal.SIGSTOP)
    assert hand(clerk, *keys)
    os.kill(clerk.pid, signal.SIGKILL)
    until(lambda: not clerk.works())
    clerk.settle()
    assert here == keys
    clerk.close()
    del locks


def test_one_that_never_comes_is_not_waited_for(
    folder: Path, here: list[Handed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "sleeps"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    clerk = Clerk(folder, 0, here.extend)
    began = time.monotonic()
    assert not clerk.is_ready()
    clerk.close()
    assert time.monotonic() - began < 5
    assert clerk._line.has_ended()


def test_what_it_cannot_publish_is_tried_here(folder: Path, here: list[Handed]) -> None:
    clerk = Clerk(folder, 1 << 60, here.extend)  # so much is to stay free that nothing fits
    until(clerk.is_ready)
    keep(clerk, "a")
    clerk.settle()
    assert [entry.key for entry in here] == ["a"]
    assert not clerk.works()
    clerk.close()


def test_an_interrupt_of_all_processes_of_a_terminal_is_not_meant_for_it(clerk: Clerk, store: DiskStore) -> None:
    assert keep(clerk, "first")
    clerk.settle()
    os.kill(clerk.pid, signal.SIGINT)
    time.sleep(0.1)
    keep(clerk, "a")
    clerk.settle()
    assert kept(store, "a") == b"entry"
    assert clerk.works()
    assert os.getsid(clerk.pid) != os.getsid(0)


def test_a_forked_child_leaves_it_to_its_parent(clerk: Clerk, store: DiskStore) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0 if not clerk.works() and not keep(clerk, "child") else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    keep(clerk, "parent")
    clerk.settle()
    assert kept(store, "parent") == b"entry"


def test_one_that_a_slow_disk_holds_up_is_left(
    clerk: Clerk, here: list[Handed], store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_WAITING_AT_MOST", 3)
    monkeypatch.setattr(client, "_LEAST_A_SECOND", 10**9)
    keys = [f"k:{n}" for n in range(10)]
    locks = begun(clerk, *keys)
    for key in keys:
        if not hand(clerk, key):
            break
        time.sleep(0.001)
    assert not clerk.works()
    clerk.settle()
    assert not here, "it did what it had"
    assert kept(store, "k:0") == b"entry"
    del locks


def test_one_that_is_only_late_is_waited_for(clerk: Clerk, here: list[Handed], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_WAITING_AT_MOST", 3)
    monkeypatch.setattr(client, "_LEAST_A_SECOND", 0)
    keys = [f"k:{n}" for n in range(50)]
    locks = begun(clerk, *keys)
    assert hand(clerk, *keys)
    assert len(clerk._waiting) <= 3
    assert clerk.works()
    assert not here
    del locks


def test_many_threads_lose_nothing(clerk: Clerk, store: DiskStore) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def one(n: int) -> bool:
        return keep(clerk, f"t:{n}", b"%d" % n)

    with ThreadPoolExecutor(16) as pool:
        handed = list(pool.map(one, range(1000)))
    clerk.settle()
    assert sum(handed) > 500, "but those whose lock came too late to be trusted"
    assert [kept(store, f"t:{n}") for n in range(1000)] == [b"%d" % n if handed[n] else None for n in range(1000)]


# In a map --------------------------------------------------------------------------------------------------------------


def test_a_map_of_quick_items_has_one_and_leaves_nothing_behind(clerks: list[Clerk], tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    workflow = create_workflow(cache=cache)
    assert workflow(lambda step: step.map(lambda n: n * n, range(300), key="n:{}")).unwrap() == [
        n * n for n in range(300)
    ]
    assert len(clerks) == 1
    assert not clerks[0].works()
    assert clerks[0]._line.has_ended()
    assert [cache.get(f"n:{n}") for n in range(300)] == [n * n for n in range(300)]
    assert cache.directory is not None
    assert not [path for part in ("lock", "tmp") for path in (cache.directory / "v1" / part).iterdir()]
    assert workflow(lambda step: step.map(boom, range(300), key="n:{}")).unwrap()[7] == 49
    assert len(clerks) == 1, "a hit needs none"


def boom(_: int) -> int:
    raise AssertionError("it is kept")


def test_few_items_have_none(hired: list[Clerk], tmp_path: Path) -> None:
    create_workflow(cache=tmp_path)(lambda step: step.map(lambda n: n, range(60), key="n:{}")).unwrap()
    assert not hired


def test_very_many_new_items_have_one_from_their_beginning(
    hired: list[Clerk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hiring, "_COMES_WITHIN_S", 20.0)
    came: list[bool] = []

    def slow(n: int) -> int:
        came.append(hired[0].is_ready())
        time.sleep(0.02 if n < 32 else 0.0)
        return n

    workflow = create_workflow(cache=tmp_path)
    workflow(lambda step: step.map(slow, range(1000), key="n:{}", n_jobs=32)).unwrap()
    assert all(came)
    assert len(hired) == 1
    assert not hired[0].works()
    workflow(lambda step: step.map(boom, range(1000), key="n:{}")).unwrap()
    assert len(hired) == 1, "hits need none"
    workflow(lambda step: step.map(lambda n: n, range(1000), key=lambda n: f"n:{n + 500}", n_jobs=1)).unwrap()
    assert len(hired) == 2, "where the first are kept, as soon as there are new ones"


def test_fewer_have_one_when_they_were_quick(hired: list[Clerk], tmp_path: Path) -> None:
    def some(n: int) -> int:
        assert n > 10 or not hired
        return n

    workflow = create_workflow(cache=tmp_path)
    workflow(lambda step: step.map(lambda n: time.sleep(0.02), range(100), key="slow:{}", n_jobs=1)).unwrap()
    assert not hired
    workflow(lambda step: step.map(some, range(999), key="n:{}", n_jobs=1)).unwrap()
    assert len(hired) == 1


def test_one_that_has_nothing_to_do_goes_and_another_one_may_come(
    hired: list[Clerk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_IDLE_S", 0.5)

    def between(event: Event) -> None:
        if isinstance(event, StepFinished) and event.key == "n:300":
            until(lambda: hired[0].was_idle)
            assert hired[0]._line.has_ended()

    cache = Cache(tmp_path)
    workflow = create_workflow(cache=cache, on_event=between)
    workflow(lambda step: step.map(lambda n: n, range(1500), key="n:{}", n_jobs=1)).unwrap()
    assert len(hired) == 2
    assert [cache.get(f"n:{n}") for n in range(1500)] == list(range(1500))
    assert cache.directory is not None
    assert not [path for part in ("lock", "tmp") for path in (cache.directory / "v1" / part).iterdir()]


def test_one_that_another_thread_has_forgotten_is_asked_nothing_wrong(folder: Path, clerk: Clerk) -> None:
    clerks = hiring.Clerks(folder, 0, lambda _: None, lambda: True)
    clerks.clerk = clerk

    class Kept(list[float]):
        def __len__(self) -> int:  # as it is looked at whether items are quick
            clerks.clerk = None
            return 0

    clerks._quick_until, clerks._kept = time.monotonic() + 60, Kept()  # pyright: ignore[reportAttributeAccessIssue]
    clerks.expect(["a"], SIGNER, None, 1, lambda _: True)
    assert clerks.clerk is None
    assert clerk.missing("a", SIGNER) is not None


def test_without_a_process_everything_goes_on(
    clerks: list[Clerk], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(subprocess, "Popen", refused)
    workflow = create_workflow(cache=tmp_path)
    assert workflow(lambda step: step.map(lambda n: n, range(100), key="n:{}")).unwrap() == list(range(100))
    assert not clerks
    assert len(Cache(tmp_path)) == 100


def test_steps_inside_items_and_deletes_see_what_it_was_given(clerks: list[Clerk], tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def body(step: Any) -> Any:
        def item(n: int) -> int:
            inner = step(lambda: n, key=f"inner:{n}")
            if n == 150:
                assert cache.get("n:149") == 149
                assert cache.delete("n:149")
                assert not cache.has("n:149")
                assert "n:148" in set(cache.keys())
            return inner + step(lambda: 0, key=f"n:{n + 5}:zero")

        return step.map(item, range(200), key="n:{}", n_jobs=1)

    assert create_workflow(cache=cache)(body).unwrap() == list(range(200))
    assert clerks
    assert len(cache) == 599


def test_c3_of_what_nobody_could_keep_the_value_is_given_and_it_is_told(
    clerks: list[Clerk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = Cache(tmp_path)
    store: Any = cache.store

    def full(entry: Handed) -> None:
        raise NoRoom(28, "the disk is full: make room")

    def item(n: int) -> int:
        if n == 200:
            store._clerks.settle()
            os.kill(clerks[0].pid, signal.SIGSTOP)
            monkeypatch.setattr(store._clerks, "_publish", full)
        if n == 205:
            os.kill(clerks[0].pid, signal.SIGKILL)
        return n

    workflow = create_workflow(cache=cache)
    assert workflow(lambda step: step.map(item, range(400), key="n:{}", n_jobs=1)).unwrap() == list(range(400))
    (told,) = [record.getMessage() for record in caplog.records if "not kept" in record.getMessage()]
    assert "the disk is full: make room" in told
    assert "n:20" in told
    assert cache.get("n:10") == 10
    assert cache.get("n:300") == 300, "what came later was kept without it"


KILLED = """
    import sys, time
    from pathlib import Path
    from nbstep import create_workflow
    from nbstep.stores.clerk import hiring

    hiring._MANY, hiring._QUICK_S = 1, 60.0
    log = open(sys.argv[2], "a", buffering=1)

    def item(n):
        log.write(f"{n}\\n")
        time.sleep(0.002)
        return n

    def body(step):
        return step.map(item, range(3000), key="n:{}", n_jobs=8)

    print(sum(create_workflow(cache=sys.argv[1])(body).unwrap()))
"""


@contextmanager
def running(folder: Path, log: Path) -> Generator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(folder), str(log)], stdout=subprocess.PIPE, text=True
    )
    with process:
        yield process
        process.kill()


def called(log: Path) -> Sequence[str]:
    return log.read_text().split() if log.exists() else []


def stands_still(cache: Cache) -> bool:
    before = len(cache)
    time.sleep(0.5)
    return len(cache) == before


@pytest.mark.parametrize("after", [200, 1500])
def test_c4_after_a_kill_every_item_runs_once_but_those_in_flight(tmp_path: Path, after: int) -> None:
    log = tmp_path / "log"
    with running(tmp_path, log) as process:
        until(lambda: len(called(log)) >= after)
        process.kill()
    before = set(called(log))
    cache = Cache(tmp_path)
    until(lambda: stands_still(cache))  # the clerk ends what it was given
    again = len(before) - len(cache)
    assert 0 <= again <= 8
    with running(tmp_path, log) as process:
        output, _ = process.communicate(timeout=60)
    assert int(output) == sum(range(3000))
    assert len(called(log)) == 3000 + again


def test_c4_two_kernels_compute_each_item_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(tmp_path, log) as one, running(tmp_path, log) as two:
        assert [int(process.communicate(timeout=120)[0]) for process in (one, two)] == [sum(range(3000))] * 2
    assert len(called(log)) == 3000
