"""What a page may ask of a cache: its rows, one entry in full, and deleting, undoing and accepting, as JSON it can show.

One implementation for the panel in a notebook and the sidebar, whatever brings the messages. A page sends ids (SHA-256 of a
key), never keys or paths; what is no id of a listed entry is passed over.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeAlias, cast

from nbstep.cache.acceptance import Accepted
from nbstep.cache.cache import Cache
from nbstep.cache.records import Deleted, Meta
from nbstep.cache.secrets.redaction import key_text
from nbstep.commands.accepting import accepted_text
from nbstep.commands.descent import later_steps, later_text, next_run_text, went_into
from nbstep.commands.details import detail_of
from nbstep.commands.listing import Row, entry_id, find_meta, own_first, row_of, settled, totals_of_entries, usage_of
from nbstep.notes import one_line
from nbstep.runlog import Usage
from nbstep.stores.base import TrashTotals
from nbstep.words import for_good, keys_text, named_key, natural_order, plural, runs_again, shown

Message: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Listing:
    """What a cache keeps, as a page knows it: the entries' metadata by id, oldest first, and the use of their keys."""

    metas: Mapping[str, Meta]
    usage: Mapping[str, Usage]

    def row(self, row_id: str) -> Row:
        """The row of a listed entry."""
        meta = self.metas[row_id]
        return row_of(meta, self.usage.get(meta.key), row_id)

    def named(self, ids: object) -> list[Row]:
        """The listed entries that ids of a page stand for."""
        if not isinstance(ids, list):
            return []
        listed = (i for i in cast("list[object]", ids) if isinstance(i, str) and i in self.metas)
        return [self.row(i) for i in dict.fromkeys(listed)]

    def errors(self) -> list[Row]:
        """Every kept error that the page shows as one."""
        rows = (self.row(row_id) for row_id, meta in self.metas.items() if meta.outcome != "ok")
        return [row for row in rows if row.status == "failed"]


def by_id(metas: Iterable[Meta]) -> dict[str, Meta]:
    """Entries by the id under which a page knows them; a key has one."""
    return {entry_id(key): meta for key, meta in own_first(metas).items()}


async def read_listing(cache: Cache) -> Listing:
    """All a page has to know of a cache, read anew."""
    return Listing(by_id(await settled(cache.entries())), usage_of(cache))


def packed(row: Row, asked_by: int = 0) -> list[Any]:
    """A row as the page takes it, without names; `FIELDS` in panel.js gives them. `asked_by` is as in `Asked`."""
    return [
        row.id, row.label, row.status, row.type, row.shape, row.message, row.size_bytes, _finite(row.took_s),
        _finite(row.created), None if row.expires_at is None else _finite(row.expires_at), row.hits, row.last_used,
        _finite(row.saved_s), asked_by,
    ]  # fmt: skip


async def totals_message(cache: Cache, listing: Listing) -> Message:
    """The numbers of the page's head line, and the time by this clock."""
    totals = await totals_of_entries(cache, listing.metas.values(), listing.usage)
    return {
        "now": time.time(),
        "totals": {
            "entries": totals.entries,
            "failed": totals.failed,
            "old": totals.old,
            "untrusted": totals.untrusted,
            "size": totals.size_bytes,
            "trashEntries": totals.trash_entries,
            "trash": totals.trash_bytes,
            "saved": _finite(totals.saved_s),
            "place": totals.place,
        },
    }


async def detail_message(cache: Cache, listing: Listing, row_id: object) -> Message | None:
    """One listed entry in full; None where it is gone."""
    for row in listing.named([row_id]):
        meta = await find_meta(cache, row.key)
        if meta is not None:
            usage = listing.usage.get(row.key)
            later = went_into(listing.metas.values(), row.key)
            drifted = cache.last_drift(row.key, usage)
            return {"kind": "detail", **asdict(detail_of(meta, usage, drifted=drifted, went_into=later))}
    return None


@dataclass(frozen=True, slots=True)
class Wish:
    """What a page wants done.

    Attributes:
        ids: To which entries.
        asked: Whether somebody was asked about what was made from them.
        count: How many entries in the trash somebody was asked about.
    """

    ids: object = None
    asked: bool = False
    count: object = None

    @classmethod
    def read(cls, content: Message) -> Wish:
        """What a page says it wants."""
        return cls(content.get("ids"), asked=content.get("asked") is True, count=content.get("count"))


def note(text: str, *, failed: bool = False, undoable: bool = False) -> Message:
    """A line of the page's foot; what *Undo* would take back stays told for as long."""
    return {"kind": "note", "text": text, "failed": failed, "undoable": undoable}


def failure_note(error: Exception) -> Message:
    """What went wrong, as a line of the page's foot."""
    return note(shown(one_line(f"{type(error).__name__}: {error}")), failed=True)


async def act(cache: Cache, listing: Listing, action: str, wish: Wish) -> Message:
    """Does one of `ACTIONS`; a cache that can only be read stays as it is."""
    if cache.read_only:
        return note(f"{shown(cache.place)} is read-only for you: nothing was changed.", failed=True)
    return await ACTIONS[action](cache, listing, wish)


@dataclass(frozen=True, slots=True)
class _Removal:
    """What is deleted, in words: of what kind it is, and what then happens.

    Attributes:
        action: Deletes just these rows, named by their ids.
    """

    rows: Sequence[Row]
    action: str = "delete"
    one: str = "entry"
    many: str = "entries"
    then: str = ""

    @property
    def counted(self) -> str:
        """How many of which kind."""
        return plural(len(self.rows), self.one, self.many)


async def _delete(cache: Cache, listing: Listing, wish: Wish) -> Message:
    return await _remove(cache, listing, _Removal(listing.named(wish.ids)), asked=wish.asked)


def _question(listing: Listing, removal: _Removal, later: Sequence[Meta]) -> Message:
    """What the page asks before it deletes something from which later steps were made."""
    rows = removal.rows
    again = next_run_text([*(listing.metas[row.id] for row in rows), *later])
    return {
        "kind": "question",
        "action": removal.action,
        "text": f"Delete {removal.counted}?",
        "told": later_text(later, len(rows)),
        "only": f"Delete {named_key(rows[0].label)} only" if len(rows) == 1 else f"Delete these {len(rows):,} only",
        "all": f"Delete all {len(rows) + len(later):,}{again and f', next run {again}'}",
        "ids": [row.id for row in rows],
        "later": [entry_id(meta.key) for meta in later],
    }


async def _retry(cache: Cache, listing: Listing, wish: Wish) -> Message:
    failed = [row for row in listing.named(wish.ids) if row.status == "failed"]
    return await _remove_errors(cache, listing, failed, asked=wish.asked)


async def _delete_errors(cache: Cache, listing: Listing, wish: Wish) -> Message:
    return await _remove_errors(cache, listing, listing.errors(), asked=wish.asked)


async def _rerun(cache: Cache, listing: Listing, wish: Wish) -> Message:
    old = [row for row in listing.named(wish.ids) if row.status == "old value"]
    removal = _Removal(old, "rerun", "old value", "old values", f"; {runs_again(len(old))}")
    return await _remove(cache, listing, removal, asked=wish.asked)


async def _accept(cache: Cache, listing: Listing, wish: Wish) -> Message:
    old = [row for row in listing.named(wish.ids) if row.status == "old value"]
    accepted: Accepted = await settled(cache.renew({row.key: True for row in old}))
    text = accepted_text(accepted) or "There is nothing of that left to accept."
    return note(text, failed=bool(accepted.refused), undoable=bool(accepted.keys))


async def _remove_errors(cache: Cache, listing: Listing, failed: Sequence[Row], *, asked: bool) -> Message:
    removal = _Removal(failed, "retry", "kept error", "kept errors", f"; {runs_again(len(failed))}")
    return await _remove(cache, listing, removal, asked=asked)


async def _remove(cache: Cache, listing: Listing, removal: _Removal, *, asked: bool) -> Message:
    rows = removal.rows
    if not rows:
        return note("There is nothing of that left to delete.")
    later = later_steps(listing.metas.values(), {row.key for row in rows})
    if later and not asked:
        return _question(listing, removal, later)
    deleted: Deleted = await settled(cache.remove([row.key for row in rows]))
    counted = f"{removal.counted}{for_good(deleted.count, deleted.lost)}"
    return note(f"Deleted {counted}{removal.then}: {keys_text([row.label for row in rows])}", undoable=True)


async def _clear(cache: Cache, _listing: Listing, _: Wish) -> Message:
    deleted: Deleted = await settled(cache.remove_all())
    counted = f"{plural(deleted.count, 'entry', 'entries')}{for_good(deleted.count, deleted.lost)}"
    return note(f"Deleted all {counted}", undoable=True)


async def _undo(cache: Cache, _listing: Listing, _: Wish) -> Message:
    keys = sorted(await settled(cache.undo()), key=natural_order)
    if not keys:
        return note("There is nothing to undo.")
    return note(f"Restored {plural(len(keys), 'entry', 'entries')}: {keys_text([key_text(key) for key in keys])}")


async def _empty_trash(cache: Cache, _listing: Listing, wish: Wish) -> Message:
    """What somebody else deleted while the question stood may still be wanted: this has no way back."""
    there: TrashTotals = await settled(cache.trash())
    if isinstance(wish.count, int) and there.entries > wish.count:
        more = plural(there.entries, "entry is", "entries are")
        return note(f"Nothing was emptied: {more} in the trash by now, not {wish.count:,}.", failed=True)
    count: int = await settled(cache.empty_trash())
    gone = f"Emptied the trash: {plural(count, 'entry is', 'entries are')} gone for good"
    return note(gone if count else "The trash is empty.")


Action: TypeAlias = Callable[[Cache, Listing, Wish], Coroutine[Any, Any, Message]]

# By the word that a page uses; each gives a note, or a question that is to be answered first.
ACTIONS: Final[Mapping[str, Action]] = {
    "delete": _delete,
    "retry": _retry,
    "rerun": _rerun,
    "accept": _accept,
    "undo": _undo,
    "delete-errors": _delete_errors,
    "clear": _clear,
    "empty-trash": _empty_trash,
}


def _finite(number: float) -> float:
    """JSON has no infinity, and a header of somebody else's may claim anything."""
    return number if math.isfinite(number) else 0.0
