"""kill -9 at every call and at random moments: no wrong value, nothing lost, the next process goes on (C2, C4, DESIGN 5)."""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from faults import LONG, locks_in
from faults.failing import CALLS, DyingAt
from nbstep import Cache, create_workflow
from nbstep.cache import entry, trust
from nbstep.stores import documents
from nbstep.testing import RecordingListener

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

KILLS: Final = 200 if LONG else 20
DAY_S: Final = 86_400.0


def contents(home: Path) -> set[tuple[str, Any]]:
    """Key and value of every entry, kept or in the trash, whichever of the user's keys signed it; each must be whole."""
    secrets = [path.read_bytes() for path in (home / "data" / "nbstep").glob("signing_key*")]
    known = {key.id: key for key in map(trust.SigningKey, secrets)}
    found: set[tuple[str, Any]] = set()
    for path in (home / "cache" / "v1" / "e").glob("*/*"):
        document = documents.open_document(path, lambda: False)
        assert document is not None
        signer = path.name.split(".")[1]
        assert signer in known, f"{path.name}: the key that signed it is lost"
        head = entry.read_head(document, known[signer], 4e9)
        assert head.meta.trusted
        stream, _ = entry.read_payload(document, head)
        found.add((head.meta.key, pickle.loads(stream)))
    return found


def litter_of(home: Path) -> list[Path]:
    """What nobody wants of a process that is gone."""
    cache, keys = home / "cache" / "v1", home / "data" / "nbstep"
    return [*cache.glob("tmp/*"), *locks_in(cache / "lock"), *keys.glob(".*")]


def check_what_is_left(home: Path, ever: set[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """What another process finds after the kill, and that it goes on."""
    monkeypatch.setattr(trust, "_ring", trust.KeyRing({"JUPYTER_DATA_DIR": str(home / "data")}))
    assert trust.key_ring().problem() is None, where
    cache = Cache(home / "cache")
    cache.gc()
    litter = litter_of(home)
    for path in litter:
        os.utime(path, (time.time() - 1.5 * DAY_S,) * 2)
    cache.gc()
    assert litter_of(home) == [], where
    for key in cache:
        assert (key, cache.get(key)) in ever, where
    found = cache.verify()
    assert found.count("corrupt") == found.count("unreadable") == 0, (where, found.bad)
    listener = RecordingListener()
    workflow = create_workflow(cache=cache, on_event=listener)
    assert workflow(lambda step: step(lambda: "next", key="next", refresh=True)).unwrap() == "next", where
    findings = [text for text in listener.findings() if "not yours" not in text]  # from before a key was replaced
    assert (findings, cache.get("next")) == ([], "next"), where
    cache.delete("next")


# At every call ---------------------------------------------------------------------------------------------------------------

BEFORE: Final = {("a", "a0"), ("a", "a1"), ("b", "b0"), ("c", "c0")}


def prepare(home: Path) -> Cache:
    """a was replaced, b is in the trash, c is kept."""
    cache = Cache(home / "cache")
    for key, value in (("a", "a0"), ("c", "c0"), ("a", "a1"), ("b", "b0")):
        cache.set(key, value)
    cache.delete("b")
    return cache


def _step(cache: Cache) -> Any:
    return create_workflow(cache=cache)(lambda step: step(lambda: "a2", key="a", refresh=True)).unwrap()


ACTS: dict[str, Callable[[Cache], Any]] = {
    "keep": lambda cache: cache.set("d", "d0"),
    "keep over": lambda cache: cache.set("a", "a2"),
    "step": _step,
    "delete": lambda cache: cache.delete_many(["a", "c"]),
    "clear": lambda cache: cache.clear(),
    "undo": lambda cache: cache.undo(),
    "undo a": lambda cache: cache.undo("a"),
    "trust": lambda cache: cache.trust(),
    "rotate": lambda cache: cache.rotate_key(),
    "gc": lambda cache: cache.gc(unused=0.0),
    "first key": lambda cache: trust.signing_key(),
}


def die(act: Callable[[Cache], Any], home: Path, nth: int) -> bool:
    """Does it in a forked child, which dies before its n-th call of the system; whether it lived to the end."""
    child = os.fork()
    if child == 0:
        try:
            cache = Cache(home / "cache")
            DyingAt(nth).install()
            act(cache)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("act", ACTS)
def test_a_process_that_dies_at_any_call_loses_nothing_and_the_next_goes_on(
    act: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for nth in range(1, 400):
        home = tmp_path / str(nth)
        monkeypatch.setattr(trust, "_ring", trust.KeyRing({"JUPYTER_DATA_DIR": str(home / "data")}))
        if act == "first key":
            (home / "cache").mkdir(parents=True)
            before = set()
        else:
            prepare(home)
            before = BEFORE
        if act == "rotate":  # what waits in the trash goes with the old key
            before = {("a", "a1"), ("c", "c0")}
        if act == "trust":
            key = trust.key_ring().path()
            key.rename(key.with_name("signing_key.theirs"))
            monkeypatch.setattr(trust, "_ring", trust.KeyRing({"JUPYTER_DATA_DIR": str(home / "data")}))
            trust.signing_key()
        lived = die(ACTS[act], home, nth)
        kept = contents(home)
        assert act == "first key" or trust.key_ring().path().exists(), (act, nth)
        assert kept >= before, (act, nth)
        assert kept <= BEFORE | {("d", "d0"), ("a", "a2")}, (act, nth)
        check_what_is_left(home, BEFORE | {("d", "d0"), ("a", "a2")}, monkeypatch, f"{act} {nth}")
        if act in {"keep over", "step"}:
            _check_that_undo_brings_back_what_was_before(prepare(tmp_path / f"{nth} again"), act, nth)
        if lived:
            assert nth > 2
            return
    raise AssertionError(f"{act} never came to its end")


def _check_that_undo_brings_back_what_was_before(cache: Cache, act: str, nth: int) -> None:
    assert cache.directory is not None
    die(ACTS[act], cache.directory.parent, nth)
    before = {"a1": "a0", "a2": "a1"}[cache.get("a")]
    assert cache.undo("a") == ["a"], nth
    assert cache.get("a") == before, nth


def test_the_one_who_dies_dies_at_the_nth_call(tmp_path: Path) -> None:
    """What the test above rests on."""
    assert set(DyingAt.CALLS) <= set(CALLS)
    child = os.fork()
    if child == 0:
        DyingAt(2).install()
        os.mkdir(tmp_path / "first")
        os.mkdir(tmp_path / "second")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert os.listdir(tmp_path) == ["first"]


# At random moments ------------------------------------------------------------------------------------------------------------

SCRIPT: Final = """
import random, sys
from nbstep import Cache
from nbstep.cache import trust
from nbstep.errors import KeyFileError
dice = random.Random(int(sys.argv[2]))
print("ready", flush=True)
cache = Cache(sys.argv[1])
while True:
    key = dice.choice("abc")
    act = dice.choice(["set", "set", "large", "delete", "clear", "undo", "undo key", "trust", "rotate", "gc", "get"])
    if act == "set":
        cache.set(key, f"{key}{dice.randrange(9)}")
    elif act == "large":
        cache.set(key, key * 3_000_000)
    elif act == "delete":
        cache.delete_many([key, "a"])
    elif act == "clear":
        cache.clear()
    elif act == "undo":
        cache.undo()
    elif act == "undo key":
        cache.undo(dice.choice(["safe", key]))
    elif act == "trust":
        cache.trust()
    elif act == "rotate":
        cache.undo("safe")  # a new key empties the trash
        cache.rotate_key()
    elif act == "gc":
        cache.gc()
    else:
        cache.get(key)
"""


def test_kill_9_at_random_moments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(20261125)
    ever = {(key, f"{key}{n}") for key in "abc" for n in range(9)} | {(key, key * 3_000_000) for key in "abc"}
    ever |= {("safe", "kept before all"), ("next", "next")}
    for n in range(KILLS):
        home = tmp_path / str(n // 10)
        environ = {**os.environ, "JUPYTER_DATA_DIR": str(home / "data")}
        if n % 10 == 0:
            monkeypatch.setattr(trust, "_ring", trust.KeyRing(environ))
            if n % 20 == 0:
                Cache(home / "cache").set("safe", "kept before all")
        arguments = [sys.executable, "-c", SCRIPT, str(home / "cache"), str(n)]
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environ)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(dice.uniform(0.0, 0.25))
        assert process.poll() is None, "it ended by itself"
        process.kill()
        process.wait()
        process.stdout.close()
        if (home / "cache" / "v1").exists():
            kept = contents(home)
            assert kept <= ever, n
            assert n // 10 % 2 or ("safe", "kept before all") in kept, n
        check_what_is_left(home, ever, monkeypatch, str(n))
