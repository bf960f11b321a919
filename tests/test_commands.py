"""The verbs that `%nbstep` and `nbstep` share (N6), on real caches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import joblib
import pytest

from nbstep import Cache, Err, create_workflow
from nbstep.cache.records import Facts
from nbstep.cache.trust import signing_key
from nbstep.commands.grammar import VERBS, Verb
from nbstep.commands.line import CommandOutcome
from nbstep.commands.tables import Screen
from nbstep.commands.verbs import run_command
from nbstep.events import Place, RunFinished, RunStarted, StepAsked, StepHit
from nbstep.runlog import Recorder, runs_directory
from nbstep.stores.base import run_now
from nbstep.stores.disk import key_digest

NOTEBOOK = Screen(width=100, notebook=True)


def keep_error(cache: Cache, key: str, error: Exception, source: str | None = None) -> None:
    try:
        raise error
    except Exception as raised:
        facts = Facts(took_s=0.4, place=Place("churn.ipynb", 3, 2), source=source)
        run_now(cache.keep(key, Err(raised), facts))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    made = Cache(tmp_path / ".nbstep")
    for key in ("user:1", "user:2", "raw"):
        made.set(key, {"key": key})
    keep_error(made, "user:999", ValueError("no such user"), "lambda: fetch_user(999)")
    keep_error(made, "user:998", LookupError("no luck"))
    return made


@pytest.fixture
def run(cache: Cache) -> Callable[..., CommandOutcome]:
    return lambda command, screen=NOTEBOOK: run_command(command, cache=cache, screen=screen)


def test_n6_a_magics_line_and_a_shells_words_are_the_same(cache: Cache) -> None:
    line, words = run_command("ls user:* error:", cache=cache), run_command(["ls", "user:*", "error:"], cache=cache)
    assert line.text.startswith("2 of 5 entries · 2 failed")
    assert line == words


def test_n6_ls_takes_the_panels_queries(run: Callable[..., CommandOutcome]) -> None:
    keys = [row["key"] for row in json.loads(run("ls error:ValueError --json").text)]
    assert keys == ["user:999"]
    assert run("ls nowhere").exit_code == 1
    assert run("ls nowhere").text == "None of 5 entries matches 'nowhere'"


def test_a_quoted_query_reaches_ls_whole_from_a_shell_too(cache: Cache) -> None:
    cache.set("two words", 1)
    for command in ("ls 'two words'", ["ls", "two words"]):
        assert "1 of 6 entries" in run_command(command, cache=cache).text


def test_an_empty_cache_says_when_something_will_appear(tmp_path: Path) -> None:
    text = run_command("ls", cache=Cache(tmp_path / "c")).text
    assert text.startswith("Nothing kept yet. A step with a key appears here when it has run.")


def test_n6_rm_deletes_at_once_and_prints_the_undo_that_brings_it_all_back(
    cache: Cache, run: Callable[..., CommandOutcome]
) -> None:
    outcome = run("rm user:1 user:99?")
    assert outcome.text == "Deleted 3 entries: user:1, user:998, user:999. Undo: %nbstep undo"
    assert sorted(cache.keys()) == ["raw", "user:2"]
    assert run("undo").exit_code == 0
    assert sorted(cache.keys()) == ["raw", "user:1", "user:2", "user:998", "user:999"]


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        (["error:"], ["user:998", "user:999"]),
        (["error:Value"], ["user:999"]),
        (["unused:0s", "user:1", "raw"], ["raw", "user:1"]),
        (["user:*", "error:"], ["user:998", "user:999"]),
        (["error:", "user:1", "user:999"], ["user:999"]),
        (["error:", "unused:0s", "error:Lookup"], ["user:998"]),
    ],
)
def test_n6_rm_takes_the_queries_of_ls_which_narrow_what_it_names(
    cache: Cache, run: Callable[..., CommandOutcome], words: list[str], gone: list[str]
) -> None:
    before = set(cache.keys())
    done = run(["rm", *words])
    assert (done.exit_code, sorted(before - set(cache.keys()))) == (0, gone)
    assert all(key in done.text for key in gone)
    assert done.text.endswith("Undo: %nbstep undo")
    run("undo")
    assert set(cache.keys()) == before


def test_n6_rm_deletes_old_values_by_their_query(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    for n in (1, 2):
        create_workflow(cache=cache)(lambda step, n=n: [step(lambda: n, key="a"), step(lambda: 1, key="b")])
    assert run_command("rm old:", cache=cache).text == "Deleted 1 entry: a. Undo: nbstep undo"
    assert cache.keys() == ["b"]


def test_n6_rm_of_a_query_that_nothing_matches_deletes_nothing(
    cache: Cache, run: Callable[..., CommandOutcome]
) -> None:
    for command in ("rm old:", "rm error:KeyError", "rm user:* unused:30d", "rm raw error:"):
        done = run(command)
        words = command.removeprefix("rm ").split()
        assert (done.text, done.exit_code) == (f"Nothing matches {' '.join(words)}. See: %nbstep ls", 1)
    assert run("rm nowhere error:").text.startswith("Nothing was deleted: nothing is kept under nowhere.")
    assert run("rm unused:soon").exit_code == 2
    assert len(cache) == 5


def test_a_key_that_looks_like_a_query_is_a_key(cache: Cache, run: Callable[..., CommandOutcome]) -> None:
    cache.set("old:", 1)
    cache.set("error:Value", 1)
    run(["rm", "old:", "error:Value"])
    assert len(cache) == 5


def test_e3_retry_takes_the_queries_of_ls_too(cache: Cache, run: Callable[..., CommandOutcome]) -> None:
    assert run("retry old:").exit_code == 1
    assert run("retry error:Lookup").text.startswith("Deleted 1 kept error; ")
    assert run("retry error:").text.endswith("user:999. Undo: %nbstep undo")
    assert sorted(cache.keys()) == ["raw", "user:1", "user:2"]


def test_rm_of_an_unknown_key_deletes_nothing_and_names_what_is_near(
    cache: Cache, run: Callable[..., CommandOutcome]
) -> None:
    outcome = run("rm user:1 user:3")
    assert outcome.exit_code == 1
    assert outcome.text.startswith("Nothing was deleted: nothing is kept under user:3. Near it: user:")
    assert run("rm user:3").text.startswith("Nothing is kept under user:3. Near it: user:")
    assert len(cache) == 5


def test_rm_names_every_unknown_key(cache: Cache, run: Callable[..., CommandOutcome]) -> None:
    text = run("rm user:1 zig zag z* user:2").text
    assert text == "Nothing was deleted: nothing is kept under zig, zag, z*. See: %nbstep ls"
    assert len(cache) == 5


def test_a_key_with_spaces_that_was_not_quoted_is_recognised(cache: Cache, run: Callable[..., CommandOutcome]) -> None:
    cache.set("my key with spaces", 1)
    outcome = run("rm my key with   spaces")
    assert outcome.text == (
        "Nothing was deleted: nothing is kept under my, key, with, spaces. "
        "A key with spaces is quoted: %nbstep rm 'my key with spaces'"
    )
    assert run("show my key").text.endswith("A key with spaces is quoted: %nbstep show 'my key'")
    assert run(["rm", "my key with spaces"]).exit_code == 0


def test_rm_takes_a_key_as_it_is_shown(cache: Cache, run: Callable[..., CommandOutcome]) -> None:
    cache.set("a\nb\u202e", 1)
    assert "Deleted 1 entry: a\\nb\\u202e." in run(r"rm 'a\nb\u202e'").text
    assert "a\nb\u202e" not in cache


def test_n6_clear_does_not_ask_and_prints_the_undo(cache: Cache, run: Callable[..., CommandOutcome]) -> None:
    assert run("clear", Screen()).text == "Deleted all 5 entries. Undo: nbstep undo"
    assert cache.keys() == []
    assert run("clear").text == "Nothing to clear."
    run("undo")
    assert len(cache) == 5


def test_undo_names_keys_in_their_natural_order(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "pages")
    for number in (10, 2, 1):
        cache.set(f"page:{number}", number)
    run_command("clear", cache=cache)
    assert run_command("undo", cache=cache).text == "Restored 3 entries: page:1, page:2, page:10"


def test_the_headline_of_a_query_counts_what_the_query_left(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    cache.set("big", b"x" * 500_000)
    cache.set("small", 1)
    keep_error(cache, "bad", ValueError("no"))
    head = run_command("ls small", cache=cache).text.splitlines()[0]
    assert head.startswith("1 of 3 entries · ")
    assert ("failed" in head, "KB" in head) == (False, False)
    assert "1 of 3 entries · 1 failed" in run_command("ls error:", cache=cache).text


def test_d3_old_values_can_be_asked_for_until_they_are_replaced(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    workflow = create_workflow(cache=cache)
    workflow(lambda step: step(lambda: 1, key="tidy"))
    assert run_command("ls old:", cache=cache).exit_code == 1
    workflow(lambda step: step(lambda: 2, key="tidy"))
    listed = run_command("ls old:", cache=cache)
    assert listed.text.startswith("1 of 1 entry · 1 old value")
    assert "▲ old value  tidy" in listed.text
    assert "old value   the step was edited" in run_command("show tidy", cache=cache).text
    workflow(lambda step: step(lambda: 2, key="tidy", refresh=True))
    assert run_command("ls old:", cache=cache).exit_code == 1


def test_c2_undo_of_a_key_brings_that_one_back(cache: Cache, run: Callable[..., CommandOutcome]) -> None:
    run("rm user:1 user:2")
    assert run("undo user:2").text == "Restored 1 entry: user:2"
    assert "user:1" not in cache
    assert run("undo user:3").exit_code == 1


@pytest.mark.parametrize("kind", ["disk", "memory"])
def test_c2_undo_takes_a_key_as_lists_show_it(tmp_path: Path, kind: str) -> None:
    cache = Cache(tmp_path / "c" if kind == "disk" else {})
    keys = ["db:postgres://u:hunter2@h/x", "db:postgres://u:other22@h/x", "a\x1bb"]
    for key in keys:
        cache.set(key, 1)
        cache.delete(key)
    listed = run_command("ls --trash", cache=cache, screen=NOTEBOOK).text.splitlines()
    shown = [line.rpartition("%nbstep ")[2] for line in listed[2:]]
    shown = [command for command in shown if command.startswith("undo ")]
    assert len(shown) == 3
    assert [run_command(command, cache=cache).exit_code for command in shown] == [0, 0, 0]  # alike: the last one first
    assert sorted(cache.keys()) == sorted(keys)


@pytest.mark.parametrize("kind", ["disk", "memory"])
def test_c2_an_undo_that_replaced_something_says_so_and_older_values_are_listed_and_reached(
    tmp_path: Path, kind: str
) -> None:
    cache = Cache(tmp_path / "c" if kind == "disk" else {})
    for value in ("one", "two", "three"):
        cache.set("o:3", value)
    cache.set("other", 1)
    cache.delete("other")

    def run(command: str) -> CommandOutcome:
        return run_command(command, cache=cache, screen=NOTEBOOK)

    assert run("undo").text == "Restored 1 entry: other"  # nothing stood there
    for value in ("two", "three", "two"):
        assert run("undo").text == (
            "Restored 1 entry: o:3.\nIn exchange the entry that stood there went to the trash; swap back: %nbstep undo o:3   "
            "Older ones: %nbstep ls --trash"
        )
        assert cache.get("o:3") == value
    listed = run("ls --trash").text.splitlines()
    assert listed[0].startswith("2 entries in the trash · ")
    assert [line.rpartition("%nbstep ")[2] for line in listed[3:]] == ["undo o:3", "undo o:3 --back 2"]
    assert run("undo o:3 --back 2").exit_code == 0
    assert cache.get("o:3") == "one"
    assert run("undo o:3 --back 3").text.startswith("Nothing to undo: the trash holds no 3 of o:3")
    assert [(one["key"], one["back"]) for one in json.loads(run("ls --trash --json").text)] == [("o:3", 1), ("o:3", 2)]


def test_ls_trash_takes_queries_and_says_where_nothing_is(cache: Cache, run: Callable[..., CommandOutcome]) -> None:
    assert run("ls --trash").text == "The trash is empty."
    run("rm user:1 user:999")
    assert [line.split()[0] for line in run("ls --trash error:").text.splitlines()[3:]] == ["user:999"]
    nothing = run("ls --trash nowhere")
    assert (nothing.text, nothing.exit_code) == ("None of 2 entries in the trash matches.", 1)
    assert run("undo --back 2").exit_code == run("undo user:1 --back x").exit_code == 2
    assert "user:1" not in cache


def test_d4_show_gives_preview_and_provenance_without_loading(cache: Cache, run: Callable[..., CommandOutcome]) -> None:
    text = run("show user:1").text
    assert text.startswith("✓ user:1   ok\n  dict")
    assert "{'key': 'user:1'}" in text


def test_e5_show_of_an_error_gives_message_traceback_and_source(run: Callable[..., CommandOutcome]) -> None:
    text = run("show user:999").text
    assert text.startswith("✕ user:999   failed\n  ValueError: no such user\n")
    assert "churn.ipynb, In [3], line 2" in text
    assert "Traceback (most recent call last):" in text
    assert "lambda: fetch_user(999)" in text
    assert text.endswith("Try again: %nbstep retry user:999")


def test_n7_nothing_hostile_is_printed_raw(cache: Cache, run: Callable[..., CommandOutcome]) -> None:
    keep_error(cache, "k\x1b]8;;http://x\x07\u202e", ValueError("m\x1b[2J\u2066"))
    for command in ("ls", r"show 'k\x1b]8;;http://x\x07\u202e'", r"retry 'k\x1b]8;;http://x\x07\u202e'"):
        outcome = run(command)
        assert outcome.exit_code == 0
        assert outcome.text.replace("\n", "").isprintable()


def test_n6_show_as_loads_a_value_under_a_name(run: Callable[..., CommandOutcome]) -> None:
    outcome = run("show user:1 --as u")
    assert outcome.binds == ("u", {"key": "user:1"})
    assert run("show user:999 --as u").exit_code == 1
    assert run("show user:999 --as u").binds is None


def test_show_as_is_refused_in_a_shell_and_for_what_is_no_name(run: Callable[..., CommandOutcome]) -> None:
    assert run("show user:1 --as u", Screen()).text.startswith("--as binds a name in a notebook")
    assert run("show user:1 --as 1u").exit_code == 2


def test_show_as_json_has_the_names_of_ls_and_what_only_the_entry_says(run: Callable[..., CommandOutcome]) -> None:
    (row,) = json.loads(run("ls --json user:999").text)
    record = json.loads(run("show user:999 --json").text)
    assert {name: record[name] for name in row} == row
    assert (record["notebook"], record["cell"], record["line"], record["trusted"]) == ("churn.ipynb", 3, 2, True)
    assert "no such user" in record["traceback"]
    assert "facts" not in record


def log_run(cache: Cache, name: str, at: float, *steps: tuple[str, str]) -> None:
    assert cache.directory is not None
    record = Recorder(runs_directory(cache.directory))
    record(RunStarted(name, at, None, Place(), "normal", cache.place))
    for number, (key, outcome) in enumerate(steps):
        record(StepAsked(name, number, key, Place(), at))
        record(StepHit(name, number, key, outcome, at, at, 1.5, 10))  # type: ignore[arg-type]
    record(RunFinished(name, at, "ok", 1.0))


def test_e3_retry_deletes_the_errors_that_the_last_run_met(cache: Cache, run: Callable[..., CommandOutcome]) -> None:
    log_run(cache, "r1", 1000.0, ("user:998", "error"))
    log_run(cache, "r2", 2000.0, ("user:1", "ok"), ("user:999", "error"))
    outcome = run("retry")
    assert outcome.text == (
        "Deleted 1 kept error; it runs again when it is next asked: user:999. Undo: %nbstep undo\n"
        "1 kept error of earlier runs stays. All of them: %nbstep retry '*'"
    )
    assert run("retry").text == "The last run met no error that is still kept. 1 older one: %nbstep retry '*'"


@pytest.mark.parametrize("name", ["user:99?", "LookupError", "user:998"])
def test_e3_retry_takes_a_key_a_glob_or_a_type_and_never_a_value(
    cache: Cache, run: Callable[..., CommandOutcome], name: str
) -> None:
    assert run(["retry", name]).exit_code == 0
    assert [meta.key for meta in cache.errors()] == ([] if "?" in name else ["user:999"])
    assert run("retry user:1").exit_code == 1
    assert "user:1" in cache


def test_ls_shows_hits_and_time_saved_from_the_run_log(cache: Cache, run: Callable[..., CommandOutcome]) -> None:
    log_run(cache, "r1", 1000.0, ("user:1", "ok"))
    assert "saved 1.5 s" in run("ls").text.splitlines()[0]


def test_n6_export_writes_files_that_joblib_opens(tmp_path: Path, run: Callable[..., CommandOutcome]) -> None:
    outcome = run(["export", "user:*", str(tmp_path / "out")])
    assert outcome.text.startswith("Exported 2 values to ")
    values = [joblib.load(path)["key"] for path in (tmp_path / "out").iterdir()]
    assert sorted(values) == ["user:1", "user:2"]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("lss", "There is no verb 'lss'. Did you mean %nbstep ls?"),
        ("frobnicate", "There is no verb 'frobnicate'. See: %nbstep help"),
        ("rm", "KEY|GLOB|QUERY is missing. Usage: %nbstep rm KEY|GLOB|QUERY… [--and-later] [--untrusted]"),
        (
            "show a b",
            "Usage: %nbstep show KEY [--as NAME], one key at a time: %nbstep show a   A key with spaces is quoted: "
            "%nbstep show 'a b'",
        ),
        ("show", "KEY is missing. Usage: %nbstep show KEY [--as NAME]"),
        ("export wide", "FOLDER is missing. Usage: %nbstep export KEY|GLOB|QUERY… FOLDER"),
        ("export", "KEY|GLOB|QUERY and FOLDER are missing. Usage: %nbstep export KEY|GLOB|QUERY… FOLDER"),
        ("show ''", "'' names nothing. Usage: %nbstep show KEY [--as NAME]"),
        ("rm user:1 ''", "'' names nothing. Usage: %nbstep rm KEY|GLOB|QUERY… [--and-later] [--untrusted]"),
        ("clear orders:*", "Usage: %nbstep clear, for everything. For these: %nbstep rm 'orders:*'"),
        ("delete a", "There is no verb 'delete'. Did you mean %nbstep rm?"),
        ("remove a", "There is no verb 'remove'. Did you mean %nbstep rm?"),
        ("get a", "There is no verb 'get'. Did you mean %nbstep show?"),
        ("list", "There is no verb 'list'. Did you mean %nbstep ls?"),
        ("ls unused:3", "unused:3 is no duration; write for example unused:30d"),
        ("ls --jsn", "ls has no option --jsn. Usage: %nbstep ls [QUERY…] [--trash]"),
        ("help ls rm", "Usage: %nbstep help [VERB]"),
        ("show 'user", "A quotation mark is missing its partner."),
        ("show a --as", "--as needs a name behind it."),
        ("ls --cache /no/such/folder", "--cache /no/such/folder: there is no cache in that folder."),
    ],
)
def test_wrong_usage_is_one_line_that_says_what_to_write(
    run: Callable[..., CommandOutcome], command: str, expected: str
) -> None:
    assert run(command) == CommandOutcome(expected, exit_code=2, wrong_usage=True)


def test_show_of_a_pattern_names_the_command_that_takes_one(run: Callable[..., CommandOutcome]) -> None:
    outcome = run("show 'user:?'")
    assert (outcome.text, outcome.exit_code) == (
        "show takes one key, no pattern. What matches: %nbstep ls 'user:?'", 1,
    )  # fmt: skip


def test_keys_that_are_equally_near_stand_in_their_own_order(cache: Cache, run: Callable[..., CommandOutcome]) -> None:
    for n in range(5, 12):
        cache.set(f"item:{n}", n)
    assert "Near it: item:5, item:6, item:7" in run("show item:x").text


def test_a_bad_duration_is_wrong_usage(run: Callable[..., CommandOutcome]) -> None:
    assert run("ls unused:soon").exit_code == 2
    assert "\n" not in run("ls unused:soon").text


def test_a_key_may_start_with_a_dash_behind_two(cache: Cache, run: Callable[..., CommandOutcome]) -> None:
    cache.set("--cache", 1)
    assert run("rm -- --cache").text.startswith("Deleted 1 entry: --cache.")


def test_help_lists_every_verb_and_explains_one(run: Callable[..., CommandOutcome]) -> None:
    assert [name for name in VERBS if f"  {name}" not in run("help").text] == []
    assert run("").text == run("help").text == run("--help").text
    assert run("help rm").text == run("rm --help").text
    assert run("help rm").text.startswith("%nbstep rm KEY|GLOB|QUERY… [--and-later] [--untrusted]\n")
    assert "anywhere behind it" in run("help").text.splitlines()[0]
    assert "--cache FOLDER" in run("help").text.splitlines()[0]


@pytest.mark.parametrize("verb", [verb for verb in VERBS.values() if verb.name != "help"])
def test_help_of_a_verb_says_more_than_its_line_and_explains_each_option(
    run: Callable[..., CommandOutcome], verb: Verb
) -> None:
    _, _, *more = run(f"help {verb.name}").text.splitlines()
    assert len(more) >= 2
    assert [option for option in verb.options if not any(line.startswith(f"  {option} ") for line in more)] == []
    assert "{" not in "".join(more)


def test_panel_gives_a_notebook_the_cache_and_a_shell_the_table(
    cache: Cache, run: Callable[..., CommandOutcome]
) -> None:
    assert run("panel").opens_panel is cache
    assert run("panel", Screen()) == run("ls", Screen())


def test_cache_option_names_another_cache(tmp_path: Path) -> None:
    Cache(tmp_path / "proj" / ".nbstep").set("there", 1)
    for folder in (tmp_path / "proj", tmp_path / "proj" / ".nbstep"):
        assert "there" in run_command(["--cache", str(folder), "ls"]).text


class AsyncStore:
    """The smallest async store: no keys, no clear."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        return self.kept.get(key)

    async def set(self, key: str, value: bytes) -> None:
        self.kept[key] = value

    async def has(self, key: str) -> bool:
        return key in self.kept

    async def delete(self, key: str) -> bool:
        return self.kept.pop(key, None) is not None


def test_c1_verbs_work_over_an_async_store_outside_a_loop_and_say_so_inside() -> None:
    import asyncio

    cache = Cache(AsyncStore())

    async def fill() -> CommandOutcome:
        await cache.set("user:1", 1)
        return run_command("ls", cache=cache)

    inside = asyncio.run(fill())
    assert (inside.exit_code, inside.text) == (
        2, "This cache's store is async: await its methods instead, as in await cache.entries()",
    )  # fmt: skip
    assert "user:1" in run_command("ls", cache=cache).text
    assert run_command("rm user:1", cache=cache).exit_code == 0


def entry_file(cache: Cache, key: str) -> Path:
    assert cache.directory is not None
    (path,) = (cache.directory / "v1" / "e").glob(f"*/{key_digest(key)}.{signing_key().id}")
    return path


def test_ls_doctor_and_verify_count_damaged_entries_in_the_same_words(
    cache: Cache, run: Callable[..., CommandOutcome]
) -> None:
    for key, content in {"user:1": b"", "user:2": b"garbage"}.items():
        entry_file(cache, key).write_bytes(content)
    unreadable = entry_file(cache, "raw")
    unreadable.unlink()
    unreadable.mkdir()
    said = "2 corrupt, 1 unreadable"
    assert run("ls").text.splitlines()[0].endswith(f" · {said}: %nbstep verify")
    assert run("ls").text.startswith("2 entries · ")
    assert said in run("doctor").text
    assert said in run("verify").text
    cache.delete_many(["user:999", "user:998"])
    assert run("ls").text == f"{said}: %nbstep verify\n{cache.place}"


@pytest.mark.parametrize("command", ["undo raw", "undo"])
@pytest.mark.parametrize("spoilt", ["header", "content"])
def test_e6_undo_does_not_exchange_a_good_entry_for_a_damaged_one(
    cache: Cache, run: Callable[..., CommandOutcome], command: str, spoilt: str
) -> None:
    path = entry_file(cache, "raw")
    content = path.read_bytes()
    path.write_bytes(b"garbage" if spoilt == "header" else content[:-1] + bytes([content[-1] ^ 1]))
    create_workflow(cache=cache)(lambda step: step(lambda: "anew", key="raw"))
    done = run(command)
    assert (done.exit_code, done.text) == (
        1, "Damaged, so it stays in the trash, and what is kept now stays too: raw",
    )  # fmt: skip
    assert cache.get("raw") == "anew"


def test_e6_undo_of_a_deleted_entry_that_tells_no_key_says_that_it_is_damaged(
    cache: Cache, run: Callable[..., CommandOutcome]
) -> None:
    path = entry_file(cache, "raw")
    path.write_bytes(b"garbage")
    assert cache.delete("raw")
    assert run("undo") == CommandOutcome(
        "Damaged, so it stays in the trash, and what is kept now stays too: 1 entry whose key cannot be read",
        exit_code=1,
        record={"keys": [], "damaged": [], "nameless": 1},
    )
    assert not path.exists()
    assert cache.trash().entries == 1


def test_after_clear_ls_says_that_undo_brings_it_back(cache: Cache, run: Callable[..., CommandOutcome]) -> None:
    run("clear")
    assert run("ls").text == (
        f"Nothing kept now. 5 entries in the trash: %nbstep undo brings back what was deleted last.\n{cache.place}"
    )
    cache.set("one", 1)
    assert run("clear").text == "Deleted 1 entry. Undo: %nbstep undo"


def test_help_of_no_verb_guesses_nothing(run: Callable[..., CommandOutcome]) -> None:
    assert run("help nope").text == "There is no verb 'nope'. See: %nbstep help"


def test_c7_a_mode_that_no_run_takes_is_named_by_verbs_too(
    run: Callable[..., CommandOutcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBSTEP_MODE", "foo")
    assert run("ls") == CommandOutcome(
        "NBSTEP_MODE='foo': use normal, refresh, offline or off", exit_code=2, wrong_usage=True
    )
    assert run("doctor").exit_code == run("settings").exit_code == run("help ls").exit_code == 0


def test_ls_cuts_a_long_message_however_wide_the_screen_is(cache: Cache) -> None:
    keep_error(cache, "long", ValueError("x" * 5000))
    text = run_command("ls", cache=cache, screen=Screen(width=100_000)).text
    assert max(map(len, text.splitlines())) < 200
