"""The keys of a cache as completion offers them, read with as little of the engine as that takes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from nbstep.cache.headers import Headers
from nbstep.cache.secrets.redaction import key_text
from nbstep.cache.where import cache_folder, open_store, project_place
from nbstep.commands.grammar import Names
from nbstep.errors import NbstepError
from nbstep.stores.base import run_now
from nbstep.stores.folder import is_cache
from nbstep.words import natural_order

if TYPE_CHECKING:
    from nbstep.cache.cache import Cache


def labels_in(names: Names, folder: str | None, cache: Cache | None) -> list[str]:
    """The labels of all keys, of those of kept errors, or of those in the trash; none where they cannot be read."""
    try:
        return sorted(dict.fromkeys(map(key_text, _keys(names, folder, cache))), key=natural_order)
    except (NbstepError, OSError, ValueError):
        return []


def _keys(names: Names, folder: str | None, cache: Cache | None) -> Iterable[str]:
    if folder is not None or cache is None:
        place = project_place()
        found = cache_folder(Path(folder).expanduser()) if folder is not None else place.directory
        if folder is None and not is_cache(found) and not place.explicit:
            found = place.fallback
        if not is_cache(found):
            return []
        if names == "trash":
            from nbstep.cache.cache import Cache

            cache = Cache(found)
        else:
            metas = run_now(Headers(open_store(found)).look(time.time())).metas()
            return [meta.key for meta in metas if names == "keys" or meta.outcome == "error"]
    if cache.is_async:
        return []
    if names == "trash":
        return [one.meta.key for one in cache.trashed()]
    return [meta.key for meta in cache.entries() if names == "keys" or meta.outcome == "error"]
