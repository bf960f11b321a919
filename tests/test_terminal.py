"""A terminal: colours, and the line that says how far a cell is; and neither where the output goes elsewhere (N3)."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbstep.commands.tables import in_colour
from nbstep.terminals import is_terminal, live_line

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")
CLEAR = "\r\x1b[K"


class Terminal:
    """A pseudo-terminal to be `sys.stdout`."""

    def __init__(self) -> None:
        self._master, slave = os.openpty()
        self.stream = os.fdopen(slave, "w", encoding="utf-8", newline="")

    def read(self) -> str:
        """All it was sent since the last call."""
        self.stream.write("<end>")
        self.stream.flush()
        text = ""
        while not text.endswith("<end>"):
            text += os.read(self._master, 100_000).decode()
        return text.removesuffix("<end>").replace("\r\n", "\n")

    def close(self) -> None:
        self.stream.close()
        os.close(self._master)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    opened = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    yield opened
    opened.close()


def opened_line(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A line on the terminal, which is standard output from now on."""
    monkeypatch.setattr(sys, "stdout", terminal.stream)
    line = live_line(sys.stdout)
    assert line is not None
    return line


def test_the_line_steps_aside_for_what_is_printed_and_leaves_nothing(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = opened_line(terminal, monkeypatch)
    line.show("1 running")
    sys.stdout.write("hello\n")
    line.show("2 running")
    line.end()
    assert terminal.read() == f"{CLEAR}1 running{CLEAR}hello\n{CLEAR}2 running{CLEAR}"
    assert sys.stdout is terminal.stream
    line.show("late")
    assert terminal.read() == ""


def test_it_does_not_cut_a_line_that_is_not_whole_yet(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    line = opened_line(terminal, monkeypatch)
    line.show("1 running")
    sys.stdout.write("50 %")
    line.show("2 running")
    sys.stdout.writelines([" done", "\n"])
    line.show("3 running")
    line.end()
    assert terminal.read() == f"{CLEAR}1 running{CLEAR}50 % done\n{CLEAR}3 running{CLEAR}"


def test_it_goes_for_good_when_a_debugger_or_input_takes_the_terminal(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = opened_line(terminal, monkeypatch)
    line.show("1 running")
    assert sys.stdout.fileno() == terminal.stream.fileno()
    line.show("2 running")
    assert terminal.read() == f"{CLEAR}1 running{CLEAR}"
    line.end()


def test_a_stream_that_redirect_stdout_brought_back_is_not_wrapped_twice(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = opened_line(terminal, monkeypatch)
    line.show("1 running")
    with contextlib.redirect_stdout(io.StringIO()):
        line.end()
    assert sys.stdout is not terminal.stream
    again = live_line(sys.stdout)
    assert again is not None
    again.show("2 running")
    again.end()
    assert sys.stdout is terminal.stream
    assert terminal.read() == f"{CLEAR}1 running{CLEAR}{CLEAR}2 running{CLEAR}"


def test_there_is_no_line_and_no_colour_where_nothing_can_show_it(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened_line(terminal, monkeypatch)
    assert in_colour(sys.stdout)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not in_colour(sys.stdout)
    monkeypatch.setenv("TERM", "dumb")
    assert live_line(sys.stdout) is None
    monkeypatch.setenv("TERM", "xterm")
    for stream in (io.StringIO(), None):
        monkeypatch.setattr(sys, "stdout", stream)
        assert (live_line(sys.stdout), in_colour(stream)) == (None, False)


def test_what_logging_writes_to_a_stream_it_has_since_before_goes_by_the_line(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = opened_line(terminal, monkeypatch)
    logger = logging.getLogger("test_terminal")
    handler = logging.StreamHandler(terminal.stream)
    logger.addHandler(handler)
    try:
        line.show("1 running")
        logger.warning("careful")
        line.show("2 running")
        line.end()
    finally:
        logger.removeHandler(handler)
    assert terminal.read() == f"{CLEAR}1 running{CLEAR}careful\n{CLEAR}2 running{CLEAR}"
    assert handler.stream is terminal.stream


def test_whoever_takes_the_bytes_behind_a_stream_has_it_alone(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = opened_line(terminal, monkeypatch)
    line.show("1 running")
    sys.stdout.buffer.write(b"bytes\n")
    sys.stdout.flush()
    line.show("2 running")
    line.end(last="1 ran")
    assert terminal.read() == f"{CLEAR}1 running{CLEAR}bytes\n"


def test_what_stays_stands_where_the_line_was(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    line = opened_line(terminal, monkeypatch)
    line.end(last="a line that was never shown leaves nothing")
    line = opened_line(terminal, monkeypatch)
    line.show("1 running")
    line.end(last="1 ran")
    assert terminal.read() == f"{CLEAR}1 running{CLEAR}1 ran\n"


def test_a_stream_stays_one_for_who_copies_enters_or_closes_it(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = opened_line(terminal, monkeypatch)
    line.show("1 running")
    assert copy.copy(sys.stdout) is not None
    with sys.stdout:
        sys.stdout.write("inside\n")
    assert terminal.stream.closed
    line.show("2 running")
    line.end(last="1 ran")
    assert sys.stdout is terminal.stream


def test_an_object_that_can_only_write_is_no_terminal() -> None:
    class Tee:
        def write(self, text: str) -> int:
            return len(text)

    stream: Any = Tee()
    assert not is_terminal(stream)
    assert live_line(stream) is None


CELL = """\
%%workflow sales
import os
def wait():
    print("inside the step")
    with open("gate") as gate: gate.read()
step(wait, key="slow")
kept = step(lambda: {}["x"], key="bad", on_error="keep")
"""
SCRIPT = f"%load_ext nbstep\nget_ipython().run_cell({CELL!r})\n"
LIST = r"sales   2 steps: 1 ran \(.*\), 1 failed\n  ✓ slow  ran .* new\n  ✕ bad   failed  KeyError: 'x' .* new\n"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "gate")
    (tmp_path / "script.ipy").write_text(SCRIPT, encoding="utf-8")
    return tmp_path / "script.ipy"


def environ(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS"}}
    return {**kept, "TERM": "xterm", "IPYTHONDIR": str(folder / "ipython"), "PYTHONUTF8": "1"}


@pytest.mark.kernel
def test_n3_a_terminals_ipython_shows_a_live_line_and_then_the_list_in_colour(script: Path) -> None:
    import pexpect

    command = [sys.executable, ["-m", "IPython", "--no-banner", script.name]]
    shell = pexpect.spawn(
        *command, cwd=str(script.parent), env=environ(script.parent), encoding="utf-8", timeout=60, dimensions=(40, 100)
    )  # fmt: skip
    shell.expect(r"inside the step\r\n\r\x1b\[Ksales   1 step: 1 running · slow \d")
    (script.parent / "gate").write_text("go")
    shell.expect(pexpect.EOF)
    shell.close()
    text = shell.before.replace("\r\n", "\n")
    assert "\x1b[1msales\x1b[0m   2 steps" in text
    assert re.search(r"\x1b\[31m  ✕ bad   failed .*\x1b\[0m\n", text)
    left = re.sub(r"[^\n]*\r\x1b\[K", "", text)  # what a clear takes away
    assert "running" not in left
    assert re.search(LIST, re.sub(r"\x1b\[[0-9;]*m", "", left)), left


@pytest.mark.kernel
def test_n3_a_script_whose_output_is_piped_shows_the_plain_list(script: Path) -> None:
    command = [sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor", script.name]
    ran = subprocess.Popen(
        command, cwd=script.parent, env=environ(script.parent), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        encoding="utf-8",
    )  # fmt: skip
    (script.parent / "gate").write_text("go")
    said, complained = ran.communicate(timeout=60)
    assert (ran.returncode, complained) == (0, "")
    assert "\x1b" not in said
    assert re.fullmatch(r"inside the step\n" + LIST + r"  ! 1 failure is kept\. .*\ncache .*\n", said), said


@pytest.mark.kernel
def test_w5_a_plain_script_says_nothing_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "from nbstep import create_workflow, step\n"
        "workflow = create_workflow()\n"
        "result = workflow(lambda step: step(lambda: 6 * 7, key='answer'))\n"
        "print(result, step(lambda: 1, key='one'))\n",
        encoding="utf-8",
    )
    for _ in ("cold", "warm"):
        done = subprocess.run(
            [sys.executable, "script.py"], cwd=tmp_path, env=environ(tmp_path), capture_output=True, text=True, check=True
        )  # fmt: skip
        assert (done.stdout, done.stderr) == ("Ok(42) 1\n", "")
