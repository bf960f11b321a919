"""Entries of other signers, accepted and signed anew without unpickling anything (DESIGN 5, "Trust"; T1, T5, T13)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbstep.cache import trust
from nbstep.cache.cache import Cache
from nbstep.cache.records import Facts, Kept, Miss
from nbstep.errors import KeyFileError
from nbstep.result import Err, Ok
from nbstep.stores.base import run_now
from nbstep.stores.disk import key_digest

loaded: list[str] = []


def poison() -> str:
    loaded.append("loaded")
    return "poison"


class Poison:
    def __reduce__(self) -> Any:
        return poison, ()


def as_user(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> trust.KeyRing:
    ring = trust.KeyRing({"JUPYTER_DATA_DIR": str(tmp_path / name)})
    monkeypatch.setattr(trust, "_ring", ring)
    return ring


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """A cache that somebody else filled; from here on we are who we are."""
    with monkeypatch.context() as then:
        as_user("them", then, tmp_path)
        cache = Cache(tmp_path / ".nbstep")
        cache.set("user:1", {"a": 1})
        cache.set("user:2", Poison())
        cache.set("frame", {"rows": np.arange(100_000), "more": np.ones(50)})
        run_now(cache.keep("bad", Err(ValueError("no")), Facts(took_s=0.5)))
    return Cache(tmp_path / ".nbstep")


def entry_files(cache: Cache) -> list[Path]:
    assert cache.directory is not None
    return sorted(
        path for path in (cache.directory / "v1" / "e").rglob("*") if path.is_file() and path.name.count(".") == 1
    )


def file_of(cache: Cache, key: str, signer: str) -> Path:
    assert cache.directory is not None
    digest = key_digest(key)
    return cache.directory / "v1" / "e" / digest[:2] / f"{digest}.{signer}"


def test_trust_accepts_values_and_errors_and_never_unpickles(theirs: Cache, unpickled: list[Any]) -> None:
    loaded.clear()
    offered = theirs.untrusted()
    assert sorted(one.meta.key for one in offered.entries) == ["bad", "frame", "user:1", "user:2"]
    accepted = theirs.trust(offered)
    assert (sorted(accepted.keys), accepted.refused) == (["bad", "frame", "user:1", "user:2"], ())
    assert (unpickled, loaded) == ([], [])
    assert theirs.get("user:1") == {"a": 1}
    assert theirs.get("frame")["rows"].sum() == sum(range(100_000))
    assert theirs.get("user:2") == "poison"
    assert len(unpickled) > 0
    with pytest.raises(ValueError, match="no"):
        theirs.get("bad")


def test_trust_publishes_new_files_and_the_old_signers_go_for_good(theirs: Cache) -> None:
    before = {path: (path.read_bytes(), path.stat().st_ino) for path in entry_files(theirs)}
    signer = theirs.entries()[0].signer
    theirs.trust("user:1")
    old = file_of(theirs, "user:1", signer)
    assert not old.exists()
    assert file_of(theirs, "user:1", trust.signing_key().id).stat().st_ino not in {
        inode for _, inode in before.values()
    }
    assert theirs.trash().entries == 0
    assert {path for path in entry_files(theirs) if path in before} == set(before) - {old}


def test_trust_keeps_every_fact_of_the_header_but_the_signer(theirs: Cache) -> None:
    before = {meta.key: meta for meta in theirs.entries()}
    theirs.trust()
    after = {meta.key: meta for meta in theirs.entries()}
    assert {meta.signer for meta in after.values()} == {trust.signing_key().id}
    for key, meta in after.items():
        assert meta.trusted
        assert (meta.facts, meta.created, meta.type, meta.preview, meta.error, meta.packages) == (
            before[key].facts, before[key].created, before[key].type, before[key].preview, before[key].error, before[key].packages,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "expected"), [("user:1", 1), ("user:?", 2), ("*", 4), ("USER:?", 0), ("User:1", 0)]
)
def test_trust_takes_a_key_or_a_glob_as_it_is_spelt(theirs: Cache, pattern: str, expected: int) -> None:
    assert len(theirs.trust(pattern).keys) == expected
    assert len(theirs.untrusted().entries) == 4 - expected


def test_one_s_own_entry_and_the_newest_of_others_win(
    theirs: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs.set("user:1", "mine")
    with monkeypatch.context() as then:
        as_user("third", then, tmp_path)
        Cache(theirs.directory).set("user:2", "newest")
    offered = theirs.untrusted("user:*")
    assert ([one.meta.key for one in offered.entries], offered.passed_over) == (["user:2"], 2)
    theirs.trust("user:*")
    assert (theirs.get("user:1"), theirs.get("user:2")) == ("mine", "newest")


def flip(at: Callable[[bytes], int]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[at(bytes(content))] ^= 1
        path.write_bytes(content)

    return spoil


SPOILS: dict[str, Callable[[Path], None]] = {
    "payload": flip(lambda content: len(content) - 3),
    "a digest": flip(lambda content: content.index(b'"buffers":[[') + 30),
    "more bytes": lambda path: path.write_bytes(path.read_bytes() + b"\x00") and None,
    "fewer bytes": lambda path: path.write_bytes(path.read_bytes()[:-1]) and None,
    "the header": flip(lambda content: content.index(b'"took_s":') + 9),
    "the signature": flip(lambda content: 12 + int.from_bytes(content[8:12], "little") + 5),
    "nothing there": lambda path: path.unlink(),
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_what_is_damaged_or_changes_after_it_was_shown_is_refused(
    theirs: Cache, spoil: str, unpickled: list[Any]
) -> None:
    offered = theirs.untrusted("frame")
    path = file_of(theirs, "frame", offered.entries[0].meta.signer)
    SPOILS[spoil](path)
    accepted = theirs.trust(offered)
    assert (accepted.keys, [key for key, _ in accepted.refused]) == ((), ["frame"])
    assert accepted.refused[0][1]
    assert not file_of(theirs, "frame", trust.signing_key().id).exists()
    assert unpickled == []


def test_t5_an_entry_under_another_key_or_signer_is_refused(theirs: Cache) -> None:
    signer = theirs.entries()[0].signer
    file_of(theirs, "user:1", signer).replace(file_of(theirs, "user:2", signer))
    file_of(theirs, "frame", signer).rename(file_of(theirs, "frame", "0" * 8))
    accepted = theirs.trust()
    assert (accepted.keys, sorted(key for key, _ in accepted.refused)) == (("bad",), ["frame", "user:1"])
    assert all("another" in why for _, why in accepted.refused)


@pytest.mark.skipif(sys.platform == "win32", reason="links of POSIX")
def test_a_link_in_the_place_of_an_entry_is_neither_read_nor_removed(theirs: Cache, tmp_path: Path) -> None:
    path = file_of(theirs, "user:1", theirs.entries()[0].signer)
    victim = tmp_path / "victim"
    path.rename(victim)
    path.symlink_to(victim)
    assert theirs.trust("user:1").keys == ()
    assert victim.exists()


def test_a_key_file_accepts_only_what_that_key_signed(
    theirs: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as then:
        third = as_user("third", then, tmp_path)
        Cache(theirs.directory).set("other", 1)
        third_file = third.path()
    offered = theirs.untrusted(key_file=third_file)
    assert [one.meta.key for one in offered.entries] == ["other"]
    assert (offered.passed_over, offered.of_other_signers) == (0, 4)
    assert theirs.trust(key_file=third_file).keys == ("other",)


def test_a_header_that_only_claims_the_given_key_is_refused(theirs: Cache, tmp_path: Path) -> None:
    them = tmp_path / "them" / "nbstep" / "signing_key"
    signer = theirs.entries()[0].signer
    SPOILS["the header"](file_of(theirs, "user:1", signer))
    accepted = theirs.trust("user:1", key_file=them)
    assert (accepted.keys, [key for key, _ in accepted.refused]) == ((), ["user:1"])


@pytest.mark.parametrize("content", [None, b"short"])
def test_a_key_file_that_is_none_says_so(theirs: Cache, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "some.key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KeyFileError, match=r"no such file|fewer than 32 bytes"):
        theirs.untrusted(key_file=path)


def test_nothing_is_accepted_by_a_key_that_dies_with_the_process(
    theirs: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "_ring", trust.KeyRing({"NBSTEP_SIGNING_KEY_FILE": "relative.key"}))
    with pytest.raises(KeyFileError, match="no absolute path"):
        theirs.trust()
    assert len(theirs.untrusted().entries) == 4


def test_trust_works_over_a_users_own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared: dict[str, bytes] = {}
    with monkeypatch.context() as then:
        as_user("them", then, tmp_path)
        Cache(shared).set("k", [1])
    cache = Cache(shared)
    assert cache.trust().keys == ("k",)
    assert cache.get("k") == [1]


def test_a_full_disk_refuses_and_leaves_what_was_there(theirs: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theirs._entries.store, "_keep_free_bytes", 1 << 60)
    accepted = theirs.trust()
    assert (accepted.keys, len(accepted.refused)) == ((), 4)
    assert len(entry_files(theirs)) == 4


def test_rotate_signs_this_cache_anew_and_says_where_the_old_key_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = as_user("me", monkeypatch, tmp_path)
    here, elsewhere = Cache(tmp_path / "a" / ".nbstep"), Cache(tmp_path / "b" / ".nbstep")
    for cache in (here, elsewhere):
        cache.set("k", 1)
        assert [meta.trusted for meta in cache.entries()] == [True]
    old = ring.key()
    rotation, accepted = here.rotate_key()
    assert (rotation.old, rotation.new, accepted.keys) == (old, ring.key(), ("k",))
    assert ring.key() != old
    assert ring.path().read_bytes() == ring.key().secret
    assert rotation.kept_in.read_bytes() == old.secret
    assert here.get("k") == 1
    assert [meta.trusted for meta in elsewhere.entries()] == [False]
    miss = run_now(elsewhere.look_up("k"))
    assert isinstance(miss, Miss)
    assert (miss.reason, "nbstep trust" in (miss.detail or "")) == ("untrusted", True)
    assert elsewhere.trust(key_file=rotation.kept_in).keys == ("k",)
    assert elsewhere.get("k") == 1
    if sys.platform != "win32":
        assert {os.stat(path).st_mode & 0o777 for path in ring.path().parent.iterdir()} == {0o600}


def test_rotate_leaves_what_others_signed_untrusted(theirs: Cache) -> None:
    theirs.set("mine", 1)
    _, accepted = theirs.rotate_key()
    assert accepted.keys == ("mine",)
    assert len(theirs.untrusted().entries) == 4


@pytest.mark.parametrize("where", ["disk", "dict"])
def test_trust_and_rotation_are_nothing_that_a_plain_undo_brings_back(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place: Any = {} if where == "dict" else tmp_path / "c"
    with monkeypatch.context() as then:
        as_user("them", then, tmp_path)
        Cache(place).set("theirs", 1)
    as_user("me", monkeypatch, tmp_path)
    cache = Cache(place)
    cache.set("mine", 2)
    cache.set("gone", 3)
    cache.delete("gone")
    cache.trust()
    assert cache.undo() == ["gone"]
    assert cache.trash().entries == 0
    cache.delete("gone")
    cache.rotate_key()
    assert (cache.undo(), cache.undo("mine"), cache.trash().entries) == ([], [], 0)
    assert (cache.get("mine"), cache.get("theirs"), cache.get("gone")) == (2, 1, None)
    assert cache.verify().bits == 0
    assert len(cache.entries()) == 2


def test_a_leaked_key_s_recipe_leaves_nothing_that_it_signed_within_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_user("me", monkeypatch, tmp_path)
    here, doubtful = Cache(tmp_path / "a" / ".nbstep"), Cache(tmp_path / "b" / ".nbstep")
    for cache in (here, doubtful):
        cache.set("k", 1)
    doubtful.clear()
    rotation, _ = here.rotate_key()
    rotation.kept_in.unlink()
    doubtful.undo()
    assert [meta.trusted for meta in (*here.entries(), *doubtful.entries())] == [True, False]
    assert (here.get("k"), doubtful.get("k")) == (1, None)
    here.clear()
    doubtful.rotate_key()
    here.undo()
    assert here.get("k") is None


def test_trust_keeps_the_other_signer_s_file_until_the_new_one_was_read_back(
    theirs: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    store: Any = theirs._entries.store
    own = trust.signing_key().id
    publish = store.publish

    async def publish_half(key: str, signer: str, parts: Any, **options: Any) -> None:
        """A disk that takes a file and gives back another."""
        await publish(key, signer, parts, **options)
        path = file_of(theirs, key, own)
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-1])

    monkeypatch.setattr(store, "publish", publish_half)
    signer = theirs.entries()[0].signer
    accepted = theirs.trust("user:1")
    assert (accepted.keys, len(accepted.refused)) == ((), 1)
    assert file_of(theirs, "user:1", signer).exists()


def test_accepting_tells_how_far_it_is(theirs: Cache) -> None:
    told: list[tuple[int, int]] = []
    theirs.trust(progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1] > 400_000


def test_a_trusted_entry_kept_again_is_an_ordinary_entry(theirs: Cache) -> None:
    theirs.trust("user:1")
    assert isinstance(run_now(theirs.keep("user:1", Ok(2), Facts(took_s=0.0))), Kept)
    assert theirs.get("user:1") == 2
