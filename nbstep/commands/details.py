"""One kept entry in full, for `show` and the panel's detail pane: read from its header, never unpickled."""

from __future__ import annotations

import html
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast

from nbstep.cache.drifted import Drifted
from nbstep.cache.records import Meta
from nbstep.cache.secrets.redaction import key_text
from nbstep.cache.thumbnails import is_thumbnail
from nbstep.commands.descent import made_from_text
from nbstep.commands.listing import Row, row_of
from nbstep.commands.tables import expiry_text, hanging
from nbstep.durations import age_text, date_text, duration_text, size_text
from nbstep.events import Reason
from nbstep.runlog import Usage
from nbstep.words import (
    MARKS,
    WHY_MISSED,
    Status,
    first_sentence,
    fit,
    keys_text,
    place_text,
    plural,
    shown,
    shown_lines,
    text_width,
)

Tone: TypeAlias = Literal["plain", "added", "removed"]

_RESET: Final = "\x1b[0m"
_COLOURS: Final[dict[Tone, str]] = {"added": "\x1b[32m", "removed": "\x1b[31m"}
# As in the panel; the text keeps its colour, which is legible in every theme.
_STYLES: Final[dict[Tone, str]] = {
    "added": "background:color-mix(in srgb,var(--jp-success-color1,#388e3c) 20%,transparent)",
    "removed": "background:color-mix(in srgb,var(--jp-error-color1,#d32f2f) 18%,transparent)",
}
# As the text outputs beside it.
_PRE: Final = "margin:0;padding:0;font-size:var(--jp-code-font-size,13px);line-height:var(--jp-code-line-height,1.3)"
_CELL_FILE: Final = re.compile(r'\bFile "(?:<ipython-input-[^"\n]*>|[^"\n]*[/\\]ipykernel_\d+[/\\]\d+\.py)", line\b')
_PACKAGE_FILE: Final = re.compile(r'\bFile "[^"\n]*[/\\](?:site|dist)-packages[/\\]([^"\n]+)"')


@dataclass(frozen=True, slots=True)
class Detail:
    """What there is to read about an entry; all text is ready to be shown.

    Attributes:
        id: As in `Row`.
        label: The key as shown.
        status: The word on screen.
        headline: "DataFrame 8,120 × 14", "httpx.HTTPStatusError: 404 Not Found".
        facts: Name and text, one line each.
        preview: Text made when the value was kept.
        traceback: The original traceback of a kept error.
        source: The thunk's source when it was kept; empty where `differences` tells it.
        inputs: The inputs that count, each with what it was and is, and whether it changed.
        differences: How the source of what was edited since differs: for each part its title, the lines of a diff, and
            whether that is one; what cannot be told is said in their place.
        thumbnail: A small picture of the value, PNG in base64; "" for none.
        ages: Of the facts that say how long ago something was: the name, the text before the age, that moment in seconds
            since the epoch, and the text after it; so a page keeps them right while it is open.
    """

    id: str
    label: str
    status: Status
    headline: str
    facts: tuple[tuple[str, str], ...]
    preview: str
    traceback: str
    source: str
    inputs: tuple[tuple[str, str, bool], ...] = ()
    differences: tuple[tuple[str, str, bool], ...] = ()
    thumbnail: str = ""
    ages: tuple[tuple[str, str, float, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Aged:
    """A text that says how long ago `moment` was."""

    before: str
    moment: float
    after: str

    def text(self, now: float) -> str:
        return f"{self.before}{age_text(max(0.0, now - self.moment))}{self.after}"


def detail_of(
    meta: Meta,
    usage: Usage | None = None,
    now: float | None = None,
    drifted: Drifted | None = None,
    went_into: Sequence[str] = (),
) -> Detail:
    """Everything an entry's header says, worded.

    Args:
        meta: Its metadata.
        usage: What the run log says of its key.
        now: Seconds since the epoch.
        drifted: What its last look-up found changed.
        went_into: The keys that it went into, as the headers of those say.
    """
    # Fingerprints import asyncio: 60 ms that a shell's `ls` does without.
    from nbstep.drift.thennow import differences, inputs_then_and_now, step_title

    row, now = row_of(meta, usage), time.time() if now is None else now
    error = meta.error
    drifted = drifted if drifted is not None and drifted.is_news(meta.created, meta.facts) else None
    changed = differences(meta.facts, drifted) if meta.trusted else ()
    told = any(one.is_diff and one.title == step_title(meta.facts) for one in changed)
    traceback = shown_lines(_named_files(error.traceback)).rstrip() if error else ""
    if error:
        message = first_sentence(error.message) if traceback else error.message  # which ends with all of it
        headline = f"{row.type}: {shown(message)}" if message else row.type
    else:
        headline = f"{row.type} {row.shape}".rstrip()
    facts = [(name, said) for name, said in _facts(meta, row, usage, now, went_into) if said]
    return Detail(
        id=row.id,
        label=row.label,
        status=row.status,
        headline=headline,
        facts=tuple((name, said.text(now) if isinstance(said, _Aged) else said) for name, said in facts),
        preview=shown_lines(meta.preview),
        traceback=traceback,
        source="" if told else shown_lines(meta.facts.source or "").rstrip(),
        inputs=tuple(
            (shown(name), shown(text), changed)
            for name, text, changed in inputs_then_and_now(meta.facts, drifted, now)
            if meta.trusted
        ),
        differences=tuple((shown(title), shown_lines(text), is_diff) for title, text, is_diff in changed),
        thumbnail=meta.thumbnail if meta.trusted and is_thumbnail(meta.thumbnail) else "",
        ages=tuple(
            (name, said.before, said.moment, said.after)
            for name, said in facts
            if isinstance(said, _Aged) and math.isfinite(said.moment)  # JSON has no infinity
        ),
    )


def _named_files(traceback: str) -> str:
    r"""A traceback with the files that people know: not the temporary one of a cell, nor where packages are installed.

    >>> print(_named_files('  File "/tmp/ipykernel_7/123.py", line 3, in f\n  File "/v/site-packages/httpx/a.py", line 8, in g'))
      Cell, line 3, in f
      File "httpx/a.py", line 8, in g
    """
    return _PACKAGE_FILE.sub(r'File "\1"', _CELL_FILE.sub("Cell, line", traceback))


def _facts(
    meta: Meta, row: Row, usage: Usage | None, now: float, went_into: Sequence[str]
) -> list[tuple[str, str | _Aged]]:
    facts = meta.facts
    took = f"took {duration_text(row.took_s)}" if row.took_s else ""
    kept = ", ".join(filter(None, (f" ({date_text(row.created, now)})", took, size_text(row.size_bytes))))
    accepted = ", as made by the code and inputs of that time"
    versions = [f"{shown(name)} {shown(version)}" for name, version in sorted(meta.packages.items())]
    return [
        ("kept", _Aged("", row.created, kept)),
        ("old value", row.message if row.status == "old value" else ""),
        ("accepted", "" if facts.accepted is None else _Aged("", facts.accepted, accepted)),
        ("last asked", "" if usage is None else _last_look_up(usage, row.status)),
        _expiry(row.expires_at, now),
        ("from", place_text(facts.place)),
        ("workflow", key_text(facts.workflow or "")),
        ("made from", made_from_text(facts)),
        ("went into", keys_text([key_text(key) for key in went_into])),
        ("used", _use_text(row)),
        ("python", " · ".join([shown(meta.python), *versions]) if meta.python else ""),
        (
            "signed by",
            ""
            if meta.trusted
            else f"{shown(meta.signer)}, not by you: a step does not use it. Accept it: nbstep trust",
        ),
    ]


def _expiry(expires_at: float | None, now: float) -> tuple[str, str | _Aged]:
    if expires_at is not None and expires_at <= now:
        return "expired", _Aged("", expires_at, "")
    return "expires", expiry_text(expires_at, now)


def _last_look_up(usage: Usage, status: Status) -> str | _Aged:
    """What the last look-up of the key got, and why: "3 d ago; it ran: its entry was older than the ttl"."""
    if usage.last_got == "hit":
        got = "what is kept was used" + (" all the same" if status == "old value" else "")
        got += f", as its {shown(usage.last_why)}" if usage.last_why and status == "ok" else ""
    elif usage.last_got == "ran":
        why = WHY_MISSED.get(cast("Reason", usage.last_reason), shown(usage.last_reason or ""))
        more = f" ({shown(usage.last_why)})" if usage.last_why else ""
        got = f"it ran: {why}{more}" if why else "it ran"
    elif usage.last_got == "refused":
        got = "its step ended with an error before it ran, and what is kept was not used"
    else:
        return ""
    return _Aged("", usage.last_used, f"; {got}")


def _use_text(row: Row) -> str | _Aged:
    if not row.hits:
        return ""
    times, saved = plural(row.hits, "time"), f", saved {duration_text(row.saved_s)}"
    return _Aged(f"{times}, last ", row.last_used, saved) if row.last_used else times + saved


def detail_text(detail: Detail, width: int | None = None, *, colour: bool = False) -> str:
    """The entry as text for a terminal or a notebook's output: sentences are broken at its `width`, tables cut."""
    return "\n".join(
        f"{_COLOURS[tone]}{text}{_RESET}" if colour and tone in _COLOURS else text
        for tone, text in _lines(detail, width)
    )


def detail_html(detail: Detail, *more: str) -> str:
    """The same as HTML, with the lines of a diff in colour; `more` are lines that follow."""
    lines = [
        f'<span style="{_STYLES[tone]}">{html.escape(text)}</span>' if tone in _STYLES else html.escape(text)
        for tone, text in _lines(detail)
    ]
    return f'<pre style="{_PRE}">' + "\n".join([*lines, *map(html.escape, more)]) + "</pre>"


def _lines(detail: Detail, width: int | None = None) -> list[tuple[Tone, str]]:
    lines = _plain(f"{MARKS[detail.status]} {detail.label}   {detail.status}", *_broken(detail.headline, width), "")
    lines += _plain(*_aligned(detail.facts, width))
    if detail.inputs:
        lines += _plain("", "Inputs", *_aligned([(name, text) for name, text, _ in detail.inputs], width))
    for title, text, is_diff in detail.differences:
        lines += _plain("", f"Source then and now: {title}")
        lines.extend((_tone(line, is_diff), f"  {line}".rstrip()) for line in text.split("\n"))
    for title, text in (
        ("Value", _cut(detail.preview, width)),
        ("Original traceback", detail.traceback),
        ("Source", detail.source),
    ):
        if text:
            lines += _plain("", title, *(f"  {line}".rstrip() for line in text.split("\n")))
    return lines


def _plain(*lines: str) -> list[tuple[Tone, str]]:
    return [("plain", line) for line in lines]


def _aligned(named: Sequence[tuple[str, str]], width: int | None) -> list[str]:
    names = max((text_width(name) for name, _ in named), default=0)
    return [
        part for name, text in named for part in _broken(text, width, f"  {name}{' ' * (names - text_width(name))}  ")
    ]


def _broken(text: str, width: int | None, head: str = "  ") -> list[str]:
    line = head + text
    return [line] if width is None or text_width(line) <= width else hanging(head, text, width)


def _cut(preview: str, width: int | None) -> str:
    """A table's lines at most as wide as the screen, on which they would fall apart; one line alone is broken there."""
    lines = preview.split("\n")
    if width is None or len(lines) == 1:
        return preview
    return "\n".join(fit(line, width - 2).rstrip() if text_width(line) > width - 2 else line for line in lines)


def _tone(line: str, is_diff: bool) -> Tone:
    if not is_diff:
        return "plain"
    return "added" if line.startswith("+") else "removed" if line.startswith("-") else "plain"
