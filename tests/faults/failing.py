"""Calls of the system that fail on purpose: the n-th one, or all from the n-th on."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

try:
    import fcntl
except ImportError:
    fcntl: Any = None  # type: ignore[no-redef]

CALLS: Final = (
    "open", "write", "preadv", "read", "replace", "rename", "link", "unlink", "mkdir", "rmdir", "fsync", "close",
    "posix_fallocate", "lstat", "stat", "fstat", "scandir", "listdir", "statvfs", "flock",
)  # fmt: skip
ERRORS: Final = (errno.EIO, errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT)


@dataclass
class Failing:
    """What is to fail.

    Attributes:
        call: The name of the call; None where nothing fails.
        nth: Which of them, counted from 1.
        error: The error number.
        lasting: All later ones fail too.
        seen: How many such calls there were.
    """

    call: str | None = None
    nth: int = 0
    error: int = 0
    lasting: bool = False
    seen: int = 0
    failed: list[str] = field(default_factory=list)

    @contextmanager
    def fails(self, call: str, nth: int, error: int, *, lasting: bool = False) -> Iterator[None]:
        """Lets a call fail as long as this lasts."""
        self.call, self.nth, self.error, self.lasting, self.seen = call, nth, error, lasting, 0
        self.failed = []
        try:
            yield
        finally:
            self.call = None

    def instead_of(self, call: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """The call that fails when it is to fail."""

        def called(*args: Any, **kwargs: Any) -> Any:
            if self.call != call:
                return real(*args, **kwargs)
            self.seen += 1
            if self.seen < self.nth or (self.seen > self.nth and not self.lasting):
                return real(*args, **kwargs)
            if call == "close":
                real(*args, **kwargs)  # a file is closed also where closing it tells an error
            self.failed.append(call)
            raise OSError(self.error, os.strerror(self.error))

        return called


def install(monkeypatch: Any) -> Failing:
    """Puts a layer under everything that can fail; nothing fails yet. Caches are to be opened after it."""
    failing = Failing()
    for call in CALLS:
        module = fcntl if call == "flock" else os
        if hasattr(module, call):
            monkeypatch.setattr(module, call, failing.instead_of(call, getattr(module, call)))
    return failing


class DyingAt:
    """Ends this process as kill -9 does before its n-th call that changes anything."""

    CALLS: Final = (
        "open", "write", "replace", "rename", "link", "unlink", "mkdir", "rmdir", "close", "posix_fallocate", "flock",
    )  # fmt: skip

    def __init__(self, nth: int) -> None:
        self._left = nth

    def install(self) -> None:
        """From now on calls are counted."""
        for call in self.CALLS:
            module = fcntl if call == "flock" else os
            if hasattr(module, call):
                setattr(module, call, self._counted(getattr(module, call)))

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return called
