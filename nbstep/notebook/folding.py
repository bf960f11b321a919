"""Long step lists fold: what went well by state and prefix of its keys, what needs a look stays. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from nbstep.notebook.steprows import Row, State, counted, is_lost

# Rows of these states stay on their own in a folded list, in this order; the rest folds by prefix.
_STAYS: Final[tuple[State, ...]] = (
    "failed", "failed (cached)", "interrupted", "old value", "waiting", "running", "still running", "not awaited",
)  # fmt: skip
_FOLDS: Final[tuple[State, ...]] = (
    "with workers",
    "missing",
    "would run",
    "cached",
    "shared",
    "ran",
    "ended later",
    "no key",
)

_BUSY: Final[frozenset[State]] = frozenset({"waiting", "running", "still running"})

FOLD_ABOVE: Final = 40  # rows
_MOST_ALIKE: Final = 25  # rows of one state that stay on their own in a folded list
_MOST_BUSY: Final = 5  # that are under way: those asked first, as what hangs is among them
_MOST_OF_A_CAUSE: Final = 3  # old values
_MOST_PREFIXES: Final = 20  # folded rows of one state


def prefix_of(label: str) -> str:
    """What a row folds into: the key up to its last separator, or up to the number it ends in.

    >>> prefix_of("events:page:9"), prefix_of("cv:lr=0.1"), prefix_of("sales_2013"), prefix_of("model")
    ('events:page:*', 'cv:lr=*', 'sales_*', '*')
    """
    match = re.match(r"(.*[:/=])[^:/=]*|(.*?)\d+", label, re.DOTALL)
    whole = match is not None and match.end() == len(label)
    return ((match[1] or match[2] or "") if match and whole else "") + "*"


def fold_labels(labels: Iterable[str], most: int) -> list[tuple[str, list[int]]]:
    """Groups labels under at most `most` prefixes: the longest shared ones, else the first part, else `*` for all.

    Those without a prefix keep their names while that is not too many. What was folded before folds on as if it had not been.

    Returns:
        Each prefix with the positions of its labels; a label alone under its prefix keeps its own name.
    """
    named = list(labels)
    return [(named[at[0]] if len(at) == 1 else prefix, at) for prefix, at in by_prefix(named, most).items()]


def by_prefix(labels: Iterable[str], most: int) -> dict[str, list[int]]:
    """The positions of labels by the prefixes that `fold_labels` tells of, also where one is alone."""
    named = list(labels)
    groups: dict[str, list[int]] = {}
    for shorten in (_prefix_or_all, prefix_of, _first_part, _nothing):
        groups = {}
        for at, label in enumerate(named):
            groups.setdefault(shorten(label), []).append(at)
        if len(groups) <= most:
            break
    return groups


def _prefix_or_all(label: str) -> str:
    prefix = prefix_of(label)
    return label if prefix == "*" else prefix


def _first_part(label: str) -> str:
    return re.split(r"[:/=]|\d", label, maxsplit=1)[0].rstrip("*") + "*"


def _nothing(label: str) -> str:  # noqa: ARG001 - the shortest prefix of all
    return "*"


def fold(rows: Sequence[Row], above: int = FOLD_ABOVE, coming: int = 0) -> list[Row]:
    """At most about `above` rows: what went well folds by state and prefix, what needs a look stays and comes first.

    `coming` says how many are still to come: a list that will be folded is from the beginning, or it would grow and shrink.
    """
    if len(rows) + coming <= above:
        return list(rows)
    kept: list[Row] = []
    for state in _STAYS:
        alike = sorted((row for row in rows if row.state == state), key=lambda row: row.folded)
        alike = _by_cause(alike) if state == "old value" else alike
        most = _MOST_BUSY if state in _BUSY else _MOST_ALIKE
        kept += alike[:most]
        if rest := alike[most:]:
            kept += [together(rest, next(iter(by_prefix((row.label for row in rest), 1))))]
    for state in _FOLDS:
        alike = [row for row in rows if row.state == state]
        for lost in (True, False):  # what could not be kept is told apart
            these = [row for row in alike if is_lost(row) is lost]
            for prefix, at in fold_labels((row.label for row in these), _MOST_PREFIXES):
                kept.append(together([these[i] for i in at], prefix))
    return kept


def _by_cause(rows: Sequence[Row]) -> list[Row]:
    """Old values of one cause fold by prefix, too: the same words beside each of them say nothing more."""
    causes: dict[str | None, list[Row]] = {}
    for row in rows:
        causes.setdefault(row.call.drift, []).append(row)
    found: list[Row] = []
    for alike in causes.values():
        if len(alike) <= _MOST_OF_A_CAUSE:
            found += alike
            continue
        for prefix, at in fold_labels((row.label for row in alike), _MOST_PREFIXES):
            found.append(together([alike[i] for i in at], prefix))
    return found


def together(rows: Sequence[Row], label: str) -> Row:
    """One row for several of one state; a row alone stays as it is."""
    if len(rows) == 1:
        return rows[0]
    sizes = [row.size_bytes for row in rows if row.size_bytes is not None]
    return Row(
        label=label,
        state=rows[0].state,
        call=rows[0].call,
        count=sum(map(counted, rows)),
        spent_s=(max if rows[0].state in _BUSY else sum)([row.spent_s for row in rows]),
        saved_s=sum(row.saved_s for row in rows),
        size_bytes=sum(sizes) if sizes else None,
        oldest=min((row.oldest for row in rows if row.oldest is not None), default=None),
        youngest=max((row.youngest for row in rows if row.youngest is not None), default=None),
        folded=True,
        mapped=sum(row.mapped for row in rows),
    )
