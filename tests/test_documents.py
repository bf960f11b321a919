"""`--json` of every verb: one JSON document, the same fields whatever was found (N6)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import pytest
from test_commands import keep_error

from nbstep import Cache
from nbstep.cache import trust
from nbstep.commands.documents import DOCUMENTS
from nbstep.commands.grammar import VERBS
from nbstep.commands.tables import Screen
from nbstep.commands.verbs import run_command

ODD = ("two words", "日本語", "line\nbreak\x00", "🜁 \x1b[31m", "\u202eleft", "-dash", '"quoted" {a}', "x" * 4000)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    made = Cache(tmp_path / ".nbstep")
    for key in (*ODD, "user:1"):
        made.set(key, {"key": 1})
    keep_error(made, "user:999", ValueError("no\nsuch \ud800 user"))
    return made


@pytest.fixture
def told(cache: Cache) -> Callable[..., tuple[Any, int]]:
    def run(*words: str, notebook: bool = False) -> tuple[Any, int]:
        outcome = run_command(
            [words[0], "--json", *words[1:]], cache=cache, screen=Screen(notebook=notebook, ask=lambda _: True)
        )
        assert not outcome.wrong_usage, outcome.text
        assert outcome.text.isascii()
        return json.loads(outcome.text), outcome.exit_code

    return run


def fields(verb: str) -> set[str]:
    return {"says", *(field.name for field in DOCUMENTS[verb])}


@pytest.mark.parametrize(
    ("words", "exit_code"),
    [
        (("rm", "user:1"), 0), (("rm", "nothing"), 1), (("clear",), 0), (("undo",), 1), (("undo", "nothing"), 1),
        (("retry", "*"), 0), (("retry",), 1), (("accept", "nothing"), 1), (("accept", "*"), 1), (("trust",), 0),
        (("trust", "nothing"), 1), (("verify",), 0), (("verify", "nothing"), 1), (("gc", "--dry-run"), 0), (("gc",), 0),
        (("doctor",), 0), (("export", "nothing", "out"), 1), (("import-joblib", "/no/such/folder"), 1), (("autoload",), 0),
        (("completion", "bash"), 0), (("help",), 0), (("help", "rm"), 0),
    ],
)  # fmt: skip
def test_n6_a_document_has_its_fields_whatever_was_found(
    told: Callable[..., tuple[Any, int]], words: tuple[str, ...], exit_code: int
) -> None:
    document, code = told(*words)
    assert (set(document), code) == (fields(words[0]), exit_code)
    assert document["says"]


def test_n6_every_verb_is_described_in_its_help_and_gives_json_of_its_kind(
    told: Callable[..., tuple[Any, int]],
) -> None:
    assert {*VERBS} - {*DOCUMENTS} == {"panel", "ls", "show", "settings"}
    for verb in VERBS:
        assert "\nWith --json: " in run_command(["help", verb]).text
    assert [type(told(verb)[0]) for verb in ("panel", "ls", "settings")] == [list] * 3
    assert told("panel", notebook=True) == told("ls", notebook=True)
    assert told("ls", "nowhere") == ([], 1)
    assert set(told("show", "nowhere")[0]) == {"says"}


def test_n6_records_name_their_fields_as_the_help_does(told: Callable[..., tuple[Any, int]]) -> None:
    for words in (["ls"], ["show", "user:1"], ["settings"]):
        record = told(*words)[0]
        record = record if isinstance(record, dict) else record[0]
        help_text = "".join(run_command(["help", name]).text for name in {words[0], "ls"})
        assert [name for name in record if name not in help_text] == []


def test_n6_odd_keys_come_and_go_whole(cache: Cache, told: Callable[..., tuple[Any, int]]) -> None:
    keys = {row["key"] for row in told("ls")[0]}
    assert keys == {*ODD, "user:1", "user:999"}
    assert {told("show", "--", key)[0]["key"] for key in ODD} == {*ODD}
    assert told("rm", "--", *ODD)[0]["keys"] == [*ODD]
    assert {row["key"] for row in told("ls", "--trash")[0]} == {*ODD}
    assert {*told("undo")[0]["keys"]} == {*ODD}
    assert told("retry", "*")[0]["keys"] == ["user:999"]


def test_n6_what_only_they_tell(cache: Cache, told: Callable[..., tuple[Any, int]], tmp_path: Path) -> None:
    verified = told("verify")[0]
    assert (verified["checked"], verified["good"], verified["bad"]) == (10, 10, [])
    out = tmp_path / "out"
    exported = told("export", "user:*", str(out))[0]
    assert [joblib.load(path) for path in exported["files"]] == [{"key": 1}]
    assert told("gc", "--unused", "0s", "--dry-run")[0]["unused"]["count"] == 10
    assert told("doctor")[0]["facts"]["entries"] == [next(iter(told("doctor")[0]["facts"]["entries"]))]
    assert told("clear")[0]["count"] == 10


def test_trust_never_asks_into_a_document(
    cache: Cache, told: Callable[..., tuple[Any, int]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(trust, "_ring", trust.KeyRing({"JUPYTER_DATA_DIR": str(tmp_path / "another")}))
    document, code = told("trust", "user:*")
    assert (document["offered"], document["keys"], code) == (["user:1", "user:999"], [], 1)
    document, code = told("trust", "user:*", "-y")
    assert (sorted(document["keys"]), code) == (["user:1", "user:999"], 0)
    assert [one["verdict"] for one in told("verify", "two words")[0]["bad"]] == ["untrusted"]


def test_import_joblib_lists_and_takes_over_as_a_document(told: Callable[..., tuple[Any, int]], tmp_path: Path) -> None:
    joblib.Memory(tmp_path / "kept", verbose=0).cache(len)("abc")
    listed = told("import-joblib", str(tmp_path / "kept"))[0]
    assert [set(one) for one in listed["results"]] == [
        {"function", "arguments", "size_bytes", "took_s", "kept_at", "key", "note"}
    ]
    taken = told("import-joblib", str(tmp_path / "kept"), "--all")[0]
    assert taken["keys"] == [listed["results"][0]["key"]]
