"""The hot tier: what was read lately needs one look at the file, and is as fresh and as safe as if it were read again (K9, C2)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbstep import Cache, Err, create_workflow, step
from nbstep.cache import hot
from nbstep.cache.records import Facts
from nbstep.stores.base import run_now

opened: list[str] = []
_listening = False


@pytest.fixture
def count_opened() -> Callable[[], int]:
    """How many entries' files were opened since the last call."""
    global _listening
    if not _listening:
        sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
        _listening = True
    opened.clear()

    def count() -> int:
        found = sum(f"{os.sep}v1{os.sep}e{os.sep}" in path for path in opened)
        opened.clear()
        return found

    return count


def elsewhere(cache: Cache, code: str) -> None:
    """Runs code in another process, on the same cache."""
    program = f"from nbstep import Cache\ncache = Cache({str(cache.directory)!r})\n{code}"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_second_hit_opens_no_file(tmp_path: Path, count_opened: Callable[[], int]) -> None:
    cache = Cache(tmp_path)
    cache.set("k", {"a": [1]})
    for expected in (1, 0, 0):
        assert cache.get("k") == {"a": [1]}
        assert count_opened() == expected
    workflow = create_workflow(cache=cache)
    assert workflow(lambda step: step(lambda: 1 / 0, key="k")).unwrap() == {"a": [1]}
    assert count_opened() == 0


def test_k9_every_hit_is_a_fresh_object(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.set("k", {"a": [1]})
    for _ in range(3):
        value: Any = cache.get("k")
        assert value == {"a": [1]}
        value["a"].append(2)


def test_another_process_s_delete_and_replacement_are_seen(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.set("k", "old")
    assert (cache.get("k"), cache.get("k")) == ("old", "old")
    elsewhere(cache, "cache.set('k', 'new')")
    assert cache.get("k") == "new"
    elsewhere(cache, "cache.delete('k')")
    assert cache.get("k", "gone") == "gone"
    elsewhere(cache, "cache.undo()")
    assert cache.get("k") == "new"


def test_a_damaged_file_is_a_miss_though_its_bytes_are_known(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.set("k", "good")
    assert cache.get("k") == "good"
    (file,) = (tmp_path / "v1" / "e").glob("*/*")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert cache.get("k", "miss") == "miss"


def test_kept_errors_come_from_it_too(tmp_path: Path, count_opened: Callable[[], int]) -> None:
    cache = Cache(tmp_path)
    run_now(cache.keep("k", Err(LookupError("gone")), Facts(took_s=0.1)))
    raised = []
    for _ in range(3):
        with pytest.raises(LookupError, match="gone") as caught:
            cache.get("k")
        raised.append(caught.value)
    assert len({id(error) for error in raised}) == 3
    assert count_opened() == 1


def test_large_values_are_read_each_time(tmp_path: Path, count_opened: Callable[[], int]) -> None:
    cache = Cache(tmp_path)
    cache.set("k", "x" * (hot.ENTRY_BYTES_AT_MOST + 1))
    for _ in range(2):
        cache.get("k")
    assert count_opened() == 2


def test_it_stays_within_its_bytes(tmp_path: Path, count_opened: Callable[[], int], monkeypatch: Any) -> None:
    monkeypatch.setattr(hot, "_BYTES_AT_MOST", 100_000)
    cache = Cache(tmp_path)
    for name in "abc":
        cache.set(name, name * 40_000)
        cache.get(name)
    count_opened()
    assert [cache.get(name)[0] for name in "cba"] == ["c", "b", "a"]  # type: ignore[index]
    assert count_opened() == 1  # only the oldest had to go


def test_a_store_of_the_user_s_own_is_asked_each_time() -> None:
    store: dict[str, Any] = {}
    cache = Cache(store)
    cache.set("k", 1)
    kept = store["k"]
    assert (cache.get("k"), cache.get("k")) == (1, 1)
    cache.set("k", 2)
    assert cache.get("k") == 2
    store["k"] = kept
    assert cache.get("k") == 1
    del store["k"]
    assert cache.get("k", "gone") == "gone"


def test_steps_see_a_delete_in_between(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    calls: list[int] = []

    def body(ask: Any) -> None:
        for _ in range(3):
            step(calls.append, 1, key="k")
            elsewhere(cache, "cache.delete('k')")

    create_workflow(cache=cache)(body).unwrap()
    assert calls == [1, 1, 1]
