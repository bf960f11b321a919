"""step.map in other processes: joblib's loky, and a dask cluster of two worker processes that loses one (K3, C3, C4)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy
import pytest

from nbstep import Cache, Err, Ok, create_workflow
from nbstep.errors import WorkerError
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


def test_e2_what_a_worker_cannot_send_back_is_a_failure_of_that_item_and_not_kept() -> None:
    def work(n: int) -> Any:
        return (n for _ in range(n)) if n else n

    workflow = create_workflow(cache={})
    results = mapped(workflow, work, [0, 1], on_error="keep").value
    assert results[0] == Ok(0)
    assert type(results[1].error) is WorkerError
    assert "a worker process cannot send back a generator" in str(results[1].error)
    on_threads = workflow(lambda step: step.map(work, [0, 1], key="n:{}")).value
    assert list(on_threads[1]) == [1]


class Loaded:
    """What no process can load."""

    def __reduce__(self) -> Any:
        return _not_here, ()


def _not_here() -> None:
    raise OSError("no such file here")


def test_e2_items_that_cannot_be_sent_are_failures_of_those_items_and_not_kept() -> None:
    workflow = create_workflow(cache={})
    items = [1, threading.Lock(), 2, Loaded(), 3]

    def on_workers(items: Any) -> Any:
        with joblib.parallel_config(backend="loky"):
            return workflow(
                lambda step: step.map(
                    lambda item: 7,
                    items,
                    key=lambda item: f"{type(item).__name__}{item}"[:6],
                    n_jobs=2,
                    on_error="keep",
                )
            ).value

    results = on_workers(items)
    assert [results[at] for at in (0, 2, 4)] == [Ok(7)] * 3
    assert [type(results[at].error) for at in (1, 3)] == [WorkerError] * 2
    assert "cannot send the item to a worker process (TypeError: cannot pickle" in str(results[1].error)
    assert "cannot load the item (OSError: no such file here)" in str(results[3].error)
    assert sorted(workflow.cache.keys()) == ["int1", "int2", "int3"]


class Refused(Exception):
    """Its `args` do not make it anew."""

    def __init__(self, *, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


def _fails_as_httpx(n: int) -> None:
    import httpx

    httpx.Response(404, request=httpx.Request("GET", "https://x.test/1")).raise_for_status()


def _fails_because(n: int) -> None:
    try:
        raise Refused(status=n)
    except Refused as why:
        raise ValueError("no") from why


def _fails_in_a_group(n: int) -> None:
    raise ExceptionGroup("both", [Refused(status=n), ValueError("no")])


@pytest.mark.parametrize("work", [_fails_as_httpx, _fails_because, _fails_in_a_group])
def test_e4_errors_of_workers_come_back_as_those_of_threads_do(work: Any) -> None:
    workflow = create_workflow(cache={})
    here = create_workflow(cache={})(lambda step: step.map(work, [7], key="n:{}")).error
    for _ in ("fresh", "kept"):
        error = mapped(workflow, work, [7]).error
        assert (type(error), str(error)) == (type(here), str(here))
        assert type(error.__cause__) is type(here.__cause__)
        assert getattr(error.__cause__, "status", None) == getattr(here.__cause__, "status", None)
        assert [type(one) for one in getattr(error, "exceptions", ())] == [
            type(one) for one in getattr(here, "exceptions", ())
        ]
    if work is _fails_as_httpx:
        assert error.response.status_code == 404


def test_e4_an_error_that_a_worker_returns_comes_back_as_itself() -> None:
    error = mapped(create_workflow(cache={}), lambda n: Err(Refused(status=n)), [7]).error
    assert (type(error), error.status) == (Refused, 7)


def test_e4_a_class_that_has_no_name_of_its_own_is_the_one_that_was_sent() -> None:
    class Inner(Refused):
        pass

    def work(n: int) -> None:
        raise Inner(status=n)

    assert type(mapped(create_workflow(cache={}), work, [7]).error) is Inner


def test_a_function_that_cannot_be_sent_is_told_before_any_item_runs() -> None:
    lock = threading.Lock()
    with pytest.raises(TypeError, match="cannot send its function to a worker process") as raised:
        mapped(create_workflow(cache={}), lambda n: lock.locked(), [1])
    assert "threads need not send it" in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__, "nothing of cloudpickle's"


class _Unsent:
    def __reduce__(self) -> Any:
        return json.loads("{broken")


def test_an_item_that_cannot_be_sent_shows_the_user_s_frames_and_no_others() -> None:
    def sent(item: Any) -> WorkerError:
        with pytest.raises(WorkerError, match="cannot send the item") as raised:
            create_workflow(cache={})(lambda step: step.map(lambda one: 7, [item], key=lambda one: "k")).unwrap()
        return raised.value

    with joblib.parallel_config(backend="loky"):
        lock, mine = sent(threading.Lock()), sent(_Unsent())
    assert (lock.__cause__, lock.__suppress_context__) == (None, True)
    assert isinstance(mine.__cause__, json.JSONDecodeError)


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
    workflow = create_workflow(cache=tmp_path / "cache", on_event=told)
    assert mapped(workflow, work, range(12)) == Ok(list(range(12)))
    assert [one.outcome for one in told.of(StepFinished)] == ["ok"] * 12
    assert len(workflow.cache.keys()) == 12
    runs = [path.name.partition("-")[0] for path in (tmp_path / "ran").iterdir()]
    assert runs.count("6") == 2
    assert max(map(runs.count, runs)) == 2, "once more at most"
    assert len({n for n in set(runs) if runs.count(n) > 1}) <= 4, "twice as many as there are workers are given out"


@pytest.mark.usefixtures("team_key")
def test_k3_what_an_undo_brings_back_under_way_is_not_taken_for_what_was_to_be_computed(tmp_path: Path) -> None:
    version = [1]

    def work(n: int) -> tuple[int, int]:
        if version[0] == 2:
            time.sleep(0.4)
            if n == 0:
                Cache(tmp_path).undo("n:3")
        return n, version[0]

    workflow = create_workflow(cache=tmp_path, on_drift="ignore")
    mapped(workflow, work, range(4)).unwrap()
    assert workflow.cache.delete("n:3")
    version[0] = 2
    assert mapped(workflow, work, range(4), refresh=True).value == [(n, 2) for n in range(4)]


@pytest.mark.usefixtures("team_key")
@pytest.mark.parametrize("how", [{"refresh": True}, {"on_drift": "rerun"}, {"ttl": 1}])
def test_c5_what_a_clock_that_was_ahead_stamped_is_not_taken_for_new(how: dict[str, Any], tmp_path: Path) -> None:
    version, ahead = [1], Cache(tmp_path)
    ahead.clock = lambda: time.time() + 3600

    def work(n: int) -> tuple[int, int]:
        return n, version[0]

    create_workflow(cache=ahead)(lambda step: step.map(work, range(3), key="n:{}")).unwrap()
    version[0] = 2
    assert mapped(create_workflow(cache=tmp_path), work, range(3), **how).value == [(n, 2) for n in range(3)]


@pytest.mark.usefixtures("team_key")
def test_d1_what_others_make_meanwhile_by_older_code_is_not_taken(tmp_path: Path) -> None:
    begun = threading.Event()

    def slow(n: int) -> str:
        begun.set()
        time.sleep(1)
        return "old"

    def work(n: int) -> str:
        return "new"

    def elsewhere() -> None:
        create_workflow(cache=tmp_path)(lambda step: step(slow, 1, key="n:1"))

    other = threading.Thread(target=elsewhere)
    other.start()
    begun.wait()
    assert mapped(create_workflow(cache=tmp_path), work, range(3), on_drift="rerun").value == ["new"] * 3
    other.join()


@pytest.mark.parametrize("deadly", [{0}, {11}, {3, 4}])
def test_c4_items_that_workers_die_of_fail_alone_and_are_not_kept(tmp_path: Path, deadly: set[int]) -> None:
    def work(n: int) -> int:
        (tmp_path / f"{n}-{time.monotonic_ns()}").touch()
        if n in deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return n

    workflow = create_workflow(cache={})
    results = mapped(workflow, work, iter(range(12)), on_error="keep").value
    assert [n for n, one in enumerate(results) if type(one) is Err] == sorted(deadly)
    assert {type(results[n].error) for n in deadly} == {WorkerError}
    assert all("no worker process could do it (TerminatedWorkerError" in str(results[n].error) for n in deadly)
    assert sorted(workflow.cache.keys()) == sorted(f"n:{n}" for n in range(12) if n not in deadly)
    runs = [path.name.partition("-")[0] for path in tmp_path.iterdir()]
    assert {runs.count(str(n)) for n in deadly} <= {1, 2}


def test_c4_an_item_that_a_worker_dies_of_is_raised_when_the_others_ran() -> None:
    def work(n: int) -> int:
        if n == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return n

    workflow = create_workflow(cache={})
    assert type(mapped(workflow, work, [0, 1, 2, 2, 3, 4, 5, 6, 7]).error) is WorkerError
    assert len(workflow.cache.keys()) == 7
    assert mapped(workflow, lambda n: n, [1]) == Ok([1])


def test_c4_a_stream_is_not_read_on_for_a_pool_that_is_gone() -> None:
    asked: list[int] = []

    def numbers() -> Iterator[int]:
        for n in range(100):
            asked.append(n)
            yield n

    def work(n: int) -> int:
        if n == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)
        return n

    told: list[tuple[str | None, int]] = []

    def listen(event: Any) -> None:
        if isinstance(event, StepFinished):
            told.append((event.key, len(asked)))

    mapped(create_workflow(cache={}, on_event=listen), work, numbers(), on_error="keep")
    assert dict(told)["n:1"] < 100


def test_c3_a_backend_that_gives_all_results_at_once_is_given_some_items_at_a_time() -> None:
    """joblib's multiprocessing, which ray's backend is made of: what is done is kept though the map ends half-way."""
    told = RecordingListener()
    workflow = create_workflow(cache={}, on_event=told)

    def numbers() -> Iterator[int]:
        yield from range(20)
        raise OSError("the source broke")

    def on_processes(items: Any) -> Any:
        with joblib.parallel_config(backend="multiprocessing"):
            return workflow(lambda step: step.map(lambda n: (n, os.getpid()), items, key="n:{}", n_jobs=2))

    with pytest.raises(OSError, match="the source broke"):
        on_processes(numbers())
    assert sorted(workflow.cache.keys()) == sorted(f"n:{n}" for n in range(20))
    results = on_processes(range(20)).value
    assert [n for n, _ in results] == list(range(20))
    assert os.getpid() not in {pid for _, pid in results}
    assert len(told.of(StepHit)) == 20


@pytest.fixture(scope="module")
def cluster(team_key_file: Path) -> Iterator[Any]:
    """A real dask cluster of two worker processes, which know a team's key."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=":0",
            processes=True,
            env={"NBSTEP_SIGNING_KEY_FILE": str(team_key_file)},
        ) as made,
        Client(made),
    ):
        yield made


def on_dask(workflow: Any, fn: Any, items: Any, **options: Any) -> Any:
    from distributed import get_client

    get_client().wait_for_workers(2, timeout=120)  # with one alone joblib calls the function in this process
    with joblib.parallel_config(backend="dask"):
        return workflow(lambda step: step.map(fn, items, key="n:{}", **options))


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


@pytest.mark.filterwarnings("ignore:.*tasks which were still being processed")  # joblib's, of an end half-way
# Likewise loky's: what it took from its queue last may be gone from its table by then (KeyError).
@pytest.mark.filterwarnings(r"ignore:Exception in thread ExecutorManagerThread[\s\S]*KeyError")
@pytest.mark.parametrize("backend", ["threading", "loky", "dask"])
@pytest.mark.parametrize("error", [SystemExit, GeneratorExit, asyncio.CancelledError, KeyboardInterrupt])
def test_e1_what_ends_a_program_ends_the_map_whoever_raises_it(
    cluster: Any, team_key: Any, backend: str, error: type[BaseException], tmp_path: Path
) -> None:
    def work(n: int) -> int:
        if n == 2:
            raise error("bad input")
        return n

    def asked(items: range) -> Any:
        with joblib.parallel_config(backend=backend, n_jobs=2):
            return create_workflow(cache=tmp_path)(lambda step: step.map(work, items, key="n:{}", on_error="keep"))

    workers = {worker.pid for worker in cluster.workers.values()}
    for _ in range(2):
        with pytest.raises(error) as raised:
            asked(range(5))
        assert raised.value.args == ("bad input",)
    assert {entry.outcome for entry in Cache(tmp_path).entries()} <= {"ok"}
    assert asked(range(10, 14)).value == [Ok(n) for n in range(10, 14)]
    assert {worker.pid for worker in cluster.workers.values()} == workers


def test_c4_what_a_task_raises_outside_the_work_is_a_failure_of_that_item(
    cluster: Any, team_key: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd:
        """Its worker fails while it takes it apart."""

        def __reduce__(self) -> Any:
            raise asyncio.CancelledError("odd")

    def work(n: int) -> Any:
        return Odd() if n == 1 else n

    results = on_dask(create_workflow(cache={}), work, range(4), on_error="keep").value
    assert [type(one) for one in results] == [Ok, Err, Ok, Ok]
    assert type(results[1].error) is WorkerError
    assert "odd" in str(results[1].error)


@pytest.mark.redis
def test_c4_a_dask_worker_that_is_killed_costs_no_result(cluster: Any, shared: Any, tmp_path: Path) -> None:
    """What it kept is not computed again either: dask gives its last tasks to others, as what they gave was still in its memory."""
    (tmp_path / "ran").mkdir()

    def work(n: int) -> int:
        (tmp_path / "ran" / f"{n}-{time.monotonic_ns()}").touch()
        if n in {5, 25, 45} and not (tmp_path / f"died-{n}").exists():
            (tmp_path / f"died-{n}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02)
        return n

    told = RecordingListener()
    workflow = create_workflow(cache=shared, on_event=told)
    assert on_dask(workflow, work, range(60)) == Ok(list(range(60)))
    assert sorted(workflow.cache.keys()) == sorted(f"n:{n}" for n in range(60))
    assert told.of(Finding) == []
    runs = Counter(path.name.partition("-")[0] for path in (tmp_path / "ran").iterdir())
    assert {n for n, times in runs.items() if times > 1} == {"5", "25", "45"}


def test_c4_a_task_that_the_cluster_gives_up_is_a_failure_of_that_item(cluster: Any, team_key: Any) -> None:
    workflow = create_workflow(cache={})

    def work(n: int) -> int:
        if n == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return n

    cluster.scheduler.allowed_failures, usual = 0, cluster.scheduler.allowed_failures
    try:
        error = on_dask(workflow, work, range(5)).error
    finally:
        cluster.scheduler.allowed_failures = usual
    assert type(error) is WorkerError
    assert "no worker process could do it (KilledWorker" in str(error)
    assert "n:2" not in workflow.cache
    assert on_dask(workflow, lambda n: n, range(5)) == Ok(list(range(5)))


def test_e2_items_that_a_cluster_cannot_be_sent_are_told(cluster: Any, team_key: Any) -> None:
    workflow = create_workflow(cache={})
    large = numpy.empty(200_000, dtype=object)
    large[:] = 1 << 60
    large[0] = Loaded()  # too large to be packed: dask itself loads it
    for item, says in (
        (threading.Lock(), "cannot send the item"),
        (Loaded(), "cannot load the item"),
        (large, "no worker"),
    ):
        with joblib.parallel_config(backend="dask"):
            (result,) = workflow(
                lambda step: step.map(lambda one: 7, [item], key=lambda one: type(one).__name__, on_error="keep")
            ).value
        assert type(result.error) is WorkerError
        assert says in str(result.error)


@pytest.mark.parametrize("ended", ["closed", "restarted"])
def test_c4_a_cluster_that_is_closed_or_restarted_fails_what_it_had(ended: str, tmp_path: Path) -> None:
    """The others are done where it is there again, and fail as well where it is not; what was done is kept."""
    from distributed import Client, LocalCluster

    workflow = create_workflow(cache={})
    here = tmp_path / "here"

    def work(n: int) -> int:
        if n == 12:
            here.touch()
            time.sleep(60)
        return n

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", processes=True) as made,
        Client(made, set_as_default=False) as client,
    ):

        def end() -> None:
            while not here.exists() or "n:0" not in workflow.cache:
                time.sleep(0.01)
            made.close() if ended == "closed" else client.restart()

        ending = threading.Thread(target=end)
        ending.start()
        client.wait_for_workers(2, timeout=120)
        with joblib.parallel_config(backend="dask", client=client):
            results = workflow(lambda step: step.map(work, range(30), key="n:{}", on_error="keep")).value
        ending.join()
    failed = {n for n, one in enumerate(results) if type(one) is Err}
    assert {type(results[n].error) for n in failed} == {WorkerError}
    assert all("the cluster called it off" in str(results[n].error) for n in failed)
    assert 12 in failed
    assert sorted(workflow.cache.keys()) == sorted(f"n:{n}" for n in range(30) if n not in failed)
    assert (29 in failed) is (ended == "closed")
    assert 0 not in failed
