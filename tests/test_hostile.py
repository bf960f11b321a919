"""The hostile corpus in every text and table that nbstep makes: no element, no attribute, no control character (N7, T9).

What real front ends do with it is seen in `test_hostile_browser.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hostile import OUR_COLOURS, RAW, TEXTS, Page, harmless
from sample_rows import NOW, a_meta
from test_steplist import Story

from nbstep import Cache, Err, Ok, create_workflow
from nbstep.cache.records import ErrorText, Facts
from nbstep.commands.details import Detail, detail_html, detail_of, detail_text
from nbstep.commands.listing import Totals, row_of
from nbstep.commands.panelside import packed
from nbstep.commands.tables import Screen
from nbstep.commands.verbs import run_command
from nbstep.errors import NbstepError
from nbstep.events import Finding, Place, StepWaiting
from nbstep.notebook.snapshot import snapshot_html, snapshot_plain
from nbstep.notebook.steplist import StepList
from nbstep.notebook.steprender import CacheFoot, html_of, plain_of, saved_of
from nbstep.stores.base import run_now
from nbstep.words import shown

CORPUS = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
COLOURED = Screen(width=90, colour=True)


def a_list(text: str) -> StepList:
    """A step list in which everything that others wrote is this text."""
    story = Story(text, mode=text)
    story.ran(text)
    story.ran(f"{text}:failed", error=f"{text}: {text}")
    story.hit(f"{text}:old", drift=text)
    story.hit(f"{text}:kept", error=text)
    story.events.append(StepWaiting("r", story.asked(f"{text}:waits"), f"{text}:waits", text, NOW - 9))
    story.finished(story.started(f"{text}:alone"), f"{text}:alone", size=None, not_kept=text)
    story.events += [Finding("r", text, "x", f"{text} was not kept: {text}"), Finding("r", None, "y", text)]
    return replace(story.ended().state(), flags=(text,), folder=text, line=f"%%workflow {text}", raised=False)


@CORPUS
def test_t9_the_step_list_makes_the_elements_that_innocent_texts_make(text: str) -> None:
    page = Page(html_of(a_list(text), NOW, CacheFoot(text), [text]))
    innocent = Page(html_of(a_list(harmless(text)), NOW, CacheFoot(harmless(text)), [harmless(text)]))
    assert page.made() == innocent.made()
    assert page.text.count(shown(text)[:50]) >= 10
    assert not RAW.search(page.text)


@CORPUS
def test_t9_the_lists_text_holds_no_control_character(text: str) -> None:
    for said in (plain_of(a_list(text), NOW, CacheFoot(text), notes=[text]), saved_of(a_list(text), NOW)):
        assert not RAW.search(said)
        assert shown(text)[:8] in said


def rows_of_text(text: str) -> list[Any]:
    what = ErrorText(text, text, text)
    facts = Facts(took_s=1.0, place=Place(text, 1, 1), workflow=text, source=text, uses=(text,))
    old = a_meta(text, type=text, shape=text, preview=text, facts=facts, python=text, packages={text: text})
    return [old, replace(old, outcome="error", error=what), replace(old, signer=text, trusted=False)]


@CORPUS
def test_t9_the_panels_snapshot_makes_the_elements_that_innocent_texts_make(text: str) -> None:
    def page(said: str) -> Page:
        rows = [row_of(meta) for meta in rows_of_text(said)]
        return Page(snapshot_html(rows, Totals(shown(said), 3, 1, 10, 0, 0, 0.0), NOW))

    assert page(text).made() == page(harmless(text)).made()
    assert page(text).text.count(shown(text)[:50]) >= 7
    assert not RAW.search(page(text).text)
    assert not RAW.search(snapshot_plain([row_of(meta) for meta in rows_of_text(text)], 3))


@CORPUS
def test_t9_an_entry_in_full_makes_the_elements_that_innocent_texts_make(text: str) -> None:
    def details(said: str) -> list[Detail]:
        known = [detail_of(meta, went_into=[said]) for meta in rows_of_text(said)]
        changed = ((shown(said), f"+{shown(said)}\n-{shown(said)}\n {shown(said)}", True),)
        return [*known, replace(known[0], differences=changed, inputs=((shown(said), shown(said), True),))]

    for hostile, innocent in zip(details(text), details(harmless(text)), strict=True):
        # A break in a text of several lines is one here, too.
        lines = Page(detail_html(hostile, shown(text))), Page(detail_html(innocent, harmless(text)))
        assert set(lines[0].made()[0]) == set(lines[1].made()[0])
        assert lines[0].others == []
        assert not RAW.search(lines[0].text)
        assert not RAW.search(OUR_COLOURS.sub("", detail_text(hostile, colour=True)))


@CORPUS
def test_t9_what_the_page_is_sent_is_ready_to_be_shown(text: str) -> None:
    for meta in rows_of_text(text):
        said = [part for part in packed(row_of(meta)) if isinstance(part, str)]
        assert not [part for part in said if RAW.search(part) or "\n" in part]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Keeps the corpus: as keys, values, messages, types, names of workflows and notebooks, sources and what was used."""
    made = Cache(tmp_path_factory.mktemp("hostile") / ".nbstep")
    for name, text in TEXTS.items():
        kind = type(text.replace("\x00", ""), (Exception,), {"__module__": text})
        facts = Facts(took_s=1.0, place=Place(text, 1, 1), workflow=text, source=text, uses=(text, name))
        assert type(run_now(made.keep(text, Ok({text: [text]}), facts))).__name__ == "Kept"
        assert type(run_now(made.keep(f"{name}\n{text}"[:4000], Err(kind(text)), facts))).__name__ == "Kept"
    return made


@pytest.mark.parametrize("screen", [COLOURED, Screen(width=200, notebook=True)], ids=["a terminal", "a notebook"])
@pytest.mark.parametrize(
    "verb",
    ["ls", "ls error:", "ls nothing", "ls --trash", "verify", "verify NAME", "gc --dry-run", "doctor", "settings", "show NAME",
     "rm NAME", "undo", "undo NAME", "rm NAME --and-later", "retry NAME", "accept NAME", "trust NAME", "undo NAME NAME",
     "NAME", "help NAME", "export NAME FOLDER", "import-joblib NAME", "ls unused:NAME", "ls --cache NAME", "show --as NAME NAME",
     "rm --untrusted NAME", "show NAME --json", "ls --json", "undo --back NAME", "autoload NAME"],
)  # fmt: skip
def test_t9_no_verb_prints_a_control_character(cache: Cache, screen: Screen, verb: str, tmp_path: Path) -> None:
    for text in TEXTS.values():
        words = [text if word == "NAME" else word.replace("NAME", text) for word in verb.split()]
        words = [str(tmp_path) if word == "FOLDER" else word for word in words]
        if text == "*" and words[0] in ("rm", "export"):
            continue
        said = run_command(words, cache=cache, screen=screen)
        for printed in (OUR_COLOURS.sub("", said.text), Page(said.html).text):
            assert not RAW.search(printed), words
    run_command("undo", cache=cache)


def complaints(text: str, folder: Path) -> list[Callable[[], Any]]:
    """Ways to be told of a key, each with this text in it."""
    workflow = create_workflow(cache=Cache(folder / "c"), name=text)
    other = create_workflow(cache=Cache(folder / "c"), name=f"{text}, too")

    def twice(step: Any) -> None:
        step(lambda: len(text), key=text)
        step(lambda: repr(text), key=text)

    def inside(step: Any) -> None:
        step(lambda: step(lambda: 1, key=text), key=text)

    def fail(step: Any) -> None:
        step(lambda: int(text + "x"), key=f"{text}:bad")

    offline = create_workflow(cache=Cache(folder / "c"), name=text, mode="offline")
    return [
        lambda: workflow(twice).unwrap(),
        lambda: other(lambda step: step(lambda: repr(text), key=text)).unwrap(),
        lambda: workflow(inside).unwrap(),
        lambda: offline(lambda step: step(lambda: 1, key=f"{text}?")).unwrap(),
        lambda: workflow(lambda step: step("x", key=text)).unwrap(),
        lambda: workflow(lambda step: step(lambda: 1, key=text, ttl=text)).unwrap(),
        lambda: workflow(lambda step: step.map(len, [text, text], key=text)).unwrap(),
        lambda: Cache(folder / "c", durability=text),
    ]


def complained(complain: Callable[[], Any]) -> Exception | None:
    try:
        complain()
    except (NbstepError, TypeError, ValueError) as error:
        return error
    return None


@CORPUS
def test_t9_an_error_of_our_own_and_a_log_line_hold_no_control_character(
    text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "nbstep")
    errors = [complained(complain) for complain in complaints(text, tmp_path)]
    assert len([error for error in errors if error is not None]) >= 5
    assert [error for error in errors if RAW.search(str(error))] == []
    workflow = create_workflow(cache=Cache(tmp_path / "c"), name=text)
    for _ in range(2):
        result = workflow(lambda step: step(lambda: int("x"), key=f"{text}:bad"))
        notes = getattr(result.error, "__notes__", [])
        assert not [note for note in notes if RAW.search(note)]
    assert "From the cache: " in notes[0]
    workflow(lambda step: step(lambda: (n for n in ()), key=f"{text}:generator"))
    assert [record.getMessage() for record in caplog.records] != []
    assert not [record for record in caplog.records if RAW.search(record.getMessage())]
