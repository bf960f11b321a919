"""Single flight across processes (C4): scripts that ask one cache for one key, as several kernels do."""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripts import Scripts, open_scripts

from nbstep import Cache, Ok, RecursiveStep, create_workflow
from nbstep.testing import MemoryStore, RecordingListener

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="without flock it holds within a kernel")

HOLDER = "tell('got', workflow(lambda step: step(compute, 'held', key='k')).value)\n"
WAITER = "tell('got', workflow(lambda step: step(compute, 'own', key='k', ignore='value')).value)\n"
ASYNC_WAITER = (
    "async def body(step):\n    return await step(acompute, 'own', key='k', ignore='value')\n"
    "tell('got', asyncio.run(workflow(body)).value)\n"
)


@pytest.fixture
def scripts(tmp_path: Path) -> Iterator[Scripts]:
    with open_scripts(tmp_path) as opened:
        yield opened


def locks_of(cache: Path) -> list[str]:
    return sorted(os.listdir(cache / "v1" / "lock"))


# One computes


PLAIN = "values = workflow(lambda step: [step(slow, key='k')]).value"
THREADS = (
    "from concurrent.futures import ThreadPoolExecutor\nimport contextvars\n"
    "def body(step):\n    with ThreadPoolExecutor(4) as pool:\n"
    "        asks = [pool.submit(contextvars.copy_context().run, step, slow, key='k') for _ in range(4)]\n"
    "        return [ask.result() for ask in asks]\n"
    "values = workflow(body).value"
)
TASKS = (
    "async def body(step):\n    return await asyncio.gather(*[step(aslow, key='k') for _ in range(4)])\n"
    "values = asyncio.run(workflow(body)).value"
)
SLOW = """
import time
def slow():
    tell("computing")
    time.sleep(0.5)
    return [7]
async def aslow():
    tell("computing")
    await asyncio.sleep(0.5)
    return [7]
"""


@pytest.mark.parametrize(("ask", "each"), [(PLAIN, 1), (THREADS, 4), (TASKS, 4)], ids=["plain", "threads", "tasks"])
def test_c4_four_processes_compute_one_key_once(scripts: Scripts, ask: str, each: int) -> None:
    four = [scripts.start(f"{SLOW}\n{ask}\ntell('got', values)", f"{n}.py") for n in range(4)]
    for script in four:
        script.expect("ready")
    for script in four:
        script.say()
    told = [line for script in four for line in script.finish()]
    assert [line for line in told if line[0] == "got"] == [["got", [[7]] * each]] * 4
    assert told.count(["computing"]) == 1
    assert locks_of(scripts.cache) == []


@pytest.mark.parametrize("waiter", [WAITER, ASYNC_WAITER], ids=["plain", "awaiting"])
def test_c4_who_waits_is_shown_who_computes_and_takes_the_result(scripts: Scripts, waiter: str) -> None:
    holder = scripts.begin(HOLDER, "etl.py")
    holder.expect("computing")
    other = scripts.begin(waiter, "report.py")
    assert other.expect("waiting", "k") == [f"etl.py (pid {holder.pid})"]
    holder.say()
    assert holder.expect("got") == ["held"]
    assert other.finish()[-2:] == [["hit", "k", "shared"], ["got", "held"]]


def test_c4_those_who_all_ask_for_a_refresh_share_one(scripts: Scripts) -> None:
    ask = "tell('got', workflow(lambda step: step(compute, %r, key='k', refresh=True)).value)\n"
    create_workflow(cache=scripts.cache)(lambda step: step(lambda: "old", key="k"))
    holder = scripts.begin(ask % "new", "holder.py")
    holder.expect("computing")
    other = scripts.begin(ask % "newer", "other.py")
    other.expect("waiting")
    holder.say()
    assert other.expect("got") == ["new"]


def test_c4_only_caches_on_disk_share_between_processes(tmp_path: Path) -> None:
    assert [Cache(where).locks for where in ({}, MemoryStore(), "memory:")] == [None, None, None]
    assert Cache(tmp_path).locks is not None


def test_c4_a_hit_takes_no_lock(tmp_path: Path) -> None:
    workflow = create_workflow(cache=tmp_path)
    workflow(lambda step: step(lambda: 1, key="k"))
    os.rmdir(tmp_path / "v1" / "lock")
    assert workflow(lambda step: step(lambda: 1, key="k")) == Ok(1)
    assert not (tmp_path / "v1" / "lock").exists()


# The holder ends


FORKING_HOLDER = """
def fork_and_compute():
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    tell("child", child)
    return compute("held")
workflow(lambda step: step(fork_and_compute, key="k"))
"""


@pytest.mark.parametrize("waiter", [WAITER, ASYNC_WAITER], ids=["plain", "awaiting"])
def test_c4_a_killed_holder_is_noticed_at_once_even_if_a_child_of_it_lives(scripts: Scripts, waiter: str) -> None:
    holder = scripts.begin(FORKING_HOLDER, "holder.py")
    (child,) = holder.expect("child")
    try:
        holder.expect("computing")
        other = scripts.begin(waiter, "other.py")
        other.expect("waiting")
        holder.kill()
        other.expect("computing")
        os.kill(child, 0)  # it lives
        other.say()
        assert other.expect("got") == ["own"]
    finally:
        os.kill(child, signal.SIGKILL)
    other.finish()
    assert locks_of(scripts.cache) == []


def test_c4_who_waits_is_shown_the_next_one_who_computes(scripts: Scripts) -> None:
    holder = scripts.begin(HOLDER, "holder.py")
    holder.expect("computing")
    a, b = (scripts.begin(WAITER, f"{name}.py") for name in "ab")
    for script in (a, b):
        script.expect("waiting")
    holder.kill()
    while (first := a.expect())[0] == "finding":
        pass  # that it waited for two seconds already: a loaded machine
    if first[0] == "computing":
        assert b.expect("waiting", "k") == [f"a.py (pid {a.pid})"]
    else:
        assert first == ["waiting", "k", f"b.py (pid {b.pid})"]


@pytest.mark.parametrize("keeps", [True, False], ids=["kept", "not kept"])
def test_c4_a_kept_error_is_shared_and_after_another_the_next_one_computes(scripts: Scripts, keeps: bool) -> None:
    fails = f"""
def fails():
    compute("fails")
    raise LookupError("gone")
tell("got", repr(workflow(lambda step: step(fails, key="k", cache_errors={keeps})).error))
tell("over")
heard()
"""
    holder = scripts.begin(fails, "holder.py")
    holder.expect("computing")
    other = scripts.begin(fails, "other.py")
    other.expect("waiting")
    holder.say()
    holder.expect("over")  # it lives on, and with it what it may have forgotten to close
    if not keeps:
        other.expect("computing")
        other.say()
    assert other.expect("got") == ["LookupError('gone')"]
    assert [line for line in other.told if line[0] == "computing"] == ([] if keeps else [["computing", "fails"]])


def test_c4_an_interrupt_of_the_holder_frees_the_lock(scripts: Scripts) -> None:
    holder = scripts.begin(f"try:\n    {HOLDER}\nexcept KeyboardInterrupt:\n    tell('over')\n    heard()", "holder.py")
    holder.expect("computing")
    other = scripts.begin(WAITER, "other.py")
    other.expect("waiting")
    holder.interrupt()
    holder.expect("over")
    other.expect("computing")
    other.say()
    assert other.expect("got") == ["own"]


# The waiting


@pytest.mark.parametrize("waiter", [WAITER, ASYNC_WAITER], ids=["plain", "awaiting"])
def test_c4_an_interrupt_ends_the_wait_and_not_the_holder(scripts: Scripts, waiter: str) -> None:
    holder = scripts.begin(HOLDER, "holder.py")
    holder.expect("computing")
    indented = "".join(f"    {line}\n" for line in waiter.splitlines())
    other = scripts.begin(f"try:\n{indented}except KeyboardInterrupt:\n    tell('interrupted')\n", "other.py")
    other.expect("waiting")
    other.interrupt()
    other.expect("interrupted")
    holder.say()
    assert holder.expect("got") == ["held"]


@pytest.mark.parametrize("waiter", [WAITER, ASYNC_WAITER], ids=["plain", "awaiting"])
def test_c4_an_interrupted_wait_is_told_as_ended(scripts: Scripts, waiter: str) -> None:
    """Else the step list shows it as waiting for ever."""
    holder = scripts.begin(HOLDER, "holder.py")
    holder.expect("computing")
    indented = "".join(f"    {line}\n" for line in waiter.splitlines())
    telling = """
from nbstep.events import StepFinished
def told(event):
    listener(event)
    if isinstance(event, StepFinished):
        tell("ended", event.outcome, event.interrupted)
workflow = create_workflow(cache=cache, on_event=told)
"""
    other = scripts.begin(f"{telling}try:\n{indented}except KeyboardInterrupt:\n    tell('over')\n", "other.py")
    other.expect("waiting")
    other.interrupt()
    assert other.expect("ended") == ["error", True]
    other.expect("over")
    holder.say()


@pytest.mark.parametrize("waiter", [WAITER, ASYNC_WAITER], ids=["plain", "awaiting"])
def test_c4_a_script_that_waits_says_so_after_a_moment_and_once(scripts: Scripts, waiter: str) -> None:
    holder = scripts.begin(HOLDER, "etl.py")
    holder.expect("computing")
    other = scripts.begin(waiter, "report.py")
    (said,) = other.expect("finding")
    assert re.fullmatch(
        rf"k: etl\.py \(pid {holder.pid}\) has been computing it for \d\.\d s; Ctrl-C ends the wait", said
    )
    holder.say()
    assert [line[0] for line in other.finish()].count("finding") == 1


def test_c4_an_awaitable_step_waits_without_blocking_its_loop(scripts: Scripts) -> None:
    holder = scripts.begin(HOLDER, "holder.py")
    holder.expect("computing")
    code = """
async def body(step):
    task = asyncio.create_task(step(acompute, "own", key="k"))
    await asyncio.get_running_loop().run_in_executor(None, heard)
    tell("alive")
    return await task
tell("got", asyncio.run(workflow(body)).value)
"""
    other = scripts.begin(code, "other.py")
    other.expect("waiting")
    other.say()
    other.expect("alive")
    holder.say()
    assert other.expect("got") == ["held"]


def test_c4_threads_of_a_kernel_that_waits_are_shown_the_other_kernel(scripts: Scripts) -> None:
    holder = scripts.begin(HOLDER, "etl.py")
    holder.expect("computing")
    code = """
async def body(step):
    return await asyncio.gather(*[step(acompute, "own", key="k") for _ in range(3)])
tell("got", asyncio.run(workflow(body)).value)
"""
    other = scripts.begin(code, "other.py")
    assert [other.expect("waiting", "k") for _ in range(3)] == [[f"etl.py (pid {holder.pid})"]] * 3
    holder.say()
    assert other.expect("got") == [["held"] * 3]


NESTED = """
nested_wait_s.set(0.2)
def outer(step):
    return step(lambda: [compute({mine!r}), step(lambda: "own", key={other!r})], key={mine!r})
tell("got", workflow(outer).value)
"""
ASYNC_NESTED = """
nested_wait_s.set(0.2)
async def own():
    return "own"
async def both(step):
    return [await acompute({mine!r}), await step(own, key={other!r})]
async def outer(step):
    async def thunk():
        return await both(step)
    return await step(thunk, key={mine!r})
tell("got", asyncio.run(workflow(outer)).value)
"""


@pytest.mark.parametrize("code", [NESTED, ASYNC_NESTED], ids=["plain", "awaiting"])
def test_c4_two_kernels_that_need_each_others_keys_do_not_wait_for_ever(scripts: Scripts, code: str) -> None:
    both = [scripts.begin(code.format(mine=a, other=b), f"{a}.py") for a, b in ("ab", "ba")]
    for script in both:
        script.expect("computing")
    for script in both:
        script.say()
    for script in both:
        assert script.expect("got")[0][0] == script.path.stem


def test_c4_a_step_at_the_top_waits_as_long_as_the_holder_lives(scripts: Scripts) -> None:
    holder = scripts.begin(HOLDER, "holder.py")
    holder.expect("computing")
    other = scripts.begin(f"nested_wait_s.set(0.0)\n{WAITER}", "other.py")
    other.expect("waiting")
    nested = (
        "nested_wait_s.set(0.0)\ntell('got', workflow(lambda step: step(lambda: step(str, key='k'), key='o')).value)"
    )
    assert scripts.begin(nested, "nested.py").expect("got") == [""]  # one inside a step does not
    holder.say()
    assert other.expect("got") == ["held"]


BLOCKED_LOOP = """
nested_wait_s.set(0.2)
async def body(step):
    go = asyncio.Event()
    async def slow():
        tell("computing")
        await go.wait()
        return {mine!r}
    task = asyncio.create_task(step(slow, key={mine!r}))
    await asyncio.sleep(0)
    heard()
    other = step(lambda: "own", key={other!r})
    go.set()
    return [await task, other]
tell("got", asyncio.run(workflow(body)).value)
"""


def test_c4_plain_steps_that_stop_the_tasks_they_wait_for_do_not_wait_for_ever(scripts: Scripts) -> None:
    both = [scripts.begin(BLOCKED_LOOP.format(mine=a, other=b), f"{a}.py") for a, b in ("ab", "ba")]
    for script in both:
        script.expect("computing")
    for script in both:
        script.say()
    for script in both:
        assert script.expect("got")[0][0] == script.path.stem


def test_c4_a_plain_step_never_waits_for_a_task_of_its_own_loop(tmp_path: Path) -> None:
    calls: list[str] = []

    async def slow() -> str:
        calls.append("task")
        await asyncio.sleep(0.05)
        return "value"

    @functools.wraps(slow)  # one step of two kinds
    def plain() -> str:
        calls.append("plain")
        return "value"

    async def body(step: Any) -> tuple[str, str]:
        task = asyncio.create_task(step(slow, key="k"))
        while not calls:
            await asyncio.sleep(0)
        return step(plain, key="k"), await task

    assert asyncio.run(create_workflow(cache=tmp_path)(body)).value == ("value", "value")
    assert calls == ["task", "plain"]


LEFT_PENDING = """
async def left(step):
    return await step(acompute_for_ever, key="k")
async def acompute_for_ever():
    tell("computing", "left")
    begun.set()
    await asyncio.Event().wait()
async def begin():
    global begun
    begun = asyncio.Event()
    task = asyncio.ensure_future(workflow(left))
    await begun.wait()
    return task
loop = asyncio.new_event_loop()
"""
LEFT_CLOSED = "task = loop.run_until_complete(begin())\nloop.close()\n"
LEFT_STOPPED = "task = loop.run_until_complete(begin())\n"
CLOSED_MEANWHILE = """
kept = []
def turn():
    kept.append(loop.run_until_complete(begin()))
    tell("turned")
    heard()
    loop.close()
thread = threading.Thread(target=turn)
thread.start()
while not kept:
    thread.join(0.01)
"""
OWN = """
def own(): return "own"
async def aown(): return "own"
"""
PLAIN_OWN = "tell('got', workflow(lambda step: step(own, key='k')).value)\n"
AWAITED_OWN = (
    "async def body(step):\n    return await step(aown, key='k')\ntell('got', asyncio.run(workflow(body)).value)\n"
)


@pytest.mark.parametrize("own", [PLAIN_OWN, AWAITED_OWN], ids=["plain", "awaiting"])
@pytest.mark.parametrize("left", [LEFT_CLOSED, LEFT_STOPPED], ids=["closed", "stopped"])
def test_c4_who_was_left_pending_in_a_loop_that_ended_is_not_waited_for(scripts: Scripts, left: str, own: str) -> None:
    script = scripts.begin(LEFT_PENDING + left + OWN + "nested_wait_s.set(0.2)\n" + own)
    assert script.expect("got") == ["own"]


@pytest.mark.parametrize("own", [PLAIN_OWN, AWAITED_OWN], ids=["plain", "awaiting"])
def test_c4_a_loop_that_is_closed_while_others_wait_for_its_task_is_noticed(scripts: Scripts, own: str) -> None:
    script = scripts.begin(LEFT_PENDING + CLOSED_MEANWHILE + OWN + own)
    script.expect("waiting", "k")
    script.say()
    assert script.expect("got") == ["own"]


def test_c4_ones_own_key_inside_itself_is_an_error_and_leaves_no_lock(tmp_path: Path) -> None:
    def body(step: Any) -> Any:
        return step(lambda: step(lambda: 1, key="k"), key="k")

    with pytest.raises(RecursiveStep):
        create_workflow(cache=tmp_path)(body)
    assert locks_of(tmp_path) == []


POOLED = """
import concurrent.futures
os.environ["NBSTEP_DIR"] = sys.argv[1]
nested_wait_s.set(0.2)
def bounded(ask, *args):
    nested_wait_s.set(0.2)  # a pool's threads do not have it
    return ask(*args)
pool = concurrent.futures.ThreadPoolExecutor(8)
"""
AWAITED_POOLED_SELF = """
asked = []
async def body():
    async def work():
        asked.append(1)
        if len(asked) > 1:
            return "inner"
        return await asyncio.get_running_loop().run_in_executor(pool, bounded, again)
    async def one():
        return await step(work, key="k")
    def again():
        return asyncio.run(one())
    return await one()
tell("got", asyncio.run(body()))
"""
POOLED_CROSS = """
both = threading.Barrier(2)
asked = []
def body():
    def work(me, other):
        asked.append(me)
        if len(asked) > 2:
            return "inner"
        both.wait(60)
        return pool.submit(bounded, lambda: step(work, other, me, key=other)).result()
    asks = [pool.submit(bounded, lambda a=a, b=b: step(work, a, b, key=a)) for a, b in ("xy", "yx")]
    return {ask.result() for ask in asks}.pop()
tell("got", body())
"""


@pytest.mark.parametrize("code", [AWAITED_POOLED_SELF, POOLED_CROSS], ids=["awaiting", "each other's"])
def test_c4_where_nothing_tells_that_a_key_is_asked_inside_itself_it_does_not_wait_for_ever(
    scripts: Scripts, code: str
) -> None:
    assert scripts.begin(POOLED + code).expect("got") == ["inner"]


def test_c4_two_kernels_that_need_each_others_keys_through_pools_do_not_wait_for_ever(scripts: Scripts) -> None:
    code = """
def body():
    def through(mine, other):
        tell("computing", mine)
        heard()
        return pool.submit(bounded, lambda: step(lambda: "own", key=other)).result()
    return step(through, {mine!r}, {other!r}, key={mine!r})
tell("got", body())
"""
    both = [scripts.begin(POOLED + code.format(mine=a, other=b), f"{a}.py") for a, b in ("ab", "ba")]
    for script in both:
        script.expect("computing")
    for script in both:
        script.say()
    for script in both:
        script.expect("got")


def test_c4_a_pools_threads_wait_for_one_that_computes_as_long_as_it_takes(scripts: Scripts) -> None:
    code = """
nested_wait_s.set(0.05)
import time
def slow():
    tell("computing")
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        pass
    return "once"
def ask():
    nested_wait_s.set(0.05)
    return step(slow, key="k")
def body():
    return [one.result() for one in [pool.submit(ask) for _ in range(4)]]
tell("got", body())
"""
    told = scripts.begin(POOLED + code).finish()
    assert told[-1] == ["got", ["once"] * 4]
    assert told.count(["computing"]) == 1


def test_c4_a_process_waits_for_a_time_only_for_the_one_that_started_it(scripts: Scripts) -> None:
    """A thunk that runs another script, which asks for the thunk's own key."""
    code = """
import subprocess
def outer():
    again = [sys.executable, "-c", INNER, sys.argv[1]]
    return subprocess.run(again, capture_output=True, text=True, check=True).stdout.strip()
INNER = '''
import sys
from nbstep import create_workflow
from nbstep.steps.waiting import nested_wait_s
nested_wait_s.set(0.1)
print(create_workflow(cache=sys.argv[1])(lambda step: step(lambda: "inner", key="k")).value)
'''
tell("got", workflow(lambda step: step(outer, key="k")).value)
"""
    assert scripts.begin(code).expect("got") == ["inner"]


# What may fail


@pytest.mark.parametrize("problem", ["ENOSYS", "ENOLCK", "EOPNOTSUPP", "EIO", "EROFS", "EACCES", "EBADF"])
def test_c4_where_locks_do_not_work_everything_goes_on_without(
    problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(fd: int, operation: int) -> None:
        raise OSError(getattr(errno, problem), os.strerror(getattr(errno, problem)))

    monkeypatch.setattr("fcntl.flock", fails)
    told, calls = RecordingListener(), []
    workflow = create_workflow(cache=tmp_path, on_event=told)
    for _ in range(2):
        assert workflow(lambda step: step(lambda: calls.append(1) or 7, key="k")) == Ok(7)
    assert (calls, told.findings(), locks_of(tmp_path)) == ([1], [], [])


def test_c4_without_flock_it_holds_within_a_kernel(scripts: Scripts) -> None:
    scripts.folder.joinpath("fcntl.py").write_text("raise ImportError('there is no fcntl on Windows')\n")
    four = scripts.begin(f"{SLOW}\n{THREADS}\ntell('got', values)").finish()
    assert four.count(["computing"]) == 1
    assert four[-1] == ["got", [[7]] * 4]
    assert not (scripts.cache / "v1" / "lock").exists()


@pytest.mark.parametrize("where", ["", "lock"])
def test_c4_links_where_locks_should_be_are_not_followed(where: str, tmp_path: Path) -> None:
    from nbstep.stores.files import key_digest

    cache, victim = tmp_path / "cache", tmp_path / "victim"
    if where == "lock":  # the lock's file leads elsewhere
        victim.write_text("precious")
        (cache / "v1" / "lock").mkdir(parents=True)
        (cache / "v1" / "lock" / key_digest("k")).symlink_to(victim)
    else:  # the whole folder does
        victim.mkdir()
        (cache / "v1").mkdir(parents=True)
        (cache / "v1" / "lock").symlink_to(victim)
    look = victim.read_text if where else lambda: os.listdir(victim)
    before = look()
    assert create_workflow(cache=cache)(lambda step: step(look, key="k")) == Ok(before)
    assert look() == before


def test_c4_a_hostile_note_costs_nobody_anything(scripts: Scripts) -> None:
    holder = scripts.begin(HOLDER, "holder.py")
    holder.expect("computing")
    (note,) = (scripts.cache / "v1" / "lock").glob("*")
    note.write_text('{"holder": ["\\u202e"], "pid": "-1", "since": 1e999}')
    other = scripts.begin(WAITER, "other.py")
    assert other.expect("waiting", "k") == ["another kernel"]
    holder.say()
    assert other.expect("got") == ["held"]


def test_c4_a_thousand_tasks_leave_the_user_files_to_open(scripts: Scripts) -> None:
    code = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
cache = Cache(sys.argv[1])
async def one(n):
    await asyncio.sleep(0.3)
    with open(os.devnull) as opened:
        return n
async def body(step):
    return sum(await asyncio.gather(*[step(one, n, key=f"k:{n}") for n in range(300)]))
tell("got", asyncio.run(create_workflow(cache=cache, on_event=listener)(body)).value, len(cache.keys()))
"""
    told = scripts.begin(code).finish()
    assert told[1:] == [["got", sum(range(300)), 300]]


MANY = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
workflow = create_workflow(cache=Cache(sys.argv[1]), on_event=listener)
async def one(n):
    tell("computing", n)
    while not heard_it.is_set():
        await asyncio.sleep(0.05)
    return n
async def body(step):
    global heard_it
    heard_it = asyncio.Event()
    tasks = [asyncio.ensure_future(step(one, n, key=f"k:{n}")) for n in KEYS]
    await asyncio.get_running_loop().run_in_executor(None, heard)
    heard_it.set()
    return sum(await asyncio.gather(*tasks))
tell("got", asyncio.run(workflow(body)).value)
"""


def test_c4_two_kernels_with_more_keys_than_files_compute_each_once(scripts: Scripts) -> None:
    first, second = range(60), range(30, 90)
    a = scripts.begin(MANY.replace("KEYS", repr(first)), "a.py")
    assert sorted(a.expect("computing")[0] for _ in first) == [*first]
    b = scripts.begin(MANY.replace("KEYS", repr(second)), "b.py")
    while len([line for line in b.told if line[0] in {"waiting", "computing"}]) < len(second):
        b.expect()
    a.say()
    b.say()
    assert a.expect("got") == [sum(first)]
    assert b.expect("got") == [sum(second)]
    assert sorted(line[1] for line in b.told if line[0] == "computing") == [*range(60, 90)]
    assert locks_of(scripts.cache) == ["many"]


def test_c4_what_killed_holders_left_is_collected(scripts: Scripts) -> None:
    for key in "ab":
        holder = scripts.begin(f"workflow(lambda step: step(compute, 1, key={key!r}))")
        holder.expect("computing")
        holder.kill()
    assert len(locks_of(scripts.cache)) == 2
    alive = scripts.begin(HOLDER)
    alive.expect("computing")
    create_workflow(cache=scripts.cache)(lambda step: step(lambda: 1, key="c"))
    assert len(locks_of(scripts.cache)) == 1  # that of the one who computes
    alive.say()
    alive.finish()
    assert locks_of(scripts.cache) == []
