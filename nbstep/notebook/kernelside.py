"""The kernel's side of the panel: lists the cache, follows its changes, does what the page asks. Knows no widgets.

What this process changes is told as it happens; what others change in a cache on disk is looked for while the panel is in sight.

What the page may ask is in `commands/panelside.py`. Requests may come on the main thread, in the middle of an awaiting cell,
or on another thread; changes come from any thread. Over an async store everything runs on the loop that was running when the
panel was opened.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from typing import Any, Final, cast

from nbstep.cache.cache import Cache
from nbstep.cache.looks import Look
from nbstep.cache.records import Hit, Meta
from nbstep.collecting import no_collections
from nbstep.commands.asked import Asked, who_asked
from nbstep.commands.listing import Row, entry_id, own_first, row_of, settled, usage_of
from nbstep.commands.panelside import (
    ACTIONS,
    Listing,
    Message,
    Wish,
    act,
    by_id,
    detail_message,
    failure_note,
    note,
    packed,
    totals_message,
)
from nbstep.events import CacheChanged, Event, RunFinished, listen
from nbstep.forks import ThreadLock
from nbstep.notebook.watching import LOOKS_EVERY_S, Watch
from nbstep.runlog import Usage, log_stamp
from nbstep.stores.base import Stamp, run_now
from nbstep.stores.catalog import SETTLED_NS

_log: Final = logging.getLogger("nbstep")

ROWS_A_MESSAGE: Final = 5_000
_CHANGES_EVERY_S: Final = 0.25
_MOST_VIEWS: Final = 64


class KernelSide:
    """Serves the views of one panel.

    Args:
        cache: The cache it shows.
        send: Sends a message to every view; called from any thread.
        changes_every_s: How long changes are gathered before they are sent.
        looks_every_s: The least time between two looks at what other processes changed.
        notebook: The file name of the notebook that shows it, where known.
    """

    def __init__(
        self,
        cache: Cache,
        send: Callable[[Message], None],
        changes_every_s: float = _CHANGES_EVERY_S,
        looks_every_s: float = LOOKS_EVERY_S,
        notebook: str | None = None,
    ) -> None:
        self._cache = cache
        self._send = send
        self._changes_every_s = changes_every_s
        self._rows: dict[str, Row] = {}
        self._metas: dict[str, Meta] = {}  # by id, as `_rows`
        self._usage: Mapping[str, Usage] = {}
        self._asked = Asked(notebook)
        self._look = Look()
        self._log_stamp: Stamp | None = None
        self._told_trash: tuple[int, int] | None = None  # entries and bytes
        self._watch = Watch(lambda: self._work(self._send_news), looks_every_s)
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
            "refresh": self._refresh,
        }
        kind = content.get("kind")
        if not isinstance(kind, str):
            return
        if kind == "seen":
            self._saw(content)
        elif kind in requests:
            self._work(lambda: requests[kind](content))
        elif kind in ACTIONS:
            self._work(lambda: self._act(kind, content))

    def close(self) -> None:
        """Stops following the cache; a view that reports again starts it anew."""
        self._views.clear()
        self._watch.stop()
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
        touched: set[str] | None = {entry_id(key) for key in changed}
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
                metas, touched = await self._list(), None
                break
        await self._send_difference(metas, usage_of(self._cache) if run_ended else self._usage, touched)

    def _saw(self, message: Message) -> None:
        """A view came into sight, or went; what others change can be seen by the times of folders alone."""
        view = message.get("view")
        if isinstance(view, str) and self._cache.directory is not None:
            self._watch.saw(view, in_sight=message.get("inSight") is True)

    async def _send_news(self) -> None:
        """Sends what other processes changed since the last look."""
        if not self._listed:
            return
        before, usage = self._look, self._usage
        changed = (await self._look_again()).since(before)
        if self._log_changed():
            usage = usage_of(self._cache)
        trash_changed = await self._trash_changed()
        if changed or usage is not self._usage or trash_changed:
            metas = dict(self._metas)
            for key, found in changed.items():
                metas.pop(entry_id(key), None)
                metas |= {entry_id(key): meta for key, meta in own_first(found).items()}
            touched = {entry_id(key) for key in changed}
            await self._send_difference(metas, usage, touched, only_news=not trash_changed)

    async def _trash_changed(self) -> bool:
        """Whether the trash is another than the page was told."""
        trash = await settled(self._cache.trash())
        return (trash.entries, trash.size_bytes) != self._told_trash

    async def _look_again(self) -> Look:
        self._look = await settled(self._cache.look())
        return self._look

    def _log_changed(self) -> bool:
        """Whether other processes may have written to the run log since this was last asked."""
        stamp = None if self._cache.directory is None else log_stamp(self._cache.directory)
        known, self._log_stamp = self._log_stamp, stamp
        return stamp is not None and (stamp != known or time.time_ns() - stamp[0] < SETTLED_NS)

    async def _list(self) -> dict[str, Meta]:
        """What the cache keeps, by id, read anew."""
        look = await self._look_again()
        with no_collections():
            return by_id(look.metas())

    def _take(self, metas: dict[str, Meta], usage: Mapping[str, Usage], touched: Iterable[str]) -> list[Message]:
        """Notes what there is now; returns the rows of `touched` that changed, as the page takes them."""
        used, asked, asked_before = usage is not self._usage, self._asked, self._asked
        if used:
            asked = self._asked = who_asked(self._cache, asked.notebook, usage)
        changed: list[Any] = []
        with no_collections():
            for row_id in touched:
                row, meta = self._rows.get(row_id), metas.get(row_id)
                if meta is None:
                    self._rows.pop(row_id, None)
                    continue
                same = row is not None and self._metas[row_id] is meta
                if not same or (used and self._is_told(meta, usage, asked, asked_before)):
                    use = usage.get(meta.key)
                    made = row_of(meta, use, row_id)
                    if used or made != row:
                        self._rows[row_id] = made
                        changed.append(packed(made, asked.by(meta, use)))
        self._metas, self._usage = metas, usage
        return changed

    def _is_told(self, meta: Meta, usage: Mapping[str, Usage], asked: Asked, before: Asked) -> bool:
        """Whether the run log says anything else of an entry than before."""
        use, was = usage.get(meta.key), self._usage.get(meta.key)
        return use != was or asked.by(meta, use) != before.by(meta, was)

    async def _send_difference(
        self,
        metas: dict[str, Meta],
        usage: Mapping[str, Usage],
        touched: Collection[str] | None = None,
        *,
        only_news: bool = False,
    ) -> None:
        """Sends what is another now: of the ids in `touched`, or of all; with `only_news` nothing where nothing is."""
        if touched is None or usage is not self._usage:
            touched = self._rows.keys() | metas.keys()
        gone = [row_id for row_id in touched if row_id not in metas and row_id in self._rows]
        changed = self._take(metas, usage, touched)
        if only_news and not gone and not changed:
            return
        self._send({"kind": "change", "gone": gone, "rows": changed, **await self._state()})

    async def _state(self) -> Message:
        state = await totals_message(self._cache, self._known)
        self._told_trash = (state["totals"]["trashEntries"], state["totals"]["trash"])
        return state

    @property
    def _known(self) -> Listing:
        return Listing(self._metas, self._usage)

    # What the page asks

    async def _ready(self, message: Message) -> None:
        view = message.get("view")
        if isinstance(view, str) and len(self._views) < _MOST_VIEWS:
            self._views.add(view)
        self._listen()
        if self._listed:
            await self._send_changes()
        else:
            self._log_changed()
            self._rows, self._metas, self._usage = {}, await self._list(), usage_of(self._cache)
            self._asked = who_asked(self._cache, self._asked.notebook, self._usage)
        state = await self._state()
        newest_first = list(reversed(self._metas))  # as the page shows them: the first message fills it
        for at in range(0, max(1, len(newest_first)), ROWS_A_MESSAGE):
            part = newest_first[at : at + ROWS_A_MESSAGE]
            with no_collections():
                rows = [self._packed(row_id, self._metas[row_id]) for row_id in part]
            last = at + ROWS_A_MESSAGE >= len(newest_first)
            self._send({"kind": "rows", "first": at == 0, "last": last, "rows": rows, **state})
        self._listed = True

    def _packed(self, row_id: str, meta: Meta) -> list[Any]:
        row, usage = self._rows.get(row_id), self._usage.get(meta.key)
        if row is None:
            row = self._rows[row_id] = row_of(meta, usage, row_id)
        return packed(row, self._asked.by(meta, usage))

    async def _closed(self, message: Message) -> None:
        self._views.discard(cast("str", message.get("view")))
        self._saw({**message, "inSight": False})
        if not self._views:
            self.close()

    async def _detail(self, message: Message) -> None:
        detail = await detail_message(self._cache, self._known, message.get("id"))
        if detail:
            self._send(detail)

    async def _act(self, action: str, message: Message) -> None:
        if self._changed:
            await self._send_changes()
        answer = await act(self._cache, self._known, action, Wish.read(message))
        if answer["kind"] == "question":
            self._send({**answer, "view": message.get("view")})
        else:
            await self._send_changes()
            self._send(answer)

    async def _refresh(self, _: Message) -> None:
        await self._send_difference(await self._list(), usage_of(self._cache))
        self._listed = True
        self._send(note("The cache was read again."))

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
            self._send(failure_note(error))


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
