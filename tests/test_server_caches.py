"""The caches that the server has open, asked without HTTP."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from nbstep import Cache
from nbstep.commands.listing import entry_id
from nbstep.server.caches import OpenCaches
from nbstep.server.places import ServedPlace


@pytest.fixture(scope="module")
def opened() -> list[str]:
    """The files that were opened since it was cleared."""
    names: list[str] = []
    sys.addaudithook(lambda event, args: names.append(str(args[0])) if event == "open" else None)
    return names


def test_one_entry_in_full_reads_that_entry_alone(tmp_path: Path, opened: list[str]) -> None:
    cache, caches = Cache(tmp_path / ".nbstep"), OpenCaches()
    place = ServedPlace(tmp_path / ".nbstep", exists=True)
    cache.set("shown", 1)
    cache.set("changed", 1)

    async def ask() -> None:
        await caches.entries(place)
        cache.set("shown", 2)
        cache.set("changed", 2)
        cache.set("unknown", 3)
        opened.clear()
        found = await caches.detail(place, entry_id("shown"))
        read = {key for key in ("shown", "changed", "unknown") if any(entry_id(key) in path for path in opened)}
        assert read == {"shown"}
        assert found is not None
        assert (found["label"], found["preview"]) == ("shown", "2")
        unknown = await caches.detail(place, entry_id("unknown"))  # the page learns of it in a moment
        assert unknown is not None
        assert unknown["label"] == "unknown"
        assert await caches.detail(place, entry_id("never")) is None
        cache.delete("shown")
        assert await caches.detail(place, entry_id("shown")) is None

    asyncio.run(ask())
