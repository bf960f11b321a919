"""A real ipykernel, for tests that must see its messages or interrupt it."""

from __future__ import annotations

import contextlib
import os
import queue
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.manager import KernelManager


@dataclass
class Done:
    """What a cell sent: the reply's status, and the messages of iopub."""

    status: str
    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    took_s: float = 0.0

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        """The contents of the messages of these types."""
        return [content for kind, content in self.messages if kind in kinds]

    @property
    def error(self) -> dict[str, Any]:
        """The one error message."""
        (content,) = self.of("error")
        return content

    @property
    def text(self) -> str:
        """What was printed, to stdout and stderr."""
        return "".join(content["text"] for content in self.of("stream"))

    @property
    def lists(self) -> list[dict[str, Any]]:
        """The mime bundles of finished step lists, as displayed first."""
        return [c["data"] for c in self.of("display_data") if c["data"]]


class Kernel:
    """A started kernel with nbstep loaded."""

    def __init__(self, manager: KernelManager, client: Any) -> None:
        self.manager, self.client = manager, client

    def start(self, code: str) -> str:
        """Sends a cell."""
        return self.client.execute(code)

    def finish(self, sent: str, timeout: float = 60.0) -> Done:
        """Waits for the cell to end."""
        began = time.monotonic()
        done = Done("")
        reply = self.client._recv_reply(sent, timeout=timeout) if hasattr(self.client, "_recv_reply") else None
        done.status = reply["content"]["status"] if reply else ""
        while True:
            message = self._iopub(timeout)
            if message["parent_header"].get("msg_id") != sent:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] == "idle":
                break
            done.messages.append((kind, content))
        done.took_s = time.monotonic() - began
        return done

    def _iopub(self, timeout: float) -> dict[str, Any]:
        return self.client.get_iopub_msg(timeout=timeout)

    def wait_for(self, text: str, timeout: float = 30.0) -> None:
        """Waits until the running cell prints or displays `text`."""
        end = time.monotonic() + timeout
        seen = ""
        while text not in seen and time.monotonic() < end:
            with contextlib.suppress(queue.Empty):
                message = self._iopub(1)
                seen += message["content"].get("text", "") + str(message["content"].get("data", ""))
        assert text in seen, seen

    def run(self, code: str, timeout: float = 60.0) -> Done:
        """Runs a cell."""
        return self.finish(self.start(code), timeout)

    def good(self, code: str) -> Done:
        """Runs a cell that must not fail."""
        done = self.run(code)
        assert done.status == "ok", done
        return done


@contextlib.contextmanager
def open_kernel(
    *, load: bool = True, cwd: Path | None = None, environ: Mapping[str, str] = os.environ
) -> Generator[Kernel]:
    """A kernel of its own, in the folder and environment of this process if not told otherwise."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env=dict(environ), cwd=cwd, extra_arguments=["--log-level=ERROR"])
    client = manager.blocking_client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=60)
        kernel = Kernel(manager, client)
        if load:
            kernel.good("%load_ext nbstep")
        yield kernel
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
