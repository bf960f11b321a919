"""The inputs fingerprint: texts of a thunk's arguments, and of the closure cells and globals that it and what it follows name.

Numbers and dates are readable, all else is a digest keyed with the user's secret. What is left out is unknown, not changed:
names that start with an underscore or look secret, what the step ignores, and what does not fit into the time.
"""

from __future__ import annotations

import functools
import os
import stat
import time
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, cast

from nbstep.cache.trust import SigningKey
from nbstep.drift.lasting import (
    ANY,
    STATE,
    Content,
    Lasting,
    cannot_change,
    held_again,
    lasting_arguments,
    marshalled,
)
from nbstep.drift.lineage import HANDED_OUT
from nbstep.drift.plain import is_plain
from nbstep.drift.scalars import SCALARS, counts_for_nothing, is_code
from nbstep.drift.seen import Seen
from nbstep.drift.sources import UNBOUND, Source, Sources, read_source
from nbstep.drift.tables import is_table
from nbstep.drift.values import MAX_PLAIN_CHARS, Texts, texts_of
from nbstep.drift.wanted import ALL, Wanted
from nbstep.foreign import interrupts

SIGNER: Final = ""
# A frame takes up to half a millisecond: as many as a step names, and the settings named after them.
BUDGET_S: Final = 0.01
_MAX_FILES: Final = 32
_LOOKING_S: Final = 0.02
_MISSING: Final = "-"
_OFTEN: Final = 3
_Large: TypeAlias = tuple[
    str, Any, Source | None
]  # an input that is not plain, and where it is named; None of an argument
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


def read_inputs(
    thunk: Any,
    args: tuple[Any, ...],
    seen: Seen,
    key: SigningKey,
    wanted: Wanted = ALL,
    budget_s: float = BUDGET_S,
    *,
    objects: list[Any] | None = None,
    like: Named | None = None,
    changing: Changing | None = None,
) -> Inputs:
    """The inputs as they are now.

    Args:
        thunk: The thunk.
        args: Its positional arguments.
        seen: What is behind it.
        key: The user's key.
        wanted: What counts.
        budget_s: After so much processor time of this thread no other input is begun that is not plain.
        objects: Is given the inputs themselves, but for scalars: arguments first, then what is named.
        like: What was read of the names for another call of this work: while they hold the same, it need not be read anew.
        changing: What other calls of this very function changed.
    """
    first: Any = seen.first
    found, make, sources = {SIGNER: key.id}, texts_of(key.secret), seen.found.sources
    given: dict[str, str] = {}
    taken: set[str] = set()
    large: list[_Large] = []
    paths: list[str] = []
    noted: list[tuple[str, Any]] = []
    arguments = lasting_arguments(thunk, args)
    for name, value in _arguments_of(thunk, args, arguments is not None):
        if counts_for_nothing(name):
            continue
        text = make.of_plain(value)
        if text is None:
            if is_code(value):
                continue
            noted.append((name, value))
            if name not in taken:
                large.append((name, value, None))
        elif name not in taken:
            given[name] = text
            if type(value) is str:
                paths.append(value)
        taken.add(name)
    if like is not None and arguments is not None and wanted is ALL and not noted:
        again = like.again(key, sources, first, taken)
        if again is not None:
            if objects is not None:
                objects += again
            found, files = {**found, **like.scalars, **given, **like.others}, dict[str, str]()
            if paths or like.paths or sources.paths:
                _add_files([*paths, *like.paths, *sources.paths], 0, make, found, files)
            lasting = None if files else Lasting(thunk, arguments, like.names)
            return Inputs(found, files, loose=like.loose, lasting=lasting)
    held: list[tuple[Source, type, object]] = []
    named: list[tuple[Source, Any]] = []
    state = frozenset[str]() if changing is None else changing.state
    for source in sources.inputs:
        value = read_source(source, first)
        if source.label in state:  # it may be large by now
            held.append((source, object, STATE))
            if objects is not None and HANDED_OUT.origins(value):
                objects.append(value)
            continue
        kind = type(value)
        text_of = SCALARS.get(kind)
        text = text_of(value) if text_of is not None else None
        if text is None:
            if value is not UNBOUND:
                named.append((source, value))
        elif source.label not in taken:
            found[source.label] = text
            held.append((source, kind, value))
    found |= given
    lasting = None if arguments is None else Lasting(thunk, arguments, held)
    if wanted is ALL and not (large or named or paths or sources.paths):  # most
        return Inputs(found, lasting=lasting)
    for source, value in named:
        noted.append((source.label, value))
        if source.label in taken:
            continue
        text = make.of_plain(value)
        if text is None:
            large.append((source.label, value, source))
            continue
        found[source.label] = text
        held.append((source, type(value), value))
        if type(value) is str:
            paths.append(value)
    if wanted.ignore:
        large = [one for one in large if not _is_ignored(one[0], wanted.ignore)]
        noted = [one for one in noted if not _is_ignored(one[0], wanted.ignore)]
        found = {name: text for name, text in found.items() if not _is_ignored(name, wanted.ignore)}
    if objects is not None:
        objects += [value for _, value in noted]
    tables, loose = frozenset[str](), frozenset[str]()
    if large:
        tables, loose, known = _add_large(large, make, found, paths, budget_s, changing)
        if known is None:
            lasting = None
        else:
            held += known
    files: dict[str, str] = {}
    if wanted.files != () and (paths or sources.paths or wanted.files):
        explicit = wanted.files or ()
        _add_files([*explicit, *paths, *sources.paths], len(explicit), make, found, files)
    return Inputs(found, files, tables, loose, None if files else lasting)


def _arguments_of(thunk: Any, args: tuple[Any, ...], plain: bool) -> Iterable[tuple[str, Any]]:
    """What the thunk is called with; `plain` says that its defaults are, where it has some."""
    if plain and type(thunk) is types.FunctionType and len(args) <= thunk.__code__.co_argcount:  # most are
        return zip(thunk.__code__.co_varnames, args)  # noqa: B905 - more names than arguments
    return _arguments(thunk, args)


def names_given(thunk: Any, args: tuple[Any, ...], value: Any) -> list[str]:
    """The names under which a thunk is given this very object."""
    return [name for name, given in _arguments(thunk, args) if given is value]


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


def read_fixed(thunk: Any, args: tuple[Any, ...], seen: Seen, key: SigningKey, wanted: Wanted = ALL) -> Fixed:
    """What is fixed, as it is now."""
    found: list[tuple[str, Any]] = []
    named: dict[str, str] = {}
    arguments: dict[str, str] = {}
    make, sources, first = texts_of(key.secret), seen.sources, cast("Any", seen.first)
    for name, value in _arguments(thunk, args):
        if not counts_for_nothing(name) and not is_code(value) and make.of_plain(value) is None:
            found.append((name, value))
    for source in sources.inputs:
        if source.path[0] not in sources.written:
            text = make.of_plain(read_source(source, first))
            if text is not None:
                named[source.label] = text
    if found:
        _add_large([(name, value, None) for name, value in found], make, arguments, [], BUDGET_S)
    if wanted.ignore:
        named, arguments = (
            {name: text for name, text in texts.items() if not _is_ignored(name, wanted.ignore)}
            for texts in (named, arguments)
        )
    return Fixed(named, arguments)


def moved(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """The names of what is not what it was."""
    return tuple(name for name, text in before.items() if now.get(name, text) != text)


def callables_in(seen: Seen, ignore: frozenset[str]) -> list[Any]:
    """The objects that can be called among what is named: they are no inputs, and may come from another step."""
    sources, first = seen.sources.callables, cast("Any", seen.first)
    return [read_source(source, first) for source in sources if not _is_ignored(source.label, ignore)]


def settled(before: Inputs, after: Inputs) -> Mapping[str, str]:
    """What of the inputs was the same before and after the thunk ran; what was not is state (D2)."""
    texts = after.texts
    return {name: text for name, text in before.texts.items() if texts.get(name) == text}


def note_changes(before: Inputs, after: Inputs, seen: Seen, changing: Changing) -> None:
    """Notes what the thunk's code names and is something else now that it ran.

    But for arrays and frames, which are told, and for what holds what a step made: that is looked for in it each time.
    """
    was, now, tables = before.texts, after.texts, before.tables | after.tables
    for source in seen.sources.inputs:
        name = source.label
        if name not in was or was[name] == now.get(name) or name in tables or name in changing.state:
            continue
        if not HANDED_OUT.origins_of_all((read_source(source, cast("Any", seen.first)),)):
            changing.note(name, now.get(name, ""))


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


def _add_large(
    large: list[_Large],
    make: Texts,
    found: dict[str, str],
    paths: list[str],
    budget_s: float,
    changing: Changing | None = None,
) -> tuple[frozenset[str], frozenset[str], list[tuple[Source, type, object]] | None]:
    """Reads the rest; gives the names of arrays and frames, those of containers and objects, and by what all of them are known.

    That is None where some can change in place.
    """
    ends_ns = time.thread_time_ns() + int(budget_s * 1e9) if len(large) > 1 else 0
    tables, loose = list[str](), list[str]()
    known: list[tuple[Source, type, object]] | None = []
    for at, (name, value, source) in enumerate(large):
        if at and time.thread_time_ns() > ends_ns:
            break
        kind, before = type(value), len(paths)
        content = marshalled(value)
        try:
            found[name], by_type = make.read(value, paths)
        except interrupts():
            raise
        except RuntimeError:  # another thread changes its size while it is read
            if source is not None and changing is not None:
                changing.note(name, f"at {time.perf_counter_ns()}")
            continue
        except BaseException:  # noqa: BLE001 - what cannot be read is unknown: it must not cost the value (C3)
            continue
        if by_type:
            loose.append(name)
        elif is_table(value):
            tables.append(name)
        elif not isinstance(value, str | bytes):
            loose.append(name)
        if known is not None and (by_type or cannot_change(value, kind)):
            if source is not None:
                known.append((source, kind, ANY if by_type else value))
        elif known is not None:
            if content is None or content != marshalled(value):  # another thread changed it while it was read
                known = None
            elif source is not None:
                known.append((source, kind, Content(content, (*paths[before:],))))
    return frozenset(tables), frozenset(loose), known


def _add_files(paths: list[str], explicit: int, make: Texts, found: dict[str, str], files: dict[str, str]) -> None:
    """Looks up what may be files; the first `explicit` are, whether they are there or not."""
    ends_s = time.perf_counter() + _LOOKING_S
    for at, path in enumerate(paths):
        if at >= explicit and at and (len(files) >= _MAX_FILES or time.perf_counter() > ends_s):
            break  # a disk far away
        stamp = stamp_of_path(path, explicit=at < explicit)
        if stamp is not None:
            name = "@" + make.of_short(path)[1:]
            found.setdefault(name, stamp)
            files[name] = path


def _is_ignored(name: str, ignore: frozenset[str]) -> bool:
    return not ignore.isdisjoint((name, *name.partition(" in ")[0].split(".")))


def _arguments(thunk: Any, args: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    """What the thunk is called with, by the names of its parameters; what is bound to it counts too."""
    named: dict[str, Any] = {}
    while True:
        if isinstance(thunk, functools.partial):
            args, named = (*thunk.args, *args), {**thunk.keywords, **named}
            thunk = thunk.func
        elif isinstance(thunk, types.MethodType):
            args, thunk = (thunk.__self__, *args), thunk.__func__
        else:
            break
    function = thunk.__dict__.get("__init__") if isinstance(thunk, type) else thunk
    code = function.__code__ if isinstance(function, types.FunctionType) else None
    names = code.co_varnames[function is not thunk : code.co_argcount] if code is not None else ()
    for at, value in enumerate(args):
        yield names[at] if at < len(names) else f"argument {at + 1}", value
    yield from named.items()
    owner = getattr(thunk, "__self__", None) if isinstance(thunk, types.BuiltinFunctionType) else None
    if owner is not None and not is_code(owner):
        yield "self", owner
    elif not is_code(thunk):
        yield "self", thunk
    if function is thunk and isinstance(thunk, types.FunctionType) and thunk.__defaults__:
        for name, value in zip(names[-len(thunk.__defaults__) :], thunk.__defaults__, strict=False):
            if not is_plain(value):  # those are the code's
                yield name, value


def may_be_file(text: str) -> bool:
    """Whether a text that is meant as whatever may name a file of this machine."""
    return bool(text) and len(text) <= MAX_PLAIN_CHARS and not text.startswith(("\\\\", "//")) and "://" not in text


def stamp_of_path(path: str, explicit: bool) -> str | None:
    """Size and time of a file; None where there is none, or where that takes asking another machine."""
    if not (path and len(path) <= MAX_PLAIN_CHARS * 16 if explicit else may_be_file(path)):
        return None
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return _MISSING if explicit else None
    if not explicit and not stat.S_ISREG(found.st_mode):
        return None
    return f"{found.st_size} {found.st_mtime_ns}"
