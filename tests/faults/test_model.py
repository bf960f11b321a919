"""`Cache` against a plain dict and a list: whatever is asked in whatever order, over every kind of store (C1, C2, E6)."""

from __future__ import annotations

import asyncio
import fnmatch
import inspect
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from faults import LONG
from nbstep import Cache, Err, Ok, StepFailed
from nbstep.cache.records import Facts, Hit, Kept, Miss
from nbstep.testing import AsyncMemoryStore, MemoryStore

KEYS: Final = ("a", "A", "user:1", "user:2", "user:*", "../x", "é", "e\u0301", "nul\x00", "x" * 4096)
GLOBS: Final = ("*", "user:*", "user:?", "[aA]", "nothing*", "a", "*\x00")
VALUES: Final = (None, 0, "", "text", [1, {"a": (2,)}], b"\x00\xff" * 50, "long" * 20_000)
BATCHES: Final = ("run 1", "run 2")
GONE: Final = "nothing is kept"

# A few keys most of the time: what can go wrong needs one key's entry, its trash and its next entry.
a_key = st.sampled_from(("user:1",) * 12 + ("user:2", "a", "A") * 3 + KEYS)
a_value = st.sampled_from(VALUES)


@dataclass
class Model:
    """What a cache should hold: outcomes by key, and the trash, oldest first."""

    kept: dict[str, Ok[Any] | Err[Any]] = field(default_factory=dict)
    trash: list[tuple[str, Ok[Any] | Err[Any], str]] = field(default_factory=list)
    batches: Any = field(default_factory=itertools.count)

    def batch(self) -> str:
        return f"batch {next(self.batches)}"

    def put(self, key: str, result: Ok[Any] | Err[Any], batch: str) -> None:
        if key in self.kept:
            self.trash.append((key, self.kept[key], batch))
        self.kept[key] = result

    def remove(self, keys: list[str]) -> int:
        batch = self.batch()
        gone = [key for key in keys if key in self.kept]
        self.trash += [(key, self.kept.pop(key), batch) for key in gone]
        return len(gone)

    def undo(self, key: str | None) -> list[str]:
        of_key = [item for item in self.trash if key in (None, item[0])]
        if not of_key:
            return []
        chosen: dict[str, Any] = {}
        for item in of_key if key is None else of_key[-1:]:
            if item[2] == of_key[-1][2]:
                chosen.setdefault(item[0], item)  # of two in one batch the older: it was there before the batch
        taken = {id(item) for item in chosen.values()}
        self.trash = [item for item in self.trash if id(item) not in taken]
        batch = self.batch()
        for name, result, _ in chosen.values():
            self.put(name, result, batch)
        return sorted(chosen)


class CacheMachine(RuleBasedStateMachine):
    """Two ways to one cache, and the model of it."""

    opened: Callable[[], tuple[Cache, Cache]]

    def __init__(self) -> None:
        super().__init__()
        self.caches = type(self).opened()
        self.runner = asyncio.Runner()
        self.model = Model()
        self.numbers = itertools.count()

    def teardown(self) -> None:
        self.runner.close()

    def now(self, result: Any) -> Any:
        """A result, awaited where the store is async."""
        if not inspect.isawaitable(result):
            return result

        async def awaited() -> Any:
            return await result

        return self.runner.run(awaited())

    def kept(self, cache: Cache, key: str, result: Ok[Any] | Err[Any], batch: str | None) -> None:
        async def keep() -> Any:
            return await cache.keep(key, result, Facts(took_s=0.1), batch=batch)

        assert isinstance(self.now(keep()), Kept)

    @rule(which=st.booleans(), key=a_key, value=a_value)
    def set(self, which: bool, key: str, value: Any) -> None:
        value = [next(self.numbers), value]  # no two values are alike
        self.now(self.caches[which].set(key, value))
        self.model.put(key, Ok(value), self.model.batch())

    @rule(which=st.booleans(), key=a_key, error=st.sampled_from(["raised", "returned"]))
    def keep_an_error(self, which: bool, key: str, error: str) -> None:
        n = next(self.numbers)
        result: Err[Any] = Err(LookupError(n)) if error == "raised" else Err(f"NOT_FOUND {n}")
        self.kept(self.caches[which], key, result, None)
        self.model.put(key, result, self.model.batch())

    @rule(
        which=st.booleans(), key=a_key, value=a_value, batch=st.sampled_from(BATCHES), times=st.integers(1, 3),
        undone=st.sampled_from(["not", "all", "its key"]),
    )  # fmt: skip
    def keep_in_a_run(self, which: bool, key: str, value: Any, batch: str, times: int, undone: str) -> None:
        """A run may replace one key more than once; that is where one entry is easily taken for another."""
        for _ in range(times):
            kept = [next(self.numbers), value]
            self.kept(self.caches[which], key, Ok(kept), batch)
            self.model.put(key, Ok(kept), batch)
        if undone != "not":
            self._undo(which, key if undone == "its key" else None)

    @rule(which=st.booleans(), key=a_key, times=st.integers(1, 3))
    def get(self, which: bool, key: str, times: int) -> None:
        """More than once: the second time it comes from the hot tier."""
        expected = self.model.kept.get(key, Ok(GONE))
        for _ in range(times):
            try:
                value = self.now(self.caches[which].get(key, GONE))
            except (LookupError, StepFailed) as raised:
                got: Any = raised.error if isinstance(raised, StepFailed) else (type(raised), raised.args)
                value = None
            else:
                got = None
            error = expected.error
            assert got == ((type(error), error.args) if isinstance(error, LookupError) else error)
            assert (type(value), value) == (type(expected.value), expected.value)
            if isinstance(value, list):
                value.append("the caller's own (K9)")

    @rule(which=st.booleans(), key=a_key)
    def look_up(self, which: bool, key: str) -> None:
        async def look_up() -> Any:
            return await self.caches[which].look_up(key)

        found = self.now(look_up())
        if key in self.model.kept:
            assert isinstance(found, Hit)
            assert found.meta.key == key
            assert found.meta.outcome == ("ok" if isinstance(self.model.kept[key], Ok) else "error")
        else:
            trashed = any(name == key for name, _, _ in self.model.trash)
            assert found == Miss("deleted" if trashed else "new")

    @rule(which=st.booleans(), key=a_key)
    def delete(self, which: bool, key: str) -> None:
        assert self.now(self.caches[which].delete(key)) == bool(self.model.remove([key]))

    @rule(which=st.booleans(), pattern=st.sampled_from(GLOBS))
    def delete_matching(self, which: bool, pattern: str) -> None:
        keys = [key for key in self.model.kept if fnmatch.fnmatchcase(key, pattern)]
        assert self.now(self.caches[which].delete_matching(pattern)) == self.model.remove(keys)

    @rule(which=st.booleans())
    def clear(self, which: bool) -> None:
        assert self.now(self.caches[which].clear()) == self.model.remove(list(self.model.kept))

    @rule(which=st.booleans(), key=st.none() | a_key)
    def undo(self, which: bool, key: str | None) -> None:
        self._undo(which, key)

    def _undo(self, which: bool, key: str | None) -> None:
        assert sorted(self.now(self.caches[which].undo(key))) == self.model.undo(key)

    @rule(which=st.booleans())
    def empty_trash(self, which: bool) -> None:
        assert self.now(self.caches[which].empty_trash()) == len(self.model.trash)
        self.model.trash.clear()

    @rule(which=st.booleans())
    def tidy_and_verify(self, which: bool) -> None:
        self.now(self.caches[which].gc())
        found = self.now(self.caches[which].verify())
        assert (found.checked, found.bits) == (len(self.model.kept), 0)

    @invariant()
    def both_list_what_is_kept(self) -> None:
        for cache in self.caches:
            assert sorted(self.now(cache.keys())) == sorted(self.model.kept)
            assert self.now(cache.trash()).entries == len(self.model.trash)
            errors = {key for key, result in self.model.kept.items() if isinstance(result, Err)}
            assert {meta.key for meta in self.now(cache.errors())} == errors


def _one(where: Any) -> tuple[Cache, Cache]:
    cache = Cache(where)
    return cache, Cache(cache)


@pytest.mark.parametrize("kind", ["disk", "one cache on disk", "memory", "dict", "async"])
def test_c2_a_cache_does_what_a_dict_with_a_trash_would(kind: str, tmp_path: Path) -> None:
    numbers = itertools.count()

    def opened() -> tuple[Cache, Cache]:
        folder = tmp_path / str(next(numbers))
        match kind:
            case "disk":
                return Cache(folder), Cache(folder)
            case "one cache on disk":
                return _one(folder)
            case "memory":
                return _one(MemoryStore())
            case "dict":
                return _one({})
            case _:
                return _one(AsyncMemoryStore())

    machine = type("Machine", (CacheMachine,), {"opened": staticmethod(opened)})
    on_disk = "disk" in kind
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=(1000 if LONG else 60) if on_disk else (2000 if LONG else 60),
            stateful_step_count=80 if LONG else 40,
            deadline=None,
            database=None,
            derandomize=not LONG,
            suppress_health_check=list(HealthCheck),
        ),
    )
