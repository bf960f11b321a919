"""The panel's kernel side, driven by the messages that a page sends (DESIGN section 6, T9, T10, T12)."""

from __future__ import annotations

import asyncio
import json
import queue
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from test_commands import AsyncStore, keep_error, log_run

from nbstep import Cache, Ok, create_workflow, events
from nbstep.cache.records import Facts
from nbstep.commands.listing import entry_id
from nbstep.commands.verbs import run_command
from nbstep.events import CacheChanged, RunFinished
from nbstep.notebook import kernelside
from nbstep.notebook.kernelside import KernelSide
from nbstep.stores.base import run_now

HOSTILE = [
    "<img src=x onerror=alert(1)>", '"><script>alert(1)</script>', "</script>", "javascript:alert(1)", "&#x3c;b&#x3e;",
    "a\u202eb", "\x1b]8;;http://x\x07link", "nul\x00", "lone\ud800", "../../etc/passwd", "line\nbreak",
]  # fmt: skip


class Page:
    """What a page would hold: it takes messages as the front end does."""

    def __init__(self) -> None:
        self.messages: queue.Queue[dict[str, Any]] = queue.Queue()
        self.rows: dict[str, list[Any]] = {}
        self.totals: dict[str, Any] = {}
        self.notes: list[str] = []

    def send(self, message: dict[str, Any]) -> None:
        self.messages.put(json.loads(json.dumps(message, allow_nan=False, ensure_ascii=False).encode()))

    def take(self, kind: str) -> dict[str, Any]:
        """Takes messages until one of that kind came."""
        while True:
            message = self.messages.get(timeout=20)
            self.totals = message.get("totals", self.totals)
            if message["kind"] == "rows" and message["first"]:
                self.rows.clear()
            for row_id in message.get("gone", []):
                del self.rows[row_id]
            self.rows.update({row[0]: row for row in message.get("rows", [])})
            if message["kind"] == "note":
                self.notes.append(message["text"])
            if message["kind"] == kind:
                return message

    @property
    def labels(self) -> set[str]:
        return {row[1] for row in self.rows.values()}


def three_kept(folder: Path) -> Cache:
    """A cache of three values."""
    made = Cache(folder / ".nbstep")
    for key in ("user:1", "user:2", "raw"):
        made.set(key, {"key": key})
    return made


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    made = three_kept(tmp_path)
    keep_error(made, "user:999", ValueError("no such user"), "lambda: fetch_user(999)")
    return made


@pytest.fixture
def page() -> Page:
    return Page()


@pytest.fixture
def side(cache: Cache, page: Page) -> Iterator[KernelSide]:
    made = KernelSide(cache, page.send, changes_every_s=0.01)
    made.receive({"kind": "ready", "view": "v1"})
    page.take("rows")
    yield made
    made.close()


def test_a_page_that_is_ready_gets_every_row_and_the_totals(cache: Cache, side: KernelSide, page: Page) -> None:
    assert page.labels == {"user:1", "user:2", "raw", "user:999"}
    assert (page.totals["entries"], page.totals["failed"], page.totals["place"]) == (4, 1, cache.place)
    row = page.rows[entry_id("user:999")]
    assert row[1:6] == ["user:999", "failed", "ValueError", "", "no such user"]


def test_many_rows_come_in_several_messages(
    cache: Cache, page: Page, side: KernelSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernelside, "ROWS_A_MESSAGE", 3)
    side.receive({"kind": "ready", "view": "v2"})
    first, last = page.take("rows"), page.take("rows")
    assert (len(first["rows"]), first["first"], first["last"]) == (3, True, False)
    assert (len(last["rows"]), last["first"], last["last"]) == (1, False, True)


def test_the_first_message_holds_the_newest_rows_and_the_totals_of_all(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernelside, "ROWS_A_MESSAGE", 1)
    for at, key in enumerate(("oldest", "middle", "newest")):
        cache.clock = partial(float, 4e9 + at)
        cache.set(key, at)
    opened = Page()
    side = KernelSide(cache, opened.send, changes_every_s=3600.0)
    side.receive({"kind": "ready", "view": "v"})
    side.close()
    first = opened.take("rows")
    assert [row[1] for row in first["rows"]] == ["newest"]
    assert first["totals"]["entries"] == len(cache)


def test_n7_rows_hold_no_raw_control_characters_and_no_lone_surrogates(
    cache: Cache, page: Page, side: KernelSide
) -> None:
    for key in HOSTILE:
        run_now(cache.keep(key, Ok(1), Facts(took_s=0.1)))
    side.receive({"kind": "ready", "view": "v2"})
    page.take("rows")
    assert all(label.isprintable() for label in page.labels)
    assert {entry_id(key) for key in HOSTILE} <= set(page.rows)


def test_t12_only_ids_of_listed_entries_delete_anything(cache: Cache, side: KernelSide, page: Page) -> None:
    for ids in (
        ["user:1"],
        ["../../x"],
        [entry_id("user:1").upper()],
        [entry_id("other")],
        "user:1",
        None,
        [{}],
        [None],
    ):
        side.receive({"kind": "delete", "ids": ids})
        page.take("note")
    for message in ("delete", None, 5, {"kind": []}, {"kind": "no such"}, {}, {"kind": "detail", "id": "user:1"}):
        side.receive(message)
    assert len(cache) == 4


def test_e6_deleting_and_undoing_tells_the_page_what_went_and_came(cache: Cache, side: KernelSide, page: Page) -> None:
    side.receive({"kind": "delete", "ids": [entry_id("user:1"), entry_id("raw"), entry_id("raw")]})
    page.take("note")
    assert page.notes == ["Deleted 2 entries: user:1, raw"]
    assert page.labels == {"user:2", "user:999"} == set(cache.keys())
    assert page.totals["trashEntries"] == 2
    side.receive({"kind": "undo"})
    page.take("note")
    assert page.labels == {"user:1", "user:2", "raw", "user:999"} == set(cache.keys())


def ids(*keys: str) -> list[str]:
    return [entry_id(key) for key in keys]


@pytest.fixture
def made(cache: Cache) -> None:
    for key, uses, took_s in (("clean", ["raw"], 30.0), ("by_store", ["clean"], 0.2), ("model", ["clean"], 1080.0)):
        run_now(cache.keep(key, Ok(key), Facts(took_s=took_s, uses=tuple(uses))))


@pytest.mark.usefixtures("made")
def test_d6_deleting_asks_exactly_when_something_was_made_from_it(side: KernelSide, page: Page, cache: Cache) -> None:
    side.receive({"kind": "delete", "ids": ids("clean"), "view": "v1"})
    asked = page.take("question")
    del asked["kind"]
    assert asked == {
        "view": "v1", "action": "delete", "text": "Delete 1 entry?",
        "told": "2 later steps were made from it: by_store (0.2 s), model (18 m)",
        "only": "Delete clean only", "all": "Delete all 3, next run about 19 m", "ids": ids("clean"),
        "later": ids("by_store", "model"),
    }  # fmt: skip
    assert "clean" in cache
    side.receive({"kind": "delete", "ids": ids("user:1", "raw"), "view": "v1"})
    asked = page.take("question")
    assert asked["told"] == "3 later steps were made from them: by_store (0.2 s), clean (30 s), model (18 m)"
    assert (asked["text"], asked["only"]) == ("Delete 2 entries?", "Delete these 2 only")
    for keys in (("user:1", "model"), ("clean", "by_store")):  # nothing was made from these, or it goes as well
        side.receive({"kind": "delete", "ids": ids(*keys), "view": "v1"})
        page.take("note")
        assert not set(cache.keys()) & set(keys)
    assert page.notes == ["Deleted 2 entries: user:1, model", "Deleted 2 entries: clean, by_store"]


def test_d6_retry_and_delete_all_errors_ask_as_delete_does(side: KernelSide, page: Page, cache: Cache) -> None:
    run_now(cache.keep("all_users", Ok(3), Facts(took_s=2.0, uses=("user:1", "user:999"))))
    for message in ({"kind": "retry", "ids": ids("user:999", "raw")}, {"kind": "delete-errors"}):
        side.receive({**message, "view": "v1"})
        asked = page.take("question")
        assert (asked["text"], asked["told"]) == (
            "Delete 1 kept error?",
            "1 later step was made from it: all_users (2.0 s)",
        )
        assert (asked["action"], asked["ids"], asked["later"]) == ("retry", ids("user:999"), ids("all_users"))
        assert {"user:999", "all_users"} <= set(cache.keys())
    side.receive({"kind": asked["action"], "ids": asked["ids"], "asked": True})
    page.take("note")
    assert page.notes == ["Deleted 1 kept error; it runs again when it is next asked: user:999"]
    assert "all_users" in cache


@pytest.mark.usefixtures("made")
def test_d6_the_answer_deletes_what_was_said_and_one_undo_brings_all_back(
    cache: Cache, side: KernelSide, page: Page
) -> None:
    before = set(cache.keys())
    side.receive({"kind": "delete", "ids": ids("clean"), "view": "v1"})
    asked = page.take("question")
    side.receive({"kind": "delete", "ids": [*asked["ids"], *asked["later"]], "asked": True})
    page.take("note")
    assert page.notes == ["Deleted 3 entries: clean, by_store, model"]
    assert page.labels == before - {"clean", "by_store", "model"} == set(cache.keys())
    side.receive({"kind": "undo"})
    page.take("note")
    assert page.labels == before == set(cache.keys())
    side.receive({"kind": "delete", "ids": ids("clean"), "asked": True})
    page.take("note")
    assert page.labels == before - {"clean"} == set(cache.keys())


@pytest.mark.usefixtures("made")
def test_d6_what_was_made_a_moment_ago_is_asked_about(cache: Cache, page: Page) -> None:
    side = KernelSide(cache, page.send, changes_every_s=3600.0)
    side.receive({"kind": "ready", "view": "v1"})
    run_now(cache.keep("report", Ok(1), Facts(took_s=1.0, uses=("user:1",))))
    side.receive({"kind": "delete", "ids": ids("user:1"), "view": "v1"})
    assert page.take("question")["told"] == "1 later step was made from it: report (1.0 s)"
    side.close()


@pytest.mark.parametrize("unit", ["k", "word "])
def test_t9_a_very_long_key_leaves_question_note_and_detail_short(
    cache: Cache, side: KernelSide, page: Page, unit: str
) -> None:
    first, then = (f"{name}:{unit * 800}:{name}" for name in ("first", "then"))
    run_now(cache.keep(first, Ok(1), Facts(took_s=1.0)))
    run_now(cache.keep(then, Ok(1), Facts(took_s=1.0, uses=(first,))))
    side.receive({"kind": "delete", "ids": ids(first), "view": "v1"})
    asked = page.take("question")
    assert asked["told"].startswith("1 later step was made from it: then:")
    assert asked["told"].endswith(":then (1.0 s)")
    assert (asked["only"][:13], asked["only"][-11:]) == ("Delete first:", ":first only")
    side.receive({"kind": "detail", "id": entry_id(then)})
    made_from = dict(page.take("detail")["facts"])["made from"]
    side.receive({"kind": "delete", "ids": [*asked["ids"], *asked["later"]], "asked": True})
    page.take("note")
    assert page.notes[0].startswith("Deleted 2 entries: first:")
    assert max(map(len, (asked["told"], asked["only"], made_from, page.notes[0]))) < 200


@pytest.mark.usefixtures("made")
def test_d6_the_detail_pane_says_what_it_was_made_from_and_went_into(side: KernelSide, page: Page) -> None:
    side.receive({"kind": "detail", "id": entry_id("clean")})
    facts = dict(page.take("detail")["facts"])
    assert (facts["made from"], facts["went into"]) == ("raw", "by_store, model")


def test_retry_deletes_errors_alone(cache: Cache, side: KernelSide, page: Page) -> None:
    side.receive({"kind": "retry", "ids": [entry_id("user:1"), entry_id("user:999")]})
    page.take("note")
    assert page.notes == ["Deleted 1 kept error; it runs again when it is next asked: user:999"]
    assert "user:1" in cache


def test_delete_errors_and_clear(cache: Cache, side: KernelSide, page: Page) -> None:
    side.receive({"kind": "delete-errors"})
    page.take("note")
    assert page.labels == {"user:1", "user:2", "raw"}
    side.receive({"kind": "clear"})
    page.take("note")
    assert page.labels == set() == set(cache.keys())
    assert page.notes[-1] == "Deleted all 3 entries"
    side.receive({"kind": "undo"})
    page.take("note")
    assert page.labels == {"user:1", "user:2", "raw"}


def test_the_trash_is_emptied_for_good(cache: Cache, side: KernelSide, page: Page) -> None:
    side.receive({"kind": "delete", "ids": ids("user:1", "raw")})
    page.take("note")
    assert page.totals["trashEntries"] == 2
    for _ in range(2):
        side.receive({"kind": "empty-trash"})
        page.take("note")
    assert page.notes[1:] == ["Emptied the trash: 2 entries are gone for good", "The trash is empty."]
    assert page.totals["trashEntries"] == 0
    assert page.labels == {"user:2", "user:999"} == set(cache.keys())
    assert cache.undo() == []


def test_c2_what_went_to_the_trash_while_it_was_asked_about_is_not_emptied(
    cache: Cache, side: KernelSide, page: Page
) -> None:
    cache.delete("user:1")
    asked_about = {"kind": "empty-trash", "count": 1}
    cache.delete("raw")
    side.receive(asked_about)
    page.take("note")
    assert page.notes == ["Nothing was emptied: 2 entries are in the trash by now, not 1."]
    assert page.totals["trashEntries"] == 2
    assert cache.undo() == ["raw"]
    side.receive(asked_about)
    page.take("note")
    assert page.notes[1:] == ["Emptied the trash: 1 entry is gone for good"]


def test_e5_the_detail_of_an_error_carries_its_traceback_and_where_it_stands(side: KernelSide, page: Page) -> None:
    side.receive({"kind": "detail", "id": entry_id("user:999")})
    detail = page.take("detail")
    assert detail["headline"] == "ValueError: no such user"
    assert detail["traceback"].startswith("Traceback (most recent call last):")
    assert ["from", "churn.ipynb, In [3], line 2"] in detail["facts"]
    assert detail["source"] == "lambda: fetch_user(999)"


def test_what_steps_keep_reaches_the_page_gathered(cache: Cache, side: KernelSide, page: Page) -> None:
    for number in range(20):
        cache.set(f"new:{number}", number)
    cache.delete("raw")
    expected = {"user:1", "user:2", "user:999", *(f"new:{number}" for number in range(20))}
    while page.labels != expected:
        page.take("change")
    assert page.totals["entries"] == 23


def test_after_a_change_only_what_changed_is_sent(cache: Cache, side: KernelSide, page: Page) -> None:
    cache.set("user:1", "another value")
    cache.delete("raw")
    gone, rows = set[str](), set[str]()
    while not (gone and rows):
        message = page.take("change")
        gone |= set(message["gone"])
        rows |= {row[1] for row in message["rows"]}
    assert (gone, rows) == ({entry_id("raw")}, {"user:1"})


def test_what_is_told_deleted_and_still_stands_stays(cache: Cache, side: KernelSide, page: Page) -> None:
    events.emit(CacheChanged(cache.place, "deleted", ("raw", "no such")))
    page.take("change")
    assert "raw" in page.labels


def test_an_end_of_a_run_that_used_nothing_sends_no_row(cache: Cache, side: KernelSide, page: Page) -> None:
    events.emit(RunFinished("r1", 1000.0, "ok", 1.0))
    assert page.take("change")["rows"] == []


def test_changes_come_from_any_thread(cache: Cache, side: KernelSide, page: Page) -> None:
    threads = [threading.Thread(target=cache.set, args=(f"t:{n}", n)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while page.totals["entries"] != 12:
        page.take("change")


def test_changes_of_another_cache_are_not_its_business(cache: Cache, side: KernelSide, page: Page) -> None:
    Cache("memory:").set("elsewhere", 1)
    cache.set("here", 1)
    page.take("change")
    assert "elsewhere" not in page.labels


def test_the_end_of_a_run_brings_new_hits_and_time_saved(cache: Cache, side: KernelSide, page: Page) -> None:
    log_run(cache, "r1", 1000.0, ("user:1", "ok"))
    events.emit(RunFinished("r1", 1000.0, "ok", 1.0))
    page.take("change")
    assert page.totals["saved"] == 1.5
    assert page.rows[entry_id("user:1")][10] == 1


def test_refresh_finds_what_another_process_did(cache: Cache, side: KernelSide, page: Page, tmp_path: Path) -> None:
    place = tmp_path / ".nbstep"
    # Not told by an event of this process: the files change behind the panel's back.
    (deleted,) = (path for path in place.rglob(f"{entry_id('raw')}.*") if path.is_file())
    deleted.unlink()
    side.receive({"kind": "refresh"})
    page.take("note")
    assert page.labels == {"user:1", "user:2", "user:999"}


def test_it_stops_following_when_the_last_view_is_gone_and_starts_anew(
    cache: Cache, side: KernelSide, page: Page
) -> None:
    listening = len(events._process_listeners)
    side.receive({"kind": "ready", "view": "v2"})
    side.receive({"kind": "closed", "view": "v1"})
    assert len(events._process_listeners) == listening
    side.receive({"kind": "closed", "view": "v2"})
    assert len(events._process_listeners) == listening - 1
    cache.set("meanwhile", 1)
    side.receive({"kind": "ready", "view": "v3"})
    while "meanwhile" not in page.labels:
        page.take("rows")


class Broken(dict[str, bytes]):
    """A mapping whose deletion fails."""

    def __delitem__(self, key: str) -> None:
        raise OSError("the disk is on fire\x1b[31m")

    def pop(self, *args: Any) -> Any:
        raise OSError("the disk is on fire\x1b[31m")


def test_c3_a_folder_removed_under_a_living_kernel_is_an_empty_panel_then_a_new_cache(page: Page, cache: Cache) -> None:
    assert cache.directory is not None
    side = KernelSide(cache, page.send, changes_every_s=0.01)
    side.receive({"kind": "ready", "view": "v"})
    page.take("rows")
    shutil.rmtree(cache.directory)
    side.receive({"kind": "refresh"})
    page.take("note")
    assert (page.labels, page.totals["entries"]) == (set(), 0)
    for command in ("ls", "panel", "gc", "verify", "doctor"):
        assert run_command(command, cache=cache).exit_code == 0
    assert (
        "the folder was removed; the next result that is kept makes it anew" in run_command("doctor", cache=cache).text
    )
    cache.set("new", 1)
    page.take("change")
    assert page.labels == {"new"}
    side.close()


def test_a_store_that_fails_is_a_line_in_the_panel(page: Page) -> None:
    cache = Cache(Broken())
    cache.set("a", 1)
    side = KernelSide(cache, page.send)
    side.receive({"kind": "ready", "view": "v"})
    side.receive({"kind": "delete", "ids": [entry_id("a")]})
    note = page.take("note")
    assert (note["text"], note["failed"]) == ("OSError: the disk is on fire\\x1b[31m", True)
    side.close()


def test_a_panel_over_an_async_store_works_on_its_loop(page: Page) -> None:
    async def drive() -> set[str]:
        cache = Cache(AsyncStore())
        await cache.set("user:1", 1)
        await cache.set("user:2", 2)
        side = KernelSide(cache, page.send, changes_every_s=0.01)
        # As ipykernel does: a request may come on another thread than the loop's.
        await asyncio.to_thread(side.receive, {"kind": "ready", "view": "v"})
        await asyncio.to_thread(page.take, "rows")
        side.receive({"kind": "delete", "ids": [entry_id("user:1")]})
        await asyncio.to_thread(page.take, "note")
        await cache.set("user:3", 3)
        while "user:3" not in page.labels:
            await asyncio.to_thread(page.take, "change")
        side.close()
        return page.labels

    assert asyncio.run(drive()) == {"user:2", "user:3"}


# Old values (D4)


def _ask(cache: Cache, key: str, n: int) -> None:
    create_workflow(cache=cache)(lambda step: step(lambda: n, key=key)).unwrap()


def test_d4_old_values_are_marked_shown_and_accepted_by_the_very_key(cache: Cache, page: Page) -> None:
    for key in ("old", "old*", "older"):
        _ask(cache, key, 1)
    side = KernelSide(cache, page.send, changes_every_s=0.01)
    side.receive({"kind": "ready", "view": "v"})
    page.take("rows")
    assert page.totals["old"] == 0
    for key in ("old", "old*", "older"):
        _ask(cache, key, 2)
    while page.totals["old"] < 3:
        page.take("change")
    row = page.rows[entry_id("old*")]
    assert (row[2], row[5]) == ("old value", "`n` was 1, is now 2: put it in the key")
    side.receive({"kind": "detail", "id": entry_id("old*")})
    detail = page.take("detail")
    assert detail["inputs"] == [["n", "1 then, 2 now", True]]
    side.receive({"kind": "accept", "ids": [entry_id("old*"), entry_id("raw")]})
    page.take("note")
    assert page.notes == ["Accepted 1 old value: old*."]
    assert (page.totals["old"], page.rows[entry_id("old*")][2], page.rows[entry_id("older")][2]) == (
        2,
        "ok",
        "old value",
    )
    side.receive({"kind": "undo"})
    page.take("note")
    assert page.totals["old"] == 3
    side.receive({"kind": "rerun", "ids": [entry_id("old"), entry_id("raw")]})
    page.take("note")
    assert page.notes[-1] == "Deleted 1 old value; it runs again when it is next asked: old"
    assert sorted(cache.keys()) == ["old*", "older", "raw", "user:1", "user:2", "user:999"]
    side.receive({"kind": "accept", "ids": [entry_id("raw"), "no id", 5]})
    page.take("note")
    assert page.notes[-1] == "There is nothing of that left to accept."
    side.close()


def test_d6_re_running_an_old_value_asks_about_what_was_made_from_it(cache: Cache, page: Page) -> None:
    for n in (1, 2):
        _ask(cache, "old", n)
    run_now(cache.keep("report", Ok(1), Facts(took_s=1.0, uses=("old",))))
    side = KernelSide(cache, page.send)
    side.receive({"kind": "ready", "view": "v"})
    side.receive({"kind": "rerun", "ids": ids("old", "raw"), "view": "v"})
    asked = page.take("question")
    assert (asked["view"], asked["text"]) == ("v", "Delete 1 old value?")
    assert (asked["told"], asked["action"]) == ("1 later step was made from it: report (1.0 s)", "rerun")
    assert "old" in cache
    side.receive({"kind": asked["action"], "ids": asked["ids"], "asked": True})
    page.take("note")
    side.close()
    assert page.notes == ["Deleted 1 old value; it runs again when it is next asked: old"]
    assert ("old" in cache, "report" in cache) == (False, True)


def test_d4_what_cannot_be_accepted_is_said_in_red(cache: Cache, page: Page) -> None:
    for n in (1, 2):
        _ask(cache, "old", n)
    side = KernelSide(cache, page.send)
    side.receive({"kind": "ready", "view": "v"})
    assert cache.locks is not None
    lock = cache.locks.take("old")
    assert lock is not None
    side.receive({"kind": "accept", "ids": [entry_id("old")]})
    note = page.take("note")
    lock.release()
    side.close()
    assert (note["text"], note["failed"]) == ("old was left as it is: its step is running right now.", True)
