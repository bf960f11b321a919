"""Old values looked at and accepted: what `show` says of then and now, and what `accept` publishes (D4)."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shells import Shell, open_shell
from test_commands import AsyncStore

from nbstep import Cache, create_workflow
from nbstep.cache.acceptance import Accepted
from nbstep.cache.cache import project_cache
from nbstep.cache.records import Meta
from nbstep.runlog import runs_directory
from nbstep.stores.base import run_now

TIDY = "ran = []\ndef tidy(rows):\n    kept = [row for row in rows if row]\n    return kept"
EDITED = TIDY.replace("if row]", "if row > 1]")
CELL = """%%workflow churn
cut = {cut}
clean = step(lambda: (ran.append(1), tidy([0, 1, 2, 3]), cut)[1], key="clean")"""


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.setenv("NBSTEP_DIR", str(tmp_path / "cache"))
    with open_shell(tmp_path) as opened:
        yield opened


def _kept(key: str = "clean") -> Meta:
    found = run_now(project_cache().look_up(key))
    assert not hasattr(found, "reason"), found
    return found.meta  # pyright: ignore[reportAttributeAccessIssue]


def _drift(shell: Shell) -> str:
    """Keeps a value, edits its function and an input, and asks for it again."""
    shell.good(TIDY)
    shell.good(CELL.format(cut=1))
    shell.good(EDITED)
    return shell.good(CELL.format(cut=2)).text


def _by_shell(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nbstep", *words], capture_output=True, text=True, check=False, timeout=120
    )


def test_d4_show_does_not_say_that_a_refused_value_was_used(shell: Shell) -> None:
    shell.good(TIDY)
    shell.good(CELL.format(cut=1))
    shell.good(EDITED)
    asked = CELL.format(cut=2).replace("%%workflow", "%%workflow --on-drift error", 1)
    assert "DriftError" in shell.run(asked).text
    text = shell.good("%nbstep show clean").text
    assert "its step ended with an error before it ran, and what is kept was not used" in text
    assert "all the same" not in text


def test_d4_show_says_what_changed_with_the_source_and_the_inputs_then_and_now(shell: Shell) -> None:
    said = _drift(shell)
    assert "tidy() was edited" in said
    text = shell.good("%nbstep show clean").text
    assert "▲ clean   old value" in text
    assert "  old value   tidy() was edited; `cut` was 1, is now 2: put it in the key\n" in text
    assert "last asked" in text
    assert "what is kept was used all the same" in text
    assert "Inputs\n  cut  1 then, 2 now\n" in text
    assert (
        "Source then and now: tidy()\n"
        "   def tidy(rows):\n"
        "  -    kept = [row for row in rows if row]\n"
        "  +    kept = [row for row in rows if row > 1]\n"
        "       return kept\n"
    ) in text
    assert text.endswith(
        "Re-run it: %%workflow churn --rerun-drifted, or %nbstep rm clean\nKeep it:   %nbstep accept clean\n"
    )


def test_d4_accept_keeps_the_value_and_its_age_and_the_next_edit_is_told_again(shell: Shell) -> None:
    said = _drift(shell)
    before = _kept()
    assert "Keep: %nbstep accept clean" in said
    text = shell.good("%nbstep accept clean").text
    assert text == "Accepted 1 old value: clean. Undo: %nbstep undo\n"
    after = _kept()
    assert (after.created, after.facts.took_s) == (before.created, before.facts.took_s)
    assert dict(after.facts.inputs)["cut"] == "2"
    assert "if row > 1" in after.facts.sources["tidy"]
    assert "▲" not in shell.good("%nbstep ls").text
    again = shell.good(CELL.format(cut=2))
    assert ("old value" in again.text, shell["clean"], shell["ran"]) == (False, [1, 2, 3], [])
    told = shell.good("%nbstep show clean").text
    assert re.search(r"accepted +(just now|\d s ago), as made by the code and inputs of that time\n", told)
    shell.good(EDITED.replace("> 1", "> 2"))
    assert "1 old value (clean): tidy() was edited." in shell.good(CELL.format(cut=2)).text
    assert "-    kept = [row for row in rows if row > 1]" in shell.good("%nbstep show clean").text


def test_d4_code_that_was_accepted_and_is_taken_back_is_told(shell: Shell) -> None:
    _drift(shell)
    shell.good("%nbstep accept clean")
    shell.good(TIDY)
    assert "1 old value (clean): tidy() was edited." in shell.good(CELL.format(cut=2)).text


def test_d4_undo_takes_an_accept_back_as_any_replacement(shell: Shell) -> None:
    _drift(shell)
    shell.good("%nbstep accept clean")
    assert shell.good("%nbstep undo").text.startswith("Restored 1 entry: clean")
    assert _kept().facts.accepted is None
    assert "1 old value (clean)" in shell.good(CELL.format(cut=2)).text
    assert "▲" in shell.good("%nbstep ls old:").text


def test_d4_accept_takes_globs_and_leaves_what_is_not_old(shell: Shell) -> None:
    shell.good("def label(n): return n")
    cell = "%%workflow\nfor n in range(5): step(label, n, key=f'label:{n}')\nstep(lambda: 1, key='other')"
    shell.good(cell)
    shell.good("def label(n): return n + 1")
    assert "Keep: %nbstep accept 'label:*'" in shell.good(cell).text
    assert shell.good("%nbstep accept 'label:*'").text.startswith("Accepted 5 old values: label:0, label:1")
    assert "old value" not in shell.good(cell).text
    nothing = "No value under * is known to be old: there is nothing to accept.\n"
    assert shell.good("%nbstep accept '*'").text == nothing
    assert "Nothing is kept under lable:1. Near it: label:1" in shell.good("%nbstep accept lable:1").text
    assert sorted(project_cache().undo()) == [f"label:{n}" for n in range(5)]


def test_d3_the_line_accepts_the_values_that_it_is_about_and_no_others(shell: Shell) -> None:
    shell.good("def label(n): return n")
    cell = "%%workflow mine\nfor n in range(9): step(label, n, key=f'k{n}')"
    other = "%%workflow theirs\nstep(label, 1, key='theirs')"
    shell.good(cell)
    shell.good(other)
    shell.good("def label(n): return n + 1")
    shell.good(other)
    told = shell.good(cell).text
    assert "9 old values" in told
    shell.good(told[told.index("%nbstep accept") :].splitlines()[0])
    assert "old value" not in shell.good(cell).text
    assert "1 old value (theirs)" in shell.good(other).text


def test_n6_accept_takes_the_queries_of_ls(shell: Shell) -> None:
    shell.good("def label(n): return n")
    cell = "%%workflow\nfor n in range(2): step(label, n, key=f'label:{n}')\nstep(label, 3, key='x')\nstep(lambda: 1, key='other')"
    shell.good(cell)
    shell.good("def label(n): return n + 1")
    shell.good(cell)
    assert shell.good("%nbstep accept 'label:*' old:").text.startswith("Accepted 2 old values: label:0, label:1.")
    assert shell.good("%nbstep accept old:").text.startswith("Accepted 1 old value: x.")
    assert shell.good("%nbstep accept old:").text == "Nothing matches old:. See: %nbstep ls\n"


def test_d4_a_key_that_nothing_found_old_is_left_and_the_line_says_what_to_do(shell: Shell) -> None:
    shell.good(TIDY)
    shell.good(CELL.format(cut=1))
    shell.good(EDITED)
    text = shell.good("%nbstep accept clean").text
    assert text == (
        "clean was left as it is: no look-up since it was kept found anything changed. Did its code change just now? "
        "Run its cell once (it uses what is kept), then accept.\n"
    )


def test_d4_a_shell_without_a_kernel_accepts_what_the_run_log_knows(shell: Shell) -> None:
    _drift(shell)
    shown = _by_shell("show", "clean")
    assert "Its source of now is not known here: run its cell once, then look in that notebook." in shown.stdout
    assert "cut  1 then, 2 now" in shown.stdout
    done = _by_shell("accept", "clean")
    assert (done.stdout, done.returncode) == ("Accepted 1 old value: clean. Undo: nbstep undo\n", 0)
    again = _by_shell("accept", "clean")
    assert (again.returncode, "Run its cell once" in again.stdout) == (1, True)
    assert "old value" not in shell.good(CELL.format(cut=2)).text
    facts = _kept().facts
    assert dict(facts.inputs)["cut"] == "2"
    assert "tidy" not in facts.sources  # its text of today is not known to a shell, and that of then is no longer its


def _rewrite_log(folder: Path, change: Any) -> None:
    for path in runs_directory(folder).glob("*.json"):
        record = json.loads(path.read_text())
        for step in record["steps"]:
            if len(step) > 11 and step[11]:
                step[11] = change(step[11])
        path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    "change",
    [
        lambda seen: seen.replace('"cut":"2"', '"cut":"3"'),
        lambda _: "0" * 64 + "[]",
        lambda _: "nothing",
        lambda seen: "é" + seen[1:],
    ],
)
def test_d4_what_somebody_else_wrote_into_the_run_log_is_not_accepted(
    shell: Shell, tmp_path: Path, change: Any
) -> None:
    _drift(shell)
    _rewrite_log(tmp_path / "cache", change)
    done = _by_shell("accept", "clean")
    assert done.returncode == 1
    assert done.stdout == (
        "clean was left as it is: what its code is today was not noted: run its cell here (it uses what is kept), then accept.\n"
    )
    assert _kept().facts.accepted is None


def test_d4_a_value_kept_since_is_not_accepted_for_the_older_one(shell: Shell, tmp_path: Path) -> None:
    _drift(shell)
    cache = project_cache()
    old = cache.last_drift("clean")
    shell.good(CELL.format(cut=2).replace("churn", "churn --rerun-drifted"))
    assert old is not None
    cache.note_drifted("clean", old)
    assert cache.accept("clean").keys == ()
    cache.clock = lambda: old.at - 1  # a clock that went back
    cache.set("clean", 1)
    (refused,) = cache.accept("clean").refused
    assert refused[1].startswith("another value was kept since")


def test_d4_a_damaged_entry_is_refused_and_stays(shell: Shell, tmp_path: Path) -> None:
    _drift(shell)
    (path,) = (tmp_path / "cache" / "v1" / "e").rglob("*.*")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (refused,) = project_cache().accept("clean").refused
    assert refused == ("clean", "its content does not match its digest: the entry is damaged")
    assert path.read_bytes() == content


def test_d4_a_key_that_is_computed_right_now_is_left(shell: Shell) -> None:
    _drift(shell)
    cache = project_cache()
    assert cache.locks is not None
    lock = cache.locks.take("clean")
    assert lock is not None
    try:
        assert cache.accept("clean") == Accepted((), (("clean", "its step is running right now"),))
    finally:
        lock.release()
    assert cache.accept("clean").keys == ("clean",)


def test_d4_over_a_store_of_ones_own_the_process_knows() -> None:
    store: dict[str, Any] = {}
    cache = Cache(store)
    for n in (1, 2):
        create_workflow(cache=cache)(lambda step, n=n: step(lambda: n, key="k")).unwrap()
    assert cache.accept("k") == Accepted(("k",), ())
    assert dict(cache.entries()[0].facts.inputs)["n"] == "2"
    assert cache.accept("*") == Accepted((), ())
    assert cache.undo() == ["k"]


def test_d4_over_an_async_store_accept_is_awaited() -> None:
    async def main() -> tuple[Accepted, int]:
        cache = Cache(AsyncStore())
        for n in (1, 2):
            got = await create_workflow(cache=cache)(_asks(n))
            value = got.unwrap()
        return await cache.accept("k"), value

    def _asks(n: int) -> Any:
        async def body(step: Any) -> int:
            return await step(lambda: n, key="k")

        return body

    accepted, value = asyncio.run(main())
    assert (accepted.keys, value) == (("k",), 1)


def test_d4_an_input_that_the_edit_brought_counts_from_then_on_but_no_container(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c")
    create_workflow(cache=cache)(lambda step: step(lambda: 1, key="k"))
    prompt, log = "Label this", [1]
    create_workflow(cache=cache)(lambda step: step(lambda: (1, prompt, log), key="k"))
    assert cache.accept("k").keys == ("k",)
    (meta,) = cache.entries()
    assert sorted(meta.facts.inputs) == ["", "prompt"]


def test_d4_an_accepted_entry_counts_in_a_limit(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", max_bytes=100_000)
    for key in ("other", "k", "k"):
        n = len(cache.keys())
        create_workflow(cache=cache)(lambda step, n=n, key=key: step(lambda: (n, bytes(40_000))[1], key=key))
    assert cache.accept("k").keys == ("k",)
    assert (cache.get("k"), cache.trash().entries, sorted(cache.keys())) == (bytes(40_000), 0, ["k", "other"])


SECRET = """
def fetch(uid):
    password = "hunter2-hunter2"
    return uid
"""


def test_d4_the_source_of_functions_is_kept_without_secrets(shell: Shell, tmp_path: Path) -> None:
    shell.good(SECRET)
    shell.good("%%workflow\nstep(lambda: fetch(1), key='k')")
    assert _kept("k").facts.sources["fetch"].startswith("def fetch(uid):\n    password = ")
    shell.good(SECRET.replace("return uid", "return uid + 1"))
    shell.good("%%workflow\nstep(lambda: fetch(1), key='k')")
    text = shell.good("%nbstep show k").text
    shell.good("%nbstep accept k")
    everything = b"".join(path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert "+    return uid + 1" in text
    assert ("hunter2" in text, b"hunter2" in everything) == (False, False)


def test_d4_long_sources_are_left_out_and_show_says_so(shell: Shell) -> None:
    long = "def big(n):\n" + "".join(f"    n += {at}  # {'x' * 60}\n" for at in range(100)) + "    return n"
    shell.good(long)
    shell.good("%%workflow\nstep(lambda: big(1), key='k')")
    assert dict(_kept("k").facts.sources) == {}
    shell.good(long.replace("return n", "return -n"))
    shell.good("%%workflow\nstep(lambda: big(1), key='k')")
    assert "Its source is not known: it is long, or Python kept no text of it." in shell.good("%nbstep show k").text


def test_d4_show_explains_a_miss_and_a_plain_hit(shell: Shell) -> None:
    shell.good("%%workflow\nstep(lambda: 1, key='k')")
    assert "last asked  just now; it ran: first time under this key" in shell.good("%nbstep show k").text
    shell.good("%%workflow\nstep(lambda: 1, key='k')")
    text = shell.good("%nbstep show k").text
    assert "last asked  just now; what is kept was used\n" in text
    assert "accept" not in text
    shell.good("%%workflow --rerun-drifted\nstep(lambda: 2, key='k')")
    assert "it ran: its code or an input had changed (the step was edited)" in shell.good("%nbstep show k").text


def test_d4_show_as_json_has_them_too(shell: Shell) -> None:
    _drift(shell)
    record = json.loads(shell.good("%nbstep show clean --json").text)
    assert record["inputs"] == [{"name": "cut", "text": "1 then, 2 now", "changed": True}]
    assert list(record["differences"]) == ["tidy()"]
    assert record["accepted"] is None


@pytest.mark.kernel
def test_d4_in_a_notebook_the_diff_has_colours_and_is_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kernels import open_kernel

    monkeypatch.setenv("NBSTEP_DIR", str(tmp_path / "cache"))
    with open_kernel() as kernel:
        kernel.good("def tidy(x):\n    return x, '<b>old</b>'")
        kernel.good("%%workflow\nstep(lambda: tidy(1), key='k')")
        kernel.good(
            "class Row:\n    scale = 1\n    def of(self, x): return x\ndef tidy(x):\n    return Row().of(x), '<b>new</b>'"
        )
        kernel.good("%%workflow\nstep(lambda: tidy(1), key='k')")
        (shown,) = kernel.good("%nbstep show k").of("display_data")
        page, text = shown["data"]["text/html"], shown["data"]["text/plain"]
        assert "+    return Row().of(x), '<b>new</b>'" in text
        assert "+    return Row().of(x), &#x27;&lt;b&gt;new&lt;/b&gt;&#x27;</span>" in page
        assert "<b>" not in page
        assert page.count("<span style=") == 2
        assert kernel.good("%nbstep accept k").text == "Accepted 1 old value: k. Undo: %nbstep undo\n"
        kernel.good("class Row:\n    scale = 1\n    def of(self, x): return x + 1")
        kernel.good("%%workflow\nstep(lambda: tidy(1), key='k')")
        (shown,) = kernel.good("%nbstep show k").of("display_data")
        assert "+    def of(self, x): return x + 1" in shown["data"]["text/plain"]
