"""What only processes with the user's signing key can read: sent between them through others, such as a scheduler."""

from __future__ import annotations

import hmac
import os
from typing import Final

from nbstep.cache.trust import SigningKey

_NONCE_BYTES: Final = 16
_MAC_BYTES: Final = 32


def seal(content: bytes, key: SigningKey) -> bytes:
    """Hides a short content, and signs it.

    HMAC-SHA256 of a counter gives the stream that hides it, and signs what is hidden: the standard library has no cipher.

    >>> key = SigningKey(bytes(32))
    >>> unseal(seal(b"redis://ada:secret@cache", key), key), unseal(seal(b"x", key), SigningKey(bytes(31) + b"1"))
    (b'redis://ada:secret@cache', None)
    """
    nonce = os.urandom(_NONCE_BYTES)
    hidden = _masked(content, key, nonce)
    return nonce + key.sign("sealed", nonce, hidden) + hidden


def unseal(sealed: bytes, key: SigningKey) -> bytes | None:
    """The content; None where it was sealed with another key, or changed since."""
    end = _NONCE_BYTES + _MAC_BYTES
    nonce, mac, hidden = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:end], sealed[end:]
    if not hmac.compare_digest(key.sign("sealed", nonce, hidden), mac):
        return None
    return _masked(hidden, key, nonce)


def _masked(content: bytes, key: SigningKey, nonce: bytes) -> bytes:
    blocks = range(-(-len(content) // _MAC_BYTES))
    stream = b"".join(key.sign("sealing", nonce, at.to_bytes(8, "little")) for at in blocks)[: len(content)]
    return bytes(one ^ other for one, other in zip(content, stream, strict=True))
