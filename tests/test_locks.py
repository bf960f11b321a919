"""The locks between processes (C4): what is held, what is removed, and what a forked child has of it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from scripts import open_files_in

from nbstep.forks import ThreadLock
from nbstep.stores.files import key_digest
from nbstep.stores.locks import Holder, KeyLock, KeyLocks, system_flock
from nbstep.stores.parts import parts_of

pytestmark = pytest.mark.skipif(system_flock() is None, reason="this system has no flock")

FORKS = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture(params=["a file each", "the same files again"])
def locks(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[KeyLocks]:
    made = KeyLocks(tmp_path, system_flock())
    if request.param == "a file each":
        yield made
        return
    with made.spares.wanted():
        yield made
    assert spare_files(tmp_path) == []


def taken(locks: KeyLocks, key: str = "k") -> KeyLock:
    lock = locks.take(key)
    assert lock is not None
    assert lock.fileno() >= 0
    return lock


def note_of(locks: KeyLocks, folder: Path, key: str = "k") -> Path:
    return folder / "v1" / "lock" / key_digest(key)


def lock_files(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / "v1" / "lock"))


def spare_files(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / "v1" / "tmp")) if (folder / "v1" / "tmp").is_dir() else []


def test_c4_one_holds_a_key_until_it_is_released(locks: KeyLocks) -> None:
    lock = taken(locks)
    assert locks.take("k") is None
    taken(locks, "another").release()
    lock.release()
    lock.release()
    taken(locks).release()


def test_c4_a_lock_that_is_dropped_is_released(locks: KeyLocks) -> None:
    lock = taken(locks)
    del lock
    taken(locks).release()


def test_c4_its_file_is_the_users_own_and_gone_with_it(locks: KeyLocks, tmp_path: Path) -> None:
    lock = taken(locks)
    lock.sign("churn.ipynb", 5.0)
    assert lock_files(tmp_path) == [key_digest("k")]
    assert stat.S_IMODE(os.stat(note_of(locks, tmp_path)).st_mode) == 0o600
    assert not os.get_inheritable(lock.fileno())
    lock.release()
    assert lock_files(tmp_path) == []


def test_c4_a_lock_whose_file_its_holder_removed_meanwhile_is_none(tmp_path: Path) -> None:
    first = KeyLocks(tmp_path, system_flock()).take("k")
    assert first is not None
    third: list[KeyLock | None] = []
    system = system_flock()
    assert system is not None

    def flock(fd: int) -> None:
        first.release()  # between our opening of the file and our locking it
        system(fd)

    second = KeyLocks(tmp_path, flock).take("k")
    assert second is not None
    assert second.is_current()
    third.append(KeyLocks(tmp_path, system).take("k"))
    assert third == [None]


def test_c4_a_file_that_always_vanishes_is_tried_again_later(tmp_path: Path) -> None:
    path = tmp_path / "v1" / "lock" / key_digest("k")
    assert KeyLocks(tmp_path, lambda fd: path.unlink()).take("k") is None


def test_c4_a_release_leaves_the_next_ones_files_alone(locks: KeyLocks, tmp_path: Path) -> None:
    first = taken(locks)
    os.unlink(tmp_path / "v1" / "lock" / key_digest("k"))  # somebody tidied up
    second = taken(locks)
    second.sign("b", 2.0)
    first.release()
    assert locks.holder("k").name == "b"
    assert locks.take("k") is None


@pytest.mark.parametrize(
    "problem", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO, errno.EROFS, errno.EACCES]
)
def test_c4_where_locks_do_not_work_everybody_may(problem: int, tmp_path: Path) -> None:
    def fails(fd: int) -> None:
        raise OSError(problem, os.strerror(problem))

    lock = KeyLocks(tmp_path, fails).take("k")
    assert lock is not None
    assert lock.fileno() == -1
    lock.sign("a", 1.0)
    lock.release()
    assert lock_files(tmp_path) == []


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/etc/passwd", path)])
def test_c4_what_is_no_lock_file_is_no_lock(make: Callable[[Path], None], locks: KeyLocks, tmp_path: Path) -> None:
    (tmp_path / "v1" / "lock").mkdir(parents=True)
    make(tmp_path / "v1" / "lock" / key_digest("k"))
    lock = locks.take("k")
    assert lock is not None
    assert lock.fileno() == -1
    lock.release()
    assert lock_files(tmp_path) == [key_digest("k")]


def test_c4_no_folder_no_lock(locks: KeyLocks, tmp_path: Path) -> None:
    (tmp_path / "v1").write_text("")
    lock = locks.take("k")
    assert lock is not None
    assert lock.fileno() == -1
    locks.collect()


def test_c4_without_flock_everybody_may(tmp_path: Path) -> None:
    locks = KeyLocks(tmp_path, None)
    assert [lock.fileno() for _ in range(2) if (lock := locks.take("k")) is not None] == [-1, -1]
    locks.collect()
    assert not (tmp_path / "v1").exists()


# Files that go from key to key


@pytest.fixture
def again(tmp_path: Path) -> Iterator[KeyLocks]:
    locks = KeyLocks(tmp_path, system_flock())
    with locks.spares.wanted():
        yield locks


def test_c4_many_keys_are_locked_with_one_file(again: KeyLocks, tmp_path: Path) -> None:
    files: set[int] = set()
    for key in ("a", "b", "c"):
        lock = taken(again, key)
        lock.sign(f"notebook {key}" * (4 - len(files)), 1.0)
        assert again.holder(key).name == f"notebook {key}" * (4 - len(files))
        assert (lock_files(tmp_path), len(spare_files(tmp_path))) == ([key_digest(key)], 1)
        files.add(os.fstat(lock.fileno()).st_ino)
        lock.release()
        assert lock_files(tmp_path) == []
    assert len(files) == 1


def test_c4_nobody_else_has_a_key_that_is_locked_with_a_used_file(again: KeyLocks, tmp_path: Path) -> None:
    taken(again, "before").release()
    lock = taken(again)
    other = KeyLocks(tmp_path, system_flock())
    with other.spares.wanted():
        assert [KeyLocks(tmp_path, system_flock()).take("k"), other.take("k"), again.take("k")] == [None] * 3
        lock.release()
        taken(other).release()


def test_c4_a_second_release_leaves_the_next_key_of_its_file_alone(again: KeyLocks) -> None:
    first = taken(again, "a")
    first.release()
    second = taken(again, "b")
    first.release()
    first.abandon()
    del first
    assert again.take("b") is None
    assert second.is_current()
    second.release()


def test_c4_a_used_file_of_a_dropped_lock_is_not_used_again(again: KeyLocks, tmp_path: Path) -> None:
    lock = taken(again)
    del lock
    assert lock_files(tmp_path) == [key_digest("k")]
    taken(KeyLocks(tmp_path, system_flock())).release()
    taken(again).release()
    assert lock_files(tmp_path) == []


def test_c4_a_file_that_went_to_another_key_meanwhile_is_not_the_lock_of_the_first(tmp_path: Path) -> None:
    locks, system = KeyLocks(tmp_path, system_flock()), system_flock()
    assert system is not None
    with locks.spares.wanted():
        first = taken(locks, "k")
        others: list[KeyLock] = []

        def flock(fd: int) -> None:
            if not others:
                first.release()  # between another kernel's opening of the file and its locking it
                others.append(taken(locks, "another"))
            system(fd)

        waits = KeyLocks(tmp_path, flock)
        assert waits.take("k") is None
        taken(waits, "k").release()
        assert waits.take("another") is None
        others[0].release()


def test_c4_a_used_file_of_a_killed_holder_gives_way(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from nbstep.stores.locks import *\n"
        "locks = KeyLocks(Path(sys.argv[1]), system_flock())\n"
        "with locks.spares.wanted():\n"
        "    locks.take('before').release()\n"
        "    lock = locks.take('k'); lock.sign('dead', 1.0); os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -signal.SIGKILL
    locks = KeyLocks(tmp_path, system_flock())
    assert locks.holder("k").name == "dead"
    taken(locks).release()
    assert lock_files(tmp_path) == []


def test_c4_without_links_each_key_has_its_own_file(
    again: KeyLocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "this file system has none")

    monkeypatch.setattr(os, "link", link)
    lock = taken(again)
    assert again.take("k") is None
    lock.release()
    assert (lock_files(tmp_path), spare_files(tmp_path)) == ([], [])


@FORKS
def test_c4_a_forked_child_has_no_part_of_used_files(again: KeyLocks, tmp_path: Path) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    held = taken(again, "held")
    taken(again, "k").release()
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        copies = open_files_in(tmp_path)
        lock = again.take("child's")
        ok = lock is not None and lock.fileno() >= 0 and again.take("held") is None
        if lock is not None:
            lock.release()
        os._exit(0 if ok and not copies else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(spare_files(tmp_path)) == 2
    held.release()
    taken(again, "k").release()


# More keys than a process may have files open for


@pytest.fixture
def many(tmp_path: Path) -> KeyLocks:
    return KeyLocks(tmp_path, system_flock(), open_at_most=0)


def test_c4_past_the_open_files_a_key_is_held_all_the_same(many: KeyLocks, locks: KeyLocks, tmp_path: Path) -> None:
    lock = many.take("k")
    assert lock is not None
    assert (lock.fileno(), lock.excludes(), lock.is_current()) == (-1, True, True)
    lock.sign("churn.ipynb", 5.0)
    lock.sign("etl.ipynb", 6.0)
    assert many.holder("k") == Holder("etl.ipynb", os.getpid(), 6.0)
    assert (many.take("k"), locks.take("k")) == (None, None)
    locks.collect()
    assert lock.is_current()
    lock.release()
    assert lock_files(tmp_path) == ["many"]
    held = taken(locks)
    assert many.take("k") is None
    held.release()
    again = many.take("k")
    assert again is not None
    assert again.excludes()
    del again
    taken(locks).release()


def test_c4_a_part_is_held_against_other_processes_and_only_by_its_process(many: KeyLocks, tmp_path: Path) -> None:
    lock = many.take("k")
    assert lock is not None
    ask = (
        "import sys; from pathlib import Path; from nbstep.stores.locks import KeyLocks, system_flock\n"
        "locks = [KeyLocks(Path(sys.argv[1]), system_flock(), open_at_most=n) for n in (0, 9)]\n"
        "print([one.take('k') is None for one in locks], [one.take('other').excludes() for one in locks[:1]])"
    )

    def other() -> str:
        command = [sys.executable, "-c", ask, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.strip()

    assert other() == "[True, True] [True]"
    lock.release()
    assert other() == "[False, False] [True]"


def test_c4_who_comes_while_a_part_is_let_go_leaves_no_file(tmp_path: Path) -> None:
    """Its holder removes the key's file first, then lets go of the part."""
    locks = KeyLocks(tmp_path, system_flock())
    taken(locks, "other").release()
    parts = parts_of(str(tmp_path / "v1" / "lock" / "many"))
    assert parts.lock(key_digest("k"))
    assert locks.take("k") is None
    assert lock_files(tmp_path) == ["many"]
    parts.unlock(key_digest("k"))
    taken(locks).release()


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/etc/passwd", path)])
def test_c4_what_is_no_file_of_parts_costs_only_the_lock(
    make: Callable[[Path], None], many: KeyLocks, locks: KeyLocks, tmp_path: Path
) -> None:
    (tmp_path / "v1" / "lock").mkdir(parents=True)
    make(tmp_path / "v1" / "lock" / "many")
    lock = many.take("k")
    assert lock is not None
    assert not lock.excludes()
    taken(locks).release()
    assert lock_files(tmp_path) == ["many"]


def test_c4_a_file_of_parts_that_somebody_removed_is_made_anew(many: KeyLocks, tmp_path: Path) -> None:
    for _ in range(2):
        lock = many.take("k")
        assert lock is not None
        assert many.take("k") is None
        assert lock_files(tmp_path) == sorted([key_digest("k"), "many"])
        lock.release()
        shutil.rmtree(tmp_path / "v1")


@FORKS
def test_c4_a_forked_child_holds_no_part_and_its_end_takes_none(many: KeyLocks) -> None:
    lock = many.take("k")
    assert lock is not None
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        held = lock.excludes()
        lock.release()
        os._exit(1 if held or many.take("k") is not None else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert lock.is_current()
    assert many.take("k") is None
    lock.release()


# Who holds it


def test_c4_the_note_says_who_computes(locks: KeyLocks) -> None:
    assert locks.holder("k") == Holder()
    lock = taken(locks)
    lock.sign("churn.ipynb", 5.0)
    assert locks.holder("k") == Holder("churn.ipynb", os.getpid(), 5.0)
    lock.sign(None, 6.0)
    assert locks.holder("k") == Holder(None, os.getpid(), 6.0)
    lock.release()
    assert locks.holder("k") == Holder()


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b"[" * 4096, b'{"since": ' + b"9" * 4000 + b"}", b"{}" + b" " * 5000,
        b'{"holder": 5, "pid": true, "since": true}', b'{"holder": " ", "pid": -1, "since": NaN}',
        b'{"holder": {}, "pid": 1e9, "since": 1e999}', b'{"pid": 99999999999, "since": "now"}',
    ],
)  # fmt: skip
def test_c4_a_torn_or_hostile_note_says_nothing(text: bytes, locks: KeyLocks, tmp_path: Path) -> None:
    with_lock = taken(locks)
    note_of(locks, tmp_path).write_bytes(text)
    assert locks.holder("k") == Holder()
    with_lock.release()
    assert lock_files(tmp_path) == []


def test_c4_a_long_name_is_cut(locks: KeyLocks, tmp_path: Path) -> None:
    lock = taken(locks)
    lock.sign("x" * 10_000, 1.0)
    assert locks.holder("k").name == "x" * 200
    note_of(locks, tmp_path).write_text(json.dumps({"holder": "y" * 1000}))
    assert locks.holder("k").name == "y" * 200


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_c4_a_note_that_is_no_file_says_nothing(make: Callable[[Path], None], locks: KeyLocks, tmp_path: Path) -> None:
    lock = taken(locks)
    note_of(locks, tmp_path).unlink()
    make(note_of(locks, tmp_path))
    assert locks.holder("k") == Holder()
    lock.sign("a", 1.0)
    lock.release()
    assert lock_files(tmp_path) == [key_digest("k")]


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_t11_a_linked_note_is_neither_followed_nor_written(
    link: Callable[[Path, Path], None], locks: KeyLocks, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text('{"holder": "secret"}')
    (tmp_path / "v1" / "lock").mkdir(parents=True)
    link(victim, note_of(locks, tmp_path))
    for at in (1.0, 2.0):
        lock = locks.take("k")
        assert lock is not None
        lock.sign("a", at)
        assert locks.holder("k").name in {"a", None}
        lock.release()
    assert victim.read_text() == '{"holder": "secret"}'


def test_c4_a_dead_holders_file_gives_way(locks: KeyLocks, tmp_path: Path) -> None:
    (tmp_path / "v1" / "lock").mkdir(parents=True)
    note_of(locks, tmp_path).write_text('{"holder": "dead, with a long name", "pid": 1, "since": 1.0}')
    lock = taken(locks)
    assert locks.holder("k") == Holder()
    lock.sign("alive", 2.0)
    assert (locks.holder("k").name, locks.holder("k").since) == ("alive", 2.0)
    lock.release()
    assert lock_files(tmp_path) == []


# Left-overs


def test_c4_what_dead_holders_left_is_collected_and_nothing_else(locks: KeyLocks, tmp_path: Path) -> None:
    held = taken(locks, "held")
    held.sign("alive", 1.0)
    folder = tmp_path / "v1" / "lock"
    for name in (key_digest("a"), f"{key_digest('a')}.json", key_digest("b"), f"{key_digest('c')}.json"):
        (folder / name).write_text("")
    (folder / "notes.txt").write_text("")
    links = [key_digest(f"link {n}") for n in range(5)]
    for name in links:
        (folder / name).symlink_to(tmp_path)
    locks.collect()
    assert lock_files(tmp_path) == sorted([key_digest("held"), "notes.txt", *links])
    assert locks.take("held") is None
    held.release()


# Forked children


@FORKS
def test_c4_a_forked_child_holds_nothing_and_releases_nothing(locks: KeyLocks) -> None:
    lock = taken(locks)
    fd = lock.fileno()
    child = os.fork()
    if child == 0:
        try:
            os.fstat(fd)
            os._exit(1)  # its copy is open
        except OSError:
            lock.release()
            os._exit(0 if lock.fileno() == -1 else 2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert lock.is_current()
    assert locks.take("k") is None
    lock.release()


class ForkInTheMiddle:
    """Another thread that forks while this one is in the middle of a call, and what its child has of the lock's files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._thread = threading.Thread(target=self._fork)
        self._found: list[int] = []
        self.begun = False

    def begin(self) -> None:
        """Comes back when the fork waits for this thread, or is over."""
        self.begun = True
        self._thread.start()
        seen, until = 0, time.monotonic() + 60
        while self._thread.is_alive() and seen < 20 and time.monotonic() < until:
            frame = sys._current_frames().get(self._thread.ident or 0)
            seen = seen + 1 if frame is not None and frame.f_code.co_name == "_before_fork" else 0
            time.sleep(0.001)

    def files_of_the_child(self) -> int:
        self._thread.join(60)
        (found,) = self._found
        return found

    def _fork(self) -> None:
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            os._exit(open_files_in(self._folder))
        self._found.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


@FORKS
@pytest.mark.parametrize(("call", "again"), [("open", False), ("close", False), ("open", True)])
def test_c4_a_fork_while_a_lock_is_opened_or_closed_waits_and_its_child_has_no_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, again: bool
) -> None:
    """A copy of the file would hold the lock for as long as the child lives."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    fork, locks = ForkInTheMiddle(tmp_path), KeyLocks(tmp_path, system_flock())
    real_open, real_close = os.open, os.close
    lock: KeyLock | None = taken(locks) if call == "close" else None

    def opens(path: Any, *args: Any) -> int:
        fd = real_open(path, *args)
        if call == "open" and Path(path).parent.name in ("lock", "tmp") and not fork.begun:
            fork.begin()
        return fd

    def closes(fd: int) -> None:
        if call == "close" and lock_fd == fd and not fork.begun:
            fork.begin()
        real_close(fd)

    lock_fd = -1 if lock is None else lock.fileno()
    monkeypatch.setattr(os, "open", opens)
    monkeypatch.setattr(os, "close", closes)
    with locks.spares.wanted() if again else nullcontext():
        if lock is None:
            lock = taken(locks)
        else:
            lock.release()
    assert fork.files_of_the_child() == 0
    lock.release()
    assert lock_files(tmp_path) == []


@FORKS
def test_c4_any_thread_of_a_forked_child_takes_locks(locks: KeyLocks) -> None:
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        got: list[KeyLock | None] = []
        thread = threading.Thread(target=lambda: got.append(locks.take("child's")))
        thread.start()
        thread.join()
        os._exit(0 if got[0] is not None and got[0].fileno() >= 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    taken(locks).release()


# interrupts


@pytest.mark.parametrize("used", [False, True])
def test_c4_an_interrupt_while_a_lock_is_taken_leaves_nothing_locked(used: bool, tmp_path: Path) -> None:
    locks = KeyLocks(tmp_path, system_flock())
    at = 0
    with locks.spares.wanted() if used else nullcontext():
        while (caught := _interrupted(lambda: locks.take("k"), at := at + 1)) is not None:
            again = locks.take("k")  # while the interrupt's traceback holds its frames, as a notebook's does
            assert again is not None, f"{caught!r} at call {at}"
            assert again.is_current()
            again.release()
    assert at > 10


def test_c4_an_interrupt_leaves_no_lock_between_threads_held() -> None:
    lock = ThreadLock()

    def hold() -> None:
        with lock:
            pass

    at = 0
    while (caught := _interrupted(hold, at := at + 1)) is not None:
        other = threading.Thread(target=hold, daemon=True)
        other.start()
        other.join(timeout=30)
        assert not other.is_alive(), f"{caught!r} at call {at}"
    assert at > 2


def _interrupted(taking: Callable[[], KeyLock | None], at: int) -> KeyboardInterrupt | None:
    """The interrupt that came at the call of that number; None where there are not so many, and nothing is held."""
    left = at

    def interrupt(frame: FrameType, event: str, _given: object) -> None:
        nonlocal left
        if event in {"call", "c_return"} and frame.f_code is not _interrupted.__code__:
            left -= 1
            if left == 0:
                sys.setprofile(None)
                signal.raise_signal(signal.SIGINT)

    try:
        sys.setprofile(interrupt)
        lock = taking()
    except KeyboardInterrupt as stop:
        return stop
    finally:
        sys.setprofile(None)
    if lock is not None:
        lock.release()
    return None
