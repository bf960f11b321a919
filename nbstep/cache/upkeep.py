"""What a cache can do for its own upkeep: accept what others signed, replace the key, verify, tidy up."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from nbstep import runlog
from nbstep.cache import acceptance, trust, verification
from nbstep.cache.acceptance import Accepted, Offer
from nbstep.cache.entries import Entries, new_batch
from nbstep.cache.records import Deleted, Meta
from nbstep.cache.trust import Rotation
from nbstep.cache.verification import Checked
from nbstep.durations import Duration, to_seconds
from nbstep.errors import KeyFileError
from nbstep.events import CacheChanged, emit
from nbstep.stores.base import Server, Spot, Totals, run_now

T = TypeVar("T")

Progress: TypeAlias = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True, slots=True)
class Collected:
    """What `gc()` removed, or would remove.

    Attributes:
        unfinished: Files of processes that are gone.
        trashed: Entries that waited in the trash for 24 hours.
        logs: Old run logs.
        unused: Entries that went to the trash because nothing used them.
        unused_keys: Their keys, as far as their headers can be read.
        lost: How many of them went for good, as a full disk had no room for a trash.
    """

    unfinished: Totals
    trashed: Totals
    logs: Totals
    unused: Totals
    unused_keys: tuple[str, ...]
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """How many entries a cache holds, one a key as lists show them, in the words of `verify`.

    Attributes:
        entries: All of them, without those in `beside`.
        size_bytes: Of all there is.
        failed: Kept errors.
        untrusted: Those under whose key others signed and the user did not.
        corrupt: Those whose header is damaged.
        unreadable: Those whose header cannot be read.
        beside: Of other signers, beside an entry under the same key that is shown instead.
    """

    entries: int
    size_bytes: int
    failed: int
    untrusted: int
    corrupt: int
    unreadable: int
    beside: int = 0


class Upkeep:
    """The part of `Cache` that looks after what is kept; none of it ever unpickles anything."""

    _entries: Entries

    def untrusted(self, pattern: str = "*", *, key_file: str | os.PathLike[str] | None = None) -> Any:
        """The entries under keys that match a glob that somebody else signed: an `Offer` for `trust()`.

        Args:
            pattern: A glob, or a key.
            key_file: Only what the key in this file signed.

        Raises:
            KeyFileError: `key_file` holds no key.
        """
        return self._run(self._offer(pattern, key_file))

    def trust(
        self,
        what: str | Offer = "*",
        *,
        key_file: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
    ) -> Any:
        """Accepts entries that somebody else signed, as if you had kept them: loading them runs their code as you.

        Their digests are checked and their headers signed anew with your key, in new files; the other signer's files go for
        good, as no `undo()` needs them. Nothing is unpickled.

        Args:
            what: A glob, a key, or what `untrusted()` gave.
            key_file: Only what the key in this file signed.
            progress: Called with the bytes done and the bytes in all.

        Returns:
            `Accepted`: the keys, and what was refused and why.

        Raises:
            KeyFileError: `key_file` holds no key, or you have none that outlives this process.
        """
        return self._run(self._trust(what, key_file, progress or _tell_nobody))

    def rotate_key(self, *, progress: Progress | None = None) -> Any:
        """Makes a new signing key for you and signs this cache's entries anew; those of your other caches become untrusted.

        Its trash is emptied: what waits there carries the old key's signature.

        Returns:
            The `Rotation`, which names the file that keeps the old key, and `Accepted`, as `trust()` gives it.

        Raises:
            KeyFileError: There is no key file of your own to replace.
        """
        return self._run(self._rotate_key(progress or _tell_nobody))

    def remove_untrusted(self, patterns: Sequence[str] = ("*",)) -> Any:
        """Moves the entries that somebody else signed to the trash, under keys that match a glob; the user's own stay.

        Returns:
            `Deleted`, which names their keys.
        """
        return self._run(self._remove_untrusted(patterns))

    def verify(self, pattern: str = "*", *, progress: Progress | None = None) -> Any:
        """Reads every byte of the entries under keys that match a glob, and checks it; unpickles and changes nothing.

        Returns:
            A `Verification`: `bits` is 1 where an entry is corrupt, 2 where one is untrusted, 4 where one is unreadable,
            added up; `bad` are those entries.
        """
        entries = self._entries
        checks = verification.verify(
            entries.store, pattern, trust.signing_key(), entries.clock(), progress or _tell_nobody
        )
        return self._run(checks)

    def gc(self, *, unused: Duration | None = None, dry_run: bool = False) -> Any:
        """Removes what nobody needs: unfinished files, what waited in the trash for 24 hours, old run logs.

        Args:
            unused: Entries that no run used for so long go to the trash as well, as one batch: `undo()` brings them back.
            dry_run: Only says what would go.

        Returns:
            What went, as `Collected`.
        """
        return self._run(self._collect(to_seconds(unused, "unused"), dry_run))

    def counts(self) -> Any:
        """How many entries there are, by what can be told from their headers, as `Counts`."""
        return self._run(self._counts())

    def conditions(self) -> Any:
        """What a server says of itself, as names and texts; nothing where the cache is in none."""
        return self._run(self._conditions())

    async def _conditions(self) -> list[tuple[str, str]]:
        store = self._entries.store
        return await store.conditions() if isinstance(store, Server) else []

    def headless(self) -> Any:
        """The entries that no list shows, as their headers cannot be read: a `Checked` each, as `verify` gives it."""
        return self._run(self._headless())

    async def _headless(self, listed: Sequence[tuple[Spot, Meta | None]] | None = None) -> list[Checked]:
        entries = self._entries
        listed = await entries.listed() if listed is None else listed
        key, now = trust.signing_key(), entries.clock()
        found = [await verification.check(entries.store, spot, "*", key, now) for spot, meta in listed if meta is None]
        return [one for one in found if one is not None and one.verdict != "good"]

    async def _counts(self) -> Counts:
        listed = await self._entries.listed()
        metas = [meta for _, meta in listed if meta is not None]
        own, keys = {meta.key for meta in metas if meta.trusted}, {meta.key for meta in metas}
        headless = await self._headless(listed)
        return Counts(
            entries=len(listed) - len(metas) + len(keys),
            size_bytes=sum(spot.size_bytes or (0 if meta is None else meta.size_bytes) for spot, meta in listed),
            failed=sum(meta.outcome == "error" and meta.trusted for meta in metas),
            untrusted=len(keys - own),
            corrupt=sum(one.verdict == "corrupt" for one in headless),
            unreadable=sum(one.verdict == "unreadable" for one in headless),
            beside=len(metas) - len(keys),
        )

    async def _collect(self, unused_s: float | None, dry_run: bool) -> Collected:
        entries = self._entries
        store, now = entries.store, entries.clock()
        litter = await store.collect(dry_run=dry_run)
        if not dry_run:
            trust.key_ring().collect(now)
        logs = Totals(0, 0)
        if store.directory is not None:
            logs = Totals(*runlog.collect(store.directory, now, dry_run=dry_run))
        old = [] if unused_s is None else [
            use for use in await entries.uses() if now - max(use.created, use.last_used) >= unused_s
        ]  # fmt: skip
        keys = tuple(sorted({use.key for use in old if use.key is not None}))
        batch = new_batch()
        if old and not dry_run:
            await entries.local.remove_spots([use.spot for use in old], batch)
            emit(CacheChanged(store.place, "deleted", keys))
        unused = Totals(len(old), sum(use.size_bytes for use in old))
        return Collected(litter.unfinished, litter.trashed, logs, unused, keys, store.lost(batch))

    async def _remove_untrusted(self, patterns: Sequence[str]) -> Deleted:
        store, batch = self._entries.store, new_batch()
        metas = {
            spot: meta
            for spot, meta in await self._entries.listed()
            if meta is not None and not meta.trusted and any(acceptance.names(one, meta.key) for one in patterns)
        }
        removed = await store.remove_spots(list(metas), batch)
        keys = tuple(dict.fromkeys(metas[spot].key for spot in removed))
        if keys:
            emit(CacheChanged(store.place, "deleted", keys))
        return Deleted(len(removed), store.lost(batch), len(removed) - len(keys), keys)

    async def _offer(self, pattern: str, key_file: str | os.PathLike[str] | None) -> Offer:
        signed_by = None if key_file is None else trust.read_key_file(Path(key_file).expanduser())
        entries = self._entries
        return await acceptance.offer(entries.store, pattern, trust.signing_key(), signed_by, entries.clock())

    async def _trust(self, what: str | Offer, key_file: str | os.PathLike[str] | None, tell: Progress) -> Accepted:
        check_key_lasts()
        entries = self._entries
        offered = what if isinstance(what, Offer) else await self._offer(what, key_file)
        accepted = await acceptance.accept(entries.store, offered, trust.signing_key(), entries.clock(), tell)
        if accepted.keys:
            emit(CacheChanged(entries.store.place, "kept", accepted.keys))
        return accepted

    async def _rotate_key(self, tell: Progress) -> tuple[Rotation, Accepted]:
        entries = self._entries
        rotation = trust.key_ring().rotate()
        own = await acceptance.offer(entries.store, "*", rotation.new, rotation.old, entries.clock())
        accepted = await self._trust(own, None, tell)
        await entries.store.empty_trash()
        return rotation, accepted

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T | Coroutine[Any, Any, T]:
        return coroutine if self._entries.store.is_async else run_now(coroutine)


def check_key_lasts() -> None:
    """Raises `KeyFileError` where what is signed now is lost with this process."""
    ring = trust.key_ring()
    problem = ring.problem()
    if problem is not None:
        raise KeyFileError(f"you have no signing key that lasts: {problem}. Fix: {ring.fix}")


def _tell_nobody(_done: int, _all: int) -> None:
    pass
