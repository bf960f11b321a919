"""A step of a map that goes the quick way gives, tells and keeps what it would have the whole way (W1, K8, D2, E1, C3)."""

from __future__ import annotations

import dataclasses
import gc
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbstep import Cache, Err, Ok, create_workflow, step
from nbstep.cache.flight import FLIGHTS
from nbstep.cache.trust import KeyRing, SigningKey
from nbstep.events import (
    Event,
    Finding,
    RunFinished,
    RunStarted,
    StepAsked,
    StepFinished,
    StepHit,
    StepMissed,
    StepStarted,
)
from nbstep.steps import quick, turns
from nbstep.stores.base import run_now
from nbstep.testing import MemoryStore, RecordingListener

_TIMES = {"at", "run", "root", "took_s", "created", "saved_s", "cache", "size_bytes"}


class _Unkept:
    def __reduce__(self) -> Any:
        raise TypeError("it cannot be pickled")


def _generator(n: int) -> Any:
    yield n


def _raise(error: BaseException) -> Any:
    raise error


async def _later(n: int) -> int:
    return n


GIVEN: dict[str, Callable[[int], Any]] = {
    "a record": lambda n: {"n": n, "tags": ["a", None, 1.5]},
    "a number": lambda n: n,
    "nothing": lambda n: None,
    "a secret": lambda n: {"password": f"hunter{n}"},
    "a long text": lambda n: "x" * 5000 + str(n),
    "what cannot be kept": lambda n: _Unkept(),
    "a generator": _generator,
    "an error": lambda n: _raise(ValueError(f"no {n}")),
    "an interrupt of its own": lambda n: _raise(StopIteration(n)),
    "a returned error": lambda n: Err("NOT_FOUND") if n % 2 else Ok(n),
    "an awaitable": lambda n: _later(n) if n == 4 else n,
    "another step's value": lambda n: step(lambda: n + 1, key=f"inner:{n}"),
    "a step without a key": lambda n: step(lambda: n + 1),
    "an error of another step": lambda n: step(lambda: _raise(KeyError(n)), key=f"inner:{n}"),
}


def _shown(event: Event) -> tuple[str, dict[str, Any]]:
    fields = {one.name: getattr(event, one.name) for one in dataclasses.fields(event) if one.name not in _TIMES}
    return type(event).__name__, fields


def _run(
    store: Any, items: Any, function: Callable[[Any], Any], listener: Any, n_jobs: int = 1, **options: Any
) -> tuple[str, dict[str, Any]]:
    cache = Cache(store)
    workflow = create_workflow(cache=cache, on_event=listener)
    try:
        result: object = workflow(lambda step: step.map(function, items, key="n:{}", n_jobs=n_jobs, **options))
    except TypeError as error:  # of an awaitable
        result = error
    kept = {
        meta.key: (
            *(getattr(meta, name) for name in ("outcome", "type", "shape", "preview", "packages")),
            meta.error and meta.error.message,
            *(
                getattr(meta.facts, name)
                for name in ("awaitable", "returned", "ttl_s", "uses", "names", "inputs", "code")
            ),
        )
        for meta in cache.entries()
    }
    return repr(result).replace("0x", "")[:3000], kept


@pytest.mark.parametrize("options", [{}, {"on_error": "keep"}, {"ttl": "1h", "on_error": "keep"}], ids=str)
@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
def test_it_is_as_the_whole_way(given: Callable[[int], Any], options: dict[str, Any]) -> None:
    function = given
    told, expected = RecordingListener(), RecordingListener()
    for _ in range(2):
        quickly = _run({}, range(8), function, told, **options)
        wholly = _run(MemoryStore(), range(8), function, expected, **options)
        assert _without_addresses(quickly[0]) == _without_addresses(wholly[0])
        assert quickly[1] == wholly[1]
    events = [_shown(event) for event in told.events]
    assert events == [_shown(event) for event in expected.events]
    assert {StepAsked, RunStarted, RunFinished} <= set(map(type, told.events))


_PLAIN = {name: function for name, function in GIVEN.items() if name != "an awaitable"}  # which ends the map


@pytest.mark.parametrize("given", _PLAIN.values(), ids=_PLAIN)
def test_on_threads_it_is_as_the_whole_way(given: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread hands over what it ran, as `hub.py` says, whatever that took."""
    monkeypatch.setattr(turns, "may_pay", lambda _: True)
    ended: set[str] = set()
    end = quick.Taken.end_quickly

    def noted(self: quick.Taken) -> Any:
        ended.add(threading.current_thread().name)
        return end(self)

    monkeypatch.setattr(quick.Taken, "end_quickly", noted)
    told, expected = RecordingListener(), RecordingListener()
    for _ in range(2):
        quickly = _run({}, range(40), given, told, n_jobs=4, on_error="keep")
        wholly = _run(MemoryStore(), range(40), given, expected, on_error="keep")
        assert _without_addresses(quickly[0]) == _without_addresses(wholly[0])
        assert quickly[1] == wholly[1]
    assert _by_key(told) == _by_key(expected)
    if given is GIVEN["a record"]:
        assert "nbstep map" in ended


def _works_and_waits(n: int) -> int:
    ends = time.thread_time() + 0.0005
    while time.thread_time() < ends:
        pass
    time.sleep(0.005)
    return n


@pytest.mark.parametrize("function", [_works_and_waits, lambda n: n])
def test_only_who_waits_and_works_hands_over_what_it_ran(
    function: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    end = quick.Taken.end_quickly

    def noted(self: quick.Taken) -> Any:
        ended.append(threading.current_thread().name)
        return end(self)

    monkeypatch.setattr(quick.Taken, "end_quickly", noted)
    _run({}, range(200), function, RecordingListener(), n_jobs=4)
    handed_over = ended.count("nbstep map")
    assert handed_over > 100 if function is _works_and_waits else handed_over < 50


def _by_key(listener: RecordingListener) -> dict[str, list[Any]]:
    """What was told of each key in its order, but for the numbers of steps and of what one failure made fail."""
    told: dict[str, list[Any]] = {}
    for event in listener.events:
        name, fields = _shown(event)
        told.setdefault(str(fields.get("key")), []).append(
            (name, {k: v for k, v in fields.items() if k not in {"step", "outer"}})
        )
    return {key: of_key for key, of_key in told.items() if key.startswith("n:")}


def _without_addresses(text: str) -> str:
    return text.partition(" at ")[0]


def _taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, bool]]:
    """The items that a quick way was asked to take, and whether it did."""
    taken: list[tuple[Any, bool]] = []
    take, begin = quick.Quick.take, quick.Quick.begin

    def noted(self: quick.Quick, step: int, key: str, thunk: Any, args: tuple[Any, ...], *rest: Any) -> Any:
        given = take(self, step, key, thunk, args, *rest)
        taken.append((args[0], given is not quick.WHOLE_WAY))
        return given

    def begun(self: quick.Quick, step: int, key: str, thunk: Any, args: tuple[Any, ...], *rest: Any) -> Any:
        given = begin(self, step, key, thunk, args, *rest)
        taken.append((args[0], given[1]))
        return given

    monkeypatch.setattr(quick.Quick, "take", noted)
    monkeypatch.setattr(quick.Quick, "begin", begun)
    return taken


def test_most_of_a_first_run_go_the_quick_way_and_a_hit_goes_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, store = _taken(monkeypatch), dict[str, Any]()
    listener = RecordingListener()
    _run(store, range(0, 40, 2), lambda n: {"n": n}, RecordingListener())
    assert len(taken) >= 17
    assert all(quickly for _, quickly in taken)
    taken.clear()
    _run(store, range(40), lambda n: {"n": n}, listener)
    ended = [event for event in listener.events if isinstance(event, StepFinished | StepHit)]
    hits = {event.key for event in ended if isinstance(event, StepHit)}
    assert hits == {f"n:{n}" for n in range(0, 40, 2)}
    assert not any(quickly for n, quickly in taken if n % 2 == 0)
    assert sum(quickly for n, quickly in taken if n % 2) >= 17


class _Client:
    def __init__(self, base: str) -> None:
        self.base = base

    def fetch(self, n: int) -> Any:
        return {"n": n, "url": f"{self.base}{n}"}


def _with_headers() -> Callable[[int], Any]:
    headers, tries = {"accept": "json", "fields": ["id", "name"]}, [1, 2.5]
    return lambda n: {"n": n, "rows": [{"id": i, "name": f"{headers['accept']}{tries}"} for i in range(30)]}


def _with_a_span() -> Callable[[int], Any]:
    span, tags = (0, 2.5, "a"), frozenset({"x"})
    return lambda n: {"n": n, "in": span[0] <= n <= span[1] or span[2] in tags}


def _with_a_log() -> Callable[[int], Any]:
    calls, counts = list[int](), dict[str, int]()

    def fetch(n: int) -> Any:
        calls.append(n)
        counts["all"] = counts.get("all", 0) + 1
        return "x" * 2000

    return fetch


@pytest.mark.parametrize(
    "function", [_Client("http://localhost/").fetch, _with_headers(), _with_a_span(), _with_a_log()]
)
def test_so_do_methods_and_functions_that_name_settings_or_log_their_calls(
    function: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = _taken(monkeypatch)
    _run({}, range(40), function, RecordingListener())
    assert sum(quickly for _, quickly in taken[-30:]) == 30


@pytest.mark.parametrize(
    "items",
    [[{n} for n in range(6)], [b"%d" % n for n in range(6)], [_Client(str(n)) for n in range(6)]],
    ids=["sets", "bytes", "objects"],
)
def test_what_json_does_not_give_goes_the_whole_way(items: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    taken = _taken(monkeypatch)
    key: Any = lambda item: f"n:{items.index(item)}"
    create_workflow(cache=Cache({}))(lambda step: step.map(lambda n: str(n), items, key=key, n_jobs=1)).unwrap()
    assert not any(quickly for _, quickly in taken)


_ROWS: dict[str, Callable[[int], Any]] = {
    "dicts": lambda n: {"id": n, "tags": ["a", None]},
    "lists": lambda n: [n, [1.5]],
    "tuples": lambda n: (n, "a"),
    "tuples of lists": lambda n: (n, ["a"]),
    "dicts of files": lambda n: {"id": n, "path": __file__ if n == 5 else "nowhere.csv"},
    "long lists": lambda n: [n] * (1000 if n == 5 else 10),
    "dicts of objects": lambda n: {"id": n, "client": _Client("a") if n == 5 else None},
    "lists and numbers": lambda n: [n] if n % 2 else n,
}
_DONE: dict[str, Callable[[Any], Any]] = {
    "looks": lambda row: str(row),
    "changes it": lambda row: row.update(x=1) if type(row) is dict else row.append(1) if type(row) is list else None,
    "changes what is in it": lambda row: row["tags"].clear() if "tags" in row else row[1].append(2),
    "changes some": lambda row: row.update(x=1) if type(row) is dict and row["id"] == 6 else None,
}


@pytest.mark.parametrize("done", _DONE.values(), ids=_DONE)
@pytest.mark.parametrize("row", _ROWS.values(), ids=_ROWS)
def test_d2_d6_rows_are_as_the_whole_way(
    row: Callable[[int], Any], done: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = _taken(monkeypatch)

    def work(item: Any) -> str:
        try:
            done(item)
        except (TypeError, AttributeError, LookupError):
            return "not changed"
        return "done"

    def numbered(item: Any) -> str:
        return f"n:{item['id'] if type(item) is dict else item if type(item) is int else item[0]}"

    def run(store: Any, made: bool) -> Any:
        def body(step: Any) -> Any:
            rows = step(lambda: [row(n) for n in range(4)], key="rows") if made else [row(n) for n in range(4)]
            return step.map(work, [*rows, *(row(n) for n in range(4, 12))], key=numbered, n_jobs=1)

        listener = RecordingListener()
        cache = Cache(store)
        create_workflow(cache=cache, on_event=listener)(body).unwrap()
        facts = {meta.key: (meta.facts.inputs, meta.facts.uses) for meta in cache.entries()}
        return facts, [_shown(event) for event in listener.events]

    for made in (False, True):
        quickly = run({}, made)
        assert quickly == run(MemoryStore(), made)
    assert sum(quickly for _, quickly in taken) >= 12


@pytest.mark.parametrize("mode", ["refresh", "offline"])
def test_no_other_mode_goes_the_quick_way(mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = dict[str, Any]()
    _run(store, range(8), lambda n: n, RecordingListener())
    taken = _taken(monkeypatch)
    workflow = create_workflow(cache=Cache(store), mode=mode)
    assert workflow(lambda step: step.map(lambda n: n, range(8), key="n:{}", n_jobs=1)).unwrap() == list(range(8))
    assert not taken


@pytest.mark.parametrize("kept", [True, False])
def test_k8_the_key_of_another_step_is_told_on_the_quick_way_too(kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = _taken(monkeypatch)

    def body(step: Any) -> Any:
        step(lambda: "other" if kept else _raise(ValueError("other")), key="n:6", on_error="keep", cache_errors=False)
        return step.map(lambda n: n, range(8), key="n:{}", n_jobs=1, on_error="keep")

    def events_of(store: Any) -> list[Any]:
        listener = RecordingListener()
        results = create_workflow(cache=Cache(store), on_event=listener)(body).unwrap()
        assert [type(result) for result in results] == [Ok] * 6 + [Err, Ok]
        assert "n:6" in str(results[6].error)
        return [_shown(event) for event in listener.events]

    quickly = events_of({})
    assert (6, not kept) in taken  # what is kept is looked up the whole way
    assert quickly == events_of(MemoryStore())


def test_d1_what_its_function_calls_may_change_between_items() -> None:
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec("def tidy(n): return n\ndef other(n): return -n\ndef fetch(n): return tidy(n)", scope)
    cache = Cache({})

    def items() -> Any:
        for n in range(12):
            if n == 6:
                scope["tidy"] = scope["other"]
            yield n

    results = create_workflow(cache=cache)(
        lambda step: step.map(scope["fetch"], items(), key="n:{}", n_jobs=1)
    ).unwrap()
    codes = {meta.key: meta.facts.code for meta in cache.entries()}
    assert results == [0, 1, 2, 3, 4, 5, -6, -7, -8, -9, -10, -11]
    assert all(codes[f"n:{n}"] == codes["n:0"] for n in range(6))
    assert all(codes[f"n:{n}"] == codes["n:11"] != codes["n:0"] for n in range(6, 12))


def test_c3_a_store_that_fails_on_the_way_costs_no_value_and_is_told_of() -> None:
    store, listener = dict[str, Any](), RecordingListener()
    cache = Cache(store)
    publish = cache.store.publish

    async def failing(key: str, *args: Any, **options: Any) -> None:
        if key == "n:5":
            raise OSError("the disk is full")
        await publish(key, *args, **options)

    cache.store.publish = failing  # type: ignore[method-assign]
    workflow = create_workflow(cache=cache, on_event=listener)
    assert workflow(lambda step: step.map(lambda n: n, range(8), key="n:{}", n_jobs=1)).unwrap() == list(range(8))
    assert sorted(store) == [f"n:{n}" for n in (0, 1, 2, 3, 4, 6, 7)]
    assert [event.key for event in listener.events if isinstance(event, Finding)] == ["n:5"]


def test_c3_what_a_step_itself_put_under_its_key_stays_and_is_told_of() -> None:
    store, listener = dict[str, Any](), RecordingListener()

    def fetch(n: int) -> int:
        if n == 5:
            store["n:5"] = "mine"
        if n == 6:
            store["n:6"] = store["n:1"]
        if n == 7:
            store["n:7"] = None
        return n

    cache = Cache(store)
    workflow = create_workflow(cache=cache, on_event=listener)
    assert workflow(lambda step: step.map(fetch, range(10), key="n:{}", n_jobs=1)).unwrap() == list(range(10))
    assert store["n:5"] == "mine"
    assert [cache.get(f"n:{n}") for n in (6, 7, 8)] == [6, 7, 8]
    assert [event.key for event in listener.events if isinstance(event, Finding)] == ["n:5"]
    assert run_now(cache.store.traces("n:6", "")).trashed  # what stood there went to the trash


def test_c1_entries_of_a_folder_that_go_the_quick_way_are_read_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = _taken(monkeypatch)
    expected = [{"n": n, "name": f"é{n}"} for n in range(1500)]
    body = lambda step: step.map(lambda n: {"n": n, "name": f"é{n}"}, range(1500), key="n:{}", n_jobs=8)
    assert create_workflow(cache=tmp_path)(body).unwrap() == expected
    assert sum(quickly for _, quickly in taken) > 500  # from when the clerk has come
    listener = RecordingListener()
    assert create_workflow(cache=tmp_path, on_event=listener)(body).unwrap() == expected
    assert sum(isinstance(event, StepHit) for event in listener.events) == 1500
    assert [Cache(tmp_path).get(f"n:{n}") for n in (0, 700, 1499)] == [expected[n] for n in (0, 700, 1499)]


@pytest.mark.parametrize("own_name", ["__main__", "json"])
@pytest.mark.parametrize(
    "change",
    [
        "fetch.__wrapped__ = other",
        "fetch.__module__ = 'elsewhere'",
        "fetch.__qualname__ = 'get'",
        "fetch.__globals__['__name__'] = 'email'",
        "fetch.__globals__['__name__'] = '__main__'",
        "fetch.__defaults__ = (other,)",
        "fetch.__kwdefaults__ = {'how': other}",
        "fetch.__code__ = other.__code__",
    ],
)
def test_d1_what_its_function_is_may_change_between_items_and_inside_one(change: str, own_name: str) -> None:
    def codes(store: Any, at: int, *, inside: bool) -> dict[str, Any]:
        scope: dict[str, Any] = {"__name__": own_name, "at": at if inside else None}
        exec(f"def other(n, *, how=None): return -n\ndef change():\n    {change}\n", scope)
        exec("def fetch(n, *, how=None):\n    if n == at: change()\n    return n", scope)

        def items() -> Any:
            for n in range(8):
                if n == at and not inside:
                    scope["change"]()
                yield n

        cache = Cache(store)
        create_workflow(cache=cache)(
            lambda step: step.map(scope["fetch"], items(), key="n:{}", n_jobs=1, on_error="keep")
        ).unwrap()
        return {meta.key: (meta.facts.code, meta.facts.exact, meta.facts.inputs) for meta in cache.entries()}

    for inside in (True, False):
        assert codes({}, 4, inside=inside) == codes(MemoryStore(), 4, inside=inside)


def test_what_its_function_holds_is_let_go_with_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = _taken(monkeypatch)

    class _Large:
        pass

    def body(step: Any) -> Any:
        _large = _Large()
        gone.append(weakref.ref(_large))
        return step.map(lambda n: (n, _large)[0], range(8), key="n:{}", n_jobs=1)

    gone: list[Any] = []
    gc.collect()
    gc.disable()
    try:
        create_workflow(cache=Cache({}))(body).unwrap()
        assert any(quickly for _, quickly in taken)
        assert gone[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("where", ["its function", StepAsked, StepMissed, StepStarted, StepFinished], ids=str)
def test_an_interrupt_of_a_quick_step_gives_back_all_that_it_held(where: Any) -> None:
    def ended_with(store: Any) -> list[Any]:
        told: list[Event] = []

        def listener(event: Event) -> None:
            told.append(event)
            if type(event) is where and getattr(event, "key", None) == "n:5":
                raise KeyboardInterrupt

        def fetch(n: int) -> int:
            return _raise(KeyboardInterrupt()) if n == 5 and where == "its function" else n

        workflow = create_workflow(cache=Cache(store), on_event=listener)
        with pytest.raises(KeyboardInterrupt):
            workflow(lambda step: step.map(fetch, range(8), key="n:{}", n_jobs=1))
        assert FLIGHTS.claim(Cache(store).scope, "n:5", "me", 0.0)[1]
        FLIGHTS.forget()
        return [_shown(event) for event in told]

    assert ended_with({}) == ended_with(MemoryStore())


def test_d2_an_entry_of_the_quick_way_is_signed_with_the_key_that_its_inputs_were_read_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _ring, own, _other = KeyRing({}), SigningKey(bytes(32)), SigningKey(b"x" * 32)
    monkeypatch.setattr("nbstep.cache.trust._ring", _ring)
    taken = _taken(monkeypatch)

    def signers(store: Any) -> dict[str, Any]:
        _ring.opened = own
        scope: dict[str, Any] = {"__name__": "__main__", "_rotate": lambda: setattr(_ring, "opened", _other)}
        exec("def fetch(n):\n    if n == 4: _rotate()\n    return n", scope)
        cache = Cache(store)
        create_workflow(cache=cache)(lambda step: step.map(scope["fetch"], range(8), key="n:{}", n_jobs=1)).unwrap()
        return {meta.key: (meta.signer, meta.facts.inputs.get("")) for meta in cache.entries()}

    quickly = signers({})
    assert sum(quickly for _, quickly in taken) >= 4
    assert quickly == signers(MemoryStore())
    assert all(inputs in (signer, None) for signer, inputs in quickly.values())
    assert (quickly["n:3"][0], quickly["n:4"][0]) == (own.id, _other.id)


class _Seconds(float):
    """As a number of numpy's is."""

    def __repr__(self) -> str:
        return f"seconds({float(self)})"


def test_c1_an_entry_of_the_quick_way_is_read_whatever_the_clock_counts_in() -> None:
    cache, calls = Cache({}), list[int]()
    cache.clock = lambda: _Seconds(time.time())

    def fetch(n: int) -> int:
        calls.append(n)
        return n

    for _ in range(2):
        create_workflow(cache=cache)(lambda step: step.map(fetch, range(20), key="n:{}", n_jobs=1)).unwrap()
    assert calls == list(range(20))
