"""Entries in memory, for as long as the kernel lives: `cache="memory:"`."""

from __future__ import annotations


class MemoryStore:
    """Bytes under keys in a `dict`: the smallest object that `cache=` takes.

    >>> store = MemoryStore()
    >>> store.set("user:1", b"entry")
    >>> store.has("user:1"), store.get("user:2")
    (True, None)
    """

    def __init__(self) -> None:
        self._entries: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        """The entry under `key`, None where there is none."""
        return self._entries.get(key)

    def set(self, key: str, value: bytes) -> None:
        """Puts an entry under `key`."""
        self._entries[key] = value

    def has(self, key: str) -> bool:
        """Whether there is an entry under `key`."""
        return key in self._entries

    def delete(self, key: str) -> bool:
        """Removes the entry under `key`; whether there was one."""
        return self._entries.pop(key, None) is not None

    def keys(self) -> list[str]:
        """The keys in the order they came."""
        return list(self._entries)
