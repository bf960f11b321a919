"""Entries under keys: look up, keep, delete, undo. Plain over a sync store, awaitable over an async one."""

from __future__ import annotations

import fnmatch
import hashlib
import importlib
import os
import re
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypeVar

from nbstep.cache import entry, trust
from nbstep.cache.keeping import Keeper
from nbstep.cache.records import Facts, Hit, Kept, LookUp, Meta, Miss, NotKept, Unreadable
from nbstep.cache.where import open_store, project_place
from nbstep.errors import CacheDirectoryError, StepFailed
from nbstep.events import CacheChanged, Finding, emit
from nbstep.project import place_text
from nbstep.result import Err, Ok
from nbstep.stores.base import Document, Spot, Store, TrashTotals, run_now

T = TypeVar("T")
Durability: TypeAlias = Literal["auto", "always", "never"]

_SYNC_FROM_S: Final = 10.0


class Cache:
    """The kept entries of one place.

    Over a sync store (disk, memory, a mapping, an object with plain methods) every method gives its result; over an async
    store every method gives an awaitable of it.

    Args:
        where: A path, a URL (`"memory:"`), a `MutableMapping`, an object with get, set, has and delete, or another
            `Cache`. Left out: the project's cache.
        durability: `"auto"` makes an entry survive a power failure where its thunk ran longer than ten seconds.
        previews: Whether the beginning of each value is kept as text, for the panel.
        redact: Takes every text before it is written to an entry's header; for secrets that the built-in rules miss.

    Attributes:
        clock: Gives seconds since the epoch; set by tests only.

    Raises:
        TypeError: `where` is nothing that can be a store, or lacks a method.
        ValueError: A URL of an unknown scheme.
        CacheDirectoryError: The folder cannot be created or written.

    >>> cache = Cache("memory:")
    >>> cache.set("user:1", {"name": "Ada"})
    >>> cache.get("user:1"), cache.get("user:2"), cache.keys()
    ({'name': 'Ada'}, None, ['user:1'])
    """

    def __init__(
        self,
        where: Any = None,
        *,
        durability: Durability = "auto",
        previews: bool = True,
        redact: Callable[[str], str] | None = None,
    ) -> None:
        if durability not in ("auto", "always", "never"):
            raise ValueError(f'durability={durability!r}: use "auto", "always" or "never"')
        if redact is not None and not callable(redact):
            raise TypeError(f"redact={redact!r} is no function that takes a text and gives one")
        if where is None:
            self._store: Store = _open_project_store()
        elif isinstance(where, Cache):
            self._store = where._store
        else:
            self._store = open_store(where)
        self.clock: Callable[[], float] = time.time
        self._durability = durability
        self._keeper = Keeper(previews, redact)
        self._lock = threading.Lock()
        self._heads: dict[str, tuple[tuple[int, ...], entry.Head | None]] = {}

    @property
    def place(self) -> str:
        """Where it is, as shown: `~/proj/.nbstep`, `memory:`, `RedisStore`."""
        return self._store.place

    @property
    def directory(self) -> Path | None:
        """The folder of a disk cache, None for any other."""
        return self._store.directory

    @property
    def is_async(self) -> bool:
        """Whether its methods give awaitables."""
        return self._store.is_async

    def __repr__(self) -> str:
        return f"Cache({self.place!r})"

    # For steps -------------------------------------------------------------------------------------------------------

    async def look_up(self, key: str) -> LookUp:
        """What is kept under `key`: a `Hit`, or a `Miss` with its reason. Nothing is unpickled; never raises `Exception`."""
        signing_key = trust.signing_key()
        try:
            document = await self._store.open(key, signing_key.id)
            if document is None:
                return await self._why_missing(key, signing_key.id)
            head = entry.read_head(document, signing_key, self.clock())
            _check_usable(head, key)
        except Unreadable as problem:
            return Miss(problem.reason, problem.detail)
        except Exception as error:  # noqa: BLE001 - the user's own store may raise anything
            return Miss("unreadable", _reason(self.place, "read", error))
        return Hit(head.meta, lambda: self._keeper.load(document, head))

    async def keep(
        self, key: str, result: Ok[Any] | Err[Any], facts: Facts, *, batch: str | None = None
    ) -> Kept | NotKept:
        """Keeps a value or an error under `key`; what stood there goes to the trash.

        Never raises `Exception`: whatever goes wrong is told by `NotKept`.

        Args:
            key: The user's key.
            result: What the thunk gave, or its error.
            facts: What the step knows of it.
            batch: Groups what this run replaces, so that one `undo()` brings all of it back.
        """
        try:
            signing_key = trust.signing_key()
            meta, content = self._keeper.prepare(key, result, facts, self.clock())
            parts = entry.encode(meta, content, signing_key)
            durable = self._durability == "always" or (self._durability == "auto" and facts.took_s > _SYNC_FROM_S)
            await self._store.publish(key, signing_key.id, parts, durable=durable, batch=batch or _new_batch())
        except Exception as error:  # noqa: BLE001 - a cache that fails must not cost the user the value
            return NotKept(self._keeper.why_not(error, self.place))
        size = sum(len(part) for part in parts)
        emit(CacheChanged(self.place, "kept", (key,)))
        return Kept(entry.published(meta, signing_key.id, size))

    # For people ------------------------------------------------------------------------------------------------------

    def get(self, key: str, default: Any = None) -> Any:
        """The value kept under `key`; `default` where there is none.

        Raises:
            Exception: The kept error, where an error is kept.
            StepFailed: The thunk returned `Err(error)` and `error` is no exception.
        """
        return self._run(self._get(key, default))

    def set(self, key: str, value: Any) -> Any:
        """Keeps `value` under `key`.

        Raises:
            ValueError: It cannot be kept; the message says why.
        """
        return self._run(self._set(key, value))

    def has(self, key: str) -> Any:
        """Whether a look-up of `key` would be a hit."""
        return self._run(self._has(key))

    def delete(self, key: str) -> Any:
        """Moves what is kept under `key` to the trash; whether there was anything."""
        return self._run(self._delete(key))

    def delete_many(self, keys: Iterable[str]) -> Any:
        """Moves what is kept under these keys to the trash, as one batch; returns how many had an entry."""
        return self._run(self._delete_many([_checked(key) for key in keys]))

    def delete_matching(self, pattern: str) -> Any:
        """Moves what is kept under the keys that match a glob (`user:*`) to the trash; returns how many."""
        return self._run(self._delete_matching(pattern))

    def clear(self) -> Any:
        """Moves everything to the trash, as one batch; returns how many entries."""
        return self._run(self._clear())

    def keys(self) -> Any:
        """The keys in the order their entries were kept."""
        return self._run(self._keys())

    def entries(self) -> Any:
        """What every entry says of itself, oldest first, those of other signers (`trusted` False) included; loads nothing."""
        return self._run(self._entries())

    def errors(self) -> Any:
        """The entries that keep an error."""
        return self._run(self._errors())

    def undo(self, key: str | None = None) -> Any:
        """Brings back the last batch that went to the trash, or the last entry of `key`; returns the keys restored.

        What stands there now goes to the trash in exchange, so that a second `undo` swaps again.
        """
        return self._run(self._undo(key))

    def export(self, pattern: str, folder: str | os.PathLike[str]) -> Any:
        """Writes the values whose keys match a glob as plain `joblib.dump` files; returns their paths."""
        return self._run(self._export(pattern, Path(folder)))

    def trash(self) -> Any:
        """How many entries wait in the trash, and their size."""
        return self._run(self._trash())

    def empty_trash(self) -> Any:
        """Removes what waits in the trash for good; returns how many entries."""
        return self._run(self._empty_trash())

    def __contains__(self, key: object) -> bool:
        self._only_sync("in")
        return isinstance(key, str) and run_now(self._has(key))

    def __len__(self) -> int:
        self._only_sync("len()")
        return len(run_now(self._keys()))

    def __iter__(self) -> Iterator[str]:
        self._only_sync("iteration")
        return iter(run_now(self._keys()))

    def __bool__(self) -> bool:
        return True  # an empty cache is a cache

    # The coroutines behind them --------------------------------------------------------------------------------------

    async def _get(self, key: str, default: Any) -> Any:
        found = await self.look_up(_checked(key))
        if isinstance(found, Miss):
            return default
        try:
            value = found.load()
        except Unreadable:
            return default
        if found.meta.outcome == "ok":
            return value
        error = value.error
        raise error if isinstance(error, BaseException) else StepFailed(key, error)

    async def _set(self, key: str, value: Any) -> None:
        kept = await self.keep(_checked(key), Ok(value), Facts(took_s=0.0))
        if isinstance(kept, NotKept):
            raise ValueError(f"{key!r} was not kept: {kept.why}")

    async def _has(self, key: str) -> bool:
        return isinstance(await self.look_up(_checked(key)), Hit)

    async def _delete(self, key: str) -> bool:
        return await self._delete_many([_checked(key)]) > 0

    async def _delete_many(self, keys: list[str]) -> int:
        removed = await self._store.remove(list(dict.fromkeys(keys)), _new_batch())
        if removed:
            emit(CacheChanged(self.place, "deleted", tuple(removed)))
        return len(removed)

    async def _delete_matching(self, pattern: str) -> int:
        keys = {meta.key for meta in await self._entries()}
        return await self._delete_many([key for key in sorted(keys) if fnmatch.fnmatchcase(key, pattern)])

    async def _clear(self) -> int:
        keys = tuple(dict.fromkeys(meta.key for meta in await self._entries()))
        count = await self._store.remove_all(_new_batch())
        if count:
            emit(CacheChanged(self.place, "deleted", keys))
        return count

    async def _keys(self) -> list[str]:
        return list(dict.fromkeys(meta.key for meta in await self._entries() if meta.trusted))

    async def _entries(self) -> list[Meta]:
        spots = await self._store.spots()
        metas = [head.meta for spot in spots if (head := await self._head(spot)) is not None]
        with self._lock:
            known = {spot.address for spot in spots}
            self._heads = {address: head for address, head in self._heads.items() if address in known}
        return sorted(metas, key=lambda meta: (meta.created, meta.key))

    async def _errors(self) -> list[Meta]:
        return [meta for meta in await self._entries() if meta.outcome == "error"]

    async def _undo(self, key: str | None) -> list[str]:
        spots = await self._store.restore(key if key is None else _checked(key), _new_batch())
        heads = [head for spot in spots if (head := await self._head(spot)) is not None]
        keys = list(dict.fromkeys(head.meta.key for head in heads))
        if keys:
            emit(CacheChanged(self.place, "restored", tuple(keys)))
        return keys

    async def _export(self, pattern: str, folder: Path) -> list[Path]:
        joblib = importlib.import_module("joblib")  # 144 ms
        folder.mkdir(parents=True, exist_ok=True)
        paths: list[Path] = []
        for key in await self._keys():
            if not fnmatch.fnmatchcase(key, pattern):
                continue
            found = await self.look_up(key)
            if isinstance(found, Miss) or found.meta.outcome != "ok":
                continue
            try:
                value = found.load()
            except Unreadable:
                continue
            path = folder / _file_name(key)
            joblib.dump(value, path)
            paths.append(path)
        return paths

    async def _trash(self) -> TrashTotals:
        return await self._store.trash()

    async def _empty_trash(self) -> int:
        return await self._store.empty_trash()

    # ------------------------------------------------------------------------------------------------------------------

    async def _head(self, spot: Spot) -> entry.Head | None:
        """The header at a spot, None where there is none that can be read; remembered as long as the spot's stamp stays."""
        if spot.stamp is not None:
            with self._lock:
                known = self._heads.get(spot.address)
            if known is not None and known[0] == spot.stamp:
                return known[1]
        try:
            document: Document | None = await self._store.open_spot(spot)
            head = None if document is None else entry.read_head(document, trust.signing_key(), self.clock())
        except (Unreadable, OSError, ValueError):
            head = None
        if spot.stamp is not None:
            with self._lock:
                self._heads[spot.address] = (spot.stamp, head)
        return head

    async def _why_missing(self, key: str, signer: str) -> Miss:
        strangers = await self._store.strangers(key, signer)
        if strangers:
            return _untrusted(strangers[0])
        return Miss("deleted" if await self._store.trashed(key) else "new")

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T | Coroutine[Any, Any, T]:
        return coroutine if self.is_async else run_now(coroutine)

    def _only_sync(self, what: str) -> None:
        if self.is_async:
            raise TypeError(
                f"{what} cannot wait for the async store {self.place}: use await cache.has(key), await cache.keys()"
            )


_project: dict[str, Cache] = {}
_project_lock = threading.Lock()


def project_cache() -> Cache:
    """The project's cache (C0): one object, settled at first use; another value of `NBSTEP_DIR` means another one.

    Raises:
        CacheDirectoryError: `NBSTEP_DIR` names a folder that cannot be created or written.
    """
    with _project_lock:
        named = os.environ.get("NBSTEP_DIR", "").strip()
        if named not in _project:
            cache = Cache()
            same = (other for other in _project.values() if other.directory == cache.directory)
            _project[named] = next(same, cache)
        return _project[named]


def _open_project_store() -> Store:
    place = project_place()
    try:
        return open_store(place.directory)
    except CacheDirectoryError as error:
        if place.explicit:
            raise
        try:
            store = open_store(place.fallback)
        except CacheDirectoryError:
            raise error from None
        shown = place_text(place.directory)
        emit(
            Finding(None, None, "cache-place", f"{shown} cannot be written: results are kept in {store.place} instead")
        )
        return store


def _check_usable(head: entry.Head, key: str) -> None:
    meta = head.meta
    if not meta.trusted:
        problem = _untrusted(meta.signer)
        raise Unreadable(problem.reason, problem.detail or "")
    if meta.key != key:
        raise Unreadable("unreadable", f"it is the entry of another key, {meta.key!r:.100}")
    if head.by_value and meta.python != entry.PYTHON:
        raise Unreadable("incompatible", f"kept under Python {meta.python}, this is {entry.PYTHON}")


def _untrusted(signer: str) -> Miss:
    shown = signer if re.fullmatch(r"[0-9a-f]{8}", signer) else "of an unknown form"
    why = f"signed by key {shown}, not yours: new container or HOME? set NBSTEP_SIGNING_KEY_FILE to the key that signed it"
    return Miss("untrusted", why)


def _reason(place: str, verb: str, error: Exception) -> str:
    text = " ".join(str(getattr(error, "strerror", None) or error).split())[:300]
    return f"{place} could not {verb} it: {type(error).__name__}: {text}"


def _new_batch() -> str:
    return os.urandom(12).hex()


def _checked(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a key is a str, got {key!r:.80}")
    return key


def _file_name(key: str) -> str:
    slug = re.sub(r"[^A-Za-z0-9._=-]+", "_", key).strip("._")[:80]
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{slug}.joblib" if slug == key else f"{slug or 'key'}-{digest}.joblib"
