"""Drives a real JupyterLab (or Notebook 7) in the system's Chromium, for the browser tests.

    with open_lab(folder, theme="dark") as lab:
        notebook = lab.open("churn.ipynb")
        notebook.run_all()
        notebook.screenshot(path)

The server runs in a home of its own, listens on the loopback only, and ends with its kernels when the block ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from shared_data import lay_out

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMIUM_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
# Notebook 7.6 raises this by itself on every start.
_KNOWN_PAGE_ERRORS = ("reading 'schema'",)


def need_chromium() -> None:
    """Skips with one line where there is no Chromium; fails instead where CI says that there must be one."""
    missing = "" if CHROMIUM else "no Chromium found: install the package `chromium` to run the browser tests"
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        missing = missing or "playwright is not installed"
    if missing and os.environ.get("CI") == "true":
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)


def write_notebook(path: Path, *cells: str) -> Path:
    """A notebook of code cells, without outputs."""
    import nbformat
    from nbformat import v4

    notebook = v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    nbformat.write(notebook, path)
    return path


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
        time.sleep(0.05)
    raise TimeoutError(f"waited {timeout:.0f} s for {what}")


class NotebookPage:
    """One open notebook; `page` is the Playwright page, `errors` what the page's scripts raised."""

    def __init__(self, lab: Lab, page: Any, name: str) -> None:
        self.lab, self.page, self.name = lab, page, name
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)[:300]))

    @property
    def unexpected_errors(self) -> list[str]:
        """What the page's scripts raised, without what the front end raises by itself."""
        return [e for e in self.errors if not any(known in e for known in _KNOWN_PAGE_ERRORS)]

    def command(self, name: str, *, wait: bool = True) -> None:
        """Runs a command of the front end, such as `docmanager:save`; without `wait` only starts it."""
        call = f"window.jupyterapp.commands.execute({name!r})"
        self.page.evaluate(f"() => {call}" if wait else f"() => {{ {call}; }}")

    def run_all(self, *, wait: bool = True) -> None:
        """*Run All*; returns when every cell ended, or at once without `wait`."""
        self.command("notebook:run-all-cells", wait=wait)

    def run_cell(self, number: int) -> None:
        """Runs the code cell of that number, counted from 0, and returns when it was started."""
        self.page.locator(".jp-CodeCell .cm-content").nth(number).click()
        self.page.keyboard.press("Control+Enter")

    def set_source(self, number: int, text: str) -> None:
        """Replaces the text of a cell, counted from 0 among all cells, as typing does."""
        self.page.evaluate(
            "([number, text]) => window.jupyterapp.shell.currentWidget.content.widgets[number].model.sharedModel.setSource(text)",
            [number, text],
        )

    def running(self) -> bool:
        """A cell shows `[*]`."""
        return self.page.locator(".jp-InputArea-prompt", has_text="[*]").count() > 0

    def wait_idle(self, timeout: float = 60.0) -> None:
        """Waits until no cell runs."""
        wait_until(lambda: not self.running(), "all cells to end", timeout)

    def output(self, number: int) -> Any:
        """The locator of the output area of a code cell, counted from 0."""
        return self.page.locator(".jp-CodeCell").nth(number).locator(".jp-OutputArea")

    def restart_kernel(self) -> None:
        """Restarts the kernel; outputs stay."""
        (kernel,) = self.lab.kernels()
        self.lab.post(f"/api/kernels/{kernel['id']}/restart")
        self.wait_kernel()

    def wait_kernel(self) -> None:
        """Waits until the kernel is idle and the page connected to it; before that a run is dropped silently."""

        def connected() -> bool:
            try:
                kernels = self.lab.kernels()
            except OSError:  # the server may answer 500 in the moment a kernel starts
                return False
            return bool(kernels) and kernels[0]["execution_state"] == "idle" and kernels[0]["connections"] >= 1

        wait_until(connected, "the kernel")

    def save(self) -> dict[str, Any]:
        """Saves, and returns the notebook as it stands on disk."""
        self.command("docmanager:save")
        return json.loads((self.lab.folder / self.name).read_text(encoding="utf-8"))

    def screenshot(self, path: Path, locator: Any = None) -> Path:
        """A picture of the page, or of one locator."""
        (locator or self.page).screenshot(path=str(path))
        return path


class Lab:
    """A running server and a browser; opens notebooks of `folder`."""

    def __init__(self, folder: Path, url: str, app: str, browser: Any) -> None:
        self.folder, self.url, self.app, self._browser = folder, url, app, browser

    def open(self, name: str, *, width: int = 1280, height: int = 900, scale: float = 1.0) -> NotebookPage:
        """Opens a notebook and waits for its kernel."""
        context = self._browser.new_context(viewport={"width": width, "height": height}, device_scale_factor=scale)
        page = context.new_page()
        page.set_default_timeout(60_000)
        notebook = NotebookPage(self, page, name)
        tree = "/lab/tree/" if self.app == "lab" else "/notebooks/"
        page.goto(self.url + tree + name + ("?reset" if self.app == "lab" else ""), wait_until="domcontentloaded")
        page.locator(".jp-Notebook").wait_for()
        notebook.wait_kernel()
        return notebook

    def kernels(self) -> list[dict[str, Any]]:
        """The running kernels, as the server tells."""
        with urllib.request.urlopen(self.url + "/api/kernels", timeout=10) as answer:
            return json.load(answer)

    def post(self, path: str) -> None:
        """Sends an empty POST to the server."""
        urllib.request.urlopen(urllib.request.Request(self.url + path, data=b"", method="POST"), timeout=30).close()


@contextlib.contextmanager
def open_lab(
    folder: Path,
    *,
    theme: Literal["light", "dark"] = "light",
    app: Literal["lab", "notebook"] = "lab",
    env: Mapping[str, str] | None = None,
) -> Iterator[Lab]:
    """A Jupyter server over `folder` and a headless Chromium, both ended with the block."""
    from playwright.sync_api import sync_playwright

    with contextlib.ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="nbstep-lab-", ignore_cleanup_errors=True))
        url = stack.enter_context(_server(folder, Path(home), theme, app, env or {}))
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=CHROMIUM_FLAGS)
        stack.callback(browser.close)
        yield Lab(folder, url, app, browser)


@contextlib.contextmanager
def _server(folder: Path, home: Path, theme: str, app: str, env: Mapping[str, str]) -> Iterator[str]:
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


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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


def _write_settings(home: Path, theme: str) -> None:
    """No news, no update check, the theme that was asked for."""
    folder = home / "settings" / "@jupyterlab" / "apputils-extension"
    folder.mkdir(parents=True)
    (folder / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    name = "JupyterLab Dark" if theme == "dark" else "JupyterLab Light"
    (folder / "themes.jupyterlab-settings").write_text(json.dumps({"theme": name}))
