"""The cache as steps and people use it: look up, keep, delete, undo (C1, C2, C3, K9, E6)."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nbstep import events
from nbstep.cache import entry, trust
from nbstep.cache.cache import Cache, project_cache
from nbstep.cache.records import Facts, Hit, Kept, Miss, NotKept, Unreadable
from nbstep.errors import CacheDirectoryError, StepFailed
from nbstep.events import CacheChanged, Place
from nbstep.result import Err, Ok
from nbstep.stores.base import run_now
from nbstep.stores.files import key_digest

FACTS = Facts(
    took_s=1.5,
    awaitable=True,
    workflow="w",
    place=Place("a.ipynb", 1, 2),
    code={"": "c0"},
    source="lambda: 1",
    uses=("x",),
)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def look_up(cache: Cache, key: str) -> Any:
    return run_now(cache.look_up(key))


def keep(cache: Cache, key: str, result: Any, **options: Any) -> Any:
    return run_now(cache.keep(key, result, FACTS, **options))


def files_of(cache: Cache) -> list[Path]:
    assert cache.directory is not None
    return sorted(
        path for path in (cache.directory / "v1" / "e").rglob("*") if path.is_file() and path.name.count(".") == 1
    )


def another_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(trust, "_ring", trust.KeyRing({"JUPYTER_DATA_DIR": str(tmp_path / "another")}))


def test_k3_none_and_falsy_values_are_kept_like_any_other(cache: Cache) -> None:
    for value in (None, 0, "", [], False, {}):
        keep(cache, "k", Ok(value))
        assert look_up(cache, "k").load() == value
        assert cache.has("k") is True


def test_what_the_step_knew_comes_back_with_the_hit(cache: Cache) -> None:
    kept = keep(cache, "k", Ok({"a": 1}))
    hit = look_up(cache, "k")
    assert isinstance(kept, Kept)
    assert hit.meta == kept.meta
    assert hit.meta.facts == FACTS
    assert (hit.meta.type, hit.meta.shape, hit.meta.preview, hit.meta.outcome) == ("dict", "1 item", "{'a': 1}", "ok")
    assert hit.meta.size_bytes == files_of(cache)[0].stat().st_size


def test_k9_every_load_gives_a_fresh_value(cache: Cache) -> None:
    original = {"rows": np.zeros(100_000), "list": [1]}
    keep(cache, "k", Ok(original))
    original["rows"][:] = 9
    hit = look_up(cache, "k")
    first, second = hit.load(), hit.load()
    first["rows"][0] = 5
    first["list"].append(2)
    assert (second["rows"][0], second["list"]) == (0, [1])
    assert look_up(cache, "k").load()["rows"][0] == 0


def test_a_hit_can_be_loaded_although_its_entry_is_deleted_meanwhile(cache: Cache) -> None:
    keep(cache, "k", Ok(np.ones(100_000)))
    hit = look_up(cache, "k")
    cache.clear()
    cache.empty_trash()
    assert hit.load().sum() == 100_000


def test_c2_misses_have_reasons(cache: Cache) -> None:
    assert look_up(cache, "k") == Miss("new")
    keep(cache, "k", Ok(1))
    assert cache.delete("k") is True
    assert look_up(cache, "k") == Miss("deleted")
    assert cache.delete("k") is False


def test_c2_people_get_values_and_kept_errors_raise(cache: Cache) -> None:
    cache.set("v", 1)
    keep(cache, "e", Err(ZeroDivisionError("x")))
    keep(cache, "r", Err("NOT_FOUND"))
    assert (cache.get("v"), cache.get("none"), cache.get("none", 5)) == (1, None, 5)
    with pytest.raises(ZeroDivisionError, match="x"):
        cache.get("e")
    with pytest.raises(StepFailed, match="NOT_FOUND"):
        cache.get("r")
    assert [meta.key for meta in cache.errors()] == ["e", "r"]
    assert ("v" in cache, "none" in cache, 5 in cache, len(cache), list(cache), bool(Cache("memory:"))) == (
        True,
        False,
        False,
        3,
        ["v", "e", "r"],
        True,
    )


def test_c2_deleting_by_glob_and_by_list(cache: Cache) -> None:
    for key in ("user:1", "user:2", "user:10", "order:1", "weird:[x]*%_"):
        cache.set(key, key)
    assert cache.delete_matching("user:?") == 2
    assert cache.delete_many(["order:1", "nothing", "order:1"]) == 1
    assert cache.delete_many(["weird:[x]*%_"]) == 1
    assert cache.keys() == ["user:10"]
    assert cache.undo() == ["weird:[x]*%_"]
    assert cache.undo() == ["order:1"]
    assert set(cache.undo()) == {"user:1", "user:2"}
    assert cache.undo() == []


def test_e6_one_undo_brings_back_what_a_run_replaced_even_by_errors(cache: Cache) -> None:
    for key in ("a", "b", "c"):
        keep(cache, key, Ok(f"{key}-old"), batch="run0")
    keep(cache, "a", Ok("a-new"), batch="run1")
    keep(cache, "b", Err(ValueError("b-new")), batch="run1")
    assert set(cache.undo()) == {"a", "b"}
    assert [cache.get(key) for key in "abc"] == ["a-old", "b-old", "c-old"]
    assert set(cache.undo()) == {"a", "b"}  # and back again
    assert cache.get("a") == "a-new"


@pytest.mark.parametrize("kind", ["disk", "memory", "dict"])
def test_e6_after_a_run_that_replaced_a_key_twice_undo_goes_back_before_it_and_undo_of_the_key_one_step(
    kind: str, tmp_path: Path
) -> None:
    for whole in (True, False):
        where: Any = {"disk": tmp_path / str(whole), "memory": "memory:", "dict": {}}[kind]
        cache = Cache(where)
        for value, batch in (("before", "run 1"), ("once", "run 2"), ("twice", "run 2")):
            keep(cache, "k", Ok(value), batch=batch)
        assert cache.undo(None if whole else "k") == ["k"]
        assert cache.get("k") == ("before" if whole else "once")
        assert (cache.undo("k"), cache.get("k")) == (["k"], "twice")
        assert cache.trash().entries == 2


@pytest.mark.parametrize(
    ("spoilt", "large"),
    [("header", False), ("content", False), ("header", True)],  # of so much only headers are read
)
@pytest.mark.parametrize("kind", ["disk", "dict"])
def test_e6_undo_of_a_run_brings_back_what_is_whole_and_loses_nothing_good_for_what_is_damaged(
    kind: str,
    spoilt: str,
    large: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if large:
        monkeypatch.setattr("nbstep.cache.restoring._READ_BYTES_AT_MOST", 10)
    store: dict[str, bytes] = {}
    cache = Cache(tmp_path if kind == "disk" else store)
    for key in ("a", "b"):
        keep(cache, key, Ok(f"{key}-old"), batch="run0")
    path = (
        next((one for one in files_of(cache) if one.name.startswith(key_digest("b"))), None) if kind == "disk" else None
    )
    content = bytearray(store["b"] if path is None else path.read_bytes())
    content[20 if spoilt == "header" else -1] ^= 1
    if path is None:
        store["b"] = bytes(content)
    else:
        path.write_bytes(content)
    for key in ("a", "b"):
        keep(cache, key, Ok(f"{key}-new"), batch="run1")
    assert cache.undo() == ["a"]
    assert (cache.get("a"), cache.get("b")) == ("a-old", "b-new")
    assert cache.undo() == ["a"]  # and back again
    assert (cache.get("a"), cache.get("b")) == ("a-new", "b-new")
    assert cache.undo("b") == []
    assert (cache.get("b"), cache.trash().entries) == ("b-new", 2)
    assert caplog.messages == [f"{cache.place}: b in the trash is damaged and stays there"] * 3


def test_c2_undo_of_a_key_swaps_and_loses_neither(cache: Cache) -> None:
    cache.set("k", 1)
    cache.set("k", 2)
    assert (cache.undo("k"), cache.get("k")) == (["k"], 1)
    assert (cache.undo("k"), cache.get("k")) == (["k"], 2)
    assert cache.undo("nothing") == []
    assert cache.trash().entries == 1


def test_c2_listing_loads_nothing(cache: Cache) -> None:
    cache.set("k", {"a": object})
    names: list[Any] = []
    watching = [True]
    sys.addaudithook(lambda event, args: names.append(args) if event == "pickle.find_class" and watching[0] else None)
    try:
        cache.entries(), cache.keys(), cache.has("k"), cache.errors(), cache.delete("k"), cache.undo(), cache.clear()
        assert names == []
    finally:
        watching[0] = False


def test_listing_sees_what_other_kernels_do(cache: Cache) -> None:
    other = Cache(cache.directory)
    cache.set("a", 1)
    assert [meta.key for meta in other.entries()] == ["a"]
    other.set("a", [1, 2])
    other.set("b", 2)
    assert {meta.key: meta.type for meta in cache.entries()} == {"a": "list", "b": "int"}
    other.clear()
    assert cache.entries() == []


def test_trust_entries_of_another_signer_are_a_miss_that_says_why(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache.set("k", 1)
    signer = cache.entries()[0].signer
    another_user(monkeypatch, tmp_path)
    theirs = Cache(cache.directory)
    miss = look_up(theirs, "k")
    assert (miss.reason, f"signed by key {signer}" in miss.detail, "NBSTEP_SIGNING_KEY_FILE" in miss.detail) == (
        "untrusted",
        True,
        True,
    )
    assert [(meta.key, meta.trusted) for meta in theirs.entries()] == [("k", False)]
    assert (theirs.keys(), theirs.has("k")) == ([], False)
    theirs.set("k", 2)
    assert theirs.get("k") == 2
    assert len(files_of(cache)) == 2
    assert theirs.delete("k") is True
    assert files_of(cache) == []


def test_trust_an_entry_of_another_signer_in_a_mapping_is_a_miss_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shared: dict[str, bytes] = {}
    Cache(shared).set("k", 1)
    another_user(monkeypatch, tmp_path)
    assert look_up(Cache(shared), "k").reason == "untrusted"


def test_trust_entries_swapped_between_keys_are_a_miss(cache: Cache) -> None:
    cache.set("a", 1)
    cache.set("b", 2)
    first, second = files_of(cache)
    first.write_bytes(second.read_bytes())
    reasons = {key: getattr(look_up(cache, key), "reason", "hit") for key in "ab"}
    assert sorted(reasons.values()) == ["hit", "unreadable"]


@pytest.mark.parametrize("content", [b"", b"garbage", b"NBSTEP1\n\x00", b"NBSTEP9\n" * 100])
def test_c3_garbage_is_a_miss_that_says_why_and_heals_when_kept_again(cache: Cache, content: bytes) -> None:
    cache.set("k", 1)
    files_of(cache)[0].write_bytes(content)
    miss = look_up(cache, "k")
    assert miss.reason in {"unreadable", "incompatible"}
    assert miss.detail
    assert cache.get("k", "default") == "default"
    assert cache.entries() == []
    cache.set("k", 2)
    assert cache.get("k") == 2
    files_of(cache)[0].write_bytes(content)
    assert cache.clear() == 1


def test_c3_damaged_content_is_found_when_it_is_loaded(cache: Cache) -> None:
    keep(cache, "k", Ok(np.zeros(100_000)))
    path = files_of(cache)[0]
    spoilt = bytearray(path.read_bytes())
    spoilt[-5] ^= 1
    path.write_bytes(spoilt)
    with pytest.raises(Unreadable, match="digest"):
        look_up(cache, "k").load()
    assert cache.get("k", "default") == "default"


def test_c3_a_value_that_cannot_be_kept_says_so_and_leaves_what_was_there(cache: Cache) -> None:
    keep(cache, "k", Ok(1))
    not_kept = keep(cache, "k", Ok({"lock": threading.Lock()}))
    assert isinstance(not_kept, NotKept)
    assert not_kept.why.startswith("result['lock'] is a _thread.lock, which cannot be pickled")
    assert look_up(cache, "k").load() == 1
    with pytest.raises(ValueError, match=r"'x' was not kept: result is a generator"):
        cache.set("x", (n for n in ()))


def test_c3_a_value_that_pickles_but_does_not_load_is_a_miss_when_loaded(cache: Cache) -> None:
    class Sour:
        def __reduce__(self) -> Any:
            return int, ("no number",)

    assert isinstance(keep(cache, "k", Ok(Sour())), Kept)
    with pytest.raises(Unreadable, match="cannot be loaded: ValueError"):
        look_up(cache, "k").load()


def test_c3_a_package_that_changed_is_named(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as then:
        then.setattr(np, "__version__", "1.0")
        keep(cache, "k", Ok(np.float64(1)))
    monkeypatch.setattr(np._core.multiarray, "scalar", None)  # as if the newer version had no such name
    with pytest.raises(Unreadable) as caught:
        look_up(cache, "k").load()
    assert caught.value.reason == "incompatible"
    assert f"numpy 1.0 then, {np.__version__} now" in caught.value.detail


def test_code_kept_under_another_python_is_a_miss(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "PYTHON", "3.10")
    keep(cache, "code", Ok(lambda: 1))
    keep(cache, "plain", Ok(1))
    monkeypatch.setattr(entry, "PYTHON", "3.11")
    assert look_up(cache, "code") == Miss("incompatible", "kept under Python 3.10, this is 3.11")
    assert look_up(cache, "plain").load() == 1


def test_changes_are_told(cache: Cache) -> None:
    told: list[Any] = []
    stop = events.listen(told.append)
    try:
        cache.set("a", 1)
        cache.set("b", 1)
        cache.delete("a")
        cache.delete("a")
        cache.undo()
        cache.clear()
    finally:
        stop()
    place = cache.place
    assert told == [
        CacheChanged(place, "kept", ("a",)),
        CacheChanged(place, "kept", ("b",)),
        CacheChanged(place, "deleted", ("a",)),
        CacheChanged(place, "restored", ("a",)),
        CacheChanged(place, "deleted", ("a", "b")),
    ]


def test_w2_previews_can_be_switched_off_and_redacted(tmp_path: Path) -> None:
    quiet = Cache(tmp_path / "a", previews=False)
    quiet.set("k", "visible")
    assert quiet.entries()[0].preview == ""
    redacting = Cache(tmp_path / "b", redact=lambda text: text.replace("4711", "####"))
    redacting.set("k", {"account": "4711", "password": "hunter2"})
    keep(redacting, "e", Err(ValueError("account 4711")))
    metas = redacting.entries()
    assert metas[0].preview == "{'account': '####', 'password': '<redacted>'}"
    assert metas[1].error.message == "account ####"
    assert "4711" not in metas[1].error.traceback
    assert redacting.get("k")["account"] == "4711"


def test_w2_wrong_options_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'durability=.*"auto"'):
        Cache(tmp_path, durability="sometimes")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="redact"):
        Cache(tmp_path, redact="x")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Cache(tmp_path, ttl=5)  # type: ignore[call-arg]


def test_the_users_redaction_reaches_errors_that_stand_among_values(tmp_path: Path) -> None:
    cache = Cache(tmp_path, redact=lambda text: text.replace("4711", "####"))
    error = ValueError("card 4711")
    error.add_note("of 4711")
    cache.set("list", [error, Err(error), Err("4711"), Ok(error)])
    cache.set("deep", {"a": (LookupError([error]), {"b": KeyError("4711")})})
    cache.set("group", ExceptionGroup("of 4711", [error]))
    cache.set("long", [RuntimeError("x" * 224 + "4711")])
    previews = [meta.preview for meta in cache.entries()]
    assert all("47" not in preview and "##" in preview for preview in previews), previews
    assert str(cache.get("list")[0]) == "card 4711"  # the value itself stays what it is


@pytest.mark.parametrize("key", ["", "x" * 5000, "a\ud800"])
def test_k6_nothing_is_kept_under_what_is_no_key(cache: Cache, key: str) -> None:
    with pytest.raises(ValueError, match="key="):
        cache.set(key, 1)
    assert cache.keys() == []


@pytest.mark.parametrize("key", [None, 5, b"k", ["k"]])
def test_k6_keys_are_text(cache: Cache, key: Any) -> None:
    for act in (
        cache.get,
        cache.has,
        cache.delete,
        lambda key: cache.set(key, 1),
        lambda key: cache.delete_many([key]),
    ):
        with pytest.raises(TypeError, match="key= takes a str"):
            act(key)


def test_k6_what_cannot_be_a_key_is_an_error_wherever_one_is_named(cache: Cache) -> None:
    for act in (cache.get, cache.has, cache.delete, cache.undo):
        with pytest.raises(ValueError, match='key="" names nothing'):
            act("")
    assert "" not in cache


def test_c1_a_cache_of_a_cache_shares_its_store(cache: Cache) -> None:
    cache.set("k", 1)
    assert Cache(cache).get("k") == 1
    assert Cache(str(cache.directory)).get("k") == 1
    memory = Cache("memory:")
    memory.set("k", 1)
    assert (Cache(memory).get("k"), Cache("memory:").get("k")) == (1, None)


def test_c1_a_folder_of_the_users_own_gets_its_cache_inside(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("a")
    assert Cache(tmp_path).directory == tmp_path / ".nbstep"
    assert not (tmp_path / ".gitignore").exists()
    assert Cache(tmp_path / "new").directory == tmp_path / "new"
    assert Cache(tmp_path / "new").directory == tmp_path / "new"


def test_c1_a_directory_that_cannot_be_used_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheDirectoryError, match=r"file/c cannot be used"):
        Cache(tmp_path / "file" / "c")


def test_c0_the_default_is_the_projects_cache() -> None:
    assert Cache().directory == project_cache().directory
    assert project_cache() is project_cache()


def test_threads_may_use_one_cache(cache: Cache) -> None:
    def work(n: int) -> int:
        for i in range(30):
            key = f"k{i % 5}"
            if i % 7 == n % 7:
                cache.delete(key)
            elif i % 3:
                cache.set(key, [n] * 100)
            else:
                value = cache.get(key)
                assert value is None or len(set(value)) == 1
                cache.entries()
        return n

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == list(range(8))


def test_nothing_under_the_cache_is_written_by_looking(cache: Cache) -> None:
    assert cache.directory is not None
    before = sorted(cache.directory.rglob("*"))
    look_up(cache, "k"), cache.entries(), cache.keys(), cache.trash(), cache.undo(), cache.clear(), cache.delete("k")
    assert sorted(cache.directory.rglob("*")) == before


def test_a_hit_costs_little(cache: Cache) -> None:
    import time

    cache.set("k", {"a": list(range(50))})
    times: list[float] = []
    for _ in range(200):
        begin = time.perf_counter()
        hit = look_up(cache, "k")
        hit.load()
        times.append(time.perf_counter() - begin)
    assert sorted(times)[100] < 0.005
    assert isinstance(hit, Hit)


class CacheLikeADict(RuleBasedStateMachine):
    """Random operations give the same answers as a dict."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.cache = Cache(Path(self.folder.name) / "c")
        self.model: dict[str, Any] = {}

    keys = st.sampled_from(["a", "b", "ключ", "../x", "a:b"])

    @rule(key=keys, value=st.one_of(st.none(), st.integers(), st.text(max_size=5)))
    def keep_one(self, key: str, value: Any) -> None:
        self.cache.set(key, value)
        self.model.pop(key, None)
        self.model[key] = value

    @rule(key=keys)
    def delete_one(self, key: str) -> None:
        assert self.cache.delete(key) is (self.model.pop(key, self) is not self)

    @rule(key=keys)
    def delete_and_undo(self, key: str) -> None:
        if self.cache.delete(key):
            assert self.cache.undo() == [key]

    @rule()
    def clear_all(self) -> None:
        assert self.cache.clear() == len(self.model)
        self.model.clear()

    @rule()
    def forget_trash(self) -> None:
        self.cache.empty_trash()

    @invariant()
    def same(self) -> None:
        assert {key: self.cache.get(key, self) for key in self.cache} == self.model

    def teardown(self) -> None:
        self.folder.cleanup()


CacheLikeADict.TestCase.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
TestCacheLikeADict = CacheLikeADict.TestCase
