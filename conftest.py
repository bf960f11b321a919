"""What every test and every example in a docstring stands on: a home, a signing key and a project cache of its own."""

from __future__ import annotations

import os

import pytest

from nbstep.cache import cache, trust


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's signing key or cache, or what a test before it used; subprocesses inherit this."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(home / "jupyter"))
    monkeypatch.setenv("NBSTEP_DIR", str(home / "project" / ".nbstep"))
    for name in ("NBSTEP_SIGNING_KEY_FILE", "NBSTEP_MODE", "NBSTEP_RETRY_ERRORS", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(trust, "_ring", trust.KeyRing(os.environ))
    monkeypatch.setattr(cache, "_project", {})
