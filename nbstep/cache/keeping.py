"""From a result to an entry's metadata and content, and back."""

from __future__ import annotations

import functools
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from nbstep.cache import entry
from nbstep.cache.keptcell import KEPT_CELL_TYPE, KeptCell
from nbstep.cache.plainparts import plain_parts
from nbstep.cache.previews import preview_text, shape_text, type_text
from nbstep.cache.records import ErrorText, Facts, Meta, Unreadable
from nbstep.cache.secrets.redaction import redact_text
from nbstep.cache.thumbnails import thumbnail_of
from nbstep.foreign import interrupts
from nbstep.result import Err, Ok
from nbstep.stores.base import Part

if TYPE_CHECKING:
    from nbstep.cache.serializer import Serialized

_SOURCE_CHARS: Final = 4096


@dataclass(frozen=True, slots=True)
class Keeper:
    """Makes entries out of results.

    Attributes:
        previews: Whether the beginning of each value is kept as text, and a small picture of a figure or an image.
        redact: The user's own redaction.
    """

    previews: bool
    redact: Callable[[str], str] | None

    def prepare(
        self, key: str, result: Ok[Any] | Err[Any], facts: Facts, now: float, made_by: Any = None
    ) -> tuple[Meta, entry.Content]:
        """An entry's metadata and content; unsigned yet.

        Args:
            key: The user's key.
            result: What the thunk gave, or its error.
            facts: What the step knows of it.
            now: Seconds since the epoch.
            made_by: The thunk; where an error is kept, it is looked at for secrets that the error may tell.

        Raises:
            Exception: The result cannot be kept; `why_not` says why.
        """
        facts = self.shown(facts)
        if isinstance(result, Ok):
            return self._value(key, facts, now, result.value)
        error = result.error
        if not isinstance(error, BaseException):
            return self._returned(key, facts, now, error, made_by)
        if not isinstance(error, Exception):
            raise TypeError(f"a {type(error).__name__} is never kept")
        return self._failure(key, facts, now, error, made_by)

    def shown(self, facts: Facts) -> Facts:
        """The same facts, their source texts without secrets."""
        if facts.source is None and not facts.sources:
            return facts
        source = None if facts.source is None else self.source(facts.source)
        sources = facts.sources and {name: self.source(text) for name, text in facts.sources.items()}
        if source == facts.source and sources == facts.sources:  # mostly there is no secret in it
            return facts
        return replace(facts, source=source, sources=sources)

    def unpack(self, head: entry.Head, stream: bytes, buffers: Sequence[Part] = ()) -> Any:
        """A fresh value out of verified bytes, or for an error entry the `Err` holding it.

        Raises:
            Unreadable: It cannot be unpickled here.
        """
        if head.payload == "failure":
            from nbstep.cache.failures import failure  # with cloudpickle 50 ms: only where an error is kept or loaded

            error = head.meta.error
            return Err(failure.rebuild(stream, error or ErrorText(head.meta.type, "", "")))
        try:
            value = pickle.loads(stream, buffers=buffers)
        except interrupts():
            raise
        except BaseException as error:
            raise _unloadable(head.meta, error) from error
        return value if head.payload == "value" else Err(value)

    def why_not(self, error: BaseException, place: str) -> str:
        """One line for `NotKept`."""
        text = " ".join(str(getattr(error, "strerror", None) or error).split())
        if type(error).__name__ in {"NotSerializable", "NoRoom", "ReadOnly", "TooMuchText", "ForeignValue"}:
            return self.redacted(text)
        return self.redacted(f"{place} did not take it: {type(error).__name__}: {text[:300]}")

    def _value(self, key: str, facts: Facts, now: float, value: Any) -> tuple[Meta, entry.Content]:
        from nbstep.cache.serializer import Serialized, serialize  # as in unpack()

        plain = plain_parts(value) if self.redact is None and self.previews else None
        if plain is not None:
            serialized = Serialized(plain[1], [], {}, by_value=False)
            return _described(key, facts, now, value, serialized, "value", plain[0])
        serialized = serialize(value)
        thumbnail = thumbnail_of(value, _size(serialized)) if self.previews else ""
        preview = self._preview(value, self.redacted)
        return _described(key, facts, now, value, serialized, "value", preview, thumbnail=thumbnail)

    def _returned(self, key: str, facts: Facts, now: float, error: Any, made_by: Any) -> tuple[Meta, entry.Content]:
        from nbstep.cache.failures import returned  # as in unpack()

        serialized, shown = returned.take_returned(error, self.redact, made_by)
        text = ErrorText(type_text(error), " ".join(shown(preview_text(error, shown)).split())[:500], "")
        facts, preview = _facts_shown(facts, shown), self._preview(error, shown)
        return _described(key, facts, now, error, serialized, "returned", preview, error=text)

    def _preview(self, value: Any, shown: Callable[[str], str]) -> str:
        return shown(preview_text(value, shown)) if self.previews else ""

    def _failure(
        self, key: str, facts: Facts, now: float, error: Exception, made_by: Any
    ) -> tuple[Meta, entry.Content]:
        from nbstep.cache import serializer  # as in unpack()
        from nbstep.cache.failures import failure  # as in unpack()

        taken = failure.take_apart(error, self.redact, made_by)
        packages = serializer.package_versions(set(taken.modules))
        meta = _meta(key, _facts_shown(facts, taken.shown), now, taken.text.type, packages, error=taken.text)
        return meta, entry.Content("failure", taken.stream, (), by_value=False, left_out=taken.left_out)

    def source(self, text: str) -> str:
        """A source text without secrets."""
        text = _redacted_source(text)
        return (text if self.redact is None else str(self.redact(text)))[:_SOURCE_CHARS].rstrip()

    def redacted(self, text: str) -> str:
        """Text without secrets, by the built-in rules and the user's own."""
        text = redact_text(text)
        return text if self.redact is None else str(self.redact(text))


def _described(
    key: str, facts: Facts, now: float, value: Any, serialized: Serialized, payload: entry.Payload, preview: str,
    error: ErrorText | None = None, thumbnail: str = "",
) -> tuple[Meta, entry.Content]:  # fmt: skip
    is_cell = isinstance(value, KeptCell)
    said, shape = (KEPT_CELL_TYPE, value.shape()) if is_cell else (type_text(value), shape_text(value))
    meta = _meta(key, facts, now, said, serialized.packages, shape, preview, error, thumbnail)
    return meta, entry.Content(payload, serialized.stream, serialized.buffers, serialized.by_value)


def _meta(
    key: str, facts: Facts, now: float, said: str, packages: Mapping[str, str], shape: str = "", preview: str = "",
    error: ErrorText | None = None, thumbnail: str = "",
) -> Meta:  # fmt: skip
    """The metadata of an entry that is not signed yet."""
    return Meta(
        key, "ok" if error is None else "error", now, 0, said, shape, preview, error, "", True, entry.PYTHON, packages,
        facts, 0.0, thumbnail,
    )  # fmt: skip


def _size(serialized: Serialized) -> int:
    return len(serialized.stream) + sum(map(len, serialized.buffers))


@functools.lru_cache(maxsize=1024)
def _redacted_source(text: str) -> str:
    return redact_text(text)  # a hundred steps of one function have one text


def _facts_shown(facts: Facts, shown: Callable[[str], str]) -> Facts:
    """What an error's entry may say of its step; an input that was sent as a secret is left out, so it is unknown, not changed."""
    source = None if facts.source is None else shown(facts.source)
    inputs = {name: text for name, text in facts.inputs.items() if shown(text) == text}
    return replace(facts, source=source, sources={}, inputs=inputs)


def _unloadable(meta: Meta, error: BaseException) -> Unreadable:
    """Why verified bytes did not become a value: most often another version of a package."""
    from nbstep.cache import serializer  # as in unpack()

    now = serializer.package_versions(set(meta.packages))
    changed = [
        f"{name} {then} then, {now.get(name, 'none')} now"
        for name, then in meta.packages.items()
        if now.get(name) != then
    ]
    if meta.python != entry.PYTHON:
        changed.append(f"Python {meta.python} then, {entry.PYTHON} now")
    problem = redact_text(re.sub(r"\s+", " ", f"{type(error).__name__}: {error}")[:300])
    if changed:
        return Unreadable("incompatible", f"{'; '.join(changed)}: {problem}")
    return Unreadable("unreadable", f"it cannot be loaded: {problem}")
