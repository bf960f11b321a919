"""`nbstep.panel()`: the widget, and what is shown and saved where there is none (DESIGN section 6, T10)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_commands import AsyncStore, keep_error

import nbstep
from nbstep import Cache, events
from nbstep.commands.listing import entry_id
from nbstep.notebook.panelwidget import PanelWidget
from nbstep.words import text_width

SECRET = "user:s3cr3t"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    made = Cache(tmp_path / ".nbstep")
    made.set(SECRET, 1)
    keep_error(made, "user:999", ValueError("no such user"))
    return made


@pytest.fixture
def widget(cache: Cache) -> Iterator[PanelWidget]:
    made = PanelWidget(cache)
    yield made
    made.close()


def from_page(widget: PanelWidget, content: dict[str, Any]) -> None:
    """Delivers a message as the widget machinery does."""
    widget._handle_custom_msg(content, [])


def test_the_page_deletes_and_undoes_through_the_widget(cache: Cache, widget: PanelWidget) -> None:
    from_page(widget, {"kind": "ready", "view": "v"})
    from_page(widget, {"kind": "delete", "ids": [entry_id(SECRET)]})
    assert cache.keys() == ["user:999"]
    from_page(widget, {"kind": "undo"})
    assert sorted(cache.keys()) == ["user:999", SECRET]


def test_t10_the_widgets_state_holds_no_entry(widget: PanelWidget) -> None:
    from_page(widget, {"kind": "ready", "view": "v"})
    from_page(widget, {"kind": "detail", "id": entry_id(SECRET)})
    assert SECRET not in json.dumps(widget.get_state(), default=str)


def test_what_knows_no_widgets_shows_the_saved_table_alone(widget: PanelWidget) -> None:
    data, _ = widget._repr_mimebundle_()
    assert data.pop("text/plain") == ""
    assert [shown["model_id"] for shown in data.values()] == [widget.model_id]


def test_closing_it_stops_following_the_cache(cache: Cache) -> None:
    before = len(events._process_listeners)
    widget = PanelWidget(cache)
    from_page(widget, {"kind": "ready", "view": "v"})
    assert len(events._process_listeners) == before + 1
    widget.close()
    assert len(events._process_listeners) == before


def test_without_a_notebook_the_table_is_printed(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    nbstep.panel(cache)
    said = capsys.readouterr().out
    assert said.startswith("2 entries · 1 failed")
    assert SECRET in said


@pytest.mark.parametrize("width", [50, 80])
def test_without_a_notebook_the_table_is_as_wide_as_the_terminal(
    cache: Cache, width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    keep_error(cache, "host:" + "h" * 60, ValueError("no such host " * 9))
    nbstep.panel(cache)
    table = capsys.readouterr().out.splitlines()[1:]
    assert width - 12 < max(map(text_width, table)) <= width


def test_panel_takes_whatever_a_cache_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Cache(tmp_path / "c").set("a", 1)
    nbstep.panel(str(tmp_path / "c"))
    assert "1 entry" in capsys.readouterr().out
    with pytest.raises(TypeError):
        nbstep.panel(5)


def test_an_async_store_prints_its_table_too_where_no_loop_runs(capsys: pytest.CaptureFixture[str]) -> None:
    nbstep.panel(Cache(AsyncStore()))
    assert capsys.readouterr().out.startswith("Nothing kept yet.")


@pytest.mark.kernel
def test_t10_an_executed_notebook_keeps_the_table_and_no_entry_in_its_widget_state(
    cache: Cache, tmp_path: Path
) -> None:
    from nbclient import NotebookClient
    from nbconvert import HTMLExporter
    from nbformat import v4

    place = str(cache.directory)
    cells = [f"import nbstep\nnbstep.panel({place!r})", f"%load_ext nbstep\n%nbstep --cache {place} panel"]
    notebook = v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3", store_widget_state=True).execute(cwd=str(tmp_path))
    for cell in notebook.cells:
        saved, live = cell.outputs
        assert saved.data["text/plain"] == f"failed  user:999\nok      {SECRET}"
        assert SECRET in saved.data["text/html"]
        assert live.data["text/plain"] == ""
    widgets = json.dumps(notebook.metadata["widgets"])
    assert "nbstep-panel" in widgets
    assert SECRET not in widgets
    exported, _ = HTMLExporter().from_notebook_node(notebook)
    assert '<div class="nbstep-snapshot ' in exported


@pytest.mark.kernel
def test_an_async_stores_snapshot_is_filled_in_when_the_loop_runs(tmp_path: Path) -> None:
    from nbclient import NotebookClient
    from nbformat import v4

    store = (
        "class Store:\n"
        "    def __init__(self): self.kept = {}\n"
        "    async def get(self, key): return self.kept.get(key)\n"
        "    async def set(self, key, value): self.kept[key] = value\n"
        "    async def has(self, key): return key in self.kept\n"
        "    async def delete(self, key): return self.kept.pop(key, None) is not None\n"
        "import asyncio, nbstep\n"
        "cache = nbstep.Cache(Store())\n"
        "await cache.set('user:1', 1)\n"
        "nbstep.panel(cache)\n"
        "await asyncio.gather(*nbstep.notebook.panel._filling)"
    )
    notebook = v4.new_notebook(cells=[v4.new_code_cell(store)])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute(cwd=str(tmp_path))
    assert notebook.cells[0].outputs[0].data["text/plain"] == "ok      user:1"
