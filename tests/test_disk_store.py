"""The disk store: private, all or nothing, links never followed, deleted means moved to the trash (DESIGN 5, C2, C6)."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbstep import Cache, create_workflow
from nbstep.cache.where import cache_folder
from nbstep.errors import CacheDirectoryError
from nbstep.stores import files, system
from nbstep.stores.base import NoRoom, Spot, TrashTotals, run_now
from nbstep.stores.disk import DiskStore, key_digest

ME, OTHER = "0" * 8, "1" * 8
DAY_NS = 24 * 3600 * 1_000_000_000
needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="file modes and links of POSIX")


class Clock:
    def __init__(self) -> None:
        self.ns = time.time_ns()

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> DiskStore:
    return DiskStore(tmp_path / "proj" / ".nbstep", clock=clock)


def put(store: DiskStore, key: str, content: bytes, batch: str = "b", signer: str = ME, durable: bool = False) -> None:
    run_now(store.publish(key, signer, [content[:3], b"", memoryview(content[3:])], durable=durable, batch=batch))


def got(store: DiskStore, key: str, signer: str = ME) -> bytes | None:
    document = run_now(store.open(key, signer))
    return None if document is None else document.read(0, document.size_bytes)


def entry_path(store: DiskStore, key: str, signer: str = ME) -> Path:
    digest = key_digest(key)
    return store.directory / "v1" / "e" / digest[:2] / f"{digest}.{signer}"


def everything(store: DiskStore) -> list[Path]:
    return [path for path in store.directory.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "key", ["user:1", "../../etc/passwd", "/etc/passwd", "a\x00b", "é" * 2000, "CON", "\ud800", " ", "A", "a"]
)
def test_k6_any_text_is_a_key_and_never_a_file_name(store: DiskStore, key: str, tmp_path: Path) -> None:
    put(store, key, b"content")
    assert got(store, key) == b"content"
    names = {path.name for path in everything(store)} - {".gitignore", "CACHEDIR.TAG"}
    assert names == {f"{key_digest(key)}.{ME}"}
    assert run_now(store.remove([key], "b")) == [key]
    assert got(store, key) is None


@needs_posix
def test_only_the_owner_can_read_what_is_kept(store: DiskStore) -> None:
    old = os.umask(0)
    try:
        put(store, "k", b"x")
        run_now(store.remove(["k"], "b"))
        put(store, "k", b"y")
    finally:
        os.umask(old)
    modes = {stat.S_IMODE(os.lstat(path).st_mode) for path in store.directory.rglob("*") if path.is_dir()}
    assert modes | {stat.S_IMODE(os.stat(store.directory).st_mode)} == {0o700}
    assert {stat.S_IMODE(os.lstat(path).st_mode) for path in everything(store)} == {0o600}


def test_git_and_backup_tools_leave_it_alone(store: DiskStore) -> None:
    assert (store.directory / ".gitignore").read_text() == "*\n"
    assert (store.directory / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55")


def test_another_kernel_knows_the_folder_for_a_cache_while_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file, seen = files.write_file, []

    def write_and_look(path: Path, parts: Any, *, durable: bool) -> None:
        write_file(path, parts, durable=durable)
        seen.append(cache_folder(path.parent))

    monkeypatch.setattr(files, "write_file", write_and_look)
    store = DiskStore(tmp_path / "cache")
    assert seen == [store.directory] * 2


@pytest.mark.parametrize("error", [FileExistsError, OSError(errno.EMFILE, "too many"), KeyboardInterrupt])
def test_a_file_of_another_writer_stays(error: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").write_bytes(b"theirs")
    if error is not FileExistsError:

        def refuse(*_: Any, **__: Any) -> int:
            raise error

        monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(type(error) if isinstance(error, OSError) else error):
        files.write_file(tmp_path / "taken", [b"x"], durable=False)
    monkeypatch.undo()
    assert (tmp_path / "taken").read_bytes() == b"theirs"


def test_replacing_publishes_a_new_file_and_leaves_open_ones_as_they_were(store: DiskStore) -> None:
    put(store, "k", b"old" * 50_000)
    before = run_now(store.open("k", ME))
    put(store, "k", b"new")
    assert got(store, "k") == b"new"
    assert before is not None
    assert before.read(0, before.size_bytes) == b"old" * 50_000
    run_now(store.empty_trash())
    assert bytes(before.buffers([(0, 150_000)])[0][:3]) == b"old"


def test_k9_buffers_belong_to_the_caller(store: DiskStore) -> None:
    put(store, "k", b"\x01" * 300_000)
    document = run_now(store.open("k", ME))
    assert document is not None
    first, second = document.buffers([(4096, 100_000)])[0], document.buffers([(4096, 100_000)])[0]
    first[:] = b"\x02" * 100_000
    assert bytes(second[:2]) == b"\x01\x01"
    assert got(store, "k") == b"\x01" * 300_000


def test_large_buffers_are_mapped_and_do_not_use_up_file_descriptors(store: DiskStore) -> None:
    held: list[Any] = []
    put(store, "k", b"\x01" * 200_000)
    for _ in range(1500):
        document = run_now(store.open("k", ME))
        assert document is not None
        held.append(document.buffers([(0, 100_000)]))
        del document
    open_now = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    assert open_now < 600


@needs_posix
def test_nothing_is_mapped_where_others_can_write(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    os.chmod(tmp_path / "shared", 0o777)
    assert system.may_map(tmp_path / "shared") is False
    store = DiskStore(tmp_path / "shared")
    put(store, "k", b"\x01" * 200_000)
    document = run_now(store.open("k", ME))
    assert document is not None
    (buffer,) = document.buffers([(0, 100_000)])
    assert isinstance(buffer.obj, bytearray)
    buffer[:1] = b"\x02"


def test_two_signers_never_overwrite_each_other(store: DiskStore) -> None:
    put(store, "k", b"mine")
    put(store, "k", b"theirs", signer=OTHER)
    assert (got(store, "k"), got(store, "k", OTHER)) == (b"mine", b"theirs")
    assert run_now(store.traces("k", ME)).strangers == (OTHER,)
    assert run_now(store.traces("other", ME)).strangers == ()
    assert run_now(store.remove(["k"], "b")) == ["k"]
    assert run_now(store.spots()) == []


@needs_posix
@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_an_entry_that_is_no_regular_file_is_not_read(store: DiskStore, tmp_path: Path, kind: str) -> None:
    put(store, "k", b"x")
    path = entry_path(store, "k")
    path.unlink()
    if kind == "link":
        (tmp_path / "victim").write_text("secret")
        path.symlink_to(tmp_path / "victim")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
        fd = os.open(path, os.O_RDWR)  # so that opening it cannot wait
    with pytest.raises(OSError, match=r"link|regular|directory"):
        run_now(store.open("k", ME))
    if kind == "fifo":
        os.close(fd)


@needs_posix
@pytest.mark.parametrize("level", ["v1", "v1/e", "shard"])
def test_folders_that_are_links_are_neither_read_nor_cleared(store: DiskStore, tmp_path: Path, level: str) -> None:
    put(store, "k", b"x")
    run_now(store.remove(["k"], "b"))
    put(store, "k", b"y")
    path = entry_path(store, "k").parent if level == "shard" else store.directory / level
    outside = tmp_path / "outside"
    path.rename(outside)
    path.symlink_to(outside, target_is_directory=True)
    before = sorted(outside.rglob("*"))
    assert run_now(store.spots()) == []
    for act in (
        lambda: run_now(store.remove_all("b")),
        lambda: run_now(store.empty_trash()),
        lambda: put(store, "k", b"z"),
    ):
        try:
            act()
        except OSError:
            continue
    assert sorted(outside.rglob("*")) == before


def test_clear_touches_only_names_of_ours(store: DiskStore) -> None:
    put(store, "k", b"x")
    strangers = [
        store.directory / "v1" / "e" / "notes.txt",
        entry_path(store, "k").parent / "conflict copy",
        store.directory / "mine.txt",
    ]
    for path in strangers:
        path.write_text("mine")
    assert run_now(store.remove_all("b")) == 1
    assert run_now(store.empty_trash()) == 1
    assert [path.read_text() for path in strangers] == ["mine"] * 3


def test_c2_deleting_moves_to_the_trash_and_undo_brings_the_batch_back(store: DiskStore) -> None:
    for key in "abc":
        put(store, key, key.encode() * 4)
    assert run_now(store.remove(["a", "b", "nothing"], "first")) == ["a", "b"]
    assert run_now(store.remove(["c"], "second")) == ["c"]
    totals = run_now(store.trash())
    assert (totals.entries, totals.size_bytes) == (3, 12)
    assert [run_now(store.traces(key, ME)).trashed for key in "abcd"] == [True, True, True, False]
    assert len(run_now(store.restore(None, "u"))) == 1
    assert [got(store, key) for key in "abc"] == [None, None, b"cccc"]
    assert len(run_now(store.restore(None, "u"))) == 2
    assert [got(store, key) for key in "abc"] == [b"aaaa", b"bbbb", b"cccc"]
    assert run_now(store.restore(None, "u")) == []


def test_e6_what_is_replaced_goes_to_the_trash_and_undo_swaps(store: DiskStore) -> None:
    put(store, "k", b"one!", batch="r0")
    put(store, "k", b"two!", batch="r1")
    assert len(run_now(store.restore("k", "u1"))) == 1
    assert got(store, "k") == b"one!"
    run_now(store.restore("k", "u2"))
    assert got(store, "k") == b"two!"
    assert run_now(store.trash()).entries == 1


def test_c2_undo_of_a_run_that_replaced_a_key_twice_gives_what_was_there_before_it(store: DiskStore) -> None:
    put(store, "k", b"before", batch="r0")
    for content in (b"during", b"after!"):
        put(store, "k", content, batch="run")
    run_now(store.restore(None, "u"))
    assert got(store, "k") == b"before"


def test_c2_the_trash_is_kept_for_24_hours(store: DiskStore, clock: Clock) -> None:
    put(store, "k", b"x")
    run_now(store.remove(["k"], "b"))
    clock.ns += DAY_NS - 3600 * 1_000_000_000
    put(store, "other", b"x")
    assert run_now(store.trash()).entries == 1
    clock.ns += 2 * 3600 * 1_000_000_000
    put(store, "other2", b"x")
    assert run_now(store.trash()).entries == 0
    assert len(list((store.directory / "v1" / "e").glob("*/*"))) == 2


def test_c2_a_miss_looks_into_one_folder_however_much_was_deleted(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(300):
        put(store, f"k{n}", b"x")
        run_now(store.remove([f"k{n}"], f"batch {n}"))
    looked: list[Any] = []
    for call in ("listdir", "scandir", "lstat"):
        real = getattr(os, call)
        monkeypatch.setattr(os, call, lambda *args, real=real: (looked.append(args), real(*args))[1])
    assert run_now(store.traces("k7", ME)).trashed
    assert not run_now(DiskStore(store.directory).traces("new", ME)).trashed
    assert len(looked) < 30


def test_c2_what_an_older_nbstep_deleted_is_deleted_and_comes_back(store: DiskStore) -> None:
    for n, key in enumerate(("a", "b", "c", "kept")):
        put(store, key, key.encode() * 4)
        if key != "kept":
            run_now(store.remove([key], str(n)))
    for path in list((store.directory / "v1" / "e").glob("*/*")):  # as it kept them: a folder a batch
        name, _, batch = path.name.rpartition(".")
        if len(batch) == 16:
            folder = store.directory / "v1" / "trash" / batch
            folder.mkdir(parents=True)
            path.rename(folder / name)
    assert len(list((store.directory / "v1" / "trash").glob("*/*"))) == 3
    later = DiskStore(store.directory)
    assert [run_now(later.traces(key, ME)).trashed for key in ("a", "b", "c", "kept", "new")] == [
        True, True, True, False, False,
    ]  # fmt: skip
    assert run_now(later.trash()) == TrashTotals(3, 12)
    run_now(later.restore(None, "u"))
    run_now(later.restore("a", "u"))
    assert [got(later, key) for key in ("a", "b", "c", "kept")] == [b"aaaa", None, b"cccc", b"kept" * 4]
    assert not (store.directory / "v1" / "trash").exists()
    assert run_now(later.empty_trash()) == 1


@needs_posix
def test_c2_what_cannot_be_taken_over_waits_where_it_is(store: DiskStore) -> None:
    put(store, "k", b"x")
    old = store.directory / "v1" / "trash"
    batch = old / ("0" * 16)
    batch.mkdir(parents=True)
    (batch / "notes.txt").write_text("mine")
    (old / ("1" * 16)).symlink_to(store.directory)
    later = DiskStore(store.directory)
    assert run_now(later.trash()).entries == 0
    assert run_now(later.empty_trash()) == 0
    assert sorted(path.name for path in old.rglob("*")) == sorted([batch.name, "notes.txt", "1" * 16])
    assert got(later, "k") == b"x"


def test_while_many_keys_are_asked_for_a_folder_is_not_listed_for_each(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "gone", b"x")
    run_now(store.remove(["gone"], "b"))
    listed: list[object] = []
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or real(path))
    assert [run_now(store.traces("gone", ME)).trashed for _ in range(3)] == [True] * 3
    assert len(listed) == 3
    with store.locks.spares.wanted():
        for n in range(600):
            assert not run_now(store.traces(f"new:{n}", ME)).trashed
        assert run_now(store.traces("gone", ME)).trashed
        assert run_now(store.traces("gone", OTHER)).strangers == ()
        assert len(listed) - 3 <= 256 + 1
        put(store, "k", b"x")
        assert not run_now(store.traces("k", ME)).trashed
        run_now(store.remove(["k"], "b"))  # seen at once: it is this process that deletes
        assert run_now(store.traces("k", ME)).trashed


def test_a_delete_by_another_process_is_seen(store: DiskStore, tmp_path: Path) -> None:
    other = DiskStore(store.directory)
    put(store, "k", b"x")
    assert run_now(store.traces("k", ME)).trashed is False
    run_now(other.remove(["k"], "b"))
    assert run_now(store.traces("k", ME)).trashed is True
    assert got(store, "k") is None
    run_now(store.restore("k", "u"))
    assert got(other, "k") == b"x"


def test_c6_the_last_bytes_of_a_disk_stay_free_and_the_trash_goes_first(tmp_path: Path) -> None:
    room = system.disk_room(tmp_path)
    if room is None:
        pytest.skip("this file system does not tell how much is free")
    roomy = DiskStore(tmp_path / "c")
    put(roomy, "old", b"x")
    run_now(roomy.remove(["old"], "b"))
    tight = DiskStore(tmp_path / "c", keep_free_bytes=2 * room.free_bytes)
    with pytest.raises(NoRoom, match="free"):
        put(tight, "k", b"x")
    assert run_now(tight.trash()).entries == 0
    assert got(tight, "k") is None


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("problem", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("call", ["write", "close", "open", "replace", "fsync", "posix_fallocate", "mkdir", "link"])
def test_c3_whatever_fails_leaves_the_old_entry_and_no_temporary_file(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, call: str, problem: int, durable: bool
) -> None:
    old, new = b"old" * 400_000, b"new" * 400_000
    put(store, "k", old)
    real: Callable[..., Any] = getattr(os, call)
    for nth in range(1, 12):
        calls: list[int] = []

        def fails(*args: Any, _nth: int = nth, **kwargs: Any) -> Any:
            calls.append(1)
            if len(calls) == _nth:
                if call == "close":
                    real(*args, **kwargs)
                raise OSError(problem, os.strerror(problem))
            return real(*args, **kwargs)

        monkeypatch.setattr(os, call, fails)
        try:
            put(store, "k", new, durable=durable)
            published = True
        except OSError:
            published = False
        finally:
            monkeypatch.setattr(os, call, real)
        found = got(store, "k")
        assert found in (old, new) if not (call == "replace" and found is None) else False
        assert found == new or not published
        assert list((store.directory / "v1" / "tmp").iterdir()) == []
        put(store, "k", old)
        if len(calls) < nth:
            break


def test_a_process_killed_while_it_writes_leaves_no_torn_entry(store: DiskStore) -> None:
    code = f"""
import sys
from pathlib import Path
from nbstep.stores.disk import DiskStore
from nbstep.stores.base import run_now
store = DiskStore(Path({str(store.directory)!r}))
print("ready", flush=True)
n = 0
while True:
    n = (n + 1) % 250
    run_now(store.publish("k", {ME!r}, [bytes([n]) * 3_000_000], durable=False, batch="b"))
    run_now(store.empty_trash())
"""
    for wait_s in (0.02, 0.05, 0.09):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(wait_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        content = got(store, "k")
        assert content is None or (len(content) == 3_000_000 and len(set(content)) == 1)


def test_old_temporary_files_of_dead_processes_are_collected(store: DiskStore, clock: Clock) -> None:
    put(store, "k", b"x")
    temps = store.directory / "v1" / "tmp"
    host = files.temp_name().rpartition(".")[2]
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    ages = {f"{'a' * 24}.{dead.pid}.{host}": 400, f"{'b' * 24}.{os.getpid()}.{host}": 400, f"{'c' * 24}.{dead.pid}.elsewhere": 400,
            f"{'d' * 24}.{os.getpid()}.elsewhere": 90_000, "not-ours": 90_000}  # fmt: skip
    for name, age_s in ages.items():
        (temps / name).write_text("x")
        os.utime(temps / name, (clock.ns / 1e9 + 4000 - age_s,) * 2)
    clock.ns += 4000 * 1_000_000_000
    put(store, "k2", b"x")
    assert sorted(path.name[0] for path in temps.iterdir()) == ["b", "c", "n"]


def test_listing_gives_every_entry_once_with_a_stamp_that_changes_with_it(store: DiskStore) -> None:
    put(store, "a", b"x")
    put(store, "b", b"y", signer=OTHER)
    before = {spot.address: spot for spot in run_now(store.spots())}
    assert {spot.signer for spot in before.values()} == {ME, OTHER}
    put(store, "a", b"z")
    after = {spot.address: spot for spot in run_now(store.spots())}
    changed = [address for address in before if before[address].stamp != after[address].stamp]
    assert changed == [f"{key_digest('a')}.{ME}"]


def test_an_address_that_is_no_name_of_ours_is_not_opened(store: DiskStore) -> None:
    for address in ("../../etc/passwd", "/etc/passwd", "a" * 64, ""):
        assert run_now(store.open_spot(Spot(address))) is None


def test_a_directory_that_cannot_be_created_or_written_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "deeper" / "cache"):
        with pytest.raises(CacheDirectoryError) as caught:
            DiskStore(path)
        assert str(path) in str(caught.value)
        assert "NBSTEP_DIR" in str(caught.value)
    if sys.platform == "linux":
        with pytest.raises(CacheDirectoryError, match="/proc/nope"):
            DiskStore(Path("/proc/nope"))


@pytest.mark.parametrize("beside", ["notes.txt", "another tool's tag"])
def test_t7_a_folder_of_somebody_else_does_not_become_a_cache(tmp_path: Path, beside: str) -> None:
    folder = tmp_path / "project"
    (folder / "v1").mkdir(parents=True)
    if beside == "notes.txt":
        (folder / "notes.txt").write_text("mine")
    else:
        (folder / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n# of pytest\n")
        (folder / "README.md").write_text("pytest cache")
    before = sorted(folder.rglob("*"))
    with pytest.raises(CacheDirectoryError, match="holds other files and is no cache of nbstep"):
        DiskStore(folder)
    assert sorted(folder.rglob("*")) == before
    assert cache_folder(folder) == folder / ".nbstep"


def test_t7_the_folder_that_one_works_in_does_not_become_a_cache_though_it_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, kept = tmp_path / "work", tmp_path / "work" / "kept"
    work.mkdir()
    monkeypatch.chdir(work)
    assert [cache_folder(Path(name)) for name in (".", "..", str(work), "kept")] == [
        Path(".nbstep"), Path("../.nbstep"), work / ".nbstep", Path("kept"),
    ]  # fmt: skip
    DiskStore(kept)
    monkeypatch.chdir(kept)
    assert cache_folder(Path(".")) == Path("."), "but one that is a cache"
    monkeypatch.chdir(work)
    assert create_workflow(cache=".")(lambda step: step(lambda: 1, key="k")).ok
    assert sorted(os.listdir(work)) == [".nbstep", "kept"]


def test_a_cache_with_files_of_others_in_it_stays_a_cache(store: DiskStore) -> None:
    put(store, "k", b"x")
    (store.directory / "notes.txt").write_text("mine")
    (store.directory / ".gitignore").unlink()
    moved = store.directory.rename(store.directory.with_name("renamed"))
    assert got(DiskStore(moved), "k") == b"x"
    assert (moved / ".gitignore").read_text() == "*\n"


@needs_posix
@pytest.mark.parametrize("where", ["entry", "trash", "tmp", "evicted"])
def test_t7_links_inside_are_removed_as_links_and_never_followed(store: DiskStore, tmp_path: Path, where: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    put(store, "k", b"x")
    if where == "entry":
        entry_path(store, "k").unlink()
        entry_path(store, "k").symlink_to(victim)
    elif where == "trash":
        run_now(store.remove(["k"], "b"))
        (trashed,) = (store.directory / "v1" / "e").glob("*/*")
        trashed.unlink()
        trashed.symlink_to(victim)
    else:
        (store.directory / "v1" / where).mkdir(exist_ok=True)
        name = key_digest("k") if where == "evicted" else f"{'a' * 24}.1.elsewhere"
        (store.directory / "v1" / where / name).symlink_to(victim)
    spots = run_now(store.spots())
    run_now(store.evict(spots, ["k", "other"]))
    put(store, "k", b"y")
    run_now(store.remove_all("b"))
    run_now(store.empty_trash())
    run_now(store.collect(dry_run=False))
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("address", ["../../victim", "/etc/passwd", "a" * 64, "", "a" * 64 + ".0000000\n"])
def test_t7_an_address_that_is_no_name_of_ours_is_never_removed(store: DiskStore, address: str) -> None:
    (store.directory.parent / "victim").write_text("mine")
    assert run_now(store.remove_spots([Spot(address)], "b")) == []
    assert run_now(store.evict([Spot(address)], [])) == 0
    assert (store.directory.parent / "victim").exists()


def test_threads_and_processes_that_write_delete_and_read_at_once_see_whole_entries(store: DiskStore) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def work(seed: int) -> Iterator[str]:
        own = DiskStore(store.directory)
        for n in range(60):
            key = f"k{(n * seed) % 5}"
            if n % 7 == 3:
                run_now(own.remove([key], f"{seed}"))
            elif n % 11 == 5:
                run_now(own.restore(key, f"{seed}"))
            elif n % 3 == 0:
                put(own, key, bytes([seed]) * 70_000, batch=f"{seed}")
            else:
                content = got(own, key)
                assert content is None or len(set(content)) == 1
        return "done"  # type: ignore[return-value]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(1, 9))) == ["done"] * 8


@needs_posix
@pytest.mark.parametrize("what", [".", "v1", "everything in it"])
def test_c3_a_folder_that_was_removed_is_made_anew_by_the_next_entry(store: DiskStore, what: str) -> None:
    put(store, "k", b"before")
    for path in sorted(store.directory.iterdir()) if what == "everything in it" else [store.directory / what]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert (got(store, "k"), run_now(store.spots()), run_now(store.trash()).entries) == (None, [], 0)
    assert run_now(store.restore(None, "b")) == []
    put(store, "k", b"after", durable=True)
    assert got(store, "k") == b"after"
    assert (store.directory / ".gitignore").read_text() == "*\n"
    assert (store.directory / "CACHEDIR.TAG").read_text().startswith("Signature: ")
    assert [stat.S_IMODE(os.lstat(folder).st_mode) for folder in (store.directory, store.directory / "v1")] == [
        0o700
    ] * 2


def test_c3_where_it_cannot_be_made_anew_the_reason_is_told(tmp_path: Path, store: DiskStore) -> None:
    shutil.rmtree(store.directory)
    store.directory.write_text("a file")
    with pytest.raises(CacheDirectoryError, match="cannot be used: it is a file"):
        put(store, "k", b"content")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
def test_a_pipe_in_an_entry_s_place_is_a_miss_and_holds_nobody_up(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.set("a", 1)
    (file,) = (tmp_path / "v1" / "e").glob("*/*")
    file.unlink()
    os.mkfifo(file)
    assert cache.get("a", "miss") == "miss"
    assert cache.entries() == []


WRITER = """
import sys
from pathlib import Path
from nbstep.stores import replacing
from nbstep.stores.base import run_now
from nbstep.stores.disk import DiskStore
replacing._WAIT_AT_MOST_S = 120.0
run_now(DiskStore(Path(sys.argv[1])).publish("k", "0" * 8, [b"third"], durable=False, batch="third"))
"""


def kept_files(store: DiskStore) -> list[Path]:
    return [path for path in (store.directory / "v1" / "e").rglob("*") if path.is_file()]


@needs_posix
def test_e6_a_process_saves_what_another_one_put_there_while_it_waited_for_its_turn(store: DiskStore) -> None:
    import fcntl

    put(store, "k", b"first")
    entry, temps, lock = entry_path(store, "k"), store.directory / "v1" / "tmp", store.directory / "v1" / "lock"
    lock.mkdir(exist_ok=True)
    with open(lock / "turn", "wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(store.directory)])
        until = time.monotonic() + 60
        while writer.poll() is None and not any(temps.iterdir()) and time.monotonic() < until:
            time.sleep(0.005)
        assert got(store, "k") == b"first"
        os.link(entry, f"{entry}.{time.time_ns():016x}.{'a' * 16}")
        (temps / "second").write_bytes(b"second")
        os.replace(temps / "second", entry)
    assert writer.wait(60) == 0
    assert got(store, "k") == b"third"
    assert sorted(path.read_bytes() for path in kept_files(store)) == [b"first", b"second", b"third"]


def test_e6_threads_that_replace_delete_and_undo_the_same_key_lose_no_value(store: DiskStore) -> None:
    from concurrent.futures import ThreadPoolExecutor

    stores = [DiskStore(store.directory) for _ in range(4)]

    def work(me: int) -> None:
        for n in range(100):
            put(stores[me], "k", f"NBSTEP-{me}-{n}".encode(), batch=f"{me}-{n}")
            run_now(stores[me].restore("k", f"{me}-{n}-back"))
            if n % 5 == 0:
                run_now(stores[me].remove(["k"], f"{me}-{n}-gone"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    contents = sorted(path.read_bytes() for path in kept_files(store))
    assert contents == sorted(f"NBSTEP-{me}-{n}".encode() for me in range(4) for n in range(100))


@needs_posix
def test_c3_who_has_the_turn_and_is_stopped_holds_nobody_up_for_long(store: DiskStore) -> None:
    import fcntl

    put(store, "k", b"old")
    (store.directory / "v1" / "lock").mkdir(exist_ok=True)
    with open(store.directory / "v1" / "lock" / "turn", "wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        put(store, "k", b"new")
    assert got(store, "k") == b"new"
    assert run_now(store.trash()).entries == 1


@needs_posix
def test_a_turn_leaves_no_file_open(store: DiskStore) -> None:
    put(store, "k", b"0")
    put(store, "k", b"1")
    before = len(os.listdir("/dev/fd"))
    for n in range(50):
        put(store, "k", str(n).encode())
    run_now(store.remove(["k"], "gone"))
    assert run_now(store.restore(None, "back")) != []
    assert len(os.listdir("/dev/fd")) == before
