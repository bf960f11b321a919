"""What look-ups found changed since the entries were kept that they used all the same: today's fingerprints, for `accept`.

This process remembers them whole; the run log holds them as text, signed by the user: it is a file that anybody may have
written, and what it says becomes part of an entry.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

from nbstep.cache.records import Facts
from nbstep.cache.trust import SigningKey
from nbstep.forks import ThreadLock
from nbstep.stores.base import Store

LOGGED_CHARS: Final = 8192  # of one look-up in the run log; what is longer is known to its process only
_KEYS_AT_MOST: Final = 20_000
_MARK_BYTES: Final = 16
_MAC_CHARS: Final = 64
_PURPOSE: Final = "drifted:v1"


@dataclass(frozen=True, slots=True)
class Drifted:
    """One look-up that found something changed, as what is different from the entry it used.

    Attributes:
        mark: The beginning of the entry's signature.
        at: When it was, in seconds since the epoch.
        drift: What changed, for people.
        code: Of the code fingerprint, by name what is another now; None for what is gone.
        inputs: The same of the inputs fingerprint.
        names: The functions and attributes that the step's work names now; None where they are not known.
        sources: The source texts of now by name, the thunk's own under ""; None where they are not known.
        paths: The paths of files by the names that stand for them in `inputs`.
    """

    mark: bytes
    at: float
    drift: str
    code: Mapping[str, str | None]
    inputs: Mapping[str, str | None]
    names: tuple[str, ...] | None = None
    sources: Mapping[str, str] | None = None
    paths: Mapping[str, str] = field(default_factory=dict[str, str])

    def is_of(self, mark: bytes) -> bool:
        """Whether it used the entry of this signature."""
        return mark[:_MARK_BYTES] == self.mark

    def is_news(self, created: float, facts: Facts) -> bool:
        """Whether an entry was neither kept nor accepted since."""
        return self.at >= created and (facts.accepted is None or self.at > facts.accepted)

    def today(self, facts: Facts) -> Facts:
        """What the entry would say of its step if it was kept now.

        Where the source texts of now are not known, those of what changed are left out.
        """
        source, sources = facts.source, facts.sources
        if self.sources is not None:
            sources = {name: text for name, text in self.sources.items() if name}
            source = self.sources.get("")
        elif self.code:
            sources = {name: text for name, text in sources.items() if name not in self.code}
            source = None if "" in self.code else source
        return replace(
            facts,
            code=_changed(facts.code, self.code),
            inputs=_changed(facts.inputs, self.inputs),
            names=facts.names if self.names is None else self.names,
            source=source,
            sources=sources,
            exact="" if self.code else facts.exact,
        )

    def logged(self, key: str, signing_key: SigningKey) -> str | None:
        """Its digests as signed text for the run log, None where it would be long."""
        said = [self.mark.hex(), self.code, self.inputs, self.names]
        text = json.dumps(said, separators=(",", ":"))
        if len(text) + _MAC_CHARS > LOGGED_CHARS:
            return None
        return _mac(key, text, signing_key).hex() + text


def differences(kept: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str | None]:
    """What of a fingerprint is another now, by name; None for what is gone.

    >>> differences({"a": "1", "b": "2"}, {"a": "1", "b": "3"}), differences({"a": "1"}, {})
    ({'b': '3'}, {'a': None})
    """
    changed: dict[str, str | None] = {name: text for name, text in now.items() if kept.get(name) != text}
    return changed | dict.fromkeys(kept.keys() - now.keys())


def _changed(kept: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    return {name: text for name, text in {**kept, **changes}.items() if text is not None}


def from_log(logged: str, key: str, drift: str, at: float, signing_key: SigningKey) -> Drifted | None:
    """What the run log says of a look-up; None where the user did not sign it, or not for this key."""
    mac, text = logged[:_MAC_CHARS], logged[_MAC_CHARS:]
    try:
        if not signing_key.verifies(_PURPOSE, *_signed(key, text), bytes.fromhex(mac)):
            return None
        mark, code, inputs, names = json.loads(text)
        known = None if names is None else tuple(cast("list[str]", names))
        return Drifted(bytes.fromhex(mark), at, drift, code, inputs, known)
    except (ValueError, TypeError):
        return None  # another version of nbstep wrote it


def _mac(key: str, text: str, signing_key: SigningKey) -> bytes:
    return signing_key.sign(_PURPOSE, *_signed(key, text))


def _signed(key: str, text: str) -> tuple[bytes, bytes]:
    name = key.encode("utf-8", "surrogatepass")
    return len(name).to_bytes(4, "little") + name, text.encode("ascii", "backslashreplace")


# By cache, then by key, of this process.
_known: Final[dict[Hashable, dict[str, Drifted]]] = {}
_lock: Final = ThreadLock()


def remember(store: Store, key: str, found: Drifted) -> None:
    """Remembers the last look-up of a key; the oldest make room."""
    with _lock:
        known = _known.setdefault(_scope(store), {})
        known.pop(key, None)
        known[key] = found
        if len(known) > _KEYS_AT_MOST:
            del known[next(iter(known))]


def forget(store: Store, key: str) -> None:
    """Its last look-up found nothing changed."""
    if _known:  # most processes never see an old value
        with _lock:
            _known.get(_scope(store), {}).pop(key, None)


def known_of(store: Store) -> Mapping[str, Drifted]:
    """What this process knows of a store's keys."""
    with _lock:
        return dict(_known.get(_scope(store), {}))


def _scope(store: Store) -> Hashable:
    return store.directory or cast("Any", weakref.ref(store))


def short_mark(mark: bytes) -> bytes:
    """What stands for an entry's signature here."""
    return mark[:_MARK_BYTES]
