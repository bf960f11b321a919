"""Files that hold a signing key: private, made once, never overwritten."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from nbstep.project import place_text
from nbstep.stores.files import make_private

KEY_BYTES: Final = 32
_BYTES_AT_MOST: Final = 64 * 1024


def key_id(secret: bytes) -> str:
    """Eight hex characters that tell keys apart and reveal nothing of them."""
    return hashlib.sha256(secret).hexdigest()[:8]


def data_directory(environ: Mapping[str, str]) -> Path:
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


def read_secret(path: Path, *, named: bool) -> bytes | None:
    """The key in `path`; None where there is no such file.

    Args:
        path: The file.
        named: The user named this very file: it may be a link, and others may read it, as a team does.

    Raises:
        OSError: It is no file of the user's own, others can write it, it is too short, or it cannot be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        fd = os.open(path, flags if named else flags | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OSError(error.errno, f"{place_text(path)}: {error.strerror}") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, f"{place_text(path)} is no regular file")
        if hasattr(os, "geteuid"):
            if status.st_uid not in {0, os.geteuid()}:
                raise OSError(errno.EPERM, f"{place_text(path)} belongs to somebody else")
            if status.st_mode & 0o022:  # who could write it may know what is in it
                shown = place_text(path)
                raise OSError(errno.EPERM, f"others can write {shown}: chmod go-w {shown}")
        secret = os.read(fd, _BYTES_AT_MOST)
        if len(secret) < KEY_BYTES:
            raise OSError(errno.EINVAL, f"{place_text(path)} holds fewer than {KEY_BYTES} bytes")
        if not named and hasattr(os, "fchmod") and status.st_mode & 0o077:
            with contextlib.suppress(OSError):  # on a read-only file system it serves as it is
                os.fchmod(fd, 0o600)
        return secret
    finally:
        os.close(fd)


def create_secret(path: Path) -> bytes:
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
    secret = read_secret(path, named=False)
    if secret is None:
        raise OSError(errno.ENOENT, f"{place_text(path)} vanished")
    return secret


def set_aside(path: Path, expected: bytes) -> Path:
    """Gives the key's file another name, its id; nothing is ever overwritten, whatever else happens at this moment."""
    taken = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    os.replace(path, taken)
    found = read_secret(taken, named=False) or b""
    kept = path.with_name(f"{path.name}.{key_id(found)}")
    os.replace(taken, kept)
    if found != expected:
        with contextlib.suppress(FileExistsError):
            os.link(kept, path)
        raise OSError(errno.EBUSY, "another process replaced it already; what this one knows is the key before")
    return kept


def replace_secret(path: Path, kept: Path) -> bytes:
    """Makes a new key in the place of the one that was set aside, which comes back where that fails."""
    try:
        return create_secret(path)
    except OSError:
        with contextlib.suppress(OSError):
            os.link(kept, path)
        raise
