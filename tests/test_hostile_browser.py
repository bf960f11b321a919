"""The hostile corpus in real Chromium: JupyterLab, its panel and sidebar, a reopened notebook and an exported page (T9).

One scene puts all of it everywhere at once; then each place is looked at. Nothing may run, and no element may come of a text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from browser import Lab, NotebookPage, need_chromium, open_lab, wait_until, write_notebook
from hostile import CANARY, TEXTS
from test_panel_browser import search

from nbstep.words import shown

pytestmark = pytest.mark.browser

NAME = "<img src=x onerror=window.pwned=1> $x$ &amp;.ipynb"
CELLS = (
    """%load_ext nbstep
import json, pandas as pd
TEXTS = json.load(open("texts.json"))
def bad(text): raise type(text.replace("\\0", ""), (Exception,), {"__module__": text})(text)
def tidy(rows): return rows, "<img src=x onerror=window.pwned=1>", "$x$"
def named(text):
    def inner(): return text
    inner.__qualname__ = inner.__name__ = text
    inner.__code__ = inner.__code__.replace(co_name=text.replace("\\0", ""), co_qualname=text.replace("\\0", ""))
    return inner""",
    """%%workflow "<img src=x onerror=window.pwned=1> $x$"
for text in TEXTS:
    step(lambda: {text: [text]}, key=text)
    step(bad, text, key=f"bad:{text}", on_error="keep")
    step(named(text), key=f"named:{text}")
step(lambda: pd.DataFrame({text: [text] for text in TEXTS[:12]}), key="the frame")
source = step(lambda: list(TEXTS), key=f"from-script:{TEXTS[0]}")
step(lambda: len(source), key=f"made:{TEXTS[0]}")
step.map(abs, range(2), key=TEXTS[0] + ":{}")
step(lambda: tidy("</pre><script>window.pwned=1</script>"), key="the drift");""",
    'def tidy(rows): return rows, "</span><img src=x onerror=window.pwned=1>", "$$y$$"',
    "%%workflow\nstep(lambda: tidy('</pre><script>window.pwned=2</script>'), key='the drift')\n"
    "for text in TEXTS: step(bad, text, key=f'bad:{text}', on_error='keep')",
    "%nbstep show 'the drift'",
    "%nbstep ls\nfor text in TEXTS: print(get_ipython().run_line_magic('nbstep', 'ls ' + json.dumps(text)))",
    "%%workflow --plan\nstep(len, [], key=TEXTS[0])",
    "%%workflow\nfor text in TEXTS[:9]: step(lambda: (n for n in text), key=f'no:{text}')\n"
    "step(bad, TEXTS[3], key=f'bad:{TEXTS[3]}')",
    "%%workflow\nstep(lambda: len(text), key=TEXTS[0]); step(lambda: text * 2, key=TEXTS[0])",
    "%nbstep panel",
)  # fmt: skip
# What nbstep's own places are made of.
OURS = ".nbstep-l, .nbstep-snapshot, .nbstep-panel, .nbstep-sidebar"
TAGS = {
    "B", "BUTTON", "DD", "DIV", "DL", "DT", "H2", "I", "INPUT", "LI", "P", "PRE", "SMALL", "SPAN", "STRONG", "STYLE", "TABLE",
    "HEADER", "SECTION", "TBODY", "TD", "TH", "THEAD", "TR", "UL",
}  # fmt: skip
ATTRIBUTES = {
    "class", "data-at", "data-group", "data-lm-suppress-shortcuts", "data-status", "disabled", "hidden", "id", "placeholder",
    "role", "spellcheck", "style", "tabindex", "title", "type",
}  # fmt: skip
# What only a text of the corpus asks for, wherever in an output it would stand. In plain text JupyterLab makes links by itself.
ASKED_FOR = (
    "img, script, iframe, svg, object, embed, form, base, meta, link, details, textarea, h1, mjx-container, .MathJax, "
    "a[href^='javascript' i], a[href]:not([rel='noopener']), [data-commandlinker-command], [autofocus], "
    "[onclick], [onerror], [onload], [onfocus], [onmouseover], [onpointerenter]"
)
RUN = """async (number) => {
    window.jupyterapp.shell.currentWidget.content.activeCellIndex = number;
    await window.jupyterapp.commands.execute("notebook:run-cell");
}"""
MADE = """([ours, asked]) => {
    const places = [...document.querySelectorAll(ours)];
    const inside = places.flatMap((place) => [...place.querySelectorAll("*")]);
    const outputs = [...document.querySelectorAll(".jp-OutputArea-output, .nbstep-sidebar")];
    return {
        places: places.length,
        tags: [...new Set(inside.map((one) => one.tagName.toUpperCase()))],
        attributes: [...new Set(inside.flatMap((one) => one.getAttributeNames()))],
        asked: outputs.flatMap((one) => [...one.querySelectorAll(asked)]).map((one) => one.outerHTML.slice(0, 200)),
    };
}"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    need_chromium()
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "texts.json").write_text(json.dumps([*TEXTS.values()]))
    (folder / "pyproject.toml").touch()
    with open_lab(folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def scene(lab: Lab) -> Iterator[NotebookPage]:
    """The notebook after each of its cells ran."""
    write_notebook(lab.folder / NAME, *CELLS)
    opened = lab.open(NAME)
    opened.page.on("dialog", dialogs(opened.page))
    for number in range(len(CELLS)):  # one by one, as two of them fail
        opened.page.evaluate(RUN, number)
    opened.page.locator(".nbstep-panel .nbstep-row").first.wait_for()
    yield opened
    assert opened.unexpected_errors == []


def dialogs(page: Any) -> Any:
    """Remembers in the page that a dialog was opened."""

    def heard(dialog: Any) -> None:
        page.opened_a_dialog = True
        dialog.dismiss()

    page.opened_a_dialog = False
    return heard


def assert_nothing_came_of_it(page: Any, places: int) -> None:
    """No script ran, no dialog opened, no element and no attribute is there that nbstep did not make."""
    made = page.evaluate(MADE, [OURS, ASKED_FOR])
    assert made["places"] >= places
    assert set(made["tags"]) <= TAGS
    assert {name for name in made["attributes"] if not name.startswith("aria-")} <= ATTRIBUTES
    assert made["asked"] == []
    assert [frame.evaluate(f"window.{CANARY}") for frame in page.frames] == [None] * len(page.frames)
    assert not page.opened_a_dialog


def test_t9_nothing_in_the_outputs_of_a_live_notebook_runs(scene: NotebookPage) -> None:
    lists = scene.page.locator(".nbstep-l")
    assert lists.count() == 5
    text = scene.output(1).locator(".nbstep-l").text_content()
    assert len([key for key in TEXTS.values() if shown(f"bad:{key}")[:200] in text]) >= 12  # the others are folded
    assert "tidy() was edited" in scene.output(3).text_content()
    assert scene.output(4).locator("pre span").count() >= 2  # the edit, in colours
    assert "&lt;" not in scene.output(4).text_content()
    assert "KeyCollision" in scene.output(8).text_content()
    assert_nothing_came_of_it(scene.page, 6)


def test_t9_nothing_in_the_panel_runs_whichever_entry_is_looked_at(scene: NotebookPage) -> None:
    panel = scene.page.locator(".nbstep-panel")
    look_at_each(panel, "bad:", len(TEXTS), len(TEXTS))
    for key in ("the frame", "the drift"):
        search(panel, f'"{key}"', 1)
        panel.locator(".nbstep-row").click()
        panel.locator(".nbstep-facts").first.wait_for()
    assert_nothing_came_of_it(scene.page, 6)


def test_t9_nothing_in_the_panels_groups_questions_and_notes_runs(scene: NotebookPage) -> None:
    panel = scene.page.locator(".nbstep-panel")
    panel.get_by_role("button", name="Whole project").click()
    panel.get_by_role("searchbox").fill("")
    panel.get_by_role("button", name="Group", exact=True).click()
    panel.locator(".nbstep-row[data-group]", has_text="<").first.wait_for()
    panel.get_by_role("button", name="Group", exact=True).click()
    for query, question in (("from-script", "Delete 1 entry?"), ("made:", "")):
        panel.get_by_role("searchbox").fill(query)
        panel.locator(".nbstep-grid").press("Control+a")
        panel.get_by_role("button", name="Delete", exact=True).click()
        if question:
            panel.get_by_role("alertdialog").get_by_text(question).wait_for()
            assert "<script>" in panel.get_by_role("alertdialog").inner_text()
            assert_nothing_came_of_it(scene.page, 6)
            panel.get_by_role("alertdialog").get_by_role("button", name="Cancel").click()
    panel.locator(".nbstep-note", has_text="Deleted 1 entry: made:<script>").wait_for()
    assert_nothing_came_of_it(scene.page, 6)
    panel.get_by_role("button", name="Undo", exact=True).click()
    panel.locator(".nbstep-note", has_text="Restored 1 entry").wait_for()
    panel.get_by_role("searchbox").fill("")


def look_at_each(table: Any, query: str, count: int, most: int) -> None:
    """Opens the details of the rows that a query finds, by the keyboard."""
    table.get_by_role("button", name="Whole project").click()
    search(table, query, count)
    grid = table.locator(".nbstep-grid")
    grid.focus()
    grid.press("Home")
    for row in range(most):
        cursor = table.locator(f".nbstep-row.nbstep-cursor[aria-rowindex='{row + 2}'] .nbstep-key")
        cursor.wait_for()
        table.locator(".nbstep-facts").first.wait_for()
        assert table.locator(".nbstep-detail-key").text_content() == cursor.text_content()
        grid.press("ArrowDown")


def test_t9_nothing_in_the_sidebar_runs(scene: NotebookPage) -> None:
    scene.command("nbstep:show")
    sidebar = scene.page.locator(".nbstep-sidebar")
    sidebar.locator(".nbstep-row").first.wait_for()
    look_at_each(sidebar, "bad:", len(TEXTS), 6)  # the same script
    assert_nothing_came_of_it(scene.page, 7)
    scene.command("filebrowser:activate")


@pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "not trusted"])
def test_t9_nothing_runs_in_a_reopened_notebook(scene: NotebookPage, lab: Lab, trusted: bool) -> None:
    saved = scene.save()
    name = f"again-{trusted}.ipynb"
    if not trusted:
        saved["metadata"]["another"] = "text"  # which the signature of a trusted one does not cover
    (lab.folder / name).write_text(json.dumps(saved))
    page = lab.open(name).page
    page.on("dialog", dialogs(page))
    page.locator(".nbstep-snapshot table").wait_for()
    trust = "[...window.jupyterapp.shell.currentWidget.content.model.cells].filter(c => c.type === 'code').map(c => c.trusted)"
    assert set(page.evaluate(trust)) == {trusted}
    wait_until(lambda: page.locator(".nbstep-l").count() == 5, "the step lists")
    page.locator(".nbstep-snapshot").scroll_into_view_if_needed()
    assert_nothing_came_of_it(page, 6)
    page.context.close()


@pytest.mark.filterwarnings("ignore:Your element with mimetype")  # a live list that was emptied
def test_t9_nothing_runs_in_an_exported_page(scene: NotebookPage, lab: Lab, tmp_path: Path) -> None:
    from nbconvert import HTMLExporter

    scene.save()
    notebook = nbformat.read(lab.folder / NAME, as_version=4)
    notebook.metadata["title"] = "an export"
    notebook.cells = notebook.cells[1:]  # without the source that holds some of the corpus
    exported, _ = HTMLExporter(exclude_input=True).from_notebook_node(notebook)
    (tmp_path / "exported.html").write_text(exported, encoding="utf-8")
    page = lab._browser.new_page()
    page.on("dialog", dialogs(page))
    page.route("http*://**", lambda route: route.abort())
    page.goto((tmp_path / "exported.html").as_uri(), wait_until="domcontentloaded")
    page.locator(".nbstep-snapshot table").wait_for()
    assert_nothing_came_of_it(page, 6)
    page.close()
