"""What few systems do: stale handles, size limits, two disks in one cache, no folder at all, a server that is gone (C0, C3, C4)."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from nbstep import Cache, create_workflow
from nbstep.errors import CacheDirectoryError
from nbstep.events import Finding, StepHit, listen
from nbstep.testing import RecordingListener

KEY: Final = "user:1"
LARGE: Final = b"large" * 600_000


def asked(cache: Any, value: Any, key: str = KEY) -> tuple[Any, RecordingListener]:
    listener = RecordingListener()
    return create_workflow(cache=cache, on_event=listener)(lambda step: step(lambda: value, key=key)).unwrap(), listener


def temps_of(folder: Path) -> list[Path]:
    return list((folder / "v1" / "tmp").glob("*"))


@pytest.mark.parametrize("lasting", [False, True])
def test_c3_an_entry_whose_handle_is_stale_is_opened_once_more_then_a_miss_that_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lasting: bool
) -> None:
    """NFS says ESTALE where a name that it remembers leads to a file that another machine replaced."""
    Cache(tmp_path).set(KEY, "kept")
    cache = Cache(tmp_path)
    stale: list[str] = []
    real = os.open

    def opens(path: Any, flags: int, *args: Any) -> int:
        if f"{os.sep}e{os.sep}" in str(path) and (lasting or not stale):
            stale.append(str(path))
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return real(path, flags, *args)

    with monkeypatch.context() as then:
        then.setattr(os, "open", opens)
        given, listener = asked(cache, "computed")
    assert len(set(stale)) == 1
    if lasting:
        assert (given, listener.reasons(KEY)) == ("computed", ["unreadable"])
        (text,) = listener.findings()
        assert os.strerror(errno.ESTALE) in text
    else:
        assert (given, len(listener.of(StepHit)), listener.findings()) == ("kept", 1, [])


@pytest.fixture
def short_files() -> Iterator[None]:
    """No file of this process may be longer than a megabyte: EFBIG, where a quota says EDQUOT."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_c3_a_value_beyond_what_a_file_may_hold_arrives_and_leaves_no_part_of_it(
    short_files: None, tmp_path: Path
) -> None:
    cache = Cache(tmp_path)
    assert asked(cache, "small", "small")[1].findings() == []
    given, listener = asked(cache, LARGE)
    assert given == LARGE
    (text,) = listener.findings()
    assert text.startswith(f"{KEY} was not kept: ")
    assert os.strerror(errno.EFBIG) in text
    assert (cache.keys(), temps_of(tmp_path)) == (["small"], [])


@pytest.fixture
def two_disks(tmp_path: Path) -> Iterator[Path]:
    """A cache whose temporary files are on another disk: nothing can be renamed from one to the other."""
    folder = tmp_path / "cache"
    temps = folder / "v1" / "tmp"
    Cache(folder).set("before", 1)
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount")
    arguments = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(temps)]
    if subprocess.run(arguments, capture_output=True, check=False).returncode:
        pytest.skip("this system mounts no tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(temps)], check=True)


def test_c3_a_cache_on_two_disks_costs_no_value_and_leaves_no_litter(two_disks: Path) -> None:
    cache = Cache(two_disks)
    assert asked(cache, "computed", "before")[0] == 1
    given, listener = asked(cache, LARGE)
    assert given == LARGE
    (text,) = listener.findings()
    assert os.strerror(errno.EXDEV) in text
    assert (cache.keys(), temps_of(two_disks)) == (["before"], [])
    assert (cache.delete("before"), cache.undo(), cache.get("before")) == (True, ["before"], 1)


def test_c0_a_project_without_room_for_a_folder_keeps_elsewhere_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / ".git").mkdir()
    (project / ".nbstep").write_text("a file where the folder should be")
    monkeypatch.chdir(project)
    monkeypatch.delenv("NBSTEP_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    listener = RecordingListener()
    stop = listen(listener)
    try:
        cache = Cache()
        assert cache.directory is not None
        assert (tmp_path / "user") in cache.directory.parents
        assert asked(cache, "computed")[0] == "computed"
    finally:
        stop()
    assert [finding.kind for finding in listener.of(Finding)] == ["cache-place"]
    assert Cache().get(KEY) == "computed"
    assert (project / ".nbstep").read_text().startswith("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(project / ".nbstep"))
    with pytest.raises(CacheDirectoryError, match=r"\.nbstep cannot be used"):
        Cache()


UPKEEP: dict[str, Callable[[Cache], Any]] = {
    "delete": lambda cache: cache.delete(KEY),
    "clear": lambda cache: cache.clear(),
    "undo": lambda cache: cache.undo(KEY),
    "empty trash": lambda cache: cache.empty_trash(),
    "gc": lambda cache: cache.gc(unused=0.0),
}


@pytest.mark.parametrize("act", UPKEEP)
def test_c4_a_thunk_may_do_anything_to_its_own_key_and_its_value_is_kept(tmp_path: Path, act: str) -> None:
    cache = Cache(tmp_path)
    for value in (1, 2):
        cache.set(KEY, value)
    alone: list[bool] = []

    def thunk() -> str:
        UPKEEP[act](cache)
        locks = Cache(tmp_path).locks
        alone.append(locks is not None and locks.take(KEY) is None)
        return "computed"

    listener = RecordingListener()
    workflow = create_workflow(cache=cache, on_event=listener)
    assert workflow(lambda step: step(thunk, key=KEY, refresh=True)).unwrap() == "computed"
    assert (alone, cache.get(KEY), listener.findings()) == ([True], "computed", [])
    assert asked(cache, "again")[0] == "computed"
    assert list((tmp_path / "v1" / "lock").iterdir()) == []


def test_names_in_a_cache_are_short_enough_for_any_system(tmp_path: Path) -> None:
    """Windows allows 260 characters in all; what nbstep adds to the folder must leave room for it."""
    cache = Cache(tmp_path, max_bytes=300_000)
    for n in range(6):
        cache.clock = map(float, itertools.count(10**9 + n * 10**6)).__next__
        cache.set("k" * 4096, n)
        cache.set(f"{n}", os.urandom(100_000))
        asked(cache, n, f"step {n}")
    cache.delete("k" * 4096)
    assert cache.trash().entries > 0
    names = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")]
    assert {name.split(os.sep)[1] for name in names if os.sep in name} >= {
        "e",
        "evicted",
        "runs",
        "lock",
        "tmp",
    }
    assert max(map(len, names)) <= 120
    assert all(name.isascii() and name == name.lower() for name in names if name != "CACHEDIR.TAG")


# A server of the user's own ----------------------------------------------------------------------------------------------------


class RedisStore:
    """A thin class around a client, as the README shows it."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.get, self.set, self.delete = client.get, client.set, client.delete

    def has(self, key: str) -> bool:
        return bool(self.client.exists(key))


def client_of(url: str) -> Any:
    """A client that gives up soon, and does not try again."""
    redis = pytest.importorskip("redis")
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return redis.Redis.from_url(url, socket_timeout=0.3, socket_connect_timeout=0.3, retry=Retry(NoBackoff(), 0))


@pytest.mark.redis
def test_c3_a_frozen_redis_costs_time_only_and_serves_again_when_it_is_back(redis_url: str) -> None:
    with client_of(redis_url) as client:
        client.flushdb()
        server = client.info()["process_id"]
        cache = Cache(RedisStore(client))
        assert asked(cache, "before", "before")[1].findings() == []
        os.kill(server, signal.SIGSTOP)
        try:
            began = time.monotonic()
            given, listener = asked(cache, "computed", "before")
            took_s = time.monotonic() - began
        finally:
            os.kill(server, signal.SIGCONT)
        assert (given, listener.reasons("before")) == ("computed", ["unreadable"])
        assert took_s < 30, "each of the few calls may wait for a third of a second"
        assert {finding.key for finding in listener.of(Finding)} == {"before"}
        client.connection_pool.disconnect()
        assert asked(cache, "computed", "before")[0] == "before"


@pytest.mark.redis
def test_c3_a_redis_that_is_not_there_costs_no_value_and_no_error(redis_url: str) -> None:
    with client_of("redis://127.0.0.1:1/0") as client:
        cache = Cache(RedisStore(client))
        given, listener = asked(cache, "computed")
        assert given == "computed"
        assert {finding.kind for finding in listener.of(Finding)} == {"unreadable", "not-stored"}
        assert all(KEY in text and "refused" in text for text in listener.findings()), listener.findings()
        result = create_workflow(cache=cache)(lambda step: step(lambda: [][0], key="bad"))
        assert type(result.error) is IndexError
