"""Of a run of very many steps, which calls are no longer known one by one: what is over becomes a few rows that count. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

from nbstep.keytable import KeyTable
from nbstep.notebook.folding import by_prefix, together
from nbstep.notebook.steplist import Call, CallId, StepList
from nbstep.notebook.steprows import Row, is_kept_failure, rows_of, spans_of

CALLS_AT_MOST: Final = 4000
_CALLS_STAY: Final = 2000
_FAILURES_STAY: Final = 1000  # of these; the first ones
_PREFIXES_AT_MOST: Final = 200  # of rows of one kind
_SPANS_AT_MOST: Final = 200

_Kind = tuple[object, ...]


def settle(state: StepList, now: float) -> StepList:
    """The state with at most so many calls of what is over; sums, prefixes and what is still under way stay as they were.

    A key that is asked again afterwards, and found, counts no second time. The states after this one share what it met.
    """
    if len(state.calls) <= CALLS_AT_MOST:
        return state
    going, staying = _split(state.calls.items(), len(state.calls) - _CALLS_STAY)
    met = KeyTable() if state.met is None else state.met
    news = rows_of(replace(state, calls=going, settled=()), now)
    for call in going.values():
        if call.key is not None:
            met.add(call.key)
    kinds: dict[_Kind, list[Row]] = {}
    for row in (*state.settled, *news):
        kinds.setdefault(_kind(row), []).append(row)
    settled: list[Row] = []
    for rows in kinds.values():
        for prefix, at in by_prefix((row.label for row in rows), _PREFIXES_AT_MOST).items():
            settled.append(_settled([rows[i] for i in at], prefix))
    return replace(state, calls=staying, settled=tuple(settled), met=met)


def _split(calls: Iterable[tuple[CallId, Call]], most: int) -> tuple[dict[CallId, Call], dict[CallId, Call]]:
    """The first calls that are over, at most so many, and all others."""
    going: dict[CallId, Call] = {}
    staying: dict[CallId, Call] = {}
    failures = 0
    for identity, call in calls:
        goes = call.phase == "done" and not call.refused and not call.interrupted and len(going) < most
        if goes and call.outcome == "error":
            failures += 1
            goes = failures > _FAILURES_STAY
        (going if goes else staying)[identity] = call
    return going, staying


def _kind(row: Row) -> _Kind:
    """Rows of one kind may become one: they are shown, counted and explained alike."""
    without_key = row.label if row.call.key is None else None
    return row.state, bool(row.depth), is_kept_failure(row), row.call.drift, row.size_bytes is None, without_key


def _settled(rows: Sequence[Row], prefix: str) -> Row:
    whole, first = together(rows, prefix), rows[0]
    if first.call.key is None:
        return replace(whole, folded=False, label=first.label)
    spans = merged((span for row in rows for span in spans_of(row)), _SPANS_AT_MOST)
    return replace(whole, folded=True, label=prefix, depth=first.depth, spans=spans)


def merged(spans: Iterable[tuple[float, float]], most: int) -> tuple[tuple[float, float], ...]:
    """Spans of time as at most so many that do not touch: the smallest gaps close first.

    >>> merged([(0.0, 2.0), (1.0, 2.0), (3.5, 1.0), (10.0, 1.0)], 2)
    ((0.0, 4.5), (10.0, 1.0))
    """
    apart: list[list[float]] = []
    for began_at, took_s in sorted(spans):
        if apart and began_at <= apart[-1][1]:
            apart[-1][1] = max(apart[-1][1], began_at + took_s)
        else:
            apart.append([began_at, began_at + took_s])
    gaps = sorted(after[0] - before[1] for before, after in pairwise(apart))
    widest = gaps[len(apart) - most - 1] if len(apart) > most else -1.0
    joined: list[list[float]] = []
    for began_at, ended_at in apart:
        if joined and began_at - joined[-1][1] <= widest:
            joined[-1][1] = ended_at
        else:
            joined.append([began_at, ended_at])
    return tuple((began_at, ended_at - began_at) for began_at, ended_at in joined)
