"""The shipped notebooks, run for real: cold, warm, killed half-way. Requests are counted by an API in another process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import environment
import flights_api
import httpx
import main_job
import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter

from nbstep import Cache
from nbstep.cache import trust
from nbstep.runlog import LoggedStep, read_runs

pytestmark = pytest.mark.kernel

NOTEBOOKS = Path(flights_api.__file__).parent
ROOT = NOTEBOOKS.parent
STEP_LIST, TABLE = '<div class="nbstep-l', '<div class="nbstep-snapshot'


@dataclass(frozen=True, slots=True)
class Bench:
    """A place to run a notebook in: its own API process, cache and timings file; `base` is the rest of its environment."""

    url: str
    folder: Path
    base: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def environ(self) -> dict[str, str]:
        """What the notebook's kernel finds in its environment."""
        mine = {
            "FLIGHTS_API_URL": self.url,
            "NBSTEP_DIR": str(self.folder / ".nbstep"),
            "NOTEBOOK_TIMINGS": str(self.folder / "timings.jsonl"),
            "IPYTHONDIR": str(self.folder / "ipython"),
        }
        return {name: value for name, value in self.base.items() if not name.startswith("NBSTEP_")} | mine

    def asked(self) -> dict[str, int]:
        """How often each question was asked so far."""
        return httpx.get(f"{self.url}/stats").json()["by_path"]

    def seconds(self) -> list[float]:
        """The notebook's own timing of each run, all parts together."""
        lines = (self.folder / "timings.jsonl").read_text().splitlines()
        return [sum(json.loads(line)["seconds"].values()) for line in lines]

    def steps(self) -> list[LoggedStep]:
        """What every step of every logged run got, oldest first."""
        runs = sorted(read_runs(self.folder / ".nbstep"), key=lambda run: run.at)
        return [step for run in runs for step in run.steps]

    def kept(self) -> set[str]:
        """The keys in the cache."""
        return set(Cache(self.folder / ".nbstep").keys())


@contextmanager
def own_home(folder: Path) -> Iterator[None]:
    """A home and a signing key for what outlives a single test, whose home is its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder / "home"))
        patch.setenv("JUPYTER_DATA_DIR", str(folder / "home" / "jupyter"))
        patch.setattr(trust, "_ring", trust.KeyRing(os.environ))
        yield


@contextmanager
def new_bench(folder: Path) -> Iterator[Bench]:
    command = [sys.executable, str(NOTEBOOKS / "flights_api.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield Bench(server.stdout.readline().strip(), folder)
        finally:
            server.terminate()


@dataclass(frozen=True, slots=True)
class Twice:
    """A notebook that nbval ran twice against one cache. A run is what its steps got, oldest first; `kept` are the keys."""

    bench: Bench
    runs: tuple[list[LoggedStep], list[LoggedStep]]
    requests: tuple[dict[str, int], dict[str, int]]
    kept: tuple[set[str], set[str]]


@pytest.fixture(scope="module", params=["quickstart", "flights"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def twice(name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twice]:
    folder = tmp_path_factory.mktemp(name)
    with own_home(folder), new_bench(folder) as bench:
        nbval(name, bench)
        cold_steps, cold_asked, cold_kept = bench.steps(), bench.asked(), bench.kept()
        nbval(name, bench)
        warm_steps = bench.steps()[len(cold_steps) :]
        yield Twice(
            bench,
            (cold_steps, warm_steps),
            (cold_asked, new_requests(cold_asked, bench.asked())),
            (cold_kept, bench.kept()),
        )


def nbval(name: str, bench: Bench) -> None:
    """Runs a notebook under nbval, which compares every output with the one that is committed."""
    command = [
        sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "--nbval-cell-timeout=300",
        "-p", "no:cacheprovider", "-q", str(NOTEBOOKS / f"{name}.ipynb"),
    ]  # fmt: skip
    done = subprocess.run(command, env=bench.environ, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def new_requests(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {path: count - before.get(path, 0) for path, count in after.items() if count != before.get(path, 0)}


def run_all(name: str, bench: Bench) -> nbformat.NotebookNode:
    """*Run All* in a new kernel; the notebook with its outputs."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    new_client(notebook).execute(env=bench.environ)
    return notebook


def new_client(notebook: nbformat.NotebookNode) -> NotebookClient:
    return NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOKS)}}
    )


def test_first_every_step_is_computed(twice: Twice):
    first_asked = {step.key: step.got for step in reversed(twice.runs[0])}
    assert set(first_asked.values()) == {"ran"}
    assert set(first_asked) == twice.kept[0]
    assert twice.requests[0]


def test_then_every_step_comes_from_the_cache_and_nothing_is_fetched(twice: Twice):
    assert {step.key for step in twice.runs[1]} == twice.kept[0]
    assert {step.got for step in twice.runs[1]} == {"hit"}
    assert twice.requests[1] == {}
    assert twice.kept[1] == twice.kept[0]


def test_nothing_of_it_is_called_out(twice: Twice):
    runs = list(read_runs(twice.bench.folder / ".nbstep"))
    assert [finding.text for run in runs for finding in run.findings] == []
    assert len(runs) >= 4


def test_the_second_run_is_ten_times_faster_by_its_own_timing(twice: Twice):
    cold, warm = twice.bench.seconds()[:2]
    assert cold > 10 * warm, f"first {cold:.2f} s, second {warm:.2f} s"


def test_other_runners_run_it_too(name: str, twice: Twice, tmp_path: Path):
    """They see failures that nbval does not: an unknown magic, an exception group."""
    source = str(NOTEBOOKS / f"{name}.ipynb")
    for command in (
        ["nbconvert", "--to", "html", "--execute", "--output-dir", str(tmp_path), source],
        ["papermill", "--cwd", str(NOTEBOOKS), "--kernel", "python3", source, str(tmp_path / "papermill.ipynb")],
        ["jupyter", "execute", source, f"--output={tmp_path / 'executed.ipynb'}"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *command],
            env=twice.bench.environ,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
    texts = [(tmp_path / file).read_text(encoding="utf-8") for file in ("papermill.ipynb", "executed.ipynb")]
    assert ["1 failed (cached)" in text for text in texts] == [True, True]
    assert_shows_its_lists(name, (tmp_path / f"{name}.html").read_text(encoding="utf-8"))


def assert_shows_its_lists(name: str, page: str):
    """Every step list of the notebook stands in its HTML, and the table in the panel's place; nothing of an empty widget."""
    cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
    outputs = "".join(str(cell.get("outputs")) for cell in cells)
    assert page.count(STEP_LIST) == outputs.count(STEP_LIST) > 3
    assert page.count(TABLE) == outputs.count(TABLE) == 1
    assert ">nbstep panel<" not in page


def test_exported_as_it_is_committed_it_shows_every_list_and_table(name: str):
    page, _ = HTMLExporter().from_filename(str(NOTEBOOKS / f"{name}.ipynb"))
    assert_shows_its_lists(name, page)


def test_it_is_committed_with_outputs_and_without_widget_state(name: str):
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert "widgets" not in notebook.metadata
    assert notebook.metadata.kernelspec.name == "python3"
    assert any(cell.get("outputs") for cell in notebook.cells)
    assert not [
        output for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == "error"
    ]
    text = (NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8")
    assert not re.findall(r"/(?:home|root|tmp|Users|work)/", text), "a path of the machine it ran on"


def test_the_main_job_knows_every_key_of_its_notebook():
    sources = "".join(cell.source for cell in nbformat.read(main_job.NOTEBOOK, as_version=4).cells)
    prefixes = set(re.findall(r"""key=(?:lambda \w+: |step\.key\()?f?"(\w+)""", sources))
    assert prefixes == {pattern.removesuffix(":*") for pattern in main_job.KEYS}


@pytest.mark.skipif(not environment.is_inside(), reason="runs in the environment that `python3 tests` sets up")
def test_the_main_job_shows_both_runs_and_the_next_command(tmp_path: Path):
    bench = Bench("", tmp_path)
    command = [sys.executable, str(NOTEBOOKS / "main_job.py")]
    done = subprocess.run(command, env=bench.environ, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    first, _, second = done.stdout.partition("again, in a new kernel")
    assert "192 steps: 192 ran" in first
    assert "192 steps: 192 cached" in second
    for shown in (first, second):  # lists fold: who reads this sees every step once, not every key
        assert re.search(r"weather:\S*\* ×12 ", shown)
        assert max(len(part.splitlines()) for part in shown.split(" steps: ")) <= 24
    assert "These are seconds by the clock. The step lists say more" in second
    assert "lab notebooks/flights.ipynb" in second
    assert bench.seconds()[0] > 10 * bench.seconds()[1]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with new_bench(tmp_path) as bench:
        yield bench


def test_a_killed_run_goes_on_where_it_stopped(bench: Bench, tmp_path: Path):
    """Done when 2 of the main job: SIGKILL half-way, then Run All in a new kernel."""
    client = new_client(nbformat.read(NOTEBOOKS / "flights.ipynb", as_version=4))
    over = threading.Event()
    killer = threading.Thread(target=kill_when, args=(client, bench, 400, over))
    killer.start()
    try:
        with pytest.raises(DeadKernelError):
            client.execute(env=bench.environ)
    finally:
        over.set()
        killer.join()

    finished, before = bench.kept(), settled(bench)
    assert 30 < len([key for key in finished if key.startswith("flights:")]) < 180
    run_all("flights", bench)
    again = new_requests(before, bench.asked())

    tables = flights_api.Tables.read(flights_api.table_folder())
    for carrier in tables.airlines:
        for month in range(1, 13):
            asked = {
                int(path.partition("page=")[2]): n
                for path, n in again.items()
                if f"?carrier={carrier}&month={month}&" in path
            }
            flights = len(tables.flights.get((carrier, month), []))
            pages = dict.fromkeys(range(1, max(1, -(-flights // flights_api.PER_PAGE)) + 1), 1)
            if f"flights:{carrier}:{month:02}" in finished:
                assert asked == {}, f"{carrier} {month} was finished and was fetched again"
                continue
            if (
                flights_api.is_flaky(carrier, month)
                and f"/flights?carrier={carrier}&month={month}&page=1" not in before
            ):
                pages[1] = 2  # the 503, then the answer
            assert asked == pages, f"{carrier} {month} was to be fetched once"

    with flights_api.serve(latency_s=0, tables=tables) as api:
        whole = Bench(api.url, tmp_path / "whole")
        whole.folder.mkdir()
        run_all("flights", whole)
    assert contents(bench) == contents(whole)


def kill_when(client: NotebookClient, bench: Bench, requests: int, over: threading.Event) -> None:
    """Kills the kernel once the API was asked for that many pages of flights, unless it is all over before."""
    while not over.wait(0.02):
        if sum(count for path, count in bench.asked().items() if path.startswith("/flights")) >= requests:
            os.kill(client.km.provisioner.pid, signal.SIGKILL)
            return


def settled(bench: Bench) -> dict[str, int]:
    """The counts once every request that reached the API was answered."""
    while True:
        stats = httpx.get(f"{bench.url}/stats").json()
        if stats["requests"] == sum(stats["by_status"].values()):
            return stats["by_path"]
        time.sleep(0.02)


def contents(bench: Bench) -> dict[str, Any]:
    """All values of a cache in a form that can be compared: frames and arrays by a digest of their cells."""
    cache = Cache(bench.folder / ".nbstep")
    errors = {meta.key: meta.error.type for meta in cache.errors() if meta.error}
    return errors | {key: comparable(cache.get(key)) for key in cache.keys() if key not in errors}  # noqa: SIM118


def comparable(value: Any) -> Any:
    if isinstance(value, pd.DataFrame):
        return (list(value.columns), int(pd.util.hash_pandas_object(value).sum()))
    if isinstance(value, np.ndarray):
        return value.round(6).tolist()
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {name: comparable(part) for name, part in value.items()}
    return value if isinstance(value, str | int | list | None) else type(value).__name__
