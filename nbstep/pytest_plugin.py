"""The pytest fixture `nbstep_cache`: a test whose steps keep what they keep in a temporary directory."""

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
