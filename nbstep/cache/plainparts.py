"""Values made of plain parts alone, as what JSON gives: their stream and their preview, in a fraction of the calls."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from io import BytesIO
from itertools import islice
from typing import Any, Final, NoReturn

from nbstep.cache.heads import READ_CHARS
from nbstep.cache.previews import ATOMS, DIGITS, ITEMS, LEVELS, PAIRS, TEXT_CHARS, cut
from nbstep.cache.secrets.redaction import is_harmless, redact_text

_BYTES_AT_MOST: Final = 1 << 15  # of the stream
_TEXT_CHARS_AT_MOST: Final = 4096  # of the preview, before it is cut
_SHORT_INT: Final = 10 ** (DIGITS - 1)
_ATOMS: Final = ATOMS - {complex}  # whose class pickle asks
_SCALARS: Final = _ATOMS | {str, int}
_BRACKETS: Final[dict[type, str]] = {list: "[]", tuple: "()", dict: "{}"}


class _Odd(Exception):  # noqa: N818 - the name says what happened
    """A part that is not plain, or too much of them."""


class _Pickler(pickle.Pickler):
    """Takes what pickle knows by itself, nothing that a class or a function would be asked for."""

    def reducer_override(self, obj: Any) -> NoReturn:  # noqa: ARG002 - pickle's signature
        raise _Odd


class _Stream:
    """The beginning of a stream."""

    def __init__(self) -> None:
        self.content = b""

    def write(self, content: Any) -> None:
        """Takes what the pickler gives; looked at before it is copied, as a large text or bytes come in one piece."""
        if len(self.content) + len(content) > _BYTES_AT_MOST:
            raise _Odd
        self.content += content


def plain_stream(value: Any) -> bytes | None:
    """The pickle stream of a value of plain parts alone; None of any other, and of one that is large.

    >>> plain_stream({"n": [1, 2.5, None, "x"]}) == pickle.dumps({"n": [1, 2.5, None, "x"]}, 5)
    True
    >>> plain_stream([len]), plain_stream([object()]), plain_stream("x" * 100_000)
    (None, None, None)
    """
    stream = _Stream()
    try:
        _Pickler(stream, 5).dump(value)
    except (_Odd, RecursionError, RuntimeError, pickle.PicklingError):  # or another thread changed it meanwhile
        return None
    return stream.content


def plain_parts(value: Any) -> tuple[str, bytes] | None:
    """The preview, without secrets, of a value of plain parts alone, and its stream; None of any other, and of one that is large.

    Where nothing in the text of the whole hints at a secret, its parts need no look of their own: what is in one is in that too.

    >>> plain_parts({"n": 5, "tags": ["a", None]})[0], plain_parts([0] * 14)[0], plain_parts({"password": "letmein"})[0]
    ("{'n': 5, 'tags': ['a', None]}", '[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ...]', "{'password': '<redacted>'}")
    """
    cuts: list[str] = []  # the beginnings of texts that are cut: of half a secret nobody sees what it is
    try:
        if (text := _of_flat(value)) is not None and is_harmless(text):  # as most are
            stream = BytesIO()
            _Pickler(stream, 5).dump(value)
            return text, stream.getvalue()
        text = _text(value, LEVELS, cuts)
        if len(text) > _TEXT_CHARS_AT_MOST:
            return None
        preview = cut(text)
        if not is_harmless("\n".join((text, *cuts)) if cuts else text):
            preview = redact_text(cut(redact_text(_text(value, LEVELS, None))))
    except (_Odd, RuntimeError, pickle.PicklingError):  # another thread put something else into it
        return None
    stream = plain_stream(value)
    return None if stream is None else (preview, stream)


def _text(value: Any, levels: int, cuts: list[str] | None) -> str:
    """The text as it is, `cuts` given the beginnings of what is cut; without it each text in it is looked at, and redacted."""
    kind = type(value)
    if kind is str:
        return _of_text(value, cuts)
    if kind in _ATOMS or (kind is int and _is_short(value)):
        return repr(value)
    if kind is bytes:
        text = _looked_at(repr(value[:READ_CHARS])[:READ_CHARS], cuts)
        return text if len(text) <= TEXT_CHARS else text[:TEXT_CHARS] + "…"
    brackets = _BRACKETS.get(kind)
    if brackets is None:
        raise _Odd
    if not value:
        return brackets
    if levels <= 0:
        return "{…}" if kind is dict else f"{brackets[0]}...{brackets[1]}"
    return _of_dict(value, levels - 1, cuts) if kind is dict else _of_items(value, brackets, levels - 1, cuts)


def _of_text(value: str, cuts: list[str] | None) -> str:
    text = value if cuts is not None and len(value) <= TEXT_CHARS else _looked_at(value[:READ_CHARS], cuts)
    return repr(text) if len(text) <= TEXT_CHARS else repr(text[:TEXT_CHARS])[:-1] + "…'"


def _looked_at(text: str, cuts: list[str] | None) -> str:
    if cuts is None:
        return redact_text(text)
    cuts.append(text)
    return text


def _of_dict(value: dict[Any, Any], levels: int, cuts: list[str] | None) -> str:
    shown = value if len(value) <= PAIRS else dict(islice(value.items(), PAIRS))
    text = None if cuts is None else _of_scalars(shown, (*shown, *shown.values()))
    if text is None:
        pairs = [f"{_text(key, levels, cuts)}: {_text(held, levels, cuts)}" for key, held in shown.items()]
        text = "{" + ", ".join(pairs) + "}"
    return text if shown is value else f"{text[:-1]}, …}}"


def _of_items(value: Any, brackets: str, levels: int, cuts: list[str] | None) -> str:
    shown = value if len(value) <= ITEMS else value[:ITEMS]
    text = None if cuts is None else _of_scalars(shown, shown)
    if text is None:
        text = ", ".join([_text(item, levels, cuts) for item in shown])
        text = f"({text},)" if brackets == "()" and len(shown) == 1 else f"{brackets[0]}{text}{brackets[1]}"
    return text if shown is value else f"{text[:-1]}, ...{brackets[1]}"


def _of_flat(value: Any) -> str | None:
    """The same of a small dict or list of scalars; None of anything else."""
    kind = type(value)
    if kind is dict:
        return _of_scalars(value, (*value, *value.values())) if 0 < len(value) <= PAIRS else None
    return _of_scalars(value, value) if kind is list and 0 < len(value) <= ITEMS else None


def _of_scalars(value: Any, parts: Sequence[Any]) -> str | None:
    """The `repr` of what holds scalars alone, all so short that none is cut; None of anything else."""
    kinds = set(map(type, parts))
    if not kinds <= _SCALARS:
        return None
    text = repr(value)
    if len(text) <= DIGITS or (len(text) <= TEXT_CHARS and (int not in kinds or all(map(_is_short, parts)))):
        return text
    return None


def _is_short(part: Any) -> bool:
    return type(part) is not int or -_SHORT_INT < part < _SHORT_INT
