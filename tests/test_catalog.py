"""The catalog: a cache of the cache, signed, used while nothing changed, never missed (DESIGN 5, "Layout")."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbstep.cache import catalog, headers, trust
from nbstep.cache.cache import Cache
from nbstep.cache.records import Facts
from nbstep.events import Place
from nbstep.result import Err
from nbstep.stores.base import Group, run_now
from nbstep.stores.catalog import DiskCatalog
from nbstep.stores.disk import DiskStore, key_digest

SETTLED_S = 10


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setattr(headers, "_CATALOGUED_FROM", 1)
    cache = Cache(tmp_path / ".nbstep")
    for n in range(20):
        cache.set(f"k{n}", {"n": n})
    facts = Facts(
        1.5, True, False, 60.0, "w", Place("a.ipynb", 3, 7), {"": "d1", "f": "d2"}, "lambda: 1", ("k1",), {"uid": "1"}
    )
    run_now(cache.keep("failed", Err(ValueError("no")), facts))
    settle(cache)
    return cache


def settle(cache: Cache) -> None:
    """Makes what the cache holds look as if nothing had changed for a while."""
    for shard in shards(cache):
        then = shard.stat().st_mtime - SETTLED_S
        os.utime(shard, (then, then))


def shards(cache: Cache) -> list[Path]:
    assert cache.directory is not None
    return sorted((cache.directory / "v1" / "e").iterdir())


def texts(cache: Cache) -> list[Path]:
    assert cache.directory is not None
    folder = cache.directory / "v1" / "catalog"
    return sorted(folder.iterdir()) if folder.exists() else []


def again(cache: Cache) -> Cache:
    """The cache as a new process has it."""
    return Cache(cache.directory)


opened: list[str] = []
listening = [False]


def _hear(event: str, args: tuple[object, ...]) -> None:
    if listening[0] and event == "open" and "/v1/e/" in str(args[0]) and "." in Path(str(args[0])).name:
        opened.append(str(args[0]))
    assert not (listening[0] and event == "pickle.find_class"), "listing unpickled something"


sys.addaudithook(_hear)


@pytest.fixture(autouse=True)
def _hearing() -> Iterator[None]:
    listening[0] = True
    yield
    listening[0] = False


def opened_by(cache: Cache) -> int:
    """How many entries are opened to list them all."""
    opened.clear()
    cache.entries()
    return len(opened)


def test_a_new_process_lists_without_opening_an_entry_and_says_the_same(cache: Cache) -> None:
    assert opened_by(cache) == 21
    fresh = again(cache)
    assert opened_by(fresh) == 0
    assert fresh.entries() == cache.entries()
    assert [meta.key for meta in fresh.errors()] == ["failed"]


def test_the_texts_are_private(cache: Cache) -> None:
    cache.entries()
    assert texts(cache)
    assert {path.stat().st_mode & 0o777 for path in texts(cache)} == {0o600}


def test_after_a_change_only_what_changed_is_read(cache: Cache) -> None:
    cache.entries()
    cache.delete("k3")
    cache.set("k4", "new")
    fresh = again(cache)
    assert opened_by(fresh) == 1
    found = {meta.key: meta.type for meta in fresh.entries()}
    assert "k3" not in found
    assert found["k4"] == "str"


def test_a_change_in_the_same_tick_is_seen(cache: Cache) -> None:
    shard = next(shard for shard in shards(cache) if shard.name == key_digest("k3")[:2])
    now = time.time_ns()
    os.utime(shard, ns=(now, now))
    cache.entries()
    cache.delete("k3")
    os.utime(shard, ns=(now, now))  # the clock of the file system did not move
    assert "k3" not in {meta.key for meta in cache.entries()}
    assert "k3" not in {meta.key for meta in again(cache).entries()}


def test_c5_a_time_in_the_future_counts_as_now_in_a_text_too(cache: Cache) -> None:
    cache.clock = lambda: 9e9
    cache.set("future", 1)
    settle(cache)
    cache.clock = lambda: 9e9 + 60
    cache.entries()
    fresh = again(cache)
    fresh.clock = lambda: 2e9
    assert opened_by(fresh) == 0
    found = {meta.key: (meta.created, meta.ahead_s) for meta in fresh.entries()}
    assert found["future"] == (2e9, 7e9)


@pytest.mark.parametrize("damage", [b"", b"junk", b"NBSTEPC1\n" + b"x" * 40])
def test_a_damaged_text_costs_time_only(cache: Cache, damage: bytes) -> None:
    right = cache.entries()
    for path in texts(cache):
        path.write_bytes(damage)
    assert again(cache).entries() == right
    assert again(cache).entries() == right


def test_no_byte_of_a_text_can_be_changed_unnoticed(cache: Cache) -> None:
    right = cache.entries()
    path = texts(cache)[0]
    content = path.read_bytes()
    for at in range(0, len(content), 5):
        changed = bytearray(content)
        changed[at] ^= 1
        path.write_bytes(changed)
        os.utime(path)
        assert again(cache).entries() == right
        path.write_bytes(content)


def test_t1_a_text_that_somebody_else_signed_is_not_believed(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.entries()
    monkeypatch.setattr(trust, "_ring", trust.KeyRing({"JUPYTER_DATA_DIR": str(cache.directory)}))
    assert {meta.trusted for meta in again(cache).entries()} == {False}


def test_t5_a_text_is_not_taken_for_that_of_another_shard(cache: Cache) -> None:
    cache.entries()
    one, other = texts(cache)[:2]
    key = trust.signing_key()
    assert catalog.decode(one.read_bytes(), one.name, key, 0.0) is not None
    assert catalog.decode(one.read_bytes(), other.name, key, 0.0) is None


def linked(path: Path, away: Path) -> Path:
    """Moves a file or folder away and puts a link to it in its place; where it is now."""
    path.rename(away)
    path.symlink_to(away, target_is_directory=away.is_dir())
    return away


def test_t2_a_link_in_the_place_of_the_folder_is_not_followed(cache: Cache, tmp_path: Path) -> None:
    right = cache.entries()
    assert opened_by(again(cache)) == 0
    assert cache.directory is not None
    away = linked(cache.directory / "v1" / "catalog", tmp_path / "away")
    before = {path.name: path.read_bytes() for path in away.iterdir()}
    assert opened_by(again(cache)) == len(right), "what stands behind the link was believed"
    cache.delete("k3")
    settle(cache)
    assert [meta.key for meta in again(cache).entries()] == [meta.key for meta in right if meta.key != "k3"]
    cache.clear()
    cache.entries()
    DiskCatalog(cache.directory / "v1" / "catalog", cache.directory).write(Group(min(before)), None, "unused")
    assert {path.name: path.read_bytes() for path in away.iterdir()} == before


def test_t2_a_link_in_the_place_of_a_text_is_not_followed(cache: Cache, tmp_path: Path) -> None:
    right = cache.entries()
    text = texts(cache)[0]
    away = linked(text, tmp_path / "away")
    before = away.read_bytes()
    there = len(list((text.parents[1] / "e" / text.name).iterdir()))
    assert opened_by(again(cache)) == there, "the text behind the link was believed"
    assert again(cache).entries() == right
    assert not text.is_symlink(), "a text of its own takes the place of the link"
    assert away.read_bytes() == before


def test_what_is_gone_is_gone_from_the_texts_as_well(cache: Cache) -> None:
    cache.entries()
    cache.delete("k3")
    settle(cache)
    cache.entries()
    assert not [path for path in texts(cache) if b'"k3"' in path.read_bytes()]
    cache.clear()
    assert texts(cache) == []


def test_a_full_disk_gets_no_texts(cache: Cache) -> None:
    assert cache.directory is not None
    full = Cache(cache)
    full._entries.store._keep_free_bytes = 1 << 60  # type: ignore[attr-defined]
    assert len(full.entries()) == 21
    assert texts(cache) == []


def test_a_small_shard_has_no_text(tmp_path: Path) -> None:
    cache = Cache(tmp_path / ".nbstep")
    cache.set("k", 1)
    settle(cache)
    assert cache.keys() == ["k"]
    assert texts(cache) == []


def test_groups_that_have_just_changed_have_no_stamp(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / ".nbstep")
    run_now(store.publish("k", "a" * 8, [b"x"], durable=False, batch="b"))
    assert [group.stamp for group in run_now(store.groups())] == [None]


def test_an_entry_with_a_long_header_is_listed_too(cache: Cache) -> None:
    key = "long" * 1000
    cache.set(key, 1)
    assert key in {meta.key for meta in cache.entries()}
    settle(cache)
    cache.entries()
    assert opened_by(again(cache)) == 0
    assert key in {meta.key for meta in again(cache).entries()}


def test_entries_of_one_moment_are_listed_in_the_order_of_their_keys(tmp_path: Path) -> None:
    cache = Cache(tmp_path / ".nbstep")
    cache.clock = lambda: 1000.0
    for n in (3, 1, 2):
        cache.set(f"k{n}", n)
    assert cache.keys() == ["k1", "k2", "k3"]
