"""The user's signing key: entries that it did not sign are never unpickled.

Nothing inside a project can name a key or turn the check off: the environment that names the key's file is the one
this process inherited, read when this module is imported.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import importlib
import os
import stat
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nbstep.events import Finding, emit
from nbstep.project import place_text
from nbstep.stores.files import make_private

KEY_BYTES: Final = 32
_KEY_BYTES_AT_MOST: Final = 64 * 1024
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

    @property
    def id(self) -> str:
        """Eight hex characters that tell keys apart and reveal nothing of them."""
        return hashlib.sha256(self.secret).hexdigest()[:8]

    def sign(self, purpose: str, *parts: bytes) -> bytes:
        """HMAC-SHA256 over `parts`; what is signed for one purpose does not verify for another."""
        mac = hmac.new(self.secret, f"nbstep-{purpose}:".encode(), hashlib.sha256)
        for part in parts:
            mac.update(part)
        return mac.digest()

    def verifies(self, purpose: str, *parts_and_mac: bytes) -> bool:
        """Whether the last argument is the signature of those before it."""
        *parts, mac = parts_and_mac
        return hmac.compare_digest(self.sign(purpose, *parts), mac)


class KeyRing:
    """Opens the user's key at first use and keeps it for the life of the process.

    Args:
        environ: The environment that says where the key is.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = {name: environ[name] for name in _READ if environ.get(name)}
        self._lock = threading.Lock()
        self._key: SigningKey | None = None

    def key(self) -> SigningKey:
        """The user's key; a new one in memory, with one finding, where the file cannot be used."""
        with self._lock:
            if self._key is None:
                self._key = self._open()
            return self._key

    def path(self) -> Path:
        """The file that holds the key.

        Raises:
            ValueError: `NBSTEP_SIGNING_KEY_FILE` is no absolute path.
        """
        named = self._environ.get(_NAMED_BY)
        if not named:
            return _data_directory(self._environ) / "nbstep" / "signing_key"
        if not os.path.isabs(named):
            raise ValueError(f"{_NAMED_BY}={named!r} is no absolute path")
        return Path(named)

    def _open(self) -> SigningKey:
        try:
            path = self.path()
            named = _NAMED_BY in self._environ
            secret = _read(path, follow=named)
            return SigningKey(_create(path, follow=named) if secret is None else secret)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            text = f"the signing key cannot be used ({why}): what is kept now will be recomputed by the next kernel"
            emit(Finding(None, None, "signing-key", f"{text}; set {_NAMED_BY} to a file that can be written"))
            return SigningKey(os.urandom(KEY_BYTES))


_ring = KeyRing(os.environ)


def signing_key() -> SigningKey:
    """The key of the user who runs this process."""
    return _ring.key()


def _data_directory(environ: Mapping[str, str]) -> Path:
    """Jupyter's data directory, by Jupyter's rules; `import jupyter_core` would take longer than everything else here."""
    if environ.get("JUPYTER_DATA_DIR"):
        return Path(environ["JUPYTER_DATA_DIR"])
    if environ.get("JUPYTER_PLATFORM_DIRS", "").lower() not in {"", "0", "no", "n", "false", "off", "0.0"}:
        return Path(importlib.import_module("jupyter_core.paths").jupyter_data_dir())
    home = Path(environ.get("HOME") or environ.get("USERPROFILE") or Path.home())
    if sys.platform == "darwin":
        return home / "Library" / "Jupyter"
    if sys.platform == "win32":
        return Path(environ["APPDATA"]) / "jupyter" if environ.get("APPDATA") else home / ".jupyter" / "data"
    return Path(environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "jupyter"


def _read(path: Path, *, follow: bool) -> bytes | None:
    """The key in `path`; None where there is no such file."""
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        fd = os.open(path, flags if follow else flags | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(fd)
        shown = place_text(path)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, f"{shown} is no regular file")
        if hasattr(os, "geteuid") and status.st_uid not in {0, os.geteuid()}:
            raise OSError(errno.EPERM, f"{shown} belongs to somebody else")
        secret = os.read(fd, _KEY_BYTES_AT_MOST)
        if len(secret) < KEY_BYTES:
            raise OSError(errno.EINVAL, f"{shown} holds fewer than {KEY_BYTES} bytes")
        if not follow and hasattr(os, "fchmod") and status.st_mode & 0o077:
            os.fchmod(fd, 0o600)
        return secret
    finally:
        os.close(fd)


def _create(path: Path, *, follow: bool) -> bytes:
    """Makes a new key; of several processes that do so at once, the first one's key is the key of all."""
    make_private(path.parent)
    temp = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    fd = os.open(temp, flags, 0o600)
    try:
        try:
            os.write(fd, os.urandom(KEY_BYTES))
            os.fsync(fd)
        finally:
            os.close(fd)
        try:
            os.link(temp, path)
        except FileExistsError:
            pass
        except (OSError, NotImplementedError):  # a file system without links: the last of two writers wins
            os.replace(temp, path)
    finally:
        temp.unlink(missing_ok=True)
    secret = _read(path, follow=follow)
    if secret is None:
        raise OSError(errno.ENOENT, f"{place_text(path)} vanished")
    return secret
