"""How far a `step.map` is, in words and as a bar, from its events."""

from __future__ import annotations

from dataclasses import replace

import pytest
from browser import need_chromium, open_browser
from test_steplist import NOW, Story

from nbstep.events import StepFinished, StepsAhead
from nbstep.notebook.progress import Progress, progress_of
from nbstep.notebook.steplist import StepList
from nbstep.notebook.steprender import html_of, live_of
from nbstep.notebook.steprows import rows_of, summary_of, words_of


def mapping(total: int) -> Story:
    story = Story()
    story.events.append(StepsAhead("r", 1, total))
    return story


def progress(story: Story) -> Progress:
    found = progress_of(story.state(), NOW)
    assert found is not None
    return found


def test_it_counts_what_is_cached_ran_and_failed() -> None:
    story = mapping(10)
    story.hit("m:0")
    story.hit("m:1", error="ValueError: no")
    story.ran("m:2", at=NOW - 8)
    story.ran("m:3", at=NOW - 6, error="ValueError: no")
    story.started("m:4")
    story.ran("another step")
    found = progress(story)
    assert (found.total, found.cached, found.ran, found.failed, found.done) == (10, 1, 1, 2, 4)
    assert found.rate is found.left_s is None  # two of them say nothing yet


def test_what_ran_in_this_run_is_not_cached_when_it_is_asked_again() -> None:
    story = mapping(4)
    story.ran("m:0")
    story.hit("m:0")
    assert (progress(story).ran, progress(story).cached) == (1, 0)


def test_n3_the_line_of_a_terminal_begins_with_how_far_the_map_is() -> None:
    story = mapping(1000)
    for n in range(100):
        story.ran(f"m:{n}", 0.1, at=NOW - 50 + n / 2)
    line = live_of(story.state(), NOW, 79)
    assert line.startswith(f"{progress(story).text()} · 1,000 steps: 100 ran")
    assert "a second, about 7 m 30 s left" in line
    assert " of 1,000, " not in live_of(story.ended().state(), NOW, 79)


def test_the_rate_and_the_time_left_are_those_of_what_is_computed() -> None:
    """After an interrupt all that is kept comes first, and says nothing about the rest."""
    story = mapping(1000)
    for n in range(500):
        story.hit(f"m:{n}")
    for n in range(500, 600):
        story.ran(f"m:{n}", 0.1, at=NOW - 50 + (n - 500) / 2)
    found = progress(story)
    assert found.rate == pytest.approx(2.0)
    assert found.left_s == pytest.approx(400 / 2)
    assert found.text() == "600 of 1,000, 2 a second, about 3 m 20 s left"


def test_what_is_under_way_counts_in_part() -> None:
    """A second after 32 began and the first 6 are over, as many a second as that would be a sixth of what comes."""
    story = mapping(200)
    for n in range(6):
        story.ran(f"m:{n}", 1.0, at=NOW - 1.1)
    for n in range(6, 38):
        story.started(f"m:{n}", at=NOW - 1.1)
    found = progress(story)
    assert found.rate == pytest.approx(22 / 1.1, rel=0.1)
    assert found.left_s == pytest.approx((16 + 162) / 20, rel=0.1)


def test_what_has_just_begun_counts_for_nothing() -> None:
    story = mapping(100)
    for n in range(8):
        story.ran(f"m:{n}", 1.0, at=NOW - 1)
    for n in range(8, 16):
        story.started(f"m:{n}", at=NOW)
    found = progress(story)
    assert found.rate == pytest.approx(8.0)
    assert found.left_s == pytest.approx(92 / 8)


def test_hits_between_what_is_computed_are_expected_of_the_rest_too() -> None:
    story = mapping(1000)
    story.ran("m:0", 0.1, at=NOW - 50)
    for n in range(1, 200):  # kept in one piece, before it was interrupted the first time
        story.hit(f"m:{n}")
    for n in range(200, 400):
        if n % 4 == 3:
            story.ran(f"m:{n}", 0.1, at=NOW - 50 + (n - 200) / 4)
        else:
            story.hit(f"m:{n}")
    found = progress(story)
    assert found.left_s == pytest.approx(600 / 4 / (found.rate or 0), rel=0.1)


def test_with_workers_of_other_processes_the_rate_begins_with_their_first_work() -> None:
    """They start for a minute, and take each item that waits for them when they are free."""
    story = mapping(100)
    for n in range(30):
        story.started(f"m:{n}", at=NOW - 70, elsewhere=True)
    for n in range(20):
        story.events.append(StepFinished("r", n, f"m:{n}", "ok", NOW - 9.5 + n / 2, 0.5, 500))
    found = progress(story)
    assert (found.done, found.rate) == (20, pytest.approx(2.0))
    assert found.text() == "20 of 100, 2 a second, about 40 s left"


def test_what_waits_for_a_worker_is_not_said_to_run() -> None:
    story = mapping(100)
    for n in range(16):
        story.started(f"m:{n}", at=NOW - 70, elsewhere=True)
    state = story.state()
    assert (
        summary_of(rows_of(state, NOW), NOW, not_started=state.not_started)
        == "100 steps: 16 with workers, 84 not started"
    )
    words = words_of(rows_of(state, NOW)[0], NOW)
    assert (words.state, words.time, words.age) == ("with workers", "", "new")
    assert "a worker process runs it, or will when it is free" in words.hint
    assert live_of(state, NOW, 200) == "0 of 100 · 100 steps: 16 with workers, 84 not started"


def test_where_all_is_there_nothing_is_promised() -> None:
    story = mapping(1000)
    for n in range(999):
        story.hit(f"m:{n}")
    assert progress(story).text() == "999 of 1,000"


def test_it_goes_with_the_end_of_the_cell_and_comes_with_step_map_only() -> None:
    story = mapping(3)
    story.ran("m:0")
    assert 'class="g"' in html_of(story.state(), NOW)
    assert 'class="g"' not in html_of(story.ended().state(), NOW)
    assert progress_of(replace(StepList(), run="r"), NOW) is None


def test_the_bar_has_a_part_for_each_kind() -> None:
    story = mapping(4)
    story.hit("m:0")
    story.ran("m:1")
    story.ran("m:2", error="ValueError: no")
    page = html_of(story.state(), NOW)
    for tone, word in (("kept", "cached"), ("plain", "ran"), ("failed", "failed")):
        assert f'<span class="{tone}" style="width:25.0%" title="1 {word}"></span>' in page


@pytest.mark.browser
def test_n3_the_bar_of_a_map_is_there_before_anything_is_done() -> None:
    need_chromium()
    story = mapping(10)
    story.started("m:0")
    with open_browser() as browser:
        page = browser.new_page()
        page.set_content(html_of(story.state(), NOW))
        assert page.locator(".g").inner_text() == "0 of 10"
        box = page.locator(".g .b").bounding_box()
    assert (box["width"], box["height"]) == (240, 4)
