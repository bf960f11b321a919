"""A run of very many steps: the step list says the same (N3), though it no longer knows each call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import pytest
from test_steplist import NOW, Story

from nbstep.events import Event, StepsAhead
from nbstep.notebook.progress import progress_of
from nbstep.notebook.settling import CALLS_AT_MOST, merged, settle
from nbstep.notebook.steplist import StepList, reduce_all
from nbstep.notebook.steprender import html_of, plain_of, saved_of
from nbstep.notebook.steprows import rows_of, summary_of

COUNT = 6000


def settled(events: Iterable[Event]) -> StepList:
    """The state of a list that looks now and then, as the one of a cell does."""
    state, left = StepList(), iter(events)
    while some := list(islice(left, 1000)):
        state = settle(reduce_all(state, some), NOW)
        assert len(state.calls) < CALLS_AT_MOST + 1000
    return settle(state, NOW)


def cold() -> Story:
    story = Story("many")
    story.events.append(StepsAhead("r", 1, COUNT))
    story.ran("load", 3.0)
    for n in range(COUNT):
        story.ran(f"m:{n}", 0.001, error="ValueError: no such user" if n % 5 == 0 else None)
    story.started("model")
    return story


def warm() -> Story:
    story = Story("many")
    story.events.append(StepsAhead("r", 1, COUNT))
    story.hit("load")
    for n in range(COUNT):
        story.hit(f"m:{n}", saved_s=0.001, age_s=60 + n, error="ValueError: no such user" if n % 5 == 0 else None)
    story.started("model")
    return story


def mixed() -> Story:
    story = Story("many")
    for n in range(COUNT):
        if n % 3 == 0:
            story.ran(None, 0.5, line=7)
        elif n % 3 == 1:
            story.hit(f"user:{n}:profile", drift="tidy() was edited")
        else:
            story.ran(f"{n:x}z", 0.1, size=None)
    return story


@pytest.mark.parametrize("make", [cold, warm, mixed])
def test_n3_it_counts_and_sums_as_if_each_call_was_known(make: Any) -> None:
    story = make()
    whole, state = story.state(), settled(story.events)
    assert len(state.calls) <= CALLS_AT_MOST
    assert summary_of(rows_of(state, NOW), NOW) == summary_of(rows_of(whole, NOW), NOW)
    assert saved_of(state, NOW) == saved_of(whole, NOW)
    assert progress_of(state, NOW) == progress_of(whole, NOW)
    assert state.not_started == whole.not_started
    # Which call a folded row shows of many is all that may differ.
    assert plain_of(state, NOW).splitlines()[-1] == plain_of(whole, NOW).splitlines()[-1]


def test_n3_the_saved_text_is_the_same_cold_and_warm() -> None:
    first, again = (saved_of(settled(story.ended().events), NOW) for story in (cold(), warm()))
    assert first == again
    assert "  failed  m:* ×1,200\n" in first + "\n"


def test_what_is_shown_of_very_many_steps_is_small() -> None:
    def told() -> Iterator[Event]:
        yield from Story("many").events
        for at in range(0, 20_000, 1000):
            story = Story()
            story._next = at
            for n in range(at, at + 1000):
                story.ran(f"m:{n}", 0.01, error=f"ValueError: no user {n}" if n % 10 == 0 else None)
            yield from story.events[1:]

    state = settled(told())
    page, text = html_of(state, NOW), saved_of(state, NOW)
    assert "20,000 steps: 18,000 ran" in page
    assert "2,000 failed" in page
    assert len(page) < 40_000
    assert len(text) < 500


def test_a_key_that_is_asked_again_after_it_settled_counts_once() -> None:
    story = Story()
    for n in range(COUNT):
        story.ran(f"m:{n}", 0.001)
    for n in range(COUNT):
        story.hit(f"m:{n}")
    state = settled(story.events)
    assert summary_of(rows_of(state, NOW), NOW).startswith(f"{COUNT:,} steps: {COUNT:,} ran")
    assert "cached" not in summary_of(rows_of(state, NOW), NOW)


def test_a_failure_of_a_key_that_settled_is_seen() -> None:
    story = Story()
    for n in range(COUNT):
        story.ran(f"m:{n}", 0.001)
    story.ran("m:0", error="ValueError: not this time")
    rows = rows_of(settled(story.events), NOW)
    assert [row.label for row in rows if row.state == "failed"] == ["m:0"]


def test_the_smallest_gaps_close_first() -> None:
    spans = [(0.0, 1.0), (1.1, 1.0), (5.0, 1.0), (6.2, 1.0), (20.0, 1.0)]
    assert merged(spans, 5) == tuple(spans)
    assert merged(spans, 3) == ((0.0, 2.1), (5.0, 2.2), (20.0, 1.0))
