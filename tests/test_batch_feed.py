"""Whoever feeds joblib's workers never waits: for other kernels (C4), for a turn (`rate=`), or for the next item (K3)."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest

from nbstep import Ok, create_workflow
from nbstep.batch.dispatch import backend_for
from nbstep.batch.feed import Feed
from nbstep.batch.keying import Keyed
from nbstep.events import StepFinished

MAP = """
import sys, time
from pathlib import Path
import joblib
from nbstep import create_workflow

def work(n):
    time.sleep(0.5)
    with Path("ran").open("a") as ran:
        ran.write(f"{n}\\n")
    return n

items = [*map(int, sys.argv[1:])]
with joblib.parallel_config(backend="loky", n_jobs=2):
    joblib.Parallel()(joblib.delayed(abs)(n) for n in range(4))
    Path(f"ready-{items[0]}").touch()
    while len([*Path().glob("ready-*")]) < 2:
        time.sleep(0.01)
    assert create_workflow(cache=".nbstep")(lambda step: step.map(work, items, key="n:{}")).value == items
"""


@pytest.fixture(autouse=True, scope="module")
def workers() -> Iterator[None]:
    yield
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True, kill_workers=True)


def in_loky(cache: Any, fn: Any, items: Any, **options: Any) -> Any:
    with joblib.parallel_config(backend="loky", n_jobs=2):
        return create_workflow(cache=cache)(lambda step: step.map(fn, items, key="n:{}", **options)).value


def test_c4_two_kernels_with_workers_that_ask_in_another_order_compute_each_item_once(tmp_path: Path) -> None:
    """Each holds keys that the other one waits for: who waited where results come in would wait for ever."""
    orders = [range(8), range(7, -1, -1)]
    kernels = [
        subprocess.Popen([sys.executable, "-c", MAP, *map(str, order)], cwd=tmp_path, stderr=subprocess.DEVNULL)
        for order in orders
    ]
    try:
        assert [kernel.wait(90) for kernel in kernels] == [0, 0]
    finally:
        for kernel in kernels:
            kernel.kill()
    assert sorted((tmp_path / "ran").read_text().split()) == [str(n) for n in range(8)]


def test_c4_two_maps_of_one_kernel_that_ask_in_another_order_compute_each_item_once(tmp_path: Path) -> None:
    cache: dict[str, Any] = {}
    results: list[Any] = []

    def work(n: int) -> int:
        time.sleep(0.2)
        (tmp_path / f"{n}-{time.monotonic_ns()}").touch()
        return n

    maps = [
        threading.Thread(target=lambda items=items: results.append(in_loky(cache, work, items)), daemon=True)
        for items in (range(8), range(7, -1, -1))
    ]
    for each in maps:
        each.start()
    for each in maps:
        each.join(60)
    assert sorted(results) == [[*range(8)], [*range(7, -1, -1)]]
    assert len([*tmp_path.iterdir()]) == 8


def test_rate_holds_for_what_workers_begin() -> None:
    """joblib takes several items before it sends the first; each of them is sent at its turn."""
    began = sorted(
        in_loky({}, lambda n: time.time(), range(10), rate="4/s")
    )  # the first two may begin together, as a pool starts
    assert min(later - first for first, later in zip(began, began[4:], strict=False)) > 0.4  # four turns: 1 s


def test_results_come_in_while_the_next_item_is_waited_for(tmp_path: Path) -> None:
    seen: list[bool] = []

    def items() -> Iterator[int]:
        yield 0
        until = time.monotonic() + 30
        while "n:0" not in workflow.cache and time.monotonic() < until:
            time.sleep(0.05)
        seen.append("n:0" in workflow.cache)
        yield 1

    workflow = create_workflow(cache=tmp_path)
    with joblib.parallel_config(backend="loky", n_jobs=2):
        assert workflow(lambda step: step.map(lambda n: n, items(), key="n:{}")) == Ok([0, 1])
    assert seen == [True]


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError, KeyboardInterrupt, OSError])
def test_c3_what_ends_the_items_early_leaves_the_map_when_those_before_it_are_kept(error: type[BaseException]) -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise error("no more pages")

    cache: dict[str, Any] = {}
    with pytest.raises(error, match="no more pages"):
        in_loky(cache, lambda n: n, items())
    assert sorted(cache) == [f"n:{n}" for n in range(5)]


def test_items_may_come_from_a_map_themselves() -> None:
    workflow = create_workflow(cache={})

    def body(step: Any) -> Any:
        def pages() -> Iterator[int]:
            for page in range(3):
                yield from step.map(abs, range(page * 2, page * 2 + 2), key="page:{}")

        return step.map(lambda n: n * 10, pages(), key="n:{}")

    with joblib.parallel_config(backend="loky", n_jobs=2):
        assert workflow(body) == Ok([0, 10, 20, 30, 40, 50])


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        ({}, (True, 8)),
        ({"n_jobs": 1}, (True, 1)),
        ({"n_jobs": 3}, (True, 3)),
        ({"backend": "threading", "n_jobs": 1}, (True, 1)),
        ({"backend": "loky"}, (False, -1)),
        ({"backend": "loky", "n_jobs": 1}, (False, 1)),
    ],
)
def test_k3_one_at_a_time_is_one_at_a_time(configured: dict[str, Any], expected: tuple[bool, int]) -> None:
    with joblib.parallel_config(**configured):
        assert backend_for(None) == expected
        assert backend_for(5).n_jobs == 5


@pytest.mark.parametrize("rate", [None, "2/s"])
@pytest.mark.parametrize("kind", [list, iter])
def test_where_all_is_kept_no_worker_is_begun_and_nothing_waits(kind: Any, rate: str | None) -> None:
    from joblib.externals.loky import get_reusable_executor

    workflow = create_workflow(cache={})
    workflow(lambda step: step.map(abs, range(500), key="n:{}"))
    get_reusable_executor().shutdown(wait=True, kill_workers=True)
    began = time.monotonic()
    with joblib.parallel_config(backend="loky", n_jobs=2):
        result = workflow(lambda step: step.map(abs, kind(range(500)), key="n:{}", rate=rate))
    assert result == Ok([*range(500)])
    assert time.monotonic() - began < 60  # at a turn each it were 250 s
    executor = get_reusable_executor()
    begun = len(executor._processes)  # pyright: ignore[reportPrivateUsage]
    executor.shutdown()  # it may be loky's own, which joblib cannot use
    assert begun == 0


def test_c3_an_interrupted_map_holds_on_to_nothing_and_ends_its_generator() -> None:
    held: list[weakref.ref[Feed]] = []
    ended = threading.Event()
    kept = threading.Event()

    def items() -> Iterator[int]:
        try:
            for n in itertools.count():
                held[:] = [weakref.ref(one) for one in gc.get_objects() if type(one) is Feed]
                if n == 6:
                    kept.wait(30)
                    os.kill(os.getpid(), signal.SIGINT)
                yield n
        finally:
            ended.set()

    def listen(event: Any) -> None:
        if isinstance(event, StepFinished):
            kept.set()

    workflow = create_workflow(cache={}, on_event=listen)
    try:
        with joblib.parallel_config(backend="loky", n_jobs=2):
            workflow(lambda step: step.map(lambda n: n, items(), key="n:{}"))
    except KeyboardInterrupt:
        kept.clear()
    assert not kept.is_set()
    assert ended.wait(10)
    gc.collect()
    assert held
    assert {one() for one in held} == {None}


def test_a_feed_that_was_stopped_gives_nothing_more() -> None:
    feed = Feed((Keyed(n, f"n:{n}") for n in range(100)), lazily=True)
    assert feed.next_now() == (0, Keyed(0, "n:0"))
    feed.stop()
    assert (feed.next_now(), feed.is_over) == (None, True)
