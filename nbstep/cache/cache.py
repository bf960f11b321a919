"""Entries under keys: look up, keep, delete, undo. Plain over a sync store, awaitable over an async one."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Coroutine, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, cast

from nbstep.cache import drifted, renewal, trust
from nbstep.cache.drifted import Drifted
from nbstep.cache.entries import Durability, Entries, checked_key
from nbstep.cache.exporting import export_values
from nbstep.cache.limit import Limit
from nbstep.cache.pattern import Pattern
from nbstep.cache.records import CacheOptions, Facts, Hit, Kept, LookUp, Miss, NotKept
from nbstep.cache.upkeep import Upkeep
from nbstep.cache.where import open_store, open_tier, project_place
from nbstep.durations import size_text, to_bytes
from nbstep.errors import CacheDirectoryError
from nbstep.events import CacheChanged, Finding, emit
from nbstep.forks import ThreadLock
from nbstep.keys import check_key
from nbstep.options import misplaced as misplaced_option
from nbstep.project import CachePlace, place_text
from nbstep.result import Err, Ok
from nbstep.runlog import Usage
from nbstep.stores.base import Server, Store, run_now
from nbstep.stores.folder import is_read_only
from nbstep.stores.locks import KeyLock, KeyLocks


class Cache(Upkeep):
    """The kept entries of one place.

    Over a sync store (disk, memory, a mapping, an object with plain methods) every method gives its result; over an async
    store every method gives an awaitable of it.

    Args:
        where: A path, a URL (`"memory:"`, `"redis://host:6379/0"`; `?prefix=team` keeps results apart there, `?timeout=2` waits
            longer than a second; `"s3://bucket/prefix"`), a `MutableMapping`, an object with get, set, has and delete, a client of
            redis-py, another `Cache`, or a folder and the shared cache behind it, as `[".", "s3://bucket/team"]`. Left out: the
            project's cache.
        max_bytes: How much it may take, trash included, as bytes or as text like `"2 GB"`; to make room, the trash is
            emptied, then the least recently used entries go. None is no limit. It holds for all processes that set it, but for
            the entries they are writing in that moment; what others write counts within a minute.
        durability: `"auto"` makes an entry survive a power failure where its thunk ran longer than ten seconds.
        previews: Whether the beginning of each value is kept as text, and a small picture of a figure, for the panel.
        redact: Takes every text before it is written to an entry's header, and every text in an error; for secrets that the
            built-in rules miss.
        **misplaced: Nothing; named in the message.

    Raises:
        TypeError: `where` is nothing that can be a store, or lacks a method; an option is unknown, or belongs elsewhere.
        ValueError: A URL of an unknown scheme, or with an option that means nothing.
        ModuleNotFoundError: What a URL needs is not installed; the message says how to.
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
        max_bytes: int | str | None = None,
        durability: Durability = "auto",
        previews: bool = True,
        redact: Callable[[str], str] | None = None,
        **misplaced: Any,
    ) -> None:
        for option in misplaced:
            raise misplaced_option(option, "Cache")
        if durability not in ("auto", "always", "never"):
            raise ValueError(f'durability={durability!r}: use "auto", "always" or "never"')
        if redact is not None and not callable(redact):
            raise TypeError(f"redact={redact!r} is no function that takes a text and gives one")
        if where is None:
            store = _open_project_store()
        elif isinstance(where, Cache):
            store = where._entries.store
        elif isinstance(where, list | tuple):
            parts = cast("Sequence[Any]", where)
            store = open_tier([part._entries.store if isinstance(part, Cache) else part for part in parts])
        else:
            store = open_store(where)
        most = None if max_bytes is None else to_bytes(max_bytes, "max_bytes")
        limit = None if most is None else Limit(most, store.directory)
        # Commands find it without being told where: `Cache(max_bytes=…)` is the project's too.
        self.is_the_projects: Final[bool] = where is None or (isinstance(where, Cache) and where.is_the_projects)
        self.options = CacheOptions(most, durability, previews, redact)
        self._entries = Entries(store, durability, previews, redact, limit)
        # What two caches share that keep in one place: a folder, or an object of the user's. As text: a path's hash is Python's.
        self.scope: Final[Hashable] = store if store.directory is None else os.path.normcase(store.directory)

    @property
    def clock(self) -> Callable[[], float]:
        """Gives seconds since the epoch; set by tests only."""
        return self._entries.clock

    @clock.setter
    def clock(self, clock: Callable[[], float]) -> None:
        self._entries.clock = clock

    @property
    def place(self) -> str:
        """Where it is, as shown: `~/proj/.nbstep`, `memory:`, `redis://cache:6379/0`, never with a password."""
        return self._entries.store.place

    @property
    def shell_place(self) -> str | None:
        """What stands behind `--cache` for it in a command; None where a command cannot find it by that."""
        store = self._entries.store
        opens = store.opens_by_place if isinstance(store, Server) else store.directory is not None
        return store.place if opens else None

    @property
    def store(self) -> Store:
        """Where its entries are as bytes."""
        return self._entries.store

    @property
    def is_server(self) -> bool:
        """Whether it is in a server that nbstep knows how to use."""
        return isinstance(self._entries.store, Server)

    @property
    def directory(self) -> Path | None:
        """The folder of a disk cache, None for any other."""
        return self._entries.store.directory

    @property
    def read_only(self) -> bool:
        """Whether it is a folder that can only be read: hits are used, nothing new is kept."""
        return self.directory is not None and is_read_only(self.directory)

    @property
    def locks(self) -> KeyLocks | None:
        """What lets one kernel at a time compute a key; None where nothing does."""
        return self._entries.store.locks

    def many_steps(self) -> AbstractContextManager[None]:
        """While very many steps are taken; what it takes to be quick at that is ended with it."""
        return self._entries.many_steps()

    def expect(self, keys: Sequence[str], holder: str | None, count: int) -> None:
        """Says that `holder` asks these keys within a moment, of `count` in all; a folder may look them up ahead."""
        self._entries.expect(keys, holder, count)

    @property
    def is_async(self) -> bool:
        """Whether its methods give awaitables."""
        return self._entries.store.is_async

    def is_news(self, text: str) -> bool:
        """Whether a line about somebody who signed entries here was not told yet in this process."""
        return self._entries.is_news(text)

    def __repr__(self) -> str:
        most = self.options.max_bytes
        return f"Cache({self.place!r})" if most is None else f"Cache({self.place!r}, max_bytes={size_text(most)!r})"

    # For steps -------------------------------------------------------------------------------------------------------

    def held(self, key: str) -> Hit | None:
        """The hit under `key` where the entry was read lately and stands as it was: most look-ups. None says nothing."""
        return self._entries.held(key)

    def look_up(
        self, key: str, missed: Miss | None = None, *, insist: bool = False, awaiting: bool = False
    ) -> Coroutine[Any, Any, LookUp]:
        """What is kept under `key`: a `Hit`, or a `Miss` with its reason. Nothing is unpickled; never raises `Exception`.

        `missed` is what a look-up just before gave: where there is still nothing, its reason stands. Without `insist` a store
        that did not answer a moment ago is not asked. Where the caller is `awaiting`, what may wait for a network is done in a
        thread.
        """
        if awaiting and self._entries.store.is_far:
            return self._entries.look_up_aside(key, missed, insist=insist)
        return self._entries.look_up(key, missed, insist=insist)

    def why_resting(self) -> str | None:
        """One line where a user's own store did not answer a moment ago, and steps leave it alone; else None."""
        return self._entries.why_resting()

    def why_far_rests(self) -> str | None:
        """One line where the shared cache behind a folder did not answer a moment ago, and only the folder is used; else None."""
        return self._entries.why_far_rests()

    async def is_gone(self, key: str) -> bool:
        """Whether no entry of one's own stands under `key`: less work than a look-up, which finds out why."""
        return await self._entries.is_gone(key)

    def keep(
        self,
        key: str,
        result: Ok[Any] | Err[Any],
        facts: Facts,
        *,
        batch: str | None = None,
        created: float | None = None,
        made_by: Any = None,
        awaiting: bool = False,
    ) -> Coroutine[Any, Any, Kept | NotKept]:
        """Keeps a value or an error under `key`; what stood there goes to the trash. A store that rests is not asked.

        Never raises `Exception`: whatever goes wrong is told by `NotKept`.

        Args:
            key: The user's key.
            result: What the thunk gave, or its error.
            facts: What the step knows of it.
            batch: Groups what this run replaces, so that one `undo()` brings all of it back.
            created: When it was computed, in seconds since the epoch, where that was not now.
            made_by: The thunk; where an error is kept, it is looked at for secrets that the error may tell.
            awaiting: The caller awaits: what may wait for a network is done in a thread, to its end though the caller is cancelled.
        """
        return self._entries.keep(
            key, result, facts, batch=batch, insist=False, created=created, made_by=made_by, awaiting=awaiting
        )

    def take_new(self, key: str, signer: str) -> KeyLock | None:
        """The lock on a key of which surely nothing was kept, ever; None says nothing, and the step is to be looked up.

        `signer` is the id of the user's signing key.
        """
        return self._entries.take_new(key, signer)

    def pattern(self, facts: Facts, signing_key: trust.SigningKey) -> Pattern | None:
        """What entries of small plain values have in common whose steps differ from that of `facts` in time and inputs alone.

        None where each may need more than to be written, as under a limit, or with the user's own redaction.
        """
        return self._entries.pattern(facts, signing_key)

    def keep_like(
        self, pattern: Pattern, key: str, value: Any, took_s: float, inputs: Mapping[str, str], batch: str
    ) -> int | None:
        """Keeps a small plain value under a key that `take_new` gave the lock of; gives the size of the entry in bytes.

        None where that is for `keep` to do: the value is no such one, or what went wrong is to be told.

        Args:
            pattern: What `pattern` gave for the key whose id `take_new` was given.
            key: The user's key.
            value: What the thunk gave.
            took_s: How long it ran.
            inputs: As in `Facts`.
            batch: As for `keep`.
        """
        return self._entries.keep_like(pattern, key, value, took_s, inputs, batch)

    def note_kept(self, key: str, evicted: tuple[str, ...] = ()) -> None:
        """Tells of an entry that another process kept, and of those that made room for it."""
        if evicted:
            emit(CacheChanged(self.place, "deleted", evicted))
        emit(CacheChanged(self.place, "kept", (key,)))

    def note_drifted(self, key: str, found: Drifted) -> str | None:
        """Remembers what a look-up found changed, for `accept`; gives its digests as signed text for the run log."""
        return self._entries.note_drifted(key, found)

    def forget_drifted(self, key: str) -> None:
        """A look-up found nothing changed."""
        drifted.forget(self._entries.store, key)

    def drifted_here(self) -> Mapping[str, Drifted]:
        """What the last look-ups of this process found changed, by key."""
        return drifted.known_of(self._entries.store)

    def last_drift(self, key: str, usage: Usage | None = None) -> Drifted | None:
        """What the last look-up of a key found changed, in this process or by what the run log says."""
        return renewal.last_drift(self._entries.store, key, usage, trust.signing_key())

    # For people ------------------------------------------------------------------------------------------------------

    def get(self, key: str, default: Any = None) -> Any:
        """The value kept under `key`; `default` where there is none.

        Raises:
            Exception: The kept error, where an error is kept.
            StepFailed: The thunk returned `Err(error)` and `error` is no exception.
        """
        return self._run(self._entries.get(key, default))

    def set(self, key: str, value: Any) -> Any:
        """Keeps `value` under `key`.

        Raises:
            ValueError: It cannot be kept; the message says why.
        """
        return self._run(self._entries.set(key, value))

    def has(self, key: str) -> Any:
        """Whether a look-up of `key` would be a hit."""
        return self._run(self._entries.has(key))

    def delete(self, key: str) -> Any:
        """Moves what is kept under `key` to the trash; whether there was anything."""
        return self._run(self._entries.delete(key))

    def delete_many(self, keys: Iterable[str]) -> Any:
        """Moves what is kept under these keys to the trash, as one batch; returns how many had an entry."""
        return self._run(self._entries.delete_many([checked_key(key) for key in keys]))

    def delete_matching(self, pattern: str) -> Any:
        """Moves what is kept under the keys that match a glob (`user:*`) to the trash; returns how many."""
        return self._run(self._entries.delete_matching(pattern))

    def clear(self) -> Any:
        """Moves everything to the trash, as one batch; returns how many entries."""
        return self._run(self._entries.clear())

    def keys(self) -> Any:
        """The keys in the order their entries were kept."""
        return self._run(self._entries.keys())

    def entries(self) -> Any:
        """What every entry says of itself, oldest first, those of other signers (`trusted` False) included; loads nothing."""
        return self._run(self._entries.entries())

    def look(self) -> Any:
        """As `entries`, for who wants to know later what changed: gives `Look`."""
        return self._run(self._entries.look())

    def errors(self) -> Any:
        """The entries that keep an error."""
        return self._run(self._entries.errors())

    def accept(self, *patterns: str) -> Any:
        """Accepts old values: they count as if they had been kept by the code and the inputs that their last look-up saw.

        Each is published anew and keeps its age; nothing is run or loaded. What it replaces goes to the trash, so that
        `undo()` takes it back.

        Args:
            *patterns: Keys, or globs (`label:*`).

        Returns:
            `Accepted`: the keys, and what was refused and why.
        """
        return self._run(self._entries.accept([checked_key(pattern) for pattern in patterns]))

    def undo(self, key: str | None = None) -> Any:
        """Brings back the last batch that went to the trash, or the last entry of `key`; returns the keys restored.

        What stands there now goes to the trash in exchange, so that a second `undo` swaps again. What is damaged stays in
        the trash, with a finding.
        """
        return self._run(self._entries.undo(key))

    def export(self, pattern: str, folder: str | os.PathLike[str]) -> Any:
        """Writes the values whose keys match a glob as plain `joblib.dump` files; returns their paths.

        What cannot be written is left out and told by a finding each, as is a file that needs a class of the notebook.

        Raises:
            OSError: The folder cannot be made.
        """
        return self._run(self._export(pattern, Path(folder)))

    def write_values(self, keys: Iterable[str], folder: str | os.PathLike[str]) -> Any:
        """As `export`, of these keys, for who shows it: gives the paths and those lines as an `Exported`, and tells nothing."""
        return self._run(export_values(self._entries, frozenset(keys).__contains__, Path(folder)))

    def renew(self, wanted: Mapping[str, bool]) -> Any:
        """As `accept`, for who shows it: of keys, each with whether it was asked for by name, and is to be answered for."""
        return self._run(self._entries.renew(wanted))

    def remove(self, keys: Iterable[str]) -> Any:
        """As `delete_many`, for who shows it: gives how many are gone, and how many of them for good, as `Deleted`."""
        return self._run(self._entries.remove([checked_key(key) for key in keys]))

    def restore(self, key: str | None = None, back: int = 1) -> Any:
        """As `undo`, for who shows it: gives `Restored`, with whose entries came back, and what is damaged and stays.

        With `back` 2 the entry of `key` before its last one comes back, and so on.
        """
        return self._run(self._entries.restore(key, back))

    def trashed(self) -> Any:
        """What waits in the trash, as `Trashed`, the last one first."""
        return self._run(self._entries.trashed())

    def remove_all(self) -> Any:
        """As `clear`, for who shows it: gives `Deleted`."""
        return self._run(self._entries.remove_all())

    def trash(self) -> Any:
        """How many entries wait in the trash, and their size."""
        return self._run(self._entries.trash())

    def empty_trash(self) -> Any:
        """Removes what waits in the trash for good; returns how many entries."""
        return self._run(self._entries.empty_trash())

    async def _export(self, pattern: str, folder: Path) -> list[Path]:
        exported = await export_values(self._entries, lambda key: key == pattern or fnmatchcase(key, pattern), folder)
        for line in (*exported.skipped, *exported.needs):
            emit(Finding(None, None, "export", f"export to {place_text(folder)}: {line}"))
        return list(exported.paths)

    def __contains__(self, key: object) -> bool:
        self._only_sync("in")
        try:
            checked = check_key(key)
        except (TypeError, ValueError):
            return False
        return run_now(self._entries.has(checked))

    def __len__(self) -> int:
        self._only_sync("len()")
        return len(run_now(self._entries.keys()))

    def __iter__(self) -> Iterator[str]:
        self._only_sync("iteration")
        return iter(run_now(self._entries.keys()))

    def __bool__(self) -> bool:
        return True  # an empty cache is a cache

    def _only_sync(self, what: str) -> None:
        if self.is_async:
            raise TypeError(
                f"{what} cannot wait for the async store {self.place}: use await cache.has(key), await cache.keys()"
            )


_project: dict[str, Cache] = {}
_project_lock = ThreadLock()


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
    store: Store | None = None
    try:
        store = open_store(place.directory)
        if place.explicit or not is_read_only(place.directory):
            return store
        fallback = open_store(place.fallback)
    except CacheDirectoryError as error:
        if place.explicit:
            raise
        fallback = store or _fallback_store(place, error)
    if fallback is store:
        return fallback
    shown = place_text(place.directory)
    text = f"{shown} cannot be written: results are kept in {fallback.place} instead"
    if store is not None:
        text += f". What {shown} holds is not used there; to use it too, copy it: {copy_text(place)}"
    emit(Finding(None, None, "cache-place", text))
    return fallback


def _fallback_store(place: CachePlace, why: CacheDirectoryError) -> Store:
    try:
        return open_store(place.fallback)
    except CacheDirectoryError:
        raise why from None


def copy_text(place: CachePlace) -> str:
    """The command that takes what a project's unwritable cache holds to the one of the user's own."""
    return f"cp -R {shlex.quote(f'{place.directory}/v1')} {shlex.quote(f'{place.fallback}/')}"
