"""Runs a story in a real kernel and compares what each cell shows with what the story says.

    .venv/bin/python tests/stories/run.py users          # one story, told as it goes; without a name all

The README beside says how a story is written.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import nbformat

HERE: Final = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

from kernels import Kernel, open_kernel  # noqa: E402
from seen import is_like, shown  # noqa: E402
from world import World, serving  # noqa: E402

STORIES: Final = {path.stem: path for path in sorted(HERE.glob("*.ipynb"))}

_SEEN: Final = re.compile(r"(?ms)^```\n(.*?)^```$")
_OPEN: Final = re.compile(r'\*\*Open "([\w-]+\.ipynb)"\.\*\*')
_RESTART: Final = "**Restart the kernel.**"
_INTERRUPT: Final = re.compile(r'\*\*Interrupt the kernel\*\* when "([^"]+)" hangs')
_LONGEST_S: Final = 120.0  # for one cell


class Story:
    """A story under way in a folder of its own.

    Args:
        path: Its notebook.
        folder: An empty folder: the working directory, the home and the cache.
        tell: Called with what each cell shows.
    """

    def __init__(self, path: Path, folder: Path, tell: Any = lambda text: None) -> None:
        self._path, self._folder, self._tell = path, folder, tell
        self._kernel: Kernel
        self._world: World
        self._opened = ExitStack()
        self._notebook = path.name
        self._environ: dict[str, str] = {}
        self._interrupt_at = ""
        self._shown: str | None = None  # by the last code cell, None once it was compared

    def run(self) -> int:
        """Runs it; gives the number of turns that were compared.

        Raises:
            AssertionError: A cell shows something else than the story says.
        """
        turns = 0
        with serving() as self._world, self._opened:
            self._environ = _environ(self._folder, self._world.url)
            self._restart()
            for number, cell in enumerate(nbformat.read(self._path, as_version=4).cells, 1):
                where = f"{self._path.name}, cell {number}"
                if cell.cell_type == "markdown":
                    turns += self._read(cell.source, where)
                else:
                    self._compare("", where)
                    self._run_cell(cell, where)
            self._compare("", self._path.name)
        return turns

    def _read(self, text: str, where: str) -> int:
        """Compares what the last cell showed with what the text says, then does what it says."""
        blocks = _SEEN.findall(text)
        self._compare("\n".join(blocks), where)
        self._tell(text)
        if opened := _OPEN.search(text):
            self._notebook = opened[1]
        if opened or _RESTART in text:
            self._restart()
        if interrupt := _INTERRUPT.search(text):
            self._interrupt_at = interrupt[1]
        return len(blocks)

    def _run_cell(self, cell: Any, where: str) -> None:
        self._tell("\n".join(f">>> {line}" for line in cell.source.splitlines()))
        sent = self._kernel.start(cell.source)
        if self._interrupt_at:
            self._world.wait_until_hanging(self._interrupt_at, _LONGEST_S)
            os.kill(self._kernel.manager.provisioner.pid, signal.SIGINT)
            self._interrupt_at = ""
        done = self._kernel.finish(sent, _LONGEST_S)
        self._shown = shown(done.messages)
        self._tell(self._shown)
        may_fail = "raises-exception" in cell.metadata.get("tags", ())
        assert (done.status == "error") == may_fail, f"{where} ended with {done.status}:\n{self._shown}"

    def _compare(self, expected: str, where: str) -> None:
        if self._shown is None:
            assert not expected, f"{where} says what was seen, and no cell ran before"
            return
        assert is_like(self._shown, expected), f"{where} says:\n{expected}\n\nand this was seen:\n{self._shown}"
        self._shown = None

    def _restart(self) -> None:
        self._opened.close()
        environ = self._environ | {"JPY_SESSION_NAME": str(self._folder / self._notebook)}
        self._kernel = self._opened.enter_context(open_kernel(load=False, cwd=self._folder, environ=environ))


def _environ(folder: Path, url: str) -> dict[str, str]:
    mine = {
        "HOME": str(folder / "home"),
        "IPYTHONDIR": str(folder / "home" / "ipython"),
        "JUPYTER_DATA_DIR": str(folder / "home" / "jupyter"),
        "NBSTEP_DIR": str(folder / ".nbstep"),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": str(HERE),
        "STORY_URL": url,
    }
    (folder / "home").mkdir()
    return {name: value for name, value in os.environ.items() if not name.startswith("NBSTEP_")} | mine


def main(names: list[str]) -> int:
    """Tells the stories named, or all."""
    for name in names or STORIES:
        with tempfile.TemporaryDirectory() as folder:
            Story(STORIES[name], Path(folder), lambda text: print(text, end="\n\n")).run()  # noqa: T201
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
