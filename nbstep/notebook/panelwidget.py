"""The panel as a widget: hands messages to and fro, keeps nothing in its state. Importing it imports anywidget."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import anywidget

from nbstep.cache.cache import Cache
from nbstep.notebook.kernelside import KernelSide

_STATIC: Final = Path(__file__).parent / "static"


class PanelWidget(anywidget.AnyWidget):
    """A live table of what a cache keeps.

    Its state is its scripts and styles alone: rows travel as messages, so a saved notebook holds none of them.
    """

    _esm = _STATIC / "panel.js"
    _css = _STATIC / "panel.css"

    def __init__(self, cache: Cache, notebook: str | None = None, **traits: Any) -> None:
        super().__init__(**traits)
        self.kernel_side = KernelSide(cache, self.send, notebook=notebook)
        self.on_msg(self._pass_on)

    def _pass_on(self, _widget: object, content: object, _buffers: object) -> None:
        self.kernel_side.receive(content)

    def close(self) -> None:
        """Ends the widget and stops following the cache."""
        self.kernel_side.close()
        super().close()

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The view, and an empty text: what knows no widgets shows the saved table alone."""
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        return {**data, "text/plain": ""}, metadata

    def __repr__(self) -> str:
        return "nbstep panel"
