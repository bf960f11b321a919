"""A Redis server and a JupyterLab for the tests that want one; what every test stands on is in the `conftest.py` above."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Lab, need_chromium, open_lab
from redis_server import running

from nbstep.cache import trust
from nbstep.steps.handover import HandedStep

# Scripts that tests run in processes of their own; they import much.
collect_ignore = ["client_errors.py", "kept_values.py"]


@pytest.fixture(scope="module", params=["lab"])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A JupyterLab over an empty folder, for all tests of a file; `parametrize` it with "notebook" for Notebook 7."""
    need_chromium()
    with open_lab(tmp_path_factory.mktemp("lab"), app=request.param) as opened:
        yield opened


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis server on a free port, one for all; without the program a test is skipped, and fails under CI=true."""
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture(scope="session")
def team_key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a signing key that several processes share."""
    path = tmp_path_factory.mktemp("team") / "team.key"
    path.write_bytes(os.urandom(32))
    path.chmod(0o600)
    return path


@pytest.fixture
def team_key(_own_home: None, team_key_file: Path, monkeypatch: pytest.MonkeyPatch) -> trust.SigningKey:
    """The key of this process, and of those that it starts; workers that live longer than a test know it all the time."""
    monkeypatch.setenv("NBSTEP_SIGNING_KEY_FILE", str(team_key_file))
    monkeypatch.setattr(trust, "_ring", trust.KeyRing(os.environ))
    return trust.signing_key()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes came back from worker processes, for each item of a `step.map`."""
    sizes: list[int] = []
    end = HandedStep.end

    def watched(step: HandedStep, outcome: bytes) -> Any:
        sizes.append(len(outcome))
        return end(step, outcome)

    monkeypatch.setattr(HandedStep, "end", watched)
    return sizes


@pytest.fixture
def unpickled() -> Iterator[list[Any]]:
    """Every name that a pickle looks up while the test runs."""
    names: list[Any] = []
    watching = [True]
    sys.addaudithook(lambda event, args: names.append(args) if event == "pickle.find_class" and watching[0] else None)
    yield names
    watching[0] = False
