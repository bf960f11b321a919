"""The sidebar's addresses, under the server's own base URL, authentication, authorization and XSRF check.

    GET  nbstep/entries?path=NOTEBOOK       the rows and totals of the notebook's project; 304 where nothing changed
                                            since the answer that If-None-Match names, what changed where that was the last
    GET  nbstep/entries/ID?path=NOTEBOOK    one entry in full
    POST nbstep/ACTION?path=NOTEBOOK        {"ids": […], "asked": false}; a note, or a question to be answered first

Who may read or write the server's contents may read or change what is kept. `path` is the notebook's, from the server's root.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, cast

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.services.contents.filemanager import FileContentsManager
from jupyter_server.utils import url_path_join
from tornado import web

from nbstep.commands.panelside import ACTIONS, Message, Wish
from nbstep.errors import NbstepError
from nbstep.server.caches import OpenCaches
from nbstep.server.places import NotServedError, ServedPlace, served_place
from nbstep.words import shown

_ACTION: Final = "|".join(ACTIONS)
_NOT_ON_DISK: Final = (
    "This server keeps its notebooks elsewhere than in a folder of its own: there is no cache to show."
)


class _NotServed(web.HTTPError):
    """404, with a text for people."""

    def __init__(self, text: str) -> None:
        super().__init__(404)
        self.text = text


class _Handler(APIHandler):
    """Finds the cache of the notebook that a request names."""

    auth_resource = "contents"

    def initialize(self, caches: OpenCaches) -> None:
        """Takes what all handlers share."""
        self.caches = caches

    def place(self) -> ServedPlace:
        """The cache of the notebook that the client has open.

        Raises:
            HTTPError: 404, where there is none that this server may show.
        """
        manager = self.contents_manager
        if not isinstance(manager, FileContentsManager):
            raise _NotServed(_NOT_ON_DISK)
        try:
            notebook = self.get_query_argument("path")
            return served_place(notebook, Path(manager.root_dir), os.environ, hidden=manager.allow_hidden)
        except NotServedError as refused:
            raise _NotServed(str(refused)) from None

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """What is refused, and a cache that cannot be read, says why."""
        error = kwargs.get("exc_info", (None, None))[1]
        if isinstance(error, _NotServed):
            self.finish({"message": error.text})
        elif isinstance(error, NbstepError | OSError):
            self.finish({"message": shown(f"{type(error).__name__}: {error}")})
        else:
            super().write_error(status_code, **kwargs)


class EntriesHandler(_Handler):
    """Every row, and the totals."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answers 304 where the client has what there is, and with what changed where it has what there was last."""
        since = self.request.headers.get("If-None-Match", "").removeprefix("W/").strip('"')
        answer = await self.caches.entries(self.place(), since)
        self.set_header("ETag", f'"{answer.tag}"')
        if answer.body is None:
            self.set_status(304)
            self.finish()
        else:
            self.finish(answer.body)

    def compute_etag(self) -> None:
        """It is set already."""


class EntryHandler(_Handler):
    """One entry in full."""

    @web.authenticated
    @authorized
    async def get(self, row_id: str) -> None:
        """Answers 404 where it is gone."""
        detail = await self.caches.detail(self.place(), row_id)
        if detail is None:
            raise _NotServed("This entry is gone.")
        self.finish(detail)


class ActionHandler(_Handler):
    """Deletes, undoes, accepts, clears."""

    @web.authenticated
    @authorized
    async def post(self, action: str) -> None:
        """Does it, and says what was done."""
        content: Any = self.get_json_body() or {}
        if not isinstance(content, dict):
            raise web.HTTPError(400, "The body has to be a JSON object.")
        self.finish(await self.caches.act(self.place(), action, Wish.read(cast("Message", content))))


def handlers(base_url: str) -> list[tuple[str, type[APIHandler], dict[str, Any]]]:
    """The addresses, for `Application.add_handlers`."""
    shared = {"caches": OpenCaches()}
    under = url_path_join(base_url, "nbstep")
    return [
        (url_path_join(under, "entries"), EntriesHandler, shared),
        (url_path_join(under, "entries", "([0-9a-f]{64})"), EntryHandler, shared),
        (url_path_join(under, f"({_ACTION})"), ActionHandler, shared),
    ]
