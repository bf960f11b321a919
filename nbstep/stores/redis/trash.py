"""The trash in a Redis server: an entry goes there under another name, in one moment, and the server ends it after 24 hours."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from nbstep.stores.redis.link import Command, Link
from nbstep.stores.redis.names import Names, Trashed, batch_digest

KEPT_FOR_MS: Final = 24 * 3600 * 1000


class RedisTrash:
    """What was removed or replaced under one prefix."""

    def __init__(self, link: Link, names: Names) -> None:
        self._link = link
        self._names = names
        self._moved_ns = 0

    def moving(self, address: str, batch: str | None) -> list[Command]:
        """The commands that take the entry at an address away: to the trash, without a batch for good."""
        name = self._names.entry(address)
        if batch is None:
            return [("UNLINK", name)]
        self._moved_ns = max(time.time_ns(), self._moved_ns + 1)  # no two have one name
        trashed = self._names.trashed(address, self._moved_ns, batch)
        return [("RENAME", name, trashed), ("PEXPIRE", trashed, KEPT_FOR_MS)]

    async def bring_back(self, item: Trashed, batch: str) -> bool:
        """Puts an entry where it stood; what stands there now goes to the trash. False where it is gone meanwhile."""
        name = self._names.entry(item.address)
        replies = await self._link.change(
            ("PERSIST", item.name), *self.moving(item.address, batch), ("RENAME", item.name, name)
        )
        if replies[-1] is not None:
            return True
        replaced = await self.last_in(item.address, batch)
        if replaced is not None:  # it would be away with nothing in its place
            await self._link.change(("PERSIST", replaced.name), ("RENAMENX", replaced.name, name))
        return False

    async def items(self) -> list[Trashed]:
        """All that waits here, the oldest first."""
        names = await self._link.names(self._names.pattern("t:"))
        found = [item for name in names if (item := self._names.trashed_of(name)) is not None]
        return sorted(found, key=lambda item: (item.at_ns, item.name))

    async def of_batch(self, digest: str | None = None) -> list[Trashed]:
        """The entries of a batch, without its digest of the one that came last; of two with one address the older.

        The older one was there before the batch.
        """
        items = await self.items()
        oldest: dict[str, Trashed] = {}
        for item in items:
            if item.batch == (digest or items[-1].batch):
                oldest.setdefault(item.address, item)
        return list(oldest.values())

    async def last_of(self, digest: str, back: int) -> list[Trashed]:
        """The entries of one key that came last, several where several signers' went together; with `back` 2 those before."""
        units = _newest_first(item for item in await self.items() if item.address.startswith(digest))
        return units[back - 1] if len(units) >= back else []

    async def last_in(self, address: str, batch: str) -> Trashed | None:
        """What came from an address last, in a batch."""
        wanted = address, batch_digest(batch)
        return next((item for item in reversed(await self.items()) if (item.address, item.batch) == wanted), None)

    async def waiting(self, batch: str | None) -> list[tuple[Trashed, int]]:
        """Each entry here with which of its key it is, 1 the last one; with `batch` those of one batch."""
        by_key: dict[str, list[Trashed]] = {}
        for item in await self.items():
            by_key.setdefault(item.address.partition(".")[0], []).append(item)
        wanted = None if batch is None else batch_digest(batch)
        return [
            (item, back)
            for items in by_key.values()
            for back, unit in enumerate(_newest_first(items), 1)
            for item in unit
            if wanted in (None, item.batch)
        ]

    async def empty(self) -> int:
        """Removes all that waits here for good; returns how many."""
        items = await self.items()
        removed = sum(await self._link.ask_all([("UNLINK", item.name) for item in items]))
        digests = {item.address.partition(".")[0] for item in items}
        await self._link.ask_all([("UNLINK", self._names.gone(digest)) for digest in digests])
        return removed


def _newest_first(items: Iterable[Trashed]) -> list[list[Trashed]]:
    """The entries of one key, those of several signers that went there one after the other in one batch together."""
    units: list[list[Trashed]] = []
    for item in sorted(items, key=lambda item: item.at_ns, reverse=True):
        last = units[-1] if units else []
        if last and last[0].batch == item.batch and item.address not in {one.address for one in last}:
            last.append(item)
        else:
            units.append([item])
    return units
