"""What other processes change shows in a panel that is in sight, and nothing is looked at while none is (DESIGN section 6)."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import wait_until
from test_kernelside import Page, three_kept

from nbstep import Cache
from nbstep.cache.looks import Look
from nbstep.commands.listing import entry_id
from nbstep.notebook.kernelside import KernelSide
from nbstep.notebook.watching import Watch

SIGHT = {"kind": "seen", "view": "v1", "inSight": True}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return three_kept(tmp_path)


@pytest.fixture
def page() -> Page:
    return Page()


@pytest.fixture
def side(cache: Cache, page: Page) -> Iterator[KernelSide]:
    made = KernelSide(cache, page.send, changes_every_s=3600.0, looks_every_s=0.02)
    made.receive({"kind": "ready", "view": "v1"})
    page.take("rows")
    yield made
    made.close()


def watching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "nbstep panel"]


def in_another_process(cache: Cache, code: str) -> None:
    """Runs code with `cache` and `step` in a process of its own."""
    begin = "import sys, nbstep; cache = nbstep.Cache(sys.argv[1]); step = nbstep.create_workflow(cache=cache)\n"
    subprocess.run([sys.executable, "-c", begin + code, str(cache.directory)], check=True, timeout=120)


def until(page: Page, labels: set[str]) -> None:
    """Takes changes until the page shows these keys; a test that waits for ever ends by the page's own limit."""
    while page.labels != labels:
        page.take("change")


def test_c2_what_another_process_keeps_fails_and_deletes_comes_to_the_page(
    cache: Cache, page: Page, side: KernelSide
) -> None:
    side.receive(SIGHT)
    in_another_process(cache, "cache.set('user:3', 3)")
    until(page, {"user:1", "user:2", "user:3", "raw"})
    fails = "def fail(): raise ValueError('no such user')\nstep(lambda step: step(fail, key='user:999'))"
    in_another_process(cache, fails)
    until(page, {"user:1", "user:2", "user:3", "raw", "user:999"})
    assert page.rows[entry_id("user:999")][2] == "failed"
    subprocess.run(
        [sys.executable, "-m", "nbstep", "--cache", str(cache.directory), "rm", "user:*"], check=True, timeout=120
    )
    until(page, {"raw"})
    assert page.totals["trashEntries"] == 4


def test_c2_what_another_process_uses_shows_as_hits(cache: Cache, page: Page, side: KernelSide) -> None:
    side.receive(SIGHT)
    in_another_process(cache, "step(lambda step: step(lambda: 0, key='user:1', on_drift='ignore'))")
    while page.rows[entry_id("user:1")][10] != 1:
        page.take("change")


def test_c2_that_another_process_emptied_the_trash_comes_to_the_page(
    cache: Cache, page: Page, side: KernelSide
) -> None:
    side.receive({"kind": "delete", "ids": [entry_id("user:2")]})
    page.take("note")
    assert page.totals["trashEntries"] == 1
    side.receive(SIGHT)
    in_another_process(cache, "cache.empty_trash()")
    while page.totals["trashEntries"]:
        page.take("change")


def test_nothing_is_looked_at_while_no_view_is_in_sight(cache: Cache, page: Page, side: KernelSide) -> None:
    assert watching() == []
    side.receive(SIGHT)
    side.receive({**SIGHT, "view": "v2"})
    assert len(watching()) == 1
    side.receive({**SIGHT, "inSight": False})
    assert len(watching()) == 1
    side.receive({**SIGHT, "view": "v2", "inSight": False})
    wait_until(lambda: not watching(), "the thread to end")
    in_another_process(cache, "cache.set('later', 1)")
    side.receive(SIGHT)  # in sight again, it shows at once what came meanwhile
    until(page, {"user:1", "user:2", "raw", "later"})
    side.receive({"kind": "closed", "view": "v1"})
    wait_until(lambda: not watching(), "the thread to end")


def test_a_page_that_went_away_without_a_word_is_forgotten() -> None:
    looks: list[float] = []
    watch = Watch(lambda: looks.append(time.monotonic()), every_s=0.01, lease_s=0.2)
    watch.saw("v", in_sight=True)
    wait_until(lambda: not watching(), "the thread to end")
    assert len(looks) > 1
    watch.saw("v", in_sight=True)
    assert len(watching()) == 1
    watch.stop()
    wait_until(lambda: not watching(), "the thread to end")


def test_a_look_says_what_came_went_and_was_replaced_since_an_earlier_one(cache: Cache) -> None:
    before = cache.look()
    assert before.since(before) == {}
    assert {key: len(found) for key, found in before.since(Look()).items()} == {"user:1": 1, "user:2": 1, "raw": 1}
    cache.set("raw", "another")
    cache.delete("user:1")
    cache.set("new", 1)
    changed = cache.look().since(before)
    assert {key: [meta.type for meta in found] for key, found in changed.items()} == {
        "raw": ["str"], "user:1": [], "new": ["int"],
    }  # fmt: skip
    cache.clear()
    assert cache.look().since(Look()) == {}
    assert set(cache.look().since(before)) == {"user:1", "user:2", "raw"}


def test_what_did_not_change_is_not_sent_again(cache: Cache, page: Page, side: KernelSide) -> None:
    side.receive({"kind": "delete", "ids": [entry_id("user:2")]})  # the page hears of it at once
    page.take("note")
    assert page.labels == {"user:1", "raw"}
    for _ in range(3):  # each time it comes into sight it is looked, and the folder's time did move
        side.receive(SIGHT)
        side.receive({**SIGHT, "inSight": False})
        wait_until(lambda: not watching(), "the thread to end")
    assert page.messages.empty()
