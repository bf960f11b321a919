"""One line of the table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Removal:
    """A change of nbstep that a test must notice.

    Attributes:
        name: What it is called on the command line.
        says: What is wrong then; it follows "is seen to fail when".
        file: The file, inside `nbstep/`.
        old: What stands there exactly once.
        new: What takes its place.
        tests: Those that must fail, each by itself: the name of its file without `test_`, `::`, a part of its name, and in
            brackets which of its parameters.
    """

    name: str
    says: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
