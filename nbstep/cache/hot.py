"""The hot tier: the bytes of small entries read lately, so that a look-up needs one `stat` and opens no file.

It keeps bytes and not objects: every load gives a fresh one (K9). What was read stays valid while the entry's stamp stands,
so another kernel's delete or replacement is seen at once. A store that has no stamps, the user's own, has no hot tier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nbstep.cache.records import Hit
from nbstep.forks import ThreadLock
from nbstep.stores.base import Stamp, Store

ENTRY_BYTES_AT_MOST: Final = 64 * 1024
_BYTES_AT_MOST: Final = 16 << 20
_AROUND_BYTES: Final = 3 << 10  # what the header of a small entry takes in memory, as records and texts


@dataclass(frozen=True, slots=True)
class Warm:
    """One of them."""

    address: str
    stamp: Stamp
    signer: str
    size_bytes: int
    hit: Hit


class HotTier:
    """The newest entries of one store, at most 16 MB with their headers, so some 4,000 small ones.

    Attributes:
        kept: What was read lately, by key; not whether it still stands.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.kept: dict[str, Warm] = {}
        self._size_bytes = 0
        self._lock = ThreadLock()

    def find(self, key: str, signer: str) -> Hit | None:
        """The hit on what `signer` kept under `key`, if it is here and the entry still stands as it was read."""
        hot = self.kept.get(key)
        if hot is None or hot.signer != signer or self._store.stamp(hot.address) != hot.stamp:
            return None
        return hot.hit

    def put(self, key: str, signer: str, stamp: Stamp, hit: Hit, size_bytes: int) -> None:
        """Keeps a hit whose `load` needs nothing but memory; the oldest make room."""
        address = self._store.address(key, signer)
        if address is None:
            return
        with self._lock:
            self._drop(key)
            size_bytes += _AROUND_BYTES
            self.kept[key] = Warm(address, stamp, signer, size_bytes, hit)
            self._size_bytes += size_bytes
            while self._size_bytes > _BYTES_AT_MOST:
                self._drop(next(iter(self.kept)))

    def _drop(self, key: str) -> None:
        dropped = self.kept.pop(key, None)
        if dropped is not None:
            self._size_bytes -= dropped.size_bytes
