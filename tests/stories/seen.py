"""What a cell shows, as text, and whether it is what a story says."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from html.parser import HTMLParser
from typing import Any, Final, TypeAlias

_KINDS: Final = frozenset({"stream", "error", "display_data", "execute_result"})

Output: TypeAlias = tuple[str, Mapping[str, Any]]


def is_like(seen: str, said: str) -> bool:
    """Whether a text is as a story says: spaces count once, `…` stands for anything in a line, alone for any lines.

    >>> is_like("a  ran  3 ms\\nb\\nc", "a ran … ms\\n…"), is_like("a\\nb", "a")
    (True, False)
    """
    lines = [" ".join(line.split()) for line in said.strip().splitlines()]
    pattern = "".join(
        r"(?:.*\n)*?" if line == "…" else ".*?".join(map(re.escape, line.split("…"))) + r"\n" for line in lines
    )
    text = "".join(" ".join(line.split()) + "\n" for line in seen.strip().splitlines())
    return re.fullmatch(pattern, text) is not None


def shown(outputs: Iterable[Output]) -> str:
    """All that stands under a cell: what it printed, its step list, its value, its error.

    Args:
        outputs: The kind and the content of each output, as messages and notebooks have them.
    """
    texts: list[str] = []
    stays = [output for output in outputs if output[0] in _KINDS and output[1].get("data") != {}]  # not the live list
    for kind, alike in itertools.groupby(stays, key=lambda output: output[0]):
        contents = [content for _, content in alike]
        if kind == "stream":  # one print may come in several messages
            texts.append("".join(content["text"] for content in contents))
        elif kind == "error":
            texts += [re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(content["traceback"])) for content in contents]
        else:
            texts += [_bundle_text(content["data"]) for content in contents]
    return "\n".join(text.rstrip() for text in texts if text.strip())


def look(notebook: str) -> None:
    """Prints what stands under the cells of a notebook that was run, as one who opens it sees it."""
    import nbformat

    for cell in nbformat.read(notebook, as_version=4).cells:
        text = shown((output.output_type, output) for output in cell.get("outputs", ()))
        if text:
            print(text)  # noqa: T201


def text_of(page: str) -> str:
    """The lines of a page that nbstep showed, without its foot, which names folder and disk."""
    parser = _Lines()
    parser.feed(page)
    return "\n".join(line.rstrip() for line in parser.lines if line.strip())


def _bundle_text(bundle: Mapping[str, str]) -> str:
    page = bundle.get("text/html", "")
    return text_of(page) if "<!--nbstep" in page else bundle.get("text/plain", "")


class _Lines(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._skip = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._skip = tag == "style" or ("class", "o") in attrs
        if tag in ("div", "tr", "li"):
            self.lines.append("")
        elif tag in ("td", "i", "small"):
            self.handle_data("  ")

    def handle_endtag(self, tag: str) -> None:
        self._skip = False
        if tag == "b":
            self.handle_data("   ")

    def handle_data(self, data: str) -> None:
        if not self._skip and self.lines:
            self.lines[-1] += data
