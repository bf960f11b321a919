"""The kernel's end of what is between it and its clerk: the process, the memory of both, and a pipe that tells who lives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from nbstep.stores.clerk.memory import Memory, new_memory
from nbstep.stores.clerk.messages import Message, Unpacker

_PACKAGE: Final = Path(__file__).parents[3]
_START: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from nbstep.stores.clerk.desk import main; main(sys.argv[2:])"
)


class Line:
    """A clerk's process, and what goes to and fro. One thread at a time.

    Args:
        directory: The `.nbstep` folder.
        keep_free_bytes: What must stay free on its disk, as for the store.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(self, directory: Path, keep_free_bytes: int | None) -> None:
        self._left = memoryview(b"")
        self._unpacker = Unpacker()
        shared = new_memory()
        try:
            self._memory = Memory(shared)
            theirs, life = os.pipe()
            self._life: int | None = life
            free = "" if keep_free_bytes is None else str(keep_free_bytes)
            given = [str(_PACKAGE), str(shared), str(theirs), str(directory), free]
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _START, *given], pass_fds=(shared, theirs),
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )  # fmt: skip
            except BaseException:
                self.hang_up()
                raise
            finally:
                os.close(theirs)
        finally:
            os.close(shared)

    def send(self, content: bytes) -> None:
        """Puts packed messages into the memory, where they survive this process; what has no room stays for `send` again."""
        left = memoryview(bytes(self._left) + content) if self._left else memoryview(content)
        self._left = left[self._memory.asked.put(left) :] if left else left

    def is_full(self) -> bool:
        """Whether not all that was sent had room."""
        return bool(self._left)

    def heard(self) -> list[Message]:
        """What it has told since."""
        content = self._memory.told.take()
        return list(self._unpacker.messages(content)) if content else []

    def has_ended(self) -> bool:
        """Whether its process is gone."""
        return self._process.poll() is not None

    def hang_up(self) -> None:
        """Lets it end, when it has done all that it was sent. Twice is once."""
        life, self._life = self._life, None
        if life is not None:
            os.close(life)

    def close(self) -> None:
        """Ends it after `hang_up`, if it did not, and lets go of the memory."""
        self._process.kill()
        self._process.wait()
        self._memory.close()

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid
