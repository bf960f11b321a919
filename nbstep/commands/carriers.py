"""What brings nbstep into Jupyter besides `%load_ext`: the sidebar's two extensions, and `autoload`; as lines of `doctor`."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any, Final, cast

from nbstep.commands.autoload import is_on, startup_file
from nbstep.project import place_text
from nbstep.words import shown

_NAME: Final = "nbstep"


def carrier_facts() -> list[tuple[str, str]]:
    """Whether the sidebar is installed and enabled in this environment, and autoload on."""
    place = f", {shown(place_text(startup_file()))}" if is_on() else ""
    return [*_sidebar_facts(), ("autoload", f"{'on' if is_on() else 'off'}{place}")]


def _sidebar_facts() -> list[tuple[str, str]]:
    if importlib.util.find_spec("jupyter_server") is None:
        return [
            ("sidebar", "no Jupyter server in this environment; nbstep must be installed in that of the server, too")
        ]
    states = {"server extension": _server_extension(), "labextension": _lab_extension()}
    facts = [("sidebar", ", ".join(f"{name} {state}" for name, state in states.items()))]
    if "not installed" in states.values():
        facts.append(("", "Fix: pip install --force-reinstall --no-deps nbstep, which lays out its files anew"))
    facts += [
        ("", f"Fix: jupyter {name} enable nbstep, then restart JupyterLab")
        for name, state in states.items()
        if state == "disabled"
    ]
    return facts


def _server_extension() -> str:
    """As `jupyter server extension list` tells: what the first folder says counts."""
    enabled = None
    for folder in reversed(_folders("config")):
        files = [*sorted((folder / "jupyter_server_config.d").glob("*.json")), folder / "jupyter_server_config.json"]
        for said in map(_read, files):
            enabled = _inside(said, "ServerApp", "jpserver_extensions", _NAME, otherwise=enabled)
    return "not installed" if enabled is None else "enabled" if enabled else "disabled"


def _lab_extension() -> str:
    """As `jupyter labextension list` tells."""
    if not any((folder / "labextensions" / _NAME / "package.json").is_file() for folder in _folders("data")):
        return "not installed"
    disabled: Any = False
    for folder in reversed(_folders("config")):
        disabled = _inside(
            _read(folder / "labconfig" / "page_config.json"), "disabledExtensions", _NAME, otherwise=disabled
        )
    return "disabled" if disabled else "enabled"


def _folders(kind: str) -> list[Path]:
    """Jupyter's folders of this environment and this user, what comes first counts."""
    try:
        from jupyter_core import paths  # not among what nbstep needs
    except ImportError:
        return [Path(sys.prefix, *(("etc", "jupyter") if kind == "config" else ("share", "jupyter")))]
    return [Path(path) for path in (paths.jupyter_config_path() if kind == "config" else paths.jupyter_path())]


def _read(file: Path) -> object:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _inside(said: object, *names: str, otherwise: Any) -> Any:
    for name in names:
        if not isinstance(said, dict) or name not in said:
            return otherwise
        said = cast("dict[str, object]", said)[name]
    return said
