"""What the steps of one run asked and got, as the text that its log holds: a row a step, of very many steps the last ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from nbstep.events import Place, Reason, StepAsked, StepFinished, StepHit, StepMissed
from nbstep.jsontext import number, or_null, truth
from nbstep.runlog.folder import MAX_FILE_BYTES

_STEPS_AT_MOST: Final = 100_000
_FAILURES_AT_MOST: Final = 10_000
_TEXT_AT_MOST: Final = MAX_FILE_BYTES - (1 << 20)  # characters of ASCII; findings and labels take less than the rest


@dataclass(slots=True)
class _Open:
    """A step that has not ended yet."""

    asked: StepAsked
    reason: Reason | None = None
    why: str | None = None


@dataclass(slots=True)
class _Asking:
    """What a call site asked for: its keys, while every one of them was new."""

    place: Place
    keys: list[str] = field(default_factory=list[str])
    found_again: bool = False


class Rows:
    """The steps of a run in the order they were asked, those that ended as text, which takes a third of the room.

    Where there are too many for a file, first goes what was seen of steps that drifted, then the older half of what ended well: the
    errors that a run met are wanted by `retry`.

    Args:
        written: Makes of a text what may be written.
    """

    def __init__(self, written: Callable[[str], str]) -> None:
        self._written = written
        self._rows: dict[int, str] = {}  # "" for one that has not ended
        self._open: dict[int, _Open] = {}
        self._failed: set[int] = set()
        self._seen: dict[int, str] = {}
        self._sites: dict[str, _Asking] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._rows)

    def ask(self, event: StepAsked) -> None:
        """A step with a key was called."""
        self._rows[event.step] = ""
        self._open[event.step] = _Open(event)
        if len(self._rows) > _STEPS_AT_MOST:
            self._shorten()

    def miss(self, event: StepMissed) -> None:
        """It has no entry that it may use."""
        step = self._open.get(event.step)
        if step is not None:
            step.reason, step.why = event.reason, None if event.detail is None else self._written(event.detail)

    def end(self, event: StepHit | StepFinished) -> None:
        """It ended."""
        step = self._open.pop(event.step, None)
        if step is None:
            return
        seen = event.seen if isinstance(event, StepHit) else None
        self._note_site(step, event)
        if isinstance(event, StepHit):  # a stale one has no drift: there is nothing in it to accept
            step.why = self._written(f"{event.drift}; the next run tries again") if event.stale else None
        text = self._row(step, event, fields=11 if step.why or seen else 10)
        self._rows[event.step] = text
        self._size += len(text)
        if seen is not None:
            self._seen[event.step] = json.dumps(seen)
            self._size += len(self._seen[event.step])
        if event.outcome == "error" and len(self._failed) < _FAILURES_AT_MOST:
            self._failed.add(event.step)
        if self._size > _TEXT_AT_MOST:
            self._shorten()

    def texts(self) -> list[str]:
        """A row of JSON for each step."""
        while True:
            rows = [self._text(step, row) for step, row in self._rows.items()]
            if sum(map(len, rows)) + 2 * len(rows) <= _TEXT_AT_MOST or not rows:
                return rows
            self._shorten(also_open=True)

    def only_new(self) -> dict[str, tuple[Place, list[str]]]:
        """The call sites of which every step ran because its key was new, each with its place and keys."""
        under_way = {step.asked.site for step in self._open.values()}
        return {
            site: (asking.place, asking.keys)
            for site, asking in self._sites.items()
            if not asking.found_again and site not in under_way
        }

    def _note_site(self, step: _Open, event: StepHit | StepFinished) -> None:
        site, key = step.asked.site, step.asked.key
        if site is None or key is None:
            return
        asking = self._sites.get(site)
        if asking is None:
            asking = self._sites[site] = _Asking(step.asked.place)
        if type(event) is not StepFinished or step.reason != "new":
            asking.found_again = True
            asking.keys.clear()
        elif not asking.found_again and len(asking.keys) < _STEPS_AT_MOST:
            asking.keys.append(key)

    def _text(self, step: int, row: str) -> str:
        if not row:
            return self._row(self._open[step], None, fields=11 if self._open[step].why else 10)
        seen = self._seen.get(step)
        return row if seen is None else f"{row[:-1]}, {seen}]"

    def _row(self, step: _Open, ended: StepHit | StepFinished | None, fields: int) -> str:
        asked, drift = step.asked, None
        got, outcome, at, took_s, saved_s, kept = "asked", "", asked.at, 0.0, 0.0, True
        if isinstance(ended, StepHit):
            got, outcome, at, saved_s = "hit", ended.outcome, ended.at, ended.saved_s
            drift = None if ended.drift is None or ended.stale else self._written(ended.drift)
        elif ended is not None:
            got = "refused" if ended.refused else "ran"
            outcome, at, took_s = ended.outcome, ended.at, ended.took_s
            kept = ended.outcome != "ok" or ended.size_bytes is not None
        text = (
            f'[{or_null(asked.key)}, "{got}", "{outcome}", {number(at)}, {number(took_s)}, {number(saved_s)}, '
            f"{or_null(step.reason)}, {or_null(drift)}, {or_null(asked.site)}, {truth(kept)}"
        )
        return f"{text}, {or_null(step.why)}]" if fields > 10 else text + "]"

    def _shorten(self, *, also_open: bool = False) -> None:
        """Makes room for as much again, nearly."""
        if self._seen:
            self._size -= sum(map(len, self._seen.values()))
            self._seen.clear()
            if self._size <= _TEXT_AT_MOST // 2 and len(self._rows) <= _STEPS_AT_MOST:
                return
        may_go = [step for step, row in self._rows.items() if (row or also_open) and step not in self._failed]
        for step in may_go[: len(may_go) // 2 + 1] if may_go else list(self._rows)[: len(self._rows) // 2 + 1]:
            self._size -= len(self._rows.pop(step))
            self._failed.discard(step)
        self._rows = dict(self._rows)  # one that only lost some stays as large as it was
