"""Takes the pictures in tests/screenshots anew: `python tests/take_screenshots.py`. It needs Chromium.

The step list and the panel over the quickstart, as it is run for the second time, in JupyterLab's light and dark theme; the light
one is the README's picture.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "notebooks"), str(ROOT / "tests")]

import flights_api  # noqa: E402 - it lies beside the notebooks
from browser import open_lab, wait_until, write_notebook  # noqa: E402

SCREENSHOTS = ROOT / "tests" / "screenshots"
CELLS = (
    "import httpx\nfrom flights_api import start\n%load_ext nbstep\nclient = httpx.Client(base_url=start().url, timeout=30)",
    """%%workflow carriers
def airline(code):
    return client.get(f"/airlines/{code}").raise_for_status().json()

def flights(carrier):
    return client.get("/flights", params={"carrier": carrier, "month": 1}).raise_for_status().json()["flights"]

airlines = step.map(airline, ["UA", "DL", "CO", "AA"], key="airline:{}", on_error="keep")
january = {code: step(flights, code, key=f"flights:{code}:1") for code in ["UA", "DL", "AA", "B6"]}""",
    "%nbstep panel",
)


def take(theme: Literal["light", "dark"], folder: Path, api: flights_api.Api) -> None:
    """Runs the cells, deletes two entries, runs them again, and takes the picture."""
    shutil.copy(ROOT / "notebooks" / "flights_api.py", folder)
    write_notebook(folder / "carriers.ipynb", *CELLS)
    with open_lab(folder, theme=theme, env={"FLIGHTS_API_URL": api.url, "HOME": str(folder.parent)}) as lab:
        notebook = lab.open("carriers.ipynb", width=1180, height=1195, scale=1.25)
        page = notebook.page
        notebook.command("application:toggle-left-area")
        notebook.run_all()
        panel = page.locator(".nbstep-panel")
        panel.locator(".nbstep-head strong", has_text="8 entries").wait_for()
        for key in ("flights:B6:1", "airline:AA"):
            panel.locator(".nbstep-row", has_text=key).click()
            panel.get_by_role("button", name="Delete", exact=True).click()
            panel.locator(".nbstep-row", has_text=key).wait_for(state="detached")
        notebook.run_cell(1)
        summary = notebook.output(1).locator(".nbstep-l .s")
        wait_until(lambda: "2 ran" in summary.inner_text(), "the second run")
        panel.locator(".nbstep-row", has_text="airline:CO").click()
        panel.get_by_text("Original traceback").wait_for()
        page.locator(".jp-CodeCell").nth(1).scroll_into_view_if_needed()
        page.locator(".jp-WindowedPanel-outer").first.evaluate("(outer) => outer.scrollTo(0, 95)")
        page.mouse.move(5, 5)
        page.evaluate("document.activeElement.blur()")
        page.locator(".jp-MainAreaWidget:visible").first.screenshot(path=str(SCREENSHOTS / f"carriers-{theme}.png"))


def main() -> None:
    """Takes all pictures."""
    SCREENSHOTS.mkdir(exist_ok=True)
    with flights_api.serve() as api:
        for theme in ("light", "dark"):
            with tempfile.TemporaryDirectory() as home:
                folder = Path(home, "analysis")
                folder.mkdir()
                take(theme, folder, api)


if __name__ == "__main__":
    main()
