"""The entry: one signed container of header, pickle stream and buffers. The layout is this package's file format.

    magic and version, 8 bytes · header length, 4 bytes little-endian · header, JSON in ASCII · HMAC-SHA256, 32 bytes ·
    pickle stream · zeros up to a page · buffer · zeros up to a page · buffer …

The file ends with its last buffer, or with the stream. The HMAC covers magic, length and header; the header holds the
digests of everything else.
"""

from __future__ import annotations

import json
import os
import platform
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from nbstep.cache.factstext import facts_text, facts_with
from nbstep.cache.records import ErrorText, Facts, Meta, Unreadable
from nbstep.cache.trust import Signature, SigningKey
from nbstep.events import Outcome, Place
from nbstep.frozen import record
from nbstep.jsontext import mapping, number, quoted, truth
from nbstep.stores.base import FAMILY, Document, Part

if TYPE_CHECKING:
    import blake3

MAGIC: Final = FAMILY + b"1\n"
HEADER_BYTES_AT_MOST: Final = 1 << 20
PAGE: Final = 4096
PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
_LENGTH: Final = struct.Struct("<I")
_PREFIX_BYTES: Final = len(MAGIC) + _LENGTH.size
_MAC_BYTES: Final = 32
_PURPOSE: Final = "entry:v1"
FIRST_READ_BYTES: Final = 4096
_ALGORITHMS: Final = {"digest": "blake3", "mac": "hmac-sha256", "serializer": "cloudpickle-5"}
_LATER: Final = frozenset(
    {"names", "inputs", "sources", "accepted", "uses_beyond", "exact"}
)  # of the facts: not in older entries
_PLATFORM: Final = f"{sys.platform}-{platform.machine()}-{sys.byteorder}"
_JSON: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), check_circular=False)
_HERE: Final = f'"abi":{_JSON.encode(sys.implementation.cache_tag)},"platform":{quoted(_PLATFORM)}'
_WRITTEN_WITH: Final = _JSON.encode(_ALGORITHMS)[1:-1]
_parse: Final = json.JSONDecoder().raw_decode  # without the search for white space around it that `loads` makes
_NAMED: Final = itemgetter(*_ALGORITHMS)
_TEXT: Final = {str}
_TEXTS: Final = itemgetter("key", "type", "shape", "preview", "signer", "python")
_FACTS: Final = itemgetter(*(name for name in Facts.__dataclass_fields__ if name not in _LATER))
_PLACE: Final = itemgetter(*Place.__dataclass_fields__)
_VALUES: Final = tuple(_ALGORITHMS.values())
_FIRST_PROCESS: Final = os.getpid()

Payload: TypeAlias = Literal["value", "returned", "failure"]


@record
class Content:
    """What an entry carries besides its metadata.

    Attributes:
        payload: How the stream is to be read: a value, the error a thunk returned, or the record of an exception.
        stream: The pickle stream.
        buffers: Its out-of-band buffers.
        by_value: The stream holds the code of functions or classes, which only this Python version can read.
        left_out: What of the result is not in it, for people; it is not written.
    """

    payload: Payload
    stream: Part
    buffers: Sequence[Part]
    by_value: bool
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """Where a part of the payload stands, and its digest."""

    at: int
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Head:
    """A header that was read: what it says, and where the rest stands; `mark` is its signature, another one for each entry."""

    meta: Meta
    payload: Payload
    by_value: bool
    sections: tuple[Section, ...]
    mark: bytes = b""


class TooMuchText(ValueError):  # noqa: N818 - the name says what happened
    """The metadata of an entry does not fit into its header."""


def encode(meta: Meta, content: Content, key: SigningKey) -> list[Part]:
    """The entry as parts to write one after the other; `meta.signer`, `trusted` and `size_bytes` are not read.

    Raises:
        TooMuchText: The header would be larger than a reader accepts.
    """
    error = "null" if meta.error is None else _JSON.encode(_shallow(meta.error))
    buffers = _JSON.encode([[len(buffer), _digest(buffer)] for buffer in content.buffers]) if content.buffers else "[]"
    thumbnail = f',"thumbnail":{quoted(meta.thumbnail)}' if meta.thumbnail else ""
    header = _header(
        quoted(meta.key), meta.outcome, content.payload, truth(content.by_value), number(meta.created), quoted(meta.type),
        quoted(meta.shape), quoted(meta.preview), error, quoted(meta.python), mapping(meta.packages), facts_text(meta.facts),
        str(len(content.stream)), _digest(content.stream), buffers, thumbnail, key.id,
    )  # fmt: skip
    return lay_out(_signed(header, key.begun(_PURPOSE)), content.stream, content.buffers)


def _header(
    name: str, outcome: Outcome, payload: Payload, by_value: str, created: str, said: str, shape: str, preview: str,
    error: str, python: str, packages: str, facts: str, size: str, digest: str, buffers: str, thumbnail: str, signer: str,
) -> str:  # fmt: skip
    """The header's text, of what it says in JSON."""
    return (
        f'{{"key":{name},"outcome":"{outcome}","payload":"{payload}",'
        f'"by_value":{by_value},"created":{created},"type":{said},'
        f'"shape":{shape},"preview":{preview},"error":{error},'
        f'"python":{python},{_HERE},"packages":{packages},"facts":{facts},'
        f'"stream":[{size},"{digest}"],"buffers":{buffers},'
        f'{_WRITTEN_WITH}{thumbnail},"signer":"{signer}"}}'
    )


class Outline:
    """The headers of entries of plain values that one function gave, but for what each says of its own.

    Args:
        facts: What all of them say of their step; its time and inputs do not count.
        key: The user's key.
    """

    __slots__ = ("_begun", "_between", "_blake3")

    def __init__(self, facts: Facts, key: SigningKey) -> None:
        hole = "\0"  # which no JSON has
        header = _header(
            hole, "ok", "value", "false", hole, hole, hole, hole, "null", quoted(PYTHON), "{}", facts_with(facts, hole, hole),
            hole, hole, "[]", "", key.id,
        )  # fmt: skip
        self._between: Final = header.split(hole)
        self._begun: Final = key.begun(_PURPOSE)
        self._blake3: Final = _blake3()

    def entry(
        self, name: str, created: float, said: str, shape: str, preview: str, took_s: float, inputs: Mapping[str, str],
        stream: bytes,
    ) -> list[Part]:  # fmt: skip
        """As `encode`, of such a small value; `name` is the user's key.

        Raises:
            TooMuchText: The header would be larger than a reader accepts.
        """
        a, b, c, d, e, f, g, h, i, j = self._between
        header = (
            f"{a}{quoted(name)}{b}{number(created)}{c}{quoted(said)}{d}{quoted(shape)}{e}{quoted(preview)}"
            f"{f}{number(took_s)}{g}{mapping(inputs)}{h}{len(stream)}{i}{self._blake3(stream).hexdigest()}{j}"
        )
        return [_signed(header, self._begun), stream]


def lay_out(signed_header: bytes, stream: Part, buffers: Sequence[Part]) -> list[Part]:
    """The whole entry as parts to write one after the other."""
    parts: list[Part] = [signed_header, stream]
    at = len(signed_header) + len(stream)
    for buffer in buffers:
        pad = -at % PAGE
        parts += [bytes(pad), buffer]
        at += pad + len(buffer)
    return parts


def with_facts(fields: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """The fields of a header that says something else of its step."""
    return {**fields, "facts": _parse(facts_text(facts))[0]}


def sign_header(fields: Mapping[str, Any], key: SigningKey) -> bytes:
    """Magic, length, header and signature.

    Raises:
        TooMuchText: The header would be larger than a reader accepts.
    """
    return _signed(_JSON.encode({**fields, "signer": key.id}), key.begun(_PURPOSE))


def _signed(text: str, begun: Signature) -> bytes:
    header = text.encode("ascii")
    if len(header) > HEADER_BYTES_AT_MOST:
        raise TooMuchText(f"its metadata takes {len(header):,} bytes, {HEADER_BYTES_AT_MOST:,} are allowed")
    signed = MAGIC + _LENGTH.pack(len(header)) + header
    signature = begun.copy()
    signature.update(signed)
    return signed + signature.digest()


@dataclass(frozen=True, slots=True)
class SignedHeader:
    """An entry's beginning as it was read, once: what is said of it later is said of these bytes."""

    signed: bytes
    mac: bytes
    fields: Mapping[str, Any]


def read_head(document: Document, key: SigningKey, now: float) -> Head:
    """Reads and checks an entry's header; unpickles nothing. See `head_of`."""
    return head_of(read_header(document), key, document.size_bytes, now)


def read_header(document: Document) -> SignedHeader:
    """The raw header, whoever signed it.

    Raises:
        Unreadable: It is no entry.
    """
    signed, mac = _read_signed(document)
    try:
        text = signed[_PREFIX_BYTES:].decode("ascii")
        fields, end = _parse(text)
        if end != len(text):
            raise ValueError("something follows it")
        return SignedHeader(signed, mac, fields)
    except (ValueError, RecursionError) as error:
        raise Unreadable("unreadable", f"its header is damaged ({error})") from None


def head_of(header: SignedHeader, key: SigningKey, size_bytes: int, now: float) -> Head:
    """What a header says, checked.

    An entry of another signer is read as well, with `meta.trusted` False: its text is to be shown with care, its payload
    must not be loaded.

    Args:
        header: The header.
        key: The user's key.
        size_bytes: Of the whole entry.
        now: Seconds since the epoch; a later `created` counts as now.

    Raises:
        Unreadable: It is damaged, or of another format.
    """
    trusted = key.verifies(_PURPOSE, header.signed, header.mac)
    try:
        head = _read_fields(header, trusted, size_bytes, now)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Unreadable("unreadable", f"its header is damaged ({error})") from None
    if not trusted and head.meta.signer == key.id:
        raise Unreadable(
            "unreadable", "its signature does not match: the entry is damaged, or somebody else changed it"
        )
    if trusted:
        check_length(head)
    return head


def check_length(head: Head) -> None:
    """Raises `Unreadable` where an entry does not end where its header says."""
    last = head.sections[-1]
    if last.at + last.size != head.meta.size_bytes:
        raise Unreadable("unreadable", f"it has {head.meta.size_bytes:,} bytes instead of {last.at + last.size:,}")


def read_payload(document: Document, head: Head) -> tuple[bytes, list[memoryview]]:
    """The pickle stream and the buffers, checked against their digests.

    Raises:
        Unreadable: They are damaged.
    """
    check_length(head)
    try:
        return _checked_payload(document, head)
    except (OSError, EOFError) as error:
        raise Unreadable("unreadable", f"it cannot be read ({error})") from error


def _checked_payload(document: Document, head: Head) -> tuple[bytes, list[memoryview]]:
    stream_section, *buffer_sections = head.sections
    stream = document.read(stream_section.at, stream_section.size)
    if _digest(stream) != stream_section.digest:
        raise Unreadable("unreadable", "its content does not match its digest: the entry is damaged")
    buffers = document.buffers([(section.at, section.size) for section in buffer_sections])
    end = stream_section.at + stream_section.size
    for section, buffer in zip(buffer_sections, buffers, strict=True):
        if any(document.read(end, section.at - end)) or _digest(buffer) != section.digest:
            raise Unreadable("unreadable", "its content does not match its digest: the entry is damaged")
        end = section.at + section.size
    return stream, buffers


def _read_signed(document: Document) -> tuple[bytes, bytes]:
    begin = document.read(0, FIRST_READ_BYTES)  # nearly always the whole header: one read instead of two
    prefix = begin[:_PREFIX_BYTES]
    if not prefix.startswith(MAGIC):
        if prefix.startswith(FAMILY):
            raise Unreadable("incompatible", "another version of nbstep wrote it")
        raise Unreadable("unreadable", "it is no entry of nbstep" if prefix else "it is empty")
    if len(prefix) < _PREFIX_BYTES:
        raise Unreadable("unreadable", "it ends within its header")
    (length,) = _LENGTH.unpack(prefix[len(MAGIC) :])
    if length > HEADER_BYTES_AT_MOST:
        raise Unreadable("unreadable", "its header is too long")
    end = _PREFIX_BYTES + length
    if len(begin) < end + _MAC_BYTES:
        begin += document.read(len(begin), end + _MAC_BYTES - len(begin))
    if len(begin) < end + _MAC_BYTES:
        raise Unreadable("unreadable", "it ends within its header")
    return begin[:end], begin[end : end + _MAC_BYTES]


def _read_fields(header: SignedHeader, trusted: bool, size_bytes: int, now: float) -> Head:
    """Everything the header says, each field checked: an entry of a stranger may say anything.

    Every entry of a listing comes here, so it makes as few calls as it can.
    """
    fields: Any = header.fields
    if _NAMED(fields) != _VALUES:
        name = next(name for name, expected in _ALGORITHMS.items() if fields[name] != expected)
        raise Unreadable("incompatible", f"it was written with {name} {_text(fields[name])!r}")
    outcome: Outcome = _one_of(fields["outcome"], ("ok", "error"))
    error = fields["error"]
    key, type_, shape, preview, signer, python = _all_texts(_TEXTS(fields))
    created, packages, facts = _number(fields["created"]), _texts(fields["packages"]), _facts(fields["facts"])
    meta = Meta(
        key, outcome, min(created, now), size_bytes, type_, shape, preview, None if error is None else _error_text(error), signer,
        trusted, python, packages, facts, max(0.0, created - now), _text(fields.get("thumbnail", "")),
    )  # fmt: skip
    sections = _sections([fields["stream"], *fields["buffers"]], len(header.signed) + len(header.mac))
    payload: Payload = _one_of(fields["payload"], ("value", "returned", "failure"))
    return Head(meta, payload, fields["by_value"] is True, tuple(sections), header.mac)


def _sections(described: Iterable[Any], begin: int) -> list[Section]:
    sections: list[Section] = []
    at = begin
    for size, digest in described:
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 60:
            raise ValueError("a size is out of range")
        if sections:
            at += -at % PAGE
        sections.append(Section(at, size, _text(digest)))
        at += size
    return sections


def _shallow(record: ErrorText) -> dict[str, Any]:
    """The fields of a record; `asdict` copies everything in them, which takes longer than writing the file."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def _facts(fields: Any) -> Facts:
    took_s, awaitable, returned, ttl_s, workflow, place, code, source, uses = _FACTS(fields)
    notebook, cell, line = _PLACE(place)
    names, accepted, beyond = fields.get("names"), fields.get("accepted"), fields.get("uses_beyond", 0)
    return Facts(
        max(0.0, _number(took_s)),
        awaitable is True,
        returned is True,
        None if ttl_s is None else _number(ttl_s),
        None if workflow is None else _text(workflow),
        Place(
            None if notebook is None else _text(notebook),
            None if cell is None else int(cell),
            None if line is None else int(line),
        ),
        _texts(code),
        None if source is None else _text(source),
        _all_texts(tuple(uses)),
        None if names is None else _all_texts(tuple(names)),
        _texts(fields.get("inputs", {})),
        _texts(fields.get("sources", {})),
        None if accepted is None else _number(accepted),
        beyond if type(beyond) is int and beyond > 0 else 0,
        _text(fields.get("exact", "")),
    )


def _error_text(fields: Any) -> ErrorText:
    texts = (_text(fields[name]) for name in ("type", "message", "traceback"))
    return ErrorText(*texts, transient=fields["transient"] is True)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is missing")
    return value


def _all_texts(values: tuple[Any, ...]) -> tuple[str, ...]:
    if values and set(map(type, values)) != _TEXT:
        raise TypeError("a text is missing")
    return values


def _texts(value: Any) -> dict[str, str]:
    if value or not isinstance(value, dict):
        _all_texts((*value.keys(), *value.values()))
    return value


def _number(value: Any) -> float:
    if type(value) is float and -1e15 < value < 1e15:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
        raise TypeError("a number is missing")
    return float(value)


def _one_of(value: Any, allowed: tuple[str, ...]) -> Any:
    if value not in allowed:
        raise ValueError(f"{_text(value)!r} is unknown")
    return value


def _blake3() -> type[blake3.blake3]:
    import blake3  # 3 ms, needed only where something is kept or loaded

    return blake3.blake3


def _digest(part: Part) -> str:
    make = _blake3()
    # A forked child has none of the threads that its parent's pool had, and would wait for them for ever.
    threads = make.AUTO if len(part) > 1 << 20 and os.getpid() == _FIRST_PROCESS else 1
    return make(part, max_threads=threads).hexdigest()


def mark_of(parts: Sequence[Part]) -> bytes:
    """What `Head.mark` will be of an entry that is about to be written."""
    return bytes(parts[0][-_MAC_BYTES:])


def published(meta: Meta, signer: str, size_bytes: int) -> Meta:
    """The metadata as a reader of the published entry sees it."""
    return Meta(
        meta.key, meta.outcome, meta.created, size_bytes, meta.type, meta.shape, meta.preview, meta.error, signer, True,
        meta.python, meta.packages, meta.facts, meta.ahead_s, meta.thumbnail,
    )  # fmt: skip
