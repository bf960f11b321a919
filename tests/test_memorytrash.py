"""The trash of stores that have none of their own: what `undo` hands out, and what goes for good (C2, E6)."""

from __future__ import annotations

import pytest

from nbstep.stores import memorytrash
from nbstep.stores.base import Totals, TrashTotals
from nbstep.stores.memorytrash import KEPT_FOR_NS, MemoryTrash

SECOND_NS = 1_000_000_000


class Clock:
    """Nanoseconds that pass only when told."""

    def __init__(self) -> None:
        self.at_ns = KEPT_FOR_NS

    def __call__(self) -> int:
        return self.at_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def trash(clock: Clock) -> MemoryTrash:
    """One key three times, twice of them in one batch; another key between."""
    made = MemoryTrash(clock)
    for key, content, batch in (("k", b"k0", "b1"), ("k", b"k1", "b2"), ("j", b"j0", "b2"), ("k", b"k2", "b2")):
        made.add(key, content, batch)
        clock.at_ns += SECOND_NS
    return made


def taken(trash: MemoryTrash, key: str | None) -> list[bytes]:
    return [item.content for item in trash.take_back(key)]


def test_c2_undo_of_a_key_hands_out_what_went_last_one_by_one(trash: MemoryTrash) -> None:
    assert [taken(trash, "k") for _ in range(4)] == [[b"k2"], [b"k1"], [b"k0"], []]
    assert taken(trash, "j") == [b"j0"]


def test_c2_undo_hands_out_the_last_batch_of_two_entries_of_a_key_the_older_and_the_other_stays(
    trash: MemoryTrash,
) -> None:
    assert taken(trash, None) == [b"k1", b"j0"]
    assert (trash.holds("k"), trash.holds("j")) == (True, False)
    assert [taken(trash, None) for _ in range(3)] == [[b"k2"], [b"k0"], []]


def test_c2_it_says_what_waits_and_is_emptied_at_once(trash: MemoryTrash) -> None:
    assert trash.totals() == TrashTotals(4, 8)
    assert trash.empty() == 4
    assert (trash.totals(), trash.holds("k"), trash.empty()) == (TrashTotals(0, 0), False, 0)


def test_c2_after_24_hours_an_entry_goes_for_good(trash: MemoryTrash, clock: Clock) -> None:
    clock.at_ns = 2 * KEPT_FOR_NS + 2 * SECOND_NS  # the first two are older than a day, the third just not
    assert trash.collect(dry_run=True) == Totals(2, 4)
    assert trash.totals().entries == 4
    assert trash.collect(dry_run=False) == Totals(2, 4)
    assert trash.totals() == TrashTotals(2, 4)
    assert [taken(trash, "k"), taken(trash, "j")] == [[b"k2"], [b"j0"]]


def test_c2_whatever_comes_takes_the_place_of_what_is_too_old(trash: MemoryTrash, clock: Clock) -> None:
    clock.at_ns = 2 * KEPT_FOR_NS + 2 * SECOND_NS
    trash.add("new", b"n", "b3")
    assert [taken(trash, key) for key in ("k", "k", "j", "new")] == [[b"k2"], [], [b"j0"], [b"n"]]


def test_the_oldest_go_when_memory_would_be_too_small_for_all(
    trash: MemoryTrash, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memorytrash, "HELD_BYTES_AT_MOST", 6)
    trash.add("k", b"k3", "b3")
    assert trash.totals() == TrashTotals(3, 6)
    assert [taken(trash, "k"), taken(trash, "k"), taken(trash, "k"), taken(trash, "j")] == [
        [b"k3"],
        [b"k2"],
        [],
        [b"j0"],
    ]
