"""The command `nbstep`, as a process of its own on what a kernel kept (N6)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nbstep import Cache, __version__
from nbstep.commands.tables import MANY_ROWS
from nbstep.words import text_width


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "proj"
    (folder / "deep").mkdir(parents=True)
    (folder / "pyproject.toml").touch()
    return folder


@pytest.fixture
def cache(project: Path) -> Cache:
    made = Cache(project / ".nbstep")
    made.set("user:1", {"a": 1})
    made.set("k" * 150, 1)
    return made


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in {"NBSTEP_DIR", "COLUMNS", "NO_COLOR"}}
    return kept | {"PYTHONUTF8": "1"} | more


def nbstep(*words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nbstep.cli", *words]
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment(**env),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def test_c0_the_shell_sees_the_kernels_cache_from_anywhere_in_the_project(project: Path, cache: Cache) -> None:
    done = nbstep("ls", "user:*", cwd=project / "deep")
    assert (done.returncode, done.stderr) == (0, "")
    assert "user:1" in done.stdout


def test_looking_at_a_project_without_a_cache_makes_none(project: Path) -> None:
    assert nbstep("ls", cwd=project).stdout.startswith("Nothing kept yet.")
    assert nbstep("rm", "a", cwd=project).returncode == 1
    assert nbstep("ls", "--json", cwd=project).stdout == "[]\n"
    assert [nbstep(verb, cwd=project).returncode for verb in ("gc", "verify", "panel")] == [0, 0, 0]
    cleared = nbstep("clear", cwd=project)
    assert (cleared.stdout, cleared.returncode) == ("Nothing to clear.\n", 0)
    assert not (project / ".nbstep").exists()


def test_c0_looking_at_a_folder_that_nbstep_dir_names_writes_nothing(project: Path) -> None:
    (project / "empty").mkdir()
    (project / "full").mkdir()
    (project / "full" / "notes.txt").touch()
    before = sorted(project.rglob("*"))
    for named in ("empty", "full", "not there"):
        for words in (("ls",), ("doctor",), ("gc",)):
            assert nbstep(*words, cwd=project, NBSTEP_DIR=named).returncode == 0
        assert nbstep("ls", "--cache", named, cwd=project).stderr == (
            f"--cache {named}: there is no cache in that folder.\n"
        )
    assert sorted(project.rglob("*")) == before
    assert "full/.nbstep" in nbstep("ls", cwd=project, NBSTEP_DIR="full").stdout


@pytest.mark.parametrize("named", ["afile", "afile/deeper"])
def test_c0_nbstep_dir_that_is_a_file_is_called_one(project: Path, named: str) -> None:
    (project / "afile").touch()
    done = nbstep("ls", cwd=project, NBSTEP_DIR=named)
    assert (done.returncode, done.stdout) == (1, f"NBSTEP_DIR names {project}/{named}, but {project}/afile is a file\n")


def test_what_the_shell_deletes_is_gone_for_the_kernel_and_comes_back(project: Path, cache: Cache) -> None:
    assert nbstep("rm", "user:1", cwd=project).stdout == "Deleted 1 entry: user:1. Undo: nbstep undo\n"
    assert "user:1" not in cache
    assert nbstep("undo", cwd=project).returncode == 0
    assert cache.get("user:1") == {"a": 1}


def test_exit_codes_tell_done_from_nothing_matched_from_wrong_usage(project: Path, cache: Cache) -> None:
    codes = [nbstep(*words, cwd=project).returncode for words in (["ls"], ["rm", "nothing"], ["frobnicate"])]
    assert codes == [0, 1, 2]
    assert "There is no verb" in nbstep("frobnicate", cwd=project).stderr


@pytest.mark.parametrize(
    "words", [("foo", "--json"), ("ls", "--bad", "--json"), ("show", "--json"), ("ls", "unused:3", "--json")]
)
def test_n6_wrong_usage_is_json_too_where_json_is_asked_for(
    project: Path, cache: Cache, words: tuple[str, ...]
) -> None:
    done = nbstep(*words, cwd=project)
    assert (done.returncode, done.stderr) == (2, "")
    plain = nbstep(*(word for word in words if word != "--json"), cwd=project)
    assert (plain.returncode, plain.stdout) == (2, "")
    assert json.loads(done.stdout) == {"says": plain.stderr.strip()}


def test_a_pipe_gets_whole_keys_without_colour_and_json(project: Path, cache: Cache) -> None:
    text = nbstep("ls", cwd=project).stdout
    assert "k" * 150 in text
    assert "\x1b" not in text
    assert {row["key"] for row in json.loads(nbstep("ls", "--json", cwd=project).stdout)} == {"user:1", "k" * 150}


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_table_fits_its_terminal(project: Path, cache: Cache, columns: int) -> None:
    cache.set("日本語のキー:東京" * 9, {"long": "x" * 200})
    for words in (("ls",), ("rm", "user:1", "日本*"), ("ls", "--trash"), ("settings",), ("help",), ("help", "rm")):
        table = nbstep(*words, cwd=project, COLUMNS=f"{columns}").stdout.splitlines()
        table = table if words[0] in {"settings", "help"} else table[2:]
        tail = "The cache is "  # a sentence
        assert [line for line in table if text_width(line) > columns and not line.startswith(tail)] == []
        assert words != ("ls",) or columns > 150 or any("…" in line for line in table)


def run_in_terminal(project: Path, **env: str) -> str:
    import pty  # not on Windows

    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "nbstep.cli", "ls"],
        cwd=project,
        env=environment(**{"TERM": "xterm", **env}),
        stdout=terminal,
    )
    os.close(terminal)
    said = b""
    try:
        while chunk := os.read(controller, 65536):
            said += chunk
    except OSError:  # how Linux reports the end of a terminal
        pass
    os.close(controller)
    assert process.wait(60) == 0
    return said.decode()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a pseudo-terminal")
def test_a_terminal_is_not_filled_with_thousands_of_rows_and_a_pipe_gets_them(project: Path, cache: Cache) -> None:
    for n in range(MANY_ROWS):
        cache.set(f"page:{n}", n)
    lines = run_in_terminal(project).splitlines()
    assert len(lines) == MANY_ROWS + 4
    assert lines[-1].strip() == "… and 2 more rows. Narrow it: nbstep ls QUERY   All of it: nbstep ls | less"
    assert len(nbstep("ls", cwd=project).stdout.splitlines()) == MANY_ROWS + 2 + 3


def trust_at_a_terminal(project: Path) -> tuple[subprocess.Popen[bytes], int]:
    """`nbstep trust`, and the other end of its terminal."""
    import pty  # not on Windows

    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "nbstep.cli", "trust"]
    process = subprocess.Popen(
        command, cwd=project, env=environment(TERM="xterm"), stdin=terminal, stdout=terminal, stderr=terminal,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )  # fmt: skip
    os.close(terminal)
    return process, controller


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a pseudo-terminal")
@pytest.mark.parametrize("answer", ["y", "n", ""])
def test_trust_asks_at_a_terminal(project: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(project / "another"))  # now the entries are another user's
    process, controller = trust_at_a_terminal(project)
    os.write(controller, f"{answer}\n".encode())
    said = b""
    try:
        while chunk := os.read(controller, 65536):
            said += chunk
    except OSError:  # how Linux reports the end of a terminal
        pass
    os.close(controller)
    assert (process.wait(60), b"run code as you" in said) == (0 if answer == "y" else 1, True)
    assert (b"Accepted 2 entries" in said, b"Nothing was changed." in said) == (answer == "y", answer != "y")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a pseudo-terminal")
def test_ctrl_c_ends_it_quietly(project: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(project / "another"))  # now the entries are another user's
    process, controller = trust_at_a_terminal(project)
    said = b""
    while b"[y/N]" not in said:
        said += os.read(controller, 65536)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    with contextlib.suppress(OSError):  # how Linux reports the end of a terminal
        said += os.read(controller, 65536)
    os.close(controller)
    assert b"Traceback" not in said


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a pseudo-terminal")
def test_a_terminal_gets_colour_unless_it_wants_none(project: Path) -> None:
    from test_commands import keep_error

    keep_error(Cache(project / ".nbstep"), "user:999", ValueError("no"))
    assert "\x1b[31m✕ failed" in run_in_terminal(project)
    assert "\x1b" not in run_in_terminal(project, NO_COLOR="1")
    assert "\x1b" not in run_in_terminal(project, TERM="dumb")


def test_a_terminal_without_unicode_still_shows_every_row(project: Path, cache: Cache) -> None:
    cache.set("日本", 1)
    done = nbstep("ls", cwd=project, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0
    assert r"\u65e5\u672c" in done.stdout


def test_head_of_a_long_list_is_quiet(project: Path, cache: Cache) -> None:
    for n in range(3000):  # more than a pipe holds
        cache.set(f"page:{n}:{'x' * 60}", n)
    command = f"set -o pipefail; {sys.executable} -m nbstep.cli ls | head -1"
    done = subprocess.run(
        ["bash", "-c", command], cwd=project, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr, done.stdout[:13]) == (0, "", "3,002 entries")


def test_a_reader_that_has_enough_is_no_error(project: Path, cache: Cache) -> None:
    command = [sys.executable, "-m", "nbstep.cli", "ls"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, cwd=project, env=environment(), stdout=write, stderr=subprocess.PIPE, timeout=60)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_python_m_nbstep_is_the_command(project: Path) -> None:
    said = subprocess.run([sys.executable, "-m", "nbstep", "--version"], capture_output=True, text=True, check=True)
    assert said.stdout == f"nbstep {__version__}\n"


def test_version(project: Path) -> None:
    for option in ("--version", "-V"):
        assert nbstep(option, cwd=project).stdout == f"nbstep {__version__}\n"


def test_the_command_does_without_ipython_and_widgets(project: Path, cache: Cache) -> None:
    script = (
        "import sys; from nbstep.cli import main; main(['ls']);"
        "print(sorted({'IPython', 'ipywidgets', 'anywidget', 'joblib', 'numpy', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=project, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"
