"""Records what a cell displays while it is displayed, and displays it again."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

MOST_BYTES: Final = 8_000_000
_WIDGET: Final = "application/vnd.jupyter.widget-view+json"
_OWN: Final = "nbstep-"  # how the display ids of step lists begin


class Recording:
    """Listens to a shell's streams, displays and last value.

    What goes past all three is not heard: what a subprocess writes to the descriptors, and a widget's life.

    Attributes:
        outputs: What was displayed so far, as in `KeptCell`.
        left_out_bytes: What was beyond the limit.
        widgets: How many displays were widgets, which cannot come back.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self.outputs: list[dict[str, Any]] = []
        self.left_out_bytes = self.widgets = 0
        self._room = MOST_BYTES
        self._muted = self._clears = False
        self._undo: list[Callable[[], None]] = []

    def start(self) -> None:
        """Begins to listen."""
        for name in ("stdout", "stderr"):
            tee = _Tee(self, name, getattr(sys, name))
            setattr(sys, name, tee)
            self._undo.append(functools.partial(self._take_away, name, tee))
        publisher, hook = self._shell.display_pub, self._shell.displayhook
        self._stand_before(publisher, "publish", self._published)
        self._stand_before(publisher, "clear_output", self._cleared)
        self._stand_before(hook, "write_format_data", self._valued)
        for name in ("write_output_prompt", "finish_displayhook"):
            self._stand_before(hook, name, _nothing)

    def stop(self) -> None:
        """Ends it; everything is as it was before."""
        while self._undo:
            self._undo.pop()()

    def _take_away(self, name: str, tee: _Tee) -> None:
        if getattr(sys, name) is tee:
            setattr(sys, name, tee.original)
        tee.recording = None

    def _stand_before(self, owner: Any, name: str, told: Any) -> None:
        own = vars(owner).get(name)
        original = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            told(*args, **kwargs)
            was, self._muted = self._muted, True  # a terminal prints what it displays
            try:
                return original(*args, **kwargs)
            finally:
                self._muted = was

        def undo() -> None:
            if vars(owner).get(name) is call:
                delattr(owner, name) if own is None else setattr(owner, name, own)

        setattr(owner, name, call)
        self._undo.append(undo)

    def wrote(self, name: str, text: str) -> None:
        """Text went to a stream."""
        if self._muted or not text:
            return
        self._clear_if_due()
        kept = text[: self._room]
        self._spend(len(text), len(kept))
        last = self.outputs[-1] if self.outputs else {}
        if kept and last.get("name") == name:
            last["text"].append(kept)
        elif kept:
            self.outputs.append({"output_type": "stream", "name": name, "text": [kept]})

    def _published(
        self, data: Any, metadata: Any = None, *_: Any, transient: Any = None, update: bool = False, **__: Any
    ) -> None:
        identity = (transient or {}).get("display_id")
        if isinstance(identity, str) and identity.startswith(_OWN):
            return
        if not update:
            self._clear_if_due()
        if _WIDGET in data:
            self.widgets += 1
            return
        bundle = {"data": dict(data), "metadata": dict(metadata or {})}
        if not self._takes(bundle["data"]):
            return
        if not update:
            self.outputs.append({"output_type": "display_data", **bundle, "display_id": identity})
            return
        for shown in self.outputs:
            if identity is not None and shown.get("display_id") == identity:
                shown.update(bundle)

    def _valued(self, data: Any, metadata: Any = None) -> None:
        self._clear_if_due()
        if self._takes(data):
            self.outputs.append({"output_type": "execute_result", "data": dict(data), "metadata": dict(metadata or {})})

    def _cleared(self, wait: bool = False) -> None:
        self._clears = True
        if not wait:
            self._clear_if_due()

    def _clear_if_due(self) -> None:
        if self._clears:
            self._clears = False
            self.outputs.clear()
            self._room, self.left_out_bytes, self.widgets = MOST_BYTES, 0, 0

    def _takes(self, data: Mapping[str, Any]) -> bool:
        size = sum(len(part) if isinstance(part, str | bytes) else len(repr(part)) for part in data.values())
        fits = size <= self._room
        self._spend(size, size if fits else 0)
        return fits

    def _spend(self, size: int, kept: int) -> None:
        self._room -= kept
        self.left_out_bytes += size - kept

    def whole(self) -> list[dict[str, Any]]:
        """The outputs with their texts in one piece."""
        return [{**shown, "text": "".join(shown["text"])} if "text" in shown else shown for shown in self.outputs]


def _nothing() -> None:
    """A terminal prints `Out[1]:` around a last value; that is no output of the cell."""


class _Tee:
    """Stands for a stream: everything goes through, what is written is recorded."""

    def __init__(self, recording: Recording, name: str, original: Any) -> None:
        self.recording: Recording | None = recording
        self.name_recorded, self.original = name, original

    def write(self, text: str) -> Any:
        """As the stream's own."""
        given = self.original.write(text)
        if self.recording is not None:
            self.recording.wrote(self.name_recorded, text)
        return given

    def writelines(self, lines: Iterable[str]) -> None:
        """As the stream's own."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)


class ShownValue:
    """Stands for a cell's last value when it comes from the cache: displayed as it was then."""

    def __init__(self, data: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        self._data, self._metadata = dict(data), dict(metadata)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:  # noqa: ARG002 - IPython's protocol
        return self._data, self._metadata

    def __repr__(self) -> str:
        return str(self._data.get("text/plain", ""))


def show_again(shell: Any, outputs: Iterable[Mapping[str, Any]]) -> None:
    """Displays streams and displays in their order; a last value is for the shell to display."""
    for shown in outputs:
        if shown["output_type"] == "stream":
            stream = sys.stdout if shown["name"] == "stdout" else sys.stderr
            stream.write(shown["text"])
        elif shown["output_type"] == "display_data":
            identity = shown["display_id"]
            transient = {} if identity is None else {"display_id": identity}
            shell.display_pub.publish(dict(shown["data"]), dict(shown["metadata"]), transient=transient)
