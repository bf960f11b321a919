"""Threads of a map hand over what they ran and have their next item, each once, whatever happens (C3, C4)."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nbstep import Cache, create_workflow
from nbstep.batch import hub
from nbstep.batch.dispatch import on_threads
from nbstep.batch.hub import UNFINISHED, Turn
from nbstep.batch.keying import Keyed
from nbstep.cache.flight import FLIGHTS
from nbstep.errors import RecursiveStep
from nbstep.events import Finding, StepFinished, StepStarted
from nbstep.steps import turns
from nbstep.testing import RecordingListener

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

    def goes_to(self, thread: int) -> None:
        assert thread


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
    monkeypatch.setattr(turns, "may_pay", lambda _: True)
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
    monkeypatch.setattr(turns, "may_pay", lambda _: True)
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


def test_c4_a_step_that_is_still_to_be_ended_is_waited_for_by_who_ran_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that ran it has another item by then, which may ask its key."""
    monkeypatch.setattr(turns, "may_pay", lambda _: True)
    held, calls = _Held(), list[int]()

    def fetch(n: int) -> Any:
        calls.append(n)
        if n < 100 or n % 8 == 0:
            time.sleep(0.001)
            return _Slow(n) if n % 8 == 0 and n >= 100 else n
        if n % 8 < 4:
            time.sleep(0.001)
            return n
        held.step(held.fetch, n // 8 * 8, key=f"n:{n // 8 * 8}")
        return n

    def body(step: Any) -> Any:
        held.step, held.fetch = step, fetch
        return step.map(fetch, list(range(1000)), key="n:{}", n_jobs=16)

    create_workflow(cache={})(body).unwrap()
    assert sorted(calls) == list(range(1000))


class _Held:
    """What a function names, and so what it holds is not looked at for each item."""

    step: Any
    ask: Any
    fetch: Any


class _Slow:
    """Is kept slowly, by code of its own."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __reduce__(self) -> Any:
        time.sleep(0.01)
        return _Slow, (self.n,)


def test_c4_an_item_that_asks_its_own_key_is_told_so_whoever_began_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text that names a file is no item as the others: it goes the whole way from where it was begun."""
    (tmp_path / "named").touch()

    monkeypatch.setattr(turns, "may_pay", lambda _: True)
    held = _Held()

    def ask(item: str) -> Any:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(held.step, fetch, item, key=f"n:{item}").result()

    def fetch(item: str) -> Any:
        time.sleep(0.001)
        return held.ask(item) if item.startswith("/") else item

    def body(step: Any) -> Any:
        held.step, held.ask = step, ask
        return step.map(fetch, items, key="n:{}", n_jobs=8)

    items = [*map(str, range(150)), str(tmp_path / "named"), *map(str, range(150, 300))]
    with pytest.raises(RecursiveStep):
        create_workflow(cache={})(body).unwrap()
    assert not FLIGHTS._flights


@pytest.mark.parametrize("event", [StepStarted, StepFinished])
def test_c4_what_a_listener_raises_leaves_no_claim(event: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "may_pay", lambda _: True)
    told: list[Any] = []

    def listen(one: Any) -> None:
        if isinstance(one, event) and getattr(one, "key", "") == "n:200" and not told:
            told.append(one)
            raise SystemExit

    def fetch(n: int) -> int:
        time.sleep(0.001)
        return n

    workflow = create_workflow(cache={}, on_event=listen)
    with pytest.raises(SystemExit):
        workflow(lambda step: step.map(fetch, range(300), key="n:{}", n_jobs=8))
    _until_it_is_gone()
    assert not FLIGHTS._flights
    assert workflow(lambda step: step.map(fetch, range(300), key="n:{}", n_jobs=8)).unwrap() == list(range(300))


def test_k7_a_key_is_called_out_before_its_step_and_on_the_thread_of_its_item(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(turns, "may_pay", lambda _: True)

    def fetch(n: int) -> int:
        time.sleep(0.001)
        return n

    def key(n: int) -> str:
        return f"n:{n} <C{n} object at 0x7ffff000>" if n % 2 else f"n:{n}"

    listener = RecordingListener()
    create_workflow(cache={}, on_event=listener)(lambda step: step.map(fetch, range(200), key=key, n_jobs=8)).unwrap()
    kinds: dict[str, list[type]] = {}
    for event in listener.events:
        kinds.setdefault(getattr(event, "key", None) or "", []).append(type(event))
    called_out = [of_key for of_key in kinds.values() if Finding in of_key]
    assert called_out
    assert all(of_key[0] is Finding for of_key in called_out)
    assert "nbstep map" not in {record.threadName for record in caplog.records}


def test_one_who_listens_slowly_does_not_hold_up_all() -> None:
    """What an end takes is taken by each thread then, side by side."""
    slow: list[str] = []

    def ends(item: int) -> int:
        slow.append(threading.current_thread().name)
        time.sleep(0.005)
        return item * 2

    turns = _Turns(ends)
    assert _given(turns, 16) == [2 * n for n in range(_COUNT)]
    assert slow.count("nbstep map") < 40 < len(slow) // 2


def test_a_worker_that_comes_as_it_is_closed_leaves_the_thread_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds the word that was meant for the thread, as it does all that waits itself."""

    class Late(hub.SimpleQueue[Any]):
        def put(self, item: Any, *rest: Any) -> None:
            if item is not None and not closed:
                closed.append(item)
                the_hub.close()
            super().put(item, *rest)

        def get(self, *rest: Any) -> Any:
            if closed:
                assert found.wait(20)  # the worker is faster
            return super().get(*rest)

        def get_nowait(self) -> Any:
            try:
                return super().get_nowait()
            except hub.Empty:
                found.set()
                raise

    closed, found = list[Any](), threading.Event()
    monkeypatch.setattr(hub, "SimpleQueue", Late)
    turns = _Turns()
    results: list[Any] = [None] * 8
    the_hub = hub.Hub(list(enumerate(_work(8))), results, contextvars.copy_context(), turns.take, turns.begin)
    worker = threading.Thread(target=the_hub.take_turns)
    worker.start()
    worker.join(20)
    assert not worker.is_alive()
    _until_it_is_gone()


def _until_it_is_gone() -> None:
    ends = time.monotonic() + 20
    while any(thread.name == "nbstep map" for thread in threading.enumerate()):
        assert time.monotonic() < ends
        time.sleep(0.01)
