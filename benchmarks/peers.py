"""nbstep and its peers behind one small interface, each used as its documentation says."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import work


class CannotRun(Exception):
    """A peer has no way to do what a row measures; says why."""


class Peer:
    """One cache in one folder; what it lacks raises `CannotRun`.

    Attributes:
        name: As in the tables.
        less: What it verifies or isolates less than nbstep; "" for nbstep.
        packages: Whose versions are told.
    """

    name = ""
    less = "content unverified, any pickle in the folder runs"
    packages: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def hit(self, key: str) -> Any:
        """A look-up that finds a value: a fresh object."""
        return self.ask(key)

    def ask(self, key: str) -> Any:
        """The cached value, or the computed one, which is stored."""
        raise NotImplementedError

    def put(self, key: str) -> None:
        """Stores the value of a key that has none."""
        raise NotImplementedError

    async def ask_later(self, key: str) -> Any:
        """`ask` for an async function."""
        raise NotImplementedError

    def listing(self) -> int:
        """Asks for every entry with its metadata; how many."""
        raise CannotRun("lists no entries")

    def delete(self, keys: Sequence[str]) -> None:
        """Deletes entries."""
        raise CannotRun("deletes no single entries")

    def undo(self) -> None:
        """Brings back what was deleted last."""
        raise CannotRun("no undo")

    def litter(self) -> int:
        """Files that belong to no entry, with what the peer offers for tidying up used before."""
        raise NotImplementedError


class Nbstep(Peer):
    """`Cache` for one key, `step` in a workflow for work to do."""

    name = "nbstep"
    less = ""
    packages = ("nbstep", "cloudpickle", "blake3")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from nbstep.cache.cache import Cache

        self.cache = Cache(folder / ".nbstep")

    def hit(self, key: str) -> Any:
        return self.cache.get(key)

    def ask(self, key: str) -> Any:
        from nbstep import create_workflow

        return create_workflow(cache=self.cache)(lambda step: step(work.produce, key, key=key)).unwrap()

    def put(self, key: str) -> None:
        if self.cache.get(key) is None:
            self.cache.set(key, work.given(key))

    async def ask_later(self, key: str) -> Any:
        from nbstep import create_workflow

        async def body(step: Any) -> Any:
            return await step(work.produce_later, key, key=key)

        return (await create_workflow(cache=self.cache)(body)).unwrap()

    def hot_steps(self, keys: Sequence[str]) -> Callable[[], None]:
        """A workflow of one step a key, with a listener, that was run once."""
        from nbstep import create_workflow
        from nbstep.testing import RecordingListener

        workflow = create_workflow(cache=self.cache, on_event=RecordingListener())

        def body(step: Any) -> None:
            for key in keys:
                step(work.produce, key, key=key)

        return lambda: workflow(body).unwrap()

    def listing(self) -> int:
        return len(self.cache.entries())

    def delete(self, keys: Sequence[str]) -> None:
        assert self.cache.delete_many(keys) == len(keys)

    def undo(self) -> None:
        self.cache.undo()

    def litter(self) -> int:
        temps = list((self.folder / ".nbstep" / "v1" / "tmp").glob("*"))
        for temp in temps:  # five minutes is how long nbstep lets the file of a dead process stand
            os.utime(temp, (temp.stat().st_mtime - 600,) * 2)
        self.cache.gc()
        return sum(temp.exists() for temp in temps)


class Joblib(Peer):
    """`Memory.cache`."""

    name = "joblib"
    packages = ("joblib",)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        memory_class = importlib.import_module("joblib").Memory
        self.memory = memory_class(folder / "joblib", verbose=0)
        self.cached = self.memory.cache(work.produce)
        self.cached_later = self.memory.cache(work.produce_later)

    def ask(self, key: str) -> Any:
        return self.cached(key)

    def put(self, key: str) -> None:
        self.cached(key)

    async def ask_later(self, key: str) -> Any:
        return await self.cached_later(key)

    def listing(self) -> int:
        return len(self.memory.store_backend.get_items())

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.cached.call_and_shelve(key).clear()

    def litter(self) -> int:
        own = {"output.pkl", "metadata.json", "func_code.py", ".gitignore"}
        return sum(path.is_file() and path.name not in own for path in (self.folder / "joblib").rglob("*"))


class Diskcache(Peer):
    """`Cache.get` and `set`; `memoize` for functions."""

    name = "diskcache"
    packages = ("diskcache",)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        diskcache = importlib.import_module("diskcache")
        # Its default limit of 1 GB would evict while the rows fill it.
        self.cache = diskcache.Cache(str(folder / "diskcache"), size_limit=64 << 30)
        self.cached = self.cache.memoize()(work.produce)

    def hit(self, key: str) -> Any:
        return self.cache.get(key)

    def ask(self, key: str) -> Any:
        return self.cached(key)

    def put(self, key: str) -> None:
        if self.cache.get(key) is None:
            self.cache.set(key, work.given(key))

    async def ask_later(self, key: str) -> Any:
        raise CannotRun("stores no coroutines")

    def listing(self) -> int:
        return len(list(self.cache))  # keys only: metadata would be one query a key

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.cache.delete(key)

    def litter(self) -> int:
        return sum("unknown file" in str(one.message) for one in self.cache.check())


class DiskcacheBarrier(Diskcache):
    """`memoize` behind `barrier`, its recipe against stampedes."""

    name = "diskcache + barrier"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        diskcache = importlib.import_module("diskcache")
        self.cached = diskcache.barrier(self.cache, diskcache.Lock)(self.cached)


class Cachier(Peer):
    """`cachier` with one file an entry, as fast as it gets for many keys."""

    name = "cachier"
    packages = ("cachier",)
    separate_files = True

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        cachier = importlib.import_module("cachier").cachier
        options = {"cache_dir": str(folder / "cachier"), "separate_files": self.separate_files}
        self.cached = cachier(**options)(work.produce)
        self.cached_later = cachier(**options)(work.produce_later)

    def ask(self, key: str) -> Any:
        return self.cached(key)

    def put(self, key: str) -> None:
        self.cached(key)

    async def ask_later(self, key: str) -> Any:
        return await self.cached_later(key)

    def delete(self, keys: Sequence[str]) -> None:
        raise CannotRun("clears the whole function only")

    def litter(self) -> int:
        return sum(path.suffix in {".tmp", ".lock"} for path in (self.folder / "cachier").rglob("*"))


class CachierOneFile(Cachier):
    """`cachier` as it comes: one file a function."""

    name = "cachier, default"
    separate_files = False


class Marimo(Peer):
    """`persistent_cache` with its default method."""

    name = "marimo"
    packages = ("marimo",)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.marimo = importlib.import_module("marimo")
        self.cached = self._decorated(work.produce)

    def _decorated(self, function: Callable[..., Any]) -> Any:
        def decorate() -> Any:  # it looks at the frames of its callers
            return self.marimo.persistent_cache(function, save_path=str(self.folder / "marimo"))

        return decorate()

    def ask(self, key: str) -> Any:
        return self.cached(key)

    def put(self, key: str) -> None:
        self.cached(key)

    async def ask_later(self, key: str) -> Any:
        return await self._decorated(work.produce_later)(key)

    def litter(self) -> int:
        found = (self.folder / "marimo").rglob("*")
        return sum(path.is_file() and path.suffix != ".pickle" for path in found)


PEERS: dict[str, type[Peer]] = {
    peer.name: peer for peer in (Nbstep, Joblib, Diskcache, DiskcacheBarrier, Cachier, CachierOneFile, Marimo)
}
MAIN = ("nbstep", "joblib", "diskcache", "cachier", "marimo")


def run_tasks(peer: Peer, key: str, count: int) -> None:
    """Several tasks of one event loop ask for one key."""

    async def ask_all() -> None:
        await asyncio.gather(*(peer.ask_later(key) for _ in range(count)))

    asyncio.run(ask_all())
