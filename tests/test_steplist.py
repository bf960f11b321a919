"""The step list: a pure fold over events, its words, and its three renderings."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import pytest

from nbstep import create_workflow
from nbstep.durations import clock_text
from nbstep.events import (
    CacheChanged,
    Event,
    Finding,
    MapEnded,
    Place,
    Reason,
    RunFinished,
    RunStarted,
    StepAsked,
    StepFinished,
    StepHit,
    StepMissed,
    StepsAhead,
    StepStarted,
    StepWaiting,
)
from nbstep.notebook.folding import fold, prefix_of
from nbstep.notebook.foot import size_of
from nbstep.notebook.settling import settle
from nbstep.notebook.steplist import StepList, reduce, reduce_all
from nbstep.notebook.steprender import CacheFoot, html_of, plain_of, saved_of
from nbstep.notebook.steprows import rows_of, summary_of, words_of
from nbstep.testing import RecordingListener
from nbstep.words import text_width

NBVAL_SANITIZE = (resources.files("nbstep") / "nbval_sanitize.cfg").read_text(encoding="utf-8")
NOW = 1_700_000_000.0
DAY = 86_400.0


def _map_of(key: str | None) -> int | None:
    return 1 if key is not None and key.startswith("m:") else None


class Story:
    """Writes the events of one run, as the engine would tell them."""

    def __init__(self, name: str | None = None, mode: str = "normal") -> None:
        self.events: list[Event] = [RunStarted("r", NOW - 60, name, Place("a.ipynb", 1), mode, "~/proj/.nbstep")]
        self._next = 0
        self._free_at = NOW - 30_000  # when the next step may run

    def asked(self, key: str | None, line: int = 1, parent: int | None = None) -> int:
        number = self._next
        self._next += 1
        self.events.append(StepAsked("r", number, key, Place("a.ipynb", 1, line), NOW - 50, parent, map=_map_of(key)))
        return number

    def hit(self, key: str, *, saved_s: float = 3.2, age_s: float = DAY, size: int = 1000, **facts: Any) -> int:
        step = self.asked(key)
        outcome = "error" if facts.get("error") else "ok"
        self.events.append(StepHit("r", step, key, outcome, NOW, NOW - age_s, saved_s, size, **facts))
        return step

    def started(
        self,
        key: str | None,
        line: int = 1,
        parent: int | None = None,
        reason: Reason = "new",
        at: float = NOW - 20,
        *,
        elsewhere: bool = False,
    ) -> int:
        step = self.asked(key, line, parent)
        self.events.append(StepMissed("r", step, key, reason if key else "no-key"))
        self.events.append(StepStarted("r", step, key, at, elsewhere=elsewhere))
        return step

    def finished(self, step: int, key: str | None, took_s: float = 2.0, error: str | None = None, **facts: Any) -> None:
        size = facts.get("size", 500 if key else None)
        outcome = "error" if error else "ok"
        interrupted = facts.get("interrupted", False)
        self.events.append(
            StepFinished(
                "r", step, key, outcome, NOW, took_s, size, error, interrupted, not_kept=facts.get("not_kept", "")
            )
        )

    def ran(
        self, key: str | None, took_s: float = 2.0, *, line: int = 1, parent: int | None = None, **facts: Any
    ) -> int:
        at = facts.pop("at", self._free_at)
        self._free_at = at + took_s
        step = self.started(key, line, parent, facts.pop("reason", "new"), at)
        facts.setdefault("size", 500 if key and not facts.get("interrupted") else None)
        self.finished(step, key, took_s, **facts)
        return step

    def ended(self) -> Story:
        self.events.append(RunFinished("r", NOW, "ok", 60))
        return self

    def state(self) -> StepList:
        return reduce_all(StepList(), self.events)


def summary(story: Story) -> str:
    return summary_of(rows_of(story.state(), NOW), NOW)


def states(story: Story) -> dict[str, str]:
    return {row.label: row.state for row in rows_of(story.state(), NOW)}


def test_what_ran_side_by_side_does_not_count_as_saved_one_by_one() -> None:
    """The sum alone would promise three minutes where the run took a second."""
    story = Story()
    for n in range(200):
        story.hit(f"p:{n}", saved_s=1.0, age_s=30 + n / 1000)
    assert summary(story) == "200 steps: 200 cached (saved 3 m 20 s, side by side in 1.2 s, oldest 30 s ago)"


def test_a_list_that_is_live_says_of_when_it_is() -> None:
    """A notebook keeps it where the kernel dies: nobody takes it for what happens now."""
    story = Story()
    story.started("model")
    live = html_of(story.state(), NOW, live=True)
    assert f">as of {clock_text(NOW)}</span>" in live
    assert ">as of " not in html_of(story.ended().state(), NOW)


class Text(HTMLParser):
    """What a reader without styles and scripts sees, and every tag."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self._in_style = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self._in_style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if not self._in_style:
            self.texts.append(data)


def test_n3_summary_counts_what_was_saved_ran_and_failed() -> None:
    story = Story("sales")
    for user in range(9):
        story.hit(f"user:{user}", saved_s=250 / 9, age_s=9 * DAY + 60 * user)
    story.ran("page:1", 20)
    story.ran("page:2", 11)
    story.hit("user:999", error="HTTPStatusError: 404")
    expected = r"12 steps: 9 cached \(saved 4 m 10 s, oldest \d+ d ago\), 2 ran \(31 s\), 1 failed \(cached\)"
    assert re.fullmatch(expected, summary(story))


def test_n3_steps_that_ran_side_by_side_are_said_to_have() -> None:
    story = Story()
    for number in range(20):
        story.ran(f"page:{number}", 3, at=NOW - 20 + number / 20)
    assert summary(story) == "20 steps: 20 ran (1 m, side by side in 4.0 s)"
    story.ran("alone", 9)
    story.ran(None, 5, line=7, at=NOW - 18)
    assert summary(story) == "22 steps: 21 ran (1 m 9 s, side by side in 13 s), 1 without key (5.0 s)"


def test_every_word_of_a_row() -> None:
    story = Story()
    story.hit("kept")
    story.hit("old", drift="tidy() was edited")
    story.hit("bad", error="ValueError: no")
    story.hit("other task", source="shared")
    story.ran("fresh")
    story.ran("broken", error="KeyError: 'x'")
    story.ran(None, line=14)
    story.started("busy")
    waiting = story.asked("blocked")
    story.events.append(StepWaiting("r", waiting, "blocked", "b.ipynb (pid 812)", NOW - 130))
    assert states(story) == {
        "kept": "cached",
        "old": "old value",
        "bad": "failed (cached)",
        "other task": "shared",
        "fresh": "ran",
        "broken": "failed",
        "line 14": "no key",
        "busy": "running",
        "blocked": "waiting",
    }
    rows = {row.label: words_of(row, NOW) for row in rows_of(story.state(), NOW)}
    assert rows["kept"].time == "saved 3.2 s"
    assert rows["kept"].age == "1 d ago"
    assert rows["other task"].state == "computed elsewhere"
    assert ", 1 computed elsewhere, " in summary(story)
    assert rows["old"].detail == "tidy() was edited"
    assert rows["bad"].detail == "ValueError: no"
    assert rows["line 14"].detail == "not kept: add key="
    assert rows["busy"].time == "20 s"
    assert rows["blocked"].detail == "b.ipynb (pid 812) has been computing it for 2 m 10 s; an interrupt ends the wait"
    assert rows["fresh"].hint == "ran: first time under this key · line 1"


def test_n3_why_a_step_ran_is_said_in_words_of_people() -> None:
    story = Story()
    for reason in get_args(Reason):
        if reason != "no-key":
            story.ran(reason, reason=reason)
    told = {row.label: words_of(row, NOW).age for row in rows_of(story.state(), NOW)}
    assert told["drifted"] == "changed"
    assert told["error-retried"] == "tried again"
    assert not any("-" in word for word in told.values())


def test_c3_why_a_result_was_not_kept_is_said_once() -> None:
    """In a line under the list, or at the row where no line says it of that key."""
    story = Story()
    story.ran("a", size=None, not_kept="the disk is full")
    story.ran("b", size=None, not_kept="the disk is full")
    story.events.append(Finding("r", "a", "no-room", "a was not kept: the disk is full"))
    rows = {row.label: words_of(row, NOW) for row in rows_of(story.state(), NOW)}
    assert (rows["a"].detail, rows["b"].detail) == ("not kept", "not kept: the disk is full")
    assert "not kept: the disk is full" in rows["a"].hint


@pytest.mark.parametrize("count", [80, 4100])  # with more than 4,000 the first ones are no longer known one by one
def test_c3_how_many_could_not_be_kept_is_said_also_of_a_long_run(count: int) -> None:
    story = Story()
    for n in range(count):
        lost = 40 <= n < 56  # a server was away
        story.ran(f"n:{n}", 1.0, **({"size": None, "not_kept": "the server is away"} if lost else {}))
    rows = fold(rows_of(settle(story.state(), NOW), NOW))
    told = [(row.label, row.count, words_of(row, NOW).detail) for row in rows]
    assert told == [("n:*", 16, "not kept"), ("n:*", count - 16, "")]
    assert re.search(f"{count:,} ran [^,]*, 16 of them not kept$", summary_of(rows, NOW))


def test_what_was_not_to_be_kept_is_not_called_lost() -> None:
    story = Story()
    story.ran("a", size=None)
    assert "kept" not in summary_of(rows_of(story.state(), NOW), NOW)


def test_an_interrupted_step_is_no_failure() -> None:
    """It has a word and a mark of its own, is not red, and is not saved as `ok`."""
    story = Story()
    story.ran("stopped", 20, error="KeyboardInterrupt", interrupted=True)
    story.ran(None, 3, line=7, error="CancelledError", interrupted=True)
    state = story.ended().state()
    assert states(story) == {"stopped": "interrupted", "line 7": "interrupted"}
    words = words_of(rows_of(state, NOW)[0], NOW)
    assert (words.mark, words.tone, words.time, words.age) == ("■", "plain", "20 s", "")
    assert words.detail == "not kept: it runs again when it is next asked"
    assert summary(story) == "2 steps: 2 interrupted"
    assert "Interrupt" not in plain_of(state, NOW)
    assert 'class="failed"' not in html_of(state, NOW)
    assert saved_of(state, NOW) == "2 steps\n  open    line 7\n  open    stopped"


def test_c4_a_wait_that_was_interrupted_has_ended() -> None:
    story = Story()
    step = story.asked("k")
    story.events.append(StepWaiting("r", step, "k", "b.ipynb (pid 812)", NOW - 9))
    story.finished(step, "k", 0.0, error="KeyboardInterrupt", interrupted=True, size=None)
    state = story.ended().state()
    assert states(story) == {"k": "interrupted"}
    words = words_of(rows_of(state, NOW)[0], NOW, NOW)
    assert (words.detail, words.time) == ("stopped waiting for b.ipynb (pid 812), which goes on", "")


@pytest.mark.parametrize(
    ("holder", "by"),
    [("b.ipynb (pid 812)", "b.ipynb (pid 812)"), ("another kernel", "another kernel"), ("w", "another task or thread")],
)
def test_c4_a_shared_row_says_who_computed(holder: str, by: str) -> None:
    story = Story()
    step = story.hit("k", source="shared")
    story.events.insert(-1, StepWaiting("r", step, "k", holder, NOW - 9))
    assert f"computed once, by {by}" in words_of(rows_of(story.state(), NOW)[0], NOW).hint


def test_e5_a_row_says_what_to_type_when_you_point_at_it() -> None:
    story = Story()
    story.hit("bad", error="ValueError: no")
    story.hit("old", drift="tidy() was edited")
    state = replace(story.ended().state(), raised=False, folder="", line="%%workflow sales")
    page = html_of(state, NOW)
    assert re.search(r'<tr class="failed" title="kept [^"]* · try again: %nbstep retry bad">', page)
    assert re.search(
        r'<tr class="old" title="[^"]* · run it again: %%workflow sales --rerun-drifted, or %nbstep rm old · '
        r'keep it: %nbstep accept old">',
        page,
    )
    assert "<li>1 failure is kept. Try it again: %nbstep retry bad</li>" in page
    assert "nbstep retry" not in saved_of(state, NOW)
    assert "is kept. Try" not in html_of(replace(state, raised=True), NOW)
    assert "nbstep retry" not in html_of(replace(state, folder=None), NOW)


def test_e6_a_row_in_place_of_a_failed_refetch_has_nothing_to_accept() -> None:
    story = Story()
    story.hit("k", drift="refetch failed: OSError: no", stale=True)
    page = html_of(story.ended().state(), NOW)
    assert "nothing to do: the next run tries again" in page
    assert "accept" not in page


def test_e4_a_row_shows_the_first_sentence_of_an_error_and_all_of_what_nbstep_objects_to() -> None:
    story = Story()
    long = "HTTPStatusError: 404 Not Found for url 'http://x/1' For more information check: https://x.org/404"
    story.hit("http", error=long)
    story.ran("words", error="ValueError: " + "word " * 40)
    refusal = "KeyCollision: 'k' is already another step's key in this run. Use another key: key=\"k:2\""
    story.ran("k", error=refusal)
    story.events[-1] = replace(story.events[-1], refused=True)
    http, words, refused = (words_of(row, NOW) for row in rows_of(story.state(), NOW))
    assert http.detail == "HTTPStatusError: 404 Not Found for url 'http://x/1'"
    assert long in http.hint
    assert (len(words.detail), words.detail[-1]) == (120, "…")
    assert refused.detail == refusal


def test_colour_is_never_alone() -> None:
    """N3: every state that has a colour has a mark and a word as well."""
    story = Story()
    story.hit("old", drift="f() was edited")
    story.hit("bad", error="ValueError: no")
    page = plain_of(story.state(), NOW)
    assert re.search(r"▲ old +old value", page)
    assert re.search(r"✕ bad +failed \(cached\)", page)


def test_a_key_asked_twice_is_one_row_and_no_saving() -> None:
    """A value computed in this run is not counted as saved when it is asked again."""
    story = Story()
    story.ran("a", 5)
    story.hit("a", saved_s=5)
    (row,) = rows_of(story.state(), NOW)
    assert (row.state, row.count, row.saved_s, row.spent_s) == ("ran", 2, 0.0, 5)
    assert summary(story) == "1 step: 1 ran (5.0 s)"
    assert words_of(row, NOW).count == "×2"


def test_a_failure_asked_again_stays_a_failure_of_this_run() -> None:
    story = Story()
    story.ran("a", error="ValueError: no")
    story.hit("a", error="ValueError: no")
    assert states(story) == {"a": "failed"}


def test_steps_without_key_group_by_line() -> None:
    story = Story()
    story.ran(None, 2, line=14)
    story.ran(None, 3, line=14)
    story.ran(None, 1, line=15)
    assert [(row.label, row.count, row.spent_s) for row in rows_of(story.state(), NOW)] == [
        ("line 14", 2, 5),
        ("line 15", 1, 1),
    ]


def test_inner_steps_stand_under_the_outer_one_and_add_no_time() -> None:
    story = Story()
    outer = story.started("outer")
    story.ran("first", 1)
    story.ran("inner", 4, parent=outer)
    story.finished(outer, "outer", 10)
    rows = rows_of(story.state(), NOW)
    assert [(row.label, row.depth) for row in rows] == [("outer", 0), ("inner", 1), ("first", 0)]
    assert summary_of(rows, NOW) == "3 steps: 3 ran (11 s)"


def test_n8_a_step_that_outlives_its_cell_is_listed_as_ended_later() -> None:
    story = Story()
    step = story.started("slow")
    story.ended()
    assert states(story) == {"slow": "still running"}
    story.finished(step, "slow", 9)
    assert states(story) == {"slow": "ended later"}


def test_a_step_nobody_awaited_is_told_apart_from_a_running_one() -> None:
    story = Story()
    story.asked("forgotten")
    story.ended()
    assert states(story) == {"forgotten": "not awaited"}


def test_n3_an_item_whose_turn_had_not_come_did_not_start() -> None:
    story = Story()
    story.events.append(StepsAhead("r", 1, 3, ("m:1", "m:2", "m:3")))
    story.ran("m:1")
    story.asked("m:2")
    assert "3 steps: 1 ran (2.0 s), 2 not started" in plain_of(story.state(), NOW)
    story.ended()
    assert "! 2 steps did not start" in plain_of(story.state(), NOW)
    assert states(story) == {"m:1": "ran"}


def test_steps_of_a_workflow_inside_the_cell_are_listed() -> None:
    story = Story()
    story.ran("mine")
    story.events.append(RunStarted("inner", NOW, "w", Place(), "normal", None))
    story.events.append(StepAsked("inner", 0, "theirs", Place(), NOW))
    story.events.append(StepFinished("inner", 0, "theirs", "ok", NOW, 1.0, 10))
    story.events.append(RunFinished("inner", NOW, "ok", 1))
    story.ran("mine too")
    assert list(states(story)) == ["mine", "theirs", "mine too"]
    assert set(states(story).values()) == {"ran"}


def test_events_of_strangers_change_nothing() -> None:
    before = Story().state()
    after = reduce(before, StepAsked("other", 0, "k", Place(), NOW))
    after = reduce(after, CacheChanged("~/proj", "deleted", ("k",)))
    assert after == before


def test_reduce_is_pure_and_agrees_with_reduce_all() -> None:
    story = Story("x")
    story.ran("a")
    story.hit("b")
    states_seen = [StepList()]
    for event in story.events:
        copy = states_seen[-1]
        states_seen.append(reduce(copy, event))
    assert states_seen[0] == StepList()
    assert states_seen[-1] == story.state()


@pytest.mark.parametrize(
    ("key", "prefix"),
    [("user:1", "user:*"), ("a:b=0.1", "a:b=*"), ("page_12", "page_*"), ("clean", "*"), ("x/y/z", "x/y/*")],
)
def test_long_runs_fold_by_prefix(key: str, prefix: str) -> None:
    assert prefix_of(key) == prefix


def test_n3_a_long_run_folds_but_failures_waiting_and_running_stay() -> None:
    story = Story()
    for user in range(497):
        story.hit(f"user:{user}", saved_s=4, age_s=DAY * (2 + user % 18))
    for page in range(9):
        story.ran(f"events:page:{page}")
    story.hit("user:999", error="HTTPStatusError: 404")
    story.started("model")
    folded = fold(rows_of(story.state(), NOW))
    assert [(row.label, row.count) for row in folded] == [
        ("user:999", 1),
        ("model", 1),
        ("user:*", 497),
        ("events:page:*", 9),
    ]
    assert words_of(folded[2], NOW).age == "2–19 d ago"
    assert len(html_of(story.state(), NOW)) < 12_000


def test_n3_of_many_that_run_at_once_those_asked_first_stay() -> None:
    story = Story()
    for user in range(30):
        story.ran(f"user:{user}")
    for user in range(30, 62):
        story.started(f"user:{user}")
    folded = fold(rows_of(story.state(), NOW))
    assert [(row.label, row.count, row.state) for row in folded] == [
        *((f"user:{user}", 1, "running") for user in range(30, 35)),
        ("user:*", 27, "running"),
        ("user:*", 30, "ran"),
    ]


def test_n3_a_list_that_will_be_folded_is_from_the_beginning() -> None:
    story = Story()
    story.events.append(StepsAhead("r", 1, 200))
    for user in range(32):
        story.started(f"user:{user}", at=NOW - 4 + user / 10)
    lines = plain_of(story.state(), NOW).splitlines()
    assert [line.split()[1:4] for line in lines[1:]] == [
        *([f"user:{user}", "running", f"{4 - user / 10}"] for user in range(5)), ["user:*", "×27", "running"],
    ]  # fmt: skip
    assert lines[-1].endswith("3.5 s")  # the one that has been running longest, not all of them together
    ended = story.ended().state()
    assert len(rows_of(ended, NOW)) == 32
    assert "user:31" in plain_of(ended, NOW)


@pytest.mark.parametrize(("other", "label"), [("user:{}", "user:*"), ("u{}", "*")])
def test_n3_what_is_left_of_many_failures_is_called_by_what_their_keys_share(other: str, label: str) -> None:
    story = Story()
    for n in range(60):
        story.hit((other if n > 40 else "user:{}").format(n), error="ValueError: no")
    folded = fold(rows_of(story.state(), NOW))
    assert [(row.label, row.count) for row in folded[-2:]] == [("user:24", 1), (label, 35)]


def test_n3_a_few_keys_without_a_prefix_keep_their_names_and_many_fold_too() -> None:
    story = Story()
    for key in ("raw", "model", *(f"user:{user}" for user in range(50))):
        story.ran(key)
    assert [(row.label, row.count) for row in fold(rows_of(story.state(), NOW))] == [
        ("raw", 1),
        ("model", 1),
        ("user:*", 50),
    ]
    assert [line.split() for line in saved_of(story.ended().state(), NOW).splitlines()[1:]] == [
        ["ok", "model"], ["ok", "raw"], ["ok", "user:*", "×50"],
    ]  # fmt: skip
    many = Story()
    for word in range(100):
        many.ran("x" * (word + 1))
    assert [(row.label, row.count) for row in fold(rows_of(many.state(), NOW))] == [("*", 100)]


def test_d3_old_values_of_one_cause_fold_with_it_and_a_few_stay() -> None:
    story = Story()
    for number in range(60):
        story.hit(f"label:{number}", drift="`PROMPT` changed: put it in the key")
    story.hit("clean", drift="tidy() was edited")
    story.ran("bad", error="ValueError: no")
    folded = [words_of(row, NOW) for row in fold(rows_of(story.state(), NOW))]
    assert [(words.label, words.count, words.state, words.detail) for words in folded] == [
        ("bad", "", "failed", "ValueError: no"),
        ("label:*", "×60", "old value", "`PROMPT` changed: put it in the key"),
        ("clean", "", "old value", "tidy() was edited"),
    ]


@pytest.mark.parametrize("count", [1_000, 5_000])
def test_the_list_stays_small_whatever_happens(count: int) -> None:
    story = Story()
    for number in range(count):
        story.ran(f"k{number}:{'x' * (number % 7)}", error="ValueError: no" if number % 2 else None)
    assert len(fold(rows_of(story.state(), NOW))) < 80
    assert len(saved_of(story.ended().state(), NOW).splitlines()) < count


def cold_and_warm() -> tuple[StepList, StepList]:
    cold, warm = Story("sales"), Story("sales")
    for key in ("b:10", "a", "b:9"):
        outer = cold.started(key)
        cold.ran(f"inside {key}", parent=outer)
        cold.finished(outer, key, 3)
    cold.ran("bad", error="ValueError: no")
    cold.ran(None, line=7)
    cold.events.append(Finding("r", "a", "not-stored", "a: not kept"))
    for key in ("a", "b:9", "b:10"):  # threads may ask in another order
        warm.hit(key, age_s=5)
    warm.hit("bad", error="ValueError: no")
    warm.ran(None, line=7)
    return cold.ended().state(), warm.ended().state()


def test_n3_the_saved_text_is_the_same_cold_and_warm() -> None:
    cold, warm = cold_and_warm()
    assert saved_of(cold, NOW) == saved_of(warm, NOW + 3600)
    assert saved_of(cold, NOW) == (
        "sales: 5 steps\n  ok      a\n  ok      b:9\n  ok      b:10\n  failed  bad\n  ok      line 7"
    )


def test_n3_one_pattern_makes_the_html_equal_too() -> None:
    cold, warm = (f"before {html_of(state, NOW)} after" for state in cold_and_warm())
    pattern, replacement = re.search("^regex: (.*)\nreplace: (.*)$", NBVAL_SANITIZE, re.MULTILINE).groups()  # type: ignore[union-attr]
    assert cold != warm
    assert re.sub(pattern, replacement, cold) == re.sub(pattern, replacement, warm) == "before  after"


HOSTILE = "<script>alert(1)</script><!--\u202eevil\x1b[31m\n\"'&nbstep-->\ud800"


def test_n7_hostile_keys_and_messages_stay_text() -> None:
    story = Story(HOSTILE)
    story.ran(HOSTILE, error=f"ValueError: {HOSTILE}")
    story.hit("k", drift=HOSTILE)
    story.events.append(Finding("r", None, "x", HOSTILE))
    page = html_of(story.ended().state(), NOW, CacheFoot(HOSTILE))
    assert set(Text(page).tags) == {"div", "style", "b", "table", "tbody", "tr", "td", "span", "ul", "li"}
    assert "\u202e" not in page
    assert page.count("nbstep-->") == 1
    for text in (page, plain_of(story.state(), NOW), saved_of(story.state(), NOW)):
        assert "\x1b" not in text
        text.encode()


@pytest.mark.parametrize(("wait_s", "work_s", "told"), [(0.01, 0.001, True), (0.01, 0.02, False), (0.06, 0.001, False)])
def test_n3_the_foot_s_size_is_counted_on_a_loaded_machine_too(
    tmp_path: Path, wait_s: float, work_s: float, told: bool
) -> None:
    """Eight folders: it may wait for the processor for longer than it may work itself."""
    for part in range(8):
        (tmp_path / "v1" / "e" / str(part)).mkdir(parents=True)
        (tmp_path / "v1" / "e" / str(part) / "entry").write_bytes(b"12345")
    waits, works = (itertools.count(0, step) for step in (wait_s, work_s))
    size = size_of(tmp_path, lambda: next(waits), lambda: next(works))
    assert size == (40 if told else None)


def test_html_reads_well_without_styles() -> None:
    story = Story("sales")
    story.hit("user:1")
    text = " ".join(Text(html_of(story.state(), NOW, CacheFoot("~/p/.nbstep", 1_200_000_000, 212_000_000_000))).texts)
    assert "user:1 cached saved 3.2 s" in text
    assert "cache ~/p/.nbstep · 1.2 GB · 212 GB free" in text


def test_the_terminal_table_fits_the_width() -> None:
    story = Story("sales")
    story.hit("user:1")
    story.hit("k" * 300, error="HTTPStatusError: " + "404 " * 50)
    story.ran("日本語:" + "語" * 60)
    lines = plain_of(story.state(), NOW, width=110).splitlines()[1:]
    assert all(text_width(line) <= 110 for line in lines)
    assert any("HTTPStatusError: 404" in line for line in lines)


@pytest.mark.parametrize("width", [40, 50, 80])
def test_n3_a_narrow_terminal_keeps_keys_states_and_times_and_breaks_lines_between_words(width: int) -> None:
    story = Story("sales")
    story.hit("user:1")
    story.hit("k" * 300, error="HTTPStatusError: " + "404 " * 50)
    story.ran("日本語:" + "語" * 60)
    text = plain_of(story.state(), NOW, CacheFoot("~/p/.nbstep", 1_200_000_000, 212_000_000_000), width=width)
    assert max(map(text_width, text.splitlines())) <= width
    assert all(
        said in " ".join(text.split()) for said in ("✓ user:1", "failed (cached)", "saved 3.2 s, oldest", "2.0 s")
    )


def test_flags_and_mode_are_named() -> None:
    state = reduce_all(StepList(flags=("ttl 1h",)), Story(mode="refresh").events)
    page = html_of(state, NOW)
    assert "<i>mode refresh</i> <i>ttl 1h</i>" in page


def test_equal_findings_are_one_line() -> None:
    story = Story()
    for _ in range(3):
        story.events.append(Finding("r", "k", "not-stored", "k: not kept"))
    for number in range(30):
        story.events.append(Finding("r", "k", "x", f"finding {number}"))
    text = plain_of(story.state(), NOW)
    assert "! k: not kept (×3)" in text
    assert "! and 19 findings more" in text


def test_n3_maps_that_share_keys_leave_none_that_did_not_start() -> None:
    listener = RecordingListener()

    def body(step: Any) -> None:
        step.map(str, [1, 2, 3], key="m:{}", n_jobs=2)
        step.map(str, [1, 2, 3, 4], key="m:{}", n_jobs=2)

    create_workflow(cache={}, on_event=listener)(body).unwrap()
    text = plain_of(reduce_all(StepList(), listener.events), NOW)
    assert "4 steps: 4 ran" in text
    assert "start" not in text.partition("\n")[0]
    assert "did not start" not in text


class _Users:
    """Whose function the user stops, at some numbers, once each."""

    def __init__(self, *stopped: int) -> None:
        self.stopped = list(stopped)

    def get(self, n: int) -> int:
        if n in self.stopped:
            self.stopped.remove(n)
            raise KeyboardInterrupt
        return n


def _said_of(users: _Users, body: Callable[[Callable[[Iterable[int]], Any]], Any]) -> str:
    """What the list says of a body that asks for users, several times; each map may be stopped."""
    listener = RecordingListener()

    def asks(step: Any) -> None:
        def ask(items: Iterable[int]) -> None:
            with suppress(KeyboardInterrupt):
                step.map(users.get, items, key="m:{}", n_jobs=1, ignore=["self"])

        body(ask)

    create_workflow(cache={}, on_event=listener)(asks).unwrap()
    return plain_of(reduce_all(StepList(), listener.events), NOW)


def test_n3_a_map_that_was_stopped_and_asked_again_leaves_none_that_did_not_start() -> None:
    text = _said_of(_Users(2), lambda ask: (ask(range(6)), ask(range(5, -1, -1))))
    assert "6 steps: 6 ran" in text
    assert "start" not in text


def test_n3_a_stopped_map_that_is_asked_again_in_parts_leaves_only_what_nobody_asked() -> None:
    text = _said_of(
        _Users(2), lambda ask: (ask(range(20)), ask(range(10)), ask(n for n in range(10, 14)), ask(range(12, 30)))
    )
    assert "30 steps: 30 ran" in text
    assert "start" not in text
    assert "2 interrupted, 18 not started" in _said_of(_Users(4, 19), lambda ask: (ask(range(20)), ask(range(19, 24))))


def test_n3_a_key_of_several_items_is_one_step_that_did_not_start() -> None:
    text = _said_of(_Users(), lambda ask: ask([0, 0, 0, 1]))
    assert "start" not in text
    listener = RecordingListener()

    def body(step: Any) -> None:
        step.map(_Users(4).get, [n // 3 for n in range(30)], key="m:{}", n_jobs=1, refresh=True, ignore=["self"])

    with pytest.raises(KeyboardInterrupt):
        create_workflow(cache={}, on_event=listener)(body)
    assert "10 steps: 4 ran" in (text := plain_of(reduce_all(StepList(), listener.events), NOW))
    assert "5 not started" in text


def test_n3_a_map_of_very_many_keys_that_was_asked_again_leaves_none_that_did_not_start() -> None:
    many = 12_000
    state = reduce_all(
        StepList(), [RunStarted("r", NOW, None, Place(), "normal", None), StepsAhead("r", 0, many, (), 7)]
    )
    state = reduce_all(state, [StepAsked("r", n, f"m:{n}", Place(), NOW, map=0) for n in range(50)])
    state = reduce_all(state, [StepStarted("r", n, f"m:{n}", NOW) for n in range(50)])
    assert state.not_started == many - 50
    state = reduce_all(state, [MapEnded("r", 0), StepsAhead("r", 1, many, (), 7)])
    assert state.not_started == many


def test_n3_a_stopped_map_of_a_generator_says_that_there_is_a_rest() -> None:
    users, listener = _Users(2), RecordingListener()

    def body(step: Any) -> None:
        step.map(users.get, (n for n in range(9)), key="m:{}", n_jobs=1, ignore=["self"])

    with pytest.raises(KeyboardInterrupt):
        create_workflow(cache={}, on_event=listener)(body)
    said = plain_of(reduce_all(StepList(), listener.events), NOW)
    assert "! a step.map was stopped before it had all of its items: run the cell again for the rest" in said


def test_n3_each_map_that_was_stopped_says_how_many_of_its_own_did_not_start() -> None:
    text = _said_of(_Users(3, 13), lambda ask: (ask(range(6)), ask(range(10, 16))))
    assert "12 steps: 6 ran" in text
    assert "4 not started" in text
    assert "! 4 steps did not start" in text


def test_n3_what_earlier_maps_asked_does_not_hide_what_did_not_start() -> None:
    text = _said_of(_Users(3), lambda ask: (ask(n for n in (20, 21, 22)), ask([0, 1]), ask(range(6))))
    assert "2 not started" in text


def test_n3_a_map_that_began_says_what_is_still_to_come() -> None:
    story = Story()
    story.events.append(StepsAhead("r", 1, 30))
    for n in range(8):
        step = story.started(f"m:{n}")
        story.finished(step, f"m:{n}", took_s=1.0)
    story.started("m:8")
    state = story.state()
    assert "30 steps: 8 ran (8.0 s, side by side in 1.0 s), 1 running, 21 not started" in plain_of(state, NOW)
    assert "run the cell again" not in plain_of(state, NOW)
    story.events.append(RunFinished("r", NOW, "error", 60.0, "KeyboardInterrupt"))
    assert "! 21 steps did not start: run the cell again for the rest" in plain_of(story.state(), NOW)
