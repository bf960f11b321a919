"""The public names, and what importing them costs."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import nbstep

PUBLIC = [
    "Cache", "CacheDirectoryError", "CachedError", "DriftError", "Err", "KeyCollision", "KeyFileError", "NbstepError",
    "OfflineMiss", "Ok",
    "RecursiveStep", "Result", "StepFailed", "StepTimeout", "WorkerError", "Workflow", "__version__", "create_workflow", "panel",
    "step",
    "transient",
]  # fmt: skip


def test_the_public_names() -> None:
    assert nbstep.__all__ == PUBLIC
    assert sorted(nbstep.__all__) == nbstep.__all__
    assert dir(nbstep) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(nbstep, name) is getattr(importlib.import_module("nbstep"), name)
    if not name.startswith("_"):
        assert nbstep._HOME[name].startswith("nbstep.")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'nbstep' has no attribute 'Step'"):
        nbstep.Step  # type: ignore[attr-defined]


def test_star_import_works() -> None:
    scope: dict[str, object] = {}
    exec("from nbstep import *", scope)
    assert set(PUBLIC) <= set(scope)


HEAVY = (
    "IPython",
    "anywidget",
    "asyncio",
    "blake3",
    "cloudpickle",
    "ipywidgets",
    "joblib",
    "numpy",
    "pandas",
    "tenacity",
)


def _loaded_by(program: str) -> set[str]:
    program += f"\nimport sys; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_nbstep_loads_nothing_heavy() -> None:
    assert _loaded_by("import nbstep") == set()


def test_asking_for_step_loads_no_more_than_asyncio() -> None:
    assert _loaded_by("from nbstep import Err, Ok, create_workflow, step, transient") <= {"asyncio"}


def test_a_first_step_loads_only_what_keeping_needs() -> None:
    program = "from nbstep import create_workflow\ncreate_workflow(cache={})(lambda step: step(lambda: 1, key='a'))"
    assert _loaded_by(program) == {"asyncio", "blake3", "cloudpickle"}


def test_a_plain_step_without_key_needs_neither() -> None:
    assert _loaded_by(
        "from nbstep import create_workflow\ncreate_workflow(cache=None)(lambda step: step(lambda: 1))"
    ) == {"asyncio"}
