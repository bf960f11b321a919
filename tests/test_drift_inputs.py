"""The inputs of a step, then and now (D1, D2, D3, E1): what is recorded, what is compared, what is said and done."""

from __future__ import annotations

import asyncio
import copy
import enum
import functools
import hashlib
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbstep import Cache, create_workflow, step
from nbstep.cache import entry
from nbstep.cache.trust import SigningKey
from nbstep.drift.code import look_behind
from nbstep.drift.explain import Change, input_changes, old_values_texts
from nbstep.drift.inputs import SIGNER, Inputs, are_lasting, changed_in_place, settled
from nbstep.drift.reading import read_inputs
from nbstep.drift.values import Texts
from nbstep.drift.wanted import ALL, Wanted
from nbstep.errors import DriftError
from nbstep.events import Finding, RunFinished, StepHit
from nbstep.freezing import freeze
from nbstep.result import Err, Ok
from nbstep.testing import RecordingListener

KEY = SigningKey(b"k" * 32)
DAY = 86_400.0


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / ".nbstep")


def _read(thunk: Any, *args: Any, wanted: Wanted | None = None, **options: Any) -> dict[str, str]:
    read = read_inputs(thunk, args, look_behind(thunk), KEY, wanted or Wanted(), **options)
    return {name: text for name, text in read.texts.items() if name != SIGNER}


def _cell(source: str, **names: Any) -> dict[str, Any]:
    scope: dict[str, Any] = {"__name__": "__main__", **names}
    exec(compile(source, "<cell>", "exec"), scope)
    return scope


def _kept(cache: Cache, key: str = "k") -> dict[str, str]:
    (meta,) = [meta for meta in cache.entries() if meta.key == key]
    return {name: text for name, text in meta.facts.inputs.items() if name != SIGNER}


def _drift(told: RecordingListener) -> list[str | None]:
    return [hit.drift for hit in told.of(StepHit)]


# What is an input


def test_d1_inputs_are_arguments_cells_and_globals_of_the_thunk_and_of_what_it_follows() -> None:
    scope = _cell(
        "A, B, C = 1, 2, 3\ndef helper(n): return n * B\ndef make(cell): return lambda n: helper(n) + A + cell", C=3
    )
    assert _read(scope["make"](7), 5) == {"n": "5", "A": "1", "cell": "7", "B": "2"}


@pytest.mark.parametrize(
    ("thunk", "args"),
    [
        ("fetch", (1, 2)),
        ("functools.partial(fetch, 1)", (2,)),
        ("functools.partial(functools.partial(fetch, 1), b=2)", ()),
        ("C().method", (1, 2)),
        ("C", (1, 2)),
    ],
)
def test_d1_arguments_have_the_names_of_their_parameters(thunk: str, args: tuple[Any, ...]) -> None:
    scope = _cell(
        "def fetch(a, b, *rest): return a\nclass C:\n    def __init__(self, a=0, b=0): pass\n    def method(self, a, b): pass",
        functools=functools,
    )
    read = _read(eval(thunk, scope), *args)
    assert {name: text for name, text in read.items() if name != "self"} == {"a": "1", "b": "2"}


def test_d1_arguments_without_a_name_are_numbered() -> None:
    assert _read(lambda *numbers: numbers, 1, 2) == {"argument 1": "1", "argument 2": "2"}
    assert sorted(_read("ab".join, ["x"])) == ["argument 1", "self"]


def test_d1_names_of_one_spelling_in_two_places_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other_rates.py").write_text("RATE = 5\ndef scale(n): return n * RATE\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    scope = _cell("from other_rates import scale\nRATE = 2\nthunk = lambda: scale(RATE)")
    assert _read(scope["thunk"]) == {"RATE": "2", "RATE in scale": "5"}


def test_d1_code_is_no_input() -> None:
    scope = _cell(
        "import os, json\nclass C: pass\ndef f(): pass\nthunk = lambda: (os, json.dumps, C, f, len, step)", step=step
    )
    assert _read(scope["thunk"]) == {}
    assert _read(scope["thunk"], len, os, Path) == {}


def test_d2_private_secret_and_ignored_names_are_no_inputs() -> None:
    scope = _cell("_a, api_key, b, c = 1, 2, 3, 4\nthunk = lambda token, d: (_a, api_key, b, c)")
    assert _read(scope["thunk"], 5, 6) == {"d": "6", "b": "3", "c": "4"}
    assert _read(scope["thunk"], 5, 6, wanted=Wanted(frozenset({"b", "d"}))) == {"c": "4"}


def test_d1_what_does_not_fit_into_the_time_is_unknown_the_thunks_own_come_first() -> None:
    scope = _cell("big = list(range(9))\nn = 1\ndef helper(): return big, n\nthunk = lambda own: helper()")
    assert list(_read(scope["thunk"], [1], budget_s=-1)) == ["n", "own"]
    assert sorted(_read(scope["thunk"], [1])) == ["big", "n", "own"]


def test_d1_three_frames_and_settings_all_fit_into_the_time() -> None:
    rows = np.arange(200_000.0)
    frame = pd.DataFrame({f"c{at}": rows for at in range(15)} | {"s": rows.astype(str), "t": pd.to_datetime(rows)})
    scope = _cell(
        "thunk = lambda: a.merge(b).merge(c).assign(z=a.c1 * LIMITS['z']).pipe(b.join)",
        a=frame, b=frame.copy(), c=frame[::-1], LIMITS={"z": 1},
    )  # fmt: skip
    # the machine may be busy with something else
    assert any(sorted(_read(scope["thunk"])) == ["LIMITS", "a", "b", "c"] for _ in range(20))


def test_d1_what_is_read_from_an_input_in_two_ways_is_one_input() -> None:
    scope = _cell("df = [1]\nthunk = lambda: (df.copy, df.index, df)")
    assert list(_read(scope["thunk"])) == ["df"]


def test_d1_an_estimator_counts_by_its_parameters_fitted_or_not() -> None:
    from sklearn.linear_model import LinearRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scope = _cell("thunk = lambda: (model, models)")

    def texts(alpha: float, *, fitted: bool = False) -> dict[str, str]:
        scope["model"], scope["models"] = Ridge(alpha=alpha), {"p": make_pipeline(StandardScaler(), Ridge(alpha=alpha))}
        if fitted:
            for model in (scope["model"], scope["models"]["p"]):
                model.fit(np.arange(6.0).reshape(3, 2), np.arange(3.0))
        return _read(scope["thunk"])

    before = texts(1.0)
    assert texts(1.0) == texts(1.0, fitted=True) == before
    changed = texts(2.0)
    assert changed.keys() == before.keys() == {"model", "models"}
    assert all(changed[name] != before[name] for name in changed)
    scope["model"] = LinearRegression()
    assert _read(scope["thunk"])["model"] not in (before["model"], changed["model"])


def test_what_cannot_be_read_is_unknown() -> None:
    frame = pd.DataFrame({"a": [1]})
    frame.attrs["x"] = 1
    frame._mgr = None  # type: ignore[assignment] # as broken as can be
    assert _read(lambda given, n: given, frame, 1) == {"n": "1"}


def test_d1_a_frozen_thunk_has_the_inputs_of_its_original() -> None:
    scope = _cell("A = 1\ndef helper(): return A\ndef make(n): return lambda: helper() + A + n")
    thunk = scope["make"](3)
    frozen = freeze(thunk)
    assert _read(thunk) == _read(frozen) == {"A": "1", "n": "3"}
    scope["A"] = 2
    assert _read(frozen) == {"A": "1", "n": "3"}


# State


def test_d2_what_the_thunk_changes_is_state() -> None:
    before = Inputs({SIGNER: "a", "log": "#1", "n": "1", "gone": "2"})
    after = Inputs({SIGNER: "a", "log": "#2", "n": "1", "new": "3"})
    assert settled(before, after) == {SIGNER: "a", "n": "1"}
    tables = frozenset({"log"})
    assert changed_in_place(before, after) == []
    assert changed_in_place(before._replace(tables=tables), after._replace(tables=tables)) == ["log"]


class _Client:
    def __init__(self, host: str = "x") -> None:
        self.host = host

    def fetch(self, uid: int, limit: Any = 3) -> None: ...


class _OtherClient(_Client): ...


LASTING: dict[str, tuple[str, tuple[Any, ...], str, bool]] = {
    "nothing": ("lambda: 1", (), "", True),
    "an argument": ("lambda n: n", (1,), "", True),
    "a global number": ("lambda: N", (), "", True),
    "a number bound anew": ("lambda: N", (), "N = 2", False),
    "a number bound to an equal one": ("lambda: N", (), "N = 1.0", False),
    "a number unbound": ("lambda: N", (), "del N", False),
    "None": ("lambda: NONE", (), "NONE = 1", False),
    "what becomes None": ("lambda: N", (), "N = None", False),
    "an object that becomes None": ("lambda: client", (), "client = None", False),
    "a name bound only now": ("lambda: UNSET", (), "UNSET = 2", True),
    "a text": ("lambda: PROMPT", (), "", True),
    "a text bound anew": ("lambda: PROMPT", (), "PROMPT = 'b' * 999", False),
    "a huge text": ("lambda: HUGE", (), "", False),
    "an object by its type": ("lambda: client", (), "client.host = 'y'", True),
    "another of its type": ("lambda: client", (), "client = Client()", True),
    "another of another type": ("lambda: client", (), "client = OtherClient()", False),
    "an object that is unbound": ("lambda: client", (), "del client", False),
    "another class for it": ("lambda: client", (), "client.__class__ = OtherClient", False),
    "another class for an argument": ("lambda c: 1", (_Client(),), "args[0].__class__ = OtherClient", False),
    "a list": ("lambda: rows", (), "rows.append(1)", False),
    "a list among the arguments": ("lambda r: r", ([1],), "args[0].append(1)", False),
    "a tuple among the arguments": ("lambda r: r", ((1, "a"),), "", True),
    "a tuple with a list in it": ("lambda r: r", (([1],),), "args[0][0].append(1)", False),
    "a method": ("client.fetch", (1,), "", True),
    "a partial": ("functools.partial(client.fetch, 1)", (), "", True),
    "a partial with names": ("functools.partial(client.fetch, uid=1)", (), "thunk.keywords['uid'] = 2", False),
    "defaults": ("lambda n=1: n", (), "", True),
    "other defaults": ("lambda n=1: n", (), "thunk.__defaults__ = ([2],)", False),
    "a file": ("lambda: FILE", (), "Path(FILE).write_text('more')", False),
    "a file that was not there": ("lambda: MISSING", (), "Path(MISSING).touch()", True),
}


@pytest.mark.parametrize(("thunk", "args", "work", "lasts"), LASTING.values(), ids=LASTING)
def test_d2_what_can_only_be_replaced_is_not_read_again_and_gives_the_same(
    tmp_path: Path, thunk: str, args: tuple[Any, ...], work: str, lasts: bool
) -> None:
    (tmp_path / "a.csv").write_text("1")
    scope = _cell(
        f"thunk = {thunk}", N=1, NONE=None, PROMPT="a" * 999, HUGE="a" * (1 << 17), rows=[1], client=_Client(), Client=_Client,
        OtherClient=_OtherClient, FILE=str(tmp_path / "a.csv"), MISSING=str(tmp_path / "b.csv"), functools=functools,
        Path=Path,
    )  # fmt: skip
    args = copy.deepcopy(args)
    seen = look_behind(scope["thunk"])
    before = read_inputs(scope["thunk"], args, seen, KEY)
    exec(work, scope, scope | {"args": args} if "args" in work else None)
    after = read_inputs(scope["thunk"], args, seen, KEY)
    assert are_lasting(before, scope["thunk"], args, seen, KEY) is lasts
    if lasts:
        assert settled(before, after) == before.texts
        assert not are_lasting(before, freeze(scope["thunk"]), args, seen, KEY)
        assert not are_lasting(before, scope["thunk"], args, seen, SigningKey(b"o" * 32))


def test_d2_what_is_no_more_named_is_not_kept_alive_while_the_thunk_runs(cache: Cache) -> None:
    scope = _cell("def replace():\n    global client\n    client = Client()\n    return gone() is None", Client=_Client)
    client = scope["client"] = _Client()
    scope["gone"] = weakref.ref(client)
    del client
    assert create_workflow(cache=cache)(lambda step: step(scope["replace"], key="k")) == Ok(True)


def test_d2_a_frame_changed_in_place_is_called_out_once(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    # A collection of garbage in the middle may take all of a look's time.
    monkeypatch.setattr(read_inputs, "__defaults__", (ALL, 10.0))
    told = RecordingListener()
    df, array, log = pd.DataFrame({"a": [1, 2]}), np.zeros(3), [1]

    def clean(frame: pd.DataFrame) -> int:
        frame["b"] = 1
        array[0] = 1
        log.append(1)
        return 1

    create_workflow(cache=cache, on_event=told)(lambda step: [step(lambda: clean(df), key="k") for _ in range(2)])
    assert told.findings() == [
        "k: its function changes `df` in place, and a hit will not: work on a copy, and return it",
        "k: its function changes `array` in place, and a hit will not: work on a copy, and return it",
    ]
    assert _kept(cache) == {}


def test_t10_of_inputs_an_entry_shows_numbers_and_no_more(cache: Cache) -> None:
    uid, prompt, api_token, pin_code = 41, "a rather private sentence", "hunter2hunter2", {"pin": "90210"}
    create_workflow(cache=cache)(lambda step: step(lambda: uid + len(prompt) + len(api_token) + len(pin_code), key="k"))
    kept = _kept(cache)
    assert (kept["uid"], kept["prompt"][0], sorted(kept)) == ("41", "#", ["pin_code", "prompt", "uid"])
    content = _only_file(cache).read_bytes()
    for text in (prompt, api_token, "90210"):
        assert text.encode() not in content
        for digest in (hashlib.blake2b, hashlib.sha256, hashlib.md5):
            assert digest(text.encode()).hexdigest()[:24].encode() not in content
    assert Texts(b"").of(prompt) != kept["prompt"]


def _document(path: Path) -> Any:
    from nbstep.stores.base import BytesDocument

    return BytesDocument(path.read_bytes())


# Comparing


def test_d3_what_changed_is_said() -> None:
    kept = {SIGNER: "me", "uid": "1", "prompt": "#a", "gone": "1", "same": "#b", "mixed": "1", "df": "#f"}
    texts = {SIGNER: "me", "uid": "2", "prompt": "#c", "new": "1", "same": "#b", "mixed": "#d", "df": "#e"}
    now = Inputs(texts, tables=frozenset({"df"}))
    assert [change.text for change in input_changes(kept, now, 0.0)] == [
        "`uid` was 1, is now 2: put it in the key", "`prompt` changed: put it in the key", "`mixed` changed: put it in the key",
        "`df` changed",
    ]  # fmt: skip


def test_d3_a_text_that_changed_is_to_be_put_in_the_key(cache: Cache) -> None:
    told = RecordingListener()

    def orders(region: str, month: int) -> list[Any]:
        return [region, month]

    workflow = create_workflow(cache=cache, on_event=told)
    workflow(lambda step: step(orders, "south", 2, key="o:2"))
    workflow(lambda step: step(orders, "east", 2, key="o:2"))
    workflow(lambda step: step(orders, "south", 1, key="o:2"))
    first, second = told.findings()
    assert first.startswith("1 old value (o:2): `region` changed: put it in the key. See: ")
    assert second.startswith("1 old value (o:2): `month` was 2, is now 1: put it in the key. See: ")
    assert "south" not in first


def test_d2_digests_of_another_users_key_are_unknown() -> None:
    kept = {SIGNER: "you", "uid": "1", "prompt": "#a", "@f": "1 2"}
    now = Inputs({SIGNER: "me", "uid": "2", "prompt": "#c", "@f": "3 4"}, {"@f": "a.csv"})
    assert [change.what for change in input_changes(kept, now, 0.0)] == ["uid"]


def _stamp(size: int, day: float) -> str:
    return f"{size} {int((day + 0.4) * DAY * 1e9)}"


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        (_stamp(12_000_000, 20), _stamp(14_000_000, 200), "sales.csv: 12 MB on 21 Jan, 14 MB today"),
        (_stamp(12_000_000, 20), _stamp(12_000_000, 200), "sales.csv: 12 MB on 21 Jan, 12 MB today"),
        (_stamp(12_000_000, 20), _stamp(12_000_000, 20.2), "sales.csv: 12 MB as before, written anew on 21 Jan"),
        (_stamp(12_000_001, 20), _stamp(12_000_000, 20), "sales.csv: 12,000,001 B before, 12,000,000 B now"),
        (_stamp(12_000_000, 20), "-", "sales.csv is gone now"),
        ("-", _stamp(12_000_000, 20), "sales.csv is there now"),
    ],
)
def test_d3_a_file_that_changed_is_told_by_size_and_day(then: str, now: str, said: str) -> None:
    (change,) = input_changes({"@f": then}, Inputs({"@f": now}, {"@f": "sales.csv"}), 200.5 * DAY)
    assert change.text == said


def test_d3_one_line_for_a_cause_however_many_steps(cache: Cache) -> None:
    def run(rate: float, extra: int) -> RecordingListener:
        told = RecordingListener()

        def body(step: Any) -> None:
            for n in range(9):
                step(lambda: n * rate + extra, key=f"price:{n}")
            step(lambda: rate, key="other")

        create_workflow(cache=cache, on_event=told)(body)
        return told

    assert run(1.5, 1).findings() == []
    told = run(2.5, 2)
    assert told.findings() == [
        "10 old values (price:0, price:1, price:2, price:3, price:4 and 5 more): `rate` was 1.5, is now 2.5: put it in the key",
        "9 old values (price:0, price:1, price:2, price:3, price:4 and 4 more): `extra` was 1, is now 2: put it in the key",
        f'See: nbstep show --cache {cache.place} price:0 · Re-run: on_drift="rerun" · '
        f"Keep: nbstep accept --cache {cache.place} 'price:*' other",
    ]
    assert [type(event) for event in told.events[-4:]] == [Finding, Finding, Finding, RunFinished]
    assert _drift(told)[-1] == "`rate` was 1.5, is now 2.5: put it in the key"


def test_d3_an_old_value_with_two_changes_is_counted_once() -> None:
    edit, data = (
        Change("code", "", "score() was edited"),
        Change("inputs", "", "`weight` was 2, is now 3: put it in the key"),
    )
    (text,) = old_values_texts([(edit, ["score"]), (data, ["score"])], in_notebook=True)
    assert text.startswith(
        "1 old value (score): score() was edited; `weight` was 2, is now 3: put it in the key. See: %nbstep show score · "
    )
    assert old_values_texts([(edit, ["a", "b"]), (data, ["b"])], in_notebook=True)[:2] == [
        "2 old values (a, b): score() was edited",
        "1 old value (b): `weight` was 2, is now 3: put it in the key",
    ]


def test_d3_in_a_notebook_the_line_names_the_flag() -> None:
    drifted = [(Change("inputs", "n", "`n` changed"), ["a"])]
    assert old_values_texts(drifted, in_notebook=True) == [
        "1 old value (a): `n` changed. See: %nbstep show a · Re-run: %%workflow --rerun-drifted, or %nbstep rm a · "
        "Keep: %nbstep accept a"
    ]
    (text,) = old_values_texts(drifted, in_notebook=True, folder=None, line="%%step a")
    assert text.endswith("changed. Re-run: %%step a --rerun-drifted · Keep: cache.accept('a')")


@pytest.mark.parametrize(
    ("on_drift", "outcome"),
    [
        ("warn", Ok(1)), ("ignore", Ok(1)), ("rerun", Ok(2)), ({"inputs": "rerun"}, Ok(2)), ({"code": "rerun"}, Ok(1)),
        ({"code": "error", "inputs": "ignore"}, Ok(1)), ("error", None), ({"inputs": "error", "code": "ignore"}, None),
    ],
)  # fmt: skip
def test_d3_on_drift_decides_by_cause(cache: Cache, on_drift: Any, outcome: Any) -> None:
    def run(n: int, **options: Any) -> tuple[Any, RecordingListener]:
        told = RecordingListener()
        return create_workflow(cache=cache, on_event=told, **options)(lambda step: step(lambda: n, key="k")), told

    run(1)
    if outcome is None:
        with pytest.raises(DriftError, match=r"^k is an old value, and on_drift=\"error\": `n` was 1, is now 2"):
            run(2, on_drift=on_drift)
        return
    result, told = run(2, on_drift=on_drift)
    assert result == outcome
    ignored = on_drift == "ignore" or (isinstance(on_drift, dict) and on_drift.get("inputs") == "ignore")
    assert bool(told.findings()) == (outcome == Ok(1) and not ignored)


def test_d3_an_entry_without_inputs_is_unknown_never_drifted(cache: Cache) -> None:
    told, calls, n = RecordingListener(), list[int](), 1
    workflow = create_workflow(cache=cache, on_event=told, on_drift="error")

    def body(step: Any) -> Any:
        return step(lambda: calls.append(n) or n, key="k")

    workflow(body)
    (meta,) = cache.entries()
    assert meta.facts.inputs
    fields = dict(entry.read_header(_document(_only_file(cache))).fields)
    del fields["facts"]["inputs"]  # as an older nbstep wrote it
    assert entry._facts(fields["facts"]).inputs == {}
    calls.clear()
    n = 2
    with pytest.raises(DriftError):
        workflow(body)
    _rewrite(cache, fields)
    assert workflow(body) == Ok(1)
    assert calls == []


def _only_file(cache: Cache) -> Path:
    assert cache.directory is not None
    (path,) = [path for path in (Path(cache.directory) / "v1" / "e").rglob("*") if path.is_file()]
    return path


def _rewrite(cache: Cache, fields: dict[str, Any]) -> None:
    from nbstep.cache.trust import signing_key

    path = _only_file(cache)
    signed = entry.read_header(_document(path))
    rest = path.read_bytes()[len(signed.signed) + len(signed.mac) :]
    path.unlink()
    path.write_bytes(entry.sign_header({k: v for k, v in fields.items() if k != "signer"}, signing_key()) + rest)


def test_e1_changed_inputs_of_a_kept_error_are_reported_not_run_again(cache: Cache) -> None:
    calls: list[int] = []

    def run(n: int, **options: Any) -> RecordingListener:
        def fail() -> None:
            calls.append(n)
            raise LookupError(n)

        told = RecordingListener()
        result = create_workflow(cache=cache, on_event=told, **options)(
            lambda step: step(fail, key="k", ignore="calls")
        )
        assert isinstance(result, Err)
        return told

    run(1)
    told = run(2)
    assert calls == [1]
    assert _drift(told) == ["`n` was 1, is now 2: put it in the key"]
    assert "`n` was 1, is now 2" in told.findings()[0]
    run(2, on_drift={"code": "rerun"})
    assert calls == [1]
    assert run(2, on_drift="rerun").reasons("k") == ["drifted"]
    assert calls == [1, 2]


# Files and names


def test_w2_ignore_and_files_are_options_of_a_step(cache: Cache) -> None:
    workflow = create_workflow(cache=cache)
    for wrong in ({"ignore": 1}, {"ignore": [1]}, {"files": 1}, {"files": [1]}, {"files": b"a"}):
        with pytest.raises(TypeError, match=rf"{next(iter(wrong))}= takes"):
            workflow(lambda step, wrong=wrong: step(lambda: 1, key="k", **wrong))
    with pytest.raises(TypeError, match=r"belongs to step\(…, ignore=…\)"):
        create_workflow(ignore="a")
    assert workflow(lambda step: step.map(str, [1], key="k:{}", ignore={"a"}, files=())) == Ok(["1"])


def test_d1_files_of_a_step_count_by_size_and_time(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "sales.csv"
    data.write_text("a,b\n")
    told = RecordingListener()
    workflow = create_workflow(cache=cache, on_event=told)
    name = "sales"

    def ask(**options: Any) -> list[str | None]:
        told.events.clear()
        workflow(lambda step: step(lambda: Path(f"{name}.csv").read_text(), key="k", **options))
        return _drift(told)

    ask(files=[data, "later.csv"])
    assert ask(files=[data, "later.csv"]) == [None]
    os.utime(data, (1_700_000_000, 1_700_000_000))
    (tmp_path / "later.csv").write_text("x")
    (drift,) = ask(files=(data, "later.csv"))
    assert drift is not None
    assert drift.startswith(f"{data}: 4 B today")
    assert drift.endswith("later.csv is there now")
    assert ask(files=()) == [None]
    assert ask() == [None]


def test_d2_what_is_said_of_a_url_or_a_share_is_not_looked_up() -> None:
    read = _read(lambda a, b, c: a, "https://example.com/a.csv", "\\\\server\\share\\a.csv", "//server/a.csv")
    assert sorted(read) == ["a", "b", "c"]


# Awaitable steps


def test_k10_an_awaitable_step_has_the_inputs_of_its_call(cache: Cache) -> None:
    async def fetch(n: int) -> int:
        await asyncio.sleep(0)
        return n

    async def run(told: RecordingListener, values: list[int]) -> Any:
        async def body(step: Any) -> list[int]:
            steps = []
            for n in values:
                steps.append(step(lambda: fetch(n), key=f"k:{n % 10}"))
            return await asyncio.gather(*steps)

        return await create_workflow(cache=cache, on_event=told)(body)

    assert asyncio.run(run(RecordingListener(), [1, 2, 3])) == Ok([1, 2, 3])
    assert {key: _kept(cache, key)["n"] for key in cache} == {"k:1": "1", "k:2": "2", "k:3": "3"}
    told = RecordingListener()
    assert asyncio.run(run(told, [13, 2, 11])) == Ok([3, 2, 1])
    assert sorted(str(drift) for drift in _drift(told)) == [
        "None", "`n` was 1, is now 11: put it in the key", "`n` was 3, is now 13: put it in the key",
    ]  # fmt: skip


def test_k10_so_has_a_plain_step_that_turns_out_awaitable(cache: Cache) -> None:
    async def fetch(n: int) -> int:
        return n

    def start(n: int) -> Any:
        return fetch(n)

    async def body(step: Any) -> list[int]:
        steps = []
        for n in (1, 2):
            steps.append(step(lambda: start(n), key=f"k:{n}"))
        return [await one for one in steps]

    assert asyncio.run(create_workflow(cache=cache)(body)) == Ok([1, 2])
    assert {key: _kept(cache, key)["n"] for key in cache} == {"k:1": "1", "k:2": "2"}


class _Place(enum.Enum):
    HERE = "e.csv"


class _Reader:
    path = "c.csv"
    paths = ("d.csv",)
    _log = "log.txt"
    log = "log.txt"

    def text(self) -> str:
        return Path(self.path).read_text()

    def texts(self) -> str:
        return Path(self.paths[0]).read_text()

    def logged(self) -> str:
        return Path(self.log).read_text() and Path(self._log).read_text()


def _first(paths: tuple[str, ...] = ("a.csv", "b.csv")) -> str:
    return Path(paths[0]).read_text()


def _logged(log: str = "log.txt") -> str:
    return Path(log).read_text()


def _text_of(path: str = "b.csv") -> str:
    return Path(path).read_text()


def _own(path: str = "a.csv") -> str:
    return Path(path).read_text()


@pytest.mark.parametrize(
    ("take", "named"),
    [
        (lambda step: step(_own, key="k"), "a.csv"),
        (lambda step: step(lambda path="a.csv": Path(path).read_text(), key="k"), "a.csv"),
        (lambda step: step(_own, "b.csv", key="k"), "b.csv"),
        (lambda step: step(lambda: _text_of(), key="k"), "b.csv"),
        (lambda step: step(lambda: _Reader().text(), key="k"), "c.csv"),
        (lambda step: step.map(lambda n, path="a.csv": Path(path).read_text(), [1], key="k:{}"), "a.csv"),
        (lambda step: step(_first, key="k"), "a.csv"),
        (lambda step: step(lambda *, paths=(("a.csv",),): Path(paths[0][0]).read_text(), key="k"), "a.csv"),
        (lambda step: step(lambda paths=frozenset({"b.csv"}): Path(min(paths)).read_text(), key="k"), "b.csv"),
        (lambda step: step(lambda: _first(), key="k"), "a.csv"),
        (lambda step: step(lambda: _Reader().texts(), key="k"), "d.csv"),
        (lambda step: step(lambda: Path(_Place.HERE.value).read_text(), key="k"), "e.csv"),
        (lambda step: step.map(lambda n, paths=("a.csv",): Path(paths[0]).read_text(), [1, 2], key="k:{}")[0], "a.csv"),
    ],
)
def test_d2_a_file_that_a_default_or_an_attribute_names_is_an_input(
    take: Callable[[Any], Any], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = RecordingListener()
    for text in ("1", "22"):
        for path in ("a.csv", "b.csv", "c.csv", "d.csv", "e.csv"):
            Path(path).write_text(text)
        create_workflow(cache="kept", on_event=told)(take).unwrap()
    (hit, *others) = told.of(StepHit)
    assert f"{named}: 1 B before, 2 B now" in (hit.drift or "")
    assert all(other.drift == hit.drift for other in others)


LOG = "log.txt"


@pytest.mark.parametrize(
    "take",
    [
        lambda step: step(lambda _log="log.txt": Path(_log).read_text(), key="k"),
        lambda step: step.map(lambda n, _log="log.txt": Path(_log).read_text(), [1, 2], key="k:{}"),
        lambda step: step(lambda: _logged(), key="k", ignore="log"),
        lambda step: step(_logged, key="k", ignore="log"),
        lambda step: step(_logged, "log.txt", key="k", ignore="log"),
        lambda step: step.map(_logged, ["log.txt"], key="k:{}", ignore="log"),
        lambda step: step(lambda: Path(LOG).read_text(), key="k", ignore="LOG"),
        lambda step: step(lambda: _Reader().logged(), key="k", ignore="log"),
        lambda step: step(lambda: _Reader().logged(), key="k", ignore="_Reader.log"),
        lambda step: step(lambda: _Reader().logged(), key="k", ignore="_Reader"),
    ],
)
def test_d2_a_file_named_by_what_is_ignored_is_no_input(
    take: Callable[[Any], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = RecordingListener()
    for text in ("1", "22"):
        Path("log.txt").write_text(text)
        create_workflow(cache="kept", on_event=told)(take).unwrap()
    assert [hit.drift for hit in told.of(StepHit)] == [None] * len(told.of(StepHit))
    assert told.of(StepHit)
