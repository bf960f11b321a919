"""The caches that the server has open: a few, each asked by one request at a time, off the server's loop."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from nbstep.cache.cache import Cache
from nbstep.collecting import no_collections
from nbstep.commands.asked import who_asked
from nbstep.commands.panelside import (
    ACTIONS,
    Message,
    Wish,
    detail_message,
    failure_note,
    note,
    packed,
    read_listing,
    totals_message,
)
from nbstep.errors import NbstepError
from nbstep.project import place_text
from nbstep.server.places import ServedPlace
from nbstep.stores.base import run_now
from nbstep.words import shown

T = TypeVar("T")

_MOST_OPEN: Final = 4
_NOTHING: Final = {"entries": 0, "failed": 0, "old": 0, "size": 0, "trashEntries": 0, "trash": 0, "saved": 0.0}


@dataclass(frozen=True, slots=True)
class Answer:
    """JSON, and a tag that changes when it does."""

    body: bytes
    tag: str


class OpenCaches:
    """Does what requests ask; what was opened lately stays open, as it knows its entries' headers."""

    def __init__(self) -> None:
        self._open: dict[Path, _OpenCache] = {}

    async def entries(self, place: ServedPlace) -> Answer:
        """Every row, newest first, and the totals."""
        if place.exists:
            return await self._work(place, lambda cache: _entries(cache, place.notebook))
        return _answer({"totals": {**_NOTHING, "place": shown(place_text(place.directory))}, "rows": []})

    async def detail(self, place: ServedPlace, row_id: str) -> Message | None:
        """One entry in full; None where there is no such one."""
        if not place.exists:
            return None

        async def look(cache: Cache) -> Message | None:
            return await detail_message(cache, await read_listing(cache), row_id)

        return await self._work(place, look)

    async def act(self, place: ServedPlace, action: str, wish: Wish) -> Message:
        """Does one of `ACTIONS`; what fails is a note."""
        if not place.exists:
            return note("Nothing is kept here.")

        async def do(cache: Cache) -> Message:
            if cache.read_only:
                return note(f"{shown(cache.place)} is read-only for you: nothing was changed.", failed=True)
            return await ACTIONS[action](cache, await read_listing(cache), wish)

        try:
            return await self._work(place, do)
        except (NbstepError, OSError) as error:
            return failure_note(error)

    async def _work(self, place: ServedPlace, work: Callable[[Cache], Coroutine[Any, Any, T]]) -> T:
        opened = self._open.pop(place.directory, None) or _OpenCache(place.directory)
        self._open[place.directory] = opened  # the one used last comes last
        while len(self._open) > _MOST_OPEN:
            del self._open[next(iter(self._open))]
        async with opened.turn:
            return await asyncio.to_thread(opened.do, work)


class _OpenCache:
    """One cache, opened with its first request."""

    def __init__(self, directory: Path) -> None:
        self.turn = asyncio.Lock()
        self._directory = directory
        self._cache: Cache | None = None

    def do(self, work: Callable[[Cache], Coroutine[Any, Any, T]]) -> T:
        self._cache = self._cache or Cache(self._directory)
        return run_now(work(self._cache))


async def _entries(cache: Cache, notebook: str | None) -> Answer:
    listing = await read_listing(cache)
    message = await totals_message(cache, listing)
    del message["now"]  # the answer's Date says it
    asked = who_asked(cache, notebook, listing.usage)
    with no_collections():
        rows = [
            packed(listing.row(row_id), asked.by(meta, listing.usage.get(meta.key)))
            for row_id, meta in reversed(list(listing.metas.items()))
        ]
        return _answer({**message, "rows": rows})


def _answer(message: Message) -> Answer:
    body = json.dumps(message, allow_nan=False).encode()
    return Answer(body, hashlib.sha256(body).hexdigest())
