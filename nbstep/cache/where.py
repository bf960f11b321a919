"""What `cache=` takes, and the store it means: a path, a URL, a mapping, an object with get, set, has and delete."""

from __future__ import annotations

import os
import re
import sys
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from nbstep.errors import CacheDirectoryError
from nbstep.forks import ThreadLock
from nbstep.project import FOLDER, CachePlace, find_cache
from nbstep.stores.base import Store
from nbstep.stores.disk import DiskStore
from nbstep.stores.folder import is_cache, may_be_cache
from nbstep.stores.mapping import MappingStore
from nbstep.stores.memory import MemoryStore
from nbstep.stores.redis.place import SCHEMES, RedisPlace, client_is_async, place_of, read_url

if TYPE_CHECKING:
    from nbstep.stores.tier import TierStore

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(?!\\)")
_NO_COLON: Final = re.compile(r"(rediss?|unix|s3|gs|gcs|az|abfs|https?|memory|file)//", re.IGNORECASE)
_PAIR: Final = re.compile(r"(.+) \+ ([A-Za-z][A-Za-z0-9+.-]+://\S+)")  # a tier, as its place is shown
_RECENT_AT_MOST: Final = 8

# The store around each object of the user's own, by the object's id: the store holds it, so that no other can have that id.
_stores: Final[weakref.WeakValueDictionary[int, MappingStore]] = weakref.WeakValueDictionary()
_recent: Final[list[MappingStore]] = []  # a `Cache(st)` of one cell is gone in the next; its trash must not be
# The store of each server, by its URL or the id of a client: one breaker and one single flight for all caches over it.
_servers: Final[weakref.WeakValueDictionary[RedisPlace | int, Any]] = weakref.WeakValueDictionary()
_buckets: Final[dict[str, Store]] = {}
_tiers: Final[list[TierStore]] = []
_stores_lock: Final = ThreadLock()


def open_store(where: Any) -> Store:
    """The store that `where` means; a disk store's folder is created, but for a cache that can only be read.

    Raises:
        TypeError: It is nothing that can be a store.
        ValueError: A URL of an unknown scheme.
        CacheDirectoryError: The folder cannot be created or written.
    """
    if isinstance(where, str):
        if not where.strip():
            raise ValueError("cache='' names no place: give a path, \"memory:\", or leave cache out for the project's")
        if (pair := _PAIR.fullmatch(where)) is not None:
            return open_tier([pair[1], pair[2]])
        scheme = _SCHEME.match(where)
        if scheme is not None and len(scheme[1]) > 1:
            return _open_url(where, scheme[1].lower())
        if (bare := _NO_COLON.match(where)) is not None:
            raise ValueError(f"cache={bare[0]}… lacks its colon: write {bare[1]}://…, or ./{bare[1]}/… for a folder")
        return DiskStore(cache_folder(Path(where).expanduser()))
    if isinstance(where, os.PathLike):
        return DiskStore(cache_folder(Path(os.fspath(where)).expanduser()))  # pyright: ignore[reportArgumentType]
    if isinstance(where, type):
        raise TypeError(f"cache={where.__name__} is a class: give an object of it, cache={where.__name__}()")
    if isinstance(where, list | tuple):
        return open_tier(cast("list[Any] | tuple[Any, ...]", where))
    if where is None or isinstance(where, bool | int | float | bytes | set | frozenset):
        raise TypeError(
            f'cache={where!r:.80} is no cache: give a Cache, a path, "memory:", a dict, '
            "or an object with get, set, has and delete"
        )
    return _same_store(where) if client_is_async(where) is None else _server(place_of(where), client=where)


def is_url(where: str) -> bool:
    """Whether a text means a cache that is no folder and outlives the process: `redis://…`."""
    scheme = _SCHEME.match(where)
    return scheme is not None and scheme[1].lower() in SCHEMES


def names_shared(where: str) -> bool:
    """Whether a text that names a cache means a shared one, or a folder before one as its place is shown: `. + s3://bucket/x`."""
    pair = _PAIR.fullmatch(where)
    scheme = _SCHEME.match(where if pair is None else pair[2])
    return scheme is not None and "://" in where and scheme[1].lower() not in {"memory", "file", "local"}


def open_tier(parts: Sequence[Any]) -> Store:
    """The store of `cache=[folder, shared]`: one for each pair, with what it remembers of the last commands.

    Raises:
        TypeError: It is no such pair.
    """
    from nbstep.cache.wholeness import own_key  # few caches are tiers
    from nbstep.stores.tier import TierStore

    form = 'a list is a folder and the shared cache behind it: cache=[".", "s3://bucket/team"]'
    if len(parts) != 2:
        raise TypeError(f"cache= has a list of {len(parts)}; {form}")
    near, far = (part if hasattr(part, "exchange_back") else open_store(part) for part in parts)
    if not isinstance(near, DiskStore) or isinstance(far, TierStore):
        raise TypeError(f"cache=[{near.place}, {far.place}]; {form}")
    with _stores_lock:
        known = [tier for tier in _tiers if tier.near.directory == near.directory and tier.far is far]
        tier = known[0] if known else TierStore(near, far, own_key)
        _tiers[:] = [*(other for other in _tiers if other is not tier), tier][-_RECENT_AT_MOST:]
        return tier


def project_place(cwd: Path | None = None, environ: Mapping[str, str] | None = None) -> CachePlace:
    """Where the cache of the project in `cwd` is (C0).

    Raises:
        CacheDirectoryError: `NBSTEP_DIR` names no folder.
    """
    environ = os.environ if environ is None else environ
    url = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", environ.get("NBSTEP_DIR", "").strip())
    if url is not None and url[1].lower() != "file":
        raise CacheDirectoryError(
            f"NBSTEP_DIR names a folder, not {url[1]}://…: a shared cache is named by %%workflow --cache, or by "
            f'create_workflow(cache=[".", "{url[1]}://…"])'
        )
    if (bare := _NO_COLON.match(environ.get("NBSTEP_DIR", "").strip())) is not None:
        raise CacheDirectoryError(f"NBSTEP_DIR={bare[0]}… names a folder: write ./{bare[0]}… if one is meant")
    try:
        home = Path.home()
    except RuntimeError:
        home = None
    place = find_cache(cwd or Path.cwd(), home, environ)
    return replace(place, directory=cache_folder(place.directory)) if place.explicit else place


def cache_folder(path: Path) -> Path:
    """The folder itself where it is a cache, or is empty or does not exist, and nobody works there; else `.nbstep` inside it.

    So `Cache(".")` is the cache of the folder one works in, and no folder of the user's own is marked as a cache.
    """
    return path if may_be_cache(path) and (is_cache(path) or not _is_worked_in(path)) else path / FOLDER


def _is_worked_in(path: Path) -> bool:
    """Whether it is the folder one works in, or above it: not a file may be there yet, but it is the user's own."""
    try:
        resolved = path.resolve()
        return resolved.name != FOLDER and Path.cwd().is_relative_to(resolved)
    except OSError:  # it was removed
        return False


def _same_store(target: Any) -> MappingStore:
    """The store around an object: one, however many caches are made over it, with one trash and one single flight."""
    with _stores_lock:
        store = _stores.get(id(target))
        if store is None:
            store = _stores[id(target)] = MappingStore(target)
        _recent[:] = [other for other in _recent if other is not store and _is_held(other)][-(_RECENT_AT_MOST - 1) :]
        _recent.append(store)
        return store


def _is_held(store: MappingStore) -> bool:
    """Whether anybody but its store still has an object: a dict full of results that was thrown away is not kept for its trash."""
    return _references(store) > _ALONE


def _references(store: MappingStore) -> int:
    return sys.getrefcount(store.given)


_ALONE: Final = _references(MappingStore({}))


def _server(place: RedisPlace, *, client: Any = None) -> Store:
    """The store of a Redis server: one for each URL and each client."""
    from nbstep.stores.redis import store as redis  # with redis-py, which not everybody has

    name = place if client is None else id(client)
    with _stores_lock:
        known = _servers.get(name)
        if known is None:
            known = _servers[name] = redis.open_server(place, client)
        return known


def _open_url(where: str, scheme: str) -> Store:
    if scheme == "memory" and not re.sub("^memory:/*", "", where):
        return MappingStore(MemoryStore(), place="memory:")
    if "::" in where.partition("/")[0]:
        raise ValueError(f'cache={scheme}::… may hide what others keep; cache=[".", "s3://…"] keeps copies on disk')
    if scheme in {"file", "local"}:
        return DiskStore(cache_folder(Path(re.sub(r"^(?:file|local):(?://(?:localhost)?(?=/))?", "", where))))
    if scheme in SCHEMES:
        return _server(read_url(where))
    return _same_bucket(where)


def _same_bucket(url: str) -> Store:
    """The store of a URL: one, however many caches are made over it, with one single flight, which rests once."""
    from nbstep.stores.fsspec import FsspecStore  # few caches are far away

    with _stores_lock:
        store = _buckets.pop(url.rstrip("/"), None) or FsspecStore(url)
        _buckets[url.rstrip("/")] = store
        while len(_buckets) > _RECENT_AT_MOST:
            del _buckets[next(iter(_buckets))]
        return store
