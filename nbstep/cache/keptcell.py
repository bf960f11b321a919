"""What is kept of a whole cell: part of the entry format, pickles name this class and its attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from nbstep.cache.previews import shape_text, type_text

_NAMES_SHOWN: Final = 6
# What lists say it is; no class has a name with a space.
KEPT_CELL_TYPE: Final = "a cell"


class KeptCell:
    """What a `%%step` cell left behind.

    Attributes:
        names: Its names with their values.
        outputs: What it displayed, in order, in the notebook format's own words: streams, `display_data` with a `display_id`
            where it had one, at most one `execute_result`.
    """

    __slots__ = ("names", "outputs")

    def __init__(self, names: Mapping[str, Any], outputs: Sequence[Mapping[str, Any]]) -> None:
        self.names = dict(names)
        self.outputs = list(outputs)

    def __repr__(self) -> str:
        described = [f"{name}: {type_text(value)} {shape_text(value)}".rstrip() for name, value in self.names.items()]
        return f"{KEPT_CELL_TYPE} {_with(described)}"

    def shape(self) -> str:
        """What stands behind "a cell" in lists: "with df, model"."""
        return _with(list(self.names))


def _with(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f"with {', '.join(names[:_NAMES_SHOWN]) or 'no names'}{more}"
