"""Takes the pictures in tests/screenshots anew: `python tests/take_screenshots.py`. It needs Chromium.

In JupyterLab's light and dark theme: the step list and the panel over fetched flights, run for the second time (the light one is
the README's picture), both over a hundred entries, some with hostile keys, a `%%step` cell that was hit, with a plan, old
values, and the question that the panel asks before it deletes what other steps were made from.
`python tests/take_screenshots.py drift` takes those of one scene.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

HUNDRED = (
    "%load_ext nbstep",
    """%%workflow churn
import datetime, decimal, pathlib
import numpy as np, pandas as pd

values = [np.arange(120_000.0).reshape(300, 400), pd.DataFrame({"a": range(500), "b": "x"}), {"id": 7, "name": "Ada"},
          "a text", 42, None, datetime.date(2026, 11, 3), [1, 2, 3], decimal.Decimal("1.5"), pathlib.Path("x.csv")]
for n in range(60):
    step(lambda: values[n % 10], key=f"user:{n}")
for n in range(30):
    step(lambda: values[n % 10], key=f"label:page:{n}")
for key in ["<img src=x onerror=alert(1)>", "a\\u202eb", "with\\nnewline", "\\x1b[31mred", "../../x",
            "x" * 300, "</td><script>1</script>"]:
    step(lambda: key, key=key)
def refused(n):
    raise ConnectionRefusedError(f"attempt {n}: <b>no answer</b>")
for n in range(3):
    step(refused, n, key=f"host:{n}", on_error="keep")
step(lambda: 1);""",
    "%nbstep panel",
)


CELL_AND_PLAN = (
    "%load_ext nbstep\n%matplotlib inline\nimport time\nlr = 0.1",
    """%%step model:{lr} --out table
import matplotlib.pyplot as plt
import pandas as pd

print("fitting …")
time.sleep(1.3)
table = pd.DataFrame({"epoch": [1, 2, 3], "loss": [0.9, 0.4, 0.3]})
table.plot(x="epoch", y="loss", figsize=(4, 1.8))
table""",
    """%%workflow churn
def clean(n):
    time.sleep(n / 5)
    return list(range(n * 1000))

raw = step(clean, 3, key="raw")
parts = [step(clean, n, key=f"part:{n}") for n in (1, 2)]
def lost():
    raise ConnectionRefusedError("no answer")
step(lost, key="host", on_error="keep")""",
    """%%workflow churn --plan
def clean(n):
    time.sleep(n / 5)
    return list(range(n * 1000))

raw = step(clean, 3, key="raw")
parts = [step(clean, n, key=f"part:{n}") for n in (1, 2)]
def lost():
    raise ConnectionRefusedError("no answer")
step(lost, key="host", on_error="keep")
model = step(clean, 4, key="model")
scores = [step(clean, n, key=f"score:{n}") for n in parts]""",
    "%nbstep rm part:2",
)

DRIFT = (
    """%load_ext nbstep
import pandas as pd
raw = pd.DataFrame({"store": ["A", "B", "B", None], "day": pd.date_range("2026-11-02", periods=4), "sales": [5, 7, 0, 2]})""",
    """def tidy(sales):
    \"\"\"Rows that can be counted.\"\"\"
    sales = sales.dropna()
    return sales[sales["sales"] > 0]

def label(text, prompt):
    return f"{prompt}: {text}".lower()

PROMPT = "In one word"
rate = 1.5""",
    """%%workflow sales
clean = step(lambda: tidy(raw), key="clean")
by_store = step(lambda: clean.groupby("store").sales.sum() * rate, key="by_store")
labels = [step(lambda: label(text, PROMPT), key=f"label:{n}") for n, text in enumerate(["Fine.", "Too late", "Broken", "Thanks!"])]
report = step(lambda: f"{len(labels)} labels", key="report")""",
    "%nbstep panel",
    "%nbstep show clean",
)
DRIFT_EDIT = """def tidy(sales):
    \"\"\"Rows that can be counted, without the days when a store was closed.\"\"\"
    sales = sales.dropna(subset=["store", "sales"])
    return sales[sales["sales"] > 0]

def label(text, prompt):
    return f"{prompt}: {text}".lower()

PROMPT = "In one or two words"
rate = 1.75"""


LINEAGE = (
    "%load_ext nbstep\nimport time\nimport numpy as np, pandas as pd",
    """%%workflow stores
def sales(store):
    time.sleep(0.2)
    return pd.DataFrame({"store": store, "day": pd.date_range("2026-11-01", periods=25), "sales": np.arange(25.0) * store})

def tidy(parts):
    time.sleep(0.6)
    return pd.concat(parts).dropna()

def fit(clean):
    time.sleep(3)
    return np.polyfit(clean["store"], clean["sales"], 1)

parts = [step(sales, store, key=f"sales:{store}") for store in range(1, 8)]
clean = step(lambda: tidy(parts), key="clean")
by_store = step(lambda: clean.groupby("store")["sales"].sum(), key="by_store")
model = step(lambda: fit(clean), key="model")
report = step(lambda: f"slope {model[0]:.1f}, best store {by_store.idxmax()}", key="report")""",
    "%nbstep panel",
)


def take_lineage(theme: Literal["light", "dark"], folder: Path) -> None:
    """What the panel asks before it deletes an entry from which others were made, and that entry in full."""
    write_notebook(folder / "stores.ipynb", *LINEAGE)
    with open_lab(folder, theme=theme, env={"HOME": str(folder.parent)}) as lab:
        notebook = lab.open("stores.ipynb", width=1180, height=1230, scale=1.25)
        page = notebook.page
        notebook.command("application:toggle-left-area")
        notebook.run_all()
        panel = page.locator(".nbstep-panel")
        panel.locator(".nbstep-head strong", has_text="11 entries").wait_for()
        panel.locator(".nbstep-row", has=page.get_by_text("clean", exact=True)).click()
        panel.locator("dt", has_text="went into").wait_for()
        panel.get_by_role("button", name="Delete", exact=True).click()
        panel.get_by_role("alertdialog").wait_for()
        page.locator(".jp-WindowedPanel-outer").first.evaluate("(outer) => outer.scrollTo(0, 480)")
        page.mouse.move(5, 5)
        page.locator(".jp-MainAreaWidget:visible").first.screenshot(path=str(SCREENSHOTS / f"lineage-{theme}.png"))


def take_cell_and_plan(theme: Literal["light", "dark"], folder: Path) -> None:
    """A `%%step` cell the second time, and the plan of a cell that grew since it ran."""
    write_notebook(folder / "model.ipynb", *CELL_AND_PLAN)
    with open_lab(folder, theme=theme, env={"HOME": str(folder.parent)}) as lab:
        notebook = lab.open("model.ipynb", width=1000, height=1790, scale=1.25)
        page = notebook.page
        notebook.command("application:toggle-left-area")
        notebook.run_all()
        notebook.output(3).locator(".nbstep-l").wait_for()
        notebook.wait_idle()
        for number in (4, 1, 3):
            notebook.run_cell(number)
            notebook.wait_idle()
        wait_until(lambda: "1 cached" in notebook.output(1).locator(".nbstep-l .s").inner_text(), "the hit")
        wait_until(lambda: "2 missing" in notebook.output(3).locator(".nbstep-l .s").inner_text(), "the plan")
        page.locator(".jp-WindowedPanel-outer").first.evaluate("(outer) => outer.scrollTo(0, 0)")
        page.mouse.move(5, 5)
        page.evaluate("document.activeElement.blur()")
        page.locator(".jp-MainAreaWidget:visible").first.screenshot(
            path=str(SCREENSHOTS / f"cell-and-plan-{theme}.png")
        )


def take_drift(theme: Literal["light", "dark"], folder: Path) -> None:
    """Old values: amber rows with their causes, the panel with an old value in full, and what `show` says of it."""
    write_notebook(folder / "sales.ipynb", *DRIFT)
    with open_lab(folder, theme=theme, env={"HOME": str(folder.parent)}) as lab:
        notebook = lab.open("sales.ipynb", width=1180, height=1750, scale=1.25)
        page = notebook.page
        notebook.command("application:toggle-left-area")
        notebook.run_all()
        panel = page.locator(".nbstep-panel")
        panel.locator(".nbstep-head strong", has_text="7 entries").wait_for()
        notebook.set_source(1, DRIFT_EDIT)
        notebook.run_cell(1)
        notebook.run_cell(2)
        panel.locator(".nbstep-head", has_text="6 old values").wait_for()
        notebook.run_cell(4)
        notebook.output(4).get_by_text("Source then and now").wait_for()
        panel.locator(".nbstep-row", has_text="clean").click()
        panel.get_by_text("Source then and now: tidy()").wait_for()
        page.locator(".jp-WindowedPanel-outer").first.evaluate("(outer) => outer.scrollTo(0, 0)")
        page.mouse.move(5, 5)
        page.evaluate("document.activeElement.blur()")
        page.locator(".jp-MainAreaWidget:visible").first.screenshot(path=str(SCREENSHOTS / f"drift-{theme}.png"))


def take_hundred(theme: Literal["light", "dark"], folder: Path) -> None:
    """A hundred entries in the list, cached, and in the panel."""
    write_notebook(folder / "churn.ipynb", *HUNDRED)
    with open_lab(folder, theme=theme, env={"HOME": str(folder.parent)}) as lab:
        notebook = lab.open("churn.ipynb", width=1180, height=1500, scale=1.25)
        page = notebook.page
        notebook.command("application:toggle-left-area")
        notebook.run_all()
        panel = page.locator(".nbstep-panel")
        panel.locator(".nbstep-head strong", has_text="100 entries").wait_for()
        notebook.run_cell(1)
        summary = notebook.output(1).locator(".nbstep-l .s")
        wait_until(lambda: "97 cached" in summary.inner_text(), "the second run")
        panel.locator(".nbstep-head", has_text="saved").wait_for()
        page.locator(".jp-CodeCell").nth(1).locator(".jp-OutputArea").scroll_into_view_if_needed()
        page.mouse.move(5, 5)
        page.evaluate("document.activeElement.blur()")
        page.locator(".jp-MainAreaWidget:visible").first.screenshot(path=str(SCREENSHOTS / f"hundred-{theme}.png"))


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
        panel.locator(".nbstep-head", has_text="saved").wait_for()  # the rows have moved to their new places
        panel.locator(".nbstep-row", has_text="airline:CO").click()
        panel.get_by_text("Original traceback").wait_for()
        page.locator(".jp-CodeCell").nth(1).scroll_into_view_if_needed()
        page.locator(".jp-WindowedPanel-outer").first.evaluate("(outer) => outer.scrollTo(0, 95)")
        page.mouse.move(5, 5)
        page.evaluate("document.activeElement.blur()")
        page.locator(".jp-MainAreaWidget:visible").first.screenshot(path=str(SCREENSHOTS / f"carriers-{theme}.png"))


def main() -> None:
    """Takes all pictures, or those of the scenes that are named."""
    SCREENSHOTS.mkdir(exist_ok=True)
    with flights_api.serve() as api:
        scenes: dict[str, Callable[[Literal["light", "dark"], Path], None]] = {
            "carriers": lambda theme, folder: take(theme, folder, api),
            "hundred": take_hundred,
            "cell-and-plan": take_cell_and_plan,
            "drift": take_drift,
            "lineage": take_lineage,
        }
        for name in sys.argv[1:] or scenes:
            for theme in ("light", "dark"):
                with _own_folder() as folder:
                    scenes[name](theme, folder)


@contextmanager
def _own_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home, "analysis")
        folder.mkdir()
        yield folder


if __name__ == "__main__":
    main()
