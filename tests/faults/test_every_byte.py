"""Every byte of an entry flipped, every length cut: a miss that says why, and nothing is unpickled (T5, T8, DESIGN 5)."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from faults import LONG
from nbstep import Cache, Err, Ok, create_workflow
from nbstep.cache.records import Facts, Hit, Kept, Miss, Unreadable
from nbstep.events import Finding, StepMissed
from nbstep.stores.base import run_now
from nbstep.testing import RecordingListener

KEY: Final = "user:1"


class Part:
    """A class that a pickle must look up by name."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Part) and self.rows == other.rows

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> Any:
        return Part, (self.rows,)


class Buffer(bytearray):
    """Goes out of band, as an array does."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Buffer, (pickle.PickleBuffer(bytearray(self)),)


KINDS: dict[str, Ok[Any] | Err[Any]] = {
    "value": Ok(Part([1, "two", None])),
    "returned error": Err(Part("NOT_FOUND")),
    "failure": Err(LookupError("gone")),
    "with a buffer": Ok(Part(Buffer(b"b" * (64 * 1024)))),
}


@pytest.fixture
def unpickled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Every name that a pickle looks up, and every call of `pickle.loads`."""
    seen: list[Any] = []
    watching = [True]
    sys.addaudithook(lambda event, args: seen.append(args) if event == "pickle.find_class" and watching[0] else None)
    real = pickle.loads

    def loads(*args: Any, **kwargs: Any) -> Any:
        seen.append("pickle.loads")
        return real(*args, **kwargs)

    monkeypatch.setattr(pickle, "loads", loads)
    yield seen
    watching[0] = False


def entry_of(folder: Path) -> Path:
    (path,) = (folder / "v1" / "e").glob("*/*")
    return path


def kept(folder: Path, result: Ok[Any] | Err[Any]) -> Cache:
    cache = Cache(folder)
    assert isinstance(run_now(cache.keep(KEY, result, Facts(took_s=0.1))), Kept)
    return cache


def why_not(folder: Path) -> str | None:
    """What a new kernel says of the entry: why it is a miss, None where it can be used."""
    found = run_now(Cache(folder).look_up(KEY))
    if isinstance(found, Miss):
        return found.detail
    try:
        found.load()
    except Unreadable as problem:
        return problem.detail
    return None


def places(content: bytes) -> list[int]:
    """Every byte; of a long run of equal ones, as in a buffer, the first and last and some between."""
    if LONG or len(content) < 16_384:
        return list(range(len(content)))
    changes = [at for at in range(1, len(content)) if content[at] != content[at - 1]]
    near = {at + by for at in [*changes, 0, len(content)] for by in range(-40, 40)}
    return sorted(at for at in near | set(range(0, len(content), 997)) if 0 <= at < len(content))


@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_byte_is_a_miss_that_says_why(tmp_path: Path, kind: str, unpickled: list[Any]) -> None:
    kept(tmp_path, KINDS[kind])
    path = entry_of(tmp_path)
    content = path.read_bytes()
    assert why_not(tmp_path) is None
    assert unpickled
    unpickled.clear()
    for at in places(content):
        spoilt = bytearray(content)
        spoilt[at] ^= 1 << (at % 8)
        path.write_bytes(spoilt)
        assert why_not(tmp_path), at
    assert unpickled == []
    path.write_bytes(content)
    assert why_not(tmp_path) is None


@pytest.mark.parametrize("kind", KINDS)
def test_every_length_but_its_own_is_a_miss_that_says_why(tmp_path: Path, kind: str, unpickled: list[Any]) -> None:
    kept(tmp_path, KINDS[kind])
    unpickled.clear()  # an error is tried out when it is kept
    path = entry_of(tmp_path)
    content = path.read_bytes()
    for length in reversed(places(content)):
        with open(path, "r+b") as file:
            file.truncate(length)
        assert why_not(tmp_path), length
    for more in (b"\x00", content, bytes(4096)):
        path.write_bytes(content + more)
        assert why_not(tmp_path), len(more)
    assert unpickled == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spoil", ["first", "header", "signature", "last", "cut", "empty"])
def test_c3_a_step_over_a_spoilt_entry_runs_again_says_why_and_heals_it(
    tmp_path: Path, kind: str, spoil: str, unpickled: list[Any]
) -> None:
    cache = kept(tmp_path, KINDS[kind])
    unpickled.clear()
    path = entry_of(tmp_path)
    content = bytearray(path.read_bytes())
    signature = 12 + int.from_bytes(content[8:12], "little")
    if spoil == "cut":
        del content[-1:]
    elif spoil == "empty":
        content.clear()
    else:
        content[{"first": 0, "header": 30, "signature": signature, "last": -1}[spoil]] ^= 4
    path.write_bytes(content)
    listener = RecordingListener()
    workflow = create_workflow(cache=cache, on_event=listener)
    assert workflow(lambda step: step(lambda: "computed", key=KEY)).unwrap() == "computed"
    assert unpickled == []
    (missed,) = listener.of(StepMissed)
    (finding,) = listener.of(Finding)
    assert (missed.reason, finding.kind, finding.key) == ("unreadable", "unreadable", KEY)
    assert missed.detail
    assert missed.detail in finding.text
    assert Cache(tmp_path).get(KEY) == "computed"


CLAIMS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a longer header": (lambda content: content[:8] + (1 << 20).to_bytes(4, "little") + content[12:], "within its header"),
    "a huge header": (lambda content: content[:8] + b"\xff\xff\xff\xff" + content[12:], "too long"),
    "no header": (lambda content: content[:8] + bytes(4) + content[12:], "damaged"),
    "a plain pickle": (lambda content: pickle.dumps(Part("evil")), "no entry of nbstep"),
    "another version": (lambda content: b"NBSTEP9\n" + content[8:], "another version of nbstep"),
    "ends in zeros": (lambda content: content[:-20] + bytes(20), "digest"),
    "all zeros": (lambda content: bytes(len(content)), "no entry of nbstep"),
    "twice": (lambda content: content + content, "bytes instead of"),
}  # fmt: skip


@pytest.mark.parametrize("claim", CLAIMS)
def test_what_only_claims_to_be_an_entry_is_none_and_the_reason_is_told(
    tmp_path: Path, claim: str, unpickled: list[Any]
) -> None:
    spoil, why = CLAIMS[claim]
    kept(tmp_path, KINDS["value"])
    path = entry_of(tmp_path)
    path.write_bytes(spoil(path.read_bytes()))
    assert why in (why_not(tmp_path) or "")
    cache = Cache(tmp_path)
    assert cache.get(KEY, "miss") == "miss"
    assert cache.keys() in ([], [KEY])
    assert cache.verify().bits == (4 if claim == "another version" else 1)
    assert cache.clear() == 1
    # what is deleted stays beside, under a longer name, for undo
    assert (cache.keys(), list((tmp_path / "v1" / "e").glob(f"*/{path.name}"))) == ([], [])
    assert unpickled == []


def test_a_hit_can_be_told_from_a_miss(tmp_path: Path, unpickled: list[Any]) -> None:
    """What the tests above rest on: whatever is unpickled is seen."""
    cache = kept(tmp_path, KINDS["value"])
    unpickled.clear()
    found = run_now(cache.look_up(KEY))
    assert isinstance(found, Hit)
    assert unpickled == []
    assert found.load() == Part([1, "two", None])
    assert "pickle.loads" in unpickled
    assert any("Part" in str(seen) for seen in unpickled)
