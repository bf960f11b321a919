"""Writes entries into a Redis server. The hash of an entry is this package's format there.

`b` its first 4,096 bytes, which lists read · `s` its size · `i` its mark, another one for each · `r` the rest of a small one;
the rest of a large one in `MARK:0`, `MARK:1` …, a megabyte each, so that nothing is taken for a part of the entry that
replaced it.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, Final, NamedTuple

from nbstep.durations import size_text
from nbstep.stores.base import NoRoom, Part
from nbstep.stores.redis.document import WHOLE_BYTES, pieces_of
from nbstep.stores.redis.link import Command, Link
from nbstep.stores.redis.names import Names
from nbstep.stores.redis.reading import piece_field

_UNFINISHED_MS: Final = 3600 * 1000  # the server ends then what a killed process left; each piece counts anew


class Memory(NamedTuple):
    """Of a server, in bytes: what it uses, and how much that may be."""

    used: int
    most: int


class Writer:
    """What writes the entries under one prefix."""

    def __init__(self, link: Link, names: Names, place: str) -> None:
        self._link = link
        self._names = names
        self._place = place

    async def write(
        self, name: str, parts: Sequence[Part], before: Sequence[Command], after: Sequence[Command]
    ) -> None:
        """Puts an entry under a name in the server, with other commands in the same moment: all of it, or nothing.

        A large one is written under a name that ends by itself, and renamed when it is whole.

        Raises:
            NoRoom: The server has no memory left.
            OSError: It did not answer, or refused it.
        """
        size = sum(len(part) for part in parts)
        pieces = pieces_of(parts)
        mark = f"{time.time_ns()}-{os.urandom(8).hex()}"
        fields: dict[Any, Any] = {"b": next(pieces, b""), "s": size, "i": mark}
        if size <= WHOLE_BYTES:
            fields["r"] = next(pieces, b"")
            await self._link.change(*before, ("HSET", name, *chain(*fields.items())), *after)
            return
        written = self._names.unfinished()
        try:
            await self._put(written, fields)
            for number, piece in enumerate(pieces):
                await self._put(written, {piece_field(mark.encode(), number): piece})
            replies = await self._link.change(*before, ("PERSIST", written), ("RENAME", written, name), *after)
        except BaseException:
            if self._link.breaker.why_resting() is None:
                with suppress(OSError):
                    await self._link.ask("UNLINK", written)
            raise
        if replies[len(before) + 1] is None:
            raise NoRoom(errno.ENOSPC, f"{self._place} evicted it while it was written: give it more memory")

    async def _put(self, written: str, fields: dict[Any, Any]) -> None:
        await self._link.change(("HSET", written, *chain(*fields.items())), ("PEXPIRE", written, _UNFINISHED_MS))

    async def memory(self) -> Memory | None:
        """What the server has; None where it has no limit, or does not say."""
        try:
            found = await self._link.ask("INFO", "memory")
        except PermissionError:
            return None
        most = int(found.get("maxmemory", 0))
        return Memory(int(found.get("used_memory", 0)), most) if most else None

    async def check_room(self, size: int) -> None:
        """Checks a large entry before it is written.

        Raises:
            NoRoom: It would push out most of what the server holds, of others too.
        """
        memory = await self.memory() if size > WHOLE_BYTES else None
        if memory is not None and size > memory.most / 2:
            why = f"this entry needs {size_text(size)}, and {self._place} has {size_text(memory.most)} for all it holds"
            raise NoRoom(errno.ENOSPC, f"{why}: raise its maxmemory, or keep it elsewhere")
