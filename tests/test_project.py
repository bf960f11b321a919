"""Where the project's cache is (C0)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nbstep import events
from nbstep.cache import cache as cache_module
from nbstep.cache.cache import Cache, project_cache
from nbstep.errors import CacheDirectoryError
from nbstep.project import find_cache, place_text


def found(cwd: Path, home: Path | None = None, **environ: str) -> Path:
    return find_cache(cwd, home, environ).directory


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / "proj" / "notebooks" / "deep"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_c0_the_working_directory_where_nothing_marks_a_project(work: Path, home: Path) -> None:
    assert found(work, home) == work / ".nbstep"


@pytest.mark.parametrize("mark", [".git", "pyproject.toml"])
def test_c0_beside_the_nearest_project_mark(work: Path, home: Path, mark: str) -> None:
    (work.parents[1] / mark).mkdir() if mark == ".git" else (work.parents[1] / mark).write_text("")
    assert found(work, home) == home / "proj" / ".nbstep"
    (work.parent / ".git").write_text("gitdir: elsewhere")  # as in a worktree
    assert found(work, home) == work.parent / ".nbstep"


def test_c0_an_existing_cache_wins_over_a_nearer_project_mark(work: Path, home: Path) -> None:
    (work / "pyproject.toml").write_text("")
    (work.parents[1] / ".nbstep").mkdir()
    assert found(work, home) == home / "proj" / ".nbstep"
    (work / ".nbstep").mkdir()
    assert found(work, home) == work / ".nbstep"


def test_c0_the_walk_ends_before_home(work: Path, home: Path) -> None:
    (home / ".nbstep").mkdir()
    (home / ".git").mkdir()
    assert found(work, home) == work / ".nbstep"
    assert found(home, home) == home / ".nbstep"


def test_c0_the_walk_ends_before_the_root() -> None:
    assert found(Path("/")) == Path("/.nbstep")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give directories away")
def test_c0_the_walk_ends_before_another_owners_directory(work: Path, home: Path) -> None:
    (home / "proj" / ".git").mkdir()
    os.chown(home / "proj", 12345, 12345)
    assert found(work, home) == work / ".nbstep"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a second file system")
def test_c0_the_walk_ends_before_another_file_system() -> None:
    assert found(Path("/proc/self")) == Path(os.path.realpath("/proc/self")) / ".nbstep"


def test_c0_nbstep_dir_names_it(work: Path, home: Path, tmp_path: Path) -> None:
    assert found(work, home, NBSTEP_DIR=str(tmp_path / "x")) == tmp_path / "x"
    assert found(work, home, NBSTEP_DIR="cache") == work / "cache"
    assert found(work, home, NBSTEP_DIR="~/c") == home / "c"
    assert found(work, home, NBSTEP_DIR="  ") == work / ".nbstep"


def test_c0_looking_creates_nothing(work: Path, home: Path) -> None:
    find_cache(work, home, {})
    assert os.listdir(work) == []


def test_c0_a_link_to_the_project_is_the_project(work: Path, home: Path, tmp_path: Path) -> None:
    (work.parents[1] / ".git").mkdir()
    (tmp_path / "link").symlink_to(work)
    assert found(tmp_path / "link", home) == home / "proj" / ".nbstep"


def test_c0_a_project_that_cannot_be_written_is_kept_in_the_users_cache(
    work: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (work / ".nbstep").write_text("a file stands in the way")
    monkeypatch.delenv("NBSTEP_DIR")
    monkeypatch.chdir(work)
    told: list[events.Event] = []
    stop = events.listen(told.append)
    try:
        cache = Cache()
    finally:
        stop()
    assert cache.directory is not None
    assert cache.directory.is_relative_to(Path(os.environ["HOME"]))
    (finding,) = told
    assert isinstance(finding, events.Finding)
    assert "cannot be written" in finding.text
    assert Cache().directory == cache.directory


def test_c0_nbstep_dir_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NBSTEP_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(CacheDirectoryError, match="file/cache"):
        project_cache()


def test_c0_the_projects_cache_is_one_object_settled_at_first_use(
    work: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("NBSTEP_DIR")
    monkeypatch.setattr(cache_module, "_project", {})
    monkeypatch.chdir(work)
    first = project_cache()
    monkeypatch.chdir(tmp_path)
    assert project_cache() is first
    assert first.directory == work / ".nbstep"
    monkeypatch.setenv("NBSTEP_DIR", str(work / ".nbstep"))
    assert project_cache() is first
    monkeypatch.setenv("NBSTEP_DIR", str(tmp_path / "other"))
    assert project_cache().directory == tmp_path / "other"


def test_places_are_shown_as_people_say_them(tmp_path: Path) -> None:
    assert place_text(Path("/data/x/.nbstep"), Path("/home/ada")) == "/data/x/.nbstep"
    assert place_text(Path("/home/ada/.nbstep"), Path("/home/ada")) == "~/.nbstep"
    assert place_text(Path("/x/.nbstep"), Path("/")) == "/x/.nbstep"
