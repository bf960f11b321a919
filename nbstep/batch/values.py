"""The values of a `step.map`, or its first failure, which says whose it is and how many others there are."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, Final

from nbstep.batch.keying import Keyed
from nbstep.cache.secrets.redaction import key_text
from nbstep.foreign import interrupts
from nbstep.notes import add_note, one_line
from nbstep.result import Err, Ok, raised_by
from nbstep.words import plural

_LIMIT: Final = 100  # characters of a key


def values(results: list[Any], work: Iterable[Keyed]) -> list[Any]:
    """What the steps gave, without their boxes, in the same list.

    Args:
        results: Of each item its value, or that in an `Ok`, or an `Err`; changed in place.
        work: The items. A list tells the failing one's key; of anything else the note has its number alone.

    Raises:
        BaseException: The first failure, with a note.
    """
    __tracebackhide__ = True
    for at, result in enumerate(results):
        if isinstance(result, Err):
            _note(result, at, results, work)
        if isinstance(result, Ok | Err):
            results[at] = result.unwrap()
    return results


def _note(failure: Err[Any], at: int, results: list[Any], work: Iterable[Keyed]) -> None:
    raised = raised_by(failure)
    if not isinstance(raised, BaseException):
        return
    key = work[at].key if isinstance(work, list) else None
    others = sum(isinstance(result, Err) for result in itertools.islice(results, at + 1, None))
    try:
        add_note(raised, failure_text(at, key, others, len(results)))
    except interrupts():
        raise
    except BaseException:  # noqa: BLE001 - the user's own class; its error is raised all the same
        return


def failure_text(at: int, key: str | None, others: int, count: int) -> str:
    """The note of the failure that a map raises.

    Args:
        at: Its place, from 0.
        key: Its key, where that is known.
        others: How many items after it failed, too.
        count: Of how many items.

    >>> failure_text(0, "page:0", 3, 10)
    '  step.map: item 1 of 10 failed (page:0), and 3 others.'
    >>> failure_text(6, None, 1, 10), failure_text(6, None, 0, 10)
    ('  step.map: item 7 of 10 failed, and 1 other.', '  step.map: item 7 of 10 failed, no other.')
    """
    named = "" if key is None else f" ({one_line(key_text(key), _LIMIT)})"
    more = f"and {plural(others, 'other')}" if others else "no other"
    return f"  step.map: item {at + 1:,} of {count:,} failed{named}, {more}."
