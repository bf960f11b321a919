"""What is kept, as rows: one row model and one query language for `ls`, the panel and its snapshot.

A query is words, all of which must hold:

    error:            kept errors                 error:HTTPStatus   those of a type
    user:*            keys that match the glob    404                any text in key, type or message
    unused:30d        not used for 30 days        "two words"        that text, taken literally
    old:              values whose code or inputs changed since, as the last run that used them found
"""

from __future__ import annotations

import hashlib
import heapq
import inspect
import re
from collections import Counter
from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from operator import attrgetter
from typing import Any, Final, Literal, TypeAlias, TypeVar, cast

from nbstep import runlog
from nbstep.cache.cache import Cache
from nbstep.cache.records import Hit, Meta
from nbstep.cache.secrets.redaction import key_text
from nbstep.collecting import no_collections
from nbstep.durations import duration_text, size_text, to_seconds
from nbstep.frozen import record
from nbstep.integrations.calls import arguments_text
from nbstep.runlog import Usage
from nbstep.words import Status, natural_order, plural, shown, status_of

T = TypeVar("T")

NOTHING_KEPT: Final = "Nothing kept yet. A step with a key appears here when it has run."

WORST_FIRST: Final[Sequence[Status]] = ("failed", "old value", "untrusted", "ok")

_WORD: Final = re.compile(r'"([^"]*)"?|(\S+)')
_MESSAGE_CHARS: Final = 300
_UNUSED: Final = Usage()
_OUTCOME: Final = attrgetter("outcome", "trusted")
_SIZE: Final = attrgetter("size_bytes")


@record
class Row:
    """One kept entry as every list shows it; all text has been through `shown`.

    Attributes:
        id: SHA-256 of the key, in hex: what a front end sends back, never the key itself.
        key: The user's key, as it is; for looking up only, never for showing.
        label: The key as shown.
        status: The word on screen.
        type: The value's type, or the error's.
        shape: "8,120 × 14", "3 items" or "".
        message: Of a kept error its message, of an old value what changed, of a call of `joblib.Memory` its arguments, else "".
        size_bytes: The whole entry.
        took_s: How long the thunk ran.
        created: Seconds since the epoch.
        expires_at: The end of its time to live as written, None for ever.
        hits: How often logged runs used it.
        last_used: When a logged run last used it.
        saved_s: Time those hits saved.
    """

    id: str
    key: str
    label: str
    status: Status
    type: str
    shape: str
    message: str
    size_bytes: int
    took_s: float
    created: float
    expires_at: float | None
    hits: int = 0
    last_used: float | None = None
    saved_s: float = 0.0

    @property
    def what(self) -> str:
        """The value's type and shape, and what changed since it was kept or of what call it is; or the error's type and message.

        The module is left out: "DataFrame 8,120 × 14".
        """
        short = self.type.rpartition(".")[2]
        if self.status == "failed" and self.message:
            return f"{short}: {self.message}"
        value = f"{short} {self.shape}".rstrip()
        return f"{value} · {self.message}" if self.status != "failed" and self.message else value


def entry_id(key: str) -> str:
    """The id under which a front end knows `key`; lone surrogates have one too."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def row_of(meta: Meta, usage: Usage | None = None, row_id: str | None = None) -> Row:
    """The row of one entry, with what the run log says of its key; `row_id` is its `entry_id`, where that is known."""
    facts, error, usage = meta.facts, meta.error, usage or _UNUSED
    drift = _drift_of(meta, usage)
    told = error.message if error else drift or arguments_text(meta.key, facts)
    message = told if error or meta.trusted else ""
    return Row(
        row_id or entry_id(meta.key),
        meta.key,
        key_text(meta.key),
        status_of(meta.outcome, drift, trusted=meta.trusted),
        shown(error.type if error else meta.type),
        shown(meta.shape),
        shown(message[:_MESSAGE_CHARS]),
        meta.size_bytes,
        facts.took_s,
        meta.created,
        None if facts.ttl_s is None else meta.ends_at(facts.ttl_s, meta.created),
        usage.hits,
        usage.last_used or None,
        usage.saved_s,
    )


def row_record(row: Row) -> dict[str, Any]:
    """A row as `--json` gives it."""
    record = asdict(row)
    del record["label"]
    return record


def _drift_of(meta: Meta, usage: Usage) -> str | None:
    """What had changed when the entry was last used; what was kept since is no old value."""
    return usage.drift_since(meta.created, meta.facts.accepted) if meta.outcome == "ok" else None


def own_first(metas: Iterable[Meta]) -> dict[str, Meta]:
    """By key; where a stranger's entry stands beside one's own, one's own."""
    by_key: dict[str, Meta] = {}
    for meta in metas:
        if meta.trusted or meta.key not in by_key:
            by_key[meta.key] = meta
    return by_key


def rows_of(metas: Iterable[Meta], usage: Mapping[str, Usage]) -> list[Row]:
    """Rows in the natural order of their keys: `page:2` before `page:10`. A key has one row."""
    with no_collections():
        rows = [row_of(meta, usage.get(key)) for key, meta in own_first(metas).items()]
        rows.sort(key=lambda row: natural_order(row.label))
        return rows


def first_rows(
    metas: Mapping[str, Meta], usage: Mapping[str, Usage], count: int, *, worst_first: bool = False
) -> list[Row]:
    """The first rows of `rows_of`, without making the others; `metas` by key.

    With `worst_first` errors, then old values and what others signed stand before the rest.
    """

    def place(meta: Meta) -> tuple[int, tuple[str | float, ...]]:
        rank = 0
        if worst_first:
            drift = _drift_of(meta, usage.get(meta.key, _UNUSED))
            rank = WORST_FIRST.index(status_of(meta.outcome, drift, trusted=meta.trusted))
        return rank, natural_order(shown(meta.key))

    with no_collections():
        return [row_of(meta, usage.get(meta.key)) for meta in heapq.nsmallest(count, metas.values(), key=place)]


Kind: TypeAlias = Literal["failed", "type", "glob", "text", "unused", "old"]


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a query: its kind, the text in it, and seconds for `unused:`."""

    kind: Kind
    text: str = ""
    seconds: float = 0.0


Query: TypeAlias = tuple[Word, ...]


def parse_query(text: str) -> Query:
    """Reads a query; see the module's first lines.

    Raises:
        ValueError: `unused:` is followed by no duration.

    >>> parse_query('error:HTTP user:* "two words"')
    (Word(kind='type', text='http', seconds=0.0), Word(kind='glob', text='user:*', seconds=0.0), \
Word(kind='text', text='two words', seconds=0.0))
    """
    return tuple(
        Word("text", match[1].lower()) if match[2] is None else _parse_word(match[2])
        for match in _WORD.finditer(text)
        if match[0].strip('"')
    )


def _parse_word(word: str) -> Word:
    name, colon, rest = word.partition(":")
    if colon and name == "error":
        return Word("type", rest.lower()) if rest else Word("failed")
    if colon and name == "unused":
        return Word("unused", seconds=_seconds(word, rest))
    if word == "old:":
        return Word("old")
    if is_glob(word):
        return Word("glob", word)
    return Word("text", word.lower())


def filter_of(word: str) -> Word | None:
    """What `old:`, `error:`, `error:TYPE` or `unused:30d` asks for; None for a key, a glob or any text.

    Raises:
        ValueError: `unused:` is followed by no duration.
    """
    parsed = _parse_word(word)
    return None if parsed.kind in ("glob", "text") else parsed


def _seconds(word: str, duration: str) -> float:
    try:
        return to_seconds(duration, "unused") or 0.0
    except ValueError:
        raise ValueError(f"{shown(word)} is no duration; write for example unused:30d") from None


def is_glob(text: str) -> bool:
    """Whether `text` is a pattern for whole keys rather than a key or a part of one."""
    return "*" in text or "?" in text


def matches(query: Query, row: Row, now: float) -> bool:
    """Whether every word of the query holds for the row."""
    return all(_holds(word, row, now) for word in query)


def _holds(word: Word, row: Row, now: float) -> bool:
    match word.kind:
        case "failed":
            return row.status == "failed"
        case "old":
            return row.status == "old value"
        case "type":
            kind = row.type.lower()
            return row.status == "failed" and (
                fnmatchcase(kind, word.text) if is_glob(word.text) else word.text in kind
            )
        case "glob":
            return fnmatchcase(row.label, word.text)
        case "unused":
            return now - max(row.created, row.last_used or 0.0) >= word.seconds
        case "text":
            return word.text in f"{row.label}\n{row.type}\n{row.message}".lower()


def named_rows(rows: Sequence[Row], name: str) -> list[Row]:
    """The rows that a word of a verb names.

    A key as it is or as it is shown, before a glob.
    """
    exact = [row for row in rows if name in (row.key, row.label)]
    if exact or not is_glob(name):
        return exact
    return [row for row in rows if fnmatchcase(row.key, name) or fnmatchcase(row.label, name)]


def has_type(row: Row, name: str) -> bool:
    """Whether the row is a kept error of the type `name`, with or without its module."""
    return row.status == "failed" and name in (row.type, row.type.rpartition(".")[2])


@dataclass(frozen=True, slots=True)
class Totals:
    """The header line of every list."""

    place: str
    entries: int
    failed: int
    size_bytes: int
    trash_entries: int
    trash_bytes: int
    saved_s: float
    old: int = 0
    max_bytes: int | None = None
    untrusted: int = 0


def totals_text(totals: Totals, of: int | None = None) -> str:
    """The header line; `of` is how many entries there are, where the totals are of those that a query left.

    >>> totals_text(Totals("~/proj/.nbstep", 12, 1, 84_000_000, 0, 0, 250.0))
    '12 entries · 1 failed · 84 MB · saved 4 m 10 s · ~/proj/.nbstep'
    """
    count = plural(totals.entries if of is None else of, "entry", "entries")
    parts = [count if of is None else f"{totals.entries:,} of {count}"]
    if totals.failed:
        parts.append(f"{totals.failed:,} failed")
    if totals.old:
        parts.append(plural(totals.old, "old value"))
    if totals.untrusted:
        parts.append(f"{totals.untrusted:,} untrusted")
    limit = "" if totals.max_bytes is None else f" of at most {size_text(totals.max_bytes)}"
    parts.append(f"{size_text(totals.size_bytes)}{limit}")
    if totals.trash_entries:
        parts.append(f"{size_text(totals.trash_bytes)} in trash")
    if totals.saved_s > 0:
        parts.append(f"saved {duration_text(totals.saved_s)}")
    return " · ".join([*parts, totals.place])


async def settled(value: Awaitable[T] | T) -> T:
    """The result of a cache's method, over a sync or an async store."""
    return await cast("Awaitable[T]", value) if inspect.isawaitable(value) else cast("T", value)


def usage_of(cache: Cache) -> Mapping[str, Usage]:
    """What the logged runs say, by key, and what this process found changed when it last asked."""
    logged = runlog.usage(cache.directory) if cache.directory is not None else {}
    here = cache.drifted_here()
    if not here:
        return logged
    drifted: dict[str, Usage] = {}
    for key, found in here.items():
        before = logged.get(key, _UNUSED)
        was_refused = before.last_got == "refused" and before.last_used >= found.at  # by `on_drift="error"`
        drifted[key] = replace(
            before, drift=found.drift, drift_at=found.at, last_got="refused" if was_refused else "hit",
            last_used=max(found.at, before.last_used),
        )  # fmt: skip
    return {**logged, **drifted}


async def list_rows(cache: Cache) -> list[Row]:
    """Every entry of the cache as a row, in the natural order of the keys."""
    return rows_of(await settled(cache.entries()), usage_of(cache))


async def totals_of(cache: Cache, rows: Sequence[Row]) -> Totals:
    """The header line's numbers of some rows."""
    statuses = Counter(row.status for row in rows)
    size_bytes, saved_s = sum(row.size_bytes for row in rows), sum(row.saved_s for row in rows)
    counted = {word: statuses[status] for word, status in _COUNTED}
    return await _totals(cache, len(rows), counted, size_bytes, saved_s)


async def totals_of_entries(cache: Cache, metas: Collection[Meta], usage: Mapping[str, Usage]) -> Totals:
    """The header line's numbers of entries, as `totals_of` has them of their rows; 100,000 are counted each time one changes."""
    outcomes = Counter(map(_OUTCOME, metas))
    used = [(meta, use) for meta in metas if (use := usage.get(meta.key)) is not None] if usage else []
    old = sum(
        1
        for meta, use in used
        if use.drift and status_of(meta.outcome, _drift_of(meta, use), trusted=meta.trusted) == "old value"
    )
    size_bytes, saved_s = sum(map(_SIZE, metas)), sum(use.saved_s for _, use in used)
    untrusted = sum(count for (_, trusted), count in outcomes.items() if not trusted)
    counted = {"failed": outcomes["error", True], "old": old, "untrusted": untrusted}
    return await _totals(cache, len(metas), counted, size_bytes, saved_s)


_COUNTED: Final[Sequence[tuple[str, Status]]] = (("failed", "failed"), ("old", "old value"), ("untrusted", "untrusted"))


async def _totals(cache: Cache, entries: int, counted: Mapping[str, int], size_bytes: int, saved_s: float) -> Totals:
    trash = await settled(cache.trash())
    return Totals(
        place=shown(cache.place),
        entries=entries,
        failed=counted["failed"],
        size_bytes=size_bytes,
        trash_entries=trash.entries,
        trash_bytes=trash.size_bytes,
        saved_s=saved_s,
        old=counted["old"],
        untrusted=counted["untrusted"],
        max_bytes=cache.options.max_bytes,
    )


async def find_meta(cache: Cache, key: str) -> Meta | None:
    """The metadata of one entry, also of one that a step would not use, or None."""
    found = await cache.look_up(key, insist=True)
    if isinstance(found, Hit):
        return found.meta
    return next((meta for meta in await settled(cache.entries()) if meta.key == key), None)
