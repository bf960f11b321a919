"""A small picture of a figure or an image, made when it is kept: PNG, at most 20 KB.

Nothing is imported to make one: a value of a library that nobody loaded cannot be one of its figures. Whatever goes wrong,
there is none. Drawing takes time, so all pictures of a process together get a small share of its time, and a figure of very
much data has none.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, cast

from nbstep.cache.keptcell import KeptCell
from nbstep.foreign import interrupts

THUMBNAIL_BYTES: Final = 20_000
_BOX: Final = (480, 320)  # pixels
_DRAWN_BYTES_AT_MOST: Final = 4_000_000  # of the pickled figure; a line of 250,000 points
_FREE_S: Final = 2.0
_SHARE: Final = 0.05
_WAITS_S: Final = 1.0  # for a picture that another thread makes
_COLOURS_OF: Final = ((1.0, 256), (1.0, 64), (0.7, 64), (0.5, 64), (0.35, 64), (0.25, 32))
_PALE_MODES: Final = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"})
_PNG: Final = re.compile(r"iVBORw0KGgo[A-Za-z0-9+/]*={0,2}")  # what begins as every PNG does, in base64
_PLAIN: Final = frozenset({int, float, bool, complex, str, bytes, list, dict, tuple, set, frozenset, type(None)})

_turn: Final = threading.Lock()
_began: Final = time.monotonic()
_spent = [0.0]


def thumbnail_of(value: Any, size_bytes: int) -> str:
    """The picture of a value as base64 text, "" where there is none; never raises.

    Args:
        value: A figure or axes of matplotlib, a seaborn grid, a PIL image, or a kept cell that displayed a picture.
        size_bytes: What it takes pickled.
    """
    if type(value) in _PLAIN:
        return ""
    try:
        return _taken(value, size_bytes)
    except interrupts():
        raise
    except BaseException:  # noqa: BLE001 - drawing is code of other libraries, and of the user's in them
        return ""


def is_thumbnail(text: str) -> bool:
    """Whether a text is a picture that may be shown: PNG, and no longer than one that is made here.

    >>> is_thumbnail("PHNjcmlwdD4="), is_thumbnail("iVBORw0KGgo=")
    (False, True)
    """
    if len(text) > _text_length(THUMBNAIL_BYTES) or not _PNG.fullmatch(text):
        return False
    with suppress(binascii.Error):
        return bool(base64.b64decode(text, validate=True))
    return False


def _text_length(size_bytes: int) -> int:
    return (size_bytes + 2) // 3 * 4


def _taken(value: Any, size_bytes: int) -> str:
    figure = _figure_of(value)
    image_class = _loaded("PIL.Image", "Image")
    is_image = image_class is not None and isinstance(value, image_class)
    if isinstance(value, KeptCell):
        return _displayed(value)
    if not is_image and (figure is None or size_bytes > _DRAWN_BYTES_AT_MOST or image_class is None):
        return ""
    return _in_turn(value if is_image else figure, drawn=not is_image)


def _in_turn(pictured: Any, *, drawn: bool) -> str:
    """One at a time, as matplotlib shares fonts between figures; and only while the share of the time is not used up."""
    if _spent[0] > _FREE_S + _SHARE * (time.monotonic() - _began) or not _turn.acquire(timeout=_WAITS_S):
        return ""
    started = time.thread_time()
    try:
        return _encoded(_drawn(pictured) if drawn else pictured)
    finally:
        _spent[0] += time.thread_time() - started
        _turn.release()


def _loaded(module: str, name: str) -> Any:
    """A class of a library that is loaded, else None."""
    return getattr(sys.modules.get(module), name, None)


def _figure_of(value: Any) -> Any:
    """The matplotlib figure that a value is, or is a part of."""
    figure_class, axes_class = _loaded("matplotlib.figure", "Figure"), _loaded("matplotlib.axes", "Axes")
    if figure_class is None or axes_class is None:
        return None
    of_grid = isinstance(value, axes_class) or type(value).__module__.partition(".")[0] == "seaborn"
    found = getattr(value, "figure", None) if of_grid else value
    return found if isinstance(found, figure_class) else None


def _drawn(figure: Any) -> Any:
    width, height = figure.get_size_inches()
    into = io.BytesIO()
    figure.savefig(into, format="png", dpi=min(_BOX[0] / width, _BOX[1] / height, figure.dpi))
    return sys.modules["PIL.Image"].open(into)


def _displayed(cell: KeptCell) -> str:
    """The first picture among what a cell displayed; a large one where PIL is there to make it smaller."""
    for output in cell.outputs:
        bundle = output.get("data")
        picture = cast("Mapping[str, Any]", bundle).get("image/png") if isinstance(bundle, Mapping) else None
        if isinstance(picture, str):
            text = "".join(picture.split())
            if is_thumbnail(text) or "PIL.Image" not in sys.modules:
                return text if is_thumbnail(text) else ""
            return _in_turn(sys.modules["PIL.Image"].open(io.BytesIO(base64.b64decode(text))), drawn=False)
    return ""


def _encoded(image: Any) -> str:
    """An image as PNG in base64, as large and colourful as fits."""
    if image.mode not in _PALE_MODES or 0 in image.size:
        return ""
    share = min(1.0, _BOX[0] / image.width, _BOX[1] / image.height)
    size = max(1, round(image.width * share)), max(1, round(image.height * share))
    if share < 0.25:  # of a very large one not every pixel counts
        image = image.resize((size[0] * 4, size[1] * 4), _resampling().NEAREST)
    image = _on_white(image).resize(size, _resampling().LANCZOS)
    for part, colours in _COLOURS_OF:
        smaller = image if part == 1 else image.resize((max(1, int(size[0] * part)), max(1, int(size[1] * part))))
        into = io.BytesIO()
        smaller.quantize(colours).save(into, "PNG")
        if len(into.getbuffer()) <= THUMBNAIL_BYTES:
            return base64.b64encode(into.getbuffer()).decode("ascii")
    return ""


def _resampling() -> Any:
    return sys.modules["PIL.Image"].Resampling


def _on_white(image: Any) -> Any:
    """A new image, so that nothing but its pixels is kept."""
    whole = sys.modules["PIL.Image"].new("RGB", image.size, "white")
    with_alpha = image.convert("RGBA")
    whole.paste(with_alpha, mask=with_alpha.getchannel("A"))
    return whole
