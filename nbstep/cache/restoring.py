"""Undo: what the trash holds comes back, but nothing damaged takes the place of what is kept now (E6)."""

from __future__ import annotations

from typing import Final

from nbstep.cache import trust, verification
from nbstep.cache.headers import Headers
from nbstep.cache.records import Meta, Restored
from nbstep.stores.base import Spot, Store

_READ_BYTES_AT_MOST: Final = 256_000_000  # an undo of more reads headers only


async def restore(store: Store, headers: Headers, key: str | None, batch: str, now: float, back: int = 1) -> Restored:
    """Brings back the last batch, or an entry of `key`, by `back`; a damaged one is exchanged again for what stood there."""
    spots = await store.restore(key, batch, back)
    sizes = (spot.size_bytes or store.spot(spot.address, None).size_bytes for spot in spots)
    content = key is not None or sum(sizes) <= _READ_BYTES_AT_MOST
    bad: dict[Spot, str | None] = {}
    for spot in spots:
        checked = await verification.check(store, spot, "*", trust.signing_key(), now, content=content)
        if checked is not None and checked.verdict == "corrupt":
            bad[spot] = checked.key or key
    await store.exchange_back(list(bad), batch)
    for spot in [spot for spot, name in bad.items() if name is None]:
        meta = await headers.read(spot, now)  # what stands there now has the same key
        bad[spot] = None if meta is None else meta.key
    metas = await _metas(headers, [spot for spot in spots if spot not in bad], now)
    keys = tuple(dict.fromkeys(meta.key for meta in metas))
    own = {meta.key for meta in metas if meta.trusted}
    return Restored(
        keys,
        of_others=tuple(key for key in keys if key not in own),
        damaged=tuple(dict.fromkeys(name for name in bad.values() if name is not None)),
        nameless=list(bad.values()).count(None),
        swapped=max(0, len(await store.waiting(batch)) - len(bad)) if keys else 0,
    )


async def _metas(headers: Headers, spots: list[Spot], now: float) -> list[Meta]:
    return [meta for spot in spots if (meta := await headers.read(spot, now)) is not None]
