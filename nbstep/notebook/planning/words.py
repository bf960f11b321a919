"""What is said under a plan: what a run would take, as far as that is known, and what only a run tells. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nbstep.durations import duration_text
from nbstep.notebook.steprows import side_by_side
from nbstep.words import keys_text, plural, shown

NOT_RUN_HERE = "This cell has not run here before: listed are the keys that its text gives"


@dataclass(frozen=True, slots=True)
class Lines:
    """Some lines of a cell."""

    at: tuple[int, ...]

    def __bool__(self) -> bool:
        return bool(self.at)

    def text(self, one: str, many: str) -> str:
        """The lines with what they do.

        >>> Lines((2,)).text("has no key", "have no key"), Lines((2, 5, 2, 9)).text("has no key", "have no key")
        ('line 2 has no key', 'lines 2, 5 and 9 have no key')
        """
        numbers = [str(line) for line in sorted(set(self.at))]
        if len(numbers) == 1:
            return f"line {numbers[0]} {one}"
        return f"lines {_listed(numbers)} {many}"


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known of what a run would take.

    Attributes:
        timed_s: How long the steps took that would run.
        lasting_s: The same where some of them run side by side; None where none does.
        timed: How many they are.
        untimed: How many would run beside them.
        made_running: Where keys are made that only a run tells.
        without_key: Where steps without key are asked.
        not_compared: Where steps stand of which only a run tells whether they changed, and changed ones run again.
        not_compared_cell: The cell itself is such a step.
        unchecked: The keys whose values a run would give back though it cannot read their code.
        listed_again: Of the keys that only a run tells those of the last run are listed.
        elsewhere: How many of those no call in the cell asks.
        edited: The cell was edited since its last run.
        before: How many such keys it asked in that, and how many of them are kept.
    """

    timed_s: float = 0.0
    lasting_s: float | None = None
    timed: int = 0
    untimed: int = 0
    made_running: Lines = Lines(())
    without_key: Lines = Lines(())
    not_compared: Lines = Lines(())
    not_compared_cell: bool = False
    unchecked: tuple[str, ...] = ()
    listed_again: bool = False
    elsewhere: int = 0
    edited: bool = False
    before: tuple[int, int] = (0, 0)


def notes_of(outlook: Outlook, *, ran_before: bool, any_step: bool) -> tuple[str, ...]:
    """The lines under a plan."""
    lines = [
        _cost(outlook) if any_step else "No step stands in this cell: what functions that it calls ask is not known"
    ]
    if outlook.unchecked:
        keys = keys_text([shown(key) for key in outlook.unchecked])
        lines.append(
            f"{keys}: whether code or inputs changed cannot be checked, so what is kept would be given back unchecked"
        )
    if outlook.edited and outlook.before[0]:
        lines.append(_edited(outlook))
    if not ran_before:
        lines.append(NOT_RUN_HERE if any_step else "This cell has not run here before")
    return tuple(lines)


def _cost(outlook: Outlook) -> str:
    """What a run would take.

    >>> _cost(Outlook())
    'A run would take next to nothing'
    >>> _cost(Outlook(timed_s=64.0, lasting_s=2.0, timed=64))
    'A run would take about 1 m 4 s, side by side in 2.0 s'
    >>> _cost(Outlook(timed_s=0.6, timed=2, untimed=1))
    'A run would take about 0.6 s or more: 1 step was never timed'
    >>> _cost(Outlook(made_running=Lines((3,)), listed_again=True))
    'A run would take next to nothing if it asks what it asked in its last run: line 3 makes its keys while it runs'
    """
    unknown: list[str] = []
    if outlook.untimed:
        unknown.append(plural(outlook.untimed, "step was never timed", "steps were never timed"))
    if outlook.without_key:
        unknown.append(outlook.without_key.text("has no key and runs each time", "have no key and run each time"))
    conditions: list[str] = []
    asked = [outlook.made_running.text("makes its keys while it runs", "make their keys while they run")]
    asked = asked if outlook.made_running else []
    if outlook.elsewhere:
        asked.append(plural(outlook.elsewhere, "key is", "keys are") + " asked by functions that it calls")
    if asked and outlook.listed_again:
        conditions.append(f"it asks what it asked in its last run: {_listed(asked)}")
    else:
        unknown += asked
    if outlook.not_compared:
        conditions.append(f"nothing changed for {outlook.not_compared.text('', '').strip()}, which only a run sees")
    elif outlook.not_compared_cell:
        conditions.append("nothing changed, which only a run sees")
    if_so = f" if {' and if '.join(conditions)}" if conditions else ""
    lasting_s = outlook.timed_s if outlook.lasting_s is None else outlook.lasting_s
    about = f"about {duration_text(outlook.timed_s)}{side_by_side(outlook.timed_s, lasting_s)}"
    if unknown:
        known = f"A run would take {about} or more" if outlook.timed else ""
        return f"{known or 'How long a run would take is not known'}: {_listed([*unknown, *(asked if if_so else [])])}"
    took = about if outlook.timed else "next to nothing"
    return f"A run would take {took}{if_so}"


def _edited(outlook: Outlook) -> str:
    """What is said of a cell that was edited since.

    >>> _edited(Outlook(made_running=Lines((2,)), before=(5, 5)))
    'The cell was edited since its last run: which keys line 2 asks now is not known; in its last run it asked 5, all kept'
    """
    asked, kept = outlook.before
    state = "all kept" if kept == asked else f"{kept:,} of them kept" if kept else "none of them kept"
    if not outlook.made_running:
        more = plural(asked, "other key", "other keys")
        return (
            f"The cell was edited since its last run, which asked {more}, {state}: whether it still does is not known"
        )
    unknown = f"which keys {outlook.made_running.text('asks', 'ask')} now is not known"
    return f"The cell was edited since its last run: {unknown}; in its last run it asked {asked:,}, {state}"


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))
