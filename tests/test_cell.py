"""%%workflow cells in a real IPython shell: N1, N2, N8 and W5, by running cells as a user does."""

from __future__ import annotations

import re
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from shells import Shell, open_shell

import nbstep
from nbstep.events import Event, RunFinished, RunStarted, StepAsked, listen
from nbstep.notebook.live import StepListView
from nbstep.result import Err, Ok


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with open_shell(tmp_path) as opened:
        yield opened


@pytest.fixture
def heard() -> Iterator[list[Event]]:
    events: list[Event] = []
    stop = listen(events.append)
    yield events
    stop()


def runs(events: list[Event]) -> list[tuple[str | None, str]]:
    """The names of the runs that were opened and how they ended."""
    names = {e.run: e.name for e in events if isinstance(e, RunStarted)}
    return [(names[e.run], e.outcome) for e in events if isinstance(e, RunFinished)]


def test_n3_an_interrupted_step_is_listed_as_such(shell: Shell) -> None:
    ran = shell.run("%%workflow\ndef stop():\n    raise KeyboardInterrupt\nstep(stop, key='k')")
    assert isinstance(ran.error, KeyboardInterrupt)
    assert "■ k  interrupted" in ran.text
    assert "✕" not in ran.text


def test_n1_a_second_interrupt_does_not_keep_the_list_from_its_end(shell: Shell) -> None:
    stop = listen(lambda event: signal.raise_signal(signal.SIGINT) if isinstance(event, RunFinished) else None)
    ran = shell.run("%%workflow one\nstep(lambda: 1, key='a')\nraise KeyboardInterrupt")
    stop()
    assert isinstance(ran.error, KeyboardInterrupt)
    assert "one   1 step: 1 ran" in ran.text
    assert "callback" not in ran.text
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert shell.good("%%workflow two\nstep(lambda: 1, key='a')").value == 1


def test_n1_an_interrupt_as_a_step_begins_leaves_its_key_to_the_next_cell(shell: Shell) -> None:
    def interrupt(frame: FrameType, event: str, called: Any) -> None:
        if (frame.f_code.co_name, event) == ("compute", "c_return") and called.__name__ == "set":
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)

    shell.ip.user_ns["interrupt"] = interrupt
    ran = shell.run("import sys\nsys.setprofile(interrupt)\nstep(lambda: 1, key='k')")
    assert isinstance(ran.error, KeyboardInterrupt)
    assert shell.good("step(lambda: 2, key='k')").value == 2


def test_n1_an_interrupt_as_the_list_is_told_does_not_keep_the_next_step_from_telling_it() -> None:
    event, at, interrupted = RunFinished("r", 0.0, "ok", 0.0), 0, True
    while interrupted:
        view = StepListView(lambda *_, **__: None, print)
        left = at = at + 1

        def interrupt(_frame: FrameType, event: str, _given: object) -> None:
            nonlocal left
            left -= event in {"call", "c_return"}
            if left == 0:
                sys.setprofile(None)
                signal.raise_signal(signal.SIGINT)

        try:
            sys.setprofile(interrupt)
            view(event)
            interrupted = False
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)
        other = threading.Thread(target=view, args=(event,), daemon=True)
        other.start()
        other.join(timeout=30)
        assert not other.is_alive(), f"after an interrupt at call {at}"
    assert at > 3


@pytest.mark.parametrize("handler", ["seen.append", "signal.SIG_IGN"])
@pytest.mark.parametrize("cell", ["step(interrupt, key='k')", "asyncio.run(main())", "%%workflow\nasyncio.run(main())"])
def test_n1_a_cells_own_handler_of_interrupts_is_left_alone(shell: Shell, cell: str, handler: str) -> None:
    shell.good(
        "import asyncio, signal\nseen = []\nown = lambda *given: seen.append(1)\n"
        "def interrupt():\n    signal.raise_signal(signal.SIGINT)\n    return 5\n"
        "async def main():\n    return step(interrupt, key='k')"
    )
    first, _, rest = cell.rpartition("\n")
    own = "own" if handler == "seen.append" else handler
    try:
        ran = shell.good(f"{first}\nsignal.signal(signal.SIGINT, {own})\n{rest}".lstrip())
        assert signal.getsignal(signal.SIGINT) is (shell["own"] if own == "own" else signal.SIG_IGN)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert ran.value == 5
    assert len(shell["seen"]) == (own == "own")


@pytest.mark.parametrize("cell", ["asyncio.run(main())", "%%workflow\nasyncio.run(main())"])
@pytest.mark.parametrize("thunk", ["lambda: 5", "interrupt"])
def test_n1_a_cell_that_runs_a_loop_of_its_own_leaves_pythons_handler(shell: Shell, cell: str, thunk: str) -> None:
    shell.good(
        "import asyncio, signal\ndef interrupt():\n    signal.raise_signal(signal.SIGINT)\n    return 5\n"
        f"async def main():\n    return step({thunk}, key='k')"
    )
    ran = shell.run(cell)
    assert isinstance(ran.error, KeyboardInterrupt) if thunk == "interrupt" else ran.value == 5
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# N1: the body is an ordinary cell


def test_n1_names_persist_and_the_last_expression_is_displayed(shell: Shell) -> None:
    ran = shell.good("%%workflow sales\na = step(lambda: 20, key='a')\nb = 1\na + b + 21")
    assert (ran.value, shell["a"], shell["b"]) == (42, 20, 1)
    assert "sales   1 step: 1 ran" in ran.text


def test_n1_the_comment_spelling_is_the_same_workflow(shell: Shell, heard: list[Event]) -> None:
    shell.good("# %%workflow sales\nx = step(lambda: 1, key='a')")
    assert runs(heard) == [("sales", "ok")]


def test_n1_top_level_await(shell: Shell) -> None:
    shell.good("calls = []\nasync def fetch(n):\n    calls.append(n)\n    return n * 2")
    cell = (
        "%%workflow\nimport asyncio\n"
        "values = await asyncio.gather(*[step(fetch, n, key=f'n:{n}') for n in range(5)])\nvalues"
    )
    assert shell.good(cell).value == [0, 2, 4, 6, 8]
    assert shell.good(cell).value == [0, 2, 4, 6, 8]
    assert shell["calls"] == [0, 1, 2, 3, 4]


def test_n1_kept_across_cells_and_only_missing_steps_run(shell: Shell) -> None:
    shell.good("calls = []\ndef work(n):\n    calls.append(n)\n    return n")
    shell.good("%%workflow\nfor n in range(3):\n    step(work, n, key=f'n:{n}')")
    ran = shell.good("%%workflow\nfor n in range(4):\n    step(work, n, key=f'n:{n}')")
    assert shell["calls"] == [0, 1, 2, 3]
    assert "4 steps: 3 cached" in ran.text
    assert "1 ran" in ran.text


@pytest.mark.parametrize(
    "cell",
    [
        "%%workflow w\n'''a docstring\n  stays'''\nfrom __future__ import annotations\nx = step(lambda: 5, key='k')",
        "%%workflow w\n\n\nx = step(lambda: 5, key='k');",
        "%%workflow w\nx = (step(lambda: '''a\n  b''', key='k') and 5)",
        "%%workflow w\n%time x = step(lambda: 5, key='k')",
        "%%workflow w\n!true\nx = step(lambda: 5, key='k')",
        "%%time\n%%workflow w\nx = step(lambda: 5, key='k')",
        "%%workflow w\n%%time\nx = step(lambda: 5, key='k')",
        "%%workflow w\n\n%%capture out\nx = step(lambda: 5, key='k')",
        "%%capture out\n%%workflow w\nx = step(lambda: 5, key='k')",
    ],
)
def test_n1_what_stands_in_cells_goes_on_working(shell: Shell, heard: list[Event], cell: str) -> None:
    shell.good(cell)
    assert shell["x"] == 5
    assert runs(heard) == [("w", "ok")]


def test_n1_the_list_goes_where_the_cell_s_output_goes(shell: Shell) -> None:
    shell.good("%%capture out\n%%workflow w\nx = step(lambda: 5, key='k')")
    assert "1 step: 1 ran" in shell["out"].stdout


def frames(text: str) -> list[str]:
    """`Cell In[1], line 7` and the like, as IPython shows them; names of files otherwise."""
    return re.findall(r"^(?:File |Cell )(?:In\[\d+\], line \d+|\S+)", text, re.MULTILINE)


def test_n1_an_error_in_line_7_says_line_7_and_shows_no_frame_of_nbstep(shell: Shell) -> None:
    ran = shell.run("%%workflow\n1\n2\n3\n4\n5\nstep(lambda: 1 / 0, key='k')")
    assert isinstance(ran.error, ZeroDivisionError)
    assert "7 step(lambda: 1 / 0, key='k')" in ran.text
    assert frames(ran.text) == ["Cell In[1], line 7", "Cell In[1], line 7"]
    assert "hidden" not in ran.text


@pytest.mark.parametrize("flags", ["", " --mode offline"])
def test_n1_nor_does_one_of_a_cached_function_that_is_refused(shell: Shell, flags: str) -> None:
    ran = shell.run(f"%%workflow w{flags}\n@step.cached('u')\ndef double(n): return n * 2\ndouble(1)\ndouble(2)")
    assert frames(ran.text) == [f"Cell In[1], line {4 if flags else 5}"]


def test_n1_frames_inside_the_thunk_stay(shell: Shell) -> None:
    shell.good("def inner(x):\n    return {}[x]\ndef outer(x):\n    return inner(x)")
    ran = shell.run("%%workflow\n\nstep(outer, 'nope', key='k')")
    assert frames(ran.text) == ["Cell In[2], line 3", "Cell In[1], line 4", "Cell In[1], line 2"]


def test_n1_an_await_in_a_failing_cell_shows_the_user_s_lines_only(shell: Shell) -> None:
    ran = shell.run(
        "%%workflow\nimport asyncio\nasync def bad():\n    await asyncio.sleep(0)\n    raise LookupError('gone')\n"
        "await step(bad, key='k')"
    )
    assert isinstance(ran.error, LookupError)
    assert frames(ran.text) == ["Cell In[1], line 6", "Cell In[1], line 5"]


def test_n1_chained_causes_are_trimmed_too(shell: Shell) -> None:
    ran = shell.run(
        "%%workflow\ntry:\n    step(lambda: 1 / 0, key='k')\nexcept ZeroDivisionError as e:\n"
        "    raise RuntimeError('outer') from e"
    )
    assert frames(ran.text) == ["Cell In[1], line 3", "Cell In[1], line 3", "Cell In[1], line 5"]
    assert "hidden" not in ran.text


def test_n1_a_retried_thunk_shows_no_frame_of_the_retries(shell: Shell) -> None:
    shell.good("def bad():\n    raise LookupError('gone')")
    ran = shell.run("%%workflow\n\nstep(bad, key='k', retries=1)")
    assert frames(ran.text) == ["Cell In[2], line 3", "Cell In[1], line 2"]
    shown = shell.good("%nbstep show k").text
    assert "in bad" in shown
    assert "tenacity" not in shown
    assert "/nbstep/" not in shown.replace("/.nbstep", "")


def test_n1_the_lines_around_the_failing_one_are_as_written(shell: Shell) -> None:
    for line in ("%%workflow users", "# %%workflow users"):
        ran = shell.run(f"{line}\nstep(lambda: 1 / 0, key='k')")
        assert "1 # %%workflow users\n" in ran.text
        assert "__import__" not in ran.text
    assert shell.good("import inspect\nf = lambda: 1\ninspect.getsource(f)").value == "f = lambda: 1\n"


def test_n1_a_kept_error_in_a_group_shows_no_frame_of_nbstep(shell: Shell) -> None:
    cell = (
        "%%workflow\nimport asyncio\nasync def bad():\n    raise LookupError('gone')\n"
        "async with asyncio.TaskGroup() as group:\n    group.create_task(step(bad, key='k'))"
    )
    for _ in range(2):
        ran = shell.run(cell)
        assert isinstance(ran.error, ExceptionGroup)
        assert "LookupError: gone" in ran.text
        assert "/nbstep/" not in ran.text.replace("/.nbstep", "")
    assert "Try again:   %nbstep retry k" in ran.text


def test_n9_the_commands_of_the_note_do_what_they_say(shell: Shell, tmp_path: Path) -> None:
    """IPython fills in braces, and a cache that is not the project's must be named."""
    shell.good("uid = 7")
    cell = f"%%workflow --cache '{tmp_path / 'other one'}'\nstep(lambda: 1 / 0, key='user:{{uid}} x')"
    shell.run(cell)
    ran = shell.run(cell)
    for verb, said in (("show", "ZeroDivisionError"), ("retry", "Deleted 1 kept error")):
        (command,) = re.findall(rf"(%nbstep {verb} .*?)$", ran.text, re.MULTILINE)
        assert said in shell.good(command).text


def test_await_of_a_plain_step_says_what_to_leave_out(shell: Shell) -> None:
    ran = shell.run("%%workflow\nawait step(lambda: 1, key='k')")
    assert isinstance(ran.error, TypeError)
    assert "its thunk is not async, so step gave a plain value. Leave out `await`." in ran.text


def test_await_of_a_plain_step_in_an_item_says_what_to_leave_out(shell: Shell) -> None:
    shell.good("async def fetch(n):\n    return await step(lambda: n, key=f'inner:{n}')")
    ran = shell.run("%%workflow\nawait step.map(fetch, range(2), key='n:{}')")
    assert "step.map: item 1 of 2 failed (n:0), and 1 other." in ran.text
    assert "Leave out `await`." in ran.text


def test_n1_comments_may_stand_before_the_line(shell: Shell, heard: list[Event]) -> None:
    for line in ("%%workflow sales --mode refresh", "# %%workflow sales --mode refresh"):
        heard.clear()
        ran = shell.run(f"# What sells\n\n{line}\n\nstep(lambda: 1 / 0, key='k')")
        assert [event.mode for event in heard if isinstance(event, RunStarted)] == ["refresh"]
        assert frames(ran.text)[0].endswith("line 5")


def test_n2_result_after_a_docstring_and_the_future(shell: Shell) -> None:
    cell = '%%workflow --result r\n"""What it does."""\nfrom __future__ import annotations\nstep(lambda: 7, key="k")'
    shell.good(cell)
    assert shell["r"].value == 7


def test_n1_a_step_in_the_history_of_outputs_is_no_other_name(shell: Shell) -> None:
    shell.good("step")
    assert type(shell.run("%%workflow\nfor step in range(2): pass").error).__name__ == "CellStopped"


def test_n2_a_bug_leaves_no_result_of_an_earlier_run(shell: Shell) -> None:
    shell.good("%%workflow --result out\nstep(lambda: 5, key='k')")
    assert isinstance(shell.run("%%workflow --result out\nint('x')").error, ValueError)
    assert "out" not in shell.ip.user_ns


def test_t10_a_failure_s_secrets_stand_in_no_list(shell: Shell) -> None:
    cell = "%%workflow\nx = step(fail, key='k', on_error='keep')"
    shell.good("def fail():\n    raise ValueError('GET https://api.x.com/v1?api_key=SECRET123&page=2')")
    for _ in range(2):
        text = shell.good(cell).text
        assert "SECRET123" not in text
        assert "page=2" in text


def test_a_variable_s_name_is_no_folder_by_mistake(shell: Shell, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    shell.good("mine = {}")
    ran = shell.run("%%workflow --cache mine\nstep(lambda: 1, key='k')")
    assert "write --cache $mine" in ran.text
    assert not (tmp_path / "mine").exists()
    shell.good("%%workflow --cache $mine\nstep(lambda: 1, key='k')")
    assert list(shell["mine"]) == ["k"]


def test_n1_tb_shows_the_trimmed_traceback_again(shell: Shell) -> None:
    shell.run("%%workflow\n\nstep(lambda: 1 / 0, key='k')")
    assert frames(shell.good("%tb").text) == ["Cell In[1], line 3", "Cell In[1], line 3"]


def test_n1_an_error_of_the_body_is_untouched(shell: Shell) -> None:
    ran = shell.run("%%workflow\nx = step(lambda: 1, key='k')\nx.nope")
    assert isinstance(ran.error, AttributeError)
    assert frames(ran.text) == ["Cell In[1], line 3"]


def test_n1_wrong_arguments_show_the_user_s_line_only(shell: Shell) -> None:
    ran = shell.run("%%workflow\n\nstep(42, key='k')")
    assert isinstance(ran.error, TypeError)
    assert frames(ran.text) == ["Cell In[1], line 3"]


def test_n1_a_syntax_error_is_python_s_own(shell: Shell, heard: list[Event]) -> None:
    ran = shell.run("%%workflow\nx = 1\ny = = 2")
    assert isinstance(ran.error, SyntaxError)
    assert "Cell In[1], line 3" in ran.text
    assert runs(heard) == []


def test_n9_a_limited_cache_of_the_project_needs_no_place_in_commands(shell: Shell, tmp_path: Path) -> None:
    """README: `small = Cache(max_bytes="2 GB")`, then `--cache $small`."""
    shell.good(f"from nbstep import Cache\nsmall, other = Cache(max_bytes='2 GB'), Cache({str(tmp_path / 'other')!r})")
    for name, place in (("small", ""), ("other", " --cache ")):
        for _ in range(2):
            ran = shell.run(f"%%workflow --cache ${name}\nstep(lambda: {{}}['x'], key='k')")
        assert f"%nbstep retry{place}" in ran.error.__notes__[0]
        assert (" --cache " in ran.error.__notes__[0]) == bool(place)


def test_n3_ages_go_by_the_clock_of_the_run(shell: Shell) -> None:
    shell.good(
        "from nbstep import Cache\nfrom nbstep.testing import SettableClock\n"
        "clock = SettableClock()\ncache = clock.drive(Cache('memory:'))"
    )
    shell.good("%%workflow --cache $cache\nstep(lambda: 1, key='k')")
    shell.good("clock.advance('2h')")
    assert re.search(r"k +cached .* 2 h ago", shell.good("%%workflow --cache $cache\nstep(lambda: 1, key='k')").text)


def test_n9_a_kept_failure_ends_with_its_note_and_one_user_frame(shell: Shell) -> None:
    shell.good("def f(x):\n    return {}[x]")
    shell.run("%%workflow\nstep(f, 'nope', key='k')")
    ran = shell.run("%%workflow\n\nstep(f, 'nope', key='k')")
    assert isinstance(ran.error, KeyError)
    assert frames(ran.text) == ["Cell In[3], line 3"]
    assert "Try again:   %nbstep retry k" in ran.text
    assert "✕ k  failed (cached)  KeyError: 'nope'" in ran.text


# N1: the name `step`


def test_n1_step_is_bound_where_the_name_is_free(shell: Shell) -> None:
    assert shell["step"] is nbstep.step
    shell.good("del step")
    shell.good("step(lambda: 1, key='a')")


def test_n1_the_user_s_own_step_stops_the_next_workflow_cell_in_one_line(shell: Shell) -> None:
    shell.good("for step in range(3): pass")
    ran = shell.run("%%workflow\nprint('ran')")
    assert type(ran.error).__name__ == "CellStopped"
    assert ran.text.strip().count("\n") == 0
    assert "run `del step`" in ran.text
    shell.good("del step")
    assert "ran" in shell.good("%%workflow\nprint('ran')").text


def test_n1_a_cell_that_takes_the_name_itself_stops_before_anything_runs(shell: Shell) -> None:
    ran = shell.run("%%workflow\nprint('ran')\nfor step in range(3):\n    print(step)")
    assert type(ran.error).__name__ == "CellStopped"
    assert ran.text.strip() == (
        "CellStopped: line 3 of this cell assigns `step`, the name of nbstep's function: use another name there"
    )


@pytest.mark.parametrize(
    "line",
    [
        "step = 1",
        "with open('x') as step: pass",
        "import os as step",
        "def step(): pass",
        "(step := 1)",
        "del step",
        "match 1:\n    case step: pass",
        "match [1]:\n    case [*step]: pass",
        "match {}:\n    case {**step}: pass",
    ],
)
def test_n1_every_way_to_take_the_name(shell: Shell, line: str) -> None:
    assert type(shell.run(f"%%workflow\n{line}").error).__name__ == "CellStopped"


@pytest.mark.parametrize(
    "line",
    [
        "from nbstep import step",
        "def f(step): step = 1",
        "x = [step for step in (1, 2)]",
        "g = lambda step: step",
        "class A:\n    step = 1",
        "a.step = 1",
    ],
)
def test_n1_what_does_not_take_the_name(shell: Shell, line: str) -> None:
    shell.good("class A: pass\na = A()")
    assert shell.good(f"%%workflow\n{line}\nstep(lambda: 1, key='k')").value == 1


def test_n1_who_keeps_our_step_under_another_name_may_use_this_one(shell: Shell) -> None:
    shell.good("from nbstep import step as keep\nstep = 0.5")
    assert shell.good("%%workflow\nkeep(lambda: step, key='k')").value == 0.5
    shell.good("%%workflow\nfor step in range(2):\n    keep(lambda: 1, key='k2')")


# flags


def test_an_unknown_flag_is_one_line_that_names_the_known_ones(shell: Shell) -> None:
    ran = shell.run("%%workflow sales --tll 1h\nprint('ran')")
    assert type(ran.error).__name__ == "CellStopped"
    assert ran.text.strip().startswith("CellStopped: %%workflow has no flag --tll; did you mean --ttl? known: --mode,")
    assert ran.text.strip().count("\n") == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--ttl", "--ttl needs a value"),
        ("--ttl soon", "is no duration"),
        ("--mode quick", "--mode quick: use normal, refresh or offline"),
        ("--retry-errors=1", "--retry-errors takes no value"),
        ("--result 2x", "takes a name"),
        ("--result step", "takes a name"),
        ("a b", "quote a name with spaces"),
        ("'a", "No closing quotation"),
        ("--cache nosuch://x/y", "nosuch"),
        ("--cache $nothing", "there is no 'nothing'"),
        ("--on-drift perhaps", "use warn, rerun, error or ignore"),
        ("--mode --ttl 1h", "--mode needs a value"),
    ],
)
def test_a_wrong_flag_stops_the_cell_in_one_line(shell: Shell, line: str, said: str) -> None:
    ran = shell.run(f"%%workflow {line}\nprint('ran')")
    assert type(ran.error).__name__ == "CellStopped"
    assert said in ran.text
    assert ran.text.strip().count("\n") == 0


@pytest.mark.parametrize(
    ("flag", "meant"), [("--refresh", "--mode refresh"), ("--help", "%%workflow?"), ("--retry", "--retry-errors")]
)
def test_a_flag_by_another_name_is_told_the_right_one(shell: Shell, flag: str, meant: str) -> None:
    assert f"has no flag {flag}; write {meant}" in shell.run(f"%%workflow {flag}\n1").text


def test_flags_reach_the_run(shell: Shell) -> None:
    shell.good("calls = []\ndef f(): calls.append(1)\nmine = {}")
    shell.good("%%workflow 'two words' --cache $mine\nstep(f, key='k')")
    assert list(shell["mine"]) == ["k"]
    ran = shell.good("%%workflow --mode=refresh --cache $mine --ttl 1h  # a comment\nstep(f, key='k')")
    assert shell["calls"] == [1, 1]
    assert "[mode refresh]   [ttl 1h]" in ran.text
    assert type(shell.run("%%workflow --mode offline\nstep(f, key='other')").error).__name__ == "OfflineMiss"


def test_retry_errors_runs_a_kept_failure_again(shell: Shell) -> None:
    shell.good("ready = []\ndef f():\n    if not ready: raise LookupError('not yet')\n    return 7")
    assert isinstance(shell.run("%%workflow\nstep(f, key='k')").error, LookupError)
    shell.good("ready.append(1)")
    assert isinstance(shell.run("%%workflow\nstep(f, key='k')").error, LookupError)
    assert shell.good("%%workflow --retry-errors\nstep(f, key='k')").value == 7


def test_d3_rerun_drifted_runs_old_values_again_once(shell: Shell) -> None:
    shell.good("ran = []\ndef f(n):\n    ran.append(n)\n    return n")
    shell.good(
        "%%workflow\nfor n in (1, 2): step(f, n, key=f'k:{n}', ignore='ran')\nstep(f, 3, key='same', ignore='ran')"
    )
    drifted = "for n in (1, 2): step(f, n + 10, key=f'k:{n}', ignore='ran')\nstep(f, 3, key='same', ignore='ran')"
    ran = shell.good(f"%%workflow w\n{drifted}")
    assert "! 2 old values (k:1, k:2): `n` was 1, is now 11: put it in the key." in ran.text
    assert " See: %nbstep show k:1 · Re-run: %%workflow w --rerun-drifted · Keep: %nbstep accept k:1 k:2" in ran.text
    assert shell["ran"] == [1, 2, 3]
    ran = shell.good(f"%%workflow w --rerun-drifted\n{drifted}\n{drifted}")
    assert shell["ran"] == [1, 2, 3, 11, 12]
    assert "[re-run old values]" in ran.text
    assert "! " not in ran.text


@pytest.mark.parametrize(
    ("line", "again"),
    [
        ("%%workflow w", "%%workflow w --rerun-drifted"),
        ("%%workflow 'my sales' --ttl 1h  # daily", "%%workflow 'my sales' --ttl 1h --rerun-drifted"),
        ("# %%workflow w", "%%workflow w --rerun-drifted"),
        ("", "%%workflow --rerun-drifted"),
        ("%%step k", "%%step k --rerun-drifted"),
        ("%%step k:{m} --out x  # mine", "%%step 'k:{m}' --out x --rerun-drifted"),
        ("%%step k:{m} --out x", "%%step k:{m} --out x --rerun-drifted"),
    ],
)
def test_d3_the_way_out_is_the_first_line_of_the_cell_with_a_flag(shell: Shell, line: str, again: str) -> None:
    shell.good("ran, m = [], 7\ndef f(n):\n    ran.append(n)\n    return n")
    cell = "x = f(NUMBER)" if "step" in line else "x = step(f, NUMBER, key='k', ignore='ran')"
    shell.good(f"{line}\n{cell.replace('NUMBER', '1')}")
    edited = cell.replace("NUMBER", "2")
    told = shell.good(f"{line}\n{edited}").text
    assert f"Re-run: {again}, or %nbstep rm k" in told
    assert shell["x"] == 1
    shell.good(f"{again}\n{edited}")
    assert shell["x"] == 2


def test_d3_what_a_run_kept_it_does_not_run_again_for_drift(shell: Shell) -> None:
    shell.good("%%workflow\nrows = [1]\nstep(lambda: sum(rows), key='k')")
    cell = "rows = [2]\na = step(lambda: sum(rows), key='k')\nrows = [3]\nb = step(lambda: sum(rows), key='k')"
    shell.good(f"%%workflow --rerun-drifted\n{cell}")
    assert (shell["a"], shell["b"]) == (2, 2)


def test_d3_on_drift_by_cause_is_a_flag(shell: Shell) -> None:
    shell.good("%%workflow\nn = 1\nstep(lambda: n, key='k')")
    ran = shell.good("%%workflow --on-drift code=rerun,inputs=ignore\nn = 2\nstep(lambda: n, key='k')")
    assert (ran.value, "old value" in ran.text) == (1, False)
    assert "[on drift code rerun, inputs ignore]" in ran.text
    assert shell.good("%%workflow --on-drift=inputs=rerun\nn = 2\nstep(lambda: n, key='k')").value == 2
    assert "use code or inputs" in str(shell.run("%%workflow --on-drift data=rerun").error)
    assert "use warn, rerun, error or ignore" in str(shell.run("%%workflow --on-drift code=stop").error)


# N2: --result


def test_n2_a_failed_step_fails_the_cell_with_its_own_exception(shell: Shell, heard: list[Event]) -> None:
    ran = shell.run("%%workflow w\nstep(lambda: {}['x'], key='k')\nprint('not reached')")
    assert isinstance(ran.error, KeyError)
    assert "not reached" not in ran.text.splitlines()
    assert runs(heard) == [("w", "error")]


def test_n2_result_stores_ok_and_shows_the_value(shell: Shell) -> None:
    ran = shell.good("%%workflow --result r\nx = step(lambda: 20, key='k')\nx + 1")
    assert (ran.value, shell["r"]) == (21, Ok(21))


def test_n2_result_stores_the_step_s_error_and_goes_on(shell: Shell, heard: list[Event]) -> None:
    ran = shell.good("%%workflow w --result r\nbefore = 1\nstep(lambda: {}['x'], key='k')\nafter = 1")
    assert isinstance(shell["r"], Err)
    assert isinstance(shell["r"].error, KeyError)
    assert isinstance(ran.value, Err)
    assert "before" in shell.ip.user_ns
    assert "after" not in shell.ip.user_ns
    assert runs(heard) == [("w", "error")]


FAILS = "def bad(n): raise ValueError(n)\n"


@pytest.mark.parametrize("_again", [1, 2], ids=["fresh", "kept"])
def test_e5_a_failure_that_does_not_raise_says_what_to_do(shell: Shell, _again: int) -> None:
    """Fresh and kept alike; one from the cache that raises says so in its note."""
    for _ in range(_again):
        one = shell.good(f"%%workflow --result r\n{FAILS}step(bad, 1, key='user:bad')")
        two = shell.good(
            f"%%workflow\n{FAILS}step(bad, 1, key='user:bad', on_error='keep')\nstep(bad, 2, key='b', on_error='keep')"
        )
        raised = shell.run(f"%%workflow\n{FAILS}step(bad, 1, key='user:bad')")
    assert "  ! 1 failure is kept. Try it again: %nbstep retry user:bad\n" in one.text
    assert "  ! 2 failures are kept. Try them again: %nbstep retry; only one: %nbstep retry user:bad\n" in two.text
    assert isinstance(raised.error, ValueError)
    assert "kept. Try" not in raised.text


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("step(bad, 1, key='a')", "1 failure is kept. Try it again: %nbstep retry a"),
        ("step.map(bad, [1, 2], key='b:{}')", "2 failures are kept. Try them again: %nbstep retry; only one: %nbstep retry b:1"),
        ("try: step(bad, 1, key='a')\nexcept ValueError: step(bad, 2, key='b')",
         "2 failures are kept. Try them again: %nbstep retry; only one: %nbstep retry a"),
    ],
)  # fmt: skip
def test_e5_a_fresh_failure_that_raises_says_that_it_is_kept(shell: Shell, step: str, told: str) -> None:
    ran = shell.run(f"%%workflow\n{FAILS}{step}")
    assert isinstance(ran.error, ValueError)
    assert ran.text.count(" kept. Try") == 1
    assert f"  ! {told}\n" in ran.text
    again = shell.run(f"%%workflow\n{FAILS}{step}")
    assert "kept. Try" not in again.text  # what came from the cache says it itself
    assert any("Try again:" in note for note in getattr(again.error, "__notes__", ()))


@pytest.mark.parametrize(
    "step",
    [
        "step(bad, 1, key='a', cache_errors=False)", "step(lambda: missing, key='a')", "step(bad, 1)",
        "step.map(bad, [1, 2], key='a:{}', cache_errors=False)",
    ],
)  # fmt: skip
def test_e5_a_failure_that_is_not_kept_is_not_said_to_be(shell: Shell, step: str) -> None:
    ran = shell.run(f"%%workflow\n{FAILS}{step}")
    assert ran.error is not None
    assert "kept. Try" not in ran.text


def test_e5_what_to_do_names_the_cache_that_the_cell_uses(shell: Shell) -> None:
    ran = shell.good(f"%%workflow --cache ./other\n{FAILS}step(bad, 1, key='x', on_error='keep')")
    assert re.search(r"Try it again: %nbstep retry --cache \S+other x", ran.text), ran.text
    shell.good("mine = {}")
    ran = shell.good(f"%%workflow --cache $mine\n{FAILS}step(bad, 1, key='k', on_error='keep')")
    assert (
        "Try it again: %%workflow --cache $mine --retry-errors\n" in ran.text
    )  # no command finds a cache in a variable


WORKFLOW = "from nbstep import create_workflow\nw = create_workflow(cache={})"
FAILING = "_ = w(lambda step: step(lambda: 1 / 0, key='wbad')).ok"


def test_c0_the_foot_names_the_cache_of_a_workflow_in_a_plain_cell(shell: Shell, tmp_path: Path) -> None:
    shell.good(WORKFLOW.format("{}"))
    foot = shell.good("w(lambda step: step(lambda: 42, key='a'))").text.splitlines()[-1]
    assert "dict" in foot
    assert ".nbstep" not in foot
    shell.good(WORKFLOW.format(repr(str(tmp_path / "other"))))
    foot = shell.good("w(lambda step: step(lambda: 42, key='a'))").text
    assert re.search(r"cache \S*other · \d+ B ·\s", foot), foot
    both = shell.good("step(lambda: 1, key='b')\nw(lambda step: step(lambda: 42, key='a'))").text
    assert re.search(r"cache \S*\.nbstep · .* · also used:\s+\S*other$", both), both


def test_e5_what_to_do_names_the_cache_of_a_workflow_in_a_plain_cell(shell: Shell, tmp_path: Path) -> None:
    shell.good(WORKFLOW.format(repr(str(tmp_path / "other"))))
    text = shell.good(f"step(lambda: 1, key='b')\n{FAILING}").text
    command = re.search(r"1 failure is kept. Try it again: %(nbstep retry --cache \S*other wbad)", text)
    assert command is not None, text
    assert "Deleted 1 kept error" in shell.good(f"%{command[1]}").text
    shell.good(WORKFLOW.format("{}"))
    assert "1 failure is kept. Try it again: %%workflow --retry-errors" in shell.good(FAILING).text
    again = shell.good(f"%%workflow --retry-errors\n{FAILING}").text
    assert "1 step: 1 failed  " in again  # so it ran
    assert "Try it again: %%workflow --retry-errors\n" in again


def test_e3_bare_retry_is_for_the_last_cell_wherever_its_cache_is(shell: Shell, tmp_path: Path) -> None:
    """The errors of the project's cache, which an earlier cell met, stay."""
    shell.good(f"%%workflow\n{FAILS}step(bad, 1, key='e1', on_error='keep')")
    shell.good(f"d = {{}}\n{WORKFLOW.format(repr(str(tmp_path / 'other')))}")
    shell.good(f"%%workflow e2 --cache $d\n{FAILS}step(bad, 1, key='e2', on_error='keep')")
    text = shell.good("%nbstep retry").text
    assert text == (
        "No command finds the cache of the last cell by itself. "
        "Its errors run again with: %%workflow e2 --cache $d --retry-errors\n"
    )
    shell.good(FAILING)
    text = shell.good("%nbstep retry").text
    assert re.match(r"Deleted 1 kept error; it runs again .*: wbad. Undo: %nbstep undo --cache \S*other$", text), text
    shell.good("w(lambda step: step(lambda: 1, key='fine'))")
    assert shell.good("%nbstep retry").text == "The last cell met no error that is kept.\n"
    shell.good(f"%%workflow\n{FAILS}step(bad, 1, key='e1', on_error='keep')\n{FAILING}")
    text = shell.good("%nbstep retry").text
    assert re.search(r"Deleted 1 kept error; .*: e1\..*\nDeleted 1 kept error; .*: wbad\.", text), text


def test_e3_an_error_that_passes_by_itself_says_when_it_is_tried_again(shell: Shell) -> None:
    shell.good("def away(n): raise ConnectionError('no route')\n" + FAILS)
    when = r"a run after \d\d:\d\d:\d\d, \d+ \w{3} tries again by itself\n"
    fresh = shell.run("%%workflow\nstep(away, 1, key='a')")
    assert re.search(r"! 1 failure is kept. Try it again: %nbstep retry a; or wait: " + when, fresh.text), fresh.text
    again = shell.run("%%workflow\nstep(away, 1, key='a')")
    assert re.search(r"  Try again:   %nbstep retry a\n  Or wait:     " + when, again.text), again.text
    both = shell.good("%%workflow\nfor f, n in ((away, 1), (bad, 2)): step(f, n, key=f'n:{n}', on_error='keep')")
    assert re.search(r"2 failures are kept. .* only one: \S+ retry n:1; or wait for 1 of them: " + when, both.text), (
        both.text
    )
    never = shell.good("%%workflow\nstep(away, 3, key='n', error_ttl=None, on_error='keep')")
    assert "or wait" not in never.text


@pytest.mark.parametrize("again", [False, True], ids=["fresh", "kept"])
def test_t10_an_err_of_a_step_shows_no_secret_of_its_error(shell: Shell, again: bool) -> None:
    """Out[n] is saved with the notebook; the error itself stays as it is."""
    secret = "def bad(n): raise ValueError('GET https://x.org/?token=hunter2')\n"
    cells = (
        f"%%workflow --result out\n{secret}step(bad, 1, key='a')", "out",
        f"%%workflow\n{secret}kept = step(bad, 1, key='b', on_error='keep')\nkept",
        f"from nbstep import create_workflow\n{secret}create_workflow()(lambda step: step(bad, 1, key='c'))",
    )  # fmt: skip
    for _ in range(1 + again):
        outputs = [shell.good(cell) for cell in cells]
    for ran in outputs:
        assert re.search(r"Err\(ValueError\('GET https://x.org/\?token=<redacted>'\)\)", ran.text), ran.text
        assert "hunter2" not in ran.text
    assert ("hunter2" in str(shell["out"].error)) is not again  # what is kept has none


def test_n2_result_takes_what_the_thunk_returned_in_its_err(shell: Shell) -> None:
    shell.good("from nbstep import Err, Ok")
    shell.good("%%workflow --result r\nstep(lambda: Err('NOT_FOUND'), key='k')")
    assert shell["r"] == Err("NOT_FOUND")


def test_n2_result_lets_bugs_through_with_the_right_line(shell: Shell) -> None:
    ran = shell.run("%%workflow --result r\nx = step(lambda: 1, key='k')\n\n\nx.nope")
    assert isinstance(ran.error, AttributeError)
    assert frames(ran.text) == ["Cell In[1], line 5"]
    assert "r" not in shell.ip.user_ns


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("x = 1", Ok(None)),
        ("", Ok(None)),
        ("5;", Ok(5)),
        ("from nbstep import Ok, Err\nErr('mine')", Err("mine")),
        ("from __future__ import annotations\n3", Ok(3)),
        ("import asyncio\nawait step(lambda: asyncio.sleep(0, 3), key='s')", Ok(3)),
        ("import asyncio\nasync with asyncio.timeout(5):\n    y = 1\ny", Ok(1)),
    ],
)
def test_n2_result_of_every_kind_of_body(shell: Shell, body: str, expected: Any) -> None:
    shell.good(f"%%workflow --result r\n{body}")
    assert shell["r"] == expected


# groups


def test_an_exception_group_is_shown_as_an_error_with_the_user_s_frames(shell: Shell) -> None:
    ran = shell.run(
        "%%workflow\nimport asyncio\nasync def bad():\n    raise LookupError('gone')\n"
        "async with asyncio.TaskGroup() as group:\n"
        "    async def one():\n        await step(bad, key='k')\n    group.create_task(one())"
    )
    assert isinstance(ran.error, ExceptionGroup)
    assert "LookupError: gone" in ran.text
    assert "In[1]" in ran.text
    assert "/nbstep/" not in ran.text.replace("/.nbstep", "")


# W5: plain cells, threads


def test_w5_a_plain_cell_that_calls_step_gets_a_list_and_others_get_nothing(shell: Shell, heard: list[Event]) -> None:
    assert shell.good("x = 1").text == ""
    assert "1 step: 1 ran" in shell.good("step(lambda: 1, key='a')").text
    assert shell.good("x = 2").text == ""
    assert runs(heard) == [(None, "ok")]


def test_w5_a_function_from_a_module_uses_the_cell_s_run(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "mymodule.py").write_text("from nbstep import step\ndef load():\n    return step(lambda: 3, key='m')\n")
    shell.good(f"import sys; sys.path.insert(0, {str(tmp_path)!r})")
    ran = shell.good("%%workflow w\nimport mymodule\nmymodule.load()")
    assert ran.value == 3
    assert "w   1 step" in ran.text


def test_w5_a_thread_uses_the_run_of_the_cell_now_executing(shell: Shell) -> None:
    ran = shell.good(
        "%%workflow w\nimport threading\nt = threading.Thread(target=lambda: step(lambda: 1, key='t'))\n"
        "t.start()\nt.join()"
    )
    assert "w   1 step: 1 ran" in ran.text


def test_w5_a_step_of_an_earlier_cell_s_task_is_not_lost(shell: Shell, heard: list[Event]) -> None:
    """N8: what goes on after its cell is kept."""
    shell.good("%%workflow w\nimport threading\ngo = threading.Event()\ndef slow():\n    go.wait()\n    return 1")
    shell.good("%%workflow w\nt = threading.Thread(target=lambda: step(slow, key='slow'))\nt.start()\nimport time")
    shell.good("go.set()\nt.join()")
    assert shell.good("%%workflow\nstep(lambda: 2, key='slow', on_drift='ignore')").value == 1


def test_the_run_ends_with_the_cell_whatever_ends_the_cell(shell: Shell, heard: list[Event]) -> None:
    shell.good("%%workflow a\nstep(lambda: 1, key='k')")
    shell.run("%%workflow b\nraise SystemExit")
    shell.run("%%workflow c\nraise KeyboardInterrupt")
    shell.run("%%workflow d\n1 / 0")
    assert [name for name, _ in runs(heard)] == ["a", "b", "c", "d"]
    shell.good("step(lambda: 1, key='k')")
    assert runs(heard)[-1] == (None, "ok")


def test_a_step_is_placed_in_its_cell_and_line(shell: Shell, heard: list[Event], monkeypatch: Any) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/me/churn.ipynb")
    shell.good("x = 1")
    shell.good("%%workflow\n\nstep(lambda: 1, key='k')")
    (asked,) = [e for e in heard if isinstance(e, StepAsked)]
    assert (asked.place.notebook, asked.place.cell, asked.place.line) == ("churn.ipynb", 2, 3)


def test_silent_executions_neither_show_nor_leave_a_run_open(shell: Shell, heard: list[Event]) -> None:
    shell.ip.run_cell("%%workflow w\nx = step(lambda: 1, key='k')", silent=True)
    assert runs(heard) == [("w", "ok")]


def test_findings_stand_in_the_list_and_nothing_on_stderr(shell: Shell, capfd: Any) -> None:
    ran = shell.good("%%workflow\nimport threading\nlock = step(lambda: threading.Lock(), key='lock')")
    assert "! " in ran.text
    assert "lock" in ran.text
    assert capfd.readouterr().err == ""


def test_k4_a_map_never_awaited_is_named(shell: Shell) -> None:
    shell.good("async def slow(i): return i")
    ran = shell.good("%%workflow\nres = step.map(slow, [1, 2], key='s:{}')")
    assert "step.map (line 2) was never awaited: write `await step.map(…)`" in ran.text
    ran = shell.good("%%workflow\nres = step.map(slow, [1, 2], key='s:{}')\nstep(lambda: 3, key='other')")
    assert "\n1 step: 1 ran" in ran.text  # the items are none that are to come
    assert "not started" not in ran.text
    assert "step.map gives something to await: write `await step.map(…)`" in str(shell.run("len(res)").error)
    assert shell.good("%%workflow\nawait step.map(slow, [1, 2], key='s:{}')").value == [1, 2]


def test_a_step_never_awaited_is_named(shell: Shell) -> None:
    ran = shell.good("%%workflow\nasync def f(): return 1\nstep(f, key='x');")
    assert "step 'x' (line 3) was never awaited" in ran.text


# loading and unloading


def test_reload_and_unload(shell: Shell, heard: list[Event]) -> None:
    shell.good("%reload_ext nbstep")
    shell.good("%%workflow w\nstep(lambda: 1, key='k')")
    assert runs(heard) == [("w", "ok")]
    transforms, tree = len(shell.ip.input_transformers_cleanup), len(shell.ip.ast_transformers)
    shell.good("%unload_ext nbstep")
    assert "step" not in shell.ip.user_ns
    assert "showtraceback" not in shell.ip.__dict__
    assert len(shell.ip.input_transformers_cleanup) == transforms - 1
    assert len(shell.ip.ast_transformers) == tree - 1
    assert "workflow" not in shell.ip.magics_manager.magics["cell"]
    assert shell.run("%%workflow\n1").text.startswith("UsageError: Cell magic `%%workflow` not found")
    shell.good("%load_ext nbstep")
    shell.good("%%workflow again\nstep(lambda: 1, key='k')")
    assert runs(heard)[-1] == ("again", "ok")


def test_unload_leaves_the_user_s_own_step(shell: Shell) -> None:
    shell.good("step = 5")
    shell.good("%unload_ext nbstep")
    assert shell["step"] == 5
    shell.good("%load_ext nbstep")
    assert shell["step"] == 5


def test_two_threads_may_open_the_ambient_run_at_once(shell: Shell, heard: list[Event]) -> None:
    before = threading.active_count()
    shell.good("import threading\nready = threading.Barrier(8)")
    shell.good(
        "def go(n):\n    ready.wait()\n    step(lambda: n, key=f't:{n}')\n"
        "ts = [threading.Thread(target=go, args=(n,)) for n in range(8)]\n[t.start() for t in ts]\n[t.join() for t in ts];"
    )
    assert runs(heard) == [(None, "ok")]
    assert threading.active_count() <= before
