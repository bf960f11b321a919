"""The kernel's side of the panel: lists the cache, follows its changes, does what the page asks. Knows no widgets.

The page sends ids (SHA-256 of a key), never keys or paths; what is no id of a listed entry is passed over. Requests may
come on the main thread, in the middle of an awaiting cell, or on another thread; changes come from any thread. Over an
async store everything runs on the loop that was running when the panel was opened.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, TypeAlias, cast

from nbstep.cache.acceptance import Accepted
from nbstep.cache.cache import Cache
from nbstep.cache.records import Deleted, Hit, Meta
from nbstep.collecting import no_collections
from nbstep.commands.accepting import accepted_text
from nbstep.commands.descent import later_steps, later_text, next_run_text, went_into
from nbstep.commands.details import detail_of
from nbstep.commands.listing import Row, entry_id, find_meta, own_first, row_of, settled, totals_of_entries, usage_of
from nbstep.events import CacheChanged, Event, RunFinished, listen
from nbstep.forks import ThreadLock
from nbstep.runlog import Usage
from nbstep.stores.base import run_now
from nbstep.words import for_good, keys_text, natural_order, plural, runs_again, shown

_log: Final = logging.getLogger("nbstep")

Message: TypeAlias = dict[str, Any]
ROWS_A_MESSAGE: Final = 5_000
_CHANGES_EVERY_S: Final = 0.25
_ID: Final = re.compile(r"[0-9a-f]{64}")
_MOST_VIEWS: Final = 64


class KernelSide:
    """Serves the views of one panel.

    Args:
        cache: The cache it shows.
        send: Sends a message to every view; called from any thread.
        changes_every_s: How long changes are gathered before they are sent.
    """

    def __init__(
        self, cache: Cache, send: Callable[[Message], None], changes_every_s: float = _CHANGES_EVERY_S
    ) -> None:
        self._cache = cache
        self._send = send
        self._changes_every_s = changes_every_s
        self._rows: dict[str, Row] = {}
        self._metas: dict[str, Meta] = {}  # by id, as `_rows`
        self._usage: Mapping[str, Usage] = {}
        self._views: set[str] = set()
        self._listed = False
        self._lock = ThreadLock()  # guards the next four
        self._changed: dict[str, bool] = {}  # by key: whether it was deleted, as far as is known
        self._run_ended = False
        self._timer: threading.Timer | None = None
        self._stop_listening: Callable[[], None] | None = None
        self._turn = ThreadLock()  # one request at a time over a sync store
        self._loop = _running_loop() if cache.is_async else None
        self._loop_turn = asyncio.Lock()

    def receive(self, message: object) -> None:
        """Does what one message of the page asks; anything else is passed over."""
        if not isinstance(message, dict):
            return
        content = cast("Message", message)
        requests: dict[object, Callable[[Message], Coroutine[Any, Any, None]]] = {
            "ready": self._ready,
            "closed": self._closed,
            "detail": self._detail,
            "delete": self._delete,
            "retry": self._retry,
            "rerun": self._rerun,
            "accept": self._accept,
            "undo": self._undo,
            "delete-errors": self._delete_errors,
            "clear": self._clear,
            "refresh": self._refresh,
        }
        kind = content.get("kind")
        if isinstance(kind, str) and kind in requests:
            self._work(lambda: requests[kind](content))

    def close(self) -> None:
        """Stops following the cache; a view that reports again starts it anew."""
        self._views.clear()
        with self._lock:
            stop, self._stop_listening = self._stop_listening, None
            timer, self._timer = self._timer, None
            self._changed.clear()
        if stop:
            stop()
        if timer:
            timer.cancel()
        self._listed = False

    # Following the cache

    def _listen(self) -> None:
        with self._lock:
            if self._stop_listening is None:
                self._stop_listening = listen(self._on_event)

    def _on_event(self, event: Event) -> None:
        """Notes what changed; runs inside somebody's step, so it only notes."""
        with self._lock:
            if isinstance(event, CacheChanged) and event.cache == self._cache.place:
                self._changed |= dict.fromkeys(event.keys, event.change == "deleted")
            elif isinstance(event, RunFinished):
                self._run_ended = True
            else:
                return
            if self._timer is None and self._stop_listening is not None:
                self._timer = threading.Timer(self._changes_every_s, self._on_time)
                self._timer.daemon = True
                self._timer.start()

    def _on_time(self) -> None:
        with self._lock:
            self._timer = None
        self._work(self._send_changes)

    async def _send_changes(self) -> None:
        with self._lock:
            changed, self._changed = self._changed, {}
            run_ended, self._run_ended = self._run_ended, False
        if not self._listed:
            return
        metas = dict(self._metas)
        for key, deleted in changed.items():
            if deleted and await self._cache.is_gone(key):  # why it is gone would take long to find out
                metas.pop(entry_id(key), None)
                continue
            found = await self._cache.look_up(key, insist=True)
            if isinstance(found, Hit):
                metas[entry_id(key)] = found.meta
            elif found.reason in {"new", "deleted"}:
                metas.pop(entry_id(key), None)
            else:  # something that no step would use, and still is listed
                metas = await self._listing()
                break
        await self._send_difference(metas, usage_of(self._cache) if run_ended else self._usage)

    async def _listing(self) -> dict[str, Meta]:
        return {entry_id(key): meta for key, meta in own_first(await settled(self._cache.entries())).items()}

    def _take(self, metas: dict[str, Meta], usage: Mapping[str, Usage]) -> list[Row]:
        """Notes what there is now; returns the rows that changed."""
        before, known, self._rows = self._rows, self._metas, {}
        used = usage is not self._usage
        changed: list[Row] = []
        with no_collections():
            for row_id, meta in metas.items():
                row = before.get(row_id)
                told = used and self._usage.get(meta.key) != usage.get(meta.key)
                if row is None or told or known[row_id] is not meta:
                    made = row_of(meta, usage.get(meta.key))
                    if row is None or made != row:
                        row = made
                        changed.append(row)
                self._rows[row_id] = row
        self._metas, self._usage = metas, usage
        return changed

    async def _send_difference(self, metas: dict[str, Meta], usage: Mapping[str, Usage]) -> None:
        gone = [row_id for row_id in self._rows if row_id not in metas]
        changed = self._take(metas, usage)
        self._send({"kind": "change", "gone": gone, "rows": [packed(row) for row in changed], **await self._state()})

    async def _state(self) -> Message:
        totals = await totals_of_entries(self._cache, self._metas.values(), self._usage)
        return {
            "now": time.time(),
            "totals": {
                "entries": totals.entries,
                "failed": totals.failed,
                "old": totals.old,
                "size": totals.size_bytes,
                "trashEntries": totals.trash_entries,
                "trash": totals.trash_bytes,
                "saved": _finite(totals.saved_s),
                "place": totals.place,
            },
        }

    # What the page asks

    async def _ready(self, message: Message) -> None:
        view = message.get("view")
        if isinstance(view, str) and len(self._views) < _MOST_VIEWS:
            self._views.add(view)
        self._listen()
        if self._listed:
            await self._send_changes()
        else:
            self._rows, self._metas, self._usage = {}, await self._listing(), usage_of(self._cache)
        state = await self._state()
        newest_first = list(reversed(self._metas.items()))  # as the page shows them: the first message fills it
        for at in range(0, max(1, len(newest_first)), ROWS_A_MESSAGE):
            part = newest_first[at : at + ROWS_A_MESSAGE]
            with no_collections():
                rows = [packed(self._row(row_id, meta)) for row_id, meta in part]
            last = at + ROWS_A_MESSAGE >= len(newest_first)
            self._send({"kind": "rows", "first": at == 0, "last": last, "rows": rows, **state})
        self._listed = True

    def _row(self, row_id: str, meta: Meta) -> Row:
        row = self._rows.get(row_id)
        if row is None:
            row = self._rows[row_id] = row_of(meta, self._usage.get(meta.key))
        return row

    async def _closed(self, message: Message) -> None:
        self._views.discard(cast("str", message.get("view")))
        if not self._views:
            self.close()

    async def _detail(self, message: Message) -> None:
        for row in self._named([message.get("id")]):
            meta = await find_meta(self._cache, row.key)
            if meta is not None:
                usage = self._usage.get(row.key)
                later = went_into(self._metas.values(), row.key)
                drifted = self._cache.last_drift(row.key, usage)
                detail = detail_of(meta, usage, drifted=drifted, went_into=later)
                self._send({"kind": "detail", **asdict(detail)})

    async def _delete(self, message: Message) -> None:
        if self._changed:
            await self._send_changes()
        rows = self._named(message.get("ids"))
        later = later_steps(self._metas.values(), {row.key for row in rows})
        if later and message.get("asked") is not True:
            self._send({"kind": "question", "view": message.get("view"), **self._question(rows, later)})
        else:
            await self._remove(rows, "entry", "entries", "")

    def _question(self, rows: Sequence[Row], later: Sequence[Meta]) -> Message:
        """What the page asks before it deletes something from which later steps were made."""
        again = next_run_text([*(self._metas[row.id] for row in rows), *later])
        return {
            "text": f"Delete {plural(len(rows), 'entry', 'entries')}?",
            "told": later_text(later, len(rows)),
            "only": f"Delete {rows[0].label} only" if len(rows) == 1 else f"Delete these {len(rows):,} only",
            "all": f"Delete all {len(rows) + len(later):,}{again and f', next run {again}'}",
            "ids": [row.id for row in rows],
            "later": [entry_id(meta.key) for meta in later],
        }

    async def _retry(self, message: Message) -> None:
        await self._remove_errors(self._named(message.get("ids")))

    async def _rerun(self, message: Message) -> None:
        old = [row for row in self._named(message.get("ids")) if row.status == "old value"]
        await self._remove(old, "old value", "old values", f"; {runs_again(len(old))}")

    async def _accept(self, message: Message) -> None:
        old = [row for row in self._named(message.get("ids")) if row.status == "old value"]
        accepted: Accepted = await settled(self._cache.renew({row.key: True for row in old}))
        text = accepted_text(accepted) or "There is nothing of that left to accept."
        await self._conclude(text, failed=bool(accepted.refused))

    async def _delete_errors(self, _: Message) -> None:
        await self._remove_errors(self._rows.values())

    async def _remove_errors(self, rows: Iterable[Row]) -> None:
        failed = [row for row in rows if row.status == "failed"]
        await self._remove(failed, "kept error", "kept errors", f"; {runs_again(len(failed))}")

    async def _remove(self, rows: Sequence[Row], one: str, many: str, then: str) -> None:
        if rows:
            deleted: Deleted = await settled(self._cache.remove([row.key for row in rows]))
            counted = f"{plural(len(rows), one, many)}{for_good(deleted.count, deleted.lost)}"
            text = f"Deleted {counted}{then}: {keys_text([row.label for row in rows])}"
        else:
            text = "There is nothing of that left to delete."
        await self._conclude(text)

    async def _clear(self, _: Message) -> None:
        deleted: Deleted = await settled(self._cache.remove_all())
        counted = f"{plural(deleted.count, 'entry', 'entries')}{for_good(deleted.count, deleted.lost)}"
        await self._conclude(f"Deleted all {counted}")

    async def _undo(self, _: Message) -> None:
        keys = sorted(await settled(self._cache.undo()), key=natural_order)
        named = keys_text([shown(key) for key in keys])
        text = f"Restored {plural(len(keys), 'entry', 'entries')}: {named}" if keys else "There is nothing to undo."
        await self._conclude(text)

    async def _refresh(self, _: Message) -> None:
        await self._send_difference(await self._listing(), usage_of(self._cache))
        self._listed = True
        self._send({"kind": "note", "text": "The cache was read again.", "failed": False})

    async def _conclude(self, text: str, *, failed: bool = False) -> None:
        await self._send_changes()
        self._send({"kind": "note", "text": text, "failed": failed})

    def _named(self, ids: object) -> list[Row]:
        """The listed entries that ids of the page stand for."""
        if not isinstance(ids, list):
            return []
        valid = [i for i in cast("list[object]", ids) if isinstance(i, str) and _ID.fullmatch(i)]
        return [self._rows[i] for i in dict.fromkeys(valid) if i in self._rows]

    # Doing it, over a sync or an async store

    def _work(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if not self._cache.is_async:
            with self._turn:
                run_now(self._guarded(work))
        elif self._loop is not None and not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._in_turn(work), self._loop)

    async def _in_turn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async with self._loop_turn:
            await self._guarded(work)

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - a store of the user's may fail in any way; the panel says so
            _log.debug("the panel could not do as asked", exc_info=True)
            self._send({"kind": "note", "text": shown(f"{type(error).__name__}: {error}"), "failed": True})


def packed(row: Row) -> list[Any]:
    """A row as the page takes it, without names; `FIELDS` in panel.js gives them."""
    return [
        row.id, row.label, row.status, row.type, row.shape, row.message, row.size_bytes, _finite(row.took_s),
        _finite(row.created), None if row.expires_at is None else _finite(row.expires_at), row.hits, row.last_used,
        _finite(row.saved_s),
    ]  # fmt: skip


def _finite(number: float) -> float:
    """JSON has no infinity, and a header of somebody else's may claim anything."""
    return number if math.isfinite(number) else 0.0


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
