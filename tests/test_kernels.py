"""%%workflow in real kernels: messages, live lists, interrupts, and the runners that must stop at a failed step."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from browser import write_notebook
from kernels import Kernel, open_kernel
from redis_server import running

pytestmark = [
    pytest.mark.kernel,
    # jupyter_client leaves sockets and pipes of ended kernels to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_client"),
]

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    with open_kernel() as opened:
        yield opened


# N3: what is displayed


def test_n3_a_short_cell_shows_one_finished_list(kernel: Kernel) -> None:
    done = kernel.good("%%workflow sales\nstep(lambda: 1, key='a')")
    (bundle,) = done.lists
    assert bundle["text/plain"] == "sales: 1 step\n  ok      a"
    assert re.fullmatch(r"(?s)<!--nbstep .*<b>sales</b> 1 step: 1 ran.*<!--end of nbstep-->", bundle["text/html"])
    assert done.of("execute_result")[0]["data"] == {"text/plain": "1"}


def test_n4_a_plan_looks_like_the_step_list_and_is_one_display(kernel: Kernel) -> None:
    kernel.good("%%workflow sales\nstep(lambda: 1, key='a')")
    done = kernel.good("%%workflow sales --plan\nstep(lambda: 1, key='a')\nstep(lambda: 1, key='b')\nprint('ran')")
    (bundle,) = done.lists
    page = bundle["text/html"]
    assert re.fullmatch(r"(?s)<!--nbstep .*<b>sales</b> 2 steps: 1 cached .*1 missing.*<!--end of nbstep-->", page)
    assert "How long a run would take is not known: 1 step was never timed" in page
    assert "sales   2 steps: 1 cached" in bundle["text/plain"]
    assert done.text == ""


def test_n4_a_plan_lists_what_a_longer_loop_will_ask_and_runs_nothing(kernel: Kernel) -> None:
    kernel.good("import asyncio\nran = []\nregions = ['north', 'south']\ndef orders(n): ran.append(n); return n")
    kernel.good("async def fetch(n): ran.append(n); return n")
    cell = (
        "for m in range(1, {}): step(orders, m, key=f'p:{{m}}')\nstep.map(orders, regions, key='om:{{}}')\n"
        "await asyncio.gather(*[step(fetch, r, key=f'a:{{r}}') for r in regions])"
    )
    kernel.good("%%workflow w\n" + cell.format(6))
    kernel.good("regions.append('east'); ran.clear()")
    (bundle,) = kernel.good("%%workflow w --plan\n" + cell.format(9)).lists
    text = bundle["text/plain"]
    assert "14 steps: 9 cached" in text
    assert "5 missing" in text
    assert all(f"{key}  " in text for key in ("p:8", "om:east", "a:east"))
    assert "How long a run would take is not known: 5 steps were never timed" in text
    assert kernel.good("ran").of("execute_result")[0]["data"] == {"text/plain": "[]"}


def test_n3_nothing_is_shown_for_a_cell_without_steps(kernel: Kernel) -> None:
    assert kernel.good("x = 1").lists == []
    assert kernel.good("%%workflow\nx = 1").lists == []


def test_n3_the_list_is_live_while_a_step_blocks_and_empties_at_the_end(kernel: Kernel) -> None:
    done = kernel.good(
        "%%workflow\nimport time\nx = step(lambda: 1, key='first')\nprint('between')\n"
        "step(lambda: time.sleep(1.6), key='slow')"
    )
    shown = [(kind, c["transient"]["display_id"][-4:], c["data"]) for kind, c in done.messages if "display" in kind]
    assert shown[0][0::2] == ("display_data", {})
    live = [data["text/html"] for kind, name, data in shown if name == "live" and data]
    both = [page for page in live if "1 ran (" in page]  # before that a busy machine may still be at the first step
    assert len(both) >= 2
    assert all("1 running" in page for page in both)
    # at most 4 updates a second, by counting and not by the clock of a busy machine
    assert len(live) <= 4 * done.took_s + 1
    assert shown[-2] == ("update_display_data", "live", {})
    assert shown[-1][0:2] == ("display_data", "-end")
    assert "running" not in shown[-1][2]["text/html"]


def test_n3_the_list_is_live_in_a_cell_that_awaits_and_from_a_thread(kernel: Kernel) -> None:
    done = kernel.good(
        "%%workflow\nimport asyncio, threading, time\n"
        "t = threading.Thread(target=lambda: step(lambda: time.sleep(1), key='thread'))\nt.start()\n"
        "await step(lambda: asyncio.sleep(1), key='task')\nt.join()"
    )
    live = [c["data"].get("text/html", "") for c in done.of("update_display_data")]
    assert any("2 running" in page for page in live)
    (bundle,) = done.lists
    assert "2 steps: 2 ran" in bundle["text/html"]


def test_n3_a_thousand_steps_send_little_and_not_often(kernel: Kernel) -> None:
    kernel.good("import time\nname = 'x' * 400")
    done = kernel.good("%%workflow\nfor n in range(1000): step(time.sleep, 0.002, key=f'{name}:{n}')")
    pages = [c["data"].get("text/html", "") for c in done.of("display_data", "update_display_data")]
    assert len(pages) <= 4 * done.took_s + 5
    assert max(map(len, pages)) < 40_000
    assert "1,000 steps: 1,000 ran" in pages[-1]


def test_n3_a_map_shows_how_far_it_is_at_which_rate_and_how_long_the_rest_takes(kernel: Kernel) -> None:
    done = kernel.good("%%workflow\nimport time\nstep.map(lambda n: time.sleep(0.4), range(30), key='m:{}', n_jobs=4);")
    pages = [c["data"].get("text/html", "") for c in done.of("display_data", "update_display_data")]
    said = [text for page in pages for text in re.findall(r"</div>(\d+ of 30[^<]*)</div>", page)]
    assert any(re.fullmatch(r"\d+ of 30, [\d.]+ a second, about [\d.]+ s left", text) for text in said), said
    assert 'class="g"' not in pages[-1]


def test_n3_under_capture_the_list_is_captured_and_shown_again_finished(kernel: Kernel) -> None:
    cell = "%%capture out\n%%workflow\nimport time\nfor n in range(2): step(time.sleep, 0.6, key=f'c:{n}')"
    assert kernel.good(cell).of("display_data", "update_display_data") == []
    displays: dict[str, dict[str, str]] = {}
    for content in kernel.good("out.show()").of("display_data", "update_display_data"):
        displays[content["transient"]["display_id"]] = content["data"]
    (page,) = [data["text/html"] for data in displays.values() if data]
    assert "2 steps: 2 ran" in page


def test_n3_a_notebook_whose_kernel_died_keeps_a_list_that_says_of_when_it_is(kernel: Kernel) -> None:
    sent = kernel.start("%%workflow\nimport time\nprint('go')\nstep(time.sleep, 60, key='model')")
    pages: list[str] = []
    while not any("1 running" in page for page in pages):
        message = kernel.client.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") == sent:
            pages.append(str(message["content"].get("data", "")))
    assert re.search(r"1 running.*as of \d\d:\d\d:\d\d, \d+ \w+", pages[-1])


def test_n8_a_step_that_outlives_its_cell_is_listed_when_it_ends(kernel: Kernel) -> None:
    kernel.good("import asyncio\ngo = asyncio.Event()\nasync def slow():\n    await go.wait()\n    return 7")
    sent = kernel.start("%%workflow\ntask = asyncio.create_task(step(slow, key='slow'))\nawait asyncio.sleep(0.1)")
    first = kernel.finish(sent)
    assert "1 still running" in first.lists[0]["text/html"]
    kernel.start("go.set(); print(await task)")
    end = time.monotonic() + 20
    while time.monotonic() < end:
        message = kernel.client.get_iopub_msg(timeout=20)
        if message["msg_type"] == "update_display_data":
            break
    assert "ended later" in message["content"]["data"]["text/html"]
    (listed,) = [c for c in first.of("display_data") if c["data"]]
    assert message["content"]["transient"] == listed["transient"]
    assert kernel.good("step(slow, key='slow', on_drift='ignore') and await step(slow, key='slow')")


def test_nothing_goes_to_stderr(kernel: Kernel) -> None:
    done = kernel.good("%%workflow\nimport threading\nstep(lambda: threading.Lock(), key='lock');")
    assert done.text == ""
    assert "lock" in done.lists[0]["text/html"]


# N1, N2: errors


def plain(done: Any) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(done.error["traceback"]))


def test_n1_the_traceback_has_the_user_s_frames_and_line_numbers_only(kernel: Kernel) -> None:
    done = kernel.run("%%workflow\n1\n2\n3\n4\n5\nstep(lambda: {}['x'], key='k')")
    assert done.error["ename"] == "KeyError"
    assert re.findall(r"Cell In\[\d+\], line \d+", plain(done)) == ["Cell In[2], line 7", "Cell In[2], line 7"]
    assert "nbstep" not in plain(done)
    assert "hidden" not in plain(done)


def test_n6_tables_and_help_fit_an_output(kernel: Kernel) -> None:
    kernel.good("def bad():\n    raise LookupError('far away ' * 20)\n")
    kernel.good("%%workflow\nstep(bad, key='k', on_error='keep');")
    for line in ("%nbstep ls", "%nbstep help"):
        assert 80 < max(map(len, kernel.run(line).text.splitlines())) <= 100


def test_n9_the_note_of_a_kept_failure_is_in_the_cell_s_error(kernel: Kernel) -> None:
    kernel.run("%%workflow\nstep(lambda: {}['x'], key='k')")
    done = kernel.run("%%workflow\nstep(lambda: {}['x'], key='k')")
    assert done.error["ename"] == "KeyError"
    assert "%nbstep retry k" in plain(done)
    assert "failed (cached)" in done.lists[0]["text/html"]
    assert done.lists[0]["text/plain"] == "1 step\n  failed  k"


def test_a_cell_that_cannot_start_sends_one_line(kernel: Kernel) -> None:
    done = kernel.run("%%workflow --nonsense\nprint('ran')")
    assert (done.status, done.error["ename"]) == ("error", "CellStopped")
    assert len(done.error["traceback"]) == 1
    assert done.text == ""


def test_an_exception_group_sends_an_error_message(kernel: Kernel) -> None:
    done = kernel.run(
        "%%workflow\nimport asyncio\nasync def bad():\n    raise LookupError('gone')\n"
        "async with asyncio.TaskGroup() as group:\n    group.create_task(step(bad, key='k'))"
    )
    assert done.error["ename"] == "ExceptionGroup"
    assert "LookupError: gone" in plain(done)
    assert "Cell In[2], line 4" in plain(done).replace('"', "").replace("File ", "")
    assert "/nbstep/" not in plain(done)


# interrupts

# Many short sleeps: the system may take a long one's beginning for later than a signal that it has just delivered, and
# then the whole of it passes (a kernel without nbstep sleeps through about one interrupt in a thousand on a busy machine).
BLOCK = """import time
def wait(seconds):
    for _ in range(20 * seconds):
        time.sleep(0.05)
def block(*_):
    print('blocking', flush=True)
    wait(30)
    return 1"""
PLAIN = "print('blocking', flush=True)\nwait(30)"


@pytest.mark.parametrize(
    ("cell", "enames"),
    [
        ("%%workflow\nstep(block, key='b')", {"KeyboardInterrupt"}),
        ("%%workflow\nimport asyncio\nawait asyncio.sleep(0)\nstep(block, key='b')", {"CancelledError"}),
        (
            "%%workflow\nimport asyncio\nasync def one():\n    return step(block, key='b')\n"
            "await asyncio.gather(one(), asyncio.sleep(20))",
            {"CancelledError"},
        ),
        (
            "%%workflow\nimport asyncio\nprint('blocking')\nawait step(lambda: asyncio.sleep(30), key='b')",
            {"CancelledError"},
        ),
        ("%%workflow\nasync def one():\n    return block()\nawait step(one, key='b')", {"CancelledError"}),
        (
            "%%workflow\nimport asyncio\nasync def one():\n    await asyncio.sleep(0.01)\n    return block()\n"
            "await asyncio.gather(step(one, key='b', timeout=60), asyncio.sleep(20))",
            {"CancelledError"},
        ),
        (
            "%%workflow\nimport asyncio\nawait asyncio.sleep(0)\nstep.map(lambda item: block(), list('bc'), key='{}')",
            {"CancelledError"},
        ),
    ],
)
def test_n1_an_interrupt_stops_a_step_at_once_and_keeps_nothing(kernel: Kernel, cell: str, enames: set[str]) -> None:
    kernel.good(BLOCK)
    sent = kernel.start(cell)
    kernel.wait_for("blocking")
    os.kill(kernel.manager.provisioner.pid, signal.SIGINT)  # type: ignore[union-attr]
    done = kernel.finish(sent, timeout=20)
    assert done.status == "error"
    assert done.error["ename"] in enames
    assert done.took_s < 15
    assert kernel.good("1 + 1").of("execute_result")[0]["data"] == {"text/plain": "2"}
    kernel.good("from nbstep.cache.cache import project_cache\nassert 'b' not in project_cache()")
    # the handler of the kernel is back in place: a plain cell can be interrupted as before
    sent = kernel.start(PLAIN)
    kernel.wait_for("blocking")
    os.kill(kernel.manager.provisioner.pid, signal.SIGINT)  # type: ignore[union-attr]
    assert kernel.finish(sent, timeout=20).error["ename"] == "KeyboardInterrupt"


@pytest.mark.parametrize(
    "cell",
    [
        "async with asyncio.TaskGroup() as group:\n    for n in range(3):\n        group.create_task(step(slow, n, key=f't:{n}'))",
        "await asyncio.gather(*[step(slow, n, key=f't:{n}') for n in range(3)])",
        "await asyncio.gather(*[step(slow, n, key=f't:{n}') for n in range(3)], return_exceptions=True)",
        "await asyncio.wait([asyncio.create_task(step(slow, n, key=f't:{n}')) for n in range(3)])",
        "async def one(n):\n    return step(block, n, key=f't:{n}')\nawait asyncio.gather(*[one(n) for n in range(3)])",
    ],
)
def test_n1_an_interrupt_stops_the_cell_and_no_other_task_of_it_begins_a_thunk(kernel: Kernel, cell: str) -> None:
    kernel.good(
        f"import asyncio\nbegun = []\n{BLOCK}\nnow_block = block\ndef block(n):\n    begun.append(n)\n"
        "    now_block()\nasync def slow(n):\n    block(n)"
    )
    sent = kernel.start(f"%%workflow\nimport asyncio\n{cell}")
    kernel.wait_for("blocking")
    os.kill(kernel.manager.provisioner.pid, signal.SIGINT)  # type: ignore[union-attr]
    done = kernel.finish(sent, timeout=40)
    assert (done.status, kernel.good("print(begun)").text) == ("error", "[0]\n")
    assert kernel.good("step(lambda: 7, key='next')").of("execute_result")[0]["data"] == {"text/plain": "7"}


@pytest.mark.parametrize(
    "cell",
    [
        "await asyncio.gather(*[step(one, n, key=f'g:{n}') for n in range(20_000)]);",
        "await asyncio.wait([asyncio.create_task(step(one, n, key=f'w:{n}')) for n in range(20_000)]);",
        "for n in range(20_000):\n    step(told, n, key=f'p:{n}')",
    ],
)
def test_n1_an_interrupt_stops_twenty_thousand_steps_that_do_not_block(kernel: Kernel, cell: str) -> None:
    kernel.good(
        "import asyncio\ndef told(n):\n    if n == 100:\n        print('begun', flush=True)\n    return n\n"
        "async def one(n):\n    return told(n)"
    )
    sent = kernel.start(f"%%workflow\nawait asyncio.sleep(0)\n{cell}")
    kernel.wait_for("begun")
    os.kill(kernel.manager.provisioner.pid, signal.SIGINT)  # type: ignore[union-attr]
    done = kernel.finish(sent, timeout=60)
    assert done.error["ename"] in {"CancelledError", "KeyboardInterrupt"}
    assert done.took_s < 5
    kept = int(kernel.good("from nbstep.cache.cache import project_cache\nprint(len(project_cache()))").text)
    assert 100 <= kept < 15_000
    assert kernel.good("step(lambda: 7, key='next')").of("execute_result")[0]["data"] == {"text/plain": "7"}


@pytest.mark.parametrize("n_jobs", ["", ", n_jobs=2"])
def test_n1_an_interrupt_just_before_a_map_in_a_cell_that_awaits_stops_it(kernel: Kernel, n_jobs: str) -> None:
    kernel.good("import asyncio, os, signal\nfrom time import sleep")
    done = kernel.run(
        "%%workflow\nawait asyncio.sleep(0)\nos.kill(os.getpid(), signal.SIGINT)\n"
        f"step.map(sleep, [0.01, 0.02, 0.03], key='m:{{}}'{n_jobs})\nprint('went on')"
    )
    assert done.error["ename"] == "CancelledError"
    assert "went on" not in done.text
    assert kernel.good("from nbstep.cache.cache import project_cache\nprint(len(project_cache()))").text == "0\n"


def test_n3_a_map_says_how_many_steps_it_has_and_after_an_interrupt_how_many_did_not_start(kernel: Kernel) -> None:
    kernel.good(
        "import threading\ngo = threading.Event()\ndef fetch(n):\n    if n == 1:\n"
        "        print('blocking', flush=True)\n        go.wait(60)\n    return n"
    )
    sent = kernel.start("%%workflow\nstep.map(fetch, range(9), key='m:{}', n_jobs=1)")
    kernel.wait_for("blocking")
    os.kill(kernel.manager.provisioner.pid, signal.SIGINT)  # type: ignore[union-attr]
    done = kernel.finish(sent, timeout=40)
    assert done.error["ename"] == "KeyboardInterrupt"
    page = done.lists[-1]["text/html"]
    assert "9 steps: 1 ran" in page
    assert "7 not started" in page
    assert "7 steps did not start: run the cell again for the rest" in page
    kernel.good("go.set()")
    page = kernel.good("%%workflow\nstep.map(fetch, range(9), key='m:{}', n_jobs=1)").lists[-1]["text/html"]
    assert "not start" not in page


@pytest.mark.redis
def test_n1_an_interrupt_stops_a_cell_that_awaits_a_server(kernel: Kernel, tmp_path: Path) -> None:
    with running(tmp_path) as server:
        kernel.good("import asyncio\nasync def fetch():\n    return 7")
        with server.frozen():
            cell = (
                f"%%workflow w --cache {server.url}?timeout=50\nprint('begins', flush=True)\nawait step(fetch, key='k')"
            )
            sent = kernel.start(cell)
            kernel.wait_for("begins")
            time.sleep(0.5)
            began = time.monotonic()
            kernel.manager.interrupt_kernel()
            done = kernel.finish(sent)
            assert done.error["ename"] in {"KeyboardInterrupt", "CancelledError"}
            assert time.monotonic() - began < 25
        assert kernel.good(cell).status == "ok"


def test_c4_an_interrupt_ends_the_wait_but_not_the_one_who_computes(kernel: Kernel) -> None:
    kernel.good("import threading, time\ngo = threading.Event()\ndef slow():\n    go.wait(60)\n    return 7")
    kernel.good("t = threading.Thread(target=lambda: step(slow, key='s'))\nt.start()\ntime.sleep(0.5)")
    sent = kernel.start(
        "%%workflow\nimport asyncio\nawait asyncio.sleep(0)\nprint('blocking', flush=True)\nstep(slow, key='s')"
    )
    kernel.wait_for("blocking")
    time.sleep(0.3)
    os.kill(kernel.manager.provisioner.pid, signal.SIGINT)  # type: ignore[union-attr]
    done = kernel.finish(sent, timeout=20)
    assert done.error["ename"] == "CancelledError"
    assert kernel.good("go.set()\nt.join()\nprint(step(slow, key='s'))").text == "7\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs flock")
@pytest.mark.parametrize(
    ("waits", "ename"),
    [
        ("step(slow, key='s')", "KeyboardInterrupt"),
        ("import asyncio\nawait asyncio.sleep(0)\nstep(slow, key='s')", "CancelledError"),
        ("await step(aslow, key='s')", "CancelledError"),
    ],
)
def test_c4_another_kernel_is_shown_and_an_interrupt_ends_the_wait_only(
    kernel: Kernel, waits: str, ename: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)
    define = (
        "def slow():\n    print('computing', flush=True)\n    return open(GATE).read()\n"
        "async def aslow():\n    return 'own'"
    ).replace("GATE", repr(gate))
    kernel.good(define)
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "churn.ipynb"))
    with open_kernel() as holder:
        holder.good(define)
        holding = holder.start("%%workflow\nprint(step(slow, key='s'))")
        holder.wait_for("computing")
        waiting = kernel.start(f"%%workflow\n{waits}")
        kernel.wait_for(f"churn.ipynb (pid {holder.manager.provisioner.pid}) has been computing it for")  # type: ignore[union-attr]
        os.kill(kernel.manager.provisioner.pid, signal.SIGINT)  # type: ignore[union-attr]
        ended = kernel.finish(waiting, timeout=20)
        assert ended.error["ename"] == ename
        assert "stopped waiting for churn.ipynb (pid" in ended.lists[-1]["text/html"]
        Path(gate).write_text("held")
        assert holder.finish(holding).text == "held\n"
    assert kernel.good(f"%%workflow\nprint({waits.split(chr(10))[-1]})").text == "held\n"


# a new kernel


def test_k3_a_new_kernel_uses_what_was_kept_and_reraises_what_failed() -> None:
    define = (
        "class Gone(Exception): pass\ncalls = []\ndef ok():\n    calls.append('ok')\n    return [1, 2]\n"
        "def bad():\n    calls.append('bad')\n    raise Gone('x')"
    )
    cell = (
        "%%workflow w\na = step(ok, key='ok')\ntry:\n    step(bad, key='bad')\n    caught = False\n"
        "except Gone:\n    caught = True\nprint(a, caught, calls)"
    )
    for expected in ("[1, 2] True ['ok', 'bad']", "[1, 2] True []"):
        with open_kernel() as kernel:
            kernel.good(define)
            assert kernel.good(cell).text.strip() == expected


# the runners


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env.pop("PYTEST_CURRENT_TEST", None)
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=env, capture_output=True, text=True, timeout=240
    )  # fmt: skip


FAILS = ("%load_ext nbstep", "%%workflow w\nstep(lambda: {}['x'], key='k')", "open('reached', 'w').close()")
GOES_ON = (FAILS[0], "%%workflow w --result r\nstep(lambda: {}['x'], key='k')", FAILS[2])
RUNNERS = {
    "nbconvert": ("jupyter", "nbconvert", "--to", "notebook", "--execute", "--output", "out", "n.ipynb"),
    "papermill": ("papermill", "n.ipynb", "out.ipynb", "-k", "python3"),
    "nbval": ("pytest", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env", "n.ipynb"),
}


@pytest.mark.parametrize("runner", list(RUNNERS))
def test_n2_runners_stop_at_a_failed_step_with_its_own_ename(runner: str, tmp_path: Path) -> None:
    write_notebook(tmp_path / "n.ipynb", *FAILS)
    done = run(*RUNNERS[runner], folder=tmp_path)
    assert done.returncode != 0
    assert "KeyError" in done.stdout + done.stderr
    if runner != "nbval":  # nbval tests every cell
        assert not (tmp_path / "reached").exists()


@pytest.mark.parametrize("runner", list(RUNNERS))
def test_n2_with_result_runners_go_on(runner: str, tmp_path: Path) -> None:
    write_notebook(tmp_path / "n.ipynb", *GOES_ON)
    done = run(*RUNNERS[runner], folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "reached").exists()


def test_nbval_does_not_pass_an_exception_group_silently(tmp_path: Path) -> None:
    write_notebook(
        tmp_path / "n.ipynb",
        FAILS[0],
        "%%workflow\nimport asyncio\nasync def bad():\n    raise LookupError('gone')\n"
        "async with asyncio.TaskGroup() as group:\n    group.create_task(step(bad, key='k'))",
    )
    assert run(*RUNNERS["nbval"], folder=tmp_path).returncode == 1


def test_n3_nbval_compares_equal_cold_and_then_warm(tmp_path: Path) -> None:
    """The reference is saved by one run; nbval runs it against a cold cache, then against the warm one."""
    cells = (
        "%load_ext nbstep",
        "import time, threading\nfrom IPython.display import HTML, display\ndef work(n):\n    time.sleep(0.02 * n)\n    return n",
        "%%workflow sales\n# NBVAL_CHECK_OUTPUT\n"
        "for n in range(12):\n    step(work, n, key=f'n:{n}')\nprint('done')\ndisplay(HTML('<b>x</b>'))\n"
        "step(lambda: time.sleep(0.7), key='slow')\nHTML('<i>last</i>')",
        "step(threading.Lock, key='lock')\ntry:\n    step(lambda: {}['x'], key='bad')\nexcept KeyError:\n    print('caught')",
        "def outer():\n    return step(lambda: 1, key='inner')\nstep(outer, key='outer')",
        "%%workflow\nimport asyncio\nasync def f(n):\n    await asyncio.sleep(0.01)\n    return n\n"
        "await asyncio.gather(*[step(f, n, key=f'async:{n}') for n in range(60)])",
    )  # fmt: skip
    write_notebook(tmp_path / "n.ipynb", *cells)
    cold = str(tmp_path / "reference-cache")
    env_before = os.environ["NBSTEP_DIR"]
    try:
        os.environ["NBSTEP_DIR"] = cold
        made = run("jupyter", "nbconvert", "--to", "notebook", "--execute", "--inplace", "n.ipynb", folder=tmp_path)
        assert made.returncode == 0, made.stderr
        os.environ["NBSTEP_DIR"] = str(tmp_path / "cache")
        saved = nbformat.read(tmp_path / "n.ipynb", as_version=4)
        texts = [o["data"].get("text/plain") for c in saved.cells for o in c.outputs if o.output_type == "display_data"]
        assert "sales: 13 steps" in next(t for t in texts if t and "sales" in t)
        for temperature, compares in (("cold", "--nbval"), ("warm", "--nbval"), ("warm", "--nbval-lax")):
            done = run("pytest", "-p", "no:cacheprovider", compares, "--nbval-current-env", "n.ipynb", folder=tmp_path)
            assert done.returncode == 0, f"{temperature}, {compares}: {done.stdout[-3000:]}"
            assert "6 passed" in done.stdout
    finally:
        os.environ["NBSTEP_DIR"] = env_before
