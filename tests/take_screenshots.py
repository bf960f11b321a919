"""Takes the pictures in tests/screenshots anew: `python tests/take_screenshots.py`. It needs Chromium.

In JupyterLab's light and dark theme: the step list and the panel over fetched flights, run for the second time (the light one is
the README's picture), both over a hundred entries, some with hostile keys, a `%%step` cell that was hit, with a plan, old
values, what *Accept* and *Re-run* made of them, the question that the panel asks before it deletes what other steps were made
from, keys that collide, a kept failure that is met again, the sidebar, where an error was deleted while a cell runs, steps that
run and wait, values of several kinds in full, keys in groups, a terminal with the command and with IPython, a panel that was
cleared beside one of nothing, and a notebook as exported HTML. Panel and sidebar in high contrast, too. `python
tests/take_screenshots.py drift` takes those of one scene, `--into FOLDER` puts them elsewhere.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "notebooks"), str(ROOT / "tests")]

import flights_api  # noqa: E402 - it lies beside the notebooks
from browser import NotebookPage, open_lab, wait_until, write_notebook  # noqa: E402
from servers import Theme  # noqa: E402

SCREENSHOTS: Final = ROOT / "tests" / "screenshots"
_into = SCREENSHOTS
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
raw = pd.DataFrame({"store": ["A", "B", "B", None], "day": pd.date_range("2026-11-02", periods=4), "sales": [5, 7, 0, 2]})
texts = ["Fine.", "Too late", "Broken", "Thanks!"]""",
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
labels = [step(lambda: label(text, PROMPT), key=f"label:{n}") for n, text in enumerate(texts)]
report = step(lambda: f"{len(labels)} labels", key="report")""",
    "%nbstep show clean",
    "%nbstep panel",
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

COLLISION = (
    "%load_ext nbstep\nimport pandas as pd\nraw = pd.DataFrame({'customer': [1, 2, 3], 'left': [False, True, False]})",
    """%%workflow sales
def tidy(table):
    return table.dropna()

clean = step(tidy, raw, key="clean")""",
    """%%workflow years
def load(year):
    return pd.DataFrame({"year": year, "month": range(1, 13)})

for year in (2025, 2026):
    print(len(step(load, year, key="load")), "months of", year)""",
    """%%workflow churn
def drop_churned(table):
    return table[~table["left"]]

clean = step(drop_churned, raw, key="clean")""",
)

TRAINING = """import pathlib, time
from nbstep import step
def train():
    pathlib.Path("started").touch()
    while not pathlib.Path("done").exists():
        time.sleep(0.1)
    return 1
step(train, key="events:page:40")
"""
RUNNING = (
    """%load_ext nbstep
import pathlib, subprocess, sys, time
training = subprocess.Popen([sys.executable, "training.py"])
while not pathlib.Path("started").exists():
    time.sleep(0.1)""",
    """%%workflow churn
def page(n):
    while n == 41 and not pathlib.Path("done").exists():
        time.sleep(0.1)
    time.sleep(0.02)
    return list(range(n * 100))

def nothing(host):
    raise ConnectionRefusedError(f"{host} does not answer")

step(nothing, "b.example", key="host:b", on_error="keep")
pages = step.map(page, range(42), key="events:page:{}")""",
)

VALUES = (
    "%load_ext nbstep\nimport numpy as np\nimport matplotlib.pyplot as plt",
    """%%workflow values
def draw():
    figure, axes = plt.subplots(figsize=(5, 2.5))
    axes.plot(np.sin(np.linspace(0, 12, 200)))
    plt.close(figure)
    return figure

step(draw, key="figure")
step(lambda: np.linspace(0, 1, 120_000).reshape(300, 400), key="grid")
step(lambda: {"rate": 0.1, "depth": 3, "columns": ["store", "day", "sales"]}, key="settings");""",
    "%nbstep panel",
    "%nbstep panel",
    "%nbstep panel",
)

CLEARED = (
    "%load_ext nbstep\nimport nbstep",
    "%%workflow\nfor n in range(11): step(lambda: n, key=f'user:{n}')",
    "%nbstep panel",
    "nbstep.panel('elsewhere')",
)

EXPORTED = """%%workflow churn
def fetch(n):
    if n > 6:
        raise ConnectionRefusedError(f"host {n} does not answer")
    return list(range(n * 1000))
rows = step.map(fetch, range(1, 9), key="host:{}", on_error="keep")
total = step(lambda: sum(len(row.value) for row in rows if row.ok), key="total")
total"""

FAILURE = (
    CELLS[0],
    """%%workflow carriers
def airline(code):
    return client.get(f"/airlines/{code}").raise_for_status().json()

united = step(airline, "UA", key="airline:UA")
continental = step(airline, "CO", key="airline:CO")""",
    """%%workflow carriers
for attempt in range(2):
    try:
        continental = step(airline, "CO", key="airline:CO")
    except httpx.HTTPStatusError:
        if attempt:
            raise""",
    "%nbstep show airline:CO",
    "%nbstep retry airline:CO",
)


@contextmanager
def _opened(
    theme: Theme,
    folder: Path,
    cells: tuple[str, ...],
    height: int,
    width: int = 1180,
    env: Mapping[str, str] | None = None,
) -> Iterator[NotebookPage]:
    """A notebook of these cells in JupyterLab, without its side bar, its window so large that no cell is out of it."""
    write_notebook(folder / "analysis.ipynb", *cells)
    with open_lab(folder, env={"HOME": str(folder.parent), **(env or {})}) as lab:
        notebook = lab.open("analysis.ipynb", width=width, height=height, scale=1.25)
        notebook.set_theme(theme)
        notebook.command("application:toggle-left-area")
        yield notebook


def _run_and_wait(notebook: NotebookPage, *numbers: int) -> None:
    """Runs cells one after another, failing ones too; each says by its list or its text that it has ended."""
    for number in numbers:
        notebook.run_cell(number)
        notebook.wait_idle()


def _shoot(notebook: NotebookPage, name: str, theme: Theme, scroll: int | None = 0, *, focused: bool = False) -> None:
    """Takes the picture of the notebook, with neither the mouse nor, but for a question, the focus in it.

    Its top is `scroll` pixels down; None leaves it where it is.
    """
    page = notebook.page
    if scroll is not None:
        page.locator(".jp-WindowedPanel-outer").first.evaluate("(outer, top) => outer.scrollTo(0, top)", scroll)
    page.mouse.move(5, 5)
    if not focused:
        page.evaluate("document.activeElement.blur()")
    page.locator(".jp-MainAreaWidget:visible").first.screenshot(path=str(_into / f"{name}-{theme}.png"))


def _panel(notebook: NotebookPage, head: str) -> Any:
    """The panel, once its head says so."""
    panel = notebook.page.locator(".nbstep-panel")
    panel.locator(".nbstep-head", has_text=head).wait_for()
    return panel


SIDEBAR = (
    LINEAGE[0],
    """%%workflow stores
def sales(store):
    if store > 6:
        raise ConnectionRefusedError(f"store {store} does not answer")
    return pd.DataFrame({"store": store, "day": pd.date_range("2026-11-01", periods=25), "sales": np.arange(25.0) * store})

parts = step.map(sales, range(1, 9), key="store:{}", on_error="keep")
clean = step(lambda: pd.concat(part.value for part in parts if part.ok).dropna(), key="clean")
weeks = [step(lambda: clean.sales.sum() * n, key=f"week:{n}") for n in range(1, 8)]
model = step(lambda: np.polyfit(clean.store, clean.sales, 1), key="model")
report = step(lambda: f"slope {model[0]:.1f}, best week {max(weeks):,.0f}", key="report")""",
    "while True:  # a long training, say\n    time.sleep(0.1)",
)


TERMINAL_PAGES = """import time
from pathlib import Path
from nbstep import create_workflow

def fetch(n):
    time.sleep(0.1 * n)
    if n == 3:
        raise ConnectionRefusedError(f"page {n} does not answer")
    return list(range(1000 * n))

def wait():
    while not Path("done").exists():
        time.sleep(0.05)

if __name__ == "__main__":
    workflow = create_workflow()
    workflow(lambda step: step.map(fetch, range(1, 6), key="page:{}", on_error="keep"))
    print("all pages asked")
"""


def take_lineage(theme: Theme, folder: Path) -> None:
    """What the panel asks before it deletes an entry from which others were made, and that entry in full."""
    with _opened(theme, folder, LINEAGE, height=1400) as notebook:
        notebook.run_all()
        panel = _panel(notebook, "11 entries")
        panel.locator(".nbstep-row", has=notebook.page.get_by_text("clean", exact=True)).click()
        panel.locator("dt", has_text="went into").wait_for()
        panel.get_by_role("button", name="Delete", exact=True).click()
        panel.get_by_role("alertdialog").wait_for()
        _shoot(notebook, "lineage", theme, scroll=480, focused=True)


def take_sidebar(theme: Theme, folder: Path) -> None:
    """The sidebar while a cell keeps the kernel busy: an error was deleted, and one entry is looked at."""
    with _opened(theme, folder, SIDEBAR, height=820, width=1280) as notebook:
        page = notebook.page
        notebook.run_all(wait=False)
        wait_until(lambda: "18 steps" in notebook.output(1).inner_text(), "the steps")
        notebook.command("nbstep:show")
        edge = page.locator("#jp-main-split-panel > .lm-SplitPanel-handle").first.bounding_box()
        page.mouse.move(edge["x"] + 1, 400)
        page.mouse.down()
        page.mouse.move(390, 400, steps=5)
        page.mouse.up()
        panel = _panel(notebook, "18 entries")
        panel.locator(".nbstep-row", has_text="store:8").click()
        panel.get_by_text("Original traceback").wait_for()
        panel.get_by_role("button", name="Delete", exact=True).click()
        panel.locator(".nbstep-note", has_text="Deleted 1 entry: store:8").wait_for()
        panel.locator(".nbstep-row", has=page.get_by_text("clean", exact=True)).click()
        panel.locator("dt", has_text="went into").wait_for()
        assert notebook.running()
        page.locator(".jp-WindowedPanel-outer").first.evaluate("(outer) => outer.scrollTo(0, 0)")
        page.mouse.move(700, 5)
        page.evaluate("document.activeElement.blur()")
        page.screenshot(path=str(_into / f"sidebar-{theme}.png"))


def take_cell_and_plan(theme: Theme, folder: Path) -> None:
    """A `%%step` cell the second time, and the plan of a cell that grew since it ran."""
    with _opened(theme, folder, CELL_AND_PLAN, height=1790, width=1000) as notebook:
        notebook.run_all()
        notebook.output(3).locator(".nbstep-l").wait_for()
        notebook.wait_idle()
        _run_and_wait(notebook, 4, 1, 3)
        wait_until(lambda: "1 cached" in notebook.output(1).locator(".nbstep-l .s").inner_text(), "the hit")
        wait_until(lambda: "2 missing" in notebook.output(3).locator(".nbstep-l .s").inner_text(), "the plan")
        _shoot(notebook, "cell-and-plan", theme)


@contextmanager
def _drifted(theme: Theme, folder: Path, cells: tuple[str, ...], height: int) -> Iterator[tuple[NotebookPage, Any]]:
    """A notebook whose function, rate and prompt were edited since its steps ran, and its panel."""
    with _opened(theme, folder, cells, height=height) as notebook:
        notebook.run_all()
        _panel(notebook, "7 entries")
        notebook.set_source(1, DRIFT_EDIT)
        _run_and_wait(notebook, 1, 2)
        yield notebook, _panel(notebook, "6 old values")


def take_drift(theme: Theme, folder: Path) -> None:
    """Old values: amber rows with their causes, what `show` says of one, and the panel with it in full."""
    with _drifted(theme, folder, DRIFT, height=2440) as (notebook, panel):
        notebook.run_cell(3)
        notebook.output(3).get_by_text("Source then and now").wait_for()
        panel.locator(".nbstep-row", has_text="clean").click()
        panel.get_by_text("Source then and now: tidy()").wait_for()
        _shoot(notebook, "drift", theme)


def take_accept(theme: Theme, folder: Path) -> None:
    """One old value accepted, four to run again, by the buttons of the panel, and the next run."""
    with _drifted(theme, folder, (*DRIFT[:3], DRIFT[-1]), height=1210) as (notebook, panel):
        panel.locator(".nbstep-row", has_text="clean").click()
        panel.get_by_role("button", name="Accept", exact=True).first.click()
        panel.locator(".nbstep-note", has_text="Accepted 1 old value: clean").wait_for()
        panel.get_by_role("button", name="Close", exact=True).click()
        panel.locator(".nbstep-row", has_text="label:0").click()
        panel.locator(".nbstep-row", has_text="label:3").click(modifiers=["Shift"])
        panel.get_by_role("button", name="Re-run", exact=True).first.click()
        panel.locator(".nbstep-note", has_text="Deleted 4 old values").wait_for()
        notebook.run_cell(2)
        wait_until(lambda: "4 ran" in notebook.output(2).locator(".nbstep-l .s").inner_text(), "the next run")
        _panel(notebook, "2 old values")
        _shoot(notebook, "accept", theme)


def take_running(theme: Theme, folder: Path) -> None:
    """A long run under way: many pages done, one running, and one that another process computes."""
    (folder / "training.py").write_text(TRAINING)
    with _opened(theme, folder, RUNNING, height=660) as notebook:
        _run_and_wait(notebook, 0)
        notebook.run_cell(1)
        steps = notebook.output(1).locator(".nbstep-l")
        steps.get_by_text("1 waiting").wait_for()
        steps.get_by_text("has been computing it for").wait_for()
        _shoot(notebook, "running", theme)
        (folder / "done").touch()
        notebook.wait_idle()


def take_values(theme: Theme, folder: Path) -> None:
    """A figure, an array and a dict in full, each in a panel of its own."""
    with _opened(theme, folder, VALUES, height=2700, width=1000) as notebook:
        notebook.run_all()
        for number, key in enumerate(("figure", "grid", "settings")):
            panel = notebook.output(2 + number).locator(".nbstep-panel")
            panel.locator(".nbstep-row", has_text=key).click()
            panel.locator(".nbstep-facts").first.wait_for()
        _shoot(notebook, "values", theme)


def take_cleared(theme: Theme, folder: Path) -> None:
    """A panel that was cleared, with what Undo would bring back, and one of a cache that never held anything."""
    with _opened(theme, folder, CLEARED, height=1180) as notebook:
        notebook.run_all()
        panel = notebook.output(2).locator(".nbstep-panel")
        panel.locator(".nbstep-head", has_text="11 entries").wait_for()
        panel.get_by_role("button", name="Clear", exact=True).click()
        panel.get_by_role("button", name="Delete all 11 entries").click()
        panel.locator(".nbstep-note", has_text="Deleted all 11 entries").wait_for()
        notebook.output(3).locator(".nbstep-panel").get_by_text("Nothing kept yet").wait_for()
        _shoot(notebook, "cleared", theme)


def take_exported(theme: Theme, folder: Path) -> None:
    """A notebook as nbconvert exports it: the step list and the panel's saved table."""
    write_notebook(folder / "analysis.ipynb", *HUNDRED[:1], EXPORTED, HUNDRED[-1])
    export = [sys.executable, "-m", "nbconvert", "--to", "html", "--execute", f"--theme={theme}", "analysis.ipynb"]
    export += ["--ExecutePreprocessor.store_widget_state=False"]
    home = {**os.environ, "HOME": str(folder.parent)}
    subprocess.run(export, cwd=folder, env=home, check=True, capture_output=True)
    with open_lab(folder) as lab:
        page = lab._browser.new_page(viewport={"width": 1100, "height": 700}, device_scale_factor=1.25)
        page.goto((folder / "analysis.html").as_uri(), wait_until="domcontentloaded")
        page.locator(".nbstep-snapshot").wait_for()
        page.screenshot(path=str(_into / f"exported-{theme}.png"), full_page=True)


def take_collision(theme: Theme, folder: Path) -> None:
    """Two values under one key in a run, and work that meets another workflow's key."""
    with _opened(theme, folder, COLLISION, height=1440) as notebook:
        _run_and_wait(notebook, 0, 1, 2, 3)
        notebook.output(3).get_by_text("in this project").first.wait_for()
        _shoot(notebook, "collision", theme)


def take_failure(theme: Theme, folder: Path, api: flights_api.Api) -> None:
    """A kept failure met again: its note, what it says to who retries around the step, and how to try it again."""
    shutil.copy(ROOT / "notebooks" / "flights_api.py", folder)
    with _opened(theme, folder, FAILURE, height=1900, env={"FLIGHTS_API_URL": api.url}) as notebook:
        _run_and_wait(notebook, 0, 1, 1, 2, 3, 4)
        notebook.output(4).get_by_text("Deleted 1 kept error").wait_for()
        _shoot(notebook, "failure", theme)


def take_hundred(theme: Theme, folder: Path) -> None:
    """A hundred entries in the list, cached, and in the panel."""
    with _opened(theme, folder, HUNDRED, height=1500) as notebook:
        notebook.run_all()
        _panel(notebook, "100 entries")
        notebook.run_cell(1)
        summary = notebook.output(1).locator(".nbstep-l .s")
        wait_until(lambda: "97 cached" in summary.inner_text(), "the second run")
        _panel(notebook, "saved")
        notebook.page.locator(".jp-CodeCell").nth(1).locator(".jp-OutputArea").scroll_into_view_if_needed()
        _shoot(notebook, "hundred", theme, scroll=None)


def take_groups(theme: Theme, folder: Path) -> None:
    """A panel whose keys are grouped by their beginning, one group open, another chosen."""
    with _opened(theme, folder, HUNDRED, height=1100) as notebook:
        notebook.run_all()
        panel = _panel(notebook, "100 entries")
        panel.get_by_role("button", name="Group").click()
        panel.locator(".nbstep-row[data-group]", has_text="host:*").locator(".nbstep-key").click()
        panel.locator(".nbstep-row", has_text="host:2").wait_for()
        panel.locator(".nbstep-row", has_text="label:page:*").locator(".nbstep-status").click()
        panel.locator(".nbstep-picked", has_text="30 selected").wait_for()
        notebook.page.locator(".jp-CodeCell").nth(2).scroll_into_view_if_needed()
        _shoot(notebook, "groups", theme, scroll=None)


def take_terminal(theme: Theme, folder: Path) -> None:
    """A terminal of JupyterLab: `nbstep ls`; and in IPython a finished list, and the live line of a cell that runs."""
    (folder / "pages.py").write_text(TERMINAL_PAGES)
    (folder.parent / ".bash_profile").write_text(f"PS1='$ '\ncd {folder}\nPATH={Path(sys.executable).parent}:$PATH\n")
    with open_lab(folder, theme=theme, env={"HOME": str(folder.parent), "SHELL": "/bin/bash"}) as lab:
        write_notebook(folder / "analysis.ipynb", "1")
        notebook = lab.open("analysis.ipynb", width=1180, height=640)  # enlarged, its canvas is cut
        notebook.set_theme(theme)
        notebook.command("application:toggle-left-area")
        notebook.command("terminal:create-new")
        terminal = notebook.page.locator(".jp-Terminal")
        terminal.locator(".xterm").wait_for()
        terminal.click()

        def enter(*lines: str, until: str, prompt: str = "", ends: str | None = None) -> None:
            for number, line in enumerate(lines, 1):
                notebook.page.keyboard.type(line)
                if ends and number == len(lines):  # IPython then runs a cell of several lines
                    notebook.page.keyboard.press(ends)
                notebook.page.keyboard.press("Enter")
            wait_until(
                lambda: until in (said := notebook.page.evaluate(TERMINAL_TEXT)) and said.endswith(prompt),
                f"the terminal to say {until!r}",
            )

        enter("python pages.py", until="all pages asked", prompt="$")
        enter("clear; nbstep ls", until="page:5", prompt="$")
        enter("ipython --no-banner", until="In [1]:")
        enter("from pages import *", until="In [2]:")
        enter("%load_ext nbstep", until="In [3]:")
        pages = "found = step.map(fetch, range(1, 7), key='page:{}', on_error='keep')"
        enter("%%workflow pages", pages, ends="Escape", until="In [4]:")
        enter("%%workflow more", "step(wait, key='long')", ends="Escape", until="1 running · long")
        notebook.page.locator(".jp-MainAreaWidget:visible").screenshot(path=str(_into / f"terminal-{theme}.png"))
        (folder / "done").touch()
        enter("exit", until="1 ran")


# What a terminal of JupyterLab shows; it is drawn on a canvas.
TERMINAL_TEXT = """() => {
    const { active } = window.jupyterapp.shell.currentWidget.content._term.buffer;
    return Array.from({ length: active.length }, (_, n) => active.getLine(n).translateToString(true)).join("\\n").trimEnd();
}"""


def take_carriers(theme: Theme, folder: Path, api: flights_api.Api) -> None:
    """Runs the cells, deletes two entries, runs them again, and takes the picture."""
    shutil.copy(ROOT / "notebooks" / "flights_api.py", folder)
    with _opened(theme, folder, CELLS, height=1520, env={"FLIGHTS_API_URL": api.url}) as notebook:
        notebook.run_all()
        panel = _panel(notebook, "8 entries")
        for key in ("flights:B6:1", "airline:AA"):
            panel.locator(".nbstep-row", has_text=key).click()
            panel.get_by_role("button", name="Delete", exact=True).click()
            panel.locator(".nbstep-row", has_text=key).wait_for(state="detached")
        notebook.run_cell(1)
        summary = notebook.output(1).locator(".nbstep-l .s")
        wait_until(lambda: "2 ran" in summary.inner_text(), "the second run")
        _panel(notebook, "saved")  # the rows have moved to their new places
        panel.locator(".nbstep-row", has_text="airline:CO").click()
        panel.get_by_text("Original traceback").wait_for()
        _shoot(notebook, "carriers", theme, scroll=95)


def main() -> None:
    """Takes all pictures, or those of the scenes that are named."""
    global _into
    with flights_api.serve() as api:
        scenes: dict[str, Callable[[Theme, Path], None]] = {
            "carriers": lambda theme, folder: take_carriers(theme, folder, api),
            "hundred": take_hundred,
            "groups": take_groups,
            "terminal": take_terminal,
            "cell-and-plan": take_cell_and_plan,
            "drift": take_drift,
            "accept": take_accept,
            "lineage": take_lineage,
            "sidebar": take_sidebar,
            "collision": take_collision,
            "failure": lambda theme, folder: take_failure(theme, folder, api),
            "running": take_running,
            "values": take_values,
            "cleared": take_cleared,
            "exported": take_exported,
        }
        parser = argparse.ArgumentParser(description="Takes the pictures anew.")
        parser.add_argument("scenes", nargs="*", metavar="scene", help=f"of {', '.join(scenes)} (default: all)")
        parser.add_argument("--into", type=Path, default=SCREENSHOTS, help="the folder they go into")
        chosen = parser.parse_args()
        _into = chosen.into
        _into.mkdir(parents=True, exist_ok=True)
        for name in chosen.scenes or scenes:
            high_contrast: tuple[Theme, ...] = ("high-contrast",) if name in {"carriers", "sidebar"} else ()
            for theme in ("light", "dark", *high_contrast):
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
