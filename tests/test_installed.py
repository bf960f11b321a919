"""What `pip install` puts into Jupyter, seen by Jupyter's own commands, and that `pip uninstall` takes it away again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from shared_data import ROOT

import nbstep

# `jupyter server extension list` and `jupyter labextension list`, with the Python that runs them
SERVER = ("-m", "jupyter_server", "extension", "list")
LAB = ("-m", "jupyterlab.labextensions", "list")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment that sees the packages of this one, but for nbstep, which is then installed into it."""
    venv = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    made = venv / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.run([made, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    # A plain line adds the folder, and none of the .pth files in it: not the checkout.
    (Path(packages) / "others.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    run(made, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--force-reinstall", str(ROOT))
    return made


def run(python: Path, *arguments: str) -> str:
    """What a command of the environment prints, with a home of its own."""
    home = python.parent.parent.parent / "home"
    home.mkdir(exist_ok=True)
    left_out = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    environ = {n: v for n, v in os.environ.items() if not n.startswith("JUPYTER") and n not in left_out}
    done = subprocess.run(
        [python, *arguments],
        env={**environ, "HOME": str(home), "JUPYTER_CONFIG_DIR": str(home / "config"), "PIP_NO_INPUT": "1"},
        cwd=home,  # not the checkout
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def of_nbstep(listed: str) -> list[str]:
    return [line.strip() for line in listed.splitlines() if "nbstep" in line]


def test_jupyter_lists_both_extensions_and_uninstalling_removes_them(python: Path) -> None:
    prefix = python.parent.parent
    listed = of_nbstep(run(python, *SERVER))
    assert any("enabled" in line for line in listed), listed
    assert any("OK" in line and "0.1.0" in line for line in listed), listed
    listed = of_nbstep(run(python, *LAB))
    assert any("v0.1.0" in line and "enabled" in line and "OK" in line for line in listed), listed
    lab = prefix / "share" / "jupyter" / "labextensions" / "nbstep" / "static"
    names = {path.name for path in lab.iterdir()}
    assert names == {"remoteEntry.js", "sidebar.js", "rest.js", "sidebar.css", "panel.js", "panel.css"}
    where = "import nbstep; print(nbstep.__file__)"
    assert run(python, "-c", where).strip().startswith(str(prefix))
    run(python, "-m", "pip", "uninstall", "-y", "nbstep")
    assert [path for path in prefix.rglob("*nbstep*") if "__pycache__" not in path.parts] == []
    assert of_nbstep(run(python, *SERVER)) == []
    assert of_nbstep(run(python, *LAB)) == []


def test_the_labextension_has_the_packages_version() -> None:
    package = json.loads((ROOT / "nbstep" / "labextension" / "package.json").read_text(encoding="utf-8"))
    assert package["version"] == nbstep.__version__
