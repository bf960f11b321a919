"""Whole entries in the wrong place: swapped, copied to another key, of another time (T5; SECURITY.md, "Replay")."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from nbstep import Cache, create_workflow
from nbstep.stores.files import key_digest
from nbstep.testing import RecordingListener


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    made = Cache(tmp_path)
    made.set("a", Path("of a"))
    made.set("b", Path("of b"))
    return made


def file_of(cache: Cache, key: str) -> Path:
    assert cache.directory is not None
    digest = key_digest(key)
    beside = (cache.directory / "v1" / "e" / digest[:2]).glob(f"{digest}.*")
    (path,) = [path for path in beside if path.name.count(".") == 1]  # what waits in the trash has more of them
    return path


def swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


@pytest.mark.parametrize("how", ["swapped", "copied"])
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "hot"])
def test_t5_an_entry_in_the_place_of_another_is_a_miss_that_names_it(
    cache: Cache, unpickled: list[Any], how: str, warm: bool
) -> None:
    if warm:
        assert (cache.get("a"), cache.get("b")) == (Path("of a"), Path("of b"))
        unpickled.clear()
    if how == "swapped":
        swap(file_of(cache, "a"), file_of(cache, "b"))
    else:
        content = file_of(cache, "b").read_bytes()
        file_of(cache, "a").unlink()
        digest = key_digest("a")
        (file_of(cache, "b").parent.parent / digest[:2] / f"{digest}.{file_of(cache, 'b').name[65:]}").write_bytes(
            content
        )
    listener = RecordingListener()
    workflow = create_workflow(cache=cache, on_event=listener)
    assert workflow(lambda step: step(lambda: "computed", key="a")).unwrap() == "computed"
    assert listener.reasons("a") == ["unreadable"]
    (text,) = listener.findings()
    assert "another key, 'b'" in text
    assert unpickled == []
    assert cache.get("a") == "computed"
    assert cache.get("b", "miss") == ("miss" if how == "swapped" else Path("of b"))


def test_t5_part_of_one_entry_in_another_is_a_miss(cache: Cache, unpickled: list[Any]) -> None:
    """Header of one, content of the other: of one length, so that only the digests tell."""
    one, other = file_of(cache, "a").read_bytes(), file_of(cache, "b").read_bytes()
    end = {content: 12 + int.from_bytes(content[8:12], "little") + 32 for content in (one, other)}
    assert len(one) - end[one] == len(other) - end[other]
    file_of(cache, "a").write_bytes(one[: end[one]] + other[end[other] :])
    assert cache.get("a", "miss") == "miss"
    assert unpickled == []


def test_t5_an_entry_of_another_cache_of_mine_under_its_own_key_is_mine(cache: Cache, tmp_path: Path) -> None:
    """What is signed is the key, not the folder: a cache can be moved and copied."""
    moved = Cache(tmp_path / "elsewhere")
    shutil.copytree(tmp_path / "v1" / "e", tmp_path / "elsewhere" / "v1" / "e", copy_function=shutil.copy2)
    assert moved.get("a") == Path("of a")


def test_an_older_version_put_back_in_its_place_verifies_as_documented(cache: Cache) -> None:
    old = file_of(cache, "a").read_bytes()
    cache.set("a", "newer")
    assert cache.get("a") == "newer"
    path = file_of(cache, "a")
    path.unlink()
    path.write_bytes(old)
    assert cache.get("a") == Path("of a")
    assert "Replay" in (Path(__file__).parents[2] / "SECURITY.md").read_text(encoding="utf-8")


def test_t1_an_entry_renamed_to_my_signature_is_a_miss(
    cache: Cache, unpickled: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from nbstep.cache import trust

    monkeypatch.setattr(trust, "_ring", trust.KeyRing({"JUPYTER_DATA_DIR": str(tmp_path / "me")}))
    mine = trust.signing_key().id
    path = file_of(cache, "a")
    path.rename(path.with_name(f"{path.name[:65]}{mine}"))
    assert Cache(cache.directory).get("a", "miss") == "miss"
    assert unpickled == []
