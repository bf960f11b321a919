"""Caches that can be read and not written: an archive, a colleague's share, a project of somebody else (C0, C3, N6)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from nbstep import Cache
from nbstep.cache.where import project_place

Shell: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"

RUN = """
import logging
from nbstep import create_workflow
logging.basicConfig(format="%(message)s")
workflow = create_workflow()
def body(step):
    assert step(lambda: 1 / 0, key="kept") == {"a": 1}
    return [step(lambda: n, key=f"new:{n}") for n in (1, 2)]
assert workflow(body).unwrap() == [1, 2]
"""


ASK = """
import sys
from nbstep import Cache
from nbstep.commands.listing import entry_id
from nbstep.commands.panelside import ACTIONS
from nbstep.notebook.kernelside import KernelSide
told = []
side = KernelSide(Cache(sys.argv[1]), told.append)
side.receive({"kind": "ready", "view": "v1"})
for action in ACTIONS:
    side.receive({"kind": action, "ids": [entry_id("kept")], "view": "v1"})
print({message["text"] for message in told if message["kind"] == "note"}, told[-1]["failed"])
"""


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Path]:
    """A project whose cache nobody may write."""
    project = tmp_path / "archive"
    project.mkdir()
    (project / "pyproject.toml").touch()
    cache = Cache(project / ".nbstep")
    cache.set("kept", {"a": 1})
    cache.set("deleted", 1)
    cache.delete("deleted")
    folders = [project, *(path for path in project.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o500)
    yield project
    for folder in folders:
        folder.chmod(0o700)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Runs Python as a user whom permissions bind."""
    command: list[str] = []
    if not hasattr(os, "geteuid"):
        pytest.skip("permissions of folders are those of POSIX")
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root needs setpriv to be refused anything")
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    monkeypatch.delenv("NBSTEP_DIR", raising=False)

    def run(*words: str, cwd: Path = tmp_path, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, sys.executable, *words], cwd=cwd, env=os.environ | env, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip

    return run


@pytest.mark.parametrize("way", ["--cache", "NBSTEP_DIR", "project"])
def test_n6_verbs_that_only_read_work_on_a_cache_that_can_only_be_read(
    archive: Path, shell: Shell, tmp_path: Path, way: str
) -> None:
    folder = archive / ".nbstep"
    more = ["--cache", str(folder)] if way == "--cache" else []
    env = {"NBSTEP_DIR": str(folder)} if way == "NBSTEP_DIR" else {}
    cwd = archive if way == "project" else tmp_path
    before = sorted(folder.rglob("*"))
    for words, said in {
        ("ls",): "1 entry · ", ("show", "kept"): "✓ kept", ("verify",): "1 good",
        ("export", "kept", str(tmp_path / "out")): "Exported 1 value", ("settings",): "mode",
        ("gc", "--dry-run"): "Nothing to remove", ("doctor",): "access    read-only for you",
    }.items():  # fmt: skip
        done = shell("-m", "nbstep", *words, *more, cwd=cwd, **env)
        assert (done.returncode, said in done.stdout) == (0, True), (words, done.stdout, done.stderr)
        assert "locks" not in done.stdout
    assert sorted(folder.rglob("*")) == before
    assert project_place(archive, {"XDG_CACHE_HOME": str(tmp_path)}).fallback.exists() is False


def test_n6_verbs_that_change_say_that_a_cache_is_read_only(archive: Path, shell: Shell) -> None:
    for words in (["rm", "kept"], ["clear"], ["undo"], ["retry", "*"], ["gc"], ["trust"]):
        done = shell("-m", "nbstep", *words, "--cache", str(archive))
        assert (done.returncode, done.stdout) == (
            1, f"{archive}/.nbstep is read-only for you: nothing was changed.\n",
        ), done.stderr  # fmt: skip


def test_n6_the_panel_says_so_too_whatever_it_is_asked_to_change(archive: Path, shell: Shell) -> None:
    done = shell("-c", ASK, f"{archive}/.nbstep")
    assert done.stdout == f"{{'{archive}/.nbstep is read-only for you: nothing was changed.'}} True\n", done.stderr


def test_c3_a_run_over_a_read_only_cache_has_its_hits_and_says_once_that_it_keeps_nothing(
    archive: Path, shell: Shell
) -> None:
    done = shell("-c", RUN, NBSTEP_DIR=str(archive / ".nbstep"))
    assert done.returncode == 0, done.stderr
    assert done.stderr == (
        f"new:1 was not kept: {archive}/.nbstep is read-only for you: what it holds is used, nothing new is kept there. "
        "Let NBSTEP_DIR, or cache=, name a folder of your own\n"
        "In all, 2 results were not kept: new:1, new:2\n"
    )


def test_c0_the_line_of_an_unwritable_project_says_how_what_is_kept_there_is_used(
    archive: Path, shell: Shell, tmp_path: Path
) -> None:
    env = {"XDG_CACHE_HOME": str(tmp_path / "user")}
    fallback = project_place(archive, env).fallback
    told = shell("-c", "import nbstep; nbstep.Cache()", cwd=archive, **env).stderr
    copy = f"cp -R {archive}/.nbstep/v1 {fallback}/"
    assert told == (
        f"{archive}/.nbstep cannot be written: results are kept in {fallback} instead. "
        f"What {archive}/.nbstep holds is not used there; to use it too, copy it: {copy}\n"
    )
    assert copy in shell("-m", "nbstep", "doctor", cwd=archive, **env).stdout
    subprocess.run(copy, shell=True, check=True)
    for folder in fallback.rglob("*"):
        folder.chmod(0o700)
    assert shell("-c", RUN, cwd=archive, **env).returncode == 0
