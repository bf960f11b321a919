"""A real InteractiveShell with nbstep loaded, for tests that run cells in this process."""

from __future__ import annotations

import atexit
import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import IPython
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config


@dataclass(frozen=True)
class Ran:
    """How a cell ended: its error, what its last expression gave, and all it showed."""

    error: BaseException | None
    value: Any
    text: str


class Shell:
    """Runs cells as a terminal would; `ip` is IPython's shell."""

    def __init__(self, ip: InteractiveShell) -> None:
        self.ip = ip

    def run(self, cell: str) -> Ran:
        """Runs one cell."""
        with capture_output() as shown:
            result = self.ip.run_cell(cell, store_history=True)
        text = shown.stdout + shown.stderr + "".join(map(str, shown.outputs))
        return Ran(result.error_before_exec or result.error_in_exec, result.result, text)

    def good(self, cell: str) -> Ran:
        """Runs a cell that must not fail."""
        ran = self.run(cell)
        assert ran.error is None, ran.text
        return ran

    def __getitem__(self, name: str) -> Any:
        return self.ip.user_ns[name]


@contextlib.contextmanager
def open_shell(folder: Path) -> Generator[Shell]:
    """A shell of its own, with nbstep loaded; nothing of it stays."""
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor" if IPython.version_info[0] >= 9 else "NoColor"
    config.InteractiveShell.cache_size = 50
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("IPYTHONDIR", str(folder / "ipython"))
        environment.setenv("COLUMNS", "110")
        InteractiveShell.clear_instance()
        ip = InteractiveShell.instance(config=config)
        ip.extension_manager.load_extension("nbstep")
        try:
            yield Shell(ip)
        finally:
            ip.extension_manager.unload_extension("nbstep")
            atexit.unregister(ip.atexit_operations)  # else all shells live to the end of the process
            InteractiveShell.clear_instance()
