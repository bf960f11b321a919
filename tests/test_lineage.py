"""Lineage: an input that is the very object an earlier step handed out is recorded as that key (D6)."""

from __future__ import annotations

import asyncio
import collections
import copy
import dataclasses
import datetime
import enum
import functools
import gc
import threading
import types
import uuid
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from shells import Shell, open_shell

from nbstep import Cache, create_workflow, step
from nbstep.drift.lineage import HANDED_OUT, HandedOut, origin_of

A, B = origin_of("/cache", "a"), origin_of("/cache", "b")
LONG = "a long text, as a page that was fetched is; " * 10


class Thing:
    """An object of the user's."""


class Model:
    """An object that is called."""

    def __call__(self, n: int) -> int:
        return n * 2


class Colour(enum.Enum):
    RED = 1


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / ".nbstep")


def uses(cache: Cache, key: str) -> tuple[str, ...]:
    (meta,) = [meta for meta in cache.entries() if meta.key == key]
    return meta.facts.uses


def frame() -> pd.DataFrame:
    return pd.DataFrame({"n": range(5)})


MADE: dict[str, Callable[[], Any]] = {
    "DataFrame": frame,
    "array": lambda: np.arange(10.0),
    "list": lambda: [1, 2, 3],
    "empty list": lambda: [],
    "dict": lambda: {"id": 1, "tags": ["a"]},
    "defaultdict": lambda: collections.defaultdict(list, a=[1]),
    "set": lambda: {1, 2},
    "object": Thing,
    "long text": lambda: LONG + str(datetime.date(2026, 11, 26)),
    "bytes": lambda: bytes(1000),
}


# In one run, in the next, in another cell


@pytest.mark.parametrize("made", MADE)
def test_d6_an_input_that_a_step_handed_out_is_recorded_fresh_and_after_a_hit(cache: Cache, made: str) -> None:
    workflow = create_workflow(cache=cache)

    def body(step: Any) -> None:
        raw = step(MADE[made], key="raw")
        step(lambda: type(raw).__name__, key="captured")
        step(lambda given: type(given).__name__, raw, key="passed")
        step(functools.partial(lambda given: type(given).__name__, given=raw), key="bound")
        step(lambda: 1, key="apart")

    for _ in range(2):
        workflow(body).unwrap()
        for key in ("captured", "passed", "bound"):
            assert uses(cache, key) == ("raw",)
            cache.delete(key)
        assert uses(cache, "apart") == uses(cache, "raw") == ()


def test_d6_what_one_run_handed_out_is_linked_in_the_next_and_in_plain_code_between(cache: Cache) -> None:
    workflow = create_workflow(cache=cache)
    rows = workflow(lambda step: step(lambda: [1, 2], key="rows")).unwrap()
    table = workflow(lambda step: step(frame, key="table")).unwrap()
    gc.collect()
    workflow(lambda step: step(lambda: (len(rows), len(table)), key="sizes")).unwrap()
    assert sorted(uses(cache, "sizes")) == ["rows", "table"]


def test_d6_a_global_that_a_followed_function_names_is_an_input(cache: Cache) -> None:
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec("def fit(): return len(clean)\ndef make(): return lambda: fit()", scope)
    workflow = create_workflow(cache=cache)

    def body(step: Any) -> None:
        scope["clean"] = step(frame, key="clean")
        step(scope["make"](), key="model")

    workflow(body).unwrap()
    assert uses(cache, "model") == ("clean",)


def test_d6_a_model_that_can_be_called_is_linked_though_it_is_no_input(cache: Cache) -> None:
    def body(step: Any) -> None:
        model = step(Model, key="model")
        step(lambda: model(2), key="captured")
        step(lambda model: model(2), model, key="passed")

    create_workflow(cache=cache)(body).unwrap()
    assert uses(cache, "captured") == uses(cache, "passed") == ("model",)


def test_d6_async_steps_are_linked_too(cache: Cache) -> None:
    async def fetch() -> dict[str, int]:
        return {"n": 1}

    async def read(given: dict[str, int]) -> int:
        return given["n"]

    async def body(step: Any) -> None:
        one, two = await asyncio.gather(step(fetch, key="one"), step(fetch, key="two"))
        await asyncio.gather(*[step(read, given, key=f"n:{n}") for n, given in enumerate((one, two))])
        await step(lambda: read(two), key="captured")

    for _ in range(2):
        asyncio.run(create_workflow(cache=cache)(body)).unwrap()
        assert [uses(cache, key) for key in ("n:0", "n:1", "captured")] == [("one",), ("two",), ("two",)]
        for key in ("n:0", "n:1", "captured"):
            cache.delete(key)


def test_d6_what_on_error_keep_gives_is_linked_inside_its_ok_and_without_it(cache: Cache) -> None:
    def body(step: Any) -> None:
        kept = step(frame, key="table", on_error="keep")
        step(lambda: kept.ok, key="whole")
        step(len, kept.value, key="inside")

    create_workflow(cache=cache)(body).unwrap()
    assert (uses(cache, "whole"), uses(cache, "inside")) == (("table",), ("table",))


def test_d6_a_failing_step_records_what_went_into_it(cache: Cache) -> None:
    def body(step: Any) -> None:
        raw = step(frame, key="raw")
        step(lambda: raw["missing"], key="column", on_error="keep")

    create_workflow(cache=cache)(body).unwrap()
    assert uses(cache, "column") == ("raw",)


# What stands in what is taken, and in what is given


def test_d6_a_dict_of_results_passed_on_whole_is_made_from_each(cache: Cache) -> None:
    def body(step: Any) -> None:
        users = {uid: step(lambda uid: {"id": uid}, uid, key=f"user:{uid}") for uid in range(300)}
        pages = step.map(lambda n: [n], range(40), key="page:{}")
        step(lambda: (len(users), len(pages)), key="report")

    for _ in range(2):
        create_workflow(cache=cache)(body).unwrap()
        assert set(uses(cache, "report")) == {f"user:{n}" for n in range(300)} | {f"page:{n}" for n in range(40)}
        cache.delete("report")


def test_d6_more_keys_than_a_header_takes_are_counted(cache: Cache) -> None:
    def body(step: Any) -> None:
        rows = [step(lambda n: [n], n, key=f"row:{n}") for n in range(1100)]
        step(len, rows, key="count")

    create_workflow(cache=cache)(body).unwrap()
    (meta,) = [meta for meta in cache.entries() if meta.key == "count"]
    assert (len(meta.facts.uses), meta.facts.uses_beyond) == (1000, 100)


def test_d6_parts_of_a_tuple_and_frames_in_a_dict_are_linked_by_themselves(cache: Cache) -> None:
    def body(step: Any) -> None:
        X, y = step(lambda: (frame(), [1, 2]), key="split")
        tables = step(lambda: {"first": frame(), "second": frame()}, key="tables")
        step(len, X, key="X")
        step(len, y, key="y")
        step(len, tables["second"], key="second")
        step(len, tables, key="all")

    for _ in range(2):  # fresh, then from a hit
        create_workflow(cache=cache)(body).unwrap()
        assert [uses(cache, key) for key in ("X", "y", "second", "all")] == [("split",)] * 2 + [("tables",)] * 2
        cache.delete_matching("[!st]*"), cache.delete("second")


def test_d6_long_containers_cost_little() -> None:
    table = HandedOut()
    thing = Thing()
    table.note(thing, A)
    assert table.origins_of_all([list(range(10**6)), thing]) == (A,)
    assert table.origins_of_all([[thing] + [None] * 10**6]) == (A,)
    assert table.origins_of_all([[None] * 10**6 + [thing]]) == ()


# Steps inside steps


def test_d6_a_step_inside_a_step_is_recorded_in_its_parent(cache: Cache) -> None:
    workflow = create_workflow(cache=cache)

    def outer(table: pd.DataFrame) -> int:
        return step(len, table, key="inner") + step(lambda: step(lambda: 1, key="innermost"))

    def body(step: Any) -> None:
        step(outer, step(frame, key="raw"), key="outer")

    for _ in range(2):
        workflow(body).unwrap()
        assert uses(cache, "outer") == ("raw", "inner", "innermost")
        assert uses(cache, "inner") == ("raw",)
        cache.delete("outer")


def test_d6_a_step_of_another_cache_is_not_recorded_in_its_parent(cache: Cache) -> None:
    inner = create_workflow(cache={})
    workflow = create_workflow(cache=cache)
    workflow(lambda step: step(lambda: inner(lambda step: step(lambda: 1, key="inner")).value, key="outer")).unwrap()
    assert uses(cache, "outer") == ()


def test_d6_a_key_is_never_made_from_itself(cache: Cache) -> None:
    workflow = create_workflow(cache=cache)
    rows = workflow(lambda step: step(lambda: [1], key="rows")).unwrap()
    more = workflow(lambda step: step(lambda: [*rows, 2], key="rows", refresh=True)).unwrap()
    assert (more, uses(cache, "rows")) == ([1, 2], ())


# What is not the very object


def test_d6_copies_views_and_what_was_derived_are_not_it(cache: Cache) -> None:
    def body(step: Any) -> None:
        array, table, rows = (step(MADE[made], key=made) for made in ("array", "DataFrame", "list"))
        derived = (
            array.view(), array[:], array.T.copy(), array.reshape(2, 5), table.copy(), table["n"], table[["n"]], table.head(),
            table.values, rows[:], [*rows], copy.copy(rows), copy.deepcopy(table), rows[0],
        )  # fmt: skip
        for n, value in enumerate(derived):
            step(lambda value: str(type(value)), value, key=f"of:{n}")

    create_workflow(cache=cache)(body).unwrap()
    assert {uses(cache, key) for key in cache if key.startswith("of:")} == {()}


def test_d6_a_value_that_was_changed_in_place_is_still_it(cache: Cache) -> None:
    def body(step: Any) -> None:
        rows, table = step(lambda: [1], key="rows"), step(frame, key="table")
        rows.append(2)
        table["m"] = 1
        step(lambda: (len(rows), len(table)), key="sizes")

    create_workflow(cache=cache)(body).unwrap()
    assert sorted(uses(cache, "sizes")) == ["rows", "table"]


@pytest.mark.parametrize(
    "value",
    [
        None, True, 7, 10**30, 1.5, "short", b"short", (1, 2), ("a",), (), frozenset({1}), range(3), ..., Colour.RED, Thing, len,
        types, datetime.date(2026, 1, 1), datetime.UTC, pd.NaT, pd.NA, pd.Timestamp(0), np.float64(1), np.int64(3), np.bool_(True),
        np.dtype("f8"), uuid.UUID(int=3), Path("x"),
    ],
    ids=repr,
)  # fmt: skip
def test_d6_values_without_an_identity_of_their_own_never_link(value: Any) -> None:
    table = HandedOut()
    table.note(value, A, 10, plain=True)
    table.note([value], A, 10)
    table.note((value,), A, 10)
    assert table.origins_of_all([value, [value], (value,)]) == ()


def test_d6_an_object_that_loading_gives_twice_is_nobodys_own() -> None:
    table, single = HandedOut(), Thing()
    table.note(single, A, loaded=True)
    table.note(single, B, loaded=True)
    assert table.origins(single) == ()
    table.note(single, A)
    assert table.origins(single) == ()


def test_d6_one_object_handed_out_under_two_keys_is_made_from_both(cache: Cache) -> None:
    def body(step: Any) -> None:
        model = step(Thing, key="model")
        fitted = step(lambda: model, key="fitted")
        assert fitted is model
        step(lambda: str(type(fitted)), key="score")

    create_workflow(cache=cache)(body).unwrap()
    assert (uses(cache, "fitted"), uses(cache, "score")) == (("model",), ("model", "fitted"))


def test_d6_keys_of_another_cache_are_not_recorded(cache: Cache, tmp_path: Path) -> None:
    table = create_workflow(cache=tmp_path / "other")(lambda step: step(frame, key="table")).unwrap()
    rows = create_workflow(cache={})(lambda step: step(lambda: [1], key="rows")).unwrap()
    create_workflow(cache=cache)(lambda step: step(lambda: (len(table), len(rows)), key="sizes")).unwrap()
    assert uses(cache, "sizes") == ()


@pytest.mark.parametrize("name", ["_raw", "api_token"])
def test_d2_names_that_are_no_inputs_make_no_link(cache: Cache, name: str) -> None:
    scope: dict[str, Any] = {"__name__": "__main__", "len": len}
    exec(f"def make(): return lambda: len({name})", scope)
    create_workflow(cache=cache)(
        lambda step: (scope.update({name: step(frame, key="raw")}), step(scope["make"](), key="n"))
    ).unwrap()
    assert uses(cache, "n") == ()


def test_d2_an_ignored_input_makes_no_link(cache: Cache) -> None:
    def body(step: Any) -> None:
        session = step(frame, key="session")
        step(lambda: len(session), key="n", ignore="session")

    create_workflow(cache=cache)(body).unwrap()
    assert uses(cache, "n") == ()


# Identity: nothing lives longer, nothing is taken for something else


@pytest.mark.parametrize("made", ["DataFrame", "array", "set", "object"])
def test_d6_a_value_lives_no_longer_than_the_user_has_it(cache: Cache, made: str) -> None:
    workflow = create_workflow(cache=cache)
    for key in ("k", "k", "other"):  # fresh, a hit, fresh again
        value = workflow(lambda step, key=key: step(MADE[made], key=key)).unwrap()
        gone = weakref.ref(value)
        del value
        assert gone() is None or (gc.collect(), gone())[1] is None


def test_d6_frames_in_a_list_live_no_longer_than_the_user_has_them(cache: Cache) -> None:
    tables = create_workflow(cache=cache)(lambda step: step(lambda: [frame(), frame()], key="tables")).unwrap()
    gone = [weakref.ref(table) for table in tables]
    del tables
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_d6_a_list_that_nobody_else_has_is_let_go() -> None:
    table = HandedOut()
    table.note([1], A, 10, plain=True)
    assert len(table) == 1
    table.note([2], A, 10, plain=True)
    assert len(table) == 1  # the first went as the second came
    gc.collect()
    assert len(table) == 0


def test_d6_lists_that_the_user_has_stay_known_however_many_come() -> None:
    table = HandedOut()
    kept = [[n] for n in range(3000)]
    for n, rows in enumerate(kept):
        table.note(rows, origin_of("/cache", f"k:{n}"), 10, plain=True)
        table.note([n], B, 10, plain=True)
    gc.collect()
    assert len(table) == 3000
    assert all(table.origins(rows)[0][1] == f"k:{n}" for n, rows in enumerate(kept))


def test_d6_what_is_held_has_a_limit_in_bytes_and_in_number() -> None:
    table = HandedOut()
    large = [[n] for n in range(10)]
    for rows in large:
        table.note(rows, A, 10 << 20, plain=True)
    table.let_go()
    assert [bool(table.origins(rows)) for rows in large] == [False] * 4 + [True] * 6
    many = [[n] for n in range(30_000)]
    for rows in many:
        table.note(rows, A, 1, plain=True)
    table.let_go()
    assert len(table) <= 20_000
    assert table.origins(many[-1]) == (A,)
    table.note(huge := [1], A, 65 << 20, plain=True)
    assert table.origins(huge) == ()


@pytest.fixture
def quick_collections() -> Iterator[None]:
    """The collector passes over all that was there before."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("quick_collections")
@pytest.mark.parametrize("made", MADE)
def test_d6_an_id_that_is_used_again_makes_no_link(made: str) -> None:
    """Objects of the same kind come and go at the same addresses; none of the new ones was handed out."""
    table, taken, again = HandedOut(), set[int](), 0
    for n in range(1000):
        value = MADE[made]()
        table.note(value, A, 10, plain=True)
        taken.add(id(value))
        if n % 50 == 0:
            gc.collect()
        del value
        fresh = [MADE[made]() for _ in range(3)]
        again += sum(id(one) in taken for one in fresh)
        assert [table.origins(one) for one in fresh] == [()] * 3
    assert again > 100, "the test saw no id twice, so it says nothing"


@pytest.mark.usefixtures("quick_collections")
def test_d6_an_id_used_again_after_a_cycle_was_collected_makes_no_link() -> None:
    table, taken, again = HandedOut(), set[int](), 0
    gc.disable()
    try:
        for _ in range(300):
            ring = Thing()
            ring.itself = ring  # pyright: ignore[reportAttributeAccessIssue]
            table.note(ring, A)
            taken.add(id(ring))
            del ring
            gc.collect()
            fresh = Thing()
            again += id(fresh) in taken
            assert table.origins(fresh) == ()
    finally:
        gc.enable()
    assert again > 10
    assert len(table) == 0


def test_d6_threads_share_the_table_and_get_no_false_links() -> None:
    table, wrong = HandedOut(), list[str]()
    here = threading.Barrier(8)

    def work(name: int) -> None:
        own, kept = origin_of("/cache", f"k:{name}"), list[Any]()
        here.wait()
        for n in range(2000):
            value: Any = [n] if n % 2 else Thing()
            if table.origins(value):
                wrong.append(f"{name}: link of a fresh object")
            table.note(value, own, 100_000, plain=True)
            if table.origins(value) != (own,):
                wrong.append(f"{name}: lost its own link")
            if n % 3:
                kept.append(value)
            if len(kept) > 20:
                kept.clear()

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_d6_a_store_of_the_users_is_not_kept_alive_by_what_it_handed_out() -> None:
    class Mine(dict[str, bytes]):
        pass

    cache = Mine()
    gone = weakref.ref(cache)
    value = create_workflow(cache=cache)(lambda step: step(frame, key="k")).unwrap()
    del cache
    # The recently used stores are held for their trash: eight others take their place.
    for _ in range(8):
        create_workflow(cache={})(lambda step: step(lambda: 1, key="k"))
    gc.collect()
    assert gone() is None
    assert len(value) == 5


@dataclasses.dataclass(slots=True)
class Slotted:
    n: int = 1


def test_d6_what_can_be_told_neither_way_is_left_alone(cache: Cache) -> None:
    class Odd(list[int]):
        def __iter__(self) -> Any:
            raise AssertionError("the user's code was run")

    class OddDict(dict[str, int]):
        def values(self) -> Any:
            raise AssertionError("the user's code was run")

        __bool__ = __len__ = __eq__ = __hash__ = values  # pyright: ignore

    table = HandedOut()
    slotted, odd = Slotted(), OddDict()
    table.note(slotted, A)
    table.note(odd, A)
    assert table.origins_of_all([Odd([1]), odd, slotted, types.SimpleNamespace()]) == (A,)


def test_k9_a_value_handed_out_is_as_it_would_be_without_nbstep(cache: Cache) -> None:
    rows = create_workflow(cache=cache)(lambda step: step(lambda: [1, 2], key="rows")).unwrap()
    assert type(rows) is list
    rows.clear()
    assert cache.get("rows") == [1, 2]


# In a notebook


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    with open_shell(tmp_path) as opened:
        yield opened


def test_d6_cells_are_linked_by_what_they_leave_in_the_notebook(shell: Shell) -> None:
    # In the second round they come from hits, and `names` in `pair` is the copy that "clean" keeps.
    for of_pair in ({"clean", "names"}, {"clean"}):
        shell.good("import pandas as pd")
        shell.good(
            "table = step(lambda: pd.DataFrame({'n': [1, 2]}), key='table')\nnames = step(lambda: ['a'], key='names')"
        )
        shell.good("%%step clean\nclean = table.dropna()\npair = clean, names")
        shell.good("step(lambda: len(clean), key='model')\nstep(lambda: len(pair), key='pair')")
        cache = Cache()
        assert [uses(cache, key) for key in ("clean", "model")] == [("table", "names"), ("clean",)]
        assert set(uses(cache, "pair")) == of_pair
        cache.delete("model"), cache.delete("pair")


def test_d6_what_a_cell_threw_away_is_let_go_as_the_next_ends(shell: Shell) -> None:
    shell.good("rows = step(lambda: [1, 2], key='rows')")
    before = len(HANDED_OUT)
    shell.good("del rows")
    assert len(HANDED_OUT) == before - 1
