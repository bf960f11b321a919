"""What all entries of a store say of themselves, read again only where something changed."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Final

from nbstep.cache import catalog, entry, trust
from nbstep.cache.looks import Look
from nbstep.cache.records import Meta, Unreadable
from nbstep.cache.trust import SigningKey
from nbstep.collecting import no_collections
from nbstep.stores.base import Group, Spot, Stamp, Store

_CATALOGUED_FROM: Final = 16  # headers of fewer are read as fast as the text about them


class Headers:
    """The headers of one store, as this process knows them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._listed: dict[str, catalog.Listed] = {}
        self._ahead: set[str] = set()

    async def all(self, now: float) -> list[tuple[Spot, Meta | None]]:
        """Where entries stand, each with its metadata, None where its header cannot be read."""
        with nullcontext() if self._store.is_async else no_collections():
            return [
                (self._store.spot(address, stamp), meta)
                for group in await self._groups(now)
                for address, (stamp, meta) in group.rows.items()
            ]

    async def look(self, now: float) -> Look:
        """All entries as they are now."""
        with nullcontext() if self._store.is_async else no_collections():
            return Look(tuple(await self._groups(now)))

    async def read(self, spot: Spot, now: float) -> Meta | None:
        """What the header at a spot says; None where there is none.

        Raises:
            OSError: It cannot be read now; that says nothing of the entry.
        """
        try:
            document = await self._store.open_spot(spot)
            return None if document is None else _as_listed(entry.read_head(document, trust.signing_key(), now).meta)
        except (Unreadable, ValueError):
            return None

    async def _groups(self, now: float) -> list[catalog.Listed]:
        groups = [await self._group(group, now) for group in await self._store.groups()]
        self._listed = {group.name: group for group in groups}
        return groups

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
        rows, complete = await self._read_group(group.name, known or kept, key, now)
        stamp = group.stamp if complete else None
        if stamp is not None and len(rows) >= _CATALOGUED_FROM:
            await self._store.keep_catalog(group, catalog.encode(group, rows, key))
        elif stamp is not None and content is not None:
            await self._store.keep_catalog(group, None)  # it tells of entries that are gone
        return catalog.Listed(group.name, key.id, stamp, rows)

    async def _read_group(
        self, name: str, before: catalog.Listed | None, key: SigningKey, now: float
    ) -> tuple[dict[str, catalog.Row], bool]:
        """The rows of a group, those that changed read anew; and whether all could be read."""
        rows: dict[str, catalog.Row] = {}
        complete = True
        for address in sorted(await self._store.addresses(name)):
            row = None if before is None or address in self._ahead else before.rows.get(address)
            if row is None or row[0] is None or row[0] != self._store.stamp(address):
                try:
                    row = await self._row(address, key, now)
                except OSError:  # not remembered: the next time it may be read
                    row, complete = (None, None), False
                if row is not None and row[1] is not None and row[1].created >= now:
                    self._ahead.add(address)  # clamped: read again, so that it is never taken for the truth
                    complete = False
                else:
                    self._ahead.discard(address)
            if row is not None:
                rows[address] = row
        return rows, complete

    async def _row(self, address: str, key: SigningKey, now: float) -> catalog.Row | None:
        """What an entry says now; None where it is gone."""
        stamp: Stamp | None = None
        try:
            document = await self._store.beginning(address, entry.FIRST_READ_BYTES)
            if document is None:
                return None
            stamp = document.stamp
            return stamp, _as_listed(entry.read_head(document, key, now).meta)
        except Unreadable:  # or its header is longer than what was read
            return stamp, await self.read(self._store.spot(address, stamp), now)
        except ValueError:
            return stamp, None


def _as_listed(meta: Meta) -> Meta:
    """Without source texts and picture: they are read with one entry, and would take the room of all else of a hundred thousand."""
    if meta.facts.sources or meta.thumbnail:
        return replace(meta, facts=replace(meta.facts, sources={}), thumbnail="")
    return meta
