"""`Cache.gc()` and `nbstep gc`: what nobody needs goes, nothing else does (T7)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from nbstep.cache.cache import Cache
from nbstep.cache.upkeep import Collected
from nbstep.commands.tables import Screen
from nbstep.commands.verbs import run_command
from nbstep.events import Place, RunFinished, RunStarted, StepAsked, StepHit
from nbstep.runlog import KEPT_RUNS, Recorder, runs_directory
from nbstep.stores import files
from nbstep.stores.base import Totals
from nbstep.stores.disk import DiskStore
from nbstep.testing import SettableClock

NONE = Totals(0, 0)
DAY = 86400.0


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock(at=time.time())


@pytest.fixture
def cache(tmp_path: Path, clock: SettableClock) -> Cache:
    made = clock.drive(Cache(tmp_path / "c"))
    for key in ("a", "b", "c"):
        made.set(key, key)
    return made


def log_hit(cache: Cache, key: str, at: float) -> None:
    assert cache.directory is not None
    record = Recorder(runs_directory(cache.directory))
    record(RunStarted("r", at, None, Place(), "normal", cache.place))
    record(StepAsked("r", 0, key, Place(), at))
    record(StepHit("r", 0, key, "ok", at, at, 1.5, 10))
    record(RunFinished("r", at, "ok", 1.0))


def test_entries_that_nothing_used_go_to_the_trash_and_come_back(cache: Cache, clock: SettableClock) -> None:
    clock.advance("20d")
    log_hit(cache, "b", clock())
    clock.advance("20d")
    cache.set("d", 1)
    sizes = {meta.key: meta.size_bytes for meta in cache.entries()}
    wanted = Collected(NONE, NONE, NONE, Totals(2, sizes["a"] + sizes["c"]), ("a", "c"))
    assert cache.gc(unused="30d", dry_run=True) == wanted
    assert len(cache) == 4
    assert cache.gc(unused="30d") == wanted
    assert cache.keys() == ["b", "d"]
    assert sorted(cache.undo()) == ["a", "c"]
    assert cache.gc() == Collected(NONE, NONE, NONE, NONE, ())


def test_an_entry_that_cannot_be_read_is_as_old_as_its_file(cache: Cache, clock: SettableClock, tmp_path: Path) -> None:
    old, new, _ = sorted((tmp_path / "c" / "v1" / "e").glob("*/*"))
    for path, age_s in ((old, 40 * DAY), (new, 0.0)):
        path.write_bytes(b"garbage")
        os.utime(path, (clock() - age_s,) * 2)
    assert cache.gc(unused="30d").unused == Totals(1, 7)
    assert (old.exists(), new.exists()) == (False, True)


def test_unfinished_files_of_dead_processes_go_others_stay(cache: Cache, clock: SettableClock, tmp_path: Path) -> None:
    temps = tmp_path / "c" / "v1" / "tmp"
    host = files.temp_name().rpartition(".")[2]
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    ages = {
        f"{'a' * 24}.{dead.pid}.{host}": 400,
        f"{'b' * 24}.{os.getpid()}.{host}": 400,
        f"{'c' * 24}.{dead.pid}.elsewhere": 400,
        f"{'d' * 24}.{os.getpid()}.elsewhere": 90_000,
        "not-ours": 90_000,
    }
    for name, age_s in ages.items():
        (temps / name).write_bytes(b"12345")
        os.utime(temps / name, (clock() - age_s,) * 2)
    assert cache.gc(dry_run=True).unfinished == Totals(2, 10)
    assert len(list(temps.iterdir())) == 5
    assert cache.gc().unfinished == Totals(2, 10)
    assert sorted(path.name[0] for path in temps.iterdir()) == ["b", "c", "n"]


def test_trash_goes_after_a_day(tmp_path: Path) -> None:
    now = [time.time_ns()]
    store = DiskStore(tmp_path / "c", clock=lambda: now[0])
    cache = Cache(tmp_path / "c")
    cache._entries.store = store
    cache.set("k", 1)
    size = cache.entries()[0].size_bytes
    cache.delete("k")
    assert cache.gc().trashed == NONE
    now[0] += int(DAY + 1) * 10**9
    assert cache.gc(dry_run=True).trashed == Totals(1, size)
    assert cache.gc().trashed == Totals(1, size)
    assert (cache.trash().entries, len(list((tmp_path / "c" / "v1" / "e").glob("*/*")))) == (0, len(cache))


def test_old_run_logs_go(cache: Cache, tmp_path: Path) -> None:
    folder = tmp_path / "c" / "v1" / "runs"
    folder.mkdir()
    for n in range(KEPT_RUNS + 3):
        (folder / f"{n:016d}-ab-1.json").write_text("{}")
    (folder / ".mine").write_text("{}")
    assert cache.gc(dry_run=True).logs == Totals(3, 6)
    assert cache.gc().logs == Totals(3, 6)
    left = {path.name for path in folder.iterdir()}
    assert len(left) == KEPT_RUNS + 1
    assert {"0000000000000003-ab-1.json", ".mine"} <= left


@pytest.mark.skipif(sys.platform == "win32", reason="links of POSIX")
@pytest.mark.parametrize("folder", ["tmp", "trash", "runs", "evicted", "e"])
def test_t7_no_link_is_followed(cache: Cache, tmp_path: Path, folder: str) -> None:
    cache.delete("a")
    inside, outside = tmp_path / "c" / "v1" / folder, tmp_path / "outside"
    outside.mkdir()
    names = [
        f"{'a' * 24}.1.elsewhere", "0" * 64,
        *(f"{n:016d}-ab-1.json" for n in range(KEPT_RUNS + 3)),
    ]  # fmt: skip
    for name in names:
        (outside / name).write_text("mine")
        os.utime(outside / name, (0, 0))
    nested = outside / ("0" * 16 if folder == "trash" else "00")
    nested.mkdir()
    (nested / ("0" * 64 + ".00000000" + (".0000000000000001" if folder == "trash" else ""))).write_text("mine")
    if inside.exists():
        inside.rename(tmp_path / "aside")
    inside.symlink_to(outside, target_is_directory=True)
    before = sorted(outside.rglob("*"))
    with suppress(OSError):  # a trash that leads elsewhere is no trash
        cache.gc(unused=0)
    assert sorted(outside.rglob("*")) == before


def test_gc_says_what_went_and_how_to_undo(cache: Cache, clock: SettableClock) -> None:
    clock.advance("40d")
    assert run_command("gc", cache=cache).text.startswith("Nothing to remove in ")
    dry = run_command("gc --unused 30d --dry-run", cache=cache).text
    assert dry.startswith("Would go to the trash: 3 entries (")
    assert len(cache) == 3
    done = run_command("gc --unused 30d", cache=cache, screen=Screen(notebook=True)).text.splitlines()
    assert done[0].startswith("To the trash: 3 entries (")
    assert done[0].endswith("unused for 30 d: a, b, c. Undo: %nbstep undo")
    assert done[1].startswith("In the trash: 3 entries, ")
    assert len(cache) == 0


@pytest.mark.parametrize("command", ["gc --unused soon", "gc --unused", "gc a", "gc --unused=-1"])
def test_wrong_usage_of_gc_removes_nothing(cache: Cache, command: str) -> None:
    outcome = run_command(command, cache=cache)
    assert (outcome.wrong_usage, "\n" in outcome.text) == (True, False)
    assert len(cache) == 3


def test_gc_of_a_cache_in_memory(clock: SettableClock) -> None:
    cache = clock.drive(Cache("memory:"))
    cache.set("old", 1)
    clock.advance("40d")
    cache.set("new", 1)
    assert cache.gc(unused="30d").unused_keys == ("old",)
    assert cache.keys() == ["new"]
    assert cache.undo() == ["old"]
