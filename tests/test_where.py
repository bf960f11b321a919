"""What `cache=` takes becomes one store for each place (C1, C2, C4)."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from shells import open_shell

from nbstep import Cache, Ok, create_workflow
from nbstep.cache import where
from nbstep.events import StepWaiting
from nbstep.testing import MemoryStore, RecordingListener


class Unhashable(MemoryStore):
    """A store that no set and no dict of the standard library would take as a key."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True


@pytest.fixture(params=[dict, MemoryStore, Unhashable])
def target(request: pytest.FixtureRequest) -> Any:
    return request.param()


def test_c2_caches_over_one_store_share_trash_and_undo(target: Any) -> None:
    Cache(target).set("k", 1)
    Cache(target).delete("k")
    assert Cache(target).trash().entries == 1
    assert Cache(target).undo() == ["k"]
    assert Cache(target).get("k") == 1


def test_c1_a_store_without_keys_lists_what_any_cache_over_it_used() -> None:
    class Bare:
        def __init__(self) -> None:
            inner = MemoryStore()
            self.get, self.set, self.has, self.delete = inner.get, inner.set, inner.has, inner.delete

    bare = Bare()
    Cache(bare).set("k", 1)
    assert Cache(bare).keys() == ["k"]


def test_c2_what_one_cell_deleted_a_later_cell_brings_back(tmp_path: Path) -> None:
    with open_shell(tmp_path) as shell:
        shell.good("from nbstep import Cache\nst = {}")
        shell.good("%%workflow --cache $st\na = step(lambda: 1, key='k')")
        shell.good("Cache(st).clear()")
        gc.collect()
        assert shell.good("Cache(st).undo()").value == ["k"]
        shell.good("%%workflow --cache $st\na = step(lambda: 2, key='k')")
        assert shell["a"] == 1


def test_c4_three_workflows_over_one_store_compute_a_key_once(target: Any) -> None:
    told, ran, go = RecordingListener(), list[int](), threading.Event()

    def work() -> int:
        ran.append(1)
        assert go.wait(20)
        return 7

    def one() -> Any:
        return create_workflow(cache=target, on_event=told)(lambda step: step(work, key="k"))

    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(one) for _ in range(3)]
        while len(told.of(StepWaiting)) < 2 and len(ran) < 2:
            go.wait(0.01)
        go.set()
        assert [future.result(20) for future in waiting] == [Ok(7)] * 3
    assert ran == [1]


def test_equal_objects_are_different_places() -> None:
    one, other = {}, {}
    Cache(one).set("k", 1)
    assert Cache(other).has("k") is False
    assert Cache(one).scope != Cache(other).scope
    assert Cache("memory:").scope != Cache("memory:").scope


class Mapping(dict[str, Any]):
    """A dict that can be watched."""


@pytest.mark.parametrize("kind", [MemoryStore, Mapping])
def test_a_store_that_was_thrown_away_is_not_kept_for_its_trash(kind: Callable[[], Any]) -> None:
    thrown = kind()
    Cache(thrown).set("k", 1)
    there = weakref.ref(thrown)
    del thrown
    Cache({})
    gc.collect()
    assert there() is None


def test_only_so_many_stores_are_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(where, "_RECENT_AT_MOST", 3)
    stores = [MemoryStore() for _ in range(6)]

    def forgotten() -> list[bool]:
        return [Cache(store).trash().entries == 0 for store in reversed(stores)]

    for store in stores:
        cache = Cache(store)
        cache.set("k", 1)
        cache.delete("k")
    del cache
    gc.collect()
    assert forgotten()[:3] == [False] * 3
    assert len(where._recent) == 3


def test_an_id_that_is_used_again_is_another_store() -> None:
    def made(fill: Callable[[Cache], Any]) -> int:
        target: dict[str, Any] = {}
        fill(Cache(target))
        return id(target)

    ids = [made(lambda cache: (cache.set("k", 1), cache.delete("k"))) for _ in range(50)]
    assert len(ids) == 50
    for _ in range(50):
        assert Cache({}).trash().entries == 0
