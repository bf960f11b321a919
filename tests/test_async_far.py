"""Awaited steps over a cache behind a URL: their event loop goes on while a server is asked (C3, K4)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ports import free_port
from redis_server import RedisServer, SlowProxy, running
from s3_server import S3Server, s3_server
from shells import open_shell

from nbstep import Cache, create_workflow
from nbstep.events import CacheChanged, Finding, StepFinished, listen
from nbstep.stores import objects
from nbstep.stores.base import run_now
from nbstep.stores.redis.document import PIECE_BYTES
from nbstep.testing import RecordingListener

redis = pytest.importorskip("redis")

SOON_S = 60.0  # what must not hang, on a loaded machine
LARGE = np.arange(2 * PIECE_BYTES // 8 + 1000)
_numbers = itertools.count(1)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with running(tmp_path, "--appendonly", "no") as started:
        yield started


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server() as one:
        yield one


@pytest.fixture
def bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new bucket."""
    name = f"far-{next(_numbers)}"
    s3.make_bucket(name)
    for variable, value in (
        ("AWS_ENDPOINT_URL", s3.url), ("AWS_ACCESS_KEY_ID", "nobody"), ("AWS_SECRET_ACCESS_KEY", "nobody"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):  # fmt: skip
        monkeypatch.setenv(variable, value)
    return f"s3://{name}/team"


class Watched:
    """The calls of a store that go over the network: on which threads, how many at once; `gate` may hold them up.

    Attributes:
        held: The names of commands to hold until `go`.
    """

    def __init__(self, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
        self.threads: list[int] = []
        self.on_loop: list[set[str]] = []  # of those made by the main thread
        self.now = self.most = 0
        self.held: set[str] = set()
        self.began, self.go = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        store: Any = getattr(cache.store, "far", cache.store)
        if hasattr(store, "_link"):
            sent = store._link._sent

            async def watched_sent(commands: Any, *, together: bool) -> Any:
                with self._watching({str(command[0]) for command in commands}):
                    return await sent(commands, together=together)

            monkeypatch.setattr(store._link, "_sent", watched_sent)
        else:
            call = store._objects._call

            def watched_call(method: str, *args: Any, **options: Any) -> Any:
                with self._watching({method}):
                    return call(method, *args, **options)

            monkeypatch.setattr(store._objects, "_call", watched_call)

    @contextlib.contextmanager
    def _watching(self, names: set[str]) -> Iterator[None]:
        with self._lock:
            self.threads.append(threading.get_ident())
            if threading.current_thread() is threading.main_thread():
                self.on_loop.append(names)
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            if names & self.held:
                self.began.set()
                assert self.go.wait(SOON_S)
            yield
        finally:
            with self._lock:
                self.now -= 1

    async def has_begun(self) -> None:
        while not self.began.is_set():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def ticking() -> AsyncIterator[list[float]]:
    """How long each tick of the loop took, of a task that wants one every 10 ms."""
    took: list[float] = []

    async def tick() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            took.append(time.monotonic() - began)

    task = asyncio.create_task(tick())
    try:
        yield took
    finally:
        task.cancel()


def taken(cache: Any, body: Callable[[Any], Any], listener: RecordingListener | None = None) -> Any:
    """What an async body gives, in a loop of its own."""
    return asyncio.run(create_workflow(cache=cache, on_event=listener or RecordingListener())(body)).unwrap()


async def number(n: int) -> int:
    await asyncio.sleep(0)
    return n


# Side by side ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["redis", "s3", "tier"])
def far(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """What `cache=` takes for a store behind a URL: a server, a bucket, a folder before a server."""
    if request.param == "s3":
        return request.getfixturevalue("bucket")
    server: RedisServer = request.getfixturevalue("server")
    return server.url if request.param == "redis" else [tmp_path / "near", server.url]


@pytest.mark.redis
@pytest.mark.s3
@pytest.mark.parametrize("size", [1, LARGE.size], ids=["small", "large"])
def test_no_call_over_the_network_is_made_on_the_loop(far: Any, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(far)
    watched = Watched(cache, monkeypatch)

    async def fetch(n: int) -> Any:
        return LARGE[:size] + n

    async def body(step: Any) -> list[Any]:
        return await step.map(fetch, range(3), key="n{}", ttl="1d")

    for turn in range(3):
        before = len(watched.threads)
        assert [int(one[-1]) for one in taken(cache, body)] == [size - 1 + n for n in range(3)]
        if isinstance(far, list):
            assert (len(watched.threads) > before) is (turn < 2), "what stands in the folder needs no server"
            if turn == 0:
                run_now(cache.store.near.remove_all("batch"))  # type: ignore[attr-defined]
    assert watched.on_loop == []
    assert len(watched.threads) >= 6


@pytest.mark.redis
def test_a_map_over_redis_waits_for_its_round_trips_side_by_side(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = SlowProxy(server.port)
    proxy.delay_s = 0.025
    cache = Cache(f"{proxy.url}?timeout=30")
    for ran in ("computed", "kept"):
        watched = Watched(cache, monkeypatch)

        async def body(step: Any) -> list[int]:
            async with ticking() as took:
                given = await step.map(number, range(64), key="n{}")
            assert len(took) >= 5, "the loop went on"
            return given

        began = time.monotonic()
        assert taken(cache, body) == list(range(64))
        took_s, in_a_row_s = time.monotonic() - began, len(watched.threads) * 2 * proxy.delay_s
        assert watched.most > 16, ran
        assert took_s < in_a_row_s / 2, ran
    proxy.close()


@pytest.mark.redis
def test_tasks_that_ask_one_key_at_once_compute_it_once(server: RedisServer) -> None:
    ran: list[int] = []

    async def fetch() -> int:
        ran.append(1)
        await asyncio.sleep(0.05)
        return 7

    async def body(step: Any) -> list[int]:
        return await asyncio.gather(*[step(fetch, key="k") for _ in range(20)])

    assert taken(server.url, body) == [7] * 20
    assert ran == [1]


@pytest.mark.redis
def test_what_is_not_awaited_and_a_store_of_the_users_own_stay_on_the_thread_that_asks(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Own:
        def __init__(self) -> None:
            self.held: dict[str, bytes] = {}
            self.threads: set[int] = set()

        def _here(self) -> dict[str, bytes]:
            self.threads.add(threading.get_ident())
            return self.held

        def get(self, key: str) -> bytes | None:
            return self._here().get(key)

        def set(self, key: str, value: bytes) -> None:
            self._here()[key] = value

        def has(self, key: str) -> bool:
            return key in self._here()

        def delete(self, key: str) -> None:
            self._here().pop(key, None)

    async def body(step: Any) -> list[int]:
        return await step.map(number, range(5), key="n{}")

    own = Own()
    assert taken(own, body) == taken(own, body) == list(range(5))
    assert own.threads == {threading.get_ident()}

    cache = Cache(server.url)
    watched = Watched(cache, monkeypatch)

    async def plain(step: Any) -> int:
        async def outer() -> int:
            return step(lambda: 1, key="inner") + 1

        return step(lambda: 2, key="plain") + await outer()

    assert taken(cache, plain) == taken(cache, plain) == 4
    assert len(watched.on_loop) == len(watched.threads) > 0


@pytest.mark.redis
def test_a_plain_step_inside_an_async_one_is_taken_and_is_one_of_its_parts(server: RedisServer) -> None:
    async def body(step: Any) -> int:
        async def outer() -> int:
            return step(lambda: 1, key="inner") + 1

        return await step(outer, key="outer")

    cache = Cache(server.url)
    assert taken(cache, body) == taken(cache, body) == 2
    (outer,) = [meta for meta in cache.entries() if meta.key == "outer"]
    assert outer.facts.uses == ("inner",)


class Noticing:
    """Says on which thread it was loaded."""

    loaded_on: int | None = None

    def __setstate__(self, state: object) -> None:
        type(self).loaded_on = threading.get_ident()


@pytest.mark.redis
def test_values_are_pickled_and_loaded_on_the_loops_thread_and_are_the_callers_own(server: RedisServer) -> None:
    async def make() -> dict[str, Any]:
        one = Noticing()
        one.at = 1  # type: ignore[attr-defined]
        return {"one": one, "large": LARGE}

    async def body(step: Any) -> Any:
        return await step(make, key="k")

    cache = Cache(server.url)
    taken(cache, body)
    first, second = taken(cache, body), taken(cache, body)
    assert Noticing.loaded_on == threading.get_ident()
    first["large"][0] = 99
    assert np.array_equal(second["large"], LARGE)


@pytest.mark.redis
def test_a_limit_a_ttl_and_the_panel_work_as_on_the_loop(server: RedisServer) -> None:
    told: list[str] = []
    stop = listen(lambda event: told.extend(event.keys) if isinstance(event, CacheChanged) else None)

    async def fetch(n: int) -> bytes:
        return os.urandom(20_000)

    async def body(step: Any) -> int:
        for n in range(20):
            await step(lambda: fetch(n), key=f"n{n}", ttl="1h")
        return len(await step.map(fetch, range(20, 27), key="n{}", ttl="1h"))  # at once: what is being written stays

    try:
        cache = Cache(server.url, max_bytes=200_000)
        assert taken(cache, body) == 7
    finally:
        stop()
    assert {f"n{n}" for n in range(27)} <= set(told)
    assert cache.trash().size_bytes + sum(meta.size_bytes for meta in cache.entries()) < 200_000 + 10 * 25_000
    with redis.Redis.from_url(server.url) as client:
        assert {client.ttl(name) > 3600 for name in client.keys("nbstep:v1:e:*")} == {True}


# Not answered ---------------------------------------------------------------------------------------------------------------


@pytest.mark.redis
def test_c3_a_server_that_is_not_there_is_told_as_of_plain_steps() -> None:
    lines: list[str] = []
    for awaited in (True, False):
        cache, listener = Cache(f"redis://ada:s3cret@127.0.0.1:{free_port()}/0"), RecordingListener()
        if awaited:
            given = taken(cache, lambda step: step.map(number, range(10), key="n{}"), listener)
        else:
            workflow = create_workflow(cache=cache, on_event=listener)
            given = workflow(lambda step: [step(lambda n=n: n, key=f"n{n}") for n in range(10)]).unwrap()
        assert given == list(range(10))
        (line,) = [finding.text for finding in listener.of(Finding)]
        lines.append(line.replace(cache.place, "URL").partition("(")[0])
    assert lines[0] == lines[1]


@pytest.mark.redis
def test_c3_a_large_entry_whose_pieces_are_lost_while_they_are_read_is_computed_anew(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(f"{server.url}?timeout=1")
    cache.set("k", LARGE)
    with redis.Redis.from_url(server.url) as client:
        (name,) = client.keys("nbstep:v1:e:*")
        client.hdel(name, b"%s:1" % client.hget(name, "i"))
    listener = RecordingListener()
    assert taken(cache, lambda step: step(lambda: number(7), key="k"), listener) == 7
    assert listener.reasons("k") == ["unreadable"]


@pytest.mark.s3
def test_c3_a_frozen_bucket_stops_no_other_task(s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "ANSWER_S", 1.0)
    listener = RecordingListener()

    async def body(step: Any) -> tuple[Any, int]:
        async with ticking() as took:
            given = await step.map(number, range(5), key="n{}")
        return given, len(took)

    with s3.frozen():
        given, ticks = taken(bucket, body, listener)
    assert given == list(range(5))
    assert ticks >= 20
    assert [finding.kind for finding in listener.of(Finding)] == ["unreachable"]


@pytest.mark.s3
def test_a_map_over_a_bucket_asks_side_by_side(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(bucket)
    for _ in range(2):
        watched = Watched(cache, monkeypatch)
        assert taken(cache, lambda step: step.map(number, range(40), key="n{}")) == list(range(40))
        assert watched.most > 8


# Cancelled ------------------------------------------------------------------------------------------------------------------


async def _ended(task: asyncio.Task[Any]) -> None:
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.redis
def test_a_step_that_is_cancelled_in_its_look_up_ends_at_once_and_holds_nothing(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache = Cache([tmp_path / "near", server.url])
    watched = Watched(cache, monkeypatch)
    watched.held = {"HMGET"}
    listener = RecordingListener()

    async def body(step: Any) -> int:
        async def fetch() -> int:
            return 2

        task = asyncio.create_task(step(fetch, key="k"))
        await watched.has_begun()
        task.cancel()
        await _ended(task)
        assert watched.now == 1, "its thread is at it still"
        watched.go.set()
        return await step(fetch, key="k")

    assert taken(cache, body, listener) == 2
    first, second = listener.of(StepFinished)
    assert (first.outcome, first.interrupted, first.error) == ("error", True, "CancelledError")
    assert (second.outcome, listener.findings()) == ("ok", [])
    assert cache.get("k") == 2


@pytest.mark.redis
def test_a_step_that_is_cancelled_while_a_large_entry_comes_ends_at_once(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(server.url)
    cache.set("k", LARGE)
    sent = cache.store._link._sent  # type: ignore[attr-defined]
    watched = Watched(cache, monkeypatch)
    asked: list[Any] = []

    async def second_waits(commands: Any, *, together: bool) -> Any:
        asked.append(commands)
        if len(asked) == 2:
            watched.began.set()
            assert watched.go.wait(SOON_S)
        return await sent(commands, together=together)

    monkeypatch.setattr(cache.store._link, "_sent", second_waits)  # type: ignore[attr-defined]
    listener = RecordingListener()

    async def body(step: Any) -> Any:
        async def fetch() -> int:
            return 2

        task = asyncio.create_task(step(fetch, key="k"))
        await watched.has_begun()
        task.cancel()
        await _ended(task)
        watched.go.set()
        return await step(fetch, key="k")

    assert np.array_equal(taken(cache, body, listener), LARGE)
    assert [one.interrupted for one in listener.of(StepFinished)] == [True]


@pytest.mark.redis
@pytest.mark.parametrize("kind", ["quick", "slow", "twice"])
def test_what_a_step_gave_that_is_cancelled_while_it_is_kept_is_kept(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    cache = Cache(server.url)
    watched = Watched(cache, monkeypatch)
    watched.held = {"HSET"}
    listener = RecordingListener()
    ran: list[int] = []

    async def fetch() -> int:
        ran.append(1)
        return 7

    async def body(step: Any) -> int:
        task = asyncio.create_task(step(fetch, key="k"))
        await watched.has_begun()
        another = asyncio.create_task(step(fetch, key="k"))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.sleep(0.01)
        if kind == "quick":
            watched.go.set()
        elif kind == "twice":
            task.cancel()
        await _ended(task)
        assert (watched.now > 0) is (kind != "quick")
        watched.go.set()
        return await another

    assert taken(cache, body, listener) == 7
    assert listener.of(StepFinished)[0].interrupted
    for _ in range(600):
        if cache.get("k") == 7:
            break
        time.sleep(0.05)
    assert cache.get("k") == 7
    assert kind != "quick" or ran == [1], "who waited for it found it kept"
    with redis.Redis.from_url(server.url) as client:
        assert client.keys("nbstep:v1:w:*") == [], "nothing half-written stays"


@pytest.mark.redis
@pytest.mark.parametrize("at", ["HMGET", "HSET"], ids=["looks up", "keeps"])
def test_a_map_that_is_cancelled_leaves_no_task_and_no_key_taken(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    cache = Cache(server.url)
    watched = Watched(cache, monkeypatch)
    watched.held = {at}

    async def body(step: Any) -> list[int]:
        task = asyncio.create_task(step.map(number, range(64), key="n{}"))
        await watched.has_begun()
        task.cancel()
        await _ended(task)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        watched.go.set()
        return await step.map(number, range(64), key="n{}")

    assert taken(cache, body) == list(range(64))
    assert set(cache) == {f"n{n}" for n in range(64)}


@pytest.mark.redis
def test_a_time_out_of_the_users_own_ends_a_look_up(server: RedisServer) -> None:
    async def body(step: Any) -> float:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await step(lambda: number(1), key="k")
        return time.monotonic() - began

    with server.frozen():
        assert taken(f"{server.url}?timeout=20", body) < 15


@pytest.mark.redis
@pytest.mark.parametrize("at", ["HMGET", "HSET"], ids=["looked up", "kept"])
def test_ctrl_c_ends_a_program_that_waits_for_a_server_and_loses_nothing(server: RedisServer, at: str) -> None:
    code = textwrap.dedent(
        f"""
        import asyncio, os, signal, threading, time
        from nbstep import Cache, create_workflow
        cache = Cache({server.url!r})
        link = cache.store._link
        sent = link._sent
        async def slow(commands, *, together):
            if any(command[0] == {at!r} for command in commands):
                print("waits", flush=True)
                time.sleep(0.5)
            return await sent(commands, together=together)
        link._sent = slow
        async def fetch():
            return 7
        async def body(step):
            print(await step(fetch, key="k"))
        asyncio.run(create_workflow(cache=cache)(body))
        """
    )
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == "waits\n"
        program.send_signal(signal.SIGINT)
        out, said = program.communicate(timeout=SOON_S)
    finally:
        program.kill()
    assert program.returncode == -signal.SIGINT, said
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert "nbstep-aside" not in said
    assert out == ""
    assert Cache(server.url).get("k") == (7 if at == "HSET" else None)


@pytest.mark.redis
def test_a_loop_that_is_closed_while_a_server_is_asked_leaves_the_key_free(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = Cache(server.url)
    watched = Watched(cache, monkeypatch)
    watched.held = {"HSET"}
    loop = asyncio.new_event_loop()
    workflow = create_workflow(cache=cache)
    task = loop.create_task(workflow(lambda step: step(lambda: number(1), key="k")))
    loop.run_until_complete(watched.has_begun())
    loop.close()
    watched.held = set()
    assert taken(cache, lambda step: step(lambda: number(2), key="k")) == 2
    watched.go.set()
    assert [record for record in caplog.records if record.name != "nbstep"] == []
    task._log_destroy_pending = False  # type: ignore[attr-defined]


@pytest.mark.redis
def test_two_loops_in_two_threads_share_what_they_compute(server: RedisServer) -> None:
    ran: list[int] = []
    results: list[Any] = []

    async def fetch(n: int) -> int:
        ran.append(n)
        await asyncio.sleep(0.02)
        return n

    cache = Cache(server.url)
    threads = [
        threading.Thread(
            target=lambda: results.append(taken(cache, lambda step: step.map(fetch, range(40), key="n{}")))
        )
        for _ in range(2)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join(SOON_S)
    assert results == [list(range(40))] * 2
    assert sorted(ran) == list(range(40))


# In a notebook --------------------------------------------------------------------------------------------------------------


@pytest.mark.redis
def test_cells_that_await_ask_in_threads_too(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache = Cache(server.url)
    watched = Watched(cache, monkeypatch)
    with open_shell(tmp_path) as shell:
        shell.ip.user_ns |= {"there": cache, "ran": []}
        shell.good("import asyncio\nasync def fetch(n):\n    ran.append(n)\n    return n")
        for cell in (
            "%%workflow w --cache $there\nsum(await step.map(fetch, range(3), key='n{}'))",
            "%%step k --cache $there\nawait asyncio.sleep(0)\nran.append(7)\nx = await asyncio.sleep(0, 3)\nx",
        ):
            assert [str(shell.good(cell).value) for _ in range(2)] == ["3", "3"]
            kept_here = ["HSET" in names for names in watched.on_loop]
            assert kept_here == ([True] if "%%step" in cell else []), "a cell ends where nobody awaits"
        assert sorted(shell["ran"]) == [0, 1, 2, 7]
