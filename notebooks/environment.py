"""Sets up what a checkout needs: a virtual environment in `.venv` with nbstep and everything of its dev group.

Used by both commands of the README (`python3 notebooks/main_job.py`, `python3 tests`). It needs Python 3.11 or newer and pip's
usual way to its index, nothing else; the second time it takes no time, until pyproject.toml changes. Only the standard library.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
LOG = VENV / "set-up.log"
MARK = VENV / "set-up.done"
OLDEST = (3, 11)


def run(arguments: Sequence[str]) -> NoReturn:
    """Sets the environment up where needed, then becomes its Python with these arguments."""
    prepare()
    command = [str(PYTHON), *arguments]
    if os.name == "nt":  # there execve returns to the shell before the new program ends
        raise SystemExit(subprocess.run(command, env=clean_environ(), check=False).returncode)
    os.execve(PYTHON, command, clean_environ())


def is_inside() -> bool:
    """Whether this Python is the environment's."""
    return Path(sys.prefix).resolve() == VENV.resolve()


def prepare() -> None:
    """Makes or completes the environment, saying so in a line a step; quiet when there is nothing to do."""
    if sys.version_info < OLDEST:
        _stop(
            f"nbstep needs Python {OLDEST[0]}.{OLDEST[1]} or newer; this is {sys.version.split()[0]} ({sys.executable})."
        )
    wanted = _fingerprint()
    if PYTHON.exists() and MARK.exists() and MARK.read_text(encoding="utf-8") == wanted:
        return
    MARK.unlink(missing_ok=True)
    with _one_at_a_time():
        if not _works(PYTHON):
            with _told("Making a virtual environment in .venv"):
                _make()
        pip = [str(PYTHON), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
        with _told("Bringing pip up to date"):  # --group came with pip 25.1
            _run([*pip, "--upgrade", "pip>=25.1"])
        with _told("Installing nbstep and what its notebooks and tests use (a few minutes the first time)"):
            _run([*pip, "--editable", str(ROOT), "--group", f"{ROOT / 'pyproject.toml'}:dev"])
        MARK.write_text(wanted, encoding="utf-8")


def clean_environ() -> dict[str, str]:
    """The environment without what would lead another Python astray, as activating .venv would leave it."""
    environ = {
        name: value
        for name, value in os.environ.items()
        if name not in {"PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__"}
    }
    environ["VIRTUAL_ENV"] = str(VENV)
    environ["PATH"] = os.pathsep.join([str(BIN), environ.get("PATH", os.defpath)])
    return environ


def _fingerprint() -> str:
    text = f"{ROOT}\n".encode() + (ROOT / "pyproject.toml").read_bytes()
    return hashlib.sha256(text).hexdigest()


def _works(python: Path) -> bool:
    """Whether `python` runs, is not older than we need, and has pip: an interrupted set-up may have left half of one."""
    check = f"import sys, pip; raise SystemExit(sys.version_info < {OLDEST})"
    return python.exists() and subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0


def _make() -> None:
    VENV.mkdir(exist_ok=True)
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        version = ".".join(map(str, sys.version_info[:2]))
        _stop(
            f"{sys.executable} -m venv failed:\n{(made.stdout + made.stderr).strip()}\n"
            f"Some systems ship venv apart: on Debian and Ubuntu, apt-get install python{version}-venv."
        )


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Keeps a second command from installing into the same environment; where files cannot be locked, does nothing."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with (ROOT / "pyproject.toml").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _told(step: str) -> Iterator[None]:
    print(f"{step} … ", end="", flush=True)
    began = time.monotonic()
    yield
    print(f"{time.monotonic() - began:.0f} s", flush=True)


def _run(command: Sequence[str]) -> None:
    """Runs a command of the set-up; what it says goes to a log, whose end is shown if it fails."""
    with LOG.open("a", encoding="utf-8") as log:
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        code = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=clean_environ(), check=False
        ).returncode
    if code:
        end = "\n".join(LOG.read_text(encoding="utf-8", errors="replace").splitlines()[-30:])
        _stop(f"failed\n{end}\n\nThe set-up stopped; the whole log is in {LOG.relative_to(ROOT)}.")


def _stop(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    raise SystemExit(1)
