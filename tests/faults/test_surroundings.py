"""Read-only and full disks, clocks that jump, keys that are meant to hurt, very many of them (C2, C3, C5, C6, K6)."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from faults import LONG
from nbstep import Cache, create_workflow
from nbstep.commands.tables import Screen
from nbstep.commands.verbs import run_command
from nbstep.events import StepHit
from nbstep.stores.disk import DiskStore, key_digest
from nbstep.testing import RecordingListener, SettableClock

DAY_S: Final = 86_400.0
HOUR_S: Final = 3_600.0


# Read-only ---------------------------------------------------------------------------------------------------------------------

READER: Final = """
import subprocess, sys
from nbstep import Cache, create_workflow
from nbstep.events import StepHit
from nbstep.testing import RecordingListener
listener = RecordingListener()
cache = Cache(sys.argv[1])
if "Read-only" in sys.argv[2]:  # it becomes so under a running kernel
    subprocess.run(["mount", "-o", "remount,ro,bind", sys.argv[1]], check=True)
workflow = create_workflow(cache=cache, on_event=listener)
assert workflow(lambda step: step(lambda: 1 / 0, key="kept")).unwrap() == {"a": 1}
assert len(listener.of(StepHit)) == 1 and listener.findings() == []
assert workflow(lambda step: step(lambda: "computed", key="new")).unwrap() == "computed"
result = workflow(lambda step: step(lambda: [][0], key="bad"))
assert type(result.error) is IndexError, result
assert len(listener.findings()) == 2 and all(sys.argv[2] in text for text in listener.findings()), listener.findings()
assert cache.keys() == ["kept"] and cache.verify().bits == 0
for act in (lambda: cache.delete("kept"), cache.clear):
    try:
        act()
    except OSError:
        continue
    raise AssertionError("it said that it deleted")
assert cache.get("kept") == {"a": 1}
print("done")
"""


@pytest.fixture(params=["mounted read-only", "without permission"])
def read_only(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, list[str], str]]:
    """A cache that cannot be written, how to run a program that meets it, and what the system says there."""
    folder = tmp_path / "cache"
    Cache(folder).set("kept", {"a": 1})
    if request.param == "mounted read-only":
        if sys.platform != "linux" or os.geteuid() != 0:
            pytest.skip("only root can mount")
        bound = subprocess.run(["mount", "--bind", folder, folder], capture_output=True, check=False)
        if bound.returncode:
            pytest.skip("this system mounts nothing")
        yield folder, [], "Read-only file system"
        subprocess.run(["umount", "-l", folder], check=True)
        return
    command: list[str] = []
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root needs setpriv to be refused anything")
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    for path in folder.rglob("*"):  # the folder itself too, and it would not be opened as a cache
        if path.is_dir():
            path.chmod(0o500)
    yield folder, command, "Permission denied"
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o700)


def test_c3_over_a_read_only_cache_hits_are_hits_and_values_arrive(read_only: tuple[Path, list[str], str]) -> None:
    folder, command, said = read_only
    before = sorted(folder.rglob("*"))
    opening = "without permission" if said == "Permission denied" else ""
    if opening:  # a folder that is not writable at all is no cache to keep in: it must be said when it is opened
        folder.chmod(0o700)
    done = subprocess.run(
        [*command, sys.executable, "-c", READER, str(folder), said], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert sorted(path for path in folder.rglob("*") if path.name != "lock" and "v1/tmp" not in str(path)) == [
        path for path in before if "v1/tmp" not in str(path)
    ]


# Full --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def few_files(tmp_path: Path) -> Iterator[Path]:
    """A file system that holds sixty files."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    arguments = ["mount", "-t", "tmpfs", "-o", "size=20m,nr_inodes=60", "tmpfs", str(folder)]
    if subprocess.run(arguments, capture_output=True, check=False).returncode:
        pytest.skip("this system mounts no tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_c3_a_disk_without_room_for_one_more_file_costs_no_value_and_no_entry(few_files: Path) -> None:
    cache = Cache(few_files / ".nbstep")
    listener = RecordingListener()
    workflow = create_workflow(cache=cache, on_event=listener)
    values = workflow(lambda step: [step(str, n, key=f"k{n}") for n in range(60)]).unwrap()
    assert values == [str(n) for n in range(60)]
    assert 3 < len(cache) < 60
    first, in_all = listener.findings()
    assert "make room with" in first
    assert in_all.startswith(f"In all, {60 - len(cache)} results were not kept: ")
    kept = {key: cache.get(key) for key in cache}
    assert all(key == f"k{value}" for key, value in kept.items())
    assert not list((few_files / ".nbstep" / "v1" / "tmp").glob("*"))
    take_every_file(few_files)
    key, *_ = cache
    assert cache.delete(key)
    assert cache.undo() == [key]
    assert cache.get(key) == kept[key]
    assert run_command("rm k3", cache=cache, screen=Screen()).text == "Deleted 1 entry: k3. Undo: nbstep undo"
    assert run_command("undo", cache=cache).text == "Restored 1 entry: k3"
    assert cache.clear() == len(kept)
    assert cache.empty_trash() == len(kept)
    cache.set("now", "there is room")


def take_every_file(folder: Path) -> None:
    """What is left of a file system's files."""
    with suppress(OSError):
        for n in itertools.count():
            (folder / f"file {n}").touch()
    assert os.statvfs(folder).f_favail == 0


@pytest.fixture
def small_ext4(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB whose folders take blocks of 1 KB."""
    image, folder = tmp_path / "image", tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("only root can make and mount a small disk")
    with image.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-b", "1024", "-m", "0", image], check=True, capture_output=True)
    if subprocess.run(["mount", "-o", "loop", image, folder], capture_output=True, check=False).returncode:
        pytest.skip("this system mounts no files")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill_up(folder: Path) -> None:
    """Takes every byte of a file system."""
    for size in (1 << 16, 1 << 10):
        with (folder / f"fills {size}").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(size))
    os.sync()
    assert os.statvfs(folder).f_bavail == 0


def test_c2_a_disk_without_room_for_one_more_name_still_deletes_and_says_what_is_gone_for_good(
    small_ext4: Path,
) -> None:
    cache = Cache(small_ext4 / ".nbstep")
    keys = list(itertools.islice((key for n in itertools.count() if key_digest(key := f"k{n}")[:2] == "ab"), 130))
    for key in keys:  # all in one folder, until its blocks have no room for a longer name
        cache.set(key, "x" * 300)
    fill_up(small_ext4)
    last = keys[-1]
    deleted = cache.remove(keys[:-1])
    assert deleted.count == 129
    assert 0 < deleted.lost < 65
    assert cache.keys() == [last]
    (small_ext4 / "fills 1024").unlink()
    back = cache.undo()
    assert len(back) == 129 - deleted.lost
    assert all(Cache(cache.directory).get(key) == "x" * 300 for key in [*back, last])
    said = run_command("undo other", cache=Cache(cache.directory)).text
    assert said == (
        "Nothing to undo: the trash holds no other from the last 24 hours. "
        "The disk was full when entries were deleted: those are gone for good."
    )


# Clocks ------------------------------------------------------------------------------------------------------------------------


def asked(cache: Cache, key: str = "k", **options: Any) -> tuple[Any, list[str]]:
    listener = RecordingListener()
    workflow = create_workflow(cache=cache, on_event=listener)
    given = workflow(lambda step: step(lambda: f"at {cache.clock():.0f}", key=key, **options)).unwrap()
    return given, ["hit"] if listener.of(StepHit) else listener.reasons(key)


def test_c5_an_entry_of_the_future_is_shown_as_new_and_is_over_for_who_has_a_ttl(tmp_path: Path) -> None:
    clock = SettableClock(at=1e9)
    cache = clock.drive(Cache(tmp_path))
    clock.at = 1e9 + 10 * DAY_S
    assert asked(cache, ttl=60)[1] == ["new"]
    clock.at = 1e9  # set right
    assert asked(cache) == (f"at {1e9 + 10 * DAY_S:.0f}", ["hit"])
    (meta,) = cache.entries()
    assert meta.created == 1e9
    assert asked(cache, ttl=60) == (f"at {1e9:.0f}", ["expired"])
    assert asked(cache, ttl=60) == (f"at {1e9:.0f}", ["hit"])


def test_c5_a_clock_that_leaps_ahead_and_comes_back_expires_and_keeps_anew(tmp_path: Path) -> None:
    clock = SettableClock(at=1e9)
    cache = clock.drive(Cache(tmp_path))
    assert asked(cache, ttl=HOUR_S)[1] == ["new"]
    clock.at += 2 * HOUR_S
    assert asked(cache, ttl=HOUR_S)[1] == ["expired"]
    clock.at = 1e9 + 1
    assert asked(cache, ttl=HOUR_S)[1] == ["expired"]
    clock.at += HOUR_S - 1
    assert asked(cache, ttl=HOUR_S)[1] == ["hit"]
    clock.at += 1
    assert asked(cache, ttl=HOUR_S)[1] == ["expired"]
    assert cache.undo("k") == ["k"]
    assert cache.get("k") == f"at {1e9 + 1:.0f}"


class Nanoseconds:
    """A disk store's clock."""

    def __init__(self, clock: SettableClock) -> None:
        self._clock = clock

    def __call__(self) -> int:
        return int(self._clock.at * 1e9)


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock(at=1.7e9)


@pytest.fixture
def opened(tmp_path: Path, clock: SettableClock) -> Callable[[], Cache]:
    """A cache all of whose clocks are ours, opened as another kernel would."""

    def open_again() -> Cache:
        cache = clock.drive(Cache(tmp_path))
        store = DiskStore(tmp_path, clock=Nanoseconds(clock))
        cache._entries.store = store  # type: ignore[assignment]
        return cache

    return open_again


def test_c2_what_went_to_the_trash_in_the_future_waits_24_hours_from_now_and_no_more(
    opened: Callable[[], Cache], clock: SettableClock
) -> None:
    cache = opened()
    clock.advance(10 * DAY_S)
    for n in range(3):
        cache.set("k", n)
    clock.at -= 10 * DAY_S  # set right
    other = opened()
    other.gc()
    assert other.trash().entries == 2
    cache.set("k", "now")
    assert (other.undo("k"), other.get("k")) == (["k"], 2)  # what was replaced last
    assert (other.undo("k"), other.get("k")) == (["k"], "now")
    clock.advance(DAY_S - 60)
    other.gc()
    assert other.trash().entries == 3
    clock.advance(2 * HOUR_S)
    other.gc()
    assert (other.trash().entries, other.get("k")) == (0, "now")


def test_c2_what_went_to_the_trash_in_the_future_keeps_its_order(
    opened: Callable[[], Cache], clock: SettableClock
) -> None:
    cache = opened()
    clock.advance(10 * DAY_S)
    for n in range(4):
        cache.set("k", n)
    clock.at -= 10 * DAY_S  # set right
    other = opened()
    other.gc()
    assert (other.undo("k"), other.get("k")) == (["k"], 2)


def test_unfinished_files_of_the_future_are_collected(
    opened: Callable[[], Cache], clock: SettableClock, tmp_path: Path
) -> None:
    cache = opened()
    cache.set("k", 1)
    temp = tmp_path / "v1" / "tmp" / f"{'a' * 24}.1.elsewhere"
    temp.write_text("x")
    os.utime(temp, (clock.at + 400 * DAY_S,) * 2)
    cache.gc()
    assert not temp.exists()
    assert cache.get("k") == 1


def test_c6_evicting_goes_on_when_the_clock_leaps(tmp_path: Path) -> None:
    clock = SettableClock(at=1e9)
    cache = clock.drive(Cache(tmp_path, max_bytes=200_000))
    for n in range(6):
        clock.at = 1e9 + n * 30 * DAY_S
        cache.set(f"k{n}", os.urandom(40_000))
    assert sum(meta.size_bytes for meta in cache.entries()) + cache.trash().size_bytes <= 200_000
    assert "k5" in cache
    clock.at = 1e9
    for n in range(6, 12):
        cache.set(f"k{n}", os.urandom(40_000))
    assert "k11" in cache


# Keys --------------------------------------------------------------------------------------------------------------------------

HOSTILE: Final = [
    "a\x00b", "..", ".", "/", "../../etc/passwd", "/etc/passwd", "C:\\x", "\\\\host\\share", "CON", "nul.txt", "a" * 4096, " ",
    "a ", "a.", "\u202egpj.exe", "\x1b[2J", "\n", "<script>", "%s%n", "*", "?", "[a]", "~", "$HOME", "`id`",
    "\u00e9", "e\u0301", "A", "a", "\u00df", "SS", "ss", "\u0130", "i\u0307", "\ufb01", "fi", "K", "\u212a",
    "\U0001f600", "\ufeffa", "\U0010ffff",
]  # fmt: skip


def test_k6_hostile_keys_are_each_a_key_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    cache = Cache(tmp_path / "cache")
    for n, key in enumerate(HOSTILE):
        cache.set(key, n)
    assert sorted(cache) == sorted(HOSTILE)
    assert [Cache(cache.directory).get(key) for key in HOSTILE] == list(range(len(HOSTILE)))
    names = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert all(name.isascii() and len(name) < 80 for name in names)
    assert cache.verify().bits == 0
    for n, key in enumerate(HOSTILE):
        assert cache.delete(key), key
        assert len(cache) == len(HOSTILE) - n - 1
    for n, key in enumerate(HOSTILE):
        assert cache.undo(key) == [key]
        assert cache.get(key) == n
    assert cache.clear() == len(HOSTILE)
    assert sorted(cache.undo()) == sorted(HOSTILE)
    assert (tmp_path / "victim").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "victim"]


@pytest.mark.parametrize("key", ["\ud800", "a" * 4097, "é" * 2049, ""])
def test_k6_what_is_no_key_is_refused_before_anything_runs(tmp_path: Path, key: str) -> None:
    cache = Cache(tmp_path)
    ran: list[int] = []
    with pytest.raises(ValueError, match="key"):
        create_workflow(cache=cache)(lambda step: step(ran.append, 1, key=key))
    for act in (lambda key: cache.set(key, 1), cache.get, cache.has, cache.delete, cache.undo):
        with pytest.raises(ValueError, match="key"):
            act(key)
    assert ran == []
    assert key not in cache


@pytest.mark.parametrize("count", [100_000 if LONG else 1_000])
def test_very_many_keys(tmp_path: Path, count: int) -> None:
    cache = Cache(tmp_path)
    for n in range(count):
        cache.set(f"{n % 10}:{n}", n)
    other = Cache(tmp_path)
    assert len(other) == count
    assert other.delete_matching("3:*") == count // 10
    assert len(cache) == count - count // 10
    assert len(cache.undo()) == count // 10
    assert [other.get(f"{n % 10}:{n}") for n in range(0, count, 97)] == list(range(0, count, 97))
    assert other.verify().bits == 0
    assert cache.clear() == count
    assert (len(other), cache.trash().entries) == (0, count)
    assert len(other.undo()) == count
    assert cache.empty_trash() == 0
