"""The frozen records that cross the cache's border: what is kept, what a look-up found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from nbstep.cache.secrets.redaction import key_text
from nbstep.events import Outcome, Place, Reason
from nbstep.frozen import record
from nbstep.words import keys_text, plural

SYNC_FROM_S: Final = 10.0  # what took longer is synced to the disk where `durability` is "auto"
_SKEW_AT_MOST_S: Final = 60.0  # by so much clocks of machines that share a cache may differ, if a ttl is long enough
_SKEW_OF_TTL: Final = 0.1


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """The options of a `Cache`, as it was made."""

    max_bytes: int | None = None
    durability: Literal["auto", "always", "never"] = "auto"
    previews: bool = True
    redact: Callable[[str], str] | None = None


@record
class Facts:
    """What a step knows of an entry it wants kept, beside the value itself.

    Attributes:
        took_s: How long the thunk ran.
        awaitable: The thunk gave an awaitable.
        returned: The error was returned in an `Err`, not raised.
        ttl_s: The time to live at the time of writing; for display, gc and a remote store's own expiry only.
        workflow: The explicit workflow name, or None.
        place: Where the step stands.
        code: The code fingerprint: a digest for each part, "" being the thunk's own, others by the name of what it uses.
        source: The thunk's source text, at most 4 KiB, for people.
        uses: Keys whose values went into this step, or that ran inside it.
        names: The functions and attributes that the step's work names; None where they are not known.
        inputs: The inputs fingerprint: by name the text of a number or a date, a keyed digest of all else. Empty where unknown.
        sources: The source texts of what `code` names beside the thunk, where they are small; not in lists.
        accepted: When `accept` gave it the fingerprints of that moment, in seconds since the epoch.
        uses_beyond: How many more such keys there are than `uses` names.
        exact: A digest of all that `code` is of, as Python compiled it; empty where unknown.
    """

    took_s: float
    awaitable: bool = False
    returned: bool = False
    ttl_s: float | None = None
    workflow: str | None = None
    place: Place = field(default_factory=Place)
    code: Mapping[str, str] = field(default_factory=dict[str, str])
    source: str | None = None
    uses: tuple[str, ...] = ()
    names: tuple[str, ...] | None = None
    inputs: Mapping[str, str] = field(default_factory=dict[str, str])
    sources: Mapping[str, str] = field(default_factory=dict[str, str])
    accepted: float | None = None
    uses_beyond: int = 0
    exact: str = ""


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a deletion did.

    Attributes:
        count: How many keys or entries are gone.
        lost: How many of them for good, as a full disk has no room for a trash.
        beside: How many of these entries stood beside another one of their key, as those of several signers do.
        keys: What was deleted by name, as far as it was not asked by name.
    """

    count: int
    lost: int = 0
    beside: int = 0
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Restored:
    """What an undo did, by key.

    Attributes:
        keys: What came back.
        of_others: Those of them under which there is nothing but what other signers wrote.
        damaged: What it left in the trash, as its bytes are damaged.
        nameless: How many more it left there, of which nothing tells the key.
        swapped: How many entries went to the trash in exchange.
    """

    keys: tuple[str, ...]
    of_others: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    nameless: int = 0
    swapped: int = 0

    def damaged_text(self) -> str:
        """What it left in the trash, as people name it; "" for nothing."""
        named = keys_text([key_text(key) for key in self.damaged])
        counted = plural(self.nameless, "entry whose key cannot be read", "entries whose key cannot be read")
        return " and ".join(filter(None, (named, counted if self.nameless else "")))


@dataclass(frozen=True, slots=True)
class Trashed:
    """An entry in the trash: when it went there, in seconds since the epoch, and which of its key it is: 1 went last."""

    meta: Meta
    at: float
    back: int


@dataclass(frozen=True, slots=True)
class ErrorText:
    """A kept error as text: `type` is "httpx.HTTPStatusError", `message` one redacted line, `traceback` the original's text."""

    type: str
    message: str
    traceback: str
    transient: bool = False


@record
class Meta:
    """Everything an entry says without being unpickled. All text in it is untrusted until the signature was checked.

    Attributes:
        key: The user's key.
        outcome: "ok" or "error".
        created: Seconds since the epoch; never in the future (clamped).
        size_bytes: The whole entry.
        type: "pandas.DataFrame"; for an error the exception's type.
        shape: "8,120 × 14", "3 items", or "".
        preview: Text made when it was kept, at most 1,000 characters; "" when previews are off.
        error: The error as text, None for a value.
        signer: Short id of the key that signed it, "a1b2c3d4".
        trusted: The signature was checked and is ours.
        python: "3.11".
        packages: Versions of the packages the pickle names.
        facts: What the step said of it.
        ahead_s: By how much its stamp was in the future when it was read.
        thumbnail: A small picture made when it was kept, PNG in base64; "" for none. Not in lists.
    """

    key: str
    outcome: Outcome
    created: float
    size_bytes: int
    type: str
    shape: str
    preview: str
    error: ErrorText | None
    signer: str
    trusted: bool
    python: str
    packages: Mapping[str, str]
    facts: Facts
    ahead_s: float = 0.0
    thumbnail: str = ""

    def ends_at(self, ttl_s: float, now: float) -> float:
        """When it has lived for `ttl_s` (C5); `now` where nobody can tell its age.

        A clock that was far ahead stamped it then: it may have been kept at any time, and by its stamp it would count as new
        until the clock has come so far. Clocks of several machines may differ a little.
        """
        ahead_s = max(self.ahead_s, self.created - now)  # read lately, it may still be of before the clock was set back
        return now if ahead_s > min(_SKEW_AT_MOST_S, ttl_s * _SKEW_OF_TTL) else self.created + ttl_s

    def is_kept_since(self, at: float) -> bool:
        """Whether it was kept at that time or later; not where a clock that was far ahead stamped it: that may be of any time."""
        return self.created >= at and self.ahead_s <= _SKEW_AT_MOST_S


@dataclass(frozen=True, slots=True)
class Hit:
    """An entry that may be used. `load()` gives the value, or for an error entry the `Err` holding it.

    `load` raises `Unreadable` where the bytes or the pickle turn out not to be usable; nothing is unpickled before digests match.
    An `Err` of a raised error holds an exception ready to raise; of a returned one, what the thunk returned. `mark` tells this
    entry from an earlier or later one of its key. Where the entry is far away, `fetch` gets its bytes, in any thread, and raises
    as `load` does; the next `load` then takes those, and waits for nothing.
    """

    meta: Meta
    load: Callable[[], Any]
    mark: bytes = b""
    fetch: Callable[[], None] | None = None


@record
class Miss:
    """No entry that may be used, and why. `detail` is one line for people."""

    reason: Reason
    detail: str | None = None


LookUp: TypeAlias = Hit | Miss


@record
class Kept:
    """The entry was published.

    Attributes:
        meta: As it is listed.
        evicted: The keys of those that made room for it.
        left_out: What of the result it does not hold, "" if it is whole.
        beside: Which of two stores did not take it, and why, for people; "" where both did.
        mark: Tells it from an earlier or later one of its key, as a `Hit`'s does.
    """

    meta: Meta
    evicted: tuple[str, ...] = ()
    left_out: str = ""
    beside: str = ""
    mark: bytes = b""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a worker tells of an entry that it kept: its mark, whose entries made room, which of two stores did not take it."""

    mark: bytes
    evicted: tuple[str, ...] = ()
    beside: str = ""


@dataclass(frozen=True, slots=True)
class NotKept:
    """Keeping failed; `why` is one line naming the cause and the culprit. The value is not affected.

    `kind` is "no-room" where the disk or the cache's own limit is the cause, "read-only" where nothing can be written:
    what helps one step helps all; "unreachable" where a store did not answer, now or a moment ago.
    """

    why: str
    kind: Literal["not-stored", "no-room", "read-only", "unreachable"] = "not-stored"


class Unreadable(Exception):  # noqa: N818 - never leaves nbstep; it turns into a Miss
    """An entry cannot be used after all; carries the miss's reason and detail."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason
        self.detail = detail
