"""One kept entry in full, for `show` and the panel's detail pane: read from its header, never unpickled."""

from __future__ import annotations

import time
from dataclasses import dataclass

from nbstep.cache.records import Meta
from nbstep.commands.listing import Row, row_of
from nbstep.commands.tables import expiry_text
from nbstep.durations import age_text, date_text, duration_text, size_text
from nbstep.events import Place
from nbstep.runlog import Usage
from nbstep.words import MARKS, Status, plural, shown, shown_lines


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
        source: The thunk's source when it was kept.
    """

    id: str
    label: str
    status: Status
    headline: str
    facts: tuple[tuple[str, str], ...]
    preview: str
    traceback: str
    source: str


def detail_of(meta: Meta, usage: Usage | None = None, now: float | None = None) -> Detail:
    """Everything an entry's header says, worded."""
    row = row_of(meta, usage)
    error = meta.error
    if error:
        headline = f"{row.type}: {shown(error.message)}" if error.message else row.type
    else:
        headline = f"{row.type} {row.shape}".rstrip()
    return Detail(
        id=row.id,
        label=row.label,
        status=row.status,
        headline=headline,
        facts=tuple((name, text) for name, text in _facts(meta, row, time.time() if now is None else now) if text),
        preview=shown_lines(meta.preview),
        traceback=shown_lines(error.traceback).rstrip() if error else "",
        source=shown_lines(meta.facts.source or "").rstrip(),
    )


def _facts(meta: Meta, row: Row, now: float) -> list[tuple[str, str]]:
    facts = meta.facts
    age = age_text(max(0.0, now - row.created))
    took = f"took {duration_text(row.took_s)}" if row.took_s else ""
    kept = (f"{age} ({date_text(row.created, now)})", took, size_text(row.size_bytes))
    versions = [f"{shown(name)} {shown(version)}" for name, version in sorted(meta.packages.items())]
    return [
        ("kept", ", ".join(filter(None, kept))),
        ("old value", f"{row.message} since it was kept" if row.status == "old value" else ""),
        ("expires", expiry_text(row.expires_at, now)),
        ("from", place_text(facts.place)),
        ("workflow", shown(facts.workflow or "")),
        ("made from", ", ".join(map(shown, facts.uses))),
        ("used", _use_text(row, now)),
        ("python", " · ".join([shown(meta.python), *versions]) if meta.python else ""),
        ("signed by", "" if meta.trusted else f"{shown(meta.signer)}, not by you: a step does not use it"),
    ]


def _use_text(row: Row, now: float) -> str:
    if not row.hits:
        return ""
    last = f", last {age_text(max(0.0, now - row.last_used))}" if row.last_used else ""
    return f"{plural(row.hits, 'time')}{last}, saved {duration_text(row.saved_s)}"


def place_text(place: Place) -> str:
    """Where a step stands.

    >>> place_text(Place("churn.ipynb", 3, 2)), place_text(Place())
    ('churn.ipynb, In [3], line 2', '')
    """
    parts = [
        shown(place.notebook or ""),
        f"In [{place.cell}]" if place.cell is not None else "",
        f"line {place.line}" if place.line is not None else "",
    ]
    return ", ".join(part for part in parts if part)


def detail_text(detail: Detail) -> str:
    """The entry as text for a terminal or a notebook's output."""
    lines = [f"{MARKS[detail.status]} {detail.label}   {detail.status}", f"  {detail.headline}", ""]
    width = max((len(name) for name, _ in detail.facts), default=0)
    lines += [f"  {name:<{width}}  {text}" for name, text in detail.facts]
    for title, text in (("Value", detail.preview), ("Original traceback", detail.traceback), ("Source", detail.source)):
        if text:
            lines += ["", title, *(f"  {line}".rstrip() for line in text.split("\n"))]
    return "\n".join(lines)
