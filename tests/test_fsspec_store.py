"""A cache in a bucket: a real S3-compatible server, two clients, and a network that loses, repeats, cuts and delays (C1 to C3)."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from s3_server import Proxy, S3Server, once, proxy_before, s3_server

from nbstep.cache.cache import Cache
from nbstep.cache.records import Facts, Hit, Kept, Miss
from nbstep.commands.verbs import run_command
from nbstep.events import Finding
from nbstep.result import Err, Ok
from nbstep.stores import objects
from nbstep.stores.base import run_now
from nbstep.stores.fsspec import FsspecStore
from nbstep.testing import RecordingListener, SettableClock, check_store, create_workflow

pytestmark = pytest.mark.s3

_numbers = itertools.count(1)
LIMIT_S = 60.0  # of what must not hang, on a loaded machine


@pytest.fixture(scope="session")
def server() -> Iterator[S3Server]:
    with s3_server() as one:
        yield one


@pytest.fixture
def bucket(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket of the server, with the environment in which clients find it."""
    name = f"bucket-{next(_numbers)}"
    server.make_bucket(name)
    _environment(monkeypatch, server.url)
    return name


@pytest.fixture
def proxy(server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy between clients and server."""
    with proxy_before(server) as one:
        monkeypatch.setenv("AWS_ENDPOINT_URL", one.url)
        yield one


def _environment(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def client(code: str, **environ: str) -> str:
    """What another process prints that works on the same bucket."""
    done = subprocess.run(
        [sys.executable, "-c", f"import os\nfrom nbstep import Cache, create_workflow\n{code}"],
        env={**os.environ, **environ}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def reason(cache: Cache, key: str) -> str:
    found = run_now(cache.look_up(key, insist=True))
    return found.reason if isinstance(found, Miss) else "hit"


def run_steps(cache: Cache, keys: list[str], listener: RecordingListener) -> tuple[list[str], list[str]]:
    """The values of steps over a cache, and the keys whose thunks ran."""
    ran: list[str] = []

    def thunk(key: str) -> str:
        ran.append(key)
        return key.upper()

    workflow = create_workflow(cache=cache, on_event=listener)
    return workflow(lambda step: [step(thunk, key, key=key) for key in keys]).unwrap(), ran


# The contract -----------------------------------------------------------------------------------------------------------


def test_c1_a_bucket_keeps_the_contract_of_stores(bucket: str) -> None:
    check_store(f"s3://{bucket}/team")


def test_c1_any_file_system_that_fsspec_knows_keeps_it_too() -> None:
    check_store(f"memory://shared-{next(_numbers)}/team")


def test_c1_one_object_an_entry_whose_name_is_a_hash(server: S3Server, bucket: str) -> None:
    cache = Cache(f"s3://{bucket}/team")
    cache.set("user:1/../../x", "Ada")
    (name,) = server.names(bucket)
    assert name.startswith("team/v1/e/")
    assert set(name.removeprefix("team/v1/e/")) <= set("0123456789abcdef/")
    assert cache.get("user:1/../../x") == "Ada"
    assert (cache.place, cache.directory, cache.is_async) == (f"s3://{bucket}/team", None, False)


def test_c1_a_hit_on_a_small_entry_is_one_request_and_so_is_keeping_a_new_one(proxy: Proxy, bucket: str) -> None:
    cache = Cache(f"s3://{bucket}/team")
    cache.set("user:1", "Ada")
    assert [one.partition(" ")[0] for one in proxy.seen] == ["PUT"]
    proxy.seen.clear()
    assert cache.get("user:1") == "Ada"
    assert [one.partition(" ")[0] for one in proxy.seen] == ["GET"]


def test_c2_a_list_reads_headers_only_and_again_only_what_changed(proxy: Proxy, bucket: str) -> None:
    cache = Cache(f"s3://{bucket}/team")
    for number in range(30):
        cache.set(f"big:{number}", np.full(100_000, float(number)))
    proxy.seen.clear()
    proxy.largest = 0
    assert len(cache.entries()) == 30
    assert proxy.asked("GET") == 31
    assert proxy.largest < 64 * 1024
    cache.set("big:3", np.zeros(100_000))
    proxy.seen.clear()
    assert len(cache.entries()) == 30
    assert proxy.asked("GET") == 2


def test_k9_a_large_value_is_the_callers_own_each_time(bucket: str) -> None:
    cache = Cache(f"s3://{bucket}/team")
    value = np.arange(12_000_000.0)  # several parts up, several pieces down
    cache.set("big", value)
    hit = run_now(cache.look_up("big"))
    assert isinstance(hit, Hit)
    first = hit.load()
    first[:] = -1.0
    assert np.array_equal(hit.load(), value)
    assert np.array_equal(cache.get("big"), value)


# Two clients ------------------------------------------------------------------------------------------------------------


def test_c1_what_one_process_keeps_another_gets_and_what_it_deletes_is_gone(bucket: str) -> None:
    cache = Cache(f"s3://{bucket}/team")
    assert (reason(cache, "user:1"), cache.keys()) == ("new", [])
    code = f"cache = Cache('s3://{bucket}/team')\n"
    client(code + "cache.set('user:1', {'name': 'Ada'})")
    assert cache.get("user:1") == {"name": "Ada"}
    assert cache.keys() == ["user:1"]
    assert client(code + "print(cache.delete('user:1'))") == "True"
    assert reason(cache, "user:1") == "deleted"
    assert cache.keys() == []
    assert cache.undo() == ["user:1"]
    assert client(code + "print(cache.get('user:1'))") == "{'name': 'Ada'}"


def test_c2_undo_brings_back_what_one_deleted_oneself_before_what_others_did(bucket: str) -> None:
    cache = Cache(f"s3://{bucket}/team")
    cache.set("mine", 1)
    cache.set("theirs", 2)
    assert cache.delete("mine")
    client(f"Cache('s3://{bucket}/team').delete('theirs')")
    assert cache.undo() == ["mine"]
    assert cache.keys() == ["mine"]
    assert cache.undo("theirs") == ["theirs"]


def test_e6_what_replaces_an_entry_keeps_the_old_one_for_a_day(bucket: str) -> None:
    now = [time.time_ns()]
    store = FsspecStore(f"s3://{bucket}/team", clock=lambda: now[0])
    cache = Cache(f"s3://{bucket}/team")
    cache._entries.store = store
    cache.set("user:1", "old")
    cache.set("user:1", "new")
    assert (cache.get("user:1"), cache.trash().entries) == ("new", 1)
    assert cache.undo() == ["user:1"]
    assert (cache.get("user:1"), cache.trash().entries) == ("old", 1)
    now[0] += 25 * 3600 * 10**9
    assert cache.trash().entries == 0
    assert cache.undo() == []
    assert run_now(store.collect(dry_run=False)).trashed.count == 1
    assert run_now(store.collect(dry_run=False)).trashed.count == 0


def test_c1_two_processes_that_keep_one_key_at_once_both_get_their_value_and_one_entry_stands(
    server: S3Server, bucket: str
) -> None:
    code = (
        "import sys\nsys.stdin.readline()\n"
        f"workflow = create_workflow(cache='s3://{bucket}/team')\n"
        "for n in range(10):\n"
        "    assert workflow(lambda step: step(lambda: n, key=f'k{n}', refresh=True)).unwrap() == n\n"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", f"from nbstep import create_workflow\n{code}"], stdin=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for one in both:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.close()
    assert [one.wait(300) for one in both] == [0, 0]
    cache = Cache(f"s3://{bucket}/team")
    assert [cache.get(f"k{n}") for n in range(10)] == list(range(10))
    assert len([name for name in server.names(bucket) if "." not in name]) == 10


def test_c1_a_team_key_is_shared_and_what_another_key_signed_is_untrusted(bucket: str, tmp_path: Path) -> None:
    code = f"Cache('s3://{bucket}/team').set('user:1', 'theirs')"
    client(code, JUPYTER_DATA_DIR=str(tmp_path / "other"))
    cache = Cache(f"s3://{bucket}/team")
    found = run_now(cache.look_up("user:1"))
    assert isinstance(found, Miss)
    assert found.reason == "untrusted"
    assert "nbstep trust" in (found.detail or "")
    assert [meta.trusted for meta in cache.entries()] == [False]
    cache.set("user:1", "mine")  # beside it, never over it
    assert cache.get("user:1") == "mine"
    assert len(cache.entries()) == 2

    team = tmp_path / "team.key"
    team.write_bytes(os.urandom(32).hex().encode())
    team.chmod(0o600)
    shared = {"NBSTEP_SIGNING_KEY_FILE": str(team)}
    client(f"Cache('s3://{bucket}/team').set('user:2', 'ours')", **shared, JUPYTER_DATA_DIR=str(tmp_path / "a"))
    got = client(f"print(Cache('s3://{bucket}/team').get('user:2'))", **shared, JUPYTER_DATA_DIR=str(tmp_path / "b"))
    assert got == "ours"


def test_c1_a_forked_child_asks_by_a_connection_of_its_own(bucket: str) -> None:
    out = client(
        f"cache = Cache('s3://{bucket}/team')\ncache.set('k', 7)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n    os._exit(cache.get('k'))\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), cache.get('k'))"
    )
    assert out == "7 7"


# A network that fails ---------------------------------------------------------------------------------------------------


def test_c3_an_answer_lost_after_the_server_did_the_work_costs_no_value(proxy: Proxy, bucket: str) -> None:
    cache = Cache(f"s3://{bucket}/team")
    cache.set("b", 1)
    listener = RecordingListener()
    proxy.fault = once("lose", "PUT")  # aiohttp sends it once more at once; then the entry stands there already
    assert run_steps(cache, ["a"], listener) == (["A"], ["a"])
    assert (listener.findings(), cache.get("a"), cache.trash().entries) == ([], "A", 0)
    proxy.fault = lambda method, path: "lose" if method == "PUT" else ""
    assert run_steps(cache, ["c"], listener) == (["C"], ["c"])
    (line,) = listener.findings()
    assert line.startswith(f"s3://{bucket}/team did not answer just now (")
    assert re.search(r"; asked again in [\d.]+ s; until then steps compute, and nothing is kept$", line)
    proxy.fault = lambda method, path: ""
    assert cache.get("c") == "C"  # it is there after all, whole


def test_c1_a_request_that_comes_twice_leaves_one_entry_and_nothing_in_the_trash(proxy: Proxy, bucket: str) -> None:
    cache = Cache(f"s3://{bucket}/team")
    proxy.fault = once("repeat", "PUT")
    cache.set("a", 1)
    assert (cache.get("a"), cache.trash().entries) == (1, 0)
    proxy.fault = lambda method, path: "repeat" if method in {"PUT", "DELETE"} else ""
    cache.set("a", 2)
    assert cache.trash().entries == 1
    assert cache.delete("a")
    assert reason(cache, "a") == "deleted"
    assert cache.undo("a") == ["a"]
    assert cache.get("a") == 2


@pytest.mark.parametrize("kind", ["slow down", "lose"])
def test_c3_nothing_is_asked_twice_in_secret_and_a_server_in_trouble_rests(
    proxy: Proxy, bucket: str, kind: str
) -> None:
    cache = Cache(f"s3://{bucket}/team")
    cache.store.breaker.clock = SettableClock(100.0)  # type: ignore[union-attr]
    listener = RecordingListener()
    proxy.fault = lambda method, path: kind
    keys = [f"k{n}" for n in range(5)]
    assert run_steps(cache, keys, listener) == ([key.upper() for key in keys], keys)
    assert len(proxy.seen) == {"slow down": 1, "lose": 2}[kind]  # aiohttp's own second try, without a wait
    assert len(listener.findings()) == 1
    assert listener.reasons("k0") == ["unreadable"]


def test_c3_a_body_that_ends_half_way_is_a_miss_and_told(proxy: Proxy, bucket: str) -> None:
    cache = Cache(f"s3://{bucket}/team")
    listener = RecordingListener()
    run_steps(cache, ["a"], listener)
    proxy.fault = once("cut", "GET")
    assert run_steps(cache, ["a"], listener) == (["A"], ["a"])
    assert listener.reasons("a")[-1] == "unreadable"
    assert len(listener.findings()) == 1


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_c3_a_server_that_never_answers_costs_one_time_out(
    proxy: Proxy, bucket: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(f"s3://{bucket}/team")
    cache.get("warm")  # imports and credentials
    monkeypatch.setattr(objects, "ANSWER_S", 1.0)
    listener = RecordingListener()
    proxy.fault = lambda asked, path: "hold" if asked == method else ""
    began = time.monotonic()
    keys = [f"k{n}" for n in range(200)]
    assert run_steps(cache, keys, listener)[0] == [key.upper() for key in keys]
    assert time.monotonic() - began < LIMIT_S
    (line,) = listener.findings()
    assert line.startswith(f"s3://{bucket}/team did not answer just now (TimeoutError: no answer within 1 s)")


def test_c3_a_frozen_server_costs_one_time_out_and_is_used_again_when_it_thaws(
    server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(f"s3://{bucket}/team")
    cache.set("a", "A")
    monkeypatch.setattr(objects, "ANSWER_S", 1.0)
    listener = RecordingListener()
    with server.frozen():
        began = time.monotonic()
        assert run_steps(cache, ["a", "b"], listener) == (["A", "B"], ["a", "b"])
        assert time.monotonic() - began < LIMIT_S
    monkeypatch.setattr(objects, "ANSWER_S", 30.0)
    breaker = cache._entries.store.breaker
    assert breaker is not None
    breaker.clock = lambda: time.monotonic() + 31
    assert run_steps(cache, ["a", "b"], listener) == (["A", "B"], ["b"])


@pytest.mark.parametrize("command", ["entries", "verify"])
def test_c3_a_server_that_stops_answering_in_the_middle_of_a_list_costs_one_time_out(
    proxy: Proxy, bucket: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(f"s3://{bucket}/team")
    for number in range(60):
        cache.set(f"k{number}", number)
    monkeypatch.setattr(objects, "ANSWER_S", 1.0)
    proxy.fault = lambda method, path: "" if "list-type" in path else "hold"
    began = time.monotonic()
    getattr(cache, command)()
    assert time.monotonic() - began < 30  # one after the other they would take 60 s


def test_c3_a_large_value_whose_upload_or_download_breaks_off_is_never_lost(proxy: Proxy, bucket: str) -> None:
    value = np.arange(4_000_000.0)
    for kind, part in (("lose", "partNumber=2"), ("slow down", "?uploads"), ("slow down", "partNumber=3")):
        proxy.fault = lambda method, path, kind=kind, part=part: kind if part in path else ""
        cache = Cache(f"s3://{bucket}/{next(_numbers)}")
        result = create_workflow(cache=cache)(lambda step: step(lambda: value, key="big"))
        assert isinstance(result, Ok)
        assert np.array_equal(result.value, value)
        proxy.fault = lambda method, path: ""
        assert cache.keys() == []
    cache = Cache(f"s3://{bucket}/{next(_numbers)}")
    listener = RecordingListener()
    workflow = create_workflow(cache=cache, on_event=listener)
    workflow(lambda step: step(lambda: value, key="big"))
    left = [2]  # the beginning passes, the rest is cut

    def cut_the_second(method: str, path: str) -> str:
        left[0] -= method == "GET"
        return "cut" if method == "GET" and left[0] == 0 else ""

    proxy.fault = cut_the_second
    result = workflow(lambda step: step(lambda: value, key="big"))
    assert isinstance(result, Ok)
    assert np.array_equal(result.value, value)
    assert listener.reasons("big") == ["new", "unreadable"]


# Places that cannot be used ---------------------------------------------------------------------------------------------


def test_c3_a_missing_bucket_is_one_line_and_is_not_made(server: S3Server, bucket: str) -> None:
    listener = RecordingListener()
    cache = Cache("s3://no-such-bucket/team")
    assert run_steps(cache, ["a", "b", "c"], listener) == (["A", "B", "C"], ["a", "b", "c"])
    (line,) = listener.findings()
    assert line.startswith(
        "s3://no-such-bucket/team could not be used just now (Refused: there is no such bucket); asked again in "
    )
    assert line.endswith(" s; until then steps compute, and nothing is kept")
    assert "no-such-bucket" not in {one["Name"] for one in server.client.list_buckets()["Buckets"]}


def test_c3_wrong_credentials_are_one_line_that_shows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server(INITIAL_NO_AUTH_ACTION_COUNT="1") as strict:
        _environment(monkeypatch, strict.url)
        strict.make_bucket("strict")
        listener = RecordingListener()
        cache = Cache("s3://strict/team")
        assert run_steps(cache, ["a", "b"], listener) == (["A", "B"], ["a", "b"])
    (line,) = listener.findings()
    assert line.startswith("s3://strict/team could not be used just now (Refused: InvalidAccessKeyId)")
    assert "hunter2" not in line


def test_c3_no_credentials_at_all_are_one_line(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    listener = RecordingListener()
    assert run_steps(Cache(f"s3://{bucket}/team"), ["a", "b"], listener)[0] == ["A", "B"]
    (line,) = listener.findings()
    assert "no credentials" in line


def test_c3_a_bucket_one_may_only_read_is_read(proxy: Proxy, bucket: str) -> None:
    cache = Cache(f"s3://{bucket}/team")
    listener = RecordingListener()
    run_steps(cache, ["a"], listener)
    proxy.fault = lambda method, path: "" if method in {"GET", "HEAD"} else "deny"
    assert run_steps(cache, ["b", "a", "c"], listener) == (["B", "A", "C"], ["b", "c"])
    line, summary = listener.findings()
    assert summary == "In all, 2 results were not kept: b, c"
    why = "is read-only for you (AccessDenied): what it holds is used, nothing new is kept there"
    assert line == f"b was not kept: {cache.place} {why}"


def test_c3_a_server_that_is_not_there_is_one_line(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    listener = RecordingListener()
    began = time.monotonic()
    assert run_steps(Cache(f"s3://{bucket}/team"), ["a", "b"], listener)[0] == ["A", "B"]
    assert time.monotonic() - began < LIMIT_S
    assert len(listener.findings()) == 1


# Behind a folder --------------------------------------------------------------------------------------------------------


def test_c3_a_frozen_bucket_behind_a_folder_costs_one_time_out_and_a_line(
    server: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = Cache(f"s3://{bucket}/team")
    far.set("theirs", "THEIRS")
    cache = Cache([tmp_path, f"s3://{bucket}/team"])
    assert run_steps(cache, ["ours", "theirs"], RecordingListener()) == (["OURS", "THEIRS"], ["ours"])
    assert sorted(far.keys()) == ["ours", "theirs"]
    monkeypatch.setattr(objects, "ANSWER_S", 1.0)
    listener = RecordingListener()
    with server.frozen():
        began = time.monotonic()
        assert run_steps(cache, ["ours", "theirs", "new", "newer"], listener)[1] == ["new", "newer"]
        assert sorted(cache.keys()) == ["new", "newer", "ours", "theirs"]
        assert time.monotonic() - began < LIMIT_S
    (line,) = listener.findings()
    assert line.startswith(f"s3://{bucket}/team did not answer just now")
    assert line.endswith(f"until then only {Cache(tmp_path).place} is used")


# Objects that are not what they should be -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("spoil", ["truncated", "empty", "flipped", "foreign", "longer"])
def test_c3_a_spoiled_object_is_a_miss_that_is_told_and_replaced(
    server: S3Server, bucket: str, size: int, spoil: str
) -> None:
    cache = Cache(f"s3://{bucket}/team")
    value = np.arange(float(size))
    cache.set("a", value)
    (name,) = server.names(bucket)
    whole = server.read(bucket, name)
    spoiled = {
        "truncated": whole[: len(whole) * 2 // 3],
        "empty": b"",
        "flipped": whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:],
        "foreign": b"\x80\x05cos\nsystem\n(S'false'\ntR." * 20,
        "longer": whole + b"x",
    }[spoil]
    server.write(bucket, name, spoiled)
    listener = RecordingListener()
    workflow = create_workflow(cache=cache, on_event=listener)
    result = workflow(lambda step: step(lambda: value + 1, key="a"))
    assert isinstance(result, Ok)
    assert np.array_equal(result.value, value + 1)
    assert listener.reasons("a") == ["unreadable"]
    assert len(listener.findings()) == 1
    assert np.array_equal(cache.get("a"), value + 1)


def test_c1_objects_of_others_under_the_prefix_are_left_alone(server: S3Server, bucket: str) -> None:
    cache = Cache(f"s3://{bucket}/team")
    cache.set("a", 1)
    for name in ("team/v1/e/readme.txt", "team/v1/e/" + "0" * 64 + "/x", "team/other"):
        server.write(bucket, name, b"theirs")
    assert cache.keys() == ["a"]
    assert cache.clear() == 1
    assert cache.empty_trash() == 1
    assert len(server.names(bucket)) == 3


# How a place is named ---------------------------------------------------------------------------------------------------


def test_c1_a_url_is_shown_without_a_password() -> None:
    assert objects.shown_url("sftp://ada:hunter2@host/x/") == "sftp://host/x"
    assert (
        objects.shown_url("abfs://box@account.dfs.core.windows.net/x?sig=abc")
        == "abfs://box@account.dfs.core.windows.net/x"
    )


def test_c1_credentials_in_the_url_of_a_bucket_are_refused_and_not_shown() -> None:
    with pytest.raises(ValueError, match=r"cache=s3://bucket/x: credentials do not go into this URL") as raised:
        Cache("s3://key:hunter2@bucket/x?token=hunter2")
    assert "hunter2" not in str(raised.value)


def test_c3_what_a_person_asks_of_a_server_that_is_away_ends_in_a_short_error(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError) as raised:
        Cache(f"s3://{bucket}/away").keys()
    assert str(raised.value) == 'Could not connect to the endpoint URL: "http://127.0.0.1:9"'
    assert len("".join(traceback.format_exception(raised.value)).splitlines()) < 60


@pytest.mark.parametrize(
    ("missing", "url", "said"),
    [
        ("s3fs", "s3://bucket/x", "cache=s3:// needs another package: pip install 'nbstep[s3]'"),
        ("fsspec", "s3://bucket/x", "cache=s3:// needs fsspec: pip install 'nbstep[s3]'"),
        ("gcsfs", "gs://bucket/x", "cache=gs:// needs another package: install what fsspec needs for it"),
        ("nothing", "redis//h:6379/0", "cache=redis//… lacks its colon: write redis://…, or ./redis/… for a folder"),
        ("nothing", "nosuch://x", "cache=nosuch:…: unknown scheme 'nosuch'; known are memory:, file:, redis://"),
        ("nothing", "simplecache::s3://bucket/x", "cache=simplecache::… may hide what others keep"),
    ],
)
def test_c1_what_is_missing_for_a_url_is_said_at_once(missing: str, url: str, said: str) -> None:
    out = client(
        f"import sys\nsys.modules[{missing!r}] = None\n"
        f"try:\n    Cache({url!r})\nexcept ValueError as error:\n    print(error)"
    )
    assert said in out


@pytest.mark.parametrize(
    "url", ["http://host/cache", "https://host/cache", "github://org:repo@/x", "zip://x", "tar://x"]
)
def test_c1_a_place_where_nothing_can_be_kept_is_refused_at_once(url: str) -> None:
    scheme = url.partition(":")[0]
    with pytest.raises(
        ValueError, match=f"^cache={scheme}://…: nothing can be kept or deleted by {scheme}; name a folder, "
    ):
        Cache(url)


def test_c1_fsspec_is_imported_only_with_such_a_cache(tmp_path: Path) -> None:
    out = client("import sys\nCache('memory:').set('a', 1)\nprint('fsspec' in sys.modules, 's3fs' in sys.modules)")
    assert out == "False False"


def test_e1_a_kept_error_comes_back_from_a_bucket(bucket: str) -> None:
    cache = Cache(f"s3://{bucket}/team")
    kept: Any = run_now(cache.keep("error", Err(LookupError("gone")), Facts(took_s=0.1)))
    assert isinstance(kept, Kept)
    with pytest.raises(LookupError, match="gone"):
        cache.get("error")


def test_n6_commands_work_on_a_bucket_and_on_a_folder_before_it(bucket: str, tmp_path: Path) -> None:
    url = f"s3://{bucket}/team"
    tier = Cache([tmp_path / "near", url])
    tier.set("user:1", 1)
    Cache(url).set("user:2", 2)
    for named in (url, tier.place):
        listed = run_command(["ls", "--cache", named]).text
        assert "user:1" in listed
        assert "user:2" in listed
        deleted = run_command(["rm", "user:2", "--cache", named])
        assert deleted.exit_code == 0
        assert "undo --cache" in deleted.text
        assert run_command(["undo", "--cache", named]).exit_code == 0
        assert "asked by s3fs" in run_command(["doctor", "--cache", named]).text
    assert tier.get("user:2") == 2


def test_workers_keep_their_results_in_a_bucket(bucket: str, sent: list[int]) -> None:
    import joblib
    from joblib.externals.loky import get_reusable_executor

    told = RecordingListener()
    workflow = create_workflow(cache=f"s3://{bucket}/team", on_event=told)
    get_reusable_executor().shutdown(wait=True, kill_workers=True)  # new ones get this environment
    try:
        with joblib.parallel_config(backend="loky"):
            results = workflow(lambda step: step.map(lambda n: bytes(n), [1_000_000], key="n:{}", n_jobs=2))
    finally:
        get_reusable_executor().shutdown(wait=True, kill_workers=True)
    assert results == Ok([bytes(1_000_000)])
    assert (len(sent), max(sent) < 10_000, told.of(Finding)) == (1, True, [])
