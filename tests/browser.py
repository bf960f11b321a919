"""Drives a real JupyterLab (or Notebook 7) in the system's Chromium, for the browser tests.

    with open_lab(folder, theme="dark") as lab:
        notebook = lab.open("churn.ipynb")
        notebook.run_all()
        notebook.screenshot(path)

The server runs in a home of its own, listens on the loopback only, and ends with its kernels when the block ends. Everything
here that waits does so for a condition.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from servers import THEMES, App, Theme, jupyter_server, wait_until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMIUM_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
# What Notebook 7.6 raises by itself: the first on every start; the second once in many runs, as a cell's output goes.
_KNOWN_PAGE_ERRORS = ("reading 'schema'", "Failed to execute 'removeChild' on 'Node'")
# Where nbstep's scripts stand: the panel's, as anywidget loads it, and the sidebar's.
_OWN_SCRIPTS = ("blob:", "extensions/nbstep/")


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


class NotebookPage:
    """One open notebook; `page` is the Playwright page, `errors` what the page's scripts raised, with their stacks."""

    def __init__(self, lab: Lab, page: Any, name: str) -> None:
        self.lab, self.page, self.name = lab, page, name
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(f"{error}\n{error.stack}"))
        page.on("console", self._hear)

    def _hear(self, message: Any) -> None:
        """Notes errors that the console tells of nbstep; requests that a test lets fail are none."""
        told = f"{message.text} {message.location['url']}"
        if message.type == "error" and "nbstep" in told and "Failed to load resource" not in told:
            self.errors.append(told[:300])

    @property
    def unexpected_errors(self) -> list[str]:
        """What the page's scripts raised, without what the front end is known to raise where no script of ours runs."""
        return [
            e
            for e in self.errors
            if any(own in e for own in _OWN_SCRIPTS) or not any(k in e for k in _KNOWN_PAGE_ERRORS)
        ]

    def command(self, name: str, *, wait: bool = True) -> None:
        """Runs a command of the front end, such as `docmanager:save`; without `wait` only starts it."""
        call = f"window.jupyterapp.commands.execute({name!r})"
        self.page.evaluate(f"() => {call}" if wait else f"() => {{ {call}; }}")

    def run_all(self, *, wait: bool = True) -> None:
        """*Run All*; returns when every cell ended, or at once without `wait`."""
        self.command("notebook:run-all-cells", wait=wait)

    def run_cell(self, number: int) -> None:
        """Runs the code cell of that number, counted from 0, and returns when it was started: its old output is gone."""
        cell = self.page.locator(".jp-CodeCell").nth(number)
        prompt = cell.locator(".jp-InputArea-prompt").element_handle()
        before = prompt.evaluate_handle("(prompt) => prompt.firstChild")
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Control+Enter")
        # It may say [1] before and after, and [*] only for a moment; but what it says is written anew.
        self.page.wait_for_function("([prompt, before]) => prompt.firstChild !== before", arg=[prompt, before])

    def execute(self, code: str) -> None:
        """Has the kernel run code that stands in no cell; does not wait for it."""
        request = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute"
        self.page.evaluate(f"(code) => {{ {request}({{code}}); }}", code)

    def set_theme(self, theme: Theme) -> None:
        """Changes the front end's theme, for this page and those opened later, and waits until its colours are there."""
        name = THEMES[theme]
        self.page.evaluate("(theme) => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", name)
        self.page.wait_for_function("(name) => document.body.dataset.jpThemeName === name", arg=name)

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
        """Restarts the kernel, as *Restart Kernel* does; outputs stay."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.restartKernel()")
        self.wait_kernel()

    def kernel(self) -> dict[str, Any] | None:
        """This notebook's own kernel, as the server tells; other notebooks may have theirs."""
        return next((each["kernel"] for each in self.lab.ask("/api/sessions") if each["path"] == self.name), None)

    def wait_kernel(self) -> None:
        """Waits until the kernel is idle and the page connected to it; before that a run is dropped silently."""

        def connected() -> bool:
            try:
                kernel = self.kernel()
            except OSError:  # the server may answer 500 in the moment a kernel starts
                return False
            return kernel is not None and kernel["execution_state"] == "idle" and kernel["connections"] >= 1

        wait_until(connected, "the kernel")
        self.page.wait_for_function(
            """() => {
                const kernel = window.jupyterapp.shell.currentWidget?.sessionContext.session?.kernel;
                return kernel?.connectionStatus === "connected" && kernel.status === "idle";
            }"""
        )

    def close(self) -> None:
        """Closes the page and ends the kernel."""
        kernel = self.kernel()
        self.page.context.close()
        if kernel is not None:
            self.lab.end_kernel(kernel["id"])

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
        page.goto(
            self.url + tree + urllib.parse.quote(name) + ("?reset" if self.app == "lab" else ""),
            wait_until="domcontentloaded",
        )
        page.locator(".jp-Notebook").wait_for()
        notebook.wait_kernel()
        return notebook

    def ask(self, path: str) -> Any:
        """What the server answers to a GET, read as JSON."""
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def kernels(self) -> list[dict[str, Any]]:
        """The running kernels, as the server tells."""
        return self.ask("/api/kernels")

    def post(self, path: str, body: bytes = b"") -> None:
        """Sends a POST to the server."""
        urllib.request.urlopen(urllib.request.Request(self.url + path, data=body, method="POST"), timeout=30).close()

    def end_kernel(self, kernel_id: str) -> None:
        """Ends a kernel, and returns when it is gone."""
        address = f"{self.url}/api/kernels/{kernel_id}"
        urllib.request.urlopen(urllib.request.Request(address, method="DELETE"), timeout=30).close()
        wait_until(lambda: all(kernel["id"] != kernel_id for kernel in self.kernels()), "the kernel's end")


@contextlib.contextmanager
def open_lab(
    folder: Path,
    *,
    theme: Theme = "light",
    app: App = "lab",
    env: Mapping[str, str] | None = None,
) -> Iterator[Lab]:
    """A Jupyter server over `folder` and a headless Chromium, both ended with the block."""
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="nbstep-lab-", ignore_cleanup_errors=True))
        url = stack.enter_context(jupyter_server(folder, Path(home), theme, app, env or {}))
        yield Lab(folder, url, app, stack.enter_context(open_browser()))


@contextlib.contextmanager
def open_browser() -> Iterator[Any]:
    """A headless Chromium, for pages without a server."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=CHROMIUM_FLAGS)
        with contextlib.closing(browser):
            yield browser
