"""What was made from what: `show` tells it, `rm` tells and takes it along (D6), read from headers alone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from sample_rows import a_meta

from nbstep import Cache, Err, Ok
from nbstep.cache.records import Facts, Meta
from nbstep.commands.descent import later_steps, later_text, made_from_text, next_run_text, used_keys, went_into
from nbstep.commands.listing import own_first
from nbstep.commands.tables import Screen
from nbstep.commands.verbs import CommandOutcome, run_command
from nbstep.stores.base import run_now

NOTEBOOK = Screen(width=100, notebook=True)


def keep(cache: Cache, key: str, uses: Sequence[str] = (), took_s: float = 1.0) -> None:
    run_now(cache.keep(key, Ok(key), Facts(took_s=took_s, uses=tuple(uses))))


def made(key: str, *uses: str, took_s: float = 1.0, **fields: object) -> Meta:
    return a_meta(key, facts=Facts(took_s=took_s, uses=uses), **fields)


def keys(metas: Sequence[Meta]) -> list[str]:
    return [meta.key for meta in metas]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    filled = Cache(tmp_path / ".nbstep")
    keep(filled, "raw", took_s=60)
    keep(filled, "clean", ["raw"], took_s=30)
    keep(filled, "by_store", ["clean"], took_s=0.2)
    keep(filled, "model", ["clean", "labels"], took_s=1080)
    keep(filled, "apart")
    return filled


@pytest.fixture
def run(cache: Cache) -> Callable[..., CommandOutcome]:
    return lambda command, screen=NOTEBOOK: run_command(command, cache=cache, screen=screen)


# What the headers tell


def test_d6_later_steps_are_found_through_others_and_never_twice() -> None:
    metas = [made("b", "a"), made("c", "b", "a"), made("d", "c"), made("a"), made("page:10", "a"), made("page:9", "a")]
    assert keys(later_steps(metas, ["a"])) == ["b", "c", "d", "page:9", "page:10"]
    assert keys(later_steps(metas, ["b", "c"])) == ["d"]
    assert keys(later_steps(metas, ["d"])) == keys(later_steps(metas, ["nothing"])) == []


def test_d6_a_circle_of_uses_ends() -> None:
    """`a` was made anew from `b`, which had been made from the old `a`."""
    metas = [made("a", "b"), made("b", "a"), made("c", "c", "b")]
    assert keys(later_steps(metas, ["a"])) == ["b", "c"]


def test_d6_what_others_signed_is_not_believed() -> None:
    metas = own_first([made("theirs", "a", trusted=False), made("mine", "a")])
    assert keys(later_steps(metas.values(), ["a"])) == went_into(metas.values(), "a") == ["mine"]
    assert used_keys(own_first([made("theirs", "a", trusted=False)]), "a") == []


def test_d6_many_later_steps_are_told_by_the_five_that_took_longest() -> None:
    later = [made(f"k:{n}", took_s=float(n)) for n in range(8)]
    assert later_text(later, 1) == (
        "8 later steps were made from it: k:7 (7.0 s), k:6 (6.0 s), k:5 (5.0 s), k:4 (4.0 s), k:3 (3.0 s) and 3 more (3.0 s)"
    )
    assert later_text([made("set by hand", took_s=0.0)], 2) == "1 later step was made from them: set by hand"


def test_the_next_run_is_told_as_roughly_as_it_is_known() -> None:
    took_s = {
        28.4: "about 28 s",
        0.31: "about 0.3 s",
        60.0: "about 1 m",
        1110.2: "about 19 m",
        9000.0: "about 2 h 30 m",
        0.0: "",
    }
    assert {one: next_run_text([made("a", took_s=one)]) for one in took_s} == took_s


def test_n7_hostile_keys_are_escaped() -> None:
    assert later_text([made("a\x1b[31m\u202e")], 1).endswith(r"a\x1b[31m\u202e (1.0 s)")
    assert made_from_text(Facts(1.0, uses=("a\nb",))) == r"a\nb"


def test_d6_of_many_keys_some_are_named_and_all_are_counted() -> None:
    uses = tuple(f"user:{n}" for n in range(1000))
    assert made_from_text(Facts(1.0, uses=uses)) == "user:0, user:1, user:2, user:3, user:4 and 995 more"
    assert made_from_text(Facts(1.0, uses=uses, uses_beyond=200)).endswith("user:4 and 1,195 more")


def test_d6_100_000_entries_are_gone_through_in_a_moment() -> None:
    metas = [made(f"text:{n}") for n in range(50_000)] + [made(f"label:{n}", f"text:{n}") for n in range(50_000)]
    began = time.thread_time()
    assert keys(later_steps(metas, ["text:7"])) == went_into(metas, "text:7") == ["label:7"]
    assert time.thread_time() - began < 2  # 0.1 s


# show


def test_d6_show_says_what_it_was_made_from_and_what_it_went_into(run: Callable[..., CommandOutcome]) -> None:
    lines = [" ".join(line.split()) for line in run("show clean").text.splitlines()]
    assert "made from raw" in lines
    assert "went into by_store, model" in lines
    told = json.loads(run("show clean --json").text)
    assert (told["uses"], told["uses_beyond"], told["went_into"]) == (["raw"], 0, ["by_store", "model"])
    assert "made from" not in run("show apart").text
    assert "went into" not in run("show apart").text


# rm


def test_d6_rm_says_what_was_made_from_it_and_the_command_that_takes_it_along(
    cache: Cache, run: Callable[..., CommandOutcome]
) -> None:
    assert run("rm clean").text == (
        "Deleted 1 entry: clean. Undo: %nbstep undo\n"
        "2 later steps were made from it: by_store (0.2 s), model (18 m). Delete them too: %nbstep rm clean --and-later"
    )
    assert run("rm clean --and-later").text == "Deleted 2 entries: by_store, model. Undo: %nbstep undo"
    assert sorted(cache.keys()) == ["apart", "raw"]
    assert run("rm clean --and-later").text.startswith("Nothing is kept under clean.")


def test_d6_rm_takes_later_steps_along_and_one_undo_brings_all_back(
    cache: Cache, run: Callable[..., CommandOutcome]
) -> None:
    before = sorted(cache.keys())
    assert run("rm raw --and-later").text == "Deleted 4 entries: raw, by_store, clean, model. Undo: %nbstep undo"
    assert cache.keys() == ["apart"]
    assert run("undo").text.startswith("Restored 4 entries")
    assert sorted(cache.keys()) == before
    assert "made from clean" in " ".join(run("show by_store").text.split())


def test_d6_rm_of_all_that_was_made_says_no_more(run: Callable[..., CommandOutcome]) -> None:
    assert run("rm clean by_store model").text == "Deleted 3 entries: clean, by_store, model. Undo: %nbstep undo"
    assert run("rm apart").text == "Deleted 1 entry: apart. Undo: %nbstep undo"
    assert run("rm raw").text == "Deleted 1 entry: raw. Undo: %nbstep undo"


def test_d6_rm_by_pattern_speaks_of_them_and_quotes_the_pattern(cache: Cache) -> None:
    for n in range(3):
        keep(cache, f"user:{n}")
    keep(cache, "report", ["user:0", "user:2"])
    command = ["rm", "user:*", "apart", "--cache", str(cache.directory)]
    assert run_command(command, screen=Screen()).text.splitlines()[1] == (
        "1 later step was made from them: report (1.0 s). "
        f"Delete it too: nbstep rm --cache {cache.directory} 'user:*' apart --and-later"
    )
    assert run_command("rm 'user:*' --and-later", cache=cache).text.startswith("Deleted 1 entry: report.")


def test_d6_rm_by_a_query_names_the_undo_as_the_query_finds_nothing_any_more(
    cache: Cache, run: Callable[..., CommandOutcome]
) -> None:
    try:
        raise LookupError("no such store")
    except LookupError as error:
        run_now(cache.keep("bad", Err(error), Facts(took_s=1.0)))
    keep(cache, "after", ["bad"])
    assert run("rm error:").text == (
        "Deleted 1 entry: bad. Undo: %nbstep undo\n"
        "1 later step was made from it: after (1.0 s). Delete it too: %nbstep undo, then %nbstep rm error: --and-later"
    )
    run("undo")
    assert run("rm error: --and-later").text.startswith("Deleted 2 entries: bad, after.")
    assert run("rm error: --and-later").exit_code == 1


def test_d6_rm_of_several_names_of_which_one_is_unknown_deletes_nothing_later_either(
    cache: Cache, run: Callable[..., CommandOutcome]
) -> None:
    assert run("rm raw zig --and-later").text.startswith("Nothing was deleted: nothing is kept under zig.")
    assert len(cache.keys()) == 5
    assert run("rm labels").text.startswith("Nothing is kept under labels.")  # it went into one, and is gone
    assert run("rm labels --and-later").text.startswith("Deleted 1 entry: model.")
