"""The sidebar in a real JupyterLab and Notebook 7: it works with no kernel and during a busy one; hostile keys stay text."""

from __future__ import annotations

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Lab, NotebookPage, wait_until, write_notebook
from test_panel_browser import HOSTILE, note, search

from nbstep.server.places import CACHE_OUTSIDE
from nbstep.words import shown

pytestmark = pytest.mark.browser
in_both = pytest.mark.parametrize("lab", ["lab", "notebook"], indirect=True)

FILL = f"""
import os, time
import nbstep
from nbstep.cache.records import Facts
from nbstep.stores.base import run_now
cache = nbstep.Cache(".nbstep")
for key in {HOSTILE!r} + [f"user:{{n}}" for n in range(40)] + ["raw"]:
    run_now(cache.keep(key, nbstep.Ok(1), Facts(took_s=0.5)))
run_now(cache.keep("report", nbstep.Ok(1), Facts(took_s=1.0, uses=("raw",))))
for uid in (990, 991):
    run_now(cache.keep(f"user:{{uid}}", nbstep.Err(LookupError(f"404 for <b>{{uid}}</b>")), Facts(took_s=0.4)))
"""
COUNT = 44 + len(HOSTILE)
TITLE = "Kept steps (nbstep)"
ENTRIES = re.compile(r"/nbstep/entries\?")
BUSY = "cache.set('live', 1)\nwhile not os.path.exists('go'): time.sleep(0.01)"


@pytest.fixture(scope="module")
def filled(lab: Lab) -> Iterator[NotebookPage]:
    """A notebook in a project that keeps much, with its sidebar open, looking for changes."""
    folder = lab.folder / "project"
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    write_notebook(folder / "steps.ipynb", FILL, BUSY)
    opened = lab.open("project/steps.ipynb")
    opened.run_cell(0)
    wait_until(lambda: len(kept(lab)) == COUNT, "the entries")
    show(opened)
    yield opened
    assert opened.unexpected_errors == []


def show(notebook: NotebookPage) -> None:
    """Brings the sidebar up as a person does: Notebook 7 has no tabs beside the page, but a menu."""
    if notebook.lab.app == "lab":
        notebook.page.get_by_role("tab", name=TITLE).click()
    else:
        notebook.page.get_by_role("menuitem", name="View", exact=True).click()
        notebook.page.locator(".lm-Menu-item", has_text="Left Sidebar").hover()
        notebook.page.locator(".lm-Menu-item", has_text=f"Show {TITLE}").click()


@pytest.fixture
def sidebar(filled: NotebookPage) -> Any:
    found = filled.page.locator(".nbstep-sidebar")
    found.locator(".nbstep-row").first.wait_for()
    return found


def kept(lab: Lab, notebook: str = "project/steps.ipynb") -> set[str]:
    """The keys that the server's addresses list."""
    return {row[1] for row in rows_of(lab, notebook)}


def rows_of(lab: Lab, notebook: str = "project/steps.ipynb") -> list[Any]:
    return lab.ask(f"/nbstep/entries?path={urllib.parse.quote(notebook)}")["rows"]


def end_kernels(lab: Lab) -> None:
    for kernel in lab.kernels():
        lab.end_kernel(kernel["id"])
    assert lab.kernels() == []


@in_both
def test_it_deletes_while_a_cell_keeps_the_kernel_busy(filled: NotebookPage, sidebar: Any, lab: Lab) -> None:
    search(sidebar, "", COUNT)
    filled.execute(BUSY)
    # What the kernel keeps appears by itself.
    sidebar.locator(".nbstep-head strong", has_text=f"{COUNT + 1} entries").wait_for()
    search(sidebar, "live", 1)
    sidebar.locator(".nbstep-row").click()
    sidebar.locator(".nbstep-facts").wait_for()
    sidebar.get_by_role("button", name="Delete", exact=True).click()
    note(sidebar, "Deleted 1 entry: live")
    assert "live" not in kept(lab)
    assert not (lab.folder / "project" / "go").exists()  # so the cell still runs
    (lab.folder / "project" / "go").touch()
    search(sidebar, "", COUNT)


@in_both
def test_without_a_kernel_it_lists_deletes_undoes_and_clears(filled: NotebookPage, sidebar: Any, lab: Lab) -> None:
    end_kernels(lab)
    search(sidebar, "user:99*", 2)
    rows = sidebar.locator(".nbstep-row")
    rows.first.click()
    assert "LookupError: 404 for <b>99" in sidebar.locator(".nbstep-detail").inner_text()
    sidebar.get_by_text("Original traceback").wait_for()
    sidebar.locator(".nbstep-grid").press("Delete")
    note(sidebar, "Deleted 1 entry: user:99")
    assert len(kept(lab)) == COUNT - 1
    sidebar.get_by_role("button", name="Undo").click()
    note(sidebar, "Restored 1 entry: user:99")
    search(sidebar, "", COUNT)
    sidebar.get_by_role("button", name="Delete all errors").click()
    note(sidebar, "Deleted 2 kept errors; they run again when they are next asked")
    sidebar.get_by_role("button", name="Clear").click()
    question = sidebar.get_by_role("alertdialog")
    question.get_by_role("button", name=f"Delete all {COUNT - 2} entries").click()
    note(sidebar, f"Deleted all {COUNT - 2} entries")
    sidebar.get_by_text("Nothing kept yet. A step with a key appears here when it has run.").wait_for()
    assert kept(lab) == set()
    sidebar.get_by_role("button", name="Undo").click()
    sidebar.locator(".nbstep-head strong", has_text=f"{COUNT - 2} entries").wait_for()
    assert lab.kernels() == []


@in_both
def test_d6_it_asks_before_it_deletes_what_others_were_made_from(sidebar: Any, lab: Lab) -> None:
    search(sidebar, "raw", 1)
    sidebar.locator(".nbstep-row").click()
    sidebar.get_by_role("button", name="Delete", exact=True).click()
    question = sidebar.get_by_role("alertdialog")
    assert "1 later step was made from it: report (1.0 s)" in question.inner_text()
    question.get_by_role("button", name="Delete raw only").click()
    note(sidebar, "Deleted 1 entry: raw")
    assert "report" in kept(lab)
    sidebar.get_by_role("button", name="Undo").click()
    note(sidebar, "Restored 1 entry: raw")
    search(sidebar, "", len(kept(lab)))


def test_t9_hostile_keys_make_no_element_and_no_dialog(filled: NotebookPage, sidebar: Any) -> None:
    dialogs: list[str] = []
    filled.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    search(sidebar, "pwned", 3)
    labels = set(sidebar.locator(".nbstep-row .nbstep-key").all_inner_texts())
    assert {shown(key) for key in HOSTILE if "pwned" in key} == labels
    for number in range(3):
        sidebar.locator(".nbstep-row").nth(number).click()
        sidebar.locator(".nbstep-facts").wait_for()
    assert sidebar.locator("img, script, a, b, [data-commandlinker-command]").count() == 0
    assert (filled.page.evaluate("window.pwned"), dialogs) == (None, [])
    sidebar.locator(".nbstep-grid").press("Escape")
    sidebar.get_by_role("searchbox").fill("")


@in_both
def test_the_keyboard_reaches_it_and_the_notebook_does_not_hear_it(filled: NotebookPage, sidebar: Any) -> None:
    cells = filled.page.locator(".jp-CodeCell").count()
    filled.command("nbstep:show")
    search_box = sidebar.get_by_role("searchbox")
    wait_until(lambda: search_box.evaluate("(box) => box === document.activeElement"), "the focus")
    search_box.press("ArrowDown")
    grid = sidebar.get_by_role("grid", name="Kept entries")
    for key in ("Home", "d", "d", "x", "b"):
        grid.press(key)
    assert sidebar.locator(".nbstep-row.nbstep-cursor").get_attribute("aria-rowindex") == "2"
    assert filled.page.locator(".jp-CodeCell").count() == cells
    without = sidebar.locator(":is(button, input, a, [tabindex]):not([data-lm-suppress-shortcuts='true'])")
    assert without.count() == 0
    grid.press("Escape")


def test_a_page_is_as_long_as_what_is_seen_and_the_details_cover_no_chosen_row(sidebar: Any) -> None:
    grid, cursor = sidebar.locator(".nbstep-grid"), sidebar.locator(".nbstep-row.nbstep-cursor")
    grid.press("Escape")  # no details
    rows_in_view = grid.evaluate("(grid) => Math.floor((grid.clientHeight - 27) / 26)")
    assert rows_in_view > 15
    grid.press("Home")
    grid.press("Escape")
    grid.press("PageDown")
    assert cursor.get_attribute("aria-rowindex") == str(rows_in_view + 2)
    sidebar.locator(".nbstep-facts").wait_for()
    covered = """(row) => {
        const details = row.closest(".nbstep-panel").querySelector(".nbstep-detail").getBoundingClientRect();
        return details.height < 60 || row.getBoundingClientRect().bottom > details.top + 1;
    }"""
    wait_until(lambda: not cursor.evaluate(covered), "the row above the details", 20)
    grid.press("Escape")


def test_the_marks_words_are_there_for_screen_readers(sidebar: Any) -> None:
    assert sidebar.get_by_role("gridcell", name="✓ ok").count() > 0
    assert sidebar.get_by_role("button", name="Status").count() == 1
    assert sidebar.page.get_by_role("region", name="Kept steps (nbstep)").count() == 1


def test_hidden_it_asks_nothing_and_shown_again_it_is_up_to_date(filled: NotebookPage, sidebar: Any, lab: Lab) -> None:
    page, asked = filled.page, []
    page.clock.install()
    with page.expect_response(ENTRIES):  # after this answer, the sidebar's pauses go by the test's clock
        pass
    filled.command("filebrowser:activate")
    sidebar.wait_for(state="hidden")
    page.on("request", lambda request: asked.append(request.url) if "/nbstep/" in request.url else None)
    rows = len(kept(lab))
    (user,) = [row[0] for row in rows_of(lab) if row[1] == "user:3"]
    lab.post("/nbstep/delete?path=project/steps.ipynb", json.dumps({"ids": [user]}).encode())
    page.clock.run_for(60_000)
    page.evaluate("fetch('/api')")  # a request made meanwhile would have been heard of before this one's answer
    assert asked == []
    filled.command("nbstep:show")
    sidebar.locator(".nbstep-head strong", has_text=f"{rows - 1} entries").wait_for()
    assert asked


def test_a_server_that_does_not_answer_leaves_the_rows_and_a_line(filled: NotebookPage, sidebar: Any) -> None:
    filled.page.route(ENTRIES, lambda route: route.abort())
    note(sidebar, "The Jupyter server does not answer; it is asked again.")
    assert sidebar.locator(".nbstep-row").count() > 0
    filled.page.unroute(ENTRIES)
    note(sidebar, "The Jupyter server answers again.")


def test_what_the_server_does_not_let_one_do_is_a_line_under_the_rows(filled: NotebookPage, sidebar: Any) -> None:
    refused = re.compile(r"/nbstep/delete\?")
    filled.page.route(refused, lambda route: route.fulfill(status=403, json={"message": "Forbidden"}))
    with filled.page.expect_response(ENTRIES):  # the test before let the rows be drawn anew
        pass
    sidebar.locator(".nbstep-row").first.click()
    sidebar.get_by_role("button", name="Delete", exact=True).click()
    note(sidebar, "The Jupyter server does not let you do this.")
    filled.page.unroute(refused)
    assert sidebar.locator(".nbstep-row").first.is_visible()
    for _ in range(2):  # two seconds lie between them: a panel says earlier that it waits
        with filled.page.expect_response(ENTRIES):
            pass
    note(sidebar, "The Jupyter server does not let you do this.")
    sidebar.locator(".nbstep-grid").press("Escape")


def test_what_stands_in_the_way_is_said_in_the_tables_place(filled: NotebookPage, lab: Lab, tmp_path: Path) -> None:
    page, sidebar = filled.page, filled.page.locator(".nbstep-sidebar")
    elsewhere = lab.folder / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / ".nbstep" / "v1").mkdir(parents=True)
    (elsewhere / ".nbstep").symlink_to(tmp_path / ".nbstep")
    write_notebook(elsewhere / "other.ipynb", "1")
    page.evaluate("window.jupyterapp.commands.execute('docmanager:open', {path: 'elsewhere/other.ipynb'})")
    sidebar.get_by_text(CACHE_OUTSIDE).wait_for()
    assert not sidebar.get_by_role("button", name="Clear").is_visible()
    empty = lab.folder / "empty"
    empty.mkdir()
    write_notebook(empty / "new.ipynb", "1")
    page.evaluate("window.jupyterapp.commands.execute('docmanager:open', {path: 'empty/new.ipynb'})")
    sidebar.get_by_text("Nothing kept yet. A step with a key appears here when it has run.").wait_for()
    assert sidebar.locator(".nbstep-place").inner_text().endswith("empty/.nbstep")
    assert all(
        sidebar.get_by_role("button", name=name).is_disabled() for name in ("Clear", "Undo", "Delete all errors")
    )
    page.evaluate("[...window.jupyterapp.shell.widgets('main')].forEach((tab) => tab.dispose())")  # closing would ask
    sidebar.get_by_text("Open a notebook: what its project's steps keep appears here.").wait_for()


def test_where_the_server_extension_is_off_it_says_how_to_turn_it_on(lab: Lab) -> None:
    end_kernels(lab)
    write_notebook(lab.folder / "off.ipynb", "1")
    notebook = lab.open("off.ipynb")
    # The server itself answers for an address that nothing serves.
    notebook.page.route(ENTRIES, lambda route: route.continue_(url=route.request.url.replace("/nbstep/", "/no-such/")))
    notebook.command("nbstep:show")
    message = notebook.page.locator(".nbstep-sidebar > p")
    wait_until(lambda: "jupyter server extension enable nbstep" in message.inner_text(), "the message")
    notebook.page.context.close()
