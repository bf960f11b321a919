"""What is said of the files that a step names as its inputs, where one of them does not count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from nbstep.cache.records import Meta
from nbstep.cache.trust import SigningKey
from nbstep.drift.inputs import Inputs, changed_files, missing_files
from nbstep.drift.reading import unknown_files


class FileLine(NamedTuple):
    """One thing that is said.

    Attributes:
        kind: That of the finding.
        path: The file.
        text: What follows the file's name; `{rm}` is the command that deletes what is kept.
    """

    kind: str
    path: str
    text: str


def lines_of_computed(
    before: Inputs, after: Inputs, named: Sequence[str], *, elsewhere: bool = False
) -> Iterator[FileLine]:
    """Of what was just computed, between two readings of its inputs; where that was `elsewhere` the file may be another one."""
    perhaps = ", or is another one where its worker is" if elsewhere else ""
    for path in changed_files(before, after, named):
        yield FileLine(
            "file-changed", path,
            f"changed while its step ran{perhaps}, so that it counts as no input: leave it out of files= if the step writes it; "
            "else delete what is kept, and run the step when the file is whole: {rm}",
        )  # fmt: skip
    for path in missing_files(after, named):
        yield FileLine(
            "file-missing", path, "is not there: name each file itself, from the folder that the step runs in"
        )


def lines_of_kept_elsewhere(before: Inputs, kept: Mapping[str, str], named: Sequence[str]) -> Iterator[FileLine]:
    """Of what another process kept, by the inputs of the entry: what it leaves out changed meanwhile."""
    left = {name: text for name, text in before.texts.items() if name in kept}
    return lines_of_computed(before, before._replace(texts=left), named, elsewhere=True)


def lines_of_found(meta: Meta, key: SigningKey, named: Sequence[str]) -> Iterator[FileLine]:
    """Of an entry that is used; `key` is the user's."""
    for path in unknown_files(meta.facts.inputs, key, named, meta.created - meta.facts.took_s):
        yield FileLine(
            "file-unknown", path,
            "changed since what is kept was begun, which does not count it: it was named later, or changed while the step ran; if "
            "the value depends on it, delete what is kept: {rm}",
        )  # fmt: skip
