"""Threads of a map hand over what they ran and have their next item, each once, whatever happens (C3, C4)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from nbstep import Cache, create_workflow
from nbstep.batch.dispatch import on_threads
from nbstep.batch.hub import UNFINISHED, Turn
from nbstep.batch.keying import Keyed
from nbstep.cache.flight import FLIGHTS
from nbstep.steps import take

_COUNT = 400


def _work(count: int = _COUNT) -> list[Keyed]:
    return [Keyed(n, f"n:{n}") for n in range(count)]


class _Turns:
    """Begins turns of four kinds, and notes what became of them.

    Args:
        ends: What the quick end of an item gives or raises; None is its double.
    """

    def __init__(self, ends: Callable[[int], Any] | None = None) -> None:
        self.ends = ends
        self.calls: list[tuple[str, int, str]] = []  # what, of which item, on which thread
        self.in_hand = 0
        self.most_in_hand = 0
        self.guard = threading.Lock()

    def note(self, what: str, item: int, more: int = 0) -> None:
        with self.guard:
            self.calls.append((what, item, threading.current_thread().name))
            self.in_hand += more
            self.most_in_hand = max(self.most_in_hand, self.in_hand)

    def take(self, item: int, _: str | None) -> Any:
        self.note("taken", item)
        return item * 2

    def begin(self, item: int, _: str | None) -> Turn | None:
        if item % 4 == 0:
            return None
        self.note("begun", item, 1)
        return _Turn(self, item)

    def threads(self, what: str) -> set[str]:
        return {thread for one, _, thread in self.calls if one == what}

    def items(self, *what: str) -> list[int]:
        return sorted(item for one, item, _ in self.calls if one in what)


class _Turn(Turn):
    def __init__(self, turns: _Turns, item: int) -> None:
        self.turns, self.item = turns, item

    def run(self) -> Any:
        self.turns.note("run", self.item)
        time.sleep(0.001)
        if self.item % 4 != 1:
            return UNFINISHED
        self.turns.note("ended", self.item, -1)
        return self.item * 2

    def end_quickly(self) -> Any:
        if self.item % 4 == 3:
            return UNFINISHED
        self.turns.note("ended quickly", self.item, -1)
        return self.item * 2 if self.turns.ends is None else self.turns.ends(self.item)

    def end(self) -> Any:
        self.turns.note("ended", self.item, -1)
        return self.item * 2


def _given(turns: _Turns, n_jobs: int = 4) -> list[Any]:
    return on_threads(turns.take, _work(), n_jobs, begin=turns.begin)


@pytest.mark.parametrize("n_jobs", [2, 16])
def test_each_item_is_done_once_and_one_thread_ends_what_it_can(n_jobs: int) -> None:
    turns = _Turns()
    assert _given(turns, n_jobs) == [2 * n for n in range(_COUNT)]
    assert turns.items("run", "taken") == turns.items("ended", "ended quickly", "taken") == list(range(_COUNT))
    assert turns.threads("ended quickly") == {"nbstep map"}
    assert "nbstep map" not in turns.threads("run") | turns.threads("ended") | turns.threads("taken")
    assert turns.items("ended quickly") == list(range(2, _COUNT, 4))
    _until_it_is_gone()


@pytest.mark.parametrize("n_jobs", [2, 16])
def test_c4_never_more_are_begun_and_not_ended_than_there_are_threads(n_jobs: int) -> None:
    turns = _Turns()
    _given(turns, n_jobs)
    assert turns.in_hand == 0
    assert turns.most_in_hand <= n_jobs


def test_one_thread_alone_has_no_other() -> None:
    turns = _Turns()
    assert _given(turns, 1) == [2 * n for n in range(_COUNT)]
    assert turns.items("taken") == list(range(_COUNT))


def test_what_an_end_raises_ends_the_map_and_leaves_no_thread() -> None:
    def ends(item: int) -> Any:
        raise KeyError(item)

    turns = _Turns(ends)
    with pytest.raises(KeyError):
        _given(turns)
    assert len(turns.items("run")) < _COUNT
    _until_it_is_gone()


def test_without_another_thread_each_ends_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def not_started(self: threading.Thread) -> None:
        if self.name == "nbstep map":
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", not_started)
    turns = _Turns()
    assert _given(turns) == [2 * n for n in range(_COUNT)]
    assert "nbstep map" not in turns.threads("ended quickly")


def test_c3_what_ran_as_the_map_was_left_is_kept_and_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an interrupt the threads are still in their functions; then nobody takes what they give but they."""
    monkeypatch.setattr(take, "may_pay", lambda _: True)
    go_on, ran = threading.Event(), list[int]()

    def fetch(n: int) -> int:
        if n == 100:
            raise KeyboardInterrupt
        if n > 100:
            go_on.wait(20)
        ran.append(n)
        return n

    cache = Cache({})
    with pytest.raises(KeyboardInterrupt):
        create_workflow(cache=cache)(lambda step: step.map(fetch, range(_COUNT), key="n:{}", n_jobs=8))
    _until_it_is_gone()
    go_on.set()
    ends = time.monotonic() + 20
    while not (len(ran) == len(cache) and not FLIGHTS._flights) and time.monotonic() < ends:
        time.sleep(0.01)
    assert sorted(ran) == sorted(int(key[2:]) for key in cache)
    assert not FLIGHTS._flights
    assert len(ran) < _COUNT


def test_c4_one_waits_for_the_other_whoever_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two maps at once, of the same keys: each is computed once."""
    monkeypatch.setattr(take, "may_pay", lambda _: True)
    calls: list[int] = []

    def fetch(n: int) -> int:
        calls.append(n)
        time.sleep(0.0005)
        return n

    cache = Cache({})
    given: list[Any] = []

    def work() -> None:
        given.append(
            create_workflow(cache=cache)(lambda step: step.map(fetch, range(200), key="n:{}", n_jobs=8)).unwrap()
        )

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert given == [list(range(200))] * 3
    assert sorted(calls) == list(range(200))


def _until_it_is_gone() -> None:
    ends = time.monotonic() + 20
    while any(thread.name == "nbstep map" for thread in threading.enumerate()):
        assert time.monotonic() < ends
        time.sleep(0.01)
