"""Threads of a map take their items in turn, each once, and who tells what follows holds up nobody."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from nbstep.batch import dispatch
from nbstep.batch.dispatch import on_threads
from nbstep.batch.keying import Keyed

_FORMS: dict[str, Callable[[list[Keyed]], Iterable[Keyed]]] = {"a list": list, "a generator": iter}


def _work(count: int) -> list[Keyed]:
    return [Keyed(n, None if n % 50 == 49 else f"n:{n}") for n in range(count)]


@pytest.mark.parametrize("form", _FORMS)
@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 64, 65, 5000])
def test_each_item_is_taken_once_after_its_key_was_told(form: str, count: int) -> None:
    told: dict[str, None] = {}
    taken: list[int] = []
    untold: list[str] = []

    def one(item: int, key: str | None) -> Any:
        taken.append(item)
        if key is not None and key not in told:
            untold.append(key)
        return item * 2

    work = _work(count)
    for n_jobs in (1, 16):
        told.clear()
        taken.clear()
        results = on_threads(one, _FORMS[form](work), n_jobs, lambda keys: told.update(dict.fromkeys(keys)))
        assert results == [item * 2 for item in range(count)]
        assert sorted(taken) == list(range(count))
        assert list(told) == [item.key for item in work if item.key is not None] or n_jobs == 16
        assert set(told) == {item.key for item in work if item.key is not None}
        if n_jobs == 1:
            assert untold == []


@pytest.mark.parametrize("form", _FORMS)
def test_who_tells_holds_up_nobody(form: str) -> None:
    """A cache may take long over what it is told, as one that hires a clerk does."""
    others = threading.Semaphore(0)
    waited: list[bool] = []

    def tell(keys: list[str]) -> None:
        if "n:100" in keys:
            while others.acquire(blocking=False):  # those that ran before
                pass
            waited.append(all(others.acquire(timeout=20) for _ in range(10)))

    def one(item: int, _: str | None) -> Any:
        others.release()
        return item

    assert on_threads(one, _FORMS[form](_work(400)), 4, tell) == list(range(400))
    assert waited == [True]


@pytest.mark.parametrize("form", _FORMS)
def test_a_failure_ends_the_turns(form: str) -> None:
    taken: list[int] = []

    def one(item: int, _: str | None) -> Any:
        taken.append(item)
        if item == 40:
            raise KeyError(item)
        return item

    with pytest.raises(KeyError):
        on_threads(one, _FORMS[form](_work(5000)), 4)
    assert len(taken) < 5000


def test_c3_an_item_that_is_taken_as_others_find_the_end_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the taking of an item and all else another thread may come."""

    class Numbered:
        def __init__(self, work: Iterable[Keyed]) -> None:
            self._left = enumerate(work)
            self._is_first = True

        def __iter__(self) -> Numbered:
            return self

        def __next__(self) -> tuple[int, Keyed]:
            taken = next(self._left)
            if self._is_first:
                self._is_first = False
                other = threading.Thread(target=lambda: others.extend(turns))
                other.start()
                other.join()
            return taken

    others: list[tuple[int, Keyed]] = []
    monkeypatch.setattr(dispatch, "enumerate", Numbered, raising=False)
    turns = dispatch._Turns(_work(5), [])
    assert [at for at, _ in turns] == [0]
    assert [at for at, _ in others] == [1, 2, 3, 4]
    assert turns.are_over()


@pytest.mark.parametrize("form", _FORMS)
def test_an_item_that_nobody_took_is_no_none(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = dispatch._Turns.__iter__
    monkeypatch.setattr(dispatch._Turns, "__iter__", lambda turns: (turn for turn in taken(turns) if turn[0] != 3))
    with pytest.raises(RuntimeError, match="lost an item"):
        on_threads(lambda item, _: item, _FORMS[form](_work(8)), 2)


@pytest.mark.parametrize("form", _FORMS)
def test_items_that_only_work_for_a_moment_are_taken_by_one_thread(form: str) -> None:
    taken: list[int] = []

    def one(item: int, _: str | None) -> Any:
        taken.append(threading.get_ident())
        ends = time.perf_counter() + 0.00005
        while time.perf_counter() < ends:
            pass
        return item

    assert on_threads(one, _FORMS[form](_work(4000)), 8) == list(range(4000))
    assert max(map(taken.count, set(taken))) > 2000


@pytest.mark.parametrize("form", _FORMS)
def test_items_that_wait_for_each_other_have_a_thread_each(form: str) -> None:
    together = threading.Barrier(8, timeout=30)

    def one(item: int, _: str | None) -> Any:
        if item >= 100:
            together.wait()
        return item

    assert on_threads(one, _FORMS[form](_work(108)), 8) == list(range(108))


@pytest.mark.skipif(sys.platform != "linux", reason="SCHED_BATCH is Linux's")
@pytest.mark.parametrize("form", _FORMS)
@pytest.mark.parametrize("usual", [True, False])
def test_threads_of_a_map_are_scheduled_as_batch_work_and_nobody_else_is(form: str, usual: bool) -> None:
    policies = set[tuple[bool, int]]()

    def scheduled(item: int, _: str | None) -> Any:
        time.sleep(0.005)
        policies.add((threading.current_thread() is threading.main_thread(), os.sched_getscheduler(0)))
        return item

    def mapped() -> tuple[list[Any], int]:
        return on_threads(scheduled, _FORMS[form](_work(40)), 4), os.sched_getscheduler(0)

    def in_another_thread() -> tuple[list[Any], int]:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # its threads have it too, and keep it
        return mapped()

    if usual:
        given, after = mapped()
    else:
        with ThreadPoolExecutor(1) as pool:
            given, after = pool.submit(in_another_thread).result()
    assert given == list(range(40))
    assert after == (os.SCHED_OTHER if usual else os.SCHED_IDLE)
    assert policies == {(False, os.SCHED_BATCH if usual else os.SCHED_IDLE)}
