"""What stands for an input's value: the text of a number or a date, a keyed digest of all else.

Equal content gives equal texts in every process; `1`, `True`, `"1"`, `1.0`, `[1]` and `(1,)` all differ. Work is bounded: of
what is large a fixed sample is read. No code of the user's runs: of an object that is not plain, a container, a record or an
estimator of scikit-learn, the type counts.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Any, Final

from nbstep.cache.trust import SigningKey
from nbstep.drift.encoding import MAX_ITEMS, Encoding, is_of_all
from nbstep.drift.scalars import SCALARS, scalar_of

_COMPARED: Final = frozenset({str, int, bool, type(None)})
_FLAT: Final = (list, tuple, dict)
_FEW: Final = 32
MAX_PLAIN_CHARS: Final = 255  # of a text


class Texts:
    """Makes the texts of inputs, with a user's own key: who reads one cannot try out what it is of.

    Args:
        key: What digests are keyed with, at most 64 bytes.

    >>> texts = Texts(b"secret")
    >>> [texts.of(value) for value in (1, True, 1.5, None)]
    ['1', 'True', '1.5', 'None']
    >>> texts.of({"a": 1, "b": [2]}) == texts.of({"b": [2], "a": 1})
    True
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.of_short = functools.lru_cache(maxsize=2048)(self._of_short)
        self._of_type = functools.lru_cache(maxsize=512)(self.digest)
        self._of_items = functools.lru_cache(maxsize=512)(self._of_items_anew)

    def of(self, value: object, paths: list[str] | None = None) -> str:
        """The text of a value; `paths` is given what in it may name a file."""
        return self.read(value, paths)[0]

    def read(self, value: object, paths: list[str] | None = None) -> tuple[str, bool]:
        """The same, and whether it is that of all values of this type."""
        scalar = SCALARS.get(type(value)) or scalar_of(value)
        text = scalar(value) if scalar is not None else None
        if text is not None:
            return text, False
        content = Encoding(paths).of(value, MAX_ITEMS, 0)
        if is_of_all(type(value), content):
            return self._of_type(content), True
        return self.digest(content), False

    def of_plain(self, value: Any) -> str | None:
        """The text of what is plain, a scalar or a short text; None of all else."""
        kind = type(value)
        if kind is str and len(value) <= MAX_PLAIN_CHARS:
            return self.of_short(value)
        scalar = SCALARS.get(kind)
        return scalar(value) if scalar is not None else None

    def of_flat(self, value: Any) -> str | None:
        """The same of a small list, tuple or dict of short texts, whole numbers and the like, mostly remembered; else None."""
        kind = type(value)
        if kind not in _FLAT or len(value) > _FEW:
            return None
        items = (*value, *value.values()) if kind is dict else tuple(value)
        kinds = (*map(type, items),)
        # Of floats some are equal that are not the same, such as 0.0 and -0.0.
        if not _COMPARED.issuperset(kinds):
            return None
        if str in kinds and any(type(item) is str and len(item) > MAX_PLAIN_CHARS for item in items):
            return None
        return self._of_items(kind, kinds, items)

    def digest(self, content: bytes) -> str:
        """A keyed digest of bytes."""
        return "#" + hashlib.blake2b(content, key=self._key, digest_size=12).hexdigest()

    def _of_items_anew(self, kind: type, _kinds: tuple[type, ...], items: tuple[Any, ...]) -> str:
        half = len(items) // 2
        return self.of(dict(zip(items[:half], items[half:], strict=True)) if kind is dict else kind(items))

    def _of_short(self, text: str) -> str:
        return self.digest(b"s" + text.encode("utf-8", "surrogatepass"))


@functools.lru_cache(maxsize=8)
def texts_of(secret: bytes) -> Texts:
    """What makes the texts of inputs with a user's secret."""
    return Texts(SigningKey(secret).sign("inputs:v1"))


def is_digest(text: str) -> bool:
    """Whether a text of an input is a digest; else people can read it."""
    return text.startswith("#")
