"""Tab: what can follow a command, in real bash, zsh and fish, and in IPython's completer (N6)."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from IPython.core.completer import provisionalcompleter
from kernels import open_kernel
from shells import open_shell
from test_commands import keep_error

from nbstep import Cache
from nbstep.commands.completion import Completions, complete
from nbstep.commands.grammar import VERBS
from nbstep.commands.verbs import run_command

ODD = "key with: 'one' \"two\" $HOME `ls` \\ ! ; *"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    (tmp_path / "proj").mkdir()
    (tmp_path / "proj" / "afile.txt").touch()
    monkeypatch.chdir(tmp_path / "proj")
    monkeypatch.setenv("NBSTEP_DIR", ".nbstep")
    made = Cache(".nbstep")
    for key in (ODD, "user:1", "user:2", "-dash", "日本 語", "gone"):
        made.set(key, 1)
    keep_error(made, "user:999", ValueError("no"))
    made.delete("gone")
    return made


def test_verbs_then_what_each_of_them_takes(cache: Cache) -> None:
    assert complete([], "").texts == tuple(VERBS)
    assert complete([], "se").texts == ("settings",)
    assert complete(["show"], "user").texts == ("user:1", "user:2", "user:999")
    assert complete(["show", "user:1"], "").texts == ()
    assert complete(["rm", "user:1"], "user").texts == ("user:2", "user:999")
    assert complete(["rm"], "o").texts == ("old:",)
    assert complete(["retry"], "").texts == ("user:999",)
    assert complete(["undo"], "").texts == ("gone",)
    assert complete(["help"], "r").texts == ("rm", "retry")
    assert complete(["autoload"], "o").texts == ("on", "off")
    assert complete(["nothing"], "") == Completions()


def test_options_and_what_stands_behind_them(cache: Cache) -> None:
    assert complete(["rm", "--json"], "--").texts == ("--and-later", "--untrusted", "--cache", "--help")
    assert complete(["gc", "--unused"], "").texts == ("7d", "30d", "90d")
    assert complete(["ls", "--cache"], "") == Completions(files=True)
    assert complete(["export", "user:1"], "").files
    assert complete(["rm"], "-").texts[0] == "--and-later"
    assert complete(["rm", "--"], "-").texts == ("-dash",)
    assert "-dash" not in complete(["rm"], "").texts


def test_another_cache_and_none_at_all(cache: Cache, tmp_path: Path) -> None:
    Cache(tmp_path / "other").set("there", 1)
    for words in (["--cache", str(tmp_path / "other"), "show"], ["show", f"--cache={tmp_path / 'other'}"]):
        assert complete(words, "").texts == ("there",)
    assert complete(["show", "--cache", str(tmp_path / "nowhere")], "").texts == ()
    assert not (tmp_path / "nowhere").exists()


def test_many_keys_come_part_by_part(cache: Cache) -> None:
    for n in range(60):
        cache.set(f"page:a:{n}", n)
        cache.set(f"page:b:{n}", n)
    found = complete(["show"], "")
    assert found.partly
    assert "page:" in found.texts
    assert complete(["show"], "page:") == Completions(("page:a:", "page:b:"), partly=True)
    assert len(complete(["show"], "page:a:").texts) == 60


def test_it_reads_the_verbs_without_the_engine(cache: Cache) -> None:
    code = (
        "import sys; from nbstep.cli import main; main(['__complete', 'zsh', 'r']);"
        "print(sorted(name for name in sys.modules if name.startswith('nbstep.cache')))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["", "rm", "retry", "[]"]


class Terminal:
    """An interactive shell at a pseudo-terminal."""

    def __init__(self, words: list[str], **env: str) -> None:
        import pty  # not on Windows

        scripts = sysconfig.get_path("scripts")
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            environ = {
                **os.environ,
                "TERM": "dumb",
                "PATH": f"{scripts}:{os.environ['PATH']}",
                "LC_ALL": "C.UTF-8",
                **env,
            }
            os.execvpe(words[0], words, environ)
        self._said = ""

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def wait_for(self, pattern: str, limit_s: float = 60.0) -> re.Match[str]:
        """Waits until what it shows matches; what was matched is not looked at again."""
        until = time.monotonic() + limit_s
        while not (match := re.search(pattern, self._said)):
            assert time.monotonic() < until, f"{pattern!r} never came; it said {self._said!r}"
            if select.select([self._fd], [], [], 1.0)[0]:
                self._said += os.read(self._fd, 65536).decode(errors="replace").replace("\r", "")
        self._said = self._said[match.end() :]
        return match

    def close(self) -> None:
        os.close(self._fd)
        os.waitpid(self.pid, 0)


@pytest.fixture
def bash(tmp_path: Path) -> Iterator[Terminal]:
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    terminal = Terminal(["bash", "--norc", "--noprofile", "-i"], PS1="READY> ", HISTFILE="")
    terminal.wait_for("READY> ")
    # `args` is completed as nbstep is, and says what it was given.
    terminal.type(
        "source <(nbstep completion bash); complete -F _nbstep args; args() { printf '<%s>' \"$@\"; echo; }\n"
    )
    terminal.wait_for("READY> ")
    yield terminal
    terminal.close()


def test_bash_completes_keys_so_that_a_command_gets_them_whole(cache: Cache, bash: Terminal) -> None:
    for typed, given in (
        ("args show user:9\t", ["show", "user:999"]),
        ("args sho\tuser:1\t", ["show", "user:1"]),
        ("args rm k\t", ["rm", ODD]),
        ("args rm key\\ w\t", ["rm", ODD]),
        ("args rm key\\ with\\:\t", ["rm", ODD]),
        ("args rm key\\ with:\t", ["rm", ODD]),
        ("args rm 'key w\t", ["rm", ODD]),
        ("args rm \"key with: 'one\t", ["rm", ODD]),
        ("args rm 日\t", ["rm", "日本 語"]),
        ("args rm user:1 user:9\t", ["rm", "user:1", "user:999"]),
        ("args rm --and\tuser:9\t", ["rm", "--and-later", "user:999"]),
        ("args export user:1 af\t", ["export", "user:1", "afile.txt"]),
    ):
        bash.type(typed)
        bash.type("\n")
        assert bash.wait_for(r"\n(<.*>)\n")[1] == "".join(f"<{word}>" for word in given)


def test_bash_lists_what_is_possible(cache: Cache, bash: Terminal) -> None:
    bash.type("nbstep show user:\t\t")
    assert bash.wait_for(r"\n([^\n]*999[^\n]*)\n")[1].split() == ["1", "2", "999"]


def test_zsh_completes_keys_so_that_a_command_gets_them_whole(cache: Cache, tmp_path: Path) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    with closing(Terminal(["zsh", "-f", "-i"], HOME=str(tmp_path))) as terminal:
        terminal.type("autoload -Uz compinit; compinit -u; source <(nbstep completion zsh); compdef _nbstep args\n")
        terminal.type("args() { printf '<%s>' \"$@\"; echo; }; PROMPT='READ''Y> '\n")
        for typed, given in (
            ("args show user:9\t", ["show", "user:999"]),
            ("args rm key\t", ["rm", ODD]),
            ("args rm 'key w\t", ["rm", ODD]),
            ("args rm 日\t", ["rm", "日本 語"]),
            ("args sett\t", ["settings"]),
        ):
            terminal.wait_for("READY> ")
            terminal.type(typed)
            terminal.type("\n")
            assert terminal.wait_for(r"\n(?:\x1b\S*)*(<.*>)")[1] == "".join(f"<{word}>" for word in given)


def test_fish_is_told_keys_and_quotes_them_itself(cache: Cache) -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    lines = ["nbstep show user:9", "nbstep rm key", "nbstep rm \\'key w", "nbstep rm 日", "nbstep sett"]
    script = "nbstep completion fish | source\n" + "\n".join(f"complete -C '{line}'" for line in lines)
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["user:999", ODD, ODD, "日本 語", "settings"]


def test_ipython_completes_lines_of_the_magic(cache: Cache, tmp_path: Path) -> None:
    with open_shell(tmp_path) as shell, provisionalcompleter():

        def completed(text: str, behind: str = "") -> list[str]:
            found = shell.ip.Completer.completions(text + behind, len(text))
            return [text[: one.start] + one.text for one in found]

        assert completed("%nbstep se") == ["%nbstep settings"]
        assert completed("nbstep se") == ["nbstep settings"]
        assert completed("x = 1\n%nbstep show user:9") == ["x = 1\n%nbstep show user:999"]
        assert completed("%nbstep gc --d") == ["%nbstep gc --dry-run"]
        for typed in ("%nbstep rm key", "%nbstep rm 'key w", '%nbstep rm "key with: '):
            [line] = completed(typed)
            assert shell.good(line).text.startswith("Deleted 1 entry: key with:"), line
            run_command("undo", cache=cache)
        cache.set("all {uid}", 1)
        assert shell.good(completed("%nbstep rm all")[0]).text.startswith("Deleted 1 entry: all {uid}.")
        assert completed("%nbstep rm '日", behind="'") == ["%nbstep rm '日本 語"]
        shell.good("%unload_ext nbstep")
        assert completed("%nbstep se") != ["%nbstep settings"]
        shell.good("%load_ext nbstep")


@pytest.mark.kernel
def test_a_kernel_completes_lines_of_the_magic(cache: Cache) -> None:
    with open_kernel() as kernel:
        code = "x = 1\n%nbstep show user:9"
        kernel.client.complete(code, len(code))
        reply = kernel.client.get_shell_msg(timeout=60)["content"]
        assert (reply["matches"], reply["cursor_start"], reply["cursor_end"]) == (["user:999"], 19, len(code))
