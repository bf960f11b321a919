"""One file a shard in `v1/catalog`: what listing the shard found, for the next process. Losing one costs time only."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from nbstep.stores import documents, files
from nbstep.stores.base import Group

# A folder's time moves in ticks: two changes in one tick look like one. Longer than any file system's.
SETTLED_NS: Final = 2_500_000_000
_SHARD: Final = re.compile(r"[0-9a-f]{2}")
_BYTES_AT_MOST: Final = 64 << 20


class DiskCatalog:
    """A folder of texts by shard."""

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder = str(folder)
        self._root = root

    def read(self, group: Group) -> bytes | None:
        """The text of a shard; None where there is none that can be read, or it was written too soon after a change.

        Both times are of the clock of the disk, which may be another machine's.
        """
        try:
            if not files.is_own_folder(self._folder, self._root):
                return None
            document = documents.open_document(f"{self._folder}/{group.name}", _never)
        except OSError:
            return None
        if document is None or document.stamp is None or document.size_bytes > _BYTES_AT_MOST:
            return None
        if group.stamp is not None and 0 <= document.stamp[0] - group.stamp[0] < SETTLED_NS:
            return None
        return document.read(0, document.size_bytes)

    def write(self, group: Group, content: bytes | None, temp: str) -> None:
        """Publishes the text of a shard by way of `temp`; without content there is none any more."""
        path = f"{self._folder}/{group.name}"
        with suppress(OSError):
            if content is None:
                if files.is_own_folder(self._folder, self._root):
                    files.remove(path)
                return
            files.make_own_folder(self._folder, self._root)
            files.make_own_folder(os.path.dirname(temp), self._root)
            files.write_file(temp, [content], durable=False)
            try:
                files.move(temp, path)
            except BaseException:
                files.remove(temp)
                raise

    def clear(self) -> None:
        """Removes all of them: what they tell of is gone."""
        with suppress(OSError):
            if files.is_own_folder(self._folder, self._root):
                for name in os.listdir(self._folder):
                    if _SHARD.fullmatch(name):
                        files.remove(f"{self._folder}/{name}")


def _never() -> bool:
    return False
