"""Which entries an open notebook and the last run have to do with (DESIGN section 6: *this notebook*, *used in the last run*)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from test_kernelside import Page

from nbstep import Cache, Ok
from nbstep.cache.records import Facts
from nbstep.commands.asked import who_asked
from nbstep.commands.listing import entry_id, usage_of
from nbstep.events import Place, RunFinished, RunStarted, StepAsked, StepHit
from nbstep.notebook.kernelside import KernelSide
from nbstep.runlog import Recorder, runs_directory
from nbstep.runs.hooks import notebook_name
from nbstep.stores.base import run_now


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    made = Cache(tmp_path / ".nbstep")
    for key in ("a", "b", "c"):
        made.set(key, key)
    run_now(made.keep("mine", Ok(1), Facts(took_s=0.1, place=Place("here.ipynb", 1, 1))))
    return made


def log_run(cache: Cache, run: str, at: float, notebook: str | None, *keys: str, root: str | None = None) -> None:
    assert cache.directory is not None
    record = Recorder(runs_directory(cache.directory))
    place = Place(notebook)
    record(RunStarted(run, at, None, place, "normal", cache.place, root=root))
    for number, key in enumerate(keys):
        record(StepAsked(run, number, key, place, at))
        record(StepHit(run, number, key, "ok", at, at, 1.5, 10))
    record(RunFinished(run, at, "ok", 1.0))


def asked(cache: Cache, notebook: str | None) -> dict[str, int]:
    usage = usage_of(cache)
    found = who_asked(cache, notebook, usage)
    return {meta.key: found.by(meta, usage.get(meta.key)) for meta in cache.entries()}


def test_a_notebook_has_to_do_with_what_it_kept_and_what_its_runs_asked(cache: Cache) -> None:
    assert asked(cache, None) == {"a": 0, "b": 0, "c": 0, "mine": 0}
    assert asked(cache, "here.ipynb") == {"a": 0, "b": 0, "c": 0, "mine": 1}
    log_run(cache, "r1", 1000.0, "here.ipynb", "a")
    log_run(cache, "r2", 2000.0, "there.ipynb", "a", "b")
    assert asked(cache, "here.ipynb") == {"a": 3, "b": 2, "c": 0, "mine": 1}
    assert asked(cache, "there.ipynb") == {"a": 3, "b": 3, "c": 0, "mine": 0}
    assert asked(cache, None) == {"a": 2, "b": 2, "c": 0, "mine": 0}


def test_the_last_run_is_the_whole_of_it_with_the_runs_inside(cache: Cache) -> None:
    log_run(cache, "outer", 1000.0, None, "a")
    log_run(cache, "inner", 1001.0, None, "b", root="outer")
    assert asked(cache, None) == {"a": 2, "b": 2, "c": 0, "mine": 0}


def test_the_page_hears_when_a_run_moves_what_the_last_run_used(cache: Cache) -> None:
    page = Page()
    side = KernelSide(cache, page.send, looks_every_s=0.02, notebook="here.ipynb")
    try:
        side.receive({"kind": "ready", "view": "v"})
        page.take("rows")
        assert {row[1]: row[13] for row in page.rows.values()} == {"a": 0, "b": 0, "c": 0, "mine": 1}
        side.receive({"kind": "seen", "view": "v", "inSight": True})
        log_run(cache, "r1", time.time(), "here.ipynb", "a", "b")
        while page.rows[entry_id("a")][13] != 3:
            page.take("change")
        log_run(cache, "r2", time.time() + 1, "there.ipynb", "c")
        while page.rows[entry_id("c")][13] != 2:
            page.take("change")
        assert {row[1]: row[13] for row in page.rows.values()} == {"a": 1, "b": 1, "c": 2, "mine": 1}
    finally:
        side.close()


def test_a_notebook_is_named_by_vs_code_or_the_server() -> None:
    assert notebook_name({}, {"JPY_SESSION_NAME": "/home/ada/churn.ipynb"}) == "churn.ipynb"
    assert notebook_name({"__vsc_ipynb_file__": "/x/a.ipynb"}, {"JPY_SESSION_NAME": "/y/b.ipynb"}) == "a.ipynb"
    assert notebook_name({"__vsc_ipynb_file__": 5}, {"JPY_SESSION_NAME": "0a1b2c"}) is None
