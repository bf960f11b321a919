"""What a cache can do, written once as coroutines; over a sync store none of them ever suspends."""

from __future__ import annotations

import fnmatch
import functools
import os
import re
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from typing import Any, Final, Literal, TypeAlias

from nbstep import runlog
from nbstep.cache import drifted, entry, hot, renewal, trust
from nbstep.cache.acceptance import Accepted
from nbstep.cache.drifted import Drifted
from nbstep.cache.headers import Headers
from nbstep.cache.keeping import Keeper
from nbstep.cache.limit import Limit, Use, choose, use_of
from nbstep.cache.looks import Look
from nbstep.cache.pattern import Pattern
from nbstep.cache.records import (
    SYNC_FROM_S,
    Deleted,
    Facts,
    Hit,
    Kept,
    LookUp,
    Meta,
    Miss,
    NotKept,
    Restored,
    Trashed,
    Unreadable,
)
from nbstep.cache.restoring import restore
from nbstep.cache.secrets.redaction import key_text, redact_text
from nbstep.cache.strangers import is_news
from nbstep.errors import StepFailed
from nbstep.events import CacheChanged, Finding, Reason, emit, is_heard
from nbstep.foreign import interrupts
from nbstep.keys import check_key
from nbstep.notes import spelled_in_python
from nbstep.result import Err, Ok
from nbstep.stores.base import (
    Document,
    NoRoom,
    NotEverywhere,
    Part,
    ReadOnly,
    Server,
    Spot,
    Store,
    TrashTotals,
    run_now,
)
from nbstep.stores.breaker import did_not_answer
from nbstep.stores.locks import KeyLock
from nbstep.words import for_good, keys_text

Durability: TypeAlias = Literal["auto", "always", "never"]
_Put: TypeAlias = tuple[tuple[str, ...], str]  # whose entries made room, which of two stores did not take it
_Payload: TypeAlias = tuple[bytes, list[memoryview]]

_EXPIRED_FOR_S: Final = 24 * 3600.0  # as long as the trash keeps anything
_NOTHING_THERE: Final[frozenset[Reason]] = frozenset({"new", "deleted", "evicted"})


class Entries:
    """The entries of one store, with the options of a `Cache`."""

    def __init__(
        self,
        store: Store,
        durability: Durability,
        previews: bool,
        redact: Callable[[str], str] | None,
        limit: Limit | None = None,
    ) -> None:
        self.store = store
        self._server = store if isinstance(store, Server) else None  # a protocol: not to be asked at every entry
        self._take_new: Callable[[str, str], KeyLock | None] | None = getattr(store, "take_new", None)
        self._publish_new: Callable[..., bool] | None = getattr(store, "publish_new", None)
        self.clock: Callable[[], float] = time.time
        self._durability = durability
        self._keeper = Keeper(previews, redact)
        self._hot = hot.HotTier(store)
        self._limit = limit
        self._headers = Headers(store)
        # What a limit, and the age of what is unused, are about: of two stores the one that is not shared.
        self.local: Store = getattr(store, "near", store)
        self._local_headers = self._headers if self.local is store else Headers(self.local)

    def held(self, key: str) -> Hit | None:
        """The hit under `key` where the entry was read lately and stands as it was. None says nothing."""
        if key not in self._hot.kept:  # most, where much is new
            return None
        found = self._hot.find(key, trust.signing_key().id)
        if found is not None and self._limit is not None:
            self._limit.used(key, self.clock())
        return found

    async def look_up_aside(self, key: str, missed: Miss | None, *, insist: bool) -> LookUp:
        """As `look_up`, for who awaits: where that may wait for a network, a thread does it, and a hit has its `fetch`."""
        rests = not insist and self.why_resting() is not None
        if rests or self._stands_near(key):
            return await self.look_up(key, missed, insist=insist)
        from nbstep.stores.aside import aside  # with asyncio, which few commands need

        return await aside(lambda: run_now(self.look_up(key, missed, insist=insist, far=True)))

    def _stands_near(self, key: str) -> bool:
        """Whether an entry of one's own stands in the folder before a shared store."""
        address = self.local.address(key, trust.signing_key().id)
        return address is not None and self.local.stamp(address) is not None

    async def look_up(self, key: str, missed: Miss | None = None, *, insist: bool = True, far: bool = False) -> LookUp:
        """What is kept under `key`: a `Hit`, or a `Miss` with its reason. Nothing is unpickled; never raises `Exception`.

        `missed` is what a look-up just before gave: where there is still nothing, its reason stands. Without `insist` a store
        that did not answer a moment ago is not asked. With `far` a hit has its `fetch`.
        """
        if not insist and (resting := self.why_resting()) is not None:
            return Miss("unreadable", resting)
        signing_key = trust.signing_key()
        found = self.held(key)
        if found is not None:
            return found
        try:
            document = await self.store.open(key, signing_key.id)
            if document is None:
                if missed is not None and missed.reason in _NOTHING_THERE:
                    return missed
                return await self._why_missing(key, signing_key.id)
            head = entry.read_head(document, signing_key, self.clock())
            _check_usable(head, key)
        except Unreadable as problem:
            return Miss(problem.reason, problem.detail)
        except interrupts():
            raise
        except BaseException as error:  # noqa: BLE001 - the user's own store may raise anything
            if not insist and (resting := self.why_resting()) is not None:
                return Miss("unreadable", resting)
            return Miss("unreadable", _reason(self.store.place, "read", error))
        if self._limit is not None:
            self._limit.used(key, self.clock())
        ahead: list[_Payload] = []
        fetch = (lambda: ahead.append(entry.read_payload(document, head))) if far else None
        return Hit(head.meta, lambda: self._load(key, signing_key.id, document, head, ahead), head.mark, fetch)

    def why_resting(self) -> str | None:
        """One line where the store did not answer a moment ago, and is left alone; else None."""
        breaker = self.store.breaker
        line = None if breaker is None or breaker.failure is None else breaker.why_resting()
        return None if line is None else self._shown(line)

    def _shown(self, line: str) -> str:
        try:
            return self._keeper.redacted(line)
        except Exception:  # noqa: BLE001 - the user's `redact=` failed: then nothing of the error's text is shown
            return f"{self.store.place} did not answer; asked again soon"

    def why_far_rests(self) -> str | None:
        """One line where the shared cache behind this one did not answer a moment ago; else None."""
        tell: Callable[[], str | None] | None = getattr(self.store, "why_far_rests", None)
        line = None if tell is None else tell()
        return None if line is None else self._shown(line)

    async def is_gone(self, key: str) -> bool:
        """Whether no entry of one's own stands under `key`; a look-up would find out why as well."""
        try:
            return await self.store.open(key, trust.signing_key().id) is None
        except interrupts():
            raise
        except BaseException:  # noqa: BLE001 - something stands there, a look-up tells what
            return False

    def _load(self, key: str, signer: str, document: Document, head: entry.Head, ahead: list[_Payload]) -> Any:
        stream, buffers = ahead.pop() if ahead else entry.read_payload(document, head)
        if not buffers and document.stamp is not None and len(stream) <= hot.ENTRY_BYTES_AT_MOST:
            hit = Hit(head.meta, lambda: self._keeper.unpack(head, stream), head.mark)
            self._hot.put(key, signer, document.stamp, hit, document.size_bytes)
        return self._keeper.unpack(head, stream, buffers)

    async def keep(
        self,
        key: str,
        result: Ok[Any] | Err[Any],
        facts: Facts,
        *,
        batch: str | None = None,
        insist: bool = True,
        created: float | None = None,
        made_by: Any = None,
        awaiting: bool = False,
    ) -> Kept | NotKept:
        """Keeps a value or an error under `key`; what stood there goes to the trash.

        Never raises `Exception`: whatever goes wrong is told by `NotKept`.

        Args:
            key: The user's key.
            result: What the thunk gave, or its error.
            facts: What the step knows of it.
            batch: Groups what this run replaces, so that one `undo()` brings all of it back.
            insist: Asks the store even if it did not answer a moment ago.
            created: When it was computed, where that was not now.
            made_by: The thunk; where an error is kept, it is looked at for secrets that the error may tell.
            awaiting: The caller awaits: what may wait for a network is done in a thread, to its end.
        """
        if not insist and (resting := self.why_resting()) is not None:
            return NotKept(resting, "unreachable")
        try:
            signing_key = trust.signing_key()
            now = self.clock()
            meta, content = self._keeper.prepare(
                key, result, facts, now if created is None else min(created, now), made_by
            )
            parts = entry.encode(meta, content, signing_key)
            size = sum(map(len, parts))
            put = functools.partial(self._put, key, parts, size, facts, signing_key.id, batch or new_batch())
            if awaiting and self.store.is_far:
                evicted, beside = await self._put_aside(put, insist=insist)
            else:
                evicted, beside = await put()
        except interrupts():
            raise
        except BaseException as error:  # noqa: BLE001 - a cache that fails must not cost the user the value
            if not insist and did_not_answer(error) and (resting := self.why_resting()) is not None:
                return NotKept(resting, "unreachable")
            kind = (
                "no-room" if isinstance(error, NoRoom) else "read-only" if isinstance(error, ReadOnly) else "not-stored"
            )
            return NotKept(self._keeper.why_not(error, self.store.place), kind)
        return Kept(
            entry.published(meta, signing_key.id, size), evicted, content.left_out, beside, entry.mark_of(parts)
        )

    def take_new(self, key: str, signer: str) -> KeyLock | None:
        """As `Cache.take_new`."""
        breaker = self.store.breaker
        if self._take_new is None or key in self._hot.kept or (breaker is not None and breaker.failure is not None):
            return None
        return self._take_new(key, signer)

    def pattern(self, facts: Facts, signing_key: trust.SigningKey) -> Pattern | None:
        """As `Cache.pattern`."""
        keeper = self._keeper
        if self._take_new is None or self._limit is not None or keeper.redact is not None or not keeper.previews:
            return None
        if self._durability == "always" or facts.uses or (facts.ttl_s is not None and self._server is not None):
            return None
        return Pattern(keeper.shown(facts), signing_key, sync=self._durability == "auto")

    def keep_like(
        self, pattern: Pattern, key: str, value: Any, took_s: float, inputs: Mapping[str, str], batch: str
    ) -> int | None:
        """As `Cache.keep_like`."""
        try:
            parts = pattern.entry(key, value, self.clock(), took_s, inputs)
            breaker = self.store.breaker
            if parts is None or (breaker is not None and breaker.failure is not None):
                return None
            publish_new = self._publish_new
            if publish_new is None or not publish_new(key, pattern.signer, parts, batch):
                run_now(self.store.publish(key, pattern.signer, parts, durable=False, batch=batch))
        except interrupts():
            raise
        except BaseException:  # noqa: BLE001 - `keep` meets it again, and tells
            return None
        if is_heard():
            emit(CacheChanged(self.store.place, "kept", (key,)))
        return len(parts[0]) + len(parts[1])

    async def _put(self, key: str, parts: Sequence[Part], size: int, facts: Facts, signer: str, batch: str) -> _Put:
        """Publishes an entry, and tells of it."""
        beside = ""
        evicted = () if self._limit is None else await self._make_room(self._limit, size, key)
        durable = self._durability == "always" or (self._durability == "auto" and facts.took_s > SYNC_FROM_S)
        try:
            await self.store.publish(key, signer, parts, durable=durable, batch=batch)
        except NotEverywhere as missing:
            beside = self._shown(str(missing))
        if facts.ttl_s is not None and self._server is not None:  # later: until then it serves stale_if_error
            await self._server.end_after(key, signer, facts.ttl_s + _EXPIRED_FOR_S)
        if self._limit is not None:
            self._limit.add(size)
        emit(CacheChanged(self.store.place, "kept", (key,)))
        return evicted, beside

    async def _put_aside(self, put: Callable[[], Coroutine[Any, Any, _Put]], *, insist: bool) -> _Put:
        """As `put`, in a thread: if the store rests once there is one, as others waited for it in vain, it is not asked."""
        from nbstep.stores.aside import aside  # with asyncio, which few commands need

        def work() -> _Put:
            if not insist and (resting := self.why_resting()) is not None:
                raise ConnectionError(resting)
            return run_now(put())

        return await aside(work, to_end=True)

    def many_steps(self) -> AbstractContextManager[None]:
        """As `Cache.many_steps`."""
        many = getattr(self.local, "many_steps", None)
        return nullcontext() if many is None else many(self._tell_lost)

    def expect(self, keys: Sequence[str], holder: str | None, count: int) -> None:
        """As `Cache.expect`."""
        expect = getattr(self.store, "expect", None)
        if expect is not None:
            expect(keys, trust.signing_key().id, holder, count)

    def _tell_lost(self, keys: tuple[str, ...], error: BaseException) -> None:
        """Tells of entries that were to be kept, and in the end could not be."""
        why = spelled_in_python(self._keeper.why_not(error, self.store.place))
        names = keys_text([key_text(key) for key in keys])
        emit(Finding(None, keys[0], "not-stored", f"not kept after all: {names}: {why}"))

    def note_drifted(self, key: str, found: Drifted) -> str | None:
        """Remembers what a look-up found changed; gives its digests as signed text for the run log."""
        try:
            texts = None if found.sources is None else found.sources.items()
            sources = None if texts is None else {name: self._keeper.source(text) for name, text in texts}
        except Exception:  # noqa: BLE001 - the user's `redact=` failed: then nothing of the text is shown or written
            sources = None
        drifted.remember(self.store, key, replace(found, sources=sources))
        return found.logged(key, trust.signing_key())

    async def accept(self, patterns: Sequence[str]) -> Accepted:
        """Publishes the old values under keys that match anew, with today's fingerprints."""
        return await self.renew(renewal.wanted_by(patterns, await self.entries()))

    async def renew(self, wanted: Mapping[str, bool]) -> Accepted:
        """As `accept`, of some keys, each with whether it was asked for by name."""

        async def note_size(size: int) -> None:
            if self._limit is not None:
                holds = self._limit.surely_holds(size)
                self._limit.add(size)
                if not holds and await self._limit.excess(self, 0) > 0:
                    await self.store.empty_trash()  # afterwards: to make room first could evict the very entry

        directory = self.store.directory
        accepted = await renewal.renew(
            self.store, await self.entries(), wanted, {} if directory is None else runlog.usage(directory),
            trust.signing_key(), self.clock(), note_size, lambda error: self._keeper.why_not(error, self.store.place),
            new_batch(),
        )  # fmt: skip
        if accepted.keys:
            emit(CacheChanged(self.store.place, "kept", accepted.keys))
        return accepted

    def is_news(self, text: str) -> bool:
        """Whether a line about somebody who signed entries here was not told yet in this process."""
        return is_news(self.store.directory or self.store, text)

    async def get(self, key: str, default: Any) -> Any:
        """What is kept under `key`; a kept error raises."""
        found = await self.look_up(check_key(key))
        if isinstance(found, Miss):
            if found.reason == "untrusted" and found.detail and self.is_news(found.detail):
                emit(Finding(None, key, "untrusted", spelled_in_python(found.detail)))
            return default
        try:
            value = found.load()
        except Unreadable:
            return default
        if found.meta.outcome == "ok":
            return value
        error = value.error
        raise error if isinstance(error, BaseException) else StepFailed(key, error)

    async def set(self, key: str, value: Any) -> None:
        """Keeps `value`; raises where it cannot be kept."""
        kept = await self.keep(check_key(key), Ok(value), Facts(took_s=0.0))
        if isinstance(kept, NotKept):
            raise ValueError(f"{key!r} was not kept: {spelled_in_python(kept.why)}")

    async def has(self, key: str) -> bool:
        """Whether a look-up would be a hit."""
        return isinstance(await self.look_up(check_key(key)), Hit)

    async def delete(self, key: str) -> bool:
        """Moves one key's entries to the trash."""
        return await self.delete_many([check_key(key)]) > 0

    async def delete_many(self, keys: list[str]) -> int:
        """Moves the entries of these keys to the trash, as one batch."""
        return self._told(await self.remove(keys))

    async def remove(self, keys: list[str]) -> Deleted:
        """As `delete_many`, for who shows what became of them."""
        batch = new_batch()
        removed = await self.store.remove(list(dict.fromkeys(keys)), batch)
        if removed:
            emit(CacheChanged(self.store.place, "deleted", tuple(removed)))
        return Deleted(len(removed), min(self.store.lost(batch), len(removed)))

    async def delete_matching(self, pattern: str) -> int:
        """Moves the entries whose keys match a glob to the trash."""
        keys = {meta.key for meta in await self.entries()}
        return await self.delete_many([key for key in sorted(keys) if fnmatch.fnmatchcase(key, pattern)])

    async def clear(self) -> int:
        """Moves everything to the trash."""
        return self._told(await self.remove_all())

    async def remove_all(self) -> Deleted:
        """As `clear`, for who shows what became of it."""
        metas = await self.entries()
        keys = tuple(dict.fromkeys(meta.key for meta in metas))
        batch = new_batch()
        count = await self.store.remove_all(batch)
        if count:
            emit(CacheChanged(self.store.place, "deleted", keys))
        return Deleted(count, self.store.lost(batch), beside=len(metas) - len(keys))

    def _told(self, deleted: Deleted) -> int:
        if deleted.lost:
            text = f"{self.store.place}: deleted{for_good(deleted.count, deleted.lost)}, no undo brings that back"
            emit(Finding(None, None, "lost", text))
        return deleted.count

    async def keys(self) -> list[str]:
        """The keys of entries that may be used, oldest first."""
        return list(dict.fromkeys(meta.key for meta in await self.entries() if meta.trusted))

    async def entries(self) -> list[Meta]:
        """The metadata of all entries, oldest first."""
        return (await self.look()).metas()

    async def look(self) -> Look:
        """All entries as they are now, for who wants to know later what changed."""
        return await self._headers.look(self.clock())

    async def listed(self) -> list[tuple[Spot, Meta | None]]:
        """Where entries stand, each with its metadata, None where its header cannot be read."""
        return await self._headers.all(self.clock())

    async def errors(self) -> list[Meta]:
        """The metadata of entries that keep an error."""
        return [meta for meta in await self.entries() if meta.outcome == "error"]

    async def undo(self, key: str | None) -> list[str]:
        """Brings back the last batch, or the last entry of `key`."""
        try:
            restored = await self.restore(key)
        except NoRoom as full:
            raise NoRoom(full.errno, spelled_in_python(full.strerror or "")) from full
        left = restored.damaged_text()
        if left:
            text = f"{self.store.place}: {left} in the trash is damaged and stays there"
            emit(Finding(None, next(iter(restored.damaged), None), "damaged", text))
        return list(restored.keys)

    async def restore(self, key: str | None, back: int = 1) -> Restored:
        """As `undo`, for who shows what became of it."""
        wanted = key if key is None else check_key(key)
        restored = await restore(self.store, self._headers, wanted, new_batch(), self.clock(), back)
        if restored.keys or restored.damaged:
            emit(CacheChanged(self.store.place, "restored", (*restored.keys, *restored.damaged)))
        return restored

    async def trashed(self) -> list[Trashed]:
        """The entries in the trash whose header can be read, the last one first."""
        found: list[Trashed] = []
        for item in await self.store.waiting():
            with suppress(OSError, Unreadable, ValueError):
                document = item.open()
                if document is not None:
                    meta = entry.read_head(document, trust.signing_key(), self.clock()).meta
                    found.append(Trashed(meta, item.at, item.back))
        return sorted(found, key=lambda one: one.at, reverse=True)

    async def trash(self) -> TrashTotals:
        """What waits in the trash."""
        return await self.store.trash()

    async def empty_trash(self) -> int:
        """Removes what waits in the trash for good."""
        return await self.store.empty_trash()

    async def uses(self) -> list[Use]:
        """Every entry with the time it was last used, by the run log and by this process."""
        now = self.clock()
        directory = self.store.directory
        logged = {} if directory is None else {key: use.last_used for key, use in runlog.usage(directory).items()}
        ours = {} if self._limit is None else self._limit.uses
        return [
            use_of(spot, meta, now, *(() if meta is None else (logged.get(meta.key, 0.0), ours.get(meta.key, 0.0))))
            for spot, meta in await self._local_headers.all(now)
        ]

    async def _make_room(self, limit: Limit, size: int, key: str) -> tuple[str, ...]:
        """Makes room for an entry; the keys of those that were evicted."""
        limit.check(size)
        if limit.surely_holds(size):
            return ()
        if await limit.excess(self, size) <= 0:
            return ()
        await self.local.empty_trash()
        excess = await limit.excess(self, size)
        if excess <= 0:
            return ()
        chosen = choose(await self.uses(), excess, limit.wish(excess), key)
        if chosen is None:
            raise limit.full(size)
        keys = tuple(dict.fromkeys(use.key for use in chosen if use.key is not None))
        await self.local.evict([use.spot for use in chosen], keys)
        await limit.excess(self, size)
        emit(CacheChanged(self.store.place, "deleted", keys))
        return keys

    async def held_bytes(self) -> int:
        """What entries and trash take, without reading a header where the store tells sizes."""
        spots = await self.local.spots()
        untold = any(not spot.size_bytes for spot in spots)
        listed = await self._local_headers.all(self.clock()) if untold else []
        sizes = [meta.size_bytes for _, meta in listed if meta is not None]
        held = sum(sizes) if untold else sum(spot.size_bytes for spot in spots)
        return held + (await self.local.trash()).size_bytes

    async def _why_missing(self, key: str, signer: str) -> Miss:
        traces = await self.store.traces(key, signer)
        if traces.strangers:
            return _untrusted(traces.strangers[0])
        if traces.trashed:
            return Miss("deleted")
        return Miss("evicted" if traces.evicted else "new")


def _check_usable(head: entry.Head, key: str) -> None:
    meta = head.meta
    if not meta.trusted:
        problem = _untrusted(meta.signer)
        raise Unreadable(problem.reason, problem.detail or "")
    if meta.key != key:
        raise Unreadable("unreadable", f"it is the entry of another key, {meta.key!r:.100}")
    if head.by_value and meta.python != entry.PYTHON:
        raise Unreadable("incompatible", f"kept under Python {meta.python}, this is {entry.PYTHON}")


def _untrusted(signer: str) -> Miss:
    shown = signer if re.fullmatch(r"[0-9a-f]{8}", signer) else "of an unknown form"
    if trust.key_ring().replaced_by(signer):
        why = f"signed by key {shown}, which is yours now: restart this kernel, it goes on with the key it began with"
        return Miss("untrusted", why)
    why = (
        f"signed by key {shown}, not yours, so not used: accept it with `nbstep trust`, "
        "or let NBSTEP_SIGNING_KEY_FILE name the file of that key"
    )
    return Miss("untrusted", why)


def _reason(place: str, verb: str, error: BaseException) -> str:
    text = " ".join(str(getattr(error, "strerror", None) or error).split())[:300]
    if type(error).__name__ in {
        "ForeignValue",
        "Resting",
    }:  # they say all; their modules are imported only with such a store
        return text
    return redact_text(f"{place} could not {verb} it: {type(error).__name__}: {text}")


def new_batch() -> str:
    """A name for what goes to the trash together."""
    return os.urandom(12).hex()


def checked_key(key: Any) -> str:
    """The key, if it is text: of what is listed to be deleted, any.

    Raises:
        TypeError: It is no text.
    """
    return key if isinstance(key, str) else check_key(key)
