"""Small new entries, many at once, as a clerk has them: one look at the folders is for all that are at hand."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from nbstep.stores import files
from nbstep.stores.files import key_digest

_AT_HAND_BYTES: Final = 1 << 20

Publish: TypeAlias = Callable[[str, str, bytes, str | None], None]


class Bulk:
    """The folders of a disk store, as `look` found them some milliseconds ago.

    Where anything is otherwise than for most entries (a folder is missing or a link, something stands in the place, the disk is
    nearly full), `publish` does it.

    Args:
        root: The `.nbstep` folder.
        entries: Where its shards stand.
        temps: Where its temporary files do.
        has_room: Whether the disk takes so many bytes.
        forget: Is told the digest of each key that has an entry now.
        publish: Publishes an entry, wherever; raises what `Store.publish` does.
    """

    def __init__(
        self,
        root: Path,
        entries: str,
        temps: str,
        has_room: Callable[[int], bool],
        forget: Callable[[str], None],
        publish: Publish,
    ) -> None:
        self._root = root
        self._entries = entries
        self._temps = temps
        self._has_room = has_room
        self._forget = forget
        self._publish = publish
        self._left = 0

    def look(self) -> None:
        """Looks at the folders and the disk, for what is published before the next look."""
        try:
            own = files.is_own_folder(self._entries, self._root) and files.is_own_folder(self._temps, self._root)
            self._left = _AT_HAND_BYTES if own and self._has_room(_AT_HAND_BYTES) else 0
        except OSError:
            self._left = 0

    def is_missing(self, key: str, signer: str) -> bool:
        """Whether nothing stands in the place of an entry, whatever it were."""
        try:
            os.lstat(self._path(key_digest(key), signer))
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return False

    def publish(self, key: str, signer: str, content: bytes, batch: str | None) -> None:
        """Publishes an entry.

        Raises:
            NoRoom: The disk would be full.
            OSError: The file cannot be written.
        """
        digest = key_digest(key)
        if self._put(digest, signer, content):
            self._forget(digest)
        else:
            self._publish(key, signer, content, batch)

    def _put(self, digest: str, signer: str, content: bytes) -> bool:
        """Whether it was put where nothing stood."""
        self._left -= len(content)
        if self._left < 0:
            return False
        temp = f"{self._temps}/{files.temp_name()}"
        try:
            if not files.is_real_folder(f"{self._entries}/{digest[:2]}"):
                return False
            files.write_file(temp, [content], durable=False)
        except OSError:
            return False
        if files.move_first(temp, self._path(digest, signer)):
            return True
        files.remove(temp)
        return False

    def _path(self, digest: str, signer: str) -> str:
        return f"{self._entries}/{digest[:2]}/{digest}.{signer}"
