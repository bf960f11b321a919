"""How a worker process comes to a cache of this one: its address, sealed for who has the key, and proof that it is the same."""

from __future__ import annotations

import functools
import pickle
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from nbstep.cache import entry, trust
from nbstep.cache.cache import Cache
from nbstep.cache.records import CacheOptions
from nbstep.cache.sealing import seal, unseal
from nbstep.cache.secrets.redaction import redact_text
from nbstep.notes import error_line
from nbstep.stores.base import Server, run_now
from nbstep.stores.disk import DiskStore
from nbstep.stores.marks import Marked, is_marked_folder, mark_folder, new_mark, unmark_folder
from nbstep.version import __version__

_RENEWED_AFTER_S: Final = 600.0


class NotReached(Exception):  # noqa: N818 - says what happened
    """A cache cannot be used from another process; the text says why, for people: "" where nobody expects that it can."""


@dataclass(frozen=True, slots=True)
class _Address:
    """Where a cache is.

    Attributes:
        folder: Its folder; None for none. Another machine may have another one of that name.
        url: That of the shared cache, or of the one behind the folder; "" for none. It may hold a password.
        mark: What stands there while it is the same cache.
        options: Those of the cache.
    """

    folder: Path | None
    url: str
    mark: str
    options: CacheOptions


class Reach:
    """A cache that worker processes keep results in by themselves, until it is closed.

    Neither the signing key nor a password goes with it in the clear: who has the same key can read where the cache is.

    Args:
        cache: The cache.

    Attributes:
        envelope: What `reached` takes in the worker.

    Raises:
        NotReached: No other process can keep what this one finds.
    """

    def __init__(self, cache: Cache) -> None:
        self._mark = new_mark()
        self._folder = _folder_of(cache)
        self._far: Any = getattr(cache.store, "far", cache.store)
        key = trust.signing_key()
        if cache.is_async or trust.key_ring().existing() is None:
            raise NotReached  # a key in this process's memory only, which was told
        if cache.options.max_bytes is not None and cache.directory is None:
            raise NotReached  # what others keep there is not counted
        answers = self._renew()
        url: str = self._far.url if answers and isinstance(self._far, Server) else ""
        if self._folder is None and not url:
            raise NotReached
        address = _Address(self._folder, url, self._mark, cache.options)
        self.envelope: bytes = pickle.dumps(
            {
                "container": entry.MAGIC,
                "version": __version__,
                "signer": key.id,
                "sealed": seal(_pickled(address), key),
            }
        )

    def renew(self) -> None:
        """Lets it be reached for another while."""
        if time.monotonic() - self._marked_at > _RENEWED_AFTER_S:
            self._renew()

    def close(self) -> None:
        """No worker that has not reached it yet does so any more."""
        if self._folder is not None:
            unmark_folder(self._folder, self._mark)

    def _renew(self) -> bool:
        """Marks what has to be; whether the server answered, if there is one."""
        self._marked_at = time.monotonic()
        if self._folder is not None:
            mark_folder(self._folder, self._mark)
        if not isinstance(self._far, Marked):
            return True
        breaker = getattr(self._far, "breaker", None)
        if breaker is not None and breaker.why_resting() is not None:
            return False
        try:
            run_now(self._far.mark(self._mark))
        except OSError:
            return False
        return True


def _folder_of(cache: Cache) -> Path | None:
    near = getattr(cache.store, "near", cache.store)
    return near.directory if isinstance(near, DiskStore) and not cache.read_only else None


def reached(envelope: bytes) -> Cache:
    """The cache, in a worker process.

    Raises:
        NotReached: This process has another key or another nbstep, or does not find the cache.
    """
    found = _opened(envelope)
    if isinstance(found, str):
        raise NotReached(found and f"a worker on {socket.gethostname()} {found}")
    cache, mark = found
    if mark:
        _prove(cache, mark)
    return cache


@functools.lru_cache(maxsize=4)
def _opened(envelope: bytes) -> tuple[Cache, str] | str:
    """The cache, and the mark that is to stand in its server; or why it cannot be used."""
    fields: dict[str, Any] = pickle.loads(envelope)
    if fields["container"] != entry.MAGIC:
        other = f"has nbstep {__version__}, whose entries are not those of {fields['version']} here"
        return f"{other}: install the same version there"
    signer: str = fields["signer"]
    if trust.key_ring().existing() is None or trust.signing_key().id != signer:
        return f"does not have the signing key {signer}: let NBSTEP_SIGNING_KEY_FILE name its file there"
    content = unseal(fields["sealed"], trust.signing_key())
    if content is None:
        return f"does not have the signing key {signer}"
    try:
        return _found(pickle.loads(content))
    except Exception as error:  # noqa: BLE001 - a package that is missing there, or another version of one
        return f"cannot open the cache ({error_line(error, redact_text)})"


def _found(address: _Address) -> tuple[Cache, str] | str:
    folder, options = address.folder, address.options
    if folder is not None and not is_marked_folder(folder, address.mark):
        folder, options = None, replace(options, max_bytes=None)  # another machine: the limit is the folder's
    if folder is None and not address.url:
        return ""
    where = [folder, address.url] if folder is not None and address.url else folder or address.url
    cache = Cache(
        where,
        max_bytes=options.max_bytes,
        durability=options.durability,
        previews=options.previews,
        redact=options.redact,
    )
    return cache, "" if folder is not None else address.mark


def _prove(cache: Cache, mark: str) -> None:
    """Asks, until it says so, whether the same server is behind its URL.

    Raises:
        NotReached: It is another one, or does not answer.
    """
    worker = f"a worker on {socket.gethostname()}"
    if (resting := cache.why_resting()) is not None:
        raise NotReached(f"{worker} was not answered: {resting}")
    try:
        _proved(cache, mark)
    except LookupError:
        raise NotReached(f"{worker} finds another server at {cache.place}") from None
    except OSError as error:
        raise NotReached(f"{worker} was not answered: {error_line(error, redact_text)}") from error


@functools.lru_cache(maxsize=16)
def _proved(cache: Cache, mark: str) -> None:
    store: Any = cache.store
    if isinstance(store, Marked) and not run_now(store.is_marked(mark)):
        raise LookupError  # not remembered: it may be asked again


def _pickled(address: _Address) -> bytes:
    import cloudpickle

    try:
        return cloudpickle.dumps(address)
    except Exception as error:
        raise NotReached(f"the cache's redact= cannot be sent to workers ({error_line(error, redact_text)})") from error
