"""`nbstep trust`: what it shows, when it acts, what it says (N6, N7)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nbstep import Cache
from nbstep.cache import trust
from nbstep.commands.line import CommandOutcome
from nbstep.commands.panelside import read_listing, totals_message
from nbstep.commands.tables import Screen
from nbstep.commands.verbs import run_command
from nbstep.stores.base import run_now

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


def test_lists_count_what_others_signed_and_name_the_command_that_accepts_it(cache: Cache) -> None:
    cache.set("mine", 1)
    head, way_out, *_ = run_command("ls", cache=cache, screen=NOTEBOOK).text.splitlines()
    assert head.startswith("3 entries · 2 untrusted · ")
    assert way_out == "Steps do not use what is untrusted. See and accept it: %nbstep trust"
    told = run_now(totals_message(cache, run_now(read_listing(cache))))
    assert (told["totals"]["untrusted"], told["totals"]["failed"]) == (2, 0)
    run_command("trust -y", cache=cache, screen=NOTEBOOK)
    assert "untrusted" not in run_command("ls", cache=cache, screen=NOTEBOOK).text


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


def test_n6_what_others_signed_under_one_s_own_keys_has_one_way_out_that_all_verbs_name(cache: Cache) -> None:
    signer = cache.entries()[0].signer
    cache.set("user:1", "mine")
    said = run_command("trust user:1", cache=cache)
    assert said.text == (
        f"Nothing to accept in {cache.place} under user:1. 1 entry of others stays: an entry of your own or a newer one "
        "has the same key. Delete it: nbstep rm --untrusted user:1"
    )
    assert "1 more entry of others stays: " in run_command("trust", cache=cache).text
    assert "Delete afterwards: nbstep rm --untrusted\n" in run_command("trust", cache=cache).text
    assert run_command("trust -y", cache=cache).exit_code == 0
    for verb in ("trust", "verify", "doctor"):
        assert "nbstep rm --untrusted" in run_command(verb, cache=cache).text, verb
    assert run_command("rm --untrusted nothing", cache=cache).exit_code == 1
    done = run_command("rm --untrusted", cache=cache)
    assert done.text == "Deleted 1 entry that others signed: user:1. Undo: nbstep undo"
    assert (cache.get("user:1"), len(cache.entries()), cache.verify().bits) == ("mine", 2, 0)
    assert run_command("undo", cache=cache).text == "Restored 1 entry, signed by others: user:1"
    assert {meta.signer for meta in cache.entries()} == {signer, trust.signing_key().id}
    run_command("rm --untrusted user:*", cache=cache)
    assert run_command("rm --untrusted", cache=cache) == CommandOutcome(f"Others signed nothing in {cache.place}.")


def test_n6_every_verb_counts_the_entries_that_ls_shows(cache: Cache) -> None:
    for key in cache.untrusted().entries:
        cache.set(key.meta.key, "mine")
    cache.set("third", 3)
    assert run_command("ls", cache=cache).text.startswith("3 entries ")
    (told,) = [line for line in run_command("doctor", cache=cache).text.splitlines() if line.startswith("entries")]
    assert told.split()[1] == "3,"
    assert told.endswith(", and 2 of other signers beside them")
    cleared = run_command("clear", cache=cache).text
    assert cleared == "Deleted all 3 entries, and 2 of other signers beside them. Undo: nbstep undo"
    assert run_command("undo", cache=cache).text.startswith("Restored 3 entries: ")


def test_trust_says_what_a_given_key_did_not_sign_and_nothing_else(cache: Cache, tmp_path: Path) -> None:
    key_file = tmp_path / "them" / "nbstep" / "signing_key"
    other = tmp_path / "other.key"
    other.write_bytes(b"o" * 32)
    said = run_command(["trust", "--key-file", str(other)], cache=cache).text
    assert said.endswith(f"2 entries stay: key {trust.SigningKey(b'o' * 32).id} did not sign them.")
    cache.set("user:1", "mine")
    said = run_command(["trust", "user:1", "--key-file", str(key_file)], cache=cache).text
    assert "did not sign" not in said


def test_trust_of_a_folder_that_is_none_says_so(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    for command, text in (
        (f"trust {tmp_path}/nope", f"There is no folder {tmp_path}/nope."),
        (f"trust {tmp_path}/empty", f"There is no cache in {tmp_path}/empty."),
    ):
        assert run_command(command, cache=cache) == CommandOutcome(text, exit_code=1)
    monkeypatch.delenv("NBSTEP_DIR")
    monkeypatch.chdir(tmp_path / "empty")
    assert run_command("trust ./nope") == CommandOutcome("There is no folder ./nope.", exit_code=1)
    cache.set("/data/x.csv", 1)
    said = run_command("trust /data/x.csv", cache=cache).text
    assert said == f"Nothing to accept in {cache.place} under /data/x.csv."


def test_trust_lists_keys_in_their_natural_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as then:
        then.setattr(trust, "_ring", trust.KeyRing({"JUPYTER_DATA_DIR": str(tmp_path / "them")}))
        for n in (10, 2, 1):
            Cache(tmp_path / "c").set(f"page:{n}", n)
    said = run_command("trust -y", cache=Cache(tmp_path / "c")).text
    assert said.endswith("Accepted 3 entries: page:1, page:2, page:10.")


def test_a_key_that_cannot_serve_is_one_line(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in ("trust -y --key-file /no/such.key", "trust --key-file"):
        outcome = run_command(command, cache=cache)
        assert outcome.exit_code > 0
        assert "\n" not in outcome.text
    monkeypatch.setattr(trust, "_ring", trust.KeyRing({"NBSTEP_SIGNING_KEY_FILE": "/no/such.key"}))
    for command in ("trust -y", "trust --rotate -y"):
        outcome = run_command(command, cache=cache)
        assert (outcome.exit_code, "there is no such file" in outcome.text) == (1, True)
