"""Whether an entry is the user's own and whole, for who moves entries between stores."""

from __future__ import annotations

import time

from nbstep.cache import entry, trust
from nbstep.cache.records import Unreadable
from nbstep.stores.base import Document


def own_key(document: Document) -> str | None:
    """The key of an entry of one's own, every byte of which is as it was signed; None of any other. Nothing is unpickled."""
    try:
        head = entry.read_head(document, trust.signing_key(), time.time())
        if not head.meta.trusted:
            return None
        entry.read_payload(document, head)
    except (Unreadable, OSError, ValueError):
        return None
    return head.meta.key
