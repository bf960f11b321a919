"""What a page was last told of a cache: so that it is told what changed, and nothing is read where nothing did."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from typing import Any, Final

from nbstep.cache.cache import Cache
from nbstep.cache.looks import Look
from nbstep.collecting import no_collections
from nbstep.commands.asked import who_asked
from nbstep.commands.listing import settled, usage_of
from nbstep.commands.panelside import Listing, Message, by_id, packed, totals_message
from nbstep.runlog import log_stamp
from nbstep.stores.base import Stamp, TrashTotals
from nbstep.stores.catalog import SETTLED_NS

_NO_CACHE: Final = "nothing"
_NOTHING: Final = {"entries": 0, "failed": 0, "old": 0, "size": 0, "trashEntries": 0, "trash": 0, "saved": 0.0}


@dataclass(frozen=True, slots=True)
class Answer:
    """JSON, and a tag that changes when there is something else to tell; no JSON where that tag was known already."""

    tag: str
    body: bytes | None


class Shown:
    """The rows that pages were told of last, of one cache and for one notebook."""

    def __init__(self) -> None:
        self._tag = ""
        self._notebook: str | None = None
        self._look = Look()
        self._log: Stamp | None = None
        self._trash: TrashTotals | None = None
        self._rows: dict[str, list[Any]] = {}
        self.listing = Listing({}, {})  # all there was at the last answer

    async def answer(self, cache: Cache, notebook: str | None, since: str) -> Answer:
        """All rows, newest first; where `since` is the tag of the last answer, only what changed since."""
        look, trash = await settled(cache.look()), await settled(cache.trash())
        log = None if cache.directory is None else log_stamp(cache.directory)
        is_known = bool(since) and (since, notebook) == (self._tag, self._notebook)
        if is_known and log == self._log and trash == self._trash and not look.since(self._look):
            self._look = look
            return Answer(self._tag, None)
        before = self._rows if is_known else None
        # A log that changed in this moment may change again unseen: the next time it is read anew.
        self._log = None if log is not None and time.time_ns() - log[0] < SETTLED_NS else log
        self._look, self._trash, self._notebook = look, trash, notebook
        totals = await self._read(cache, notebook)
        if before is None:
            self._tag = secrets.token_hex(8)
            return _answer(self._tag, {**totals, "rows": list(reversed(self._rows.values()))})
        gone = [row_id for row_id in before if row_id not in self._rows]
        rows = [row for row_id, row in self._rows.items() if before.get(row_id) != row]
        if gone or rows:
            self._tag = secrets.token_hex(8)
        return _answer(self._tag, {**totals, "gone": gone, "rows": rows})

    async def _read(self, cache: Cache, notebook: str | None) -> Message:
        """Notes the rows there are; returns the totals."""
        usage = usage_of(cache)
        listing = self.listing = Listing(by_id(self._look.metas()), usage)
        asked = who_asked(cache, notebook, usage)
        with no_collections():
            self._rows = {
                row_id: packed(listing.row(row_id), asked.by(meta, usage.get(meta.key)))
                for row_id, meta in listing.metas.items()
            }
        totals = await totals_message(cache, listing)
        del totals["now"]  # the answer's Date says it
        return totals


def nothing_kept(place: str, since: str) -> Answer:
    """The answer where there is no cache yet."""
    if since == _NO_CACHE:
        return Answer(_NO_CACHE, None)
    return _answer(_NO_CACHE, {"totals": {**_NOTHING, "place": place}, "rows": []})


def _answer(tag: str, message: Message) -> Answer:
    return Answer(tag, json.dumps(message, allow_nan=False).encode())
