"""Two and four processes on one cache: they store, read, delete and undo the same keys, checked against a model (C2, C4)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from faults import LONG, locks_in
from nbstep import Cache

SECONDS: Final = 30 if LONG else 2

# Whatever a process reads under a shared key must be whole and kept under this very key. On keys of its own it must see what it
# did itself, and nothing else. What goes over all keys, as `clear()`, is for the second form only: there nothing is its own.
SCRIPT: Final = """
import json, random, sys, time
import numpy as np
from nbstep import Cache, create_workflow

folder, me, seconds, over_all = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4] == "over all keys"
dice = random.Random(me)
cache = Cache(folder)
kept, trash = {}, {}
counts = dict.fromkeys(["set", "get", "delete", "undo", "step", "list", "over all"], 0)

def value(key, n):
    return {"key": key, "by": me, "n": n, "rows": np.full(dice.choice([3, 20_000]), n)}

def check(key, found):
    assert found["key"] == key, (key, found["key"])
    assert (found["rows"] == found["n"]).all(), key

def put(key, n):
    if key in kept:
        trash.setdefault(key, []).append(kept[key])
    kept[key] = n

print("ready", flush=True)
sys.stdin.readline()
until = time.monotonic() + seconds
n = 0
while time.monotonic() < until:
    n += 1
    act = dice.choice(["set", "get", "get", "delete", "undo", "step", "list", "over all"])
    counts[act] += 1
    key, own = f"shared:{dice.randrange(5)}", f"own:{me}:{dice.randrange(3)}"
    if act == "set":
        cache.set(key, value(key, n))
        cache.set(own, value(own, n))
        put(own, n)
    elif act == "get":
        found = cache.get(key)
        if found is not None:
            check(key, found)
        found = (Cache(folder) if n % 5 == 0 else cache).get(own)
        assert over_all or (found["n"] if found else None) == kept.get(own), (own, found, kept.get(own))
    elif act == "delete":
        cache.delete(key)
        gone = cache.delete(own)
        assert over_all or gone == (own in kept), own
        if own in kept:
            trash.setdefault(own, []).append(kept.pop(own))
    elif act == "undo":
        cache.undo(key)
        back = cache.undo(own)
        assert over_all or back == ([own] if trash.get(own) else []), (own, back, trash.get(own))
        if trash.get(own):
            put(own, trash[own].pop())
    elif act == "step":
        given = create_workflow(cache=cache)(lambda step: step(value, key, n, key=key, ignore=("me", "n"))).unwrap()
        check(key, given)
    elif act == "list":
        names = {name for name in cache.keys() if name.startswith(f"own:{me}:")}
        assert over_all or names == set(kept), (names, kept)
        assert cache.verify("shared:*").count("corrupt") == 0
    elif over_all:
        dice.choice([cache.clear, cache.undo, cache.empty_trash, lambda: cache.delete_matching("shared:*")])()
print(json.dumps([counts, kept]), flush=True)
"""


@pytest.mark.parametrize(
    ("processes", "form"),
    [(2, "over all keys"), (4, "own and shared keys")]
    + ([(2, "own and shared keys"), (4, "over all keys")] if LONG else []),
)
def test_processes_that_store_read_delete_and_undo_the_same_keys(tmp_path: Path, processes: int, form: str) -> None:
    folder = tmp_path / "cache"
    environ = {**os.environ, "PYTHONWARNINGS": "error"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(folder), str(me), str(SECONDS), form],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ,
        )
        for me in range(processes)
    ]  # fmt: skip
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    ended = [process.communicate("go\n", timeout=SECONDS * 10 + 60) for process in running]
    assert [(process.returncode, said[1]) for process, said in zip(running, ended, strict=True)] == [
        (0, "")
    ] * processes
    told: list[Any] = [json.loads(said[0]) for said in ended]
    for counts, _ in told:
        assert min(counts.values()) > 0, counts
    cache = Cache(folder)
    found = cache.verify()
    assert (found.bits, found.checked) == (0, len(cache))
    for key in cache:
        value: Any = cache.get(key)
        assert value["key"] == key
        assert (value["rows"] == value["n"]).all()
    if form == "own and shared keys":
        expected = {key: n for _, kept in told for key, n in kept.items()}
        own: Any = {key: cache.get(key)["n"] for key in cache if key.startswith("own:")}  # type: ignore[index]
        assert own == expected
    assert [*(folder / "v1" / "tmp").glob("*"), *locks_in(folder / "v1" / "lock")] == []


# What one does; what another kernel does in the moment before the first rename or link of it; what the first is told, what is
# kept then, and how much is in the trash.
LATE: Final[dict[str, tuple[Callable[[Cache], Any], Callable[[Cache], Any], Any, Any, int]]] = {
    "delete": (lambda cache: cache.delete("k"), lambda rival: rival.delete("k"), False, None, 1),
    "clear": (lambda cache: cache.clear(), lambda rival: rival.clear(), 0, None, 1),
    "undo": (lambda cache: cache.undo(), lambda rival: rival.undo(), [], "old", 0),
    "undo k": (lambda cache: cache.undo("k"), lambda rival: rival.undo("k"), [], "old", 0),
    "undo what goes for good": (lambda cache: cache.undo(), lambda rival: rival.empty_trash(), [], None, 0),
    "replace, deleted": (lambda cache: cache.set("k", "new"), lambda rival: rival.delete("k"), None, "new", 1),
    "keep, kept": (lambda cache: cache.set("k", "new"), lambda rival: rival.set("k", "rival's"), None, "new", 2),
    "replace, replaced": (lambda cache: cache.set("k", "new"), lambda rival: rival.set("k", "rival's"), None, "new", 2),
}  # fmt: skip


@pytest.mark.parametrize("act", LATE)
def test_c2_who_is_a_moment_too_late_finds_nothing_and_raises_nothing(
    act: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    do, do_before, told, kept, trashed = LATE[act]
    cache, rival = Cache(tmp_path), Cache(tmp_path)
    cache.set("k", "old")
    if act.startswith(("undo", "keep")):
        cache.delete("k")
    came: list[str] = []

    def late(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            if not came:
                came.append(name)
                do_before(rival)
            return real(*args, **kwargs)

        return called

    with monkeypatch.context() as then:
        for name in ("replace", "link"):
            then.setattr(os, name, late(name, getattr(os, name)))
        said = do(cache)
    assert came
    assert (said, cache.get("k"), rival.get("k")) == (told, kept, kept)
    assert (cache.trash().entries, cache.verify().bits) == (trashed, 0)
