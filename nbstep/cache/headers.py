"""What all entries of a store say of themselves, read again only where something changed."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from operator import attrgetter
from typing import Final

from nbstep.cache import catalog, entry, trust
from nbstep.cache.records import Meta, Unreadable
from nbstep.stores.base import Group, Spot, Store

_CATALOGUED_FROM: Final = 16  # headers of fewer are read as fast as the text about them


class Headers:
    """The headers of one store, as this process knows them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._listed: dict[str, catalog.Listed] = {}
        self._ahead: set[str] = set()

    async def all(self, now: float) -> list[tuple[Spot, Meta | None]]:
        """Where entries stand, each with its metadata, None where its header cannot be read."""
        listed: dict[str, catalog.Listed] = {}
        found: list[tuple[Spot, Meta | None]] = []
        with nullcontext() if self._store.is_async else _no_collections():
            for group in await self._store.groups():
                known = listed[group.name] = await self._group(group, now)
                found += known.rows.values()
        self._listed = listed
        return found

    async def metas(self, now: float) -> list[Meta]:
        """The metadata of all entries whose header can be read, oldest first."""
        with nullcontext() if self._store.is_async else _no_collections():
            found = [meta for _, meta in await self.all(now) if meta is not None]
            found.sort(key=attrgetter("created", "key"))
            return found

    async def read(self, spot: Spot, now: float) -> Meta | None:
        """What the header at a spot says; None where there is none.

        Raises:
            OSError: It cannot be read now; that says nothing of the entry.
        """
        try:
            document = await self._store.open_spot(spot)
            return None if document is None else entry.read_head(document, trust.signing_key(), now).meta
        except (Unreadable, ValueError):
            return None

    async def at(self, spot: Spot, now: float) -> Meta | None:
        """As `read`, with None where it cannot be read now."""
        try:
            return await self.read(spot, now)
        except OSError:
            return None

    async def _group(self, group: Group, now: float) -> catalog.Listed:
        """The entries of a group: as they were found before, as far as its stamp or their own say that nothing changed."""
        key = trust.signing_key()
        known = self._listed.get(group.name)
        if known is not None and known.signer != key.id:
            known = None
        if known is not None and known.stamp == group.stamp is not None:
            return known
        content = None if group.stamp is None else await self._store.catalog(group)
        kept = None if content is None else catalog.decode(content, group.name, key, now)
        if kept is not None and kept.stamp == group.stamp:
            return kept
        before = known or kept
        rows: dict[str, tuple[Spot, Meta | None]] = {}
        complete = True
        for spot in await self._store.spots(group.name):
            row = None if before is None or spot.address in self._ahead else before.rows.get(spot.address)
            if row is not None and row[0].stamp == spot.stamp is not None:
                rows[spot.address] = row
                continue
            try:
                meta = await self.read(spot, now)
                rows[spot.address] = spot, meta
                if (
                    meta is not None and meta.created >= now
                ):  # clamped: read again, so that it is never taken for the truth
                    self._ahead.add(spot.address)
                    complete = False
                else:
                    self._ahead.discard(spot.address)
            except OSError:  # not remembered: the next time it may be read
                rows[spot.address], complete = (replace(spot, stamp=None), None), False
        if not complete:
            return catalog.Listed(key.id, None, rows)
        if group.stamp is not None and len(rows) >= _CATALOGUED_FROM:
            await self._store.keep_catalog(group, catalog.encode(group, list(rows.values()), key))
        elif group.stamp is not None and content is not None:
            await self._store.keep_catalog(group, None)  # it tells of entries that are gone
        return catalog.Listed(key.id, group.stamp, rows)


@contextmanager
def _no_collections() -> Generator[None]:
    """Keeps the garbage collector from running: it would walk through 100,000 new records again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
