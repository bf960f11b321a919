"""The saved table above the panel: escaped, capped, the same from run to run (N3, N7, T9)."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

from sample_rows import NOW, a_failure, a_row
from test_kernelside import HOSTILE

from nbstep.commands.listing import Totals
from nbstep.durations import clock_text
from nbstep.notebook.snapshot import MOST_ROWS, snapshot_html, snapshot_plain
from nbstep.words import shown

TOTALS = Totals("~/p/<b>", 2, 1, 1000, 0, 0, 0.0)


class Elements(HTMLParser):
    """The tags and the text of a document."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_n7_hostile_keys_and_messages_make_no_element_and_no_attribute() -> None:
    rows = [a_failure(key, label=shown(key), message=shown(key)) for key in HOSTILE]
    found = Elements(snapshot_html(rows, TOTALS, NOW))
    assert found.tags == {"div", "style", "p", "table", "thead", "tbody", "tr", "th", "td"}
    assert found.attributes == {"class", "style"}
    assert [key for key in HOSTILE if shown(key) not in found.text] == []


def test_t9_a_very_long_key_or_message_leaves_the_other_columns_in_sight() -> None:
    rows = [a_row("first:" + "k" * 4000 + ":last"), a_failure("user:999", message="m" * 5000)]
    html = snapshot_html(rows, TOTALS, NOW)
    cells = re.findall(r"<td style=\"(.*?)\">(.*?)</td>", html)
    assert max(len(text) for _, text in cells) <= 300
    assert [text for _, text in cells if text.startswith("first:k") and text.endswith("k:last")]
    assert {"overflow-wrap:anywhere" in style for style, text in cells if len(text) > 20} == {True}


def test_it_is_capped_and_says_how_many_more() -> None:
    rows = [a_row(f"k:{n}") for n in range(MOST_ROWS)]
    totals = replace(TOTALS, entries=MOST_ROWS + 1200)
    html, plain = snapshot_html(rows, totals, NOW), snapshot_plain(rows, totals.entries)
    assert html.count("<tr>") == MOST_ROWS + 1
    assert "… and 1,200 more, which are not saved: run the cell to see them" in html
    assert plain.splitlines()[-1] == "… and 1,200 more, which are not saved: run the cell to see them"


def test_its_head_says_of_which_day_it_is() -> None:
    assert f"/p/&lt;b&gt; · as of {clock_text(NOW)}</p>" in snapshot_html([a_row()], TOTALS, NOW)


def test_n3_the_plain_text_is_the_same_whatever_times_and_hits_are() -> None:
    before = [a_row("user:1"), a_failure("user:999")]
    after = [
        a_row("user:1", status="old value", message="f() was edited", created=5.0, hits=7, size_bytes=9),
        a_failure("user:999", took_s=9.0),
    ]
    assert snapshot_plain(before, 2) == snapshot_plain(after, 2) == "ok      user:1\nfailed  user:999"


def test_n3_the_html_stands_between_comments_that_one_pattern_removes() -> None:
    html = snapshot_html([a_row()], TOTALS, NOW)
    assert re.sub(r"(?s)<!--nbstep.*?nbstep-->", "", html) == ""


def test_an_empty_cache_says_when_something_will_appear() -> None:
    for text in (snapshot_html([], TOTALS, NOW), snapshot_plain([], 0)):
        assert "Nothing kept yet. A step with a key appears here when it has run." in text


def test_what_is_short_does_not_break_and_what_is_empty_everywhere_has_no_column() -> None:
    html = snapshot_html([a_row(size_bytes=155_000, took_s=0.065, hits=0)], TOTALS, NOW)
    assert "155\u00a0KB" in html
    assert "65\u00a0ms" in html
    assert ">Hits</th>" not in html
    assert ">1,200</td>" in snapshot_html([a_row(hits=1200)], TOTALS, NOW)


def test_without_styles_and_classes_it_is_a_table_that_says_what_failed() -> None:
    """GitHub takes both out."""
    html = snapshot_html([a_row("user:1"), a_failure("user:999")], TOTALS, NOW)
    bare = re.sub(r"(?s)<style>.*?</style>|<!--.*?-->| (?:style|class)=\"[^\"]*\"", "", html)
    table = bare[bare.index("<table>") : bare.index("</table>")]
    assert table.startswith("<table><thead><tr><th></th><th>Key</th><th>Type and shape</th><th>Size</th>")
    assert re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td>", table) == [
        ("✓\u00a0ok", "user:1"),
        ("✕\u00a0failed", "user:999"),
    ]
