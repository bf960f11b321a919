"""%%step cells in a real IPython shell: N5, by running cells as a user does and counting how often their bodies ran."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from shells import Shell, open_shell

from nbstep import Cache
from nbstep.errors import CellStopped, KeyCollision, RecursiveStep


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with open_shell(tmp_path) as opened:
        opened.good("calls = []")
        yield opened


def forget(shell: Shell, *names: str) -> None:
    for name in names:
        shell.ip.user_ns.pop(name, None)


def without_list(text: str) -> str:
    """What the cell itself showed: the step list comes last."""
    return re.split(r"^1 step", text, flags=re.MULTILINE)[0]


# names


def test_n5_a_hit_brings_back_the_names_and_skips_the_body(shell: Shell) -> None:
    cell = "%%step model\ncalls.append(1)\nrows = [1, 2, 3]\ntotal = sum(rows)"
    assert "✓ model  ran" in shell.good(cell).text
    forget(shell, "rows", "total")
    ran = shell.good(cell)
    assert "✓ model  cached" in ran.text
    assert (shell["rows"], shell["total"], shell["calls"]) == ([1, 2, 3], 6, [1])


def test_n6_lists_say_that_it_is_a_cell_and_its_names(shell: Shell) -> None:
    shell.good("%%step model\nrows = [1, 2, 3]\ntotal = sum(rows)")
    shell.good("%%step quiet\nprint('no names')")
    shell.good("%%step many\na = b = c = d = e = f = g = h = 1")
    listed = shell.good("%nbstep ls").text
    assert re.search(r"model +a cell with rows, total  ", listed)
    assert re.search(r"quiet +a cell with no names  ", listed)
    assert re.search(r"many +a cell with a, b, c, d, e, f and 2 more  ", listed)
    told = shell.good("%nbstep show model").text
    assert "  a cell with rows, total\n" in told
    assert "a cell with rows: list 3 items, total: int" in told
    assert "KeptCell" not in listed + told


def test_n5_the_comment_spelling_is_the_same(shell: Shell) -> None:
    for _ in range(2):
        shell.good("# %%step model\ncalls.append(1)\nx = 5")
    assert (shell["x"], shell["calls"]) == (5, [1])


def test_n5_two_names_of_one_object_stay_one_object(shell: Shell) -> None:
    cell = "%%step k\na = [1]\nb = {'a': a}"
    shell.good(cell)
    forget(shell, "a", "b")
    shell.good(cell)
    assert shell["b"]["a"] is shell["a"]


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ("for i in range(3):\n    squares = i * i", {"i": 2, "squares": 4}),
        ("if (n := 4) > 3:\n    a, (b, *c) = 1, (2, 3, 4)", {"n": 4, "a": 1, "b": 2, "c": [3, 4]}),
        ("def put():\n    global hidden\n    hidden = 7\nput()", {"hidden": 7}),
        ("table['x'] = 1", {"table": {"x": 1}}),
        ("%time t = 40 + 2", {"t": 42}),
        ("exec('made = 3')", {"made": 3}),
        ("match {'a': 1}:\n    case {'a': got, **rest}:\n        pass", {"got": 1, "rest": {}}),
        ("try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    said = str(error)", {"said": "division by zero"}),
        ("%%time\nbelow = 6", {"below": 6}),
    ],
)
def test_n5_every_name_the_cell_binds_comes_back(shell: Shell, body: str, names: dict[str, object]) -> None:
    cell = f"%%step k\n{body}"
    shell.good("table = {}")
    shell.good(cell)
    forget(shell, *names)
    ran = shell.good(cell)
    assert "k  cached" in ran.text
    assert {name: shell[name] for name in names} == names
    assert "error" not in shell.ip.user_ns


def test_n5_imports_and_definitions_run_on_a_hit_too(shell: Shell) -> None:
    cell = "%%step k\nimport json as j\nK = 2\ndef double(x):\n    return K * x\ncalls.append(1)\ny = double(21)"
    shell.good(cell)
    forget(shell, "j", "double", "y", "K")
    shell.good(cell)
    assert shell["y"] == 42
    shell.good("K = 3")  # a function of the notebook sees the notebook's names
    assert shell["double"](1) == 3
    assert shell["j"].loads("1") == 1
    assert shell["calls"] == [1]


def test_n5_an_edited_function_is_not_undone_by_a_hit(shell: Shell) -> None:
    cell = "%%step k --out f,y\ndef f():\n    return {}\ny = 1"
    shell.good(cell.format(1))
    shell.good(cell.format(2))
    assert shell["f"]() == 2


def test_n5_a_name_that_had_the_same_value_before_is_kept_too(shell: Shell) -> None:
    shell.good("x = None")
    shell.good("%%step k\nx = None")
    forget(shell, "x")
    shell.good("%%step k\nx = None")
    assert shell["x"] is None


def test_n5_objects_of_the_cell_s_own_classes_are_of_the_notebook_s_class(shell: Shell) -> None:
    cell = "%%step k\nclass Point:\n    def __init__(self, x):\n        self.x = x\np = Point(3)"
    shell.good(cell)
    forget(shell, "Point", "p")
    shell.good(cell)
    assert isinstance(shell["p"], shell["Point"])


def test_n5_a_lambda_that_comes_back_sees_the_notebook_s_names(shell: Shell) -> None:
    shell.good("factor = 2")
    cell = "%%step k\ntimes = lambda x: factor * x"
    shell.good(cell)
    forget(shell, "times")
    shell.good(cell)
    shell.good("factor = 10")
    assert shell["times"](4) == 40


def test_n5_out_keeps_these_names_and_no_other(shell: Shell) -> None:
    cell = "%%step k --out a,b\na, b, c = 1, 2, (x for x in [])"
    shell.good(cell)
    forget(shell, "a", "b", "c")
    shell.good(cell)
    assert (shell["a"], shell["b"]) == (1, 2)
    assert "c" not in shell.ip.user_ns


def test_n5_a_promised_name_that_the_cell_does_not_bind_is_an_error_and_nothing_is_kept(shell: Shell) -> None:
    ran = shell.run("%%step k --out a,b\na = 1")
    assert isinstance(ran.error, CellStopped)
    assert "--out b: this cell gives `b` no value, so nothing was kept" in ran.text
    assert "k" not in Cache()
    assert shell["a"] == 1


def test_n5_a_name_that_cannot_be_kept_is_named_and_the_results_stay(shell: Shell) -> None:
    ran = shell.good("%%step k\nx = 1\nlines = (n for n in range(3))")
    assert ran.text.count("lines is a generator") == 1  # in the line under the list
    assert "k was not kept: lines is a generator, which cannot be pickled" in ran.text
    assert shell["x"] == 1
    assert list(shell["lines"]) == [0, 1, 2]
    assert "k" not in Cache()


def test_n5_a_file_closed_by_its_with_is_no_result(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("hello")
    cell = f"%%step k\nwith open({str(tmp_path / 't.txt')!r}) as f:\n    text = f.read()"
    shell.good(cell)
    forget(shell, "text")
    assert "cached" in shell.good(cell).text
    assert shell["text"] == "hello"


# the key


def test_n5_the_key_takes_names_of_the_notebook(shell: Shell) -> None:
    shell.good("lr = 0.1\ncfg = {'depth': 3}")
    shell.good("%%step cv:{lr}:{cfg[depth]}\nx = lr")
    shell.good("lr = 0.2")
    shell.good("%%step cv:{lr}:{cfg[depth]}\nx = lr")
    assert list(Cache()) == ["cv:0.1:3", "cv:0.2:3"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "%%step needs a key: %%step KEY"),
        ("a b", "%%step takes one key, got 'a' and 'b'; quote a key with spaces"),
        ("cv:{lr}", "the key 'cv:{lr}' asks for `lr`, and there is no such name in this notebook"),
        ("cv:{}", "the key 'cv:{}' has an empty {}: write the name in it, as in {uid}"),
        ("cv:{client}", "the key 'cv:{client}': step.key cannot turn"),
        ("cv:{cfg[x]}", "the key 'cv:{cfg[x]}': KeyError: 'x'"),
        ("k --out a-b", "--out takes names, as in --out df,model; got 'a-b'"),
        ("k --result r", "%%step has no flag --result"),
        ("k --refesh", "%%step has no flag --refesh"),
    ],
)
def test_n5_a_wrong_line_stops_the_cell_before_it_runs(shell: Shell, line: str, said: str) -> None:
    shell.good("client = object()\ncfg = {}")
    ran = shell.run(f"%%step {line}\ncalls.append(1)")
    assert isinstance(ran.error, CellStopped)
    assert said in ran.text
    assert shell["calls"] == []


def test_n5_a_key_may_hold_a_hash_and_a_comment_may_follow(shell: Shell) -> None:
    shell.good("%%step cv:#3fa9 --ttl 1h  # the model's\nx = 1")
    assert list(Cache()) == ["cv:#3fa9"]


def test_k7_a_key_that_cannot_work_is_called_out(shell: Shell) -> None:
    shell.good("text = 'a\\nb'")
    assert "doc:a\\nb: the key holds a line break" in shell.good("%%step doc:{text}\nx = 1").text


def test_c4_a_step_inside_may_not_ask_for_its_cell_s_key(shell: Shell) -> None:
    ran = shell.run("%%step k\nstep(lambda: 1, key='k')")
    assert isinstance(ran.error, RecursiveStep)


def test_k8_a_cell_and_a_step_do_not_share_a_key(shell: Shell) -> None:
    shell.good("x = step(lambda: 1, key='value')\n")
    ran = shell.run("%%step value\ncalls.append(1)")
    assert isinstance(ran.error, KeyCollision)
    assert "'value' keeps what a step(…) gave, and this is a %%step cell" in ran.text
    shell.good("%%step cell\ny = 1")
    ran = shell.run("step(lambda: 2, key='cell')")
    assert isinstance(ran.error, KeyCollision)
    assert "'cell' keeps a %%step cell" in ran.text
    assert shell["calls"] == []


# errors


def test_e1_a_cell_s_error_is_kept_and_comes_back_with_its_note(shell: Shell) -> None:
    cell = "%%step k\n\ncalls.append(1)\n{}['gone']"
    first = shell.run(cell)
    assert isinstance(first.error, KeyError)
    assert "line 4" in first.text
    assert "----> 4 {}['gone']" in first.text
    assert "hidden" not in first.text
    assert "nbstep/" not in first.text.split("cache ")[0]
    ran = shell.run(cell)
    assert isinstance(ran.error, KeyError)
    assert "From the cache: k failed" in ran.text
    assert "Try again:   %nbstep retry k" in ran.text
    assert "# %%step k" in ran.text
    assert "k  failed (cached)" in ran.text
    assert shell["calls"] == [1]
    shell.run("%%step k\n\ncalls.append(1)\n{}['edited']")
    assert shell["calls"] == [1, 1]


def test_e2_what_is_never_kept_runs_again(shell: Shell) -> None:
    for _ in range(2):
        assert isinstance(shell.run("%%step k\ncalls.append(1)\nnot_defined").error, NameError)
        assert isinstance(shell.run("%%step s\nraise KeyboardInterrupt").error, KeyboardInterrupt)
    assert shell["calls"] == [1, 1]
    assert list(Cache()) == []


def test_e2_the_error_of_a_step_inside_belongs_to_that_step(shell: Shell) -> None:
    cell = "%%step outer\ncalls.append(1)\nx = step(lambda: {}['gone'], key='inner')"
    assert isinstance(shell.run(cell).error, KeyError)
    assert list(Cache()) == ["inner"]
    assert isinstance(shell.run(cell).error, KeyError)
    assert shell["calls"] == [1, 1]


def test_e1_stop_iteration_is_an_error_like_any_other(shell: Shell) -> None:
    for _ in range(2):
        assert isinstance(shell.run("%%step k\ncalls.append(1)\nnext(iter([]))").error, StopIteration)
    assert shell["calls"] == [1]


def test_e6_stale_if_error_brings_back_the_last_good_cell(shell: Shell) -> None:
    shell.good("bad = False")
    cell = "%%step k --ttl 0s --stale-if-error\nif bad:\n    raise OSError('no answer')\nx = 5\nprint('five')"
    shell.good(cell)
    shell.good("bad = True")
    forget(shell, "x")
    ran = shell.good(cell)
    assert shell["x"] == 5
    assert "five" in ran.text
    assert "refetch failed" in ran.text


def test_n2_a_syntax_error_is_python_s_own(shell: Shell) -> None:
    assert isinstance(shell.run("%%step k\nx = (").error, SyntaxError)


# policy


def test_w2_flags_of_the_policy(shell: Shell) -> None:
    for _ in range(2):
        shell.good("%%step k --ttl 0s\ncalls.append(1)")
    assert shell["calls"] == [1, 1]
    shell.good("%%step k --mode refresh\ncalls.append(1)")
    assert shell["calls"] == [1, 1, 1]
    assert "mode offline" in shell.run("%%step other --mode offline\ncalls.append(1)").text
    assert shell["calls"] == [1, 1, 1]


def test_d3_an_edited_cell_is_an_old_value(shell: Shell) -> None:
    shell.good("def helper(x):\n    return x\nrows = [1]")
    shell.good("%%step k\nx = helper(1)")
    assert "k  cached" in shell.good("%%step k\n# a comment\nx = helper( 1 )").text
    assert "the step was edited" in shell.good("%%step k\nx = helper(2)").text
    shell.good("def helper(x):\n    return -x")
    assert "helper() was edited" in shell.good("%%step k\nx = helper(1)").text
    shell.good("%%step k --rerun-drifted\nx = helper(1)")
    assert shell["x"] == -1


@pytest.mark.parametrize(
    "line",
    [
        "text = Path('p.csv').read_text()",
        "parts = [Path(name).read_text() for name in ['p.csv', 'q.csv'] if name[0] == 'p']",
    ],
)
def test_d3_a_changed_file_that_a_cell_names_is_named(line: str, shell: Shell, tmp_path: Path) -> None:
    cell = f"%%step load\n{line}"
    shell.good("from pathlib import Path")
    with contextlib.chdir(tmp_path):
        Path("p.csv").write_text("a\n1\n")
        assert "✓ load  ran" in shell.good(cell).text
        Path("p.csv").write_text("a\n1\n2\n3\n")
        assert "▲ load  old value  p.csv: 4 B before, 8 B now" in shell.good(cell).text


def test_d3_a_changed_input_of_a_cell_is_named(shell: Shell) -> None:
    shell.good("n = 1")
    shell.good("%%step k\nx = n + 1")
    assert "k  cached" in shell.good("%%step k\nx = n + 1").text
    shell.good("n = 2")
    assert "`n` was 1, is now 2" in shell.good("%%step k\nx = n + 1").text


def test_d4_the_inputs_of_a_cell_are_those_that_it_names(shell: Shell) -> None:
    shell.good("n = 1")
    shell.good("%%step k\nx = n + 1")
    assert re.search(r"\nInputs\n  n  1\n\n", shell.good("%nbstep show k").text)
    shell.good("n = 2")
    shell.good("%%step k\nx = n + 1")
    assert "\nRe-run it: %%step … --rerun-drifted, or %nbstep rm k\n" in shell.good("%nbstep show k").text


def test_d1_what_the_cell_defines_itself_is_no_change_in_a_new_kernel(shell: Shell) -> None:
    cell = "%%step k\ndef own(x):\n    return x\ny = own(1)"
    shell.good(cell)
    forget(shell, "own", "y")
    assert "k  cached" in shell.good(cell).text
    assert "k  cached" in shell.good(cell).text


def test_n5_steps_inside_a_cell_are_listed_below_it(shell: Shell) -> None:
    ran = shell.good("%%step whole\nx = step(lambda: 1, key='part')")
    assert "2 steps: 2 ran" in ran.text
    assert "  ✓   part" in ran.text
    assert "1 step: 1 cached" in shell.good("%%step whole\nx = step(lambda: 1, key='part')").text


def test_n1_the_name_step_may_not_be_taken(shell: Shell) -> None:
    assert "assigns `step`" in shell.run("%%step k\nstep = 1").text


# what the cell displayed


def test_n5_what_was_shown_is_shown_again_in_order(shell: Shell) -> None:
    cell = (
        "%%step k\nimport sys\nprint('one')\ndisplay({'a': 1})\nprint('two', file=sys.stderr)\nprint('three')\n"
        "calls.append(1)\n[4, 2]"
    )
    first = shell.good(cell)
    assert first.value == [4, 2]
    again = shell.good(cell)
    assert shell["calls"] == [1]
    number = r"Out\[\d+\]"
    assert re.sub(number, "Out", without_list(again.text)) == re.sub(number, "Out", without_list(first.text))
    assert "[4, 2]" in again.text


def test_n5_a_semicolon_shows_nothing_either_time(shell: Shell) -> None:
    for _ in range(2):
        assert "Out[" not in shell.good("%%step k\n[1, 2];").text


def test_n5_output_is_shown_while_the_cell_runs(shell: Shell) -> None:
    ran = shell.good("%%step k\nimport sys\nprint('live')\nseen = 'live' in sys.stdout.getvalue()")
    assert shell["seen"] is True
    assert "live" in ran.text


def test_n5_the_streams_are_as_before_afterwards(shell: Shell) -> None:
    import sys

    before = sys.stdout, shell.ip.display_pub.publish
    shell.run("%%step k\nprint(1)\n1 / 0")
    shell.good("%%step l\nprint(1)")
    shell.good("%%step l\nprint(1)")
    assert (sys.stdout, shell.ip.display_pub.publish) == before
    assert "publish" not in vars(shell.ip.display_pub)


def test_n5_output_without_measure_is_cut_and_the_list_says_so(shell: Shell) -> None:
    cell = "%%step k\nfor n in range(130):\n    print('x' * 99_999)"
    assert (
        "k: only the first 8.0 MB of its output are kept, a hit leaves out the other 5.0 MB: let the cell print less"
        in shell.good(cell).text
    )
    again = shell.good(cell)
    assert "k  cached" in again.text
    assert without_list(again.text).count("x") < 8_000_001


def test_n5_cleared_output_is_not_kept(shell: Shell) -> None:
    cell = "%%step k\nfrom IPython.display import clear_output\nprint('before')\nclear_output()\nprint('after')"
    shell.good(cell)
    again = shell.good(cell)
    assert "before" not in again.text
    assert "after" in again.text


# async


def test_n5_top_level_await(shell: Shell) -> None:
    cell = "%%step k\nimport asyncio\nawait asyncio.sleep(0)\ncalls.append(1)\nx = await asyncio.sleep(0, 7)\nx"
    assert shell.good(cell).value == 7
    forget(shell, "x")
    shell.good(cell)
    assert (shell["x"], shell["calls"]) == (7, [1])


def test_e1_an_error_of_a_cell_that_awaits(shell: Shell) -> None:
    cell = "%%step k\nimport asyncio\nawait asyncio.sleep(0)\ncalls.append(1)\n{}['gone']"
    assert "----> 5 {}['gone']" in shell.run(cell).text
    ran = shell.run(cell)
    assert isinstance(ran.error, KeyError)
    assert "From the cache: k failed" in ran.text
    assert shell["calls"] == [1]


def test_n5_a_store_whose_methods_are_async_is_refused_with_the_way_out(shell: Shell) -> None:
    shell.good(
        "class S:\n    def __init__(self): self.d = {}\n    async def get(self, k): return self.d.get(k)\n"
        "    async def set(self, k, v): self.d[k] = v\n    async def has(self, k): return k in self.d\n"
        "    async def delete(self, k): return self.d.pop(k, None)\nslow = S()"
    )
    ran = shell.run("%%step k --cache $slow\ncalls.append(1)")
    assert isinstance(ran.error, CellStopped)
    assert "await step(…)" in ran.text
    assert shell["calls"] == []
