"""The memory that a kernel and its clerk have in common: what is in it outlives either of them."""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from typing import Final

from nbstep.stores.clerk.ring import Ring

ASKED_BYTES: Final = 1 << 19  # in the processors' memory both find it sooner
TOLD_BYTES: Final = 1 << 18


class Memory:
    """Two rings, one for what is asked, one for what is told.

    Args:
        shared: An open file of its size.

    Raises:
        OSError: The system does not map it.
    """

    SIZE: Final = Ring.bytes_for(ASKED_BYTES) + Ring.bytes_for(TOLD_BYTES)

    def __init__(self, shared: int) -> None:
        self._mapped = mmap.mmap(shared, self.SIZE)
        self._whole = memoryview(self._mapped)
        middle = Ring.bytes_for(ASKED_BYTES)
        self.asked: Final = Ring(self._whole[:middle])
        self.told: Final = Ring(self._whole[middle:])

    def close(self) -> None:
        """Lets go of it."""
        with suppress(BufferError):
            self.asked.close()
            self.told.close()
            self._whole.release()
            self._mapped.close()


def new_memory() -> int:
    """An open file in memory; where a system has none, one without a name, written: a disk that is full is met here."""
    if hasattr(os, "memfd_create"):
        shared = os.memfd_create("nbstep clerk")
        try:
            os.ftruncate(shared, Memory.SIZE)
        except BaseException:
            os.close(shared)
            raise
        return shared
    import tempfile  # the clerk's process starts without it

    with tempfile.TemporaryFile() as file:
        file.write(bytes(Memory.SIZE))
        file.flush()
        return os.dup(file.fileno())
