"""What loading brings along: the engine and everything heavy come with the first step (`benchmarks/import_time.py` times it)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SHELL = """
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
config = Config()
config.HistoryManager.enabled = False
ip = InteractiveShell.instance(config=config)
ip.run_line_magic("load_ext", "nbstep")
"""
HEAVY = (
    "joblib", "cloudpickle", "ipywidgets", "anywidget", "numpy", "pandas", "blake3", "nbstep.cache.cache",
    "nbstep.steps.take", "nbstep.commands.verbs", "nbstep.notebook.live", "nbstep.notebook.panel",
)  # fmt: skip


def python(code: str, folder: Path) -> str:
    env = {**os.environ, "IPYTHONDIR": str(folder / "ipython")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_loading_imports_nothing_heavy(tmp_path: Path) -> None:
    for load in ("import nbstep", SHELL):
        loaded = python(f"{load}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])", tmp_path)
        assert loaded == "[]"


def test_what_counts_as_heavy_exists(tmp_path: Path) -> None:
    ours = [name for name in HEAVY if name.startswith("nbstep.")]
    assert python(f"import importlib\nprint([importlib.import_module(n).__name__ for n in {ours}])", tmp_path) == str(
        ours
    )


def test_nbstep_step_is_the_notebook_s_step(tmp_path: Path) -> None:
    assert python(f"{SHELL}\nimport nbstep\nprint(ip.user_ns['step'] is nbstep.step)", tmp_path) == "True"
