"""What folders hold beside a user's own entries: those of other signers, and the trash. By it a miss says what became of a key."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_OLD_S: Final = 10.0


class Remains:
    """The names of files in shards that are no entries of one signer.

    Where very many keys are asked for, a folder is not listed for each, as it holds more with each: what was found lately
    will do. There are mostly none, so next to nothing is remembered.

    Args:
        listed: Gives what stands in a shard.
    """

    def __init__(self, listed: Callable[[str], list[str]]) -> None:
        self._listed = listed
        self._found: dict[tuple[str, str], tuple[float, list[str]]] = {}

    def of(self, digest: str, signer: str, *, lately: bool) -> list[str]:
        """Those of one key; `lately` says that they may have been found up to ten seconds ago, by this process."""
        asked, now_s = (digest[:2], signer), time.monotonic()
        known = self._found.get(asked) if lately else None
        if known is None or now_s - known[0] > _OLD_S:
            known = now_s, [name for name in self._listed(digest[:2]) if name[65:] != signer]
            if lately:
                self._found[asked] = known
        return [name for name in known[1] if name.startswith(digest)]

    def forget(self) -> None:
        """What is deleted from here on shows at once."""
        self._found.clear()
