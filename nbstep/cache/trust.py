"""The user's signing key: entries that it did not sign are never unpickled.

Nothing inside a project can name a key or turn the check off: the environment that names the key's file is the one
this process inherited, read when this module is imported.
"""

from __future__ import annotations

import errno
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from nbstep.cache.keyfile import (
    KEY_BYTES,
    collect_temps,
    create_secret,
    data_directory,
    key_id,
    read_secret,
    replace_secret,
)
from nbstep.errors import KeyFileError
from nbstep.events import Finding, emit
from nbstep.forks import ThreadLock
from nbstep.project import place_text

_NAMED_BY: Final = "NBSTEP_SIGNING_KEY_FILE"
_READ: Final = (
    _NAMED_BY,
    "JUPYTER_DATA_DIR",
    "JUPYTER_PLATFORM_DIRS",
    "XDG_DATA_HOME",
    "HOME",
    "APPDATA",
    "USERPROFILE",
)


Signature: TypeAlias = hmac.HMAC


@dataclass(frozen=True, slots=True, repr=False)
class SigningKey:
    """A secret, and the short public id that entries name it by.

    >>> key = SigningKey(bytes(32))
    >>> key.id
    '66687aad'
    >>> key.verifies("entry", b"header", key.sign("entry", b"header"))
    True
    """

    secret: bytes
    id: str = field(init=False)
    _begun: hmac.HMAC = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Settles `id`: eight hex characters that tell keys apart and reveal nothing of them."""
        object.__setattr__(self, "id", key_id(self.secret))
        object.__setattr__(self, "_begun", hmac.new(self.secret, digestmod="sha256"))

    def sign(self, purpose: str, *parts: bytes) -> bytes:
        """HMAC-SHA256 over `parts`; what is signed for one purpose does not verify for another.

        Not by `hmac.digest`, which has other threads go first, however little is signed: of a step of a map that is a third.
        """
        signature = self.begun(purpose)
        signature.update(b"".join(parts))
        return signature.digest()

    def begun(self, purpose: str) -> Signature:
        """A signature for one purpose of nothing yet; of many texts each updates a copy."""
        signature = self._begun.copy()
        signature.update(f"nbstep-{purpose}:".encode())
        return signature

    def verifies(self, purpose: str, *parts_and_mac: bytes) -> bool:
        """Whether the last argument is the signature of those before it."""
        *parts, mac = parts_and_mac
        return hmac.compare_digest(self.sign(purpose, *parts), mac)


@dataclass(frozen=True, slots=True)
class Rotation:
    """A key that took another's place; `kept_in` is the file that still holds the old one."""

    old: SigningKey
    new: SigningKey
    kept_in: Path


class KeyRing:
    """Opens the user's key at first use and keeps it for the life of the process.

    Args:
        environ: The environment that says where the key is.

    Attributes:
        opened: The key, once it was asked for.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = {name: environ[name] for name in _READ if environ.get(name)}
        self._lock = ThreadLock()
        self.opened: SigningKey | None = None
        self._problem: str | None = None
        self._told = False

    @property
    def named(self) -> bool:
        """Whether the environment names the key's file: then it is somebody's to keep, not ours to make or replace."""
        return _NAMED_BY in self._environ

    def problem(self) -> str | None:
        """Why the key is in this process's memory only; None where it is kept in its file. Whoever asks, tells."""
        self._told = True
        self.key()
        return self._problem

    @property
    def fix(self) -> str:
        """What to do about a problem."""
        if self.named:
            return f"correct {_NAMED_BY} or unset it, then start anew"
        return f"let {_NAMED_BY} name a private file of {KEY_BYTES} random bytes, by its absolute path"

    def key(self) -> SigningKey:
        """The user's key; a new one in memory, with one finding, where the file cannot be used and nobody asked why."""
        key = self.opened  # read once: every look-up comes here
        if key is not None:
            return key
        with self._lock:
            if self.opened is None:
                self.opened = self._open()
            return self.opened

    def existing(self) -> SigningKey | None:
        """The key where its file is there and can be used: none is made, and nothing is told."""
        try:
            secret = read_secret(self.path(), named=self.named)
        except (OSError, ValueError):
            return None
        return None if secret is None else SigningKey(secret)

    def path(self) -> Path:
        """The file that holds the key.

        Raises:
            ValueError: `NBSTEP_SIGNING_KEY_FILE` is no absolute path.
        """
        named = self._environ.get(_NAMED_BY)
        if not named:
            return data_directory(self._environ) / "nbstep" / "signing_key"
        if not os.path.isabs(named):
            raise ValueError(f"{_NAMED_BY}={named!r} is no absolute path")
        return Path(named)

    def rotate(self) -> Rotation:
        """Makes a new key; the file of the old one stays beside it, named by its id.

        Processes that run already go on with the old key.

        Raises:
            KeyFileError: The key is in memory only, or its file is not ours to replace.
        """
        with self._lock:
            old = self.opened = self.opened or self._open()
            if self._problem is not None:
                raise KeyFileError(f"there is no key to replace: {self._problem}. Fix: {self.fix}")
            path = self.path()
            if self.named:
                raise KeyFileError(
                    f"{_NAMED_BY} names the key, {place_text(path)}: whoever keeps that file replaces it"
                )
            try:
                kept, secret = replace_secret(path, old.secret)
            except OSError as error:
                raise KeyFileError(f"{place_text(path)} cannot be replaced: {error.strerror or error}") from error
            self.opened = SigningKey(secret)
            return Rotation(old, self.opened, kept)

    def replaced_by(self, signer: str) -> bool:
        """Whether the key of this id took the place of this process's, in its file, since the process began."""
        try:
            secret = read_secret(self.path(), named=self.named)
        except (OSError, ValueError):
            return False
        return secret is not None and SigningKey(secret).id == signer != self.key().id

    def collect(self, now_s: float) -> None:
        """Removes what killed processes left beside the key's file."""
        if not self.named:
            collect_temps(self.path(), now_s)

    def _open(self) -> SigningKey:
        try:
            path = self.path()
            secret = read_secret(path, named=self.named)
            if secret is None and self.named:
                raise FileNotFoundError(errno.ENOENT, f"{_NAMED_BY}={str(path)!r}: there is no such file")
            return SigningKey(create_secret(path) if secret is None else secret)
        except (OSError, ValueError) as error:
            self._problem = getattr(error, "strerror", None) or str(error)
            if not self._told:
                text = (
                    f"no signing key, so what is kept now is lost with this process: {self._problem}. Fix: {self.fix}"
                )
                emit(Finding(None, None, "signing-key", text))
            return SigningKey(os.urandom(KEY_BYTES))


_ring = KeyRing(os.environ)


def key_ring() -> KeyRing:
    """The keys of the user who runs this process."""
    return _ring


def signing_key() -> SigningKey:
    """The key of the user who runs this process."""
    return _ring.opened or _ring.key()


def read_key_file(path: Path) -> SigningKey:
    """The key in a file that the user names.

    Raises:
        KeyFileError: It cannot be read, or is none.
    """
    try:
        secret = read_secret(path, named=True)
    except OSError as error:
        raise KeyFileError(f"{place_text(path)} cannot be used as a key: {error.strerror or error}") from error
    if secret is None:
        raise KeyFileError(f"{place_text(path)} cannot be used as a key: there is no such file")
    return SigningKey(secret)
