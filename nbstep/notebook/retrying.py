"""`%nbstep retry`, and lines about the project's cache, after a cell whose cache is another one. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Final

from nbstep.cache.secrets.redaction import redact_text
from nbstep.notes import words_text

_RETRY: Final = ({"retry"}, {"retry", "--json"})
_OF_A_CACHE: Final = (["ls"], ["show"], ["rm"], ["undo"])


@dataclass(frozen=True, slots=True)
class LastRun:
    """The run of the last cell that asked for a step.

    Attributes:
        line: The first line of its cell: options can be added to it.
        folders: Where commands find the caches that it used: "" for the project's, None where they cannot.
        failed_in: The same of those whose kept errors it met.
        met: The keys of those errors, by the `scope` of their cache.
    """

    line: str
    folders: tuple[str | None, ...]
    failed_in: tuple[str | None, ...]
    met: Mapping[Hashable, frozenset[str]] = field(default_factory=dict[Hashable, frozenset[str]])


def retrying(line: str) -> str:
    """The first line of a cell with which it runs kept errors again, whatever its cache.

    >>> retrying("%%workflow users"), retrying("%%workflow --retry-errors")
    ('%%workflow users --retry-errors', '%%workflow --retry-errors')
    >>> retrying("%%workflow --cache redis://ada:s3cret@host")
    'add --retry-errors to the first line of the cell'
    """
    if redact_text(line) != line:  # a cache's URL with its password
        return "add --retry-errors to the first line of the cell"
    return line if "--retry-errors" in line.split() else f"{line} --retry-errors"


def commands_of(line: str, last: LastRun | None) -> tuple[list[str], str]:
    """What `%nbstep LINE` runs, and what is to be said beside: `retry` alone is for the errors of the last cell, where they are.

    Others are of the project's cache. What is said beside `ls` is where the last cell keeps, if that is elsewhere.

    >>> commands_of("ls", None), commands_of("retry", LastRun("%%workflow", ("", "../b"), ("../b",)))
    ((['ls'], ''), (['retry', 'retry --cache ../b'], ''))
    >>> commands_of("ls", LastRun("%%workflow --cache ../b", ("../b",), ()))
    (['ls'], 'The last cell keeps its steps elsewhere: %nbstep ls --cache ../b')
    """
    if last is None or set(line.split()) not in _RETRY:
        return [line], "" if last is None or line.split()[:1] != ["ls"] else elsewhere(line, last)
    project: list[str | None] = [""] if "" in last.folders else []
    places = dict.fromkeys([*project, *last.failed_in])
    options = " --json" if "--json" in line else ""
    commands = [
        words_text("retry", [], in_notebook=True, folder=place).removeprefix("%nbstep ") + options
        for place in places
        if place is not None
    ]
    if None in places:
        return (
            commands,
            f"No command finds the cache of the last cell by itself. Its errors run again with: {retrying(last.line)}",
        )
    return commands, "" if commands else "The last cell met no error that is kept."


def elsewhere(line: str, last: LastRun | None) -> str:
    """Where the last cell keeps, beside a line about the project's cache that it did not use; "" where there is nothing to say.

    >>> elsewhere("rm user:1", LastRun("%%workflow --cache ../b", ("../b",), ()))
    'The last cell keeps its steps elsewhere: %nbstep rm --cache ../b user:1'
    """
    words = line.split()
    place = None if last is None else next((one for one in last.folders if one), None)
    is_of_project = words[:1] in _OF_A_CACHE and not any(
        word.startswith(("--cache", "--json", "--help")) for word in words
    )
    if last is None or place is None or "" in last.folders or not is_of_project:
        return ""
    asked = words_text(words[0], [], in_notebook=True, folder=place)
    return f"The last cell keeps its steps elsewhere: {' '.join([asked, *words[1:]])}"
