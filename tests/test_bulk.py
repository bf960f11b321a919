"""Small new entries, many with one look at the folders: as the store publishes them, and never where a link leads (C2, C3)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from nbstep.stores.base import NoRoom, run_now
from nbstep.stores.bulk import Bulk
from nbstep.stores.disk import DiskStore
from nbstep.stores.files import key_digest

SIGNER = "0a1b2c3d"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="only a clerk works so, and there is none elsewhere")


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    return DiskStore(tmp_path / ".nbstep", keep_free_bytes=0)


@pytest.fixture
def bulk(store: DiskStore) -> Bulk:
    """With the folders that a first entry makes."""
    run_now(store.publish("first", SIGNER, [b"first"], durable=False, batch=None))
    bulk = store.bulk()
    bulk.look()
    return bulk


def kept(store: DiskStore, key: str) -> bytes | None:
    document = run_now(store.open(key, SIGNER))
    return None if document is None else document.read(0, document.size_bytes)


def shard_of(store: DiskStore, key: str) -> Path:
    return store.directory / "v1" / "e" / key_digest(key)[:2]


def test_entries_stand_where_the_store_finds_them(store: DiskStore, bulk: Bulk) -> None:
    assert bulk.is_missing("k:1", SIGNER)
    for n in range(300):
        bulk.publish(f"k:{n}", SIGNER, b"%d" % n, "batch")
    assert [kept(store, f"k:{n}") for n in range(300)] == [b"%d" % n for n in range(300)]
    assert not bulk.is_missing("k:1", SIGNER)
    assert bulk.is_missing("k:1", "ffffffff")
    assert os.listdir(store.directory / "v1" / "tmp") == []
    assert run_now(store.trash()).entries == 0


def test_c2_what_stands_in_a_place_goes_to_the_trash(store: DiskStore, bulk: Bulk) -> None:
    run_now(store.publish("k", SIGNER, [b"old"], durable=False, batch="before"))
    bulk.publish("k", SIGNER, b"new", "batch")
    assert kept(store, "k") == b"new"
    assert run_now(store.trash()).entries == 1
    assert os.listdir(store.directory / "v1" / "tmp") == []


def test_a_link_in_the_place_of_an_entry_is_something(store: DiskStore, bulk: Bulk) -> None:
    shard_of(store, "k").mkdir(exist_ok=True)
    (shard_of(store, "k") / f"{key_digest('k')}.{SIGNER}").symlink_to(store.directory / "nowhere")
    assert not bulk.is_missing("k", SIGNER)


@pytest.mark.parametrize("place", ["v1", "v1/e", "v1/tmp", "shard"])
def test_nothing_is_written_where_a_link_leads(store: DiskStore, bulk: Bulk, tmp_path: Path, place: str) -> None:
    """The next look sees it; the folder of one entry is looked at for that entry."""
    bulk.publish("k", SIGNER, b"before", None)
    elsewhere = tmp_path / "elsewhere"
    linked = shard_of(store, "k") if place == "shard" else store.directory / place
    shutil.move(linked, elsewhere)
    linked.symlink_to(elsewhere, target_is_directory=True)
    before = {path: path.stat().st_mtime_ns for path in elsewhere.rglob("*")}
    if place != "shard":
        bulk.look()
    other = next(f"o:{n}" for n in range(9999) if shard_of(store, f"o:{n}") == shard_of(store, "k"))
    with pytest.raises(OSError, match="is a link or a file"):
        bulk.publish(other, SIGNER, b"entry", None)
    assert {path: path.stat().st_mtime_ns for path in elsewhere.rglob("*")} == before


@pytest.mark.parametrize("gone", ["v1", "v1/e", "v1/tmp"])
def test_folders_that_somebody_removed_are_made_again(store: DiskStore, bulk: Bulk, gone: str) -> None:
    shutil.rmtree(store.directory / gone)
    bulk.publish("k", SIGNER, b"entry", None)  # even before the next look
    assert kept(store, "k") == b"entry"


def test_more_than_was_looked_for_is_looked_for_again(
    store: DiskStore, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = b"x" * (1 << 20)
    bulk.publish("large", SIGNER, many, None)
    monkeypatch.setattr(store, "_keep_free_bytes", 1 << 60)
    with pytest.raises(NoRoom, match="leaves"):
        bulk.publish("one more", SIGNER, b"x", None)
    bulk.look()
    with pytest.raises(NoRoom, match="leaves"):
        bulk.publish("and one", SIGNER, b"x", None)


def test_a_mark_of_an_eviction_goes(store: DiskStore, bulk: Bulk) -> None:
    run_now(store.evict([], ["k"]))
    assert run_now(store.traces("k", SIGNER)).evicted
    bulk.publish("k", SIGNER, b"entry", None)
    assert not run_now(store.traces("k", SIGNER)).evicted
