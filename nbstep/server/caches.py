"""The caches that the server has open: a few, each asked by one request at a time, off the server's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

from nbstep.cache.cache import Cache
from nbstep.commands.panelside import (
    Message,
    Wish,
    act,
    detail_message,
    failure_note,
    note,
    read_listing,
)
from nbstep.errors import NbstepError
from nbstep.project import place_text
from nbstep.server.places import ServedPlace
from nbstep.server.shown import Answer, Shown, nothing_kept
from nbstep.stores.base import run_now
from nbstep.words import shown

T = TypeVar("T")

_MOST_OPEN: Final = 4


class OpenCaches:
    """Does what requests ask; what was opened lately stays open, as it knows its entries' headers."""

    def __init__(self) -> None:
        self._open: dict[Path, _OpenCache] = {}

    async def entries(self, place: ServedPlace, since: str = "") -> Answer:
        """Every row, newest first, and the totals; or what changed since the answer with the tag `since`."""
        if place.exists:
            opened = self._opened(place)
            return await self._in_turn(opened, lambda cache: opened.shown.answer(cache, place.notebook, since))
        return nothing_kept(shown(place_text(place.directory)), since)

    async def detail(self, place: ServedPlace, row_id: str) -> Message | None:
        """One entry in full; None where there is no such one."""
        if not place.exists:
            return None

        opened = self._opened(place)

        async def look(cache: Cache) -> Message | None:
            known = opened.shown.listing  # the page shows it, so that one entry alone is read anew
            return await detail_message(cache, known if row_id in known.metas else await read_listing(cache), row_id)

        return await self._in_turn(opened, look)

    async def act(self, place: ServedPlace, action: str, wish: Wish) -> Message:
        """Does one of `ACTIONS`; what fails is a note."""
        if not place.exists:
            return note("Nothing is kept here.")

        async def do(cache: Cache) -> Message:
            return await act(cache, await read_listing(cache), action, wish)

        try:
            return await self._work(place, do)
        except (NbstepError, OSError) as error:
            return failure_note(error)

    async def _work(self, place: ServedPlace, work: Callable[[Cache], Coroutine[Any, Any, T]]) -> T:
        return await self._in_turn(self._opened(place), work)

    def _opened(self, place: ServedPlace) -> _OpenCache:
        opened = self._open.pop(place.directory, None) or _OpenCache(place.directory)
        self._open[place.directory] = opened  # the one used last comes last
        while len(self._open) > _MOST_OPEN:
            del self._open[next(iter(self._open))]
        return opened

    async def _in_turn(self, opened: _OpenCache, work: Callable[[Cache], Coroutine[Any, Any, T]]) -> T:
        async with opened.turn:
            return await asyncio.to_thread(opened.do, work)


class _OpenCache:
    """One cache, opened with its first request."""

    def __init__(self, directory: Path) -> None:
        self.turn = asyncio.Lock()
        self.shown = Shown()
        self._directory = directory
        self._cache: Cache | None = None

    def do(self, work: Callable[[Cache], Coroutine[Any, Any, T]]) -> T:
        self._cache = self._cache or Cache(self._directory)
        return run_now(work(self._cache))
