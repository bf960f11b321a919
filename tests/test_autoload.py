"""`nbstep autoload on|off`: opt-in loading of `%load_ext nbstep`, tried in a real environment and its IPython."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from nbstep.commands.autoload import startup_file
from nbstep.commands.verbs import run_command

ROOT = Path(__file__).resolve().parent.parent
LOADED = "print('loaded:', 'nbstep' in get_ipython().extension_manager.loaded)"


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for the environment whose Python runs here."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env"))
    return tmp_path / "env"


def said(*words: str) -> str:
    outcome = run_command(["autoload", *words])
    assert outcome.exit_code == 0, outcome.text
    return outcome.text


def test_it_is_off_until_it_is_turned_on_and_says_where_it_stands(prefix: Path) -> None:
    file = prefix / "etc" / "ipython" / "startup" / "50-nbstep.py"
    assert said().startswith("autoload is off; to change it: nbstep autoload on\n")
    assert not file.exists()
    assert said("on").endswith(f"\n{file}")
    assert said().startswith("autoload is on; to change it: nbstep autoload off\n")
    written = file.read_text()
    assert said("on").endswith(f"It was on already.\n{file}")
    assert file.read_text() == written
    assert said("off") == f"Kernels start without nbstep; %load_ext nbstep loads it. Removed {file}."
    assert not file.exists()
    assert said("off").endswith("It was off already.")


def test_a_file_of_somebody_elses_stays(prefix: Path) -> None:
    startup_file().parent.mkdir(parents=True)
    startup_file().write_text("mine = 1\n")
    for word in ("on", "off"):
        outcome = run_command(["autoload", word])
        assert (outcome.exit_code, "was not written by nbstep" in outcome.text) == (1, True)
    assert startup_file().read_text() == "mine = 1\n"


def test_off_takes_out_only_what_it_wrote(prefix: Path) -> None:
    said("on")
    startup_file().write_text(f"before = 1\n{startup_file().read_text()}after = 2\n")
    assert "what else stands there stays" in said("off")
    assert startup_file().read_text() == "before = 1\nafter = 2\n"


def test_where_it_cannot_write_it_says_what_to_do(prefix: Path) -> None:
    prefix.write_text("a file")
    outcome = run_command(["autoload", "on"])
    assert outcome.exit_code == 1
    assert "cannot be written: " in outcome.text
    assert outcome.text.endswith("Put %load_ext nbstep into the notebook instead.")


@pytest.mark.parametrize("words", [["maybe"], ["on", "off"]])
def test_anything_else_is_wrong_usage(prefix: Path, words: list[str]) -> None:
    assert run_command(["autoload", *words]).exit_code == 2


def test_it_opens_no_cache_and_needs_none(prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBSTEP_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("NBSTEP_MODE", "no such mode")
    said("on")
    assert not (tmp_path / "none").exists()


@pytest.mark.kernel
def test_kernels_and_terminals_of_the_environment_load_it_and_stand_its_uninstalling(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = venv / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (packages / "nbstep.pth").write_text(f"{ROOT}\n")

    environ = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}  # IPython warns of another

    def ran(*arguments: str) -> str:
        done = subprocess.run(
            [python, *arguments], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=True
        )  # fmt: skip
        return done.stdout + done.stderr

    def loaded() -> str:
        return ran("-m", "IPython", "--colors=NoColor", "-c", LOADED)

    assert "loaded: False" in loaded()
    ran("-m", "nbstep.cli", "autoload", "on")
    assert loaded() == "loaded: True\n"
    kernel = (
        "from jupyter_client.manager import start_new_kernel\n"
        "import sys\n"
        "manager, client = start_new_kernel(kernel_name='python3')\n"
        f"client.execute_interactive({LOADED!r})\n"
        "client.stop_channels(); manager.shutdown_kernel(now=True)"
    )
    assert "loaded: True" in ran("-W", "ignore", "-c", kernel)
    environ["IPYTHONDIR"] = str(tmp_path / "work")  # another user, another profile
    ran("-m", "IPython", "profile", "create", "quiet")
    other = tmp_path / "work" / "profile_quiet" / "startup" / "99-own.py"
    other.write_text("print('own file')\n")
    assert ran("-m", "IPython", "--colors=NoColor", "--profile=quiet", "-c", LOADED) == "own file\nloaded: True\n"

    (packages / "nbstep.pth").unlink()
    assert loaded() == "loaded: False\n"
    (packages / "nbstep.py").write_text("def load_ipython_extension(shell):\n    import nothing_like_it\n")
    text = ran("-m", "IPython", "--colors=NoColor", "--profile=quiet", "-c", LOADED + "; print('_nbstep' in globals())")
    told = [line for line in text.splitlines() if line.startswith("nbstep was not loaded (ModuleNotFoundError(")]
    assert len(told) == 1  # a broken installation costs a line, and startup files behind ours still run
    assert sorted(text.replace(told[0], "").split("\n")) == ["", "", "False", "loaded: False", "own file"]
