"""Panel, sidebar and step list without a mouse, with a screen reader, and in every theme, in a real JupyterLab.

axe-core looks at each of their states (the `dev` group brings it in axe-playwright-python); the keyboard does everything from
opening the panel to undoing a deletion.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from browser import Lab, NotebookPage, need_chromium, open_lab, wait_until, write_notebook
from servers import THEMES, Theme
from test_panel_browser import note, search

pytestmark = pytest.mark.browser

SALES = """%%workflow sales
def tidy(rows):
    return [row for row in rows if row]
def fetch(host):
    raise LookupError(f"404 for {host}")
rate = 1
raw = step(lambda: list(range(100)), key="raw")
clean = step(lambda: tidy(raw), key="clean", ttl="2h")
price = step(lambda: sum(clean) * rate, key="price")
for n in range(20):
    step(lambda: n, key=f"user:{n}")
for n in range(2):
    step(fetch, n, key=f"host:{n}", on_error="keep")
step(lambda: 1);"""
EDITED = SALES.replace("if row]", "if row > 1]").replace("rate = 1", "rate = 3")
OWN_KERNEL = "window.jupyterapp.shell.currentWidget?.sessionContext.session?.kernel"
PANEL = ".jp-OutputArea .nbstep-panel >> nth=0"
SIDEBAR = ".nbstep-sidebar"
# axe takes all that stands in a box without height for unseen, and JupyterLab's body is one.
BODY_WITH_HEIGHT = "document.body.style.height = '100vh'"
FOCUS = """(() => {
    const node = document.activeElement;
    const ringed = [node, ...(node.role === "grid" ? node.querySelectorAll(".nbstep-cursor") : [])];
    const seen = (of) => { const { outlineStyle, outlineWidth } = getComputedStyle(of);
                           return outlineStyle !== "none" && parseFloat(outlineWidth) > 0; };
    return { ours: Boolean(node.closest(".nbstep-panel")), ring: ringed.some(seen), role: node.role || node.tagName.toLowerCase(),
             name: node.ariaLabel || node.textContent.trim().slice(0, 40) };
})()"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    need_chromium()
    with open_lab(tmp_path_factory.mktemp("lab")) as opened:
        yield opened


def in_project(lab: Lab, name: str, *cells: str) -> NotebookPage:
    """A notebook of these cells in a project of its own, opened; nothing has run."""
    folder = lab.folder / name
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    write_notebook(folder / "sales.ipynb", *cells)
    opened = lab.open(f"{name}/sales.ipynb", width=1400, height=1900)
    opened.page.wait_for_function(f"() => {OWN_KERNEL}?.status === 'idle'")  # its own: those of other tests run, too
    opened.page.wait_for_function("() => document.activeElement.matches('.jp-Cell')")
    return opened


@pytest.fixture(scope="module")
def sales(lab: Lab) -> Iterator[NotebookPage]:
    """Two old values, two kept errors, and the panel, the sidebar, and a panel of nothing."""
    opened = in_project(
        lab, "themes", "%load_ext nbstep\nimport nbstep", SALES, "%nbstep panel", "nbstep.panel('empty')"
    )
    opened.run_all()
    opened.page.locator(PANEL).locator(".nbstep-row").first.wait_for()
    opened.set_source(1, EDITED)
    opened.run_cell(1)
    opened.page.locator(PANEL).locator(".nbstep-head", has_text="2 old values").wait_for()
    opened.command("nbstep:show")
    opened.page.locator(SIDEBAR).locator(".nbstep-head", has_text="2 old values").wait_for()
    yield opened
    assert opened.unexpected_errors == []
    opened.page.context.close()


def faults(notebook: NotebookPage, *within: str) -> list[str]:
    """What axe finds inside these elements; it must have seen their texts."""
    from axe_playwright_python.sync_playwright import Axe

    notebook.page.evaluate(BODY_WITH_HEIGHT)
    found = (
        Axe()
        .run(notebook.page, {"include": [[css] for css in within]}, {"resultTypes": ["violations", "passes"]})
        .response
    )
    read = [node for rule in found["passes"] if rule["id"] == "color-contrast" for node in rule["nodes"]]
    assert len(read) > 8, "axe did not see the texts"
    return [
        f"{rule['impact']} {rule['id']}: {node['html'][:200]}: {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


def look_at(table: Any, key: str) -> None:
    search(table, f"{key}*", 1)
    table.locator(".nbstep-row").first.click()
    table.locator(".nbstep-facts").first.wait_for()


@pytest.mark.parametrize("place", ["panel", "sidebar"])
@pytest.mark.parametrize("theme", THEMES)
def test_axe_finds_nothing_in_any_state_of_the_table(sales: NotebookPage, theme: Theme, place: str) -> None:
    within = {"panel": ".jp-OutputArea .nbstep-panel", "sidebar": SIDEBAR}[place]
    table = sales.page.locator({"panel": PANEL, "sidebar": SIDEBAR}[place])
    question = table.get_by_role("alertdialog")
    sales.set_theme(theme)
    found: dict[str, list[str]] = {}

    look_at(table, "clean")  # an old value in full, and the question before it is deleted
    table.get_by_text("Source then and now: tidy()").wait_for()
    table.get_by_role("button", name="Delete", exact=True).click()
    question.wait_for()
    found["value"] = faults(sales, within)
    question.get_by_role("button", name="Cancel").click()

    look_at(table, "host:1")  # an error in full, and the question before everything goes
    table.get_by_text("Original traceback").wait_for()
    table.get_by_role("button", name="Clear", exact=True).click()
    question.wait_for()
    found["error"] = faults(sales, within)
    question.get_by_role("button", name="Cancel").click()

    search(table, "", 25)  # rows of every kind, some chosen, one of them under the mouse
    table.get_by_role("searchbox").fill("unused:soon")
    table.get_by_role("button", name="Status").click()
    table.locator(".nbstep-row", has_text="host:").first.click()
    table.locator(".nbstep-row", has_text="host:").last.click(modifiers=["Shift"])
    table.locator(".nbstep-picked", has_text="2 selected").wait_for()
    found["rows"] = faults(sales, within)
    table.get_by_role("button", name="Delete", exact=True).click()
    note(table, "Deleted 2 entries")
    table.get_by_role("button", name="Empty", exact=True).click()  # and the question before the trash goes
    question.wait_for()
    found["trash"] = faults(sales, within)
    question.get_by_role("button", name="Cancel").click()
    table.get_by_role("button", name="Undo", exact=True).click()
    note(table, "Restored 2 entries")
    table.get_by_role("button", name="Status").click()  # the old values come first
    table.locator(".nbstep-row[aria-rowindex='2']").hover()
    found["rows, the other way round"] = faults(sales, within)

    table.locator(".nbstep-grid").press("Escape")
    search(table, "no such key", 0)
    if place == "sidebar":
        away = re.compile(r"/nbstep/entries\?")
        sales.page.route(away, lambda route: route.abort())
        note(table, "The Jupyter server does not answer; it is asked again.")
        found["no row, no server"] = faults(sales, within)
        sales.page.unroute(away)
    else:
        found["no row"] = faults(sales, within)
    search(table, "", 25)
    assert {state: said for state, said in found.items() if said} == {}


@pytest.mark.parametrize("theme", THEMES)
def test_axe_finds_nothing_in_the_step_list(sales: NotebookPage, theme: Theme) -> None:
    sales.set_theme(theme)
    for tone in ("old", "failed"):
        sales.page.locator(f".nbstep-l tr.{tone}").first.hover()
        assert faults(sales, ".nbstep-l") == []


def test_a_screen_reader_hears_the_table_its_order_and_what_came_of_it(sales: NotebookPage) -> None:
    panel = sales.page.locator(PANEL)
    panel.get_by_role("button", name="Key", exact=True).click()
    search(panel, "c*", 1)
    panel.get_by_role("status").filter(has_text="1 of 25 entries").wait_for(state="attached")
    panel.locator(".nbstep-row").click()
    panel.get_by_role("status").filter(has_text="1 selected").wait_for()
    grid = panel.get_by_role("grid", name="Kept entries")
    assert (grid.get_attribute("aria-rowcount"), grid.get_attribute("aria-colcount")) == ("2", "8")
    assert panel.get_by_role("columnheader", name="Key", exact=True).get_attribute("aria-sort") == "ascending"
    row = panel.get_by_role("row", selected=True)
    assert re.match(r"- row .▲ old value clean list .* · tidy\(\) was edited .*. \[selected\]", row.aria_snapshot())
    assert grid.get_attribute("aria-activedescendant") == row.get_attribute("id")
    assert panel.get_by_role("region", name="Entry clean").count() == 1
    assert sales.page.get_by_role("group", name="Kept steps (nbstep)").count() > 0
    search(panel, "host:0", 1)
    panel.locator(".nbstep-row").click()
    panel.get_by_role("button", name="Delete", exact=True).click()
    panel.get_by_role("status").filter(has_text="Deleted 1 entry: host:0").wait_for()
    panel.get_by_role("button", name="Undo", exact=True).click()
    panel.get_by_role("status").filter(has_text="Restored 1 entry: host:0").wait_for()
    search(panel, "", 25)


class Keyboard:
    """Presses keys, and sees after each where the keyboard is: inside of ours, and shown to be there."""

    def __init__(self, notebook: NotebookPage) -> None:
        self.notebook, self.page = notebook, notebook.page
        self.cells = self.count_cells()

    def focus(self) -> dict[str, Any]:
        return self.page.evaluate(FOCUS)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
        self.is_seen()

    def is_seen(self) -> None:
        wait_until(
            lambda: (where := self.focus())["ours"] and where["ring"], "the keyboard to be seen in the panel", 20
        )

    def go_to(self, key: str, role: str, name: str) -> None:
        """Presses `key` until that element has the keyboard."""

        def there() -> bool:
            where = self.focus()
            return where["role"] == role and re.fullmatch(name, where["name"]) is not None

        for _ in range(30):
            if there():
                return self.is_seen()
            self.page.keyboard.press(key)
        raise AssertionError(f"{key} never reaches {role} {name}; it is on {self.focus()}")

    def type_into_search(self, text: str) -> None:
        self.go_to("Shift+Tab", "input", "Search the entries")
        self.press("Control+a")
        self.page.keyboard.type(text)

    def count_cells(self) -> list[str]:
        return self.page.locator(".jp-Cell").evaluate_all(
            "(cells) => cells.map((cell) => cell.className.match(/jp-\\w+Cell/)[0])"
        )

    def try_shortcuts(self) -> None:
        """What JupyterLab would take as: delete the cell, cut it, make it Markdown, insert one, undo that."""
        self.press("d", "d", "x", "m", "b", "y", "0", "0")
        assert self.count_cells() == self.cells
        assert self.page.locator(".jp-Dialog").count() == 0


def test_everything_is_done_without_a_mouse_from_opening_the_panel_to_undo(lab: Lab) -> None:
    notebook = in_project(lab, "keys", "%load_ext nbstep", SALES, "%nbstep panel", "1")
    keyboard, panel = Keyboard(notebook), notebook.page.locator(".nbstep-panel")
    for key in ("Shift+Enter", "Shift+Enter", "Control+Enter"):  # JupyterLab gave the first cell the keyboard
        notebook.page.keyboard.press(key)
    panel.locator(".nbstep-head strong", has_text="25 entries").wait_for()

    keyboard.go_to("Tab", "input", "Search the entries")
    notebook.page.keyboard.type("user:*")
    panel.locator(".nbstep-head", has_text="20 of 25 entries").wait_for()
    keyboard.press("ArrowDown")
    picked(panel, "1 selected")
    keyboard.press("ArrowDown", "Shift+ArrowDown", "Shift+ArrowDown")
    picked(panel, "3 selected")
    keyboard.press("Control+ArrowDown", " ")
    picked(panel, "4 selected")
    keyboard.press("Control+a")
    picked(panel, "20 selected")
    keyboard.try_shortcuts()
    keyboard.press("Escape")
    wait_until(lambda: panel.locator(".nbstep-picked").inner_text() == "", "nothing selected")

    keyboard.press("Home", "Enter")  # into the details, and back
    assert keyboard.focus()["role"] == "section"
    keyboard.try_shortcuts()
    panel.get_by_role("group", name="Value").wait_for()
    keyboard.go_to("Tab", "button", "Close")
    keyboard.press("Tab")
    keyboard.press("Escape")
    assert keyboard.focus()["role"] == "grid"
    assert not panel.locator(".nbstep-detail").is_visible()

    keyboard.type_into_search("clean")  # a question, answered with no and with yes
    search_is(panel, 1)
    question = panel.get_by_role("alertdialog")
    keyboard.press("ArrowDown", "Delete")
    question.wait_for()
    assert keyboard.focus()["name"] == "Cancel"
    keyboard.press("Escape")
    assert keyboard.focus()["role"] == "grid"
    keyboard.go_to("Shift+Tab", "button", "Delete")
    keyboard.press("Enter")
    question.wait_for()
    keyboard.press("Enter")  # Cancel
    assert keyboard.focus()["name"] == "Delete"
    keyboard.press("Enter")
    question.wait_for()
    keyboard.go_to("Shift+Tab", "button", "Delete all 2, next run .*")
    keyboard.press("Enter")
    note(panel, "Deleted 2 entries: clean, price")
    keyboard.try_shortcuts()
    keyboard.press("Control+z")
    note(panel, "Restored 2 entries")

    keyboard.type_into_search("user:1*")  # the row below one that is deleted takes its place
    search_is(panel, 11)
    keyboard.press("ArrowDown", "ArrowDown", "ArrowDown")
    below = panel.locator(".nbstep-row[aria-rowindex='5'] .nbstep-key").inner_text()
    keyboard.press("Delete")
    note(panel, "Deleted 1 entry: user:1")
    wait_until(lambda: panel.locator(".nbstep-cursor .nbstep-key").inner_text() == below, "the row below")
    keyboard.press("End", "Delete")
    search_is(panel, 9)
    wait_until(lambda: panel.locator(".nbstep-cursor").get_attribute("aria-rowindex") == "10", "the last row")
    keyboard.go_to("Shift+Tab", "button", "Undo")
    keyboard.press(" ")
    note(panel, "Restored 1 entry")
    keyboard.press(" ")
    search_is(panel, 11)
    keyboard.try_shortcuts()

    keyboard.go_to("Shift+Tab", "button", "2 failed")  # a link of the head, a kept error, and everything
    keyboard.press("Enter")
    panel.locator(".nbstep-head", has_text="2 of 25 entries").wait_for()
    keyboard.go_to("Tab", "button", "Delete all errors")
    keyboard.press("Enter")
    note(panel, "Deleted 2 kept errors")
    keyboard.try_shortcuts()
    keyboard.go_to("Shift+Tab", "button", "Clear")
    keyboard.press("Enter")
    question.wait_for()
    keyboard.go_to("Shift+Tab", "button", "Delete all 23 entries")
    keyboard.press("Enter")
    note(panel, "Deleted all 23 entries")
    keyboard.try_shortcuts()
    keyboard.press("Control+z")
    note(panel, "Restored 23 entries")
    leave(notebook, keyboard)
    assert notebook.unexpected_errors == []
    notebook.page.context.close()


def test_the_sidebar_is_used_without_a_mouse(lab: Lab) -> None:
    notebook = in_project(lab, "side", "%load_ext nbstep", SALES)
    keyboard, sidebar = Keyboard(notebook), notebook.page.locator(SIDEBAR)
    for key in ("Shift+Enter", "Control+Enter"):
        notebook.page.keyboard.press(key)
    notebook.output(1).locator(".nbstep-l .o").wait_for()
    notebook.page.keyboard.press("Control+Shift+c")
    palette = notebook.page.locator(".lm-CommandPalette input")
    wait_until(lambda: palette.evaluate("(input) => input === document.activeElement"), "the command palette")
    notebook.page.keyboard.type("Show Kept Steps")
    notebook.page.locator(".lm-CommandPalette-item.lm-mod-active", has_text="Show Kept Steps").wait_for()
    notebook.page.keyboard.press("Enter")
    sidebar.locator(".nbstep-head strong", has_text="25 entries").wait_for()
    keyboard.go_to("Tab", "input", "Search the entries")
    notebook.page.keyboard.type("host:")
    search_is(sidebar, 2)
    keyboard.press("ArrowDown", "Delete")
    note(sidebar, "Deleted 1 entry: host:")
    keyboard.try_shortcuts()
    keyboard.press("Home", "Enter")
    sidebar.get_by_text("Original traceback").wait_for()
    keyboard.go_to("Tab", "group", "Original traceback")
    keyboard.press("Escape", "Control+z")
    note(sidebar, "Restored 1 entry: host:")
    leave(notebook, keyboard)
    assert notebook.unexpected_errors == []
    notebook.page.context.close()


def leave(notebook: NotebookPage, keyboard: Keyboard) -> None:
    """Escape, until nothing is chosen or open, gives the notebook its keyboard back, and its shortcuts."""
    keyboard.go_to("Tab", "grid", "Kept entries")
    out = "() => Boolean(document.activeElement.closest('.jp-Notebook')) && !document.activeElement.closest('.nbstep-panel')"
    for _ in range(3):
        notebook.page.keyboard.press("Escape")
        if notebook.page.evaluate(out):
            break
    notebook.page.wait_for_function(out)
    notebook.page.keyboard.press("b")
    wait_until(lambda: len(keyboard.count_cells()) == len(keyboard.cells) + 1, "a new cell")


def picked(panel: Any, text: str) -> None:
    panel.locator(".nbstep-picked", has_text=text).wait_for()


def search_is(panel: Any, rows: int) -> None:
    panel.locator(f".nbstep-grid[aria-rowcount='{rows + 1}']").wait_for()
