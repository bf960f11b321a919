"""`max_bytes` and the last bytes of a disk (C6): least recently used go first, the value always reaches the user (C3)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_rows import a_meta
from shells import open_shell

from nbstep.cache.cache import Cache
from nbstep.cache.limit import Use, choose, use_of
from nbstep.cache.records import Facts, Kept, Miss, NotKept
from nbstep.commands.verbs import run_command
from nbstep.errors import CachedError
from nbstep.events import Place, RunFinished, RunStarted, StepAsked, StepFinished, StepHit
from nbstep.result import Ok
from nbstep.runlog import Recorder, runs_directory
from nbstep.stores.base import Spot, run_now
from nbstep.stores.disk import DiskStore
from nbstep.testing import RecordingListener, SettableClock
from nbstep.workflows import create_workflow

FACTS = Facts(took_s=1.0)
KB = 1000


def limited(where: Any, max_bytes: int | str, clock: SettableClock) -> Cache:
    return clock.drive(Cache(where, max_bytes=max_bytes, previews=False))


def fill(cache: Cache, clock: SettableClock, *keys: str, size: int = 8 * KB) -> list[Any]:
    kept: list[Any] = []
    for key in keys:
        kept.append(run_now(cache.keep(key, Ok(os.urandom(size)), FACTS)))
        clock.advance("10m")
    return kept


def reason(cache: Cache, key: str) -> str:
    found = run_now(cache.look_up(key))
    return found.reason if isinstance(found, Miss) else "hit"


def log_hit(cache: Cache, key: str, at: float) -> None:
    assert cache.directory is not None
    record = Recorder(runs_directory(cache.directory))
    record(RunStarted("r", at, None, Place(), "normal", cache.place))
    record(StepAsked("r", 0, key, Place(), at))
    record(StepHit("r", 0, key, "ok", at, at, 1.5, 10))
    record(RunFinished("r", at, "ok", 1.0))


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock(at=time.time() - 10 * 86400)


def test_c6_the_least_recently_used_goes_first_by_hits_of_this_process(tmp_path: Path, clock: SettableClock) -> None:
    cache = limited(tmp_path / "c", 50 * KB, clock)
    fill(cache, clock, "a", "b", "c", "d", "e")
    assert reason(cache, "a") == "hit"
    clock.advance("10m")
    fill(cache, clock, "f")
    assert {key: reason(cache, key) for key in "abcdef"} == {
        "a": "hit", "b": "evicted", "c": "hit", "d": "hit", "e": "hit", "f": "hit",
    }  # fmt: skip


def test_c6_the_run_log_says_what_other_runs_used(tmp_path: Path, clock: SettableClock) -> None:
    fill(limited(tmp_path / "c", 50 * KB, clock), clock, "a", "b", "c", "d", "e")
    again = limited(tmp_path / "c", 50 * KB, clock)
    log_hit(again, "a", clock())
    clock.advance("10m")
    fill(again, clock, "f")
    assert (reason(again, "a"), reason(again, "b"), reason(again, "c")) == ("hit", "evicted", "hit")


def test_c6_a_miss_says_evicted_in_every_kernel_until_the_key_is_kept_again(
    tmp_path: Path, clock: SettableClock
) -> None:
    cache = limited(tmp_path / "c", 30 * KB, clock)
    fill(cache, clock, "a", "b", "c", "d")
    assert (reason(Cache(tmp_path / "c"), "a"), reason(Cache(tmp_path / "c"), "z")) == ("evicted", "new")
    listener = RecordingListener()
    workflow = create_workflow(cache=cache, on_event=listener)
    assert workflow(lambda step: step(lambda: 1, key="a")).value == 1
    assert listener.reasons("a") == ["evicted"]
    assert reason(cache, "a") == "hit"
    cache.delete("a")
    assert reason(cache, "a") == "deleted"
    cache.empty_trash()
    assert reason(cache, "a") == "new"


def test_c6_what_was_evicted_is_gone_for_good_and_the_cache_is_within_its_limit(
    tmp_path: Path, clock: SettableClock
) -> None:
    cache = limited(tmp_path / "c", "50 KB", clock)
    fill(cache, clock, *(f"k{n}" for n in range(30)))
    files = [path for path in (tmp_path / "c" / "v1").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 50 * KB
    assert 3 <= len(cache) <= 6
    assert cache.undo() == []


def test_c2_the_trash_goes_before_any_entry(tmp_path: Path, clock: SettableClock) -> None:
    cache = limited(tmp_path / "c", 50 * KB, clock)
    fill(cache, clock, "a", "b", "c", "d", "e")
    cache.delete_many(["d", "e"])
    fill(cache, clock, "f")
    assert {key: reason(cache, key) for key in "abcdef"} == {
        "a": "hit", "b": "hit", "c": "hit", "d": "new", "e": "new", "f": "hit",
    }  # fmt: skip


def test_c3_an_entry_larger_than_half_the_limit_is_not_kept_and_evicts_nothing(
    tmp_path: Path, clock: SettableClock
) -> None:
    cache = limited(tmp_path / "c", 50 * KB, clock)
    fill(cache, clock, "a", "b")
    (not_kept,) = fill(cache, clock, "big", size=30 * KB)
    assert isinstance(not_kept, NotKept)
    assert not_kept.why.startswith("it takes 31 KB, more than half of max_bytes=50 KB")
    assert sorted(cache.keys()) == ["a", "b"]


def test_c6_a_run_that_does_not_fit_keeps_what_it_used_last(tmp_path: Path, clock: SettableClock) -> None:
    cache = limited(tmp_path / "c", 30 * KB, clock)
    listener = RecordingListener()
    workflow = create_workflow(cache=cache, on_event=listener)

    def body(step: Any) -> list[int]:
        return [len(step(os.urandom, 8 * KB, key=f"k{n}")) for n in range(10)]

    assert workflow(body).value == [8 * KB] * 10
    assert sorted(cache.keys()) == ["k7", "k8", "k9"]
    (finding,) = listener.findings()
    assert finding.startswith("k0, k1, k2, k3, k4 and 2 more evicted by later steps of the same run: it needs 8")
    assert {reason(cache, f"k{n}") for n in range(7)} == {"evicted"}


def test_c6_the_older_of_one_minute_go_first_and_a_hit_counts(tmp_path: Path, clock: SettableClock) -> None:
    cache = limited(tmp_path / "c", 30 * KB, clock)
    for key in "abc":
        run_now(cache.keep(key, Ok(os.urandom(8 * KB)), FACTS))
        clock.advance("1s")
    assert reason(cache, "a") == "hit"
    clock.advance("1s")
    run_now(cache.keep("d", Ok(os.urandom(8 * KB)), FACTS))
    assert {key: reason(cache, key) for key in "abcd"} == {"a": "hit", "b": "evicted", "c": "hit", "d": "hit"}


def test_e6_what_is_replaced_under_a_limit_is_evicted_last(tmp_path: Path, clock: SettableClock) -> None:
    cache = limited(tmp_path / "c", 30 * KB, clock)
    fill(cache, clock, "a", "b", "c", "a")
    assert {key: reason(cache, key) for key in "abc"} == {"a": "hit", "b": "evicted", "c": "hit"}
    assert cache.undo("a") == ["a"]


@pytest.mark.parametrize("days", [1, 400])
def test_c6_a_clock_that_is_set_far_back_evicts_what_the_wrong_one_wrote(
    tmp_path: Path, clock: SettableClock, days: int
) -> None:
    cache = limited(tmp_path / "c", 50 * KB, clock)
    clock.at = time.time()  # what the files' own times are
    for key in ("x", "y", "z", "used"):
        run_now(cache.keep(key, Ok(os.urandom(8 * KB)), FACTS))
    clock.at -= days * 86400
    cache = limited(tmp_path / "c", 50 * KB, clock)
    assert reason(cache, "used") == "hit"
    clock.advance("1s")
    for key in "abcd":
        run_now(cache.keep(key, Ok(os.urandom(8 * KB)), FACTS))
        clock.advance("1s")
    assert sorted(cache.keys()) == ["a", "b", "c", "d", "used"]


def test_counting_looks_at_the_folder_rarely(
    tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = limited(tmp_path / "c", "1 GB", clock)
    looked: list[int] = []
    real = DiskStore.spots

    async def spots(self: DiskStore) -> list[Spot]:
        looked.append(1)
        return await real(self)

    monkeypatch.setattr(DiskStore, "spots", spots)
    fill(cache, clock, *(f"k{n}" for n in range(100)), size=10)
    assert len(looked) == 1


def test_a_damaged_entry_counts_and_goes_first(tmp_path: Path, clock: SettableClock) -> None:
    cache = limited(tmp_path / "c", 50 * KB, clock)
    fill(cache, clock, "a", "b", "c", "d", "e")
    (path,) = [path for path in (tmp_path / "c" / "v1" / "e").glob("*/*") if b'"key":"d"' in path.read_bytes()]
    path.write_bytes(b"x" * path.stat().st_size)
    fill(limited(tmp_path / "c", 50 * KB, clock), clock, "f")
    assert not path.exists()
    assert sorted(cache.keys()) == ["a", "b", "c", "e", "f"]


@pytest.mark.parametrize("where", ["memory:", {}])
def test_a_cache_in_memory_may_have_a_limit_too(where: Any, clock: SettableClock) -> None:
    cache = limited(where, 30 * KB, clock)
    fill(cache, clock, "a", "b", "c", "d")
    assert (reason(cache, "a"), reason(cache, "d")) == ("evicted", "hit")


@pytest.mark.parametrize(
    ("max_bytes", "error"), [(0, ValueError), ("lots", ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_w2_a_limit_that_is_none_is_said_at_once(max_bytes: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="max_bytes="):
        Cache("memory:", max_bytes=max_bytes)


def test_c6_a_time_far_ahead_says_nothing_of_the_use_of_an_entry() -> None:
    now = 1e9
    for ahead_s, used, last_used in [
        (-9.0, (), now - 9),
        (1800.0, (), now + 1800),  # another machine's clock
        (3601.0, (), 0.0),
        (3601.0, (now - 20, 0.0), now - 20),
        (-9.0, (now + 1800,), now + 1800),
        (-9.0, (now + 3601, now - 1), now - 1),
    ]:
        meta = a_meta("k", created=now + min(ahead_s, 0.0), ahead_s=max(ahead_s, 0.0))
        assert use_of(Spot("a"), meta, now, *used).last_used == last_used, (ahead_s, used)


def test_c6_an_entry_used_by_a_clock_far_ahead_does_not_stay_while_each_new_one_goes(
    tmp_path: Path, clock: SettableClock
) -> None:
    cache = limited(tmp_path / "c", 40 * KB, clock)
    fill(cache, clock, "a", "b", "c", "d")
    log_hit(cache, "a", clock.at + 86_400)
    fill(limited(tmp_path / "c", 40 * KB, clock), clock, "e")
    assert "a" not in cache
    assert "e" in cache


@given(
    st.lists(st.tuples(st.integers(1, 100), st.floats(0, 1000), st.floats(0, 1000))),
    st.integers(1, 500),
    st.integers(0, 100),
)
def test_choose_takes_as_few_of_the_longest_unused_as_it_needs(
    described: list[tuple[int, float, float]], excess: int, more: int
) -> None:
    uses = [
        Use(Spot(str(n)), str(n), size, min(created, used), used) for n, (size, created, used) in enumerate(described)
    ]
    chosen = choose(uses, excess, excess + more)
    if chosen is None:
        assert sum(use.size_bytes for use in uses) < excess
        return
    assert sum(use.size_bytes for use in chosen) >= excess
    assert sum(use.size_bytes for use in chosen[:-1]) < excess + more
    stay = [use for use in uses if use not in chosen]
    assert max((use.last_used for use in chosen), default=0) <= min((use.last_used for use in stay), default=1000)


# A real small disk --------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 20 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("this system mounts no tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_c6_a_tenth_of_a_small_disk_stays_free_the_values_arrive_and_one_line_says_what_to_do(small_disk: Path) -> None:
    cache = Cache(small_disk / ".nbstep")
    listener = RecordingListener()
    workflow = create_workflow(cache=cache, on_event=listener)

    def body(step: Any) -> list[int]:
        return [len(step(os.urandom, 3_000_000, key=f"k{n}")) for n in range(10)]

    assert workflow(body).value == [3_000_000] * 10
    room = os.statvfs(small_disk)
    assert room.f_bavail * room.f_frsize >= room.f_blocks * room.f_frsize // 10
    assert 5 <= len(cache) < 10
    finding, in_all = listener.findings()
    assert "was not kept: the disk of" in finding
    place = f"--cache {small_disk / '.nbstep'}"
    assert (
        f"make room with nbstep rm {place} KEY (what is kept: nbstep ls {place}), "
        "or let NBSTEP_DIR, or cache=, name a folder on a larger disk"
    ) in finding
    unkept = [f"k{n}" for n in range(10) if f"k{n}" not in cache]
    told = [event.not_kept for event in listener.of(StepFinished) if event.not_kept]
    assert len(told) == len(unkept)
    assert all(text.startswith("the disk of") and f"make room with nbstep rm {place} KEY" in text for text in told)
    assert in_all == f"In all, {len(unkept)} results were not kept: {', '.join(unkept)}"
    assert f"not kept  {len(unkept)} results" in run_command("doctor", cache=cache).text
    assert run_command("gc --unused 30d", cache=cache).text.endswith(
        "See what is kept: nbstep ls; delete: nbstep rm KEY"
    )


def test_c6_a_full_disk_is_told_in_a_notebook_with_its_commands(small_disk: Path, tmp_path: Path) -> None:
    with open_shell(tmp_path) as shell:
        shell.good(f"from nbstep import Cache\nimport os\ncache = Cache({str(small_disk / '.nbstep')!r})")
        ran = shell.good('%%workflow big --cache $cache\nx = step(os.urandom, 19_000_000, key="k")')
    assert ran.text.count("not kept: the disk of") == 1  # in the line below, not in its row
    assert "k was not kept: the disk of" in ran.text
    place = f"--cache {small_disk / '.nbstep'}"
    assert f"make room with %nbstep rm {place} KEY (what is kept: %nbstep ls {place}), or let NBSTEP_DIR" in ran.text
    (row,) = (line for line in ran.text.splitlines() if line.split()[:2] == ["✓", "k"])
    assert "not kept " in row


def test_c6_a_full_disk_is_told_in_python_with_calls(small_disk: Path) -> None:
    cache = Cache(small_disk / ".nbstep")
    with pytest.raises(ValueError, match="not kept") as caught:
        cache.set("k", os.urandom(19_000_000))
    told = str(caught.value)
    assert told.startswith(f"'k' was not kept: the disk of {cache.place} has ")
    assert told.endswith(
        "make room with cache.delete(key) (what is kept: cache.keys()), "
        "or let NBSTEP_DIR, or Cache(folder), name a folder on a larger disk"
    )


def test_c6_a_full_disk_empties_the_trash_first(small_disk: Path) -> None:
    cache = Cache(small_disk / ".nbstep")
    for n in range(5):
        cache.set(f"k{n}", os.urandom(3_000_000))
    cache.delete_many(["k0", "k1"])
    cache.set("new", os.urandom(5_000_000))
    assert sorted(cache.keys()) == ["k2", "k3", "k4", "new"]
    assert cache.trash().entries == 0


@pytest.mark.parametrize("trashed", [True, False])
def test_c6_a_quota_that_ends_while_writing_empties_the_trash_too(small_disk: Path, trashed: bool) -> None:
    store = DiskStore(small_disk / ".nbstep", keep_free_bytes=-(10**9))  # it believes there is always room

    def put(key: str, size: int) -> None:
        run_now(store.publish(key, "0" * 8, [os.urandom(size)], durable=False, batch="b"))

    put("a", 12_000_000)
    if trashed:
        run_now(store.remove(["a"], "b"))
        put("b", 12_000_000)
        assert run_now(store.trash()).entries == 0
    else:
        with pytest.raises(OSError, match="make room with"):
            put("b", 12_000_000)
        assert [spot.size_bytes for spot in run_now(store.spots())] == [12_000_000]
    assert list((small_disk / ".nbstep" / "v1" / "tmp").iterdir()) == []


def test_c3_a_disk_that_fills_up_while_an_error_is_kept_raises_the_original_error(small_disk: Path) -> None:
    cache = Cache(small_disk / ".nbstep")
    (small_disk / "other").write_bytes(bytes(18_500_000))
    workflow = create_workflow(cache=cache)

    def fails() -> None:
        raise LookupError("the real one")

    result = workflow(lambda step: step(fails, key="k"))
    assert (type(result.error), str(result.error)) == (LookupError, "the real one")
    assert not isinstance(result.error, CachedError)


def test_kept_is_said_where_there_is_room(tmp_path: Path, clock: SettableClock) -> None:
    kept: Callable[..., Any] = limited(tmp_path / "c", "1 GB", clock).keep
    assert isinstance(run_now(kept("k", Ok(1), FACTS)), Kept)


def run_of_six(cache: Cache) -> list[str]:
    """The findings of a run whose six entries take 404 KB each."""
    listener = RecordingListener()
    workflow = create_workflow(cache=cache, on_event=listener)
    body = lambda step: [step(lambda: os.urandom(400 * KB), key=f"k{n}") and None for n in range(1, 7)]
    assert workflow(body).ok
    return listener.findings()


def test_c6_a_run_that_pushes_out_its_own_entries_says_so_in_one_line(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", max_bytes="2 MB", previews=False)
    for _ in range(2):
        (finding,) = run_of_six(cache)
        assert finding == (
            "k1, k2 evicted by later steps of the same run: it needs 2.4 MB, max_bytes is 2.0 MB. "
            "Raise max_bytes, or each run computes anew"
        )
    assert run_of_six(Cache(tmp_path / "d", max_bytes="3 MB")) == []


def test_c6_what_another_run_left_is_evicted_without_a_word(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", max_bytes="2 MB")
    cache.set("old", os.urandom(900 * KB))
    listener = RecordingListener()
    workflow = create_workflow(cache=cache, on_event=listener)
    workflow(lambda step: [step(lambda: os.urandom(900 * KB), key=f"k{n}") and None for n in range(2)])
    workflow(lambda step: [step(lambda: os.urandom(900 * KB), key=f"k{n}") and None for n in range(2)])
    assert (listener.findings(), sorted(cache)) == ([], ["k0", "k1"])


def test_c6_the_limit_is_shown(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", max_bytes="2 MB")
    cache.set("a", 1)
    assert repr(cache).endswith("/c', max_bytes='2.0 MB')")
    assert " B of at most 2.0 MB · " in run_command("ls", cache=cache).text
    assert "limit     max_bytes 2.0 MB, trash included" in run_command("doctor", cache=cache).text
    assert "max_bytes" not in run_command("doctor", cache=Cache(tmp_path / "c")).text


def test_c6_the_limit_holds_for_all_processes_that_have_it(tmp_path: Path, clock: SettableClock) -> None:
    """Each cache here counts for itself, as one of another process does."""
    caches = [limited(tmp_path / "c", 200 * KB, clock) for _ in range(4)]
    for n in range(30):
        for i, cache in enumerate(caches):
            run_now(cache.keep(f"{i}:{n}", Ok(os.urandom(5 * KB)), FACTS))
        held = sum(path.lstat().st_size for path in (tmp_path / "c" / "v1" / "e").rglob("*") if path.is_file())
        assert held <= 200 * KB
