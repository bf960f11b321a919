"""What the step list says: rows, their words, the summary. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from nbstep.cache.secrets.redaction import key_text
from nbstep.durations import age_text, date_text, duration_text, lasted_s, size_text
from nbstep.events import Reason
from nbstep.frozen import record
from nbstep.notebook.steplist import Call, StepList
from nbstep.notes import one_line
from nbstep.words import MARKS, WHY_IN_SHORT, WHY_MISSED, first_sentence, plural, shown

State: TypeAlias = Literal[
    "failed", "failed (cached)", "interrupted", "old value", "waiting", "running", "still running", "with workers",
    "not awaited", "cached", "shared", "ran", "ended later", "no key", "missing", "would run",
]  # fmt: skip
Tone: TypeAlias = Literal["failed", "old", "busy", "plain", "kept"]

_MARK: Final[dict[State, str]] = {
    "failed": MARKS["failed"], "failed (cached)": MARKS["failed"], "old value": MARKS["old value"], "waiting": "…",
    "running": "▸", "still running": "▸", "with workers": "▸", "not awaited": "·", "no key": "○", "interrupted": "■",
    "missing": "·", "would run": "▸",
}  # fmt: skip
_TONE: Final[dict[State, Tone]] = {
    "failed": "failed", "failed (cached)": "failed", "old value": "old", "waiting": "busy", "running": "busy",
    "still running": "busy", "with workers": "busy", "missing": "busy", "would run": "busy", "cached": "kept", "shared": "kept",
}  # fmt: skip
_WORD: Final[dict[str, str]] = {"shared": "computed elsewhere"}
_NO_ENTRY: Final[frozenset[Reason]] = frozenset(
    {"new", "deleted", "evicted", "unreadable", "untrusted", "incompatible", "not-stored"}
)
_LONGEST_TEXT: Final = 300  # characters
_SIDE_BY_SIDE: Final = 0.8  # of the time that steps took; less than that says that several ran at once
_REASON_CHARS: Final = 100  # the line under the list says all of it


@record
class Row:
    """One line of the list: a key (or a line without one), with the call that says most of it.

    Attributes:
        label: The key, "line 14", or a folded "user:*".
        state: The word for what happened.
        call: The call that stands for the row.
        count: How many calls or, in a folded row, keys it stands for.
        depth: 1 for a step inside a step.
        spent_s: Seconds the thunks ran, or so far.
        saved_s: Seconds that kept entries saved.
        size_bytes: What is kept, None where nothing is.
        oldest: When the oldest entry used was kept; `youngest` likewise.
        folded: It stands for several keys.
        mapped: For how many items of a `step.map` it stands.
        told: A line under the list says why it was not kept.
        spans: Of a row that stands for calls which are no longer known one by one, when those ran: beginnings and seconds.
    """

    label: str
    state: State
    call: Call
    count: int = 1
    depth: int = 0
    spent_s: float = 0.0
    saved_s: float = 0.0
    size_bytes: int | None = None
    oldest: float | None = None
    youngest: float | None = None
    folded: bool = False
    mapped: int = 0
    told: bool = False
    spans: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Words:
    """Everything a row says on screen; `hint` is for hovering. Not yet escaped for HTML, but printable."""

    mark: str
    tone: Tone
    label: str
    count: str
    state: str
    detail: str
    time: str
    size: str
    age: str
    hint: str


def state_of(call: Call, ended: bool = False) -> State:
    """The word for what happened to one call; `ended` says that its cell has."""
    if call.phase == "asked":
        return "not awaited" if ended else "running"
    if call.phase == "waiting":
        return "waiting"
    if call.phase == "running" and call.elsewhere:
        return "with workers"
    if call.phase == "running":
        return "still running" if ended else "running"
    if call.phase == "planned" and call.source is None:
        return "missing" if call.reason in _NO_ENTRY else "would run"
    if call.source != "thunk":
        if call.outcome == "error":
            return "failed (cached)"
        return "old value" if call.drift else "shared" if call.source == "shared" else "cached"
    if call.outcome == "error":
        return "interrupted" if call.interrupted else "failed"
    if call.key is None:
        return "no key"
    return "ended later" if call.late else "ran"


def rows_of(state: StepList, now: float) -> list[Row]:
    """One row for every key and for every line that calls a step without key, in the order they were first asked.

    Of several calls under one key the one still under way stands for the row, else the last that ran its thunk, else
    the last: so a value computed in this run never counts as saved by it. A call that was refused has a row of its own,
    beside that of the calls which were not. Rows that stand for many come first.
    """
    groups: dict[tuple[str, object], list[Call]] = {}
    for call in state.calls.values():
        if state.is_settled(call) or (call.mapped and call.phase == "asked"):  # the latter did not start
            continue
        kind = "refused" if call.refused else "key"
        identity = (kind, call.key) if call.key is not None else ("line", (call.place.cell, call.place.line))
        groups.setdefault(identity, []).append(call)
    rows = [_row(calls, state, now) for calls in groups.values()]
    told = {finding.key for finding in state.findings if " was not kept: " in finding.text}
    if told:
        rows = [replace(row, told=True) if row.call.key in told else row for row in rows]
    return (
        _with_settled(_with_parents_first(rows, state), state.settled)
        if state.settled
        else _with_parents_first(rows, state)
    )


def _row(calls: Sequence[Call], state: StepList, now: float) -> Row:
    ended = state.ended is not None
    call = calls[0] if len(calls) == 1 else _spokesman(calls)  # most are alone
    without_key = call.key is None
    label = key_text(call.key) if call.key is not None else f"line {call.place.line}" if call.place.line else "no key"
    ran = [c for c in calls if c.source == "thunk" or c.phase == "running" or _would_run(c)]
    until = state.ended.at if state.ended else now
    return Row(
        label=label,
        state=state_of(call, ended),
        call=call,
        count=len(calls),
        depth=1 if all(c.parent is not None for c in calls) else 0,
        spent_s=sum([_spent(c, until) for c in (ran if without_key else ran[-1:])]),
        saved_s=0.0 if ran or call.outcome == "error" else call.saved_s or 0.0,
        size_bytes=call.size_bytes,
        oldest=call.created,
        youngest=call.created,
        mapped=call.mapped,
    )


def _spokesman(calls: Sequence[Call]) -> Call:
    busy = [c for c in calls if c.phase in ("running", "waiting")]
    ran = [c for c in calls if c.source == "thunk"]
    failed = [c for c in ran if c.outcome == "error"] if calls[0].key is None else []
    done = [c for c in calls if c.phase == "done"]
    return (busy or failed or ran or done or list(calls))[-1]


def _would_run(call: Call) -> bool:
    return call.phase == "planned" and call.source is None


def _spent(call: Call, until: float) -> float:
    if _would_run(call):
        return call.expected_s or 0.0
    if call.took_s is not None:
        return call.took_s
    runs_here = call.phase == "running" and not call.elsewhere
    return max(0.0, until - call.began_at) if runs_here and call.began_at is not None else 0.0


def _with_parents_first(rows: list[Row], state: StepList) -> list[Row]:
    """Steps inside a step directly follow the row of the outer one."""
    if not any(row.depth for row in rows):
        return rows
    below: dict[str | None, list[Row]] = {}
    for row in rows:
        if row.depth:
            outer = state.calls.get((row.call.run, row.call.parent)) if row.call.parent is not None else None
            below.setdefault(outer.key if outer else None, []).append(row)
    ordered: list[Row] = []

    def place(row: Row, depth: int) -> None:
        ordered.append(replace(row, depth=depth))
        for inner in below.pop(row.call.key, []):
            place(inner, depth + 1)

    for row in rows:
        if not row.depth:
            place(row, 0)
    return ordered + [row for rest in below.values() for row in rest]


def _with_settled(rows: Sequence[Row], settled: Sequence[Row]) -> list[Row]:
    """With the rows that stand for many before them; a line that calls steps without key has one row."""
    lines: dict[str, list[Row]] = {}
    for row in (*settled, *rows):
        if row.call.key is None:
            lines.setdefault(row.label, []).append(row)
    together = {label: _line_row(of_one) for label, of_one in lines.items()}
    keyed = [row for row in settled if row.call.key is not None]
    return [
        *keyed,
        *(row for row in (together.pop(row.label, None) if row.call.key is None else row for row in rows) if row),
        *together.values(),
    ]


def _line_row(rows: Sequence[Row]) -> Row:
    failed = [row for row in rows if row.state == "failed"]
    busy = [row for row in rows if row.call.phase != "done"]
    return replace(
        (busy or failed or rows)[-1], count=sum(row.count for row in rows), spent_s=sum(row.spent_s for row in rows)
    )


def words_of(row: Row, now: float, until: float | None = None) -> Words:
    """The one place that turns a row into words. `until` is when its cell ended, None while it runs."""
    call, state = row.call, row.state
    # Old values are folded by their cause, so that it is that of all of them; so is what could not be kept.
    detail = "" if row.folded and state != "old value" and not is_lost(row) else _detail(row, now, until)
    planned = call.phase == "planned"
    if row.saved_s:
        time = f"{'saves' if planned else 'saved'} {duration_text(row.saved_s)}"
    elif planned:
        time = f"about {duration_text(row.spent_s)}" if row.spent_s else ""
    elif call.refused or (state == "interrupted" and call.holder):
        time = ""
    elif row.spent_s or state in ("ran", "no key", "failed", "interrupted", "ended later"):
        time = duration_text(row.spent_s)
    else:
        time = ""
    return Words(
        mark=_MARK.get(state, MARKS["ok"]),
        tone=_TONE.get(state, "plain"),
        label=_short(row.label),
        count=f"×{row.count:,}" if row.count > 1 else "",
        state=_WORD.get(state, state),
        detail=_short(shown(detail)),
        time=time,
        size=size_text(row.size_bytes) if row.size_bytes is not None else "",
        age=_age(row, now),
        hint=shown(_hint(call, row)),
    )


def _detail(row: Row, now: float, until: float | None) -> str:
    call = row.call
    match row.state:
        case "failed" | "failed (cached)":
            return _error_text(call)
        case "old value":
            return call.drift or ""
        case "interrupted" if call.holder:
            return f"stopped waiting for {call.holder}, which goes on"
        case "interrupted":
            return "not kept: it runs again when it is next asked" if call.key else ""
        case "waiting":
            waited = duration_text(max(0.0, (until or now) - (call.began_at or now)))
            return f"{call.holder} has been computing it for {waited}; an interrupt ends the wait"
        case "running" if call.expected_s:
            left = call.expected_s - row.spent_s
            return f"about {duration_text(left)} left" if left >= 1 else f"took {duration_text(call.expected_s)} before"
        case "no key":
            return "not kept: add key="
        case "ran" | "ended later" if row.size_bytes is None:
            return (
                f"not kept: {one_line(call.not_kept, _REASON_CHARS)}"
                if call.not_kept and not row.folded and not row.told
                else "not kept"
            )
        case "ran" | "ended later" if call.tried:
            return f"after {plural(len(call.tried), 'failed attempt')}"
        case _:
            return ""


_WITH_REASON: Final[frozenset[State]] = frozenset(
    {"ran", "ended later", "failed", "running", "with workers", "missing", "would run"}
)


def _age(row: Row, now: float) -> str:
    if row.oldest is not None and row.youngest is not None:
        return age_range(now - row.youngest, now - row.oldest) if row.folded else age_text(max(0.0, now - row.oldest))
    if row.folded:
        return "new" if row.state == "ran" else ""
    if row.call.refused:
        return ""
    if row.state == "failed" and row.call.key and row.size_bytes is None:
        return "not kept"
    told = row.state in _WITH_REASON and row.call.key and row.call.reason
    return WHY_IN_SHORT[told] if told else ""


def age_range(youngest_s: float, oldest_s: float) -> str:
    """How old several entries are.

    >>> age_range(172800, 1641600), age_range(30, 7200), age_range(10, 11)
    ('2–19 d ago', '30 s – 2 h ago', '10–11 s ago')
    """
    low, high = (age_text(max(1.0, s)).removesuffix(" ago") for s in (youngest_s, oldest_s))
    if low == high:
        return f"{low} ago"
    (low_count, low_unit), (high_count, high_unit) = low.split(" "), high.split(" ")
    if low_unit == high_unit:
        return f"{low_count}–{high_count} {high_unit} ago"
    return f"{low} – {high} ago"


def _hint(call: Call, row: Row) -> str:
    if row.folded:
        return ""
    parts: list[str] = []
    if call.source == "thunk" and call.reason and not call.refused:
        parts.append(f"ran: {WHY_MISSED[call.reason]}")
    elif call.reason and _would_run(call):
        parts.append(f"would run: {WHY_MISSED[call.reason]}")
    elif call.reason:
        parts.append(WHY_MISSED[call.reason])
    if row.state == "with workers":
        parts.append("a worker process runs it, or will when it is free")
    if call.detail:
        parts.append(call.detail)
    if call.tried:
        parts.append(f"{plural(len(call.tried), 'attempt')} failed before, the last with {call.tried[-1]}")
    if call.not_kept:
        parts.append(f"not kept: {call.not_kept}")
    if call.error and row.state in ("failed", "failed (cached)") and _error_text(call) != call.error:
        parts.append(call.error)
    if call.created is not None:
        parts.append(f"kept {date_text(call.created)}")
    if call.source == "shared":
        elsewhere = call.holder is not None and ("(pid " in call.holder or call.holder == "another kernel")
        parts.append(f"computed once, by {call.holder if elsewhere else 'another task or thread'}")
    if call.place.line:
        parts.append(f"line {call.place.line}")
    return " · ".join(parts)


def _error_text(call: Call) -> str:
    """The user's errors in short; nbstep's own end with what to do."""
    return (call.error or "") if call.refused else first_sentence(call.error or "")


def _short(text: str, most: int = _LONGEST_TEXT) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def is_kept_failure(row: Row) -> bool:
    """Whether its failure is kept, so that the next run meets it again."""
    fresh = row.state == "failed" and row.call.key is not None and row.size_bytes is not None
    return row.state == "failed (cached)" or fresh


def is_lost(row: Row) -> bool:
    """Whether it ran, and could not be kept."""
    return row.state in ("ran", "ended later") and row.size_bytes is None and bool(row.call.not_kept)


def summary_of(rows: Sequence[Row], now: float, *, partial: bool = False, not_started: int = 0) -> str:
    """One line for the whole run: `12 steps: 9 cached (saved 4 m 10 s, oldest 23 d ago), 2 ran (31 s), 1 failed (cached)`.

    A key counts once, however often it was asked; times are those of the outer steps. `partial` says that there may be more,
    `not_started` how many more are known to come.
    """
    total = sum(counted(row) for row in rows) + not_started
    parts: list[str] = []
    for state, note in (
        ("cached", _saved_note), ("shared", None), ("ran", _spent_note), ("missing", _expected_note),
        ("would run", _expected_note), ("ended later", None), ("running", None),
        ("with workers", None), ("still running", None), ("waiting", None), ("not awaited", None), ("no key", _spent_note),
        ("old value", None), ("interrupted", None), ("failed", None), ("failed (cached)", None),
    ):  # fmt: skip
        alike = [row for row in rows if row.state == state]
        count = sum(counted(row) for row in alike)
        if not count:
            continue
        several = {"no key": "without key", "old value": "old values" if count > 1 else "old value"}
        name = several.get(state) or _WORD.get(state, state)
        said = note([row for row in alike if not row.depth], now) if note else ""
        unkept = sum(counted(row) for row in alike if is_lost(row))
        parts.append(f"{count:,} {name}{said}")
        if unkept:
            parts.append("not kept" if unkept == count else f"{unkept:,} of them not kept")
    parts += [f"{not_started:,} not started"] if not_started else []
    known = plural(total, "step") if not partial else f"{plural(total, 'step')} known" if total else "no step known"
    return known + (": " + ", ".join(parts) if parts else "")


def counted(row: Row) -> int:
    """How many steps a row counts as: a key is one, however often it was asked."""
    return row.count if row.folded or row.call.key is None else 1


def spans_of(row: Row) -> tuple[tuple[float, float], ...]:
    """When the work behind a row was done, in this run or when it was kept: beginnings and seconds."""
    if row.spans or row.call.key is None:
        return row.spans
    if row.saved_s:
        return (((row.oldest or 0.0) - row.saved_s, row.saved_s),)
    return ((row.call.began_at or 0.0, row.spent_s),) if row.spent_s else ()


def _saved_note(rows: Iterable[Row], now: float) -> str:
    rows = list(rows)
    oldest = min((row.oldest for row in rows if row.oldest is not None), default=None)
    saved = "saves" if any(row.call.phase == "planned" for row in rows) else "saved"
    saved_s = sum(row.saved_s for row in rows)
    # What was computed side by side is not waited for one by one: the sum alone would promise too much.
    spans = [span for row in rows for span in spans_of(row)]
    parts = [f"{saved} {duration_text(saved_s)}{side_by_side(saved_s, lasted_s(spans))}"] if saved_s else []
    if oldest is not None:
        parts.append(f"oldest {age_text(max(0.0, now - oldest))}")
    return f" ({', '.join(parts)})" if parts else ""


def _spent_note(rows: Iterable[Row], now: float) -> str:  # noqa: ARG001 - the notes share one signature
    rows = list(rows)
    spent_s = sum(row.spent_s for row in rows)
    spans = [span for row in rows for span in spans_of(row)]
    one_by_one_s = sum(row.spent_s for row in rows if row.call.key is None)
    return f" ({duration_text(spent_s)}{side_by_side(spent_s, one_by_one_s + lasted_s(spans))})"


def side_by_side(sum_s: float, lasting_s: float) -> str:
    """What follows the sum of what steps took where they lasted much less long.

    >>> side_by_side(64.0, 2.0), side_by_side(64.0, 60.0)
    (', side by side in 2.0 s', '')
    """
    return f", side by side in {duration_text(lasting_s)}" if lasting_s < _SIDE_BY_SIDE * sum_s else ""


def _expected_note(rows: Iterable[Row], now: float) -> str:  # noqa: ARG001 - the notes share one signature
    expected_s = sum(row.spent_s for row in rows)
    return f" (about {duration_text(expected_s)})" if expected_s else ""


def flags_of(state: StepList) -> list[str]:
    """The options in force that change what a reader should expect."""
    return [*([f"mode {state.mode}"] if state.mode != "normal" else []), *state.flags]
