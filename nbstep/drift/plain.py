"""Values whose text is the same in every process."""

from __future__ import annotations

from typing import Final

PLAIN: Final = frozenset({type(None), str, int, float, bool, bytes, complex})


def is_plain(value: object) -> bool:
    """Whether a value's text is the same in every process."""
    if isinstance(value, (tuple, frozenset)):
        return all(is_plain(item) for item in value)
    return type(value) in PLAIN
