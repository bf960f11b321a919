"""The main job as a person does it: the quickstart in a real JupyterLab, its step list live, one error deleted in the panel."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flights_api
import pytest
from browser import NotebookPage, need_chromium, open_lab, wait_until

pytestmark = pytest.mark.browser

NOTEBOOKS = Path(flights_api.__file__).parent
TWELVE_MONTHS, FAILURE, SIXTEEN_AIRLINES, PANEL = 2, 3, 8, 12  # code cells, counted from 0


@pytest.fixture
def api() -> Iterator[flights_api.Api]:
    with flights_api.serve() as served:
        yield served


@pytest.fixture
def quickstart(tmp_path: Path, api: flights_api.Api) -> Iterator[NotebookPage]:
    need_chromium()
    for name in ("quickstart.ipynb", "flights_api.py", "timings.py"):
        shutil.copy(NOTEBOOKS / name, tmp_path)
    env = {
        "FLIGHTS_API_URL": api.url,
        "NBSTEP_DIR": str(tmp_path / ".nbstep"),
        "NOTEBOOK_TIMINGS": str(tmp_path / "t.jsonl"),
    }
    with open_lab(tmp_path, env=env) as lab:
        notebook = lab.open("quickstart.ipynb", height=1400)
        yield notebook
        assert notebook.unexpected_errors == []


def summaries_while_running(notebook: NotebookPage, cell: int) -> list[str]:
    """The different summaries that a cell's step list showed until the notebook came to rest."""
    seen: list[str] = []
    summary = notebook.output(cell).locator(".nbstep-l .s")

    def shown() -> list[str]:
        """What the page shows of it; nothing, where JupyterLab has scrolled to another cell."""
        return [text for text in summary.all_inner_texts() if text]

    end = time.monotonic() + 120
    while time.monotonic() < end:
        texts = shown()
        if texts and (not seen or texts[-1] != seen[-1]):
            seen.append(texts[-1])
        if seen and not notebook.running():
            scroll_to(notebook, cell)
            return [*seen, wait_until(shown, "the list at rest")[-1]]
    raise TimeoutError("the notebook did not end")


def scroll_to(notebook: NotebookPage, cell: int) -> Any:
    output = notebook.output(cell)
    notebook.page.locator(".jp-CodeCell").nth(cell).scroll_into_view_if_needed()
    return output


def test_the_quickstart_is_run_watched_and_one_error_is_run_again(
    quickstart: NotebookPage, api: flights_api.Api
) -> None:
    quickstart.command("notebook:clear-all-cell-outputs")
    quickstart.run_all(wait=False)

    # N3: the list is live. Eleven fetches of half a second each show as a list that grows.
    scroll_to(quickstart, TWELVE_MONTHS)
    seen = summaries_while_running(quickstart, TWELVE_MONTHS)
    assert len(seen) >= 4, seen
    assert re.search(r"12 steps: 1 cached .*11 ran", seen[-1]), seen

    # The panel lists what was kept, the 404 among it.
    scroll_to(quickstart, PANEL)
    panel = quickstart.page.locator(".nbstep-panel")
    panel.locator(".nbstep-head strong", has_text="29 entries").wait_for()
    panel.get_by_role("searchbox").fill("error:")
    row = panel.locator(".nbstep-row")
    wait_until(lambda: row.count() == 1, "one row")
    row.click()
    detail = panel.locator(".nbstep-detail")
    detail.get_by_text("Original traceback").wait_for()
    assert "HTTPStatusError" in detail.inner_text()
    panel.get_by_role("button", name="Delete", exact=True).click()
    panel.locator(".nbstep-note", has_text="Deleted 1 entry").wait_for()

    # The cell again: exactly that step is computed, by one request.
    before = api.stats()["by_path"]
    scroll_to(quickstart, FAILURE)
    quickstart.run_cell(FAILURE)
    summary = quickstart.output(FAILURE).locator(".nbstep-l .s")
    wait_until(lambda: re.search(r"1 step: 1 failed(?! \(cached\))", summary.inner_text()), "a fresh failure")
    after = api.stats()["by_path"]
    assert {path: after[path] - before.get(path, 0) for path in after if after[path] != before.get(path, 0)} == {
        "/airlines/CO": 1
    }

    # And once more: now it is kept again, and no other step of the notebook runs either.
    scroll_to(quickstart, FAILURE)
    quickstart.run_cell(FAILURE)
    wait_until(lambda: "1 failed (cached)" in summary.inner_text(), "the kept failure")
    quickstart.run_cell(SIXTEEN_AIRLINES)
    again = quickstart.output(SIXTEEN_AIRLINES).locator(".nbstep-l .s")
    wait_until(lambda: "16 cached" in again.inner_text(), "all airlines from the cache")
    assert api.stats()["by_path"] == after
