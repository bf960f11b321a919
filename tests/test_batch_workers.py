"""step.map in other processes: joblib's loky, and a dask cluster of two worker processes that loses one (K3, C3, C4)."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest

from nbstep import Err, Ok, create_workflow
from nbstep.events import Finding, StepFinished, StepHit, StepStarted
from nbstep.testing import RecordingListener


@pytest.fixture(autouse=True, scope="module")
def workers() -> Iterator[None]:
    yield
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True, kill_workers=True)


def mapped(workflow: Any, fn: Any, items: Any, **options: Any) -> Any:
    with joblib.parallel_config(backend="loky"):
        return workflow(lambda step: step.map(fn, items, key="n:{}", **{"n_jobs": 2, **options}))


def test_k3_items_run_in_other_processes_and_are_kept_by_this_one(tmp_path: Path) -> None:
    told = RecordingListener()
    workflow = create_workflow(cache=tmp_path, on_event=told)
    first = mapped(workflow, lambda n: (n, os.getpid()), [1, 2, 3]).value
    assert [n for n, _ in first] == [1, 2, 3]
    assert os.getpid() not in {pid for _, pid in first}
    assert mapped(workflow, lambda n: (n, os.getpid()), [1, 2, 3]).value == first
    assert len(told.of(StepHit)) == 3


def test_a_hit_of_threads_is_a_hit_of_workers_and_nothing_drifted() -> None:
    told = RecordingListener()
    workflow = create_workflow(cache={}, on_event=told)

    def work(n: int) -> int:
        return n * 10

    workflow(lambda step: step.map(work, range(4), key="n:{}"))
    assert mapped(workflow, work, range(5)) == Ok([0, 10, 20, 30, 40])
    assert [hit.drift for hit in told.of(StepHit)] == [None] * 4
    workflow(lambda step: step.map(work, range(5), key="n:{}"))
    assert [hit.drift for hit in told.of(StepHit)] == [None] * 9
    assert [started.elsewhere for started in told.of(StepStarted)] == [False] * 4 + [True]


def test_an_item_that_is_asked_twice_is_computed_once(tmp_path: Path) -> None:
    def work(n: int) -> int:
        (tmp_path / f"{n}-{time.monotonic_ns()}").touch()
        return n

    assert mapped(create_workflow(cache={}), work, [1, 2, 1, 1]) == Ok([1, 2, 1, 1])
    assert len(list(tmp_path.iterdir())) == 2


def test_w3_failures_are_kept_and_say_where_they_were_raised() -> None:
    told = RecordingListener()
    workflow = create_workflow(cache={}, on_event=told)

    def work(n: int) -> int:
        if n == 1:
            raise ValueError("no 1")
        return n

    results = mapped(workflow, work, range(3), on_error="keep").value
    assert [type(one) for one in results] == [Ok, Err, Ok]
    assert repr(results[1].error) == "ValueError('no 1')"
    assert "In a worker process, at " in results[1].error.__notes__[0]
    assert repr(mapped(workflow, work, range(3)).error) == "ValueError('no 1')"
    assert len(told.of(StepStarted)) == 3


def test_retries_are_those_of_the_worker(tmp_path: Path) -> None:
    def work(n: int) -> int:
        tries = len(list(tmp_path.iterdir()))
        (tmp_path / str(tries)).touch()
        if tries < 2:
            raise ConnectionError("not yet")
        return n

    assert mapped(create_workflow(cache={}), work, [7], retries=2) == Ok([7])


def test_what_a_worker_cannot_send_back_is_a_failure_of_that_item() -> None:
    def work(n: int) -> Any:
        return (n for _ in range(n)) if n else n

    results = mapped(create_workflow(cache={}), work, [0, 1], on_error="keep").value
    assert results[0] == Ok(0)
    assert "a worker process cannot send back a generator" in str(results[1].error)


def test_a_function_that_cannot_be_sent_is_told_before_any_item_runs() -> None:
    lock = threading.Lock()
    with pytest.raises(TypeError, match="cannot send its function to a worker process") as raised:
        mapped(create_workflow(cache={}), lambda n: lock.locked(), [1])
    assert "threads need not send it" in str(raised.value)


def test_an_async_function_in_disguise_is_told() -> None:
    async def fetch(n: int) -> int:
        return n

    def hidden(n: int) -> Any:
        made = fetch(n)
        return made

    (result,) = mapped(create_workflow(cache={}), hidden, [1], on_error="keep").value
    assert "gave an awaitable" in str(result.error)


def test_how_long_an_item_took_is_what_it_took_the_worker() -> None:
    told = RecordingListener()
    mapped(create_workflow(cache={}, on_event=told), lambda n: time.sleep(0.2), range(4))
    assert all(0.2 <= one.took_s < 2 for one in told.of(StepFinished))


@pytest.mark.usefixtures("team_key")
def test_c4_a_worker_that_dies_loses_only_what_was_in_flight(tmp_path: Path) -> None:
    workflow = create_workflow(cache=tmp_path / "cache")
    (tmp_path / "ran").mkdir()

    def work(n: int) -> int:
        (tmp_path / "ran" / f"{n}-{time.monotonic_ns()}").touch()
        if n == 6 and not (tmp_path / "died").exists():
            while not any(path.is_file() for path in (tmp_path / "cache" / "v1" / "e").rglob("*")):
                time.sleep(0.01)  # something is kept
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return n

    told = RecordingListener()
    with pytest.raises(BaseException, match=r"(?s)worker.*terminated"):
        mapped(create_workflow(cache=tmp_path / "cache", on_event=told), work, range(12))
    kept = set(workflow.cache.keys())
    assert kept
    assert {one.key for one in told.of(StepFinished) if one.interrupted}.isdisjoint(kept)
    assert mapped(workflow, work, range(12)) == Ok(list(range(12)))
    runs = [path.name.partition("-")[0] for path in (tmp_path / "ran").iterdir()]
    assert {n for n in set(runs) if runs.count(n) > 1}.isdisjoint(key[2:] for key in kept)


@pytest.fixture(scope="module")
def cluster(team_key_file: Path) -> Iterator[Any]:
    """A real dask cluster of two worker processes, which know a team's key."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=None,
            processes=True,
            env={"NBSTEP_SIGNING_KEY_FILE": str(team_key_file)},
        ) as made,
        Client(made),
    ):
        yield made


def on_dask(workflow: Any, fn: Any, items: Any) -> Any:
    from distributed import get_client

    get_client().wait_for_workers(2, timeout=120)  # with one alone joblib calls the function in this process
    with joblib.parallel_config(backend="dask"):
        return workflow(lambda step: step.map(fn, items, key="n:{}"))


@pytest.fixture(params=["folder", "redis"])
def shared(request: pytest.FixtureRequest, team_key: Any, tmp_path: Path) -> Any:
    """A cache that workers keep results in: in a folder of this machine, in a server."""
    if request.param == "folder":
        return tmp_path / "cache"
    return f"{request.getfixturevalue('redis_url')}?prefix={tmp_path.name}"


@pytest.mark.redis
def test_k3_on_a_dask_cluster_cold_and_resumed(cluster: Any, shared: Any, sent: list[int]) -> None:
    told = RecordingListener()
    workflow = create_workflow(cache=shared, on_event=told)

    def work(n: int) -> tuple[int, int]:
        return n * n, os.getpid()

    first = on_dask(workflow, work, range(20)).value
    assert [square for square, _ in first] == [n * n for n in range(20)]
    assert {pid for _, pid in first} <= {worker.pid for worker in cluster.workers.values()}
    resumed = on_dask(workflow, work, range(30)).value
    assert resumed[:20] == first
    assert [square for square, _ in resumed] == [n * n for n in range(30)]
    assert (len(sent), len(told.of(StepHit)), told.of(Finding)) == (30, 20, [])


@pytest.mark.redis
def test_a_large_result_does_not_pass_through_the_scheduler(cluster: Any, shared: Any, sent: list[int]) -> None:
    told = RecordingListener()
    workflow = create_workflow(cache=shared, on_event=told)

    def work(n: int) -> bytes:
        return bytes([n]) * 50_000_000

    results = on_dask(workflow, work, [1, 2]).value
    assert [(one[0], len(one)) for one in results] == [(1, 50_000_000), (2, 50_000_000)]
    assert (len(sent), told.of(Finding)) == (2, [])
    assert max(sent) < 10_000


@pytest.mark.redis
def test_c4_a_dask_worker_that_is_killed_costs_no_result(cluster: Any, shared: Any, tmp_path: Path) -> None:
    def work(n: int) -> int:
        if n == 5:
            try:
                (tmp_path / "died").touch(exist_ok=False)
            except FileExistsError:
                return n
            os.kill(os.getpid(), signal.SIGKILL)
        return n

    told = RecordingListener()
    workflow = create_workflow(cache=shared, on_event=told)
    assert on_dask(workflow, work, range(20)) == Ok(list(range(20)))
    assert (tmp_path / "died").exists()
    assert sorted(workflow.cache.keys()) == sorted(f"n:{n}" for n in range(20))
    assert told.of(Finding) == []
