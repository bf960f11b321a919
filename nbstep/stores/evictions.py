"""Which keys lost their entries to a size limit: one empty file a key, for thirty days."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from nbstep.stores import files

_KEPT_FOR_S: Final = 30 * 86400.0
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class Evictions:
    """A folder of marks, so that a miss in any kernel can say `evicted`; losing it loses that word only."""

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder = str(folder)  # joining paths costs more than looking at a file
        self._root = root

    def remember(self, digests: Sequence[str]) -> None:
        """Marks keys by their digests."""
        with suppress(OSError):
            files.make_own_folder(self._folder, self._root)
            for digest in digests:
                with suppress(FileExistsError):
                    files.write_file(f"{self._folder}/{digest}", [], durable=False)

    def forget(self, digest: str) -> None:
        """A key has an entry again."""
        mark = f"{self._folder}/{digest}"
        if not os.access(mark, os.F_OK):  # mostly there is none, and no exception is made to say so
            return
        with suppress(OSError):
            if files.is_own_folder(self._folder, self._root):
                files.remove(mark)

    def holds(self, digest: str) -> bool:
        """Whether a key is marked."""
        return os.access(f"{self._folder}/{digest}", os.F_OK) and files.is_own_folder(self._folder, self._root)

    def all_of(self, _: object = None) -> frozenset[str]:
        """The digests of all marked keys; none where the system does not say."""
        try:
            return frozenset(files.names_in(self._folder, self._root))
        except OSError:
            return frozenset()

    def collect(self, now_s: float) -> None:
        """Removes old marks."""
        if not files.is_own_folder(self._folder, self._root):
            return
        with suppress(OSError), os.scandir(self._folder) as found:
            for item in found:
                age_s = abs(now_s - item.stat(follow_symlinks=False).st_mtime)  # a mark of the future is no good either
                if _DIGEST.fullmatch(item.name) and age_s > _KEPT_FOR_S:
                    files.remove(item.path)
