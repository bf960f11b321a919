"""The quick look at inputs (D1, D3): it says "the same" of what is, and never of what changed, in place or by a new name."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from nbstep.cache.trust import SigningKey
from nbstep.drift.code import look_behind
from nbstep.drift.inputs import SIGNER
from nbstep.drift.reading import read_inputs
from nbstep.drift.surely import surely_same

KEY = SigningKey(b"k" * 32)
Scope = dict[str, Any]

NOTEBOOK = """
RATE, NAME, LONG, NOTHING = 2, "Ada", "x" * 300, None
rows, rates, nested = [1, 2], {"eur": 1.5}, {"a": [1]}
import numpy as np
table = np.zeros(3)
def tidy(row): return row, NAME, LONG, rates, nested
def fetch(uid, scale): return tidy(uid), RATE, NOTHING, rows, table
def closed(limit): return lambda uid: (fetch(uid, 1), limit)
held = closed(5)
"""

CHANGES: dict[str, str | Callable[[Scope], object]] = {
    "a number rebound": "RATE = 3",
    "to an equal number of another type": "RATE = 2.0",
    "a text rebound": "NAME = 'Eve'",
    "a text that a function behind the thunk reads": "NAME = None",
    "None rebound": "NOTHING = 0",
    "a name deleted": "del RATE",
    "a long text rebound": "LONG = 'y' * 300",
    "a list changed in place": "rows.append(3)",
    "a list changed in place, of the same length": "rows[0] = 9",
    "a list rebound": "rows = [1]",
    "a dict changed in place": "rates['eur'] = 1.6",
    "a dict changed far inside": "nested['a'].append(2)",
    "an array changed in place": "table[0] = 1",
    "a number becomes a list": "RATE = [2]",
    "a list becomes a number": "rows = 1",
}


def notebook(source: str = NOTEBOOK) -> Scope:
    return run(source, {"__name__": "__main__"})


def run(source: str, scope: Scope) -> Scope:
    exec(compile(source, "<cell>", "exec"), scope)
    return scope


def kept_of(thunk: Any, *args: Any) -> Mapping[str, str]:
    return read_inputs(thunk, args, look_behind(thunk), KEY, budget_s=60).texts


def looks_same(kept: Mapping[str, str], thunk: Any, *args: Any, key: SigningKey = KEY) -> bool:
    return surely_same(kept, thunk, args, look_behind(thunk), key)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_d3_a_change_is_seen_at_once_and_so_is_its_end(change: str) -> None:
    scope = notebook()
    fetch = scope["fetch"]
    kept = kept_of(fetch, "1", 2)
    assert [looks_same(kept, fetch, "1", 2) for _ in range(3)] == [True] * 3
    run(change, scope)
    assert [looks_same(kept, fetch, "1", 2) for _ in range(3)] == [False] * 3
    now = kept_of(fetch, "1", 2)
    assert [looks_same(now, fetch, "1", 2) for _ in range(3)] == [True] * 3
    run(NOTEBOOK.partition("def ")[0], scope)
    assert looks_same(kept, fetch, "1", 2)


def test_d3_an_argument_is_read_each_time() -> None:
    fetch = notebook()["fetch"]
    kept, rows = kept_of(fetch, "1", [2]), [2]
    assert looks_same(kept, fetch, "1", rows)
    assert not looks_same(kept, fetch, "2", rows)
    rows.append(3)
    assert not looks_same(kept, fetch, "1", rows)
    assert not looks_same(kept, fetch, "1")


def test_d3_a_closure_cell_is_read_each_time() -> None:
    scope = notebook()
    held = scope["held"]
    kept = kept_of(held, "1")
    assert looks_same(kept, held, "1")
    assert not looks_same(kept, scope["closed"](6), "1")  # of the same code
    held.__closure__[0].cell_contents = 6
    assert not looks_same(kept, held, "1")


def test_d3_entries_of_one_code_know_different_inputs() -> None:
    fetch = notebook()["fetch"]
    whole = kept_of(fetch, "1", 2)
    less = {name: text for name, text in whole.items() if name not in {"RATE", "rows"}}
    other = {**whole, "RATE": "3"}
    more = {**whole, "gone": "1"}
    for _ in range(2):
        assert looks_same(whole, fetch, "1", 2)
        assert looks_same(less, fetch, "1", 2)
        assert not looks_same(other, fetch, "1", 2)
        assert not looks_same(more, fetch, "1", 2)


def test_d2_an_entry_of_another_users_key_is_not_surely_the_same() -> None:
    fetch = notebook()["fetch"]
    kept, other = kept_of(fetch, "1", 2), SigningKey(b"o" * 32)
    assert looks_same(kept, fetch, "1", 2)
    assert not looks_same(kept, fetch, "1", 2, key=other)
    assert not looks_same({**kept, SIGNER: other.id}, fetch, "1", 2)


def test_d3_one_code_object_in_two_namespaces() -> None:
    """A thunk and what it calls may stand in two modules that use one name."""
    one, other = notebook(), notebook()
    kept = kept_of(one["fetch"], "1", 2)
    assert looks_same(kept, one["fetch"], "1", 2)
    twin = types.FunctionType(one["fetch"].__code__, other, "fetch")
    other["tidy"] = one["tidy"]
    assert looks_same(kept, twin, "1", 2)
    other["RATE"] = 3
    assert not looks_same(kept, twin, "1", 2)
    assert looks_same(kept, one["fetch"], "1", 2)
    other["RATE"], one["NAME"] = 2, "Eve"
    assert not looks_same(kept, twin, "1", 2)


def test_d3_one_name_in_two_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name, number in (("surely_one", 1), ("surely_two", 2)):
        (tmp_path / f"{name}.py").write_text(f"RATE = {number}\ndef rate(): return RATE\n")
    one, two = importlib.import_module("surely_one"), importlib.import_module("surely_two")
    try:
        scope = run(
            "fetch = lambda: (surely_one.rate(), surely_two.rate())",
            {"__name__": "__main__", "surely_one": one, "surely_two": two},
        )
        kept = kept_of(scope["fetch"])
        assert looks_same(kept, scope["fetch"])
        for module in (one, two):
            before, module.RATE = module.RATE, 3
            assert not looks_same(kept, scope["fetch"])
            module.RATE = before
            assert looks_same(kept, scope["fetch"])
    finally:
        del sys.modules["surely_one"], sys.modules["surely_two"]


def test_d1_what_takes_too_long_is_not_surely_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = notebook()["fetch"]
    kept = kept_of(fetch, "1", 2)
    assert looks_same(kept, fetch, "1", 2)
    monkeypatch.setattr("nbstep.drift.surely.BUDGET_S", 0.0)
    assert not looks_same(kept, fetch, "1", 2)  # the second of what is not small, and all after it, is not begun
