"""Parts for testing what uses nbstep: a recording listener, stores in memory, a clock to set, a store's contract, a shell.

Real parts, no mocks: a workflow on a `MemoryStore` runs as one on disk does.

>>> clock, listener = SettableClock(), RecordingListener()
>>> workflow = create_workflow(cache=clock.drive(Cache(MemoryStore())), on_event=listener, ttl="1h")
>>> runs = [workflow(lambda step: step(lambda: 42, key="answer")) for _ in range(2)]
>>> clock.advance("2h")
>>> runs += [workflow(lambda step: step(lambda: 43, key="answer"))]
>>> runs, listener.reasons("answer")
([Ok(42), Ok(42), Ok(43)], ['new', 'expired'])
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from nbstep.cache.cache import Cache
from nbstep.contract import check_store
from nbstep.durations import Duration, to_seconds
from nbstep.events import Event, Finding, StepHit, StepMissed
from nbstep.stores.memory import MemoryStore
from nbstep.workflows import create_workflow

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = [
    "NBVAL_SANITIZE",
    "STEP_LIST_HTML",
    "AsyncMemoryStore",
    "MemoryStore",
    "RecordingListener",
    "SettableClock",
    "check_store",
    "create_workflow",
    "workflow_shell",
]

E = TypeVar("E")

# What nbval takes by itself where nbstep is installed: it removes the HTML of step lists, which changes from run to run.
NBVAL_SANITIZE: Final = Path(__file__).with_name("nbval_sanitize.cfg")
STEP_LIST_HTML: Final = re.compile(r"(?s)<!--nbstep.*?nbstep-->")


class RecordingListener:
    """A listener that remembers what it was told: give it as `on_event=`.

    Attributes:
        events: All events, in the order they came.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        """Takes one event; from any thread."""
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def about(self, key: str) -> list[Event]:
        """The events that name `key`."""
        return [event for event in self.events if getattr(event, "key", None) == key]

    def kinds(self, key: str) -> list[str]:
        """The class names of the events that name `key`."""
        return [type(event).__name__ for event in self.about(key)]

    def hits(self) -> list[str]:
        """The keys that were used from the cache, values and errors alike."""
        return [event.key for event in self.of(StepHit)]

    def reasons(self, key: str | None) -> list[str]:
        """Why `key` missed, once for each time it did."""
        return [event.reason for event in self.of(StepMissed) if event.key == key]

    def findings(self) -> list[str]:
        """The texts of the findings."""
        return [event.text for event in self.of(Finding)]

    def clear(self) -> None:
        """Forgets everything."""
        self.events.clear()


class AsyncMemoryStore:
    """`MemoryStore` with `async def` methods: every keyed step over it is awaitable.

    >>> import asyncio
    >>> store = AsyncMemoryStore()
    >>> asyncio.run(store.set("user:1", b"entry")), asyncio.run(store.get("user:1"))
    (None, b'entry')
    """

    def __init__(self) -> None:
        self._store = MemoryStore()

    async def get(self, key: str) -> bytes | None:
        """The entry under `key`, None where there is none."""
        return self._store.get(key)

    async def set(self, key: str, value: bytes) -> None:
        """Puts an entry under `key`."""
        self._store.set(key, value)

    async def has(self, key: str) -> bool:
        """Whether there is an entry under `key`."""
        return self._store.has(key)

    async def delete(self, key: str) -> bool:
        """Removes the entry under `key`; whether there was one."""
        return self._store.delete(key)

    async def keys(self) -> list[str]:
        """The keys in the order they came."""
        return self._store.keys()


class SettableClock:
    """A clock that stands still until it is moved.

    >>> clock = SettableClock(at=100.0)
    >>> clock.advance("1m")
    >>> clock()
    160.0

    Args:
        at: Seconds since the epoch.
    """

    def __init__(self, at: float = 1_700_000_000.0) -> None:
        self.at = at

    def __call__(self) -> float:
        """Seconds since the epoch."""
        return self.at

    def advance(self, by: Duration) -> None:
        """Moves it forward, by seconds, a `timedelta` or text such as "15m"."""
        self.at += to_seconds(by, "by") or 0.0

    def drive(self, cache: Cache) -> Cache:
        """Makes a cache, and the runs that are opened on it from now on, go by this clock; returns the cache."""
        cache.clock = self
        return cache


@contextmanager
def workflow_shell() -> Generator[InteractiveShell]:
    """A real IPython shell with nbstep loaded: `shell.run_cell("%%workflow …")`; nothing of it stays.

    Raises:
        RuntimeError: A shell runs in this process already.
    """
    from IPython.core.interactiveshell import InteractiveShell as Shell  # 100 ms, and not everyone's tests need it
    from traitlets.config import Config

    if Shell.initialized():
        raise RuntimeError("workflow_shell() makes a shell of its own, and one runs in this process already")
    config = Config()
    config.HistoryManager.enabled = False
    with tempfile.TemporaryDirectory() as folder:
        shell = Shell.instance(config=config, ipython_dir=folder)
        extensions: Any = shell.extension_manager
        extensions.load_extension("nbstep")
        try:
            yield shell
        finally:
            extensions.unload_extension("nbstep")
            Shell.clear_instance()
