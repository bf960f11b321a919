"""The small picture of a figure or an image: PNG, at most 20 KB, made of what is loaded, and never at the value's cost."""

from __future__ import annotations

import base64
import io
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from nbstep import Cache, Ok
from nbstep.cache import thumbnails
from nbstep.cache.keptcell import KeptCell
from nbstep.cache.records import Facts, Hit
from nbstep.cache.thumbnails import THUMBNAIL_BYTES, is_thumbnail, thumbnail_of
from nbstep.commands.details import detail_of
from nbstep.commands.listing import find_meta
from nbstep.stores.base import run_now


@pytest.fixture(autouse=True)
def _time_for_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "_spent", [0.0])
    mpl.use("agg")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / ".nbstep")


def a_figure(points: int = 100) -> Figure:
    figure = Figure(figsize=(6.4, 4.8))
    axes = figure.subplots()
    axes.plot(np.arange(points))
    axes.set_title("Sales")
    return figure


def a_photo(width: int, height: int, mode: str = "RGB") -> Image.Image:
    noise = np.random.default_rng(1).integers(0, 255, (height, width, 3), dtype="uint8")
    return Image.fromarray(noise).convert(mode)


def opened(text: str) -> Image.Image:
    assert is_thumbnail(text)
    content = base64.b64decode(text)
    assert len(content) <= THUMBNAIL_BYTES
    picture = Image.open(io.BytesIO(content))
    assert picture.format == "PNG"
    return picture


def test_a_figure_is_drawn_small_and_stays_as_it_was() -> None:
    figure = a_figure()
    canvas, dpi, size = figure.canvas, figure.dpi, tuple(figure.get_size_inches())
    picture = opened(thumbnail_of(figure, 10_000))
    assert picture.width <= 480
    assert picture.height <= 320
    assert len(set(picture.convert("L").get_flattened_data())) > 2
    assert (figure.canvas, figure.dpi, tuple(figure.get_size_inches())) == (canvas, dpi, size)


def test_axes_are_shown_as_their_figure() -> None:
    figure = a_figure()
    assert thumbnail_of(figure.axes[0], 10_000) == thumbnail_of(figure, 10_000) != ""


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "CMYK"])
def test_a_large_photo_becomes_small(mode: str) -> None:
    photo = a_photo(3000, 2000, mode)
    begin = time.thread_time()
    picture = opened(thumbnail_of(photo, 10**7))
    assert time.thread_time() - begin < 5
    assert abs(picture.width / picture.height - 1.5) < 0.1
    assert (photo.size, photo.mode) == ((3000, 2000), mode)


def test_a_small_image_keeps_its_size_and_what_is_clear_is_white() -> None:
    picture = opened(thumbnail_of(Image.new("RGBA", (9, 5), (0, 0, 0, 0)), 100))
    assert picture.size == (9, 5)
    assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_t10_only_pixels_are_kept_of_an_image() -> None:
    photo = a_photo(50, 50)
    photo.info["icc_profile"] = b"hunter2" * 100
    assert b"hunter2" not in base64.b64decode(thumbnail_of(photo, 100))


@pytest.mark.parametrize(
    "value", [1, "text", {"a": 1}, np.zeros((10, 10, 3), "uint8"), a_photo(4, 4, "F"), object(), None]
)
def test_other_values_have_no_picture(value: Any) -> None:
    assert thumbnail_of(value, 100) == ""


def test_c3_what_cannot_be_drawn_costs_only_its_picture(cache: Cache) -> None:
    figure = a_figure()
    figure.axes[0].set_title(r"$\frac{$")  # no formula: drawing it raises
    with pytest.raises(ValueError, match="frac"):
        figure.savefig(io.BytesIO())
    assert cache.set("figure", figure) is None
    assert cache.get("figure").axes[0].get_title() == r"$\frac{$"
    assert run_now(find_meta(cache, "figure")).thumbnail == ""


def test_pictures_take_a_small_share_of_the_time_and_very_much_data_is_not_drawn() -> None:
    figure = a_figure(1_000_000)
    begin = time.thread_time()
    assert thumbnail_of(figure, len(pickle.dumps(figure))) == ""
    assert time.thread_time() - begin < 0.5
    thumbnails._spent[0] = 10**6
    assert thumbnail_of(a_figure(), 10_000) == ""


def test_a_kept_cell_shows_the_first_picture_it_displayed() -> None:
    into = io.BytesIO()
    a_photo(600, 600).save(into, "PNG")
    small, large = thumbnail_of(a_photo(8, 8), 100), base64.b64encode(into.getvalue()).decode()
    outputs = [
        {"output_type": "stream", "text": "hello"},
        {"data": {"image/png": small}},
        {"data": {"image/png": large}},
    ]
    assert thumbnail_of(KeptCell({}, outputs), 100) == small
    assert opened(thumbnail_of(KeptCell({}, outputs[2:]), 100)).width < 600
    assert thumbnail_of(KeptCell({}, outputs[:1]), 100) == ""


def test_an_entry_says_it_in_its_header_and_lists_leave_it_out(cache: Cache) -> None:
    cache.set("figure", a_figure())
    found = cache.look_up("figure")
    assert isinstance(run_now(found), Hit)
    meta = run_now(find_meta(cache, "figure"))
    opened(meta.thumbnail)
    assert detail_of(meta).thumbnail == meta.thumbnail
    assert [listed.thumbnail for listed in cache.entries()] == [""]
    again = Cache(cache.directory)
    assert run_now(find_meta(again, "figure")).thumbnail == meta.thumbnail


def test_previews_false_keeps_no_picture(tmp_path: Path) -> None:
    cache = Cache(tmp_path / ".nbstep", previews=False)
    cache.set("figure", a_figure())
    meta = run_now(find_meta(cache, "figure"))
    assert (meta.thumbnail, meta.preview) == ("", "")


@pytest.mark.parametrize(
    "text", ["", "x", "PHNjcmlwdD4=", 'iVBORw0KGgo"onerror=1', "iVBORw0KGgo" + "A" * 40_000, "iVBORw0KGgo\n"]
)
def test_t9_what_is_no_small_png_is_never_shown(cache: Cache, text: str) -> None:
    from dataclasses import replace

    assert not is_thumbnail(text)
    run_now(cache.keep("a", Ok(1), Facts(took_s=0.1)))
    meta = run_now(find_meta(cache, "a"))
    good = thumbnail_of(a_photo(4, 4), 10)
    assert detail_of(replace(meta, thumbnail=text)).thumbnail == ""
    assert detail_of(replace(meta, thumbnail=good)).thumbnail == good
    assert detail_of(replace(meta, thumbnail=good, trusted=False)).thumbnail == ""


def test_nothing_is_imported_for_a_preview(tmp_path: Path) -> None:
    code = (
        "import sys, nbstep\n"
        "nbstep.Cache(sys.argv[1]).set('a', {'n': [1, 2]})\n"
        "print([name for name in ('PIL', 'matplotlib', 'numpy', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / ".nbstep")], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"
