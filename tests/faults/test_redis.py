"""A cache in a Redis server that is down, frozen, slow, restarted, full, closed to us, or holds what nobody signed (C3, T3, T5).

In each case: every step has its value, no call waits longer than its time-out, and one line says what is wrong.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socketserver
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from ports import free_port
from redis_server import RedisServer, SlowProxy, running

from nbstep import Cache, create_workflow
from nbstep.cache import trust
from nbstep.events import Finding
from nbstep.result import Ok
from nbstep.stores.base import run_now
from nbstep.stores.redis.document import PIECE_BYTES
from nbstep.testing import RecordingListener, SettableClock

redis = pytest.importorskip("redis")
pytestmark = pytest.mark.redis

TIMEOUT_S: Final = 1.0
# What a loaded machine may add to a wait. redis-py by itself would try ten times more: more than 10 s with this time-out.
SLACK_S: Final = 6.0
LARGE: Final = np.arange(2 * PIECE_BYTES // 8 + 1000)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with running(tmp_path, "--appendonly", "no") as started:
        yield started


def cache_at(server: RedisServer | SlowProxy, prefix: str = "nbstep") -> Cache:
    """A cache with a short time-out; its clock decides when a server that did not answer is asked again."""
    cache = Cache(f"{server.url}?timeout={TIMEOUT_S}&prefix={prefix}")
    breaker = cache._entries.store.breaker
    assert breaker is not None
    breaker.clock = SettableClock(100.0)
    return cache


def wait_out(cache: Cache) -> None:
    breaker = cache._entries.store.breaker
    assert breaker is not None
    assert isinstance(breaker.clock, SettableClock)
    breaker.clock.advance(31)


def asked(cache: Any, value: Any, key: str = "k") -> tuple[Any, RecordingListener]:
    listener = RecordingListener()
    return create_workflow(cache=cache, on_event=listener)(lambda step: step(lambda: value, key=key)).unwrap(), listener


def run_of(cache: Any, count: int, between: Callable[[int], None] = lambda n: None) -> tuple[RecordingListener, float]:
    """Runs steps that give their number, and one whose error must stay what it is; gives what was told, and the longest wait."""
    listener, longest = RecordingListener(), 0.0

    def body(step: Any) -> list[int]:
        nonlocal longest
        given: list[int] = []
        for n in range(count):
            between(n)
            began = time.monotonic()
            given.append(step(lambda n=n: n, key=f"n{n}"))
            longest = max(longest, time.monotonic() - began)
        return given

    workflow = create_workflow(cache=cache, on_event=listener)
    assert workflow(body) == Ok(list(range(count)))
    assert type(workflow(lambda step: step(lambda: [][0], key="bad")).error) is IndexError
    return listener, longest


def the_line(listener: RecordingListener) -> str:
    """The one finding of a run; those of the second run aside."""
    first, *more = [finding.text for finding in listener.of(Finding) if finding.kind == "unreachable"]
    assert len(more) <= 1, "one for each of the two runs"
    assert {finding.kind for finding in listener.of(Finding)} == {"unreachable"}
    return first


# Not there ------------------------------------------------------------------------------------------------------------------


def test_c3_a_server_that_is_down_from_the_start() -> None:
    cache = Cache(f"redis://ada:s3cret@127.0.0.1:{free_port()}/0?timeout={TIMEOUT_S}")
    listener, longest = run_of(cache, 20)
    line = the_line(listener)
    assert line.startswith(f"{cache.place} did not answer just now (ConnectionError: ")
    assert re.search(r"; asked again in [\d.]+ s; until then steps compute, and nothing is kept$", line)
    assert "refused" in line
    assert "s3cret" not in line
    assert longest < TIMEOUT_S + SLACK_S
    assert (cache.get("n1", "default"), cache.has("n1")) == ("default", False)
    with pytest.raises(ConnectionError):
        cache.keys()


def test_c3_a_server_that_goes_down_while_a_workflow_runs(server: RedisServer) -> None:
    cache = cache_at(server)
    listener, longest = run_of(cache, 20, lambda n: server.kill() if n == 7 else None)
    assert f"{cache.place} did not answer just now (ConnectionError: " in the_line(listener)
    assert longest < TIMEOUT_S + SLACK_S
    server.start()
    assert asked(cache, "computed", "n1")[0] == "computed", "it rests still"
    wait_out(cache)
    assert asked(cache, "kept", "n1")[1].findings() == []
    assert cache.get("n1") == "kept"


def test_c3_a_server_that_goes_down_while_a_large_entry_is_written_or_read(server: RedisServer) -> None:
    cache = cache_at(server)
    cache.set("large", LARGE)
    link = cache._entries.store._link  # type: ignore[attr-defined]
    sent = link._sent

    async def dies(commands: Any, *, together: bool) -> Any:
        if any(command[0] == "HSET" and b":1" in bytes(str(command[2]), "ascii") for command in commands):
            server.kill()
        return await sent(commands, together=together)

    link._sent = dies
    given, listener = asked(cache, LARGE, "other")
    assert given is LARGE
    assert "did not answer" in listener.findings()[0]
    wait_out(cache)
    assert create_workflow(cache=cache)(lambda step: step(lambda: "computed", key="large")).unwrap() == "computed"


def test_c3_a_frozen_server_is_waited_for_once(server: RedisServer) -> None:
    cache = cache_at(server)
    assert asked(cache, "before", "before")[1].findings() == []
    with server.frozen():
        began = time.monotonic()
        listener, longest = run_of(cache, 30)
        assert time.monotonic() - began < 3 * TIMEOUT_S + SLACK_S
        assert longest < TIMEOUT_S + SLACK_S
        where = cache.place.removeprefix("redis://").partition("/")[0]
        assert f"(TimeoutError: no answer from {where} within 1.0 s)" in the_line(listener)
        began = time.monotonic()
        assert cache.get("before", "default") == "default", "who asks outside of a step is heard, and waits once"
        assert time.monotonic() - began < TIMEOUT_S + SLACK_S
        with pytest.raises(TimeoutError):
            cache.keys()
    wait_out(cache)
    assert asked(cache, "computed", "before")[0] == "before"


def test_n1_an_interrupt_while_a_server_is_waited_for_shows_nothing_of_its_client(server: RedisServer) -> None:
    workflow = create_workflow(cache=f"{server.url}?timeout=60")
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with server.frozen():
            signal.setitimer(signal.ITIMER_REAL, 1.0)
            with pytest.raises(KeyboardInterrupt) as raised:
                workflow(lambda step: step(lambda: 1, key="k"))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not [
        entry for entry in raised.traceback if "redis" in str(entry.path) and "test_redis" not in str(entry.path)
    ]


def test_c3_a_server_that_freezes_between_two_pieces_of_an_entry(server: RedisServer) -> None:
    cache = cache_at(server)
    cache.set("large", LARGE)
    found = run_now(cache.look_up("large"))
    with server.frozen():
        began = time.monotonic()
        with pytest.raises(Exception, match="no answer from"):
            found.load()
        assert time.monotonic() - began < TIMEOUT_S + SLACK_S
    wait_out(cache)
    assert np.array_equal(asked(cache, "computed", "large")[0], LARGE)


@pytest.mark.parametrize("timeout", [None, 30])
def test_c3_a_frozen_server_behind_a_client_that_would_wait_and_try_for_long(
    server: RedisServer, timeout: float | None
) -> None:
    """Without a time-out of its own it gets ours; and its time-out holds, but no second try."""
    with redis.Redis.from_url(server.url, socket_timeout=timeout and TIMEOUT_S, decode_responses=True) as client:
        cache = Cache(client)
        cache.set("k", "kept")
        with server.frozen():
            listener, longest = run_of(cache, 10)
            assert longest < 1.0 + SLACK_S
            assert "no answer from" in the_line(listener)
    assert cache.get("k") == "kept"


def test_c3_a_frozen_server_behind_an_async_client(server: RedisServer) -> None:
    async def body(step: Any) -> list[int]:
        return [await step(lambda n=n: n, key=f"n{n}") for n in range(10)]

    async def run() -> None:
        async with redis.asyncio.Redis.from_url(server.url, socket_timeout=None) as client:
            cache = Cache(client)
            await cache.set("k", "kept")
            listener = RecordingListener()
            with server.frozen():
                began = time.monotonic()
                assert await create_workflow(cache=cache, on_event=listener)(body) == Ok(list(range(10)))
                assert time.monotonic() - began < 1.0 + SLACK_S, "without a time-out of its own it gets ours"
            assert "no answer from" in the_line(listener)
            assert await cache.get("k") == "kept"

    asyncio.run(run())


def test_c3_a_slow_server_within_the_time_out_is_used_beyond_it_is_left_alone(server: RedisServer) -> None:
    proxy = SlowProxy(server.port)
    try:
        cache = Cache(f"{proxy.url}?timeout=2")
        value = np.arange(6 * PIECE_BYTES // 8)
        proxy.delay_s = 0.04  # 0.6 s for a piece, twice the time-out for all of them
        given, listener = asked(cache, value, "large")
        assert (given is value, listener.findings()) == (True, [])
        assert np.array_equal(asked(cache, "computed", "large")[0], value)
        proxy.delay_s = 10.0
        listener, longest = run_of(cache, 10)
        assert "within 2.0 s" in the_line(listener)
        assert longest < 2.0 + SLACK_S
    finally:
        proxy.close()


@pytest.fixture
def trickling(server: RedisServer) -> Iterator[SlowProxy]:
    """A way to the server; with `byte_s` set no wait for the next byte is as long as the time-out, and no answer comes in time."""
    proxy = SlowProxy(server.port)
    yield proxy
    proxy.close()


BYTE_S: Final = 0.4 * TIMEOUT_S  # an answer to a look-up, 24 bytes, takes longer than time-out and slack


@pytest.mark.parametrize("connected", [False, True])
def test_c3_a_server_that_answers_byte_by_byte_is_waited_for_once(
    server: RedisServer, trickling: SlowProxy, connected: bool
) -> None:
    """A time-out is for the call: a byte now and then wins no time, neither in the login nor in an answer."""
    cache_at(server).set("before", "kept")
    cache = cache_at(trickling)
    if connected:
        assert cache.get("before") == "kept"
    trickling.byte_s = BYTE_S
    listener, longest = run_of(cache, 5)
    assert longest < TIMEOUT_S + SLACK_S
    assert f"(TimeoutError: no answer from 127.0.0.1:{trickling.port} within 1.0 s)" in the_line(listener)
    trickling.byte_s = 0.0
    wait_out(cache)
    assert asked(cache, "computed", "before")[0] == "kept", "no half of an answer stays for the next call"


@pytest.mark.parametrize("connected", [False, True])
def test_c3_an_async_client_of_a_server_that_answers_byte_by_byte(trickling: SlowProxy, connected: bool) -> None:
    async def body(step: Any) -> list[int]:
        return [await step(lambda n=n: n, key=f"n{n}") for n in range(5)]

    async def run() -> None:
        async with redis.asyncio.Redis.from_url(trickling.url, socket_timeout=None) as client:
            cache, listener = Cache(client), RecordingListener()
            if connected:
                await cache.set("before", "kept")
            trickling.byte_s = BYTE_S
            began = time.monotonic()
            assert await create_workflow(cache=cache, on_event=listener)(body) == Ok(list(range(5)))
            assert time.monotonic() - began < TIMEOUT_S + SLACK_S
            assert "no answer from" in the_line(listener)
            trickling.byte_s = 0.0
            assert await cache.get("before") == ("kept" if connected else None)

    asyncio.run(run())


@pytest.mark.parametrize(
    "call",
    [
        lambda cache: cache.get("small", "default"),
        lambda cache: cache.get("large", "default"),
        lambda cache: cache.has("small"),
        lambda cache: cache.set("new", 1),
        lambda cache: cache.set("new", LARGE),
        lambda cache: cache.delete("small"),
        lambda cache: cache.keys(),
        lambda cache: cache.entries(),
        lambda cache: cache.verify(),
        lambda cache: cache.trash(),
        lambda cache: cache.clear(),
        lambda cache: cache.undo(),
    ],
    ids=[
        "get",
        "get-large",
        "has",
        "set",
        "set-large",
        "delete",
        "keys",
        "entries",
        "verify",
        "trash",
        "clear",
        "undo",
    ],
)
def test_c3_no_call_outlasts_its_time_out_though_bytes_come(
    server: RedisServer, trickling: SlowProxy, call: Callable[[Cache], Any]
) -> None:
    cache = cache_at(trickling)
    cache.set("small", 1)
    cache.set("large", LARGE)
    cache.set("old", 1)
    cache.delete("old")
    trickling.byte_s = BYTE_S
    began = time.monotonic()
    with suppress(OSError, ValueError):
        assert call(cache) in ("default", False)
    assert time.monotonic() - began < TIMEOUT_S + SLACK_S
    assert cache.why_resting() is not None
    trickling.byte_s = 0.0
    wait_out(cache)
    assert set(cache.keys()) >= {"small", "large"}
    assert np.array_equal(cache.get("large"), LARGE)


def test_c3_pieces_of_an_entry_that_trickle_are_a_miss(server: RedisServer, trickling: SlowProxy) -> None:
    cache = cache_at(trickling)
    cache.set("large", LARGE)
    found = run_now(cache.look_up("large"))
    trickling.byte_s = BYTE_S
    began = time.monotonic()
    with pytest.raises(Exception, match=r"no answer from .* within 1\.0 s"):
        found.load()
    assert time.monotonic() - began < TIMEOUT_S + SLACK_S
    trickling.byte_s = 0.0
    wait_out(cache)
    assert np.array_equal(asked(cache, "computed", "large")[0], LARGE)


def test_c3_behind_a_folder_a_server_that_answers_byte_by_byte_costs_one_time_out(
    server: RedisServer, trickling: SlowProxy, tmp_path: Path
) -> None:
    url = f"{trickling.url}?timeout={TIMEOUT_S}"
    trickling.byte_s = BYTE_S
    listener, longest = run_of([tmp_path / "c", url], 5)
    assert longest < TIMEOUT_S + SLACK_S
    assert "no answer from" in the_line(listener)
    assert Cache(tmp_path / "c").get("n1") == 1


@pytest.mark.parametrize("saved", [False, True], ids=["its data lost", "its data kept"])
def test_c3_a_server_that_is_restarted_while_a_workflow_runs(server: RedisServer, saved: bool) -> None:
    cache = cache_at(server)
    cache.set("before", "kept")

    def restart(n: int) -> None:
        if n == 3:
            if saved:
                with redis.Redis.from_url(server.url) as client:
                    client.save()
            server.kill()
            server.start()

    listener, _ = run_of(cache, 6, restart)
    assert listener.findings() == [], "connections of before are found out and made anew"
    assert asked(cache, "computed", "before")[0] == ("kept" if saved else "computed")
    assert {key for key in cache if key.startswith("n")} == {f"n{n}" for n in range(0 if saved else 3, 6)}
    assert run_of(cache, 6)[0].hits()[: 6 if saved else 3] == [f"n{n}" for n in range(0 if saved else 3, 6)]


# Awaited --------------------------------------------------------------------------------------------------------------------


async def seven() -> int:
    return 7


def taken(cache: Any, body: Callable[[Any], Any]) -> tuple[Any, RecordingListener]:
    """What an async body gives, in a loop of its own, and what was told."""
    listener = RecordingListener()
    return asyncio.run(create_workflow(cache=cache, on_event=listener)(body)).unwrap(), listener


@pytest.mark.parametrize("behind_a_folder", [False, True], ids=["alone", "behind a folder"])
def test_c3_a_frozen_server_stops_no_other_task_of_the_loop(
    server: RedisServer, tmp_path: Path, behind_a_folder: bool
) -> None:
    url = f"{server.url}?timeout={TIMEOUT_S}"
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            await asyncio.sleep(0.01)
            ticks.append(time.monotonic())

    async def body(step: Any) -> int:
        ticker = asyncio.create_task(tick())
        given = await step(seven, key="k")
        ticker.cancel()
        return given

    with server.frozen():
        given, listener = taken([tmp_path / "c", url] if behind_a_folder else url, body)
    assert given == 7
    assert len(ticks) >= 20, "of a hundred, on a machine with time"
    assert "did not answer just now (TimeoutError: no answer from" in the_line(listener)


@pytest.mark.parametrize("freezes", ["before look-ups", "before results are kept"])
def test_c3_all_tasks_wait_once_for_a_server_that_freezes(server: RedisServer, freezes: str) -> None:
    cache = cache_at(server)
    breaker: Any = cache._entries.store.breaker
    failures: list[BaseException] = []
    failed = breaker.failed
    breaker.failed = lambda error, took_s: (failures.append(error), failed(error, took_s))

    async def body(step: Any) -> list[int]:
        all_are_here, here = asyncio.Event(), list[int]()

        async def fetch(n: int) -> int:
            here.append(n)
            if len(here) == 200:
                os.kill(server.pid, signal.SIGSTOP)
                all_are_here.set()
            if freezes == "before results are kept":
                await all_are_here.wait()
            return n

        if freezes == "before look-ups":
            os.kill(server.pid, signal.SIGSTOP)
        return await step.map(fetch, range(200), key="n{}", n_jobs=200)

    try:
        given, listener = taken(cache, body)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert given == list(range(200))
    assert 0 < len(failures) <= 32, "those that were in a thread when it was found out, no others"
    assert "did not answer just now" in the_line(listener)


@pytest.mark.parametrize("behind_a_folder", [False, True], ids=["alone", "behind a folder"])
def test_c3_a_server_that_is_restarted_is_shared_again_as_soon_as_it_answers(
    server: RedisServer, tmp_path: Path, behind_a_folder: bool
) -> None:
    url = f"{server.url}?timeout={TIMEOUT_S}"
    far = Cache(url)
    clock = SettableClock(100.0)
    breaker = far._entries.store.breaker
    assert breaker is not None
    breaker.clock = clock
    cache = Cache([tmp_path / "c", url]) if behind_a_folder else far
    server.kill()
    for n in range(3):
        assert asked(cache, "computed", f"n{n}")[0] == "computed"
        clock.advance(1)
    server.start()
    clock.advance(20)
    asked(cache, "kept", "after")
    assert far.get("after") == "kept", "long before half a minute is over"


@pytest.mark.parametrize("behind_a_folder", [False, True], ids=["alone", "behind a folder"])
def test_c3_steps_that_wait_for_their_turn_tell_in_one_line_that_nobody_answers(
    tmp_path: Path, behind_a_folder: bool
) -> None:
    """A rest that is over when it is a step's turn was one when the step was looked up."""
    url = f"redis://127.0.0.1:{free_port()}/0?timeout={TIMEOUT_S}"
    cache = Cache(url)  # held: caches of one server that are in use have one store
    breaker = cache._entries.store.breaker
    assert breaker is not None
    breaker.clock = clock = SettableClock(100.0)

    begun: list[int] = []

    async def fetch(n: int) -> int:
        begun.append(n)
        if n == 0:
            await asyncio.sleep(0.1)  # all were looked up, and the next one has its turn in as long again
            clock.advance(40)
        while len(begun) < 5:  # nothing is kept, and so asked for in vain, before all have begun
            await asyncio.sleep(0.01)
        return n

    async def body(step: Any) -> list[int]:
        return await step.map(fetch, range(5), key="n{}", n_jobs=5, rate="5/s")

    given, listener = taken([tmp_path / "c", url] if behind_a_folder else url, body)
    assert given == list(range(5))
    the_line(listener)


# Closed ---------------------------------------------------------------------------------------------------------------------


def test_c3_a_wrong_password(tmp_path: Path) -> None:
    with running(tmp_path, "--requirepass", "right") as server:
        for login in ("", ":s3cret@", "ada:s3cret@"):
            cache = Cache(server.url.replace("://", f"://{login}"))
            listener, _ = run_of(cache, 5)
            line = the_line(listener)
            assert line.startswith(f"{server.url} refused the login just now (LoginRefused: ")
            assert "set user and password in the URL" in line
            assert "s3cret" not in line
        right = Cache(server.url.replace("://", "://:right@"))
        assert asked(right, 1)[1].findings() == []
        assert right.get("k") == 1


def test_c3_a_user_that_may_not_write(server: RedisServer) -> None:
    cache = cache_at(server)
    cache.set("k", "kept")
    with redis.Redis.from_url(server.url) as client:
        client.execute_command(
            "ACL", "SETUSER", "ada", "on", ">pw", "~nbstep:*", "+@read", "+@connection", "+@transaction"
        )
    reading = Cache(server.url.replace("://", "://ada:pw@"))
    assert asked(reading, "computed")[0] == "kept"
    given, listener = asked(reading, "computed", "new")
    assert given == "computed"
    (text,) = listener.findings()
    assert "its user needs `~nbstep:* +@read +@write +@transaction`" in text


def test_c3_a_replica_is_read_and_nothing_is_kept_there(server: RedisServer, tmp_path: Path) -> None:
    cache_at(server).set("k", "kept")
    (tmp_path / "replica").mkdir()
    with running(tmp_path / "replica", "--replicaof", "127.0.0.1", str(server.port)) as replica:
        cache = cache_at(replica)
        for _ in range(300):
            if cache.has("k"):
                break
            time.sleep(0.1)
        assert asked(cache, "computed")[0] == "kept"
        given, listener = asked(cache, "computed", "new")
        assert given == "computed"
        (finding,) = listener.of(Finding)
        assert (finding.kind, "is a replica" in finding.text, "Name the primary" in finding.text) == (
            "read-only",
            True,
            True,
        )


def test_c3_a_server_of_a_cluster_is_told_apart(tmp_path: Path) -> None:
    with running(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(free_port())) as server:
        given, listener = asked(cache_at(server), "computed")
        assert given == "computed"
        assert "is part of a Redis Cluster: name a server that stands alone" in listener.findings()[0]


class AnotherService(socketserver.BaseRequestHandler):
    """Answers as a web server that was asked something else."""

    def handle(self) -> None:
        self.request.recv(4096)
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_c3_a_database_that_is_not_there_and_a_port_of_another_service_are_one_line(server: RedisServer) -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), AnotherService) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        for url, says in (
            (
                server.url.replace("/0", "/99"),
                "could not be used just now (NotUsable: DB index is out of range: name a database",
            ),
            (
                f"redis://127.0.0.1:{other.server_address[1]}/0",
                "(NotUsable: what answers there is no Redis server, Protocol Error",
            ),
        ):
            listener, longest_s = run_of(Cache(url), 5)
            assert says in the_line(listener)
            assert longest_s < TIMEOUT_S + SLACK_S
        other.shutdown()


def test_a_server_with_tls_and_without(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-nodes"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-keyout", "key.pem", "-out", "cert.pem", *subject]
    subprocess.run(made, cwd=tmp_path, check=True, capture_output=True)
    port = free_port()
    files = ["--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem", "--tls-ca-cert-file", "cert.pem"]
    with running(tmp_path, "--tls-port", str(port), "--tls-auth-clients", "no", *files):
        cache = Cache(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={tmp_path}/cert.pem")
        assert asked(cache, "kept")[1].findings() == []
        assert cache.get("k") == "kept"
        unknown = Cache(f"rediss://127.0.0.1:{port}/1?timeout=5")
        given, listener = asked(unknown, "computed")
        assert (given, "certificate verify failed" in listener.findings()[0]) == ("computed", True)


def test_a_server_behind_a_socket_of_the_file_system(tmp_path: Path) -> None:
    with running(tmp_path, "--unixsocket", str(tmp_path / "s")):
        cache = Cache(f"unix://{tmp_path}/s?db=1")
        cache.set("k", "kept")
        assert (cache.get("k"), cache.place) == ("kept", f"unix://{tmp_path}/s?db=1")


# Full -----------------------------------------------------------------------------------------------------------------------


def test_c3_a_server_without_memory_empties_our_trash_then_says_so(tmp_path: Path) -> None:
    with running(tmp_path, "--maxmemory", "12mb", "--maxmemory-policy", "noeviction") as server:
        cache = cache_at(server)
        for n in range(40):
            listener = RecordingListener()
            workflow = create_workflow(cache=cache, on_event=listener, on_drift="ignore")
            key = "k" if n % 2 else f"n{n}"
            given = workflow(lambda step: step(lambda: os.urandom(1_000_000), key=key, refresh=True)).unwrap()
            assert len(given) == 1_000_000
            if listener.findings():
                break
        else:
            raise AssertionError("the server took 40 MB")
        (finding,) = listener.of(Finding)
        assert finding.kind == "no-room"
        assert f"{cache.place} has no memory left for it: delete some of it, raise its maxmemory" in finding.text
        assert cache.trash().entries == 0, "the trash went first"
        assert len(cache.keys()) >= 6
        with redis.Redis.from_url(server.url) as client:
            assert client.keys("nbstep:v1:w:*") == [], "nothing half-written stays"
        cache.clear()
        assert asked(cache, os.urandom(1_000_000), "small")[1].findings() == [], (
            "clearing makes room: the trash goes first"
        )


def test_c6_what_a_server_without_memory_holds_can_be_deleted_and_comes_back(tmp_path: Path) -> None:
    with running(tmp_path, "--maxmemory", "12mb", "--maxmemory-policy", "noeviction") as server:
        cache = cache_at(server)
        workflow = create_workflow(cache=cache, on_event=RecordingListener())
        result = workflow(lambda step: [step(lambda: os.urandom(20_000), key=f"n{n}") for n in range(600)])
        kept = len(result.unwrap()) and len(cache)
        assert 100 < kept < 600
        with redis.Redis.from_url(server.url) as client:
            memory = client.info("memory")
            assert memory["used_memory"] > memory["maxmemory"], "between MULTI and EXEC it refuses everything now"
        value = cache.get("n1")
        assert cache.delete("n1")
        assert cache.delete_many(["n2", "n3", "none"]) == 2
        assert (cache.get("n1"), cache.trash().entries, len(cache)) == (None, 3, kept - 3)
        assert sorted(cache.undo()) == ["n2", "n3"]
        assert cache.undo("n1") == ["n1"]
        assert (cache.get("n1"), cache.trash().entries, len(cache)) == (value, 0, kept)
        assert cache.clear() == kept
        assert asked(cache, os.urandom(20_000), "small")[1].findings() == [], "the trash goes first"
        assert (len(cache), cache.trash().entries) == (1, 0)


def test_c6_a_server_without_memory_keeps_the_trash_where_that_makes_no_room(tmp_path: Path) -> None:
    with running(tmp_path, "--maxmemory", "30mb", "--maxmemory-policy", "noeviction") as server:
        cache = cache_at(server)
        cache.set("deleted", 1)
        cache.delete("deleted")
        assert "needs 20 MB" in asked(cache, np.zeros(2_500_000), "large")[1].findings()[0]
        assert cache.trash().entries == 1
        with redis.Redis.from_url(server.url) as client:
            client.config_set("maxmemory", 1)
            (finding,) = asked(cache, os.urandom(20_000), "small")[1].of(Finding)
            assert finding.kind == "no-room"
            client.config_set("maxmemory", 0)
        assert cache.undo() == ["deleted"]


def test_c3_an_entry_larger_than_half_of_the_server_pushes_nothing_out(tmp_path: Path) -> None:
    with running(tmp_path, "--maxmemory", "30mb", "--maxmemory-policy", "allkeys-lru") as server:
        cache = cache_at(server)
        cache.set("other", 1)
        given, listener = asked(cache, np.zeros(2_500_000))
        assert given.nbytes == 20_000_000
        assert "needs 20 MB" in listener.findings()[0]
        assert cache.get("other") == 1


def test_c3_what_the_server_evicts_is_a_miss(tmp_path: Path) -> None:
    with running(tmp_path, "--maxmemory", "30mb", "--maxmemory-policy", "allkeys-random") as server:
        cache = cache_at(server)
        for n in range(40):
            given, listener = asked(cache, os.urandom(1_500_000), f"n{n}")
            assert (len(given), listener.findings()) == (1_500_000, [])
        assert len(cache.keys()) < 40
        for n in range(40):
            assert len(asked(cache, b"computed" * 20, f"n{n}")[0]) in (160, 1_500_000)
        assert cache.verify().bits == 0


# Poisoned -------------------------------------------------------------------------------------------------------------------


def _entries(client: Any) -> list[bytes]:
    return sorted(client.keys("nbstep:v1:e:*"))


def _foreign_string(client: Any, names: list[bytes]) -> None:
    client.delete(names[0])
    client.set(names[0], b"\x80\x04cos\nsystem\n.")


def _foreign_hash(client: Any, names: list[bytes]) -> None:
    client.delete(names[0])
    client.hset(names[0], mapping={"b": b"\x80\x04cos\nsystem\n.", "s": "1e9", "i": "x"})


def _swapped(client: Any, names: list[bytes]) -> None:
    client.rename(names[0], "aside")
    client.rename(names[1], names[0])
    client.rename("aside", names[1])


def _copied(client: Any, names: list[bytes]) -> None:
    client.copy(names[1], names[0], replace=True)


def _truncated(client: Any, names: list[bytes]) -> None:
    client.hset(names[0], "b", client.hget(names[0], "b")[:-1])


def _empty(client: Any, names: list[bytes]) -> None:
    client.hset(names[0], "b", b"")


def _huge(client: Any, names: list[bytes]) -> None:
    client.hset(names[0], "s", "9" * 15)
    client.hdel(names[0], "r")


def _flipped_header(client: Any, names: list[bytes]) -> None:
    begin = bytearray(client.hget(names[0], "b"))
    begin[300] ^= 1
    client.hset(names[0], "b", bytes(begin))


def _flipped_end(client: Any, names: list[bytes]) -> None:
    field = "r" if client.hget(names[0], "r") else "b"
    content = bytearray(client.hget(names[0], field))
    content[-3] ^= 1
    client.hset(names[0], field, bytes(content))


def _another_signer(client: Any, names: list[bytes]) -> None:
    with pytest.MonkeyPatch.context() as them:
        them.setattr(trust, "_ring", trust.KeyRing({"JUPYTER_DATA_DIR": "/nonexistent"}))
        stranger = Cache(f"{_url_of(client)}?prefix=them")
        stranger.set("k", "theirs")
        stranger.set("other", "theirs")
    (theirs,) = [name for name in client.keys("them:v1:e:*") if name[10:74] == names[0][12:76]]
    client.copy(theirs, names[0], replace=True)


def _url_of(client: Any) -> str:
    return f"redis://127.0.0.1:{client.connection_pool.connection_kwargs['port']}/0"


@pytest.mark.parametrize(
    "poison",
    [_foreign_string, _foreign_hash, _swapped, _copied, _truncated, _empty, _huge, _flipped_header, _flipped_end, _another_signer],
    ids=lambda poison: poison.__name__.strip("_"),
)  # fmt: skip
def test_t3_what_stands_under_our_names_and_is_not_whole_and_signed_is_never_unpickled(
    server: RedisServer, unpickled: list[Any], poison: Callable[[Any, list[bytes]], None]
) -> None:
    cache = cache_at(server)
    cache.set("k", Path("kept"))
    cache.set("other", Path("kept"))
    with redis.Redis.from_url(server.url) as client:
        names = _entries(client)
        if b"".join(names).index(_digest("k")) > 80:
            names.reverse()
        unpickled.clear()
        poison(client, names)
    given, listener = asked(cache, "computed")
    assert (given, listener.reasons("k"), unpickled) == ("computed", [listener.reasons("k")[0]], [])
    assert listener.reasons("k")[0] in {"unreadable", "untrusted"}
    assert cache.get("k") == "computed", "what was kept in its place is whole"
    assert "k" in cache
    cache.clear()
    assert cache.keys() == []


def _digest(key: str) -> bytes:
    import hashlib

    return hashlib.sha256(key.encode()).hexdigest().encode()


@pytest.mark.parametrize("how", ["flipped", "gone", "short", "swapped"])
def test_t5_a_piece_that_is_not_the_entrys_own_is_a_miss(server: RedisServer, unpickled: list[Any], how: str) -> None:
    cache = cache_at(server)
    cache.set("k", LARGE)
    with redis.Redis.from_url(server.url) as client:
        (name,) = _entries(client)
        mark = client.hget(name, "i")
        first = client.hget(name, b"%s:0" % mark)
        if how == "flipped":
            client.hset(name, b"%s:0" % mark, first[:-1] + bytes([first[-1] ^ 1]))
        elif how == "gone":
            client.hdel(name, b"%s:0" % mark)
        elif how == "short":
            client.hset(name, b"%s:1" % mark, client.hget(name, b"%s:1" % mark)[:-1])
        else:
            client.hset(name, b"%s:0" % mark, client.hget(name, b"%s:1" % mark))
    unpickled.clear()
    given, listener = asked(cache, "computed")
    assert (given, listener.reasons("k"), unpickled) == ("computed", ["unreadable"], [])
    assert cache.get("k") == "computed"


# Large, and cut off ---------------------------------------------------------------------------------------------------------


def test_c3_600_mb_go_there_and_back_in_little_more_than_their_own_memory(server: RedisServer) -> None:
    def ran(code: str) -> list[int]:
        script = textwrap.dedent(
            f"""
            import resource, numpy as np
            from nbstep import Cache
            def most():
                return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            cache = Cache({server.url!r})
            cache.set("small", np.ones(200_000)), cache.get("small")
            """
        )
        done = subprocess.run(
            [sys.executable, "-c", script + textwrap.dedent(code)], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return [int(word) for word in done.stdout.split()]

    before, after = ran(
        """
        value = np.full(75_000_000, 7.0)
        before = most()
        cache.set("large", value)
        print(before, most())
        """
    )
    assert after - before < 100, "MB beside the value"
    before, after, right = ran(
        """
        before = most()
        value = cache.get("large")
        after = most()
        value[-1] += 1
        print(before, after, value.shape == (75_000_000,) and (value[:-1] == 7).all() and value[-1] == 8)
        """.replace("print(before, after, ", "print(before, after, int(").replace("value[-1] == 8)", "value[-1] == 8))")
    )
    assert right == 1
    assert after - before < 600 + 100, "the value and its pieces, MB"


def test_c3_a_process_that_is_killed_while_it_writes_leaves_the_old_entry_and_what_ends_by_itself(
    server: RedisServer,
) -> None:
    cache = cache_at(server)
    cache.set("k", "old")
    code = textwrap.dedent(
        f"""
        import os, numpy as np
        from nbstep import Cache
        cache = Cache({server.url!r})
        link = cache._entries.store._link
        sent = link._sent
        async def dies(commands, *, together):
            if any(command[0] == "RENAME" for command in commands):
                os.kill(os.getpid(), 9)
            return await sent(commands, together=together)
        link._sent = dies
        cache.set("k", np.zeros(2_000_000))
        """
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == -9
    assert cache.get("k") == "old"
    with redis.Redis.from_url(server.url) as client:
        (left,) = client.keys("nbstep:v1:w:*")
        assert 0 < client.ttl(left) <= 3600
    assert cache.clear() == 1
