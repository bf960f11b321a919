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

import inspect
import os
import re
import tempfile
from collections.abc import Callable, Generator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from nbstep.cache.cache import Cache
from nbstep.cache.records import Facts, Kept
from nbstep.durations import Duration, to_seconds
from nbstep.events import Event, Finding, StepHit, StepMissed
from nbstep.result import Err
from nbstep.stores.base import run_now
from nbstep.stores.mapping import MappingMethods
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

# For `pytest --nbval --nbval-sanitize-with`: removes the HTML of step lists, which changes from run to run.
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


def check_store(store: Any) -> Any:
    """Checks that an object can serve as `cache=`: everything that `Cache` takes, or a `Cache`.

    That is a path or URL, a mapping, or an object with `get`, `set`, `has`, `delete`, perhaps `keys`, `clear`. Give it an
    empty store; it is empty afterwards.

    Args:
        store: The object, sync or async.

    Returns:
        None; for an async store an awaitable of it.

    Raises:
        TypeError: It lacks a method.
        AssertionError: It does not keep the contract; the message says where.

    >>> check_store(MemoryStore())
    >>> check_store("memory:")
    """
    cache = Cache(store)
    name = type(store).__name__
    if isinstance(store, str | os.PathLike | Cache):
        target, name = cache, "Cache"
        store = store if cache.directory is not None else cache  # memory cannot be opened twice
    elif isinstance(store, MutableMapping):
        target = MappingMethods(cast("MutableMapping[str, Any]", store))
    else:
        target = store
    checks = _checks(target, store, name)
    return checks if cache.is_async else run_now(checks)


_KEYS: Final = (
    "user:1", "user:2", "user:1/special", "user_1/special", "User:1", "a b", " ", "100%", "a*b?[c]", "..", "/", "../../x", "C:\\x",
    "ключ", "🙂", "\u00e9", "e\u0301", "nul\x00", "a\nb", "x" * 4096,
)  # fmt: skip
_EVERY_BYTE: Final = bytes(range(256))
_LARGE_BYTES: Final = 5_000_000


async def _checks(store: Any, given: Any, name: str) -> None:
    write = await _writer(store, name)
    for key in _KEYS:
        _hold(await _get(store, key) is None, f"{name}.get of a missing key gives None, {key!r:.60}")
        _hold(not await _now(store.has(key)), f"{name}.has is false for a missing key, {key!r:.60}")
    with suppress(KeyError):
        gave = await _now(store.delete("user:1"))
        _hold(not gave, f"{name}.delete of a missing key gives something false, or raises KeyError; it gave {gave!r}")
    for key in _KEYS:
        await _now(store.set(key, write(f"{key} 1".encode())))
        await _now(store.set(key, write(f"{key} 2".encode())))
    for key in _KEYS:
        gave = await _get(store, key)
        _hold(
            _same(gave, write(f"{key} 2".encode())),
            f"{name}.get({key!r:.60}) gives what was set last; it gave {gave!r:.80}",
        )
        _hold(bool(await _now(store.has(key))), f"{name}.has({key!r:.60}) is true")
    await _check_keys(store, name, set(_KEYS))
    await _now(store.delete("user:1"))
    _hold(await _get(store, "user:1") is None, f"{name}.get gives None after delete")
    _hold(not await _now(store.has("user:1")), f"{name}.has is false after delete")
    for key in _KEYS[1:]:
        _hold(await _get(store, key) is not None, f"{name}.delete removes one key only, not {key!r:.60} too")
    await _check_keys(store, name, set(_KEYS[1:]), gone={"user:1"})
    await _check_clear(store, name)
    await _check_through_cache(given, name)


async def _writer(store: Any, name: str) -> Callable[[bytes], bytes | str]:
    """What turns bytes into what the store takes: bytes, or text where it refuses them."""
    content = _EVERY_BYTE * (_LARGE_BYTES // 256)
    for write in (bytes, bytes.hex):
        with suppress(TypeError, ValueError, AttributeError):
            await _now(store.set("user:1", write(content)))
            taken = _same(await _get(store, "user:1"), write(content))
            await _now(store.delete("user:1"))
            _hold(await _get(store, "user:1") is None, f"{name}.get gives None after delete")
            if taken:
                return write
    raise AssertionError(
        f"{name}.get hands back the bytes, or at least the ASCII text, that {name}.set was given: every byte, and 5 MB of them"
    )


async def _check_keys(store: Any, name: str, expected: set[str], gone: frozenset[str] | set[str] = frozenset()) -> None:
    if not callable(getattr(store, "keys", None)):
        return
    found = await _now(store.keys())
    listed = [key async for key in found] if hasattr(found, "__aiter__") else list(found)
    names = {key.decode() if isinstance(key, bytes) else key for key in listed}
    _hold(names >= expected, f"{name}.keys lists every key; it left out {expected - names!r:.200}")
    _hold(not names & gone, f"{name}.keys lists no key that was deleted; it named {names & gone!r:.200}")


async def _check_clear(store: Any, name: str) -> None:
    """With or without a `clear`, all is gone afterwards."""
    if callable(getattr(store, "clear", None)):
        await _now(store.clear())
    else:
        for key in _KEYS[1:]:
            await _now(store.delete(key))
    for key in _KEYS:
        _hold(await _get(store, key) is None, f"{name}.get gives None when all is gone, {key!r:.60}")
        _hold(not await _now(store.has(key)), f"{name}.has is false when all is gone, {key!r:.60}")
    await _check_keys(store, name, set(), gone=set(_KEYS))


async def _check_through_cache(store: Any, name: str) -> None:
    """As a cache: None and large values, errors, undo, and another `Cache` on the same store."""
    cache = Cache(store)
    values = {
        "user:1": {"rows": list(range(1000)), "name": "Ada"},
        "none": None,
        "large": _EVERY_BYTE * 20_000,
        "../é\x00": "",
    }
    for key, value in values.items():
        await _now(cache.set(key, value))
    for key, value in values.items():
        _hold(await _now(cache.get(key, "miss")) == value, f"Cache({name}) gives back a value, {key!r}")
        _hold(await _now(Cache(store).get(key, "miss")) == value, f"another Cache on the same {name} does too, {key!r}")
    kept = await cache.keep("error", Err(LookupError("kept")), Facts(took_s=0.0))
    _hold(isinstance(kept, Kept), f"Cache({name}) keeps an error; it said {kept!r:.200}")
    try:
        raised: Any = await _now(cache.get("error"))
    except LookupError as error:
        raised = error
    _hold(isinstance(raised, LookupError) and raised.args == ("kept",), f"Cache({name}) raises a kept error again")
    found = set(await _now(cache.keys()))
    _hold(found == {*values, "error"}, f"Cache({name}) lists what it keeps; it listed {found!r:.200}")
    _hold(await _now(cache.delete("user:1")) is True, f"Cache({name}).delete says that it deleted")
    _hold(await _now(cache.delete("user:1")) is False, f"Cache({name}).delete says that there was nothing")
    _hold(await _now(cache.get("user:1", "gone")) == "gone", f"Cache({name}) has nothing after delete")
    _hold(await _now(cache.undo()) == ["user:1"], f"Cache({name}).undo brings back what was deleted")
    _hold(await _now(cache.get("user:1")) == values["user:1"], f"Cache({name}) has it again after undo")
    _hold(await _now(cache.clear()) == len(values) + 1, f"Cache({name}).clear says how many there were")
    for key in (*values, "error"):
        _hold(not await _now(cache.has(key)), f"Cache({name}).clear leaves nothing, not {key!r}")
    await _now(cache.empty_trash())


async def _now(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


async def _get(store: Any, key: str) -> Any:
    try:
        return await _now(store.get(key))
    except KeyError:
        return None


def _same(gave: Any, given: bytes | str) -> bool:
    if isinstance(given, str) and isinstance(gave, bytes):
        return gave == given.encode()
    return type(gave) is type(given) and gave == given


def _hold(kept: bool, clause: str) -> None:
    if not kept:
        raise AssertionError(clause)


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
