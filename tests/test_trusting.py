"""`nbstep trust`: what it shows, when it acts, what it says (N6, N7)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nbstep import Cache
from nbstep.cache import trust
from nbstep.commands.tables import Screen
from nbstep.commands.verbs import run_command

NOTEBOOK = Screen(width=100, notebook=True)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """A cache with entries of somebody else."""
    with monkeypatch.context() as then:
        then.setattr(trust, "_ring", trust.KeyRing({"JUPYTER_DATA_DIR": str(tmp_path / "them")}))
        theirs = Cache(tmp_path / ".nbstep")
        theirs.set("user:1", {"a": 1})
        theirs.set("k\x1b]8;;http://x\x07\u202e", "evil\x1b[2J")
    return Cache(tmp_path / ".nbstep")


def test_a_notebook_is_shown_what_would_be_accepted_and_the_command_that_does(cache: Cache) -> None:
    signer = cache.entries()[0].signer
    outcome = run_command("trust", cache=cache, screen=NOTEBOOK)
    lines = outcome.text.splitlines()
    assert lines[0].startswith("2 entries in ")
    assert lines[0].endswith(f"signed by others: 2 by key {signer}")
    assert "? untrusted" in outcome.text
    assert "run code as you" in outcome.text
    assert lines[-1] == "Nothing was changed. Do it: %nbstep trust -y"
    assert outcome.exit_code == 1
    assert len(cache.untrusted().entries) == 2


def test_the_command_that_does_repeats_what_was_asked(cache: Cache, tmp_path: Path) -> None:
    key_file = tmp_path / "them" / "nbstep" / "signing_key"
    said = run_command(["trust", "user:*", "--key-file", str(key_file)], cache=cache).text.splitlines()[-1]
    assert said == f"Nothing was changed. Do it: nbstep trust 'user:*' --key-file {key_file} -y"
    assert run_command(said.partition("Do it: nbstep ")[2], cache=cache).exit_code == 0
    assert cache.get("user:1") == {"a": 1}


def test_with_y_it_is_done_and_said(cache: Cache) -> None:
    outcome = run_command("trust user:1 -y", cache=cache, screen=NOTEBOOK)
    assert outcome.text.splitlines()[-1] == "Accepted 1 entry: user:1."
    assert "run code as you" in outcome.text
    assert outcome.exit_code == 0
    assert cache.keys() == ["user:1"]


@pytest.mark.parametrize("answer", [True, False])
def test_a_terminal_is_asked_once_everything_was_shown(cache: Cache, answer: bool) -> None:
    questions: list[str] = []

    def ask(question: str) -> bool:
        questions.append(question)
        return answer

    outcome = run_command("trust user:1", cache=cache, screen=replace(Screen(), ask=ask))
    (question,) = questions
    assert "user:1" in question
    assert "run code as you" in question
    assert (outcome.text, outcome.exit_code) == (
        ("Accepted 1 entry: user:1.", 0) if answer else ("Nothing was changed.", 1)
    )
    assert cache.keys() == (["user:1"] if answer else [])


def test_trust_takes_the_folder_of_a_cache_or_of_its_project(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.delenv("NBSTEP_DIR")
    for folder in ("../.nbstep", ".."):
        said = run_command(["trust", folder]).text
        assert said.splitlines()[-1] == f"Nothing was changed. Do it: nbstep trust {folder} -y"
    assert run_command(["trust", "../.nbstep", "-y"]).exit_code == 0
    assert cache.untrusted().entries == ()
    assert not (tmp_path / "elsewhere" / ".nbstep").exists()


def test_nothing_to_accept_is_said_and_fails_only_where_something_was_named(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "mine")
    cache.set("k", 1)
    assert run_command("trust", cache=cache).exit_code == 0
    assert run_command("trust k", cache=cache).exit_code == 1
    assert run_command("trust", cache=cache).text.startswith("Nothing to accept in ")


def test_n7_what_strangers_wrote_is_escaped_in_every_text(cache: Cache) -> None:
    def ask(question: str) -> bool:
        texts.append(question)
        return False

    texts: list[str] = []
    run_command("trust", cache=cache, screen=replace(Screen(), ask=ask))
    texts.append(run_command("trust", cache=cache).text)
    (path,) = [path for path in Path(str(cache.directory)).glob("v1/e/*/*") if b"user:1" in path.read_bytes()]
    path.write_bytes(path.read_bytes()[:-1])
    texts.append(run_command("trust -y", cache=cache).text)
    assert [text for text in texts if not text.replace("\n", "").isprintable()] == []
    assert "✕ user:1 was left as it is: it has " in texts[-1]


def test_rotate_says_what_becomes_of_everything(cache: Cache, tmp_path: Path) -> None:
    cache.set("mine", 1)
    other = Cache(tmp_path / "b")
    other.set("other", 2)
    old = trust.signing_key().id
    asked = run_command("trust --rotate", cache=cache, screen=NOTEBOOK)
    assert "those of your other caches become untrusted" in asked.text
    assert asked.text.splitlines()[-1] == "Nothing was changed. Do it: %nbstep trust --rotate -y"
    assert trust.signing_key().id == old
    done = run_command("trust --rotate -y", cache=cache)
    assert done.exit_code == 0
    assert done.text.startswith(f"Your key is {trust.signing_key().id} now, it was {old}. Signed anew 1 entry: mine.")
    command = done.text.partition("In each other cache of yours: nbstep ")[2].splitlines()[0]
    assert f"signing_key.{old}" in command
    assert "'~/" in command  # quoted: a shell does not expand it
    assert run_command(command.replace("DIR", str(tmp_path / "b")) + " -y").text.endswith("Accepted 1 entry: other.")
    assert other.get("other") == 2
    assert cache.get("mine") == 1
    assert run_command("trust x --rotate -y", cache=cache).exit_code == 2


def test_a_key_that_cannot_serve_is_one_line(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in ("trust -y --key-file /no/such.key", "trust --key-file"):
        outcome = run_command(command, cache=cache)
        assert outcome.exit_code > 0
        assert "\n" not in outcome.text
    monkeypatch.setattr(trust, "_ring", trust.KeyRing({"NBSTEP_SIGNING_KEY_FILE": "/no/such.key"}))
    for command in ("trust -y", "trust --rotate -y"):
        outcome = run_command(command, cache=cache)
        assert (outcome.exit_code, "there is no such file" in outcome.text) == (1, True)
