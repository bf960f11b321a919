"""What one run uses of a cache with `max_bytes`, and what of that was evicted before the run had ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from nbstep.cache.secrets.redaction import key_text
from nbstep.durations import size_text
from nbstep.words import keys_text

_KEYS_AT_MOST: Final = 100_000  # by name


@dataclass(eq=False, slots=True)
class Held:
    """The sizes of the entries that a run used or kept, by key; `evicted` are those that went again."""

    sizes: dict[str, int] = field(default_factory=dict[str, int])
    earlier_bytes: int = 0  # of what it used before those
    evicted: dict[str, None] = field(default_factory=dict[str, None])

    def add(self, key: str, size_bytes: int, evicted: Iterable[str] = ()) -> None:
        """An entry was used, or kept at the price of others."""
        self.evicted.update((gone, None) for gone in evicted if gone in self.sizes)
        self.evicted.pop(key, None)
        self.sizes[key] = size_bytes
        if len(self.sizes) > _KEYS_AT_MOST:
            self.earlier_bytes += sum(self.sizes.values())
            self.sizes = {}

    def finding(self, max_bytes: int) -> str | None:
        """One line where a run pushed out its own entries because they do not fit; those of one that fits are kept next time.

        >>> held = Held()
        >>> held.add("a", 1_200_000); held.add("b", 1_200_000, ["a", "old"])
        >>> held.finding(2_000_000)
        'a evicted by later steps of the same run: it needs 2.4 MB, max_bytes is 2.0 MB. Raise max_bytes, or each run computes anew'
        """
        needed = self.earlier_bytes + sum(self.sizes.values())
        if not self.evicted or needed <= max_bytes:
            return None
        named = keys_text([key_text(key) for key in self.evicted])
        needs = f"it needs {size_text(needed)}, max_bytes is {size_text(max_bytes)}"
        return f"{named} evicted by later steps of the same run: {needs}. Raise max_bytes, or each run computes anew"
