"""Another process takes a folder under `.nbstep` away at any moment (C2, C3): nothing raises, and the value arrives."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from faults import LONG
from faults.failing import CALLS
from nbstep import Cache, create_workflow
from nbstep.stores.files import key_digest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="calls of POSIX")

TRIALS_AT_MOST: Final = 600
SHARD: Final = key_digest("k")[:2]
# So many entries of one folder that a text about them is kept in `v1/catalog`.
BESIDE: Final = list(
    itertools.islice((key for key in map(str, itertools.count()) if key_digest(key).startswith(SHARD)), 16)
)
OLD_BATCH: Final = "0" * 16
FOLDERS: Final = (
    f"v1/e/{SHARD}", "v1/e", f"v1/trash/{OLD_BATCH}", "v1/trash", "v1/lock", "v1/runs", "v1/tmp", "v1/catalog", "v1/evicted",
    "v1", ".",
)  # fmt: skip


# Who takes it away ---------------------------------------------------------------------------------------------------------


def remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


def rename(path: Path) -> None:
    with suppress(OSError):
        path.rename(f"{path} away")


def adopt(path: Path) -> None:
    """As another version may that keeps its things elsewhere: each moves, and the empty folder goes."""
    with suppress(OSError):
        for number, item in enumerate(list(path.iterdir())):
            item.rename(f"{path} adopted {number}")
        path.rmdir()


@dataclass
class Taking:
    """Takes a folder away before the n-th call that names it or something in it; other calls make no difference."""

    folder: str = ""
    how: Callable[[Path], None] = remove
    left: int = 0
    waits: bool = False

    @contextmanager
    def before(self, nth: int, folder: Path, how: Callable[[Path], None]) -> Iterator[None]:
        """Takes `folder` away before the n-th such call while this lasts."""
        self.folder, self.how, self.left, self.waits = str(folder), how, nth, True
        try:
            yield
        finally:
            self.waits, self.left = False, self.left if self.waits else 0

    def watch(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """The call, before which the folder may go."""

        def called(*args: Any, **kwargs: Any) -> Any:
            if self.waits and any(isinstance(arg, str | Path) and str(arg).startswith(self.folder) for arg in args):
                self.left -= 1
                if self.left == 0:
                    self.waits = False
                    self.how(Path(self.folder))
            return real(*args, **kwargs)

        return called


@pytest.fixture
def taking(monkeypatch: pytest.MonkeyPatch) -> Taking:
    taking = Taking()
    for call in CALLS:
        if hasattr(os, call):
            monkeypatch.setattr(os, call, taking.watch(getattr(os, call)))
    return taking


# What is done meanwhile ----------------------------------------------------------------------------------------------------


def begin(folder: Path) -> Cache:
    cache = Cache(folder, max_bytes=10_000_000)
    cache.set("k", "before")
    cache.set("k", "kept")
    cache.set("other", "stays")
    return cache


def begin_large(folder: Path) -> Cache:
    for key in BESIDE:
        Cache(folder).set(key, "beside")
    os.utime(folder / "v1" / "e" / SHARD, (1e9, 1e9))  # it changed long ago
    return Cache(folder)


def begin_listed(folder: Path) -> Cache:
    assert len(begin_large(folder).entries()) == len(BESIDE)
    assert (folder / "v1" / "catalog" / SHARD).exists()
    return Cache(folder)


def begin_old(folder: Path) -> Cache:
    """With a trash as it was before it stood beside the entries."""
    cache = begin(folder)
    (trashed,) = (path for path in (folder / "v1" / "e").glob("*/*") if path.name.count(".") == 3)
    old = folder / "v1" / "trash" / OLD_BATCH
    old.mkdir(parents=True)
    trashed.rename(old / trashed.name.rpartition(".")[0])
    return cache


def step(cache: Cache, value: str, **options: Any) -> Any:
    return create_workflow(cache=cache)(lambda step: step(lambda: value, key="k", **options)).unwrap()


Act = tuple[Callable[[Path], Cache], Callable[[Cache], Any], Callable[[Any], bool]]
ACTS: Final[dict[str, Act]] = {
    "open": (begin, lambda cache: Cache(cache), lambda _: True),
    "get": (begin, lambda cache: cache.get("k"), lambda said: said in ("kept", None)),
    "set": (begin, lambda cache: cache.set("k", "new"), lambda _: True),
    "set another": (begin, lambda cache: cache.set("another", "new"), lambda _: True),
    "delete": (begin, lambda cache: cache.delete("k"), lambda said: said in (True, False)),
    "undo": (begin, lambda cache: cache.undo(), lambda said: said in (["k"], [])),
    "undo k": (begin, lambda cache: cache.undo("k"), lambda said: said in (["k"], [])),
    "undo from the old trash": (begin_old, lambda cache: cache.undo("k"), lambda said: said in (["k"], [])),
    "clear": (begin, lambda cache: cache.clear(), lambda said: 0 <= said <= 2),
    "entries": (begin_large, lambda cache: cache.entries(), lambda said: len(said) <= 16),
    "entries known": (begin_listed, lambda cache: cache.entries(), lambda said: len(said) <= 16),
    "gc": (begin, lambda cache: cache.gc(unused=0), lambda said: said.unused.count <= 2),
    "verify": (begin, lambda cache: cache.verify(), lambda said: said.bits == 0),
    "empty the trash": (begin, lambda cache: (cache.trash(), cache.empty_trash()), lambda said: said[1] <= 1),
    "a step that runs": (begin, lambda cache: step(cache, "anew", refresh=True), lambda said: said == "anew"),
    "a step that is a hit": (begin, lambda cache: step(cache, "kept"), lambda said: said == "kept"),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("gone", FOLDERS)
def test_c3_nothing_raises_where_another_process_takes_a_folder_away_at_any_moment(
    taking: Taking, gone: str, act: str, tmp_path: Path
) -> None:
    prepare, do, holds = ACTS[act]
    for nth in range(1, TRIALS_AT_MOST):
        for how in (remove, rename, adopt) if LONG else (adopt if nth % 2 else remove,):
            folder = tmp_path / ".nbstep"
            cache = prepare(folder)
            with taking.before(nth, folder / gone, how):
                said = do(cache)
            assert holds(said), f"{how.__name__} before call {nth}: {said!r}"
            cache.set("k", "goes on")
            assert Cache(folder).get("k") == "goes on"
            shutil.rmtree(tmp_path)
            tmp_path.mkdir()
        if taking.left > 0:
            return
    raise AssertionError(f"{act} names {gone} more than {TRIALS_AT_MOST} times")
