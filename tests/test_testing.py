"""The public testing seams: what they do for tests, and that the contract finds broken stores."""

from __future__ import annotations

import asyncio
import configparser
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from nbstep import Cache, create_workflow
from nbstep.events import RunFinished, StepHit, StepStarted
from nbstep.testing import (
    NBVAL_SANITIZE,
    STEP_LIST_HTML,
    AsyncMemoryStore,
    MemoryStore,
    RecordingListener,
    SettableClock,
    check_store,
    workflow_shell,
)


class Json(MemoryStore):
    def get(self, key: str) -> Any:
        text = super().get(key)
        return None if text is None else json.loads(text)

    def set(self, key: str, value: Any) -> None:
        super().set(key, json.dumps(value))  # type: ignore[arg-type]


class AsyncScan(AsyncMemoryStore):
    """Lists its keys as redis.asyncio's `scan_iter` does; deleting what is not there is a KeyError."""

    def keys(self) -> AsyncIterator[bytes]:  # type: ignore[override]
        async def scan() -> AsyncIterator[bytes]:
            for key in list(self._store.keys()):
                yield key.encode()

        return scan()

    async def delete(self, key: str) -> bool:
        if not await super().delete(key):
            raise KeyError(key)
        return True


@pytest.mark.parametrize("store", [MemoryStore(), Json(), {}], ids=["memory", "json", "dict"])
def test_c1_sync_stores_keep_the_contract(store: Any) -> None:
    assert check_store(store) is None


@pytest.mark.parametrize("store", [AsyncMemoryStore(), AsyncScan()])
def test_c1_async_stores_keep_the_contract(store: Any) -> None:
    assert asyncio.run(check_store(store)) is None


class Lossy(MemoryStore):
    def get(self, key: str) -> Any:
        found = super().get(key)
        return None if found is None else found[:100]


class SafeNames(MemoryStore):
    """As a store that makes file names of keys: two keys become one."""

    def get(self, key: str) -> Any:
        return super().get(key.replace(":", "_"))

    def set(self, key: str, value: Any) -> None:
        super().set(key.replace(":", "_"), value)

    def has(self, key: str) -> bool:
        return super().has(key.replace(":", "_"))

    def delete(self, key: str) -> bool:
        return super().delete(key.replace(":", "_"))


class Forgetful(MemoryStore):
    def delete(self, key: str) -> bool:
        return self.has(key)


class FirstWins(MemoryStore):
    def set(self, key: str, value: Any) -> None:
        if not self.has(key):
            super().set(key, value)


class Greedy(MemoryStore):
    def delete(self, key: str) -> bool:
        gone = self.has(key)
        self._entries = {k: v for k, v in self._entries.items() if not k.startswith(key)}
        return gone


class Boastful(MemoryStore):
    def has(self, key: str) -> bool:
        return True


class HidesKeys(MemoryStore):
    def keys(self) -> list[str]:
        return []


class EmptyIsFalse(MemoryStore):
    def get(self, key: str) -> Any:
        return super().get(key) or False


@pytest.mark.parametrize(
    ("store", "said"),
    [
        (Lossy(), "hands back"), (SafeNames(), "gives what was set last"), (Forgetful(), "after delete"),
        (FirstWins(), "set last"), (Greedy(), "one key only"), (Boastful(), "has is false"), (HidesKeys(), "lists every key"),
        (EmptyIsFalse(), "gives None"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_the_contract_finds_a_broken_store(store: Any, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_store(store)


def test_a_store_that_lacks_a_method_is_a_type_error() -> None:
    class NoDelete:
        get = set = has = print

    with pytest.raises(TypeError, match="NoDelete lacks delete"):
        check_store(NoDelete())


def test_the_listener_sorts_what_it_was_told() -> None:
    listener = RecordingListener()
    workflow = create_workflow(cache=MemoryStore(), on_event=listener)
    for _ in range(2):
        workflow(lambda step: step(lambda: 1, key="a"))
    assert listener.kinds("a") == [
        "StepAsked", "StepMissed", "StepStarted", "StepFinished", "StepAsked", "StepHit",
    ]  # fmt: skip
    assert (listener.hits(), listener.reasons("a"), listener.findings()) == (["a"], ["new"], [])
    assert [len(listener.of(kind)) for kind in (StepHit, StepStarted, RunFinished)] == [1, 1, 2]
    listener.clear()
    assert listener.events == []


def test_the_clock_stands_still_until_it_is_moved() -> None:
    clock = SettableClock(at=10.0)
    cache = clock.drive(Cache("memory:"))
    cache.set("a", 1)
    clock.advance("1h")
    cache.set("b", 2)
    assert [meta.created for meta in cache.entries()] == [10.0, 3610.0]


def test_the_shell_is_real_and_leaves_nothing_behind() -> None:
    from IPython.core.interactiveshell import InteractiveShell

    with workflow_shell() as shell:
        assert shell.run_cell("%%workflow\nx = step(lambda: 6 * 7, key='answer')").success
        assert shell.user_ns["x"] == 42
        with pytest.raises(RuntimeError, match="runs in this process already"), workflow_shell():
            pass
    assert not InteractiveShell.initialized()
    with workflow_shell() as again:
        assert "x" not in again.user_ns


def test_n3_the_sanitizer_is_one_pattern_for_nbval_and_for_python() -> None:
    config = configparser.ConfigParser()
    config.read(NBVAL_SANITIZE)
    assert config["nbstep"]["regex"] == STEP_LIST_HTML.pattern
    html = "a<!--nbstep steps-->3.2 s\n<b>x</b><!--end of nbstep-->b<!--nbstep steps-->4 s<!--end of nbstep-->c"
    assert STEP_LIST_HTML.sub("", html) == "abc"
