"""A cache in a Redis server: what it keeps there, under which names, and what of it others see (C1, C2)."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from ports import free_port
from redis_server import SlowProxy, running
from shells import open_shell

from nbstep import Cache, create_workflow
from nbstep.cache import trust
from nbstep.cache.records import Miss
from nbstep.cache.where import open_store
from nbstep.commands.tables import Screen
from nbstep.commands.verbs import run_command
from nbstep.result import Ok
from nbstep.stores.base import run_now
from nbstep.stores.files import key_digest
from nbstep.stores.redis.document import PIECE_BYTES, pieces_of
from nbstep.stores.redis.names import Names
from nbstep.stores.redis.place import read_url
from nbstep.testing import RecordingListener, check_store

redis = pytest.importorskip("redis")
pytestmark = pytest.mark.redis


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    """The server as other programs see it; empty."""
    with redis.Redis.from_url(redis_url) as plain:
        plain.flushdb()
        yield plain


@pytest.fixture
def cache(redis_url: str, client: Any) -> Cache:
    return Cache(redis_url)


@pytest.fixture
def sign_as(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any, str], None]:
    """Keeps "theirs" under a key of a cache, as somebody else would."""

    def keep(who: str, where: Any, key: str) -> None:
        with monkeypatch.context() as them:
            them.setattr(trust, "_ring", trust.KeyRing({"JUPYTER_DATA_DIR": str(tmp_path / who)}))
            Cache(where).set(key, "theirs")

    return keep


# The contract --------------------------------------------------------------------------------------------------------------------


def test_c1_a_url_keeps_the_contract(redis_url: str, client: Any) -> None:
    check_store(redis_url)
    assert set(client.keys()) <= {b"nbstep:v1:signers"}, "it is empty afterwards"


@pytest.mark.parametrize(("kind", "decode"), [("plain", False), ("plain", True), ("async", True)])
def test_c1_a_client_of_redis_py_keeps_the_contract(redis_url: str, client: Any, kind: str, decode: bool) -> None:
    if kind == "plain":
        with redis.Redis.from_url(redis_url, decode_responses=decode) as given:
            assert check_store(given) is None
        return

    async def check() -> None:
        async with redis.asyncio.Redis.from_url(redis_url, decode_responses=decode) as given:
            await check_store(given)

    asyncio.run(check())


def test_c1_a_url_serves_plain_and_async_steps_a_client_is_what_it_is(
    redis_url: str, client: Any, cache: Cache
) -> None:
    assert not cache.is_async
    workflow = create_workflow(cache=redis_url)
    assert workflow(lambda step: step(lambda: 42, key="answer")).unwrap() == 42

    async def body(step: Any) -> list[Any]:
        async def fetch(n: int) -> int:
            return n

        return [await step(fetch, 1, key="one"), await asyncio.gather(*[step(fetch, n, key=f"{n}") for n in (2, 3)])]

    assert asyncio.run(_awaited(workflow(body))).unwrap() == [1, [2, 3]]
    assert sorted(cache.keys()) == ["2", "3", "answer", "one"]
    assert Cache(client).get("answer") == 42

    async def over_a_client() -> Any:
        async with redis.asyncio.Redis.from_url(redis_url) as given:
            own = create_workflow(cache=given)

            async def asks(step: Any) -> Any:
                return await step(lambda: "new", key="answer")

            return (await own(asks)).unwrap()

    assert asyncio.run(over_a_client()) == 42


async def _awaited(run: Any) -> Any:
    return await run


def test_c1_a_class_made_from_a_client_that_is_a_store_is_used_as_one(redis_url: str, client: Any) -> None:
    class Own(redis.Redis):
        def has(self, key: str) -> bool:
            return bool(self.exists(key))

    with Own.from_url(redis_url) as own:
        Cache(own).set("user:1", 1)
    assert client.get("user:1").startswith(b"NBSTEP"), "under the user's own key"


def test_c1_one_store_for_all_caches_of_a_server(redis_url: str, client: Any) -> None:
    """So tasks and threads compute a key once whichever `Cache` they ask, and a server that rests does so for all."""
    assert Cache(redis_url).scope is Cache(redis_url).scope
    assert Cache(client).scope is Cache(client).scope
    assert Cache(f"{redis_url}?prefix=other").scope is not Cache(redis_url).scope
    logins = [Cache(redis_url.replace("://", f"://{login}@")) for login in ("ada:one", "ada:two")]
    assert logins[0].scope is not logins[1].scope, "one may do what the other may not"


# Values --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size", [0, 3000, 4095, 4096, 60_000, 70_000, PIECE_BYTES, PIECE_BYTES + 4096, 3 * PIECE_BYTES + 1]
)
def test_values_of_every_size_come_back_and_are_the_callers_own(cache: Cache, size: int) -> None:
    value = [np.frombuffer(os.urandom(size), dtype=np.uint8), np.arange(size // 8), "text" * (size // 9)]
    cache.set("k", value)
    for _ in range(2):
        array, numbers, text = cache.get("k")
        assert (bytes(array), numbers.tolist(), text) == (bytes(value[0]), value[1].tolist(), value[2])
        numbers += 1  # K9
    assert cache.verify().bits == 0


def test_pieces_hold_all_of_an_entry_in_its_order() -> None:
    parts = [b"head", memoryview(bytearray(b"x" * 5000)), b"", b"y" * (PIECE_BYTES + 3), np.arange(4, dtype="u1").data]
    pieces = list(pieces_of(parts))
    assert b"".join(pieces) == b"".join(map(bytes, parts))
    assert [len(piece) for piece in pieces] == [4096, PIECE_BYTES, 4 + 5000 + PIECE_BYTES + 3 + 4 - 4096 - PIECE_BYTES]


def test_k9_what_was_found_stays_readable_while_it_is_replaced_and_deleted(cache: Cache) -> None:
    first, second = np.full(2_000_000, 1.0), np.full(2_000_000, 2.0)
    cache.set("k", first)
    found = run_now(cache.look_up("k"))
    cache.set("k", second)
    cache.delete("k")
    assert not isinstance(found, Miss)
    assert np.array_equal(found.load(), first)


def test_only_what_is_read_of_a_large_entry_is_sent(redis_url: str, client: Any) -> None:
    proxy = SlowProxy(int(redis_url.rpartition(":")[2].partition("/")[0]))
    try:
        far = Cache(proxy.url)
        far.set("large", np.zeros(3_000_000))
        before = proxy.sent_bytes
        assert far.has("large")
        assert [meta.key for meta in far.entries()] == ["large"]
        assert far.delete("large") is True
        assert proxy.sent_bytes - before < 20_000
        assert far.undo() == ["large"]
    finally:
        proxy.close()


def test_listing_reads_each_header_once(redis_url: str, client: Any) -> None:
    proxy = SlowProxy(int(redis_url.rpartition(":")[2].partition("/")[0]))
    try:
        far = Cache(proxy.url)
        for number in range(300):
            far.set(f"k{number}", "x" * 3000)
        assert len(far.entries()) == 300
        before = proxy.sent_bytes
        far.set("k7", "new")
        far.set("new", "new")
        far.delete("k8")
        assert len(far.entries()) == 300
        assert next(meta for meta in far.entries() if meta.key == "k7").preview == "'new'"
        assert (proxy.sent_bytes - before) / 300 < 500, "names and marks only, where nothing changed"
    finally:
        proxy.close()


# What is ours --------------------------------------------------------------------------------------------------------------------


def test_c1_nothing_of_others_is_listed_or_deleted(client: Any, redis_url: str) -> None:
    strange = {
        b"user:1": b"theirs",
        b"nbstep": b"theirs",
        b"nbstep:v1:e:x": b"theirs",
        b"nbstepv1:e:" + b"a" * 73: b"theirs",
    }
    client.mset(strange)
    ours, prefixed = Cache(redis_url), Cache(f"{redis_url}?prefix=te[a]m*")
    ours.set("user:1", "ours")
    prefixed.set("user:1", "the team's")
    assert (ours.keys(), prefixed.keys()) == (["user:1"], ["user:1"])
    assert prefixed.clear() == 1
    assert (ours.get("user:1"), prefixed.get("user:1")) == ("ours", None)
    assert (ours.clear(), ours.empty_trash()) == (1, 1)
    assert {name: client.get(name) for name in strange} == strange
    assert prefixed.undo() == ["user:1"]
    assert all(name.startswith((b"nbstep", b"te[a]m*:v1:")) for name in client.keys("*") if name not in strange)


def _as_a_list(client: Any, name: str | bytes) -> None:
    client.delete(name)
    client.rpush(name, "somebody's", "own")


def _entry_name(client: Any, key: str) -> bytes:
    (name,) = client.keys(f"nbstep:v1:e:{key_digest(key)}.*")
    return name


@pytest.mark.parametrize("put", [lambda client, name: client.set(name, "somebody's"), _as_a_list], ids=["text", "list"])
def test_c3_a_value_of_another_type_under_a_name_of_ours_is_an_unreadable_entry_and_no_other_is(
    redis_url: str, client: Any, put: Callable[[Any, Any], None]
) -> None:
    cache = Cache(redis_url)
    for n in range(5):
        cache.set(f"p:{n}", n)
    name = _entry_name(client, "p:0")
    put(client, name)
    for seen in (cache, Cache(redis_url)):
        assert sorted(seen.keys()) == sorted(one.key for one in seen.entries()) == [f"p:{n}" for n in range(1, 5)]
        (damaged,) = seen.headless()
        assert (damaged.key, damaged.verdict, damaged.why) == (None, "corrupt", "it is no entry of nbstep")
        assert (seen.counts().entries, seen.counts().corrupt) == (5, 1)
        assert (seen.verify().checked, seen.verify().bits) == (5, 1)
        assert [seen.get(f"p:{n}", "none") for n in range(5)] == ["none", 1, 2, 3, 4]
    listener = RecordingListener()
    workflow = create_workflow(cache=cache, on_event=listener)
    assert workflow(lambda step: step(lambda: 0, key="p:0")) == Ok(0)
    assert listener.reasons("p:0") == ["unreadable"]
    assert (cache.get("p:0"), len(cache.keys()), cache.trash().entries) == (0, 5, 1)


@pytest.mark.parametrize("remove", ["delete", "clear"])
def test_c2_a_value_of_another_type_under_a_name_of_ours_goes_to_the_trash_as_an_entry_does(
    redis_url: str, client: Any, remove: str
) -> None:
    cache = Cache(redis_url)
    cache.set("k", 1)
    cache.set("other", 1)
    name = _entry_name(client, "k")
    _as_a_list(client, name)
    client.set("nbstep:v1:e:their own", "x")
    client.set(name + b"x", "x")
    assert cache.delete("k") is True if remove == "delete" else cache.clear() == 2
    assert cache.trash().entries == (1 if remove == "delete" else 2)
    assert [one.meta.key for one in cache.trashed()] == ([] if remove == "delete" else ["other"])
    assert (client.exists(name), client.get("nbstep:v1:e:their own"), client.get(name + b"x")) == (0, b"x", b"x")
    assert cache.undo() == ([] if remove == "delete" else ["other"])
    assert cache.get("other") == 1
    (trashed,) = client.keys("nbstep:v1:t:*")
    assert client.lrange(trashed, 0, -1) == [b"somebody's", b"own"], "what is damaged stays in the trash as it was"


@pytest.mark.parametrize("name", ["signers", "g:{digest}"])
def test_c3_a_value_of_another_type_in_place_of_a_hint_costs_nothing_but_the_hint(
    redis_url: str, client: Any, name: str
) -> None:
    _as_a_list(client, f"nbstep:v1:{name.format(digest=key_digest('k'))}")
    listener = RecordingListener()
    workflow = create_workflow(cache=redis_url, on_event=listener)
    assert workflow(lambda step: step(lambda: 1, key="k")) == Ok(1)
    assert (listener.reasons("k"), listener.findings()) == (["new"], []), "it was kept: nothing says otherwise"
    assert workflow(lambda step: step(lambda: 2, key="k")) == Ok(1)
    large = os.urandom(200_000)
    Cache(redis_url).set("large", large)
    assert (Cache(redis_url).get("large"), sorted(Cache(redis_url).keys())) == (large, ["k", "large"])


def test_c2_the_trash_is_in_the_server_for_24_hours_and_any_process_brings_back(redis_url: str, client: Any) -> None:
    Cache(redis_url).set("a", 1)
    Cache(redis_url).set("a", 2)
    Cache(redis_url).delete("a")
    trashed = client.keys("nbstep:v1:t:*")
    assert len(trashed) == 2
    assert all(23 * 3600 < client.ttl(name) <= 24 * 3600 for name in trashed)
    said = "cache.undo(), cache.get('a'), cache.undo('a'), cache.get('a')"
    code = f"from nbstep import Cache; cache = Cache({redis_url!r}); print({said})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "['a'] 2 ['a'] 1\n"
    assert client.ttl(client.keys("nbstep:v1:e:*")[0]) == -1, "what stands does not end by itself"
    assert [found.back for found in Cache(redis_url).trashed()] == [1]


def test_c2_an_evicted_and_a_deleted_entry_say_so_and_one_that_the_server_ended_is_new(
    cache: Cache, client: Any
) -> None:
    def reason(key: str) -> str:
        found = run_now(cache.look_up(key))
        assert isinstance(found, Miss)
        return found.reason

    for key in ("a", "b", "c"):
        cache.set(key, 1)
    cache.delete("a")
    client.delete(*[name for name in client.keys("nbstep:v1:e:*") if run_now(cache.look_up("b"))][:1])
    assert sorted([reason("a"), *(reason(key) for key in ("b", "c") if not cache.has(key))]) == ["deleted", "new"]
    small = Cache(cache, max_bytes=30_000)
    for number in range(12):
        small.set(f"n{number}", os.urandom(4000))
    assert reason("n0") == "evicted"
    cache.empty_trash()
    assert reason("a") == "new"


def test_c5_the_server_ends_an_entry_a_day_after_its_ttl(redis_url: str, client: Any) -> None:
    """Until then it serves `stale_if_error`, and a step that asks with a longer ttl."""

    def fails() -> None:
        raise TimeoutError("no answer")

    def left_s(key: str) -> int:
        return client.ttl(f"nbstep:v1:e:{key_digest(key)}.{trust.signing_key().id}")

    workflow, day = create_workflow(cache=redis_url), 24 * 3600
    workflow(
        lambda step: [step(lambda: 1, key="hour", ttl="1h"), step(lambda: 1, key="for ever"), step(fails, key="fails")]
    )
    assert day + 3500 < left_s("hour") <= day + 3600
    assert left_s("for ever") == -1
    workflow(lambda step: step(fails, key="fails"))
    assert day + 50 < left_s("fails") <= day + 60
    workflow(lambda step: step(lambda: 2, key="hour", refresh=True))
    assert left_s("hour") == -1
    assert Cache(redis_url).undo("hour") == ["hour"]
    assert Cache(redis_url).get("hour") == 1


def test_c2_undo_of_what_is_damaged_leaves_what_stands(cache: Cache, client: Any) -> None:
    cache.set("a", "old" * 1000)
    cache.set("a", "new")
    (trashed,) = client.keys("nbstep:v1:t:*")
    client.hset(trashed, "b", client.hget(trashed, "b")[:-1] + b"?")
    assert cache.undo("a") == []
    assert cache.get("a") == "new"


# Signers -------------------------------------------------------------------------------------------------------------------------


def test_t3_entries_of_another_signer_stand_beside_ones_own(
    cache: Cache, redis_url: str, sign_as: Callable[[str, Any, str], None]
) -> None:
    sign_as("them", redis_url, "k")
    missed = run_now(cache.look_up("k"))
    assert isinstance(missed, Miss)
    assert (missed.reason, "signed by key" in (missed.detail or "")) == ("untrusted", True)
    cache.set("k", "mine")
    sign_as("them", redis_url, "k")
    assert cache.get("k") == "mine", "two signers never overwrite each other"
    assert sorted(meta.trusted for meta in cache.entries()) == [False, True]
    assert cache.delete("k") is True
    assert cache.entries() == []


def test_t3_trust_accepts_what_another_signed(
    cache: Cache, redis_url: str, sign_as: Callable[[str, Any, str], None]
) -> None:
    sign_as("them", redis_url, "k")
    assert cache.trust().keys == ("k",)
    assert (cache.get("k"), len(cache.entries())) == ("theirs", 1)


def test_t3_a_team_shares_a_server_by_one_key_file(redis_url: str, client: Any, tmp_path: Path) -> None:
    team = tmp_path / "team.key"
    team.write_bytes(os.urandom(32))
    team.chmod(0o600)
    code = (
        "import sys; from nbstep import create_workflow\n"
        f"workflow = create_workflow(cache={redis_url!r})\n"
        "print(workflow(lambda step: step(lambda: sys.argv[1], key='shared')).unwrap())"
    )

    def asked(who: str, **environ: str) -> tuple[str, str]:
        home = {"JUPYTER_DATA_DIR": str(tmp_path / who)}
        command = [sys.executable, "-c", code, who]
        done = subprocess.run(
            command, env=os.environ | home | environ, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout.strip(), done.stderr

    assert asked("ada", NBSTEP_SIGNING_KEY_FILE=str(team))[0] == "ada"
    assert asked("ben", NBSTEP_SIGNING_KEY_FILE=str(team)) == ("ada", "")
    given, told = asked("eve")
    assert (given, told.count("signed by key")) == ("eve", 1)
    assert f"accept it with nbstep trust --cache {redis_url}," in told
    assert asked("ben", NBSTEP_SIGNING_KEY_FILE=str(team))[0] == "ada"


# URLs ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://cache", "redis://cache"),
        ("REDIS://ada:s3cret@cache:6380/2", "redis://cache:6380/2"),
        ("rediss://:s3cret@cache/0?ssl_cert_reqs=none&password=s3cret", "rediss://cache/0"),
        ("redis://ada:s3cret@[::1]:6379/0?prefix=team%2F1&timeout=500ms", "redis://[::1]:6379/0?prefix=team%2F1"),
        ("unix:///run/redis.sock?db=3", "unix:///run/redis.sock?db=3"),
        ("unix://ada:s3cret@/run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_a_url_is_shown_without_its_login(url: str, shown: str) -> None:
    place = read_url(url)
    assert place.shown == shown
    assert "s3cret" not in repr(place)
    made = Cache(url)
    assert (made.place, "s3cret" in repr(made)) == (shown, False)
    assert made.shell_place == (None if "s3cret" in url else shown)


@pytest.mark.parametrize(
    "url",
    [
        "redis://", "redis:///0", "redis:cache", "redis://:s3?cret@cache", "redis://ada:12/s3cret@cache", "redis://ada:12?s3cret@cache",
        "redis://ada:s3#cret@cache", "redis://cache/db1", "unix://", "unix://ada:s3/cret@/run/x", "redis://cache:port",
        "redis://:s3[cret@cache", "redis://:s3]cret@cache", "redis://:s3[cret]@cache", "redis://:s3℀cret@cache",
        "redis://s3cret@cache?timeout=soon", "redis://s3cret@cache?timeout=0", "redis://s3cret@cache?no_such_option=1",
    ],
)  # fmt: skip
def test_what_is_no_url_of_a_server_is_an_error_that_tells_no_secret(url: str) -> None:
    with pytest.raises(ValueError, match=r"cache=|timeout=") as caught:
        Cache(url)
    assert "s3" not in str(caught.value)
    assert "cret" not in str(caught.value)
    if "[" in url:
        assert "percent-encode" in str(caught.value)


def test_the_prefix_and_the_time_out_of_a_url() -> None:
    assert (read_url("redis://h").prefix, read_url("redis://h").timeout_s) == ("nbstep:", 1.0)
    servers = {
        "redis://h": "h",
        "rediss://ada:s@h:6380/2?prefix=x": "h:6380",
        "unix:///run/a/redis.sock?db=1": "redis.sock",
    }
    assert {url: read_url(url).server for url in servers} == servers
    given = read_url("redis://h?timeout=2&prefix=team:&ssl_cert_reqs=none")
    assert (given.prefix, given.timeout_s, given.url) == ("team:", 2.0, "redis://h?ssl_cert_reqs=none")
    assert read_url("redis://h?timeout=250ms").timeout_s == 0.25


def test_names_stand_for_themselves_in_a_glob() -> None:
    assert Names("a*[b]?\\:").pattern("e:") == "a\\*\\[b\\]\\?\\\\:v1:e:*"


def test_without_redis_py_the_error_says_what_installs_it() -> None:
    code = "import sys; sys.modules['redis'] = None; from nbstep import Cache; Cache('redis://localhost:6379/0')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: ")
    assert last.endswith("needs redis-py, which is not installed: pip install 'nbstep[redis]'")


def test_redis_py_is_imported_with_the_first_url_only(tmp_path: Path) -> None:
    code = f"import sys; from nbstep import Cache; Cache({str(tmp_path)!r}).set('a', 1); print('redis' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"


# Commands ------------------------------------------------------------------------------------------------------------------------


def test_n6_every_verb_works_on_the_cache_of_a_server(cache: Cache, redis_url: str, tmp_path: Path) -> None:
    cache.set("user:1", {"name": "Ada"})
    cache.set("user:2", [1, 2])

    def said(*words: str) -> str:
        outcome = run_command([*words, "--cache", redis_url], screen=Screen())
        assert not outcome.wrong_usage, outcome.text
        return outcome.text

    assert redis_url in said("ls")
    assert redis_url in said("panel")
    assert [row["key"] for row in json.loads(said("ls", "--json"))] == ["user:1", "user:2"]
    assert "Ada" in said("show", "user:1")
    assert "2 good" in said("verify")
    assert said("export", "user:1", str(tmp_path / "out")) is not None
    assert (tmp_path / "out").is_dir()
    assert said("rm", "user:1") == f"Deleted 1 entry: user:1. Undo: nbstep undo --cache {redis_url}"
    assert "user:1" in said("ls", "--trash")
    assert said("undo") == "Restored 1 entry: user:1"
    assert said("clear").startswith("Deleted all 2 entries.")
    assert said("undo").startswith("Restored 2 entries: ")
    assert "Nothing to remove" in said("gc")
    assert redis_url in said("settings")
    told = dict(line.split("  ", 1) for line in said("doctor").splitlines() if not line.startswith(" "))
    assert told["server"].strip().startswith("Redis ")
    assert told["locks"].strip() == "none: two kernels may both compute a key"
    assert "a store of your own" not in said("doctor")


def test_n6_a_command_shows_no_password_and_says_what_is_wrong(
    redis_url: str, client: Any, sign_as: Callable[[str, Any, str], None]
) -> None:
    client.acl_setuser("ada", enabled=True, passwords=["+s3cret"], keys=["*"], commands=["+@all"])
    Cache(redis_url).set("x", 1)
    sign_as("them", redis_url, "y")
    login = redis_url.replace("redis://", "redis://ada:s3cret@")
    for words in (
        ["ls"],
        ["show", "x"],
        ["doctor"],
        ["rm", "x"],
        ["ls", "--trash"],
        ["undo"],
        ["verify"],
        ["trust"],
        ["clear"],
    ):
        outcome = run_command([*words, "--cache", login], screen=Screen())
        assert "s3cret" not in outcome.text + outcome.html
        assert "redis://" in outcome.text or words[0] in {"show", "undo"}
    assert "s3cret" not in run_command(["trust", login], screen=Screen()).text
    down = run_command(["ls", "--cache", "redis://127.0.0.1:1/0"], screen=Screen())
    assert (down.exit_code, down.text.startswith("redis://127.0.0.1:1/0: "), "refused" in down.text) == (1, True, True)
    wrong = run_command(["ls", "--cache", "redis://127.0.0.1:1/0?no_such_option=1"], screen=Screen())
    assert (wrong.exit_code, wrong.wrong_usage) == (2, True)


def test_n1_cells_panel_and_magics_take_the_url_of_a_server(
    cache: Cache, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_shell(tmp_path) as shell:
        cell = f"%%workflow users --cache {redis_url}\nvalue = step(lambda: {{'name': 'Ada'}}, key='user:1')"
        cold, warm = shell.good(cell).text, shell.good(cell).text
        assert (redis_url in cold, "1 cached" in cold, "1 cached" in warm) == (True, False, True)
        assert "user:1" in shell.good(f"%nbstep ls --cache {redis_url}").text
        assert "user:1" in shell.good(f"%nbstep panel --cache {redis_url}").text
        assert shell.good(f"import nbstep; rows = nbstep.Cache({redis_url!r}).keys()").error is None
        assert shell["rows"] == ["user:1"]
        monkeypatch.setitem(sys.modules, "redis", None)
        stopped = shell.run("%%workflow --cache redis://localhost:1/0\n1")
        assert "pip install 'nbstep[redis]'" in str(stopped.error)
        assert type(stopped.error).__name__ == "CellStopped", "one line, no traceback of ours"
        bad = shell.run("%%workflow --cache redis://ada:s3?cret@h\n1")
        assert ("is no URL of a Redis server" in str(bad.error), "s3" in str(bad.error)) == (True, False)


def test_t10_no_cell_shows_the_password_of_a_url(redis_url: str, client: Any, tmp_path: Path) -> None:
    client.acl_setuser("ada", enabled=True, passwords=["+s3cret"], keys=["*"], commands=["+@all"])
    login = redis_url.replace("redis://", "redis://ada:s3cret@")
    cells = [
        f"%%workflow users --cache {login} {flag}\nvalue = step(lambda: 1 / {n}, key='user:{n}')"
        for flag in ("", "--plan", "--mode refresh") for n in (1, 0)
    ]  # fmt: skip
    cells += [f"%%step user:2 --cache {login}\nx = 1", f"from nbstep import Cache; Cache({login!r})"]
    verbs = (
        "ls",
        "show user:0",
        "doctor",
        "settings",
        "panel",
        "rm user:1",
        "retry user:0",
        "undo",
        "ls --trash",
        "trust",
    )
    cells += [f"%nbstep {verb} --cache {login}" for verb in verbs]
    with open_shell(tmp_path) as shell:
        shown = [shell.run(cell) for cell in cells]
    assert [ran.text for ran in shown if "s3cret" in ran.text] == []
    assert sum(redis_url in ran.text for ran in shown) >= len(cells) // 2
    assert b"s3cret" not in b"".join(client.dump(name) or b"" for name in client.keys("*"))


def test_e3_retry_over_a_server_is_for_the_errors_that_the_last_cell_met(
    redis_url: str, client: Any, tmp_path: Path
) -> None:
    cell = f"%%workflow --cache {redis_url}\ndef bad(n): raise ValueError(n)\n"
    each = "for n in {}: step(bad, n, key=f'b:{{n}}', on_error='keep')"
    with open_shell(tmp_path) as shell:
        assert (
            "is not logged. All kept errors: %nbstep retry --cache"
            in shell.run(f"%nbstep retry --cache {redis_url}").text
        )
        shell.good(cell + each.format("(1, 2, 3)"))
        told = shell.good(cell + each.format("(1, 2)")).text
        command = re.search(r"2 failures are kept. Try them again: %(nbstep retry \S+ \S+);", told)
        assert command is not None, told
        done = shell.good(f"%{command[1]}").text
        assert "Deleted 2 kept errors" in done
        assert "1 kept error of earlier runs stays" in done
        assert "met no error that is still kept. 1 older one" in shell.run(f"%{command[1]}").text


def test_n9_a_kept_error_names_the_command_for_its_server(redis_url: str, client: Any) -> None:
    workflow = create_workflow(cache=redis_url)

    def fails() -> None:
        raise LookupError("no such user")

    for _ in range(2):
        result = workflow(lambda step: step(fails, key="user:1"))
    assert f"nbstep retry --cache {redis_url} user:1" in "\n".join(result.error.__notes__)


def test_c4_tasks_and_threads_of_one_kernel_compute_a_key_once(redis_url: str, client: Any) -> None:
    calls: list[int] = []

    async def body(step: Any) -> list[Any]:
        async def fetch() -> int:
            calls.append(1)
            await asyncio.sleep(0.05)
            return 1

        return await asyncio.gather(*[step(fetch, key="k") for _ in range(5)])

    listener = RecordingListener()
    assert asyncio.run(_awaited(create_workflow(cache=redis_url, on_event=listener)(body))) == Ok([1] * 5)
    assert len(calls) == 1
    assert open_store(redis_url).locks is None, "between kernels it promises nothing"


def test_c3_a_replica_without_its_primary_is_no_cluster(tmp_path: Path) -> None:
    """Told by the finding of the step, which computes."""
    told = RecordingListener()
    no_one = str(free_port())
    with running(tmp_path, "--replicaof", "127.0.0.1", no_one, "--replica-serve-stale-data", "no") as replica:
        workflow = create_workflow(cache=replica.url, on_event=told)
        assert workflow(lambda step: step(lambda: 1, key="k")) == Ok(1)
    (text,) = told.findings()
    assert "is a replica whose primary server is away" in text
    assert "luster" not in text


def test_c3_a_server_that_cannot_save_is_read_and_told_once(tmp_path: Path) -> None:
    told = RecordingListener()
    (tmp_path / "data").mkdir()
    with running(tmp_path / "data", "--save", "3600 1") as server:
        workflow = create_workflow(cache=server.url, on_event=told)
        workflow(lambda step: step(lambda: 1, key="kept"))
        (tmp_path / "data").rmdir()
        with redis.Redis(port=server.port, decode_responses=True) as admin:
            admin.bgsave()
            while cast("Any", admin.info("persistence"))["rdb_last_bgsave_status"] == "ok":
                time.sleep(0.05)
        assert workflow(lambda step: step.map(abs, range(20), key="n:{}")) == Ok([*range(20)])
        assert workflow(lambda step: step(lambda: 2, key="kept", on_drift="ignore")) == Ok(1)
    lines = [text for text in told.findings() if "In all" not in text]
    assert len(lines) == 1
    assert "cannot save to its own disk" in lines[0]
    assert "RENAME" not in lines[0]


def test_c3_a_server_that_runs_a_script_without_end_is_left_alone_and_told(tmp_path: Path) -> None:
    told = RecordingListener()
    with running(tmp_path, "--busy-reply-threshold", "50") as server:
        workflow = create_workflow(cache=server.url, on_event=told)
        with socket.create_connection(("127.0.0.1", server.port)) as other:
            other.sendall(b'EVAL "while true do end" 0\r\n')
            time.sleep(0.3)
            assert workflow(lambda step: step.map(abs, range(20), key="n:{}")) == Ok([*range(20)])
    (line,) = {text for text in told.findings() if "In all" not in text}
    assert "is busy running a script" in line
