"""Values as plain joblib files (C2): whole or not at all, and what cannot be written is named."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from nbstep.cache.cache import Cache
from nbstep.cache.exporting import file_name
from nbstep.cache.records import Facts
from nbstep.commands.verbs import CommandOutcome, run_command
from nbstep.result import Err
from nbstep.stores.base import run_now


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def keep_error(cache: Cache, key: str) -> None:
    run_now(cache.keep(key, Err(ValueError("x")), Facts(took_s=0.1)))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def export(cache: Cache, *words: object) -> CommandOutcome:
    return run_command(["export", *map(str, words)], cache=cache)


def test_c2_export_writes_plain_joblib_files(cache: Cache, tmp_path: Path) -> None:
    cache.set("table:1", {"a": np.arange(3)})
    cache.set("table:/../x", 2)
    cache.set("plain", 3)
    keep_error(cache, "table:error")
    paths = cache.export("table:*", tmp_path / "out" / "deeper")
    assert {path.parent for path in paths} == {tmp_path / "out" / "deeper"}
    code = "import sys, joblib; print([joblib.load(p) for p in sys.argv[1:]])"
    shown = subprocess.check_output([sys.executable, "-c", code, *map(str, paths)], text=True)
    assert shown.strip() == "[{'a': array([0, 1, 2])}, 2]"
    assert joblib.load(cache.export("plain", tmp_path)[0]) == 3
    assert (tmp_path / "plain.joblib").exists()


def test_n6_export_takes_keys_and_the_queries_of_ls(cache: Cache, tmp_path: Path) -> None:
    for key in ("a", "b", "c"):
        cache.set(key, key)
    assert export(cache, "a", "c", tmp_path / "two").text.startswith("Exported 2 values to ")
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["a.joblib", "c.joblib"]
    assert export(cache, "unused:30d", tmp_path / "none").text == "No kept value matches unused:30d."
    assert not (tmp_path / "none").exists()
    outcome = export(cache, "a", "lost", tmp_path / "one")
    assert outcome.text.splitlines()[1:] == ["  ✕ left out: lost: nothing is kept under it"]
    assert outcome.exit_code == 1


def test_c2_what_joblib_cannot_write_is_left_out_and_named_and_the_others_are_written(
    cache: Cache, tmp_path: Path
) -> None:
    cache.set("k:1", [1])
    cache.set("k:2", {"f": lambda: 1})
    cache.set("k:3", [3])
    keep_error(cache, "k:4")
    outcome = export(cache, "k:*", tmp_path / "out")
    assert outcome.exit_code == 1
    head, lambda_line, error_line = outcome.text.splitlines()
    assert head.startswith("Exported 2 values to ")
    assert lambda_line.startswith("  ✕ left out: k:2: result['f'] is a function, which cannot be pickled (")
    assert error_line == "  ✕ left out: 1 kept error has no value"
    assert names(tmp_path / "out") == [file_name("k:1"), file_name("k:3")]


def test_c2_the_python_api_gives_the_paths_and_logs_what_was_left_out(
    cache: Cache, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.set("a", 1)
    cache.set("b", lambda: 1)
    with caplog.at_level(logging.WARNING, "nbstep"):
        assert cache.export("*", tmp_path / "out") == [tmp_path / "out" / "a.joblib"]
    assert [("b: result is a function" in text, "\n" in text) for text in caplog.messages] == [(True, False)]


class Breaks:
    """Pickles at first, then no more: as a disk that becomes full in the middle of a file."""

    times: list[int] = []

    def __reduce__(self) -> Any:
        self.times.append(1)
        if len(self.times) > self.allowed:
            raise OSError(28, "No space left on device")
        return Breaks, ()

    allowed = 10


def test_c2_a_file_is_whole_or_not_there_and_an_older_one_stays(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.set("k", [b"x" * 1000, Breaks()])
    [path] = cache.export("k", tmp_path / "out")
    before = path.read_bytes()
    Breaks.times.clear()
    monkeypatch.setattr(Breaks, "allowed", 1)  # the look whether it can be pickled is the first time
    outcome = export(cache, "k", tmp_path / "out")
    assert outcome.text.splitlines()[1] == "  ✕ left out: k: OSError: No space left on device"
    assert (names(tmp_path / "out"), path.read_bytes() == before) == (["k.joblib"], True)


def test_c2_what_needs_a_class_of_the_notebook_is_written_and_says_so(cache: Cache, tmp_path: Path) -> None:
    notebook = (
        "import sys; from nbstep import Cache; from nbstep.commands.verbs import run_command\n"
        "class Point:\n    pass\n"
        "cache = Cache(sys.argv[1]); cache.set('p', [Point()]); cache.set('q', 1)\n"
        "outcome = run_command(['export', '*', sys.argv[2]], cache=cache); print(outcome.text); sys.exit(outcome.exit_code)"
    )
    words = [sys.executable, "-c", notebook, str(cache.directory), str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.splitlines()[1:] == [
        "  ! p.joblib loads only where the notebook's Point is defined, in __main__"
    ]
    with pytest.raises((AttributeError, pickle.UnpicklingError)):
        joblib.load(tmp_path / "out" / "p.joblib")


def test_c2_a_class_of_the_notebook_cannot_be_exported_elsewhere_and_the_line_says_where(
    cache: Cache, tmp_path: Path
) -> None:
    notebook = "import sys; from nbstep import Cache\nclass Point:\n    pass\nCache(sys.argv[1]).set('p', Point())"
    subprocess.run([sys.executable, "-c", notebook, str(cache.directory)], check=True)
    outcome = export(cache, "p", tmp_path / "out")
    assert outcome.exit_code == 1
    assert outcome.text.splitlines()[1].endswith("; export it from the notebook that defines Point")
    assert names(tmp_path / "out") == []


def test_a_folder_that_cannot_be_made_is_one_clear_line(cache: Cache, tmp_path: Path) -> None:
    cache.set("a", 1)
    (tmp_path / "file").touch()
    outcome = export(cache, "a", tmp_path / "file" / "out")
    assert outcome == CommandOutcome(
        f"the folder {tmp_path}/file/out cannot be made: {tmp_path}/file is a file", exit_code=1
    )
    with pytest.raises(OSError, match=r"^the folder .* cannot be made: ") as caught:
        cache.export("a", tmp_path / "file")
    assert "Errno" not in str(caught.value)


def test_nothing_to_export_makes_no_folder(cache: Cache, tmp_path: Path) -> None:
    keep_error(cache, "e")
    assert export(cache, "nothing*", tmp_path / "out").text == "No kept value matches nothing*."
    assert export(cache, "e", tmp_path / "out").text.splitlines()[1] == "  ✕ left out: 1 kept error has no value"
    assert not (tmp_path / "out").exists()
