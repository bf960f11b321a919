"""A folder in front of a shared cache: read through, written to both, never held up by the far one (C1 to C3)."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbstep.cache.cache import Cache
from nbstep.cache.records import Hit, Miss
from nbstep.commands.verbs import run_command
from nbstep.errors import CacheDirectoryError
from nbstep.result import Err, Ok
from nbstep.stores.base import NotEverywhere, ReadOnly, run_now
from nbstep.stores.disk import DiskStore
from nbstep.testing import AsyncMemoryStore, MemoryStore, RecordingListener, SettableClock, check_store, create_workflow

_numbers = itertools.count(1)


class Flaky(MemoryStore):
    """A shared store that counts what is asked, and that can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.calls: list[str] = []

    def _asked(self, what: str) -> None:
        self.calls.append(what)
        if self.away:
            raise ConnectionError("connection refused")

    def get(self, key: str) -> bytes | None:
        self._asked(f"get {key}")
        return super().get(key)

    def set(self, key: str, value: bytes) -> None:
        self._asked(f"set {key}")
        super().set(key, value)

    def has(self, key: str) -> bool:
        self._asked(f"has {key}")
        return super().has(key)

    def delete(self, key: str) -> bool:
        self._asked(f"delete {key}")
        return super().delete(key)

    def keys(self) -> list[str]:
        self._asked("keys")
        return super().keys()


@pytest.fixture(params=["object", "file system"])
def shared(request: pytest.FixtureRequest) -> Any:
    return Flaky() if request.param == "object" else f"memory://tier-{next(_numbers)}/team"


def reason(cache: Cache, key: str) -> str:
    found = run_now(cache.look_up(key, insist=True))
    return found.reason if isinstance(found, Miss) else "hit"


def run_steps(cache: Cache, keys: list[str], listener: RecordingListener | None = None) -> list[str]:
    """The keys whose thunks ran."""
    ran: list[str] = []

    def thunk(key: str) -> str:
        ran.append(key)
        return key.upper()

    workflow = create_workflow(cache=cache, on_event=listener)
    assert workflow(lambda step: [step(thunk, key, key=key) for key in keys]) == Ok([key.upper() for key in keys])
    return ran


def test_c1_a_tier_keeps_the_contract_of_stores(tmp_path: Path) -> None:
    check_store(Cache([tmp_path / "near", f"memory://tier-{next(_numbers)}/team"]))


def test_c1_what_is_kept_is_in_both_and_what_is_far_is_kept_near_when_it_is_loaded(tmp_path: Path, shared: Any) -> None:
    ours, theirs = Cache([tmp_path / "ours", shared]), Cache([str(tmp_path / "theirs"), shared])
    ours.set("user:1", {"name": "Ada"})
    assert Cache(tmp_path / "ours").get("user:1") == Cache(shared).get("user:1") == {"name": "Ada"}
    assert (theirs.has("user:1"), Cache(tmp_path / "theirs").keys()) == (True, [])  # looked at, not loaded
    assert theirs.get("user:1") == {"name": "Ada"}
    assert Cache(tmp_path / "theirs").get("user:1") == {"name": "Ada"}
    assert ours.place == f"{Cache(tmp_path / 'ours').place} + {Cache(shared).place}"
    assert ours.directory == tmp_path / "ours"


def test_c1_a_hit_near_asks_the_far_store_nothing(tmp_path: Path) -> None:
    shared = Flaky()
    cache = Cache([tmp_path, shared])
    run_steps(cache, ["a", "b"])
    shared.calls.clear()
    assert run_steps(cache, ["a", "b"]) == []
    assert shared.calls == []


def test_c2_a_list_names_each_key_once_wherever_it_stands(tmp_path: Path, shared: Any) -> None:
    cache = Cache([tmp_path / "near", shared])
    cache.set("both", 1)
    Cache(tmp_path / "near").set("near", 2)
    Cache(shared).set("far", 3)
    assert sorted(cache.keys()) == ["both", "far", "near"]
    assert sorted(meta.key for meta in cache.entries()) == ["both", "far", "near"]
    assert [cache.get(key) for key in ("both", "far", "near")] == [1, 3, 2]
    assert sorted(cache.keys()) == ["both", "far", "near"]
    verified = cache.verify()
    assert (verified.checked, verified.bad) == (3, ())
    rows = json.loads(run_command("ls --json", cache=cache).text)
    assert sorted(row["key"] for row in rows) == ["both", "far", "near"]


def test_c2_delete_and_undo_work_in_both_wherever_the_entry_stood(tmp_path: Path, shared: Any) -> None:
    cache = Cache([tmp_path / "near", shared])
    near, far = Cache(tmp_path / "near"), Cache(shared)
    cache.set("both", 1)
    far.set("far", 2)
    assert cache.delete("both")
    assert (near.has("both"), far.has("both"), reason(cache, "both")) == (False, False, "deleted")
    assert cache.undo() == ["both"]
    assert (near.get("both"), far.get("both")) == (1, 1)
    assert cache.delete("far")
    assert (far.has("far"), reason(cache, "far")) == (False, "deleted")
    assert cache.undo() == ["far"]
    assert (cache.get("far"), far.get("far")) == (2, 2)


def test_c2_undo_takes_back_the_last_delete_though_an_older_one_was_near(tmp_path: Path, shared: Any) -> None:
    cache = Cache([tmp_path / "near", shared])
    cache.set("older", 1)
    Cache(shared).set("far", 2)
    assert cache.delete("older")
    assert cache.delete("far")
    assert cache.undo() == ["far"]
    assert cache.undo("older") == ["older"]


def test_c2_clear_and_undo_take_all_of_both(tmp_path: Path) -> None:
    shared = f"memory://tier-{next(_numbers)}/team"
    cache = Cache([tmp_path / "near", shared])
    for key in ("a", "b"):
        cache.set(key, key)
    Cache(shared).set("far", "far")
    assert cache.clear() == 3
    assert (cache.keys(), Cache(shared).keys()) == ([], [])
    assert sorted(cache.undo()) == ["a", "b", "far"]
    assert sorted(Cache(shared).keys()) == ["a", "b", "far"]
    assert [cache.get(key) for key in ("a", "b", "far")] == ["a", "b", "far"]


def test_e6_undo_of_a_replacement_brings_the_old_value_back_in_both(tmp_path: Path, shared: Any) -> None:
    cache = Cache([tmp_path / "near", shared])
    cache.set("k", "old")
    cache.set("k", "new")
    assert (Cache(tmp_path / "near").get("k"), Cache(shared).get("k")) == ("new", "new")
    assert cache.undo("k") == ["k"]
    assert (cache.get("k"), Cache(shared).get("k")) == ("old", "old")


def test_c1_a_near_copy_is_used_though_somebody_deleted_the_far_one_and_refresh_writes_both(
    tmp_path: Path, shared: Any
) -> None:
    cache = Cache([tmp_path / "near", shared])
    cache.set("k", "A")
    Cache(shared).delete("k")
    assert cache.get("k") == "A"
    workflow = create_workflow(cache=cache)
    assert workflow(lambda step: step(lambda: "B", key="k", refresh=True)) == Ok("B")
    assert (Cache(tmp_path / "near").get("k"), Cache(shared).get("k")) == ("B", "B")


def test_c3_a_far_store_that_is_away_costs_one_call_and_one_line_and_no_value(tmp_path: Path) -> None:
    shared = Flaky()
    cache = Cache([tmp_path, shared])
    run_steps(cache, ["a"])
    shared.away = True
    shared.calls.clear()
    cache.store.far.breaker.clock = SettableClock(100.0)  # type: ignore[attr-defined]
    listener = RecordingListener()
    assert run_steps(cache, ["a", "b", "c"], listener) == ["b", "c"]
    assert len(shared.calls) == 1
    assert listener.findings() == [
        "Flaky did not answer just now (ConnectionError: connection refused); asked again in 1.0 s; "
        f"until then only {Cache(tmp_path).place} is used"
    ]
    assert run_steps(cache, ["a", "b", "c"]) == []
    assert len(shared.calls) == 1
    assert sorted(cache.keys()) == ["a", "b", "c"]


def test_c3_a_far_store_that_goes_away_while_a_step_runs_costs_no_value(tmp_path: Path) -> None:
    shared = Flaky()
    cache = Cache([tmp_path, shared])
    listener = RecordingListener()

    def work() -> int:
        shared.away = True
        return 42

    assert create_workflow(cache=cache, on_event=listener)(lambda step: step(work, key="k")) == Ok(42)
    (line,) = listener.findings()
    assert line.startswith("Flaky did not answer just now")
    assert cache.get("k") == 42


@pytest.mark.parametrize("side", ["near", "far"])
def test_c3_a_side_that_can_only_be_read_is_told_of_without_what_holds_of_it_alone(
    side: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Replica(MemoryStore):
        def set(self, key: str, value: bytes) -> None:
            raise ReadOnly("Replica is a replica", "Name the primary server")

    async def publish(*_: Any, **__: Any) -> None:
        raise ReadOnly("/near is read-only for you", "Name another folder")

    cache, listener = Cache([tmp_path, Replica() if side == "far" else MemoryStore()]), RecordingListener()
    if side == "near":
        monkeypatch.setattr(DiskStore, "publish", publish)
    assert run_steps(cache, ["a"], listener) == ["a"]
    near = "/near is read-only for you. Name another folder: it is kept in MemoryStore only"
    far = "Replica did not take it (Replica is a replica. Name the primary server): it is kept in "
    (line,) = listener.findings()
    assert line.startswith(f"a: {near if side == 'near' else far}")
    assert "nothing new" not in line


def test_c3_what_the_far_store_refuses_is_kept_near_and_told(tmp_path: Path) -> None:
    class Full(MemoryStore):
        def set(self, key: str, value: bytes) -> None:
            raise OSError("quota exceeded")

    cache = Cache([tmp_path, Full()])
    listener = RecordingListener()
    assert run_steps(cache, ["a", "b"], listener) == ["a", "b"]
    place = Cache(tmp_path).place
    assert listener.findings() == [f"a: Full did not take it (OSError: quota exceeded): it is kept in {place} only"]
    assert run_steps(cache, ["a", "b"]) == []


def test_c3_what_the_disk_refuses_is_kept_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = MemoryStore()
    cache = Cache([tmp_path, shared])

    async def refuse(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache._entries.store.near, "publish", refuse)  # pyright: ignore[reportAttributeAccessIssue]
    run_steps(cache, ["a"])
    assert Cache(shared).get("a") == "A"
    assert run_steps(cache, ["a"]) == []


def test_c2_a_delete_that_the_far_store_did_not_hear_of_is_told_and_does_not_come_back(tmp_path: Path) -> None:
    shared = Flaky()
    cache = Cache([tmp_path, shared])
    run_steps(cache, ["a"])
    shared.away = True
    with pytest.raises(NotEverywhere, match=r"deleted in .*, but not in Flaky .*: delete it again later"):
        cache.delete("a")
    outcome = run_command("rm a", cache=cache)
    assert outcome.exit_code == 1
    shared.away = False
    breaker = cache._entries.store.far.breaker  # pyright: ignore[reportAttributeAccessIssue]
    breaker.clock = lambda: time.monotonic() + 31
    assert reason(cache, "a") == "deleted"
    assert cache.keys() == []
    assert run_steps(cache, ["a"]) == ["a"]


def test_c3_a_spoiled_far_entry_is_a_miss_and_never_kept_near(tmp_path: Path) -> None:
    shared = MemoryStore()
    Cache(shared).set("k", np.arange(50_000.0))
    content = shared._entries["k"]
    shared._entries["k"] = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
    cache = Cache([tmp_path, shared])
    listener = RecordingListener()
    result = create_workflow(cache=cache, on_event=listener)(lambda step: step(lambda: 5, key="k"))
    assert result == Ok(5)
    assert listener.reasons("k") == ["unreadable"]
    assert Cache(tmp_path).trash().entries == 0
    assert (Cache(tmp_path).get("k"), Cache(shared).get("k")) == (5, 5)


def test_k9_a_large_far_value_is_the_callers_own_and_stands_near_after_it(tmp_path: Path, shared: Any) -> None:
    value = np.arange(500_000.0)
    Cache(shared).set("k", value)
    cache = Cache([tmp_path / "near", shared])
    hit = run_now(cache.look_up("k"))
    assert isinstance(hit, Hit)
    first = hit.load()
    first[:] = 0
    assert np.array_equal(hit.load(), value)
    assert np.array_equal(Cache(tmp_path / "near").get("k"), value)


def test_c6_a_limit_and_gc_are_about_the_folder_never_about_what_is_shared(tmp_path: Path) -> None:
    shared = f"memory://tier-{next(_numbers)}/team"
    for n in range(8):
        Cache(shared).set(f"theirs:{n}", "x" * 50_000)
    cache = Cache([tmp_path / "near", shared], max_bytes=150_000)
    for n in range(6):
        cache.set(f"ours:{n}", "y" * 50_000)
    assert 0 < len(Cache(tmp_path / "near").keys()) < 4
    assert len(Cache(shared).keys()) == 14
    assert cache.clock() > 0
    cache.clock = lambda: time.time() + 100 * 24 * 3600
    assert cache.gc(unused="30d").unused.count < 4
    assert len(Cache(shared).keys()) == 14
    cache.empty_trash()
    assert sorted(cache.keys()) == sorted(Cache(shared).keys())


def test_e1_a_kept_error_comes_through(tmp_path: Path, shared: Any) -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise LookupError("gone")

    for place in ("ours", "theirs", "theirs"):
        result = create_workflow(cache=[tmp_path / place, shared])(lambda step: step(fail, key="k"))
        assert isinstance(result, Err)
        assert isinstance(result.error, LookupError)
    assert calls == [1]


def test_c1_an_async_store_behind_a_folder_makes_steps_awaitable(tmp_path: Path) -> None:
    async def body() -> None:
        shared = AsyncMemoryStore()
        cache = Cache([tmp_path / "near", shared])
        assert cache.is_async
        await cache.set("k", 1)
        assert await Cache(shared).get("k") == 1
        other = Cache([tmp_path / "other", shared])
        assert await other.get("k") == 1
        assert Cache(tmp_path / "other").get("k") == 1
        assert await other.keys() == ["k"]
        assert await other.delete("k")
        assert await Cache(shared).keys() == []

    asyncio.run(body())


def test_c1_what_is_no_tier_is_said(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"list of 1; a list is a folder and the shared cache behind it"):
        Cache([tmp_path])
    with pytest.raises(TypeError, match=r"cache=\[memory:, .*\]; a list is a folder"):
        Cache(["memory:", tmp_path])
    with pytest.raises(TypeError, match="a list is a folder"):
        Cache([tmp_path, [tmp_path / "a", tmp_path / "b"]])


def test_c4_two_caches_over_one_pair_are_one(tmp_path: Path) -> None:
    shared = MemoryStore()
    first, second = Cache([tmp_path, shared]), Cache((Cache(tmp_path), Cache(shared)))
    first.set("k", 1)
    assert first.scope == second.scope
    assert second.delete("k")
    assert first.undo() == ["k"]


def test_c0_nbstep_dir_that_is_a_url_is_said_and_makes_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NBSTEP_DIR", "s3://key:secret@bucket/team")
    with pytest.raises(CacheDirectoryError, match=r"NBSTEP_DIR names a folder, not s3://…") as raised:
        Cache()
    assert "secret" not in str(raised.value)
    for command in ("ls", "doctor", "settings"):
        assert "NBSTEP_DIR names a folder" in run_command(command).text
    assert list(tmp_path.iterdir()) == []


def test_n6_a_command_finds_a_shared_cache_by_its_url_and_a_folder_before_it_by_the_place_shown(tmp_path: Path) -> None:
    cache = Cache([tmp_path / "near", "s3://bucket/team"])
    assert cache.shell_place == cache.place == f"{Cache(tmp_path / 'near').place} + s3://bucket/team"
    again = Cache(cache.place)
    assert again.scope == cache.scope
    assert again.place == cache.place
    assert Cache("s3://bucket/team").shell_place == "s3://bucket/team"
    assert Cache([tmp_path / "near", MemoryStore()]).shell_place is None
    assert Cache("memory://here/team").shell_place is None


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("nosuch://bucket/team", "unknown scheme 'nosuch'"),
        ("s3://key:hunter2@bucket/team", "credentials do not go into this URL"),
        ("simplecache::s3://bucket/team", "may hide what others keep"),
        ("memory://bucket/team", "there is no cache in that folder"),
    ],
)
def test_n6_what_cache_cannot_name_is_said_and_shows_no_password(named: str, said: str) -> None:
    outcome = run_command(["ls", "--cache", named])
    assert outcome.exit_code == 2
    assert said in outcome.text
    assert "hunter2" not in outcome.text


def test_n6_doctor_says_what_a_shared_cache_stands_on(tmp_path: Path) -> None:
    name = f"memory://tier-{next(_numbers)}/team"
    assert "two kernels may both compute a key" in run_command("doctor", cache=Cache(name)).text
    behind = run_command("doctor", cache=Cache([tmp_path / "near", name])).text
    assert re.search(rf"^behind +{name}, asked by fsspec", behind, re.MULTILINE)
    assert behind.count("locks") == 1


@pytest.mark.redis
def test_c1_a_redis_server_behind_a_folder_keeps_the_contract_and_its_undo(tmp_path: Path, redis_url: str) -> None:
    shared = f"{redis_url}?prefix=tier-{next(_numbers)}:"
    check_store(Cache([tmp_path / "near", shared]))
    cache, far = Cache([tmp_path / "near", shared]), Cache(shared)
    cache.set("both", 1)
    far.set("far", np.arange(400_000.0))
    assert sorted(cache.keys()) == ["both", "far"]
    assert cache.delete_matching("*") == 2
    assert far.keys() == []
    assert sorted(cache.undo()) == ["both", "far"]
    assert far.get("both") == 1
    assert np.array_equal(cache.get("far"), np.arange(400_000.0))
    assert np.array_equal(Cache(tmp_path / "near").get("far"), np.arange(400_000.0))
    workflow = create_workflow(cache=cache, ttl="1h")
    assert workflow(lambda step: step(lambda: 3, key="short")) == Ok(3)
    assert (far.get("short"), Cache(tmp_path / "near").get("short")) == (3, 3)
