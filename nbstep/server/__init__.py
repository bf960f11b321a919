"""The server extension: what the sidebar asks over HTTP, with no kernel. Only loading it imports jupyter_server."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp


def load(app: ServerApp) -> None:
    """Adds the sidebar's addresses to a server."""
    from nbstep.server.handlers import handlers

    app.web_app.add_handlers(".*$", handlers(app.web_app.settings["base_url"]))
