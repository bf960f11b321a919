"""The step list in a real JupyterLab and Notebook 7: live, finished, folded, light and dark; hostile keys stay text."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Lab, NotebookPage, wait_until, write_notebook
from colours import colour, contrast, ground, luminance

pytestmark = [pytest.mark.browser, pytest.mark.parametrize("lab", ["lab", "notebook"], indirect=True)]

HOSTILE = [
    "<img src=x onerror=window.pwned=1>", '"><script>window.pwned=1</script>', "</td></table><h1>big</h1>",
    "<!--nbstep-->", "\u202eevil\x1b[31m", "日本語のキー:7", "long:" + "x" * 300,
]  # fmt: skip
CELLS = (
    "%load_ext nbstep\nimport os, time\ndef bad():\n    raise LookupError('<b>404</b>')\n"
    "def held(n):\n    while not os.path.exists('go'):\n        time.sleep(0.05)\n    return n",
    f"%%workflow '<i>name</i>'\nfor key in {HOSTILE!r}:\n    step(lambda: key, key=key)\n"
    "step(lambda: 1)\nstep(bad, key='bad')",
    "%%workflow\nfor n in range(100):\n    step(lambda: n, key=f'user:{n}')\nprint('printed')\nstep(held, 1, key='held');",
)


@pytest.fixture
def notebook(lab: Lab) -> Iterator[NotebookPage]:
    write_notebook(lab.folder / "n.ipynb", *CELLS)
    opened = lab.open("n.ipynb", width=1400, height=1300)
    yield opened
    assert opened.unexpected_errors == []
    opened.close()


def test_n3_n7_the_list_in_jupyterlab(notebook: NotebookPage, lab: Lab, tmp_path: Path) -> None:
    page = notebook.page
    notebook.run_cell(0)
    notebook.wait_idle()
    notebook.run_cell(1)
    hostile = notebook.output(1).locator(".nbstep-l")
    hostile.locator(".o").wait_for()
    assert_hostile_keys_are_text(page, hostile)
    for theme in ("dark", "light"):
        notebook.set_theme(theme)
        assert_finished_look(page, hostile, theme)

    notebook.run_cell(2)
    live = notebook.output(2).locator(".nbstep-l")
    # all hundred are done and folded while the last step still runs
    live.get_by_text("101 steps: 100 ran", exact=False).wait_for()
    live.get_by_text("1 running").wait_for()
    wait_until(lambda: "user:* ×100" in " ".join(live.inner_text().split()), "the folded row")
    (lab.folder / "go").touch()
    notebook.output(2).locator(".nbstep-l .o").wait_for()
    notebook.wait_idle()
    # one list remains, below what the cell printed, and what was live takes no room
    assert live.count() == 1
    assert re.match(r"printed\s+101 steps: 101 ran", notebook.output(2).inner_text())
    notebook.output(2).screenshot(path=str(shots(tmp_path) / "folded.png"))
    outputs = notebook.save()["cells"][2]["outputs"]
    assert next(o["data"] for o in outputs if o["output_type"] == "display_data") == {}

    notebook.restart_kernel()
    notebook.run_cell(0)
    notebook.wait_idle()
    notebook.run_cell(2)
    notebook.output(2).get_by_text("101 steps: 101 cached", exact=False).wait_for()


LONG = (
    "%load_ext nbstep\nclass HTTPStatusError(Exception): pass\ndef bad(n):\n    raise HTTPStatusError(f\"Client error '404 "
    "Not Found' for url 'http://127.0.0.1:44881/airlines/{n}?by=month'\\nFor more information check: https://developer.mozilla.org/en-US/404\")",
    "%%workflow carriers\nstep(lambda: 1, key='carrier:AA')\nfor n in range(3): step(bad, n, key=f'carrier:{n}', on_error='keep')\n"
    "step(bad, 3, key='weather:EWR:2013-01:a-long-key-of-a-report-by-month', on_error='keep');",
)


TEXT_IN = """(node) => {
    const range = document.createRange();
    range.selectNodeContents(node);
    return range.getBoundingClientRect().toJSON();
}"""


def test_n3_long_messages_stay_inside_the_page_and_short(lab: Lab, tmp_path: Path) -> None:
    write_notebook(lab.folder / "long.ipynb", *LONG)
    notebook = lab.open("long.ipynb", width=1300, height=1000)
    for number in (0, 1):
        notebook.run_cell(number)
        notebook.wait_idle()
    shown = notebook.output(1).locator(".nbstep-l")
    shown.locator(".o").wait_for()
    for beside in ("files", "nothing") if lab.app == "lab" else ("nothing",):  # in JupyterLab's left area
        if (lab.app, beside) == ("lab", "nothing"):
            notebook.command("application:toggle-left-area")
        for width in (1300, 900):
            notebook.page.set_viewport_size({"width": width, "height": 1000})
            wait_until(
                lambda: shown.evaluate("e => e.scrollWidth <= e.clientWidth"), f"the list to fit into {width} px"
            )
            heights = shown.locator("tr").evaluate_all("rows => rows.map(row => row.getBoundingClientRect().height)")
            assert heights[0] < 30
            assert max(heights) < 100, (width, beside)
            last = shown.locator("tr.failed").last
            assert last.locator(".d").evaluate("e => e.scrollWidth <= e.clientWidth")
            key, end, state, detail = (
                last.locator(one).evaluate(TEXT_IN) for one in (".k", ".k span >> nth=1", ".w", ".d")
            )
            # as wide as its keys are, 20em and the padding at most: no gap before what happened, where that stands beside
            most = 390 if detail["top"] > key["bottom"] - 2 else 260
            assert 70 < last.locator(".k").bounding_box()["width"] < most, (width, beside)
            assert end["right"] <= last.locator(".k").evaluate("e => e.getBoundingClientRect().right"), "its end stays"
            assert abs(end["top"] + end["bottom"] - state["top"] - state["bottom"]) < 8, "in line with the others"
            notebook.screenshot(shots(tmp_path) / f"long-{lab.app}-{width}-beside-{beside}.png")
    assert "For more information" not in shown.inner_text()
    assert "HTTPStatusError: Client error '404 Not Found' for url" in shown.inner_text()
    assert "For more information" in shown.locator("tr.failed").first.get_attribute("title")
    assert notebook.unexpected_errors == []
    notebook.close()


def test_n3_a_list_without_messages_stays_inside_a_narrow_page(lab: Lab) -> None:
    keys = ["summary:2024", "weather:EWR:2013-01:a-long-key-of-a-report-by-month"]
    cells = ["%load_ext nbstep", f"%%workflow narrow\nfor key in {keys!r}:\n    step(lambda: key, key=key)"]
    write_notebook(lab.folder / "narrow.ipynb", *cells)
    notebook = lab.open("narrow.ipynb", width=900, height=900)
    for number in (0, 1, 1):  # the second time they are cached, which takes more room
        notebook.run_cell(number)
        notebook.wait_idle()
    shown = notebook.output(1).locator(".nbstep-l")
    shown.get_by_text("2 cached", exact=False).wait_for()
    if lab.app == "lab":
        notebook.command("application:toggle-left-area")
    notebook.page.set_viewport_size({"width": 530, "height": 900})
    wait_until(lambda: shown.evaluate("e => e.clientWidth < 500 && e.scrollWidth <= e.clientWidth"), "the list to fit")
    notebook.close()


def assert_hostile_keys_are_text(page: Any, shown: Any) -> None:
    assert page.evaluate("window.pwned") is None
    assert shown.locator("img, script, h1, i").count() == 0
    text = shown.inner_text()
    assert "<img src=x onerror=window.pwned=1>" in text
    assert "<i>name</i>" in text
    assert "LookupError: <b>404</b>" in text
    assert "\\u202eevil" in text


def assert_finished_look(page: Any, shown: Any, theme: str) -> None:
    """Aligned columns, inside the page, failed rows in another colour than the rest, text that can be read."""
    rows = shown.locator("tr")
    assert rows.count() == len(HOSTILE) + 2
    lefts = {round(box["x"]) for box in (rows.nth(at).locator(".w").bounding_box() for at in range(rows.count()))}
    assert len(lefts) == 1
    assert shown.evaluate("e => e.scrollWidth <= e.clientWidth")
    failed, plain = (colour(shown.locator(f"tr.{tone} .w").first) for tone in ("failed", "plain"))
    assert failed != plain
    behind = ground(shown)
    assert (luminance(behind) < 0.05) == (theme == "dark")
    assert contrast(plain, behind) > 7
    assert contrast(failed, behind) > 4


def shots(folder: Path) -> Path:
    """Where pictures go; NBSTEP_SHOTS keeps them."""
    path = Path(os.environ.get("NBSTEP_SHOTS", folder))
    path.mkdir(parents=True, exist_ok=True)
    return path
