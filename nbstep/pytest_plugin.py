"""What nbstep adds to pytest: the fixture `nbstep_cache`, and what nbval must not compare of a step list."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nbstep.cache.cache import Cache


@pytest.fixture
def nbstep_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """The project's cache for the length of one test: an empty one, in the test's own temporary directory."""
    from nbstep.cache.cache import project_cache  # imported here so that pytest starts as fast as without nbstep

    monkeypatch.setenv("NBSTEP_DIR", str(tmp_path / ".nbstep"))
    monkeypatch.delenv("NBSTEP_MODE", raising=False)
    monkeypatch.delenv("NBSTEP_RETRY_ERRORS", raising=False)
    return project_cache()


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Has nbval leave out the HTML of step lists, which tells times and ages; a file that the user names stands."""
    option = config.option
    named = getattr(option, "nbval_sanitize_with", None) or getattr(option, "sanitize_with", None)
    compares = getattr(option, "nbval", False) or getattr(option, "nbval_lax", False)  # the latter where a cell says so
    if compares and not named:
        from nbstep.testing import NBVAL_SANITIZE

        option.nbval_sanitize_with = str(NBVAL_SANITIZE)
