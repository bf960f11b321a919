"""Reads the inputs of a step: what it is called with, what it names, and the files that these name."""

from __future__ import annotations

import functools
import os
import stat
import time
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeAlias, cast

from nbstep.cache.trust import SigningKey
from nbstep.drift.inputs import MISSING, SIGNER, Changing, Fixed, Inputs, Named, file_of
from nbstep.drift.lasting import ANY, STATE, Content, Lasting, cannot_change, lasting_arguments, marshalled
from nbstep.drift.lineage import HANDED_OUT
from nbstep.drift.plain import is_plain
from nbstep.drift.scalars import SCALARS, counts_for_nothing, is_code
from nbstep.drift.seen import Seen
from nbstep.drift.sources import UNBOUND, NamedText, Source, default_files, read_source
from nbstep.drift.tables import is_table
from nbstep.drift.values import MAX_PLAIN_CHARS, Texts, texts_of
from nbstep.drift.wanted import ALL, Wanted, is_ignored
from nbstep.foreign import interrupts

# A frame takes up to half a millisecond: as many as a step names, and the settings named after them.
BUDGET_S: Final = 0.01
_MAX_FILES: Final = 32
_LOOKING_S: Final = 0.02
# An input that is not plain, and where it is named; None of an argument.
_Large: TypeAlias = tuple[str, Any, Source | None]


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
    make = texts_of(key.secret)
    arguments = lasting_arguments(thunk, args)
    given = _given(_arguments_of(thunk, args, arguments is not None), make)
    if isinstance(seen.first, types.FunctionType) and (seen.first.__defaults__ or seen.first.__kwdefaults__):
        given.paths.extend(default_files(seen.first, given.names))
    if like is not None and arguments is not None and wanted is ALL and not given.objects:
        again = like.again(key, seen.found.sources, cast("Any", seen.first), given.names)
        if again is not None:
            if objects is not None:
                objects += again
            return _read_as_before(thunk, arguments, seen, key, make, given, like)
    reading = _Reading(seen, key, make, given, frozenset() if changing is None else changing.state)
    reading.read_names(objects)
    lasting = None if arguments is None else Lasting(thunk, arguments, reading.held)
    if wanted is ALL and reading.is_done():  # most
        return Inputs(reading.found, lasting=lasting)
    reading.read_plain()
    if wanted.ignore:
        reading.leave_out(wanted.ignore)
    if objects is not None:
        objects += [value for _, value in reading.objects]
    tables, loose, paths = frozenset[str](), frozenset[str](), list[str]()
    if reading.large:
        tables, loose, known = _add_large(reading.large, make, reading.found, paths, budget_s, changing)
        if known is None:
            lasting = None
        else:
            reading.held += known
    files = reading.files(wanted, paths)
    return Inputs(reading.found, files, tables, loose, None if files else lasting)


class _Given(NamedTuple):
    """What a thunk is called with: texts of what is plain, by name, those among them that may be paths, and all that is not plain.

    A name may be given twice, as `self`; the first counts.
    """

    names: set[str]
    texts: dict[str, str]
    paths: list[NamedText]
    objects: list[tuple[str, Any]]
    large: list[_Large]


def _given(arguments: Iterable[tuple[str, Any]], make: Texts) -> _Given:
    given = names, texts, paths, objects, large = _Given(set(), {}, [], [], [])
    for name, value in arguments:
        if counts_for_nothing(name):
            continue
        text = make.of_plain(value)
        if text is None:
            if is_code(value):
                continue
            objects.append((name, value))
            if name not in names:
                large.append((name, value, None))
        elif name not in names:
            texts[name] = text
            if type(value) is str:
                paths.append((name, value))
        names.add(name)
    return given


def _read_as_before(
    thunk: Any, arguments: Any, seen: Seen, key: SigningKey, make: Texts, given: _Given, like: Named
) -> Inputs:
    """The inputs where all names hold what they did for another call."""
    found, files = {SIGNER: key.id, **like.scalars, **given.texts, **like.others}, dict[str, str]()
    if given.paths or like.paths or seen.found.sources.paths:
        _add_files([*(path for _, path in given.paths), *like.paths, *seen.found.sources.paths], 0, make, found, files)
    lasting = None if files else Lasting(thunk, arguments, like.names)
    return Inputs(found, files, loose=like.loose, lasting=lasting)


class _Reading:
    """What was read until now, and what is still to be.

    Args:
        seen: What is behind the thunk.
        key: The user's key.
        make: Makes texts of values.
        given: What it is called with.
        state: Names that are none of its inputs.

    Attributes:
        found: The texts, by name.
        held: What names hold, as in `Lasting`.
        objects: The inputs that are no scalars: arguments first, then what is named.
        large: Those that are not plain.
        paths: Texts that may name files, each with what it is called.
    """

    def __init__(self, seen: Seen, key: SigningKey, make: Texts, given: _Given, state: frozenset[str]) -> None:
        self.found: dict[str, str] = {SIGNER: key.id}
        self.held: list[tuple[Source, type, object]] = []
        self.objects, self.large, self.paths = given.objects, given.large, given.paths
        self._named: list[tuple[Source, Any]] = []
        self._sources, self._first = seen.found.sources, cast("Any", seen.first)
        self._make, self._given, self._state = make, given, state

    def read_names(self, objects: list[Any] | None) -> None:
        """Reads what names mean, as far as that are scalars; `objects` is given state that another step handed out."""
        for source in self._sources.inputs:
            value = read_source(source, self._first)
            if source.label in self._state:  # it may be large by now
                self.held.append((source, object, STATE))
                if objects is not None and HANDED_OUT.origins(value):
                    objects.append(value)
                continue
            kind = type(value)
            text_of = SCALARS.get(kind)
            text = text_of(value) if text_of is not None else None
            if text is None:
                if value is not UNBOUND:
                    self._named.append((source, value))
            elif source.label not in self._given.names:
                self.found[source.label] = text
                self.held.append((source, kind, value))
        self.found |= self._given.texts

    def is_done(self) -> bool:
        """Whether all inputs are scalars or plain arguments, and none may be a file."""
        return not (self.large or self._named or self.paths or self._sources.paths)

    def read_plain(self) -> None:
        """Reads what else of what names mean is plain."""
        for source, value in self._named:
            self.objects.append((source.label, value))
            if source.label in self._given.names:
                continue
            text = self._make.of_plain(value)
            if text is None:
                self.large.append((source.label, value, source))
                continue
            self.found[source.label] = text
            self.held.append((source, type(value), value))
            if type(value) is str:
                self.paths.append((source.label, value))

    def leave_out(self, ignore: frozenset[str]) -> None:
        """Leaves out what a step ignores."""
        self.large = [one for one in self.large if not is_ignored(one[0], ignore)]
        self.objects = [one for one in self.objects if not is_ignored(one[0], ignore)]
        self.paths = [one for one in self.paths if not is_ignored(one[0], ignore)]
        self.found = {name: text for name, text in self.found.items() if not is_ignored(name, ignore)}

    def files(self, wanted: Wanted, others: Sequence[str]) -> dict[str, str]:
        """Adds files: those wanted, where that is not None or none at all, and those that are found; gives their paths.

        `others` are texts of what is not plain that may name files.
        """
        files: dict[str, str] = {}
        explicit = wanted.files or ()
        paths = [*explicit, *(path for _, path in self.paths), *others, *self._sources.paths_but(wanted.ignore)]
        if wanted.files != () and paths:
            _add_files(paths, len(explicit), self._make, self.found, files)
        return files


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
            {name: text for name, text in texts.items() if not is_ignored(name, wanted.ignore)}
            for texts in (named, arguments)
        )
    return Fixed(named, arguments)


def _arguments_of(thunk: Any, args: tuple[Any, ...], plain: bool) -> Iterable[tuple[str, Any]]:
    """What the thunk is called with; `plain` says that its defaults are, where it has some."""
    if plain and type(thunk) is types.FunctionType and len(args) <= thunk.__code__.co_argcount:  # most are
        return zip(thunk.__code__.co_varnames, args)  # noqa: B905 - more names than arguments
    return _arguments(thunk, args)


def names_given(thunk: Any, args: tuple[Any, ...], value: Any) -> list[str]:
    """The names under which a thunk is given this very object."""
    return [name for name, given in _arguments(thunk, args) if given is value]


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
        # Told by what it holds, as a list is: so what was read of it serves all items of a map.
        small = content is not None and (kind is tuple or kind is frozenset)
        if known is not None and (by_type or (cannot_change(value, kind) and not small)):
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
            name = _file_name(path, make)
            found.setdefault(name, stamp)
            files[name] = path


def _file_name(path: str, make: Texts) -> str:
    """The name under which a file stands among inputs."""
    return "@" + make.of_short(path)[1:]


def unknown_files(kept: Mapping[str, str], key: SigningKey, named: Iterable[str], since: float) -> list[str]:
    """Which of the files that a step names as its inputs changed since a moment, and an entry knows nothing of them.

    Args:
        kept: The texts of the entry's inputs.
        key: The user's key.
        named: The files.
        since: The moment, in seconds since the epoch.
    """
    if kept.get(SIGNER, key.id) != key.id:  # the names of files cannot be told
        return []
    make, found = texts_of(key.secret), list[str]()
    for path in dict.fromkeys(named):
        file = file_of(stamp_of_path(path, explicit=True) or MISSING)
        is_newer = file is not None and file[1] > since
        if is_newer and kept.keys().isdisjoint(_file_name(one, make) for one in _spellings(path)):
            found.append(path)
    return found


def _spellings(path: str) -> set[str]:
    """A path as it may be written."""
    found = {path}
    with suppress(OSError, ValueError):
        relative = os.path.relpath(path)
        found |= {os.path.abspath(path), relative, os.path.join(os.curdir, relative)}
    return found


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
    return (
        bool(text)
        and len(text) <= MAX_PLAIN_CHARS
        and not text.startswith(("\\\\", "//"))
        and not text.endswith("/")
        and "://" not in text
    )


def stamp_of_path(path: str, explicit: bool) -> str | None:
    """Size and time of a file; None where there is none, or where that takes asking another machine."""
    if not (path and len(path) <= MAX_PLAIN_CHARS * 16 if explicit else may_be_file(path)):
        return None
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return MISSING if explicit else None
    if not explicit and not stat.S_ISREG(found.st_mode):
        return None
    return f"{found.st_size} {found.st_mtime_ns}"
