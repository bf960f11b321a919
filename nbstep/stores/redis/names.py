"""What the keys in the server are called. Nothing outside of these names is ever read, listed or deleted."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from typing import Final

_ADDRESS: Final = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{8}")
_TRASHED: Final = re.compile(r"([0-9a-f]{64}\.[0-9a-f]{8}):(\d{1,20}):([0-9a-f]{16})")
_SPECIAL: Final = re.compile(r"[\\*?\[\]]")


@dataclass(frozen=True, slots=True)
class Trashed:
    """An entry in the trash: its key in the server, its address when it stood, when it went there, in which batch."""

    name: str
    address: str
    at_ns: int
    batch: str


class Names:
    """The names under one prefix.

    `e:ADDRESS` an entry, a hash · `t:ADDRESS:TIME:BATCH` one in the trash · `w:RANDOM` one that is being written ·
    `g:DIGEST` why a key has no entry any more · `m:NAME` a mark · `signers` whoever kept something here.
    """

    def __init__(self, prefix: str) -> None:
        self._base = f"{prefix}v1:"
        self.signers = f"{self._base}signers"

    def entry(self, address: str) -> str:
        """An entry's."""
        return f"{self._base}e:{address}"

    def trashed(self, address: str, at_ns: int, batch: str) -> str:
        """That of an entry in the trash."""
        return f"{self._base}t:{address}:{at_ns}:{batch_digest(batch)}"

    def unfinished(self) -> str:
        """A new one, for an entry that is being written."""
        return f"{self._base}w:{os.urandom(12).hex()}"

    def mark(self, name: str) -> str:
        """That of a mark, by which a worker finds out that it reaches the same server."""
        return f"{self._base}m:{name}"

    def gone(self, digest: str) -> str:
        """That of the reason why a key has no entry."""
        return f"{self._base}g:{digest}"

    def pattern(self, beginning: str) -> str:
        """The glob for all names that begin so; the user's prefix may hold what a glob reads otherwise."""
        return _SPECIAL.sub(r"\\\g<0>", self._base) + f"{beginning}*"

    def address_of(self, name: str) -> str | None:
        """The address in an entry's name; None where it is none."""
        address = name.removeprefix(f"{self._base}e:")
        return address if is_address(address) else None

    def trashed_of(self, name: str) -> Trashed | None:
        """What a name of the trash says; None where it is none."""
        found = _TRASHED.fullmatch(name.removeprefix(f"{self._base}t:"))
        return None if found is None else Trashed(name, found[1], int(found[2]), found[3])


def is_address(text: str) -> bool:
    """Whether a text is `<sha256 of the key>.<signer>`."""
    return _ADDRESS.fullmatch(text) is not None


def batch_digest(batch: str) -> str:
    """A batch as it stands in names."""
    return hashlib.sha256(batch.encode()).hexdigest()[:16]
