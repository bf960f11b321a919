"""Which cache the server shows for an open notebook, and which it never does (DESIGN section 6, C0)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nbstep import Cache
from nbstep.server.places import CACHE_OUTSIDE, NO_FOLDER, NotServedError, ServedPlace, served_place


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, with the server's root in it."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "root").mkdir(parents=True)
    return tmp_path / "home"


@pytest.fixture
def root(home: Path) -> Path:
    return home / "root"


def refused(notebook: str, root: Path, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(NotServedError) as told:
        served_place(notebook, root, environ or {})
    assert "/" not in str(told.value)  # no path of the server's
    return str(told.value)


def test_c0_it_is_the_cache_that_the_notebooks_kernel_uses(root: Path) -> None:
    (root / "project" / "notebooks").mkdir(parents=True)
    (root / "project" / "pyproject.toml").touch()
    expected = root / "project" / ".nbstep"
    assert served_place("project/notebooks/a.ipynb", root, {}) == ServedPlace(
        expected, exists=False, notebook="a.ipynb"
    )
    assert not expected.exists()  # looking makes nothing
    Cache(expected).set("a", 1)
    assert served_place("project/notebooks/a.ipynb", root, {}) == ServedPlace(expected, exists=True, notebook="a.ipynb")
    assert served_place("a.ipynb", root, {}) == ServedPlace(root / ".nbstep", exists=False, notebook="a.ipynb")


@pytest.mark.parametrize(
    "notebook",
    [
        "../a.ipynb", "x/../../a.ipynb", "sub/../a.ipynb", "/etc/a.ipynb", "//etc/a.ipynb", "..\\a.ipynb", "C:/a.ipynb",
        "nul\0/a.ipynb", "no such/a.ipynb", "file/a.ipynb", ".hidden/a.ipynb", "sub/.a.ipynb",
        f"{'long' * 100}/a.ipynb", f"{'deep/' * 3000}a.ipynb",
    ],
)  # fmt: skip
def test_t7_a_path_that_leads_elsewhere_is_refused(root: Path, notebook: str) -> None:
    (root / ".hidden").mkdir()
    (root / "sub").mkdir()
    (root / "file").touch()
    assert refused(notebook, root) == NO_FOLDER


@pytest.mark.skipif(os.name == "nt", reason="no name holds a colon there")
def test_a_colon_in_a_name_is_one_like_any_other(root: Path) -> None:
    (root / "at 12:30").mkdir()
    (root / "at 12:30" / "pyproject.toml").touch()
    assert served_place("at 12:30/a.ipynb", root, {}).directory == root / "at 12:30" / ".nbstep"
    assert served_place("12:30.ipynb", root, {}) == ServedPlace(root / ".nbstep", exists=False, notebook="12:30.ipynb")


def test_hidden_folders_are_served_where_the_server_shows_them(root: Path) -> None:
    (root / ".hidden").mkdir()
    assert served_place(".hidden/a.ipynb", root, {}, hidden=True).directory == root / ".hidden" / ".nbstep"


def test_t7_a_link_out_of_the_root_is_refused_and_one_inside_is_followed(home: Path, root: Path) -> None:
    (home / "outside").mkdir()
    (root / "inside").mkdir()
    os.symlink(home / "outside", root / "out")
    os.symlink(root / "inside", root / "in")
    assert refused("out/a.ipynb", root) == NO_FOLDER
    assert served_place("in/a.ipynb", root, {}).directory == root / "inside" / ".nbstep"


def test_t7_a_cache_that_is_a_link_out_of_the_root_is_refused(home: Path, root: Path) -> None:
    Cache(home / "outside" / ".nbstep").set("a", 1)
    os.symlink(home / "outside" / ".nbstep", root / ".nbstep")
    assert refused("a.ipynb", root) == CACHE_OUTSIDE


def test_a_cache_above_the_root_or_named_elsewhere_is_refused(home: Path, root: Path) -> None:
    (home / "project" / "served").mkdir(parents=True)
    Cache(home / "project" / ".nbstep").set("a", 1)
    assert refused("a.ipynb", home / "project" / "served") == CACHE_OUTSIDE
    assert refused("a.ipynb", root, {"NBSTEP_DIR": str(home / "elsewhere")}) == CACHE_OUTSIDE
    assert served_place("a.ipynb", root, {"NBSTEP_DIR": "kept"}).directory == root / "kept"


def test_a_sibling_whose_name_begins_alike_is_outside(home: Path, root: Path) -> None:
    (home / "root-2").mkdir()
    os.symlink(home / "root-2", root / "sibling")
    assert refused("sibling/a.ipynb", root) == NO_FOLDER


def test_a_root_that_is_a_link_is_the_folder_behind_it(home: Path, root: Path) -> None:
    os.symlink(root, home / "link")
    assert served_place("a.ipynb", home / "link", {}).directory == root / ".nbstep"


def test_c0_a_project_whose_nbstep_dir_is_a_url_is_not_served_and_told_why(tmp_path: Path) -> None:
    with pytest.raises(NotServedError, match="NBSTEP_DIR names a folder, not s3://"):
        served_place("a.ipynb", tmp_path, {"NBSTEP_DIR": "s3://bucket/team"})
