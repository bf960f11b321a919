"""%%step cells in real kernels: what is displayed, byte for byte, fresh and from the cache, after a restart and in the runners."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import nbformat
import pytest
from browser import write_notebook
from kernels import Done, Kernel, open_kernel
from nbclient import NotebookClient
from test_kernels import run

pytestmark = [
    pytest.mark.kernel,
    # jupyter_client leaves sockets and pipes of ended kernels to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_client"),
]

SHOWS = """%%step report
import sys
import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML, Markdown, display
print("ran", file=open("ran.txt", "a"))
print("first")
table = pd.DataFrame({"a": [1, 2], "b": ["x", "<y>"]})
display(HTML("<b>bold</b>"), Markdown("*text*"))
print("to stderr", file=sys.stderr)
fig, ax = plt.subplots(figsize=(2, 1))
ax.plot([1, 2, 3])
bar = display("0 %", display_id=True)
bar.update("100 %")
table"""


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    with open_kernel() as opened:
        opened.good(f"import os\nos.chdir({str(tmp_path)!r})")
        yield opened


def shown(done: Done) -> list[tuple[str, Any]]:
    """What a front end would show at the end, without the step list."""
    outputs: list[tuple[str, Any]] = []
    at: dict[str, int] = {}
    for kind, content in done.messages:
        name = content.get("transient", {}).get("display_id", "")
        if name.startswith("nbstep-"):
            continue
        if kind == "update_display_data":
            outputs[at[name]] = ("display_data", content["data"])
        elif kind == "stream":
            outputs.append((content["name"], content["text"]))
        elif kind in ("display_data", "execute_result"):
            at[name] = len(outputs)
            outputs.append((kind, content["data"]))
    return outputs


def test_n5_all_that_was_displayed_comes_back_the_same_and_after_a_restart(kernel: Kernel, tmp_path: Path) -> None:
    first = shown(kernel.good(SHOWS))
    kinds = [kind for kind, _ in first]
    assert kinds == [
        "stdout",
        "display_data",
        "display_data",
        "stderr",
        "display_data",
        "execute_result",
        "display_data",
    ]
    assert "image/png" in first[-1][1]
    assert first[4][1]["text/plain"] == "'100 %'"
    assert "<table" in first[5][1]["text/html"]
    assert shown(kernel.good(SHOWS)) == first
    with open_kernel() as other:
        again = other.good(f"import os\nos.chdir({str(tmp_path)!r})") and other.good(SHOWS)
        assert shown(again) == first
        assert "report" in again.lists[-1]["text/plain"]
        assert other.good("print(list(table.a), plt.__name__)").text == "[1, 2] matplotlib.pyplot\n"
    assert (tmp_path / "ran.txt").read_text() == "ran\n"


def test_n5_a_cell_that_awaits_comes_back_too(kernel: Kernel) -> None:
    cell = "%%step k\nimport asyncio\nprint('a')\nx = await asyncio.sleep(0.01, 5)\nprint('b')\nx"
    first = shown(kernel.good(cell))
    assert [kind for kind, _ in first] == ["stdout", "execute_result"]
    kernel.good("del x")
    assert shown(kernel.good(cell)) == first
    assert kernel.good("print(x)").text == "5\n"


def test_n5_output_is_live_and_the_row_runs_while_the_cell_runs(kernel: Kernel) -> None:
    sent = kernel.start("%%step k\nimport time\nprint('begun', flush=True)\ntime.sleep(1.2)\nx = 1")
    kernel.wait_for("begun")
    kernel.wait_for("1 running")
    assert kernel.finish(sent).status == "ok"


# Short sleeps, as in test_kernels.py.
@pytest.mark.parametrize("sleep", ["for _ in range(1200):\n    time.sleep(0.05)", "await asyncio.sleep(60)"])
def test_n1_an_interrupt_stops_the_cell_and_keeps_nothing(kernel: Kernel, sleep: str) -> None:
    sent = kernel.start(f"%%step k\nimport time, asyncio\nprint('begun', flush=True)\n{sleep}")
    kernel.wait_for("begun")
    os.kill(kernel.manager.provisioner.pid, signal.SIGINT)  # type: ignore[union-attr]
    done = kernel.finish(sent, timeout=20)
    assert done.status == "error"
    assert "interrupted" in done.lists[-1]["text/html"]
    assert kernel.good("print(len(__import__('nbstep').Cache()))").text == "0\n"


def test_c4_another_kernel_waits_for_the_cell_and_takes_it(kernel: Kernel, tmp_path: Path) -> None:
    cell = (
        "%%step k\nimport os, time\nprint('computing', flush=True)\n"
        "while not os.path.exists('gate'):\n    time.sleep(0.02)\nx = 7"
    )
    with open_kernel() as holder:
        holder.good(f"import os\nos.chdir({str(tmp_path)!r})")
        holding = holder.start(cell)
        holder.wait_for("computing")
        waiting = kernel.start(cell)
        kernel.wait_for("has been computing it for")
        (tmp_path / "gate").touch()
        assert holder.finish(holding).status == "ok"
        done = kernel.finish(waiting)
        assert "computed elsewhere" in done.lists[-1]["text/html"]
        assert done.text == "computing\n"
    assert kernel.good("print(x)").text == "7\n"


@pytest.mark.redis
def test_n5_a_cell_that_awaits_over_a_server_is_kept_and_comes_back(kernel: Kernel, redis_url: str) -> None:
    body = "import asyncio\nawait asyncio.sleep(0)\nprint('computed')\nx = await asyncio.sleep(0, 7)"
    cell = f"%%step k --cache {redis_url}?prefix=cell\n{body}"
    for _ in range(2):
        done = kernel.good(cell)
        assert done.text == "computed\n"
    assert "1 cached" in done.lists[-1]["text/html"]
    broken = cell.replace("step k", "step broken") + "\n{}['gone']"
    for _ in range(2):
        assert kernel.run(broken).error["ename"] == "KeyError"
    assert kernel.good("print(x)").text == "7\n"


def test_n5_a_widget_is_left_out_and_the_list_says_so(kernel: Kernel) -> None:
    done = kernel.good("%%step k\nimport ipywidgets\nprint('a')\ndisplay(ipywidgets.IntSlider())")
    assert "1 widget of its output cannot be kept" in done.lists[-1]["text/html"]
    assert [kind for kind, _ in shown(kernel.good("%%step k\nimport ipywidgets\ndisplay(ipywidgets.IntSlider())"))] == [
        "stdout"
    ]


def test_n5_nbconvert_gives_the_same_outputs_twice_and_nbval_agrees(tmp_path: Path) -> None:
    write_notebook(tmp_path / "n.ipynb", "%load_ext nbstep", SHOWS, "table.shape")
    outputs: list[Any] = []
    for name in ("first", "second"):
        book = nbformat.read(tmp_path / "n.ipynb", as_version=4)
        NotebookClient(
            book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
        ).execute()
        nbformat.write(book, tmp_path / f"{name}.ipynb")
        # a list that was live leaves an empty display
        outputs.append(
            [[o for o in c.outputs if o.get("data") != {} and "nbstep" not in str(o.get("data"))] for c in book.cells]
        )
    assert outputs[0] == outputs[1]
    assert len(outputs[0][1]) == 7
    assert (tmp_path / "ran.txt").read_text() == "ran\n"
    sanitize = str(resources.files("nbstep") / "nbval_sanitize.cfg")
    nbval = ("pytest", "-p", "no:cacheprovider", "--nbval", "--nbval-current-env", "--nbval-sanitize-with", sanitize)
    done = run(*nbval, "first.ipynb", folder=tmp_path)
    assert done.returncode == 0, done.stdout
