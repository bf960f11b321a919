"""The sidebar's addresses in a real Jupyter server, over HTTP: who may ask, what is served, what deletes (DESIGN section 6)."""

from __future__ import annotations

import contextlib
import http.cookiejar
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ports import free_port
from servers import ROOT, running
from shared_data import lay_out
from test_commands import keep_error
from test_kernelside import HOSTILE

from nbstep import Cache, Ok, create_workflow
from nbstep.cache import trust
from nbstep.cache.records import Facts
from nbstep.commands.listing import entry_id
from nbstep.commands.panelside import ACTIONS
from nbstep.server.places import CACHE_OUTSIDE, NO_FOLDER
from nbstep.stores.base import run_now
from nbstep.words import shown

TOKEN = "a-token-of-the-test"
# A server may let somebody read its contents and not write them: here whoever sends this header.
READ_ONLY = {"X-Read-Only": "yes"}
CONFIG = """
from jupyter_server.auth import AllowAllAuthorizer

class Guests(AllowAllAuthorizer):
    def is_authorized(self, handler, user, action, resource):
        return (action, resource) != ("write", "contents") or "X-Read-Only" not in handler.request.headers

c.ServerApp.authorizer_class = Guests
"""
BASE = "/user/x/"


@dataclass
class Answer:
    """A status, headers, and the JSON of the body."""

    status: int
    headers: dict[str, str]
    content: Any


class Server:
    """A running server over `root`, and what a client sends to it."""

    def __init__(self, root: Path, url: str) -> None:
        self.root, self.url = root, url

    def ask(
        self,
        address: str,
        body: Any = None,
        *,
        token: str | None = TOKEN,
        opener: urllib.request.OpenerDirector | None = None,
        headers: dict[str, str] | None = None,
        **query: str,
    ) -> Answer:
        """One request; with a body it is a POST."""
        url = f"{self.url}{BASE}nbstep/{address}?{urllib.parse.urlencode(query)}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, headers or {})
        if token is not None:
            request.add_header("Authorization", f"token {token}")
        try:
            with (opener or urllib.request.build_opener()).open(request, timeout=60) as answer:
                return Answer(answer.status, dict(answer.headers), json.loads(answer.read()))
        except urllib.error.HTTPError as error:
            text = error.read()
            with contextlib.suppress(ValueError):
                return Answer(error.code, dict(error.headers), json.loads(text))
            return Answer(error.code, dict(error.headers), text.decode(errors="replace"))

    def labels(self, notebook: str) -> list[str]:
        """The keys that a page would show, in its order."""
        return [row[1] for row in self.ask("entries", path=notebook).content["rows"]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("home")
    root = home / "root"
    root.mkdir()
    port = free_port()
    command = [
        sys.executable, "-m", "jupyter", "server", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}", f"--ServerApp.base_url={BASE}",
        f"--ServerApp.root_dir={root}",
    ]  # fmt: skip
    own = {
        "HOME": str(home),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "PYTHONPATH": str(ROOT),
        **lay_out(home / "prefix"),
    }
    (home / "config").mkdir()
    (home / "config" / "jupyter_server_config.py").write_text(CONFIG)
    environ = {name: value for name, value in os.environ.items() if name != "NBSTEP_DIR"} | own
    url = f"http://127.0.0.1:{port}"
    with running(command, environ, home / "server.log", f"{url}{BASE}api"):
        yield Server(root, url)


@pytest.fixture
def project(server: Server, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Cache]:
    """A notebook's path in a project of its own, and that project's cache, signed with the key of the server's user."""
    monkeypatch.setattr(trust, "_ring", trust.KeyRing({"JUPYTER_DATA_DIR": str(server.root.parent / "data")}))
    folder = server.root / request.node.name.partition("[")[0]
    folder.mkdir(exist_ok=True)
    cache = Cache(folder / ".nbstep")
    cache.clear()
    for key in ("user:1", "user:2", "raw"):
        cache.set(key, {"key": key})
    keep_error(cache, "user:999", ValueError("no such user"), "lambda: fetch_user(999)")
    return f"{folder.name}/a.ipynb", cache


ADDRESSES = [("entries", None), (f"entries/{entry_id('raw')}", None), *((action, {}) for action in ACTIONS)]


@pytest.mark.parametrize(("address", "body"), ADDRESSES)
@pytest.mark.parametrize("token", [None, "wrong"])
def test_without_the_servers_token_nothing_is_told_or_done(
    server: Server, project: tuple[str, Cache], address: str, body: Any, token: str | None
) -> None:
    notebook, cache = project
    answer = server.ask(address, body, token=token, path=notebook)
    assert answer.status == 403
    assert "user:1" not in str(answer.content)
    assert len(cache) == 4


def test_a_browsers_cookie_deletes_only_with_the_xsrf_token(server: Server, project: tuple[str, Cache]) -> None:
    notebook, cache = project
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    opener.open(f"{server.url}{BASE}login", timeout=60).close()
    xsrf = next(cookie.value for cookie in jar if cookie.name == "_xsrf")
    form = urllib.parse.urlencode({"password": TOKEN, "_xsrf": xsrf}).encode()
    opener.open(f"{server.url}{BASE}login", form, timeout=60).close()
    same_site = {"Referer": server.url + BASE}
    listed = server.ask("entries", token=None, opener=opener, headers=same_site, path=notebook)
    assert (listed.status, len(listed.content["rows"])) == (200, 4)
    clear = server.ask("clear", {}, token=None, opener=opener, headers=same_site, path=notebook)
    assert (clear.status, len(cache)) == (403, 4)
    xsrf = next(cookie.value for cookie in jar if cookie.name == "_xsrf")
    headers = {**same_site, "X-XSRFToken": str(xsrf)}
    clear = server.ask("clear", {}, token=None, opener=opener, headers=headers, path=notebook)
    assert (clear.status, len(cache)) == (200, 0)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_stranger_with_an_xsrf_token_and_no_login_does_nothing(
    server: Server, project: tuple[str, Cache], action: str
) -> None:
    notebook, cache = project
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    opener.open(f"{server.url}{BASE}login", timeout=60).close()
    xsrf = str(next(cookie.value for cookie in jar if cookie.name == "_xsrf"))
    headers = {"Referer": server.url + BASE, "X-XSRFToken": xsrf}
    answer = server.ask(action, {}, token=None, opener=opener, headers=headers, path=notebook)
    assert (answer.status, len(cache)) == (403, 4)


@pytest.mark.parametrize("action", ACTIONS)
def test_who_may_only_read_the_servers_contents_changes_nothing(
    server: Server, project: tuple[str, Cache], action: str
) -> None:
    notebook, cache = project
    assert server.ask("entries", headers=READ_ONLY, path=notebook).status == 200
    assert server.ask(action, {}, headers=READ_ONLY, path=notebook).status == 403
    assert len(cache) == 4


def test_it_lists_newest_first_and_answers_304_until_something_changes(
    server: Server, project: tuple[str, Cache]
) -> None:
    notebook, cache = project
    answer = server.ask("entries", path=notebook)
    assert [row[1] for row in answer.content["rows"]] == ["user:999", "raw", "user:2", "user:1"]
    totals = answer.content["totals"]
    assert (totals["entries"], totals["failed"]) == (4, 1)
    assert totals["place"].endswith("/.nbstep")
    tag = {"If-None-Match": answer.headers["Etag"]}
    assert server.ask("entries", headers=tag, path=notebook).status == 304
    cache.set("new", 1)
    cache.delete("raw")
    changed = server.ask("entries", headers=tag, path=notebook)
    assert (changed.status, [row[1] for row in changed.content["rows"]]) == (200, ["new"])
    assert changed.content["gone"] == [entry_id("raw")]
    assert changed.content["totals"]["entries"] == 4
    newer = {"If-None-Match": f"W/{changed.headers['Etag']}"}  # as a proxy that compresses has it
    assert server.ask("entries", headers=newer, path=notebook).status == 304
    for unknown in (tag, {"If-None-Match": '"x"'}, {}):  # another page was told meanwhile, or it is another server
        whole = server.ask("entries", headers=unknown, path=notebook)
        assert (whole.status, len(whole.content["rows"]), "gone" in whole.content) == (200, 4, False)


def test_a_run_that_uses_an_entry_and_an_emptied_trash_are_changes_too(
    server: Server, project: tuple[str, Cache]
) -> None:
    notebook, cache = project
    cache.delete("raw")
    tag = {"If-None-Match": server.ask("entries", path=notebook).headers["Etag"]}
    create_workflow(cache=cache)(lambda step: step(lambda: 1, key="user:1", on_drift="ignore"))
    changed = server.ask("entries", headers=tag, path=notebook)
    assert [(row[1], row[10]) for row in changed.content["rows"]] == [("user:1", 1)]
    tag = {"If-None-Match": changed.headers["Etag"]}
    server.ask("empty-trash", {"count": 0}, path=notebook)  # what somebody was asked about is less
    assert cache.trash().entries == 1
    server.ask("empty-trash", {"count": 1}, path=notebook)
    changed = server.ask("entries", headers=tag, path=notebook)
    assert (changed.content["rows"], changed.content["totals"]["trashEntries"]) == ([], 0)


def test_it_deletes_undoes_retries_and_clears(server: Server, project: tuple[str, Cache]) -> None:
    notebook, cache = project

    def said(action: str, **body: Any) -> str:
        answer = server.ask(action, body, path=notebook)
        assert (answer.status, answer.content["kind"], answer.content["failed"]) == (200, "note", False)
        return answer.content["text"]

    assert said("delete", ids=[entry_id("user:1"), entry_id("raw")]) == "Deleted 2 entries: user:1, raw"
    assert sorted(cache.keys()) == ["user:2", "user:999"]
    assert said("undo") == "Restored 2 entries: raw, user:1"
    assert said("retry", ids=[entry_id("user:1"), entry_id("user:999")]).startswith("Deleted 1 kept error")
    assert sorted(cache.keys()) == ["raw", "user:1", "user:2"]
    assert said("undo") == "Restored 1 entry: user:999"
    assert said("delete-errors").startswith("Deleted 1 kept error")
    assert said("clear") == "Deleted all 3 entries"
    assert cache.keys() == []
    assert said("undo") == "Restored 3 entries: raw, user:1, user:2"


def test_d6_it_asks_before_it_deletes_what_others_were_made_from(server: Server, project: tuple[str, Cache]) -> None:
    notebook, cache = project
    run_now(cache.keep("report", Ok(1), Facts(took_s=1.0, uses=("raw",))))
    question = server.ask("delete", {"ids": [entry_id("raw")]}, path=notebook).content
    assert question["told"] == "1 later step was made from it: report (1.0 s)"
    assert "raw" in cache
    both = [*question["ids"], *question["later"]]
    done = server.ask("delete", {"ids": both, "asked": True}, path=notebook).content
    assert (done["kind"], "raw" in cache, "report" in cache) == ("note", False, False)


def test_d6_it_asks_before_an_old_value_runs_again_too(server: Server, project: tuple[str, Cache]) -> None:
    notebook, cache = project
    for n in (1, 2):
        create_workflow(cache=cache)(lambda step, n=n: step(lambda: n, key="old")).unwrap()
    run_now(cache.keep("report", Ok(1), Facts(took_s=1.0, uses=("old",))))
    question = server.ask("rerun", {"ids": [entry_id("old")]}, path=notebook).content
    assert (question["kind"], question["action"], "old" in cache) == ("question", "rerun", True)
    done = server.ask("rerun", {"ids": question["ids"], "asked": True}, path=notebook).content
    assert (done["kind"], "old" in cache, "report" in cache) == ("note", False, True)


def test_d4_old_values_are_accepted_by_what_the_last_run_found(server: Server, project: tuple[str, Cache]) -> None:
    notebook, cache = project
    for n in (1, 2):
        create_workflow(cache=cache)(lambda step, n=n: step(lambda: n, key="old")).unwrap()
    rows = {row[1]: row for row in server.ask("entries", path=notebook).content["rows"]}
    assert rows["old"][2] == "old value"
    said = server.ask("accept", {"ids": [entry_id("old"), entry_id("raw")]}, path=notebook).content
    assert said == {"kind": "note", "text": "Accepted 1 old value: old.", "failed": False, "undoable": True}
    rows = {row[1]: row for row in server.ask("entries", path=notebook).content["rows"]}
    assert rows["old"][2] == "ok"


def test_e5_one_entry_in_full(server: Server, project: tuple[str, Cache]) -> None:
    notebook, _ = project
    detail = server.ask(f"entries/{entry_id('user:999')}", path=notebook)
    assert (detail.status, detail.content["headline"]) == (200, "ValueError: no such user")
    assert detail.content["traceback"].startswith("Traceback (most recent call last):")
    gone = server.ask(f"entries/{entry_id('other')}", path=notebook)
    assert (gone.status, gone.content) == (404, {"message": "This entry is gone."})


@pytest.mark.parametrize(
    "ids", [["user:1"], ["../../x"], [entry_id("user:1").upper()], [entry_id("other")], "user:1", None, [{}], [None]]
)
def test_t12_only_ids_of_listed_entries_delete_anything(
    server: Server, project: tuple[str, Cache], ids: object
) -> None:
    notebook, cache = project
    answer = server.ask("delete", {"ids": ids}, path=notebook)
    assert (answer.status, len(cache)) == (200, 4)


@pytest.mark.parametrize("body", [["user:1"], "clear", 5])
def test_a_body_that_is_no_object_is_refused(server: Server, project: tuple[str, Cache], body: object) -> None:
    notebook, cache = project
    assert (server.ask("clear", body, path=notebook).status, len(cache)) == (400, 4)


@pytest.mark.parametrize(("address", "body"), ADDRESSES)
def test_t7_no_path_of_the_client_leads_out_of_the_root(server: Server, address: str, body: Any) -> None:
    outside = server.root.parent / "outside"
    cache = Cache(outside / ".nbstep")
    cache.set("raw", 1)
    link, linked_cache = server.root / "link", server.root / "linked"
    linked_cache.mkdir(exist_ok=True)
    for at, target in ((link, outside), (linked_cache / ".nbstep", outside / ".nbstep")):
        if not at.is_symlink():
            at.symlink_to(target)
    for notebook in (
        "../outside/a.ipynb", "x/../../outside/a.ipynb", f"{outside}/a.ipynb", f"/{outside}/a.ipynb", "link/a.ipynb",
        "linked/a.ipynb", "%2e%2e/outside/a.ipynb", "..\\outside\\a.ipynb", "no such folder/a.ipynb",
    ):  # fmt: skip
        answer = server.ask(address, body, path=notebook)
        assert (answer.status, answer.content["message"] in (NO_FOLDER, CACHE_OUTSIDE)) == (404, True)
    assert server.ask(address, body).status == 400  # no path at all
    assert cache.keys() == ["raw"]


def test_t9_hostile_keys_come_as_text_in_json(server: Server, project: tuple[str, Cache]) -> None:
    notebook, cache = project
    for key in HOSTILE:
        run_now(cache.keep(key, Ok(1), Facts(took_s=0.1)))
    answer = server.ask("entries", path=notebook)
    labels = {row[1] for row in answer.content["rows"]}
    assert labels >= {shown(key) for key in HOSTILE}
    assert all(label.isprintable() for label in labels)
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    deleted = server.ask("delete", {"ids": [entry_id(key) for key in HOSTILE]}, path=notebook)
    assert deleted.content["text"].startswith(f"Deleted {len(HOSTILE)} entries")
    assert len(cache) == 4


def test_looking_at_a_project_without_a_cache_makes_none(server: Server) -> None:
    folder = server.root / "nothing"
    folder.mkdir()
    answer = server.ask("entries", path="nothing/a.ipynb")
    assert (answer.status, answer.content["rows"], answer.content["totals"]["entries"]) == (200, [], 0)
    for action in ACTIONS:
        assert server.ask(action, {}, path="nothing/a.ipynb").content["text"] == "Nothing is kept here."
    assert list(folder.iterdir()) == []


def test_what_a_kernel_keeps_meanwhile_is_there(server: Server, project: tuple[str, Cache]) -> None:
    notebook, cache = project
    assert len(server.labels(notebook)) == 4
    cache.set("later", 1)
    assert server.labels(notebook)[0] == "later"
