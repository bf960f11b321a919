"""The panel in a real JupyterLab and Notebook 7: sort, search, look, delete, undo, retry, clear; hostile keys stay text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ipykernel
import pytest
from browser import Lab, NotebookPage, wait_until, write_notebook
from colours import colour, contrast, ground, luminance

import nbstep.notebook
from nbstep.words import shown

pytestmark = [pytest.mark.browser, pytest.mark.parametrize("lab", ["lab", "notebook"], indirect=True)]

HOSTILE = [
    "<img src=x onerror=window.pwned=1>", '"><script>window.pwned=1</script>', "javascript:window.pwned=1",
    "<a data-commandlinker-command=x>y</a>", "\u202eevil\x1b[31m", "日本語のキー:7", "very:long:" + "x" * 300,
]  # fmt: skip
FILL = f"""
import nbstep, numpy as np, pandas as pd
from PIL import Image
from nbstep.cache.records import Facts
from nbstep.events import Place
from nbstep.stores.base import run_now
cache = nbstep.Cache("panel-cache")
keys = {HOSTILE!r} + [f"label:{{n}}" for n in range(28)]
keys += [f"events:page:{{n}}" for n in range(30)] + [f"user:{{n}}" for n in range(28)]
frame = pd.DataFrame({{"day": pd.date_range("2026-01-01", periods=40), "sales": np.arange(40.0)}})
for n, key in enumerate(keys):
    value = [frame, {{"id": n, "name": "Ada"}}, np.linspace(0, 1, 1000 + n), "text " * n][n % 4]
    value = Image.radial_gradient("L") if key == "user:5" else value
    ttl_s = 7200 if n % 9 == 4 else None
    facts = Facts(took_s=0.1 * (n + 1), place=Place("churn.ipynb", 3, n), source=f"lambda: fetch({{n}})", ttl_s=ttl_s)
    assert type(run_now(cache.keep(key, nbstep.Ok(value), facts))).__name__ == "Kept"
class NotFound(LookupError): pass
def fetch_user(uid):
    raise NotFound(f"404 Not Found for GET https://api.example.com/users/{{uid}} <b>bold</b>")
for uid in range(991, 998):
    try:
        fetch_user(uid)
    except NotFound as error:
        facts = Facts(took_s=0.4, place=Place("churn.ipynb", 4, 2), source=f"lambda: fetch_user({{uid}})", workflow="churn")
        run_now(cache.keep(f"user:{{uid}}", nbstep.Err(error), facts))
"""
STATIC = Path(nbstep.notebook.__file__).parent / "static"
VIEW = ".lm-Panel.jp-OutputArea-output"  # a widget's place
KERNEL = "window.jupyterapp.shell.currentWidget?.sessionContext.session?.kernel"
EXECUTE = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute"
TWO_KERNELS = f"""async () => {{
    const first = {KERNEL};
    const second = await window.jupyterapp.serviceManager.kernels.startNew({{ name: first.name }});
    window.kernels = {{ first, second }};
}}"""
RUN = """async ([name, code]) => {
    const done = window.kernels[name].requestExecute({ code });
    let text = "";
    done.onIOPub = (message) => (text += message.content.text ?? "");
    await done.done;
    return text;
}"""
FAIL_THERE = """
def fail():
    raise ValueError("elsewhere")
nbstep.create_workflow(cache=there)(lambda step: step(fail, key="user:998"))
"""
LOOKERS = "import threading; print('looking', sum(t.name == 'nbstep panel' for t in threading.enumerate()))"
COUNT = "print('kept', len(cache.keys()), 'errors', len(cache.errors()))"


@pytest.fixture(scope="module")
def notebook(lab: Lab) -> Iterator[NotebookPage]:
    write_notebook(lab.folder / "panel.ipynb", FILL, "nbstep.panel(cache)", COUNT)
    opened = lab.open("panel.ipynb")
    opened.run_all()
    yield opened
    assert opened.unexpected_errors == []


@pytest.fixture
def panel(notebook: NotebookPage) -> Any:
    found = notebook.page.locator(".nbstep-panel")
    found.locator(".nbstep-row").first.wait_for()
    return found


def search(panel: Any, query: str, expected: int) -> None:
    panel.get_by_role("searchbox").fill(query)
    panel.locator(f".nbstep-grid[aria-rowcount='{expected + 1}']").wait_for()


def counted(notebook: NotebookPage) -> str:
    """What the kernel says is in the cache."""
    notebook.run_cell(2)
    return wait_until(lambda: re.search(r"kept \d+ errors \d+", notebook.output(2).inner_text()), "the count")[0]


def note(panel: Any, text: str) -> None:
    panel.locator(".nbstep-note", has_text=text).wait_for()


def test_it_lists_a_hundred_entries_and_hides_the_saved_table(notebook: NotebookPage, panel: Any) -> None:
    panel.locator(".nbstep-head strong", has_text="100 entries").wait_for()
    assert panel.get_by_role("button", name="7 failed").is_visible()
    assert not notebook.output(1).locator(".nbstep-snapshot").is_visible()
    assert panel.locator(".nbstep-grid").get_attribute("aria-rowcount") == "101"


def test_t9_hostile_keys_stay_text(notebook: NotebookPage, panel: Any) -> None:
    search(panel, "pwned", 3)
    labels = panel.locator(".nbstep-row .nbstep-key").all_inner_texts()
    assert {shown(key) for key in HOSTILE if "pwned" in key} == set(labels)
    search(panel, "evil", 1)
    assert panel.locator(".nbstep-row .nbstep-key").inner_text() == r"\u202eevil\x1b[31m"
    for query in ("pwned", "commandlinker"):
        panel.get_by_role("searchbox").fill(query)
        panel.locator(".nbstep-row").first.click()
        panel.locator(".nbstep-facts").wait_for()
    assert panel.locator("img, script, a, b, [data-commandlinker-command]").count() == 0
    assert notebook.page.evaluate("window.pwned") is None
    search(panel, "", 100)


def test_it_sorts_by_a_column_both_ways(panel: Any) -> None:
    search(panel, "events:page:*", 30)
    panel.get_by_role("button", name="Key").click()
    panel.locator("[role=columnheader][aria-sort=ascending]", has_text="Key").wait_for()
    first = panel.locator(".nbstep-row[aria-rowindex='2'] .nbstep-key")
    assert first.inner_text() == "events:page:0"
    assert panel.locator(".nbstep-row[aria-rowindex='4'] .nbstep-key").inner_text() == "events:page:2"
    panel.get_by_role("button", name="Key").click()
    panel.locator("[role=columnheader][aria-sort=descending]", has_text="Key").wait_for()
    assert first.inner_text() == "events:page:29"
    search(panel, "", 100)


def test_e5_an_error_is_looked_at_deleted_and_brought_back(notebook: NotebookPage, panel: Any) -> None:
    search(panel, "error:NotFound user:99*", 7)
    panel.locator(".nbstep-row", has_text="user:993").click()
    detail = panel.locator(".nbstep-detail")
    detail.get_by_text("Original traceback").wait_for()
    assert "404 Not Found for GET https://api.example.com/users/993 <b>bold</b>" in detail.inner_text()
    assert "in fetch_user" in detail.inner_text()
    assert "churn.ipynb, In [4], line 2" in detail.inner_text()
    panel.get_by_role("button", name="Delete", exact=True).click()
    note(panel, "Deleted 1 entry: user:993")
    panel.locator(".nbstep-head", has_text="6 of 99 entries").wait_for()
    assert not detail.is_visible()
    assert counted(notebook) == "kept 99 errors 6"
    panel.get_by_role("button", name="Undo").click()
    note(panel, "Restored 1 entry: user:993")
    assert counted(notebook) == "kept 100 errors 7"
    search(panel, "", 100)


def test_e3_retry_deletes_the_errors_among_what_is_selected(notebook: NotebookPage, panel: Any) -> None:
    search(panel, "user:*", 35)
    retry = panel.get_by_role("button", name="Retry")
    panel.locator(".nbstep-row[data-status=ok]").first.click()
    assert retry.is_disabled()
    panel.locator(".nbstep-row", has_text="user:994").click(modifiers=["Control"])
    panel.locator(".nbstep-picked", has_text="2 selected").wait_for()
    retry.click()
    note(panel, "Deleted 1 kept error; it runs again when it is next asked: user:994")
    assert counted(notebook) == "kept 99 errors 6"
    panel.get_by_role("button", name="Undo").click()
    note(panel, "Restored 1 entry: user:994")
    search(panel, "", 100)


def test_a_value_is_looked_at(panel: Any) -> None:
    search(panel, "label:1", 11)  # and label:10 to label:19
    panel.locator(".nbstep-row", has=panel.page.get_by_text("label:1", exact=True)).click()
    detail = panel.locator(".nbstep-detail")
    preview = detail.get_by_label("Value")
    assert "2026-01-01" in preview.inner_text()
    assert "sales" in preview.inner_text()
    told = detail.inner_text()
    assert "DataFrame 40 × 2" in told
    assert "churn.ipynb, In [3], line 8" in told
    assert "lambda: fetch(8)" in told
    detail.get_by_role("button", name="Close").click()
    assert not detail.is_visible()
    search(panel, "", 100)


def test_in_the_dark_theme_it_is_dark_and_can_be_read(notebook: NotebookPage, panel: Any) -> None:
    search(panel, "user:99*", 7)
    panel.locator(".nbstep-row").nth(1).click()
    panel.locator(".nbstep-text").first.wait_for()
    texts = [
        panel.locator(f".nbstep-row:not([aria-selected=true]) .nbstep-{cell}").first
        for cell in ("status", "key", "age")
    ]
    texts += [panel.locator(".nbstep-head strong"), panel.get_by_role("searchbox"), panel.locator(".nbstep-text").first]
    try:
        notebook.set_theme("dark")
        assert luminance(ground(panel)) < 0.05
        assert [seen for text in texts if contrast(*(seen := (colour(text), ground(text)))) < 4] == []
    finally:
        notebook.set_theme("light")
    assert luminance(ground(panel)) > 0.9
    panel.locator(".nbstep-grid").press("Escape")
    search(panel, "", 100)


def test_the_keyboard_selects_and_deletes_and_the_notebook_does_not_hear_it(notebook: NotebookPage, panel: Any) -> None:
    cells = notebook.page.locator(".jp-CodeCell").count()
    search(panel, "label:*", 28)
    panel.get_by_role("button", name="Key").click()
    panel.get_by_role("searchbox").press("ArrowDown")
    grid = panel.locator(".nbstep-grid")
    for key in ("Home", "Shift+ArrowDown", "Shift+ArrowDown"):
        grid.press(key)
    panel.locator(".nbstep-picked", has_text="3 selected").wait_for()
    grid.press("Control+ArrowDown")
    grid.press("Control+ArrowDown")
    grid.press(" ")
    panel.locator(".nbstep-picked", has_text="4 selected").wait_for()
    grid.press("Delete")
    note(panel, "Deleted 4 entries")
    grid.press("Control+a")
    panel.locator(".nbstep-picked", has_text="24 selected").wait_for()
    for key in ("d", "d", "x", "b", "a"):  # what JupyterLab would take as: delete, cut, insert a cell
        grid.press(key)
    panel.get_by_role("button", name="Undo").press("d")
    panel.get_by_role("button", name="Undo").press("d")
    assert notebook.page.locator(".jp-CodeCell").count() == cells
    panel.get_by_role("button", name="Undo").click()
    note(panel, "Restored 4 entries")
    search(panel, "", 100)


def test_shift_and_control_clicks_extend_and_toggle(panel: Any) -> None:
    search(panel, "user:*", 35)
    rows = panel.locator(".nbstep-row")
    rows.nth(1).click()
    rows.nth(5).click(modifiers=["Shift"])
    panel.locator(".nbstep-picked", has_text="5 selected").wait_for()
    rows.nth(3).click(modifiers=["Control"])
    panel.locator(".nbstep-picked", has_text="4 selected").wait_for()
    panel.locator(".nbstep-grid").press("Escape")
    wait_until(lambda: panel.locator(".nbstep-picked").inner_text() == "", "nothing selected")
    search(panel, "", 100)


def test_an_image_is_shown_as_a_small_picture(panel: Any) -> None:
    search(panel, "user:5", 1)
    panel.locator(".nbstep-row").click()
    picture = panel.get_by_role("img", name="Picture of user:5")
    picture.wait_for()
    wait_until(lambda: picture.evaluate("(node) => node.naturalWidth") == 256, "the picture")
    panel.locator(".nbstep-grid").press("Escape")
    assert panel.locator("img").count() == 0
    search(panel, "", 100)


def test_a_step_that_runs_appears_by_itself(notebook: NotebookPage, panel: Any) -> None:
    notebook.execute("cache.set('fresh', 1)")
    panel.locator(".nbstep-head strong", has_text="101 entries").wait_for()
    search(panel, "fresh", 1)
    panel.locator(".nbstep-row").click()
    panel.locator(".nbstep-grid").press("Delete")
    note(panel, "Deleted 1 entry: fresh")
    search(panel, "", 100)


def test_what_another_kernel_does_appears_while_the_panel_is_in_sight_and_is_not_looked_for_otherwise(
    notebook: NotebookPage, panel: Any, lab: Lab
) -> None:
    page = notebook.page
    page.evaluate(TWO_KERNELS)
    page.evaluate(RUN, ["second", f"import nbstep; there = nbstep.Cache({str(lab.folder / 'panel-cache')!r})"])
    page.evaluate(RUN, ["second", "there.set('elsewhere', 1)"])
    panel.locator(".nbstep-head strong", has_text="101 entries").wait_for()
    page.evaluate(RUN, ["second", "there.delete('elsewhere')"])
    panel.locator(".nbstep-head strong", has_text="100 entries").wait_for()
    page.evaluate(RUN, ["second", FAIL_THERE])
    panel.get_by_role("button", name="8 failed").wait_for()
    assert page.evaluate(RUN, ["first", LOOKERS]).strip() == "looking 1"
    if lab.app == "lab":  # a page of Notebook 7 holds one notebook, and no other tab to hide it
        page.evaluate("window.jupyterapp.commands.execute('launcher:create')")
        wait_until(lambda: page.evaluate(RUN, ["first", LOOKERS]).strip() == "looking 0", "the looks to end")
    page.evaluate(RUN, ["second", "there.delete('user:998')"])
    if lab.app == "lab":
        page.evaluate("window.jupyterapp.shell.currentWidget.close()")
    panel.get_by_role("button", name="7 failed").wait_for()
    wait_until(lambda: page.evaluate(RUN, ["first", LOOKERS]).strip() == "looking 1", "the looks to begin again")
    page.evaluate("window.kernels.second.shutdown()")


def saved_copies(notebook: NotebookPage, lab: Lab) -> list[str]:
    """The saved notebook under other names: as it is; with the widget's state, as *Save Widget State* adds it; not trusted.

    A notebook is trusted whose very content this server saved.
    """
    saved = notebook.save()
    bundle = saved["cells"][1]["outputs"][1]["data"]["application/vnd.jupyter.widget-view+json"]
    names = {"_model_module": "anywidget", "_model_name": "AnyModel", "_model_module_version": "*"}
    names |= {name.replace("model", "view"): value.replace("Model", "View") for name, value in names.items()}
    state = {
        **names,
        "_esm": (STATIC / "panel.js").read_text(encoding="utf-8"),
        "_anywidget_id": "nbstep",
    }
    model = {"model_name": "AnyModel", "model_module": "anywidget", "model_module_version": "*", "state": state}
    widgets = {"version_major": 2, "version_minor": 0, "state": {bundle["model_id"]: model}}
    metadata = {**saved["metadata"], "widgets": {"application/vnd.jupyter.widget-state+json": widgets}}
    (lab.folder / "as-saved.ipynb").write_bytes((lab.folder / notebook.name).read_bytes())
    cells = [{**cell, "metadata": {**cell["metadata"], "trusted": True}} for cell in saved["cells"]]
    content = {"type": "notebook", "format": "json", "content": {**saved, "cells": cells, "metadata": metadata}}
    assert notebook.page.request.put(f"{lab.url}/api/contents/with-state.ipynb", data=content).ok
    (lab.folder / "untrusted.ipynb").write_text(json.dumps({**saved, "metadata": {**metadata, "by": "a colleague"}}))
    return ["as-saved.ipynb", "with-state.ipynb", "untrusted.ipynb"]


def test_a_reopened_notebook_shows_the_saved_table_as_text_and_nothing_dead(notebook: NotebookPage, lab: Lab) -> None:
    """With a new kernel the widget is gone: neither "Error displaying widget" nor an empty panel may stand for it."""
    for name in saved_copies(notebook, lab):
        reopened = lab.open(name)
        page = reopened.page
        table = page.locator(".nbstep-snapshot table")
        table.wait_for()
        assert table.locator("tbody tr").count() == 100
        assert page.locator(".nbstep-snapshot :is(img, script, a)").count() == 0
        assert page.evaluate("window.pwned") is None
        if name == "untrusted.ipynb":  # widgets are not tried
            assert page.locator(VIEW).count() == 0
        else:
            alone = f"{VIEW} .nbstep-panel" if name == "with-state.ipynb" else f"{VIEW}:text('Error displaying widget')"
            page.locator(alone).wait_for(state="attached")
            assert not page.locator(VIEW).is_visible()
        cells = "[...window.jupyterapp.shell.currentWidget.content.model.cells]"
        assert page.evaluate(f"{cells}.map((cell) => cell.trusted)") == [name != "untrusted.ipynb"] * 3
        if name == "as-saved.ipynb":  # the new kernel shows it live again
            reopened.set_source(1, "import nbstep\nnbstep.panel('panel-cache')")
            reopened.run_cell(1)
            page.locator(".nbstep-panel .nbstep-head strong", has_text="100 entries").wait_for()
            wait_until(lambda table=table: not table.is_visible(), "the saved table to give way")
        reopened.close()


BUSY = "import os, time\ncache.set('live', 1)\nwhile not os.path.exists('go'): time.sleep(0.01)"
AWAITING = """
import asyncio, os
cache.set('live', 1)
while 'live' in cache: await asyncio.sleep(0.01)
cache.set('went on', 1)
while not os.path.exists('enough'): await asyncio.sleep(0.01)
cache.delete('went on')
"""


def test_while_a_cell_runs_it_follows_searches_and_says_that_the_kernel_is_busy(
    notebook: NotebookPage, panel: Any, lab: Lab
) -> None:
    notebook.execute(BUSY)
    panel.locator(".nbstep-head strong", has_text="101 entries").wait_for()
    search(panel, "live", 1)
    panel.locator(".nbstep-row").click()
    panel.get_by_role("button", name="Delete", exact=True).click()
    # Some ipykernels serve the page while a cell runs, on a thread; the others afterwards.
    wait_until(lambda: re.match("Waiting for the kernel|Deleted", panel.locator(".nbstep-note").inner_text()), "a note")
    (lab.folder / "go").touch()
    note(panel, "Deleted 1 entry: live")
    search(panel, "", 100)


def test_while_a_cell_awaits_it_deletes_at_once(notebook: NotebookPage, panel: Any, lab: Lab) -> None:
    if ipykernel.version_info[0] < 7:
        pytest.skip("ipykernel 6 serves the page when the cell has ended")
    notebook.execute(AWAITING)
    panel.locator(".nbstep-head strong", has_text="101 entries").wait_for()
    search(panel, "live", 1)
    panel.locator(".nbstep-row").click()
    panel.locator(".nbstep-facts").wait_for()
    panel.get_by_role("button", name="Delete", exact=True).click()
    note(panel, "Deleted 1 entry: live")
    # The cell itself saw it go, and still runs: only the end of it takes this away.
    search(panel, "went", 1)
    (lab.folder / "enough").touch()
    search(panel, "", 100)


def test_the_panel_asks_before_it_deletes_errors_that_it_does_not_show(notebook: NotebookPage, panel: Any) -> None:
    search(panel, "user:991", 1)
    panel.get_by_role("button", name="Delete all errors").click()
    question = panel.get_by_role("alertdialog")
    assert question.inner_text().splitlines()[:2] == [
        "Delete all 7 kept errors of this cache?",
        "6 of them are not shown here.",
    ]
    question.get_by_role("button", name="Cancel").click()
    assert counted(notebook) == "kept 100 errors 7"
    panel.get_by_role("button", name="Delete all errors").click()
    question.get_by_role("button", name="Delete all 7 kept errors").click()
    note(panel, "Deleted 7 kept errors; they run again when they are next asked")
    assert counted(notebook) == "kept 93 errors 0"
    panel.get_by_role("button", name="Undo").click()
    note(panel, "Restored 7 entries")
    search(panel, "", 100)


def test_the_panel_asks_before_it_clears_and_errors_go_at_once(notebook: NotebookPage, panel: Any) -> None:
    panel.get_by_role("button", name="Delete all errors").click()
    note(panel, "Deleted 7 kept errors; they run again when they are next asked")
    assert counted(notebook) == "kept 93 errors 0"
    panel.get_by_role("button", name="Clear").click()
    question = panel.get_by_role("alertdialog")
    assert "Delete all 93 entries" in question.inner_text()
    question.get_by_role("button", name="Cancel").click()
    assert not question.is_visible()
    assert counted(notebook) == "kept 93 errors 0"
    panel.get_by_role("button", name="Clear").click()
    question.get_by_role("button", name="Delete all 93 entries").click()
    note(panel, "Deleted all 93 entries")
    panel.get_by_text("Nothing kept yet. A step with a key appears here when it has run.").wait_for()
    assert counted(notebook) == "kept 0 errors 0"
    panel.get_by_role("button", name="Undo").click()
    panel.locator(".nbstep-head strong", has_text="93 entries").wait_for()


def test_every_focusable_element_keeps_the_notebooks_shortcuts_away(panel: Any) -> None:
    panel.locator(".nbstep-row").first.click()
    panel.locator(".nbstep-text").first.wait_for()
    without = panel.locator(
        ":is(button, input, a, select, textarea, [tabindex]):not([data-lm-suppress-shortcuts='true'])"
    )
    assert without.count() == 0


def test_t10_a_saved_notebook_shows_the_table_without_a_kernel(notebook: NotebookPage, panel: Any, lab: Lab) -> None:
    outputs = notebook.save()["cells"][1]["outputs"]
    assert [sorted(output["data"]) for output in outputs] == [
        ["text/html", "text/plain"], ["application/vnd.jupyter.widget-view+json", "text/plain"],
    ]  # fmt: skip
    assert outputs[0]["data"]["text/plain"][0].startswith("ok ")


DRIFT = (
    "%load_ext nbstep\nran = []\ndef tidy(rows):\n    return [row for row in rows if row]\ndef price(rate):\n    return rate * 2",
    "%%workflow sales\nrate = 1\nclean = step(lambda: tidy([0, 1, 2]), key='clean')\n"
    "price_ = step(lambda: (ran.append(1), price(rate))[1], key='price')",
    "%nbstep panel",
    "print('value', clean, price_, 'ran', len(ran))",
)


@pytest.fixture
def drifted(lab: Lab) -> Iterator[NotebookPage]:
    """A notebook of which two values are old: one by an edit, one by a variable."""
    write_notebook(lab.folder / "sales.ipynb", *DRIFT)
    opened = lab.open("sales.ipynb")
    opened.run_all()
    opened.page.locator(".nbstep-panel .nbstep-row").nth(1).wait_for()
    opened.set_source(0, DRIFT[0].replace("if row]", "if row > 1]  # <b>bold</b>"))
    opened.set_source(1, DRIFT[1].replace("rate = 1", "rate = 3"))
    opened.run_cell(0)
    opened.run_cell(1)
    yield opened
    assert opened.unexpected_errors == []
    opened.close()


def test_d4_the_panel_marks_old_values_shows_what_changed_accepts_and_re_runs(drifted: NotebookPage) -> None:
    panel = drifted.page.locator(".nbstep-panel")
    bar, detail = panel.locator(".nbstep-bar"), panel.locator(".nbstep-detail")
    panel.locator(".nbstep-head", has_text="2 old values").wait_for()
    row = panel.locator(".nbstep-row[data-status='old value']", has_text="clean")
    assert "▲ old value" in row.inner_text()
    assert "tidy() was edited" in row.inner_text()
    assert bar.get_by_role("button", name="Accept").is_disabled()
    panel.get_by_role("button", name="2 old values").click()
    panel.locator(".nbstep-head", has_text="2 of 2 entries").wait_for()
    assert panel.get_by_role("searchbox").input_value() == "old:"
    row.click()
    detail.get_by_text("Source then and now: tidy()").wait_for()
    assert detail.locator(".nbstep-removed").all_inner_texts() == ["-    return [row for row in rows if row]\n"]
    (added,) = detail.locator(".nbstep-added").all_inner_texts()
    assert added == "+    return [row for row in rows if row > 1]  # <b>bold</b>\n"
    assert detail.locator("b").count() == 0
    assert bar.get_by_role("button", name="Retry").is_disabled()
    bar.get_by_role("button", name="Accept").click()
    note(panel, "Accepted 1 old value: clean.")
    panel.locator(".nbstep-head", has_text="1 of 2 entries").wait_for()
    panel.locator(".nbstep-row", has_text="price").click()
    detail.locator(".nbstep-inputs .nbstep-old", has_text="1 then, 3 now").wait_for()
    detail.get_by_role("button", name="Re-run").click()
    note(panel, "Deleted 1 old value; it runs again when it is next asked: price")
    search(panel, "", 1)
    drifted.run_cell(1)
    panel.locator(".nbstep-head strong", has_text="2 entries").wait_for()
    wait_until(lambda: "1 cached" in drifted.output(1).inner_text(), "the accepted value to be a plain hit")
    assert "old value" not in drifted.output(1).inner_text()
    drifted.run_cell(3)
    wait_until(lambda: "value [1, 2] 6 ran 1" in drifted.output(3).inner_text(), "the values")
    assert not bar.get_by_role("button", name="Accept").is_visible()


def test_a_panel_whose_kernel_is_gone_says_so_at_its_top_and_offers_only_what_works(lab: Lab) -> None:
    make = "cache = nbstep.Cache('lost')\nfor n in range(3):\n    cache.set(f'item:{n}', n)\ncache.delete('item:2')"
    write_notebook(lab.folder / "lost.ipynb", f"%load_ext nbstep\nimport nbstep\n{make}", "nbstep.panel(cache)")
    opened = lab.open("lost.ipynb")
    panel = opened.page.locator(".nbstep-panel")
    said = panel.get_by_text("This panel's kernel is gone: run %load_ext nbstep and %nbstep panel again.", exact=False)

    def run() -> None:
        opened.run_all()
        panel.locator(".nbstep-head strong", has_text="2 entries").wait_for()
        panel.locator(".nbstep-row", has_text="item:1").click()
        panel.get_by_role("button", name="Delete", exact=True).and_(opened.page.locator(":enabled")).wait_for()
        assert not said.is_visible()

    run()
    opened.restart_kernel()
    said.wait_for()  # without a click
    assert said.bounding_box()["y"] < panel.locator(".nbstep-head").bounding_box()["y"]
    able = panel.locator("button:visible:enabled:not(.nbstep-sorter)")
    assert able.all_inner_texts() == ["Group", "Close"]
    search(panel, "item:0", 1)
    panel.locator(".nbstep-grid").press("Control+a")
    panel.locator(".nbstep-grid").press("Delete")
    assert panel.locator(".nbstep-note").inner_text() == "What is listed can still be searched, sorted and grouped."

    run()  # a new kernel, a new panel
    opened.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    panel.hover()
    said.wait_for()
    assert opened.unexpected_errors == []
    opened.page.context.close()
