"""Servers that tests start and end: Jupyter's own in a home of its own, and any other that answers at an address."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from ports import free_port
from shared_data import lay_out

ROOT = Path(__file__).resolve().parent.parent
_BETWEEN_LOOKS_S = 0.05  # how often a condition is looked at: no verdict hangs on it

App: TypeAlias = Literal["lab", "notebook"]
Theme: TypeAlias = Literal["light", "dark", "high-contrast"]
THEMES: Final[dict[Theme, str]] = {
    "light": "JupyterLab Light",
    "dark": "JupyterLab Dark",
    "high-contrast": "JupyterLab Dark High Contrast",
}


def wait_until(true: Callable[[], Any], what: str, timeout: float = 60.0) -> Any:
    """Polls until `true()` is, and returns what it gave.

    Raises:
        TimeoutError: It never was.
    """
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        got = true()
        if got:
            return got
        time.sleep(_BETWEEN_LOOKS_S)
    raise TimeoutError(f"waited {timeout:.0f} s for {what}")


@contextlib.contextmanager
def jupyter_server(folder: Path, home: Path, theme: Theme, app: App, env: Mapping[str, str]) -> Iterator[str]:
    """JupyterLab or Notebook 7 over `folder`, in a home of its own; gives its address."""
    port = free_port()
    _write_settings(home, theme)
    command = [
        sys.executable, "-m", "jupyter", app, "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", "--IdentityProvider.token=", "--ServerApp.password=",
        "--ServerApp.disable_check_xsrf=True", f"--ServerApp.root_dir={folder}",
        f"--{'LabApp' if app == 'lab' else 'JupyterNotebookApp'}.expose_app_in_browser=True",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with running(command, _environment(home, env), home / "server.log", f"{url}/api"):
        yield url


@contextlib.contextmanager
def running(command: list[str], environ: Mapping[str, str], log: Path, address: str) -> Iterator[None]:
    """A server that answers at an address, ended with its children when the block ends."""
    with log.open("wb") as sink:
        server = subprocess.Popen(command, env=environ, stdout=sink, stderr=sink, start_new_session=True)

    def answers() -> bool:
        if server.poll() is not None:
            raise RuntimeError("the server ended:\n" + log.read_text(errors="replace")[-3000:])
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            return False
        return True

    try:
        wait_until(answers, "the Jupyter server")
        yield
    finally:
        # The server's own process group: the server and its kernels, nobody else's.
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(10)


def _environment(home: Path, env: Mapping[str, str]) -> dict[str, str]:
    own = {
        "HOME": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        **lay_out(home / "prefix"),
    }
    return {**os.environ, **own, **env}


def _write_settings(home: Path, theme: Theme) -> None:
    """No news, no update check, the theme that was asked for."""
    folder = home / "settings" / "@jupyterlab" / "apputils-extension"
    folder.mkdir(parents=True)
    (folder / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    (folder / "themes.jupyterlab-settings").write_text(json.dumps({"theme": THEMES[theme]}))
