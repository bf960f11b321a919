"""The n-th call of the system fails, n raised until all goes well (C2, C3): the value arrives, nothing that was kept is lost."""

from __future__ import annotations

import errno
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from faults import LONG
from faults.failing import CALLS, ERRORS, Failing, install
from nbstep import Cache, create_workflow
from nbstep.cache import entry, trust
from nbstep.cache.records import Unreadable
from nbstep.commands.tables import Screen
from nbstep.commands.verbs import run_command
from nbstep.errors import KeyFileError
from nbstep.events import Finding, StepHit, listen
from nbstep.stores import documents, files
from nbstep.testing import RecordingListener

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="calls of POSIX")

KEY: Final = "user:1"
NOTHING: Final = "nothing"
OLD: Final = {"n": 1, "rows": np.arange(9_000)}
NEW: Final = {"n": 2, "rows": np.arange(140_000)}  # large enough that its room is reserved first
NTH_AT_MOST: Final = 400
NEEDS_ROOM: Final = {"write", "posix_fallocate", "replace", "link"}
WRITING: Final = {*NEEDS_ROOM, "close"}

DIRECTORY_NAMES: Final = itertools.count()


class Gone(Exception):
    """What the thunk of a failing step raises."""


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    return install(monkeypatch)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one["n"] == other["n"] and np.array_equal(one["rows"], other["rows"])
    return type(one) is type(other) and one == other


def temps_of(folder: Path) -> list[str]:
    temps = folder / "v1" / "tmp"
    return [path.name for path in temps.iterdir()] if temps.exists() else []


def everything(folder: Path) -> set[tuple[str, str, bytes]]:
    """Key, signer and content of every entry, kept or in the trash; each must be whole."""
    found: set[tuple[str, str, bytes]] = set()
    for path in (folder / "v1" / "e").glob("*/*"):
        document = documents.open_document(path, lambda: False)
        assert document is not None
        head = entry.read_head(document, trust.signing_key(), 2e9)
        stream, _ = entry.read_payload(document, head)
        found.add((head.meta.key, head.meta.signer, stream))
    return found


def trials(failing: Failing, call: str) -> Iterator[tuple[int, int, bool]]:
    """Which one fails, with which error, and whether the later ones do too; until nothing failed any more."""
    for nth in range(1, NTH_AT_MOST):
        errors = ERRORS if LONG else (errno.EIO, errno.ENOSPC) if call in WRITING else (ERRORS[nth % len(ERRORS)],)
        for error in errors:
            for lasting in (False, True) if LONG or nth in {1, 3, 6, 12} else (False,):
                yield nth, error, lasting
        if not failing.failed:
            return
    raise AssertionError(f"{call} still failed after {NTH_AT_MOST} trials")


# Steps ---------------------------------------------------------------------------------------------------------------------


def give(value: Any) -> Any:
    return value


def refuse(error: Exception) -> Any:
    raise error


def open_plain(folder: Path) -> Cache:
    return Cache(folder, durability="always")


def open_shared(folder: Path) -> Cache:
    """A folder in which others can write, where values are read and not mapped."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    return Cache(folder)


def open_limited(folder: Path) -> Cache:
    """A cache that must empty its trash, and then evict, before anything fits."""
    return Cache(folder, max_bytes=2_500_000)


# What is kept before, the workflow's option, what the thunk gives.
STEPS: dict[str, tuple[Callable[[Path], Cache], bool, bool, Any]] = {
    "new value": (open_plain, False, False, NEW),
    "over an old one": (open_plain, True, True, NEW),
    "new error": (open_plain, False, False, Gone("the real one")),
    "error over a value": (open_plain, True, True, Gone("the real one")),
    "hit": (open_plain, True, False, OLD),
    "hit where others write": (open_shared, True, False, OLD),
    "evicting": (open_limited, False, False, NEW),
}


def asked(cache: Cache, result: Any, *, refresh: bool) -> tuple[Any, RecordingListener]:
    listener = RecordingListener()
    workflow = create_workflow(cache=cache, on_event=listener)
    thunk = refuse if isinstance(result, Exception) else give
    outcome = workflow(lambda step: step(thunk, result, key=KEY, refresh=refresh))
    return outcome.error if outcome.error is not None else outcome.value, listener


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("scene", STEPS)
def test_c3_the_value_arrives_whatever_fails_and_the_old_entry_is_kept_or_in_the_trash(
    failing: Failing, tmp_path: Path, scene: str, call: str
) -> None:
    opened, kept, refresh, result = STEPS[scene]
    for nth, error, lasting in trials(failing, call):
        folder = tmp_path / str(next(DIRECTORY_NAMES))
        cache = opened(folder)
        cache.set("other", "bystander")
        if scene == "evicting":
            cache.clock = lambda: 1e9
            for name in ("a", "b"):
                cache.set(name, NEW)
            cache.delete("a")
            cache.clock = lambda: 1.1e9
        if kept:
            cache.set(KEY, OLD)
        cache = opened(folder)
        with failing.fails(call, nth, error, lasting=lasting):
            given, listener = asked(cache, result, refresh=refresh)
        where = f"{call} {nth}, error {error}, lasting {lasting}"
        assert given is result or (listener.of(StepHit) and same(given, result)), where
        findings = listener.of(Finding)
        replaced = [finding for finding in findings if finding.kind == "replaced"]
        problems = [finding for finding in findings if finding.kind != "replaced"]
        assert len(replaced) <= 1, where
        assert len(problems) <= (2 if lasting else 1), (where, problems)
        for finding in problems:
            assert finding.key == KEY, where
            assert KEY in finding.text, where
            needs_room = error in files.FULL and call in NEEDS_ROOM
            assert "make room" in finding.text or (not needs_room and os.strerror(error) in finding.text), (
                where,
                finding.text,
            )
        if scene == "over an old one" and call in {"scandir", "listdir"}:
            assert problems == [], f"{where}: tidying up can wait"
        unlinks = call == "unlink"
        assert unlinks or temps_of(folder) == [], where
        assert scene != "evicting" or unlinks or "b" in Cache(folder), f"{where}: the trash goes first"
        _check_what_is_kept(folder, kept, result, quiet=not problems, clean=not (unlinks or lasting), where=where)
        _check_that_it_goes_on(folder, where)


@pytest.mark.parametrize("call", ["close", "fsync"])
@pytest.mark.parametrize("result", [NEW, "small", Gone("the real one")], ids=["large", "small", "error"])
def test_c3_an_error_on_closing_or_syncing_counts_for_it_may_tell_of_a_full_disk(
    failing: Failing, tmp_path: Path, result: Any, call: str
) -> None:
    cache = open_plain(tmp_path)
    cache.set("other", 1)
    with failing.fails(call, 1, errno.EDQUOT, lasting=True):
        given, listener = asked(cache, result, refresh=False)
    assert given is result
    (text,) = listener.findings()
    assert "make room" in text
    assert Cache(tmp_path).keys() == ["other"]
    assert temps_of(tmp_path) == []


def _check_what_is_kept(folder: Path, kept: bool, result: Any, *, quiet: bool, clean: bool, where: str) -> None:
    cache = Cache(folder)
    if "a" not in cache:
        assert cache.get("other") == "bystander", where
    try:
        got = cache.get(KEY, NOTHING)
    except Gone as error:
        got = error
    if isinstance(result, Exception):
        assert not quiet or isinstance(got, Gone), where
    assert (
        same(got, result) or got == NOTHING or same(got, OLD) or (isinstance(got, Gone) and got.args == result.args)
    ), where
    if quiet and result is not OLD:
        assert not same(got, OLD), where
    if kept and not same(got, OLD):
        cache.undo(KEY)
        assert same(cache.get(KEY, NOTHING), OLD), where
    elif kept and clean:
        assert cache.trash().entries == 0, f"{where}: what stands in its place is in the trash too"


def _check_that_it_goes_on(folder: Path, where: str) -> None:
    cache = Cache(folder)
    given, listener = asked(cache, "next", refresh=True)
    findings = [text for text in listener.findings() if "not yours" not in text]
    assert (given, findings, cache.get(KEY)) == ("next", [], "next"), where
    assert temps_of(folder) == [] or "unlink" in where, where


# What people ask for ----------------------------------------------------------------------------------------------------------


# What is done, and what must hold where it did not raise.
ACTS: dict[str, tuple[Callable[[Cache], Any], Callable[[Any, Cache], bool]]] = {
    "delete": (lambda cache: cache.delete("a"), lambda said, then: said is True and "a" not in then),
    "delete many": (
        lambda cache: cache.delete_many(["a", "c"]), lambda said, then: said == 2 and then.keys() == [],
    ),
    "clear": (lambda cache: cache.clear(), lambda said, then: said == 2 and then.keys() == []),
    "undo": (lambda cache: cache.undo(), lambda said, then: said == ["b"] and then.get("b") == "deleted"),
    "undo a": (lambda cache: cache.undo("a"), lambda said, then: said == ["a"] and same(then.get("a"), OLD)),
    "gc": (lambda cache: cache.gc(), lambda said, then: len(then) == 2),
    "verify": (lambda cache: cache.verify(), lambda said, then: len(then) == 2),
    "keys": (lambda cache: cache.keys(), lambda said, then: len(then) == 2),
}  # fmt: skip


@pytest.mark.parametrize("call", ["lstat", "open", "listdir"])
def test_c3_verify_counts_every_entry_or_says_that_it_cannot(failing: Failing, tmp_path: Path, call: str) -> None:
    cache = Cache(tmp_path)
    cache.set("user:1", 1)
    cache.set("user:2", 2)
    for nth, error, lasting in trials(failing, call):
        with failing.fails(call, nth, error, lasting=lasting):
            try:
                checked = cache.verify().checked
            except OSError:
                continue
        assert checked == 2


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("act", ACTS)
def test_c2_whatever_fails_no_entry_is_lost_and_nobody_is_told_otherwise(
    failing: Failing, tmp_path: Path, act: str, call: str
) -> None:
    do, holds = ACTS[act]
    for nth, error, lasting in trials(failing, call):
        folder = tmp_path / str(next(DIRECTORY_NAMES))
        cache = Cache(folder)
        cache.set("a", OLD)
        cache.set("c", "stays")
        cache.set("a", NEW)
        cache.set("b", "deleted")
        cache.delete("b")
        before = everything(folder)
        where = f"{call} {nth}, error {error}, lasting {lasting}"
        cache = Cache(folder)
        said: Any = NOTHING
        problem: Exception | None = None
        with failing.fails(call, nth, error, lasting=lasting):
            try:
                said = do(cache)
            except OSError as raised:
                problem = raised
        full = error in files.FULL
        assert problem is None or os.strerror(error) in str(problem) or (full and "make room" in str(problem)), where
        deletes = act.startswith(("delete", "clear"))
        if failing.failed and full and call == "replace" and deletes:  # whoever deletes there needs the room
            assert everything(folder) < before, where
            assert problem is None, where
        else:
            assert everything(folder) == before, where
        assert said is NOTHING or holds(said, Cache(folder)), where
        if problem is not None and act.startswith("undo") and not lasting and call != "unlink":
            assert Cache(folder).trash().entries <= 2, f"{where}: what stands in its place is in the trash too"
        assert set(cache.keys()) == set(Cache(folder).keys()), where
        _check_that_it_goes_on(folder, where)


@pytest.mark.parametrize("error", sorted(files.FULL))
def test_c2_a_disk_that_takes_no_name_at_all_deletes_for_good_and_says_so(
    failing: Failing, tmp_path: Path, error: int
) -> None:
    for key in ("a", "b", "c", "d", "older"):
        Cache(tmp_path).set(key, key)
    Cache(tmp_path).delete("older")
    cache, listener = Cache(tmp_path), RecordingListener()
    stop = listen(listener)
    try:
        with failing.fails("replace", 1, error, lasting=True):
            assert run_command("rm a", cache=cache).text == "Deleted 1 entry for good (the disk is full): a."
            assert cache.delete("b")
        with failing.fails("replace", 2, error, lasting=True):  # only the first one is moved
            said = run_command("clear", cache=cache, screen=Screen()).text
    finally:
        stop()
    assert said == "Deleted all 2 entries, 1 of them for good (the disk is full). Undo: nbstep undo"
    (text,) = listener.findings()
    assert text.endswith("deleted for good (the disk is full), no undo brings that back")
    later = Cache(tmp_path)
    assert len(later.undo()) == 1  # of the same batch, which stayed when the trash was emptied
    assert run_command("undo", cache=later).text == (
        "Nothing to undo: the trash holds nothing from the last 24 hours. "
        "The disk was full when entries were deleted: those are gone for good."
    )


# Trust and the key -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("rotating", [False, True], ids=["trust", "rotate"])
def test_whatever_fails_while_entries_are_signed_anew_none_is_lost(
    failing: Failing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rotating: bool, call: str
) -> None:
    for nth, error, lasting in trials(failing, call):
        home = tmp_path / str(next(DIRECTORY_NAMES))
        them = trust.KeyRing({"JUPYTER_DATA_DIR": str(home / "them")})
        me = trust.KeyRing({"JUPYTER_DATA_DIR": str(home / "me")})
        monkeypatch.setattr(trust, "_ring", me if rotating else them)
        old = trust.signing_key()
        cache = Cache(home / "cache")
        for key in ("a", "b"):
            cache.set(key, key)
        streams = {(key, stream) for key, _, stream in everything(home / "cache")}
        monkeypatch.setattr(trust, "_ring", me)
        me.key()
        where = f"{call} {nth}, error {error}, lasting {lasting}"
        keys: tuple[str, ...] = ()
        problem: Exception | None = None
        with failing.fails(call, nth, error, lasting=lasting):
            try:
                accepted = cache.rotate_key()[1] if rotating else cache.trust()
                keys = accepted.keys
            except (OSError, KeyFileError) as raised:
                problem = raised
        assert problem is None or os.strerror(error) in str(problem), where
        assert {(key, stream) for key, _, stream in everything(home / "cache")} == streams, where
        again = trust.KeyRing({"JUPYTER_DATA_DIR": str(home / "me")})
        assert (again.key(), again.problem()) == (me.key(), None), where
        secrets = {path.read_bytes() for path in home.glob("*/nbstep/signing_key*")}
        assert old.secret in secrets, where
        unlinks = call == "unlink"
        assert unlinks or temps_of(home / "cache") == [], where
        assert unlinks or [path for path in (home / "me" / "nbstep").iterdir() if path.name.startswith(".")] == [], (
            where
        )
        monkeypatch.setattr(trust, "_ring", again)
        fresh = Cache(home / "cache")
        assert all(fresh.get(key) == key for key in keys), where
        kept_in = next(path for path in home.glob("*/nbstep/signing_key*") if path.read_bytes() == old.secret)
        fresh.trust(key_file=kept_in)
        assert [fresh.get(key) for key in ("a", "b")] == ["a", "b"], where


@pytest.mark.parametrize("call", CALLS)
def test_c3_whatever_fails_while_the_key_is_made_the_value_arrives(
    failing: Failing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    for nth, error, lasting in trials(failing, call):
        home = tmp_path / str(next(DIRECTORY_NAMES))
        environ = {"JUPYTER_DATA_DIR": str(home / "data")}
        monkeypatch.setattr(trust, "_ring", trust.KeyRing(environ))
        where = f"{call} {nth}, error {error}, lasting {lasting}"
        with failing.fails(call, nth, error, lasting=lasting):
            trust.signing_key()
        problem = trust.key_ring().problem()
        assert problem is None or os.strerror(error) in problem, where
        cache = Cache(home / "cache")
        given, _ = asked(cache, "value", refresh=False)
        assert (given, cache.get(KEY)) == ("value", "value"), where
        folder = home / "data" / "nbstep"
        left = [path.name for path in folder.iterdir()] if folder.exists() else []
        assert call == "unlink" or set(left) <= {"signing_key"}, where
        monkeypatch.setattr(trust, "_ring", trust.KeyRing(environ))
        key = trust.signing_key()
        assert (len(key.secret), trust.key_ring().problem()) == (32, None), where
        _check_that_it_goes_on(home / "cache", where)


def test_a_spoilt_entry_is_no_entry(tmp_path: Path) -> None:
    """What the tests above rest on: `everything` refuses what is not whole."""
    Cache(tmp_path).set("a", 1)
    (path,) = (tmp_path / "v1" / "e").glob("*/*")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Unreadable):
        everything(tmp_path)
