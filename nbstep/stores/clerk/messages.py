"""What a kernel and its clerk tell each other: tuples of plain values, one after the other."""

from __future__ import annotations

import marshal
import select
import struct
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

Message: TypeAlias = tuple[Any, ...]

_SIZE: Final = struct.Struct("<I")


def packed(message: Message) -> bytes:
    """A message as it is sent. Both ends are of one Python, so `marshal` will do, in a third of pickle's time."""
    content = marshal.dumps(message)
    return _SIZE.pack(len(content)) + content


class Unpacker:
    """Messages out of what was read, wherever it was cut.

    >>> unpacker = Unpacker()
    >>> whole = packed(("kept", 1)) + packed(("kept", 2))
    >>> list(unpacker.messages(whole[:-3])), list(unpacker.messages(whole[-3:]))
    ([('kept', 1)], [('kept', 2)])
    """

    def __init__(self) -> None:
        self._rest = b""

    def messages(self, content: bytes) -> Iterator[Message]:
        """The messages that are whole by now."""
        content, at = self._rest + content, 0
        while len(content) - at >= _SIZE.size:
            begin = at + _SIZE.size
            end = begin + _SIZE.unpack_from(content, at)[0]
            if end > len(content):
                break
            yield marshal.loads(content[begin:end])
            at = end
        self._rest = content[at:]


def is_readable(fd: int, timeout_s: float) -> bool:
    """Waits until something can be read; whether it can. Not by `select.select`, which takes no file beyond the thousandth."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))
