"""%nbstep and %%workflow as IPython's magics: verbs, help, completion."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.completer import provisionalcompleter
from shells import Shell, open_shell


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with open_shell(tmp_path) as opened:
        opened.good("%%workflow w\na = step(lambda: [1, 2], key='user:1')\nb = step(lambda: 3, key='user:2')")
        opened.run("step(lambda: {}['x'], key='bad')")
        yield opened


def test_n6_without_a_verb_it_lists_the_verbs(shell: Shell) -> None:
    text = shell.good("%nbstep").text
    assert all(
        verb in text
        for verb in ("panel", "ls", "show", "rm", "clear", "undo", "retry", "export", "trust", "verify", "gc", "doctor")
    )


def test_n6_the_verbs_work_on_what_cells_kept(shell: Shell) -> None:
    assert all(key in shell.good("%nbstep ls").text for key in ("user:1", "user:2", "bad"))
    assert "KeyError" in shell.good("%nbstep show bad").text
    shell.good("%nbstep rm user:1")
    assert "user:1" not in shell.good("%nbstep ls").text
    shell.good("%nbstep undo")
    assert "user:1" in shell.good("%nbstep ls").text
    shell.good("%nbstep clear")
    assert "user:2" not in shell.good("%nbstep ls").text


def test_n6_show_as_loads_the_value_into_the_notebook(shell: Shell) -> None:
    shell.good("%nbstep show user:1 --as loaded")
    assert shell["loaded"] == [1, 2]


def test_e3_retry_makes_the_failed_step_run_again(shell: Shell) -> None:
    shell.good("%nbstep retry bad")
    assert "✕ bad  failed  KeyError: 'x'" in shell.run("step(lambda: {}['x'], key='bad')").text


CACHES = {
    "list": "[folder, 'memory://team']", "dict": "{}", "folder": "folder", "path": "pathlib.Path(folder)",
    "cache": "nbstep.Cache(folder)", "spaces": "folder + ' of mine'", "path with spaces": "pathlib.Path(folder + ' of mine')",
    "URL": "'memory://team'", "quotation mark": "folder + \"'s {own}\"",
}  # fmt: skip


@pytest.mark.parametrize("cache", CACHES.values(), ids=CACHES)
def test_n6_a_name_behind_cache_is_the_cache_that_a_cell_means_by_it(shell: Shell, tmp_path: Path, cache: str) -> None:
    shell.good(f"import nbstep, pathlib\nfolder = {str(tmp_path / 'other')!r}\nplace = {cache}")
    shell.good("%%workflow --cache $place\nstep(lambda: 1 / 0, key='e', on_error='keep'); step(lambda: 1, key='k')")
    assert "k  " in shell.good("%nbstep ls --cache $place").text
    assert "user:1" not in shell.good("%nbstep ls --cache=$place").text
    assert "user:1" in shell.good("%nbstep ls").text
    assert "Deleted 1 kept error" in shell.good("%nbstep retry --cache $place").text
    gone = shell.good("%nbstep rm k --cache $place").text
    assert "Deleted 1 entry" in gone
    assert "Restored 1 entry: k" in shell.good(f"%{gone.partition('Undo: %')[2]}").text  # what it says works
    shell.good("def inside(where, key):\n    %nbstep rm $key --cache $where")
    assert "Deleted 1 entry" in shell.good("inside(place, 'k')").text


@pytest.mark.parametrize(
    ("cache", "says"),
    [
        ("$nowhere", "--cache $nowhere: there is no 'nowhere' in this notebook"),
        ("$nothing", "--cache $nothing: that is None, which keeps nothing"),
        ("$number", "--cache $number: "),
    ],
)
def test_n6_a_name_behind_cache_that_is_none_is_called_out(shell: Shell, cache: str, says: str) -> None:
    shell.good("nothing = None; number = 7")
    ran = shell.run(f"%nbstep ls --cache {cache}")
    assert type(ran.error).__name__ == "CellStopped"
    assert says in str(ran.error)


def test_n6_a_name_behind_cache_may_be_quoted_and_have_attributes_and_braces_beside_it(shell: Shell) -> None:
    shell.good("import types\na = {}\nhere = types.SimpleNamespace(cache=a)")
    shell.good("%%workflow --cache $a\nfor k in ('{\"u\": 1}', 'k:{q}'): step(lambda: 1, key=k)")
    assert "k:{q}" in shell.good("%nbstep show --cache $a 'k:{q}'").text
    assert "Deleted 1 entry" in shell.good("%nbstep rm --cache $a '{\"u\": 1}'").text
    for name in ('"$a"', "'$a'", "$here.cache"):
        assert "k:{q}" in shell.good(f"%nbstep ls --cache {name}").text
    assert "there is no 'here.other' in this notebook" in str(shell.run("%nbstep ls --cache $here.other").error)
    shell.good("far = ['fo', 'redis://:s3cret@127.0.0.1:1/0']")
    assert "s3cret" not in shell.run('%nbstep ls --cache "$far"').text


def test_e3_retry_of_a_cache_in_a_variable_is_for_what_the_last_cell_met_there(shell: Shell) -> None:
    shell.good("a, b = {}, {}\ndef bad(): raise ValueError('no')")
    for name in ("b", "a"):
        shell.good(f"%%workflow --cache ${name}\nstep(bad, key='E', on_error='keep')")
    assert "is not logged. All kept errors: %nbstep retry --cache $b '*'" in shell.run("%nbstep retry --cache $b").text
    assert "Deleted 1 kept error" in shell.good("%nbstep retry --cache $a").text


def test_n6_names_and_expressions_in_a_command_are_filled_in(shell: Shell) -> None:
    shell.good("key, n = 'user:1', 1")
    for line in ("$key", "user:{n}", "user:{n + 0}"):
        assert "user:1" in shell.good(f"%nbstep show {line}").text


@pytest.mark.parametrize("line", ["nonsense", "rm", "show user:1 --nonsense"])
def test_a_wrong_command_fails_the_cell_in_one_message_without_a_traceback(shell: Shell, line: str) -> None:
    ran = shell.run(f"%nbstep {line}")
    assert type(ran.error).__name__ == "CellStopped"
    assert "Traceback" not in ran.text


def test_n6_panel_prints_a_table_where_there_are_no_widgets(shell: Shell) -> None:
    assert "user:1" in shell.good("%nbstep panel").text


def test_n1_help_is_the_magic_s_docstring(shell: Shell) -> None:
    for call in ("%%workflow?", "%workflow?", "%workflow"):
        assert "--retry-errors" in shell.good(call).text or call.endswith("?")
    assert "--stale-if-error" in shell.ip.magics_manager.magics["cell"]["workflow"].__doc__
    assert shell.ip.find_magic("nbstep").__doc__.startswith("Looks at and clears what nbstep keeps")


def test_every_flag_stands_in_the_help() -> None:
    from nbstep.notebook.flags import _FLAGS
    from nbstep.notebook.helptext import WORKFLOW_HELP

    assert [flag for flag in _FLAGS if flag not in WORKFLOW_HELP] == []


def test_the_magics_are_listed_and_completed(shell: Shell) -> None:
    assert "workflow" in shell.good("%lsmagic").text
    with provisionalcompleter():
        assert "%%workflow" in [c.text for c in shell.ip.Completer.completions("%%workf", 7)]
        assert "%nbstep" in [c.text for c in shell.ip.Completer.completions("%nbst", 5)]


def test_run_cell_magic_by_name_works_and_fails_as_the_cell_would(shell: Shell) -> None:
    shell.good("get_ipython().run_cell_magic('workflow', 'w', 'x = step(lambda: 9, key=\"nine\")')")
    assert shell["x"] == 9
    ran = shell.run("get_ipython().run_cell_magic('workflow', 'w', 'step(lambda: 1 / 0, key=\"zero\")')")
    assert isinstance(ran.error, ZeroDivisionError)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("%%workflow w\n", "incomplete"),
        ("%%workflow w\nx = 1\n", "incomplete"),
        ("%%workflow w\nx = 1\n\n", "complete"),
        ("# %%workflow w\nx = (", "incomplete"),
    ],
)
def test_a_terminal_waits_for_the_end_of_the_cell(shell: Shell, text: str, status: str) -> None:
    """Else it would run the first line the moment Enter is pressed."""
    assert shell.ip.check_complete(text)[0] == status


@pytest.mark.parametrize("verb", ["show k", "rm k", "undo"])
def test_n9_what_is_not_found_says_where_the_last_cell_keeps(shell: Shell, verb: str, tmp_path: Path) -> None:
    shell.good(f"%%workflow --cache {tmp_path / 'other'}\nx = step(lambda: 1, key='k')")
    text = shell.good(f"%nbstep {verb}").text
    word, *names = verb.split()
    asked = " ".join([word, "--cache", str(tmp_path / "other"), *names])
    assert text.splitlines()[-1] == f"The last cell keeps its steps elsewhere: %nbstep {asked}"
    shell.good("%%workflow\nx = step(lambda: 1, key='k')")
    for line in ("%nbstep show k", "%nbstep show nothing", "%nbstep rm k", "%nbstep undo"):
        assert "elsewhere" not in shell.good(line).text
