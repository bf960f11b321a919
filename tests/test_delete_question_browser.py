"""What the panel asks before it deletes what later steps were made from (D6), in a real JupyterLab in a real Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from browser import NotebookPage, need_chromium, open_lab, write_notebook

pytestmark = pytest.mark.browser

STORES = """%%workflow stores
raw = step(lambda: pd.DataFrame({"store": [1, 1, 2], "sales": [3.0, None, 5.0]}), key="raw")
clean = step(lambda: raw.dropna(), key="clean")
by_store = step(lambda: clean.groupby("store").sum(), key="by_store")
model = step(lambda: {"mean": by_store["sales"].mean(), "rows": len(clean)}, key="<b>model</b>")
apart = step(lambda: 1, key="apart")"""


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotebookPage]:
    need_chromium()
    folder = tmp_path_factory.mktemp("lab")
    write_notebook(
        folder / "stores.ipynb", "%load_ext nbstep\nimport nbstep, pandas as pd", STORES, "%nbstep panel",
        "print('kept', *sorted(nbstep.Cache().keys()))",
    )  # fmt: skip
    with open_lab(folder) as lab:
        opened = lab.open("stores.ipynb")
        opened.run_all()
        yield opened
        assert opened.unexpected_errors == []


def test_d6_the_panel_says_what_was_made_from_an_entry_and_deletes_it_alone_or_with_that(stores: NotebookPage) -> None:
    panel = stores.page.locator(".nbstep-panel")
    panel.locator(".nbstep-head strong", has_text="5 entries").wait_for()
    question, detail = panel.get_by_role("alertdialog"), panel.locator(".nbstep-detail")

    def kept() -> str:
        stores.run_cell(3)
        stores.wait_idle()
        return stores.output(3).inner_text().strip()

    def row(key: str) -> Any:
        return panel.locator(".nbstep-row", has=stores.page.get_by_text(key, exact=True))

    row("clean").click()
    detail.locator("dt", has_text="went into").wait_for()
    assert "made from\nraw\nwent into\n<b>model</b>, by_store\n" in detail.inner_text()

    panel.locator(".nbstep-grid").press("Delete")
    question.wait_for()
    told = re.sub(r"\d+ ms|\d+\.\d s", "…", " ".join(question.inner_text().split()))
    assert told == (
        "Delete 1 entry? 2 later steps were made from it: <b>model</b> (…), by_store (…) "
        "Delete clean only Delete all 3, next run about … Cancel Undo for 24 h"
    )
    assert question.locator("b").count() == 0
    assert question.get_by_role("button", name="Cancel").evaluate("(node) => node === document.activeElement")
    question.press("Escape")
    assert not question.is_visible()
    assert kept() == "kept <b>model</b> apart by_store clean raw"

    row("clean").click()
    panel.get_by_role("button", name="Delete", exact=True).click()
    question.get_by_role("button", name="Delete all 3").click()
    said(panel, "Deleted 3 entries: clean, <b>model</b>, by_store")
    assert not question.is_visible()
    assert kept() == "kept apart raw"
    panel.get_by_role("button", name="Undo", exact=True).click()
    said(panel, "Restored 3 entries")
    assert kept() == "kept <b>model</b> apart by_store clean raw"

    row("clean").click()
    panel.get_by_role("button", name="Delete", exact=True).click()
    question.get_by_role("button", name="Delete clean only").click()
    said(panel, "Deleted 1 entry: clean")
    assert kept() == "kept <b>model</b> apart by_store raw"
    row("apart").click()
    panel.get_by_role("button", name="Delete", exact=True).click()
    said(panel, "Deleted 1 entry: apart")  # nothing was made from it: it went at once
    assert not question.is_visible()

    # Re-run asks the same, from an entry's details too
    stores.set_source(1, STORES.replace(".sum()", ".sum(numeric_only=True)"))
    stores.run_cell(1)
    stores.wait_idle()
    panel.locator(".nbstep-row", has_text="old value").wait_for()  # rows that come meanwhile push the others down
    row("by_store").click()
    for rerun in (detail, panel.locator(".nbstep-bar")):
        rerun.get_by_role("button", name="Re-run").click()
        question.get_by_text("1 later step was made from it: <b>model</b>", exact=False).wait_for()
        assert question.get_by_text("Delete 1 old value?").is_visible()
        question.press("Escape")
    panel.get_by_role("button", name="Re-run").first.click()
    question.get_by_role("button", name="Delete by_store only").click()
    said(panel, "Deleted 1 old value; it runs again when it is next asked: by_store")
    assert kept() == "kept <b>model</b> apart clean raw"


def said(panel: Any, text: str) -> None:
    panel.locator(".nbstep-note", has_text=text).wait_for()
