"""What few systems do: stale handles, size limits, two disks in one cache, no folder at all, a server that is gone (C0, C3, C4)."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from faults import locks_in
from nbstep import Cache, create_workflow
from nbstep.errors import CacheDirectoryError
from nbstep.events import Finding, StepHit, StepMissed, listen
from nbstep.testing import AsyncMemoryStore, RecordingListener, SettableClock

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
        assert Cache(tmp_path).get(KEY, "a miss") == ("a miss" if lasting else "kept")
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
    short_files: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path)
    assert asked(cache, "small", "small")[1].findings() == []
    written: list[int] = []
    write = os.write
    with monkeypatch.context() as then:
        then.setattr(os, "write", lambda fd, data: written.append(write(fd, data)) or written[-1])
        given, listener = asked(cache, LARGE)
    assert given == LARGE
    if hasattr(os, "posix_fallocate"):  # nobody else finds the disk full meanwhile, and nobody waits for what must fail
        assert sum(written) < 100_000
    (text,) = listener.findings()
    assert text.startswith(f"{KEY} was not kept: ")
    assert os.strerror(errno.EFBIG) in text
    assert (cache.keys(), temps_of(tmp_path)) == (["small"], [])


@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
def test_c3_a_file_system_that_cannot_reserve_room_keeps_large_values_all_the_same(
    error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: list[int] = []

    def cannot(_fd: int, _at: int, size: int) -> None:
        asked_for.append(size)
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "posix_fallocate", cannot, raising=False)
    given, listener = asked(Cache(tmp_path), LARGE)
    assert (given == LARGE, listener.findings(), len(asked_for)) == (True, [], 1)
    assert Cache(tmp_path).get(KEY) == LARGE


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
    assert locks_in(tmp_path / "v1" / "lock") == []


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

    return redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0))


@pytest.mark.redis
def test_c3_a_frozen_redis_is_waited_for_once_and_asked_again_after_a_while(redis_url: str) -> None:
    with client_of(redis_url) as client:
        client.flushdb()
        server = client.info()["process_id"]
        store = RedisStore(client)
        cache = Cache(store)
        breaker = cache._entries.store.breaker
        assert breaker is not None
        assert asked(cache, "before", "before")[1].findings() == []
        calls: list[str] = []
        count_calls(store, calls)
        breaker.clock = clock = SettableClock(100.0)
        os.kill(server, signal.SIGSTOP)
        try:
            listener = RecordingListener()
            workflow = create_workflow(cache=cache, on_event=listener)
            given = workflow(lambda step: [step(lambda n=n: n, key=f"{n}") for n in (*range(10), "before")]).unwrap()
            assert given == [*range(10), "before"]
            assert calls == ["get"], "one call waits for the server, the steps after it do not"
            assert {reason for n in given for reason in listener.reasons(f"{n}")} == {"unreadable"}
            (finding,) = listener.of(Finding)
            assert (finding.key, finding.kind) == (None, "unreachable")
            assert finding.text.startswith("RedisStore did not answer just now (TimeoutError: Timeout reading from")
            assert finding.text.endswith("; asked again in 30 s; until then steps compute, and nothing is kept")
            clock.advance(4)
            (missed,) = asked(cache, "computed", "before")[1].of(StepMissed)
            assert "RedisStore did not answer 4 s ago (TimeoutError" in str(missed.detail)
            assert str(missed.detail).endswith("; asked again in 26 s")
            assert calls == ["get"]
            assert cache.get("before", "default") == "default"
            assert calls == ["get", "get"], "who asks for it outside of a step is heard"
        finally:
            os.kill(server, signal.SIGCONT)
        client.connection_pool.disconnect()
        assert asked(cache, "computed", "before")[0] == "computed", "it rests still"
        clock.advance(31)
        assert asked(cache, "computed", "before")[0] == "before"
        assert asked(cache, "kept", "new")[1].findings() == []
        assert cache.get("new") == "kept"


def count_calls(store: RedisStore, calls: list[str]) -> None:
    """Notes the name of each call that the store gets from now on."""

    def counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            calls.append(name)
            return method(*args)

        return call

    for name in ("get", "set", "has", "delete"):
        setattr(store, name, counted(name, getattr(store, name)))


@pytest.mark.redis
def test_c3_a_redis_that_is_not_there_costs_no_value_and_no_error(redis_url: str) -> None:
    with client_of("redis://127.0.0.1:1/0") as client:
        cache = Cache(RedisStore(client))
        given, listener = asked(cache, "computed")
        assert given == "computed"
        assert [finding.kind for finding in listener.of(Finding)] == ["unreachable"]
        assert all("RedisStore did not answer" in text and "refused" in text for text in listener.findings())
        result = create_workflow(cache=cache)(lambda step: step(lambda: [][0], key="bad"))
        assert type(result.error) is IndexError


class Failing(dict[str, Any]):
    """A mapping that raises what it is told to, in the methods that it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.calls: list[str] = []

    def get(self, key: str, default: Any = None) -> Any:
        self.calls.append("get")
        if self.error is not None:
            raise self.error
        return super().get(key, default)

    def __setitem__(self, key: str, value: Any) -> None:
        self.calls.append("set")
        if self.error is not None:
            raise self.error
        super().__setitem__(key, value)


class DriverError(Exception):
    """As drivers raise it: a class of their own, that came of a time-out."""


def of_a_timeout() -> Exception:
    error = DriverError("read failed")
    error.__cause__ = TimeoutError("timed out")
    return error


@pytest.mark.parametrize(
    "error", [ConnectionError("reset"), TimeoutError(), of_a_timeout()], ids=["reset", "timeout", "driver"]
)
def test_c3_a_store_that_does_not_answer_is_left_alone_by_steps_until_it_does(error: Exception) -> None:
    store = Failing()
    cache = Cache(store)
    breaker = cache._entries.store.breaker
    assert breaker is not None
    breaker.clock = SettableClock(100.0)
    cache.set(KEY, "before")
    store.error = error
    store.calls.clear()
    assert [asked(cache, "computed")[0] for _ in range(3)] == ["computed"] * 3
    assert store.calls == ["get"]
    with pytest.raises(ValueError, match="was not kept"):
        cache.set(KEY, "after")
    store.error = None
    assert asked(cache, "computed")[0] == "computed"
    assert cache.get(KEY) == "before"
    assert asked(cache, "computed")[0] == "before", "an answer ends the rest"


def test_c3_a_store_that_dies_while_a_step_computes_is_told_once_and_the_next_steps_do_not_wait() -> None:
    store, listener = Failing(), RecordingListener()
    cache = Cache(store)
    breaker = cache._entries.store.breaker
    assert breaker is not None
    breaker.clock = clock = SettableClock(100.0)

    def thunk() -> str:
        store.error = TimeoutError("timed out")
        store.calls.clear()
        return "computed"

    def slow() -> str:
        clock.advance(0.4)  # what is said of the store would be another text
        return "b"

    workflow = create_workflow(cache=cache, on_event=listener)
    given = workflow(lambda step: [step(thunk, key="a"), step(slow, key="b"), step(lambda: "c", key="c")]).unwrap()
    assert (given, store.calls) == (["computed", "b", "c"], ["get"])
    assert [finding.kind for finding in listener.of(Finding)] == ["unreachable"]


def test_c3_a_store_that_refuses_one_entry_is_asked_for_the_others() -> None:
    store = Failing()
    cache = Cache(store)
    cache.set(KEY, "before")
    store.error = MemoryError("used memory > maxmemory")
    _, listener = asked(cache, "computed", "another")
    assert {finding.kind for finding in listener.of(Finding)} == {"unreadable", "not-stored"}
    store.error = None
    assert asked(cache, "computed")[0] == "before"


def test_c3_offline_asks_a_store_that_did_not_answer_a_moment_ago() -> None:
    store = Failing()
    cache = Cache(store)
    cache.set(KEY, "before")
    store.error = TimeoutError()
    asked(cache, "computed")
    store.error = None
    assert (
        create_workflow(cache=cache, mode="offline")(lambda step: step(lambda: "computed", key=KEY)).unwrap()
        == "before"
    )


def test_c3_an_async_store_that_does_not_answer_is_left_alone_too() -> None:
    class Lost(AsyncMemoryStore):
        calls = 0

        async def get(self, key: str) -> bytes | None:
            self.calls += 1
            raise TimeoutError("timed out")

    async def run() -> tuple[Any, int, list[str]]:
        store, listener = Lost(), RecordingListener()

        async def steps(step: Any) -> list[Any]:
            return [await step(lambda n=n: n, key=f"{n}") for n in range(4)]

        given = await create_workflow(cache=store, on_event=listener)(steps)
        return given.unwrap(), store.calls, [finding.kind for finding in listener.of(Finding)]

    assert asyncio.run(run()) == ([0, 1, 2, 3], 1, ["unreachable"])


@pytest.mark.parametrize(
    "redact", [lambda text: text.replace("blue-9", "…"), lambda text: 1 / 0], ids=["works", "fails"]
)
def test_c3_what_is_said_of_a_store_that_does_not_answer_holds_no_secret(redact: Any) -> None:
    store = Failing()
    store.error = ConnectionError("no way to redis://me:hunter22@host:1/0 for blue-9")
    _, listener = asked(Cache(store, redact=redact), "computed")
    (text,) = listener.findings()
    assert text.startswith("Failing did not answer")
    assert "hunter22" not in text
    assert "blue-9" not in text
