"""The panel's script in a bare page in a real Chromium: it searches and words as Python does, paints and moves few rows."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from browser import need_chromium, open_browser
from sample_rows import NOW, a_failure, a_meta, a_row

import nbstep.notebook
from nbstep.cache.records import Facts
from nbstep.commands.details import detail_of
from nbstep.commands.listing import entry_id, matches, parse_query, row_of
from nbstep.commands.panelside import packed
from nbstep.commands.tables import expiry_text
from nbstep.durations import age_text, duration_text, size_text
from nbstep.notebook.folding import prefix_of
from nbstep.runlog import Usage

STATIC = Path(nbstep.notebook.__file__).parent / "static"
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    """The panel's script as a module in a bare page."""
    need_chromium()
    with open_browser() as browser:
        yield with_script(browser.new_page())


@pytest.fixture
def timed(script: Any) -> Iterator[Any]:
    """The same in a page of its own, whose clock the test turns."""
    page = script.context.browser.new_page()
    page.clock.install(time=NOW)
    yield with_script(page)
    page.close()


def with_script(page: Any) -> Any:
    source = base64.b64encode((STATIC / "panel.js").read_bytes()).decode()
    page.evaluate(f"async () => {{ window.panel = await import('data:text/javascript;base64,{source}'); }}")
    page.add_style_tag(path=STATIC / "panel.css")
    return page


def test_n6_the_pages_search_finds_what_ls_finds(script: Any) -> None:
    now = 9000.0
    labels = ["user:1", "user:10", "page[1]", "a b", "日本:1", "<img src=x>", "x]y", "x-y", "!bang", "User:UP"]
    rows = [
        make(
            label,
            status="old value" if label == "a b" else "failed" if n % 2 else "ok",
            created=1000.0 * n,
            last_used=5000.0 if n % 3 else None,
            type=["builtins.dict", "httpx.HTTPError"][n % 2],
        )
        for n, (label, make) in enumerate(zip(labels, [a_row, a_failure] * 5, strict=True))
    ]
    queries = [
        "", "error:", "error:http", "error:*Error", "error:value", "user:*", "USER:*", "user:?", "page[1]", "page[[]1]*",
        "*[1]*", "*[!1]*", "[x]*", "x]*", "x[]]y*", "x[-]y*", "*[z-a]*", "*[", "?[x", '"a b"', '"a b', '""', "a b",
        "unused:1h", "unused:30d", "unused:1h30m 1", "404", "日本:*", "<img *>", "!*", "*.*", "[!]]*", "[^x]*", "*[a^]*",
        "old:", "old:x",
    ]  # fmt: skip
    expected = [[row.label for row in rows if matches(parse_query(query), row, now)] for query in queries]
    found = script.evaluate(
        """([queries, rows, now]) => queries.map((query) => {
            const { words } = window.panel.parseQuery(query);
            return rows.filter((row) => window.panel.matches(words, row, now)).map((row) => row.label);
        })""",
        [queries, [as_page_row(packed(row)) for row in rows], now],
    )
    assert dict(zip(queries, expected, strict=True)) == dict(zip(queries, found, strict=True))
    problem = script.evaluate("() => window.panel.parseQuery('unused:soon').problem")
    assert problem == "unused:soon is no duration; write for example unused:30d"


def test_n6_the_page_tells_what_is_kept_as_ls_does(script: Any) -> None:
    rows = [
        a_row("a"), a_failure("b"), a_row("c", status="old value", message="tidy() was edited"),
        a_row("joblib:etl.fetch:5d41402abc4b2a76", message="uid=1"), a_row("d", status="untrusted"),
    ]  # fmt: skip
    found = script.evaluate("(rows) => rows.map(window.panel.whatText)", [as_page_row(packed(row)) for row in rows])
    assert found == [row.what for row in rows]
    assert found[3] == "dict 3 items · uid=1"


def as_page_row(values: list[Any]) -> dict[str, Any]:
    names = [
        "id",
        "label",
        "status",
        "type",
        "shape",
        "message",
        "size",
        "took",
        "created",
        "expires",
        "hits",
        "used",
        "saved",
        "asked",
    ]
    return dict(zip(names, values, strict=True))


def test_the_page_words_numbers_as_the_terminal_does(script: Any) -> None:
    chance = random.Random(1)
    seconds = [0, 0.0004, 0.0949, 0.095, 3.21, 9.94, 9.96, 31, 59.4, 61, 3599, 3600, 86399, 86401, 1e7]
    seconds += [chance.expovariate(1 / 5000) for _ in range(300)]
    sizes = [
        0,
        999,
        1000,
        12_300,
        999_499,
        84_000_000,
        5 * 10**12,
        *(int(chance.expovariate(1e-7)) for _ in range(300)),
    ]
    for name, expected, given in (
        ("durationText", list(map(duration_text, seconds)), seconds),
        ("ageText", list(map(age_text, seconds)), seconds),
        ("sizeText", list(map(size_text, sizes)), sizes),
    ):
        assert script.evaluate(f"(given) => given.map(window.panel.{name})", given) == expected
    moments = [None, 90.0, 110.0, 100_000.0]
    expected = [expiry_text(moment, 100.0) for moment in moments]
    assert script.evaluate("(given) => given.map((at) => window.panel.expiryText(at, 100))", moments) == expected


PAINT = """async (count) => {
    const heard = [];
    const hex = (n) => n.toString(16).padStart(64, "0");
    const rows = Array.from({length: count}, (_, n) => [hex(n), `events:page:${n}`, n % 9 ? "ok" : "failed",
        "pandas.DataFrame", "8,120 × 14", n % 9 ? "" : "404 Not Found", n * 100, n / 100, 1e9 + n, null, n % 5, null, 0]);
    const totals = {entries: count, failed: 1, size: 1, trashEntries: 0, trash: 0, saved: 0, place: "here"};
    const model = {on: (_, hear) => heard.push(hear), off() {}, send() {}};
    const el = document.body.appendChild(document.createElement("div"));
    const close = window.panel.default.render({model, el});
    heard[0]({kind: "rows", first: true, last: true, rows, now: Date.now() / 1000, totals});
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    const made = el.querySelectorAll(".nbstep-row").length;
    close();
    el.remove();
    return made;
}"""


def test_of_many_rows_only_those_in_view_are_made(script: Any) -> None:
    assert 5 < script.evaluate(PAINT, 10_000) < 100


CHANGES = """async (count) => {
    const heard = [];
    const hex = (n) => n.toString(16).padStart(64, "0");
    const row = (n, created) => [hex(n), `page:${n}`, "ok", "int", "", "", n, 1, created, null, 0, null, 0];
    const rows = Array.from({length: count}, (_, n) => row(n, 1e9 - n));
    const totals = {entries: count, failed: 0, size: 1, trashEntries: 0, trash: 0, saved: 0, place: "here"};
    const model = {on: (_, hear) => heard.push(hear), off() {}, send() {}};
    const el = document.body.appendChild(document.createElement("div"));
    const close = window.panel.default.render({model, el});
    const hear = (message) => heard[0]({now: 1e9 + 5, totals, ...message});
    const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    hear({kind: "rows", first: true, last: true, rows});
    const scroller = el.querySelector(".nbstep-grid");
    scroller.scrollTop = 26 * 500;
    await frame();
    const seen = () => {
        const top = scroller.getBoundingClientRect().top; // the columns' names cover 27 px of it
        const first = [...el.querySelectorAll(".nbstep-row")].filter((node) => node.getBoundingClientRect().bottom > top + 28)
            .sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top)[0];
        return first.querySelector(".nbstep-key").textContent;
    };
    const labels = () => [...el.querySelectorAll(".nbstep-row")].sort((a, b) => a.dataset.at - b.dataset.at)
        .map((node) => node.querySelector(".nbstep-key").textContent);
    const found = {before: seen()};
    [...el.querySelectorAll(".nbstep-row")].find((node) => node.textContent.includes("page:505")).click();
    hear({kind: "change", gone: [hex(3)], rows: [row(count, 1e9 + 1), row(count + 1, 1e9 + 2), row(7, 1e9 + 3)]});
    await frame();
    found.after = seen();
    found.picked = el.querySelector(".nbstep-picked").textContent;
    found.selected = [...el.querySelectorAll(".nbstep-row[aria-selected=true] .nbstep-key")].map((cell) => cell.textContent);
    scroller.scrollTop = 0;
    await frame();
    found.top = labels().slice(0, 8);
    hear({kind: "change", gone: [], rows: [row(3, 1e9 + 4)]});
    await frame();
    found.fresh = labels()[0];
    close();
    el.remove();
    return found;
}"""


def test_a_change_moves_neither_the_rows_in_view_nor_the_selection(script: Any) -> None:
    found = script.evaluate(CHANGES, 1000)
    assert found["before"] == found["after"] == "page:500"
    assert (found["picked"], found["selected"]) == ("1 selected · 505 B", ["page:505"])
    assert found["top"] == ["page:7", "page:1001", "page:1000", "page:0", "page:1", "page:2", "page:4", "page:5"]
    assert found["fresh"] == "page:3"


GROUPS = """(rows) => {
    const heard = [], said = [];
    const model = { on: (_, hear) => heard.push(hear), off() {}, send: (message) => said.push(message) };
    const el = document.body.appendChild(document.createElement("div"));
    const panel = new window.panel.Panel(model, el);
    const totals = { entries: rows.length, failed: 1, size: 1, trashEntries: 0, trash: 0, saved: 0, place: "here" };
    heard[0]({ kind: "rows", first: true, last: true, rows, now: 2000, totals });
    const button = (text) => [...el.querySelectorAll("button")].find((b) => b.textContent.startsWith(text) && !b.hidden);
    const texts = (name) => [...el.querySelectorAll(`.nbstep-row .nbstep-${name}`)].map((cell) => cell.textContent);
    const press = (key, more = {}) =>
        el.querySelector(".nbstep-grid").dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, ...more }));
    const found = { buttons: [...el.querySelectorAll(".nbstep-scopes button:not([hidden])")].map((b) => b.textContent) };
    found.opened = texts("key");
    found.head = el.querySelector(".nbstep-head strong").textContent;
    button("Last run").click();
    found.lastRun = texts("key");
    button("Whole project").click();
    button("Key").click();
    found.project = texts("key");
    button("Group").click();
    found.folded = [texts("key"), texts("status"), texts("what"), texts("size")];
    found.role = el.querySelector("[role=treegrid]") !== null;
    for (let n = 0; n < 3; n++) press("ArrowDown");
    found.picked = el.querySelector(".nbstep-picked").textContent;
    press("Delete");
    found.deleted = said.at(-1).ids;
    press("ArrowRight");
    found.open = texts("key");
    found.levels = [...el.querySelectorAll(".nbstep-row")].map((row) => row.getAttribute("aria-level") + row.ariaExpanded);
    press("Enter");
    found.closed = texts("key");
    found.stillPicked = el.querySelector(".nbstep-picked").textContent;
    el.querySelector(".nbstep-row[data-group] .nbstep-key").click();
    found.clicked = texts("key");
    button("Group").click();
    found.flat = texts("key");
    panel.close();
    el.remove();
    return found;
}"""


def test_the_panel_opens_on_this_notebook_and_groups_by_prefix(script: Any) -> None:
    rows = [
        packed(a_row("user:1", created=5.0), 1),
        packed(a_row("user:2", created=4.0), 3),
        packed(a_row("user:9", created=3.0, status="failed"), 2),
        packed(a_row("model", created=2.0)),
        packed(a_row("clean", created=1.5)),
        packed(a_row("page:1", created=1.0)),
        packed(a_row("page:2", created=0.5)),
    ]
    found = script.evaluate(GROUPS, rows)
    assert found["buttons"] == ["This notebook 2", "Last run 2", "Whole project 7", "Group"]
    assert (found["opened"], found["head"]) == (["user:1", "user:2"], "2 of 7 entries")
    assert found["lastRun"] == ["user:2", "user:9"]
    assert found["project"] == ["clean", "model", "page:1", "page:2", "user:1", "user:2", "user:9"]
    keys, statuses, what, sizes = found["folded"]
    assert keys == ["clean", "model", "page:* ×2", "user:* ×3"]
    assert statuses == ["✓ ok", "✓ ok", "✓ ok", "✕ failed"]
    assert sizes == ["10 B", "10 B", "20 B", "30 B"]
    assert what[2:] == ["", "1 failed"]
    assert found["role"] is True
    assert found["picked"].startswith("2 selected")
    assert found["deleted"] == [entry_id("page:1"), entry_id("page:2")]
    assert found["open"] == ["clean", "model", "page:* ×2", "page:1", "page:2", "user:* ×3"]
    assert found["levels"] == ["1null", "1null", "1true", "2null", "2null", "1false"]
    assert found["closed"] == keys
    assert found["stillPicked"].startswith("2 selected")
    assert found["clicked"] == ["clean", "model", "page:* ×2", "page:1", "page:2", "user:* ×3"]
    assert found["flat"] == found["project"]


OPENED_ON = """(rows) => {
    const heard = [];
    const model = { on: (_, hear) => heard.push(hear), off() {}, send() {} };
    const el = document.body.appendChild(document.createElement("div"));
    const panel = new window.panel.Panel(model, el);
    const totals = { entries: rows.length, failed: 0, size: 1, trashEntries: 0, trash: 0, saved: 0, place: "here" };
    heard[0]({ kind: "rows", first: true, last: true, rows, now: 2000, totals });
    const found = [...el.querySelectorAll(".nbstep-scopes [aria-pressed=true]")].map((button) => button.textContent);
    panel.close();
    el.remove();
    return found;
}"""


@pytest.mark.parametrize(
    ("asked", "opened"),
    [
        ([1, 1, 0], "This notebook 2"),
        ([3, 1, 1], "Whole project 3"),  # it is all of this notebook's
        ([2, 0, 0], "Last run 1"),
        ([2, 2, 2], "Whole project 3"),
        ([0, 0, 0], "Whole project 3"),
    ],
)
def test_the_panel_opens_on_the_notebook_or_else_the_last_run(script: Any, asked: list[int], opened: str) -> None:
    rows = [packed(a_row(f"key:{at}"), bits) for at, bits in enumerate(asked)]
    assert script.evaluate(OPENED_ON, rows) == [opened]


NARROWED = """(rows) => {
    const heard = [];
    const model = { on: (_, f) => heard.push(f), off: () => {}, send: () => {} };
    const el = document.body.appendChild(document.createElement("div"));
    const panel = new window.panel.Panel(model, el);
    const totals = { entries: rows.length, failed: 1, size: 1, trashEntries: 0, trash: 0, saved: 0, place: "here" };
    heard[0]({ kind: "rows", first: true, last: true, rows, now: 2000, totals });
    const button = (text) => [...el.querySelectorAll("button")].find((b) => b.textContent.startsWith(text) && !b.hidden);
    const pressed = () => el.querySelector(".nbstep-scopes [aria-pressed=true]").textContent;
    const found = { opened: pressed() };
    heard[0]({ kind: "change", gone: [rows[0][0]], rows: [], totals: { ...totals, entries: rows.length - 1 } });
    found.emptied = [pressed(), el.querySelector(".nbstep-empty").textContent];
    el.querySelector(".nbstep-link").click();
    found.errors = [pressed(), [...el.querySelectorAll(".nbstep-row .nbstep-key")].map((cell) => cell.textContent)];
    panel.close();
    el.remove();
    return found;
}"""


def test_a_narrowed_panel_says_what_is_empty_and_its_head_leads_to_what_it_counts(script: Any) -> None:
    rows = [packed(a_row("mine"), 1), packed(a_row("theirs", status="failed")), packed(a_row("other"))]
    found = script.evaluate(NARROWED, rows)
    assert found["opened"] == "This notebook 1"
    assert found["emptied"] == ["This notebook 0", "Nothing of that is kept. Whole project shows the rest."]
    assert found["errors"] == ["Whole project 2", ["theirs"]]


SORTED = """([rows, now]) => {
    const heard = [];
    const model = { on: (_, hear) => heard.push(hear), off() {}, send() {} };
    const totals = { entries: rows.length, failed: 0, size: 1, trashEntries: 0, trash: 0, saved: 0, place: "here" };
    const el = document.body.appendChild(document.createElement("div"));
    const panel = new window.panel.Panel(model, el);
    heard[0]({ kind: "rows", first: true, last: true, rows, totals, now });
    const found = {};
    for (const title of ["Status", "Size", "Hits"]) {
        const sorter = [...el.querySelectorAll(".nbstep-sorter")].find((made) => made.textContent === title);
        found[title] = [0, 1].map(() => {
            sorter.click();
            const shown = [...el.querySelectorAll(".nbstep-row")].sort((a, b) => a.dataset.at - b.dataset.at);
            return shown.map((row) => row.querySelector(".nbstep-key").textContent);
        });
    }
    panel.close();
    el.remove();
    return found;
}"""


def test_rows_that_are_alike_stand_newest_first_whichever_way_a_column_is_sorted(script: Any) -> None:
    rows = [packed(a_row(key, created=NOW - age)) for key, age in [("b", 2), ("d", 4), ("a", 1), ("c", 3)]]
    found = script.evaluate(SORTED, [rows, NOW])
    assert found == {title: [["a", "b", "c", "d"]] * 2 for title in ("Status", "Size", "Hits")}


def test_the_page_groups_as_the_step_list_folds(script: Any) -> None:
    labels = ["events:page:9", "cv:lr=0.1", "sales_2013", "model", "a1b2", "a/b", "日本:1", "x\ny:2", "7", "", "user:٣"]
    asked = "(labels) => labels.map(window.panel.prefixOf)"
    assert script.evaluate(asked, labels) == [prefix_of(label) for label in labels]


TOTALS = {"entries": 1, "failed": 0, "size": 1, "trashEntries": 0, "trash": 0, "saved": 0, "place": "here"}
OPEN = """([rows, now]) => {
    const heard = [];
    const model = { on: (_, hear) => heard.push(hear), off() {}, send() {} };
    const totals = { entries: rows.length, failed: 0, size: 1, trashEntries: 1, trash: 1, saved: 0, place: "here" };
    window.model = model;
    new window.panel.Panel(model, document.body.appendChild(document.createElement("div")));
    window.hear = (message) => heard[0]({ totals, now, ...message });
    window.hear({ kind: "rows", first: true, last: true, rows });
}"""


def test_a_note_goes_with_what_happens_next_and_one_that_undo_takes_back_stays(timed: Any) -> None:
    rows = {key: packed(a_row(key)) for key in ("a", "b", "c", "d")}
    timed.evaluate(OPEN, [list(rows.values()), NOW])
    note, hint = timed.locator(".nbstep-note"), "Click, Shift, Ctrl or the arrow keys select."

    def hear(kind: str, **message: Any) -> None:
        timed.evaluate("(message) => window.hear(message)", {"kind": kind, **message})

    def change(*keys: str, gone: str = "") -> None:
        hear("change", gone=[rows[gone][0]] if gone else [], rows=[rows[key] for key in keys])

    def says(text: str) -> bool:
        return note.inner_text().startswith(text)

    def delete(key: str) -> None:
        timed.locator(".nbstep-space").get_by_text(key, exact=True).click()
        timed.get_by_role("button", name="Delete", exact=True).click()
        change(gone=key)
        hear("note", text=f"Deleted 1 entry: {key}", failed=False, undoable=True)

    delete("a")
    timed.locator(".nbstep-space").get_by_text("b", exact=True).click()
    change("c")
    timed.clock.run_for(60_000)
    assert says("Deleted 1 entry: a")
    change("a")  # it ran again
    timed.clock.run_for(10)
    assert says(hint)
    delete("b")
    timed.get_by_role("button", name="Undo", exact=True).click()
    assert says(hint)
    change("b")
    hear("note", text="Restored 1 entry: b", failed=False, undoable=False)
    timed.clock.run_for(60_000)
    assert says("Restored")
    timed.locator(".nbstep-space").get_by_text("c", exact=True).click()
    assert says(hint)

    timed.get_by_role("button", name="Refresh", exact=True).click()
    hear("note", text="The cache was read again.", failed=False)
    change()  # nothing changed
    change("c")
    assert says("The cache was read again.")  # long enough to be read
    timed.clock.run_for(5000)
    assert says(hint)

    hear("note", text="The Jupyter server does not answer", failed=True, lasting=True)
    timed.locator(".nbstep-space").get_by_text("d", exact=True).click()
    change("c")
    timed.clock.run_for(5000)
    assert says("The Jupyter server does not answer")


def test_emptying_the_trash_asks_and_promises_no_undo(timed: Any) -> None:
    timed.evaluate(OPEN, [[packed(a_row("a"))], NOW])
    timed.evaluate("() => { window.said = []; window.model.send = (message) => window.said.push(message); }")
    empty, question = timed.get_by_role("button", name="Empty", exact=True), timed.get_by_role("alertdialog")
    empty.click()
    texts = question.inner_text().split("\n")
    assert texts == [
        "Delete 1 entry in the trash (1 B) for good?",
        "It cannot be brought back.",
        "Empty the trash",
        "Cancel",
    ]
    timed.evaluate("() => window.hear({ kind: 'change', gone: [], rows: [] })")  # which writes the head anew
    question.get_by_role("button", name="Cancel").click()
    assert timed.evaluate("document.activeElement.textContent") == "Empty"  # not *Undo*, on which another Enter acts
    asked_for = (
        "() => window.said.filter((message) => message.kind !== 'seen')"  # it may tell now that it came in sight
    )
    assert timed.evaluate(asked_for) == []
    empty.click()
    question.get_by_role("button", name="Empty the trash").click()
    (said,) = timed.evaluate(asked_for)
    assert (said["kind"], said["count"]) == ("empty-trash", 1)
    change = {"kind": "change", "gone": [], "rows": []}
    timed.evaluate("(message) => window.hear(message)", {**change, "totals": TOTALS})
    assert timed.get_by_role("button", name="Empty", exact=True).count() == 0
    shared = {**TOTALS, "trashEntries": 2, "place": "redis://team:6379/0"}  # what others deleted lies there, too
    timed.evaluate("(message) => window.hear(message)", {**change, "totals": shared})
    empty.click()
    assert question.inner_text().split("\n")[1] == "Nobody who uses this cache can bring them back."


def test_the_ages_in_the_details_go_on_as_those_in_the_rows(timed: Any) -> None:
    facts = Facts(took_s=2.0, ttl_s=600.0, accepted=NOW - 120)
    meta, usage = a_meta("a", created=NOW - 300, facts=facts), Usage(3, 6.0, NOW - 180, last_got="hit")
    timed.evaluate(OPEN, [[packed(row_of(meta, usage))], NOW])
    timed.locator(".nbstep-space").get_by_text("a", exact=True).click()
    detail = asdict(detail_of(meta, usage, NOW))
    timed.evaluate("(message) => window.hear(message)", {"kind": "detail", **detail})
    said = timed.locator(".nbstep-detail dd")
    assert said.all_inner_texts()[: len(detail["facts"])] == [text for _, text in detail["facts"]]
    assert timed.locator(".nbstep-space .nbstep-age").inner_text() == "5 m ago"
    timed.clock.run_for(150_000)
    assert timed.locator(".nbstep-space .nbstep-age").inner_text() == "7 m ago"
    told = dict(zip(timed.locator(".nbstep-detail dt").all_inner_texts(), said.all_inner_texts(), strict=True))
    assert told["kept"].startswith("7 m ago (")
    assert told["accepted"] == "4 m ago, as made by the code and inputs of that time"
    assert told["last asked"].startswith("5 m ago")
    assert told["used"] == "3 times, last 5 m ago, saved 6.0 s"
    assert told["expires"].startswith("in 2 m ")
    timed.clock.run_for(180_000)
    told = dict(zip(timed.locator(".nbstep-detail dt").all_inner_texts(), said.all_inner_texts(), strict=True))
    assert "expires" not in told
    assert told["expired"].endswith("s ago")


AGAIN = """async (count) => {
    const heard = [];
    const row = (n) => [`id${n}`, `page:${n}`, "ok", "int", "", "", n, 1, 1e9 - n, null, 0, null, 0];
    const rows = Array.from({length: count}, (_, n) => row(n));
    const model = { on: (_, hear) => heard.push(hear), off() {}, send() {} };
    const el = document.body.appendChild(document.createElement("div"));
    const panel = new window.panel.Panel(model, el);
    const half = count / 2;
    const hear = (kept) => {
        heard[0]({ kind: "rows", first: true, last: false, rows: kept.slice(0, half), now: 1e9 });
        heard[0]({ kind: "rows", first: false, last: true, rows: kept.slice(half), now: 1e9 });
    };
    const state = () => [el.querySelector(".nbstep-picked").textContent, scroller.scrollTop, scroller.ariaRowCount,
                         el.querySelector(".nbstep-detail").hidden, el.querySelector(".nbstep-cursor .nbstep-key")?.textContent];
    const scroller = el.querySelector(".nbstep-grid");
    hear(rows);
    scroller.scrollTop = 26 * (count - 50);
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    el.querySelectorAll(".nbstep-row")[10].click();
    const found = [state()];
    hear(rows);
    found.push(state());
    const at = Number(el.querySelector(".nbstep-cursor").dataset.at);
    hear(rows.filter((_, n) => n !== at)); // which went meanwhile
    found.push(state());
    panel.close();
    el.remove();
    return found;
}"""


def test_that_another_view_began_moves_nothing_in_this_one(script: Any) -> None:
    before, after, gone = script.evaluate(AGAIN, 1000)
    assert before == after
    assert before[0].startswith("1 selected")
    assert before[1] > 20_000
    assert (gone[0], gone[2], gone[3]) == ("", "1000", True)


NARROW = """([rows, text]) => {
    const heard = [];
    const model = { on: (_, f) => heard.push(f), off: () => {}, send: () => {} };
    const el = document.body.appendChild(document.createElement("div"));
    el.style.width = "250px"; // JupyterLab's left area, before somebody widens it
    el.style.height = "700px";
    const panel = new window.panel.Panel(model, el, { fill: true });
    heard[0]({ kind: "rows", first: true, last: true, rows, now: 2000, totals: null });
    heard[0]({ kind: "note", text });
    el.querySelector(".nbstep-row").click();
    panel.say(text);
    const width = (name) => el.querySelector(name).getBoundingClientRect().width;
    const found = [width(".nbstep-note"), width(".nbstep-picked")];
    panel.close();
    el.remove();
    return found;
}"""


def test_in_a_sidebar_a_long_note_takes_the_whole_width(script: Any) -> None:
    note, picked = script.evaluate(NARROW, [[packed(a_row("a"))], "Deleted 5 entries: " + ", ".join("abcde" * 8)])
    assert note > 210
    assert picked > 50


FORCED = """() => {
    const style = (css) => getComputedStyle(document.querySelector(css));
    const probe = document.body.appendChild(document.createElement("i"));
    probe.style.cssText = "forced-color-adjust: none; color: HighlightText; background: Highlight";
    const { color, backgroundColor } = getComputedStyle(probe);
    const same = (css, from = css) => style(css).color === color && style(from).backgroundColor === backgroundColor
        && style(css).forcedColorAdjust === "none";
    const chosen = ".nbstep-row[aria-selected=true]";
    return [".nbstep-key", ".nbstep-what", ".nbstep-status", ".nbstep-age"].map((cell) => same(`${chosen} ${cell}`, chosen))
        .concat(same(".nbstep-scopes [aria-pressed=true]"), same(".nbstep-row[aria-selected=false]"));
}"""


def test_in_colours_that_the_system_forces_what_is_chosen_can_be_read_and_seen(timed: Any) -> None:
    timed.emulate_media(forced_colors="active")
    rows = [packed(a_failure()), packed(a_row("b"))]
    timed.evaluate(OPEN, [rows, NOW])
    timed.get_by_role("button", name="Group", exact=True).click()
    timed.locator(".nbstep-row[data-status=failed]").click()
    # Without this the browser puts its own ground behind each text: white on white.
    assert timed.evaluate(FORCED) == [True, True, True, True, True, False]


NOT_A_PICTURE = [
    "", None, 5, "PHNjcmlwdD4=", 'iVBORw0KGgo" onerror="window.pwned=1', "iVBORw0KGgo\n<img>", "https://example.com/a.png",
    "iVBORw0KGgo,<svg onload=window.pwned=1>",
]  # fmt: skip
SHOWN = """(texts) => {
    const model = { on() {}, off() {}, send() {} };
    const el = document.body.appendChild(document.createElement("div"));
    const panel = new window.panel.Panel(model, el);
    const detail = { id: "i", label: "<b>", status: "ok", headline: "", facts: [], inputs: [], differences: [] };
    panel.detailId = "i";
    const found = texts.map((thumbnail) => {
        panel.showDetail({ ...detail, thumbnail });
        return [...el.querySelectorAll("img")].map((node) => node.src);
    });
    panel.close();
    el.remove();
    return found;
}"""


WIDTHS = """([rows, width]) => {
    const heard = [];
    const model = { on: (_, f) => heard.push(f), off: () => {}, send: () => {} };
    const el = document.body.appendChild(document.createElement("div"));
    el.style.width = width;
    const panel = new window.panel.Panel(model, el);
    heard[0]({ kind: "rows", first: true, last: true, rows, now: 2000, totals: null });
    const isCut = (node) => node.scrollWidth > node.clientWidth;
    const cut = [...el.querySelectorAll(".nbstep-row .nbstep-key")].map((cell) => {
        const [begin, end] = cell.children;
        if (!begin) return isCut(cell) ? "end" : "no";
        const edge = cell.getBoundingClientRect().right;
        if (isCut(cell) || end.getBoundingClientRect().right > edge) return "end";
        return isCut(begin) ? "middle" : "no";
    });
    const textIn = (node) => {
        const range = document.createRange();
        range.selectNodeContents(node);
        return range.getBoundingClientRect();
    };
    const off = [...el.querySelectorAll(".nbstep-row")].map((row) => {
        const [key, status] = [".nbstep-key", ".nbstep-status"].map((one) => textIn(row.querySelector(one)));
        return Math.abs(key.bottom + key.top - status.bottom - status.top) / 2;
    });
    const what = Math.min(...[...el.querySelectorAll(".nbstep-row .nbstep-what")].map((cell) => cell.clientWidth));
    const over = [...el.querySelectorAll(".nbstep-row")].some((row) => row.scrollWidth > row.clientWidth);
    panel.close();
    el.remove();
    return { cut, what, over, off: Math.max(...off) };
}"""


@pytest.mark.parametrize("expires_at", [None, 9000.0])
def test_a_key_of_usual_length_is_not_cut(script: Any, expires_at: float | None) -> None:
    rows = [
        packed(a_row("events:page:2024-01", created=5.0, expires_at=expires_at)),
        packed(a_row("x" * 90, created=1.0)),
    ]
    found = script.evaluate(WIDTHS, [rows, "848px"])  # of a cell's output in a window of 1280
    assert (found["cut"], found["over"]) == (["no", "middle"], False)


@pytest.mark.parametrize("width", ["1100px", "815px", "600px", "460px", "400px", "300px"])
def test_rows_of_a_map_are_told_by_the_ends_of_their_keys_beside_long_messages(script: Any, width: str) -> None:
    """815 px: beside the list of files in a window of 1280."""
    key, message = (
        "customer:2026-11:{:06d}",
        "503 Server Error: Service Unavailable for url: http://127.0.0.1:8791/item/2043",
    )
    rows = [packed(a_row(key.format(n), created=5.0)) for n in range(3)]
    rows.append(packed(a_row(key.format(4), status="failed", message=message, created=5.0, expires_at=9000.0)))
    found = script.evaluate(WIDTHS, [rows, width])
    assert "end" not in found["cut"]
    assert not found["over"]
    assert found["off"] < 4, "in one line with the other cells"
    if width in {"1100px", "815px"}:
        assert found["cut"] == ["no"] * 4
        assert found["what"] >= 130


def test_t9_only_bytes_of_a_png_become_a_picture(script: Any) -> None:
    *others, real = script.evaluate(SHOWN, [*NOT_A_PICTURE, "iVBORw0KGgo="])
    assert others == [[]] * len(NOT_A_PICTURE)
    assert real == ["data:image/png;base64,iVBORw0KGgo="]
    assert script.evaluate("window.pwned") is None


def test_the_head_counts_what_others_signed(timed: Any) -> None:
    timed.evaluate(OPEN, [[packed(a_row("a", status="untrusted"))], NOW])
    head = timed.locator(".nbstep-head")
    assert "untrusted" not in head.inner_text()
    timed.evaluate(
        "(totals) => window.hear({ kind: 'change', gone: [], rows: [], totals })", {**TOTALS, "untrusted": 1200}
    )
    assert "1,200 untrusted: nbstep trust" in head.inner_text()


@pytest.mark.parametrize("width", [700, 1000])
def test_short_keys_leave_their_room_to_long_messages_and_long_keys_take_it(timed: Any, width: int) -> None:
    timed.set_viewport_size({"width": width, "height": 600})
    message = "no user 7 in that list"
    timed.evaluate(OPEN, [[packed(a_failure("k:1", type="ValueError", message=message)), packed(a_row("k:2"))], NOW])
    key, what = (timed.locator(f".nbstep-space .nbstep-{name}").first for name in ("key", "what"))
    assert what.evaluate("(cell) => cell.scrollWidth <= cell.clientWidth")
    assert what.bounding_box()["width"] > 1.5 * key.bounding_box()["width"]
    rows = [packed(a_row("host:" + "k" * 80))]
    timed.evaluate("(rows) => window.hear({ kind: 'rows', first: true, last: true, rows })", rows)
    assert key.bounding_box()["width"] > 1.5 * what.bounding_box()["width"]


CANCELLED = """([asks, closes]) => {
    const heard = [];
    const model = { on: (_, hear) => heard.push(hear), off() {}, send() {} };
    const el = document.body.appendChild(document.createElement("div"));
    const panel = new window.panel.Panel(model, el);
    const totals = { entries: 0, failed: 0, size: 1, trashEntries: 2, trash: 1, saved: 0, place: "here" };
    heard[0]({ kind: "rows", first: true, last: true, rows: [], now: 2000, totals });
    heard[0]({ kind: "change", gone: [], rows: [], totals: { ...totals, entries: 1 } });
    const button = (text) => [...el.querySelectorAll("button")].find((b) => b.textContent === text);
    button(asks).focus();
    button(asks).click();
    heard[0]({ kind: "change", gone: [], rows: [], totals: { ...totals, entries: 1, trash: 2 } });
    if (closes === "Cancel") button("Cancel").click();
    else document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key: closes, bubbles: true }));
    const found = document.activeElement.textContent;
    panel.close();
    el.remove();
    return found;
}"""


@pytest.mark.parametrize("closes", ["Cancel", "Escape"])
@pytest.mark.parametrize("asks", ["Empty", "Clear"])
def test_a_question_that_is_cancelled_gives_the_keyboard_back_to_what_asked(
    script: Any, asks: str, closes: str
) -> None:
    assert script.evaluate(CANCELLED, [asks, closes]) == asks


LOST = """([row, detail]) => {
    let gone = false;
    const heard = [], said = [];
    const send = (message) => {
        if (gone) throw new Error("Cannot send");
        said.push(message.kind);
    };
    const model = { on: (name, hear) => heard.push([name, hear]), off() {}, send };
    const el = document.body.appendChild(document.createElement("div"));
    const panel = new window.panel.Panel(model, el);
    const [[, hear]] = heard;
    const totals = { entries: 1, failed: 0, old: 1, size: 1, trashEntries: 1, trash: 1, saved: 0, place: "here" };
    hear({ kind: "rows", first: true, last: true, rows: [row], now: 2000, totals });
    const enabled = () => [...el.querySelectorAll("button:enabled:not(.nbstep-sorter)")];
    const able = () => enabled().filter((node) => node.offsetParent).map((node) => node.textContent);
    const line = () => { const node = el.querySelector("[role=alert]"); return node.hidden ? "" : node.textContent; };
    el.querySelector(".nbstep-row").click();
    hear({ kind: "detail", ...detail });
    [...el.querySelectorAll("button")].find((b) => b.textContent === "Clear").click();
    const found = { before: [able(), line()] };
    gone = true;
    el.querySelector(".nbstep-panel").dispatchEvent(new PointerEvent("pointerenter"));
    found.lost = [able(), line(), el.querySelector("[role=alertdialog]").hidden, document.activeElement.role];
    gone = false;
    hear({ kind: "change", gone: [], rows: [], totals });
    found.back = [able(), line()];
    panel.close();
    el.remove();
    return found;
}"""


def test_without_a_kernel_only_what_needs_none_can_be_done_until_one_answers(script: Any) -> None:
    meta, usage = a_meta("a", created=NOW - 300), Usage(3, 6.0, NOW - 180, last_got="hit", drift="x", drift_at=NOW)
    row = row_of(meta, usage)
    assert row.status == "old value"
    found = script.evaluate(LOST, [packed(row), asdict(detail_of(meta, usage, NOW))])
    acting = ["Empty", "Delete", "Re-run", "Accept", "Undo", "Clear", "Refresh"]
    assert set(acting) < set(found["before"][0])
    assert found["before"][1] == found["back"][1] == ""
    able, line, closed, focused = found["lost"]
    assert able == ["1 old value", "Group", "Close"]
    assert line.startswith("This panel's kernel is gone: run %load_ext nbstep and %nbstep panel again.")
    assert (closed, focused) == (True, "grid")
    assert set(acting) < set(found["back"][0])
