"""step.map: one entry an item, on threads, in this run (K3, C4, W2, W3); the plain use is in test_steps.py."""

from __future__ import annotations

import asyncio
import datetime
import functools
import math
import pickle
import re
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest

from nbstep import Err, KeyCollision, Ok, RecursiveStep, create_workflow, step
from nbstep.batch.keying import Keys
from nbstep.errors import OfflineMiss
from nbstep.events import StepAsked, StepHit
from nbstep.keys import fill_template
from nbstep.testing import RecordingListener


def test_the_keys_are_made_of_the_items() -> None:
    cache: dict[str, Any] = {}
    workflow = create_workflow(cache=cache)
    workflow(lambda step: step.map(len, ["a", "bb"], key="len:{}"))
    workflow(lambda step: step.map(len, ["a"], key=lambda item: step.key("size", item)))
    assert sorted(cache) == ["len:a", "len:bb", "size:a"]


def test_no_items_give_no_results() -> None:
    assert create_workflow(cache={})(lambda step: step.map(len, [], key="len:{}")) == Ok([])


def test_an_item_that_is_asked_twice_is_computed_once() -> None:
    calls: list[str] = []
    workflow = create_workflow(cache={})
    assert workflow(lambda step: step.map(lambda s: calls.append(s) or s, ["a", "a", "a"], key="s:{}")) == Ok(["a"] * 3)
    assert calls == ["a"]


def test_every_item_belongs_to_the_run_and_to_the_line_that_asked() -> None:
    told = RecordingListener()

    def body(step: Any) -> Any:
        return step.map(str, range(20), key="n:{}")

    create_workflow(cache={}, on_event=told)(body)
    asked = told.of(StepAsked)
    assert sorted(event.step for event in asked) == list(range(20))
    assert {(e.place.notebook, e.place.line) for e in asked} == {("test_batch.py", body.__code__.co_firstlineno + 1)}


def test_w3_a_failure_that_is_no_exception_ends_the_run_as_that_very_error() -> None:
    workflow = create_workflow(cache={})
    for _ in range(2):
        result = workflow(lambda step: step.map(lambda n: Err("NOT_FOUND") if n else n, [0, 1], key="n:{}"))
        assert result.error == "NOT_FOUND"


def test_with_keep_results_and_failures_stand_in_place() -> None:
    results = create_workflow(cache={})(
        lambda step: step.map(lambda n: Err("odd") if n % 2 else Ok(n), range(4), key="n:{}", on_error="keep")
    ).value
    assert results == [Ok(0), Err("odd"), Ok(2), Err("odd")]


def test_a_key_of_none_keeps_nothing() -> None:
    cache: dict[str, Any] = {}
    values = create_workflow(cache=cache)(lambda step: step.map(abs, [-1], key=lambda item: None))
    assert (values, cache) == (Ok([1]), {})


@pytest.mark.parametrize("items", [range(3), iter(range(3))])
def test_k2_a_key_function_that_forgets_its_return_is_called_out_once(items: Any) -> None:
    def key(n: int) -> Any:
        _ = f"user:{n}"

    told = RecordingListener()
    workflow = create_workflow(cache={}, on_event=told)
    assert workflow(lambda step: step.map(str, items, key=key, n_jobs=1)) == Ok(["0", "1", "2"])
    (text,) = told.findings()
    assert text.endswith("key= gave None for the item 0, so its result is not kept: does it return?")
    assert text.startswith("test_batch.py")


@pytest.mark.parametrize(
    ("item", "named"),
    [({"id": 1}, "a dict"), ("x" * 500, "characters"), (threading.Lock(), "a lock"), (None, "the item None")],
)
def test_the_item_whose_key_is_none_is_named_whatever_it_is(item: Any, named: str) -> None:
    told = RecordingListener()
    create_workflow(cache={}, on_event=told)(lambda step: step.map(id, [item], key=lambda item: None)).unwrap()
    assert [named in text for text in told.findings()] == [True]


def test_k2_a_key_of_none_is_not_called_out_where_a_comment_asks_for_silence() -> None:
    told = RecordingListener()
    workflow = create_workflow(cache={}, on_event=told)
    workflow(lambda step: step.map(str, [1], key=lambda n: None))  # nbstep: ok
    assert told.findings() == []


async def fetch(n: int) -> int:
    return n


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n_jobs": 0}, "n_jobs=0: use a number"),
        ({"rate": "fast"}, "rate='fast': write how many"),
        ({"rate": "0/s"}, "rate='0/s'"),
        ({"rate": 10}, "rate=10: write how many"),
    ],
)
def test_w2_wrong_numbers_are_refused_before_any_item_runs(options: dict[str, Any], says: str) -> None:
    calls: list[int] = []
    with pytest.raises(ValueError, match=re.escape(says)):
        create_workflow(cache={})(lambda step: step.map(calls.append, [1], key="n:{}", **options))
    assert calls == []


def test_what_is_no_function_is_a_type_error_that_shows_the_way() -> None:
    with pytest.raises(TypeError, match="got int"):
        create_workflow(cache={})(lambda step: step.map(3, [1], key="n:{}"))


@pytest.mark.parametrize("key", ["{}:{}", "{1}", "a", "{}:{name}", "{}{", "{0[x]}"])
def test_a_template_that_cannot_be_filled_is_a_value_error(key: str) -> None:
    with pytest.raises(ValueError, match="key="):
        create_workflow(cache={})(lambda step: step.map(abs, [1], key=key))


def test_a_key_function_that_does_not_take_one_item_is_told_before_anything_runs() -> None:
    for key, says in (
        (lambda a, b: f"{a}:{b}", r"step.map calls key= with one item, and lambda a, b takes 2: write lambda item: "),
        (lambda: "k", r"step.map calls key= with an item, and lambda takes none"),
        (lambda item, *, lang: f"{item}:{lang}", r"step.map calls key= with the item alone, and .* needs lang="),
    ):
        with pytest.raises(TypeError, match=says):
            create_workflow(cache={})(lambda step, key=key: step.map(abs, [1], key=key))


DAY = datetime.date(2026, 1, 2)


@pytest.mark.parametrize(
    ("template", "item", "says"),
    [
        ("user:{[id]}", {"id": 1}, "write key='user:{0[id]}'"), ("day:{.year}", DAY, "write key='day:{0.year}'"),
        ("user:{id}", {"id": 1}, "write key='user:{0[id]}'"), ("{id}:{lang}", {"id": 1}, "('id')"),
        ("{{{id}:{at!r:>3}", {"id": 1, "at": 2}, "write key='{{{0[id]}:{0[at]!r:>3}'"),
        ("day:{year:04d}", DAY, "write key='day:{0.year:04d}'"), ("{n}", 1, "{} stands for the item"),
        ("{0[a]}:{b.year}", {"a": 1, "b": DAY}, "write key='{0[a]}:{0[b].year}'"),
        ("{[id]}", {"uid": 1}, "{} stands for the item"), ("{}:{1}", [1], "{} stands for the item"),
        ("{1}:{0!r}", (1, 2), "write key='{0[1]}:{0[0]!r}'"), ("{0}:{2}", (1, 2), "{} stands for the item"),
        ("{0:>10}", (1, 2), "(unsupported format string"), ("{0:{1}}", (3, 5), "{} stands for the item"),
        ("{0:x}:{1}", ("q", 2), "{} stands for the item"),
        ("{{x}}:{}:{:03d}", ("a", 7), "write key='{{x}}:{0[0]}:{0[1]:03d}'"), ("{}:{}", (1, 2, 3), "{} stands for the item"),
    ],
)  # fmt: skip
def test_a_part_of_the_item_is_named_as_it_is_to_be_written(template: str, item: Any, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        create_workflow(cache={})(lambda step: step.map(str, [item], key=template))


@pytest.mark.parametrize(
    "template", ["n:{}", "{}", "a{}b", "{{x}}:{}", "{}{{y}}", "{{{}}}", "a\0{}", "{!r}", "{0}", "{:>3}"]
)
def test_a_map_gives_the_keys_that_its_template_says(template: str) -> None:
    items = ["x", "a\0b", 3, -1, 10**30, True, 1.5, np.int64(7)]
    assert [item.key for item in Keys(template, None).give(items)] == [fill_template(template, item) for item in items]


def test_k4_what_an_async_step_kept_is_a_plain_hit_of_a_map() -> None:
    cache: dict[str, Any] = {}

    async def body(step: Any) -> Any:
        return await asyncio.gather(*[step(fetch, n, key=f"n:{n}") for n in range(3)])

    asyncio.run(create_workflow(cache=cache)(body)).unwrap()
    workflow = create_workflow(cache=cache, on_drift="ignore")
    assert workflow(lambda step: step.map(abs, range(4), key="n:{}")) == Ok([0, 1, 2, 3])


def test_a_function_that_gives_an_awaitable_is_a_type_error_that_shows_the_way() -> None:
    def hidden(n: int) -> Any:
        made = fetch(n)
        return made

    with pytest.raises(TypeError, match=r"step\.map was given a plain function, and this one gave an awaitable"):
        create_workflow(cache={})(lambda step: step.map(hidden, [1], key="n:{}"))


def test_items_that_differ_get_keys_that_differ_and_the_same_in_every_process() -> None:
    one = np.zeros(5000)
    other = one.copy()
    other[2500] = 9
    frame = pd.DataFrame({"x": one})
    for items in ([one, other], [frame, frame.assign(x=other)], [{"a": 1}, {"a": 2}], [{"a", "b"}, {"a", "c"}]):
        keys = [fill_template("k:{}", item) for item in items]
        assert len(set(keys)) == 2
        assert all(re.fullmatch(r"k:#[0-9a-f]{16}", key) for key in keys)
    assert fill_template("k:{}", {"a": 1, "b": 2}) == fill_template("k:{}", {"b": 2, "a": 1})
    assert create_workflow(cache={})(lambda step: step.map(lambda a: a.sum(), [one, other], key="k:{}")) == Ok([0, 9])


@pytest.mark.parametrize(
    ("template", "item", "key"),
    [
        ("{}", "UA", "UA"), ("n:{}", 1.5, "n:1.5"), ("{:02d}:x", 3, "03:x"), ("{0}/{0}", 1, "1/1"), ("{!r}", "a", "'a'"),
        ("{!r}", {"b", "a"}, fill_template("{}", {"a", "b"})), ("{!s}", 1.5, "1.5"),
        ("{0[id]}", {"id": 7}, "7"), ("{0.year}", datetime.date(2026, 1, 2), "2026"),
        ("{}", datetime.date(2026, 1, 2), "2026-01-02"),
        ("{}", ("UA", 1), "('UA', 1)"), ("{{{}}}", 1, "{1}"), ("{}", np.int64(3), "3"), ("{}", Path("a/b"), "a/b"),
    ],
)  # fmt: skip
def test_a_template_says_where_the_item_goes(template: str, item: Any, key: str) -> None:
    assert fill_template(template, item) == key


@pytest.mark.parametrize("item", [object(), threading.Lock(), abs, [object()]])
def test_an_item_without_a_stable_text_needs_a_key_function(item: Any) -> None:
    with pytest.raises(TypeError, match=r"cannot turn the item .* write key=lambda item"):
        create_workflow(cache={})(lambda step: step.map(id, [item], key="k:{}"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"timeout": 1}, "timeout= needs an async thunk"), ({"refresh": "yes"}, "refresh= takes True or False"),
        ({"n_jobs": 0}, "n_jobs=0: use"), ({"n_jobs": "x"}, "n_jobs='x': use"), ({"retries": -1}, "retries=-1"),
        ({"tttl": 1}, "did you mean ttl="), ({"cache": {}}, "belongs to create_workflow"),
        ({"njobs": 3}, r"^step\.map has no option njobs=; did you mean n_jobs=\?$"),
        ({"headers": 3}, r"step\.map\(lambda item: fn\(item, headers=…\), items, key=…\)$"),
    ],
)  # fmt: skip
def test_w2_wrong_options_are_refused_before_any_item_runs(options: dict[str, Any], says: str) -> None:
    calls: list[int] = []
    with pytest.raises((TypeError, ValueError), match=says) as caught:
        create_workflow(cache={})(lambda step: step.map(calls.append, [1], key="n:{}", **options))
    assert calls == []
    assert not any("joblib" in str(entry.path) for entry in caught.traceback)


def _pair(a: int, b: int) -> int:
    return a + b


async def _agen() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((_pair, [1, 2], [3, 4]), r"takes one iterable: .*zip"),
        ((abs, [1, 2], "n:{}"), r"write key= before the third argument: .*key='n:\{\}'"),
        ((abs, "abc"), r"'abc' is one text"),
        ((abs, _agen()), r"async_generator gives its .*: pass \[item async for"),
        ((abs, pd.DataFrame({"a": [1]})), r"one by one: pass frame\.to_dict\('records'\)"),
        ((_pair, [(1, 2)]), r"_pair\(a, b\) takes 2: write lambda item: _pair\(item\[0\], item\[1\]\)"),
        ((lambda a, b: a, [(1, 2)]), r"lambda a, b takes 2: write lambda item: f\(item\[0\], item\[1\]\)"),
        ((lambda: 1, [1]), r"with an item, and lambda takes none"),
        ((lambda n, *, base: n, [1]), r"lambda n needs base=: use functools\.partial"),
    ],
)
def test_a_map_of_what_cannot_be_says_so_before_anything_runs(given: tuple[Any, ...], says: str) -> None:
    cache: dict[str, Any] = {}
    with pytest.raises(TypeError, match=says):
        create_workflow(cache=cache)(
            lambda step: step.map(*given, **({} if isinstance(given[-1], str) and len(given) == 3 else {"key": "n:{}"}))
        )
    assert not cache


def test_a_map_of_a_dask_frame_says_how_it_gives_its_rows() -> None:
    from dask.dataframe import from_pandas

    frame = from_pandas(pd.DataFrame({"a": [1]}), npartitions=1)
    with pytest.raises(TypeError, match=r"pass frame\.compute\(\)\.to_dict\('records'\)"):
        create_workflow(cache={})(lambda step: step.map(abs, frame, key="n:{}")).unwrap()


def test_items_of_a_class_that_says_itself_what_it_gives_are_fine() -> None:
    class DataFrame(list[int]):
        """Not that of pandas."""

    class Rows(pd.DataFrame):
        def __iter__(self) -> Iterator[Any]:
            return self.itertuples(index=False, name=None)

    class Lines(str):
        def __iter__(self) -> Iterator[str]:
            return iter(self.splitlines())

    def mapped(items: Any) -> Any:
        return create_workflow(cache={})(lambda step: step.map(lambda n: n, items, key="n:{}"))

    assert mapped(DataFrame([1, 2])) == Ok([1, 2])
    assert mapped(Rows({"a": [1, 2]})) == Ok([(1,), (2,)])
    assert mapped(Lines("a\nb")) == Ok(["a", "b"])
    assert mapped(b"ab") == Ok([97, 98])


@pytest.mark.parametrize(
    "fn", [lambda n, base=1: n, lambda *items: items[0], lambda n, *rest, base=2: n, functools.partial(_pair, 0), int]
)
def test_a_function_that_can_take_one_item_is_fine(fn: Any) -> None:
    assert create_workflow(cache={})(lambda step: step.map(fn, [1, 2], key="n:{}")) == Ok([1, 2])


def test_what_cannot_be_iterated_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"step\.map takes a function and items"):
        create_workflow(cache={})(lambda step: step.map(abs, 5, key="n:{}"))


def test_timeout_needs_an_async_thunk_here_too() -> None:
    with pytest.raises(TypeError, match="timeout="):
        create_workflow(cache={})(lambda step: step.map(abs, [1], key="n:{}", timeout=1))


def test_c4_items_never_wait_for_a_task_of_the_loop_they_hold_up() -> None:
    calls: list[str] = []

    async def one(n: int) -> int:
        calls.append("task")
        await asyncio.sleep(0.01)
        return n

    def item(n: int) -> Any:
        return calls.append("item") or n

    item.__qualname__ = one.__qualname__ = "number"  # one step of two kinds

    async def body(step: Any) -> list[Any]:
        task = asyncio.create_task(step(one, 1, key="n:1"))
        while not calls:
            await asyncio.sleep(0)
        mapped = step.map(item, [1, 2], key="n:{}")
        return [*mapped, await task]

    assert asyncio.run(create_workflow(cache={})(body)) == Ok([1, 2, 1])
    assert calls == ["task", "item", "item"]


def test_c4_items_that_ask_for_the_step_around_them_are_told_at_once() -> None:
    def outer() -> Any:
        return step.map(abs, [1], key="n:{}")

    with pytest.raises(RecursiveStep):
        create_workflow(cache={})(lambda step: step(outer, key="n:1"))


def test_the_step_around_records_the_items_it_used() -> None:
    workflow = create_workflow(cache={})
    workflow(lambda step: step(lambda: step.map(abs, [1, 2], key="n:{}"), key="all"))
    (entry,) = [meta for meta in workflow.cache.entries() if meta.key == "all"]
    assert sorted(entry.facts.uses) == ["n:1", "n:2"]


def test_hits_are_hits_on_threads_too() -> None:
    told = RecordingListener()
    workflow = create_workflow(cache={}, on_event=told)
    for _ in range(2):
        workflow(lambda step: step.map(abs, [1, 2, 3], key="n:{}"))
    assert sorted(hit.key for hit in told.of(StepHit)) == ["n:1", "n:2", "n:3"]


def test_rate_limits_how_often_items_run_and_not_how_often_they_are_found() -> None:
    workflow = create_workflow(cache={})
    for least_s, most_s in ((0.4, 60), (0, 0.4)):
        began = time.monotonic()
        workflow(lambda step: step.map(abs, range(5), key="n:{}", rate="10/s"))
        assert least_s <= time.monotonic() - began < most_s


def test_rate_counts_further_attempts_too() -> None:
    called: list[float] = []

    def work(n: int) -> None:
        called.append(time.monotonic())
        raise ConnectionError("busy")

    create_workflow(cache={})(
        lambda step: step.map(work, range(4), key="n:{}", rate="10/s", retries=1, on_error="keep")
    )
    assert len(called) == 8
    assert max(called) - min(called) >= 0.5, "eight turns take 0.7 s, four 0.3; the first may be late"


def test_items_of_a_generator_are_asked_for_one_by_one() -> None:
    made: list[int] = []
    ran: list[int] = []
    ahead: list[int] = []

    def items() -> Iterator[int]:
        for n in range(100):
            ahead.append(n - len(ran))
            made.append(n)
            yield n

    def work(n: int) -> int:
        ran.append(n)
        return -n

    assert create_workflow(cache={})(lambda step: step.map(work, items(), key="n:{}", n_jobs=2)) == Ok(
        [-n for n in range(100)]
    )
    assert len(made) == 100
    assert max(ahead) < 20


def test_items_that_are_made_by_steps_belong_to_the_run_on_whatever_thread() -> None:
    told = RecordingListener()

    def items(step: Any) -> Iterator[Any]:
        for page in range(5):
            yield from step(lambda page=page: [page * 10, page * 10 + 1], key=f"page:{page}")

    given = create_workflow(cache={}, on_event=told)(
        lambda step: step.map(lambda n: n, items(step), key="n:{}", n_jobs=3)
    )
    assert given == Ok([page * 10 + at for page in range(5) for at in (0, 1)])
    assert sorted(event.key or "" for event in told.of(StepAsked) if "page" in (event.key or "")) == [
        f"page:{page}" for page in range(5)
    ]


def test_w3_a_generator_that_fails_ends_the_map_with_its_error_and_what_was_computed_is_kept() -> None:
    cache: dict[str, Any] = {}

    def items() -> Iterator[int]:
        yield from range(4)
        raise ValueError("no more pages")

    with pytest.raises(ValueError, match="no more pages"):
        create_workflow(cache=cache)(lambda step: step.map(lambda n: n, items(), key="n:{}", n_jobs=1)).unwrap()
    assert sorted(cache) == [f"n:{n}" for n in range(4)]


@pytest.mark.parametrize("n_jobs", [4, 8])
def test_c4_a_map_that_ended_early_holds_no_key_whose_turn_had_not_come(n_jobs: int) -> None:
    cache, ran = dict[str, Any](), list[int]()

    def items() -> Iterator[int]:
        yield from range(n_jobs - 1)  # one thread is left to ask for more
        raise ValueError("no more pages")

    workflow = create_workflow(cache=cache, on_event=RecordingListener())
    with pytest.raises(ValueError, match="no more pages"):
        workflow(lambda step: step.map(ran.append, items(), key="n:{}", n_jobs=n_jobs, rate="1/h"))
    again = workflow(lambda step: step.map(lambda n: -n, range(n_jobs), key="n:{}", n_jobs=n_jobs)).unwrap()
    assert again[1:] == [-n for n in range(1, n_jobs)]
    assert ran in ([], [0])


class _Frozen(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


@pytest.mark.parametrize("n_jobs", [1, 4])
@pytest.mark.parametrize("kind", [LookupError, _Frozen])
@pytest.mark.parametrize("where", ["items", "key"])
def test_n1_an_error_of_a_generator_or_a_key_has_the_user_s_frames_alone(
    where: str, kind: type[Exception], n_jobs: int
) -> None:
    cause = OSError("why")

    def look(n: int) -> int:
        if n == 3:
            try:
                raise KeyError("context")
            except KeyError:
                raise kind("no more") from cause
        return n

    def items() -> Iterator[int]:
        yield from (look(n) if where == "items" else n for n in range(5))

    def key(n: int) -> str:
        return f"n:{look(n) if where == 'key' else n}"

    try:
        raise AssertionError("meanwhile")
    except AssertionError:
        with pytest.raises(kind) as raised:
            create_workflow(cache={})(lambda step: step.map(abs, items(), key=key, n_jobs=n_jobs))
    frames = [entry.path.name for entry in raised.traceback[-4:]]
    assert {Path(name).name for name in map(str, frames)} <= {Path(__file__).name, "workflows.py"}
    assert not any("joblib" in str(entry.path) for entry in raised.traceback)
    assert raised.value.__cause__ is cause
    assert raised.value.__suppress_context__
    assert kind is _Frozen or type(raised.value.__context__) is KeyError


@pytest.mark.parametrize("n_jobs", [1, 2, 5])
def test_so_many_items_run_at_once_and_no_more(n_jobs: int) -> None:
    running, most, together = 0, 0, threading.Barrier(n_jobs)
    lock = threading.Lock()

    def work(n: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(60)  # breaks where fewer run at once
        with lock:
            running -= 1
        return n

    given = create_workflow(cache={})(lambda step: step.map(work, range(20), key="n:{}", n_jobs=n_jobs))
    assert (given, most) == (Ok(list(range(20))), n_jobs)


@pytest.mark.parametrize("n_jobs", [2, 8])
def test_k8_of_items_that_share_a_key_the_first_one_s_value_is_that_of_all(n_jobs: int, tmp_path: Path) -> None:
    rows = [{"city": "abcde"[n % 5], "n": n} for n in range(40)]
    for run in range(10):
        workflow = create_workflow(cache=tmp_path / str(run), on_event=RecordingListener())
        given = workflow(lambda step: step.map(lambda row: row["n"], rows, key="c:{0[city]}", n_jobs=n_jobs))
        assert given == Ok([n % 5 for n in range(40)])


@pytest.mark.parametrize(("cache", "n_jobs"), [({}, 1), (None, 1)])
def test_items_that_share_a_key_run_in_their_order_where_one_runs_at_once(cache: Any, n_jobs: int) -> None:
    ran: list[tuple[str, int]] = []
    items = [("a", 0), ("a", 1), ("b", 2), ("a", 3), ("c", 4)]
    workflow = create_workflow(cache=cache, on_event=RecordingListener())
    workflow(lambda step: step.map(ran.append, items, key="k:{0[0]}", n_jobs=n_jobs)).unwrap()
    assert ran == (items if cache is None else [items[0], items[2], items[4]])


def test_k8_of_items_that_share_a_key_each_has_the_error_of_the_first() -> None:
    def work(row: list[int]) -> int:
        raise LookupError(row[1])

    workflow = create_workflow(cache={}, on_event=RecordingListener())
    given = workflow(lambda step: step.map(work, [[1, 2], [2, 2], [1, 3]], key="k:{0[0]}", on_error="keep")).unwrap()
    assert [one.error.args for one in given] == [(2,), (2,), (2,)]


def test_k8_items_of_a_generator_that_would_share_a_key_are_told() -> None:
    with pytest.raises(KeyCollision, match="would share the key 'n'"):
        create_workflow(cache={})(lambda step: step.map(abs, iter([1, 2]), key=lambda n: "n", n_jobs=1))


def test_k8_a_stream_finds_items_that_share_a_key_however_far_they_are_apart() -> None:
    """Past so many keys only digests are kept: it still says so, but cannot name the first item."""
    with pytest.raises(KeyCollision, match=r"the items 0 and 30 would share the key 'n:0'"):
        list(Keys(lambda n: f"n:{n % 30}", None).give(range(40)))
    with pytest.raises(KeyCollision, match=r"the item 30000 and an earlier one would share the key 'n:12000'"):
        list(Keys(lambda n: "n:12000" if n == 30_000 else f"n:{n}", None).give(range(40_000)))


def test_items_that_are_the_same_may_share_a_key_in_a_long_stream_too() -> None:
    keys = Keys("n:{}", None)
    given = list(keys.give([*range(20_000), *range(20_000), math.nan, math.nan]))
    assert (len(given), keys.count) == (40_002, 20_001)


def test_items_of_a_stream_are_not_held() -> None:
    alive: weakref.WeakSet[Any] = weakref.WeakSet()

    class Large:
        def __init__(self, n: int) -> None:
            self.n = n
            alive.add(self)

    most = 0
    for _ in Keys(lambda item: f"n:{item.n}", None).give(map(Large, range(100))):
        most = max(most, len(alive))
    assert most <= 3


def test_k8_a_long_list_with_a_key_for_two_runs_nothing() -> None:
    calls: list[int] = []
    with pytest.raises(KeyCollision):
        create_workflow(cache={})(lambda step: step.map(calls.append, range(12_000), key=lambda n: f"n:{n % 11_999}"))
    assert calls == []


def test_c7_a_long_list_is_told_offline_before_anything_runs() -> None:
    with pytest.raises(OfflineMiss, match="12,000 keys"):
        create_workflow(cache={}, mode="offline")(lambda step: step.map(abs, range(12_000), key="n:{}"))


def test_w4_a_value_that_is_itself_a_result_comes_as_it_is() -> None:
    workflow = create_workflow(cache={})
    given = workflow(lambda step: step.map(lambda n: Ok(Err(n) if n else Ok(n)), [0, 1], key="n:{}"))
    assert given.value == [Ok(0), Err(1)]


def test_n9_the_note_counts_the_kept_errors_of_the_whole_map(tmp_path: Path) -> None:
    """Its error is the first of six to be at hand: the others are held up until one thread has nothing to do but the last item."""
    last_is_asked = threading.Event()

    def hold_up(event: Any) -> None:
        if isinstance(event, StepAsked) and event.key == "n:5":
            last_is_asked.set()
        elif isinstance(event, StepHit) and event.key != "n:0":
            assert last_is_asked.wait(60)

    def fail(n: int) -> None:
        raise ValueError(n)

    workflow = create_workflow(cache=tmp_path / "c", on_event=hold_up)
    for _ in range(2):
        result = workflow(lambda step: step.map(fail, range(6), key="n:{}", n_jobs=5))
    assert result.error.args == (0,)
    note, _ = result.error.__notes__
    assert "(all 6 kept errors of this run: nbstep retry --cache" in note
    copied, _ = pickle.loads(pickle.dumps(result.error)).__notes__
    assert (copied, type(copied)) == (note, str)


def refused(n: int) -> int:
    if n % 3 == 1:
        raise ValueError(f"{n} is refused")
    return n


@pytest.mark.parametrize("backend", ["threading", "loky", "tasks"])
def test_w4_the_failure_of_a_map_says_whose_it_is_and_how_many_others_there_are(backend: str) -> None:
    async def refused_later(n: int) -> int:
        return refused(n)

    def note(count: int) -> str:
        workflow = create_workflow(cache={})
        if backend == "tasks":

            async def body(step: Any) -> Any:
                return await step.map(refused_later, range(count), key="token=hunter2&n:{}")

            result = asyncio.run(workflow(body))
        else:
            with joblib.parallel_config(backend=backend, n_jobs=2):
                result = workflow(lambda step: step.map(refused, range(count), key="token=hunter2&n:{}"))
        assert str(result.error) == "1 is refused"
        return result.error.__notes__[-1]  # a worker's error says before that where it was raised

    assert note(10) == "  step.map: item 2 of 10 failed (token=<redacted>&n:1), and 2 others."
    assert note(4) == "  step.map: item 2 of 4 failed (token=<redacted>&n:1), no other."


def test_w4_the_failing_item_of_a_stream_goes_by_its_number() -> None:
    result = create_workflow(cache={})(lambda step: step.map(refused, iter(range(10)), key="n:{}"))
    assert result.error.__notes__ == ["  step.map: item 2 of 10 failed, and 2 others."]


def test_w4_an_exception_that_is_raised_time_and_again_does_not_gather_notes() -> None:
    error = ValueError("one for all")

    def fail(n: int) -> None:
        raise error

    workflow = create_workflow(cache=None)
    for _ in range(3):
        assert workflow(lambda step: step.map(fail, range(3), key="n:{}")).error is error
    assert error.__notes__ == ["  step.map: item 1 of 3 failed (n:0), and 2 others."]


@pytest.mark.parametrize("own_notes", ["abc", ("a", "b"), [np.zeros(2)], 5])
def test_w4_a_failure_with_odd_notes_of_its_own_keeps_them(own_notes: Any) -> None:
    def fail(n: int) -> None:
        error = ValueError(n)
        error.__notes__ = own_notes
        raise error

    for _ in range(2):
        error = create_workflow(cache=None)(lambda step: step.map(fail, [7], key="n:{}")).error
        assert error.__notes__[-1] == "  step.map: item 1 of 1 failed (n:7), no other."
        assert len(error.__notes__) == (3 if type(own_notes) is tuple else 2)
