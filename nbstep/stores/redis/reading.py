"""Reads entries out of a Redis server: one command for a small one, piece by piece where it is large."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Final

from nbstep.stores.base import BytesDocument, Document, Stamp, run_now
from nbstep.stores.redis.document import WHOLE_BYTES, RedisDocument
from nbstep.stores.redis.link import Command, Link
from nbstep.stores.redis.names import Names

_MARK: Final = re.compile(rb"(\d{1,20})-([0-9a-f]{16})")
_NO_ENTRY: Final = b"?"
_NO_STAMP: Final[Stamp] = (0, 0, 0)
_SIZE: Final = re.compile(rb"\d{1,15}")


class Reader:
    """What reads the entries under one prefix."""

    def __init__(self, link: Link, names: Names) -> None:
        self._link = link
        self._names = names

    async def open(self, name: str) -> Document | None:
        """The entry under a name in the server; None where nothing stands there, or nothing of an entry.

        A value of another type, which none of ours is, is there as an entry that is damaged.
        """
        found = await self._link.ask("HMGET", name, "b", "s", "i", "r")
        if found is None:
            return BytesDocument(_NO_ENTRY, stamp=_NO_STAMP)
        begin, size, mark, rest = found
        if begin is None:
            return None
        stamp = stamp_of(size, mark)
        if rest is not None or stamp[1] <= len(begin):
            return BytesDocument(begin + (rest or b""), stamp=stamp)
        source = _Source(self._link, self._names, name, stamp, mark)
        if not self._link.is_async:
            return RedisDocument(begin, stamp[1], stamp, source.fetch)
        pieces: list[bytes] = [begin]  # whoever loads it cannot await: all of it is fetched now
        for number in itertools.count():
            if sum(map(len, pieces)) >= stamp[1] or not (piece := await source.piece(number)):
                return BytesDocument(b"".join(pieces), stamp=stamp)
            pieces.append(piece)
        raise AssertionError("unreachable")

    async def beginnings(self, names: Sequence[str]) -> list[Document | None]:
        """As `open`, of many at once and with their beginnings only; over an async client nothing more of them can be read.

        What is of another type begins as no entry does.
        """
        replies = await self._link.ask_all([beginning_of(name) for name in names])
        return [
            BytesDocument(_NO_ENTRY, stamp=_NO_STAMP) if reply is None else self._begun(name, *reply)
            for name, reply in zip(names, replies, strict=True)
        ]

    async def stamps(self, names: Sequence[str]) -> list[Stamp | None]:
        """The stamps of the entries under these names now, and of what is of another type; None where there is none."""
        replies = await self._link.ask_all([("HMGET", name, "s", "i") for name in names])
        return [_NO_STAMP if reply is None else stamp_of(*reply) if any(reply) else None for reply in replies]

    def _begun(self, name: str, begin: bytes | None, size: bytes | None, mark: bytes | None) -> Document | None:
        if begin is None:
            return None
        stamp = stamp_of(size, mark)
        size_bytes = max(stamp[1], len(begin))
        if self._link.is_async:
            return BytesDocument(begin, size_bytes, stamp)
        return RedisDocument(begin, size_bytes, stamp, _Source(self._link, self._names, name, stamp, mark).fetch)


class _Source:
    """Where the pieces of one entry come from: from its place, and from the trash once another one took that."""

    def __init__(self, link: Link, names: Names, name: str, stamp: Stamp, mark: bytes | None) -> None:
        self._link = link
        self._names = names
        self._name = name
        self._mark = mark
        self._is_small = stamp[1] <= WHOLE_BYTES

    def fetch(self, number: int) -> bytes:
        """A piece, over a plain client."""
        return run_now(self.piece(number))

    async def piece(self, number: int) -> bytes:
        """A piece of the rest.

        Raises:
            OSError: It is gone, or the server did not answer.
        """
        for _ in range(2):
            mark, piece = await self._link.ask("HMGET", self._name, "i", self._field(number)) or (None, None)
            if mark == self._mark and piece is not None:
                return piece
            await self._look_into_the_trash()
        raise OSError("it was replaced or deleted while it was read")

    async def _look_into_the_trash(self) -> None:
        address = self._names.address_of(self._name)
        names = [] if address is None else await self._link.names(self._names.pattern(f"t:{address}:"))
        marks = await self._link.ask_all([("HGET", name, "i") for name in names])
        self._name = next((name for name, mark in zip(names, marks, strict=True) if mark == self._mark), self._name)

    def _field(self, number: int) -> bytes:
        return b"r" if self._is_small else piece_field(self._mark or b"", number)


def beginning_of(name: str) -> Command:
    """What asks for the beginning of an entry, its size and its mark."""
    return "HMGET", name, "b", "s", "i"


def piece_field(mark: bytes, number: int) -> bytes:
    """Where a piece of a large entry stands; the mark tells it from those of another one."""
    return b"%s:%d" % (mark, number)


def stamp_of(size: bytes | None, mark: bytes | None) -> Stamp:
    """When it was written, its size and a number of its own, as far as they can be read: anybody may have written them."""
    found = _MARK.fullmatch(mark or b"")
    return (int(found[1]) if found else 0, size_of(size), int(found[2], 16) if found else 0)


def size_of(text: bytes | None) -> int:
    """A size as it stands in the server; 0 where it cannot be read."""
    return int(text) if text is not None and _SIZE.fullmatch(text) else 0
