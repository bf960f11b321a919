"""The calls and functions of `joblib.Memory` in one cache: found, kept, listed and deleted. Knows nothing of joblib but its ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from nbstep import runlog
from nbstep.cache.cache import Cache
from nbstep.cache.entries import new_batch
from nbstep.cache.records import Facts, Hit, Kept, LookUp, Meta, Miss, NotKept, Unreadable
from nbstep.events import Finding, emit
from nbstep.foreign import interrupts
from nbstep.integrations import callfacts, calls
from nbstep.integrations.callfacts import Code
from nbstep.integrations.cleared import cleared_in
from nbstep.integrations.uses import UseLog, place_of_caller
from nbstep.notes import spelled_in_python
from nbstep.result import Ok
from nbstep.stores.base import run_now

_MISSES_AT_MOST: Final = 1000


class KeptCalls:
    """What one Memory keeps in a cache.

    A call id is the path that joblib gives a function, "etl/fetch", and its digest of the arguments.
    """

    def __init__(self, cache: Cache) -> None:
        self.cache: Final = cache
        self._batch = new_batch()  # of what is replaced
        self._missed: dict[str, Miss] = {}
        self._damaged: set[bytes] = set()
        self._cleared = cleared_in(str(cache.directory or cache.place))
        self._log = UseLog(cache.directory, cache.place)

    def find(self, call_id: Sequence[str], code: Code | None) -> LookUp:
        """A result that may be used by who has this code, or why there is none; without a code, whatever made it."""
        found = self._look_up(calls.call_key(*call_id))
        if isinstance(found, Miss):
            return found
        if found.mark in self._damaged:
            return Miss("unreadable", "it could not be loaded")
        if self._cleared.has(found.meta.key):
            return Miss("deleted")
        if found.meta.outcome != "ok" or callfacts.made_by_other_code(found.meta.facts, code):
            return Miss("drifted", "the function was edited")
        return found

    def has(self, call_id: Sequence[str], code: Code | None) -> bool:
        """Whether there is a result that may be used; why not is remembered for the run log."""
        key, found = calls.call_key(*call_id), self.find(call_id, code)
        if isinstance(found, Hit):
            self._missed.pop(key, None)
            return True
        if len(self._missed) >= _MISSES_AT_MOST:  # of calls that failed
            self._missed.clear()
        self._missed[key] = found
        return False

    def load(self, found: Hit, *, saved: bool) -> Any:
        """The value of a result; `saved` says that the call did not run for it.

        Raises:
            Unreadable: It cannot be loaded, and is not found any more.
        """
        try:
            value = found.load()
        except Unreadable:
            self._damaged.add(found.mark)
            raise
        self._log.hit(found.meta, found.meta.facts.took_s if saved else 0.0)
        return value

    def keep(
        self, call_id: Sequence[str], value: Any, code: Code | None, metadata: Mapping[str, Any]
    ) -> Kept | NotKept:
        """Keeps the result of a call that ran, with its code and joblib's metadata; what stood there goes to the trash."""
        key = calls.call_key(*call_id)
        try:
            redact: Callable[[str], str] = self.cache.options.redact or str
            facts = callfacts.facts_of(metadata, code, place_of_caller().notebook, redact)
        except interrupts():
            raise
        except BaseException as error:  # noqa: BLE001 - the user's `redact=` may raise anything
            kept: Kept | NotKept = NotKept(f"redact= failed with {type(error).__name__}")
        else:
            created = metadata.get("time")
            kept = run_now(self.cache.keep(key, Ok(value), facts, batch=self._batch, created=created))
        if isinstance(kept, Kept):
            self._cleared.note_kept(key)
        size_bytes, why = (kept.meta.size_bytes, "") if isinstance(kept, Kept) else (None, kept.why)
        self._log.ran(key, self._missed.pop(key, None), float(metadata.get("duration") or 0.0), size_bytes, why)
        return kept

    def code(self, func_id: str) -> str | None:
        """A function's code as joblib wrote it."""
        found = self._look_up(calls.code_key(func_id))
        if isinstance(found, Miss):
            return None
        try:
            return self.load(found, saved=False)  # a use: it is needed as long as the results are
        except Unreadable:
            return None

    def keep_code(self, func_id: str, text: str) -> NotKept | None:
        """Keeps a function's code; None where that worked."""
        if self.code(func_id) == text:
            return None
        facts = Facts(0.0, workflow=callfacts.WORKFLOW, place=place_of_caller())
        kept = run_now(self.cache.keep(calls.code_key(func_id), Ok(text), facts, batch=self._batch))
        return kept if isinstance(kept, NotKept) else None

    def results(self) -> list[tuple[Meta, float]]:
        """All results that may be used, each with when it was last used, in seconds since the epoch."""
        directory = self.cache.directory
        logged = {} if directory is None else {key: use.last_used for key, use in runlog.usage(directory).items()}
        metas: list[Meta] = self.cache.entries()
        return [
            (meta, max(meta.created, logged.get(meta.key, 0.0), self._log.used.get(meta.key, 0.0)))
            for meta in metas
            if meta.trusted and calls.is_result(meta.key)
        ]

    def delete(self, keys: Iterable[str]) -> None:
        """Moves entries to the trash, as one batch."""
        keys = tuple(keys)
        self.cache.delete_many(keys)
        self._cleared.forget_keys(keys)

    def delete_result(self, call_id: Sequence[str]) -> None:
        """Moves the result of a call to the trash.

        Raises:
            OSError: It is where it was; what stands there now is not found any more.
        """
        key = calls.call_key(*call_id)
        self._cleared.note_key(key)
        self.delete([key])

    def delete_function(self, func_id: str) -> None:
        """Moves a function's results and its code to the trash, as one batch.

        Raises:
            OSError: Some are where they were; what stands there now is not found any more.
        """
        begins = calls.beginnings(func_id)
        self._cleared.note_function(func_id, begins)
        self.delete([key for key in self.cache if key.startswith(begins)])
        self._cleared.forget_function(func_id, begins)

    def delete_all(self) -> None:
        """Moves all that came from a `joblib.Memory` to the trash, as one batch."""
        self.cache.delete_matching(f"{calls.PREFIX}*")
        self._cleared.forget_all()

    def _look_up(self, key: str) -> LookUp:
        found = run_now(self.cache.look_up(key))
        if (
            isinstance(found, Miss)
            and found.reason == "untrusted"
            and found.detail
            and self.cache.is_news(found.detail)
        ):
            emit(Finding(None, key, "untrusted", spelled_in_python(found.detail)))
        return found
