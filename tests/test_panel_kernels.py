"""What the panel's page asks while a cell runs, in a real kernel, whichever generation of ipykernel is installed.

JupyterLab sends a widget's messages over a subshell where the kernel has such, else over the shell, as here. ipykernel 6 answers
when the cell ended; 7 at once while a cell awaits, and some of them while one blocks, on a thread of their own.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ipykernel
import pytest
from kernels import Kernel, open_kernel

from nbstep import Cache
from nbstep.commands.listing import entry_id

pytestmark = [
    pytest.mark.kernel,
    # jupyter_client leaves sockets and pipes of ended kernels to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_client"),
]

BLOCKS = "import os, time\nprint('begun', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)"
AWAITS = "import asyncio, os\nprint('begun', flush=True)\nwhile not os.path.exists('go'): await asyncio.sleep(0.01)"


@dataclass
class Page:
    """What JupyterLab's page does with one panel: sends its messages, takes those of the kernel."""

    kernel: Kernel
    comm: str
    subshell: str | None
    said: list[dict[str, Any]] = field(default_factory=list)
    printed: str = ""
    ended: bool = False

    def ask(self, **content: Any) -> None:
        """Sends one message of the page."""
        client = self.kernel.client
        data = {"method": "custom", "content": content}
        message = client.session.msg("comm_msg", {"comm_id": self.comm, "data": data})
        message["header"]["subshell_id"] = self.subshell
        client.shell_channel.send(message)

    def hear(self, timeout: float) -> None:
        """Takes one message of the kernel, if any comes."""
        try:
            message = self.kernel.client.get_iopub_msg(timeout=timeout)
        except queue.Empty:
            return
        kind, content = message["msg_type"], message["content"]
        if kind == "comm_msg" and content["comm_id"] == self.comm and content["data"]["method"] == "custom":
            self.said.append(content["data"]["content"])
        self.printed += content.get("text", "") if kind == "stream" else ""

    def wait_for(self, kind: str, timeout: float = 60.0) -> dict[str, Any]:
        """The next message of a kind; those before it are forgotten."""
        end = time.monotonic() + timeout
        while True:
            for at, content in enumerate(self.said):
                if content["kind"] == kind:
                    del self.said[: at + 1]
                    return content
            assert time.monotonic() < end, f"no {kind!r} came; {self.printed!r}"
            self.hear(1.0)

    def wait_begun(self) -> None:
        """Until the cell said that it runs."""
        end = time.monotonic() + 60.0
        while "begun" not in self.printed:
            assert time.monotonic() < end
            self.hear(1.0)
        self.printed = ""


def subshell_of(kernel: Kernel) -> str | None:
    """A new subshell, where the kernel has such."""
    client = kernel.client
    if "kernel subshells" not in client.kernel_info(reply=True, timeout=60)["content"].get("supported_features", []):
        return None
    client.control_channel.send(client.session.msg("create_subshell_request", {}))
    while True:
        reply = client.get_control_msg(timeout=60)
        if reply["msg_type"] == "create_subshell_reply":
            return reply["content"]["subshell_id"]


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    Cache(tmp_path / "cache").set("user:1", 1)
    Cache(tmp_path / "cache").set("user:2", 2)
    with open_kernel(cwd=tmp_path) as kernel:
        done = kernel.good("import nbstep\nnbstep.panel('cache')")
        opened = [content["comm_id"] for content in done.of("comm_open") if "_esm" in content["data"]["state"]]
        shown = Page(kernel, opened[-1], subshell_of(kernel))
        shown.ask(kind="ready", view="v")
        assert len(shown.wait_for("rows")["rows"]) == 2
        yield shown


def is_generation(*version: int) -> bool:
    return ipykernel.version_info[: len(version)] == version


# Where the kernel answers while a cell of this kind runs; elsewhere when it ended.
AT_ONCE = {"awaits": is_generation(7), "blocks": is_generation(7) and not is_generation(7, 4)}


@pytest.mark.parametrize("cell", ["awaits", "blocks"])
def test_a_delete_while_a_cell_runs_is_done_once_and_answered(page: Page, cell: str, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    sent = page.kernel.start({"awaits": AWAITS, "blocks": BLOCKS}[cell])
    page.wait_begun()
    page.ask(kind="delete", ids=[entry_id("user:1")], view="v")
    if AT_ONCE[cell]:
        assert "Deleted 1 entry: user:1" in page.wait_for("note")["text"]
        assert cache.keys() == ["user:2"]
    (tmp_path / "go").touch()
    if not AT_ONCE[cell]:
        assert "Deleted 1 entry: user:1" in page.wait_for("note")["text"]
    assert page.kernel.client._recv_reply(sent, timeout=60)["content"]["status"] == "ok"
    page.ask(kind="undo", view="v")
    assert "Restored 1 entry: user:1" in page.wait_for("note")["text"]
    assert sorted(cache.keys()) == ["user:1", "user:2"]
