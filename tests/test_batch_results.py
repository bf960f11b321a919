"""step.map in other processes: a worker that reaches the cache keeps what it got, and only a receipt comes back (K3, C3)."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from redis_server import running

from nbstep import Cache, Err, Ok, create_workflow
from nbstep.cache.reach import NotReached, Reach, reached
from nbstep.cache.trust import SigningKey, signing_key
from nbstep.events import Finding, StepFinished, StepHit
from nbstep.steps.handover import HandedStep
from nbstep.testing import RecordingListener

LARGE = 50_000_000


def end_workers() -> None:
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True, kill_workers=True)


@pytest.fixture(autouse=True, scope="module")
def workers() -> Iterator[None]:
    end_workers()  # those of another file's tests do not know the key of these
    yield
    end_workers()


@pytest.fixture(autouse=True)
def _one_key(team_key: SigningKey) -> None:
    """Workers live longer than a test, and know the key that they began with."""


def mapped(cache: Any, fn: Any, items: Any, told: RecordingListener | None = None, **options: Any) -> Any:
    workflow = create_workflow(cache=cache, on_event=told)
    with joblib.parallel_config(backend="loky"):
        return workflow(lambda step: step.map(fn, items, key="n:{}", **{"n_jobs": 2, **options}))


def findings(told: RecordingListener) -> list[str]:
    return [one.text for one in told.of(Finding) if one.kind in {"workers", "not-fetched"}]


def test_k3_a_large_result_goes_from_the_worker_to_the_folder(tmp_path: Path, sent: list[int]) -> None:
    told = RecordingListener()

    def work(n: int) -> tuple[int, Any]:
        return os.getpid(), np.full(LARGE // 8, n, dtype="int64")

    results = mapped(tmp_path, work, [1, 2], told).value
    assert [int(array[-1]) for _, array in results] == [1, 2]
    assert os.getpid() not in {pid for pid, _ in results}
    assert len(sent) == 2
    assert max(sent) < 10_000
    assert [one.size_bytes > LARGE for one in told.of(StepFinished) if one.size_bytes] == [True, True]
    again = mapped(tmp_path, work, [1, 2], told).value
    assert [pid for pid, _ in again] == [pid for pid, _ in results]
    assert len(told.of(StepHit)) == 2
    assert findings(told) == []


@pytest.mark.parametrize("reached", [True, False], ids=["folder", "dict"])
def test_c3_an_open_file_is_not_kept_as_a_copy_of_its_text(tmp_path: Path, reached: bool) -> None:
    told, cache = RecordingListener(), Cache(tmp_path / "kept" if reached else {})
    (tmp_path / "read.txt").write_text("its text")
    path = str(tmp_path / "read.txt")

    def opened(n: int) -> Any:
        return {"n": n, "file": open(path)}

    results = mapped(cache, opened, [1], told).value
    assert results[0]["file"].read() == "its text"
    assert not list(cache.entries())
    assert [one.text for one in told.of(Finding)] == [
        "n:1 was not kept: result has an open file in it, of which a worker could send the text alone: "
        "return what it holds instead"
    ]


def test_c3_what_holds_the_output_stream_of_its_process_is_kept_though(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", sys.__stdout__)  # pytest's own cannot be kept
    told = RecordingListener()

    def streams(n: int) -> Any:
        return {"n": n, "out": sys.stdout}

    cache = Cache({})
    for _ in range(2):
        mapped(cache, streams, [1], told)
    assert [one.key for one in told.of(StepHit)] == ["n:1"]
    assert not [one for one in told.of(Finding) if "open file" in one.text]


def test_d1_an_entry_says_the_same_whoever_keeps_it(tmp_path: Path) -> None:
    told, factor = RecordingListener(), 3

    def work(n: int) -> dict[str, int]:
        return {"product": n * factor}

    mapped(tmp_path / "workers", work, [1], told, ttl="1h")
    create_workflow(cache=tmp_path / "threads")(lambda step: step.map(work, [1], key="n:{}", ttl="1h"))
    (by_worker,), (by_kernel,) = (Cache(tmp_path / name).entries() for name in ("workers", "threads"))
    assert findings(told) == []
    for name in ("key", "outcome", "type", "shape", "preview", "signer", "packages", "python"):
        assert getattr(by_worker, name) == getattr(by_kernel, name)
    for name in ("code", "exact", "inputs", "names", "uses", "ttl_s", "awaitable", "returned", "workflow", "source"):
        assert getattr(by_worker.facts, name) == getattr(by_kernel.facts, name)
    create_workflow(cache=tmp_path / "workers", on_event=told)(lambda step: step.map(work, [1], key="n:{}"))
    assert [hit.drift for hit in told.of(StepHit)] == [None]


def test_d2_a_file_that_the_work_writes_is_state(tmp_path: Path) -> None:
    told = RecordingListener()
    (tmp_path / "report").write_text("old")

    def work(path: str) -> int:
        return Path(path).write_text("a longer report")

    for _ in range(2):
        assert mapped(tmp_path / "cache", work, [str(tmp_path / "report")], told) == Ok([15])
    assert [hit.drift for hit in told.of(StepHit)] == [None]
    assert findings(told) == []


def test_e1_errors_are_kept_by_the_kernel(tmp_path: Path) -> None:
    told = RecordingListener()

    def work(n: int) -> int:
        if n == 1:
            raise ValueError("no 1")
        return n

    for _ in range(2):
        results = mapped(tmp_path, work, range(3), told, on_error="keep").value
        assert [type(one) for one in results] == [Ok, Err, Ok]
    assert len(told.of(StepHit)) == 3


def test_e6_what_a_worker_replaces_comes_back_with_one_undo(tmp_path: Path) -> None:
    told = RecordingListener()
    first = mapped(tmp_path, lambda n: (n, "first"), range(3)).value
    assert mapped(tmp_path, lambda n: (n, "second"), range(3), told, refresh=True).value[0] == (0, "second")
    assert findings(told) == []
    cache = Cache(tmp_path)
    assert sorted(cache.undo()) == ["n:0", "n:1", "n:2"]
    assert [cache.get(f"n:{n}") for n in range(3)] == first


def test_c3_what_is_gone_before_the_kernel_took_it_is_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: list[int]
) -> None:
    told, end = RecordingListener(), HandedStep.end
    once = [True]

    def deleting(step: HandedStep, outcome: bytes) -> Any:
        if once:
            once.clear()
            assert Cache(tmp_path).clear() > 0
        return end(step, outcome)

    monkeypatch.setattr(HandedStep, "end", deleting)
    assert mapped(tmp_path, lambda n: n * 2, [1], told) == Ok([2])
    assert len(sent) == 2
    assert findings(told) == [
        "n:1: a worker kept it, but here the cache does not have it; so it runs again. Others may, too"
    ]
    assert Cache(tmp_path).get("n:1") == 2


def test_c3_what_stood_there_before_is_not_taken_for_what_the_worker_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, end = RecordingListener(), HandedStep.end
    assert mapped(tmp_path, lambda n: "old", [1]) == Ok(["old"])
    once = [True]

    def undoing(step: HandedStep, outcome: bytes) -> Any:
        if once:
            once.clear()
            assert Cache(tmp_path).undo() == ["n:1"]
        return end(step, outcome)

    monkeypatch.setattr(HandedStep, "end", undoing)
    assert mapped(tmp_path, lambda n: "new", [1], told, refresh=True) == Ok(["new"])
    assert findings(told) == [
        "n:1: a worker kept it, but here the cache has another one; so it runs again. Others may, too"
    ]


def test_a_worker_without_the_key_sends_its_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: list[int]
) -> None:
    told = RecordingListener()
    end_workers()  # new ones get this environment
    monkeypatch.setenv("NBSTEP_SIGNING_KEY_FILE", str(tmp_path / "no-such-key"))
    try:
        results = mapped(tmp_path / "cache", lambda n: bytes(100_000), [1, 2], told).value
    finally:
        end_workers()
    assert [len(one) for one in results] == [100_000, 100_000]
    assert min(sent) > 100_000
    (line,) = findings(told)
    assert line.startswith("results come back through this kernel: a worker on ")
    assert f"does not have the signing key {signing_key().id}: let NBSTEP_SIGNING_KEY_FILE name its file" in line
    assert sorted(Cache(tmp_path / "cache").keys()) == ["n:1", "n:2"]
    assert not (tmp_path / "no-such-key").exists()


@pytest.mark.redis
def test_c3_a_server_that_ends_while_workers_work_costs_no_value(tmp_path: Path) -> None:
    told = RecordingListener()
    with running(tmp_path) as server:
        pid = server.pid

        def work(n: int) -> int:
            os.kill(pid, 9)
            return n

        assert mapped(f"{server.url}?timeout=5", work, [1], told) == Ok([1])
    assert [one.not_kept != "" for one in told.of(StepFinished)] == [True]


@pytest.mark.redis
def test_c3_a_server_that_is_away_for_a_moment_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: list[int]
) -> None:
    told, end = RecordingListener(), HandedStep.end
    with running(tmp_path) as server:
        cache = Cache(server.url)

        def let_go() -> None:
            while cache.why_resting() is None:  # until a call of this process was not answered
                time.sleep(0.01)
            os.kill(server.pid, signal.SIGCONT)

        def freezing(step: HandedStep, outcome: bytes) -> Any:
            os.kill(server.pid, signal.SIGSTOP)
            threading.Thread(target=let_go, daemon=True).start()
            return end(step, pickle.dumps({**pickle.loads(outcome), "took_s": 60.0}))

        monkeypatch.setattr(HandedStep, "end", freezing)
        assert mapped(cache, lambda n: n, [1], told) == Ok([1])
    assert (len(sent), told.of(Finding)) == (1, [])


def test_the_folder_is_used_only_where_it_is_the_same_one(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    reach = Reach(cache)
    assert reached(reach.envelope).directory == cache.directory
    reach.close()
    other = Reach(cache)
    other.close()  # as where another machine has a folder of this name
    with pytest.raises(NotReached) as missed:
        reached(other.envelope)
    assert str(missed.value) == ""
    assert list((tmp_path / "v1" / "tmp").iterdir()) == []


@pytest.mark.redis
def test_behind_a_folder_of_another_machine_the_shared_cache_is_used(tmp_path: Path, redis_url: str) -> None:
    reach = Reach(Cache([tmp_path, f"{redis_url}?prefix=reach"]))
    reach.close()
    assert reached(reach.envelope).place == f"{redis_url}?prefix=reach"


@pytest.mark.redis
def test_t14_no_key_or_password_is_sent_and_another_server_at_the_address_is_told(tmp_path: Path) -> None:
    import redis

    with running(tmp_path, "--requirepass", "hush-7") as server:
        cache = Cache(server.url.replace("//", "//:hush-7@"))
        reach = Reach(cache)
        assert b"hush-7" not in reach.envelope
        assert signing_key().secret not in reach.envelope
        assert reached(reach.envelope).place == cache.place
        other = Reach(cache)
        client = redis.Redis.from_url(server.url, password="hush-7")
        client.flushdb()
        client.close()
        with pytest.raises(NotReached, match=r"a worker on .* finds another server at redis://127.0.0.1"):
            reached(other.envelope)


def test_t14_an_address_that_somebody_changed_on_its_way_is_not_opened(tmp_path: Path) -> None:
    fields = pickle.loads(Reach(Cache(tmp_path)).envelope)
    assert reached(pickle.dumps(fields)).directory == tmp_path
    for at in range(0, len(fields["sealed"]), 7):
        sealed = bytearray(fields["sealed"])
        sealed[at] ^= 1
        with pytest.raises(NotReached, match="does not have the signing key"):
            reached(pickle.dumps({**fields, "sealed": bytes(sealed)}))


def test_a_worker_of_another_format_is_told(tmp_path: Path) -> None:
    reach = Reach(Cache(tmp_path))
    fields = {**pickle.loads(reach.envelope), "container": b"NBSTEP9\n", "version": "9.0"}
    with pytest.raises(NotReached, match=r"has nbstep .*, whose entries are not those of 9\.0 here: install the same"):
        reached(pickle.dumps(fields))


def test_what_only_this_process_has_is_not_for_workers() -> None:
    for where in ({}, "memory:", "memory://bucket"):
        with pytest.raises(NotReached):
            Reach(Cache(where))


def test_classes_of_the_notebook_come_back_as_its_own(tmp_path: Path) -> None:
    script = tmp_path / "classes.py"
    script.write_text(
        "import enum, joblib, sys\n"
        "from dataclasses import dataclass\n"
        "from nbstep import create_workflow\n"
        "from nbstep.testing import RecordingListener\n"
        "from nbstep.events import Finding\n"
        "told = RecordingListener()\n"
        "@dataclass\n"
        "class Point:\n"
        "    x: int\n"
        "class Colour(enum.Enum):\n"
        "    RED = 1\n"
        "def work(n):\n"
        "    return Point(n), Colour.RED\n"
        "with joblib.parallel_config(backend='loky'):\n"
        "    run = create_workflow(cache=sys.argv[1], on_event=told)\n"
        "    result = run(lambda step: step.map(work, [1], key='n:{}', n_jobs=2))\n"
        "assert not told.of(Finding), told.of(Finding)\n"
        "(point, colour), = result.value\n"
        "assert isinstance(point, Point) and point == Point(1), type(point)\n"
        "assert colour is Colour.RED\n"
        "print('same')\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "cache")], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout, done.returncode) == ("same\n", 0), done.stderr
