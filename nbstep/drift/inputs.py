"""The inputs fingerprint: texts of a thunk's arguments, and of the closure cells and globals that it and what it follows name.

Numbers and dates are readable, all else is a digest keyed with the user's secret. What is left out is unknown, not changed:
names that start with an underscore or look secret, what the step ignores, and what does not fit into the time.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

from nbstep.cache.trust import SigningKey
from nbstep.drift.lasting import ANY, STATE, Content, Lasting, held_again
from nbstep.drift.lineage import HANDED_OUT
from nbstep.drift.scalars import SCALARS
from nbstep.drift.seen import Seen
from nbstep.drift.sources import Source, Sources, read_source
from nbstep.drift.values import MAX_PLAIN_CHARS
from nbstep.drift.wanted import is_ignored

SIGNER: Final = ""
MISSING: Final = "-"  # in the place of the size and time of a file
_OFTEN: Final = 3
_NONE: Final[Mapping[str, str]] = types.MappingProxyType({})


class Changing:
    """Which of the names that one function means change again and again while it runs, such as a log of all calls: state (D2).

    Attributes:
        state: Those names: what they hold is no input, and not read any more.

    >>> changing = Changing()
    >>> for text in ("#1", "#2", "#2", "#3"):
    ...     changing.note("calls", text)
    ...     print(sorted(changing.state))
    []
    []
    []
    ['calls']
    """

    def __init__(self) -> None:
        self.state: frozenset[str] = frozenset()
        self._held: dict[str, set[str]] = {}

    def note(self, name: str, text: str) -> None:
        """Notes the text of what a name held after it ran, and not before. What changed once may be a setting that was replaced."""
        held = self._held.setdefault(name, set())
        held.add(text)
        if len(held) >= _OFTEN:
            self.state |= {name}


class Inputs(NamedTuple):
    """The inputs of a step at one moment.

    Attributes:
        texts: By name what stands for each; under "@" and a digest of its path, size and time of a file; under "" the id of
            the key that digests are made with.
        paths: The path of each file in `texts`.
        tables: The names of those that are arrays or frames.
        loose: The names of containers and objects.
        lasting: Known where none of them can change in place.
    """

    texts: Mapping[str, str] = _NONE
    paths: Mapping[str, str] = _NONE
    tables: frozenset[str] = frozenset()
    loose: frozenset[str] = frozenset()
    lasting: Lasting | None = None


class Named(NamedTuple):
    """What was read of all that a work's code names: numbers, short texts, and objects by their types.

    Attributes:
        signer: The id of the key that digests were made with.
        sources: Where it is found.
        names: What each held, as in `Lasting`.
        scalars: The texts of those that people may read, by name.
        others: The texts of the others.
        paths: Texts that may name files.
        loose: The names of objects.
    """

    signer: str
    sources: Sequence[Source]
    names: Sequence[tuple[Source, type, object]]
    scalars: Mapping[str, str]
    others: Mapping[str, str]
    paths: Sequence[str]
    loose: frozenset[str]

    def again(self, key: SigningKey, sources: Sources, first: Any, taken: set[str]) -> list[Any] | None:
        """The objects, where all names hold what they did, and none is among those `taken`; `first` as in `Lasting.holds`."""
        if self.signer != key.id or self.sources is not sources.inputs:
            return None
        if not (taken.isdisjoint(self.scalars) and taken.isdisjoint(self.others)):
            return None
        found = held_again(self.names, first)
        return found and [
            value
            for value, (_, _, known) in zip(found, self.names, strict=True)
            if known is ANY or type(known) is Content or (known is STATE and HANDED_OUT.origins(value))
        ]


def named_in(read: Inputs, seen: Seen) -> Named | None:
    """What was read of the names alone, which another call of the same work may share; None where it might not be the same."""
    sources = seen.sources.inputs
    names = () if read.lasting is None else read.lasting.names
    if not sources or len(names) != len(sources):
        return None
    texts: tuple[dict[str, str], dict[str, str]] = {}, {}
    paths, loose = list[str](), list[str]()
    for source, kind, value in names:
        if value is STATE:
            continue
        if value is ANY:
            loose.append(source.label)
        elif type(value) is Content:
            loose.append(source.label)
            paths += value.paths
        elif kind is str and len(cast("str", value)) <= MAX_PLAIN_CHARS:
            paths.append(cast("str", value))
        elif kind not in SCALARS:
            return None
        texts[kind not in SCALARS][source.label] = read.texts[source.label]
    return Named(read.texts[SIGNER], sources, names, *texts, paths, frozenset(loose))


def are_lasting(before: Inputs, thunk: Any, args: tuple[Any, ...], seen: Seen, key: SigningKey) -> bool:
    """Whether reading a thunk's inputs again is sure to give what it gave before; "no" says nothing."""
    lasting = before.lasting
    return lasting is not None and before.texts.get(SIGNER) == key.id and lasting.holds(thunk, args, seen.first)


class Fixed(NamedTuple):
    """What a step that runs later should find as it was when it was called (K10).

    Attributes:
        named: Texts of plain values that names mean, but for names that its code writes: the name came to mean something else.
        arguments: Texts of arguments that can change in place, which the step itself may do, or another task of it.
    """

    named: Mapping[str, str] = _NONE
    arguments: Mapping[str, str] = _NONE


def moved(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """The names of what is not what it was."""
    return tuple(name for name, text in before.items() if now.get(name, text) != text)


def callables_in(seen: Seen, ignore: frozenset[str]) -> list[Any]:
    """The objects that can be called among what is named: they are no inputs, and may come from another step."""
    sources, first = seen.sources.callables, cast("Any", seen.first)
    return [read_source(source, first) for source in sources if not is_ignored(source.label, ignore)]


def settled(before: Inputs, after: Inputs) -> Mapping[str, str]:
    """What of the inputs was the same before and after the thunk ran; what was not is state (D2)."""
    texts = after.texts
    return {name: text for name, text in before.texts.items() if texts.get(name) == text}


def note_changes(before: Inputs, after: Inputs, seen: Seen, changing: Changing) -> None:
    """Notes what the thunk's code names and is something else now that it ran.

    But for arrays and frames, which are told, and for what holds what a step made outside this map: that is looked for each time.
    What items of this map, or steps inside them, put there (`rows.append(row); return row`) is what they give, not what they take.
    """
    was, now, tables = before.texts, after.texts, before.tables | after.tables
    for source in seen.sources.inputs:
        name = source.label
        if name not in was or was[name] == now.get(name) or name in tables or name in changing.state:
            continue
        if not HANDED_OUT.origins_of_all((read_source(source, cast("Any", seen.first)),), changing):
            changing.note(name, now.get(name, ""))


def changed_files(before: Inputs, after: Inputs, named: Iterable[str]) -> list[str]:
    """Which of the files that a step names as its inputs changed while its thunk ran."""
    changed = {path for name, path in before.paths.items() if after.texts.get(name) != before.texts.get(name)}
    return [path for path in dict.fromkeys(named) if path in changed]


def missing_files(read: Inputs, named: Iterable[str]) -> list[str]:
    """Which of the files that a step names as its inputs are not there."""
    missing = {path for name, path in read.paths.items() if read.texts.get(name) == MISSING}
    return [path for path in dict.fromkeys(named) if path in missing]


def changed_in_place(before: Inputs, after: Inputs) -> list[str]:
    """The names of arrays and frames whose content the thunk changed."""
    return [
        name
        for name in before.texts
        if name in before.tables & after.tables and before.texts[name] != after.texts.get(name)
    ]


def file_of(stamp: str) -> tuple[int, float] | None:
    """Size in bytes and time of a file, from its text; None where there was none."""
    size, _, mtime_ns = stamp.partition(" ")
    try:
        return int(size), int(mtime_ns) / 1e9
    except ValueError:
        return None
