"""The memory between a kernel and its clerk: what goes in comes out, in order, however it is cut."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbstep.stores.clerk.memory import ASKED_BYTES, Memory, new_memory
from nbstep.stores.clerk.ring import Ring


def ends(capacity: int) -> tuple[Ring, Ring]:
    memory = memoryview(bytearray(Ring.bytes_for(capacity)))
    return Ring(memory), Ring(memory)


@given(capacity=st.integers(1, 40), puts=st.lists(st.tuples(st.binary(max_size=60), st.booleans())))
def test_what_is_put_is_taken_once_and_in_order(capacity: int, puts: Sequence[tuple[bytes, bool]]) -> None:
    here, there = ends(capacity)
    taken = b""
    for content, at_once in puts:
        left = memoryview(content)
        while left:
            count = here.put(left)
            left = left[count:]
            if at_once or not count:
                taken += there.take()
    assert taken + there.take() == b"".join(content for content, _ in puts)
    assert there.take() == b""


def test_a_full_one_takes_what_has_room() -> None:
    here, there = ends(8)
    assert here.put(memoryview(b"0123456789")) == 8
    assert here.put(memoryview(b"89")) == 0
    assert there.take() == b"01234567"
    assert here.put(memoryview(b"89")) == 2
    assert there.take() == b"89"


OTHER = """
    import hashlib, sys
    from nbstep.stores.clerk.memory import Memory

    memory = Memory(int(sys.argv[1]))
    count, digest = 0, hashlib.sha256()
    while count < int(sys.argv[2]):
        content = memory.asked.take()
        count += len(content)
        digest.update(content)
    print(count, digest.hexdigest())
    memory.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a clerk needs memory that a process inherits")
def test_two_processes_have_the_same() -> None:
    contents = [n.to_bytes(4, "little") * (n * 7919 % 500) for n in range(12_000)]
    total = sum(map(len, contents))
    assert total > 2 * ASKED_BYTES, "so that it goes round"
    shared = new_memory()
    memory = Memory(shared)
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OTHER), str(shared), str(total)],
        pass_fds=[shared], stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        os.close(shared)
        for content in contents:
            left = memoryview(content)
            while left:
                left = left[memory.asked.put(left) :]
                if left:
                    assert other.poll() is None
                    time.sleep(0.001)
        output, _ = other.communicate(timeout=60)
    memory.close()
    assert output.split() == [str(total), hashlib.sha256(b"".join(contents)).hexdigest()]


@pytest.mark.skipif(sys.platform == "win32", reason="a clerk needs memory that a process inherits")
def test_where_a_system_has_no_files_in_memory_the_disk_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    shared = new_memory()
    try:
        assert os.fstat(shared).st_size == Memory.SIZE
        assert os.fstat(shared).st_nlink == 0, "nobody else finds it"
        memory = Memory(shared)
        assert memory.asked.put(memoryview(b"entry")) == 5
        assert Memory(shared).asked.take() == b"entry"
    finally:
        os.close(shared)
