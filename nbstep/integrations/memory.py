"""`joblib.Memory(location, backend="nbstep")`: joblib decides what is asked, an nbstep cache keeps it.

`location` is what `Cache` takes as text: a folder, or a URL as `redis://…`; `.nbstep` is the project's cache, wherever that is.
Each call is one entry, `joblib:etl.fetch:5d41402abc4b2a76`, and each function's code is one, `joblib:etl.fetch:code`, by which
joblib notices an edit. `backend_options` are those of `Cache`. All else is as joblib documents it, with these exceptions:

- What joblib deletes (`clear`, an edit, `reduce_size`, a callback that says no) waits in the trash for 24 hours, for `undo`; its
  room is free then, or after `Cache(location).empty_trash()`. `Memory.clear()` deletes what came from a Memory, not the steps
  beside it.
- `compress` is not used: values load by a memory map, and every byte is checked.
- `mmap_mode="r+"` and `"w+"` count as `"c"`: entries are signed, and never change. A small array is read, not mapped.
  What is mapped says neither `filename` nor `offset`: it is a part of the entry's file.
- In the metadata that a callback gets, arguments are without secrets, and long ones end with "…": a header holds them.
- `reduce_size` goes by the last use that nbstep logged, not by the file system's; of a place in a server, by that of this process.
- Calls are no steps: they stand in no step list and no plan, though in the panel, `ls` and `show`, and neither `NBSTEP_MODE` nor
  `--mode` governs them: offline a missing one runs, in mode refresh or off a kept one is used. joblib decides that:
  `f.check_call_in_cache(…)`, `f.call(…)`, `Memory(None)`. For how long a result counts says `expires_after`.
- A call never gets a result of other code of its function, though another kernel keeps it now, `undo` brought it back, joblib
  compared the code for another location only, or two versions live in one process. Code is its text, which is read at the first
  call, as joblib does: of a module that was edited on disk before, and not loaded anew, it is the new one.
- The `repr` of an argument of a class of your own is taken twice: before joblib takes it and perhaps raises what it raises, the
  result is kept.
- Where the store lets nothing be deleted, a `CacheWarning` says why, and what was cleared, or what a callback refused, is not used
  any more in this process, under this location as it is written; so a call computes. `Memory.clear()` alone raises, as with
  joblib's own folder. What `reduce_size` could not delete is used on.
"""

from __future__ import annotations

import datetime
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

import joblib
from joblib._store_backends import CacheItemInfo, CacheWarning, StoreBackendBase, StoreBackendMixin
from joblib.logger import format_time

import nbstep
from nbstep.cache.cache import Cache, project_cache
from nbstep.cache.records import Hit, Miss, NotKept, Unreadable
from nbstep.integrations import calls
from nbstep.integrations.asking import code_asking, told_ahead
from nbstep.integrations.callfacts import Code, metadata_of
from nbstep.integrations.keptcalls import KeptCalls
from nbstep.integrations.mapped import MODES, as_mapped
from nbstep.notes import error_line, spelled_in_python
from nbstep.project import FOLDER
from nbstep.stores.base import NoRoom, NotEverywhere, ReadOnly

_NOT_THE_USERS: Final = tuple(os.path.join(os.path.dirname(str(one.__file__)), "") for one in (joblib, nbstep))


class _Given(NamedTuple):
    """The result of a call, and the code that made it."""

    call_id: tuple[str, ...]
    value: Any
    code: Code | None


class _ThreadState(threading.local):
    """What one thread computed last: joblib gives a value, then says what the call was; it may ask for what could not be kept."""

    given: _Given | None = None
    unkept: _Given | None = None


class NbstepStoreBackend(StoreBackendBase, StoreBackendMixin):
    """The store that joblib asks; see the module's first lines."""

    def configure(self, location: str, verbose: int = 1, backend_options: Mapping[str, Any] | None = None) -> None:
        """Opens the cache.

        Args:
            location: As joblib gives it: a path as it is, of a text with `/joblib` behind it.
            verbose: As `joblib.Memory` has it.
            backend_options: Those of `Cache`, and joblib's `compress` and `mmap_mode`.

        Raises:
            TypeError: An option is unknown.
            ValueError: `mmap_mode` is none.
            CacheDirectoryError: The folder cannot be created or written.
        """
        options = dict(backend_options or {})
        compress, mode = options.pop("compress", False), options.pop("mmap_mode", None)
        if mode not in MODES:
            raise ValueError(f'mmap_mode={mode!r}: use None, "r" or "c"')
        if compress:
            warnings.warn("compress= is not used: nbstep keeps values as they are, to load them by a map", stacklevel=4)
        if mode in ("r+", "w+"):
            warnings.warn(f"mmap_mode={mode!r} counts as 'c': results that nbstep keeps never change", stacklevel=4)
        head, tail = os.path.split(location)
        self._open((head or ".") if tail == "joblib" else location, options, mode, verbose)

    def _open(self, where: str, options: dict[str, Any], mode: str | None, verbose: int) -> None:
        place = project_cache() if os.path.normpath(where) == FOLDER else where
        cache = place if isinstance(place, Cache) and not options else Cache(place, **options)
        self.mmap_mode, self.verbose = mode, verbose
        self.location = str(cache.directory or cache.place)
        self._where = str(cache.directory or where)  # the same in a worker with another working directory
        self._options = options
        self._kept = KeptCalls(cache)
        self._thread = _ThreadState()

    def __getstate__(self) -> dict[str, Any]:
        """How to open it, and no more: joblib's digest of an argument that holds a Memory depends on this."""
        return {"where": self._where, "options": self._options, "mode": self.mmap_mode, "verbose": self.verbose}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._open(**state)

    # Results ---------------------------------------------------------------------------------------------------------

    def contains_item(self, call_id: Sequence[str]) -> bool:
        """Whether there is a result that can be used."""
        self._settle()
        return self._kept.has(call_id, code_asking(sys._getframe(1)))  # pyright: ignore[reportPrivateUsage]

    def load_item(
        self,
        call_id: Sequence[str],
        verbose: int = 1,
        timestamp: float | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Any:
        """The result of a call.

        Raises:
            KeyError: There is none.
            ValueError: It cannot be loaded; the next call computes it anew.
        """
        unkept = self._thread.unkept
        self._settle()
        if verbose > 1:
            self._print_loading(call_id, verbose, timestamp, metadata)
        if unkept is not None and unkept.call_id == tuple(call_id):
            return unkept.value
        code = code_asking(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
        found, place = self._kept.find(call_id, code), f"{calls.call_key(*call_id)} in {self.location}"
        if isinstance(found, Miss):
            raise KeyError(f"There is no {place} (may have been cleared)")
        try:  # who has the metadata has run the call just now, or asks by a reference
            value = self._kept.load(found, saved=metadata is None)
        except Unreadable as problem:
            raise ValueError(f"{place} cannot be loaded: {problem}") from None
        return as_mapped(value, self.mmap_mode)

    def dump_item(self, call_id: Sequence[str], item: Any, verbose: int = 1) -> None:
        """Takes the result of a call; it is kept when joblib has said what the call was, a moment later."""
        self._settle()
        asking = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        if verbose > 10:
            print(f"Persisting in {self.location} as {calls.call_key(*call_id)}")  # noqa: T201 - as joblib's own
        told = told_ahead(asking)
        self._thread.given = _Given(tuple(call_id), item, code_asking(asking))
        if told is not None:
            self._keep(told)

    def store_metadata(self, call_id: Sequence[str], metadata: Mapping[str, Any]) -> None:
        """Keeps the result that was given just before."""
        given = self._thread.given
        if given is not None and given.call_id == tuple(call_id):
            self._keep(metadata)

    def get_metadata(self, call_id: Sequence[str]) -> dict[str, Any]:
        """How long the call took, its arguments, and when that was."""
        self._settle()
        found = self._kept.find(call_id, code_asking(sys._getframe(1)))  # pyright: ignore[reportPrivateUsage]
        return metadata_of(found.meta.facts, found.meta.created) if isinstance(found, Hit) else {}

    def clear_item(self, call_id: Sequence[str]) -> None:
        """Deletes the result of a call; one that the store does not let go is not used any more."""
        self._settle()
        self._delete(calls.call_key(*call_id), lambda: self._kept.delete_result(call_id))

    def _settle(self) -> None:
        """Keeps a result of which joblib did not say what the call was, as it was interrupted."""
        self._thread.unkept = None
        self._keep({})

    def _keep(self, metadata: Mapping[str, Any]) -> None:
        given, self._thread.given = self._thread.given, None
        if given is None:
            return
        kept = self._kept.keep(given.call_id, given.value, given.code, metadata)
        if isinstance(kept, NotKept):
            self._thread.unkept = given
            _warn(f"{calls.call_key(*given.call_id)} was not kept: {spelled_in_python(kept.why)}")

    def _print_loading(
        self, call_id: Sequence[str], verbose: int, timestamp: float | None, metadata: Mapping[str, Any] | None
    ) -> None:
        since = "" if timestamp is None else f"{format_time(time.time() - timestamp): <16}"
        arguments = cast("Mapping[str, str]", (metadata or {}).get("input_args", {}))
        told = f"({', '.join(f'{name}={text}' for name, text in arguments.items())})" if metadata else ""
        end = "..." if verbose < 10 else f" from {self.location} as {calls.call_key(*call_id)}"
        print(f"[Memory]{since}: Loading {os.path.basename(call_id[0])}{told}{end}")  # noqa: T201 - as joblib's own

    def _delete(self, what: str, delete: Callable[[], None]) -> None:
        """A store that lets nothing go costs no caller the value: it is told, as what could not be kept is."""
        try:
            delete()
        except ReadOnly as error:
            _warn(f"{what} could not be deleted: {error.told}")
        except (NoRoom, NotEverywhere) as error:
            _warn(f"{what} could not be deleted: {error.strerror or error}")
        except OSError as error:
            told = f"{type(error).__name__}: {error.strerror}" if error.strerror else error_line(error)
            _warn(f"{what} could not be deleted: {self.location} did not let it go: {told}")

    # Functions -------------------------------------------------------------------------------------------------------

    def store_cached_func_code(self, call_id: Sequence[str], func_code: str | None = None) -> None:
        """Keeps a function's code, by which the next process notices an edit."""
        self._settle()
        if func_code is None:
            return  # joblib's own store makes a folder then
        not_kept = self._kept.keep_code(call_id[0], func_code)
        if not_kept is not None:
            _warn(f"{calls.code_key(call_id[0])} was not kept: {spelled_in_python(not_kept.why)}")

    def get_cached_func_code(self, call_id: Sequence[str]) -> str:
        """A function's code as it was kept.

        Raises:
            OSError: There is none.
        """
        self._settle()
        code = self._kept.code(call_id[0])
        if code is None:
            raise FileNotFoundError(f"There is no {calls.code_key(call_id[0])} in {self.location}")
        return code

    def clear_path(self, call_id: Sequence[str]) -> None:
        """Deletes a function's results and its code; what the store does not let go is not used any more."""
        self._settle()
        self._delete(f"what {calls.function_name(call_id[0])} kept", lambda: self._kept.delete_function(call_id[0]))

    # All of it -------------------------------------------------------------------------------------------------------

    def get_items(self) -> list[Any]:  # pyright: ignore[reportIncompatibleMethodOverride] - joblib's own says None
        """The results, each with its key, its size, and when it was last used."""
        self._settle()
        return [
            CacheItemInfo(meta.key, meta.size_bytes, datetime.datetime.fromtimestamp(last_used))
            for meta, last_used in self._kept.results()
        ]

    def enforce_store_limits(
        self,
        bytes_limit: int | str | None,
        items_limit: int | None = None,
        age_limit: datetime.timedelta | None = None,
    ) -> None:
        """Deletes the results that were not used for the longest time, as one batch."""

        def reduce() -> None:
            doomed: list[Any] = self._get_items_to_delete(bytes_limit, items_limit, age_limit)
            if self.verbose > 10:
                for item in doomed:
                    print(f"Deleting item {item}")  # noqa: T201 - as joblib's own
            self._kept.delete([item.path for item in doomed])

        self._delete("what is beyond the limits", reduce)

    def clear(self) -> None:
        """Deletes all that came from a `joblib.Memory`, as one batch.

        Raises:
            OSError: The store does not let it go.
        """
        self._settle()
        self._kept.delete_all()

    # What joblib asks of stores that keep files ----------------------------------------------------------------------

    def clear_location(self, location: str) -> None:
        """Deletes one entry by its key."""
        self._delete(location, lambda: self._kept.delete([location]))

    def create_location(self, location: str) -> None:
        """Nothing is to be made."""

    def _item_exists(self, location: str) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride] - as above
        return location in self._kept.cache

    def _open_item(self, f: Any, mode: str) -> Any:  # noqa: ARG002 - joblib's names
        raise OSError(f"{f}: nbstep keeps entries, no files of joblib's")

    def _move_item(self, src: str, dst: str) -> None:  # noqa: ARG002 - joblib's names
        raise OSError(f"{src}: nbstep keeps entries, no files of joblib's")


def _warn(text: str) -> None:
    """Warns at the line of the user's that called into joblib."""
    level, frame = 2, sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while (back := frame.f_back) is not None and frame.f_code.co_filename.startswith(_NOT_THE_USERS):
        level, frame = level + 1, back
    warnings.warn(text, CacheWarning, stacklevel=level)
