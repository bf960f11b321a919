"""The set-up behind both commands of the README, run for real on a tiny project of the same shape."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import environment
import pytest

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "tiny"
version = "1"

[dependency-groups]
dev = ["iniconfig"]
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "notebooks").mkdir()
    shutil.copy(environment.__file__, tmp_path / "notebooks")
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "__init__.py").write_text("")
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    return tmp_path


def run(checkout: Path, statement: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"import environment; {statement}"]
    home = {"HOME": str(checkout / "home"), "PYTHONPATH": str(checkout / "notebooks")}
    return subprocess.run(
        command, env=os.environ | home | environ, cwd=checkout, capture_output=True, text=True, check=False
    )


def test_a_failed_set_up_says_why_and_the_next_one_completes_it(checkout: Path):
    failed = run(checkout, "environment.prepare()", PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    assert failed.returncode == 1
    assert "No matching distribution" in failed.stderr
    assert "whole log is in .venv/set-up.log" in failed.stderr

    completed = run(checkout, "environment.run(['-c', 'import tiny, iniconfig, sys; print(sys.prefix)'])")
    assert completed.returncode == 0, completed.stderr
    assert "Making a virtual environment" not in completed.stdout  # the first half was good
    assert completed.stdout.splitlines()[-1] == str(checkout / ".venv")

    third = run(checkout, "environment.prepare()", PIP_NO_INDEX="1")
    assert (third.returncode, third.stdout, third.stderr) == (0, "", "")


def test_half_an_environment_is_made_anew(checkout: Path):
    broken = checkout / ".venv" / "bin" / "python"
    broken.parent.mkdir(parents=True)
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    told = run(checkout, "environment.prepare()", PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    assert "Making a virtual environment" in told.stdout
    assert "No matching distribution" in told.stderr


def test_what_leads_another_python_astray_is_left_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONHOME", "/elsewhere")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    environ = environment.clean_environ()
    assert not {"PYTHONHOME", "PYTHONPATH"} & set(environ)
    assert environ["PATH"].split(os.pathsep)[0] == str(environment.BIN)
    assert environ["VIRTUAL_ENV"] == str(environment.VENV)


def test_a_changed_pyproject_is_seen(checkout: Path):
    before = run(checkout, "print(environment._fingerprint())").stdout
    (checkout / "pyproject.toml").write_text(PYPROJECT + "\n# more\n")
    assert run(checkout, "print(environment._fingerprint())").stdout != before
