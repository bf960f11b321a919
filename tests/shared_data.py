"""What `pip install` puts into Jupyter's folders, laid out from the checkout, so that tests run what stands there now."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def lay_out(prefix: Path) -> dict[str, str]:
    """Copies the shared data below `prefix`; returns the environment by which Jupyter finds it before anything installed."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    for source, target in build["targets"]["wheel"]["shared-data"].items():
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, prefix / target, dirs_exist_ok=True)
        else:
            (prefix / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, prefix / target)
    return {"JUPYTER_PATH": str(prefix / "share" / "jupyter"), "JUPYTER_CONFIG_PATH": str(prefix / "etc" / "jupyter")}
